//! The client's messages: judged, recorded, then forwarded as they came, or replaced by one that fails.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use bytes::{Buf as _, BytesMut};

use super::{
    answer::{REFUSED_NAME, REFUSED_STATEMENT, is_interrupted},
    bound::{Bound, Values},
    catalogues::{Reach, Stale},
    constants::{Constants, kept},
    ending::Ending,
    expected::{Expected, Request, Told},
    function_call::Arguments,
    judge::{Forwarding, Rows, Verdict},
    judging::{Judged, needs_no_schema},
    names::{Learnt, Lookup},
    recorded::{Description, Recorded},
    relay::{Copying, Fate, Origin, Portal, Prepared, Relay},
    replication::is_for_sql_only,
    row_limit::{Limited, MayCount},
    written::{LookedAt, outdated},
};
use crate::{
    domain::{
        decision::Denial,
        event::AuditEvent,
        statement::{SearchPathStep, SessionEffect, TransactionStep},
    },
    protocol::{
        postgres::{
            Frame, HEADER_BYTES,
            backend::TransactionStatus,
            frontend::{self, Kind, Message},
            peek_header, split_frame,
        },
        wire::WireError,
    },
    sql::postgres::UNREADABLE,
};

/// A Bind that is larger is passed on as it comes: only its names are looked at.
const WHOLE_BIND_BYTES: usize = 64 * 1024;
/// No message of a client but COPY data and Bind, which are passed on as they come, may be larger.
const MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// Requests judged in one go are recorded together; beyond this much the rest waits its turn.
const BATCH_BYTES: usize = 128 * 1024;
/// A session keeps no more names of prepared statements or portals than this.
const NAMES: usize = 20_000;

/// What became of a message.
pub(super) enum Taken {
    /// It is dealt with.
    Done,
    /// It must wait until the server has answered everything before it.
    Wait,
    /// It is refused, and what fails in its place is on its way.
    Refused,
}

/// What stands at the front of the client's input.
enum Large {
    /// Nothing that is passed on as it comes.
    No,
    /// A large Bind whose names have not come yet.
    Incomplete,
    /// A large Bind.
    Ready {
        /// The portal that it makes.
        portal: Vec<u8>,
        /// The statement that it is made of.
        statement: Vec<u8>,
        /// Its size, header included.
        bytes: usize,
    },
}

/// Messages of one go, and the events that describe them.
pub(super) struct Batched {
    pub(super) staged: BytesMut,
    events: Vec<AuditEvent>,
    /// That of the most demanding request.
    forwarding: Forwarding,
    /// Nothing was owed by the server before these messages, so that they run in the state that it reported last.
    settled: bool,
}

impl Batched {
    /// Whether nothing has been taken in this go.
    pub(super) fn is_empty(&self) -> bool {
        self.staged.is_empty()
    }

    fn new(settled: bool) -> Self {
        Self { staged: BytesMut::new(), events: Vec::new(), forwarding: Forwarding::Unseen, settled }
    }

    /// Adds what a verdict lets through.
    fn record(&mut self, event: AuditEvent, verdict: &Verdict) {
        self.events.push(event);
        self.forwarding = self.forwarding.max(verdict.forwarding);
        if verdict.statements.iter().any(|statement| statement.transaction == TransactionStep::Undoes) {
            // What comes behind a ROLLBACK is in a block no longer.
            self.settled = false;
        }
    }

    /// Adds what is refused: what leaves in its place changes nothing.
    pub(super) fn record_refusal(&mut self, event: AuditEvent) {
        self.events.push(event);
        self.forwarding = self.forwarding.max(Forwarding::AtOnce);
    }
}

