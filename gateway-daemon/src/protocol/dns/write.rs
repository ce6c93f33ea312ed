//! What the daemon itself writes: queries put anew, refusals, answers cut short.

use super::{
    Answer, CLASS_IN, HEADER_BYTES, Query, RCODE, RECURSION_AVAILABLE, RECURSION_DESIRED, RESPONSE,
    RecordKind, TRUNCATED, Unusable, query::read_question, u16_at,
};

/// What we say that we take over UDP: what passes every network in one piece (DNS flag day 2020), or less if the
/// client takes less.
const OUR_PAYLOAD_BYTES: u16 = 1232;
/// EDNS option 15, Extended DNS Error (RFC 8914).
const EXTENDED_ERROR: u16 = 15;
/// The text of an extended error is cut off there: answers should stay small.
const LONGEST_TEXT_BYTES: usize = 255;

/// Response codes that the daemon gives (RFC 1035 §4.1.1, RFC 6891 §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rcode {
    /// The query is malformed.
    FormErr,
    /// Nobody answers.
    ServFail,
    /// There is no such name; only where the configuration says so.
    NxDomain,
    /// The operation is not known.
    NotImp,
    /// Policy says no.
    Refused,
    /// An EDNS version that is not known.
    BadVersion,
}

impl Rcode {
    const fn number(self) -> u16 {
        match self {
            Self::FormErr => 1,
            Self::ServFail => 2,
            Self::NxDomain => 3,
            Self::NotImp => 4,
            Self::Refused => 5,
            Self::BadVersion => 16,
        }
    }
}

/// Why, in the words of RFC 8914.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorInfo<'a> {
    /// 15, Blocked: this server's operator does not want the name resolved.
    Blocked(&'a str),
    /// 18, Prohibited: this client may not ask.
    Prohibited(&'a str),
    /// 22, No Reachable Authority.
    Unreachable(&'a str),
    /// 0, Other Error.
    Other(&'a str),
}

impl ErrorInfo<'_> {
    const fn parts(&self) -> (u16, &str) {
        match self {
            Self::Blocked(text) => (15, text),
            Self::Prohibited(text) => (18, text),
            Self::Unreachable(text) => (22, text),
            Self::Other(text) => (0, text),
        }
    }
}

/// The query for the server, under a number of our own. It says what was understood of the client's and nothing else.
pub fn put_upstream(query: &Query, id: u16) -> Vec<u8> {
    let mut message = header(id, query.flags, u16::from(query.edns.is_some()));
    message.extend(query.name.wire());
    message.extend(query.kind.0.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    if let Some(edns) = query.edns {
        opt(&mut message, edns.payload_bytes.min(OUR_PAYLOAD_BYTES), 0, edns.dnssec_ok, None);
    }
    message
}

/// An answer without records.
pub fn refuse(query: &Query, rcode: Rcode, info: ErrorInfo<'_>) -> Vec<u8> {
    let flags = RESPONSE | RECURSION_AVAILABLE | query.flags & RECURSION_DESIRED | rcode.number() & RCODE;
    let mut message = header(query.id, flags, u16::from(query.edns.is_some()));
    message.extend(&query.question);
    if let Some(edns) = query.edns {
        opt(&mut message, OUR_PAYLOAD_BYTES, rcode.number() >> 4, edns.dnssec_ok, Some(info));
    }
    message
}

/// The reply to a message that is no usable query; `None` where nobody waits for one.
pub fn unusable_reply(message: &[u8], why: Unusable) -> Option<Vec<u8>> {
    let rcode = match why {
        Unusable::NoQuery => return None,
        Unusable::Operation => Rcode::NotImp,
        Unusable::Class(_) => Rcode::Refused,
        Unusable::EdnsVersion(_) => Rcode::BadVersion,
        Unusable::Questions(_) | Unusable::Extra | Unusable::Truncated | Unusable::Name(_) => Rcode::FormErr,
    };
    let flags = u16_at(message, 2)?;
    let kept = flags & (super::OPCODE | RECURSION_DESIRED);
    let mut reply =
        header(u16_at(message, 0)?, RESPONSE | RECURSION_AVAILABLE | kept | rcode.number() & RCODE, 0);
    // Clients match an answer by its question as well; what cannot be read is not repeated.
    let question = read_question(message).ok().filter(|_| u16_at(message, 4) == Some(1));
    match question.and_then(|(_, place)| message.get(place)) {
        Some(question) => reply.extend(question),
        None => set(&mut reply, 4, 0),
    }
    if rcode == Rcode::BadVersion {
        set(&mut reply, 10, 1);
        opt(&mut reply, OUR_PAYLOAD_BYTES, rcode.number() >> 4, false, None);
    }
    Some(reply)
}

/// An answer that says that it does not fit: the client asks again over TCP.
pub fn shorten(query: &Query, answer: &Answer) -> Vec<u8> {
    let flags = RESPONSE | TRUNCATED | RECURSION_AVAILABLE | query.flags & RECURSION_DESIRED | answer.rcode;
    let mut message = header(query.id, flags, u16::from(query.edns.is_some()));
    message.extend(&query.question);
    if let Some(edns) = query.edns {
        opt(&mut message, OUR_PAYLOAD_BYTES, 0, edns.dnssec_ok, None);
    }
    message
}

/// A header with one question.
fn header(id: u16, flags: u16, additional: u16) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER_BYTES + 64);
    for number in [id, flags, 1, 0, 0, additional] {
        message.extend(number.to_be_bytes());
    }
    message
}

fn set(message: &mut [u8], at: usize, number: u16) {
    if let Some(place) = message.get_mut(at..at + 2) {
        place.copy_from_slice(&number.to_be_bytes());
    }
}

fn opt(
    message: &mut Vec<u8>,
    payload_bytes: u16,
    rcode_high: u16,
    dnssec_ok: bool,
    info: Option<ErrorInfo<'_>>,
) {
    message.push(0);
    message.extend(RecordKind::OPT.0.to_be_bytes());
    message.extend(payload_bytes.to_be_bytes());
    message.extend([u8::try_from(rcode_high).unwrap_or_default(), 0]);
    message.extend((if dnssec_ok { 0x8000_u16 } else { 0 }).to_be_bytes());
    let Some(info) = info else {
        message.extend(0_u16.to_be_bytes());
        return;
    };
    let (code, text) = info.parts();
    let text = text.get(..text.floor_char_boundary(LONGEST_TEXT_BYTES)).unwrap_or_default();
    let length = u16::try_from(text.len()).unwrap_or_default();
    for number in [length + 6, EXTENDED_ERROR, length + 2, code] {
        message.extend(number.to_be_bytes());
    }
    message.extend(text.as_bytes());
}
