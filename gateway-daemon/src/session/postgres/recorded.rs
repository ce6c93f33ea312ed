//! What of a session is recorded, while it goes on: each request with its decision before it leaves, each reply as its
//! bytes are put together for the client. Without a recorder nothing here does anything.

use std::sync::{Arc, OnceLock, atomic::AtomicUsize};

use super::{
    bound::{Bound, format_from, format_of, withhold},
    constants::{Constants, Kept, kept_reason},
    ending::Ending,
    expected::Request,
    judge::Verdict,
    relay::Prepared,
};
use crate::{
    domain::{
        decision::{Denial, RecordLimits},
        event::Outcome,
    },
    protocol::postgres::backend::{self, Fields},
    recording::{
        Answered, Asked, Column, Cut, Failed, PackedRows, Record, Recorder, ResultSet, Said, SessionRecorder,
    },
};

/// No more of a statement's text is recorded.
const TEXT_BYTES: usize = 64 * 1024;
/// No result is recorded beyond this, whatever policies say: it is held in memory until it is complete.
const RESULT_BYTES: u64 = 16 * 1024 * 1024;
/// A request counts for so much of its session, beside what it says and shows.
const ENTRY_BYTES: u64 = 128;

/// A session's recording.
pub(super) struct Recording {
    session: SessionRecorder,
    result_bytes: u64,
    session_bytes: u64,
    used_bytes: u64,
    requests: u64,
    /// The columns that the server described last, and the bytes that did so.
    heard: Option<(Vec<u8>, Arc<Described>)>,
    /// Those of the rows that an Execute sends next, asked for by the daemon.
    announced: Option<Arc<Described>>,
    tag: String,
    reply: Reply,
    pub(super) held_parameters: Arc<AtomicUsize>,
}

/// The reply that is coming in.
#[derive(Default)]
struct Reply {
    results: Vec<ResultSet<PackedRows>>,
    /// Whether rows that come now belong to the last of the results.
    is_open: bool,
    tags: Vec<String>,
    notices: Vec<Said>,
    /// Bytes of rows that the client gets.
    bytes: u64,
    /// Of those, recorded ones.
    kept: u64,
}

/// What the recording must know of a request that is under way.
#[derive(Debug)]
pub(super) struct Recorded {
    number: u64,
    result_bytes: u64,
    constants: Constants,
    bound: Option<Arc<Bound>>,
}

/// Columns as a RowDescription tells them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Described {
    columns: Arc<[Column]>,
    /// Which of them no table has: a constant of the statement may be shown there.
    is_computed: Vec<bool>,
}

/// A statement's description, once the client has asked for it.
pub(super) type Description = OnceLock<Arc<Described>>;

impl Recording {
    pub(super) fn new(session: SessionRecorder, recorder: &Recorder, limits: RecordLimits) -> Self {
        Self {
            session,
            result_bytes: recorder.result_bytes,
            session_bytes: limits.session_bytes.unwrap_or(recorder.session_bytes),
            used_bytes: 0,
            requests: 0,
            heard: None,
            announced: None,
            tag: String::new(),
            reply: Reply::default(),
            held_parameters: Arc::default(),
        }
    }

