//! A client's query.

use std::ops::Range;

use super::{
    AUTHENTIC_DATA, CHECKING_DISABLED, CLASS_IN, HEADER_BYTES, Name, NameError, OPCODE, RECURSION_DESIRED,
    RESPONSE, RecordKind, TRUNCATED, u16_at,
};

/// The smallest answer over UDP that every client takes (RFC 1035 §4.2.1), and what a smaller EDNS size means.
const SMALLEST_ANSWER_BYTES: u16 = 512;

/// A query with exactly one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The client's number for it.
    pub id: u16,
    /// RD, AD and CD as the client set them.
    pub(super) flags: u16,
    /// The name, lower case.
    pub name: Name,
    /// The type.
    pub kind: RecordKind,
    /// The question as the client wrote it, in its own letter case: name, type, class.
    pub(super) question: Vec<u8>,
    /// EDNS, where the client speaks it.
    pub edns: Option<Edns>,
}

/// What of EDNS matters (RFC 6891 §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// The longest answer over UDP that the client takes; at least 512.
    pub payload_bytes: u16,
    /// DO: the client wants DNSSEC's records.
    pub dnssec_ok: bool,
}

/// Why a message is no query that can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Too short for a header, or an answer: nobody waits for a reply to that.
    #[error("it is no query")]
    NoQuery,
    /// An operation other than QUERY.
    #[error("it is another operation than a query")]
    Operation,
    /// None, or several: servers answer only one, and nobody knows which.
    #[error("it has {0} questions")]
    Questions(u16),
    /// Records where a query has none, or bytes behind its end.
    #[error("it has more than a question")]
    Extra,
    /// It ends too early.
    #[error("it ends too early")]
    Truncated,
    /// A name that cannot be read.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Another class than IN.
    #[error("it asks for class {0}")]
    Class(u16),
    /// An EDNS version that does not exist.
    #[error("it speaks EDNS version {0}")]
    EdnsVersion(u8),
}

impl Query {
    /// Reads a message. Everything of it must be understood.
    pub fn read(message: &[u8]) -> Result<Self, Unusable> {
        let number = |at| u16_at(message, at).ok_or(Unusable::NoQuery);
        let (id, flags) = (number(0)?, number(2)?);
        let counts = (number(4)?, number(6)?, number(8)?, number(10)?);
        if flags & RESPONSE != 0 {
            return Err(Unusable::NoQuery);
        }
        if flags & OPCODE != 0 {
            return Err(Unusable::Operation);
        }
        if counts.0 != 1 {
            return Err(Unusable::Questions(counts.0));
        }
        if flags & TRUNCATED != 0 || counts.1 != 0 || counts.2 != 0 || counts.3 > 1 {
            return Err(Unusable::Extra);
        }
        let (name, place) = read_question(message)?;
        let (Some(kind), Some(class)) = (u16_at(message, place.end - 4), u16_at(message, place.end - 2))
        else {
            return Err(Unusable::Truncated);
        };
        if class != CLASS_IN {
            return Err(Unusable::Class(class));
        }
        let edns = match counts.3 {
            0 => None,
            _ => Some(read_edns(message, place.end)?),
        };
        if edns.is_none() && place.end != message.len() {
            return Err(Unusable::Extra);
        }
        Ok(Self {
            id,
            flags: flags & (RECURSION_DESIRED | AUTHENTIC_DATA | CHECKING_DISABLED),
            name,
            kind: RecordKind(kind),
            question: message.get(place).unwrap_or_default().to_vec(),
            edns,
        })
    }

    /// The longest answer over UDP that the client takes.
    pub fn longest_answer_bytes(&self) -> usize {
        usize::from(self.edns.map_or(SMALLEST_ANSWER_BYTES, |edns| edns.payload_bytes))
    }
}

/// The name of the only question, and where name, type and class stand. The first name of a message has nothing to
/// point back to, so it is uncompressed.
pub(super) fn read_question(message: &[u8]) -> Result<(Name, Range<usize>), Unusable> {
    let (name, behind) = Name::read(message, HEADER_BYTES)?;
    let end = behind + 4;
    if behind != HEADER_BYTES + name.wire().len() {
        return Err(Unusable::Name(NameError::ForwardPointer));
    }
    if end > message.len() {
        return Err(Unusable::Truncated);
    }
    Ok((name, HEADER_BYTES..end))
}

/// An additional record that must be an OPT, and the last of the message.
fn read_edns(message: &[u8], at: usize) -> Result<Edns, Unusable> {
    let number = |at| u16_at(message, at).ok_or(Unusable::Truncated);
    let root = *message.get(at).ok_or(Unusable::Truncated)?;
    if root != 0 || number(at + 1)? != RecordKind::OPT.0 {
        return Err(Unusable::Extra);
    }
    let payload_bytes = number(at + 3)?.max(SMALLEST_ANSWER_BYTES);
    let version = *message.get(at + 6).ok_or(Unusable::Truncated)?;
    let dnssec_ok = number(at + 7)? & 0x8000 != 0;
    let options = usize::from(number(at + 9)?);
    match (at + 11 + options).cmp(&message.len()) {
        std::cmp::Ordering::Greater => return Err(Unusable::Truncated),
        std::cmp::Ordering::Less => return Err(Unusable::Extra),
        std::cmp::Ordering::Equal => {}
    }
    if version != 0 {
        return Err(Unusable::EdnsVersion(version));
    }
    Ok(Edns { payload_bytes, dnssec_ok })
}
