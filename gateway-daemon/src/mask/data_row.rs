//! Rewrites one PostgreSQL DataRow. Runs of unmasked columns are copied as they came.
//!
//! This room sees values, not protocols, so it takes the message as bytes: type, length, count, and for each
//! column a length and a value.
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>, DataRow.

use bytes::{BufMut, BytesMut};

use super::{
    masker::{Masker, Outcome},
    nested,
    scan::Scan,
    types::{Format, Kind, Shape},
};
use crate::domain::decision::Transform;

/// How the values of one result column are transformed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnMask {
    /// What happens to them.
    pub treatment: Treatment,
    /// What they look like.
    pub shape: Shape,
    /// How they are written.
    pub format: Format,
}

/// What happens to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Treatment {
    /// It is transformed as a whole; NULL stays NULL.
    Whole(Transform),
    /// The same stands in every row, also for NULL: of a computed value even that tells
    /// (`CASE WHEN email LIKE 'a%' THEN 1 END`), and so do the length of an array and the fields of a document.
    Concealed,
    /// What is found in it is.
    Finds(Scan),
}

/// Why a row was not rewritten. Nothing of it may reach the client: the session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// Another message.
    #[error("not a row")]
    NotARow,
    /// The row has more or fewer columns than the plan.
    #[error("a row of {found} columns came where {planned} were described")]
    ColumnCount {
        /// As described.
        planned: usize,
        /// As in the row.
        found: usize,
    },
    /// The row's lengths do not add up.
    #[error("a malformed row")]
    Malformed,
    /// What finds content could not be made.
    #[error("the detectors of a policy could not be built")]
    Detectors,
    /// The rewritten row does not fit a message.
    #[error("the rewritten row is too long")]
    TooLong,
}

/// Appends `frame` (a DataRow with its header) to `out`, with the columns that `plan` names transformed; the plan
/// has one entry for each column. On an error `out` is as it was.
pub fn mask_data_row<F: AsRef<[u8]> + ?Sized>(
    frame: &F,
    plan: &[Option<ColumnMask>],
    masker: &Masker,
    out: &mut BytesMut,
) -> Result<(), MaskError> {
    let start = out.len();
    let written = rewrite(frame.as_ref(), plan, masker, out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn rewrite(
    message: &[u8],
    plan: &[Option<ColumnMask>],
    masker: &Masker,
    out: &mut BytesMut,
) -> Result<(), MaskError> {
    let (&[tag, length @ ..], body) = message.split_first_chunk::<5>().ok_or(MaskError::NotARow)?;
    if tag != b'D' {
        return Err(MaskError::NotARow);
    }
    if usize::try_from(u32::from_be_bytes(length)).ok() != body.len().checked_add(4) {
        return Err(MaskError::Malformed);
    }
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or(MaskError::Malformed)?;
    let found = usize::from(u16::from_be_bytes(*count));
    if found != plan.len() {
        return Err(MaskError::ColumnCount { planned: plan.len(), found });
    }

    out.reserve(message.len());
    out.put_u8(b'D');
    let length_at = out.len();
    out.put_u32(0);
    out.put_slice(count);
    // Columns since the last masked one, copied together.
    let mut unmasked = rest;
    for mask in plan {
        let before = rest;
        let value = next_value(&mut rest)?;
        let (mask, value) = match (mask, value) {
            (Some(mask), Some(value)) => (mask, value),
            (Some(mask), None) if mask.treatment == Treatment::Concealed => (mask, &[][..]),
            _ => continue,
        };
        out.put_slice(run(unmasked, before));
        put_masked(masker, mask, value, out)?;
        unmasked = rest;
    }
    if !rest.is_empty() {
        return Err(MaskError::Malformed);
    }
    out.put_slice(unmasked);
    put_length(out, length_at)
}

/// One value with its length in front, or NULL.
fn put_masked(masker: &Masker, mask: &ColumnMask, value: &[u8], out: &mut BytesMut) -> Result<(), MaskError> {
    let length_at = out.len();
    out.put_i32(-1);
    let outcome = match &mask.treatment {
        Treatment::Whole(transform) => masker.write(*transform, &mask.shape.0, mask.format, value, out),
        Treatment::Concealed => match (&mask.shape.0, mask.shape.0.plain(mask.format)) {
            (Kind::Array(_, element), _) => {
                nested::put_empty_array(*element, mask.format, out);
                Outcome::Written
            }
            (kind, Some(plain)) => masker.write(Transform::Redact, kind, mask.format, plain, out),
            (_, None) => Outcome::Null,
        },
        Treatment::Finds(scan) => masker.write_scanned(scan, &mask.shape.0, mask.format, value, out),
    };
    match outcome {
        Outcome::Null => {
            out.truncate(length_at.saturating_add(4));
            Ok(())
        }
        Outcome::Written => {
            let length = out.len().saturating_sub(length_at).saturating_sub(4);
            patch(out, length_at, length)
        }
    }
}

/// The message's length, which counts itself.
fn put_length(out: &mut BytesMut, length_at: usize) -> Result<(), MaskError> {
    let length = out.len().saturating_sub(length_at);
    patch(out, length_at, length)
}

fn patch(out: &mut BytesMut, at: usize, length: usize) -> Result<(), MaskError> {
    let length = i32::try_from(length).map_err(|_| MaskError::TooLong)?;
    let field = out.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<4>).ok_or(MaskError::TooLong)?;
    *field = length.to_be_bytes();
    Ok(())
}

fn next_value<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, MaskError> {
    let (length, after) = rest.split_first_chunk::<4>().ok_or(MaskError::Malformed)?;
    let length = i32::from_be_bytes(*length);
    if length == -1 {
        *rest = after;
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| MaskError::Malformed)?;
    let (value, after) = after.split_at_checked(length).ok_or(MaskError::Malformed)?;
    *rest = after;
    Ok(Some(value))
}

/// The bytes from the start of `from` to the start of `to`, which is a tail of it.
fn run<'a>(from: &'a [u8], to: &[u8]) -> &'a [u8] {
    from.get(..from.len().saturating_sub(to.len())).unwrap_or_default()
}
