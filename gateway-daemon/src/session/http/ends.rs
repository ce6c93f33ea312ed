//! The two ends of a session, each as a reader with a buffer and a writer, so that both directions move at once.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split},
    time::timeout,
};

use crate::{
    protocol::http::{HeadEnd, Limits, Malformed},
    session::{ending::reset, transport::Transport},
};

/// How much is read at once.
const READ_BYTES: usize = 32 * 1024;
/// How long a peer that is still sending is listened to after the last word to it, so that it reads that before it hears
/// of the close.
const LINGER: Duration = Duration::from_secs(2);
/// And how much.
const LINGER_BYTES: usize = 4 << 20;

/// One end.
pub(super) struct End {
    pub(super) reader: Reader,
    pub(super) writer: WriteHalf<Transport>,
}

/// What comes from one end.
pub(super) struct Reader {
    stream: ReadHalf<Transport>,
    /// What has come and is not yet understood.
    pub(super) buffer: BytesMut,
    /// Nothing more comes.
    pub(super) ended: bool,
}

/// Why there is no head.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoHead {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer closed before the first byte of one.
    #[error("the connection was closed")]
    Closed,
}

impl End {
    pub(super) fn new(transport: Transport) -> Self {
        let (stream, writer) = split(transport);
        Self { reader: Reader { stream, buffer: BytesMut::new(), ended: false }, writer }
    }

    /// Closes so that the peer takes nothing for whole that is not: without TLS's good-bye, or by a reset.
    pub(super) fn break_off(self) {
        if let Transport::Plain(stream) = self.reader.stream.unsplit(self.writer) {
            reset(&stream);
        }
    }

    /// Says that nothing more comes, and listens for a moment to what was under way.
    pub(super) async fn part(mut self) {
        let _ = timeout(LINGER, async {
            if self.writer.shutdown().await.is_err() {
                return;
            }
            let mut heard = 0;
            while heard < LINGER_BYTES {
                self.reader.buffer.clear();
                if !matches!(self.reader.fill().await, Ok(count) if count > 0) {
                    return;
                }
                heard += self.reader.buffer.len();
            }
        })
        .await;
    }
}

impl Reader {
    /// Reads once. Cancel-safe: nothing read is lost.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(READ_BYTES);
        let count = self.stream.read_buf(&mut self.buffer).await?;
        self.ended |= count == 0;
        Ok(count)
    }

    /// Takes a whole head off what comes.
    pub(super) async fn head(&mut self, what: &'static str, limits: &Limits) -> Result<Bytes, NoHead> {
        let mut end = HeadEnd::default();
        loop {
            if let Some(length) = end.find(&self.buffer, what, limits.head_bytes)? {
                return Ok(self.buffer.split_to(length).freeze());
            }
            if self.ended || self.fill().await? == 0 {
                return Err(if self.buffer.is_empty() {
                    NoHead::Closed
                } else {
                    Malformed::Truncated.into()
                });
            }
        }
    }

    /// Waits until something is there to be read, or nothing more comes.
    pub(super) async fn something(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() && !self.ended {
            self.fill().await?;
        }
        Ok(())
    }
}
