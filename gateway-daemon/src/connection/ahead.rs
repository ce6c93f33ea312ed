//! What the kernel is told ahead of time: which connections it lets go direct (`inspect: none`), and in which captured
//! cgroups its refusals are only reported. Settled anew every few seconds and whenever policies, targets, modes,
//! identities or captures change; a grant that is not stood by again holds for little longer than that.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::{Notify, mpsc};

use super::Gateway;
use crate::{
    domain::{
        action::{Action, TargetFacts},
        decision::Decision,
        event::{AuditEvent, EventKind, Outcome},
        flow::Workload,
        ids::{CgroupId, PolicyId, TargetName},
        principal::Principal,
    },
    intercept::{DirectFlow, Grant, Leave},
};

/// A decision is taken anew after so long: policies may look at the clock.
const DECIDED: Duration = Duration::from_secs(10);
/// Decisions that are remembered for flows that are reported late.
const REMEMBERED: usize = 4096;
/// Flows that are recorded together.
const TOGETHER: usize = 256;

/// A destination of a target that goes direct, or an exception to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub address: IpAddr,
    pub prefix: u8,
    pub port: u16,
}

/// What was settled, and by which decisions.
#[derive(Debug, Default)]
pub struct Ahead {
    book: Mutex<Book>,
    bell: Notify,
    /// A direct flow could not be recorded: no more of them.
    unrecorded: AtomicBool,
}

#[derive(Debug, Default)]
struct Book {
    next: u32,
    current: HashMap<(CgroupId, TargetName), Decided>,
    by_number: HashMap<u32, Arc<Origin>>,
    numbers: VecDeque<u32>,
    /// Whether the kernel holds anything of ours.
    told: bool,
}

/// A permission to connect, as it was decided last.
#[derive(Debug, Clone)]
struct Decided {
    epoch: u64,
    principal: Arc<Principal>,
    at: Instant,
    /// The number of the permission; `None` where it was denied.
    number: Option<u32>,
}

/// What is recorded of a flow that makes use of a grant.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    identity: String,
    target: TargetName,
    policies: Vec<PolicyId>,
}

impl Ahead {
    /// Asks for everything to be settled anew, soon.
    pub fn ring(&self) {
        self.bell.notify_one();
    }
}

impl Book {
    /// A number for this origin: the one that it had, if that is remembered. Numbers of different daemons on one boot do
    /// not meet.
    fn number(&mut self, origin: Origin, before: Option<u32>) -> u32 {
        if let Some(number) = before
            && self.by_number.get(&number).is_some_and(|known| **known == origin)
        {
            return number;
        }
        if self.next == 0 {
            let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            self.next = u32::try_from(started & 0xf_ffff).unwrap_or_default() << 12 | 1;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1).max(1);
        self.by_number.insert(number, Arc::new(origin));
        self.numbers.push_back(number);
        if self.numbers.len() > REMEMBERED
            && let Some(oldest) = self.numbers.pop_front()
        {
            self.by_number.remove(&oldest);
        }
        number
    }
}

impl Gateway {
    /// Settles everything as things stand now. What does not hold any more does not when this returns.
    pub fn settle_ahead(&self) {
        let mut book = self.ahead.book.lock().unwrap_or_else(PoisonError::into_inner);
        let workloads = self.intercept.workloads();
        let leaves = self.leaves(&workloads);
        let grants = self.grants(&workloads, &mut book);
        let tells = !leaves.is_empty() || !grants.is_empty();
        if !tells && !book.told {
            return;
        }
        book.told = tells;
        if let Err(error) = self.intercept.leave(&leaves) {
            tracing::error!(%error, "the kernel cannot be told where refusals are only reported");
        }
        if let Err(error) = self.intercept.grant(&grants) {
            // What it holds ends by itself within seconds.
            tracing::error!(%error, "the kernel cannot be told what goes direct");
        }
    }

    /// Settles for as long as the daemon runs. What the kernel was told holds for 12 s after the last time, unless the
    /// identity expires before.
    pub async fn keep_settled(&self) {
        loop {
            self.settle_ahead();
            tokio::select! {
                () = self.ahead.bell.notified() => {}
                () = self.intercept.round() => {}
            }
        }
    }

    fn leaves(&self, workloads: &[Workload]) -> HashMap<CgroupId, Leave> {
        let modes = self.modes.load();
        workloads
            .iter()
            .filter(|workload| !modes.of_label(workload.label.as_deref()).enforces())
            .map(|workload| {
                let strict = modes.enforces_anything(workload.label.as_deref());
                (workload.cgroup, if strict { Leave::Sockets } else { Leave::Everything })
            })
            .collect()
    }

