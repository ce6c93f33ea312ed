//! Tells masks from values, where values come back: what a transform gives for some value of a type is its *image*. An
//! application that reads a row, changes one field and saves all of them sends images in the place of the values.
//!
//! Some images nobody would write on purpose (`p***@***.com`, `[redacted]`, `****1234`, a hash); others are honest values
//! as well (0, a first of January, an enum's first label, an empty array). What comes from a client need not be written
//! as the server would write it: numbers and times are compared by what they mean.

mod scalars;
mod times;

use bytes::BytesMut;

use super::{
    masker::{Outcome, json_document},
    nested,
    transform::{REDACTED, REDACTED_JSON},
    types::{Format, Kind, Shape},
};
use crate::domain::decision::Transform;

/// Digits of a hash in hexadecimal.
const HASH_DIGITS: usize = 16;
/// What stands for characters that `partial` and `last4` leave out.
const STARS: &str = "***";
const LAST4_STARS: &str = "****";
const LAST4_CHARS: usize = 4;
/// The longest top-level domain that `partial` leaves.
const MAX_TOP_LEVEL_BYTES: usize = 6;
/// What ends a value inside of a larger one: signs of arrays, composites and JSON.
const SEPARATORS: &str = "\"{}(),:;\\";

/// Whether a value is an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Image {
    /// It is none.
    None,
    /// It may be one, and may be a value that somebody means.
    Honest,
    /// It is one.
    Unmistakable,
}

/// Whether `value`, of this shape and in this format, is what `transform` gives for some value.
pub fn image(transform: Transform, shape: &Shape, format: Format, value: &[u8]) -> Image {
    of_kind(transform, &shape.0, format, value)
}

/// Whether there is an unmistakable image of a value of this shape somewhere inside of `value`: an array, a document, a
/// row, or an operand.
pub fn holds_image(transform: Transform, shape: &Shape, value: &[u8]) -> bool {
    let mut leaves = Vec::new();
    leaves_of(&shape.0, &mut leaves);
    let is_image = |text: &str| {
        leaves.iter().any(|kind| {
            of_kind(transform, kind, Format::Text, text.as_bytes()) == Image::Unmistakable
                // In JSON the quotes are signs of the whole.
                || matches!(kind, Kind::Json | Kind::Jsonb) && is_json_image(transform, text)
        })
    };
    // Lengths and type oids of binary forms are no text.
    let texts = value.utf8_chunks();
    let is_end = |sign: char| sign.is_control() || SEPARATORS.contains(sign);
    texts.into_iter().any(|chunk| is_image(chunk.valid()) || chunk.valid().split(is_end).any(is_image))
}

/// The same of the elements of `value`, an array of values of this shape: what is the most of any of them. A NULL may be
/// an image.
pub fn element_image(transform: Transform, shape: &Shape, format: Format, value: &[u8]) -> Image {
    let mut most = Image::None;
    let mut take = |value: &[u8], out: &mut BytesMut| {
        most = most.max(of_kind(transform, &shape.0, format, value));
        out.extend_from_slice(b"x");
        Outcome::Written
    };
    let mut rest = BytesMut::new();
    let has_null = match format {
        Format::Text => {
            nested::text_array(value.trim_ascii(), &mut rest, &mut take);
            rest.contains(&b'N')
        }
        Format::Binary => {
            nested::binary_array(value, &mut rest, &mut take);
            rest.get(4..8).is_some_and(|flags| flags != [0; 4])
        }
    };
    if has_null { most.max(Image::Honest) } else { most }
}

/// The kinds that a value of this kind is made of in the end, as far as images of them are unmistakable.
fn leaves_of<'k>(kind: &'k Kind, leaves: &mut Vec<&'k Kind>) {
    match kind {
        Kind::Array(element) => leaves_of(element, leaves),
        Kind::Composite(fields) => fields.iter().for_each(|field| leaves_of(field, leaves)),
        Kind::Text | Kind::PaddedText | Kind::Xml | Kind::Json | Kind::Jsonb | Kind::Uuid
            if !leaves.contains(&kind) =>
        {
            leaves.push(kind);
        }
        _ => {}
    }
}

