//! DNS messages (RFC 1035, RFC 6891, RFC 8914): a client's query read strictly and put anew, a server's answer checked
//! against it and passed on as it came.
//!
//! What a client wrote goes no further than its question: a query is written anew from what was understood, so that
//! options, extra records, letter case and bytes behind the message carry nothing out.

mod answer;
mod frame;
mod kind;
mod name;
mod query;
mod write;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests;

pub use answer::{Answer, Mismatch, Resolved};
pub use frame::{Frames, LONGEST_MESSAGE_BYTES, frame};
pub use kind::RecordKind;
pub use name::{Name, NameError};
pub use query::{Edns, Query, Unusable};
pub use write::{ErrorInfo, Rcode, put_upstream, refuse, shorten, unusable_reply};

/// Length of the header.
const HEADER_BYTES: usize = 12;
/// QR: this is a response.
const RESPONSE: u16 = 0x8000;
/// OPCODE.
const OPCODE: u16 = 0x7800;
/// TC: the message is cut off.
const TRUNCATED: u16 = 0x0200;
/// RD: the server shall recurse.
const RECURSION_DESIRED: u16 = 0x0100;
/// RA: the server recurses.
const RECURSION_AVAILABLE: u16 = 0x0080;
/// AD and CD (RFC 4035 §3.1.6 and §3.2.2).
const AUTHENTIC_DATA: u16 = 0x0020;
const CHECKING_DISABLED: u16 = 0x0010;
/// RCODE.
const RCODE: u16 = 0x000f;
/// Class IN.
const CLASS_IN: u16 = 1;

/// A 16-bit number at `at`.
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(pair.try_into().ok()?))
}
