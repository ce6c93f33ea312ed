//! Types of records, by number and by name (the IANA registry of resource record types).

use std::{fmt, str::FromStr};

/// A type of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordKind(pub u16);

impl RecordKind {
    /// An IPv4 address.
    pub const A: Self = Self(1);
    /// Another name.
    pub const CNAME: Self = Self(5);
    /// Anything at all (RFC 1035 §3.3.10): of no use but to tunnels.
    pub const NULL: Self = Self(10);
    /// Text.
    pub const TXT: Self = Self(16);
    /// An IPv6 address.
    pub const AAAA: Self = Self(28);
    /// EDNS, in queries and answers only.
    pub const OPT: Self = Self(41);

    /// Whether this asks for more than a record: transfers of zones, signatures of transactions, and what was never
    /// put to use.
    pub const fn is_meta(self) -> bool {
        matches!(self.0, 0 | 41 | 128..=254 | 65_535)
    }

    /// Whether somebody may have made it up: numbers for private use (RFC 6895 §3.1).
    pub const fn is_private(self) -> bool {
        self.0 >= 65_280
    }
}

const NAMES: [(u16, &str); 29] = [
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (10, "NULL"),
    (12, "PTR"),
    (13, "HINFO"),
    (15, "MX"),
    (16, "TXT"),
    (17, "RP"),
    (28, "AAAA"),
    (29, "LOC"),
    (33, "SRV"),
    (35, "NAPTR"),
    (37, "CERT"),
    (39, "DNAME"),
    (43, "DS"),
    (44, "SSHFP"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (52, "TLSA"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (251, "IXFR"),
    (252, "AXFR"),
    (255, "ANY"),
    (256, "URI"),
    (257, "CAA"),
];

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.write_str(name),
            // RFC 3597 §5.
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

impl FromStr for RecordKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
        let number = known.map(|(number, _)| *number).or_else(|| {
            let number = text.get(..4).filter(|head| head.eq_ignore_ascii_case("TYPE")).and(text.get(4..))?;
            number.parse().ok()
        });
        number.map(Self).ok_or_else(|| format!("\"{text}\" is no type of DNS record"))
    }
}
