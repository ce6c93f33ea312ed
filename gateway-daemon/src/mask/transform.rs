//! The transforms on text. None of them shows how long a value is, and short values are not shown in part.

use bytes::BufMut;

/// In place of a redacted text.
pub(super) const REDACTED: &[u8] = b"[redacted]";
/// In place of a redacted JSON document: a JSON string.
pub(super) const REDACTED_JSON: &[u8] = b"\"***\"";

/// Below this many characters, one of them is too much to show.
const PARTIAL_FROM_CHARS: usize = 4;
/// The same for the local part of an address, whose domain is hidden as well.
const PARTIAL_LOCAL_FROM_CHARS: usize = 2;
/// Up to this many characters, the last four are too much to show.
const LAST4_ABOVE_CHARS: usize = 8;
/// What is longer than this behind an address's last dot may be more than a top-level domain.
const MAX_TOP_LEVEL_BYTES: usize = 6;
const STARS: &[u8] = b"***";
const LAST4_STARS: &[u8] = b"****";

/// `a***@***.com` for what looks like an e-mail address, else the first character and `***`.
pub(super) fn partial(text: &str, out: &mut impl BufMut) {
    let text = text.trim();
    let Some((local, top_level)) = email(text) else {
        first_character(text, PARTIAL_FROM_CHARS, out);
        return;
    };
    first_character(local, PARTIAL_LOCAL_FROM_CHARS, out);
    out.put_slice(b"@***");
    if top_level.len() <= MAX_TOP_LEVEL_BYTES {
        out.put_u8(b'.');
        out.put_slice(top_level.as_bytes());
    }
}

/// `****` and the last four characters.
pub(super) fn last4(text: &str, out: &mut impl BufMut) {
    let text = text.trim();
    out.put_slice(LAST4_STARS);
    if text.chars().nth(LAST4_ABOVE_CHARS).is_none() {
        return;
    }
    let tail = text.char_indices().rev().nth(3).and_then(|(start, _)| text.get(start..)).unwrap_or_default();
    out.put_slice(tail.as_bytes());
}

/// The first character, if the text has at least `least` of them, and `***`.
fn first_character(text: &str, least: usize, out: &mut impl BufMut) {
    if let (Some(first), Some(_)) = (text.chars().next(), text.chars().nth(least.saturating_sub(1))) {
        out.put_slice(first.encode_utf8(&mut [0; 4]).as_bytes());
    }
    out.put_slice(STARS);
}

/// Local part and top-level domain of `local@domain.tld`; the domain itself is never shown.
fn email(text: &str) -> Option<(&str, &str)> {
    let (local, host) = text.split_once('@')?;
    let (domain, top_level) = host.rsplit_once('.')?;
    let is_domain = !domain.is_empty() && domain.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'@');
    let is_top_level = top_level.len() >= 2 && top_level.bytes().all(|byte| byte.is_ascii_alphabetic());
    let is_local = !local.is_empty() && !local.contains(char::is_whitespace);
    (is_domain && is_top_level && is_local).then_some((local, top_level))
}
