//! What the kernel recorded of one captured connection.

use serde::{Deserialize, Serialize};

use super::{
    address::{ClientAddr, OriginalDestination},
    ids::{CgroupId, FlowId, NetnsCookie},
};

/// One captured connection. Every field comes from the kernel at `connect()`; nothing of it is
/// anything that the agent said about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Unique within one run of the daemon.
    pub id: FlowId,
    /// The cgroup whose label caught the connection (an ancestor of `cgroup`, or the same).
    pub captured_cgroup: CgroupId,
    /// The cgroup of the task that called `connect()`.
    pub cgroup: CgroupId,
    /// Thread-group id in the initial pid namespace.
    pub pid: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// User id in the initial user namespace.
    pub uid: u32,
    /// The task's name; an agent can choose it, so it is for display only.
    pub comm: String,
    /// The network namespace of the socket.
    pub netns: NetnsCookie,
    /// Nanoseconds since boot (CLOCK_BOOTTIME) at `connect()`: a process that started later is another one.
    pub connected_at_boot_ns: u64,
    /// Where the agent meant to go.
    pub original_destination: OriginalDestination,
    /// The agent's end.
    pub client: ClientAddr,
}

/// A captured cgroup and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Id of the captured cgroup.
    pub cgroup: CgroupId,
    /// Path below the cgroup2 mount, starting with `/`.
    pub path: String,
    /// The `user.nodegate.identity` label, or the name given to `nodegate run --identity`; display and policy
    /// attribute only, never an authentication.
    pub label: Option<String>,
}

/// Whether a text can label a cgroup: labels are shown in terminals and compared in policies.
pub fn is_label(text: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./@:+".contains(letter);
    (1..=MAX_LABEL_CHARS).contains(&text.len()) && text.chars().all(plain)
}

/// How long a label may be.
pub const MAX_LABEL_CHARS: usize = 63;
