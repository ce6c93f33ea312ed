//! Names and modes of the log's files, the lock, and the two small marker files, which are replaced as a whole.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{error::AuditError, record::Digest};

/// Files are the owner's alone.
pub(super) const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;
const SEGMENT_EXTENSION: &str = "jsonl";

/// A record by number and hash: the content of `head.json` and `anchor.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Marker {
    pub(super) seq: u64,
    pub(super) hash: Digest,
}

impl Marker {
    /// Before the first record.
    pub(super) const GENESIS: Self = Self { seq: 0, hash: Digest::ZERO };
}

/// One segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentFile {
    /// The sequence number of its first record, which is its name.
    pub(super) first_seq: u64,
    pub(super) path: PathBuf,
}

impl SegmentFile {
    /// The segment at `path`; `None` when it does not have a segment's name.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let digits = path.file_name()?.to_str()?.strip_suffix(SEGMENT_EXTENSION)?.strip_suffix('.')?;
        let is_plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let first_seq = if is_plain { digits.parse().ok()? } else { return None };
        Some(Self { first_seq, path: path.to_owned() })
    }
}

/// The paths below one log's directory.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn log_dir(&self) -> PathBuf {
        self.root.join("log")
    }

    pub(super) fn head(&self) -> PathBuf {
        self.root.join("head.json")
    }

    pub(super) fn anchor(&self) -> PathBuf {
        self.root.join("anchor.json")
    }

    pub(super) fn index(&self) -> PathBuf {
        self.root.join("index.sqlite")
    }

    pub(super) fn torn(&self, seq: u64, time: u64) -> PathBuf {
        self.root.join(format!("torn-{seq}-{time}.bin"))
    }

    pub(super) fn segment(&self, first_seq: u64) -> SegmentFile {
        SegmentFile { first_seq, path: self.log_dir().join(format!("{first_seq:020}.{SEGMENT_EXTENSION}")) }
    }

    /// Makes the directories, for the owner alone.
    pub(super) fn create(&self) -> Result<(), AuditError> {
        for dir in [self.root.clone(), self.log_dir()] {
            DirBuilder::new()
                .recursive(true)
                .mode(DIR_MODE)
                .create(&dir)
                .map_err(AuditError::io("create", &dir))?;
            // One that was there already may be read by a group, but not written.
            let mode = fs::metadata(&dir).map_err(AuditError::io("examine", &dir))?.permissions().mode();
            if mode & 0o022 != 0 {
                fs::set_permissions(&dir, Permissions::from_mode(mode & 0o7755))
                    .map_err(AuditError::io("protect", &dir))?;
            }
        }
        for dir in self.root.parent().into_iter().chain([self.root.as_path()]) {
            if !dir.as_os_str().is_empty() {
                sync_dir(dir)?;
            }
        }
        Ok(())
    }

    /// Takes the writer's lock; it is held until the file is dropped.
    pub(super) fn lock(&self) -> Result<File, AuditError> {
        let path = self.root.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(AuditError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(AuditError::Locked(self.root.clone())),
            Err(TryLockError::Error(error)) => Err(AuditError::io("lock", path)(error)),
        }
    }

    /// Whether a daemon writes this log now. A reader that cannot tell says no.
    pub(super) fn is_being_written(&self) -> bool {
        let Ok(file) = File::open(self.root.join("lock")) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// The segments in order of their names. A file in `log/` that is none is an error: it would be a place
    /// to hide records.
    pub(super) fn segments(&self) -> Result<Vec<SegmentFile>, AuditError> {
        let dir = self.log_dir();
        let mut segments = Vec::new();
        for entry in fs::read_dir(&dir).map_err(AuditError::io("list", &dir))? {
            let path = entry.map_err(AuditError::io("list", &dir))?.path();
            let Some(segment) = SegmentFile::of(&path) else {
                return Err(AuditError::Damaged { what: format!("{} is not a segment", path.display()) });
            };
            segments.push(segment);
        }
        segments.sort_by_key(|segment| segment.first_seq);
        Ok(segments)
    }
}

/// Reads a marker; `None` when there is no such file.
pub(super) fn read_marker(path: &Path) -> Result<Option<Marker>, AuditError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AuditError::io("read", path)(error)),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| AuditError::Damaged { what: format!("{}: {error}", path.display()) })
}

/// Replaces a marker as a whole: after a crash the old or the new one is there.
pub(super) fn write_marker(path: &Path, marker: Marker) -> Result<(), AuditError> {
    let text = serde_json::to_vec(&marker).map_err(AuditError::Serialise)?;
    let mut new_path = path.as_os_str().to_owned();
    new_path.push(".new");
    let new_path = PathBuf::from(new_path);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(FILE_MODE)
        .open(&new_path)
        .map_err(AuditError::io("open", &new_path))?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(AuditError::io("write", &new_path))?;
    fs::rename(&new_path, path).map_err(AuditError::io("replace", path))
}

/// Makes created, renamed and removed names of a directory last.
pub(super) fn sync_dir(dir: &Path) -> Result<(), AuditError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(AuditError::io("sync", dir))
}
