//! What the kernel side refused, and why.

use core::mem::offset_of;

use crate::{address::Address, flow::COMM_LEN};

/// Why the kernel side refused. The numbers are part of the layout.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The daemon has no listener in that network namespace, or none of that family.
    NoListener = 1,
    /// The daemon does not answer: its heartbeat is too old.
    DaemonSilent = 2,
    /// A datagram to somewhere that policy does not open.
    Datagram = 3,
    /// A socket of a kind that is neither TCP nor UDP: raw, ping, SCTP, MPTCP and their like.
    SocketKind = 4,
    /// The socket belongs to a captured cgroup, the caller does not.
    CallerOutside = 5,
    /// The kernel had no memory to remember the connection.
    NoMemory = 6,
    /// The socket is bound to a device that cannot be lifted.
    BoundToDevice = 7,
    /// The caller is captured, the socket was made where nothing is.
    SocketOutside = 8,
    /// The captured cgroup asks more DNS servers than anybody needs.
    TooManyServers = 9,
    /// Another captured cgroup has just sent a query from the very same end.
    SharedEnd = 10,
    /// A datagram that policy lets pass could not be reported.
    Unreported = 11,
    /// A Unix socket by which the node is controlled; `port` is its number in the list.
    ControlSocket = 12,
    /// A connected socket from outside of every captured cgroup, in a message.
    SocketReceived = 13,
    /// A process outside of the caller's captured cgroup would have been traced, or written to.
    Tracing = 14,
    /// A cgroup outside of the caller's captured one would have been written to.
    Leaving = 15,
    /// Routes, traffic control, packet filters or tunnels would have been changed.
    Rerouting = 16,
    /// A BPF program that sees or changes what others do would have been loaded or attached.
    Programming = 17,
    /// Nothing is known of the caller's pod yet.
    PodUnknown = 20,
}

impl Reason {
    /// The reason of a number; `None` for one that this version does not know.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::NoListener,
            2 => Self::DaemonSilent,
            3 => Self::Datagram,
            4 => Self::SocketKind,
            5 => Self::CallerOutside,
            6 => Self::NoMemory,
            7 => Self::BoundToDevice,
            8 => Self::SocketOutside,
            9 => Self::TooManyServers,
            10 => Self::SharedEnd,
            11 => Self::Unreported,
            12 => Self::ControlSocket,
            13 => Self::SocketReceived,
            14 => Self::Tracing,
            15 => Self::Leaving,
            16 => Self::Rerouting,
            17 => Self::Programming,
            20 => Self::PodUnknown,
            _ => return None,
        })
    }
}

/// One refusal, as it lies in the ring buffer.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refusal {
    /// The captured cgroup, or 0 where the caller is in none.
    pub captured_cgroup: u64,
    /// The caller's own cgroup.
    pub cgroup: u64,
    /// Cookie of the socket's network namespace, 0 where it is not known.
    pub netns: u64,
    /// CLOCK_BOOTTIME, nanoseconds.
    pub at: u64,
    /// Thread-group id in the initial pid namespace.
    pub tgid: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// User id in the initial user namespace.
    pub uid: u32,
    /// A [`Reason`].
    pub reason: u32,
    /// The destination; all zero where there is none.
    pub address: Address,
    /// Its port, host byte order.
    pub port: u16,
    /// The socket's address family.
    pub family: u16,
    /// The socket's type, `SOCK_STREAM` and its like.
    pub kind: u16,
    /// The socket's protocol; 262 is MPTCP.
    pub protocol: u16,
    /// The task's name, padded with zeros.
    pub comm: [u8; COMM_LEN],
}

const _: () = assert!(size_of::<Refusal>() == 88 && align_of::<Refusal>() == 8);
const _: () = assert!(offset_of!(Refusal, tgid) == 32 && offset_of!(Refusal, address) == 48);
const _: () = assert!(offset_of!(Refusal, port) == 64 && offset_of!(Refusal, comm) == 72);

impl Refusal {
    /// Reads one out of a ring buffer's item; `None` unless it has exactly the right size.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; size_of::<Self>()] = bytes.try_into().ok()?;
        let long =
            |at: usize| -> Option<u64> { Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?)) };
        let word =
            |at: usize| -> Option<u32> { Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?)) };
        let short =
            |at: usize| -> Option<u16> { Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?)) };
        Some(Self {
            captured_cgroup: long(offset_of!(Self, captured_cgroup))?,
            cgroup: long(offset_of!(Self, cgroup))?,
            netns: long(offset_of!(Self, netns))?,
            at: long(offset_of!(Self, at))?,
            tgid: word(offset_of!(Self, tgid))?,
            tid: word(offset_of!(Self, tid))?,
            uid: word(offset_of!(Self, uid))?,
            reason: word(offset_of!(Self, reason))?,
            address: Address::from_octets(bytes.get(48..64)?.try_into().ok()?),
            port: short(offset_of!(Self, port))?,
            family: short(offset_of!(Self, family))?,
            kind: short(offset_of!(Self, kind))?,
            protocol: short(offset_of!(Self, protocol))?,
            comm: bytes.get(72..88)?.try_into().ok()?,
        })
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::{Address, Reason, Refusal};

    #[test]
    fn a_refusal_is_read_from_exactly_its_bytes() {
        let mut bytes = [0_u8; 88];
        bytes[8..16].copy_from_slice(&77_u64.to_ne_bytes());
        bytes[44..48].copy_from_slice(&(Reason::Datagram as u32).to_ne_bytes());
        bytes[48..64].copy_from_slice(&Address::LOOPBACK_V6.octets());
        bytes[64..66].copy_from_slice(&443_u16.to_ne_bytes());
        bytes[72..76].copy_from_slice(b"curl");
        let Some(refusal) = Refusal::from_bytes(&bytes) else { unreachable!("the size is right") };
        assert_eq!((refusal.cgroup, refusal.port), (77, 443));
        assert_eq!(refusal.address, Address::LOOPBACK_V6);
        assert_eq!(Reason::from_number(refusal.reason), Some(Reason::Datagram));
        assert_eq!(&refusal.comm[..5], b"curl\0");
        assert_eq!(Refusal::from_bytes(&bytes[..87]), None);
    }

    #[test]
    fn every_reason_survives_its_number() {
        for number in 0..=21 {
            assert!(Reason::from_number(number).is_none_or(|reason| reason as u32 == number));
        }
        assert!(Reason::from_number(0).is_none() && Reason::from_number(18).is_none());
    }
}
