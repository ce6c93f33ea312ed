//! What can go wrong with the log.

use std::{io, path::PathBuf, sync::Arc};

use thiserror::Error;

/// Why the log could not be opened, written or read. None of these is ever passed over: a request whose
/// record cannot be written is refused.
#[derive(Debug, Error)]
pub enum AuditError {
    /// A file operation failed.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb: `write`, `open`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another process writes this log.
    #[error("another daemon is writing the audit log in {}", .0.display())]
    Locked(PathBuf),
    /// The log is not what was written; it is left as it is.
    #[error(
        "the audit log is damaged: {what}; nothing was changed: run `nodegate audit verify`, keep a copy, and \
         move the directory away to begin a new log"
    )]
    Damaged {
        /// File, line and what is wrong with it.
        what: String,
    },
    /// An earlier write failed; every append fails from then on.
    #[error("the audit log takes no more records since a write failed: {0}")]
    Poisoned(Arc<str>),
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
    /// The queue in front of the writer has no room (`note` only; `append` waits).
    #[error("the audit queue is full")]
    QueueFull,
    /// The event cannot be written down.
    #[error("an audit event of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its length as JSON.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The event has no JSON form.
    #[error("an audit event cannot be serialised")]
    Serialise(#[source] serde_json::Error),
    /// The search index failed. Never on the way of an append.
    #[error("the audit index: {0}")]
    Index(#[from] rusqlite::Error),
}

impl AuditError {
    /// Wraps an I/O error with what was being done to which path.
    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}
