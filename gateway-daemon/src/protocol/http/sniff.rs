//! Recognises HTTP/1 by the first bytes that a client sends.

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniff {
    /// An HTTP client.
    Http,
    /// So far it may be one.
    Incomplete,
    /// Something else.
    Unknown,
}

/// So many upper-case letters are a method that is longer.
const ENOUGH_LETTERS: usize = 8;

/// Judges by the method: upper-case letters and a blank. (`PRI * HTTP/2.0` is HTTP as well.)
pub fn sniff(first_bytes: &[u8]) -> Sniff {
    for (at, byte) in first_bytes.iter().enumerate() {
        match byte {
            b' ' if at >= 3 => return Sniff::Http,
            byte if !byte.is_ascii_uppercase() => return Sniff::Unknown,
            _ if at + 1 == ENOUGH_LETTERS => return Sniff::Http,
            _ => {}
        }
    }
    Sniff::Incomplete
}
