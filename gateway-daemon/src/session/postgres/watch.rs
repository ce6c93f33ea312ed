//! A session that is passed on untouched, followed from the client's side alone: what it would have been told if
//! nodegate enforced. The schema is read over a connection of the daemon's own; nothing here touches the session.

use std::{collections::HashMap, sync::Arc, time::Instant};

use bytes::BytesMut;
use tokio::{task::block_in_place, time::timeout};

use super::{
    Asker, LoginError, Postgres, PostgresTarget,
    catalogues::{Place, Snapshot},
    constants::{kept, kept_reason},
    function_call::{self, look_up},
    judge::{Prepared, Verdict},
    parameters::Parameters,
    readings::Reading,
    replication::only_commands,
    row_limit::Excess,
    startup::Wanted,
    target::Upstream,
    watched_rows::{Exceeded, WatchedRows},
};
use crate::{
    domain::{
        catalogue::Catalogue,
        decision::{Denial, MaxRows},
        event::{AuditEvent, EventKind, Outcome},
        mode::{Cause, Mode},
        statement::{SessionEffect, Statement},
    },
    mask::Masker,
    protocol::postgres::{
        Sniff, StartupPacket,
        backend::TransactionStatus,
        frontend::{self, Kind, Message},
        peek_header, sniff, split_frame, split_startup,
    },
    session::{about::About, caller::renewed, driver::Followed, passing::Tapped, route::Route},
    sql::postgres::{CalledFunction, Connection, replication_command},
};

/// No message but COPY data, which is skipped as it comes, is followed beyond this.
const MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// Names of prepared statements and portals that are kept; a session with more is not followed further.
const NAMES: usize = 20_000;
/// Reading a text up to this length takes less than handing the worker's other tasks on.
const QUICK_TEXT_BYTES: usize = 4 * 1024;

/// A session to follow.
#[derive(Debug)]
struct Watched {
    about: About,
    /// What its refusals amount to.
    mode: Mode,
    asker: Asker,
    target: Arc<PostgresTarget>,
    /// The way there.
    route: Route,
}

/// Why a session is not followed any further.
enum Lost {
    /// It has ended.
    Over,
    /// It cannot be read, for this reason, which enforcing would have refused.
    Unclear(Denial),
    /// The daemon's own login failed: enforcing would have let nobody in.
    NoSchema(LoginError),
}

impl Postgres {
    /// Follows a session to its end, or to where it cannot be followed; where there are `replies`, its rows are counted.
    /// Its bytes do not wait.
    pub(super) async fn watch(&self, session: Followed, target: Arc<PostgresTarget>) {
        let Followed { about, mode, principal, workload, tapped, replies } = session;
        let route = Route::of(&about.flow);
        let watched = Watched { about, mode, asker: Asker::new(principal, workload), target, route };
        let mut follower = Follower {
            room: self,
            watched,
            tapped,
            rows: WatchedRows::new(replies),
            input: BytesMut::new(),
            place: None,
            snapshot: None,
            statements: HashMap::new(),
            portals: HashMap::new(),
            made: HashMap::new(),
            replication: None,
            functions: HashMap::new(),
        };
        let lost = match follower.follow().await {
            Ok(never) => match never {},
            Err(lost) => lost,
        };
        let (cause, denial) = match lost {
            Lost::Over => return follower.count_to_the_end().await,
            Lost::Unclear(denial) => (Cause::Unclear, denial),
            Lost::NoSchema(error) => {
                let reason =
                    format!("nodegate could not log in to the target with its own credential: {error}");
                (Cause::Refusal, Denial::builtin(reason, "Look at the target's credential.", "login"))
            }
        };
        follower.refused(EventKind::Connect, cause, &denial, "");
    }
}

/// One session, seen from its client's side.
struct Follower<'a> {
    room: &'a Postgres,
    watched: Watched,
    tapped: Tapped,
    rows: WatchedRows,
    input: BytesMut,
    place: Option<Place>,
    snapshot: Option<Snapshot>,
    /// Texts of Parse, by name.
    statements: HashMap<Vec<u8>, Arc<str>>,
    /// Texts that portals run.
    portals: HashMap<Vec<u8>, Arc<str>>,
    /// What SQL's PREPARE has made.
    made: HashMap<String, Arc<[Statement]>>,
    /// What the connection is for, where it is not SQL alone.
    replication: Option<Connection>,
    /// Functions that were called by their oid.
    functions: HashMap<u32, CalledFunction>,
}

