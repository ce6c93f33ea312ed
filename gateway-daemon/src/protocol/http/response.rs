//! A response's head (RFC 9112 §4).

use bytes::{Bytes, BytesMut};

use super::{
    error::Malformed,
    fields::{Field, Fields},
    framing::Framing,
    head::Limits,
    request::{Version, version},
};

/// The head of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    head: Bytes,
    line_bytes: usize,
    /// The status.
    pub status: u16,
    /// The server's version.
    pub version: Version,
    /// Its fields.
    pub fields: Fields,
    /// How long its content is.
    pub framing: Framing,
}

impl Response {
    /// Reads a whole head, as `HeadEnd` found it, of the answer to a request by HEAD or by another method.
    pub fn read(head: Bytes, to_head: bool, limits: &Limits) -> Result<Self, Malformed> {
        let line_bytes = head.windows(2).position(|pair| pair == b"\r\n").ok_or(Malformed::StatusLine)?;
        let line = head.get(..line_bytes).unwrap_or_default();
        let (version, status) = match line {
            [said @ .., b' ', a, b, c, b' '] if said.len() == 8 => (version(said)?, [*a, *b, *c]),
            _ => {
                let (said, rest) = line.split_at_checked(8).ok_or(Malformed::StatusLine)?;
                match rest {
                    // The phrase may be missing, and many servers then leave its blank out as well.
                    [b' ', a, b, c] | [b' ', a, b, c, b' ', ..] => (version(said)?, [*a, *b, *c]),
                    _ => return Err(Malformed::StatusLine),
                }
            }
        };
        if !status.iter().all(u8::is_ascii_digit) {
            return Err(Malformed::StatusLine);
        }
        let status = status.iter().fold(0_u16, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        if status < 100 {
            return Err(Malformed::StatusLine);
        }
        let fields = Fields::read(head.clone(), 1, limits)?;
        fields.check_connection()?;
        let framing = Framing::of_response(&fields, version, status, to_head)?;
        Ok(Self { head, line_bytes, status, version, fields, framing })
    }

    /// Whether it is followed by another answer to the same request.
    pub fn is_interim(&self) -> bool {
        (100..=199).contains(&self.status)
    }

    /// Whether the server takes another request on this connection.
    pub fn keeps_alive(&self) -> bool {
        self.framing != Framing::UntilClose
            && match self.version {
                Version::Http11 => !self.fields.lists("connection", "close"),
                Version::Http10 => false,
            }
    }

    /// Writes the head for the client: the same status and phrase, without what belongs to the server's connection and
    /// what `keep` does not want, and with `extra` at its end.
    pub fn put(&self, out: &mut BytesMut, keep: impl Fn(&Field<'_>) -> bool, extra: &[(&str, &[u8])]) {
        out.reserve(self.head.len() + 64);
        out.extend_from_slice(b"HTTP/1.1");
        out.extend_from_slice(self.head.get(8..self.line_bytes).unwrap_or_default());
        out.extend_from_slice(b"\r\n");
        self.fields.put(out, keep, extra);
    }
}