fn of_kind(transform: Transform, kind: &Kind, format: Format, value: &[u8]) -> Image {
    match kind {
        Kind::Opaque => Image::None,
        Kind::Text | Kind::PaddedText | Kind::Xml => std::str::from_utf8(value)
            .map_or(Image::None, |text| unmistakable(is_text_image(transform, kind, text))),
        Kind::Json | Kind::Jsonb => match json_document(kind, format, value) {
            Some((_, document)) => unmistakable(is_json_document(transform, document)),
            None => Image::None,
        },
        Kind::Array(element) => {
            let mut parts = Parts::default();
            let mut take = |value: &[u8], _: &mut BytesMut| {
                parts.add(of_kind(transform, element, format, value));
                Outcome::Written
            };
            let mut scrap = BytesMut::new();
            let read = match format {
                Format::Text => nested::text_array(value, &mut scrap, &mut take),
                Format::Binary => nested::binary_array(value, &mut scrap, &mut take),
            };
            parts.of(transform, read)
        }
        Kind::Composite(fields) => {
            let mut parts = Parts::default();
            let mut take = |index: usize, value: &[u8], _: &mut BytesMut| {
                let field = fields.get(index);
                parts.add(field.map_or(Image::None, |field| of_kind(transform, field, format, value)));
                Outcome::Written
            };
            let mut scrap = BytesMut::new();
            let read = match format {
                Format::Text => nested::text_composite(value, fields.len(), &mut scrap, &mut take),
                Format::Binary => nested::binary_composite(value, fields.len(), &mut scrap, &mut take),
            };
            parts.of(transform, read)
        }
        Kind::Hstore => hstore(transform, format, value),
        // Nothing but NULL stands for a value that is masked so.
        _ if transform == Transform::Null => Image::None,
        Kind::Uuid => scalars::uuid(transform, format, value),
        _ if scalars::is_image(transform, kind, format, value) => Image::Honest,
        _ => Image::None,
    }
}

fn unmistakable(is_image: bool) -> Image {
    if is_image { Image::Unmistakable } else { Image::None }
}

/// What the parts of a value make of the whole.
#[derive(Debug)]
struct Parts {
    least: Image,
    most: Image,
}

impl Default for Parts {
    /// A value without parts, or whose parts are NULL: what was masked may have been the same.
    fn default() -> Self {
        Self { least: Image::Honest, most: Image::None }
    }
}

impl Parts {
    fn add(&mut self, part: Image) {
        self.least = self.least.min(part);
        self.most = self.most.max(part);
    }

    /// One part that is unmistakable is enough; of honest ones it takes all. What could not be read is no value.
    fn of(self, transform: Transform, read: Option<()>) -> Image {
        if self.most == Image::Unmistakable {
            Image::Unmistakable
        } else if read.is_some() && transform != Transform::Null {
            self.least
        } else {
            Image::None
        }
    }
}

/// Whatever the transform, a computed value is concealed as `[redacted]`.
fn is_text_image(transform: Transform, kind: &Kind, text: &str) -> bool {
    let text = text.trim();
    if text.as_bytes().eq_ignore_ascii_case(REDACTED) {
        return true;
    }
    match (transform, kind) {
        (Transform::Hash, _) => is_hash(text),
        (Transform::Partial, Kind::Text | Kind::PaddedText) => is_partial(text),
        (Transform::Last4, Kind::Text | Kind::PaddedText) => {
            text.strip_prefix(LAST4_STARS).is_some_and(|tail| matches!(tail.chars().count(), 0 | LAST4_CHARS))
        }
        _ => false,
    }
}

/// `a***`, `***`, `a***@***.com`.
fn is_partial(text: &str) -> bool {
    let is_shown = |text: &str| text.strip_suffix(STARS).is_some_and(|first| first.chars().nth(1).is_none());
    let is_top_level = |host: &str| {
        host.is_empty()
            || host.strip_prefix('.').is_some_and(|name| {
                (2..=MAX_TOP_LEVEL_BYTES).contains(&name.len())
                    && name.bytes().all(|byte| byte.is_ascii_alphabetic())
            })
    };
    // `@***` is the image of a text that begins so, and of no address.
    is_shown(text)
        || text.split_once("@***").is_some_and(|(local, host)| is_shown(local) && is_top_level(host))
}

fn is_hash(text: &str) -> bool {
    text.len() == HASH_DIGITS && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_json_document(transform: Transform, document: &[u8]) -> bool {
    let document = document.trim_ascii();
    let content = document.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    content
        .and_then(|content| std::str::from_utf8(content).ok())
        .is_some_and(|content| is_json_image(transform, content))
}

/// The same of what is between the quotes.
fn is_json_image(transform: Transform, content: &str) -> bool {
    match transform {
        Transform::Hash => is_hash(content),
        Transform::Null => false,
        Transform::Redact | Transform::Partial | Transform::Last4 => {
            REDACTED_JSON.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""))
                == Some(content.as_bytes())
        }
    }
}

/// Nothing at all, or the one pair of a hash.
fn hstore(transform: Transform, format: Format, value: &[u8]) -> Image {
    let pairs = match format {
        Format::Text => nested::read_text_hstore(value.trim_ascii()),
        Format::Binary => nested::read_binary_hstore(value),
    };
    match (transform, pairs.as_deref()) {
        (Transform::Hash, Some([(key, Some(hash))])) if key == b"hash" => {
            unmistakable(std::str::from_utf8(hash).is_ok_and(is_hash))
        }
        (Transform::Redact | Transform::Partial | Transform::Last4, Some([])) => Image::Honest,
        _ => Image::None,
    }
}