impl Prepared for HashMap<String, Arc<[Statement]>> {
    fn statements(&self, name: &str) -> Option<Arc<[Statement]>> {
        self.get(name).cloned()
    }
}

impl Follower<'_> {
    async fn follow(&mut self) -> Result<std::convert::Infallible, Lost> {
        let wanted = self.startup().await?;
        let parameters = super::admit(&wanted, &self.watched.target).and_then(|parameters| {
            // The daemon's own connection sets nothing that enforcing would not have let the client set.
            match self.startup_denial(&parameters, &Arc::default()) {
                Some(denial) => Err(denial),
                None => Ok(parameters),
            }
        });
        let parameters = parameters.unwrap_or_else(|denial| {
            self.refused(EventKind::Connect, Cause::Refusal, &denial, "");
            Parameters::of_database(&wanted.database)
        });
        self.place = Some((self.watched.target.facts.id(), wanted.database));
        self.replication = wanted.replication;
        // The daemon's own connection is for SQL, whatever the session's is for.
        let parameters = parameters.for_sql();
        match wanted.replication {
            Some(Connection::Physical) => self.snapshot = Some(Snapshot::of_nothing()),
            None | Some(Connection::Database) => self.read_schema(&parameters).await?,
        }
        self.judge_connection(&parameters);
        loop {
            if let Some((b'd', total)) = peek_header(&self.input).map_err(|error| unreadable(&error))? {
                self.skip(total).await?;
                continue;
            }
            let frame = split_frame(&mut self.input, MESSAGE_BYTES).map_err(|error| unreadable(&error))?;
            let Some(frame) = frame else {
                self.more().await?;
                continue;
            };
            let message = frontend::parse(&frame).map_err(|error| unreadable(&error))?;
            self.take(&message, &parameters).await?;
        }
    }

    /// Up to the startup message. Whoever goes on under encryption cannot be followed.
    async fn startup(&mut self) -> Result<Wanted, Lost> {
        loop {
            match sniff(&self.input) {
                Sniff::Unknown => return Err(Lost::Unclear(not_plain(&self.input))),
                Sniff::Incomplete => {
                    self.more().await?;
                    continue;
                }
                Sniff::Postgres => {}
            }
            match split_startup(&mut self.input).map_err(|error| unreadable(&error))? {
                None => self.more().await?,
                Some(StartupPacket::SslRequest | StartupPacket::GssEncRequest) => self.rows.owe_byte(),
                Some(StartupPacket::Cancel { .. }) => {
                    let mut event = self.watched.about.request(Outcome::Noted, "CANCEL");
                    event.mode = Some(self.watched.mode);
                    self.note(event);
                    return Err(Lost::Over);
                }
                Some(StartupPacket::Startup { minor, parameters, .. }) => {
                    return Ok(Wanted::new(minor, parameters));
                }
            }
        }
    }

    async fn take(&mut self, message: &Message<'_>, parameters: &Parameters) -> Result<(), Lost> {
        match message {
            Message::Query(sql) => {
                let text = text(sql)?;
                let verdict = self.judge(&text, parameters).await?;
                let (limits, text) = limited(verdict.as_ref(), &text, &self.room.masker);
                self.rows.owe_query(limits, &text);
            }
            Message::Parse { name, sql, .. } => {
                let text = text(sql)?;
                if self.statements.len() >= NAMES {
                    return Err(too_many_names());
                }
                self.statements.insert(name.to_vec(), text);
            }
            Message::Bind { portal, statement, .. } => {
                if self.portals.len() >= NAMES {
                    return Err(too_many_names());
                }
                match self.statements.get(*statement) {
                    Some(text) => drop(self.portals.insert(portal.to_vec(), Arc::clone(text))),
                    None => drop(self.portals.remove(*portal)),
                }
            }
            Message::Execute { portal, .. } => {
                let text = self.portals.get(*portal).cloned();
                let verdict = match &text {
                    Some(text) => self.judge(text, parameters).await?,
                    None => None,
                };
                let text = text.unwrap_or_default();
                let (limits, text) = limited(verdict.as_ref(), &text, &self.room.masker);
                self.rows.owe_execute(limits, &text);
            }
            Message::Close { kind: Kind::Statement, name } => drop(self.statements.remove(*name)),
            Message::Close { kind: Kind::Portal, name } => drop(self.portals.remove(*name)),
            Message::FunctionCall { function, arguments, .. } => {
                let bytes = arguments.iter().flatten().map(|value| value.len()).sum();
                self.judge_call(*function, arguments.len(), bytes, parameters).await?;
                self.rows.owe_query(None, "");
            }
            Message::Sync => self.rows.owe_sync(),
            Message::Terminate => return Err(Lost::Over),
            // The client's own login, and what belongs to messages that were judged.
            _ => {}
        }
        Ok(())
    }

    /// Judges a text as if it were to be run now, and records what came of it. A command of replication has no verdict.
    async fn judge(&mut self, text: &str, parameters: &Parameters) -> Result<Option<Verdict>, Lost> {
        self.check_identity().await?;
        if self.judge_replication(text) {
            return Ok(None);
        }
        let catalogue = self.schema(parameters).await?;
        let read = || self.room.judge.read(text, &catalogue);
        let reading: Reading = if text.len() > QUICK_TEXT_BYTES { block_in_place(read) } else { read() };
        let cause = if reading.is_err() { Cause::Unclear } else { Cause::Refusal };
        let facts = &self.watched.target.facts;
        let mut verdict = self.room.judge.decide(&self.watched.asker, facts, &catalogue, reading, &self.made);
        if let Some(denial) = verdict.uncountable() {
            verdict = verdict.refused(denial);
        }
        self.note_verdict(text, &verdict, cause);
        self.learn(&verdict);
        Ok(Some(verdict))
    }

    /// Holds what the server has said against the limits.
    fn count(&mut self) {
        while let Some(Exceeded { limit, excess, text }) = self.rows.next_exceeded() {
            let Watched { about, mode, .. } = &self.watched;
            let mut event = about.event(EventKind::Completion, mode.outcome(Cause::Refusal));
            event.mode = Some(*mode);
            if let Excess::Rows(rows) = excess {
                event.rows = Some(rows);
            }
            event.reason = format!("to be undone: {}", excess.reason(&limit));
            text.as_ref().clone_into(&mut event.text);
            event.policies = vec![limit.policy];
            self.note(event);
        }
    }

    /// The client has sent its last: what the server still says to it is counted as well.
    async fn count_to_the_end(&mut self) {
        self.count();
        while self.rows.listens() && self.rows.hear().await {
            self.count();
        }
    }

    /// The schema as it is now, or was within the last minute.
    async fn schema(&mut self, parameters: &Parameters) -> Result<Arc<Catalogue>, Lost> {
        if !self.snapshot.as_ref().is_some_and(|snapshot| snapshot.is_fresh(Instant::now())) {
            self.read_schema(parameters).await?;
        }
        self.snapshot.as_ref().map(|snapshot| Arc::clone(&snapshot.catalogue)).ok_or(Lost::Over)
    }

    /// Whether enforcing would have let the session begin as it does, and be one for replication.
    fn judge_connection(&self, parameters: &Parameters) {
        let Some(snapshot) = &self.snapshot else { return };
        if let Some(denial) = self.startup_denial(parameters, &snapshot.catalogue) {
            self.refused(EventKind::Connect, Cause::Refusal, &denial, "");
        }
        let Some(connection) = self.replication else { return };
        let Watched { asker, target, .. } = &self.watched;
        let verdict =
            self.room.judge.decide_connection(asker, &target.facts, &snapshot.catalogue, connection);
        if let Some(denial) = verdict.denial {
            self.refused(EventKind::Connect, Cause::Refusal, &denial, "");
        }
    }

    fn startup_denial(&self, parameters: &Parameters, catalogue: &Arc<Catalogue>) -> Option<Denial> {
        let Watched { asker, target, .. } = &self.watched;
        let verdict = self.room.judge.decide_startup(asker, &target.facts, catalogue, parameters)?;
        verdict.denial.map(Arc::unwrap_or_clone)
    }

    /// Judges a text that the server does not take for SQL; `false` where it does.
    fn judge_replication(&self, text: &str) -> bool {
        let (Some(connection), Some(snapshot)) = (self.replication, &self.snapshot) else { return false };
        let Watched { asker, target, .. } = &self.watched;
        match replication_command(text) {
            Some(statement) => {
                let catalogue = &snapshot.catalogue;
                let verdict = self.room.judge.decide_replication(asker, &target.facts, catalogue, statement);
                self.note_verdict(text, &verdict, Cause::Refusal);
                true
            }
            None if connection == Connection::Physical => {
                self.refused(EventKind::Request, Cause::Refusal, &only_commands(), "");
                true
            }
            None => false,
        }
    }

    /// Judges a call of the function of that oid, whose name the daemon asks for over a connection of its own.
    async fn judge_call(
        &mut self,
        oid: u32,
        arguments: usize,
        bytes: usize,
        parameters: &Parameters,
    ) -> Result<(), Lost> {
        self.check_identity().await?;
        let catalogue = self.schema(parameters).await?;
        if !self.functions.contains_key(&oid) {
            let found = self
                .ask(parameters, async |upstream: &mut Upstream| {
                    look_up(&mut upstream.side, oid, &mut TransactionStatus::Idle).await
                })
                .await?;
            self.functions.extend(found.map(|function| (oid, function)));
        }
        let Some(function) = self.functions.get(&oid) else {
            let text = function_call::text(&format!("oid {oid}"), arguments, bytes);
            let denial = function_call::unknown(oid, "there is none");
            self.refused(EventKind::Request, Cause::Refusal, &denial, &text);
            return Ok(());
        };
        let Watched { asker, target, .. } = &self.watched;
        let verdict = self.room.judge.decide_call(asker, &target.facts, &catalogue, function);
        let name = format!("{}.{}", function.schema, function.name);
        self.note_verdict(&function_call::text(&name, arguments, bytes), &verdict, Cause::Refusal);
        self.learn(&verdict);
        Ok(())
    }

    /// Records what enforcing would have done with a request.
    fn note_verdict(&self, text: &str, verdict: &Verdict, cause: Cause) {
        match &verdict.denial {
            Some(denial) => {
                let kept = kept(text, verdict, &self.room.masker);
                let reason = kept_reason(denial, kept.constants).into_owned();
                let denial = Denial { reason, ..denial.as_ref().clone() };
                self.refused(EventKind::Request, cause, &denial, &kept.text);
            }
            None if verdict.statements.is_empty() => {}
            None => {
                let mut event = self
                    .watched
                    .about
                    .request(Outcome::Allowed, &kept(text, verdict, &self.room.masker).text);
                event.mode = Some(self.watched.mode);
                event.policies = verdict.policies_with_limits();
                event.masked = verdict.masked_columns();
                event.reason = verdict.limit_note();
                self.note(event);
            }
        }
    }

    /// It was run, whatever the verdict: so it means something for what follows.
    fn learn(&mut self, verdict: &Verdict) {
        if verdict.changes_schema() {
            self.snapshot = None;
            self.functions.clear();
        }
        if let Some(SessionEffect::Prepare { name, statement }) =
            verdict.statements.first().map(|statement| &statement.session_effect)
            && self.made.len() < NAMES
        {
            self.made.insert(name.clone(), Arc::from([statement.as_ref().clone()]));
        }
    }

    /// Enforcing ends a session whose identity has expired and cannot be renewed.
    async fn check_identity(&mut self) -> Result<(), Lost> {
        let Watched { about, asker, .. } = &mut self.watched;
        let renewed = renewed(&self.room.identity, &about.flow, &asker.principal).await;
        if let Some(principal) = renewed.map_err(Lost::Unclear)? {
            asker.principal = principal;
        }
        Ok(())
    }

    /// Reads the schema with the daemon's own credential, as enforcing would.
    async fn read_schema(&mut self, parameters: &Parameters) -> Result<(), Lost> {
        let Some(place) = &self.place else { return Err(Lost::Over) };
        let facts = &self.watched.target.facts;
        let read = async |upstream: &mut Upstream| {
            self.room.catalogues.of(facts, place, &parameters.moving(), &mut upstream.side).await
        };
        self.snapshot = Some(self.ask(parameters, read).await?);
        Ok(())
    }

    /// Asks the target over a connection of the daemon's own.
    async fn ask<T>(
        &self,
        parameters: &Parameters,
        question: impl AsyncFnOnce(&mut Upstream) -> Result<T, LoginError>,
    ) -> Result<T, Lost> {
        let Watched { target, route, .. } = &self.watched;
        let ask = async {
            let mut upstream = target
                .login(&self.room.intercept, &self.room.credentials, *route, &parameters.passed)
                .await?;
            let answer = question(&mut upstream).await?;
            if Message::Terminate.encode(&mut upstream.side.output).is_ok() {
                let _ = upstream.side.drain().await;
            }
            Ok(answer)
        };
        timeout(self.room.limits.startup, ask)
            .await
            .unwrap_or(Err(LoginError::Timeout))
            .map_err(Lost::NoSchema)
    }

    /// Drops the next bytes, most of which may be still to come.
    async fn skip(&mut self, mut bytes: usize) -> Result<(), Lost> {
        while bytes > 0 {
            if self.input.is_empty() {
                self.more().await?;
            }
            let now = bytes.min(self.input.len());
            drop(self.input.split_to(now));
            bytes -= now;
        }
        Ok(())
    }

    async fn more(&mut self) -> Result<(), Lost> {
        let piece = loop {
            self.count();
            tokio::select! {
                biased;
                piece = self.tapped.next() => break piece,
                _ = self.rows.hear(), if self.rows.listens() => {}
            }
        };
        match piece {
            Some(bytes) => {
                self.input.extend_from_slice(&bytes);
                Ok(())
            }
            None if self.tapped.is_behind() => Err(Lost::Unclear(Denial::builtin(
                "the session sends faster than it can be judged beside",
                "Nothing is lost to the session; the rest of it is not judged.",
                "behind",
            ))),
            None => Err(Lost::Over),
        }
    }

    fn refused(&self, kind: EventKind, cause: Cause, denial: &Denial, text: &str) {
        let Watched { about, mode, .. } = &self.watched;
        let outcome = mode.outcome(cause);
        let mut event = if kind == EventKind::Request {
            about.request(outcome, text)
        } else {
            about.event(kind, outcome)
        };
        event.mode = Some(*mode);
        event.policies.clone_from(&denial.policies);
        event.reason.clone_from(&denial.reason);
        self.note(event);
    }

    fn note(&self, event: AuditEvent) {
        if let Err(error) = self.room.audit.note(event) {
            tracing::error!(%error, "what was observed could not be recorded");
        }
    }
}

