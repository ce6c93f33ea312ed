//! Starts the recorder, and ends it with the daemon.

use std::{path::Path, time::Duration};

use tracing::error;

use super::Error;
use crate::{
    audit::AuditLog,
    config::checked::{self, UnrecordedSession},
    connection::Gateway,
    domain::event::{AuditEvent, EventKind, Outcome},
    recording::{OnFailure, Recorder, Removed, Settings},
};

/// Where recordings are, below `audit.dir`.
const RECORDINGS_DIR: &str = "recordings";

/// Starts it. What retention removes is recorded in the audit log.
pub(super) fn start(
    recording: &checked::Recording,
    audit_dir: &Path,
    audit: &AuditLog,
) -> Result<Recorder, Error> {
    let audit = audit.clone();
    Recorder::start(Settings {
        dir: audit_dir.join(RECORDINGS_DIR),
        result_bytes: recording.result_bytes,
        session_bytes: recording.session_bytes,
        retention: Duration::from_secs(u64::from(recording.retention_days) * 24 * 3600),
        total_bytes: recording.total_bytes,
        on_failure: match recording.on_failure {
            UnrecordedSession::Ends => OnFailure::EndSession,
            UnrecordedSession::GoesOn => OnFailure::Mark,
        },
        on_removed: Box::new(move |removed| note(&audit, removed)),
    })
    .map_err(|source| Error::Io { doing: "make the directory of recordings", source })
}

/// Writes what sessions have left. Those that are still open end there.
pub(super) fn close(gateway: &Gateway) {
    if let Some(recorder) = &gateway.recorder {
        tokio::task::block_in_place(|| recorder.close());
    }
}

fn note(audit: &AuditLog, removed: Removed) {
    let Removed { old, surplus, bytes } = removed;
    let mut event = AuditEvent::new(EventKind::Daemon, Outcome::Noted);
    event.reason = format!(
        "recordings removed: {old} past recording.retention_days, {surplus} for which recording.total_size has no room; \
         {bytes} bytes"
    );
    if let Err(error) = audit.note(event) {
        error!(%error, "that recordings were removed could not be recorded");
    }
}