impl Relay<'_> {
    /// Takes whatever messages of the client are complete, up to one that must wait.
    pub(super) async fn take_requests(&mut self) -> Result<(), Ending> {
        let mut batched = Batched::new(self.queue.is_empty());
        while !self.waits() && batched.staged.len() < BATCH_BYTES {
            if self.pass_large(&mut batched)? {
                continue;
            }
            match self.large_bind()? {
                Large::Ready { statement, bytes, .. }
                    if bytes <= MESSAGE_BYTES && self.may_bind_masked(&statement) =>
                {
                    self.large_whole = true;
                    continue;
                }
                Large::Ready { portal, statement, bytes } => {
                    // Its bytes go straight on: what comes before it leaves first.
                    let before = mem::replace(&mut batched, Batched::new(self.queue.is_empty()));
                    self.send(before).await?;
                    let values = Values::Large { bytes };
                    match self.learn_bind(&portal, &statement, values, &mut batched).await? {
                        Taken::Done => (self.client_bytes_left, self.fate) = (bytes, Fate::Forwarded),
                        Taken::Refused => (self.client_bytes_left, self.fate) = (bytes, Fate::Dropped),
                        Taken::Wait => {
                            self.large_waits = true;
                            if self.unsynced {
                                Message::Flush
                                    .encode(&mut batched.staged)
                                    .map_err(|error| Ending::client(&error))?;
                            }
                            break;
                        }
                    }
                    // The catalogue may have been asked for anew: that stays ahead of the Bind.
                    continue;
                }
                Large::Incomplete => break,
                Large::No => {}
            }
            let Some(frame) = self.next_frame()? else { break };
            // A frame is a reference to the bytes that came: keeping one in hand costs nothing.
            match self.take(frame.clone(), &mut batched).await {
                Ok(Taken::Done | Taken::Refused) => {}
                Ok(Taken::Wait) => {
                    self.held = Some(frame);
                    if self.unsynced {
                        // The server may keep its answers to a pipeline until a Sync; the wait needs them now.
                        Message::Flush.encode(&mut batched.staged).map_err(|error| Ending::client(&error))?;
                    }
                    break;
                }
                Err(ending) => {
                    // What came before the end was judged, and runs as it would without nodegate.
                    self.send(batched).await?;
                    return Err(ending);
                }
            }
        }
        self.send(batched).await
    }

    /// Records the requests of one go and lets their messages leave: once the record is on disk, or, where they only
    /// read, while it is being written; then it is the reply that waits for the disk.
    async fn send(&mut self, batched: Batched) -> Result<(), Ending> {
        if !batched.events.is_empty() {
            let receipt = self.submitter.submit(&batched.events).await?;
            // With answers owed, the block may have ended by the time that the statements run.
            let in_block = self.transaction != TransactionStatus::Idle && batched.settled;
            match batched.forwarding {
                Forwarding::Unseen | Forwarding::AtOnce => {}
                Forwarding::InBlock if in_block => {}
                Forwarding::InBlock | Forwarding::Recorded => {
                    receipt.press();
                    receipt.wait().await?;
                }
            }
            // Records are written in order: with the newest all before it are on disk.
            if batched.forwarding > Forwarding::Unseen {
                self.unwritten = Some(receipt);
            }
        }
        if self.upstream.output.is_empty() {
            self.upstream.output = batched.staged;
        } else {
            self.upstream.output.extend_from_slice(&batched.staged);
        }
        Ok(())
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, Ending> {
        if let Some(frame) = self.held.take() {
            return Ok(Some(frame));
        }
        split_frame(&mut self.client.input, MESSAGE_BYTES).map_err(|error| match error {
            WireError::TooLong { length, limit, .. } => Ending::TooLarge { bytes: length, limit },
            error => Ending::client(&error),
        })
    }

    /// Passes COPY data and large parameters on as they come, and drops what the server would ignore; `true` when
    /// something was moved.
    fn pass_large(&mut self, batched: &mut Batched) -> Result<bool, Ending> {
        if self.client_bytes_left == 0 {
            if self.held.is_some() {
                return Ok(false);
            }
            let header = peek_header(&self.client.input).map_err(|error| Ending::client(&error))?;
            let Some((tag, total)) = header else { return Ok(false) };
            self.fate = match (tag, self.copying) {
                (b'd', Copying::Yes) if self.copy_in.is_some() => Fate::LookedAt,
                (b'd', Copying::Yes) => Fate::Forwarded,
                (b'd', Copying::No) => Fate::Dropped,
                (tag, Copying::No) if self.skips(tag) && total > WHOLE_BIND_BYTES => Fate::Dropped,
                _ => return Ok(false),
            };
            self.client_bytes_left = total;
            self.large_whole = false;
            if self.fate == Fate::LookedAt {
                // They leave in messages of their own.
                self.client_bytes_left -= HEADER_BYTES;
                self.client.input.advance(HEADER_BYTES.min(self.client.input.len()));
                if self.client_bytes_left == 0 {
                    return Ok(true);
                }
            }
            if let Some(stream) = self.stream.as_mut().filter(|_| self.fate == Fate::Forwarded) {
                stream.sent += u64::try_from(total - HEADER_BYTES).unwrap_or(u64::MAX);
            }
        }
        let now = self.client_bytes_left.min(self.client.input.len());
        if now == 0 {
            return Ok(false);
        }
        let piece = self.client.input.split_to(now);
        match self.fate {
            Fate::Forwarded => self.upstream.output.unsplit(piece),
            Fate::LookedAt => self.pass_rows(&piece, batched)?,
            Fate::Dropped => {}
        }
        self.client_bytes_left -= now;
        self.half_sent_since = None;
        Ok(true)
    }

    /// Whether the server, after an error in a pipeline, ignores messages of this type.
    fn skips(&self, tag: u8) -> bool {
        self.skipping && !matches!(tag, b'S' | b'X')
    }

    /// What stands at the front of the client's input, if it is a large Bind.
    fn large_bind(&mut self) -> Result<Large, Ending> {
        if self.held.is_some() || self.copying != Copying::No {
            return Ok(Large::No);
        }
        let header = peek_header(&self.client.input).map_err(|error| Ending::client(&error))?;
        let Some((b'B', bytes)) = header.filter(|(_, bytes)| *bytes > WHOLE_BIND_BYTES) else {
            return Ok(Large::No);
        };
        self.large_waits = false;
        if self.large_whole {
            return Ok(Large::No);
        }
        let body = self.client.input.get(HEADER_BYTES..).unwrap_or_default();
        match frontend::bind_names(body.get(..WHOLE_BIND_BYTES).unwrap_or(body)) {
            Some((portal, statement)) => {
                Ok(Large::Ready { portal: portal.to_vec(), statement: statement.to_vec(), bytes })
            }
            None if body.len() < WHOLE_BIND_BYTES => Ok(Large::Incomplete),
            None => Err(Ending::ClientProtocol("a Bind whose names have no end".to_owned())),
        }
    }

    async fn take(&mut self, frame: Frame, batched: &mut Batched) -> Result<Taken, Ending> {
        let message = frontend::parse(&frame).map_err(|error| Ending::client(&error))?;
        if self.copying == Copying::Yes {
            return self.take_in_copy(&message, &frame, batched);
        }
        if self.skips(frame.tag) {
            // The server would skip it: so nothing is judged, and nothing answered.
            return Ok(Taken::Done);
        }
        if self.replication.is_some() && is_for_sql_only(&message) {
            return Err(Ending::ClientProtocol(
                "the extended protocol or a function call on a replication connection".to_owned(),
            ));
        }
        match message {
            Message::Query(sql) => return self.take_query(sql, &frame, batched).await,
            Message::Parse { name, sql, parameter_types } => {
                return self.take_parse(name, sql, parameter_types, &frame, batched).await;
            }
            Message::Bind { portal, statement, parameter_formats, parameters, result_formats } => {
                self.large_whole = false;
                let values = Values::Whole { formats: parameter_formats, parameters, result_formats };
                let taken = self.learn_bind(portal, statement, values, batched).await?;
                if matches!(taken, Taken::Done) {
                    batched.staged.extend_from_slice(frame.raw());
                }
                return Ok(taken);
            }
            Message::Execute { portal, .. } => return self.take_execute(portal, &frame, batched).await,
            Message::Describe { kind, name } => {
                let described = self.described_statement(kind, name);
                self.forward(Expected::Describe(described), &frame, batched);
            }
            Message::Close { kind: Kind::Statement, name } => {
                self.forward(Expected::CloseStatement(name.to_vec()), &frame, batched);
            }
            Message::Close { kind: Kind::Portal, name } => {
                self.forward(Expected::ClosePortal(name.to_vec()), &frame, batched);
            }
            Message::Flush => batched.staged.extend_from_slice(frame.raw()),
            Message::Sync => {
                self.skipping = false;
                self.unsynced = false;
                self.executed = false;
                self.queue.push_back(Expected::Sync(self.batch));
                self.batch += 1;
                batched.staged.extend_from_slice(frame.raw());
            }
            Message::FunctionCall { function, argument_formats, arguments, result_format } => {
                let arguments = Arguments { formats: argument_formats, values: arguments, result_format };
                return self.take_function_call(function, arguments, &frame, batched).await;
            }
            // Without COPY under way the server ignores these; so does the relay.
            Message::CopyData(_) | Message::CopyDone | Message::CopyFail(_) => {}
            Message::Password(_) => {
                return Err(Ending::ClientProtocol("a password after the login".to_owned()));
            }
            Message::Terminate => return Err(Ending::ClientClosed),
        }
        Ok(Taken::Done)
    }

    fn take_in_copy(
        &mut self,
        message: &Message<'_>,
        frame: &Frame,
        batched: &mut Batched,
    ) -> Result<Taken, Ending> {
        match message {
            Message::CopyDone | Message::CopyFail(_) => {
                if matches!(message, Message::CopyDone) && self.refuses_last_row(batched)? {
                    return Ok(Taken::Done);
                }
                self.copying = Copying::No;
                self.copy_in = None;
                batched.staged.extend_from_slice(frame.raw());
                if self.is_counting() {
                    // The Sync that would fetch the answer waits for it.
                    Message::Flush.encode(&mut batched.staged).map_err(|error| Ending::client(&error))?;
                }
            }
            // The server ignores both during COPY.
            Message::Flush | Message::Sync => {}
            Message::Terminate => return Err(Ending::ClientClosed),
            _ => {
                return Err(Ending::ClientProtocol(format!(
                    "message {:?} in the middle of COPY",
                    char::from(frame.tag)
                )));
            }
        }
        Ok(Taken::Done)
    }

    async fn take_query(
        &mut self,
        sql: &[u8],
        frame: &Frame,
        batched: &mut Batched,
    ) -> Result<Taken, Ending> {
        let text = match text(sql) {
            Ok(text) => text,
            Err(denial) => {
                let verdict = Arc::new(self.refused_verdict(denial));
                self.refuse_simple("", verdict, batched)?;
                return Ok(Taken::Done);
            }
        };
        let verdict = match self.judge_replication(text).await? {
            Some(verdict) => verdict,
            None => match self.judge(text, batched).await? {
                Judged::Verdict(verdict) => verdict,
                Judged::Wait => return Ok(Taken::Wait),
            },
        };
        if verdict.denial.is_some() {
            self.refuse_simple(text, verdict, batched)?;
            return Ok(Taken::Done);
        }
        match self.may_count(&verdict) {
            Ok(MayCount::Now) => {}
            Ok(MayCount::AfterDraining) => return Ok(Taken::Wait),
            Err(denial) => {
                self.refuse_simple(text, Arc::new(verdict.refused(denial)), batched)?;
                return Ok(Taken::Done);
            }
        }
        self.forward_simple(text, verdict, None, frame, batched)?;
        Ok(Taken::Done)
    }

    /// Lets a request leave that is answered up to ReadyForQuery.
    pub(super) fn forward_simple(
        &mut self,
        text: &str,
        verdict: Arc<Verdict>,
        bound: Option<Arc<Bound>>,
        frame: &Frame,
        batched: &mut Batched,
    ) -> Result<(), Ending> {
        let mut recorded = None;
        if !verdict.statements.is_empty() {
            let (event, known) = self.note_request(text, &verdict, None, bound)?;
            self.expect_rows(&verdict, &event);
            batched.record(event, &verdict);
            recorded = known;
        }
        let learnt = self.learn_prepare(text, &verdict);
        self.after_forwarding(&verdict);
        self.expect_stream(&verdict);
        let limit = self.count_query(&verdict, frame, &mut batched.staged)?;
        self.executed = false;
        let request = Request { told: self.notices, limit, ..request(verdict, None, recorded, learnt) };
        self.queue.push_back(Expected::Simple(Box::new(request), self.batch));
        self.batch += 1;
        Ok(())
    }

    async fn take_parse(
        &mut self,
        name: &[u8],
        sql: &[u8],
        parameter_types: Vec<u32>,
        frame: &Frame,
        batched: &mut Batched,
    ) -> Result<Taken, Ending> {
        if self.statements.len() >= NAMES {
            return Err(Ending::ClientProtocol(format!("more than {NAMES} prepared statements")));
        }
        let (text, verdict) = match text(sql) {
            Ok(text) => {
                let judged = match self.settle_before_batch(batched).await? {
                    Some(judged) => judged,
                    None => self.judge(text, batched).await?,
                };
                match judged {
                    Judged::Verdict(verdict) => (text, verdict),
                    Judged::Wait => return Ok(Taken::Wait),
                }
            }
            Err(denial) => ("", Arc::new(self.refused_verdict(denial))),
        };
        self.unsynced = true;
        if let Some(denial) = verdict.denial.clone() {
            batched.record_refusal(self.note_request(text, &verdict, Some(&denial), None)?.0);
            if name.is_empty() && is_unreadable(&denial) {
                self.ask_for_syntax_error(text, denial, verdict, batched)?;
                return Ok(Taken::Done);
            }
            self.refuse_extended(verdict, batched)?;
            return Ok(Taken::Done);
        }
        let prepared = Prepared {
            text: text.into(),
            verdict: Arc::clone(&verdict),
            origin: Origin::Parse,
            parameter_types,
            description: Description::new(),
        };
        let learnt = self.statements.learn(name, Arc::new(prepared), self.batch);
        self.queue.push_back(Expected::Parse {
            name: name.to_vec(),
            learnt: Some(learnt),
            refusal: None,
            verdict,
        });
        batched.staged.extend_from_slice(frame.raw());
        Ok(Taken::Done)
    }

    /// Notes what a Bind that is about to leave makes of a portal.
    async fn learn_bind(
        &mut self,
        portal: &[u8],
        statement: &[u8],
        values: Values<'_>,
        batched: &mut Batched,
    ) -> Result<Taken, Ending> {
        if self.portals.len() >= NAMES {
            return Err(Ending::ClientProtocol(format!("more than {NAMES} portals")));
        }
        let prepared = match self.statements.lookup(statement, self.batch) {
            Lookup::Known(prepared) => Some(Arc::clone(prepared)),
            // The server will say that there is none; if it has one after all, its rows are refused at Execute.
            Lookup::Unknown => None,
            Lookup::Unsettled => return Ok(Taken::Wait),
        };
        if let Some(prepared) = &prepared {
            let settled = match self.settle_before_batch(batched).await? {
                // Behind the Bind it is too late: what its Execute needs to know of the schema is read ahead of it.
                None if !needs_no_schema(&prepared.verdict.statements) => {
                    self.refresh_if_changed(batched).await?
                }
                settled => settled,
            };
            match settled {
                Some(Judged::Wait) => return Ok(Taken::Wait),
                Some(Judged::Verdict(verdict)) if verdict.denial.as_deref().is_some_and(is_interrupted) => {
                    let refusal = verdict.denial.as_deref();
                    batched.record_refusal(self.note_request(&prepared.text, &verdict, refusal, None)?.0);
                    self.refuse_extended(verdict, batched)?;
                    return Ok(Taken::Refused);
                }
                // Any other is said at Execute, which may come behind the next Sync.
                Some(Judged::Verdict(_)) | None => {}
            }
        }
        let mut looked_at = None;
        if let Some(prepared) = prepared.as_ref().filter(|prepared| self.may_write_masked(prepared)) {
            let verdict = match self.judge_again(prepared, batched).await? {
                Judged::Wait => return Ok(Taken::Wait),
                Judged::Verdict(verdict) => verdict,
            };
            looked_at = Some(LookedAt::by(&verdict));
            // What else is said against it is said at Execute.
            let watch = verdict.watch.as_ref().filter(|_| verdict.denial.is_none());
            if let Some(denial) =
                watch.and_then(|watch| watch.refusal_of(&verdict, &prepared.parameter_types, &values))
            {
                let verdict = Arc::new(verdict.refused(denial));
                let refusal = verdict.denial.as_deref();
                batched.record_refusal(self.note_request(&prepared.text, &verdict, refusal, None)?.0);
                self.refuse_extended(verdict, batched)?;
                return Ok(Taken::Refused);
            }
        }
        let verdict = prepared.as_ref().map(|prepared| Arc::clone(&prepared.verdict));
        let bound = self.recording.as_ref().map(|recording| {
            let masker = &self.room.masker;
            let constants = match &prepared {
                Some(prepared) => kept(&prepared.text, &prepared.verdict, masker).constants,
                None => Constants::Withheld,
            };
            recording.bind(prepared.as_ref(), constants, values, masker)
        });
        let executed = AtomicBool::new(false);
        let learnt = self.portals.learn(portal, Portal { prepared, bound, looked_at, executed }, self.batch);
        self.unsynced = true;
        self.queue.push_back(Expected::Bind { name: portal.to_vec(), learnt, verdict });
        Ok(Taken::Done)
    }

    async fn take_execute(
        &mut self,
        portal: &[u8],
        frame: &Frame,
        batched: &mut Batched,
    ) -> Result<Taken, Ending> {
        let (prepared, bound, looked_at) = match self.portals.lookup(portal, self.batch) {
            Lookup::Known(portal) => (portal.prepared.clone(), portal.bound.clone(), portal.looked_at),
            Lookup::Unknown => (None, None, None),
            Lookup::Unsettled => return Ok(Taken::Wait),
        };
        let (text, verdict) = match prepared {
            Some(prepared) => {
                let Judged::Verdict(mut verdict) = self.judge_again(&prepared, batched).await? else {
                    return Ok(Taken::Wait);
                };
                let binds = verdict.watch.as_ref().is_some_and(|watch| watch.binds());
                if binds && verdict.denial.is_none() && looked_at != Some(LookedAt::by(&verdict)) {
                    verdict = Arc::new(verdict.refused(outdated()));
                }
                (Arc::clone(&prepared.text), verdict)
            }
            None => {
                let denial = Denial::builtin(
                    "this portal was not made by a Bind on this connection",
                    "Run FETCH for a cursor.",
                    "unknown-portal",
                );
                (Arc::from(""), Arc::new(self.refused_verdict(denial)))
            }
        };
        self.unsynced = true;
        if let Some(denial) = verdict.denial.clone() {
            batched.record_refusal(self.note_request(&text, &verdict, Some(&denial), bound)?.0);
            stage_refused_parse(&mut batched.staged)?;
            let request = request(verdict, Some(denial), None, None);
            self.queue.push_back(Expected::Execute(Box::new(request)));
            return Ok(Taken::Done);
        }
        let mut recorded = None;
        if !verdict.statements.is_empty() {
            let (event, known) = self.note_request(&text, &verdict, None, bound)?;
            self.expect_rows(&verdict, &event);
            batched.record(event, &verdict);
            recorded = known;
        }
        // A portal that is fetched in pieces is one statement.
        let told = match self.portals.lookup(portal, self.batch) {
            Lookup::Known(portal) if portal.executed.swap(true, Ordering::Relaxed) => Told::Already,
            _ => self.notices,
        };
        if verdict.rows == Rows::Traced {
            let describe = Message::Describe { kind: Kind::Portal, name: portal };
            describe.encode(&mut batched.staged).map_err(|error| Ending::client(&error))?;
            self.queue.push_back(Expected::DescribeOurs(Arc::clone(&verdict)));
        }
        let learnt = self.learn_prepare(&text, &verdict);
        self.after_forwarding(&verdict);
        batched.staged.extend_from_slice(frame.raw());
        self.executed = true;
        let limit = Limited::execute(&verdict);
        if self.copying == Copying::Asked || limit.is_some() {
            // The relay waits for the server's word before it looks at the client's next message.
            Message::Flush.encode(&mut batched.staged).map_err(|error| Ending::client(&error))?;
        }
        let request = Request { told, limit, ..request(verdict, None, recorded, learnt) };
        self.queue.push_back(Expected::Execute(Box::new(request)));
        Ok(Taken::Done)
    }

    /// The statement that a Describe is about, as far as the recording wants to know.
    fn described_statement(&self, kind: Kind, name: &[u8]) -> Option<Arc<Prepared>> {
        self.recording.as_ref()?;
        match kind {
            Kind::Statement => match self.statements.lookup(name, self.batch) {
                Lookup::Known(prepared) => Some(Arc::clone(prepared)),
                Lookup::Unknown | Lookup::Unsettled => None,
            },
            Kind::Portal => match self.portals.lookup(name, self.batch) {
                Lookup::Known(portal) => portal.prepared.clone(),
                Lookup::Unknown | Lookup::Unsettled => None,
            },
        }
    }

    fn forward(&mut self, expected: Expected, frame: &Frame, batched: &mut Batched) {
        self.unsynced = true;
        self.queue.push_back(expected);
        batched.staged.extend_from_slice(frame.raw());
    }

    /// Sends a simple query that fails in the place of a refused one.
    pub(super) fn refuse_simple(
        &mut self,
        text: &str,
        verdict: Arc<Verdict>,
        batched: &mut Batched,
    ) -> Result<(), Ending> {
        let refusal = verdict.denial.clone();
        batched.record_refusal(self.note_request(text, &verdict, refusal.as_deref(), None)?.0);
        if let Some(denial) = refusal.clone().filter(|denial| !self.unsynced && is_unreadable(denial)) {
            self.ask_for_syntax_error(text, denial, verdict, batched)?;
            Message::Sync.encode(&mut batched.staged).map_err(|error| Ending::client(&error))?;
            self.queue.push_back(Expected::Sync(self.batch));
            self.batch += 1;
            return Ok(());
        }
        let stand_in = Message::Query(REFUSED_STATEMENT);
        stand_in.encode(&mut batched.staged).map_err(|error| Ending::client(&error))?;
        let request = request(verdict, refusal, None, None);
        self.queue.push_back(Expected::Simple(Box::new(request), self.batch));
        self.batch += 1;
        Ok(())
    }

    /// Sends a Parse that fails in the place of a refused message of the extended protocol, so that the server skips what is
    /// still to come of the pipeline.
    fn refuse_extended(&mut self, verdict: Arc<Verdict>, batched: &mut Batched) -> Result<(), Ending> {
        stage_refused_parse(&mut batched.staged)?;
        self.unsynced = true;
        self.skipping = true;
        let refusal = verdict.denial.clone();
        self.queue.push_back(Expected::Parse { name: Vec::new(), learnt: None, refusal, verdict });
        Ok(())
    }

    /// Has the server say what is wrong with a text that cannot be read, in its own words and with its position: as the
    /// unnamed statement, which a simple query ends as well, parsed and never bound. Should the server be able to read
    /// it, nothing of it is left by the next Parse, which fails.
    fn ask_for_syntax_error(
        &mut self,
        text: &str,
        refusal: Arc<Denial>,
        verdict: Arc<Verdict>,
        batched: &mut Batched,
    ) -> Result<(), Ending> {
        for sql in [text.as_bytes(), REFUSED_STATEMENT] {
            let parse = Message::Parse { name: b"", sql, parameter_types: Vec::new() };
            parse.encode(&mut batched.staged).map_err(|error| Ending::client(&error))?;
        }
        self.queue
            .push_back(Expected::Syntax { refusal: Arc::clone(&refusal), verdict: Arc::clone(&verdict) });
        let refusal = Some(refusal);
        self.queue.push_back(Expected::Parse { name: Vec::new(), learnt: None, refusal, verdict });
        Ok(())
    }

    /// Notes the meaning that SQL's PREPARE gives a name.
    fn learn_prepare(&mut self, text: &str, verdict: &Arc<Verdict>) -> Option<(Vec<u8>, Learnt)> {
        let SessionEffect::Prepare { name, statement } = &verdict.statements.first()?.session_effect else {
            return None;
        };
        let inner = Verdict {
            statements: Arc::from([statement.as_ref().clone()]),
            denial: None,
            ..verdict.as_ref().clone()
        };
        let prepared = Prepared {
            text: text.into(),
            verdict: Arc::new(inner),
            origin: Origin::Sql,
            parameter_types: Vec::new(),
            description: Description::new(),
        };
        let name = name.as_bytes().to_vec();
        let learnt = self.statements.learn(&name, Arc::new(prepared), self.batch);
        Some((name, learnt))
    }

    fn after_forwarding(&mut self, verdict: &Verdict) {
        if verdict.copies_from_client() || verdict.copies_both() {
            self.copying = Copying::Asked;
        }
        let mut changes = Stale::Nothing;
        if verdict.changes_schema() {
            changes = Stale::Schema;
            let reach = if verdict.changes_shared_schema() { Reach::All } else { Reach::Later };
            self.schema_reach = self.schema_reach.max(reach);
        }
        let does = |step| verdict.statements.iter().any(|statement| statement.search_path == step);
        let moves = does(SearchPathStep::Moves);
        let resets = does(SearchPathStep::Resets) || does(SearchPathStep::Discards);
        if moves || (self.path_moved && resets) {
            changes = changes.max(Stale::Path);
            // A portal goes on with the names as its Bind found them, and could not be judged by them any more.
            self.portals.clear();
        }
        self.path_moved |= moves || verdict.calls_unknown_code();
        // What this session has made since the snapshot was read has it read anew anyway.
        if verdict.statements.iter().any(|statement| verdict.discards(statement)) {
            changes = Stale::Schema;
        }
        self.stale = self.stale.max(changes);
        self.unsettled = self.unsettled.max(changes);
        // A snapshot of the change is none of the schema that a ROLLBACK, also to a savepoint, brings back.
        if verdict.ends_or_undoes() {
            self.stale = self.stale.max(self.unsettled);
        }
    }
}

fn request(
    verdict: Arc<Verdict>,
    refusal: Option<Arc<Denial>>,
    recorded: Option<Recorded>,
    prepares: Option<(Vec<u8>, Learnt)>,
) -> Request {
    Request {
        verdict,
        refusal,
        started: Instant::now(),
        rows: 0,
        ended: 0,
        told: Told::Already,
        recorded,
        prepares,
        limit: None,
    }
}

/// Whether a text was refused because it is no SQL to nodegate.
fn is_unreadable(denial: &Denial) -> bool {
    denial.policies.iter().any(|policy| policy.as_str() == UNREADABLE)
}

fn stage_refused_parse(staged: &mut BytesMut) -> Result<(), Ending> {
    Message::Parse { name: REFUSED_NAME, sql: REFUSED_STATEMENT, parameter_types: Vec::new() }
        .encode(staged)
        .map_err(|error: WireError| Ending::client(&error))
}

fn text(sql: &[u8]) -> Result<&str, Denial> {
    std::str::from_utf8(sql).map_err(|_| {
        Denial::builtin("the statement is not valid UTF-8", "Set the client's encoding to UTF8.", "not-utf8")
    })
}
