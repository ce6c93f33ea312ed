//! One session's state and its loop: client messages are judged and forwarded (`requests`), the server's
//! answers are matched against what is owed and masked (`replies`).

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Postgres,
    bound::Bound,
    catalogues::{Place, Reach, Snapshot, Stale},
    constants::{kept, kept_reason},
    copying::CopyIn,
    ending::Ending,
    expected::{Expected, Told},
    judge::{Asker, Judge, Verdict},
    judging::Lately,
    names::{Batch, Names},
    notifications::Notifying,
    recorded::{Description, Recorded, Recording},
    replication::Stream,
    shown::RowHandling,
    written::LookedAt,
};
use crate::{
    audit::{Receipt, Submitter},
    domain::{
        action::TargetFacts,
        catalogue::Catalogue,
        decision::Denial,
        event::{AuditEvent, EventKind, Outcome},
        statement::{SessionEffect, Statement},
    },
    protocol::postgres::{Frame, backend::TransactionStatus, frontend::Message},
    session::{
        about::About,
        caller::renewed,
        stop::Stop,
        transport::{End, Halt, Reading, Side, Transport, turn},
    },
    sql::postgres::{CalledFunction, Connection},
};

/// Neither side may leave a message half sent for longer.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a target may take to read the last bytes.
const PARTING_TIMEOUT: Duration = Duration::from_secs(2);

/// A prepared statement, as far as it must be judged again when it runs.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Its text; for one made by SQL's PREPARE the text of that.
    pub(super) text: Arc<str>,
    /// How it was judged last.
    pub(super) verdict: Arc<Verdict>,
    /// Whether judging it again can begin from its text.
    pub(super) origin: Origin,
    /// The types that the client fixed.
    pub(super) parameter_types: Vec<u32>,
    /// Its columns, as the client was told, where the session is recorded.
    pub(super) description: Description,
}

/// What a portal runs.
#[derive(Debug)]
pub(super) struct Portal {
    /// Its statement; `None` for one that the session never saw.
    pub(super) prepared: Option<Arc<Prepared>>,
    /// What its Bind said, where the session is recorded.
    pub(super) bound: Option<Arc<Bound>>,
    /// What its values were held against, where they go into masked columns.
    pub(super) looked_at: Option<LookedAt>,
    /// It has been executed, maybe not to its end.
    pub(super) executed: AtomicBool,
}

/// Where a prepared statement comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The protocol's Parse: the text is the statement.
    Parse,
    /// SQL's PREPARE: the text is the PREPARE.
    Sql,
}

/// COPY FROM STDIN and COPY BOTH, as far as they change which messages mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copying {
    /// Not under way: the server ignores late COPY messages, and so does the relay.
    No,
    /// Forwarded; until the server has answered, nobody knows what the next message means.
    Asked,
    /// The server takes COPY data, and ignores everything else.
    Yes,
}

/// What becomes of a message's bytes as they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// They go on to the other side.
    Forwarded,
    /// They are rows of COPY, and go on once they have been looked at.
    LookedAt,
    /// It would ignore them, or hears no more of the request.
    Dropped,
}

