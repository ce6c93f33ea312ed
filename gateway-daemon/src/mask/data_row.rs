//! Rewrites one PostgreSQL DataRow. Runs of unmasked columns are copied as they came.
//!
//! This room sees values, not protocols, so it takes the message as bytes: type, length, count, and for each
//! column a length and a value.
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>, DataRow.

use bytes::{BufMut, BytesMut};

use super::{
    masker::{Masker, Outcome},
    plan,
    scan::Scan,
    transform::REDACTED,
    types::{Format, Kind, Shape},
};
use crate::domain::{decision::Transform, results::PlanFormat};

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
    Concealed(Stand),
    /// It is the plan of a statement that has been run, or a line of one: the figures in it that tell of values are.
    Plan(PlanFormat),
    /// What is found in it is.
    Finds(Scan),
}

/// What stands in the place of a concealed value: nothing that could be taken for data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// `[redacted]` for text, NULL for everything else.
    ByType,
    /// NULL.
    Null,
}

/// Whether something of a row was concealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concealed {
    /// Nothing was.
    Nothing,
    /// Something was.
    Something,
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
) -> Result<Concealed, MaskError> {
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
) -> Result<Concealed, MaskError> {
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
    let mut concealed = Concealed::Nothing;
    for mask in plan {
        let before = rest;
        let value = next_value(&mut rest)?;
        let (mask, value) = match (mask, value) {
            (Some(mask), Some(value)) => (mask, value),
            (Some(mask), None) if matches!(mask.treatment, Treatment::Concealed(_)) => (mask, &[][..]),
            _ => continue,
        };
        out.put_slice(run(unmasked, before));
        if put_masked(masker, mask, value, out)? == Concealed::Something {
            concealed = Concealed::Something;
        }
        unmasked = rest;
    }
    if !rest.is_empty() {
        return Err(MaskError::Malformed);
    }
    out.put_slice(unmasked);
    put_length(out, length_at)?;
    Ok(concealed)
}

/// One value with its length in front, or NULL.
fn put_masked(
    masker: &Masker,
    mask: &ColumnMask,
    value: &[u8],
    out: &mut BytesMut,
) -> Result<Concealed, MaskError> {
    let length_at = out.len();
    out.put_i32(-1);
    let mut concealed = Concealed::Nothing;
    let outcome = match &mask.treatment {
        Treatment::Whole(transform) => masker.write(*transform, &mask.shape.0, mask.format, value, out),
        Treatment::Concealed(stand) => {
            concealed = Concealed::Something;
            put_stand(*stand, &mask.shape.0, out)
        }
        Treatment::Plan(format) => {
            concealed = plan::write(*format, value, out);
            Outcome::Written
        }
        Treatment::Finds(scan) => masker.write_scanned(scan, &mask.shape.0, mask.format, value, out),
    };
    match outcome {
        Outcome::Null => out.truncate(length_at.saturating_add(4)),
        Outcome::Written => {
            let length = out.len().saturating_sub(length_at).saturating_sub(4);
            patch(out, length_at, length)?;
        }
    }
    Ok(concealed)
}

/// What stands in the place of a concealed value of that kind; its binary form is the same.
fn put_stand(stand: Stand, kind: &Kind, out: &mut BytesMut) -> Outcome {
    match (stand, kind) {
        (Stand::ByType, Kind::Text | Kind::PaddedText) => {
            out.put_slice(REDACTED);
            Outcome::Written
        }
        _ => Outcome::Null,
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
