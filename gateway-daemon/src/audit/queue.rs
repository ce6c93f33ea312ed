//! Between those who append and the one who writes: a bounded queue, and the state that both look at.
//!
//! Room in the queue is counted in events, a large one as several, so that the queue bounds memory too.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, TryAcquireError};

use super::{
    askers::Askers,
    entry::{Awaited, Entry},
    error::AuditError,
    layout::Marker,
    receipt::Written,
    segment::MAX_EVENT_BYTES,
    tally::Tally,
    writer::Hand,
};
use crate::domain::event::AuditEvent;

/// Bytes of JSON that take as much room as one small event.
const BYTES_PER_PLACE: usize = 4096;

/// How long the writer leaves events that nobody waits for before it puts them on disk by themselves. Requests
/// that come meanwhile take them along, instead of waiting for a sync that serves nobody.
const DOZE: Duration = Duration::from_millis(50);
/// So many of them are put on disk at once, whoever waits.
const NOTES_AT_ONCE: usize = 1024;

/// How long the writer lets entries gather after a commit while several ask for commits all the time. Each commit
/// costs the machine some 20 µs of processor time however much it carries, and what waits for it is a reply that the
/// server has yet to give: with a quarter of the askers waiting, or after this long, it begins.
const GATHER: Duration = Duration::from_micros(400);
/// Where commits take less, a submitter may do one himself, though others of his thread wait meanwhile.
const QUICK: Duration = Duration::from_millis(1);

/// Shared by the handles, the writer and the upkeep thread.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    writer_wake: Condvar,
    /// The file and the chain, for whoever writes.
    pub(super) pen: Mutex<Option<Hand>>,
    room: Semaphore,
    places: u32,
    pub(super) tally: Tally,
    progress: Mutex<Progress>,
    upkeep_wake: Condvar,
    pub(super) written: Written,
    submitters: AtomicU64,
}

struct Queue {
    entries: Vec<Entry>,
    /// Of the newest entry.
    number: u64,
    state: State,
    /// Entries that somebody waits for.
    awaited: usize,
    /// With so many of them, they are not left to gather any longer.
    enough: usize,
    askers: Askers,
    writer: Writer,
    /// A submitter writes in the writer's place, which must not begin meanwhile.
    led: bool,
    /// The last commit took so little that a submitter may do the next one.
    quick: bool,
    /// The writer is to go and leave what is queued to whoever comes after it.
    yields: bool,
}

/// What it takes to wake the writer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// Nothing: it is at work, and looks at the queue when it is done.
    Working,
    /// Enough entries that somebody waits for, or very many others.
    Gathering,
    /// An entry that somebody waits for, or very many others.
    Dozing,
    /// Any entry.
    Asleep,
}

#[derive(Clone)]
enum State {
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
    /// Whether the writer should not leave the entries any longer, with so many of them awaited.
    fn is_due(&self, enough: usize) -> bool {
        self.awaited >= enough || self.entries.len() >= NOTES_AT_ONCE
    }
}

impl Shared {
    pub(super) fn new(queue_len: u32, durable: Marker) -> Self {
        let places = queue_len.clamp(1, u32::MAX >> 4);
        Self {
            queue: Mutex::new(Queue {
                entries: Vec::new(),
                number: 0,
                state: State::Open,
                awaited: 0,
                enough: 1,
                askers: Askers::default(),
                writer: Writer::Working,
                led: false,
                quick: false,
                yields: false,
            }),
            pen: Mutex::new(None),
            writer_wake: Condvar::new(),
            room: Semaphore::new(places as usize),
            places,
            tally: Tally::default(),
            progress: Mutex::new(Progress { durable, is_running: true, rotations: 0, upkeep_sleeps: false }),
            upkeep_wake: Condvar::new(),
            written: Written::default(),
            submitters: AtomicU64::new(0),
        }
    }

