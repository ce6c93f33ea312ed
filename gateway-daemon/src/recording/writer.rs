//! The thread that writes: lines gather for each session and go to its file as one zstd frame.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tracing::{error, info};
use zstd::{bulk::Compressor, zstd_safe::CParameter};

use super::{
    layout,
    queue::{Message, Queue},
    record::{End, Record},
    recorder::now,
};
use crate::domain::ids::SessionId;

/// How long a line may wait for others. A crash takes as much.
const GATHER: Duration = Duration::from_secs(2);
/// As much of one session is written at once.
const FRAME_BYTES: usize = 256 * 1024;
/// After a failure nothing is tried for so long.
const RETRY: Duration = Duration::from_secs(1);
/// Fast, and small enough: rows compress well.
const LEVEL: i32 = 3;

/// What all frames are compressed with.
pub(super) fn compressor() -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    Ok(compressor)
}

/// Writes until the queue is closed and empty.
pub(super) fn run(queue: &Arc<Queue>, dir: &Path, compressor: Compressor<'static>) {
    let mut writer = Writer {
        queue: Arc::clone(queue),
        dir: dir.to_owned(),
        compressor,
        files: HashMap::new(),
        retry: None,
    };
    loop {
        let (messages, closing) = queue.take(writer.due());
        for message in messages {
            writer.accept(message);
        }
        if closing {
            writer.end_all();
            return;
        }
        writer.write_due();
    }
}

struct Writer {
    queue: Arc<Queue>,
    dir: PathBuf,
    compressor: Compressor<'static>,
    files: HashMap<SessionId, File>,
    /// When to try again.
    retry: Option<Instant>,
}

struct File {
    path: PathBuf,
    /// Lines that are not on disk.
    lines: Vec<u8>,
    since: Instant,
    /// What of the file is known to be whole; `None` before the first write.
    length: Option<u64>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
}

impl Writer {
    fn accept(&mut self, message: Message) {
        let Message { session, began, record, size } = message;
        let dir = &self.dir;
        let file = self.files.entry(session).or_insert_with_key(|session| File {
            path: layout::path(dir, session, began),
            lines: Vec::new(),
            since: Instant::now(),
            length: None,
            state: State::Open,
        });
        if matches!(record, Record::End(_)) {
            file.state = State::Ended;
        }
        let before = file.lines.len();
        if before == 0 {
            file.since = Instant::now();
        }
        file.add(&record);
        self.queue.exchange(size, file.lines.len().saturating_sub(before));
    }

    /// When something must be written, if nothing more comes.
    fn due(&self) -> Option<Instant> {
        let due = self.files.values().filter(|file| !file.lines.is_empty()).map(|file| match file.state {
            State::Open => file.since + GATHER,
            State::Ended => file.since,
        });
        let due = due.min()?;
        Some(self.retry.map_or(due, |retry| due.max(retry)))
    }

    fn write_due(&mut self) {
        let now = Instant::now();
        if self.retry.is_some_and(|retry| retry > now) {
            return;
        }
        self.write(|file| {
            file.state == State::Ended || file.lines.len() >= FRAME_BYTES || file.since + GATHER <= now
        });
    }

    /// Sessions that are still open end here.
    fn end_all(&mut self) {
        let record: Record =
            Record::End(End { at: now(), reason: "the daemon stopped".to_owned(), requests: 0, denied: 0 });
        for file in self.files.values_mut().filter(|file| file.state == State::Open) {
            let before = file.lines.len();
            file.add(&record);
            self.queue.exchange(0, file.lines.len().saturating_sub(before));
        }
        self.write(|_| true);
    }

    fn write(&mut self, is_due: impl Fn(&File) -> bool) {
        let Self { queue, compressor, files, retry, .. } = self;
        let mut done = Vec::new();
        let mut failed = None;
        for (session, file) in files.iter_mut() {
            if file.lines.is_empty() || !is_due(file) {
                continue;
            }
            let bytes = file.lines.len();
            match file.write(compressor) {
                Ok(()) => {
                    queue.written(bytes);
                    if file.state == State::Ended {
                        done.push(session.clone());
                    }
                }
                Err(source) => {
                    failed = Some(format!("{}: {source}", file.path.display()));
                    break;
                }
            }
        }
        for session in &done {
            files.remove(session);
            queue.open().remove(session);
        }
        match failed {
            Some(failure) => {
                queue.failures.fetch_add(1, Ordering::Relaxed);
                if queue.failure.load().is_none() {
                    error!("recordings cannot be written: {failure}");
                }
                queue.failure.store(Some(Arc::new(failure)));
                *retry = Some(Instant::now() + RETRY);
            }
            None => {
                *retry = None;
                if queue.failure.swap(None).is_some() {
                    info!("recordings can be written again");
                }
            }
        }
    }
}

impl File {
    fn add<R: serde::Serialize>(&mut self, record: &Record<R>) {
        let before = self.lines.len();
        // A vector takes everything, and the types have nothing that JSON lacks.
        if serde_json::to_writer(&mut self.lines, record).is_err() {
            self.lines.truncate(before);
            return;
        }
        self.lines.push(b'\n');
    }

    /// Appends the lines as one frame; after an error the file is as it was, and the lines are still here.
    fn write(&mut self, compressor: &mut Compressor<'static>) -> io::Result<()> {
        let frame = compressor.compress(&self.lines)?;
        if let Some(parent) = self.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&self.path)?;
        let length = match self.length {
            Some(length) => length,
            None => file.metadata()?.len(),
        };
        if let Err(error) = file.write_all(&frame) {
            // A part of a frame would hide what comes after it.
            file.set_len(length)?;
            return Err(error);
        }
        self.length = Some(length + u64::try_from(frame.len()).unwrap_or_default());
        // A large result is not kept room for.
        self.lines = Vec::new();
        Ok(())
    }
}
