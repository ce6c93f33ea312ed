//! The thread that writes: takes all that is queued, chains it, writes it in one piece, waits for the disk
//! once, and wakes all who wait. There is no delay to gather a batch: while one is on its way to the disk,
//! the next gathers by itself.
//!
//! After a failed write or sync nothing is known about what is on disk, so nothing is ever tried again: the
//! log is poisoned, and every append fails until it is opened anew.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    sync::{Arc, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    entry::{Awaited, Entry},
    error::AuditError,
    forward::Successor,
    layout::{FILE_MODE, Layout, Marker, SegmentFile, sync_dir},
    priority::set_niceness,
    queue::Shared,
    record::{Link, encode},
};

/// How far ahead of the records a segment is laid out, so that most commits change no file metadata: that
/// spares the file system's journal, a quarter of the time of a small commit on ext4. Written, not `fallocate`d:
/// an extent that was only reserved changes its metadata when it is first written.
const LAY_OUT_BYTES: usize = 256 * 1024;
static LAID_OUT: [u8; LAY_OUT_BYTES] = [b'\n'; LAY_OUT_BYTES];
/// A batch above this gains nothing from space laid out.
const LARGE_BATCH_BYTES: usize = LAY_OUT_BYTES / 4;
/// One write carries about so much at most.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Writes until the queue is closed or a write fails, by whomever.
pub(super) fn run(shared: &Shared) {
    // Every request waits for this thread, and it hardly computes: it should not wait for a turn itself.
    set_niceness(-10);
    let mut guard = Guard { shared, cause: Some("its writer ended unexpectedly".into()) };
    let mut entries = Vec::new();
    while shared.take(&mut entries) {
        if let Some(cause) = shared.write(&mut entries) {
            guard.cause = Some(cause);
            return;
        }
    }
    guard.cause = None;
    let pen = shared.pen.lock().unwrap_or_else(PoisonError::into_inner).take();
    if shared.is_poisoned() {
        return;
    }
    if let Some(Hand::Here(mut pen)) = pen
        && let Err(error) = pen.finish_segment()
    {
        tracing::warn!(%error, "the audit log's last segment keeps its empty space");
    }
}

/// Who writes what is queued.
pub(super) enum Hand {
    /// This process has the log.
    Here(Pen),
    /// The daemon that took over has it.
    Elsewhere(Successor),
}

impl Hand {
    /// Writes the entries, or has them written.
    pub(super) fn write_all(&mut self, entries: &mut Vec<Entry>, shared: &Shared) -> Result<(), AuditError> {
        match self {
            Self::Here(pen) => pen.write_all(entries, shared),
            Self::Elsewhere(successor) => successor.write_all(entries, shared),
        }
    }
}

/// Writes the chain on.
pub(super) struct Pen {
    layout: Layout,
    segment_bytes: u64,
    last: Link,
    open: Option<Segment>,
    buffer: Vec<u8>,
}

struct Segment {
    file: File,
    at: SegmentFile,
    /// Bytes that are records.
    used: u64,
    /// Bytes of the file: records, then line feeds.
    laid_out: u64,
}

impl Pen {
    /// Goes on after `last`, in the segment of which so many bytes are records.
    pub(super) fn new(
        layout: Layout,
        segment_bytes: u64,
        last: Link,
        open: Option<(SegmentFile, u64)>,
    ) -> Result<Self, AuditError> {
        let open = match open {
            None => None,
            Some((at, used)) => {
                let file = OpenOptions::new()
                    .write(true)
                    .open(&at.path)
                    .map_err(AuditError::io("open", &at.path))?;
                let laid_out = file.metadata().map_err(AuditError::io("examine", &at.path))?.len();
                Some(Segment { file, at, used, laid_out })
            }
        };
        Ok(Self { layout, segment_bytes, last, open, buffer: Vec::new() })
    }

    /// Writes the entries in as few batches as their size asks for.
    pub(super) fn write_all(&mut self, entries: &mut Vec<Entry>, shared: &Shared) -> Result<(), AuditError> {
        while !entries.is_empty() {
            let mut bytes = 0_usize;
            let fit = entries
                .iter()
                .take_while(|entry| {
                    let is_room = bytes < BATCH_BYTES;
                    bytes = bytes.saturating_add(entry.events.len());
                    is_room
                })
                .count();
            let rotations = u64::from(self.make_room()?);
            let before = self.last;
            let mut ends = Vec::with_capacity(fit);
            self.buffer.clear();
            let now = unix_micros();
            for entry in entries.iter().take(fit) {
                for event in entry.events.split(|byte| *byte == b'\n').filter(|event| !event.is_empty()) {
                    self.last = encode(&mut self.buffer, self.last, now, before.seq, event);
                }
                ends.push(self.last.seq);
            }
            self.commit()?;
            shared.progress(Marker { seq: self.last.seq, hash: self.last.hash }, rotations);
            let newest = entries.get(..fit).and_then(<[Entry]>::last).map_or(0, |entry| entry.number);
            shared.written.advance(newest);
            for (entry, end) in entries.drain(..fit).zip(ends) {
                if let Awaited::Reply(reply) = entry.awaited {
                    // The one who waited may have gone; the record stays.
                    let _ = reply.send(Ok(end));
                }
            }
            shared.wake_upkeep();
        }
        Ok(())
    }

    /// Makes sure that a segment is open for the next batch; answers whether it is a new one.
    fn make_room(&mut self) -> Result<bool, AuditError> {
        if self.open.as_ref().is_some_and(|open| open.used < self.segment_bytes) {
            return Ok(false);
        }
        self.finish_segment()?;
        let at = self.layout.segment(self.last.seq.saturating_add(1));
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(FILE_MODE)
            .open(&at.path)
            .map_err(AuditError::io("create", &at.path))?;
        sync_dir(&self.layout.log_dir())?;
        self.open = Some(Segment { file, at, used: 0, laid_out: 0 });
        Ok(true)
    }

    /// Cuts the space laid out ahead and makes the segment last.
    fn finish_segment(&mut self) -> Result<(), AuditError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        open.file
            .set_len(open.used)
            .and_then(|()| open.file.sync_all())
            .map_err(AuditError::io("finish", &open.at.path))
    }

    /// Puts the buffer on disk.
    fn commit(&mut self) -> Result<(), AuditError> {
        let Some(open) = self.open.as_mut() else { return Err(AuditError::Closed) };
        let start = open.used;
        let result = open.write(&self.buffer);
        if result.is_err() {
            // Nobody was told that these records exist. Cut what may be there of them; should that fail too,
            // they stand in the log as records of requests that were refused.
            let _ = open.file.set_len(start);
        }
        result.map_err(AuditError::io("write", &open.at.path))
    }
}

impl Segment {
    fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        self.file.write_all_at(batch, self.used)?;
        self.used = self.used.saturating_add(batch.len() as u64);
        if self.used > self.laid_out {
            self.laid_out = self.used;
            if batch.len() <= LARGE_BATCH_BYTES {
                self.file.write_all_at(&LAID_OUT, self.used)?;
                self.laid_out = self.used.saturating_add(LAY_OUT_BYTES as u64);
            }
        }
        self.file.sync_data()
    }
}

/// Whatever ends the writer, nobody waits for it in vain.
struct Guard<'a> {
    shared: &'a Shared,
    /// `None` when the log was closed and everything is written.
    cause: Option<Arc<str>>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(cause) = &self.cause {
            self.shared.poison(cause);
        }
        self.shared.ended();
    }
}

/// Now, in microseconds since 1970.
pub(super) fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
