//! One PostgreSQL session: startup, login upstream with the daemon's own credential, then messages judged one by one.
//!
//! Follow a statement: `relay` (the loop) → `requests` (`judging` asks `judge`; recorded, forwarded) → `replies`
//! (matched against `expected`, masked). `startup`, `parameters`, `target` and `cancel` are the session's beginning and its
//! side door;
//! `row_limit` undoes what changes too many rows; `names` knows what a prepared statement's name means; `answer` and
//! `ending` are the daemon's own words. What comes past SQL, by `function_call` and `replication`, is judged by
//! `past_sql`.

mod about;
mod advice;
mod answer;
mod bound;
mod cancel;
mod catalogues;
mod constants;
mod copying;
mod ending;
mod expected;
mod function_call;
mod judge;
mod judging;
mod names;
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
mod transport;
mod unhurried;
mod watch;
mod watched_rows;
mod written;

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{net::TcpStream, time::timeout};

pub use about::About;
pub use cancel::CancelKeys;
pub use catalogues::Catalogues;
pub use judge::{Asker, Judge};
pub use startup::Encryption;
pub use target::{
    ChannelBinding, ClientTls, KeptKeys, LoginError, Negotiation, PostgresTarget, Route, UpstreamTls,
};
pub use watch::Watched;

use self::{
    cancel::Cancellable,
    catalogues::Snapshot,
    ending::Ending,
    parameters::Parameters,
    recorded::Recording,
    relay::{Relay, Start},
    startup::{Asked, Wanted},
    target::Upstream,
    transport::{Side, Transport},
};
use crate::{
    audit::AuditLog,
    credential::Provider,
    domain::{
        decision::{Denial, RecordLimits},
        event::{EventKind, Outcome},
        flow::Workload,
        ids::PolicyId,
        principal::Principal,
    },
    identity::Identity,
    intercept::Intercept,
    mask::Masker,
    protocol::postgres::backend::{Authentication, Message, TransactionStatus},
    recording::Recorder,
    sql::postgres::Connection,
};

/// How long the last word to a client may take to leave.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

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
}

/// How long a session may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For the client's startup message, and for the login upstream.
    pub startup: Duration,
    /// Between requests; `None` is forever.
    pub idle: Option<Duration>,
}

/// A flow that was attributed and judged.
#[derive(Debug)]
pub enum Admission {
    /// It may talk to this target.
    Admitted {
        /// Who calls.
        principal: Arc<Principal>,
        /// The target.
        target: Arc<PostgresTarget>,
        /// The way there.
        route: Route,
        /// The policies that permitted.
        policies: Vec<PolicyId>,
        /// What they say of recording.
        record: RecordLimits,
    },
    /// It may not: the client is told why, in its own protocol, before any byte reaches a target.
    Refused(Denial),
}

impl Postgres {
    /// Serves one connection to its end. Every end is recorded. Cancel-safe: dropping the future closes both sides.
    pub async fn serve(
        &self,
        about: About,
        workload: Workload,
        admission: Admission,
        encryption: Encryption,
        stream: TcpStream,
    ) {
        let mut client = Side::new(Transport::Plain(stream), BytesMut::new());
        let ending = match startup::receive(&mut client, &encryption, self.limits.startup).await {
            Ok(Asked::Cancel(key)) => {
                self.cancel(&about, &key).await;
                part(&mut client).await;
                return;
            }
            Ok(Asked::Session(wanted)) => self.open(&about, workload, admission, wanted, &mut client).await,
            Err(ending) => ending,
        };
        self.say_farewell(&ending, &mut client).await;
        part(&mut client).await;
        let mut event = about.event(EventKind::Close, Outcome::Noted);
        event.reason = ending.to_string();
        tracing::debug!(session = %about.session, %ending, "session ended");
        if let Err(error) = self.audit.note(event) {
            tracing::error!(%error, session = %about.session, "the end of a session could not be recorded");
        }
    }

