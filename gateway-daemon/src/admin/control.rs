//! What the admin API can do: the trait that `wiring` implements over intercept, identity and the rest.

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::domain::{flow::Workload, ids::CgroupId, principal::Principal, sensitive::Sensitive};

/// The daemon, as the admin API sees it. The server decides who may call what; implementations do as they are told.
///
/// Methods that return a future are run to their end even when the client goes away in the meantime.
pub trait Control: Send + Sync + 'static {
    /// The captured workload that a process belongs to, looked up in its cgroup now; `None` outside all of them.
    fn workload_of_pid(&self, pid: u32) -> io::Result<Option<Workload>>;

    /// A fresh captured cgroup, armed before `pid` is moved into it.
    fn start_run(
        &self,
        pid: u32,
        label: Option<String>,
    ) -> impl Future<Output = Result<Workload, ControlError>> + Send;

    /// The certificate (PEM) of the node's authority.
    fn authority(&self) -> String;

    /// Kills what is left in a run's cgroup and removes it; returns when it is gone.
    fn end_run(&self, cgroup: CgroupId) -> impl Future<Output = Result<(), ControlError>> + Send;

    /// Captures an existing cgroup; `path` is absolute below the cgroup2 mount, or relative to it.
    fn capture(
        &self,
        path: PathBuf,
        label: Option<String>,
    ) -> impl Future<Output = Result<Workload, ControlError>> + Send;

    /// Lets a captured cgroup go.
    fn release(&self, cgroup: CgroupId) -> impl Future<Output = Result<(), ControlError>> + Send;

    /// Everything that is captured.
    fn captures(&self) -> Vec<Workload>;

    /// Verifies a token and binds its identity to a captured cgroup. The error is fit for the agent.
    fn enrol(
        &self,
        cgroup: CgroupId,
        token: Sensitive<String>,
    ) -> impl Future<Output = Result<Arc<Principal>, ControlError>> + Send;

    /// The identity that a captured cgroup has now, expired or not; asks no issuer.
    fn principal(&self, cgroup: CgroupId) -> Option<Arc<Principal>>;

    /// What the daemon is doing.
    fn status(&self) -> Status;
}

/// Why something could not be done. The text goes to the caller: one sentence, no secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Asked and refused: a token that does not verify, a cgroup that must not be captured.
    #[error("{0}")]
    Refused(String),
    /// There is no such cgroup, run or capture.
    #[error("{0}")]
    NotFound(String),
    /// It should have worked.
    #[error("{0}")]
    Failed(String),
}

/// What the daemon is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started, seconds since 1970.
    pub started_at: u64,
    /// The node's mode: `observe`, `shadow` or `enforce`.
    pub mode: String,
    /// Changes with every policy set that is loaded.
    pub policy_epoch: u64,
    /// What is captured.
    pub workloads: Vec<WorkloadStatus>,
    /// What is configured.
    pub targets: Vec<TargetStatus>,
    /// Totals since the start, by name in the style of metrics (`flows_total`, `denials_total`).
    pub counters: BTreeMap<String, u64>,
}

/// A captured cgroup and who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadStatus {
    /// The cgroup.
    #[serde(flatten)]
    pub workload: Workload,
    /// Its identity, where one was verified.
    pub identity: Option<IdentityView>,
    /// Open sessions.
    pub sessions: u64,
}

/// A configured target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetStatus {
    /// Its name.
    pub name: String,
    /// What is spoken there.
    pub protocol: String,
    /// Hosts and networks, with ports, as configured.
    pub addresses: Vec<String>,
    /// Open sessions.
    pub sessions: u64,
}

/// A verified identity as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityView {
    /// `<issuer url>|<subject>`.
    pub id: String,
    /// Name of the issuer in the configuration.
    pub issuer: String,
    /// The `sub` claim.
    pub subject: String,
    /// Its groups.
    pub groups: Vec<String>,
    /// Its roles.
    pub roles: Vec<String>,
    /// The `exp` claim, seconds since 1970.
    pub expires_at: u64,
}

impl From<&Principal> for IdentityView {
    fn from(principal: &Principal) -> Self {
        Self {
            id: principal.id(),
            issuer: principal.issuer.clone(),
            subject: principal.subject.clone(),
            groups: principal.groups.clone(),
            roles: principal.roles.clone(),
            expires_at: seconds(principal.expires_at),
        }
    }
}

/// Seconds since 1970, 0 for times before.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
