//! What the kernel side refused.

use std::{fmt, net::SocketAddr};

use aya::maps::{MapData, RingBuf};
use gateway_common::{
    address::Address,
    direct::WENT_ON,
    guard::ABSTRACT,
    refusal::{Reason, Refusal},
};

use super::{
    accept::{comm, socket_addr},
    reports::Reports,
};
use crate::domain::{
    address::{ClientAddr, OriginalDestination},
    flow::Flow,
    ids::{CgroupId, FlowId, NetnsCookie},
};

/// Why the kernel side refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// The daemon had no listener in that network namespace yet.
    NoListener,
    /// The daemon had not answered for too long.
    DaemonSilent,
    /// A datagram to somewhere that policy has not opened.
    Datagram,
    /// A socket that is neither TCP nor UDP.
    SocketKind,
    /// The socket belongs to a captured cgroup, the caller does not.
    CallerOutside,
    /// The kernel had no memory to remember the connection.
    NoMemory,
    /// The socket is bound to a device that could not be lifted.
    BoundToDevice,
    /// The caller is captured, the socket was made where nothing is.
    SocketOutside,
    /// The workload asks more DNS servers than anybody needs.
    TooManyServers,
    /// Another workload has just asked from the very same end.
    SharedEnd,
    /// A datagram that was allowed could not be reported.
    Unreported,
    /// A Unix socket by which the node is controlled.
    ControlSocket,
    /// A connected socket from outside of every captured cgroup came in a message.
    SocketReceived,
    /// A process outside of the workload would have been traced, or written to.
    Tracing,
    /// A process would have left its captured cgroup, or a cgroup outside of it would have been changed.
    Leaving,
    /// Routes, traffic control, packet filters or tunnels would have been changed.
    Rerouting,
    /// A BPF program would have been loaded or attached that sees or changes what others do.
    Programming,
    /// A connection from before capture, which was ended.
    ExistingEnded,
    /// A process ended because it held what cannot be ended otherwise.
    ExistingKilled,
    /// A connection from before capture, which goes on.
    ExistingLeft,
    /// Nothing is known of the caller's pod yet.
    PodUnknown,
    /// A reason that this daemon does not know: the programs are a newer daemon's.
    Unknown(u32),
}

impl From<u32> for RefusalReason {
    fn from(number: u32) -> Self {
        match Reason::from_number(number) {
            Some(Reason::NoListener) => Self::NoListener,
            Some(Reason::DaemonSilent) => Self::DaemonSilent,
            Some(Reason::Datagram) => Self::Datagram,
            Some(Reason::SocketKind) => Self::SocketKind,
            Some(Reason::CallerOutside) => Self::CallerOutside,
            Some(Reason::NoMemory) => Self::NoMemory,
            Some(Reason::BoundToDevice) => Self::BoundToDevice,
            Some(Reason::SocketOutside) => Self::SocketOutside,
            Some(Reason::TooManyServers) => Self::TooManyServers,
            Some(Reason::SharedEnd) => Self::SharedEnd,
            Some(Reason::Unreported) => Self::Unreported,
            Some(Reason::ControlSocket) => Self::ControlSocket,
            Some(Reason::SocketReceived) => Self::SocketReceived,
            Some(Reason::Tracing) => Self::Tracing,
            Some(Reason::Leaving) => Self::Leaving,
            Some(Reason::Rerouting) => Self::Rerouting,
            Some(Reason::Programming) => Self::Programming,
            Some(Reason::PodUnknown) => Self::PodUnknown,
            None => Self::Unknown(number),
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoListener => "nodegate has no listener in this network namespace yet",
            Self::DaemonSilent => "the nodegate daemon does not answer",
            Self::Datagram => "no policy opens this destination to datagrams",
            Self::SocketKind => "only TCP and UDP sockets may be made",
            Self::CallerOutside => "the socket belongs to a captured cgroup, its user does not",
            Self::NoMemory => "the kernel had no memory to remember the connection",
            Self::BoundToDevice => "the socket is bound to a network device",
            Self::SocketOutside => "the socket was made outside of every captured cgroup",
            Self::TooManyServers => "this workload asks too many DNS servers",
            Self::SharedEnd => "another workload has just asked from the same address and port",
            Self::Unreported => "the datagram could not be recorded",
            Self::ControlSocket => "captured processes are kept from this Unix socket",
            Self::SocketReceived => "a connected socket was passed in from outside of every captured cgroup",
            Self::Tracing => "captured processes may trace and change those of their own workload only",
            Self::Leaving => "captured processes stay in their cgroup, and change no other",
            Self::Rerouting => {
                "captured processes change no routes, traffic control, packet filters or tunnels"
            }
            Self::Programming => "captured processes load no BPF programs that see or change what others do",
            Self::ExistingEnded => "a connection from before capture was ended",
            Self::ExistingKilled => {
                "a process was ended for a socket from before capture, which the kernel does not end"
            }
            Self::ExistingLeft => "a connection from before capture goes on unseen",
            Self::PodUnknown => "the pod is not known to the daemon yet",
            Self::Unknown(number) => return write!(f, "reason {number}"),
        })
    }
}

