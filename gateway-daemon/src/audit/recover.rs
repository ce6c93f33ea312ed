//! What is done when the log is opened: the end of the chain is found, and what a crash left behind it is set
//! aside. Anything else that is not as it was written stops the opening; nothing is ever repaired.
//!
//! Told apart by what each record says of its writing: all records of the batch that a crash cut off say that
//! only the batches before had been `synced`. A broken record that a later one calls synced, or that
//! `head.json` knows, was once whole on disk.
//!
//! Reads the last segment whole and checks how it joins the one before; the rest is `verify`'s.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    error::AuditError,
    layout::{FILE_MODE, Layout, Marker, SegmentFile, read_marker, sync_dir, write_marker},
    record::{Line, Link},
    segment::{Piece, SegmentReader, last_line},
};

/// Where writing goes on.
#[derive(Debug)]
pub(super) struct Recovered {
    /// The newest record.
    pub(super) last: Link,
    /// The segment to go on with, and how many of its bytes are records. `None` in a new log.
    pub(super) open: Option<(SegmentFile, u64)>,
    /// What was set aside, if anything was.
    pub(super) torn: Option<Torn>,
}

/// The remains of records that were never acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Torn {
    pub(super) bytes: u64,
    pub(super) saved_as: PathBuf,
}

/// Finds the end of the log. The caller holds the lock.
pub(super) fn recover(layout: &Layout, now: u64) -> Result<Recovered, AuditError> {
    let head = read_marker(&layout.head())?;
    let anchor = read_marker(&layout.anchor())?.unwrap_or(Marker::GENESIS);
    let segments = layout.segments()?;
    let Some((newest, before)) = segments.split_last() else {
        return begin(layout, head.unwrap_or(Marker::GENESIS), anchor);
    };
    let Some(head) = head else {
        return Err(damaged(format!("{} is missing", layout.head().display())));
    };
    if let Some(first) = segments.first().filter(|first| first.first_seq > anchor.seq.saturating_add(1)) {
        return Err(missing(anchor.seq.saturating_add(1), first.first_seq.saturating_sub(1)));
    }
    let joint = joint(newest, before.last(), anchor)?;
    let scan = scan(newest, joint, head)?;
    if head.seq > scan.last.seq {
        return Err(damaged(format!(
            "records {} to {} were on disk and are missing or broken: {} line {}",
            scan.last.seq.saturating_add(1),
            head.seq,
            newest.path.display(),
            scan.lines.saturating_add(1)
        )));
    }
    let torn = set_aside(layout, newest, &scan, now)?;
    Ok(Recovered { last: scan.last, open: Some((newest.clone(), scan.used)), torn })
}

/// A log without segments: new, or robbed.
fn begin(layout: &Layout, head: Marker, anchor: Marker) -> Result<Recovered, AuditError> {
    if head.seq > 0 || anchor.seq > 0 {
        return Err(missing(anchor.seq.saturating_add(1), head.seq.max(anchor.seq)));
    }
    // Written before the first segment, so that a log without a head is never a new one.
    write_marker(&layout.head(), Marker::GENESIS)?;
    sync_dir(layout.root())?;
    Ok(Recovered { last: Link::GENESIS, open: None, torn: None })
}

/// The record that the newest segment must follow.
fn joint(newest: &SegmentFile, before: Option<&SegmentFile>, anchor: Marker) -> Result<Link, AuditError> {
    let link = match before {
        Some(before) => {
            let line = last_line(&before.path)?.unwrap_or_default();
            let line = Line::parse(&line).filter(Line::is_intact).ok_or_else(|| {
                damaged(format!("the last record of {} is not what was written", before.path.display()))
            })?;
            Link { seq: line.seq, hash: line.hash, time: line.time }
        }
        None => Link { seq: anchor.seq, hash: anchor.hash, time: 0 },
    };
    if newest.first_seq == link.seq.saturating_add(1) {
        Ok(link)
    } else {
        Err(damaged(format!("{} does not follow record {}", newest.path.display(), link.seq)))
    }
}