    /// Records a request that is now refused or forwarded.
    pub(super) fn request(
        &mut self,
        kept: &Kept<'_>,
        verdict: &Verdict,
        refusal: Option<&Denial>,
        bound: Option<Arc<Bound>>,
    ) -> Result<Recorded, Ending> {
        self.requests += 1;
        let has_room = self.used_bytes < self.session_bytes;
        let text = if has_room { beginning(&kept.text, TEXT_BYTES) } else { "" };
        let mut asked = Asked {
            number: self.requests,
            at: now(),
            outcome: if refusal.is_some() { Outcome::Denied } else { Outcome::Allowed },
            policies: refusal.map_or(&verdict.policies, |denial| &denial.policies).clone(),
            masked: if refusal.is_some() { Vec::new() } else { verdict.masked_columns() },
            reason: refusal.map_or_else(
                || verdict.limit_note(),
                |denial| kept_reason(denial, kept.constants).into_owned(),
            ),
            hint: refusal.and_then(|denial| denial.hint.clone()),
            text: text.to_owned(),
            text_bytes: (text.len() < kept.text.len()).then(|| count(kept.text.len())),
            literals_withheld: kept.constants == Constants::Withheld,
            parameters: Vec::new(),
            parameters_missing_bytes: None,
        };
        if let Some(bound) = &bound {
            if has_room {
                asked.parameters.clone_from(&bound.parameters);
                asked.parameters_missing_bytes = bound.missing_bytes;
            } else {
                asked.parameters_missing_bytes = Some(count(bound.held.bytes)).filter(|bytes| *bytes > 0);
            }
            if kept.constants == Constants::Withheld {
                asked.parameters.iter_mut().for_each(withhold);
            }
        }
        let parameters: usize = asked.parameters.iter().map(|parameter| parameter.value.size()).sum();
        self.used_bytes += ENTRY_BYTES + count(asked.text.len() + parameters);
        self.session.record(Record::Request(asked)).map_err(Ending::Recording)?;
        let result_bytes = verdict.record.result_bytes.unwrap_or(self.result_bytes).min(RESULT_BYTES);
        Ok(Recorded { number: self.requests, result_bytes, constants: kept.constants, bound })
    }

    /// Takes note of a RowDescription or a CommandComplete that is about to be dealt with.
    pub(super) fn hear(&mut self, tag: u8, body: &[u8]) -> Result<(), Ending> {
        match tag {
            b'T' if self.heard.as_ref().is_none_or(|(known, _)| known != body) => {
                let fields = backend::row_description(body).map_err(|error| Ending::upstream(&error))?;
                let columns = fields.iter().map(|field| Column {
                    name: String::from_utf8_lossy(field.name).into_owned(),
                    type_oid: field.type_oid,
                    format: format_from(field.format),
                    withheld: false,
                });
                let described = Described {
                    columns: columns.collect(),
                    is_computed: fields.iter().map(|field| field.table_oid == 0).collect(),
                };
                self.heard = Some((body.to_vec(), Arc::new(described)));
            }
            b'C' => {
                let words = body.strip_suffix(&[0]).unwrap_or(body);
                self.tag = String::from_utf8_lossy(words).into_owned();
            }
            _ => {}
        }
        Ok(())
    }

    /// The description heard last is that of a prepared statement.
    pub(super) fn describes(&self, prepared: Option<&Arc<Prepared>>) {
        if let (Some(prepared), Some((_, described))) = (prepared, &self.heard) {
            // Described again it has the same columns, or the server refuses to run it.
            let _ = prepared.description.set(Arc::clone(described));
        }
    }

    /// It is that of the rows that the next Execute sends.
    pub(super) fn announce(&mut self) {
        self.announced = self.heard.as_ref().map(|(_, described)| Arc::clone(described));
    }

    /// Rows come now, with the description heard last.
    pub(super) fn begin_rows(&mut self, recorded: Option<&Recorded>) {
        let described = self.heard.as_ref().map(|(_, described)| Arc::clone(described));
        if let Some(recorded) = recorded {
            self.open(recorded, described.as_deref(), &[], Copying::No);
        }
    }

    fn open(
        &mut self,
        recorded: &Recorded,
        described: Option<&Described>,
        formats: &[i16],
        copying: Copying,
    ) {
        let columns: Arc<[Column]> = match described {
            None => Arc::from([]),
            Some(described) if recorded.constants == Constants::Kept && formats.is_empty() => {
                Arc::clone(&described.columns)
            }
            Some(described) => {
                let columns = described.columns.iter().zip(&described.is_computed).enumerate();
                let columns = columns.map(|(at, (column, is_computed))| Column {
                    format: format_of(formats, at).unwrap_or(column.format),
                    withheld: *is_computed && recorded.constants == Constants::Withheld,
                    ..column.clone()
                });
                columns.collect()
            }
        };
        let rows = PackedRows::new(Arc::clone(&columns));
        self.reply.results.push(ResultSet { columns, copy: copying == Copying::Yes, rows, cut: None });
        self.reply.is_open = true;
    }

