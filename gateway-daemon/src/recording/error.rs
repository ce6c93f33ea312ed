//! What can go wrong with recordings.

use std::{io, path::PathBuf, sync::Arc};

/// Why an entry was not taken, or recording could not begin.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RecordingError {
    /// More waits for the disk than may.
    #[error("the recorder has no room: {bytes} bytes wait to be written")]
    Full {
        /// What waits.
        bytes: usize,
    },
    /// The last attempt to write a recording failed.
    #[error("recordings cannot be written: {0}")]
    Failed(Arc<str>),
    /// The recorder has been closed.
    #[error("the recorder is closed")]
    Closed,
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file or directory.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// No recording has this id, or an id that begins so.
    #[error("there is no recording {id} below {}; `nodegate sessions list` shows which there are", dir.display())]
    Unknown {
        /// What was asked for.
        id: String,
        /// Where.
        dir: PathBuf,
    },
    /// Several ids begin so.
    #[error("{id} is the beginning of several: {}", found.join(", "))]
    Ambiguous {
        /// What was asked for.
        id: String,
        /// Some of them.
        found: Vec<String>,
    },
}

impl ReadError {
    /// Wraps an I/O error with its path.
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
