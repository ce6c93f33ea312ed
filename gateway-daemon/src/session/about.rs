//! What every audit record of a session has in common.

use std::{sync::Arc, time::SystemTime};

use crate::{
    domain::{
        event::{AuditEvent, EventKind, Outcome},
        flow::{Flow, Workload},
        ids::{SessionId, TargetName},
        principal::Principal,
    },
    recording::Header,
};

/// No statement's text is recorded beyond this.
const TEXT_BYTES: usize = 16 * 1024;

/// The session's constants.
#[derive(Debug, Clone)]
pub struct About {
    /// The session.
    pub session: SessionId,
    /// What the kernel recorded.
    pub flow: Arc<Flow>,
    /// `<issuer url>|<subject>`, once known.
    pub identity: Option<String>,
    /// The target, once named.
    pub target: Option<TargetName>,
}

impl About {
    /// An event of this session.
    pub fn event(&self, kind: EventKind, outcome: Outcome) -> AuditEvent {
        AuditEvent {
            identity: self.identity.clone(),
            cgroup: Some(self.flow.captured_cgroup),
            process: Some(format!("{} ({})", self.flow.pid, self.flow.comm)),
            session: Some(self.session.clone()),
            target: self.target.clone(),
            destination: Some(self.flow.original_destination),
            ..AuditEvent::new(kind, outcome)
        }
    }

    /// The first line of the session's recording.
    pub fn recording(
        &self,
        principal: &Principal,
        target: &TargetName,
        database: &str,
        workload: &Workload,
    ) -> Header {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Header {
            session: self.session.clone(),
            at: u64::try_from(now.as_micros()).unwrap_or(u64::MAX),
            identity: principal.id(),
            target: target.clone(),
            database: database.to_owned(),
            destination: self.flow.original_destination,
            cgroup: self.flow.captured_cgroup,
            workload: workload.path.clone(),
            label: workload.label.clone(),
            process: format!("{} ({})", self.flow.pid, self.flow.comm),
        }
    }

    /// An event about a request's text, which is cut where it is too long to keep.
    pub fn request(&self, outcome: Outcome, text: &str) -> AuditEvent {
        let mut event = self.event(EventKind::Request, outcome);
        let mut end = text.len().min(TEXT_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.get(..end).unwrap_or_default().clone_into(&mut event.text);
        if end < text.len() {
            event.reason = format!("text cut at {end} of {} bytes", text.len());
        }
        event
    }
}
