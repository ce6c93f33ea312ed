//! What the daemon settles ahead of time: connections that go direct, and refusals that are only reported.

use core::mem::offset_of;

use crate::{address::Address, flow::COMM_LEN, refusal::Reason};

/// In the map of lenient cgroups: what would be refused for what it is goes on, and is reported.
pub const LENIENT: u32 = 1;
/// In the map of lenient cgroups: connections go on directly where the daemon cannot take them.
pub const OPEN: u32 = 2;

/// Set in [`Refusal::reason`](crate::refusal::Refusal::reason) where the call went on all the same.
pub const WENT_ON: u32 = 1 << 31;

/// Whether a refusal for that reason is lifted by these flags. One that could only be lifted for everybody is not: who
/// uses a captured cgroup's socket from outside has no mode.
/// Sockets that control the node are refused in every mode: whoever reaches one is outside of any.
#[inline(always)]
#[must_use]
pub const fn lifts(flags: u32, reason: Reason) -> bool {
    match reason {
        Reason::CallerOutside | Reason::ControlSocket => false,
        Reason::NoListener | Reason::DaemonSilent | Reason::NoMemory | Reason::BoundToDevice => {
            flags & OPEN != 0
        }
        _ => flags & LENIENT != 0,
    }
}

/// A destination that a captured cgroup reaches directly, as the data of a longest-prefix key: port and cgroup always
/// count whole, of the address as many bits as the network has.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Direct {
    /// Port, host byte order.
    pub port: u32,
    /// The captured cgroup: low word, high word.
    pub captured_cgroup: [u32; 2],
    /// The address, IPv4 mapped.
    pub address: Address,
}

const _: () = assert!(size_of::<Direct>() == 28 && align_of::<Direct>() == 4);

impl Direct {
    /// Bits before the address.
    pub const FIXED_BITS: u32 = 96;
    /// Bits of the whole.
    pub const BITS: u32 = 224;

    /// A destination.
    #[inline(always)]
    #[must_use]
    pub const fn new(captured_cgroup: u64, address: Address, port: u16) -> Self {
        Self { port: port as u32, captured_cgroup: halves(captured_cgroup), address }
    }
}

/// How long a destination is reached directly, and by which decision. Words, since the values of a longest-prefix map
/// are aligned to four bytes here.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grant {
    /// CLOCK_BOOTTIME, nanoseconds: low word, high word.
    pub until: [u32; 2],
    /// The daemon's number of the decision.
    pub number: u32,
}

const _: () = assert!(size_of::<Grant>() == 12 && align_of::<Grant>() == 4);

impl Grant {
    /// A grant until that moment.
    #[must_use]
    pub const fn new(until: u64, number: u32) -> Self {
        Self { until: halves(until), number }
    }

    /// When it ends.
    #[inline(always)]
    #[must_use]
    pub const fn until(self) -> u64 {
        self.until[0] as u64 | (self.until[1] as u64) << 32
    }
}

#[inline(always)]
const fn halves(word: u64) -> [u32; 2] {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a word")]
    [word as u32, (word >> 32) as u32]
}

/// A connection that went direct, as it lies in the ring buffer.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DirectFlow {
    /// Cookie of the socket's network namespace.
    pub netns: u64,
    /// The captured cgroup.
    pub captured_cgroup: u64,
    /// The caller's own cgroup.
    pub cgroup: u64,
    /// CLOCK_BOOTTIME at `connect()`, nanoseconds.
    pub at: u64,
    /// Thread-group id in the initial pid namespace.
    pub tgid: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// User id in the initial user namespace.
    pub uid: u32,
    /// [`Grant::number`].
    pub grant: u32,
    /// The destination.
    pub address: Address,
    /// Its port, host byte order.
    pub port: u32,
    /// Zero.
    pub padding: u32,
    /// The task's name, padded with zeros.
    pub comm: [u8; COMM_LEN],
}

const _: () = assert!(size_of::<DirectFlow>() == 88 && align_of::<DirectFlow>() == 8);
const _: () = assert!(offset_of!(DirectFlow, address) == 48 && offset_of!(DirectFlow, comm) == 72);

impl DirectFlow {
    /// Reads one out of a ring buffer's item; `None` unless it has exactly the right size.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; size_of::<Self>()] = bytes.try_into().ok()?;
        let long =
            |at: usize| -> Option<u64> { Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?)) };
        let word =
            |at: usize| -> Option<u32> { Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?)) };
        Some(Self {
            netns: long(offset_of!(Self, netns))?,
            captured_cgroup: long(offset_of!(Self, captured_cgroup))?,
            cgroup: long(offset_of!(Self, cgroup))?,
            at: long(offset_of!(Self, at))?,
            tgid: word(offset_of!(Self, tgid))?,
            tid: word(offset_of!(Self, tid))?,
            uid: word(offset_of!(Self, uid))?,
            grant: word(offset_of!(Self, grant))?,
            address: Address::from_octets(bytes.get(48..64)?.try_into().ok()?),
            port: word(offset_of!(Self, port))?,
            padding: 0,
            comm: bytes.get(72..88)?.try_into().ok()?,
        })
    }
}

// SAFETY: plain integers without padding (sizes asserted above); any bit pattern is a value.
#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "aya's marker for types that may be copied to and from the kernel as bytes")]
mod pod {
    unsafe impl aya::Pod for super::Direct {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Grant {}
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::{Address, Direct, DirectFlow, Grant, LENIENT, OPEN, Reason, lifts};

    #[test]
    fn halves_make_the_whole() {
        assert_eq!(Grant::new(0x1234_5678_9abc_def0, 7).until(), 0x1234_5678_9abc_def0);
        let direct = Direct::new(0xaaaa_bbbb_cccc_dddd, Address::LOOPBACK_V4, 443);
        assert_eq!(direct.captured_cgroup, [0xcccc_dddd, 0xaaaa_bbbb]);
    }

    #[test]
    fn a_direct_flow_is_read_from_exactly_its_bytes() {
        let mut bytes = [0_u8; 88];
        bytes[8..16].copy_from_slice(&77_u64.to_ne_bytes());
        bytes[44..48].copy_from_slice(&9_u32.to_ne_bytes());
        bytes[48..64].copy_from_slice(&Address::LOOPBACK_V6.octets());
        bytes[64..68].copy_from_slice(&443_u32.to_ne_bytes());
        bytes[72..76].copy_from_slice(b"curl");
        let Some(flow) = DirectFlow::from_bytes(&bytes) else { unreachable!("the size is right") };
        assert_eq!((flow.captured_cgroup, flow.grant, flow.port), (77, 9, 443));
        assert_eq!((flow.address, &flow.comm[..5]), (Address::LOOPBACK_V6, &b"curl\0"[..]));
        assert_eq!(DirectFlow::from_bytes(&bytes[..87]), None);
    }

    #[test]
    fn leniency_is_about_what_is_refused_and_openness_about_a_daemon_that_is_not_there() {
        assert!(lifts(LENIENT, Reason::Datagram) && lifts(LENIENT, Reason::SocketKind));
        assert!(!lifts(LENIENT, Reason::DaemonSilent) && lifts(LENIENT | OPEN, Reason::DaemonSilent));
        assert!(!lifts(LENIENT | OPEN, Reason::CallerOutside) && !lifts(0, Reason::Datagram));
    }
}
