//! The server's answers: matched against what is owed, masked, scrubbed, and passed on as they came wherever
//! nothing has to change. A server that answers what nobody asked ends the session.

use std::{collections::VecDeque, mem, sync::Arc};

use bytes::{Buf, BytesMut};

use super::{
    answer,
    catalogues::{Reach, Stale},
    concealed::Concealing,
    constants::Constants,
    ending::Ending,
    expected::{Expected, Told, skip_to_sync},
    judge::{Rows, Verdict},
    recorded::Recorded,
    relay::{Copying, Fate, Relay},
    shown::{RowHandling, Untraced, scan_of, trace},
    texts::{Circumstances, Phase, Scrubbed},
};
use crate::{
    domain::decision::MaskPlan,
    mask::{Concealed, Finds, Format, mask_data_row},
    protocol::postgres::{
        Frame, HEADER_BYTES,
        backend::{self, Field, Fields, Message, TransactionStatus},
        peek_header, split_frame,
    },
};

/// No reply but rows and COPY data that pass unchanged may be larger.
const REPLY_BYTES: usize = 64 * 1024 * 1024;
/// A row with masked columns is held in memory as a whole.
const MASKED_ROW_BYTES: usize = 16 * 1024 * 1024;

/// What the relay must know of a reply that passes unchanged.
#[derive(Debug, Clone, Copy)]
pub(super) enum Gist {
    /// Rows returned or affected, by a CommandComplete.
    Rows(u64),
    /// The transaction's state, by a ReadyForQuery.
    Status(TransactionStatus),
    /// The type of the message says it all.
    Nothing,
}

impl Gist {
    pub(super) fn of(tag: u8, body: &[u8]) -> Self {
        match (tag, body) {
            (b'C', [words @ .., 0]) => Self::Rows(backend::rows(words).unwrap_or(0)),
            (b'Z', b"I") => Self::Status(TransactionStatus::Idle),
            (b'Z', b"T") => Self::Status(TransactionStatus::InTransaction),
            (b'Z', b"E") => Self::Status(TransactionStatus::Failed),
            _ => Self::Nothing,
        }
    }
}

