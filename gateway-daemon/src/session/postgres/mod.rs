//! One PostgreSQL session: startup, login upstream with the daemon's own credential, then messages judged one by one.
//!
//! Follow a statement: `relay` (the loop) → `requests` (`judging` asks `judge`; recorded, forwarded) → `replies`
//! (matched against `expected`, masked). `startup`, `parameters`, `target` and `cancel` are the session's beginning and its
//! side door;
//! `row_limit` undoes what changes too many rows; `names` knows what a prepared statement's name means; `answer` and
//! `ending` are the daemon's own words. What comes past SQL, by `function_call` and `replication`, is judged by
//! `past_sql`.

mod advice;
mod answer;
mod bound;
mod cancel;
mod catalogues;
mod concealed;
mod constants;
mod copying;
mod driver;
mod ending;
mod expected;
mod function_call;
mod judge;
mod judging;
mod names;
mod notifications;
mod parameters;
mod past_sql;
mod readings;
mod recorded;
mod relay;
mod replication;
mod replies;
mod requests;
mod row_limit;
mod shown;
mod startup;
mod target;
mod texts;
mod unhurried;
mod watch;
mod watched_rows;
mod written;

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::time::timeout;

pub use cancel::CancelKeys;
pub use catalogues::Catalogues;
pub use judge::{Asker, Judge};
pub use target::{ChannelBinding, KeptKeys, LoginError, Negotiation, PostgresTarget};

use self::{
    cancel::Cancellable,
    catalogues::Snapshot,
    ending::{Ending, STOPPED},
    expected::Told,
    parameters::Parameters,
    recorded::Recording,
    relay::{Relay, Start},
    startup::{Asked, Wanted},
    target::Upstream,
};
use crate::{
    audit::AuditLog,
    credential::Provider,
    domain::{
        decision::{Denial, Notices, RecordLimits},
        event::{EventKind, Outcome},
        flow::Workload,
        ids::PolicyId,
    },
    identity::Identity,
    intercept::Intercept,
    mask::Masker,
    protocol::postgres::backend::{Authentication, Message, TransactionStatus},
    recording::Recorder,
    session::{
        about::About,
        client_tls::Encryption,
        dial::{DialError, in_doubt},
        driver::{Client, Permit},
        ledger::Ledger,
        limits::Limits,
        route::Route,
        stop::{Reason, Stop},
        transport::{Side, Transport},
    },
    sql::postgres::Connection,
    tls::terminate::Terminator,
};

/// How long the last word to a client may take to leave.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);
/// And to one whose session was told to end, which is over within a second.
const LAST_WORD_TIMEOUT: Duration = Duration::from_millis(250);

/// What all PostgreSQL sessions share.
pub struct Postgres {
    /// For connections from the agent's own network namespace.
    pub intercept: Intercept,
    /// The daemon's passwords.
    pub credentials: Arc<Provider>,
    /// Renews identities.
    pub identity: Arc<Identity>,
    /// Reads and judges.
    pub judge: Judge,
    /// The durable record.
    pub audit: AuditLog,
    /// What all sessions record.
    pub ledger: Ledger,
    /// Transforms values.
    pub masker: Masker,
    /// Keys given to clients.
    pub cancel_keys: CancelKeys,
    /// Schemas of targets.
    pub catalogues: Catalogues,
    /// Records what sessions see, where the configuration wants it.
    pub recorder: Option<Recorder>,
    /// How long a session may take.
    pub limits: Limits,
    /// Makes certificates for clients.
    pub terminator: Arc<Terminator>,
}

/// A flow that was attributed and judged.
enum Admission {
    /// It may talk to this target, on this way.
    Admitted(Arc<PostgresTarget>, Route, Permit),
    /// It may not: the client is told why, in its own protocol, before any byte reaches a target.
    Refused(Denial),
}

impl Postgres {
    /// Serves one connection to its end. Every end is recorded. Cancel-safe: dropping the future closes both sides.
    async fn attend(&self, client: Client, admission: Admission, encryption: Encryption) {
        let Client { about, workload, stream, stop, .. } = client;
        let mut client = Side::new(Transport::Plain(stream), BytesMut::new());
        let asked = stop.cuts(startup::receive(&mut client, &encryption, self.limits.startup)).await;
        let ending = match asked.unwrap_or_else(|reason| Err(Ending::Stopped(reason))) {
            Ok(Asked::Cancel(key)) => {
                self.cancel(&about, &key).await;
                part(&mut client).await;
                return;
            }
            Ok(Asked::Session(wanted)) => {
                self.open(&about, workload, admission, wanted, &mut client, &stop).await
            }
            Err(ending) => ending,
        };
        self.say_farewell(&ending, &mut client).await;
        part(&mut client).await;
        tracing::debug!(session = %about.session, %ending, "session ended");
        self.ledger.closed(&about, None, ending.to_string(), ending.told());
    }