    fn grants(&self, workloads: &[Workload], book: &mut Book) -> Vec<Grant> {
        let targets = self.targets.load();
        let mut grants = Vec::new();
        if self.ahead.unrecorded.load(Ordering::Acquire) {
            return grants;
        }
        let mut decided = HashMap::new();
        for (facts, places, exceptions) in targets.direct() {
            for workload in workloads {
                let Some(principal) = self.identity.known(workload.cgroup) else { continue };
                if !self.identity.is_current(&principal) {
                    continue;
                }
                let until = principal.expires_at;
                let key = (workload.cgroup, facts.id());
                let decision =
                    self.decided(book.current.get(&key).cloned(), facts, workload, principal, book);
                let number = decision.number;
                decided.insert(key, decision);
                let Some(number) = number else { continue };
                // The daemon's own port is never reached past the daemon, whatever the address.
                let own = |place: &&Place| self.own_door.is_none_or(|own| own.port() != place.port);
                let grant = |place: &Place, until| Grant {
                    cgroup: workload.cgroup,
                    address: place.address,
                    prefix: place.prefix,
                    port: place.port,
                    until,
                    number,
                };
                grants.extend(places.iter().filter(own).map(|place| grant(place, until)));
                // A narrower one that has ended already sends its addresses to the daemon.
                grants.extend(exceptions.iter().map(|place| grant(place, UNIX_EPOCH)));
            }
        }
        book.current = decided;
        grants
    }

    fn decided(
        &self,
        before: Option<Decided>,
        facts: &TargetFacts,
        workload: &Workload,
        principal: Arc<Principal>,
        book: &mut Book,
    ) -> Decided {
        let epoch = self.policies.epoch();
        let still = |decided: &Decided| {
            decided.epoch == epoch
                && Arc::ptr_eq(&decided.principal, &principal)
                && decided.at.elapsed() < DECIDED
        };
        let before = match before {
            Some(decided) if still(&decided) => return decided,
            before => before.and_then(|decided| decided.number),
        };
        let number = match self.policies.decide(&principal, workload, facts, Action::Connect) {
            Decision::Allow { policies, .. } => {
                let origin = Origin { identity: principal.id(), target: facts.id(), policies };
                Some(book.number(origin, before))
            }
            Decision::Deny(_) => None,
        };
        Decided { epoch, principal, at: Instant::now(), number }
    }

    /// Records what went direct. When that fails, nothing goes direct any more.
    pub async fn record_direct(&self, mut flows: mpsc::Receiver<DirectFlow>) {
        let mut together = Vec::with_capacity(TOGETHER);
        while flows.recv_many(&mut together, TOGETHER).await > 0 {
            let count = u64::try_from(together.len()).unwrap_or(u64::MAX);
            self.counters.flows_total.fetch_add(count, Ordering::Relaxed);
            self.counters.direct_total.fetch_add(count, Ordering::Relaxed);
            let events = together.drain(..).map(|flow| self.direct_event(&flow)).collect();
            if let Err(error) = self.ledger.log().append(events).await {
                tracing::error!(%error, "direct connections could not be recorded: no more of them");
                self.ahead.unrecorded.store(true, Ordering::Release);
                self.settle_ahead();
            }
        }
    }

    fn direct_event(&self, flow: &DirectFlow) -> AuditEvent {
        let book = self.ahead.book.lock().unwrap_or_else(PoisonError::into_inner);
        let origin = book.by_number.get(&flow.grant).cloned();
        drop(book);
        let mut event = AuditEvent::new(EventKind::Connect, Outcome::Allowed);
        event.cgroup = Some(flow.captured_cgroup);
        event.process = Some(format!("{} ({})", flow.pid, flow.comm));
        event.destination = Some(flow.destination);
        "went direct from the kernel, without being looked into".clone_into(&mut event.reason);
        match origin {
            Some(origin) => {
                event.identity = Some(origin.identity.clone());
                event.target = Some(origin.target.clone());
                event.policies.clone_from(&origin.policies);
            }
            None => event.reason.push_str("; by a grant of the daemon before this one"),
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::{Book, Origin, REMEMBERED, TargetName};

    #[test]
    fn numbers_find_their_origin_until_there_are_too_many() {
        let mut book = Book::default();
        let origin = |identity: &str| Origin {
            identity: identity.to_owned(),
            target: TargetName::from("cache"),
            policies: Vec::new(),
        };
        let first = book.number(origin("first"), None);
        assert_eq!(book.by_number.get(&first).map(|origin| origin.identity.as_str()), Some("first"));
        for _ in 0..REMEMBERED {
            book.number(origin("later"), None);
        }
        assert!(!book.by_number.contains_key(&first));
        assert_eq!(book.by_number.len(), REMEMBERED);
        assert_ne!(book.number(origin("first"), Some(first)), first, "it stands for nothing any more");
    }

    #[test]
    fn what_is_decided_anew_and_alike_keeps_its_number() {
        let mut book = Book::default();
        let origin = |policy: &str| Origin {
            identity: "agent".to_owned(),
            target: TargetName::from("cache"),
            policies: vec![policy.into()],
        };
        let first = book.number(origin("one"), None);
        assert_eq!(book.number(origin("one"), Some(first)), first);
        assert_ne!(book.number(origin("another"), Some(first)), first);
    }
}