struct Scan {
    last: Link,
    /// Whole records so far.
    lines: u64,
    /// Bytes up to the end of the last good record.
    used: u64,
    /// Bytes up to the end of the last line that is not empty.
    text_end: u64,
}

/// Reads the newest segment up to the first thing that is not the next record, and makes sure that what
/// follows it was never acknowledged.
fn scan(segment: &SegmentFile, joint: Link, head: Marker) -> Result<Scan, AuditError> {
    let read_error = |error| AuditError::io("read", &segment.path)(error);
    let mut reader = SegmentReader::open(&segment.path, 0)?;
    let mut buffer = Vec::new();
    let mut scan = Scan { last: joint, lines: 0, used: 0, text_end: 0 };
    let mut is_whole = true;
    loop {
        let piece = reader.next(&mut buffer).map_err(read_error)?;
        if piece == Piece::End {
            return Ok(scan);
        }
        if piece == Piece::Blank {
            is_whole = false;
            continue;
        }
        scan.text_end = reader.offset;
        let line = Line::parse(&buffer).filter(|line| piece == Piece::Text && line.is_intact());
        let Some(line) = line else {
            is_whole = false;
            continue;
        };
        if is_whole && line.seq == scan.last.seq.saturating_add(1) && line.prev == scan.last.hash {
            if line.seq == head.seq && line.hash != head.hash {
                return Err(place(segment, reader.line, &format!("record {} is another one", line.seq)));
            }
            scan.last = Link { seq: line.seq, hash: line.hash, time: line.time };
            scan.lines = reader.line;
            scan.used = reader.offset;
            continue;
        }
        is_whole = false;
        let expected = scan.last.seq.saturating_add(1);
        if line.seq <= expected || line.synced >= expected {
            let what = format!("record {expected} is missing or broken, though records follow it");
            return Err(place(segment, scan.lines.saturating_add(1), &what));
        }
    }
}

/// Saves and cuts off what follows the last good record, when that is more than space laid out ahead.
fn set_aside(
    layout: &Layout,
    segment: &SegmentFile,
    scan: &Scan,
    now: u64,
) -> Result<Option<Torn>, AuditError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&segment.path)
        .map_err(AuditError::io("open", &segment.path))?;
    let mut torn = None;
    if scan.text_end > scan.used {
        let saved_as = layout.torn(scan.last.seq.saturating_add(1), now);
        let bytes = scan.text_end.saturating_sub(scan.used);
        copy_out(&file, scan.used, bytes, &saved_as).map_err(AuditError::io("write", &saved_as))?;
        sync_dir(layout.root())?;
        file.set_len(scan.used).map_err(AuditError::io("truncate", &segment.path))?;
        torn = Some(Torn { bytes, saved_as });
    }
    // Whole records that a killed daemon left may be in the page cache only.
    file.sync_all().map_err(AuditError::io("sync", &segment.path))?;
    Ok(torn)
}

fn copy_out(from: &File, mut offset: u64, mut bytes: u64, to: &Path) -> io::Result<()> {
    let mut out = OpenOptions::new().create_new(true).write(true).mode(FILE_MODE).open(to)?;
    let mut block = vec![0; 64 * 1024];
    while bytes > 0 {
        let step = usize::try_from(bytes).unwrap_or(usize::MAX).min(block.len());
        let part = block.get_mut(..step).unwrap_or_default();
        from.read_exact_at(part, offset)?;
        out.write_all(part)?;
        offset = offset.saturating_add(step as u64);
        bytes = bytes.saturating_sub(step as u64);
    }
    out.sync_all()
}

fn damaged(what: String) -> AuditError {
    AuditError::Damaged { what }
}

fn missing(from: u64, to: u64) -> AuditError {
    damaged(format!("records {from} to {to} are missing"))
}

fn place(segment: &SegmentFile, line: u64, what: &str) -> AuditError {
    damaged(format!("{} line {line}: {what}", segment.path.display()))
}