/// The limits that a request is held to, and its text as far as it may be kept, which nobody needs where there are none.
fn limited<'v>(
    verdict: Option<&'v Verdict>,
    text: &str,
    masker: &Masker,
) -> (Option<&'v Arc<[Option<MaxRows>]>>, String) {
    match verdict.and_then(|verdict| Some((verdict, verdict.limits_now()?))) {
        Some((verdict, limits)) => (Some(limits), kept(text, verdict, masker).text.into_owned()),
        None => (None, String::new()),
    }
}

fn text(sql: &[u8]) -> Result<Arc<str>, Lost> {
    std::str::from_utf8(sql).map(Arc::from).map_err(|_| {
        let hint = "Set the client's encoding to UTF8.";
        Lost::Unclear(Denial::builtin("the statement is not valid UTF-8", hint, "not-utf8"))
    })
}

fn unreadable(error: &impl std::fmt::Display) -> Lost {
    let reason = format!("the client broke the protocol: {error}");
    Lost::Unclear(Denial::builtin(reason, "Use a PostgreSQL client.", "protocol"))
}

fn too_many_names() -> Lost {
    let reason = format!("more than {NAMES} prepared statements or portals");
    Lost::Unclear(Denial::builtin(reason, "Close what is not used any more.", "names"))
}

/// What a connection is that is not PostgreSQL in plain text.
fn not_plain(first_bytes: &[u8]) -> Denial {
    // The record type of a TLS handshake.
    if first_bytes.first() == Some(&0x16) {
        return Denial::builtin(
            "agent and target talk under TLS of their own, so nothing of it can be judged",
            "Connect with sslmode=disable or prefer: nodegate answers with N, and protects the way to the target.",
            "encrypted",
        );
    }
    Denial::builtin("the connection does not speak PostgreSQL", "Use a PostgreSQL client.", "protocol")
}
