//! DNS over UDP: one socket in each network namespace, whose datagrams the kernel side has turned away from
//! their servers. The address that a query came in on says whose it is (see `gateway_common::datagram`).

use std::{
    ffi::OsString,
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use gateway_common::{
    datagram::way_number,
    flow::{FlowKey, FlowRecord},
};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrIn,
    SockaddrIn6, SockaddrStorage, bind, recvmsg, sendmsg, setsockopt, socket, sockopt,
};
use tokio::{io::Interest, net::UdpSocket, sync::mpsc, time::sleep};

use super::{
    accept::{address, flow},
    kernel::Kernel,
    namespaces::Versions,
};
use crate::domain::{
    flow::Flow,
    ids::{FlowId, NetnsCookie},
};

/// Larger than any query that resolvers send; what is longer is cut off and refused as malformed.
const LONGEST_QUERY_BYTES: usize = 4096;
/// How long to wait before trying again when a socket cannot be read.
const BREATH: Duration = Duration::from_millis(20);

/// One datagram to a DNS server, attributed.
#[derive(Debug)]
pub struct Query {
    /// Who sent it, and to which server. The process is the one that asked that server last.
    pub flow: Flow,
    /// The datagram.
    pub bytes: Vec<u8>,
    /// The way back.
    pub reply: Reply,
}

/// The way back to whoever asked: the kernel side lets the answer come from the server that was meant.
#[derive(Debug)]
pub struct Reply {
    socket: Arc<UdpSocket>,
    /// As the socket has it: an IPv4 address may be a mapped one.
    client: SocketAddr,
    /// The address that the query came in on.
    way: Option<Ipv4Addr>,
}

impl Reply {
    /// Sends the answer. One that does not leave is lost, as datagrams are.
    pub async fn send(&self, bytes: &[u8]) {
        let sent = self.socket.async_io(Interest::WRITABLE, || self.try_send(bytes)).await;
        if let Err(error) = sent {
            tracing::debug!(client = %self.client, %error, "an answer could not be sent");
        }
    }

    fn try_send(&self, bytes: &[u8]) -> io::Result<()> {
        let parts = [IoSlice::new(bytes)];
        let client = SockaddrStorage::from(self.client);
        // To the address as it came, mapped or not: so it says in which of the two words the kernel is spoken to.
        let v4 = self.way.filter(|_| self.client.is_ipv4()).map(|way| libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr { s_addr: u32::from(way).to_be() },
            ipi_addr: libc::in_addr { s_addr: 0 },
        });
        let mapped = self.way.filter(|_| self.client.is_ipv6()).map(|way| libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr { s6_addr: way.to_ipv6_mapped().octets() },
            ipi6_ifindex: 0,
        });
        let v4 = v4.as_ref().map(ControlMessage::Ipv4PacketInfo);
        let controls = mapped.as_ref().map(ControlMessage::Ipv6PacketInfo).or(v4);
        sendmsg(self.socket.as_raw_fd(), &parts, controls.as_slice(), MsgFlags::MSG_DONTWAIT, Some(&client))?;
        Ok(())
    }
}

/// What the receiving loops share.
#[derive(Debug)]
pub(super) struct Counter {
    pub kernel: Arc<Kernel>,
    pub next_flow: Arc<AtomicU64>,
    pub queries: mpsc::Sender<Query>,
}

impl Counter {
    /// Receives until the socket is dropped with the task, or nobody takes queries any more.
    pub async fn receive_all(self: Arc<Self>, socket: UdpSocket, netns: NetnsCookie) {
        let socket = Arc::new(socket);
        loop {
            match socket.async_io(Interest::READABLE, || receive(&socket)).await {
                Ok(Some(datagram)) => {
                    let Some(query) = self.attribute(datagram, &socket, netns) else { continue };
                    match self.queries.try_send(query) {
                        Ok(()) => {}
                        // Resolvers ask again; an agent that floods must not make us remember.
                        Err(mpsc::error::TrySendError::Full(_)) => {
                            tracing::debug!(%netns, "a query was dropped: too many wait");
                        }
                        Err(mpsc::error::TrySendError::Closed(_)) => return,
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%netns, %error, "cannot receive DNS queries");
                    sleep(BREATH).await;
                }
            }
        }
    }

    fn attribute(&self, datagram: Received, socket: &Arc<UdpSocket>, netns: NetnsCookie) -> Option<Query> {
        let Received { bytes, client: asked_from, to } = datagram;
        let client = SocketAddr::new(asked_from.ip().to_canonical(), asked_from.port());
        let record = self.record(client, to, netns).filter(|record| record.netns == netns.0);
        let Some(record) = record else {
            tracing::debug!(%netns, %client, "a query of nobody's was dropped");
            return None;
        };
        let id = FlowId(self.next_flow.fetch_add(1, Ordering::Relaxed));
        let reply = Reply { socket: Arc::clone(socket), client: asked_from, way: to };
        Some(Query { flow: flow(id, &record, client), bytes, reply })
    }

    fn record(&self, client: SocketAddr, to: Option<Ipv4Addr>, netns: NetnsCookie) -> Option<FlowRecord> {
        let number = match to {
            Some(to) => way_number(address(IpAddr::V4(to)))?,
            None => self.kernel.sender(&FlowKey::new(netns.0, address(client.ip()), client.port(), 0))?.way,
        };
        self.kernel.way(number)
    }
}

/// One datagram as it came.
struct Received {
    bytes: Vec<u8>,
    client: SocketAddr,
    /// The address that it was sent to; `None` over IPv6.
    to: Option<Ipv4Addr>,
}

/// `None` for one whose sender is unreadable.
fn receive(socket: &UdpSocket) -> io::Result<Option<Received>> {
    let mut bytes = vec![0; LONGEST_QUERY_BYTES];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let mut space = nix::cmsg_space!(libc::in6_pktinfo);
    let received =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
    let to = received.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))),
        ControlMessageOwned::Ipv6PacketInfo(info) => Ipv6Addr::from(info.ipi6_addr.s6_addr).to_ipv4_mapped(),
        _ => None,
    });
    let client = received.address.as_ref().and_then(|client| {
        let v4 = client.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
        v4.or_else(|| client.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port()))))
    });
    let length = received.bytes;
    bytes.truncate(length);
    Ok(client.map(|client| Received { bytes, client, to }))
}

/// The socket of one network namespace, made in that of the calling thread. It is for all of 127.0.0.0/8, and so names
/// no address; bound to the loopback device *before* it has a port, it is out of the network's reach at every moment.
pub(super) fn open(versions: Versions) -> io::Result<std::net::UdpSocket> {
    let family = match versions {
        Versions::Both => AddressFamily::Inet6,
        Versions::V4 => AddressFamily::Inet,
    };
    let made = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&made, sockopt::BindToDevice, &OsString::from("lo"))?;
    match versions {
        Versions::Both => {
            setsockopt(&made, sockopt::Ipv6V6Only, &false)?;
            setsockopt(&made, sockopt::Ipv6RecvPacketInfo, &true)?;
            let any = std::net::SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0);
            bind(made.as_raw_fd(), &SockaddrIn6::from(any))?;
        }
        Versions::V4 => {
            setsockopt(&made, sockopt::Ipv4PacketInfo, &true)?;
            let any = std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
            bind(made.as_raw_fd(), &SockaddrIn::from(any))?;
        }
    }
    Ok(made.into())
}
