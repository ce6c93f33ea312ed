//! Applies one transform to one value, by the value's shape.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::hmac;
use bytes::{BufMut, BytesMut};

use super::{
    data_row::MaskError,
    detect::Scanner,
    nested, scalars,
    scan::Scan,
    transform::{REDACTED, REDACTED_JSON, last4, partial},
    types::{Format, Kind, Shape},
};
use crate::domain::{decision::Transform, detector::Detector};

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

impl From<Option<()>> for Outcome {
    fn from(written: Option<()>) -> Self {
        if written.is_some() { Self::Written } else { Self::Null }
    }
}

/// Transforms values. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Masker {
    key: hmac::Key,
    /// Those that were asked for, by what they look for: a session of a thousand results builds none anew.
    scanners: Arc<Mutex<HashMap<BTreeSet<Detector>, Arc<Scanner>>>>,
}

impl Masker {
    /// A masker whose hashes depend on `key`.
    pub fn new(HashKey(key): HashKey) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key), scanners: Arc::default() }
    }

    /// What finds these things, and what becomes of each. `names` are those of the columns that the values come from.
    ///
    /// # Errors
    /// The automaton of all that is looked for cannot be built.
    pub fn scan<'n>(
        &self,
        transforms: BTreeMap<Detector, Transform>,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<Scan, MaskError> {
        let wanted: BTreeSet<Detector> = transforms.keys().copied().collect();
        let mut scanners = self.scanners.lock().unwrap_or_else(PoisonError::into_inner);
        let scanner = match scanners.get(&wanted) {
            Some(scanner) => Arc::clone(scanner),
            None => {
                let scanner = Arc::new(Scanner::new(&wanted).map_err(|_| MaskError::Detectors)?);
                scanners.insert(wanted, Arc::clone(&scanner));
                scanner
            }
        };
        Ok(Scan::new(scanner, transforms, names))
    }

    /// The value that stands for `value`. Types that cannot bear the transform and values that are not what their type
    /// says become NULL.
    pub fn apply(&self, transform: Transform, shape: &Shape, format: Format, value: &[u8]) -> Masked {
        let mut out = BytesMut::new();
        match self.write(transform, &shape.0, format, value, &mut out) {
            Outcome::Null => Masked::Null,
            Outcome::Written => Masked::Value(out.to_vec()),
        }
    }

    /// The same, appended to `out`. When the outcome is `Null`, what was appended means nothing.
    pub(super) fn write(
        &self,
        transform: Transform,
        kind: &Kind,
        format: Format,
        value: &[u8],
        out: &mut BytesMut,
    ) -> Outcome {
        use scalars::{Length, Network, Zone};
        if transform == Transform::Null {
            return Outcome::Null;
        }
        match kind {
            Kind::Opaque => Outcome::Null,
            Kind::Text | Kind::PaddedText | Kind::Xml => {
                let Ok(text) = std::str::from_utf8(value) else { return Outcome::Null };
                let text = if *kind == Kind::PaddedText { text.trim_end_matches(' ') } else { text };
                self.write_text(transform, kind, text, out)
            }
            Kind::Char => {
                out.put_u8(b'*');
                Outcome::Written
            }
            Kind::Json | Kind::Jsonb => self.write_json(transform, kind, format, value, out),
            Kind::Uuid => scalars::uuid(self, transform, format, value, out),
            Kind::Bool => scalars::boolean(format, out),
            Kind::Integer(width) => scalars::integer(self, transform, *width, format, value, out),
            Kind::Real => scalars::real(self, transform, format, value, out),
            Kind::Double => scalars::double(self, transform, format, value, out),
            Kind::Numeric => scalars::numeric(self, transform, format, value, out),
            Kind::Money => scalars::money(self, transform, format, value, out),
            Kind::Date => scalars::date(self, transform, format, value, out),
            Kind::Time => scalars::time_of_day(self, transform, Zone::Without, format, value, out),
            Kind::TimeTz => scalars::time_of_day(self, transform, Zone::With, format, value, out),
            Kind::Timestamp => scalars::timestamp(self, transform, Zone::Without, format, value, out),
            Kind::TimestampTz => scalars::timestamp(self, transform, Zone::With, format, value, out),
            Kind::Interval => scalars::interval(self, transform, format, value, out),
            Kind::Inet => scalars::network_address(self, transform, Network::Host, format, value, out),
            Kind::Cidr => scalars::network_address(self, transform, Network::Net, format, value, out),
            Kind::HardwareAddress(length) => {
                scalars::hardware_address(self, transform, *length, format, value, out)
            }
            Kind::Bytes => scalars::byte_string(self, transform, format, value, out),
            Kind::Bits => scalars::bit_string(self, transform, Length::Fixed, format, value, out),
            Kind::VaryingBits => scalars::bit_string(self, transform, Length::Varying, format, value, out),
            // Labels are few: a hash of one would be guessed, and a label that is not the value's would be a lie.
            Kind::Enum(first) => {
                out.put_slice(first.as_bytes());
                Outcome::Written
            }
            Kind::Array(element) => {
                let write =
                    |value: &[u8], out: &mut BytesMut| self.write(transform, element, format, value, out);
                match format {
                    Format::Text => nested::text_array(value, out, write).into(),
                    Format::Binary => nested::binary_array(value, out, write).into(),
                }
            }
            Kind::Composite(fields) => {
                let write = |index: usize, value: &[u8], out: &mut BytesMut| match fields.get(index) {
                    Some(field) => self.write(transform, field, format, value, out),
                    None => Outcome::Null,
                };
                match format {
                    Format::Text => nested::text_composite(value, fields.len(), out, write).into(),
                    Format::Binary => nested::binary_composite(value, fields.len(), out, write).into(),
                }
            }
            // Bounds that are masked one by one may be in the wrong order, which is no range.
            Kind::Range => {
                out.put_slice(if format == Format::Text { b"empty" } else { b"\x01" });
                Outcome::Written
            }
            Kind::Multirange => {
                out.put_slice(if format == Format::Text { b"{}" } else { b"\0\0\0\0" });
                Outcome::Written
            }
            Kind::Hstore => self.write_hstore(transform, format, value, out).into(),
        }
    }

    fn write_text(&self, transform: Transform, kind: &Kind, text: &str, out: &mut BytesMut) -> Outcome {
        match (transform, kind) {
            (Transform::Hash, _) => self.put_hash(text.as_bytes(), out),
            (Transform::Redact | Transform::Null, _) | (Transform::Partial | Transform::Last4, Kind::Xml) => {
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
        kind: &Kind,
        format: Format,
        value: &[u8],
        out: &mut BytesMut,
    ) -> Outcome {
        let Some((version, document)) = json_document(kind, format, value) else { return Outcome::Null };
        if std::str::from_utf8(document).is_err() {
            return Outcome::Null;
        }
        out.put_slice(version);
        match transform {
            Transform::Hash => {
                out.put_u8(b'"');
                self.put_hash(document, out);
                out.put_u8(b'"');
            }
            _ => out.put_slice(REDACTED_JSON),
        }
        Outcome::Written
    }

    /// None of its keys stays: they are data as well. A hash is a single pair.
    fn write_hstore(
        &self,
        transform: Transform,
        format: Format,
        value: &[u8],
        out: &mut BytesMut,
    ) -> Option<()> {
        let pairs = match format {
            Format::Text => nested::read_text_hstore(value),
            Format::Binary => nested::read_binary_hstore(value),
        }?;
        let masked = if transform == Transform::Hash {
            let mut canonical = BytesMut::new();
            nested::put_binary_hstore(&pairs, &mut canonical)?;
            let mut hash = BytesMut::new();
            self.put_hash(&canonical, &mut hash);
            vec![(b"hash".to_vec(), Some(hash.to_vec()))]
        } else {
            Vec::new()
        };
        match format {
            Format::Text => nested::put_text_hstore(&masked, out),
            Format::Binary => nested::put_binary_hstore(&masked, out)?,
        }
        Some(())
    }

    /// The keyed hash of a value.
    pub(super) fn tag(&self, value: &[u8]) -> [u8; 32] {
        hmac::sign(&self.key, value).as_ref().first_chunk().copied().unwrap_or_default()
    }

    /// 64 bits of the keyed hash as a number.
    pub(super) fn number(&self, value: &[u8]) -> u64 {
        u64::from_be_bytes(self.tag(value).first_chunk().copied().unwrap_or_default())
    }

    /// 64 bits of the keyed hash in hexadecimal.
    pub(super) fn put_hash(&self, value: &[u8], out: &mut impl BufMut) {
        scalars::put_hex(&self.number(value).to_be_bytes(), out);
    }
}

/// What stands before a document in binary form, and the document.
pub(super) fn json_document<'a>(
    kind: &Kind,
    format: Format,
    value: &'a [u8],
) -> Option<(&'a [u8], &'a [u8])> {
    const JSONB_VERSION: u8 = 1;
    match (kind, format) {
        (Kind::Jsonb, Format::Binary) => {
            value.split_at_checked(1).filter(|(version, _)| *version == [JSONB_VERSION])
        }
        _ => Some((&[], value)),
    }
}
