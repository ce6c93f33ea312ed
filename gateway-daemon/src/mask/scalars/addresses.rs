//! Addresses of networks and of hardware, and UUIDs. `redact` gives zeros of the same family; `partial` leaves the first
//! byte of an IPv4 address, the first two of an IPv6 one, the maker of a hardware address; `hash` gives an address of a
//! range that means nothing outside: 10.0.0.0/8, fd00::/8, locally administered, UUID version 8.
//! <https://www.postgresql.org/docs/current/datatype-net-types.html>; binary forms as in `inet_send`, `macaddr_send`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::BufMut;

use super::{
    super::{
        masker::{Masker, Outcome},
        types::Format,
    },
    hex_value, put_hex,
};
use crate::domain::decision::Transform;

/// PostgreSQL's own numbers of the families: AF_INET, and one more.
const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 3;

/// Whether a network address is of type `cidr`, which always shows how many bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Network {
    Host,
    Net,
}

pub(in super::super) fn network_address(
    masker: &Masker,
    transform: Transform,
    network: Network,
    format: Format,
    value: &[u8],
    out: &mut impl BufMut,
) -> Outcome {
    let read = match format {
        Format::Text => read_text(value),
        Format::Binary => read_binary(value),
    };
    let Some((address, bits)) = read else { return Outcome::Null };
    let shown = match (transform, address) {
        (Transform::Hash, address) => {
            let tag = masker.tag(format!("{address}/{bits}").as_bytes());
            match address {
                IpAddr::V4(_) => {
                    let [a, b, c, ..] = tag;
                    IpAddr::V4(Ipv4Addr::new(10, a, b, c))
                }
                IpAddr::V6(_) => {
                    let mut octets = [0; 16];
                    octets.copy_from_slice(tag.first_chunk::<16>().unwrap_or(&[0; 16]));
                    let [first, ..] = &mut octets;
                    *first = 0xfd;
                    IpAddr::V6(Ipv6Addr::from(octets))
                }
            }
        }
        (Transform::Partial, IpAddr::V4(address)) => {
            let [first, ..] = address.octets();
            IpAddr::V4(Ipv4Addr::new(first, 0, 0, 0))
        }
        (Transform::Partial, IpAddr::V6(address)) => {
            let [first, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0))
        }
        (_, IpAddr::V4(_)) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        (_, IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let all_bits = if shown.is_ipv4() { 32 } else { 128 };
    match (format, network) {
        (Format::Text, Network::Host) => out.put_slice(shown.to_string().as_bytes()),
        (Format::Text, Network::Net) => out.put_slice(format!("{shown}/{all_bits}").as_bytes()),
        (Format::Binary, _) => {
            out.put_u8(if shown.is_ipv4() { FAMILY_V4 } else { FAMILY_V6 });
            out.put_u8(all_bits);
            out.put_u8((network == Network::Net).into());
            match shown {
                IpAddr::V4(address) => {
                    out.put_u8(4);
                    out.put_slice(&address.octets());
                }
                IpAddr::V6(address) => {
                    out.put_u8(16);
                    out.put_slice(&address.octets());
                }
            }
        }
    }
    Outcome::Written
}

pub(in super::super) fn read_text(value: &[u8]) -> Option<(IpAddr, u8)> {
    let text = std::str::from_utf8(value).ok()?;
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    Some((address, bits.unwrap_or(if address.is_ipv4() { 32 } else { 128 })))
}

pub(in super::super) fn read_binary(value: &[u8]) -> Option<(IpAddr, u8)> {
    match *value {
        [FAMILY_V4, bits, _, 4, ref octets @ ..] => {
            Some((IpAddr::from(<[u8; 4]>::try_from(octets).ok()?), bits))
        }
        [FAMILY_V6, bits, _, 16, ref octets @ ..] => {
            Some((IpAddr::from(<[u8; 16]>::try_from(octets).ok()?), bits))
        }
        _ => None,
    }
}

pub(in super::super) fn hardware_address(
    masker: &Masker,
    transform: Transform,
    length: usize,
    format: Format,
    value: &[u8],
    out: &mut impl BufMut,
) -> Outcome {
    let read = match format {
        Format::Binary => Some(value.to_vec()),
        Format::Text => value
            .split(|byte| *byte == b':')
            .map(|pair| match *pair {
                [high, low] => Some((hex_value(high)? << 4) | hex_value(low)?),
                _ => None,
            })
            .collect(),
    };
    let Some(mut address) = read.filter(|address| address.len() == length) else { return Outcome::Null };
    match transform {
        Transform::Hash => {
            let tag = masker.tag(&address);
            for (byte, hashed) in address.iter_mut().zip(tag) {
                *byte = hashed;
            }
            if let Some(first) = address.first_mut() {
                // Locally administered, and of one station.
                *first = (*first & 0xfc) | 0x02;
            }
        }
        Transform::Partial => address.iter_mut().skip(3).for_each(|byte| *byte = 0),
        Transform::Redact | Transform::Last4 | Transform::Null => address.fill(0),
    }
    match format {
        Format::Binary => out.put_slice(&address),
        Format::Text => {
            for (index, byte) in address.iter().enumerate() {
                if index > 0 {
                    out.put_u8(b':');
                }
                put_hex(&[*byte], out);
            }
        }
    }
    Outcome::Written
}

/// `hash` gives another UUID (version 8, RFC 9562), `last4` leaves the last four digits, all others give the nil UUID.
pub(in super::super) fn uuid(
    masker: &Masker,
    transform: Transform,
    format: Format,
    value: &[u8],
    out: &mut impl BufMut,
) -> Outcome {
    let Some(uuid) = read_uuid(format, value) else { return Outcome::Null };
    let mut shown = [0; 16];
    match transform {
        Transform::Hash => {
            let tag = masker.tag(&uuid);
            shown.copy_from_slice(tag.first_chunk::<16>().unwrap_or(&[0; 16]));
            let [_, _, _, _, _, _, version, _, variant, ..] = &mut shown;
            *version = (*version & 0x0f) | 0x80;
            *variant = (*variant & 0x3f) | 0x80;
        }
        Transform::Last4 => {
            let [.., a, b] = uuid;
            let [.., x, y] = &mut shown;
            (*x, *y) = (a, b);
        }
        Transform::Redact | Transform::Partial | Transform::Null => {}
    }
    match format {
        Format::Binary => out.put_slice(&shown),
        Format::Text => {
            for (index, byte) in shown.iter().enumerate() {
                if matches!(index, 4 | 6 | 8 | 10) {
                    out.put_u8(b'-');
                }
                put_hex(&[*byte], out);
            }
        }
    }
    Outcome::Written
}

/// The sixteen bytes of a UUID; text as PostgreSQL writes it, in either case.
pub(in super::super) fn read_uuid(format: Format, value: &[u8]) -> Option<[u8; 16]> {
    match format {
        Format::Binary => value.try_into().ok(),
        Format::Text => {
            let mut uuid = [0; 16];
            let mut digits = value.iter().enumerate().filter(|(index, _)| !matches!(index, 8 | 13 | 18 | 23));
            let hyphens = [8, 13, 18, 23].iter().all(|index| value.get(*index) == Some(&b'-'));
            if value.len() != 36 || !hyphens {
                return None;
            }
            for byte in &mut uuid {
                let high = hex_value(*digits.next()?.1)?;
                let low = hex_value(*digits.next()?.1)?;
                *byte = (high << 4) | low;
            }
            Some(uuid)
        }
    }
}
