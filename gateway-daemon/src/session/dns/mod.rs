//! The DNS proxy: every question of a captured cgroup is judged and recorded before it goes on, to the very server that
//! the agent meant and from the agent's own network namespace, so that search domains and split horizons stay as they
//! are. What is refused is answered at once.
//!
//! A trusted server's answers are remembered: they say which name an agent meant by an address.

mod allowance;
mod names;
mod oddness;
mod owners;
mod refusal;
mod stream;
mod trust;
mod upstream;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

pub use names::Names;
pub use owners::TargetNames;
pub use stream::TcpRefusal;
pub use trust::Trust;

use crate::{
    audit::AuditLog,
    domain::{
        action::{Lookup, TargetFacts},
        decision::{Decision, Denial},
        event::{AuditEvent, EventKind, Outcome},
        flow::{Flow, Workload},
        ids::{CgroupId, PolicyId},
        mode::{Cause, Mode, Modes},
        principal::Principal,
    },
    identity::Identity,
    intercept::{self, Intercept},
    policy::Policies,
    protocol::dns::{Answer, ErrorInfo, Query, Rcode, refuse, shorten, unusable_reply},
};
use allowance::{Allowances, Spent};
use owners::Listed;

/// Questions on their way at once; more are answered with SERVFAIL.
const IN_FLIGHT: usize = 1024;

/// What the proxy is told by the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How refusals are put.
    pub refuse_with: Refusal,
    /// After so long without an answer the server counts as dead.
    pub timeout: Duration,
    /// Questions that a workload may ask in a second, on average.
    pub queries_per_second: u32,
    /// Bytes of names that look as if they carried data, for each workload and domain.
    pub odd_bytes_per_minute: u32,
}

/// How a refusal is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// REFUSED: says what it is.
    Refused,
    /// NXDOMAIN: musl waits for its time-out after REFUSED.
    NxDomain,
}

/// The proxy.
pub struct Dns {
    intercept: Intercept,
    identity: Arc<Identity>,
    policies: Arc<Policies>,
    audit: AuditLog,
    settings: Settings,
    /// Which servers can be believed.
    pub trust: ArcSwap<Trust>,
    /// Names of targets; set whenever targets are.
    pub targets: ArcSwap<TargetNames>,
    /// What is done with what is refused; set whenever modes are.
    pub modes: ArcSwap<Modes>,
    /// What trusted servers answered.
    pub names: Names,
    /// Told of each captured cgroup that has learned a name of a target, before it hears the answer itself.
    pub on_learned: OnceLock<Box<dyn Fn(CgroupId) + Send + Sync>>,
    /// What has happened so far.
    pub counters: Counters,
    allowances: Allowances,
    in_flight: Semaphore,
}

/// Totals since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Questions that came.
    pub queries_total: AtomicU64,
    /// Of those, refused.
    pub refusals_total: AtomicU64,
}

/// Who asks, and for what, as far as it is known.
struct Question<'a> {
    flow: &'a Flow,
    /// `A api.github.com`.
    text: String,
    principal: Option<Arc<Principal>>,
    targets: Vec<TargetFacts>,
}

impl Question<'_> {
    fn event(&self, kind: EventKind, outcome: Outcome) -> AuditEvent {
        let only_target = match self.targets.as_slice() {
            [only] => Some(only.id()),
            _ => None,
        };
        AuditEvent {
            identity: self.principal.as_ref().map(|principal| principal.id()),
            cgroup: Some(self.flow.captured_cgroup),
            process: Some(format!("{} ({})", self.flow.pid, self.flow.comm)),
            target: only_target,
            destination: Some(self.flow.original_destination),
            text: self.text.clone(),
            ..AuditEvent::new(kind, outcome)
        }
    }
}

/// By which way a question came, and so how long an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

impl Dns {
    /// A proxy that knows no targets yet.
    pub fn new(
        intercept: Intercept,
        identity: Arc<Identity>,
        policies: Arc<Policies>,
        audit: AuditLog,
        settings: Settings,
        trust: Trust,
    ) -> Self {
        Self {
            intercept,
            identity,
            policies,
            audit,
            allowances: Allowances::new(settings.queries_per_second, settings.odd_bytes_per_minute),
            settings,
            trust: ArcSwap::from_pointee(trust),
            targets: ArcSwap::default(),
            modes: ArcSwap::default(),
            names: Names::default(),
            on_learned: OnceLock::new(),
            counters: Counters::default(),
            in_flight: Semaphore::new(IN_FLIGHT),
        }
    }

    /// Answers one datagram.
    pub async fn serve(&self, query: intercept::Query) {
        let intercept::Query { flow, bytes, reply } = query;
        if let Some(answer) = self.answer(&flow, &bytes, Transport::Udp).await {
            reply.send(&answer).await;
        }
    }

