//! The recorder that a daemon has, and what a session holds of it.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use super::{
    error::RecordingError,
    queue::{Message, Queue, Room},
    record::{Answered, Asked, End, Gap, Header, Record},
    retention::{self, Removed},
    rows::PackedRows,
    writer,
};
use crate::domain::{event::Outcome, ids::SessionId};

/// What may wait for the disk, of all sessions together.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// What an entry takes beside its texts and rows, about.
const ENTRY_BYTES: usize = 256;

/// What becomes of a session that cannot be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// It ends.
    EndSession,
    /// It goes on, and its recording says that something is missing.
    Mark,
}

/// Where and how long recordings are kept.
pub struct Settings {
    /// The directory, made if it is missing.
    pub dir: PathBuf,
    /// Bytes of results that are recorded of a request, unless policies say so.
    pub result_bytes: u64,
    /// Bytes that are recorded of a session, unless policies say so.
    pub session_bytes: u64,
    /// For how long recordings are kept after their last entry.
    pub retention: Duration,
    /// What all recordings together may take on disk.
    pub total_bytes: u64,
    /// What becomes of a session that cannot be recorded.
    pub on_failure: OnFailure,
    /// Told of recordings that retention has removed.
    pub on_removed: Box<dyn Fn(Removed) + Send>,
}

/// Records sessions. Clones share one writer.
#[derive(Debug, Clone)]
pub struct Recorder {
    queue: Arc<Queue>,
    threads: Arc<Mutex<Option<Threads>>>,
    /// Bytes of results that are recorded of a request, unless policies say so.
    pub result_bytes: u64,
    /// Bytes that are recorded of a session, unless policies say so.
    pub session_bytes: u64,
    on_failure: OnFailure,
}

#[derive(Debug)]
struct Threads {
    writer: JoinHandle<()>,
    upkeep: JoinHandle<()>,
    /// Dropped to end the upkeep.
    upkeep_goes_on: mpsc::Sender<()>,
}

/// What has been recorded so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Entries taken.
    pub entries: u64,
    /// Entries that are missing in recordings.
    pub lost: u64,
    /// Attempts to write that failed.
    pub failures: u64,
    /// Bytes that wait for the disk.
    pub waiting: u64,
    /// Bytes that may wait.
    pub capacity: u64,
}

impl Recorder {
    /// Starts the threads that write recordings and remove old ones.
    pub fn start(settings: Settings) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&settings.dir)?;
        let queue = Arc::new(Queue::new(QUEUE_BYTES));
        let Settings { dir, result_bytes, session_bytes, retention, total_bytes, on_failure, on_removed } =
            settings;
        let (writers, written) = (Arc::clone(&queue), dir.clone());
        let compressor = writer::compressor()?;
        let writer = thread::Builder::new()
            .name("recording-writer".to_owned())
            .spawn(move || writer::run(&writers, &written, compressor))?;
        let (upkeep_goes_on, ended) = mpsc::channel();
        let kept = Arc::clone(&queue);
        let limits = retention::Limits { age: retention, total_bytes };
        let upkeep = thread::Builder::new()
            .name("recording-upkeep".to_owned())
            .spawn(move || retention::keep(&dir, limits, &kept, &ended, &*on_removed))?;
        let threads = Threads { writer, upkeep, upkeep_goes_on };
        let threads = Arc::new(Mutex::new(Some(threads)));
        Ok(Self { queue, threads, result_bytes, session_bytes, on_failure })
    }

    /// Begins the recording of a session.
    pub fn begin(&self, header: Header) -> Result<SessionRecorder, RecordingError> {
        self.queue.open().insert(header.session.clone());
        let mut session = SessionRecorder {
            queue: Arc::clone(&self.queue),
            on_failure: self.on_failure,
            session: header.session.clone(),
            began: header.at,
            requests: 0,
            denied: 0,
            lost: 0,
            why: String::new(),
            ended: false,
        };
        session.record(Record::Session(header))?;
        Ok(session)
    }

    /// Writes what is still to be written, and takes nothing more. Blocks meanwhile.
    pub fn close(&self) {
        self.queue.close();
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Threads { writer, upkeep, upkeep_goes_on }) = threads {
            drop(upkeep_goes_on);
            // A thread that has panicked has said so.
            let _ = writer.join();
            let _ = upkeep.join();
        }
    }

    /// What has been recorded so far.
    pub fn tally(&self) -> Tally {
        let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Tally {
            entries: self.queue.entries.load(Ordering::Relaxed),
            lost: self.queue.lost.load(Ordering::Relaxed),
            failures: self.queue.failures.load(Ordering::Relaxed),
            waiting: bytes(self.queue.waiting()),
            capacity: bytes(QUEUE_BYTES),
        }
    }
}

