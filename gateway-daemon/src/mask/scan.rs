//! Replaces what detectors find inside values: in text, in the strings, keys and numbers of JSON, in elements and fields.
//! What is not found stays as it is, and a value without a find is passed on as it came.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::{BufMut, BytesMut};

use super::{
    detect::{Hint, Hit, Scanner},
    masker::{Masker, Outcome, json_document},
    nested,
    transform::{last4, partial},
    types::{Format, Kind},
};
use crate::domain::{decision::Transform, detector::Detector};

/// What to look for in the values of a column, and what to put in the place of each find.
#[derive(Debug, Clone)]
pub struct Scan {
    scanner: Arc<Scanner>,
    transforms: Arc<BTreeMap<Detector, Transform>>,
    hint: Hint,
}

impl PartialEq for Scan {
    fn eq(&self, other: &Self) -> bool {
        self.transforms == other.transforms && self.hint == other.hint
    }
}

impl Eq for Scan {}

/// Whether something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finds {
    /// Nothing: the bytes are the same.
    None,
    /// Something, which was replaced.
    Some,
}

/// What came of looking through a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Nothing: nothing was written.
    Nothing,
    /// The value was written with the finds replaced.
    Something,
    /// A find that leaves nothing of its value.
    Null,
}

impl Scan {
    /// Looks for these; `names` are those of the column and whatever else says what its values are.
    pub(super) fn new<'n>(
        scanner: Arc<Scanner>,
        transforms: BTreeMap<Detector, Transform>,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Self {
        let hint = names.into_iter().fold(Hint::default(), |hint, name| hint.with(Hint::of(name.as_bytes())));
        Self { scanner, transforms: Arc::new(transforms), hint }
    }

    /// Whether something is found in a text.
    pub fn finds_in(&self, text: &[u8]) -> bool {
        self.scanner.hits(text, self.hint).next().is_some()
    }

    fn transform(&self, detector: Detector) -> Transform {
        // A find of what nobody asked for: nothing is shown of it.
        self.transforms.get(&detector).copied().unwrap_or(Transform::Redact)
    }
}

/// What a find in text becomes: the name of what it was, or what its transform leaves.
fn put_find(masker: &Masker, transform: Transform, hit: &Hit, found: &[u8], out: &mut BytesMut) {
    match (transform, std::str::from_utf8(found)) {
        (Transform::Partial, Ok(text)) => partial(text, out),
        (Transform::Last4, Ok(text)) => last4(text, out),
        (Transform::Hash, _) => {
            // The same number is the same however it is written.
            let canonical: Vec<u8> = match hit.detector {
                Detector::Phone | Detector::Card | Detector::Iban | Detector::NationalId => found
                    .iter()
                    .filter(|byte| byte.is_ascii_alphanumeric() || **byte == b'+')
                    .copied()
                    .collect(),
                _ => found.to_vec(),
            };
            masker.put_hash(&canonical, out);
        }
        _ => {
            out.put_u8(b'[');
            out.put_slice(hit.detector.name().as_bytes());
            out.put_u8(b']');
        }
    }
}

