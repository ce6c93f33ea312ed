//! Applies one transform to one value, by the value's type.

use aws_lc_rs::hmac;
use bytes::BufMut;

use super::{
    transform::{REDACTED, REDACTED_JSON, last4, partial},
    types::{Format, Shape},
};
use crate::domain::decision::Transform;

/// The key of `hash`: whoever has it can test guesses, and a new one makes all hashes new.
#[derive(Clone, PartialEq, Eq)]
pub struct HashKey([u8; 32]);

impl HashKey {
    /// Wraps 32 random bytes.
    pub const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }
}

impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey(<withheld>)")
    }
}

/// What the client gets in a value's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Masked {
    /// NULL.
    Null,
    /// These bytes, in the format that the value had.
    Value(Vec<u8>),
}

/// Whether a value was written in the original's place, or NULL must stand there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Null,
    Written,
}

/// Transforms values. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Masker {
    key: hmac::Key,
}

impl Masker {
    /// A masker whose hashes depend on `key`.
    pub fn new(HashKey(key): HashKey) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key) }
    }

    /// The value that stands for `value`, of the type `type_oid`. Types that cannot bear the transform and
    /// values that are not what their type says become NULL.
    pub fn apply(&self, transform: Transform, type_oid: u32, format: Format, value: &[u8]) -> Masked {
        let mut out = Vec::new();
        match self.write(transform, type_oid, format, value, &mut out) {
            Outcome::Null => Masked::Null,
            Outcome::Written => Masked::Value(out),
        }
    }

    /// The same, appended to `out`. Writes nothing when the outcome is `Null`.
    pub(super) fn write(
        &self,
        transform: Transform,
        type_oid: u32,
        format: Format,
        value: &[u8],
        out: &mut impl BufMut,
    ) -> Outcome {
        let shape = Shape::of(type_oid);
        match shape {
            Shape::Opaque => Outcome::Null,
            Shape::Uuid => self.write_uuid(transform, format, value, out),
            Shape::Text | Shape::PaddedText | Shape::Xml => {
                let Ok(text) = std::str::from_utf8(value) else { return Outcome::Null };
                let text = if shape == Shape::PaddedText { text.trim_end_matches(' ') } else { text };
                self.write_text(transform, shape, text, out)
            }
            Shape::Json | Shape::Jsonb => self.write_json(transform, shape, format, value, out),
        }
    }

    fn write_text(&self, transform: Transform, shape: Shape, text: &str, out: &mut impl BufMut) -> Outcome {
        match (transform, shape) {
            (Transform::Null, _) => return Outcome::Null,
            (Transform::Hash, _) => out.put_slice(&self.hash(text.as_bytes())),
            (Transform::Redact, _) | (Transform::Partial | Transform::Last4, Shape::Xml) => {
                out.put_slice(REDACTED);
            }
            (Transform::Partial, _) => partial(text, out),
            (Transform::Last4, _) => last4(text, out),
        }
        Outcome::Written
    }

    /// A document is not shown in part: what stands first and last in it is not known.
    fn write_json(
        &self,
        transform: Transform,
        shape: Shape,
        format: Format,
        value: &[u8],
        out: &mut impl BufMut,
    ) -> Outcome {
        const JSONB_VERSION: u8 = 1;
        let (version, document) = match (shape, format) {
            (Shape::Jsonb, Format::Binary) => match value.split_first() {
                Some((&JSONB_VERSION, document)) => (Some(JSONB_VERSION), document),
                _ => return Outcome::Null,
            },
            _ => (None, value),
        };
        if transform == Transform::Null || std::str::from_utf8(document).is_err() {
            return Outcome::Null;
        }
        if let Some(version) = version {
            out.put_u8(version);
        }
        match transform {
            Transform::Hash => {
                out.put_u8(b'"');
                out.put_slice(&self.hash(document));
                out.put_u8(b'"');
            }
            _ => out.put_slice(REDACTED_JSON),
        }
        Outcome::Written
    }

    /// `hash` gives another UUID (version 8, RFC 9562), every other transform NULL.
    fn write_uuid(
        &self,
        transform: Transform,
        format: Format,
        value: &[u8],
        out: &mut impl BufMut,
    ) -> Outcome {
        if transform != Transform::Hash {
            return Outcome::Null;
        }
        let Some(uuid) = read_uuid(format, value) else { return Outcome::Null };
        let tag = hmac::sign(&self.key, &uuid);
        let Some(mut hashed) = tag.as_ref().first_chunk::<16>().copied() else { return Outcome::Null };
        let [_, _, _, _, _, _, version, _, variant, ..] = &mut hashed;
        *version = (*version & 0x0f) | 0x80;
        *variant = (*variant & 0x3f) | 0x80;
        match format {
            Format::Binary => out.put_slice(&hashed),
            Format::Text => {
                for (index, byte) in hashed.iter().enumerate() {
                    if matches!(index, 4 | 6 | 8 | 10) {
                        out.put_u8(b'-');
                    }
                    out.put_slice(&hex_digits(*byte));
                }
            }
        }
        Outcome::Written
    }

    /// 64 bits of the keyed hash in hexadecimal.
    fn hash(&self, value: &[u8]) -> [u8; 16] {
        let tag = hmac::sign(&self.key, value);
        let mut text = [b'0'; 16];
        for (pair, byte) in text.chunks_exact_mut(2).zip(tag.as_ref()) {
            pair.copy_from_slice(&hex_digits(*byte));
        }
        text
    }
}

/// The sixteen bytes of a UUID; text as PostgreSQL writes it, in either case.
fn read_uuid(format: Format, value: &[u8]) -> Option<[u8; 16]> {
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

const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

const fn hex_digits(byte: u8) -> [u8; 2] {
    const fn digit(value: u8) -> u8 {
        if value < 10 { b'0' + value } else { b'a' + value - 10 }
    }
    [digit(byte >> 4), digit(byte & 0x0f)]
}
