//! What lies in the queue: serialised events, and who waits for them.

use std::sync::Arc;

use tokio::sync::oneshot;

/// The answer to an append: the last sequence number, once durable.
pub(super) type Reply = oneshot::Sender<Result<u64, Arc<str>>>;

/// Events on their way to the writer, serialised.
pub(super) struct Entry {
    /// JSON objects, each with a line feed behind it. JSON strings never hold a raw line feed.
    pub(super) events: Vec<u8>,
    pub(super) awaited: Awaited,
    /// Counts up in the order of the queue.
    pub(super) number: u64,
    /// Room that it takes in the queue.
    pub(super) places: u32,
}

impl Entry {
    /// It will never be written.
    pub(super) fn fail(self, cause: &Arc<str>) {
        if let Awaited::Reply(reply) = self.awaited {
            // The one who waited may have gone.
            let _ = reply.send(Err(Arc::clone(cause)));
        }
    }
}

/// Who waits for an entry to be on disk.
pub(super) enum Awaited {
    /// Nobody.
    No,
    /// Somebody who is told the last sequence number.
    Reply(Reply),
    /// The holder of a receipt, who looks for himself. Of a number of his own.
    Receipt(u64),
}
