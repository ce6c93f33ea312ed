//! Connections that a cgroup had before it was captured: the hooks saw none of them. They are found through the
//! kernel's own list of sockets (`sock_diag(7)`), in each network namespace that the cgroup's processes live in, and
//! ended or reported. Connections that came to a listening socket are somebody else's and stay.

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};

use super::{
    capture::Core,
    cgroups::Cgroup,
    refusals::{Fate, KernelRefusal, RefusalReason},
};
use crate::domain::ids::{CgroupId, NetnsCookie};

/// What becomes of connections that a cgroup had before it was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// They are ended: their owners see a reset.
    #[default]
    End,
    /// They go on, and are recorded.
    Report,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;
/// Everything that leads somewhere: not TIME_WAIT, CLOSE, nor a request that is not accepted yet.
const STATES: u32 = 1 << ESTABLISHED | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << LISTEN;

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
struct Found {
    family: u8,
    protocol: u8,
    state: u8,
    id: [u8; ID_BYTES],
    cgroup: CgroupId,
}

impl Found {
    fn local_port(&self) -> u16 {
        u16::from_be_bytes([self.id[0], self.id[1]])
    }

    fn peer(&self) -> SocketAddr {
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

impl Core {
    /// Ends or reports what a cgroup had open before it was armed, which it is by now.
    pub async fn deal_with_existing(&self, cgroup: &Cgroup) {
        let members: HashSet<CgroupId> = cgroup.family().into_iter().collect();
        for (netns, _) in self.namespaces.all() {
            let Some(file) = self.namespaces.file(netns) else { continue };
            let members = members.clone();
            let existing = self.settings.existing;
            let socket = self.traveller.within(file, open).await;
            let dealt = match socket {
                // Hundreds of sockets are a matter of a millisecond; the runtime has other threads.
                Ok(socket) => tokio::task::spawn_blocking(move || deal(&socket, &members, existing))
                    .await
                    .unwrap_or_else(|error| Err(io::Error::other(error))),
                Err(error) => Err(error),
            };
            match dealt {
                Ok(found) => found.into_iter().for_each(|found| self.tell(netns, cgroup.id, &found)),
                Err(error) => {
                    tracing::error!(cgroup = %cgroup.path, %error, "connections from before capture cannot be found");
                }
            }
        }
    }

    fn tell(&self, netns: NetnsCookie, captured: CgroupId, (found, ended): &(Found, Ended)) {
        let reason = match ended {
            Ended::Yes => RefusalReason::ExistingEnded,
            Ended::No => RefusalReason::ExistingLeft,
        };
        tracing::info!(cgroup = %captured, peer = %found.peer(), ?ended, "a connection from before capture");
        let refusal = KernelRefusal {
            cgroup: found.cgroup,
            captured_cgroup: Some(captured),
            netns,
            pid: 0,
            tid: 0,
            uid: 0,
            comm: String::new(),
            destination: Some(found.peer()),
            control_socket: None,
            family: found.family.into(),
            protocol: found.protocol.into(),
            reason,
            // No call was refused: nobody is asked who made it.
            at_boot_ns: 0,
            fate: Fate::Refused,
        };
        // For information only: whoever does not read must not make us remember.
        let _ = self.notices.try_send(refusal);
    }
}

/// Whether a connection was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Yes,
    No,
}

fn open() -> io::Result<OwnedFd> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    // The kernel answers at once or not at all.
    let patience = nix::sys::time::TimeVal::new(2, 0);
    setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
    Ok(socket)
}

fn deal(
    socket: &OwnedFd,
    members: &HashSet<CgroupId>,
    existing: Existing,
) -> io::Result<Vec<(Found, Ended)>> {
    let mut dealt = Vec::new();
    for protocol in [TCP, UDP] {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            found.extend(list(socket, u8::try_from(family).unwrap_or_default(), protocol)?);
        }
        let serving: HashSet<u16> =
            found.iter().filter(|found| found.state == LISTEN).map(Found::local_port).collect();
        let leads_out = |found: &Found| {
            found.state != LISTEN
                && found.peer().port() != 0
                && members.contains(&found.cgroup)
                && (protocol == UDP || !serving.contains(&found.local_port()))
        };
        for found in found.into_iter().filter(leads_out) {
            let ended = match existing {
                Existing::Report => Ended::No,
                Existing::End => destroy(socket, &found)?,
            };
            dealt.push((found, ended));
        }
    }
    Ok(dealt)
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

fn list(socket: &OwnedFd, family: u8, protocol: u8) -> io::Result<Vec<Found>> {
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

fn destroy(socket: &OwnedFd, found: &Found) -> io::Result<Ended> {
    let request = request(DESTROY, ACKNOWLEDGE, found.family, found.protocol, 0, &found.id);
    send(socket, &request)?;
    let mut buffer = [0; 1024];
    let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    let answer = message(buffer.get(..length).unwrap_or_default()).map(|(_, body, _)| body);
    let code = answer.and_then(|body| Some(i32::from_ne_bytes(body.get(..4)?.try_into().ok()?)));
    Ok(match code {
        // Gone by itself meanwhile is gone.
        Some(0) => Ended::Yes,
        Some(code) if code == -libc::ENOENT => Ended::Yes,
        other => {
            tracing::warn!(?other, peer = %found.peer(), "this kernel does not end a connection from before capture");
            Ended::No
        }
    })
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
    let mut attributes = body.get(ANSWER_BYTES..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        if kind == CGROUP_ID {
            let cgroup = CgroupId(u64::from_ne_bytes(attributes.get(4..12)?.try_into().ok()?));
            return Some(Found { family, protocol, state, id, cgroup });
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::{ANSWER_BYTES, CGROUP_ID, CgroupId, TCP, message, read};

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
}
