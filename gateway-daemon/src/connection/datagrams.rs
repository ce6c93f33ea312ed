//! Datagrams: which destinations policy opens to which captured cgroup, kept up to date in the kernel, and the record of
//! what made use of it. The kernel refuses at once what is not open, so a destination is opened before it is asked
//! for: when an identity is enrolled, when a name is answered, when policies, targets or addresses change. What comes
//! before all of these is refused once, and that opens it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use super::Gateway;
use crate::{
    config::checked::Host,
    domain::{
        action::Action,
        decision::Decision,
        event::{AuditEvent, EventKind, Outcome},
        flow::Workload,
        ids::CgroupId,
        mode::Cause,
        principal::Principal,
    },
    intercept::{DatagramFlow, KernelRefusal, Passage, Reach, RefusalReason},
};

/// Where nothing is enforced everything is open, for so long; it is renewed long before.
const UNENFORCED: Duration = Duration::from_mins(10);

/// What was last opened to whom, so that the kernel is only told of changes.
#[derive(Debug, Default)]
pub struct Opened(Mutex<HashMap<CgroupId, Open>>);

/// What is open to a cgroup, and who was behind it: the kernel's word of what was sent may come when the cgroup is gone.
#[derive(Debug)]
struct Open {
    passages: Vec<Passage>,
    workload: Workload,
    principal: Option<Arc<Principal>>,
}

