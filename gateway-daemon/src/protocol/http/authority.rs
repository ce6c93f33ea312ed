//! `host[:port]` (RFC 3986 §3.2) as Host, an absolute target and SNI bear it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::error::Malformed;

/// The longest name that the DNS knows.
const LONGEST_NAME_BYTES: usize = 253;

/// A host, as it is compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A name: lower case, without the dot at its end.
    Name(Box<str>),
    /// An address.
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(name),
            Self::Address(IpAddr::V6(address)) => write!(formatter, "[{address}]"),
            Self::Address(IpAddr::V4(address)) => address.fmt(formatter),
        }
    }
}

impl Host {
    /// Reads a host. Names have letters, digits, `-`, `_` and dots; what looks like an address in a form that not
    /// everybody reads alike (`127.1`, `0x7f000001`, `010.0.0.1`) is none.
    pub fn read(text: &[u8]) -> Option<Self> {
        if let [b'[', inside @ .., b']'] = text {
            let address: Ipv6Addr = std::str::from_utf8(inside).ok()?.parse().ok()?;
            return Some(Self::Address(IpAddr::V6(address)));
        }
        let text = std::str::from_utf8(text).ok()?;
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Some(Self::Address(IpAddr::V4(address)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let well_formed = name.len() <= LONGEST_NAME_BYTES
            && name.split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            });
        let last = name.rsplit('.').next().unwrap_or_default();
        let numeric = last.bytes().all(|byte| byte.is_ascii_digit())
            || last.strip_prefix("0x").or_else(|| last.strip_prefix("0X")).is_some();
        (well_formed && !numeric).then(|| Self::Name(name.to_ascii_lowercase().into()))
    }
}

/// A host and the port, where one is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port, if it is there.
    pub port: Option<u16>,
}

impl Authority {
    /// Reads an authority: no user information, no empty port, nothing encoded.
    pub(super) fn read(text: &[u8]) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed::Host("Host is not a host name or address with an optional port");
        let bracket = text.iter().rposition(|byte| *byte == b']');
        let colon =
            text.iter().rposition(|byte| *byte == b':').filter(|colon| bracket.is_none_or(|at| *colon > at));
        let (host, port) = match colon {
            None => (text, None),
            Some(colon) => {
                let digits = text.get(colon + 1..).unwrap_or_default();
                if digits.is_empty() || digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
                    return Err(BAD);
                }
                let port = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u16>().ok());
                (text.get(..colon).unwrap_or_default(), Some(port.filter(|port| *port != 0).ok_or(BAD)?))
            }
        };
        Ok(Self { host: Host::read(host).ok_or(BAD)?, port })
    }
}
