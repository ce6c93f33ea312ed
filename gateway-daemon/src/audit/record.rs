//! One record: its bytes, its hash, and how it is read back. The format is in the [room's header](super).
//!
//! Reading is strict: a line is exactly what [`encode`] writes or it is not a record. Knows no files.

use std::{fmt, io::Write as _};

use aws_lc_rs::digest;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, IgnoredAny},
};

use crate::domain::event::AuditEvent;

/// Bytes of a line after the hashed part: `,"hash":"`, 64 hex digits, `"}`.
const SUFFIX_BYTES: usize = HASH_FIELD.len() + HEX_BYTES + 2;
const HASH_FIELD: &[u8] = b",\"hash\":\"";
const HEX_BYTES: usize = 64;

/// A SHA-256 digest; `Display` is lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// What the first record's `prev` holds.
    pub const ZERO: Self = Self([0; 32]);

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut out = [0; 32];
        for (to, from) in out.iter_mut().zip(digest::digest(&digest::SHA256, bytes).as_ref()) {
            *to = *from;
        }
        Self(out)
    }

    /// Reads 64 lower-case hex digits.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        if text.len() != HEX_BYTES {
            return None;
        }
        let mut out = [0; 32];
        for (to, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *to = (nibble(*high)? << 4) | nibble(*low)?;
        }
        Some(Self(out))
    }

    fn hex(self) -> [u8; HEX_BYTES] {
        let mut out = [0; HEX_BYTES];
        for (pair, byte) in out.chunks_exact_mut(2).zip(self.0) {
            if let [high, low] = pair {
                *high = hex_digit(byte >> 4);
                *low = hex_digit(byte & 15);
            }
        }
        out
    }
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

const fn hex_digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_hex(text.as_bytes()).ok_or_else(|| D::Error::custom("not 64 lower-case hex digits"))
    }
}

/// A record read back from the log, its hash checked. Its JSON has the log's own field names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Position in the log, from 1.
    pub seq: u64,
    /// Unix time in microseconds; never smaller than that of the record before.
    pub time: u64,
    /// The newest record that was on disk before this one was written.
    pub synced: u64,
    /// Hash of the record before.
    pub prev: Digest,
    /// What happened.
    pub event: AuditEvent,
    /// Hash of this record.
    pub hash: Digest,
}

/// The chain's fields of a line, with the event still in its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) seq: u64,
    pub(super) time: u64,
    pub(super) synced: u64,
    pub(super) prev: Digest,
    pub(super) event: &'a [u8],
    pub(super) hash: Digest,
    /// The digest of the hashed part as it stands: equal to `hash` in an unchanged record.
    pub(super) computed: Digest,
}

impl<'a> Line<'a> {
    /// Reads a line (without its line feed); `None` when it is not of the format.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let (body, suffix) = line.split_at_checked(line.len().checked_sub(SUFFIX_BYTES)?)?;
        let hash = Digest::from_hex(suffix.strip_prefix(HASH_FIELD)?.strip_suffix(b"\"}")?)?;
        let (seq, rest) = number(body.strip_prefix(b"{\"seq\":")?)?;
        let (time, rest) = number(rest.strip_prefix(b",\"time\":")?)?;
        let (synced, rest) = number(rest.strip_prefix(b",\"synced\":")?)?;
        let (prev, rest) = rest.strip_prefix(b",\"prev\":\"")?.split_at_checked(HEX_BYTES)?;
        let prev = Digest::from_hex(prev)?;
        let event = rest.strip_prefix(b"\",\"event\":")?;
        serde_json::from_slice::<IgnoredAny>(event).ok()?;
        Some(Self { seq, time, synced, prev, event, hash, computed: Digest::of(body) })
    }

    /// Whether the bytes are those that were hashed.
    pub(super) fn is_intact(&self) -> bool {
        self.hash == self.computed
    }

    /// The whole record. Fails when the event is of a kind that this version does not know.
    pub(super) fn record(&self) -> Result<Record, serde_json::Error> {
        Ok(Record {
            seq: self.seq,
            time: self.time,
            synced: self.synced,
            prev: self.prev,
            event: serde_json::from_slice(self.event)?,
            hash: self.hash,
        })
    }
}

