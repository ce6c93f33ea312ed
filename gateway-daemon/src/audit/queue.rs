//! Between those who append and the one who writes: a bounded queue, and the state that both look at.
//!
//! Room in the queue is counted in events, a large one as several, so that the queue bounds memory too.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, TryAcquireError, oneshot};

use super::{error::AuditError, layout::Marker, segment::MAX_EVENT_BYTES};
use crate::domain::event::AuditEvent;

/// Bytes of JSON that take as much room as one small event.
const BYTES_PER_PLACE: usize = 4096;

/// How long the writer leaves events that nobody waits for before it puts them on disk by themselves. Requests
/// that come meanwhile take them along, instead of waiting for a sync that serves nobody.
const DOZE: Duration = Duration::from_millis(50);
/// So many of them are put on disk at once, whoever waits.
const NOTES_AT_ONCE: usize = 1024;

/// The answer to an append: the last sequence number, once durable.
pub(super) type Reply = oneshot::Sender<Result<u64, Arc<str>>>;

/// Events on their way to the writer, serialised.
pub(super) struct Entry {
    /// JSON objects, each with a line feed behind it. JSON strings never hold a raw line feed.
    pub(super) events: Vec<u8>,
    pub(super) reply: Option<Reply>,
    places: u32,
}

/// Shared by the handles, the writer and the upkeep thread.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    writer_wake: Condvar,
    room: Semaphore,
    places: u32,
    progress: Mutex<Progress>,
    upkeep_wake: Condvar,
}

#[derive(Default)]
struct Queue {
    entries: Vec<Entry>,
    state: State,
    /// Entries that somebody waits for.
    awaited: usize,
    writer: Writer,
}

/// What it takes to wake the writer.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// Nothing: it is at work, and looks at the queue when it is done.
    #[default]
    Working,
    /// An entry that somebody waits for, or very many others.
    Dozing,
    /// Any entry.
    Asleep,
}

#[derive(Default, Clone)]
enum State {
    #[default]
    Open,
    Closing,
    Poisoned(Arc<str>),
}

/// How far the writer is, for the upkeep thread.
#[derive(Clone, Copy)]
pub(super) struct Progress {
    /// The newest record on disk.
    pub(super) durable: Marker,
    /// Whether the writer still runs.
    pub(super) is_running: bool,
    /// Segments begun since the log was opened.
    pub(super) rotations: u64,
    upkeep_sleeps: bool,
}

impl Queue {
    /// Whether the writer should not leave the entries any longer.
    fn is_due(&self) -> bool {
        self.awaited > 0 || self.entries.len() >= NOTES_AT_ONCE
    }
}

impl Shared {
    pub(super) fn new(queue_len: u32, durable: Marker) -> Self {
        let places = queue_len.clamp(1, u32::MAX >> 4);
        Self {
            queue: Mutex::default(),
            writer_wake: Condvar::new(),
            room: Semaphore::new(places as usize),
            places,
            progress: Mutex::new(Progress { durable, is_running: true, rotations: 0, upkeep_sleeps: false }),
            upkeep_wake: Condvar::new(),
        }
    }

    /// Makes an entry of `events`, at the caller's cost and not the writer's.
    pub(super) fn entry(&self, events: &[AuditEvent], reply: Option<Reply>) -> Result<Entry, AuditError> {
        let mut bytes = Vec::with_capacity(events.len().saturating_mul(512));
        let mut places = 0_usize;
        for event in events {
            let start = bytes.len();
            serde_json::to_writer(&mut bytes, event).map_err(AuditError::Serialise)?;
            let length = bytes.len().saturating_sub(start);
            if length > MAX_EVENT_BYTES {
                return Err(AuditError::TooLarge { bytes: length, limit: MAX_EVENT_BYTES });
            }
            bytes.push(b'\n');
            places = places.saturating_add(1).saturating_add(length / BYTES_PER_PLACE);
        }
        let places = u32::try_from(places).unwrap_or(u32::MAX).min(self.places);
        Ok(Entry { events: bytes, reply, places })
    }

    /// Waits for room and queues the entry.
    pub(super) async fn push(&self, entry: Entry) -> Result<(), AuditError> {
        match self.room.acquire_many(entry.places).await {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(self.refusal()),
        }
        self.put(entry)
    }

    /// Queues the entry, or fails when there is no room for it now.
    pub(super) fn try_push(&self, entry: Entry) -> Result<(), AuditError> {
        match self.room.try_acquire_many(entry.places) {
            Ok(permit) => permit.forget(),
            Err(TryAcquireError::NoPermits) => return Err(AuditError::QueueFull),
            Err(TryAcquireError::Closed) => return Err(self.refusal()),
        }
        self.put(entry)
    }

