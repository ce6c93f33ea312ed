//! What is recorded of a session, and what waits for that: a permission is on disk before the target is dialled, a refusal
//! before the client is told, and an end is noted when it has happened.

use super::{about::About, stop::Reason};
use crate::{
    audit::{AuditError, AuditLog},
    domain::{
        decision::Denial,
        event::{AuditEvent, EventKind, Outcome},
        mode::Mode,
    },
};

/// The record of sessions, whatever they speak. Clones share one log.
#[derive(Clone)]
pub struct Ledger {
    log: AuditLog,
}

impl Ledger {
    /// A ledger in this log.
    pub const fn new(log: AuditLog) -> Self {
        Self { log }
    }

    /// The log itself, for records of a protocol's own.
    pub const fn log(&self) -> &AuditLog {
        &self.log
    }

    /// Records an event; it is on disk when this returns.
    ///
    /// # Errors
    /// It is not, and what it describes must not happen.
    pub async fn write(&self, event: AuditEvent) -> Result<(), AuditError> {
        self.log.append(vec![event]).await.map(|_| ())
    }

    /// Records that a session may not connect, before its client is told.
    ///
    /// # Errors
    /// It is not on disk. It stays refused, but the client must not hear of the rule.
    pub async fn refused(&self, about: &About, denial: &Denial) -> Result<(), AuditError> {
        let mut event = about.event(EventKind::Connect, Outcome::Denied);
        event.policies.clone_from(&denial.policies);
        event.reason.clone_from(&denial.reason);
        self.write(event).await
    }

    /// Records that a session is over, and why; `mode` is the one that it was in, where that does not enforce. `told` is
    /// why it had to end, where somebody said so.
    pub fn closed(&self, about: &About, mode: Option<Mode>, reason: String, told: Option<&Reason>) {
        let mut event = about.event(EventKind::Close, Outcome::Noted);
        event.mode = mode;
        event.reason = reason;
        if let Some(denial) = told.and_then(Reason::denial) {
            event.policies.clone_from(&denial.policies);
        }
        if let Err(error) = self.log.note(event) {
            tracing::error!(%error, session = %about.session, "the end of a session could not be recorded");
        }
    }

    /// Records a fact that nobody waits for.
    pub fn note(&self, event: AuditEvent) {
        if let Err(error) = self.log.note(event) {
            tracing::error!(%error, "what was observed could not be recorded");
        }
    }
}
