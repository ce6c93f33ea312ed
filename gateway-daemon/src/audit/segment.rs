//! Reading segments: lines with their places, and single records by place.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    os::unix::fs::FileExt as _,
    path::Path,
};

use super::{error::AuditError, record::Line};

/// Longest event that is taken: 16 MiB. A line is at most a few hundred bytes longer.
pub(super) const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;
const MAX_LINE_BYTES: u64 = MAX_EVENT_BYTES as u64 + 1024;
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// What stands at a place in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// A line of text; its bytes are in the buffer, without the line feed.
    Text,
    /// Text without a line feed before the end of the file or past the longest line allowed.
    Unended,
    /// An empty line: space laid out ahead.
    Blank,
    /// The end of the file.
    End,
}

/// Walks through one segment.
pub(super) struct SegmentReader {
    input: BufReader<File>,
    /// Where the next line starts.
    pub(super) offset: u64,
    /// The number of the line read last, from 1. Counts from where reading began.
    pub(super) line: u64,
}

impl SegmentReader {
    /// Begins at byte `offset`.
    pub(super) fn open(path: &Path, offset: u64) -> Result<Self, AuditError> {
        let mut file = File::open(path).map_err(AuditError::io("open", path))?;
        if offset > 0 {
            file.seek(SeekFrom::Start(offset)).map_err(AuditError::io("seek in", path))?;
        }
        Ok(Self { input: BufReader::with_capacity(READ_BUFFER_BYTES, file), offset, line: 0 })
    }

    /// Reads the next line into `buffer`, which it clears first.
    pub(super) fn next(&mut self, buffer: &mut Vec<u8>) -> io::Result<Piece> {
        buffer.clear();
        let read = self.input.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', buffer)?;
        if read == 0 {
            return Ok(Piece::End);
        }
        self.offset = self.offset.saturating_add(read as u64);
        self.line = self.line.saturating_add(1);
        if buffer.pop_if(|last| *last == b'\n').is_none() {
            return Ok(Piece::Unended);
        }
        Ok(if buffer.is_empty() { Piece::Blank } else { Piece::Text })
    }
}

/// The last whole record line of a segment, or `None` when it has none that can be read.
pub(super) fn last_line(path: &Path) -> Result<Option<Vec<u8>>, AuditError> {
    let file = File::open(path).map_err(AuditError::io("open", path))?;
    let mut start = file.metadata().map_err(AuditError::io("examine", path))?.len();
    let mut tail: Vec<u8> = Vec::new();
    while start > 0 {
        // Doubled each time, so that a long line is not gone through again and again.
        let step = start.min((tail.len() as u64).max(64 * 1024));
        start -= step;
        let mut block = vec![0; usize::try_from(step).unwrap_or_default()];
        file.read_exact_at(&mut block, start).map_err(AuditError::io("read", path))?;
        block.append(&mut tail);
        while block.pop_if(|last| *last == b'\n').is_some() {}
        if let Some(line) = block.rsplit(|byte| *byte == b'\n').next().filter(|line| line.len() < block.len())
        {
            return Ok(Some(line.to_vec()));
        }
        tail = block;
        if tail.len() as u64 > MAX_LINE_BYTES {
            return Ok(None);
        }
    }
    Ok(Some(tail).filter(|line| !line.is_empty()))
}

/// The first record's time, or `None` when the first line is not a record.
pub(super) fn first_time(path: &Path) -> Result<Option<u64>, AuditError> {
    let mut line = Vec::new();
    let piece = SegmentReader::open(path, 0)?.next(&mut line).map_err(AuditError::io("read", path))?;
    Ok(if piece == Piece::Text { Line::parse(&line).map(|line| line.time) } else { None })
}

/// The line that starts at byte `start`, without its line feed.
pub(super) fn line_at(path: &Path, start: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut line = Vec::new();
    let mut block = vec![0; 4096];
    loop {
        let read = file.read_at(&mut block, start.saturating_add(line.len() as u64))?;
        let part = block.get(..read).unwrap_or_default();
        if let Some(end) = part.iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(part.get(..end).unwrap_or_default());
            return Ok(line);
        }
        line.extend_from_slice(part);
        if read == 0 || line.len() as u64 > MAX_LINE_BYTES {
            return Ok(line);
        }
    }
}
