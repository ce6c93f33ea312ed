//! What the kernel programs write into ring buffers, entry by entry. Who reads is not hurried: what does not fit into a
//! buffer meanwhile, its program treats as it must.

use std::os::fd::OwnedFd;

use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;

use super::sys;

/// The entries of one buffer, as what `read` makes of their bytes.
pub(super) struct Reports<T> {
    buffer: RingBuf<MapData>,
    bell: AsyncFd<OwnedFd>,
    /// What is in it, for the log.
    of: &'static str,
    read: fn(&[u8]) -> Option<T>,
}

impl<T> Reports<T> {
    /// To be called on the runtime. `None`, and an error in the log, if the buffer cannot be waited for.
    pub fn new(buffer: RingBuf<MapData>, of: &'static str, read: fn(&[u8]) -> Option<T>) -> Option<Self> {
        match sys::bell(&buffer) {
            Ok(bell) => Some(Self { buffer, bell, of, read }),
            Err(error) => {
                tracing::error!(%error, of, "cannot watch a buffer of the kernel programs");
                None
            }
        }
    }

    /// The next entry; `None` once the buffer cannot be waited for any more. Cancel-safe: an entry is taken out when it
    /// is returned.
    pub async fn next(&mut self) -> Option<T> {
        loop {
            while let Some(item) = self.buffer.next() {
                match (self.read)(&item) {
                    Some(report) => return Some(report),
                    None => tracing::error!(
                        bytes = item.len(),
                        of = self.of,
                        "an entry of unknown length in a buffer of the kernel programs"
                    ),
                }
            }
            // Cleared before the buffer is looked into again: what comes in between rings anew.
            self.bell.readable().await.ok()?.clear_ready();
        }
    }
}
