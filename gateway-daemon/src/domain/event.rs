//! What is recorded for audit. Values of masked columns and credentials are never part of an event.

use serde::{Deserialize, Serialize};

use super::{
    address::OriginalDestination,
    ids::{CgroupId, PolicyId, SessionId, TargetName},
    mode::Mode,
};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The daemon started or stopped, a configuration or policy was loaded or refused.
    Daemon,
    /// A cgroup was captured or released.
    Capture,
    /// The kernel side refused a connection.
    KernelRefusal,
    /// An identity was accepted or refused for a cgroup.
    Identity,
    /// A flow was attributed and judged: may it talk to the target?
    Connect,
    /// A name was asked for, and that was judged; written before the question goes on to its server.
    Resolve,
    /// A request (statement, HTTP request) was judged; written before it is forwarded.
    Request,
    /// How a request ended: rows, bytes, duration.
    Completion,
    /// A session ended.
    Close,
}

/// How it was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Let through.
    Allowed,
    /// Refused.
    Denied,
    /// Neither: a fact.
    Noted,
    /// Let through, since nothing is enforced here; enforcing would have refused it.
    WouldDeny,
}

/// One audit record's content. The audit log adds sequence number, time and hashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// What happened.
    pub kind: EventKind,
    /// How it was decided.
    pub outcome: Outcome,
    /// The mode that it was decided in, where that is not [`Mode::Enforce`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// `<issuer url>|<subject>`, when an identity was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The captured cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupId>,
    /// Thread-group id and command name of the caller, `pid (comm)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// The session that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The target's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetName>,
    /// Where the agent meant to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<OriginalDestination>,
    /// The policies that decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyId>,
    /// Columns masked, as `schema.table.column`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masked: Vec<String>,
    /// One sentence: why, or what.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The request's text: the SQL statement, `GET /path`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Rows returned or affected; completions only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Microseconds from forwarding to the end of the reply; completions only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<u64>,
}

impl AuditEvent {
    /// An event of `kind` and `outcome` with everything else empty.
    pub fn new(kind: EventKind, outcome: Outcome) -> Self {
        Self {
            kind,
            outcome,
            mode: None,
            identity: None,
            cgroup: None,
            process: None,
            session: None,
            target: None,
            destination: None,
            policies: Vec::new(),
            masked: Vec::new(),
            reason: String::new(),
            text: String::new(),
            rows: None,
            duration_us: None,
        }
    }
}