/// One refusal on the kernel side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelRefusal {
    /// The caller's own cgroup.
    pub cgroup: CgroupId,
    /// Its captured ancestor, or itself; `None` when the caller is in none.
    pub captured_cgroup: Option<CgroupId>,
    /// The socket's network namespace.
    pub netns: NetnsCookie,
    /// Thread-group id in the initial pid namespace.
    pub pid: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// User id in the initial user namespace.
    pub uid: u32,
    /// The task's name, for display only.
    pub comm: String,
    /// Where it meant to go; `None` when a socket was refused before it had a destination.
    pub destination: Option<SocketAddr>,
    /// The entry of the list of control sockets that fits, where it is one.
    pub control_socket: Option<String>,
    /// Address family of the socket.
    pub family: u16,
    /// Protocol of the socket: 6 TCP, 17 UDP, 262 MPTCP…
    pub protocol: u16,
    /// Why.
    pub reason: RefusalReason,
    /// Nanoseconds since boot (CLOCK_BOOTTIME).
    pub at_boot_ns: u64,
    /// What became of the call.
    pub fate: Fate,
}

/// What became of a call that the kernel side found wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It failed.
    Refused,
    /// It went on, since nothing is enforced there.
    WentOn,
}

impl KernelRefusal {
    /// The refused attempt as a flow, to ask for the identity of whoever made it.
    pub fn flow(&self) -> Flow {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Flow {
            id: FlowId(0),
            captured_cgroup: self.captured_cgroup.unwrap_or(self.cgroup),
            cgroup: self.cgroup,
            pid: self.pid,
            tid: self.tid,
            uid: self.uid,
            comm: self.comm.clone(),
            netns: self.netns,
            connected_at_boot_ns: self.at_boot_ns,
            original_destination: OriginalDestination::new(self.destination.unwrap_or(nowhere)),
            client: ClientAddr(nowhere),
        }
    }

    fn new(refusal: &Refusal, control_sockets: &[String]) -> Self {
        let reason = RefusalReason::from(refusal.reason & !WENT_ON);
        let control_socket = (reason == RefusalReason::ControlSocket)
            .then(|| usize::from(refusal.port).checked_sub(1))
            .flatten()
            .and_then(|number| control_sockets.get(number).cloned())
            .or_else(|| (refusal.port == ABSTRACT).then(|| "@*".to_owned()));
        let destination = (refusal.address != Address::default()
            || (refusal.port != 0 && reason != RefusalReason::ControlSocket))
            .then(|| socket_addr(refusal.address, refusal.port));
        Self {
            cgroup: CgroupId(refusal.cgroup),
            captured_cgroup: (refusal.captured_cgroup != 0).then_some(CgroupId(refusal.captured_cgroup)),
            netns: NetnsCookie(refusal.netns),
            pid: refusal.tgid,
            tid: refusal.tid,
            uid: refusal.uid,
            comm: comm(&refusal.comm),
            destination,
            family: refusal.family,
            protocol: refusal.protocol,
            control_socket,
            reason,
            at_boot_ns: refusal.at,
            fate: if refusal.reason & WENT_ON == 0 { Fate::Refused } else { Fate::WentOn },
        }
    }
}

/// Hands each refusal to `tell`, until the buffer cannot be waited for.
pub(super) async fn report_all(
    buffer: RingBuf<MapData>,
    control_sockets: Vec<String>,
    mut tell: impl FnMut(KernelRefusal) + Send,
) {
    let Some(mut refusals) = Reports::new(buffer, "refusals", Refusal::from_bytes) else { return };
    while let Some(refusal) = refusals.next().await {
        tell(KernelRefusal::new(&refusal, &control_sockets));
    }
}
