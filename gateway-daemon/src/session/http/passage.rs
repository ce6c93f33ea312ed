//! Content on its way from one end to the other, in a buffer of fixed size.

use std::io;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncWriteExt as _, WriteHalf};

use super::ends::Reader;
use crate::{
    protocol::http::{Body, Framing, Limits, Malformed, Part, put_chunk, put_last_chunk},
    session::transport::Transport,
};

/// What is smaller is gathered before it is written; what is larger is written as it lies in the buffer.
const GATHERED_BYTES: usize = 16 * 1024;

/// How content is framed for whom it goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Onward {
    /// As it came: chunked stays chunked.
    AsItCame,
    /// Bare bytes until the connection ends: for a client that knows no chunks.
    Bare,
}

/// Why content did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum Interrupted {
    /// Whom it comes from breaks the protocol, or goes in the middle of it.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It cannot be read.
    #[error("reading: {0}")]
    Reading(#[source] io::Error),
    /// It cannot be written.
    #[error("writing: {0}")]
    Writing(#[source] io::Error),
}

/// Passes a message's content on, behind what `out` has for the same reader, and says how many bytes of content it was.
/// `moved` counts as they move.
pub(super) async fn pass(
    from: &mut Reader,
    to: &mut WriteHalf<Transport>,
    mut out: BytesMut,
    framing: Framing,
    onward: Onward,
    limits: Limits,
    moved: &mut u64,
) -> Result<(), Interrupted> {
    let mut body = Body::new(framing, limits);
    let chunked = framing == Framing::Chunked && onward == Onward::AsItCame;
    let mut first = true;
    loop {
        let progress = body.read(&from.buffer)?;
        let taken = progress.taken;
        match progress.part {
            Part::Chunk(size) if chunked => {
                put_chunk(&mut out, size, first);
                first = false;
            }
            Part::Chunk(_) => {}
            Part::Data(data) => {
                *moved += data.len() as u64;
                if data.len() < GATHERED_BYTES {
                    out.extend_from_slice(data);
                } else {
                    write(to, &mut out).await?;
                    to.write_all(data).await.map_err(Interrupted::Writing)?;
                }
            }
            Part::End(trailers) => {
                if chunked {
                    put_last_chunk(&mut out, &trailers, first);
                }
                from.buffer.advance(taken);
                return finish(to, &mut out).await;
            }
            Part::Incomplete => {
                from.buffer.advance(taken);
                // What is there goes before more is waited for.
                finish(to, &mut out).await?;
                if from.ended || from.fill().await.map_err(Interrupted::Reading)? == 0 {
                    body.closed()?;
                    return finish(to, &mut out).await;
                }
                continue;
            }
        }
        from.buffer.advance(taken);
        if out.len() >= GATHERED_BYTES {
            write(to, &mut out).await?;
        }
    }
}

/// Reads a message's content and throws it away.
pub(super) async fn discard(from: &mut Reader, framing: Framing, limits: Limits) -> Result<(), Interrupted> {
    let mut body = Body::new(framing, limits);
    loop {
        let progress = body.read(&from.buffer)?;
        let taken = progress.taken;
        match progress.part {
            Part::End(_) => {
                from.buffer.advance(taken);
                return Ok(());
            }
            Part::Incomplete => {
                from.buffer.advance(taken);
                if from.ended || from.fill().await.map_err(Interrupted::Reading)? == 0 {
                    return Ok(body.closed()?);
                }
            }
            Part::Chunk(_) | Part::Data(_) => from.buffer.advance(taken),
        }
    }
}

async fn write(to: &mut WriteHalf<Transport>, out: &mut BytesMut) -> Result<(), Interrupted> {
    if !out.is_empty() {
        to.write_all(out).await.map_err(Interrupted::Writing)?;
        out.clear();
    }
    Ok(())
}

/// Writes what is gathered, and sees to it that it leaves: TLS holds back what is not asked for.
pub(super) async fn finish(to: &mut WriteHalf<Transport>, out: &mut BytesMut) -> Result<(), Interrupted> {
    write(to, out).await?;
    to.flush().await.map_err(Interrupted::Writing)
}
