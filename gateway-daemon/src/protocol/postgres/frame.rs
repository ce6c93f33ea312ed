//! Cuts a byte stream into messages: a type byte, a 32-bit length that counts itself, a body.
//! The startup packets, which have no type byte, are in `startup`.

use bytes::{Buf, Bytes, BytesMut};

use super::super::wire::{Reader, WireError};

/// Type byte and length.
pub const HEADER_BYTES: usize = 5;

/// One complete message as it came: what is not changed is forwarded from here.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// The type byte. Its meaning depends on the direction.
    pub tag: u8,
    raw: Bytes,
}

impl Frame {
    /// All bytes, header included.
    pub const fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// All bytes, header included, without a copy.
    pub fn into_raw(self) -> Bytes {
        self.raw
    }

    /// What follows the header.
    pub fn body(&self) -> &[u8] {
        self.raw.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// How many bytes follow the header.
    pub fn body_len(&self) -> usize {
        self.raw.len().saturating_sub(HEADER_BYTES)
    }
}

impl AsRef<[u8]> for Frame {
    /// The same as [`Frame::raw`].
    fn as_ref(&self) -> &[u8] {
        &self.raw
    }
}

impl std::fmt::Debug for Frame {
    /// Bodies hold statements and rows: only the type and the size are shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame {{ tag: {:?}, body: <{} bytes withheld> }}", char::from(self.tag), self.body_len())
    }
}

/// Takes one message off the front of `buf`; `None` until it is complete. Bodies over `max_body_bytes` and
/// impossible lengths are an error as soon as the header is there. Reserves nothing: the caller's reads grow `buf`.
pub fn split_frame(buf: &mut BytesMut, max_body_bytes: usize) -> Result<Option<Frame>, WireError> {
    let Some((tag, total)) = peek_header(buf)? else { return Ok(None) };
    let length = total.saturating_sub(HEADER_BYTES);
    if length > max_body_bytes {
        return Err(WireError::TooLong { what: "message", length, limit: max_body_bytes });
    }
    if buf.remaining() < total {
        return Ok(None);
    }
    Ok(Some(Frame { tag, raw: buf.split_to(total).freeze() }))
}

/// The type byte and the size with header of the message at the front of `bytes`; `None` until the header is
/// complete. For passing on large messages piecewise; the caller checks the size.
pub fn peek_header(bytes: &[u8]) -> Result<Option<(u8, usize)>, WireError> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let mut reader = Reader::new(header);
    let tag = reader.u8("message type")?;
    let length = reader.i32("message length")?;
    // The length counts its own four bytes.
    match usize::try_from(length) {
        Ok(counted) if counted >= 4 => Ok(Some((tag, counted.saturating_add(1)))),
        _ => Err(WireError::InvalidLength { what: "message length", length: i64::from(length) }),
    }
}
