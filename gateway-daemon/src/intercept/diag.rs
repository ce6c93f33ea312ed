//! The kernel's own list of sockets, as `sock_diag(7)` gives it: whose each is, and how one is ended.
//!
//! A netlink socket answers for the network namespace that it was made in. It knows nothing of what is captured.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};

use crate::domain::ids::CgroupId;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const UDP_LITE: u8 = 136;
const ESTABLISHED: u8 = 1;
pub(super) const LISTEN: u8 = 10;
/// Everything that leads somewhere: not TIME_WAIT, CLOSE, nor a request that is not accepted yet.
pub(super) const STATES: u32 = 1 << ESTABLISHED | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << LISTEN;

/// `SOCK_DIAG_BY_FAMILY`
const LIST: u16 = 20;
/// `SOCK_DESTROY`
const DESTROY: u16 = 21;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;
const DONE: u16 = 3;
const ERROR: u16 = 2;
const HEADER_BYTES: usize = 16;
/// `struct inet_diag_sockid`, behind four bytes in requests and answers alike.
const ID_BYTES: usize = 48;
/// `struct inet_diag_msg`
const ANSWER_BYTES: usize = 72;
/// `INET_DIAG_CGROUP_ID`, since Linux 5.7.
const CGROUP_ID: u16 = 21;

/// A socket, as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub family: u8,
    pub protocol: u8,
    pub state: u8,
    id: [u8; ID_BYTES],
    /// In which it was made.
    pub cgroup: CgroupId,
    /// The number of its file, 0 where it has none.
    pub inode: u32,
}

impl Found {
    pub fn local_port(&self) -> u16 {
        u16::from_be_bytes([self.id[0], self.id[1]])
    }

    pub fn peer(&self) -> SocketAddr {
        let port = u16::from_be_bytes([self.id[2], self.id[3]]);
        let octets =
            self.id.get(20..36).and_then(|octets| <[u8; 16]>::try_from(octets).ok()).unwrap_or_default();
        let address = if i32::from(self.family) == libc::AF_INET {
            IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]))
        } else {
            IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
        };
        SocketAddr::new(address, port)
    }
}

/// Whether a connection was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Yes,
    No,
}

/// What answers on a path, seen from its far end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FarEnd {
    /// No socket of this network namespace.
    Elsewhere,
    /// A socket that is being made: nobody can say yet whose it will be.
    Unready,
    /// This one: the connection's own, or the one that listens for it.
    Here(Found),
}

/// A socket that lists what there is in the calling thread's network namespace.
pub(super) fn open() -> io::Result<OwnedFd> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    // The kernel answers at once or not at all.
    let patience = nix::sys::time::TimeVal::new(2, 0);
    setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
    Ok(socket)
}

/// A request of `struct inet_diag_req_v2`.
fn request(kind: u16, flags: u16, family: u8, protocol: u8, states: u32, id: &[u8; ID_BYTES]) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + 8 + ID_BYTES).unwrap_or_default();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + 8 + ID_BYTES);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[family, protocol, 0, 0]);
    bytes.extend_from_slice(&states.to_ne_bytes());
    bytes.extend_from_slice(id);
    bytes
}

pub(super) fn list(socket: &OwnedFd, family: u8, protocol: u8) -> io::Result<Vec<Found>> {
    let request = request(LIST, DUMP, family, protocol, STATES, &[0; ID_BYTES]);
    send(socket, &request)?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some((kind, body, behind)) = message(rest) {
            match kind {
                // An error is what a kernel without that protocol answers.
                DONE | ERROR => return Ok(found),
                LIST => found.extend(read(body, protocol)),
                _ => {}
            }
            rest = behind;
        }
    }
}