impl Gateway {
    /// Opens anew, to every captured cgroup, what it may send datagrams to.
    pub fn open_all_datagrams(&self) {
        let workloads = self.intercept.workloads();
        let is_there = |cgroup| workloads.iter().any(|workload| workload.cgroup == cgroup);
        self.opened.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|cgroup, _| is_there(*cgroup));
        for workload in &workloads {
            self.open_datagrams(workload);
        }
    }

    /// Opens to a workload what it may send datagrams to, and closes everything else to it.
    pub fn open_datagrams(&self, workload: &Workload) {
        let open = self.passages_of(workload);
        let mut opened = self.opened.0.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.get(&workload.cgroup).is_some_and(|before| before.passages == open) {
            return;
        }
        match self.intercept.set_passages(workload.cgroup, &open) {
            Ok(()) => {
                let principal = self.identity.known(workload.cgroup);
                let open = Open { passages: open, workload: workload.clone(), principal };
                drop(opened.insert(workload.cgroup, open));
            }
            Err(error) => {
                // Told again at the next occasion.
                opened.remove(&workload.cgroup);
                tracing::error!(cgroup = %workload.cgroup, %error, "cannot open destinations to datagrams");
            }
        }
    }

    fn passages_of(&self, workload: &Workload) -> Vec<Passage> {
        let modes = self.modes.load();
        let label = workload.label.as_deref();
        if !modes.enforces_anything(label) {
            // Whole minutes, so that what is opened changes seldom.
            let until = SystemTime::now() + UNENFORCED;
            let since = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            let until = SystemTime::UNIX_EPOCH + Duration::from_secs(since - since % 60);
            return vec![Passage { to: Reach::Everything, until }];
        }
        let targets = self.targets.load();
        if targets.datagrams().is_empty() {
            return Vec::new();
        }
        let Some(principal) = self.identity.known(workload.cgroup) else { return Vec::new() };
        if !self.identity.is_current(&principal) {
            return Vec::new();
        }
        let mut open = Vec::new();
        for target in targets.datagrams() {
            let enforced = modes.of(label, Some(&target.config.facts.name)).enforces();
            if enforced && !self.may_send(&principal, workload, target) {
                continue;
            }
            for port in &target.config.ports {
                let mut add = |address, prefix| {
                    let to = Reach::Network { address, prefix, port: *port };
                    open.push(Passage { to, until: principal.expires_at });
                };
                for cidr in &target.config.cidrs {
                    add(cidr.network(), cidr.prefix());
                }
                let literal = target.config.hosts.iter().filter_map(|host| match host {
                    Host::Address(address) => Some(*address),
                    Host::Name(_) | Host::Below(_) | Host::Any => None,
                });
                let asked = target
                    .config
                    .host_names()
                    .flat_map(|name| self.dns.names.addresses(workload.cgroup, name, Instant::now()));
                for address in literal.chain(target.resolved.iter().copied()).chain(asked) {
                    add(address, if address.is_ipv4() { 32 } else { 128 });
                }
            }
        }
        open.sort_unstable_by_key(|passage| passage.to);
        open.dedup();
        open
    }

    fn may_send(
        &self,
        principal: &Principal,
        workload: &Workload,
        target: &super::targets::DatagramTarget,
    ) -> bool {
        let decision = self.policies.decide(principal, workload, &target.config.facts, Action::Connect);
        matches!(decision, Decision::Allow { .. })
    }

    /// A datagram was refused: perhaps only because nobody had asked yet who sends it.
    pub async fn reconsider_datagram(&self, refusal: KernelRefusal) {
        let Some(cgroup) = refusal.captured_cgroup.filter(|_| refusal.reason == RefusalReason::Datagram)
        else {
            return;
        };
        if self.targets.load().datagrams().is_empty() {
            return;
        }
        let Some(workload) = self.intercept.workload(cgroup) else { return };
        if self.identity.principal_for(&refusal.flow()).await.is_ok() {
            self.open_datagrams(&workload);
        }
    }

    /// Records a flow of datagrams that the kernel let pass. What cannot be recorded is closed.
    pub async fn record_datagram(&self, flow: DatagramFlow) {
        let (mut workload, mut principal) =
            (self.intercept.workload(flow.captured_cgroup), self.identity.known(flow.captured_cgroup));
        if workload.is_none() || principal.is_none() {
            let opened = self.opened.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(open) = opened.get(&flow.captured_cgroup) {
                workload = workload.or_else(|| Some(open.workload.clone()));
                principal = principal.or_else(|| open.principal.clone());
            }
        }
        let asked = self.dns.names.of(flow.captured_cgroup, flow.destination.ip(), Instant::now());
        let targets = self.targets.load();
        let target = targets.find_datagrams(flow.destination, &asked);
        let label = workload.as_ref().and_then(|workload| workload.label.as_deref());
        let mode = self.modes.load().of(label, target.map(|target| target.config.facts.name.as_str()));
        let decision = match (&workload, &principal, target) {
            (Some(workload), Some(principal), Some(target)) => {
                Some(self.policies.decide(principal, workload, &target.config.facts, Action::Connect))
            }
            _ => None,
        };
        let (outcome, policies) = match decision {
            Some(Decision::Allow { policies, .. }) => (Outcome::Allowed, policies),
            Some(Decision::Deny(denial)) => (would(mode, Cause::Refusal), denial.policies),
            None => (would(mode, Cause::Refusal), Vec::new()),
        };
        let event = AuditEvent {
            identity: principal.map(|principal| principal.id()),
            cgroup: Some(flow.captured_cgroup),
            process: Some(format!("{} ({})", flow.pid, flow.comm)),
            target: target.map(|target| target.config.facts.id()),
            destination: Some(flow.destination),
            policies,
            reason: "datagrams".to_owned(),
            mode: (!mode.enforces()).then_some(mode),
            ..AuditEvent::new(EventKind::Connect, outcome)
        };
        drop(targets);
        if let Err(error) = self.ledger.write(event).await {
            tracing::error!(%error, "datagrams could not be recorded: their destinations are closed");
            self.opened.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&flow.captured_cgroup);
            if let Err(error) = self.intercept.set_passages(flow.captured_cgroup, &[]) {
                tracing::error!(%error, "and cannot be closed");
            }
        }
    }
}

/// What was let pass while it was open, and would not be any more, was allowed all the same.
fn would(mode: crate::domain::mode::Mode, cause: Cause) -> Outcome {
    if mode.enforces() { Outcome::Allowed } else { mode.outcome(cause) }
}
