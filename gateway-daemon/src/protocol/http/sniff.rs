//! Recognises HTTP/1 by the first bytes that a client sends.

use super::syntax::is_token_byte;

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

/// The longest method that is recognised.
const LONGEST_METHOD_BYTES: usize = 7;

/// Judges by the method: upper-case letters and a blank. (`PRI * HTTP/2.0` is HTTP as well.)
pub fn sniff(first_bytes: &[u8]) -> Sniff {
    for (at, byte) in first_bytes.iter().enumerate() {
        match byte {
            b' ' if at >= 3 => return Sniff::Http,
            _ if at >= LONGEST_METHOD_BYTES || !is_token_byte(*byte) || !byte.is_ascii_uppercase() => {
                return Sniff::Unknown;
            }
            _ => {}
        }
    }
    Sniff::Incomplete
}