/// Where the chain stands: what the next record follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) seq: u64,
    pub(super) hash: Digest,
    pub(super) time: u64,
}

impl Link {
    /// Before the first record.
    pub(super) const GENESIS: Self = Self { seq: 0, hash: Digest::ZERO, time: 0 };
}

/// Appends the record after `last`, with its line feed, to `out`, and answers where the chain then stands.
pub(super) fn encode(out: &mut Vec<u8>, last: Link, now: u64, synced: u64, event: &[u8]) -> Link {
    let start = out.len();
    let (seq, time) = (last.seq.saturating_add(1), now.max(last.time));
    out.extend_from_slice(b"{\"seq\":");
    push_number(out, seq);
    out.extend_from_slice(b",\"time\":");
    push_number(out, time);
    out.extend_from_slice(b",\"synced\":");
    push_number(out, synced);
    out.extend_from_slice(b",\"prev\":\"");
    out.extend_from_slice(&last.hash.hex());
    out.extend_from_slice(b"\",\"event\":");
    out.extend_from_slice(event);
    let hash = Digest::of(out.get(start..).unwrap_or_default());
    out.extend_from_slice(HASH_FIELD);
    out.extend_from_slice(&hash.hex());
    out.extend_from_slice(b"\"}\n");
    Link { seq, hash, time }
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{number}");
}

/// Reads decimal digits as JSON writes them: no sign, no leading zero.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    if digits.len() > 1 && digits.first() == Some(&b'0') {
        return None;
    }
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::event::{EventKind, Outcome};

    fn line(text: &str) -> (Vec<u8>, Link) {
        let mut event = AuditEvent::new(EventKind::Request, Outcome::Allowed);
        event.text = text.to_owned();
        let mut out = Vec::new();
        let link = encode(&mut out, Link::GENESIS, 17, 0, &serde_json::to_vec(&event).unwrap());
        assert_eq!(out.pop(), Some(b'\n'));
        (out, link)
    }

    #[test]
    fn the_hash_is_that_of_the_documented_bytes() {
        let (bytes, link) = line("SELECT 1");
        let text = String::from_utf8(bytes).unwrap();
        let (body, rest) = text.rsplit_once(",\"hash\":\"").unwrap();
        assert_eq!(Digest::of(body.as_bytes()), link.hash);
        assert_eq!(rest, format!("{}\"}}", link.hash));
        assert!(text.starts_with("{\"seq\":1,\"time\":17,\"synced\":0,\"prev\":\"0000"));
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }

    #[test]
    fn a_clock_that_steps_back_does_not_take_the_records_back() {
        let mut out = Vec::new();
        let last = Link { seq: 4, hash: Digest::ZERO, time: 1_000 };
        assert_eq!(encode(&mut out, last, 999, 4, b"{}").time, 1_000);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(text in any::<String>()) {
            let (line, link) = line(&text);
            prop_assert!(!line.contains(&b'\n'));
            let parsed = Line::parse(&line).unwrap();
            prop_assert!(parsed.is_intact());
            prop_assert_eq!((parsed.seq, parsed.hash), (link.seq, link.hash));
            prop_assert_eq!(parsed.record().unwrap().event.text, text);
        }

        #[test]
        fn no_changed_byte_goes_unseen(text in "[ -~]{0,40}", at in any::<prop::sample::Index>(), flip in 1u8..) {
            let (mut line, _) = line(&text);
            let at = at.index(line.len());
            line[at] ^= flip;
            prop_assert!(Line::parse(&line).is_none_or(|parsed| !parsed.is_intact()));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in any::<Vec<u8>>()) {
            let _ = Line::parse(&bytes);
        }
    }
}