    /// From the startup message to the session's end.
    async fn open(
        &self,
        about: &About,
        workload: Workload,
        admission: Admission,
        wanted: Wanted,
        client: &mut Side<Transport>,
    ) -> Ending {
        let (principal, target, route, policies, record) = match admission {
            Admission::Admitted { principal, target, route, policies, record } => {
                (principal, target, route, policies, record)
            }
            Admission::Refused(denial) => return self.refuse(about, denial).await,
        };
        if let Some(denial) = target.doubt(&self.intercept, route) {
            return self.refuse(about, denial).await;
        }
        let parameters = match admit(&wanted, &target) {
            Ok(parameters) => parameters,
            Err(denial) => return self.refuse(about, denial).await,
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
                return self.refuse(about, denial.as_ref().clone()).await;
            }
            event.policies.extend(verdict.policies);
        }
        if let Some(connection) = wanted.replication {
            let verdict = self.judge.decide_connection(&asker, &target.facts, &unknown, connection);
            if let Some(denial) = verdict.denial {
                return self.refuse(about, denial.as_ref().clone()).await;
            }
            event.policies.extend(verdict.policies);
        }
        if let Err(error) = self.audit.append(vec![event]).await {
            return Ending::Audit(error);
        }
        let login = target.login(&self.intercept, &self.credentials, route, &parameters.passed);
        let login = timeout(self.limits.startup, login).await.unwrap_or(Err(LoginError::Timeout));
        let upstream = match login {
            Ok(upstream) => upstream,
            Err(LoginError::Doubtful { doubt, .. }) => {
                return self.refuse(about, target.denial(&doubt)).await;
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
        match self.begin(about, asker, &target, route, wanted, &parameters, upstream, record, client).await {
            Ok(ending) | Err(ending) => ending,
        }
    }

    /// Records the refusal of a connection, before the client is told.
    async fn refuse(&self, about: &About, denial: Denial) -> Ending {
        let mut event = about.event(EventKind::Connect, Outcome::Denied);
        event.policies.clone_from(&denial.policies);
        event.reason.clone_from(&denial.reason);
        match self.audit.append(vec![event]).await {
            Ok(_) => Ending::Refused(denial),
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
    ) -> Result<Ending, Ending> {
        let Upstream { mut side, parameters, cancel_key } = upstream;
        advice::warn_of_login(&target.facts, &target.username, &parameters);
        let place = (target.facts.id(), wanted.database.clone());
        let moving = sent.moving();
        let snapshot = match wanted.replication {
            Some(Connection::Physical) => Snapshot::of_nothing(),
            None | Some(Connection::Database) => self
                .catalogues
                .of(&target.facts, &place, &moving, &mut side)
                .await
                .map_err(Ending::Catalogue)?,
        };
        if let Some(verdict) = self.judge.decide_startup(&asker, &target.facts, &snapshot.catalogue, sent)
            && let Some(denial) = verdict.denial
        {
            return Ok(self.refuse(about, denial.as_ref().clone()).await);
        }
        if let Some(connection) = wanted.replication {
            let catalogue = &snapshot.catalogue;
            let verdict = self.judge.decide_connection(&asker, &target.facts, catalogue, connection);
            if let Some(denial) = verdict.denial {
                return Ok(self.refuse(about, denial.as_ref().clone()).await);
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
        let registration = match cancel_key {
            Some(key) => {
                let what = Cancellable {
                    session: about.session.clone(),
                    owner: about.flow.captured_cgroup,
                    target: Arc::clone(target),
                    route,
                    key,
                };
                self.cancel_keys.register(what, wanted.key_length())
            }
            None => None,
        };
        wanted.negotiate(&mut client.output)?;
        greet(client, &parameters, registration.as_ref().map(|registration| &registration.key))?;
        let mut relay = Relay::new(Start {
            room: self,
            about: about.clone(),
            asker,
            replication: wanted.replication,
            facts: &target.facts,
            place,
            path_moved: !moving.is_empty(),
            client,
            upstream: side,
            snapshot,
            recording,
        });
        let ending = relay.serve().await;
        if let Some(recording) = relay.recording.take() {
            recording.end(&ending);
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
        let said = match ending {
            Ending::Refused(denial) => answer::fatal_refusal("28000", denial, &mut client.output),
            _ => match ending.farewell() {
                Some((sqlstate, message)) => answer::fatal(sqlstate, &message, &mut client.output),
                None => Ok(()),
            },
        };
        if said.is_ok() {
            // A client that does not read its last message misses it.
            let _ = timeout(FAREWELL_TIMEOUT, client.drain()).await;
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
