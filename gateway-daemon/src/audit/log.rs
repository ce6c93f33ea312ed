//! The handle that the rest of the daemon holds.

use std::{
    io,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    entry::Awaited,
    error::AuditError,
    forward::{self, Successor},
    layout::{Layout, Marker},
    queue::Shared,
    receipt::Receipt,
    recover::{Recovered, recover},
    tally::Tally,
    upkeep::Upkeep,
    writer::{self, Hand, Pen, unix_micros},
};
use crate::domain::event::{AuditEvent, EventKind, Outcome};

/// What the log needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The log's own directory, `<audit.dir>/audit`. Made when it is missing.
    pub dir: PathBuf,
    /// A segment is closed once it is this long.
    pub segment_bytes: u64,
    /// Whole segments older than this are removed. Zero keeps everything.
    pub retention: Duration,
    /// How many events may wait for the disk.
    pub queue_len: u32,
}

impl Settings {
    /// 64 MiB segments, 90 days, 16,384 events.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: 64 * 1024 * 1024,
            retention: Duration::from_hours(90 * 24),
            queue_len: 16_384,
        }
    }
}

/// The audit log. Cloning gives another handle to the same log; it is closed with the last one, or by
/// [`close`](Self::close).
#[derive(Clone)]
pub struct AuditLog {
    shared: Arc<Shared>,
    threads: Arc<Threads>,
    settings: Arc<Settings>,
}

impl AuditLog {
    /// Opens or begins the log in `settings.dir`, finds its end, sets aside what a crash left, and starts its
    /// threads. Blocks on the disk; reads one segment.
    pub fn open(settings: Settings) -> Result<Self, AuditError> {
        let shared = Arc::new(Shared::new(settings.queue_len, Marker::GENESIS));
        let threads = Threads { shared: Arc::clone(&shared), handles: Mutex::default() };
        let log = Self { shared, threads: Arc::new(threads), settings: Arc::new(settings) };
        log.begin()?;
        Ok(log)
    }

    /// Takes the lock, finds the end and starts the threads.
    fn begin(&self) -> Result<(), AuditError> {
        let Settings { dir, segment_bytes, retention, .. } = &*self.settings;
        let layout = Layout::new(dir);
        layout.create()?;
        let lock = Arc::new(layout.lock()?);
        let Recovered { last, open, torn } = recover(&layout, unix_micros())?;
        let durable = Marker { seq: last.seq, hash: last.hash };
        let pen = Pen::new(layout.clone(), (*segment_bytes).max(1), last, open)?;
        let upkeep = Upkeep::new(layout, *retention, durable);
        let shared = &self.shared;
        shared.go_on(Hand::Here(pen), Some(durable));
        let writer_thread = spawn("audit-writer", {
            let (shared, lock) = (Arc::clone(shared), Arc::clone(&lock));
            move || {
                writer::run(&shared);
                drop(lock);
            }
        });
        let upkeep_thread = spawn("audit-upkeep", {
            let shared = Arc::clone(shared);
            move || {
                upkeep.run(&shared);
                drop(lock);
            }
        });
        let (writer_thread, upkeep_thread) = match (writer_thread, upkeep_thread) {
            (Ok(writer), Ok(upkeep)) => (writer, upkeep),
            (Err(source), _) | (_, Err(source)) => {
                shared.close();
                shared.ended();
                return Err(AuditError::io("start a thread for", dir)(source));
            }
        };
        self.threads.keep([writer_thread, upkeep_thread]);
        if let Some(torn) = torn {
            let mut event = AuditEvent::new(EventKind::Daemon, Outcome::Noted);
            event.reason = format!(
                "{} bytes of records that were never acknowledged were set aside after a crash",
                torn.bytes
            );
            event.text = torn.saved_as.display().to_string();
            tracing::warn!(bytes = torn.bytes, saved_as = %torn.saved_as.display(), "torn audit records set aside");
            self.note(event)?;
        }
        Ok(())
    }

    /// Writes the events and answers the last one's sequence number once all are on disk. Waits while the
    /// queue is full. An empty list waits for nothing and answers the newest record on disk.
    ///
    /// When the future is dropped early, the events are written or not; nobody is told.
    pub async fn append(&self, events: Vec<AuditEvent>) -> Result<u64, AuditError> {
        if events.is_empty() {
            return Ok(self.shared.durable().seq);
        }
        let (reply, answer) = oneshot::channel();
        let entry = self.shared.entry(&events, Awaited::Reply(reply))?;
        drop(events);
        self.shared.push(entry).await?;
        match answer.await {
            Ok(result) => result.map_err(AuditError::Poisoned),
            Err(_) => Err(self.shared.refusal()),
        }
    }

