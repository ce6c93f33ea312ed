//! A server's answer.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    CLASS_IN, Name, NameError, Query, RCODE, RESPONSE, RecordKind, TRUNCATED, Unusable, query::read_question,
    u16_at,
};

/// More aliases than anybody chains.
const LONGEST_CHAIN: usize = 16;
/// TTLs with the highest bit set count as none (RFC 2181 §8).
const LONGEST_TTL: u32 = 0x7fff_ffff;

/// An answer to a query, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    message: Vec<u8>,
    /// The response code, without EDNS' upper bits.
    pub rcode: u16,
    /// Whether it was cut off.
    pub truncated: bool,
    /// What the name stands for, through its aliases.
    pub addresses: Vec<Resolved>,
}

/// An address that a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// The address.
    pub address: IpAddr,
    /// For how many seconds: the shortest on the way to it.
    pub ttl: u32,
}

/// Why a message does not answer a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It is no response, or one to another query.
    #[error("it does not answer this query")]
    Foreign,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Malformed(&'static str),
    /// A name in it cannot be read.
    #[error("it cannot be read: {0}")]
    Name(#[from] NameError),
}

impl Answer {
    /// Reads `message` as the answer to `query`, which was put under number `id`.
    pub fn read(message: Vec<u8>, query: &Query, id: u16) -> Result<Self, Mismatch> {
        let number = |at| u16_at(&message, at).ok_or(Mismatch::Foreign);
        let flags = number(2)?;
        if number(0)? != id || flags & RESPONSE == 0 {
            return Err(Mismatch::Foreign);
        }
        let (rcode, truncated) = (flags & RCODE, flags & TRUNCATED != 0);
        let at = match number(4)? {
            // Some servers leave the question out of an error.
            0 if rcode != 0 => super::HEADER_BYTES,
            1 => {
                let (name, place) = read_question(&message).map_err(foreign_question)?;
                let asked = [query.kind.0, CLASS_IN].map(Some);
                if name != query.name
                    || [u16_at(&message, place.end - 4), u16_at(&message, place.end - 2)] != asked
                {
                    return Err(Mismatch::Foreign);
                }
                place.end
            }
            _ => return Err(Mismatch::Foreign),
        };
        // What is cut off is asked for again; nobody reads it.
        let addresses = if truncated || rcode != 0 {
            Vec::new()
        } else {
            Records::read(&message, at, number(6)?)?.addresses_of(&query.name)
        };
        Ok(Self { message, rcode, truncated, addresses })
    }

    /// The answer for the client: as it came, under the client's own number and in its own letter case.
    pub fn into_message(mut self, query: &Query) -> Vec<u8> {
        let has_question = u16_at(&self.message, 4) == Some(1);
        if let Some(id) = self.message.get_mut(..2) {
            id.copy_from_slice(&query.id.to_be_bytes());
        }
        let end = super::HEADER_BYTES + query.question.len();
        if has_question && let Some(question) = self.message.get_mut(super::HEADER_BYTES..end) {
            question.copy_from_slice(&query.question);
        }
        self.message
    }

    /// Its length.
    pub fn length_bytes(&self) -> usize {
        self.message.len()
    }

    /// The response code's name, as `dig` shows it.
    pub fn status(&self) -> String {
        match self.rcode {
            0 => "NOERROR".to_owned(),
            1 => "FORMERR".to_owned(),
            2 => "SERVFAIL".to_owned(),
            3 => "NXDOMAIN".to_owned(),
            4 => "NOTIMP".to_owned(),
            5 => "REFUSED".to_owned(),
            other => format!("RCODE{other}"),
        }
    }
}

fn foreign_question(why: Unusable) -> Mismatch {
    match why {
        Unusable::Name(error) => Mismatch::Name(error),
        _ => Mismatch::Malformed("its question ends too early"),
    }
}

/// What of the answer section matters.
#[derive(Default)]
struct Records {
    aliases: HashMap<Name, (Name, u32)>,
    addresses: Vec<(Name, Resolved)>,
}

impl Records {
    fn read(message: &[u8], mut at: usize, count: u16) -> Result<Self, Mismatch> {
        const SHORT: Mismatch = Mismatch::Malformed("a record ends too early");
        let mut records = Self::default();
        for _ in 0..count {
            let (owner, behind) = Name::read(message, at)?;
            let number = |at| u16_at(message, at).ok_or(SHORT);
            let (kind, class) = (RecordKind(number(behind)?), number(behind + 2)?);
            let ttl = u32::from(number(behind + 4)?) << 16 | u32::from(number(behind + 6)?);
            let ttl = if ttl > LONGEST_TTL { 0 } else { ttl };
            let data_at = behind + 10;
            let end = data_at + usize::from(number(behind + 8)?);
            let data = message.get(data_at..end).ok_or(SHORT)?;
            if class == CLASS_IN {
                let mut add = |address| records.addresses.push((owner.clone(), Resolved { address, ttl }));
                match (kind, data) {
                    (RecordKind::A, &[a, b, c, d]) => add(IpAddr::V4(Ipv4Addr::new(a, b, c, d))),
                    (RecordKind::AAAA, data) => {
                        let octets = <[u8; 16]>::try_from(data)
                            .map_err(|_| Mismatch::Malformed("an address has the wrong length"))?;
                        add(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical());
                    }
                    (RecordKind::A, _) => return Err(Mismatch::Malformed("an address has the wrong length")),
                    (RecordKind::CNAME, _) => {
                        let (alias, data_end) = Name::read(message, data_at)?;
                        if data_end != end {
                            return Err(Mismatch::Malformed("an alias has the wrong length"));
                        }
                        records.aliases.insert(owner, (alias, ttl));
                    }
                    _ => {}
                }
            }
            at = end;
        }
        Ok(records)
    }

    fn addresses_of(&self, name: &Name) -> Vec<Resolved> {
        let mut found = Vec::new();
        let (mut name, mut shortest) = (name, LONGEST_TTL);
        for _ in 0..LONGEST_CHAIN {
            let of_name = self.addresses.iter().filter(|(owner, _)| owner == name);
            found.extend(
                of_name.map(|(_, resolved)| Resolved { ttl: resolved.ttl.min(shortest), ..*resolved }),
            );
            let Some((alias, ttl)) = self.aliases.get(name) else { break };
            name = alias;
            shortest = shortest.min(*ttl);
        }
        found
    }
}