    /// Drops what is known of a cgroup that is captured no longer.
    pub fn forget(&self, cgroup: CgroupId) {
        self.names.forget(cgroup);
        self.allowances.forget(cgroup);
    }

    /// Drops what is known of cgroups that are gone.
    pub fn forget_vanished(&self) {
        let is_there = |cgroup| self.intercept.workload(cgroup).is_some();
        self.names.keep(is_there);
        self.allowances.keep(is_there);
    }

    /// The answer to one message; `None` where nobody waits for one.
    async fn answer(&self, flow: &Flow, message: &[u8], transport: Transport) -> Option<Vec<u8>> {
        self.counters.queries_total.fetch_add(1, Ordering::Relaxed);
        let query = match Query::read(message) {
            Ok(query) => query,
            Err(why) => {
                let reply = unusable_reply(message, why)?;
                let denial = refusal::malformed(&why.to_string());
                let question = Question { flow, text: String::new(), principal: None, targets: Vec::new() };
                return self.record_denial(&question, &denial).await.then_some(reply);
            }
        };
        let text = format!("{} {}", query.kind, query.name);
        let mut question = Question { flow, text, principal: None, targets: Vec::new() };
        match self.admit(&mut question, &query).await {
            Ok(policies) => {
                let mut event = question.event(EventKind::Resolve, Outcome::Allowed);
                event.policies = policies;
                Some(self.resolve(&question, &query, event, transport).await)
            }
            Err(refused) => Some(self.refuse(&question, &query, refused, transport).await),
        }
    }

    /// Refuses a question, or lets it pass and records what enforcing would have done.
    async fn refuse(
        &self,
        question: &Question<'_>,
        query: &Query,
        refused: Refused,
        transport: Transport,
    ) -> Vec<u8> {
        let Refused { denial, kept, cause } = refused;
        let mode = self.mode_of(question);
        if !mode.enforces() {
            let mut event = question.event(EventKind::Resolve, mode.outcome(cause));
            event.mode = Some(mode);
            event.policies = denial.policies;
            event.reason = denial.reason;
            return self.resolve(question, query, event, transport).await;
        }
        match kept {
            Kept::Yes if !self.record_denial(question, &denial).await => unrecorded(query),
            Kept::Yes | Kept::No => self.refused(query, &denial),
        }
    }

    fn mode_of(&self, question: &Question<'_>) -> Mode {
        let workload = self.intercept.workload(question.flow.captured_cgroup);
        let label = workload.as_ref().and_then(|workload| workload.label.as_deref());
        let modes = self.modes.load();
        // The strictest of the targets that have the name.
        let of_targets = question.targets.iter().map(|target| modes.of(label, Some(&target.name))).max();
        of_targets.unwrap_or_else(|| modes.of_label(label))
    }

    /// Whether the question may be asked.
    async fn admit(&self, question: &mut Question<'_>, query: &Query) -> Result<Vec<PolicyId>, Refused> {
        let flow = question.flow;
        let cgroup = flow.captured_cgroup;
        match self.allowances.ask(cgroup, Instant::now()) {
            Spent::Granted => {}
            Spent::Exhausted { first } => {
                let denial = refusal::too_many(self.settings.queries_per_second);
                // A flood is recorded once a second: the log is not for agents to fill.
                let kept = if first { Kept::Yes } else { Kept::No };
                return Err(Refused { kept, ..denial.into() });
            }
        }
        let workload = self.intercept.workload(cgroup).ok_or_else(refusal::unattributed)?;
        let name = query.name.text().ok_or_else(refusal::no_host_name)?;
        if query.kind.is_meta()
            || query.kind.is_private()
            || query.kind == crate::protocol::dns::RecordKind::NULL
        {
            return Err(refusal::record_kind(query.kind).into());
        }
        let principal = self.identity.principal_for(flow).await.map_err(|error| Refused {
            cause: Cause::Unclear,
            ..refusal::identity(&error.to_string()).into()
        })?;
        question.principal = Some(Arc::clone(&principal));
        let (targets, listed) = self.targets.load().of(&name);
        question.targets = targets;
        let policies = self.judge(question, query, &name, &workload, &principal)?;
        // Names of targets are the operator's own: nothing is hidden in them.
        if listed == Listed::ByNobody
            && let Spent::Exhausted { .. } = self.allowances.name(cgroup, &name, query.kind, Instant::now())
        {
            return Err(refusal::odd_names(oddness::domain_of(&name)).into());
        }
        Ok(policies)
    }