impl Masker {
    /// Writes `value` with its finds replaced. When the outcome is `Null`, what was appended means nothing.
    pub(super) fn write_scanned(
        &self,
        scan: &Scan,
        kind: &Kind,
        format: Format,
        value: &[u8],
        out: &mut BytesMut,
    ) -> Outcome {
        if !kind.holds_text() {
            out.put_slice(value);
            return Outcome::Written;
        }
        match kind {
            Kind::Json | Kind::Jsonb => {
                let Some((version, document)) = json_document(kind, format, value) else {
                    return Outcome::Null;
                };
                let start = out.len();
                out.put_slice(version);
                match self.scan_json(scan, document, out) {
                    Some(Found::Something) => Outcome::Written,
                    Some(Found::Nothing) => {
                        out.truncate(start);
                        out.put_slice(value);
                        Outcome::Written
                    }
                    Some(Found::Null) | None => Outcome::Null,
                }
            }
            Kind::Array(element) => {
                let write =
                    |value: &[u8], out: &mut BytesMut| self.write_scanned(scan, element, format, value, out);
                match format {
                    Format::Text => nested::text_array(value, out, write).into(),
                    Format::Binary => nested::binary_array(value, out, write).into(),
                }
            }
            Kind::Composite(fields) => {
                let write = |index: usize, value: &[u8], out: &mut BytesMut| match fields.get(index) {
                    Some(field) => self.write_scanned(scan, field, format, value, out),
                    None => Outcome::Null,
                };
                match format {
                    Format::Text => nested::text_composite(value, fields.len(), out, write).into(),
                    Format::Binary => nested::binary_composite(value, fields.len(), out, write).into(),
                }
            }
            Kind::Hstore => self.scan_hstore(scan, format, value, out).into(),
            // A type that is not known has a syntax of its own, which a replacement may break.
            Kind::Opaque => match self.scan_text(scan, scan.hint, value, out) {
                Found::Nothing => {
                    out.put_slice(value);
                    Outcome::Written
                }
                Found::Something | Found::Null => Outcome::Null,
            },
            _ => match self.scan_text(scan, scan.hint, value, out) {
                Found::Nothing => {
                    out.put_slice(value);
                    Outcome::Written
                }
                Found::Something => Outcome::Written,
                Found::Null => Outcome::Null,
            },
        }
    }

    /// Writes a text with its finds replaced; nothing if there are none.
    fn scan_text(&self, scan: &Scan, hint: Hint, text: &[u8], out: &mut BytesMut) -> Found {
        let mut copied = 0;
        let mut found = Found::Nothing;
        for hit in scan.scanner.hits(text, hint) {
            let transform = scan.transform(hit.detector);
            if transform == Transform::Null {
                return Found::Null;
            }
            out.put_slice(text.get(copied..hit.range.start).unwrap_or_default());
            put_find(self, transform, &hit, text.get(hit.range.clone()).unwrap_or_default(), out);
            copied = hit.range.end;
            found = Found::Something;
        }
        if found == Found::Something {
            out.put_slice(text.get(copied..).unwrap_or_default());
        }
        found
    }

    /// Writes a row of COPY data with its finds replaced: in text and CSV nothing that replaces them needs an escape. Which
    /// field a find is in is not known, so `null` leaves its name.
    pub fn scan_copy_row(&self, scan: &Scan, row: &[u8], out: &mut BytesMut) -> Finds {
        let mut copied = 0;
        for hit in scan.scanner.hits(row, scan.hint) {
            out.put_slice(row.get(copied..hit.range.start).unwrap_or_default());
            let found = row.get(hit.range.clone()).unwrap_or_default();
            put_find(self, scan.transform(hit.detector), &hit, found, out);
            copied = hit.range.end;
        }
        out.put_slice(row.get(copied..).unwrap_or_default());
        if copied == 0 { Finds::None } else { Finds::Some }
    }