    /// Another who will [`submit`](Submitter::submit) events.
    pub fn submitter(&self) -> Submitter {
        Submitter { shared: Arc::clone(&self.shared), number: self.shared.next_submitter() }
    }

    /// Queues an event without waiting for it. Fails when the queue is full.
    pub fn note(&self, event: AuditEvent) -> Result<(), AuditError> {
        let entry = self.shared.entry(&[event], Awaited::No)?;
        self.shared.try_push(entry)
    }

    /// The sequence number of the newest record that is on disk.
    pub fn durable_seq(&self) -> u64 {
        self.shared.durable().seq
    }

    /// What was recorded since the log was opened, in numbers.
    pub fn tally(&self) -> &Tally {
        &self.shared.tally
    }

    /// How many events wait for the disk, and how many may; large ones count as several.
    pub fn queue(&self) -> (u64, u64) {
        self.shared.filled()
    }

    /// Why the log takes nothing any more, when it does not: for health checks.
    pub fn failure(&self) -> Option<AuditError> {
        self.shared.failure()
    }

    /// Takes no more events, writes those that are queued, and ends the threads. The other handles fail from
    /// then on.
    pub async fn close(self) {
        self.shared.close();
        self.threads.join().await;
    }

    /// Ends the threads and lets go of the log, so that another daemon can open it. Events are taken as before; whoever
    /// waits for theirs waits until [`forward`](Self::forward) or [`take_back`](Self::take_back).
    pub async fn let_go(&self) {
        self.shared.yield_up();
        self.threads.join().await;
    }

    /// Opens the log again after [`let_go`](Self::let_go) and writes what was queued meanwhile.
    pub fn take_back(&self) -> Result<(), AuditError> {
        self.begin()
    }

    /// After [`let_go`](Self::let_go): sends all events, from those queued on, to the daemon at the other end, which
    /// records them with [`record_for`](Self::record_for). When it is gone, this log is as if a write had failed.
    pub fn forward(&self, successor: UnixStream) -> io::Result<()> {
        self.shared.go_on(Hand::Elsewhere(Successor(successor)), None);
        let shared = Arc::clone(&self.shared);
        self.threads.keep([spawn("audit-writer", move || writer::run(&shared))?]);
        Ok(())
    }

    /// Records what the daemon at the other end forwards, until it has no more.
    pub async fn record_for(&self, predecessor: tokio::net::UnixStream) -> io::Result<()> {
        forward::record_all(predecessor, self).await
    }

    /// Writes events that are serialised already, each with a line feed behind it.
    pub(super) async fn append_serialised(&self, events: Vec<u8>) -> Result<u64, AuditError> {
        let (reply, answer) = oneshot::channel();
        self.shared.push(self.shared.serialised(events, Awaited::Reply(reply))?).await?;
        match answer.await {
            Ok(result) => result.map_err(AuditError::Poisoned),
            Err(_) => Err(self.shared.refusal()),
        }
    }
}

/// Ends the threads with the last handle.
struct Threads {
    shared: Arc<Shared>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    fn keep(&self, more: impl IntoIterator<Item = JoinHandle<()>>) {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).extend(more);
    }

    async fn join(&self) {
        let handles = std::mem::take(&mut *self.handles.lock().unwrap_or_else(PoisonError::into_inner));
        let joined = tokio::task::spawn_blocking(move || {
            for handle in handles {
                if handle.join().is_err() {
                    tracing::error!("a thread of the audit log panicked");
                }
            }
        });
        // It fails only when the runtime is going down itself.
        let _ = joined.await;
    }
}

/// One who submits events again and again, and has few of them under way at a time: a session.
pub struct Submitter {
    shared: Arc<Shared>,
    number: u64,
}

impl Submitter {
    /// Queues events and answers at once, with a receipt that tells when they are on disk. [`Receipt::press`] brings
    /// them there; left alone, they wait for others. Waits only while the queue is full. Whoever takes a receipt for the fact must let nothing of what the events describe be seen
    /// before it says so.
    ///
    /// # Errors
    /// The log takes nothing any more, or not these events.
    pub async fn submit(&self, events: &[AuditEvent]) -> Result<Receipt, AuditError> {
        let entry = self.shared.entry(events, Awaited::Receipt(self.number))?;
        let number = self.shared.push(entry).await?;
        Ok(Receipt { shared: Arc::clone(&self.shared), number })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.close();
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run)
}
