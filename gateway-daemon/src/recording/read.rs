//! Reads recordings, also unfinished ones: up to where they are whole.

use std::{fs, path::Path};

use zstd::zstd_safe;

use super::{
    error::ReadError,
    record::{End, Header, Record},
};

/// No frame that the writer makes is larger: more would be somebody else's.
const FRAME_BYTES: u64 = 512 * 1024 * 1024;

/// A recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// Its lines.
    pub records: Vec<Record>,
    /// The lines as they stand.
    pub lines: String,
    /// Bytes at the end that are no whole frame.
    pub torn_bytes: u64,
}

/// What a listing shows of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its first line.
    pub header: Header,
    /// Its last line, if the session has ended.
    pub end: Option<End>,
}

/// Reads a whole recording.
pub fn read(path: &Path) -> Result<Read, ReadError> {
    let bytes = fs::read(path).map_err(ReadError::io(path))?;
    let mut lines = Vec::new();
    let frames = Frames { rest: &bytes };
    let mut whole = 0;
    for frame in frames {
        let Some(content) = decompress(frame) else { break };
        lines.extend(content);
        whole += frame.len();
    }
    let lines = String::from_utf8_lossy(&lines).into_owned();
    let records = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let torn_bytes = u64::try_from(bytes.len() - whole).unwrap_or(u64::MAX);
    Ok(Read { records, lines, torn_bytes })
}

/// Reads the first and the last line of a recording; `None` where the first is missing.
pub fn summary(path: &Path) -> Result<Option<Summary>, ReadError> {
    let bytes = fs::read(path).map_err(ReadError::io(path))?;
    let mut frames = Frames { rest: &bytes };
    let Some(first) = frames.next().and_then(decompress) else { return Ok(None) };
    let last = frames.last().and_then(decompress);
    let Some(Record::Session(header)) = line(&first, Which::First) else { return Ok(None) };
    let end = match line(last.as_deref().unwrap_or(&first), Which::Last) {
        Some(Record::End(end)) => Some(end),
        _ => None,
    };
    Ok(Some(Summary { header, end }))
}

#[derive(Clone, Copy)]
enum Which {
    First,
    Last,
}

fn line(content: &[u8], which: Which) -> Option<Record> {
    let mut lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let line = match which {
        Which::First => lines.next(),
        Which::Last => lines.next_back(),
    };
    serde_json::from_slice(line?).ok()
}

/// The whole frames of a file.
struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let length = zstd_safe::find_frame_compressed_size(self.rest).ok()?;
        let (frame, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(frame)
    }
}

fn decompress(frame: &[u8]) -> Option<Vec<u8>> {
    let size = zstd_safe::get_frame_content_size(frame).ok().flatten().filter(|size| *size <= FRAME_BYTES)?;
    zstd::bulk::decompress(frame, usize::try_from(size).ok()?).ok()
}
