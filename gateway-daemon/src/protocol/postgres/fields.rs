//! Shapes that messages of both directions share.

use super::super::wire::{Reader, WireError};

/// A format code: 0 text, 1 binary.
pub(super) fn format(reader: &mut Reader<'_>) -> Result<i16, WireError> {
    match reader.i16("format")? {
        format @ (0 | 1) => Ok(format),
        other => Err(WireError::InvalidValue { what: "format", value: i64::from(other) }),
    }
}

/// A counted list of format codes.
pub(super) fn formats(reader: &mut Reader<'_>, what: &'static str) -> Result<Vec<i16>, WireError> {
    let count = reader.u16(what)?;
    many(reader, count, 2, format)
}

/// `count` items of at least `least_bytes` each. Memory is reserved for no more than the message can hold.
pub(super) fn many<'a, T>(
    reader: &mut Reader<'a>,
    count: u16,
    least_bytes: usize,
    mut read: impl FnMut(&mut Reader<'a>) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let count = usize::from(count);
    let needed = count.saturating_mul(least_bytes);
    if needed > reader.remaining() {
        return Err(WireError::Truncated { what: "list", needed, left: reader.remaining() });
    }
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        items.push(read(reader)?);
    }
    Ok(items)
}
