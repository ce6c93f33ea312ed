//! A request as the audit log shows it: `GET https://host/path?query`, without what could be a credential.
//!
//! Whoever reads the log must not be able to do what the agent did. Names say most of what is a secret; beyond them, what
//! looks like chance (long, with letters of both cases and digits) is not shown either.

use std::fmt::Write as _;

/// What stands in place of it.
const HIDDEN: &str = "***";

/// Parts of names whose values are never shown.
const SECRET_NAMES: &[&str] = &[
    "token",
    "secret",
    "pass",
    "pwd",
    "sig",
    "auth",
    "cred",
    "session",
    "sid",
    "jwt",
    "assertion",
    "key",
    "access",
    "code",
    "hmac",
    "nonce",
    "ticket",
    "otp",
    "pin",
];
/// Shorter texts are no keys that anybody gives out.
const SHORTEST_SECRET: usize = 20;

/// The text of a request.
pub(super) fn text(method: &str, scheme: &str, host: &str, path: &str, query: Option<&str>) -> String {
    let mut text = format!("{method} {scheme}://{host}{}", self::path(path));
    if let Some(query) = query {
        let _ = write!(text, "?{}", self::query(query));
    }
    text
}

/// A path without what looks like a secret.
pub(super) fn path(path: &str) -> String {
    let segments = path.split('/').map(|segment| {
        let plain = segment.split([':', ';', '=']).all(|part| !looks_secret(part));
        if plain { segment } else { HIDDEN }
    });
    segments.collect::<Vec<_>>().join("/")
}

fn query(query: &str) -> String {
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, value)) if is_secret(name) || looks_secret(value) => format!("{name}={HIDDEN}"),
        None if looks_secret(pair) => HIDDEN.to_owned(),
        Some(_) | None => pair.to_owned(),
    });
    pairs.collect::<Vec<_>>().join("&")
}

/// Whether a parameter of this name is kept out of records.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // An encoded name is one that somebody wanted to hide.
    name.contains('%') || SECRET_NAMES.iter().any(|part| name.contains(part))
}

/// Whether a text is long and random enough to be a key. Hashes and UUIDs are not: they name things.
fn looks_secret(text: &str) -> bool {
    let has = |is: fn(&u8) -> bool| text.bytes().any(|byte| is(&byte));
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+' | b'%' | b'.'));
    text.len() >= SHORTEST_SECRET
        && plain
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn what_could_be_a_credential_is_not_shown() {
        let shown = |path: &str, query: Option<&str>| text("GET", "https", "a", path, query);
        assert_eq!(shown("/v1/items", None), "GET https://a/v1/items");
        assert_eq!(shown("/v1", Some("page=2&q=a+b")), "GET https://a/v1?page=2&q=a+b");
        for secret in [
            "token=t0k3n",
            "access_token=t0k3n",
            "API-Key=t0k3n",
            "X-Amz-Signature=0abc",
            "sig=t0k3n",
            "%74oken=t0k3n",
            "q=AbCdEfGhIjKlMnOpQ123",
        ] {
            let name = secret.split('=').next().unwrap_or_default();
            assert_eq!(shown("/", Some(secret)), format!("GET https://a/?{name}=***"));
        }
        assert_eq!(shown("/", Some("AbCdEfGhIjKlMnOpQ123")), "GET https://a/?***");
        assert_eq!(shown("/bot12345:AbCdEfGhIjKlMnOpQ123/send", None), "GET https://a/***/send");
        // Names of things.
        let hash = "/blobs/sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        assert_eq!(shown(hash, None), format!("GET https://a{hash}"));
        let uuid = "/items/123e4567-e89b-12d3-a456-426614174000";
        assert_eq!(shown(uuid, None), format!("GET https://a{uuid}"));
    }
}