/// A session after login.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of one session, not states of one thing"
)]
pub(super) struct Relay<'a> {
    pub(super) room: &'a Postgres,
    pub(super) about: About,
    pub(super) asker: Asker,
    pub(super) facts: &'a TargetFacts,
    /// What a request begins with: whether its client wants to be told of concealed columns.
    pub(super) notices: Told,
    pub(super) place: Place,
    pub(super) client: &'a mut Side<Transport>,
    pub(super) upstream: Side<Transport>,
    pub(super) snapshot: Snapshot,
    /// What may have changed under the snapshot by a statement of this session.
    pub(super) stale: Stale,
    /// What may yet be undone of its changes: the transaction that made them has not ended.
    pub(super) unsettled: Stale,
    /// Whom it concerns.
    pub(super) schema_reach: Reach,
    /// The search path or the role has been set by this session, or may have been by code of unknown effect.
    pub(super) path_moved: bool,
    pub(super) queue: VecDeque<Expected>,
    pub(super) statements: Names<Arc<Prepared>>,
    pub(super) portals: Names<Portal>,
    pub(super) lately: Lately,
    pub(super) batch: Batch,
    /// Messages of the extended protocol have been forwarded since the last Sync.
    pub(super) unsynced: bool,
    /// An Execute has been forwarded since the last Sync or simple query: nobody has heard what it made of the transaction.
    pub(super) executed: bool,
    /// The server skips everything up to the next Sync.
    pub(super) skipping: bool,
    pub(super) transaction: TransactionStatus,
    pub(super) copying: Copying,
    /// The rows that are looked at while they go by.
    pub(super) copy_in: Option<CopyIn>,
    /// What the connection is for, where it is not SQL alone.
    pub(super) replication: Option<Connection>,
    /// What goes by of replication now.
    pub(super) stream: Option<Stream>,
    /// Functions that were called by their oid, as the snapshot's database has them.
    pub(super) functions: HashMap<u32, CalledFunction>,
    /// A message that waits for the queue to drain.
    pub(super) held: Option<Frame>,
    /// A large Bind waits for the queue to drain.
    pub(super) large_waits: bool,
    /// The large Bind that comes now is looked at as a whole.
    pub(super) large_whole: bool,
    /// Bytes of a large message of the client still to come, which nobody looks at.
    pub(super) client_bytes_left: usize,
    /// What becomes of them.
    pub(super) fate: Fate,
    /// Bytes of a large reply still to come, which nobody looks at.
    pub(super) reply_bytes_left: usize,
    /// What becomes of rows.
    pub(super) reply_fate: Fate,
    pub(super) rows: RowHandling,
    /// A notice of the request that is answered now has been withheld.
    pub(super) has_withheld: bool,
    pub(super) notifying: Notifying,
    /// For the newest record that was still on its way to the disk when its request left: until it is there, nothing
    /// more is said to the client.
    pub(super) unwritten: Option<Receipt>,
    pub(super) submitter: Submitter,
    /// What the client asks and sees, where that is recorded.
    pub(super) recording: Option<Recording>,
    /// Says when the session must end.
    pub(super) stop: &'a Stop,
    /// Since when the client has owed the rest of a message.
    pub(super) half_sent_since: Option<Instant>,
    /// Since when the target has owed the rest of a message, and how far it had come: bytes held, bytes to pass on.
    half_received: Option<(Instant, (usize, usize))>,
}

/// Everything that a relay starts from.
pub(super) struct Start<'a> {
    pub(super) room: &'a Postgres,
    pub(super) about: About,
    pub(super) asker: Asker,
    pub(super) replication: Option<Connection>,
    pub(super) facts: &'a TargetFacts,
    /// See [`Relay::notices`].
    pub(super) notices: Told,
    pub(super) place: Place,
    /// See [`Relay::path_moved`].
    pub(super) path_moved: bool,
    pub(super) client: &'a mut Side<Transport>,
    pub(super) upstream: Side<Transport>,
    /// The process that serves the session at the target, if it has said so.
    pub(super) server_process: Option<u32>,
    pub(super) snapshot: Snapshot,
    pub(super) recording: Option<Recording>,
    pub(super) stop: &'a Stop,
}

impl<'a> Relay<'a> {
    pub(super) fn new(start: Start<'a>) -> Self {
        let Start {
            room,
            about,
            asker,
            replication,
            facts,
            notices,
            place,
            path_moved,
            client,
            upstream,
            server_process,
            snapshot,
            recording,
            stop,
        } = start;
        Self {
            room,
            about,
            asker,
            facts,
            notices,
            place,
            client,
            upstream,
            snapshot,
            stale: Stale::Nothing,
            unsettled: Stale::Nothing,
            schema_reach: Reach::Own,
            path_moved,
            queue: VecDeque::new(),
            statements: Names::default(),
            portals: Names::default(),
            lately: Lately::default(),
            batch: 0,
            unsynced: false,
            executed: false,
            skipping: false,
            transaction: TransactionStatus::Idle,
            copying: Copying::No,
            copy_in: None,
            replication,
            stream: None,
            functions: HashMap::new(),
            held: None,
            large_waits: false,
            large_whole: false,
            client_bytes_left: 0,
            fate: Fate::Forwarded,
            reply_bytes_left: 0,
            reply_fate: Fate::Forwarded,
            rows: RowHandling::Undescribed,
            has_withheld: false,
            notifying: Notifying::new(server_process),
            unwritten: None,
            submitter: room.audit.submitter(),
            recording,
            stop,
            half_sent_since: None,
            half_received: None,
        }
    }

    /// Serves the session to its end. Never returns without a reason.
    pub(super) async fn serve(&mut self) -> Ending {
        loop {
            let Err(ending) = self.step().await else { continue };
            let ending = self.note_cut_stream(&ending).err().unwrap_or(ending);
            // What is still to be said to the client waits for its records like everything before.
            return match self.written().await {
                Ok(()) => ending,
                Err(failure) => failure,
            };
        }
    }

    /// The session was given up wherever it was: what it had not said by then it does not say.
    pub(super) fn give_up(&mut self) {
        self.client.fall_silent();
    }

