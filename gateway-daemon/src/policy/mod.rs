//! Policy: Cedar rules loaded from files, one decision for every request.
//!
//! Default deny, a forbid wins, and *any* error while a rule is evaluated denies: Cedar itself would skip an
//! erring forbid. Masks and messages are annotations on rules (`rules.rs`). Speed comes from two places: only
//! rules whose scope holds are evaluated (`slice.rs`), and decisions are cached for as long as the same rules
//! are loaded (`state.rs`). No rule can see a clock, so a cached decision does not age.
//!
//! Knows nothing of SQL text, of sockets or of who verified the principal.

mod annotations;
mod cache;
mod conditions;
mod entity;
mod error;
mod explain;
mod http;
mod judge;
mod plan;
mod question;
mod rules;
mod slice;
mod source;
mod state;
mod unread;
mod verdict;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod proptests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use serde::Serialize;

pub use entity::{column_id, escape, schema_id, table_id};
pub use error::{Place, PolicyError, Problem};
pub use explain::{Answer, Explanation, Outcome, RuleError, RuleRef};
pub use source::{Origin, Source};
pub use verdict::{DEFAULT_DENY, POLICY_ERROR};

use crate::domain::{
    action::{Action, Lookup, TargetFacts},
    catalogue::Catalogue,
    decision::{Decision, MaskPlan},
    flow::Workload,
    http::HttpRequest,
    principal::Principal,
    statement::{ColumnName, ColumnUse, SessionEffect, Statement},
};
use state::{Identity, KnownDecision, KnownPlan, State};

/// The Cedar schema that every policy is validated against.
pub const SCHEMA: &str = include_str!("../../../policies/schema.cedarschema");

/// Statements that touch more than this are judged anew each time, so that the cache stays small.
const MAX_CACHED_ACCESSES: usize = 512;

/// The rules in force. Decisions come from one consistent set; `reload` swaps it as a whole.
#[derive(Debug)]
pub struct Policies {
    origins: Vec<Origin>,
    issuers: Vec<String>,
    state: ArcSwap<State>,
    /// One reload at a time.
    reloading: Mutex<()>,
}

/// What a reload brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// The epoch now in force.
    pub epoch: u64,
    /// How many policies it has.
    pub policies: usize,
    /// Whether anything differs from before; if not, the epoch is the old one.
    pub changed: bool,
    /// Doubtful, but not refused.
    pub warnings: Vec<Problem>,
}

impl Policies {
    /// Loads every `*.cedar` below `dir`. `issuers` are the names of the configured issuers: with exactly one,
    /// its groups and roles have their plain names in policies as well.
    pub fn load<S: AsRef<str>>(dir: &Path, issuers: &[S]) -> Result<Self, PolicyError> {
        Self::load_all(vec![Origin::Path(dir.to_owned())], issuers)
    }

    /// The same, from several places at once.
    pub fn load_all<S: AsRef<str>>(origins: Vec<Origin>, issuers: &[S]) -> Result<Self, PolicyError> {
        let issuers: Vec<String> = issuers.iter().map(|issuer| issuer.as_ref().to_owned()).collect();
        let set = rules::check(&Origin::read_all(&origins)?)?;
        let state = State::new(set, &issuers)?;
        Ok(Self { origins, issuers, state: ArcSwap::from_pointee(state), reloading: Mutex::new(()) })
    }