    fn judge(
        &self,
        question: &Question<'_>,
        query: &Query,
        name: &str,
        workload: &Workload,
        principal: &Principal,
    ) -> Result<Vec<PolicyId>, Refused> {
        let server = question.flow.original_destination.ip();
        let lookup = Lookup {
            name,
            kind: &query.kind.to_string(),
            server,
            trust: self.trust.load().of(&self.intercept, question.flow.netns, server),
            targets: &question.targets,
        };
        match self.policies.decide_lookup(principal, workload, &lookup) {
            Decision::Allow { policies, .. } => Ok(policies),
            Decision::Deny(denial) => Err(denial.into()),
        }
    }

    /// Records the question, asks the server, and remembers what a trusted one says.
    async fn resolve(
        &self,
        question: &Question<'_>,
        query: &Query,
        event: AuditEvent,
        transport: Transport,
    ) -> Vec<u8> {
        if let Err(error) = self.audit.append(vec![event]).await {
            tracing::error!(%error, "a DNS query could not be recorded, so it is not forwarded");
            return unrecorded(query);
        }
        let Ok(_place) = self.in_flight.try_acquire() else {
            return refuse(query, Rcode::ServFail, ErrorInfo::Other("too many questions are on their way"));
        };
        let started = Instant::now();
        let asked = self.ask(question.flow, query, transport).await;
        let mut event = question.event(EventKind::Completion, Outcome::Noted);
        event.duration_us = u64::try_from(started.elapsed().as_micros()).ok();
        let message = match asked {
            Ok(answer) => {
                event.reason = said(&answer);
                self.learn(question, query, &answer);
                match transport {
                    Transport::Udp if answer.length_bytes() > query.longest_answer_bytes() => {
                        shorten(query, &answer)
                    }
                    Transport::Udp | Transport::Tcp => answer.into_message(query),
                }
            }
            Err(error) => {
                let reason = format!("{} does not answer: {error}", question.flow.original_destination);
                let message = refuse(query, Rcode::ServFail, ErrorInfo::Unreachable(&reason));
                event.reason = reason;
                message
            }
        };
        if let Err(error) = self.audit.note(event) {
            tracing::debug!(%error, "the end of a DNS query could not be recorded");
        }
        message
    }

    fn learn(&self, question: &Question<'_>, query: &Query, answer: &Answer) {
        use crate::domain::action::ServerTrust;
        let flow = question.flow;
        let trust = self.trust.load().of(&self.intercept, flow.netns, flow.original_destination.ip());
        if trust == ServerTrust::Trusted
            && let Some(name) = query.name.text()
        {
            let found = answer.addresses.iter().map(|found| (found.address, found.ttl));
            self.names.learn(flow.captured_cgroup, &name, found, Instant::now());
            if !question.targets.is_empty()
                && let Some(tell) = self.on_learned.get()
            {
                tell(flow.captured_cgroup);
            }
        }
    }

    fn refused(&self, query: &Query, denial: &Denial) -> Vec<u8> {
        let rcode = match self.settings.refuse_with {
            Refusal::Refused => Rcode::Refused,
            Refusal::NxDomain => Rcode::NxDomain,
        };
        let policy = denial.policies.first().map(ToString::to_string).unwrap_or_default();
        let mut text = format!("{} [{policy}]", denial.reason);
        if let Some(hint) = &denial.hint {
            text.push(' ');
            text.push_str(hint);
        }
        // A rule of the operator's blocks the name; all else is about who asks.
        let info = if policy.starts_with("builtin/") {
            ErrorInfo::Prohibited(&text)
        } else {
            ErrorInfo::Blocked(&text)
        };
        refuse(query, rcode, info)
    }

    /// Whether the refusal is on disk.
    async fn record_denial(&self, question: &Question<'_>, denial: &Denial) -> bool {
        self.counters.refusals_total.fetch_add(1, Ordering::Relaxed);
        let mut event = question.event(EventKind::Resolve, Outcome::Denied);
        event.policies.clone_from(&denial.policies);
        event.reason.clone_from(&denial.reason);
        let recorded = self.audit.append(vec![event]).await;
        if let Err(error) = &recorded {
            tracing::error!(%error, "a refused DNS query could not be recorded");
        }
        recorded.is_ok()
    }
}

/// A question that is not asked.
struct Refused {
    denial: Denial,
    kept: Kept,
    cause: Cause,
}

/// Whether a refusal goes into the log.
enum Kept {
    /// It does.
    Yes,
    /// The log has enough of its kind.
    No,
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        Self { denial, kept: Kept::Yes, cause: Cause::Refusal }
    }
}

fn unrecorded(query: &Query) -> Vec<u8> {
    refuse(query, Rcode::ServFail, ErrorInfo::Other("nodegate cannot record the question"))
}

/// An answer in one line.
fn said(answer: &Answer) -> String {
    let mut text = answer.status();
    for (index, found) in answer.addresses.iter().take(8).enumerate() {
        text.push_str(if index == 0 { ": " } else { ", " });
        text.push_str(&found.address.to_string());
    }
    text
}