/// The recording of one session. Dropped without an end it says that the session was cut off.
#[derive(Debug)]
pub struct SessionRecorder {
    queue: Arc<Queue>,
    on_failure: OnFailure,
    session: SessionId,
    began: u64,
    requests: u64,
    denied: u64,
    /// Entries that found no room since the last one that did.
    lost: u64,
    why: String,
    ended: bool,
}

impl SessionRecorder {
    /// Hands an entry over; never waits.
    ///
    /// # Errors
    /// Where a session that cannot be recorded is to end.
    pub fn record(&mut self, record: Record<PackedRows>) -> Result<(), RecordingError> {
        if let Record::Request(asked) = &record {
            self.requests += 1;
            self.denied += u64::from(asked.outcome == Outcome::Denied);
        }
        if self.on_failure == OnFailure::EndSession
            && let Some(failure) = self.queue.failure.load_full()
        {
            return Err(RecordingError::Failed(failure.as_str().into()));
        }
        if self.lost > 0 {
            let gap = Gap { at: now(), entries: self.lost, why: self.why.clone() };
            if self.push(Record::Gap(gap), Room::Needed).is_err() {
                return self.lose(RecordingError::Full { bytes: self.queue.waiting() });
            }
            self.lost = 0;
        }
        match self.push(record, Room::Needed) {
            Ok(()) => Ok(()),
            Err(error) => self.lose(error),
        }
    }

    /// Writes the last line.
    pub fn end(mut self, reason: String) {
        self.finish(reason);
    }

    fn lose(&mut self, error: RecordingError) -> Result<(), RecordingError> {
        self.queue.lost.fetch_add(1, Ordering::Relaxed);
        match self.on_failure {
            OnFailure::EndSession => Err(error),
            OnFailure::Mark => {
                self.lost += 1;
                self.why = error.to_string();
                Ok(())
            }
        }
    }

    fn push(&self, record: Record<PackedRows>, room: Room) -> Result<(), RecordingError> {
        let size = ENTRY_BYTES + record.size();
        let message = Message { session: self.session.clone(), began: self.began, record, size };
        self.queue.push(message, room)
    }

    fn finish(&mut self, reason: String) {
        if self.ended {
            return;
        }
        self.ended = true;
        if self.lost > 0 {
            let gap = Gap { at: now(), entries: self.lost, why: self.why.clone() };
            // Only a recorder that is closed refuses this; then its writer has ended the file.
            let _ = self.push(Record::Gap(gap), Room::Given);
        }
        let end = End { at: now(), reason, requests: self.requests, denied: self.denied };
        let _ = self.push(Record::End(end), Room::Given);
    }
}

impl Drop for SessionRecorder {
    fn drop(&mut self) {
        self.finish("the session was cut off".to_owned());
    }
}

impl Record<PackedRows> {
    /// What its texts and rows take in memory.
    fn size(&self) -> usize {
        match self {
            Self::Request(asked) => asked.size(),
            Self::Reply(answered) => answered.size(),
            _ => ENTRY_BYTES,
        }
    }
}

impl Asked {
    fn size(&self) -> usize {
        self.text.len()
            + self.reason.len()
            + self.parameters.iter().map(|parameter| parameter.value.size()).sum::<usize>()
            + self.masked.iter().map(String::len).sum::<usize>()
    }
}

impl Answered<PackedRows> {
    fn size(&self) -> usize {
        self.results.iter().map(|result| result.rows.size() + ENTRY_BYTES).sum::<usize>()
            + (self.notices.len() + self.tags.len()) * ENTRY_BYTES
    }
}

/// Microseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
