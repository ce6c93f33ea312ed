//! DNS over UDP: one socket pair in each network namespace, whose datagrams the kernel side has turned away from
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
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrIn,
        SockaddrIn6, SockaddrStorage, bind, recvmsg, sendmsg, setsockopt, socket, sockopt,
    },
};
use tokio::{io::Interest, net::UdpSocket, sync::mpsc, time::sleep};

use super::{
    accept::{address, flow},
    kernel::Kernel,
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
        let from = self.way.map(|way| libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr { s_addr: u32::from(way).to_be() },
            ipi_addr: libc::in_addr { s_addr: 0 },
        });
        let controls = from.as_ref().map(ControlMessage::Ipv4PacketInfo);
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
        let Received { bytes, client, to } = datagram;
        let record = self.record(client, to, netns).filter(|record| record.netns == netns.0);
        let Some(record) = record else {
            tracing::debug!(%netns, %client, "a query of nobody's was dropped");
            return None;
        };
        let id = FlowId(self.next_flow.fetch_add(1, Ordering::Relaxed));
        let reply = Reply { socket: Arc::clone(socket), client, way: to };
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
    let mut space = nix::cmsg_space!(libc::in_pktinfo);
    let received =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
    let to = received.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))),
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

/// The sockets of one network namespace, made inside it. Where IPv6 is switched off there is only one.
#[derive(Debug)]
pub(super) struct Sockets {
    pub v4: std::net::UdpSocket,
    pub v6: Option<std::net::UdpSocket>,
}

impl Sockets {
    /// Makes them in the namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        Ok(Self { v4: open_v4()?, v6: open_v6().ok() })
    }

    /// Their ports; 0 where there is none.
    pub fn ports(&self) -> io::Result<(u16, u16)> {
        let v6 = self.v6.as_ref().map(std::net::UdpSocket::local_addr).transpose()?;
        Ok((self.v4.local_addr()?.port(), v6.map_or(0, |v6| v6.port())))
    }

    /// Hands them to the runtime.
    pub fn into_tokio(self) -> io::Result<Vec<UdpSocket>> {
        std::iter::once(self.v4).chain(self.v6).map(UdpSocket::from_std).collect()
    }
}

/// A socket for all of 127.0.0.0/8, which therefore names no address; bound to the loopback device *before* it has a
/// port, it is out of the network's reach at every moment.
fn open_v4() -> io::Result<std::net::UdpSocket> {
    let made = unconnected(AddressFamily::Inet)?;
    setsockopt(&made, sockopt::BindToDevice, &OsString::from("lo"))?;
    setsockopt(&made, sockopt::Ipv4PacketInfo, &true)?;
    bind(made.as_raw_fd(), &SockaddrIn::from(std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)))?;
    Ok(made.into())
}

fn open_v6() -> io::Result<std::net::UdpSocket> {
    let made = unconnected(AddressFamily::Inet6)?;
    setsockopt(&made, sockopt::Ipv6V6Only, &true)?;
    bind(made.as_raw_fd(), &SockaddrIn6::from(std::net::SocketAddrV6::new(Ipv6Addr::LOCALHOST, 0, 0, 0)))?;
    Ok(made.into())
}

fn unconnected(family: AddressFamily) -> Result<std::os::fd::OwnedFd, Errno> {
    socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}
