//! Connections to targets: from which network namespace, and whether the workload itself could be what answers there.
//!
//! A server that proves by TLS who it is may be reached from anywhere. One that proves nothing is whoever the address
//! leads to, and he is given the daemon's credential and believed about the schema. So such a connection is made only
//! where the workload has no say over where addresses lead, and is given up where a captured process is at its end.
//! What lies behind the namespace is the network's, and its operator's, to vouch for.

use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpSocket, TcpStream, UdpSocket},
    task::spawn_blocking,
    time::sleep,
};

use super::{
    capture::Core,
    diag::{self, FarEnd},
    handle::Intercept,
    namespaces::identity,
    reach, sys,
};
use crate::domain::{
    ids::{CgroupId, NetnsCookie},
    way::UpstreamFrom,
};

/// How often the far end of a connection is looked for while it is being made, and how long in between: the kernel makes
/// it within microseconds, unless the server puts that off.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Why a server that proves nothing of itself could be the workload's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// Whoever made the namespace rules it.
    #[error("this network namespace is not the node's: whoever made it says where its addresses lead")]
    Namespace,
    /// A process may change it.
    #[error("process {pid} of the workload has CAP_NET_ADMIN in this network namespace")]
    Ruler {
        /// The process.
        pid: u32,
    },
    /// A captured process is at the other end.
    #[error("a captured process is what answers at that address")]
    OwnServer,
    /// Nobody can say who is.
    #[error("it cannot be found out which process of this node answers at that address")]
    Unclear,
}

/// Why there is no connection to a server that proves nothing of itself.
#[derive(Debug, thiserror::Error)]
pub enum NoUpstream {
    /// As connect(2) says.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It could be the workload's own.
    #[error(transparent)]
    Doubt(#[from] Doubt),
}

impl Intercept {
    /// The daemon's own network namespace.
    pub fn home(&self) -> NetnsCookie {
        self.running.core.namespaces.home
    }

    /// The network namespace that connections to a target are made in for an agent in `netns`.
    pub fn dialled_from(&self, from: UpstreamFrom, netns: NetnsCookie) -> NetnsCookie {
        match from {
            UpstreamFrom::Workload => netns,
            UpstreamFrom::Node => self.home(),
        }
    }

    /// Whether that is the daemon's own network namespace.
    pub fn is_home(&self, netns: NetnsCookie) -> bool {
        netns == self.home()
    }

    /// Whether a network namespace is ruled from the daemon's own user namespace. Whoever makes a user namespace is root
    /// in the network namespaces that he makes from there: their addresses lead wherever he likes.
    pub fn is_node_ruled(&self, netns: NetnsCookie) -> bool {
        let Some(namespace) = self.running.core.namespaces.file(netns) else { return false };
        let ruled = sys::ruling_user_namespace(&*namespace).and_then(|ruler| identity(&ruler));
        let own = File::open("/proc/self/ns/user").and_then(|own| identity(&own));
        match (ruled, own) {
            (Ok(ruled), Ok(own)) => ruled == own,
            (Err(error), _) | (_, Err(error)) => {
                tracing::debug!(%netns, %error, "cannot tell who rules a network namespace");
                false
            }
        }
    }

    /// Whether workloads could have a say over where the addresses of a network namespace lead, as far as that can be
    /// seen now: what a process did that has ended, nobody sees.
    pub fn doubt(&self, netns: NetnsCookie) -> Option<Doubt> {
        if self.is_home(netns) {
            // Who rules that one rules the daemon.
            return None;
        }
        if !self.is_node_ruled(netns) {
            return Some(Doubt::Namespace);
        }
        let core = &self.running.core;
        let users = core.namespaces.users(netns);
        let cgroups: Vec<_> = {
            let captured = core.captured();
            users.iter().filter_map(|id| captured.get(id)).map(|captured| captured.cgroup.clone()).collect()
        };
        let mut processes = cgroups.iter().flat_map(super::cgroups::Cgroup::processes);
        processes.find(|pid| reach::rules_addresses(*pid)).map(|pid| Doubt::Ruler { pid })
    }

    /// Connects from a network namespace, uncaptured, with TCP_NODELAY: to a server that proves by TLS who it is, or
    /// that is given nothing but the client's own bytes. Dropping the future gives the attempt up.
    pub async fn connect_upstream(&self, netns: NetnsCookie, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = move || if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let stream = self.within(netns, socket).await?.connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// The same to a server that proves nothing of itself, and is to be given what the workload must not have. Nothing
    /// has been sent when it returns.
    ///
    /// # Errors
    /// [`NoUpstream`]; where a namespace is in doubt, nothing was dialled.
    pub async fn connect_unproven(
        &self,
        netns: NetnsCookie,
        to: SocketAddr,
    ) -> Result<TcpStream, NoUpstream> {
        if let Some(doubt) = self.doubt(netns) {
            return Err(doubt.into());
        }
        let stream = self.connect_upstream(netns, to).await?;
        let (near, far) = (stream.local_addr()?, stream.peer_addr()?);
        if !self.within(netns, move || Ok(is_local(far))).await? {
            return Ok(stream);
        }
        let mut unclear = None;
        for _ in 0..LOOKS {
            let look = move || diag::far_end(&diag::open()?, near, far);
            match self.within(netns, look).await? {
                // Led on to another namespace, by somebody who may.
                FarEnd::Elsewhere => return Ok(stream),
                FarEnd::Here(found) => match self.running.core.is_captured(found.cgroup).await {
                    Some(true) => return Err(Doubt::OwnServer.into()),
                    Some(false) => return Ok(stream),
                    None => unclear = Some(found.cgroup),
                },
                FarEnd::Unready => {}
            }
            sleep(BETWEEN_LOOKS).await;
        }
        tracing::warn!(address = %far, cgroup = ?unclear, "cannot find out whose server this is");
        Err(Doubt::Unclear.into())
    }

    /// A datagram socket in an agent's own network namespace, uncaptured, on a port of the kernel's choice, that
    /// talks to this peer alone.
    pub async fn datagram_upstream(&self, netns: NetnsCookie, to: SocketAddr) -> io::Result<UdpSocket> {
        let socket = move || {
            let any: IpAddr =
                if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = std::net::UdpSocket::bind((any, 0))?;
            socket.connect(to)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        UdpSocket::from_std(self.within(netns, socket).await?)
    }

    /// Makes a socket inside a network namespace. `make` must not block.
    async fn within<T: Send + 'static>(
        &self,
        netns: NetnsCookie,
        make: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let core = &self.running.core;
        if self.is_home(netns) {
            return make();
        }
        let namespace = core.namespaces.file(netns).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("network namespace {netns} is gone"))
        })?;
        core.traveller.within(namespace, make).await
    }
}

impl Core {
    /// Whether a cgroup is captured, or lies below one that is; `None` where nobody finds it.
    async fn is_captured(self: &Arc<Self>, cgroup: CgroupId) -> Option<bool> {
        let core = Arc::clone(self);
        // A cgroup keeps its place and its id for as long as it lives.
        let place = spawn_blocking(move || core.places.find(&core.tree, cgroup)).await.ok().flatten()?;
        Some(self.nearest_captured(&place).is_some())
    }
}

/// Whether an address is one of the calling thread's network namespace: only to such can a socket be bound.
fn is_local(mut address: SocketAddr) -> bool {
    address.set_port(0);
    std::net::UdpSocket::bind(address).is_ok()
}
