//! First bytes → protocol. Only what is certain counts: what is unknown is refused, never guessed.

use crate::protocol::{
    http,
    postgres::{self, Sniff},
};

/// A TLS record that begins a handshake, of any version from SSL 3.0 to TLS 1.3 (RFC 8446 §5.1).
const TLS_HANDSHAKE: [u8; 2] = [22, 3];

/// How many bytes are enough for every answer.
pub const ENOUGH_BYTES: usize = 8;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detected {
    /// PostgreSQL's protocol, version 3.
    Postgres,
    /// HTTP/1.1, or what is written like it.
    Http,
    /// TLS at once, whatever is in it.
    Tls,
    /// Too few to tell.
    Incomplete,
    /// Nothing that is known here.
    Unknown,
}

/// Tells the protocol of a connection by its first bytes.
pub fn detect(first_bytes: &[u8]) -> Detected {
    match first_bytes {
        [first] if *first == TLS_HANDSHAKE[0] => return Detected::Incomplete,
        [first, second, ..] if [*first, *second] == TLS_HANDSHAKE => return Detected::Tls,
        _ => {}
    }
    match (postgres::sniff(first_bytes), http::sniff(first_bytes)) {
        (Sniff::Postgres, _) => Detected::Postgres,
        (_, http::Sniff::Http) => Detected::Http,
        (Sniff::Incomplete, _) | (_, http::Sniff::Incomplete) => Detected::Incomplete,
        (Sniff::Unknown, http::Sniff::Unknown) => Detected::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::{Detected, detect};

    #[test]
    fn each_protocol_is_told_by_its_first_bytes() {
        assert_eq!(detect(&[0, 0, 0, 8, 4, 210, 22, 47]), Detected::Postgres);
        assert_eq!(detect(&[0, 0, 0]), Detected::Incomplete);
        assert_eq!(detect(b"GET / HT"), Detected::Http);
        assert_eq!(detect(b"GET"), Detected::Incomplete);
        assert_eq!(detect(b"SSH-2.0-"), Detected::Unknown);
        assert_eq!(detect(b"\x16"), Detected::Incomplete);
        assert_eq!(detect(b"\x16\x03\x01\x02"), Detected::Tls);
        assert_eq!(detect(b"\x16\x02"), Detected::Unknown);
    }
}
