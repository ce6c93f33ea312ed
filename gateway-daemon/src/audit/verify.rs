//! Proves that the log is what was written, or names every place where it is not.
//!
//! Reads every byte of the log and nothing of the index. What it can and cannot find is in the
//! [room's header](super).

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    thread,
    time::Duration,
};

use thiserror::Error;

use super::{
    error::AuditError,
    layout::{Layout, Marker, SegmentFile, read_marker},
    record::{Digest, Line},
    retention,
    segment::{Piece, SegmentReader},
};

/// So many findings are kept; the others are counted.
const FINDINGS: usize = 1000;
/// A record that a running daemon is just writing becomes whole within this time.
const IN_WRITING: Duration = Duration::from_millis(200);
const IN_WRITING_TRIES: u32 = 25;

/// What a log without findings amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How many records there are.
    pub records: u64,
    /// How many files hold them.
    pub segments: u64,
    /// The oldest record's number, 0 in an empty log.
    pub first_seq: u64,
    /// The newest record's number, 0 in an empty log.
    pub last_seq: u64,
    /// The newest record's hash: kept elsewhere, it proves all of the log up to here.
    pub head: Digest,
    /// Retention removed the records up to this one; 0 when it removed none.
    pub removed_up_to: u64,
}

/// A record's number and hash, kept where the log's writer cannot change them; written `7:<64 hex>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The record.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
}

impl FromStr for Kept {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once(':')
            .and_then(|(seq, hash)| {
                Some(Self { seq: seq.parse().ok()?, hash: Digest::from_hex(hash.as_bytes())? })
            })
            .ok_or_else(|| {
                "give a record as `audit verify` prints it: its number, a colon, 64 hex digits".to_owned()
            })
    }
}