    /// Writes a document with the finds in its strings and keys replaced, and numbers that are finds as 0; the key
    /// before a value says what the value is. `None` for what is not JSON.
    fn scan_json(&self, scan: &Scan, document: &[u8], out: &mut BytesMut) -> Option<Found> {
        let mut found = Found::Nothing;
        let mut rest = document;
        // The last string that was a key, for the values behind it.
        let mut hint = scan.hint;
        let mut read = Vec::new();
        loop {
            // `:` and `,` and brackets are not looked at: the server has sent a whole document.
            let plain = rest.iter().take_while(|byte| !matches!(byte, b'"' | b'-' | b'0'..=b'9')).count();
            let (before, from) = rest.split_at(plain);
            out.put_slice(before);
            match from.first() {
                None => return Some(found),
                Some(b'"') => {
                    let length = string_length(from)?;
                    let (string, after) = from.split_at(length);
                    let inner = string.get(1..length - 1)?;
                    let is_key = after.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
                    let this = if is_key { scan.hint } else { hint };
                    match self.scan_json_string(scan, this, inner, &mut read, out)? {
                        Found::Null => return Some(Found::Null),
                        Found::Something => found = Found::Something,
                        Found::Nothing => out.put_slice(string),
                    }
                    if is_key {
                        hint = scan.hint.with(Hint::of(inner));
                    }
                    rest = after;
                }
                Some(_) => {
                    let length = from.iter().take_while(|byte| b"+-.eE0123456789".contains(byte)).count();
                    let (number, after) = from.split_at(length);
                    match scan.scanner.hits(number, hint).next().map(|hit| scan.transform(hit.detector)) {
                        None => out.put_slice(number),
                        Some(Transform::Null) => return Some(Found::Null),
                        Some(_) => {
                            out.put_u8(b'0');
                            found = Found::Something;
                        }
                    }
                    rest = after;
                }
            }
        }
    }

    /// The string between its quotes. One with escapes is looked through unescaped, and escaped anew if something is found.
    fn scan_json_string(
        &self,
        scan: &Scan,
        hint: Hint,
        inner: &[u8],
        read: &mut Vec<u8>,
        out: &mut BytesMut,
    ) -> Option<Found> {
        let start = out.len();
        let is_escaped = inner.contains(&b'\\');
        if !is_escaped {
            out.put_u8(b'"');
            let found = self.scan_text(scan, hint, inner, out);
            match found {
                Found::Something => out.put_u8(b'"'),
                Found::Nothing | Found::Null => out.truncate(start),
            }
            return Some(found);
        }
        read.clear();
        read.put_u8(b'"');
        read.put_slice(inner);
        read.put_u8(b'"');
        // A lone surrogate is JSON and no text: then the escapes are looked through as they stand, and go if they hide.
        let text: String = match serde_json::from_slice(read) {
            Ok(text) => text,
            Err(_) => String::from_utf8_lossy(inner).replace('\\', " "),
        };
        let mut written = BytesMut::new();
        let found = self.scan_text(scan, hint, text.as_bytes(), &mut written);
        if found == Found::Something {
            let escaped = serde_json::to_vec(&String::from_utf8_lossy(&written)).ok()?;
            out.put_slice(&escaped);
        }
        Some(found)
    }

    fn scan_hstore(&self, scan: &Scan, format: Format, value: &[u8], out: &mut BytesMut) -> Option<()> {
        let pairs = match format {
            Format::Text => nested::read_text_hstore(value),
            Format::Binary => nested::read_binary_hstore(value),
        }?;
        let mut written = Vec::with_capacity(pairs.len());
        let mut is_changed = false;
        for (key, held) in pairs {
            let hint = scan.hint.with(Hint::of(&key));
            let mut side = |text: Vec<u8>, hint| {
                let mut scanned = BytesMut::new();
                match self.scan_text(scan, hint, &text, &mut scanned) {
                    Found::Nothing => Some(text),
                    Found::Something => {
                        is_changed = true;
                        Some(scanned.to_vec())
                    }
                    Found::Null => None,
                }
            };
            let key = side(key, scan.hint)?;
            let held = match held {
                Some(held) => Some(side(held, hint)?),
                None => None,
            };
            written.push((key, held));
        }
        if !is_changed {
            out.put_slice(value);
            return Some(());
        }
        // Two keys may have become the same.
        let mut seen = BTreeSet::new();
        written.retain(|(key, _)| seen.insert(key.clone()));
        match format {
            Format::Text => nested::put_text_hstore(&written, out),
            Format::Binary => nested::put_binary_hstore(&written, out)?,
        }
        Some(())
    }
}

/// The length of the string at the beginning, with both quotes.
fn string_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}