    /// From the startup message to the session's end.
    async fn open(
        &self,
        about: &About,
        workload: Workload,
        admission: Admission,
        wanted: Wanted,
        client: &mut Side<Transport>,
        stop: &Stop,
    ) -> Ending {
        let (target, route, Permit { principal, policies, record }) = match admission {
            Admission::Admitted(target, route, permit) => (target, route, permit),
            Admission::Refused(denial) => return self.turn_away(about, denial).await,
        };
        if let Some(doubt) = target.dial.doubt(&self.intercept, route) {
            return self.turn_away(about, in_doubt(&target.facts.name, doubt)).await;
        }
        let parameters = match admit(&wanted, &target) {
            Ok(parameters) => parameters,
            Err(denial) => return self.turn_away(about, denial).await,
        };
        let asker = Asker::new(principal, workload);
        let mut event = about.event(EventKind::Connect, Outcome::Allowed);
        event.policies = policies;
        event.reason = match wanted.replication {
            None => format!("database {}", wanted.database),
            Some(Connection::Database) => format!("replication of database {}", wanted.database),
            Some(Connection::Physical) => "replication of the whole server".to_owned(),
        };
        event.reason.push_str(&parameters.note());
        // Before the login: by the tags alone. Once the schema is known, by all of it.
        let unknown = Arc::default();
        if let Some(verdict) = self.judge.decide_startup(&asker, &target.facts, &unknown, &parameters) {
            if let Some(denial) = verdict.denial {
                return self.turn_away(about, denial.as_ref().clone()).await;
            }
            event.policies.extend(verdict.policies);
        }
        if let Some(connection) = wanted.replication {
            let verdict = self.judge.decide_connection(&asker, &target.facts, &unknown, connection);
            if let Some(denial) = verdict.denial {
                return self.turn_away(about, denial.as_ref().clone()).await;
            }
            event.policies.extend(verdict.policies);
        }
        if let Err(error) = self.audit.append(vec![event]).await {
            return Ending::Audit(error);
        }
        let login = target.login(&self.intercept, &self.credentials, route, &parameters.passed);
        let login = match stop.cuts(timeout(self.limits.startup, login)).await {
            Ok(login) => login.unwrap_or(Err(LoginError::Timeout)),
            Err(reason) => return Ending::Stopped(reason),
        };
        let upstream = match login {
            Ok(upstream) => upstream,
            Err(LoginError::Dial(DialError::Doubtful { doubt, .. })) => {
                return self.turn_away(about, in_doubt(&target.facts.name, doubt)).await;
            }
            Err(error) => {
                if let LoginError::Refused { sqlstate, message } = &error
                    && let Some(sqlstate) = parameters.refused_by(sqlstate)
                {
                    return Ending::Parameter { sqlstate, message: message.clone() };
                }
                tracing::error!(target = %target.facts.name, %error, "cannot log in to the target");
                return Ending::Login(error);
            }
        };
        match self
            .begin(about, asker, &target, route, wanted, &parameters, upstream, record, client, stop)
            .await
        {
            Ok(ending) | Err(ending) => ending,
        }
    }

