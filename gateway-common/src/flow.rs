//! What is known of one captured connection, and how it is found.

use core::mem::offset_of;

use crate::address::Address;

/// Length of a task's name.
pub const COMM_LEN: usize = 16;

/// The client's end of a captured connection, and which listener it goes to. While the connection lives, no other
/// socket of that namespace can have the same end towards the same listener; towards the listener of a daemon that
/// is being replaced it can.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FlowKey {
    /// Cookie of the socket's network namespace.
    pub netns: u64,
    /// Source address.
    pub address: Address,
    /// Source port, host byte order.
    pub port: u32,
    /// Port of the listener, host byte order.
    pub listener: u32,
}

const _: () = assert!(size_of::<FlowKey>() == 32);
const _: () = assert!(offset_of!(FlowKey, port) == 24 && offset_of!(FlowKey, listener) == 28);

impl FlowKey {
    /// The key of a client's end towards the listener on that port.
    #[inline(always)]
    #[must_use]
    pub const fn new(netns: u64, address: Address, port: u16, listener: u16) -> Self {
        Self { netns, address, port: port as u32, listener: listener as u32 }
    }
}

/// What the kernel recorded at `connect()`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlowRecord {
    /// Cookie of the socket's network namespace.
    pub netns: u64,
    /// The captured cgroup: `cgroup` or its nearest captured ancestor.
    pub captured_cgroup: u64,
    /// The caller's own cgroup.
    pub cgroup: u64,
    /// CLOCK_BOOTTIME at `connect()`, nanoseconds.
    pub connected_at: u64,
    /// The socket's cookie.
    pub socket: u64,
    /// CLOCK_BOOTTIME when the client's socket closed, or 0 while it lives.
    pub ended_at: u64,
    /// Thread-group id in the initial pid namespace.
    pub tgid: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// User id in the initial user namespace.
    pub uid: u32,
    /// Original destination port, host byte order.
    pub port: u16,
    /// Family of the address that the client gave: AF_INET6 for mapped ones.
    pub family: u16,
    /// Original destination.
    pub address: Address,
    /// The task's name, padded with zeros.
    pub comm: [u8; COMM_LEN],
}

const _: () = assert!(size_of::<FlowRecord>() == 96 && align_of::<FlowRecord>() == 8);
const _: () = assert!(offset_of!(FlowRecord, ended_at) == 40 && offset_of!(FlowRecord, tgid) == 48);
const _: () = assert!(offset_of!(FlowRecord, port) == 60 && offset_of!(FlowRecord, family) == 62);
const _: () = assert!(offset_of!(FlowRecord, address) == 64 && offset_of!(FlowRecord, comm) == 80);

impl FlowRecord {
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
            netns: long(offset_of!(Self, netns))?,
            captured_cgroup: long(offset_of!(Self, captured_cgroup))?,
            cgroup: long(offset_of!(Self, cgroup))?,
            connected_at: long(offset_of!(Self, connected_at))?,
            socket: long(offset_of!(Self, socket))?,
            ended_at: long(offset_of!(Self, ended_at))?,
            tgid: word(offset_of!(Self, tgid))?,
            tid: word(offset_of!(Self, tid))?,
            uid: word(offset_of!(Self, uid))?,
            port: short(offset_of!(Self, port))?,
            family: short(offset_of!(Self, family))?,
            address: Address::from_octets(bytes.get(64..80)?.try_into().ok()?),
            comm: bytes.get(80..96)?.try_into().ok()?,
        })
    }
}

/// [`SocketState::phase`]: the destination was rewritten, the SYN has not left yet.
pub const PHASE_REWRITTEN: u32 = 1;
/// [`SocketState::phase`]: the record can be found under [`SocketState::key`].
pub const PHASE_KEYED: u32 = 2;

/// [`SocketState::phase`]: a datagram socket, whose latest query can be found under [`SocketState::key`].
pub const PHASE_SENDER: u32 = 3;

/// What is kept with a captured socket for as long as it lives.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketState {
    /// The latest `connect()`.
    pub record: FlowRecord,
    /// Where the record was put; valid from [`PHASE_KEYED`] on.
    pub key: FlowKey,
    /// Where the connection really goes.
    pub listener: Address,
    /// Its port, host byte order.
    pub listener_port: u32,
    /// One of the `PHASE_` constants.
    pub phase: u32,
}

const _: () = assert!(size_of::<SocketState>() == 152);
const _: () = assert!(offset_of!(SocketState, key) == 96 && offset_of!(SocketState, listener) == 128);
const _: () = assert!(offset_of!(SocketState, listener_port) == 144 && offset_of!(SocketState, phase) == 148);

// SAFETY: plain integers without padding (sizes asserted above); any bit pattern is a value.
#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "aya's marker for types that may be copied to and from the kernel as bytes")]
mod pod {
    unsafe impl aya::Pod for super::FlowKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::FlowRecord {}
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::{Address, FlowKey, FlowRecord};

    #[test]
    fn a_record_is_read_from_exactly_its_bytes() {
        let mut bytes = [0_u8; 96];
        bytes[8..16].copy_from_slice(&77_u64.to_ne_bytes());
        bytes[60..62].copy_from_slice(&443_u16.to_ne_bytes());
        bytes[64..80].copy_from_slice(&Address::LOOPBACK_V6.octets());
        bytes[80..84].copy_from_slice(b"curl");
        let Some(record) = FlowRecord::from_bytes(&bytes) else { unreachable!("the size is right") };
        assert_eq!((record.captured_cgroup, record.port), (77, 443));
        assert_eq!((record.address, &record.comm[..5]), (Address::LOOPBACK_V6, &b"curl\0"[..]));
        assert_eq!(FlowRecord::from_bytes(&bytes[..95]), None);
    }

    #[test]
    fn keys_of_different_namespaces_and_listeners_differ_though_the_ends_are_equal() {
        let key = |netns, listener| FlowKey::new(netns, Address::LOOPBACK_V4, 40_000, listener);
        assert_ne!(key(1, 7), key(2, 7));
        assert_ne!(key(1, 7), key(1, 8));
        assert_eq!(key(1, 7), key(1, 7));
    }
}