impl Relay<'_> {
    /// Takes whatever replies of the server are there.
    pub(super) async fn take_replies(&mut self) -> Result<(), Ending> {
        // Frames that pass unchanged are counted here and moved together: a small result is one copy.
        let mut unchanged = 0;
        loop {
            if self.reply_bytes_left > 0 {
                let now = self.reply_bytes_left.min(self.upstream.input.len());
                if now == 0 {
                    return Ok(());
                }
                match self.reply_fate {
                    Fate::Forwarded | Fate::LookedAt => self.pass(now),
                    Fate::Dropped => self.upstream.input.advance(now),
                }
                self.reply_bytes_left -= now;
                continue;
            }
            let rest = self.upstream.input.get(unchanged..).unwrap_or_default();
            let Some((tag, total)) = peek_header(rest).map_err(|error| Ending::upstream(&error))? else {
                break;
            };
            let here = rest.len();
            if self.reply_fate == Fate::Dropped && matches!(tag, b'D' | b'd') {
                self.pass(unchanged);
                unchanged = 0;
                self.reply_bytes_left = total;
                continue;
            }
            if matches!(tag, b'D' | b'd' | b'V') && self.passes_data(tag)? {
                if tag == b'V'
                    && let Some(Expected::Simple(request, _)) = self.queue.front_mut()
                {
                    request.rows += 1;
                }
                if let Some(stream) = &mut self.stream {
                    stream.received += u64::try_from(total - HEADER_BYTES).unwrap_or(u64::MAX);
                }
                if let Some(recording) = &mut self.recording {
                    let recorded = front_recorded(&self.queue);
                    match rest.get(HEADER_BYTES..total) {
                        // What replication streams is nothing to read: its size is enough.
                        _ if self.stream.is_some() => recording.passed(recorded, tag, total - HEADER_BYTES),
                        Some(value) if tag == b'V' => recording.returned(recorded, value),
                        Some(row) if tag == b'D' => recording.row(recorded, row),
                        Some(data) => recording.copied(recorded, data),
                        // Recorded as a whole: the rest of it comes.
                        None if recording.wants(recorded, total - HEADER_BYTES) => break,
                        None => recording.passed(recorded, tag, total - HEADER_BYTES),
                    }
                }
                if here < total {
                    self.pass(unchanged);
                    unchanged = 0;
                    self.reply_bytes_left = total;
                    continue;
                }
                unchanged += total;
                continue;
            }
            if here < total {
                if tag == b'D' && total > MASKED_ROW_BYTES {
                    return Err(Ending::RowTooLarge { bytes: total, limit: MASKED_ROW_BYTES });
                }
                if total > REPLY_BYTES {
                    return Err(Ending::UpstreamProtocol(format!("a message of {total} bytes")));
                }
                break;
            }
            if self.meets_limit() {
                self.pass(unchanged);
                unchanged = 0;
                let frame = self.next_reply()?;
                self.take_counted(frame).await?;
                continue;
            }
            let body = rest.get(HEADER_BYTES..total).unwrap_or_default();
            if let Some(recording) = &mut self.recording {
                recording.hear(tag, body)?;
            }
            let gist = Gist::of(tag, body);
            if self.takes_unchanged(tag, gist).await? {
                unchanged += total;
                continue;
            }
            self.pass(unchanged);
            unchanged = 0;
            let frame = self.next_reply()?;
            self.take_reply(&frame)?;
        }
        self.pass(unchanged);
        Ok(())
    }

    /// The reply at the front, which is there as a whole.
    fn next_reply(&mut self) -> Result<Frame, Ending> {
        split_frame(&mut self.upstream.input, REPLY_BYTES)
            .map_err(|error| Ending::upstream(&error))?
            .ok_or_else(|| Ending::UpstreamProtocol("a message shrank".to_owned()))
    }

    /// Takes one reply that has been looked at already.
    pub(super) async fn take_as_usual(&mut self, frame: &Frame) -> Result<(), Ending> {
        if let Some(recording) = &mut self.recording {
            recording.hear(frame.tag, frame.body())?;
        }
        if self.takes_unchanged(frame.tag, Gist::of(frame.tag, frame.body())).await? {
            self.client.output.extend_from_slice(frame.raw());
            return Ok(());
        }
        self.take_reply(frame)
    }

    /// Moves the first `count` bytes to the client.
    fn pass(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        if self.client.output.is_empty() {
            if count == self.upstream.input.len() {
                mem::swap(&mut self.client.output, &mut self.upstream.input);
                return;
            }
            self.client.output.clear();
        }
        let passed = self.upstream.input.get(..count).unwrap_or_default();
        self.client.output.extend_from_slice(passed);
        self.upstream.input.advance(count.min(self.upstream.input.len()));
    }

    /// Whether a row or a piece of COPY data may pass as it comes.
    fn passes_data(&self, tag: u8) -> Result<bool, Ending> {
        let is_call = match self.queue.front() {
            // No description comes ahead of these rows, and none is needed.
            Some(Expected::Execute(request))
                if request.refusal.is_none() && request.verdict.rows == Rows::Clear && tag != b'V' =>
            {
                return Ok(true);
            }
            Some(Expected::Execute(request)) if request.refusal.is_none() => false,
            Some(Expected::Simple(request, _)) if request.refusal.is_none() => {
                request.verdict.calls_function()
            }
            _ => return Err(unexpected(tag)),
        };
        if is_call || tag == b'V' {
            return if is_call && tag == b'V' { Ok(true) } else { Err(unexpected(tag)) };
        }
        match (&self.rows, tag) {
            (RowHandling::Copied(..), b'd') => Ok(false),
            // COPY TO of a masked column is refused beforehand: what comes is clear.
            (RowHandling::Clear, _) | (_, b'd') => Ok(true),
            (RowHandling::Masked(..) | RowHandling::Copied(..), _) => Ok(false),
            (RowHandling::Undescribed, _) => {
                Err(Ending::Mask("rows came without a description of their columns".to_owned()))
            }
        }
    }

    /// Takes the replies that need no change; `false` for those that may.
    async fn takes_unchanged(&mut self, tag: u8, gist: Gist) -> Result<bool, Ending> {
        match tag {
            b'1' if matches!(self.queue.front(), Some(Expected::Syntax { .. })) => {
                return Ok(false);
            }
            b'1' => self.parse_complete()?,
            b'2' => self.bind_complete()?,
            b'3' => self.close_complete()?,
            b't' => match self.queue.front() {
                Some(Expected::Describe(_)) => {}
                _ => return Err(unexpected(tag)),
            },
            b'C' | b'I' | b's' => self.complete(tag, gist)?,
            b'Z' => self.ready(gist).await?,
            b'T' => match self.queue.front() {
                Some(Expected::Describe(statement)) => {
                    if let Some(recording) = &self.recording {
                        recording.describes(statement.as_ref());
                    }
                    self.queue.pop_front();
                }
                Some(Expected::Simple(request, _)) if request.verdict.rows == Rows::Clear => {
                    self.rows = RowHandling::Clear;
                    if let Some(recording) = &mut self.recording {
                        recording.begin_rows(request.recorded.as_ref());
                    }
                }
                _ => return Ok(false),
            },
            b'n' => match self.queue.front() {
                Some(Expected::Describe(_)) => {
                    self.queue.pop_front();
                }
                _ => return Ok(false),
            },
            b'H' if self.looks_through_copies() => return Ok(false),
            b'H' | b'c' => match self.queue.front() {
                Some(Expected::Simple(..) | Expected::Execute(_)) => {}
                _ => return Err(unexpected(tag)),
            },
            b'G' | b'W' => {
                let verdict = self.queue.front().and_then(Expected::verdict);
                let is_both = verdict.is_some_and(|verdict| verdict.copies_both());
                if self.copying != Copying::Asked || is_both != (tag == b'W') {
                    return Err(unexpected(tag));
                }
                self.copying = Copying::Yes;
            }
            b'A' => return Ok(self.notification_passes()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes the replies that are changed, or not passed on at all.
    fn take_reply(&mut self, frame: &Frame) -> Result<(), Ending> {
        match backend::parse(frame).map_err(|error| Ending::upstream(&error))? {
            Message::RowDescription(fields) => self.described(frame, &fields),
            // The server can read it: what comes next fails.
            Message::ParseComplete => match self.queue.pop_front() {
                Some(Expected::Syntax { .. }) => Ok(()),
                _ => Err(unexpected(frame.tag)),
            },
            Message::NoData => match self.queue.pop_front() {
                Some(Expected::DescribeOurs(_)) => {
                    self.rows = RowHandling::Undescribed;
                    Ok(())
                }
                _ => Err(unexpected(frame.tag)),
            },
            Message::DataRow(_) => self.masked_row(frame),
            Message::CopyOutResponse(formats) => self.copy_begins(frame, formats.overall),
            Message::CopyData(row) => self.masked_copy_row(row),
            Message::ErrorResponse(fields) => self.failed(fields),
            Message::NoticeResponse(fields) => {
                let verdict = self.queue.front().and_then(|expected| expected.verdict()).cloned();
                let said = self.scrubbed(fields, verdict.as_deref());
                // Code that speaks of every row says no more by saying it again.
                if said.is_withheld && mem::replace(&mut self.has_withheld, true) {
                    return Ok(());
                }
                let fields = said.fields();
                if let Some(recording) = &mut self.recording {
                    recording.notice(constants(verdict.as_deref()), &fields);
                }
                backend::notice_response(&mut self.client.output, &fields)
                    .map_err(|error| Ending::upstream(&error))
            }
            Message::NotificationResponse { process_id, channel, payload } => {
                self.notified(process_id, channel, payload)
            }
            Message::ParameterStatus { name, value } => {
                pinned(name, value)?;
                self.client.output.extend_from_slice(frame.raw());
                Ok(())
            }
            _ => Err(unexpected(frame.tag)),
        }
    }

    /// The words of an error or a notice, as far as the client may read them.
    fn scrubbed<'f>(&self, fields: Fields<'f>, verdict: Option<&Verdict>) -> Scrubbed<'f> {
        let phase = match self.queue.front() {
            Some(Expected::Parse { .. } | Expected::Syntax { .. }) => Phase::Read,
            Some(Expected::Bind { .. }) => Phase::Bound,
            Some(Expected::Simple(..) | Expected::Execute(_) | Expected::DescribeOurs(_)) => Phase::Ran,
            Some(
                Expected::Describe(_)
                | Expected::CloseStatement(_)
                | Expected::ClosePortal(_)
                | Expected::Undoing
                | Expected::Sync(_),
            )
            | None => Phase::Ended,
        };
        let masks = self.masks_now();
        let about = Circumstances {
            verdict,
            phase,
            masks: verdict.map_or(masks.as_ref(), |verdict| verdict.target_masks.as_ref()),
            catalogue: verdict.map_or(self.snapshot.catalogue.as_ref(), |verdict| verdict.catalogue.as_ref()),
        };
        answer::scrub(fields, about, &self.room.masker)
    }

    /// Everything that is masked for the agent.
    pub(super) fn masks_now(&self) -> Arc<MaskPlan> {
        self.room.judge.target_masks(&self.asker, self.facts, &self.snapshot.catalogue)
    }

    fn parse_complete(&mut self) -> Result<(), Ending> {
        match self.queue.pop_front() {
            Some(Expected::Parse { name, learnt: Some(learnt), .. }) => {
                self.statements.confirm(&name, learnt);
                Ok(())
            }
            _ => Err(unexpected(b'1')),
        }
    }

    fn bind_complete(&mut self) -> Result<(), Ending> {
        match self.queue.pop_front() {
            Some(Expected::Bind { name, learnt, .. }) => {
                self.portals.confirm(&name, learnt);
                Ok(())
            }
            _ => Err(unexpected(b'2')),
        }
    }

    fn close_complete(&mut self) -> Result<(), Ending> {
        match self.queue.pop_front() {
            Some(Expected::CloseStatement(name)) => self.statements.forget(&name),
            Some(Expected::ClosePortal(name)) => self.portals.forget(&name),
            _ => return Err(unexpected(b'3')),
        }
        Ok(())
    }

    /// A statement has ended, or a portal is suspended.
    fn complete(&mut self, tag: u8, gist: Gist) -> Result<(), Ending> {
        let affected = if let Gist::Rows(rows) = gist { rows } else { 0 };
        if let Some(recording) = &mut self.recording {
            recording.statement_ended(tag);
        }
        self.note_notifications();
        match self.queue.front_mut() {
            Some(Expected::Simple(request, _)) if request.refusal.is_none() => {
                request.rows += affected;
                request.ended += 1;
                request.told = self.notices;
                if let Some((name, learnt)) = request.prepares.take() {
                    self.statements.confirm(&name, learnt);
                }
                // The next statement of the message brings a description of its own.
                self.rows = RowHandling::Undescribed;
                Ok(())
            }
            Some(Expected::Execute(request)) if request.refusal.is_none() => {
                request.rows += affected;
                if let Some((name, learnt)) = request.prepares.take() {
                    self.statements.confirm(&name, learnt);
                }
                let Some(Expected::Execute(mut request)) = self.queue.pop_front() else {
                    return Err(unexpected(tag));
                };
                if let Some(recording) = &mut self.recording {
                    recording.finish(&mut request, None)?;
                }
                self.copying = Copying::No;
                self.rows = RowHandling::Undescribed;
                self.note_completion(&request, None)
            }
            _ => Err(unexpected(tag)),
        }
    }

    async fn ready(&mut self, gist: Gist) -> Result<(), Ending> {
        let Gist::Status(status) = gist else { return Err(unexpected(b'Z')) };
        self.transaction = status;
        let batch = match self.queue.pop_front() {
            Some(Expected::Simple(mut request, batch)) => {
                if let Some(recording) = &mut self.recording {
                    recording.finish(&mut request, None)?;
                }
                if request.refusal.is_none() && !request.verdict.statements.is_empty() {
                    self.note_completion(&request, None)?;
                }
                batch
            }
            Some(Expected::Sync(batch)) => batch,
            _ => return Err(unexpected(b'Z')),
        };
        self.copying = Copying::No;
        self.stream = None;
        self.rows = RowHandling::Undescribed;
        self.reply_fate = Fate::Forwarded;
        self.statements.settle(batch);
        self.portals.settle(batch);
        self.has_withheld = false;
        if self.transaction == TransactionStatus::Idle {
            self.notifying.transaction_ended();
            if self.queue.is_empty() {
                // Portals end with their transaction.
                self.portals.clear();
            }
            // With answers still owed, the change may be one of theirs.
            if self.unsettled > Stale::Nothing && self.queue.is_empty() {
                // Kept or undone: what was read in the transaction may be neither.
                self.stale = self.stale.max(mem::replace(&mut self.unsettled, Stale::Nothing));
                let reach = mem::replace(&mut self.schema_reach, Reach::Own);
                self.room.catalogues.outdate(&self.place, reach).await;
            }
        }
        Ok(())
    }

    fn described(&mut self, frame: &Frame, fields: &[Field<'_>]) -> Result<(), Ending> {
        match self.queue.front() {
            Some(Expected::Simple(request, _)) if request.refusal.is_none() => {
                if let Some(recording) = &mut self.recording {
                    recording.begin_rows(request.recorded.as_ref());
                }
                self.rows = match trace(&request.verdict, request.ended, fields, &self.room.masker) {
                    Ok(rows) => rows,
                    Err(why) => return Err(self.untraced(why)),
                };
                self.client.output.extend_from_slice(frame.raw());
                Ok(())
            }
            Some(Expected::DescribeOurs(verdict)) => {
                self.rows = match trace(verdict, 0, fields, &self.room.masker) {
                    Ok(rows) => rows,
                    Err(why) => return Err(self.untraced(why)),
                };
                if let Some(recording) = &mut self.recording {
                    recording.announce();
                }
                self.queue.pop_front();
                Ok(())
            }
            _ => Err(unexpected(frame.tag)),
        }
    }

    /// Why the session ends at a result whose columns are not what they were when the statement was read: whoever comes next
    /// reads the schema anew.
    fn untraced(&mut self, why: Untraced) -> Ending {
        match why {
            Untraced::Column(column) => {
                self.unsettled = Stale::Schema;
                self.schema_reach = Reach::All;
                Ending::Untraced { column }
            }
            Untraced::Mask(error) => Ending::Mask(error.to_string()),
        }
    }

    fn masked_row(&mut self, frame: &Frame) -> Result<(), Ending> {
        let RowHandling::Masked(plan, concealing) = &mut self.rows else { return Err(unexpected(frame.tag)) };
        let start = self.client.output.len();
        let concealed = mask_data_row(frame, plan, &self.room.masker, &mut self.client.output)
            .map_err(|error| Ending::Mask(error.to_string()))?;
        if let Some(recording) = &mut self.recording {
            let masked = self.client.output.get(start + HEADER_BYTES..).unwrap_or_default();
            recording.row(front_recorded(&self.queue), masked);
        }
        if concealed == Concealed::Something
            && let Some(concealing) = concealing.take()
        {
            self.tell_concealed(&concealing)?;
        }
        Ok(())
    }

    /// Tells the client which columns are concealed, once for a statement.
    fn tell_concealed(&mut self, concealing: &Concealing) -> Result<(), Ending> {
        let (told, verdict) = match self.queue.front_mut() {
            Some(Expected::Simple(request, _) | Expected::Execute(request)) => {
                (&mut request.told, Arc::clone(&request.verdict))
            }
            _ => return Ok(()),
        };
        if mem::replace(told, Told::Already) == Told::Already {
            return Ok(());
        }
        concealing
            .fields(|fields| {
                if let Some(recording) = &mut self.recording {
                    recording.notice(constants(Some(&verdict)), fields);
                }
                backend::notice_response(&mut self.client.output, fields)
            })
            .map_err(|error| Ending::upstream(&error))
    }

    /// Whether what COPY sends is looked through, for the request whose answer comes now.
    fn looks_through_copies(&self) -> bool {
        match self.queue.front() {
            Some(Expected::Simple(request, _) | Expected::Execute(request)) => {
                request.verdict.copies_to_client() && !request.verdict.masks.scans.is_empty()
            }
            _ => false,
        }
    }

    fn copy_begins(&mut self, frame: &Frame, overall: i16) -> Result<(), Ending> {
        let Some(Expected::Simple(request, _) | Expected::Execute(request)) = self.queue.front() else {
            return Err(unexpected(frame.tag));
        };
        let scans = &request.verdict.masks.scans;
        if let Some(scan) =
            scan_of(scans.iter(), &self.room.masker).map_err(|error| Ending::Mask(error.to_string()))?
        {
            let format = if overall == 1 { Format::Binary } else { Format::Text };
            self.rows = RowHandling::Copied(scan, format);
        }
        self.client.output.extend_from_slice(frame.raw());
        Ok(())
    }

    /// The server sends each row of COPY in a message of its own.
    fn masked_copy_row(&mut self, row: &[u8]) -> Result<(), Ending> {
        let RowHandling::Copied(scan, format) = &self.rows else { return Err(unexpected(b'd')) };
        let mut masked = BytesMut::with_capacity(row.len());
        let found = self.room.masker.scan_copy_row(scan, row, &mut masked);
        if found == Finds::Some && *format == Format::Binary {
            // Another length would break the format.
            let why = "COPY in binary format has content that must be masked: use the text or CSV format";
            return Err(Ending::Mask(why.to_owned()));
        }
        if let Some(recording) = &mut self.recording {
            recording.copied(front_recorded(&self.queue), &masked);
        }
        Message::CopyData(&masked).encode(&mut self.client.output).map_err(|error| Ending::upstream(&error))
    }

    pub(super) fn failed(&mut self, fields: Fields<'_>) -> Result<(), Ending> {
        let fatal = fields.is_fatal();
        let front = self.queue.front();
        let is_own_word = matches!(front, Some(Expected::Syntax { .. })) && is_syntax_error(&fields);
        match front.and_then(Expected::refusal).filter(|_| !fatal && !is_own_word) {
            Some(denial) => answer::refusal(denial, &mut self.client.output),
            // The client has been told already, and in which words.
            None if matches!(front, Some(Expected::Undoing)) && !fatal => Ok(()),
            None => {
                let verdict = front.and_then(Expected::verdict).cloned();
                let sqlstate = fields.field(Fields::SQLSTATE).unwrap_or_default();
                let failure = format!("failed: SQLSTATE {}", sqlstate.escape_ascii());
                if let Some(Expected::Simple(request, _) | Expected::Execute(request)) = front {
                    self.note_completion(request, Some(failure))?;
                }
                let said = self.scrubbed(fields, verdict.as_deref());
                let fields = said.fields();
                if let Some(recording) = &mut self.recording {
                    match self.queue.front_mut() {
                        Some(Expected::Simple(request, _) | Expected::Execute(request)) => {
                            recording.finish(request, Some(&fields))?;
                        }
                        _ => recording.failed(constants(verdict.as_deref()), &fields)?,
                    }
                }
                backend::error_response(&mut self.client.output, &fields)
            }
        }
        .map_err(|error| Ending::upstream(&error))?;
        self.copying = Copying::No;
        match self.queue.front_mut() {
            Some(Expected::Simple(request, _)) => {
                // ReadyForQuery comes next; that the statement ran to its end is not recorded a second time.
                request.verdict = Arc::new(nothing_more(&request.verdict));
            }
            Some(Expected::Sync(_)) | None => {}
            Some(_) => {
                let skipped = skip_to_sync(&mut self.queue);
                if let Some(recording) = &mut self.recording {
                    recording.skipped(skipped)?;
                }
                // Without a Sync in the queue the server goes on skipping what is still to come.
                self.skipping = self.queue.is_empty();
            }
        }
        Ok(())
    }
}

/// Whether the parser has found no SQL in a text, or an escape that is none: the error has its place in it.
fn is_syntax_error(fields: &Fields<'_>) -> bool {
    matches!(fields.field(Fields::SQLSTATE), Some(b"42601" | b"22025" | b"22P06"))
        && fields.field(Fields::POSITION).is_some()
}

/// What the recording knows of the request whose answer comes now.
fn front_recorded(queue: &VecDeque<Expected>) -> Option<&Recorded> {
    match queue.front() {
        Some(Expected::Simple(request, _) | Expected::Execute(request)) => request.recorded.as_ref(),
        _ => None,
    }
}

/// Whether what is said of a request may quote its constants where it is kept.
fn constants(verdict: Option<&Verdict>) -> Constants {
    if verdict.is_some_and(Verdict::meets_masked) { Constants::Withheld } else { Constants::Kept }
}

/// The verdict of a simple query that has failed: no statements are left of it.
pub(super) fn nothing_more(verdict: &Verdict) -> Verdict {
    Verdict { statements: Arc::from([]), policies: Vec::new(), max_rows: None, ..verdict.clone() }
}

/// Settings that decide how statements are read must stay as the session began.
fn pinned(name: &[u8], value: &[u8]) -> Result<(), Ending> {
    let expected: &[u8] = match name {
        b"client_encoding" => b"UTF8",
        b"standard_conforming_strings" => b"on",
        _ => return Ok(()),
    };
    if value == expected {
        return Ok(());
    }
    Err(Ending::UpstreamProtocol(format!("{} changed under the session", name.escape_ascii())))
}

fn unexpected(tag: u8) -> Ending {
    Ending::UpstreamProtocol(format!("unexpected message {:?}", char::from(tag)))
}
