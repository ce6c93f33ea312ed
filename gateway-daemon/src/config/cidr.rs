//! Ranges of IP addresses in prefix notation (RFC 4632, RFC 4291 §2.3).

use std::{fmt, net::IpAddr, str::FromStr};

/// A network: an address whose bits behind the prefix are all zero. IPv4-mapped IPv6 networks are IPv4 networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// No slash, no address, or a prefix that is no number or too long.
    #[error("`{0}` is not a network like 10.0.0.0/8 or fd00::/8")]
    Malformed(String),
    /// Bits behind the prefix are set: either the address or the prefix is not what was meant.
    #[error("`{given}` has bits set behind its prefix; the network is {network}")]
    HostBits {
        /// What was written.
        given: String,
        /// What it would be with those bits cleared.
        network: Cidr,
    },
}

impl Cidr {
    /// The network that holds just `address`.
    pub fn single(address: IpAddr) -> Self {
        let network = address.to_canonical();
        Self { network, prefix: width(network) }
    }

    /// Its first address, whose bits behind the prefix are all zero.
    pub const fn network(&self) -> IpAddr {
        self.network
    }

    /// How many bits of an address count: up to 32 of IPv4, up to 128 of IPv6.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether `address` lies in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4() && masked(address, self.prefix) == self.network
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// Whether every address of `other` lies in the network.
    pub fn contains_network(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.network)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let malformed = || CidrError::Malformed(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(malformed)?;
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed());
        }
        let prefix: u8 = prefix.parse().map_err(|_| malformed())?;
        if prefix > width(address) {
            return Err(malformed());
        }
        let canonical = address.to_canonical();
        let mapped_bits = width(address) - width(canonical);
        // `::ffff:0:0/90` would hold the IPv4 addresses and more besides: nothing that one canonical network says.
        let prefix = prefix.checked_sub(mapped_bits).ok_or_else(malformed)?;
        let network = masked(canonical, prefix);
        let cidr = Self { network, prefix };
        if network == canonical {
            Ok(cidr)
        } else {
            Err(CidrError::HostBits { given: text.to_owned(), network: cidr })
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::{Cidr, CidrError};

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("0.0.0.0/0", "203.0.113.7", "::1"),
            ("192.0.2.7/32", "192.0.2.7", "192.0.2.6"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::/0", "fe00::1", "127.0.0.1"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.1.2.3"),
        ] {
            assert!(cidr(network).contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!cidr(network).contains(outside.parse().unwrap()), "{network} {outside}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in
            ["10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "x/8", "::/129", "::ffff:0.0.0.0/90"]
        {
            assert!(matches!(text.parse::<Cidr>(), Err(CidrError::Malformed(_))), "{text}");
        }
        let error = "10.1.0.0/8".parse::<Cidr>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`10.1.0.0/8` has bits set behind its prefix; the network is 10.0.0.0/8"
        );
    }

    #[test]
    fn overlap_is_symmetric() {
        let (wide, narrow, other) = (cidr("10.0.0.0/8"), cidr("10.2.0.0/16"), cidr("11.0.0.0/8"));
        assert!(wide.overlaps(&narrow) && narrow.overlaps(&wide));
        assert!(!wide.overlaps(&other) && !other.overlaps(&narrow));
    }
}