    /// Records the refusal of a connection, before the client is told.
    async fn turn_away(&self, about: &About, denial: Denial) -> Ending {
        match self.ledger.refused(about, &denial).await {
            Ok(()) => Ending::Refused(denial),
            Err(error) => Ending::Audit(error),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one session, each used once")]
    async fn begin(
        &self,
        about: &About,
        asker: Asker,
        target: &Arc<PostgresTarget>,
        route: Route,
        wanted: Wanted,
        sent: &Parameters,
        upstream: Upstream,
        record: RecordLimits,
        client: &mut Side<Transport>,
        stop: &Stop,
    ) -> Result<Ending, Ending> {
        let Upstream { mut side, parameters, cancel_key } = upstream;
        advice::warn_of_login(&target.facts, &target.username, &parameters);
        let place = (target.facts.id(), wanted.database.clone());
        let moving = sent.moving();
        let snapshot = match wanted.replication {
            Some(Connection::Physical) => Snapshot::of_nothing(),
            None | Some(Connection::Database) => stop
                .cuts(self.catalogues.of(&target.facts, &place, &moving, &mut side))
                .await
                .map_err(Ending::Stopped)?
                .map_err(Ending::Catalogue)?,
        };
        if let Some(verdict) = self.judge.decide_startup(&asker, &target.facts, &snapshot.catalogue, sent)
            && let Some(denial) = verdict.denial
        {
            return Ok(self.turn_away(about, denial.as_ref().clone()).await);
        }
        if let Some(connection) = wanted.replication {
            let catalogue = &snapshot.catalogue;
            let verdict = self.judge.decide_connection(&asker, &target.facts, catalogue, connection);
            if let Some(denial) = verdict.denial {
                return Ok(self.turn_away(about, denial.as_ref().clone()).await);
            }
        }
        let recording = match &self.recorder {
            None => None,
            Some(recorder) => {
                let header =
                    about.recording(&asker.principal, &target.facts.id(), &wanted.database, &asker.workload);
                let session = recorder.begin(header).map_err(Ending::Recording)?;
                Some(Recording::new(session, recorder, record))
            }
        };
        let server_process = cancel_key.as_ref().map(|key| key.process_id);
        let running = cancel_key.map(|key| Cancellable {
            session: about.session.clone(),
            owner: about.flow.captured_cgroup,
            target: Arc::clone(target),
            route,
            key,
        });
        let registration =
            running.clone().and_then(|what| self.cancel_keys.register(what, wanted.key_length()));
        wanted.negotiate(&mut client.output)?;
        greet(client, &parameters, registration.as_ref().map(|registration| &registration.key))?;
        let mut relay = Relay::new(Start {
            room: self,
            about: about.clone(),
            asker,
            replication: wanted.replication,
            facts: &target.facts,
            notices: match target.notices {
                Notices::Sent => Told::NotYet,
                Notices::Silent => Told::Already,
            },
            place,
            path_moved: !moving.is_empty(),
            client,
            upstream: side,
            server_process,
            snapshot,
            recording,
            stop,
        });
        let ending = stop.warns(relay.serve()).await.unwrap_or_else(|reason| {
            relay.give_up();
            Ending::Stopped(reason)
        });
        if let Some(recording) = relay.recording.take() {
            recording.end(&ending);
        }
        if ending.told().is_some() {
            // The client first: it is to hear of it at once, whatever the target does.
            self.say_farewell(&ending, relay.client).await;
            relay.client.fall_silent();
            if let Some(running) = running.filter(|_| relay.is_owed())
                && let Err(error) = cancel::forward(&self.intercept, &running).await
            {
                tracing::warn!(%error, session = %about.session, "what runs for a session that is over goes on");
            }
        }
        relay.part().await;
        Ok(ending)
    }

    async fn cancel(&self, about: &About, key: &target::CancelKey) {
        let found = self.cancel_keys.find(key, about.flow.captured_cgroup);
        let outcome = if found.is_some() { Outcome::Allowed } else { Outcome::Denied };
        let mut event = about.request(outcome, "CANCEL");
        match &found {
            Some(what) => event.reason = format!("cancels session {}", what.session),
            None => {
                event.policies = vec![PolicyId::from("builtin/cancel-key")];
                "the key is not one of this workload's sessions".clone_into(&mut event.reason);
            }
        }
        if let Err(error) = self.audit.append(vec![event]).await {
            tracing::error!(%error, "a cancel request could not be recorded, so it is not forwarded");
            return;
        }
        if let Some(what) = found
            && let Err(error) = cancel::forward(&self.intercept, &what).await
        {
            tracing::warn!(%error, session = %what.session, "a cancel request could not be forwarded");
        }
    }

    async fn say_farewell(&self, ending: &Ending, client: &mut Side<Transport>) {
        if client.is_cut_off() {
            return;
        }
        let out = &mut client.output;
        let said = match ending {
            Ending::Refused(denial) => answer::fatal_refusal("28000", denial, out),
            Ending::Stopped(Reason::Identity(denial) | Reason::Revoked(denial)) => {
                answer::fatal_refusal(STOPPED, denial, out)
            }
            _ => match ending.farewell() {
                Some((sqlstate, message)) => answer::fatal(sqlstate, &message, out),
                None => Ok(()),
            },
        };
        if said.is_ok() {
            // A client that does not read its last message misses it.
            let patience = if ending.told().is_some() { LAST_WORD_TIMEOUT } else { FAREWELL_TIMEOUT };
            let _ = timeout(patience, client.drain()).await;
        }
    }
}

/// Tells a client under TLS that this is the end, which without TLS is what closing tells it.
async fn part(client: &mut Side<Transport>) {
    if client.is_encrypted() {
        // One that does not read misses it.
        let _ = timeout(FAREWELL_TIMEOUT, client.shut_down()).await;
    }
}

/// Whether the session that the client wants is one that this target gives, and with which parameters.
fn admit(wanted: &Wanted, target: &PostgresTarget) -> Result<Parameters, Denial> {
    // Physical replication names no database; policy says by name whether all of them may be seen.
    let names_one = wanted.replication != Some(Connection::Physical);
    if let Some(only) = target.database.as_ref().filter(|only| names_one && **only != wanted.database) {
        return Err(Denial {
            reason: format!("target {} gives access to database {only:?} only", target.facts.name),
            hint: Some(format!("Connect with dbname={only}.")),
            policies: vec![PolicyId::from("builtin/database")],
        });
    }
    Parameters::of(wanted)
}

fn greet(
    client: &mut Side<Transport>,
    parameters: &[(String, String)],
    key: Option<&target::CancelKey>,
) -> Result<(), Ending> {
    let out = &mut client.output;
    let mut say = |message: Message<'_>| message.encode(out).map_err(|error| Ending::upstream(&error));
    say(Message::Authentication(Authentication::Ok))?;
    for (name, value) in parameters {
        say(Message::ParameterStatus { name: name.as_bytes(), value: value.as_bytes() })?;
    }
    if let Some(key) = key {
        say(Message::BackendKeyData { process_id: key.process_id, secret: &key.secret })?;
    }
    say(Message::ReadyForQuery(TransactionStatus::Idle))
}
