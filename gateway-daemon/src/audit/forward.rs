//! Between two daemons: one that still has sessions, and its successor, which has the log. What the first would write
//! goes over a Unix socket, and is acknowledged when it is on disk there: a request waits for its record as ever.
//!
//! A frame is a length in bytes, four bytes little-endian, and so many bytes of serialised events; its answer is the
//! sequence number of the last one, eight bytes, or 0 when it could not be recorded.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    entry::{Awaited, Entry},
    error::AuditError,
    layout::Marker,
    log::AuditLog,
    queue::Shared,
    record::Digest,
};

/// One frame carries about so much.
const FRAME_BYTES: usize = 4 << 20;
/// A frame holds one entry at least, however large; more than this nobody sends.
const MAX_FRAME_BYTES: usize = 64 << 20;

/// The daemon that has the log, as the one writes to it that has it no more.
pub(super) struct Successor(pub(super) UnixStream);

impl Successor {
    /// Sends the entries, and returns when they are on disk there.
    pub(super) fn write_all(&mut self, entries: &mut Vec<Entry>, shared: &Shared) -> Result<(), AuditError> {
        while !entries.is_empty() {
            let mut bytes = 0_usize;
            let fit = entries.iter().take_while(|entry| {
                let is_room = bytes < FRAME_BYTES;
                bytes = bytes.saturating_add(entry.events.len());
                is_room
            });
            let fit = fit.count();
            let batch = entries.get(..fit).unwrap_or_default();
            let seq = self.send(batch).map_err(AuditError::io("send to", "the daemon that took over"))?;
            shared.progress(Marker { seq, hash: Digest::ZERO }, 0);
            shared.written.advance(batch.last().map_or(0, |entry| entry.number));
            for entry in entries.drain(..fit) {
                if let Awaited::Reply(reply) = entry.awaited {
                    // The one who waited may have gone; the record stays.
                    let _ = reply.send(Ok(seq));
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, batch: &[Entry]) -> io::Result<u64> {
        let Self(stream) = self;
        let length = batch.iter().map(|entry| entry.events.len()).sum::<usize>();
        let length = u32::try_from(length).map_err(io::Error::other)?;
        stream.write_all(&length.to_le_bytes())?;
        for entry in batch {
            stream.write_all(&entry.events)?;
        }
        let mut answer = [0; 8];
        stream.read_exact(&mut answer)?;
        match u64::from_le_bytes(answer) {
            0 => Err(io::Error::other("it could not record them")),
            seq => Ok(seq),
        }
    }
}

/// Records what comes until the predecessor is gone.
pub(super) async fn record_all(mut predecessor: tokio::net::UnixStream, log: &AuditLog) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        match predecessor.read_exact(&mut length).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let length = usize::try_from(u32::from_le_bytes(length)).map_err(io::Error::other)?;
        if length > MAX_FRAME_BYTES {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        let mut events = vec![0; length];
        predecessor.read_exact(&mut events).await?;
        let seq = match log.append_serialised(events).await {
            Ok(seq) => seq,
            Err(error) => {
                tracing::error!(%error, "events of the daemon before cannot be recorded");
                0
            }
        };
        predecessor.write_all(&seq.to_le_bytes()).await?;
    }
}