    /// Whether the target works on something that was asked of it.
    pub(super) fn is_owed(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Waits until every record is on disk; should they never be, the replies to their requests are thrown away.
    async fn written(&mut self) -> Result<(), Ending> {
        let Some(receipt) = self.unwritten.take() else { return Ok(()) };
        receipt.wait().await.map_err(|error| {
            self.client.discard();
            Ending::Audit(error)
        })
    }

    /// Sends the client everything that there is to say.
    async fn tell_client(&mut self) -> Result<(), Ending> {
        self.written().await?;
        self.client.drain().await.map_err(|source| Ending::Io { end: End::Client, source })
    }

    /// Takes leave of the target: what was forwarded still reaches it, and it need not find out by itself.
    pub(super) async fn part(&mut self) {
        if self.unsettled > Stale::Nothing {
            // Whether it was kept, nobody has heard.
            self.room.catalogues.outdate(&self.place, self.schema_reach).await;
        }
        if !self.upstream.ended && Message::Terminate.encode(&mut self.upstream.output).is_ok() {
            // A target that does not take it in time finds out when the connection closes.
            let _ = timeout(PARTING_TIMEOUT, self.upstream.drain()).await;
        }
    }

    async fn step(&mut self) -> Result<(), Ending> {
        self.check_stream().await?;
        if let Err(ending) = self.take_replies().await {
            if matches!(ending, Ending::Recording(_)) {
                // What is not recorded is not seen.
                self.client.discard();
            }
            return Err(ending);
        }
        self.take_requests().await?;
        if let Some(receipt) = &self.unwritten {
            // The requests leave first, so that the server works while the disk does.
            self.upstream.try_drain().await.map_err(|source| Ending::Io { end: End::Upstream, source })?;
            receipt.press();
        }
        if self.upstream.ended && self.upstream.input.is_empty() {
            self.tell_client().await?;
            return Err(Ending::UpstreamClosed);
        }
        if self.client.ended && self.held.is_none() && !self.large_waits && self.owes_nothing() {
            self.tell_client().await?;
            return Err(Ending::ClientClosed);
        }
        let reading = if self.waits() { Reading::Off } else { Reading::On };
        let deadline = self.deadline(reading);
        let progress = turn(self.client, &mut self.upstream, reading, &mut self.unwritten, self.stop);
        let moved = match deadline {
            Some((deadline, ending)) => timeout_at(deadline, progress).await.map_err(|_| ending)?,
            None => progress.await,
        };
        moved.map_err(|halt| match halt {
            Halt::Io(end, source) => Ending::Io { end, source },
            Halt::Told(reason) => {
                if self.reply_bytes_left > 0 {
                    // In the middle of a message that has begun nothing else can be said.
                    self.client.fall_silent();
                }
                Ending::Stopped(reason)
            }
            Halt::Audit(error) => {
                self.client.discard();
                Ending::Audit(error)
            }
        })
    }

    /// Whether a client that sends nothing more has nothing more to get: it may have closed its sending direction only,
    /// and still wait for answers. Those to a pipeline without Sync, or to an unfinished COPY, never come.
    fn owes_nothing(&self) -> bool {
        self.copying == Copying::Yes || (self.only_unsynced_owed() && !self.awaits_count())
    }

    /// Until when something must happen, on either side.
    fn deadline(&mut self, reading: Reading) -> Option<(Instant, Ending)> {
        let (client, upstream) = (self.client_deadline(reading), self.upstream_deadline());
        client.into_iter().chain(upstream).min_by_key(|(deadline, _)| *deadline)
    }

    /// A target that has sent a part of a message goes on sending, or the session ends: nobody could tell the client
    /// what the rest would have been.
    fn upstream_deadline(&mut self) -> Option<(Instant, Ending)> {
        let owed = (self.upstream.input.len(), self.reply_bytes_left);
        // As long as the client has to take what came before, nothing is read of the target.
        if owed == (0, 0) || !self.client.output.is_empty() {
            self.half_received = None;
            return None;
        }
        let since = match self.half_received {
            Some((since, seen)) if seen == owed => since,
            _ => Instant::now(),
        };
        self.half_received = Some((since, owed));
        Some((since + self.patience(), Ending::UpstreamStalled))
    }

    fn patience(&self) -> Duration {
        self.room.limits.idle.map_or(STALL_TIMEOUT, |idle| idle.min(STALL_TIMEOUT))
    }

    /// Until when the client must do something. A half-sent message has a deadline that more of it does not move, unless it is
    /// one that is passed on as it comes; an idle session has one where the configuration says so.
    fn client_deadline(&mut self, reading: Reading) -> Option<(Instant, Ending)> {
        if reading == Reading::On && (!self.client.input.is_empty() || self.client_bytes_left > 0) {
            let since = *self.half_sent_since.get_or_insert_with(Instant::now);
            return Some((since + self.patience(), Ending::ClientStalled));
        }
        self.half_sent_since = None;
        let idle = self.room.limits.idle.filter(|_| self.queue.is_empty())?;
        Some((Instant::now() + idle, Ending::Idle))
    }

    /// Whether no further message of the client may be looked at before the server has answered.
    pub(super) fn waits(&self) -> bool {
        let waiting = self.held.is_some() || self.large_waits;
        (waiting && !self.queue.is_empty()) || self.copying == Copying::Asked || self.awaits_count()
    }

    /// The session's identity must be valid now; an expired one is renewed from its source, or ends the session.
    pub(super) async fn check_identity(&mut self) -> Result<(), Ending> {
        let renewed = renewed(&self.room.identity, &self.about.flow, &self.asker.principal).await;
        if let Some(principal) = renewed.map_err(Ending::Refused)? {
            self.asker.renew(principal);
        }
        Ok(())
    }

    /// Records a request that is now refused or forwarded.
    pub(super) fn note_request(
        &mut self,
        text: &str,
        verdict: &Verdict,
        refusal: Option<&Denial>,
        bound: Option<Arc<Bound>>,
    ) -> Result<(AuditEvent, Option<Recorded>), Ending> {
        let kept = kept(text, verdict, &self.room.masker);
        let recorded = match &mut self.recording {
            Some(recording) => Some(recording.request(&kept, verdict, refusal, bound)?),
            None => None,
        };
        let outcome = if refusal.is_some() { Outcome::Denied } else { Outcome::Allowed };
        let mut event = self.about.request(outcome, &kept.text);
        match refusal {
            Some(denial) => {
                event.policies.clone_from(&denial.policies);
                event.reason = kept_reason(denial, kept.constants).into_owned();
            }
            None => {
                event.policies = verdict.policies_with_limits();
                event.masked = verdict.masked_columns();
                let notes = [super::judge::opaque_note(&verdict.statements), verdict.limit_note()];
                event.reason =
                    notes.into_iter().filter(|note| !note.is_empty()).collect::<Vec<_>>().join("; ");
            }
        }
        Ok((event, recorded))
    }

    /// Records how a request ended. Not waited for: it is a fact about what has happened already.
    pub(super) fn note_completion(
        &self,
        request: &super::expected::Request,
        failure: Option<String>,
    ) -> Result<(), Ending> {
        if request.refusal.is_some() {
            return Ok(());
        }
        // Who and where stands in the session's other records; there are as many of these as of requests.
        let mut event = AuditEvent::new(EventKind::Completion, Outcome::Noted);
        event.session = Some(self.about.session.clone());
        event.rows = Some(request.rows);
        event.duration_us = u64::try_from(request.started.elapsed().as_micros()).ok();
        let streamed = self.stream.as_ref().map(ToString::to_string);
        event.reason = failure.into_iter().chain(streamed).collect::<Vec<_>>().join("; ");
        self.room.audit.note(event).map_err(Ending::Audit)
    }
}

/// What the session knows of its prepared statements, for an EXECUTE in a message of `batch`.
pub(super) struct KnownStatements<'a> {
    pub(super) names: &'a Names<Arc<Prepared>>,
    pub(super) batch: Batch,
    pub(super) judge: &'a Judge,
    /// The schema as it is now.
    pub(super) catalogue: &'a Catalogue,
}

impl KnownStatements<'_> {
    /// The statements as the server will read them now, should the schema have changed since they were read last.
    fn now(&self, prepared: &Prepared) -> Option<Arc<[Statement]>> {
        if prepared.verdict.catalogue.epoch == self.catalogue.epoch {
            return Some(Arc::clone(&prepared.verdict.statements));
        }
        let statements = self.judge.read(&prepared.text, self.catalogue).ok()?;
        match (prepared.origin, statements.first().map(|statement| &statement.session_effect)) {
            (Origin::Parse, _) => Some(statements),
            (Origin::Sql, Some(SessionEffect::Prepare { statement, .. })) => {
                Some(Arc::from([statement.as_ref().clone()]))
            }
            (Origin::Sql, _) => None,
        }
    }
}

impl super::judge::Prepared for KnownStatements<'_> {
    fn statements(&self, name: &str) -> Option<Arc<[Statement]>> {
        match self.names.lookup(name.as_bytes(), self.batch) {
            super::names::Lookup::Known(prepared) => self.now(prepared),
            _ => None,
        }
    }
}
