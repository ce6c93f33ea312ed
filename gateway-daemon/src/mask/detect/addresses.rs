//! E-mail addresses (RFC 5321, as people write them) and passwords in URLs (RFC 3986, userinfo).

use super::{Hit, Place, Seen, is_word};
use crate::domain::detector::Detector;

/// Longest name of a top-level domain that is in use.
const MAX_TOP_LEVEL_BYTES: usize = 24;

/// What is no top-level domain, but the end of many a file name or unit: `logo@2x.png`, `getty@tty1.service`.
const NO_TOP_LEVEL: [&[u8]; 26] = [
    b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp", b"ico", b"css", b"js", b"ts", b"json", b"html", b"htm",
    b"md", b"txt", b"yml", b"yaml", b"toml", b"lock", b"service", b"socket", b"timer", b"target", b"java",
    b"class", b"tgz",
];

/// Looks around an `@`.
pub(super) fn email(place: &Place<'_>) -> Seen {
    let nothing = Seen::Nothing(place.end);
    let is_local = |byte: u8| is_word(byte) || b".!#$%&'*+-/=?^`{|}~".contains(&byte) || byte >= 0x80;
    let mut start = place.back(place.at, is_local);
    // In lists, paths and assignments an address begins behind the last sign of that kind,
    if let Some(sign) = place.slice(start..place.at).iter().rposition(|byte| b"=/|?&`".contains(byte)) {
        start += sign + 1;
    }
    // and quotes and brackets before it are no part of it.
    while place.byte(start).is_some_and(|byte| b".'{}*!#%".contains(&byte)) && start < place.at {
        start += 1;
    }
    let local = place.slice(start..place.at);
    if local.is_empty() || local.ends_with(b".") {
        return nothing;
    }
    let mut end = place
        .ahead(place.end, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-') || byte >= 0x80);
    while place.before(end).is_some_and(|byte| matches!(byte, b'.' | b'-')) && end > place.end {
        end -= 1;
    }
    let host = place.slice(place.end..end);
    let Some(dot) = host.iter().rposition(|byte| *byte == b'.') else { return nothing };
    let (domain, top_level) = (host.get(..dot).unwrap_or_default(), host.get(dot + 1..).unwrap_or_default());
    let is_top_level = (2..=MAX_TOP_LEVEL_BYTES).contains(&top_level.len())
        && (top_level.iter().all(|byte| byte.is_ascii_alphabetic() || *byte >= 0x80)
            || top_level.starts_with(b"xn--"))
        && !NO_TOP_LEVEL.contains(&top_level.to_ascii_lowercase().as_slice());
    let labels = domain
        .split(|byte| *byte == b'.')
        .all(|label| !label.is_empty() && !label.starts_with(b"-") && !label.ends_with(b"-"));
    // `git@host:path` names a service, nobody.
    let is_service = local == b"git"
        || place.byte(end) == Some(b':') && place.byte(end + 1).is_some_and(is_word) && local == b"hg";
    // `https://user@host`: the userinfo of a URL.
    let is_userinfo = place.slice(start.saturating_sub(3)..start) == b"://";
    if !is_top_level || !labels || is_service || is_userinfo {
        return nothing;
    }
    Seen::Hit(Hit { detector: Detector::Email, range: start..end })
}

/// Looks around a `://`. The find is the password alone.
pub(super) fn url_password(place: &Place<'_>) -> Seen {
    let scheme = place.back(place.at, |byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte));
    if scheme == place.at {
        return Seen::Nothing(place.end);
    }
    let end = place.ahead(place.end, |byte| !byte.is_ascii_whitespace() && !b"/?#\"'<>`\\".contains(&byte));
    let authority = place.slice(place.end..end);
    let Some(at) = authority.iter().rposition(|byte| *byte == b'@') else { return Seen::Nothing(place.end) };
    let Some(colon) = authority.iter().take(at).position(|byte| *byte == b':') else {
        return Seen::Nothing(place.end);
    };
    let password = authority.get(colon + 1..at).unwrap_or_default();
    // What stands for a password in examples and templates is none.
    let is_placeholder = password
        .first()
        .is_none_or(|byte| b"$*{<[%".contains(byte) && password.len() > 1 || password == b"*")
        && !password.starts_with(b"%2");
    if password.is_empty() || is_placeholder {
        return Seen::Nothing(place.end);
    }
    let start = place.end + colon + 1;
    Seen::Hit(Hit { detector: Detector::UrlPassword, range: start..start + password.len() })
}
