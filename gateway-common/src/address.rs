//! One form for every address: IPv6 with IPv4 mapped into it, in network byte order.

/// IPv4.
pub const AF_INET: u16 = 2;
/// IPv6.
pub const AF_INET6: u16 = 10;

/// The third word of an IPv4-mapped address, `::ffff:a.b.c.d`.
const MAPPED_PREFIX_WORD: u32 = 0x0000_ffff_u32.to_be();

/// An IPv6 address, or an IPv4 address mapped into one: four words, each in network byte order, which is how
/// the kernel hands them to its programs.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Address(pub [u32; 4]);

impl Address {
    /// `::1`.
    pub const LOOPBACK_V6: Self = Self([0, 0, 0, 1_u32.to_be()]);
    /// `::ffff:127.0.0.1`.
    pub const LOOPBACK_V4: Self = Self::from_v4(0x7f00_0001_u32.to_be());

    /// Maps an IPv4 address, given in network byte order.
    #[inline(always)]
    #[must_use]
    pub const fn from_v4(network_order: u32) -> Self {
        Self([0, 0, MAPPED_PREFIX_WORD, network_order])
    }

    /// From the sixteen octets of an IPv6 address.
    #[must_use]
    pub const fn from_octets(o: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
            u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
            u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
            u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
        ])
    }

    /// The sixteen octets of the IPv6 address.
    #[must_use]
    pub const fn octets(self) -> [u8; 16] {
        let [a, b, c, d] = self.0;
        let (a, b, c, d) = (a.to_ne_bytes(), b.to_ne_bytes(), c.to_ne_bytes(), d.to_ne_bytes());
        [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
    }

    /// The IPv4 address in network byte order, if it is one.
    #[inline(always)]
    #[must_use]
    pub const fn as_v4(self) -> Option<u32> {
        let [a, b, c, d] = self.0;
        if a == 0 && b == 0 && c == MAPPED_PREFIX_WORD { Some(d) } else { None }
    }
}

const _: () = assert!(size_of::<Address>() == 16 && align_of::<Address>() == 4);

#[cfg(test)]
mod tests {
    use super::Address;
    use core::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn a_v4_address_is_the_mapped_one_and_comes_back() {
        let network_order = u32::from_ne_bytes(Ipv4Addr::new(192, 0, 2, 7).octets());
        let address = Address::from_v4(network_order);
        assert_eq!(Ipv6Addr::from(address.octets()), Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped());
        assert_eq!(address.as_v4(), Some(network_order));
        assert_eq!(Ipv6Addr::from(Address::LOOPBACK_V4.octets()), Ipv4Addr::LOCALHOST.to_ipv6_mapped());
    }

    #[test]
    fn a_v6_address_survives_its_octets_and_is_not_v4() {
        let octets = Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, 6).octets();
        assert_eq!(Address::from_octets(octets).octets(), octets);
        assert_eq!(Address::from_octets(octets).as_v4(), None);
        assert_eq!(Ipv6Addr::from(Address::LOOPBACK_V6.octets()), Ipv6Addr::LOCALHOST);
        assert_eq!(Address::LOOPBACK_V6.as_v4(), None);
    }
}
