//! Writes a part of the log out, byte for byte as it stands, so that each record's hash can be checked.

use std::{
    io::{self, Write},
    path::Path,
};

use thiserror::Error;

use super::{
    error::AuditError,
    layout::Layout,
    record::Line,
    segment::{Piece, SegmentReader, first_time},
};

/// Why an export stopped.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The log could not be read, or a record is not what was written.
    #[error(transparent)]
    Log(#[from] AuditError),
    /// What was read could not be written out.
    #[error("cannot write the export: {0}")]
    Output(#[source] io::Error),
}

/// Writes the lines of the records from `since` on and before `until` (Unix microseconds) to `out`, oldest
/// first, and answers how many there were. Stops at a record that is not as it was written.
pub fn export(dir: &Path, since: u64, until: u64, out: &mut dyn Write) -> Result<u64, ExportError> {
    let layout = Layout::new(dir);
    let segments = layout.segments()?;
    let mut buffer = Vec::new();
    let mut count = 0_u64;
    for (number, segment) in segments.iter().enumerate() {
        let next = segments.get(number + 1);
        if let Some(next) = next
            && first_time(&next.path)?.is_some_and(|time| time < since)
        {
            continue;
        }
        let mut reader = SegmentReader::open(&segment.path, 0)?;
        loop {
            let piece = reader.next(&mut buffer).map_err(AuditError::io("read", &segment.path))?;
            match piece {
                Piece::End => break,
                // Space laid out ahead, or filled since it was read: what follows may have a gap before it.
                Piece::Blank if next.is_none() => break,
                Piece::Blank => continue,
                Piece::Text | Piece::Unended => {}
            }
            let Some(line) = Line::parse(&buffer).filter(|line| piece == Piece::Text && line.is_intact())
            else {
                if next.is_none() && layout.is_being_written() {
                    // The end of the newest segment, half written.
                    break;
                }
                let what = format!(
                    "{} line {}: not a record as it was written",
                    segment.path.display(),
                    reader.line
                );
                return Err(AuditError::Damaged { what }.into());
            };
            if line.time >= until {
                return Ok(count);
            }
            if line.time >= since {
                buffer.push(b'\n');
                out.write_all(&buffer).map_err(ExportError::Output)?;
                count = count.saturating_add(1);
            }
        }
    }
    Ok(count)
}