    /// Reads the files again. If they are wrong, the old rules stay in force and the error says why.
    pub fn reload(&self) -> Result<Reloaded, PolicyError> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let sources = Origin::read_all(&self.origins)?;
        let changed = rules::fingerprint(&sources) != self.state.load().set.fingerprint;
        if changed {
            let state = State::new(rules::check(&sources)?, &self.issuers)?;
            self.state.store(Arc::new(state));
        }
        let state = self.state.load();
        Ok(Reloaded {
            epoch: state.epoch,
            policies: state.set.rules.len(),
            changed,
            warnings: state.set.warnings.clone(),
        })
    }

    /// Whether some rule limits how many rows are changed.
    pub fn limit_rows(&self) -> bool {
        self.state.load().set.rules.iter().any(|rule| rule.max_rows.is_some())
    }

    /// Changes whenever other rules are in force; unique within this run of the program.
    pub fn epoch(&self) -> u64 {
        self.state.load().epoch
    }

    /// How many rules are in force.
    pub fn count(&self) -> usize {
        self.state.load().set.rules.len()
    }

    /// What was doubtful about the rules in force.
    pub fn warnings(&self) -> Vec<Problem> {
        self.state.load().set.warnings.clone()
    }

    /// Warns of rules that name targets which are not among `targets`.
    pub fn unknown_targets(&self, targets: &[String]) -> Vec<Problem> {
        self.state.load().set.unknown_targets(targets)
    }

    /// May `principal`, working as `workload`, do this at `target`? A statement asks for every pair of action
    /// and resource that it touches; one that is denied denies all. No statements at all are allowed: there is
    /// nothing to run.
    pub fn decide(
        &self,
        principal: &Principal,
        workload: &Workload,
        target: &TargetFacts,
        action: Action<'_>,
    ) -> Decision {
        let state = self.state.load();
        let statements = match action {
            Action::Connect => None,
            Action::Sql(statements) => Some(statements),
        };
        let hash = state.hash(principal, workload, &target.name, statements);
        let known = state.decisions.find(hash, |known| {
            known.identity.is(principal, workload)
                && known.target == target.name
                && known.statements.as_deref() == statements
                && same_tags(&state, &known.tags, target, statements)
        });
        if let Some(known) = known {
            return known.decision.clone();
        }
        let decision = decide(&state, principal, workload, target, action, None);
        if statements.is_none_or(|statements| accesses(statements) <= MAX_CACHED_ACCESSES) {
            state.decisions.insert(
                hash,
                Arc::new(KnownDecision {
                    identity: Identity::of(principal, workload),
                    target: target.name.clone(),
                    tags: asked_tags(
                        &state,
                        target,
                        statements.unwrap_or_default(),
                        Option::<&BTreeSet<String>>::cloned,
                    ),
                    statements: statements.map(<[Statement]>::to_vec),
                    decision: decision.clone(),
                }),
            );
        }
        decision
    }

    /// The same decision, with every question that led to it.
    pub fn explain(
        &self,
        principal: &Principal,
        workload: &Workload,
        target: &TargetFacts,
        action: Action<'_>,
    ) -> Explanation {
        let mut answers = Vec::new();
        let decision = decide(&self.state.load(), principal, workload, target, action, Some(&mut answers));
        Explanation { decision, answers }
    }

    /// May `principal`, working as `workload`, ask this of the DNS?
    pub fn decide_lookup(&self, principal: &Principal, workload: &Workload, lookup: &Lookup<'_>) -> Decision {
        let state = self.state.load();
        let asker = state.asker(principal, workload);
        judge::judge_lookup(&state, asker.as_ref().map_err(Clone::clone), lookup, None)
    }

    /// The same decision, with every question that led to it.
    pub fn explain_lookup(
        &self,
        principal: &Principal,
        workload: &Workload,
        lookup: &Lookup<'_>,
    ) -> Explanation {
        let state = self.state.load();
        let asker = state.asker(principal, workload);
        let mut answers = Vec::new();
        let decision =
            judge::judge_lookup(&state, asker.as_ref().map_err(Clone::clone), lookup, Some(&mut answers));
        Explanation { decision, answers }
    }

    /// May `principal`, working as `workload`, put this request to `target`?
    pub fn decide_request(
        &self,
        principal: &Principal,
        workload: &Workload,
        target: &TargetFacts,
        request: &HttpRequest<'_>,
    ) -> Decision {
        http::decide(&self.state.load(), principal, workload, target, request)
    }

    /// The same decision, with every question that led to it.
    pub fn explain_request(
        &self,
        principal: &Principal,
        workload: &Workload,
        target: &TargetFacts,
        request: &HttpRequest<'_>,
    ) -> Explanation {
        let (decision, answers) = http::explain(&self.state.load(), principal, workload, target, request);
        Explanation { decision, answers }
    }

    /// Every column of `target` that this agent may see masked or not at all: those of `catalogue` and those
    /// that bear a tag. Columns that a rule forbids to read have `null`; columns that no rule mentions are absent,
    /// permitted or not. For values whose origin cannot be traced, and to know whether error texts need
    /// scrubbing. Ask once a session, and again when the epoch changes.
    pub fn masks_for(
        &self,
        principal: &Principal,
        workload: &Workload,
        target: &TargetFacts,
        catalogue: &Catalogue,
    ) -> Arc<MaskPlan> {
        let state = self.state.load();
        let hash = state.hash(principal, workload, &target.name, None);
        let known = state.plans.find(hash, |known| {
            known.catalogue_epoch == catalogue.epoch
                && known.identity.is(principal, workload)
                && known.target == *target
        });
        if let Some(known) = known {
            return Arc::clone(&known.plan);
        }
        let asker = state.asker(principal, workload).ok();
        let plan = Arc::new(state.plan(asker.as_deref(), target, catalogue));
        state.plans.insert(
            hash,
            Arc::new(KnownPlan {
                identity: Identity::of(principal, workload),
                target: target.clone(),
                catalogue_epoch: catalogue.epoch,
                plan: Arc::clone(&plan),
            }),
        );
        plan
    }
}