    /// Opens a result for rows that come without a description in front of them.
    fn open_executed(&mut self, recorded: &Recorded) {
        let announced = self.announced.take();
        let bound = recorded.bound.as_deref();
        let known = bound.and_then(|bound| bound.prepared.as_ref()?.description.get().cloned());
        let described = announced.or(known);
        let formats = bound.map(|bound| bound.result_formats.clone()).unwrap_or_default();
        self.open(recorded, described.as_deref(), &formats, Copying::No);
    }

    /// Whether a row of so many bytes is recorded, so that it must be there as a whole.
    pub(super) fn wants(&self, recorded: Option<&Recorded>, bytes: usize) -> bool {
        recorded.is_some_and(|recorded| {
            let is_cut = self.reply.is_open && self.reply.results.last().is_some_and(|set| set.cut.is_some());
            !is_cut && self.has_room(recorded, count(bytes))
        })
    }

    fn has_room(&self, recorded: &Recorded, bytes: u64) -> bool {
        self.reply.kept + bytes <= recorded.result_bytes
            && self.used_bytes + self.reply.kept + bytes <= self.session_bytes
    }

    /// A row that the client sees, as a DataRow holds it.
    pub(super) fn row(&mut self, recorded: Option<&Recorded>, row: &[u8]) {
        let Some(recorded) = recorded else { return };
        if !self.reply.is_open {
            self.open_executed(recorded);
        }
        self.add(recorded, row.len(), |rows| rows.push(row));
    }

    /// What a function call returned, as its message holds it.
    pub(super) fn returned(&mut self, recorded: Option<&Recorded>, value: &[u8]) {
        let Some(recorded) = recorded else { return };
        let formats =
            recorded.bound.as_ref().map(|bound| bound.result_formats.as_slice()).unwrap_or_default();
        let column = Column {
            name: "result".to_owned(),
            type_oid: 0,
            format: format_of(formats, 0).unwrap_or_default(),
            withheld: false,
        };
        let described = Described { columns: Arc::from([column]), is_computed: vec![true] };
        self.open(recorded, Some(&described), &[], Copying::No);
        let row = [&1_u16.to_be_bytes(), value].concat();
        self.add(recorded, row.len(), |rows| rows.push(&row));
    }

    /// A piece of COPY data that the client sees.
    pub(super) fn copied(&mut self, recorded: Option<&Recorded>, data: &[u8]) {
        let Some(recorded) = recorded else { return };
        if !self.reply.is_open {
            self.open(recorded, None, &[], Copying::Yes);
        }
        if recorded.constants == Constants::Withheld {
            self.left_out(data.len());
        } else {
            self.add(recorded, data.len(), |rows| rows.push_value(data));
        }
    }

    /// A row or a piece of COPY data that the client sees and that is too large to be recorded.
    pub(super) fn passed(&mut self, recorded: Option<&Recorded>, tag: u8, bytes: usize) {
        let Some(recorded) = recorded else { return };
        if !self.reply.is_open {
            match tag {
                b'd' => self.open(recorded, None, &[], Copying::Yes),
                _ => self.open_executed(recorded),
            }
        }
        self.left_out(bytes);
    }

    fn add(&mut self, recorded: &Recorded, bytes: usize, push: impl FnOnce(&mut PackedRows)) {
        if !self.wants(Some(recorded), bytes) {
            return self.left_out(bytes);
        }
        self.reply.bytes += count(bytes);
        self.reply.kept += count(bytes);
        if let Some(set) = self.reply.results.last_mut() {
            push(&mut set.rows);
        }
    }

