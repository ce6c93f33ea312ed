//! Between sessions, which never wait, and the thread that writes: bounded by bytes, those that are written down but
//! not yet on disk included.

use std::{
    collections::HashSet,
    mem,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;

use super::{error::RecordingError, record::Record, rows::PackedRows};
use crate::domain::ids::SessionId;

/// What comes within this time is taken together: the writer sleeps meanwhile, and nobody has to wake it.
const GATHER: Duration = Duration::from_millis(5);

/// An entry on its way.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) session: SessionId,
    /// When the session began: which day its file belongs to.
    pub(super) began: u64,
    pub(super) record: Record<PackedRows>,
    pub(super) size: usize,
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    bell: Condvar,
    limit: usize,
    /// Bytes of entries here and of lines that the writer holds.
    waiting: AtomicUsize,
    /// Why the last attempt to write failed.
    pub(super) failure: ArcSwapOption<String>,
    /// Sessions whose files are not complete.
    pub(super) open: Mutex<HashSet<SessionId>>,
    pub(super) failures: AtomicU64,
    pub(super) entries: AtomicU64,
    pub(super) lost: AtomicU64,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    messages: Vec<Message>,
    closing: bool,
    asleep: bool,
}

/// Whether an entry needs room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// Without room it is not taken.
    Needed,
    /// There is one such entry for each session.
    Given,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            state: Mutex::default(),
            bell: Condvar::new(),
            limit,
            waiting: AtomicUsize::new(0),
            failure: ArcSwapOption::empty(),
            open: Mutex::default(),
            failures: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    pub(super) fn push(&self, message: Message, room: Room) -> Result<(), RecordingError> {
        let bytes = self.waiting.load(Ordering::Relaxed);
        if room == Room::Needed && bytes.saturating_add(message.size) > self.limit {
            return Err(RecordingError::Full { bytes });
        }
        if self.closed.load(Ordering::Relaxed) {
            return Err(RecordingError::Closed);
        }
        self.waiting.fetch_add(message.size, Ordering::Relaxed);
        self.entries.fetch_add(1, Ordering::Relaxed);
        let mut state = self.lock();
        state.messages.push(message);
        if mem::take(&mut state.asleep) {
            drop(state);
            self.bell.notify_one();
        }
        Ok(())
    }

    /// Waits for entries, until `due` at most. `true` when none come after these.
    pub(super) fn take(&self, due: Option<Instant>) -> (Vec<Message>, bool) {
        let mut state = self.lock();
        while state.messages.is_empty() && !state.closing {
            state.asleep = true;
            state = match due {
                None => self.bell.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let left = due.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        state.asleep = false;
        if !state.closing && !state.messages.is_empty() {
            drop(state);
            thread::sleep(GATHER);
            state = self.lock();
        }
        (mem::take(&mut state.messages), state.closing)
    }

    /// Takes no more entries; what is there is still written.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        let mut state = self.lock();
        state.closing = true;
        state.asleep = false;
        drop(state);
        self.bell.notify_one();
    }

    /// An entry has become a line of another length.
    pub(super) fn exchange(&self, before: usize, after: usize) {
        self.waiting.fetch_add(after, Ordering::Relaxed);
        self.written(before);
    }

    /// So many bytes wait no longer.
    pub(super) fn written(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn open(&self) -> MutexGuard<'_, HashSet<SessionId>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
