//! SASLprep of passwords (RFC 4013), with PostgreSQL's fallback.

use std::borrow::Cow;

/// What is hashed for a password. One that is not UTF-8 or that SASLprep prohibits is taken as it is, as
/// PostgreSQL does on both sides (`pg_saslprep`), and so is one of which nothing would be left.
pub(super) fn prepare(password: &[u8]) -> Cow<'_, [u8]> {
    let Ok(text) = std::str::from_utf8(password) else { return Cow::Borrowed(password) };
    match stringprep::saslprep(text) {
        Ok(prepared) if !prepared.is_empty() => match prepared {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        },
        _ => Cow::Borrowed(password),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::prepare;

    /// The examples of RFC 4013, section 3, and the fallback.
    #[test]
    fn passwords_are_prepared_as_postgresql_does() {
        assert_eq!(&*prepare("I\u{ad}X".as_bytes()), b"IX");
        assert_eq!(&*prepare(b"user"), b"user");
        assert_eq!(&*prepare("\u{aa}".as_bytes()), b"a");
        assert_eq!(&*prepare("\u{2168}".as_bytes()), b"IX");
        assert_eq!(&*prepare(b"\x07"), b"\x07", "a prohibited character: taken as it is");
        assert_eq!(&*prepare("\u{627}1".as_bytes()), "\u{627}1".as_bytes(), "bidirectional check fails");
        assert_eq!(&*prepare(b"\xff\xfe"), b"\xff\xfe", "not UTF-8");
        assert_eq!(&*prepare("\u{ad}".as_bytes()), "\u{ad}".as_bytes(), "nothing would be left");
        assert_eq!(&*prepare("a\u{a0}b".as_bytes()), b"a b");
    }
}
