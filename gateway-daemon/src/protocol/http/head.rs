//! Where a head ends, found without reading any byte twice.

use super::{error::Malformed, syntax};

/// What is taken of a peer before it is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// First line, fields, and the empty line.
    pub head_bytes: usize,
    /// How many fields.
    pub fields: usize,
    /// The request's target.
    pub target_bytes: usize,
}

impl Default for Limits {
    /// More than clients send (a dozen fields, a few KiB of cookies), less than hurts.
    fn default() -> Self {
        Self { head_bytes: 64 << 10, fields: 256, target_bytes: 16 << 10 }
    }
}

/// Looks for the empty line that ends a head or a section of trailers. Refuses what no head has as soon as it is there,
/// so that a client that ends its lines with LF alone is told so instead of being waited for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeadEnd {
    scanned: usize,
    line_start: usize,
}

impl HeadEnd {
    /// The length of the head that `bytes` begins with, its empty line included, or `None` while that has not come.
    /// Every call must be given the same bytes as the one before, and what came since.
    pub fn find(
        &mut self,
        bytes: &[u8],
        what: &'static str,
        limit: usize,
    ) -> Result<Option<usize>, Malformed> {
        while let Some((offset, byte)) = bytes
            .get(self.scanned..)
            .unwrap_or_default()
            .iter()
            .enumerate()
            .find(|(_, byte)| !syntax::is_text_byte(**byte))
        {
            let at = self.scanned + offset;
            match (byte, bytes.get(at + 1)) {
                (b'\r', Some(b'\n')) => {}
                // What comes next decides.
                (b'\r', None) => {
                    self.scanned = at;
                    return Self::within(bytes.len(), what, limit).map(|()| None);
                }
                (b'\r', Some(_)) => return Err(Malformed::BareCarriageReturn),
                (b'\n', _) => return Err(Malformed::BareLineFeed),
                _ => return Err(Malformed::Control(what)),
            }
            let end = at + 2;
            Self::within(end, what, limit)?;
            if at == self.line_start {
                return Ok(Some(end));
            }
            self.line_start = end;
            self.scanned = end;
        }
        self.scanned = bytes.len();
        Self::within(bytes.len(), what, limit).map(|()| None)
    }

    fn within(length: usize, what: &'static str, limit: usize) -> Result<(), Malformed> {
        if length > limit { Err(Malformed::TooLong { what, limit }) } else { Ok(()) }
    }
}

/// The lines of a head, each without its CRLF, the empty one left out.
pub(super) fn lines(head: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = head.get(start..)?;
        let length = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let line = (start, rest.get(..length)?);
        start += length + 2;
        (length > 0).then_some(line)
    })
}
