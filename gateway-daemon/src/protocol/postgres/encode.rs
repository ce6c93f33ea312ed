//! Writes messages. A message that cannot be represented (a NUL inside a string, a count or length that does
//! not fit its field) is an error and leaves the output as it was, so that nothing can be smuggled through it.

use bytes::{BufMut, BytesMut};

use super::super::wire::WireError;

/// The largest length that the 32-bit signed length field can announce.
const MAX_LENGTH: usize = 0x7fff_ffff;

/// Appends a message with a type byte; `body` writes what follows the header.
pub(super) fn message(
    out: &mut BytesMut,
    tag: u8,
    body: impl FnOnce(&mut Body<'_>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    counted(out, Some(tag), body)
}

/// Appends a startup packet, which has no type byte.
pub(super) fn untagged(
    out: &mut BytesMut,
    body: impl FnOnce(&mut Body<'_>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    counted(out, None, body)
}

/// Appends a message whose body is `data` as it is; empty for messages that have none.
pub(super) fn raw(out: &mut BytesMut, tag: u8, data: &[u8]) -> Result<(), WireError> {
    message(out, tag, |body| {
        body.bytes(data);
        Ok(())
    })
}

fn counted(
    out: &mut BytesMut,
    tag: Option<u8>,
    body: impl FnOnce(&mut Body<'_>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let start = out.len();
    if let Some(tag) = tag {
        out.put_u8(tag);
    }
    let length_at = out.len();
    out.put_i32(0);
    let written = body(&mut Body { out }).and_then(|()| {
        let length = out.len().saturating_sub(length_at);
        i32::try_from(length).map_err(|_| WireError::TooLong { what: "message", length, limit: MAX_LENGTH })
    });
    match (written, out.get_mut(length_at..).and_then(<[u8]>::first_chunk_mut::<4>)) {
        (Ok(length), Some(field)) => {
            *field = length.to_be_bytes();
            Ok(())
        }
        (Err(error), _) => {
            out.truncate(start);
            Err(error)
        }
        // Four bytes were put there above: not reachable, and refused all the same.
        (Ok(_), None) => {
            out.truncate(start);
            Err(WireError::Truncated { what: "message", needed: 4, left: 0 })
        }
    }
}

/// The body of a message that is being written.
pub(super) struct Body<'o> {
    out: &'o mut BytesMut,
}

impl Body<'_> {
    pub(super) fn u8(&mut self, value: u8) {
        self.out.put_u8(value);
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.out.put_i16(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.out.put_u16(value);
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.out.put_i32(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.out.put_u32(value);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.out.put_slice(bytes);
    }

    pub(super) fn cstr(&mut self, what: &'static str, text: &[u8]) -> Result<(), WireError> {
        if text.contains(&0) {
            return Err(WireError::InteriorNul { what });
        }
        self.out.put_slice(text);
        self.out.put_u8(0);
        Ok(())
    }

    /// A 16-bit count, read as unsigned by PostgreSQL.
    pub(super) fn count(&mut self, what: &'static str, count: usize) -> Result<(), WireError> {
        let limit = usize::from(u16::MAX);
        let count = u16::try_from(count).map_err(|_| WireError::TooLong { what, length: count, limit })?;
        self.out.put_u16(count);
        Ok(())
    }

    pub(super) fn formats(&mut self, what: &'static str, formats: &[i16]) -> Result<(), WireError> {
        self.count(what, formats.len())?;
        for format in formats {
            self.i16(*format);
        }
        Ok(())
    }

    pub(super) fn oids(&mut self, what: &'static str, oids: &[u32]) -> Result<(), WireError> {
        self.count(what, oids.len())?;
        for oid in oids {
            self.u32(*oid);
        }
        Ok(())
    }

    pub(super) fn nullable(&mut self, what: &'static str, value: Option<&[u8]>) -> Result<(), WireError> {
        let Some(value) = value else {
            self.i32(-1);
            return Ok(());
        };
        let length = i32::try_from(value.len()).map_err(|_| WireError::TooLong {
            what,
            length: value.len(),
            limit: MAX_LENGTH,
        })?;
        self.i32(length);
        self.bytes(value);
        Ok(())
    }
}
