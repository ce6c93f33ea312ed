//! How many events of which kind were recorded, for metrics. Everything that is decided is recorded, so this counts it
//! all in one place. Statements cost one atomic addition; connections and refusals, which are far fewer, a lock.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::domain::event::{AuditEvent, EventKind, Outcome};

/// Rules that are counted by name; those beyond count as one. Policies are an operator's, but nobody bounds them.
const RULES: usize = 1000;
/// What stands for the rules beyond.
const OTHER_RULES: &str = "other";

const OUTCOMES: [Outcome; 4] = [Outcome::Allowed, Outcome::Denied, Outcome::Noted, Outcome::WouldDeny];

/// Totals since the log was opened.
#[derive(Debug, Default)]
pub struct Tally {
    requests: [AtomicU64; OUTCOMES.len()],
    rare: Mutex<Rare>,
}

#[derive(Debug, Default)]
struct Rare {
    flows: BTreeMap<(String, &'static str), u64>,
    refusals: BTreeMap<(String, &'static str), u64>,
}

impl Tally {
    /// Counts events that are about to be recorded.
    pub(super) fn count(&self, events: &[AuditEvent]) {
        for event in events {
            if event.kind == EventKind::Request {
                let index = OUTCOMES.iter().position(|outcome| *outcome == event.outcome);
                if let Some(counter) = index.and_then(|index| self.requests.get(index)) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
            if matches!(event.outcome, Outcome::Denied | Outcome::WouldDeny) {
                let rule = event.policies.first().map_or("", |policy| policy.as_str());
                // What the kernel side refused names no rule.
                let rule =
                    if rule.is_empty() && event.kind == EventKind::KernelRefusal { "kernel" } else { rule };
                let mut key = (rule.to_owned(), outcome_name(event.outcome));
                let mut rare = self.rare();
                if rare.refusals.len() >= RULES && !rare.refusals.contains_key(&key) {
                    OTHER_RULES.clone_into(&mut key.0);
                }
                *rare.refusals.entry(key).or_default() += 1;
            }
            if event.kind == EventKind::Connect {
                let target = event.target.as_ref().map_or("", |target| target.as_str()).to_owned();
                *self.rare().flows.entry((target, outcome_name(event.outcome))).or_default() += 1;
            }
        }
    }

    /// Requests by outcome.
    pub fn requests(&self) -> Vec<(&'static str, u64)> {
        let counts = OUTCOMES.iter().zip(&self.requests);
        counts.map(|(outcome, count)| (outcome_name(*outcome), count.load(Ordering::Relaxed))).collect()
    }

    /// Flows by target, empty where there was none, and outcome.
    pub fn flows(&self) -> BTreeMap<(String, &'static str), u64> {
        self.rare().flows.clone()
    }

    /// Refusals, also those that were only noted as such, by the rule that comes first in the record, and outcome.
    pub fn refusals(&self) -> BTreeMap<(String, &'static str), u64> {
        self.rare().refusals.clone()
    }

    fn rare(&self) -> MutexGuard<'_, Rare> {
        // A panic while the maps were held cannot leave them half changed: every change is one call.
        self.rare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Allowed => "allowed",
        Outcome::Denied => "denied",
        Outcome::Noted => "noted",
        Outcome::WouldDeny => "would_deny",
    }
}

#[cfg(test)]
mod tests {
    use super::{AuditEvent, EventKind, Outcome, RULES, Tally};
    use crate::domain::ids::{PolicyId, TargetName};

    #[test]
    fn requests_flows_and_refusals_are_counted_by_what_they_are() {
        let tally = Tally::default();
        let mut refused = AuditEvent::new(EventKind::Connect, Outcome::Denied);
        refused.target = Some(TargetName::from("shop"));
        refused.policies = vec![PolicyId::from("no-drop"), PolicyId::from("other")];
        tally.count(&[AuditEvent::new(EventKind::Request, Outcome::Allowed), refused]);
        assert!(tally.requests().contains(&("allowed", 1)));
        assert_eq!(tally.flows().get(&("shop".to_owned(), "denied")), Some(&1));
        assert_eq!(tally.refusals().get(&("no-drop".to_owned(), "denied")), Some(&1));
    }

    #[test]
    fn the_names_of_rules_are_bounded() {
        let tally = Tally::default();
        for number in 0..RULES + 50 {
            let mut event = AuditEvent::new(EventKind::Request, Outcome::Denied);
            event.policies = vec![PolicyId::from(format!("rule-{number}").as_str())];
            tally.count(&[event]);
        }
        let refusals = tally.refusals();
        assert_eq!(refusals.len(), RULES + 1);
        assert_eq!(refusals.get(&("other".to_owned(), "denied")), Some(&50));
    }
}