    /// A number that nobody else has.
    pub(super) fn next_submitter(&self) -> u64 {
        self.submitters.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes an entry of `events`, at the caller's cost and not the writer's.
    pub(super) fn entry(&self, events: &[AuditEvent], awaited: Awaited) -> Result<Entry, AuditError> {
        let mut bytes = Vec::with_capacity(events.len().saturating_mul(512));
        let mut places = 0_usize;
        self.tally.count(events);
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
        Ok(Entry { events: bytes, awaited, number: 0, places })
    }

    /// Makes an entry of events that are serialised already, each with a line feed behind it.
    pub(super) fn serialised(&self, events: Vec<u8>, awaited: Awaited) -> Result<Entry, AuditError> {
        let mut places = 0_usize;
        for event in events.split(|byte| *byte == b'\n').filter(|event| !event.is_empty()) {
            if event.len() > MAX_EVENT_BYTES {
                return Err(AuditError::TooLarge { bytes: event.len(), limit: MAX_EVENT_BYTES });
            }
            places = places.saturating_add(1).saturating_add(event.len() / BYTES_PER_PLACE);
        }
        let places = u32::try_from(places).unwrap_or(u32::MAX).min(self.places);
        Ok(Entry { events, awaited, number: 0, places })
    }

    /// How much waits for the disk, and how much may, both in places.
    pub(super) fn filled(&self) -> (u64, u64) {
        let free = u64::try_from(self.room.available_permits()).unwrap_or(u64::MAX);
        let places = u64::from(self.places);
        (places.saturating_sub(free), places)
    }

    /// Waits for room and queues the entry; answers its number.
    pub(super) async fn push(&self, entry: Entry) -> Result<u64, AuditError> {
        match self.room.try_acquire_many(entry.places) {
            Ok(permit) => permit.forget(),
            Err(_) => match self.room.acquire_many(entry.places).await {
                Ok(permit) => permit.forget(),
                Err(_) => return Err(self.refusal()),
            },
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
        self.put(entry).map(|_| ())
    }

    fn put(&self, mut entry: Entry) -> Result<u64, AuditError> {
        let mut queue = lock(&self.queue);
        match &queue.state {
            State::Open => {}
            State::Closing => return Err(AuditError::Closed),
            State::Poisoned(cause) => return Err(AuditError::Poisoned(Arc::clone(cause))),
        }
        queue.awaited += usize::from(!matches!(entry.awaited, Awaited::No));
        queue.number += 1;
        let number = queue.number;
        entry.number = number;
        queue.entries.push(entry);
        let holds_receipt = matches!(queue.entries.last(), Some(Entry { awaited: Awaited::Receipt(_), .. }));
        let wakes = match queue.writer {
            Writer::Working => false,
            Writer::Gathering => queue.is_due(queue.enough),
            // Whoever holds a receipt presses for it when it suits him.
            Writer::Dozing => queue.is_due(1) && !holds_receipt,
            Writer::Asleep => true,
        };
        if wakes {
            self.wake_writer(queue);
        }
        Ok(number)
    }

    fn wake_writer(&self, mut queue: MutexGuard<'_, Queue>) {
        queue.writer = Writer::Working;
        drop(queue);
        self.writer_wake.notify_one();
    }

    /// Brings what is queued on its way to the disk. While hardly anybody else asks for commits, the caller does it
    /// himself: that spares two changes of threads, which take as long as the disk. Blocks for as long as the last
    /// commits took, below [`QUICK`].
    pub(super) fn press(&self) {
        let mut queue = lock(&self.queue);
        let is_idle = matches!(queue.writer, Writer::Dozing)
            && !queue.led
            && !queue.yields
            && matches!(queue.state, State::Open);
        if !is_idle || !queue.is_due(1) {
            return;
        }
        if queue.enough > 1 || !queue.quick {
            return self.wake_writer(queue);
        }
        queue.led = true;
        let mut entries = Vec::new();
        self.take_all(queue, &mut entries);
        let failure = self.write(&mut entries);
        let mut queue = lock(&self.queue);
        queue.led = false;
        if failure.is_none() && queue.is_due(1) {
            self.wake_writer(queue);
        } else {
            drop(queue);
        }
        if let Some(cause) = failure {
            self.poison(&cause);
        }
    }

    /// Writes the entries, and answers why not. Those that are left have been told then.
    pub(super) fn write(&self, entries: &mut Vec<Entry>) -> Option<Arc<str>> {
        let began = Instant::now();
        let written = match lock(&self.pen).as_mut() {
            Some(pen) => pen.write_all(entries, self),
            None => Err(AuditError::Closed),
        };
        match written {
            Ok(()) => {
                lock(&self.queue).quick = began.elapsed() < QUICK;
                None
            }
            Err(error) => {
                let cause: Arc<str> = error.to_string().into();
                tracing::error!(%error, "the audit log cannot be written: every request is refused from now on");
                entries.drain(..).for_each(|entry| entry.fail(&cause));
                Some(cause)
            }
        }
    }

    fn take_all(&self, mut queue: MutexGuard<'_, Queue>, into: &mut Vec<Entry>) {
        queue.awaited = 0;
        std::mem::swap(&mut queue.entries, into);
        queue.enough = queue.askers.note(into, Instant::now());
        drop(queue);
        let places = into.iter().map(|entry| entry.places as usize).sum();
        self.room.add_permits(places);
    }

    /// Why nothing is taken any more.
    pub(super) fn refusal(&self) -> AuditError {
        match &lock(&self.queue).state {
            State::Poisoned(cause) => AuditError::Poisoned(Arc::clone(cause)),
            State::Open | State::Closing => AuditError::Closed,
        }
    }

    /// Whether a write has failed.
    pub(super) fn is_poisoned(&self) -> bool {
        matches!(lock(&self.queue).state, State::Poisoned(_))
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
    /// the log is closing and nothing is left, or when the writer is to go.
    pub(super) fn take(&self, into: &mut Vec<Entry>) -> bool {
        let began = Instant::now();
        let mut doze_until = began + DOZE;
        let mut queue = lock(&self.queue);
        loop {
            if queue.led {
                queue = self.sleep(queue, Writer::Dozing, DOZE);
                continue;
            }
            if queue.yields {
                return false;
            }
            if !matches!(queue.state, State::Open) {
                if queue.entries.is_empty() {
                    return false;
                }
                break;
            }
            let enough = queue.enough;
            if queue.is_due(enough) {
                break;
            }
            if let Some(left) = time_left(began + GATHER).filter(|_| enough > 1) {
                queue = self.sleep(queue, Writer::Gathering, left);
            } else if queue.is_due(1) {
                break;
            } else if let Some(left) = time_left(doze_until) {
                queue = self.sleep(queue, Writer::Dozing, left);
            } else if queue.entries.is_empty() {
                queue.writer = Writer::Asleep;
                queue = self.writer_wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                doze_until = Instant::now() + DOZE;
            } else {
                break;
            }
        }
        queue.writer = Writer::Working;
        self.take_all(queue, into);
        true
    }

    /// Lets the writer go. Entries are taken and queued as before, and wait.
    pub(super) fn yield_up(&self) {
        lock(&self.queue).yields = true;
        self.writer_wake.notify_one();
    }

    /// Another writer goes on after `durable`.
    pub(super) fn go_on(&self, hand: Hand, durable: Option<Marker>) {
        *lock(&self.pen) = Some(hand);
        let mut progress = lock(&self.progress);
        progress.durable = durable.unwrap_or(progress.durable);
        progress.is_running = true;
        drop(progress);
        lock(&self.queue).yields = false;
    }

    fn sleep<'a>(
        &self,
        mut queue: MutexGuard<'a, Queue>,
        how: Writer,
        at_most: Duration,
    ) -> MutexGuard<'a, Queue> {
        queue.writer = how;
        self.writer_wake.wait_timeout(queue, at_most).unwrap_or_else(PoisonError::into_inner).0
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
        for entry in entries {
            entry.fail(cause);
        }
        self.written.give_up();
        self.writer_wake.notify_one();
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
        self.written.give_up();
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