fn decide(
    state: &State,
    principal: &Principal,
    workload: &Workload,
    target: &TargetFacts,
    action: Action<'_>,
    answers: Option<&mut Vec<Answer>>,
) -> Decision {
    let asker = state.asker(principal, workload);
    judge::judge(state, asker.as_ref().map_err(Clone::clone), target, action, answers)
}

/// Every statement, those behind PREPARE included.
fn every(statements: &[Statement]) -> impl Iterator<Item = &Statement> {
    statements
        .iter()
        .flat_map(|statement| std::iter::successors(Some(statement), |statement| prepared(statement)))
}

/// The statement behind PREPARE … AS.
fn prepared(statement: &Statement) -> Option<&Statement> {
    match &statement.session_effect {
        SessionEffect::Prepare { statement, .. } => Some(statement),
        SessionEffect::None | SessionEffect::Execute { .. } | SessionEffect::Deallocate { .. } => None,
    }
}

/// The columns that policies have a say on, in order.
fn asked(statements: &[Statement], speaks_of_writing: bool) -> impl Iterator<Item = &ColumnName> {
    every(statements)
        .flat_map(|statement| &statement.columns)
        .filter(move |access| speaks_of_writing || access.usage != ColumnUse::Written)
        .map(|access| &access.column)
}

/// The tags of these columns, in order; nothing at all for a target without tags.
fn asked_tags<'a, T>(
    state: &State,
    target: &'a TargetFacts,
    statements: &[Statement],
    mut each: impl FnMut(Option<&'a BTreeSet<String>>) -> T,
) -> Vec<T> {
    if target.tags.is_empty() {
        return Vec::new();
    }
    let mut key = String::new();
    asked(statements, state.speaks_of_writing())
        .map(|column| each(judge::tags_of(target, column, &mut key)))
        .collect()
}

fn same_tags(
    state: &State,
    known: &[Option<BTreeSet<String>>],
    target: &TargetFacts,
    statements: Option<&[Statement]>,
) -> bool {
    let now = asked_tags(state, target, statements.unwrap_or_default(), |tags| tags);
    now.len() == known.len() && now.iter().zip(known).all(|(now, known)| *now == known.as_ref())
}

fn accesses(statements: &[Statement]) -> usize {
    every(statements)
        .map(|statement| {
            statement.effects.len()
                + statement.columns.len()
                + statement.functions.len()
                + statement.opaque.len()
        })
        .sum()
}