/// One thing that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1, when it is about one.
    pub line: Option<u64>,
    /// The record, when it has a number.
    pub seq: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, " line {line}")?;
        }
        if let Some(seq) = self.seq {
            write!(f, " record {seq}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// Why a log did not verify.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// The log is not what was written.
    #[error("the audit log is not what was written: {} findings", .count)]
    Broken {
        /// The first thousand findings, in the log's order.
        findings: Vec<Finding>,
        /// How many there are in all.
        count: u64,
        /// How many records are as they were written.
        intact: u64,
    },
    /// The log could not be read.
    #[error(transparent)]
    Unreadable(#[from] AuditError),
}

/// Checks the log in `dir`, also while a daemon writes it.
pub fn verify(dir: &Path) -> Result<Verified, VerifyError> {
    verify_against(dir, None)
}

/// [`verify`], and that the log still has the record that was kept.
pub fn verify_against(dir: &Path, kept: Option<Kept>) -> Result<Verified, VerifyError> {
    let layout = Layout::new(dir);
    let mut tries = 3;
    loop {
        let before = oldest(&layout);
        let result = verify_once(&layout, kept);
        tries -= 1;
        // Retention came between: what was listed first and what was read later do not belong together.
        let is_moved = || layout.is_being_written() && oldest(&layout) != before;
        if tries == 0 || result.is_ok() || !is_moved() {
            return result;
        }
    }
}

/// Where the log begins now: what retention changes.
fn oldest(layout: &Layout) -> Option<(Option<Marker>, Option<u64>)> {
    let first = layout.segments().ok()?.first().map(|segment| segment.first_seq);
    Some((read_marker(&layout.anchor()).ok()?, first))
}

fn verify_once(layout: &Layout, kept: Option<Kept>) -> Result<Verified, VerifyError> {
    // Read before the log: a running daemon only moves on from here.
    let mut walk = Walk::new(layout);
    let head = walk.marker(&layout.head());
    let anchor = walk.marker(&layout.anchor()).unwrap_or(Marker::GENESIS);
    walk.head = head;
    walk.anchor = anchor;
    walk.kept = kept;
    let segments = walk.segments()?;
    if head.is_none() && !segments.is_empty() {
        walk.find(&layout.head(), None, None, "missing: a removed end of the log cannot be seen".to_owned());
    }
    walk.start(segments.first());
    for (number, segment) in segments.iter().enumerate() {
        walk.segment(segment, number + 1 == segments.len())?;
    }
    walk.finish(segments.len() as u64)
}

/// What a line is, once read.
enum Seen<'a> {
    Record(Line<'a>),
    /// The hash is not that of the bytes.
    Changed(Line<'a>),
    /// Not of the format.
    Garbled,
}

struct Walk<'l> {
    layout: &'l Layout,
    head: Option<Marker>,
    anchor: Marker,
    /// Not yet met.
    kept: Option<Kept>,
    /// The number that the next record must have.
    expected: u64,
    /// The hash that it must refer to, while that is known.
    last_hash: Option<Digest>,
    last_time: u64,
    /// Changed or garbled lines since the last good record, which may stand for the numbers missing next.
    broken_since: u64,
    /// Numbers that were passed over: first, last, and where.
    gaps: Vec<Gap>,
    is_anchor_covered: bool,
    first_seq: u64,
    intact: u64,
    head_hash: Digest,
    findings: Vec<Finding>,
    count: u64,
}

struct Gap {
    first: u64,
    last: u64,
    file: PathBuf,
    line: Option<u64>,
}

impl<'l> Walk<'l> {
    fn new(layout: &'l Layout) -> Self {
        Self {
            layout,
            head: None,
            anchor: Marker::GENESIS,
            kept: None,
            expected: 1,
            last_hash: Some(Digest::ZERO),
            last_time: 0,
            broken_since: 0,
            gaps: Vec::new(),
            is_anchor_covered: false,
            first_seq: 0,
            intact: 0,
            head_hash: Digest::ZERO,
            findings: Vec::new(),
            count: 0,
        }
    }

    fn find(&mut self, file: &Path, line: Option<u64>, seq: Option<u64>, what: String) {
        self.count = self.count.saturating_add(1);
        if self.findings.len() < FINDINGS {
            self.findings.push(Finding { file: file.to_owned(), line, seq, what });
        }
    }

    fn marker(&mut self, path: &Path) -> Option<Marker> {
        match read_marker(path) {
            Ok(marker) => marker,
            Err(error) => {
                self.find(path, None, None, format!("cannot be read: {error}"));
                None
            }
        }
    }

    /// The segments, and a finding for every other file among them.
    fn segments(&mut self) -> Result<Vec<SegmentFile>, AuditError> {
        let dir = self.layout.log_dir();
        let mut segments = Vec::new();
        for entry in fs::read_dir(&dir).map_err(AuditError::io("list", &dir))? {
            let path = entry.map_err(AuditError::io("list", &dir))?.path();
            match SegmentFile::of(&path) {
                Some(segment) => segments.push(segment),
                None => self.find(&path, None, None, "not a segment of the log".to_owned()),
            }
        }
        segments.sort_by_key(|segment| segment.first_seq);
        Ok(segments)
    }

    /// Where the chain begins: at record 1, behind the anchor, or at a segment that retention was about to
    /// remove when the daemon was stopped.
    fn start(&mut self, first: Option<&SegmentFile>) {
        self.expected = self.anchor.seq.saturating_add(1);
        self.last_hash = Some(self.anchor.hash);
        self.is_anchor_covered = self.anchor == Marker::GENESIS;
        if let Some(first) = first.filter(|first| first.first_seq <= self.anchor.seq) {
            self.expected = first.first_seq.max(1);
            self.last_hash = (self.expected == 1).then_some(Digest::ZERO);
        }
    }

    fn segment(&mut self, segment: &SegmentFile, is_newest: bool) -> Result<(), AuditError> {
        let mut reader = match SegmentReader::open(&segment.path, 0) {
            // Retention removed it since it was listed; a fresh look at the anchor would say so.
            Err(AuditError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return self.vanished(segment);
            }
            opened => opened?,
        };
        let mut buffer = Vec::new();
        let mut tries = IN_WRITING_TRIES;
        let mut is_first = true;
        let mut blank_lines = 0_u64;
        loop {
            let (start, line_number) = (reader.offset, reader.line);
            let piece = reader.next(&mut buffer).map_err(AuditError::io("read", &segment.path))?;
            match piece {
                Piece::End => return Ok(()),
                Piece::Blank => {
                    blank_lines = blank_lines.saturating_add(1);
                    continue;
                }
                Piece::Text | Piece::Unended => {}
            }
            let seen = match Line::parse(&buffer).filter(|_| piece == Piece::Text) {
                None => Seen::Garbled,
                Some(line) if line.is_intact() => Seen::Record(line),
                Some(line) => Seen::Changed(line),
            };
            let is_next =
                matches!(&seen, Seen::Record(line) if line.seq == self.expected) && blank_lines == 0;
            if !is_next && is_newest && tries > 0 && self.layout.is_being_written() {
                // Perhaps half written when it was read: look again, from the last good record on.
                tries -= 1;
                thread::sleep(IN_WRITING / IN_WRITING_TRIES);
                let back_to = start.saturating_sub(blank_lines);
                let line = line_number.saturating_sub(blank_lines);
                reader = SegmentReader::open(&segment.path, back_to)?;
                reader.line = line;
                blank_lines = 0;
                continue;
            }
            if is_next {
                tries = IN_WRITING_TRIES;
            }
            if blank_lines > 0 {
                let what = format!("{blank_lines} empty lines before a record");
                self.find(&segment.path, Some(reader.line), None, what);
                blank_lines = 0;
            }
            if std::mem::take(&mut is_first) {
                self.check_name(segment, &seen);
            }
            self.line(&segment.path, reader.line, &seen);
        }
    }

    /// A segment that was removed between listing and reading: right when the anchor now covers it.
    fn vanished(&mut self, segment: &SegmentFile) -> Result<(), AuditError> {
        let anchor = read_marker(&self.layout.anchor())?.unwrap_or(Marker::GENESIS);
        if anchor.seq >= segment.first_seq {
            self.anchor = anchor;
            self.expected = anchor.seq.saturating_add(1);
            self.last_hash = Some(anchor.hash);
            self.is_anchor_covered = false;
        } else {
            self.find(
                &segment.path,
                None,
                Some(segment.first_seq),
                "removed while it was to be read".to_owned(),
            );
        }
        Ok(())
    }

    fn check_name(&mut self, segment: &SegmentFile, seen: &Seen<'_>) {
        if let Seen::Record(line) = seen
            && line.seq != segment.first_seq
        {
            let what = format!("the file's name says that it begins with record {}", segment.first_seq);
            self.find(&segment.path, Some(1), Some(line.seq), what);
        }
    }

    fn line(&mut self, file: &Path, at: u64, seen: &Seen<'_>) {
        match seen {
            Seen::Garbled => {
                self.broken_since = self.broken_since.saturating_add(1);
                let what = format!("not a record; record {} was due", self.expected);
                self.find(file, Some(at), None, what);
            }
            Seen::Changed(line) => {
                self.broken_since = self.broken_since.saturating_add(1);
                let what = "changed: its bytes do not have its hash".to_owned();
                self.find(file, Some(at), Some(line.seq), what);
            }
            Seen::Record(line) => self.record(file, at, line),
        }
    }

    fn record(&mut self, file: &Path, at: u64, line: &Line<'_>) {
        if line.seq < self.expected {
            let what = if self.fill_gap(line.seq) {
                "out of order: it stands after later records"
            } else {
                "inserted: a record of this number came before"
            };
            self.find(file, Some(at), Some(line.seq), what.to_owned());
            return;
        }
        let passed_over = line.seq.saturating_sub(self.expected);
        if passed_over > self.broken_since {
            self.gaps.push(Gap {
                first: self.expected,
                last: line.seq.saturating_sub(1),
                file: file.to_owned(),
                line: Some(at),
            });
        }
        if passed_over > 0 {
            // What this record refers to was not seen as it was.
            self.last_hash = None;
        }
        self.broken_since = 0;
        if self.last_hash.is_some_and(|hash| hash != line.prev) {
            let what = "its `prev` is not the hash of the record before: one of the two was replaced";
            self.find(file, Some(at), Some(line.seq), what.to_owned());
        }
        if line.time < self.last_time {
            self.find(file, Some(at), Some(line.seq), "older than the record before".to_owned());
        }
        self.check_markers(file, at, line);
        if self.intact == 0 {
            self.first_seq = line.seq;
        }
        self.intact = self.intact.saturating_add(1);
        self.expected = line.seq.saturating_add(1);
        self.last_hash = Some(line.hash);
        self.last_time = line.time;
        self.head_hash = line.hash;
    }

    /// Compares a record with what is said of it in `head.json` and `anchor.json`.
    fn check_markers(&mut self, file: &Path, at: u64, line: &Line<'_>) {
        if self.head.is_some_and(|head| head.seq == line.seq && head.hash != line.hash) {
            let what = "replaced: head.json holds another hash of this record".to_owned();
            self.find(file, Some(at), Some(line.seq), what);
        }
        if self.anchor.seq == line.seq && self.anchor.hash != line.hash {
            let what = "replaced: anchor.json holds another hash of this record".to_owned();
            self.find(file, Some(at), Some(line.seq), what);
        }
        if let Some(kept) = self.kept.take_if(|kept| kept.seq == line.seq)
            && kept.hash != line.hash
        {
            let what = "replaced: the hash that was kept of this record is another".to_owned();
            self.find(file, Some(at), Some(line.seq), what);
        }
        if !self.is_anchor_covered {
            self.is_anchor_covered = retention::covers(line.event, self.anchor);
        }
    }

    /// Takes `seq` out of the gaps; `false` when it was in none.
    fn fill_gap(&mut self, seq: u64) -> bool {
        let Some(at) = self.gaps.iter().position(|gap| gap.first <= seq && seq <= gap.last) else {
            return false;
        };
        let gap = self.gaps.swap_remove(at);
        if gap.first < seq {
            let last = seq.saturating_sub(1);
            self.gaps.push(Gap { first: gap.first, last, file: gap.file.clone(), line: gap.line });
        }
        if seq < gap.last {
            self.gaps.push(Gap { first: seq.saturating_add(1), ..gap });
        }
        true
    }

    fn finish(mut self, segments: u64) -> Result<Verified, VerifyError> {
        let mut gaps = std::mem::take(&mut self.gaps);
        gaps.sort_by_key(|gap| gap.first);
        for gap in gaps {
            let what = if gap.first == gap.last {
                format!("record {} was removed before this line", gap.first)
            } else {
                format!("records {} to {} were removed before this line", gap.first, gap.last)
            };
            self.find(&gap.file, gap.line, None, what);
        }
        let last_seq = self.expected.saturating_sub(1);
        if let Some(head) = self.head.filter(|head| head.seq > last_seq) {
            let what = format!(
                "records {} to {} were removed or broken at the end of the log: {} was on disk",
                self.expected, head.seq, head.seq
            );
            self.find(&self.layout.head(), None, None, what);
        }
        if let Some(kept) = self.kept {
            let what = "the record whose hash was kept is not in the log".to_owned();
            self.find(&self.layout.log_dir(), None, Some(kept.seq), what);
        }
        if !self.is_anchor_covered {
            let what = format!(
                "records up to {} are missing, and no record tells of their removal by retention",
                self.anchor.seq
            );
            self.find(&self.layout.anchor(), None, None, what);
        }
        if self.count > 0 {
            return Err(VerifyError::Broken {
                findings: self.findings,
                count: self.count,
                intact: self.intact,
            });
        }
        Ok(Verified {
            records: self.intact,
            segments,
            first_seq: self.first_seq,
            last_seq,
            head: self.head_hash,
            removed_up_to: self.anchor.seq,
        })
    }
}