    fn put(&self, entry: Entry) -> Result<(), AuditError> {
        let mut queue = lock(&self.queue);
        match &queue.state {
            State::Open => {}
            State::Closing => return Err(AuditError::Closed),
            State::Poisoned(cause) => return Err(AuditError::Poisoned(Arc::clone(cause))),
        }
        queue.awaited += usize::from(entry.reply.is_some());
        queue.entries.push(entry);
        let wakes = match queue.writer {
            Writer::Working => false,
            Writer::Dozing => queue.is_due(),
            Writer::Asleep => true,
        };
        if wakes {
            queue.writer = Writer::Working;
            drop(queue);
            self.writer_wake.notify_one();
        }
        Ok(())
    }

    /// Why nothing is taken any more.
    pub(super) fn refusal(&self) -> AuditError {
        match &lock(&self.queue).state {
            State::Poisoned(cause) => AuditError::Poisoned(Arc::clone(cause)),
            State::Open | State::Closing => AuditError::Closed,
        }
    }

    /// Why nothing is taken any more, if nothing is.
    pub(super) fn failure(&self) -> Option<AuditError> {
        match &lock(&self.queue).state {
            State::Open => None,
            State::Closing => Some(AuditError::Closed),
            State::Poisoned(cause) => Some(AuditError::Poisoned(Arc::clone(cause))),
        }
    }

    /// The writer's side: waits for entries and takes all of them into `into`, which is empty. `false` when
    /// the log is closing and nothing is left.
    pub(super) fn take(&self, into: &mut Vec<Entry>) -> bool {
        let mut doze_until = Instant::now() + DOZE;
        let mut queue = lock(&self.queue);
        while !queue.is_due() {
            if !matches!(queue.state, State::Open) {
                if queue.entries.is_empty() {
                    return false;
                }
                break;
            }
            if let Some(left) = time_left(doze_until) {
                queue.writer = Writer::Dozing;
                queue = self.writer_wake.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
            } else if queue.entries.is_empty() {
                queue.writer = Writer::Asleep;
                queue = self.writer_wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                doze_until = Instant::now() + DOZE;
            } else {
                break;
            }
        }
        queue.writer = Writer::Working;
        queue.awaited = 0;
        std::mem::swap(&mut queue.entries, into);
        drop(queue);
        let places = into.iter().map(|entry| entry.places as usize).sum();
        self.room.add_permits(places);
        true
    }

    /// No more entries; those queued are still written.
    pub(super) fn close(&self) {
        let mut queue = lock(&self.queue);
        if matches!(queue.state, State::Open) {
            queue.state = State::Closing;
        }
        drop(queue);
        self.room.close();
        self.writer_wake.notify_one();
    }

    /// No more entries ever: those queued and those that wait fail with `cause`.
    pub(super) fn poison(&self, cause: &Arc<str>) {
        let mut queue = lock(&self.queue);
        queue.state = State::Poisoned(Arc::clone(cause));
        let entries = std::mem::take(&mut queue.entries);
        drop(queue);
        self.room.close();
        for reply in entries.into_iter().filter_map(|entry| entry.reply) {
            // The one who waited may have gone.
            let _ = reply.send(Err(Arc::clone(cause)));
        }
    }

    /// The newest record on disk.
    pub(super) fn durable(&self) -> Marker {
        lock(&self.progress).durable
    }

    /// The writer's word on how far it is.
    pub(super) fn progress(&self, durable: Marker, rotations: u64) {
        let mut progress = lock(&self.progress);
        progress.durable = durable;
        progress.rotations = progress.rotations.saturating_add(rotations);
    }

    /// Wakes the upkeep thread if it waits for records. Apart from [`progress`](Self::progress), so that those
    /// who wait for the disk are woken first.
    pub(super) fn wake_upkeep(&self) {
        if std::mem::take(&mut lock(&self.progress).upkeep_sleeps) {
            self.upkeep_wake.notify_one();
        }
    }

    /// Whether the writer still runs.
    pub(super) fn is_running(&self) -> bool {
        lock(&self.progress).is_running
    }

    /// The writer is gone.
    pub(super) fn ended(&self) {
        lock(&self.progress).is_running = false;
        self.upkeep_wake.notify_all();
    }

    /// The upkeep thread's side: waits until there is more on disk than `seen`, the writer has ended, or
    /// `until` is reached.
    pub(super) fn await_progress(&self, seen: u64, until: Instant) -> Progress {
        let mut progress = lock(&self.progress);
        while progress.is_running && progress.durable.seq <= seen {
            let Some(left) = time_left(until) else { break };
            progress.upkeep_sleeps = true;
            progress =
                self.upkeep_wake.wait_timeout(progress, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        progress.upkeep_sleeps = false;
        *progress
    }

    /// Waits for `pause`, or for the writer's end. The writer does not wake this one for each batch.
    pub(super) fn await_end(&self, pause: Duration) -> Progress {
        let until = Instant::now() + pause;
        let mut progress = lock(&self.progress);
        while progress.is_running {
            let Some(left) = time_left(until) else { break };
            progress =
                self.upkeep_wake.wait_timeout(progress, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *progress
    }
}

fn time_left(until: Instant) -> Option<Duration> {
    until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
}

/// No code panics with one of these locks held; should it, the state behind it is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
