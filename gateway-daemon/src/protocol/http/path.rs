//! Every reading of a path that a server could have of it.
//!
//! Servers differ in whether they decode before they split, resolve `..` before or after they decode, merge slashes,
//! cut `;parameters` off, take `\` for `/`. Whoever judges one reading lets through the others. So all are judged; the
//! bytes go on as they came, since `/@scope%2fname` is what a registry wants to see.

use std::fmt::Write as _;

use super::syntax::hex_value;

/// Decoding that does not settle after so many times is not meant to be read.
const MAX_DECODINGS: usize = 3;
/// More readings than any path has that is meant well.
const MAX_READINGS: usize = 32;
/// Deeper than any path that is meant well.
const MAX_SEGMENTS: usize = 128;

/// Why a path is not judged at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It has an encoded NUL, where many readers end.
    #[error("the path has an encoded NUL")]
    Nul,
    /// `%` without two hexadecimal digits.
    #[error("the path has a % without two hexadecimal digits")]
    Escape,
    /// Encoded again and again.
    #[error("the path is encoded more than {MAX_DECODINGS} times")]
    Depth,
    /// Too many ways to read it.
    #[error("the path can be read in more than {MAX_READINGS} ways")]
    Readings,
    /// Too many segments.
    #[error("the path has more than {MAX_SEGMENTS} segments")]
    Segments,
}

/// The readings of a path that begins with `/`, the one that came first. Percent-encoded bytes are in upper case in
/// them; those that are no UTF-8 stay encoded.
pub fn readings(path: &str) -> Result<Vec<String>, PathError> {
    if is_plain(path) {
        let path = vec![path.to_owned()];
        return if too_deep(&path) { Err(PathError::Segments) } else { Ok(path) };
    }
    check_escapes(path)?;
    // Whatever a server does to a path, in whatever order, is some way through these steps.
    let mut found = vec![upper_escapes(path)];
    let mut decodings = vec![0];
    let mut at = 0;
    while let (Some(text), Some(times)) = (found.get(at).cloned(), decodings.get(at).copied()) {
        at += 1;
        let once_more = upper_escapes(&decoded(&text));
        if once_more.contains('\0') {
            return Err(PathError::Nul);
        }
        if once_more != text && times == MAX_DECODINGS {
            return Err(PathError::Depth);
        }
        let same_depth = [without_parameters(&text), text.replace('\\', "/"), merged(&text), resolved(&text)];
        // Decoded, a question mark ends the path for whoever splits afterwards.
        let end = text.find(['?', '#']).and_then(|end| text.get(..end)).map(str::to_owned);
        let next = same_depth.into_iter().chain(end).map(|text| (text, times));
        for (text, times) in next.chain(std::iter::once((once_more, times + 1))) {
            if found.contains(&text) {
                continue;
            }
            if found.len() == MAX_READINGS {
                return Err(PathError::Readings);
            }
            found.push(text);
            decodings.push(times);
        }
    }
    if too_deep(&found) { Err(PathError::Segments) } else { Ok(found) }
}

fn too_deep(readings: &[String]) -> bool {
    readings.iter().any(|reading| reading.split('/').count() > MAX_SEGMENTS)
}

/// Whether all servers read it alike.
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    let settled = |byte: &u8| !matches!(byte, b'%' | b'\\' | b';' | b'?' | b'#');
    bytes.iter().all(settled) && !bytes.windows(2).any(|pair| matches!(pair, b"//" | b"/."))
}

fn check_escapes(path: &str) -> Result<(), PathError> {
    let bytes = path.as_bytes();
    let complete = |at: usize| {
        bytes.get(at + 1..at + 3).is_some_and(|pair| pair.iter().all(|byte| hex_value(*byte).is_some()))
    };
    let mut escapes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    if escapes.all(|(at, _)| complete(at)) { Ok(()) } else { Err(PathError::Escape) }
}

/// With the digits of what is encoded in upper case: RFC 3986 §6.2.2.1 has both mean the same.
fn upper_escapes(path: &str) -> String {
    let bytes = path.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    let in_escape = |at: usize| {
        let first = at >= 1 && bytes.get(at - 1) == Some(&b'%') && is_digit(at + 1);
        let second = at >= 2 && bytes.get(at - 2) == Some(&b'%') && is_digit(at - 1);
        is_digit(at) && (first || second)
    };
    path.char_indices()
        .map(|(at, character)| if in_escape(at) { character.to_ascii_uppercase() } else { character })
        .collect()
}

/// Decoded once. What is no UTF-8 then stays as it was, in upper case; so does a `%` that encodes nothing.
pub(super) fn decoded(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        if let (b'%', [high, low, behind @ ..]) = (first, behind)
            && let (Some(high), Some(low)) = (hex_value(*high), hex_value(*low))
        {
            bytes.push(high << 4 | low);
            rest = behind;
            continue;
        }
        bytes.push(*first);
    }
    let mut decoded = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        decoded.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(decoded, "%{byte:02X}");
        }
    }
    decoded
}

fn without_parameters(path: &str) -> String {
    let segments = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    segments.collect::<Vec<_>>().join("/")
}

fn merged(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !merged.ends_with('/') {
            merged.push(character);
        }
    }
    merged
}

/// Without dot segments (RFC 3986 §5.2.4).
fn resolved(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}