    fn left_out(&mut self, bytes: usize) {
        self.reply.bytes += count(bytes);
        if let Some(set) = self.reply.results.last_mut() {
            let cut = set.cut.get_or_insert_default();
            *cut = Cut { rows: cut.rows + 1, bytes: cut.bytes + count(bytes) };
        }
    }

    /// A notice, as the client is told.
    pub(super) fn notice(&mut self, constants: Constants, fields: &Fields<'_>) {
        if self.used_bytes < self.session_bytes {
            let said = said(fields, constants);
            self.used_bytes += ENTRY_BYTES + count(said.message.len() + said.detail.len() + said.hint.len());
            self.reply.notices.push(said);
        }
    }

    /// A statement of the request has ended, with the tag heard last.
    pub(super) fn statement_ended(&mut self, tag: u8) {
        self.reply.is_open = false;
        if tag == b'C' {
            self.used_bytes += count(self.tag.len());
            self.reply.tags.push(std::mem::take(&mut self.tag));
        }
    }

    /// The reply is complete.
    pub(super) fn finish(&mut self, request: &mut Request, error: Option<&Fields<'_>>) -> Result<(), Ending> {
        let Some(recorded) = request.recorded.take() else { return Ok(()) };
        let is_executed = recorded.bound.is_some();
        if is_executed && self.reply.results.is_empty() && error.is_none() {
            self.open_executed(&recorded);
            // Neither rows nor a description.
            if self.reply.results.last().is_some_and(|set| set.columns.is_empty()) {
                self.reply.results.clear();
            }
        }
        self.announced = None;
        let Reply { results, tags, notices, bytes, kept, .. } = std::mem::take(&mut self.reply);
        self.used_bytes += kept;
        let duration = request.started.elapsed().as_micros();
        let answered = Answered {
            number: recorded.number,
            at: now(),
            duration_us: u64::try_from(duration).unwrap_or(u64::MAX),
            rows: request.rows,
            bytes,
            results,
            tags,
            notices,
            error: error.map(|fields| said(fields, recorded.constants)),
            skipped: false,
        };
        self.session.record(Record::Reply(answered)).map_err(Ending::Recording)
    }

    /// Requests that the server skips, since something before them failed.
    pub(super) fn skipped(&mut self, skipped: Vec<Recorded>) -> Result<(), Ending> {
        for Recorded { number, .. } in skipped {
            let answered = Answered {
                number,
                at: now(),
                duration_us: 0,
                rows: 0,
                bytes: 0,
                results: Vec::new(),
                tags: Vec::new(),
                notices: Vec::new(),
                error: None,
                skipped: true,
            };
            self.session.record(Record::Reply(answered)).map_err(Ending::Recording)?;
        }
        Ok(())
    }

    /// An error of something that is no request, as the client is told.
    pub(super) fn failed(&mut self, constants: Constants, fields: &Fields<'_>) -> Result<(), Ending> {
        let failed = Failed { at: now(), error: said(fields, constants) };
        self.session.record(Record::Failure(failed)).map_err(Ending::Recording)
    }

    /// The session is over.
    pub(super) fn end(self, ending: &Ending) {
        self.session.end(ending.to_string());
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Copying {
    No,
    Yes,
}

fn said(fields: &Fields<'_>, constants: Constants) -> Said {
    let text = |field| String::from_utf8_lossy(fields.field(field).unwrap_or_default()).into_owned();
    let severity = text(Fields::SEVERITY_ENGLISH);
    let severity = if severity.is_empty() { text(Fields::SEVERITY) } else { severity };
    let sqlstate = text(Fields::SQLSTATE);
    match constants {
        Constants::Withheld => Said { severity, sqlstate, ..Said::default() },
        Constants::Kept => Said {
            severity,
            sqlstate,
            message: text(Fields::MESSAGE),
            detail: text(Fields::DETAIL),
            hint: text(Fields::HINT),
        },
    }
}

fn beginning(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or_default()
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}
