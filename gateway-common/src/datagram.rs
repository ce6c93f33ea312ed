//! Datagrams: the ways to DNS servers, and what policy lets pass.
//!
//! A query over UDP is sent to the daemon instead of to its server. Nothing in a datagram says whose it is or where
//! it was meant to go, and the sender's end does not either: a socket can ask several servers in turn. So the
//! *destination* says it: each server that a captured cgroup asks from a network namespace gets a number, and its
//! queries go to the loopback address of that number. The number stands for cgroup, namespace and server, and it
//! holds for every socket, connected or not.

use core::mem::offset_of;

use crate::address::Address;

/// The port of DNS servers.
pub const DNS_PORT: u16 = 53;

/// Numbers have so many bits.
const WAY_BITS: u32 = 22;
/// Numbers are below this.
pub const WAYS: u32 = 1 << WAY_BITS;
/// Where their addresses begin: 127.64.0.0/10. Software that listens on loopback addresses of its own stays near
/// the beginning of 127.0.0.0/8.
const WAY_NETWORK: u32 = 0x7f40_0000;

/// How many servers a captured cgroup may ask from one network namespace.
pub const SERVERS_PER_CGROUP: u32 = 64;

/// The loopback address of a way.
#[inline(always)]
#[must_use]
pub const fn way_address(number: u32) -> Address {
    Address::from_v4((WAY_NETWORK | (number & (WAYS - 1))).to_be())
}

/// The way that an address belongs to.
#[inline(always)]
#[must_use]
pub const fn way_number(address: Address) -> Option<u32> {
    match address.as_v4() {
        Some(v4) if u32::from_be(v4) >> WAY_BITS == WAY_NETWORK >> WAY_BITS => {
            Some(u32::from_be(v4) & (WAYS - 1))
        }
        _ => None,
    }
}

/// Who asks which server, and from where. With an all-zero server it counts the servers of that cgroup there.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct WayKey {
    /// Cookie of the socket's network namespace.
    pub netns: u64,
    /// The captured cgroup.
    pub captured_cgroup: u64,
    /// The DNS server that was meant.
    pub server: Address,
}

const _: () = assert!(size_of::<WayKey>() == 32 && align_of::<WayKey>() == 8);
const _: () = assert!(offset_of!(WayKey, captured_cgroup) == 8 && offset_of!(WayKey, server) == 16);

/// The way that an IPv6 socket sent its latest query. IPv6 has a single loopback address, so here the sender's end must
/// do.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sender {
    /// The socket's cookie.
    pub socket: u64,
    /// The captured cgroup.
    pub captured_cgroup: u64,
    /// The way's number.
    pub way: u32,
    /// Zero.
    pub padding: u32,
}

const _: () = assert!(size_of::<Sender>() == 24 && align_of::<Sender>() == 8);
const _: () = assert!(offset_of!(Sender, captured_cgroup) == 8 && offset_of!(Sender, way) == 16);

/// A destination that a captured cgroup may send datagrams to, as the data of a longest-prefix key: the cgroup always
/// counts whole, the port whole or with the address not at all, of the address as many bits as the network has.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Passage {
    /// The captured cgroup: low word, high word.
    pub captured_cgroup: [u32; 2],
    /// Port, host byte order.
    pub port: u32,
    /// The address, IPv4 mapped.
    pub address: Address,
}

const _: () = assert!(size_of::<Passage>() == 28 && align_of::<Passage>() == 4);

impl Passage {
    /// Bits of the cgroup alone: everything is open to it.
    pub const CGROUP_BITS: u32 = 64;
    /// Bits before the address.
    pub const FIXED_BITS: u32 = 96;
    /// Bits of the whole.
    pub const BITS: u32 = 224;

    /// A destination.
    #[inline(always)]
    #[must_use]
    pub const fn new(captured_cgroup: u64, address: Address, port: u16) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of a word")]
        let halves = [captured_cgroup as u32, (captured_cgroup >> 32) as u32];
        Self { captured_cgroup: halves, port: port as u32, address }
    }
}

/// How long a passage is open.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Until {
    /// CLOCK_BOOTTIME, nanoseconds: low word, high word. Words, since the values of a longest-prefix map are aligned
    /// to four bytes here.
    pub boot_ns: [u32; 2],
}

impl Until {
    /// Until that moment.
    #[must_use]
    pub const fn new(boot_ns: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of a word")]
        let halves = [boot_ns as u32, (boot_ns >> 32) as u32];
        Self { boot_ns: halves }
    }

    /// The moment.
    #[inline(always)]
    #[must_use]
    pub const fn moment(self) -> u64 {
        self.boot_ns[0] as u64 | (self.boot_ns[1] as u64) << 32
    }
}

// SAFETY: plain integers without padding (sizes asserted above); any bit pattern is a value.
#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "aya's marker for types that may be copied to and from the kernel as bytes")]
mod pod {
    unsafe impl aya::Pod for super::WayKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Sender {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Passage {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Until {}
}

#[cfg(test)]
mod tests {
    use super::{Address, Passage, Until, WAYS, way_address, way_number};

    #[test]
    fn every_way_has_an_address_of_its_own_and_comes_back() {
        for number in [0, 1, 255, 256, 65_535, 65_536, WAYS - 1] {
            assert_eq!(way_number(way_address(number)), Some(number));
        }
        assert_eq!(way_address(1), Address::from_v4(0x7f40_0001_u32.to_be()));
        assert_eq!(way_address(WAYS - 1), Address::from_v4(0x7f7f_ffff_u32.to_be()));
    }

    #[test]
    fn other_addresses_are_no_ways() {
        for address in [Address::LOOPBACK_V4, Address::LOOPBACK_V6, Address::default()] {
            assert_eq!(way_number(address), None);
        }
        assert_eq!(way_number(Address::from_v4(0x7f3f_ffff_u32.to_be())), None);
        assert_eq!(way_number(Address::from_v4(0x7f80_0000_u32.to_be())), None);
    }

    #[test]
    fn halves_make_the_whole() {
        assert_eq!(Until::new(0x1234_5678_9abc_def0).moment(), 0x1234_5678_9abc_def0);
        assert_eq!(
            Passage::new(0xaaaa_bbbb_cccc_dddd, Address::LOOPBACK_V4, 443).captured_cgroup,
            [0xcccc_dddd, 0xaaaa_bbbb]
        );
    }
}