/// Looks for the socket at the far end of a TCP connection whose near end is `near`.
pub(super) fn far_end(socket: &OwnedFd, near: SocketAddr, far: SocketAddr) -> io::Result<FarEnd> {
    let family = if far.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let family = u8::try_from(family).unwrap_or_default();
    send(socket, &request(LIST, 0, family, TCP, u32::MAX, &path(far, near)))?;
    let mut buffer = vec![0; 4096];
    let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    let answer = message(buffer.get(..length).unwrap_or_default());
    let (kind, body, _) = answer.ok_or(io::ErrorKind::InvalidData)?;
    if kind == LIST {
        return Ok(read(body, TCP).map_or(FarEnd::Unready, FarEnd::Here));
    }
    let code = body.get(..4).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(code) if code == -libc::ENOENT => Ok(FarEnd::Elsewhere),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// `struct inet_diag_sockid` of the socket at `local` that is connected to `peer`, on whatever device, by no cookie.
fn path(local: SocketAddr, peer: SocketAddr) -> [u8; ID_BYTES] {
    let octets = |address: SocketAddr| {
        let mut octets = [0; 16];
        match address.ip() {
            IpAddr::V4(ip) => octets[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => octets = ip.octets(),
        }
        octets
    };
    let mut id = [0; ID_BYTES];
    id[..2].copy_from_slice(&local.port().to_be_bytes());
    id[2..4].copy_from_slice(&peer.port().to_be_bytes());
    id[4..20].copy_from_slice(&octets(local));
    id[20..36].copy_from_slice(&octets(peer));
    id[40..].copy_from_slice(&[0xff; 8]);
    id
}

pub(super) fn destroy(socket: &OwnedFd, found: &Found) -> io::Result<Ended> {
    Ok(match ask_to_destroy(socket, found)? {
        Ok(()) => Ended::Yes,
        Err(refusal) => {
            tracing::warn!(%refusal, peer = %found.peer(), "a connection from before capture is not ended");
            Ended::No
        }
    })
}

/// The kernel's answer to a request that is well-formed. Gone by itself meanwhile is gone.
fn ask_to_destroy(socket: &OwnedFd, found: &Found) -> io::Result<Result<(), io::Error>> {
    send(socket, &request(DESTROY, ACKNOWLEDGE, found.family, found.protocol, 0, &found.id))?;
    let mut buffer = [0; 1024];
    let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    let answer = message(buffer.get(..length).unwrap_or_default()).map(|(_, body, _)| body);
    let code = answer.and_then(|body| Some(i32::from_ne_bytes(body.get(..4)?.try_into().ok()?)));
    Ok(match code {
        Some(0) => Ok(()),
        Some(code) if code == -libc::ENOENT => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    })
}

/// Tries it: ends a connection of this process's own, over loopback.
pub(super) fn try_out() -> Result<String, String> {
    let failed = |error: io::Error| format!("it cannot be tried: {error}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let far = listener.local_addr().map_err(failed)?;
    let near = TcpStream::connect(far).and_then(|stream| Ok((stream.local_addr()?, stream)));
    // Held until it has been ended.
    let (near, _stream) = near.map_err(failed)?;
    let socket = open().map_err(failed)?;
    let FarEnd::Here(found) = far_end(&socket, far, near).map_err(failed)? else {
        return Err("the kernel does not list its connections (`sock_diag`)".to_owned());
    };
    match ask_to_destroy(&socket, &found).map_err(failed)? {
        Ok(()) => Ok("by the kernel's list of sockets".to_owned()),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            Err("not allowed: CAP_NET_ADMIN is missing".to_owned())
        }
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            Err("the kernel was built without CONFIG_INET_DIAG_DESTROY".to_owned())
        }
        Err(error) => Err(format!("the kernel does not end connections: {error}")),
    }
}

fn send(socket: &OwnedFd, request: &[u8]) -> io::Result<()> {
    sendto(socket.as_raw_fd(), request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    Ok(())
}

/// Kind and body of the first message, and what lies behind it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER_BYTES..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn read(body: &[u8], protocol: u8) -> Option<Found> {
    let (family, state) = (*body.first()?, *body.get(1)?);
    let id: [u8; ID_BYTES] = body.get(4..4 + ID_BYTES)?.try_into().ok()?;
    let inode = u32::from_ne_bytes(body.get(ANSWER_BYTES - 4..ANSWER_BYTES)?.try_into().ok()?);
    let mut attributes = body.get(ANSWER_BYTES..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        if kind == CGROUP_ID {
            let cgroup = CgroupId(u64::from_ne_bytes(attributes.get(4..12)?.try_into().ok()?));
            return Some(Found { family, protocol, state, id, cgroup, inode });
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::{
        ANSWER_BYTES, CGROUP_ID, CgroupId, FarEnd, LISTEN, TCP, far_end, message, open, read, try_out,
    };

    #[test]
    fn the_far_end_of_a_connection_is_found_where_it_is_of_this_namespace() {
        let socket = open().unwrap();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let far = listener.local_addr().unwrap();
            let near = TcpStream::connect(far).unwrap().local_addr().unwrap();
            let FarEnd::Here(found) = far_end(&socket, near, far).unwrap() else { panic!("not found") };
            assert_eq!(found.local_port(), far.port());
            assert_ne!(found.state, LISTEN, "it is found before anybody has accepted it");
            drop(listener);
            let nobody = far_end(&socket, "127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
            assert_eq!(nobody.unwrap(), FarEnd::Elsewhere);
        }
    }

    #[test]
    fn a_listed_socket_is_read_and_a_short_one_is_not() {
        let mut body = vec![0_u8; ANSWER_BYTES];
        (body[0], body[1]) = (2, 1);
        body[6..8].copy_from_slice(&5432_u16.to_be_bytes());
        body[24..28].copy_from_slice(&[192, 0, 2, 7]);
        body.extend_from_slice(&[5, 0, 99, 0, 1, 0, 0, 0]);
        body.extend_from_slice(&12_u16.to_ne_bytes());
        body.extend_from_slice(&CGROUP_ID.to_ne_bytes());
        body.extend_from_slice(&77_u64.to_ne_bytes());
        let found = read(&body, TCP).unwrap();
        assert_eq!(found.peer(), "192.0.2.7:5432".parse().unwrap());
        assert_eq!(found.cgroup, CgroupId(77));
        for length in 0..body.len() {
            assert!(read(&body[..length], TCP).is_none());
        }
        assert!(message(&[200, 0, 0, 0, 20, 0]).is_none());
    }

    /// Needs root.
    #[test]
    fn a_connection_of_ones_own_is_ended() {
        assert_eq!(try_out(), Ok("by the kernel's list of sockets".to_owned()));
    }
}
