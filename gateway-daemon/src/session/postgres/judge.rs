//! Text of a message in, verdict out: read by PostgreSQL's own grammar, judged by policy, with what the relay
//! needs to mask its results. No socket, no clock.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use moka::sync::Cache;

use crate::{
    domain::{
        action::{Action, TargetFacts},
        catalogue::Catalogue,
        decision::{Decision, Denial, MaskPlan},
        flow::Workload,
        ids::PolicyId,
        principal::Principal,
        statement::{CopyDirection, Opaque, SessionEffect, Statement, Verb},
    },
    policy::Policies,
    sql::postgres,
};

/// Statements whose text is longer are read anew each time: they are rare and would fill the cache.
const CACHED_TEXT_BYTES: usize = 4 * 1024;
/// How many texts are remembered as read.
const CACHED_TEXTS: u64 = 20_000;

/// A message's statements, read against one catalogue; or why they cannot be.
pub type Reading = Result<Arc<[Statement]>, Arc<Denial>>;

/// Reads and judges for all sessions; what was read is remembered by exact text and catalogue.
#[derive(Debug)]
pub struct Judge {
    policies: Arc<Policies>,
    readings: Cache<(u64, Arc<str>), Reading>,
    seen: Seen,
}

/// Hashes of texts seen lately. Most texts with literals in them come once: keeping those would cost more than it saves.
#[derive(Debug)]
struct Seen {
    hasher: RandomState,
    slots: Box<[AtomicU64]>,
}

impl Seen {
    fn new() -> Self {
        Self { hasher: RandomState::new(), slots: (0..8192).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Whether `text` was seen lately; it is from now on. A collision costs a parse, or a place in the cache.
    fn before(&self, epoch: u64, text: &str) -> bool {
        let hash = self.hasher.hash_one((epoch, text));
        let slot = usize::try_from(hash).unwrap_or_default() % self.slots.len();
        self.slots.get(slot).is_some_and(|slot| slot.swap(hash, Ordering::Relaxed) == hash)
    }
}

/// Who asks, for which target.
#[derive(Debug)]
pub struct Asker {
    /// The verified identity.
    pub principal: Arc<Principal>,
    /// The captured workload.
    pub workload: Workload,
}

/// What was decided of one message, and what its results need.
#[derive(Debug)]
pub struct Verdict {
    /// The statements as judged: those of an EXECUTE included.
    pub statements: Arc<[Statement]>,
    /// Why not, if not.
    pub denial: Option<Arc<Denial>>,
    /// The policies that permitted.
    pub policies: Vec<PolicyId>,
    /// Masks of the columns that the statements read.
    pub masks: MaskPlan,
    /// Masks of every tagged column of the target.
    pub target_masks: Arc<MaskPlan>,
    /// Against which the statements were read, and result columns are traced.
    pub catalogue: Arc<Catalogue>,
    /// Of the policies that decided.
    pub policy_epoch: u64,
    /// Whether the result's columns must be traced.
    pub rows: Rows,
}

/// Whether rows must be held against a description before they may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Nothing that is masked can be among them.
    Clear,
    /// Each column's origin decides.
    Traced,
}

impl Verdict {
    /// Whether the result's columns must be traced.
    fn trace_rows(&self) -> Rows {
        if self.target_masks.columns.is_empty() && self.masks.columns.is_empty() {
            return Rows::Clear;
        }
        if !self.masks.columns.is_empty() || !self.touches_only_unmasked_relations() {
            return Rows::Traced;
        }
        Rows::Clear
    }

    /// Whether texts of errors and notices may show values of masked columns.
    pub fn texts_may_leak(&self) -> bool {
        self.rows == Rows::Traced
    }

    /// Whether the statements may change the schema, so that the catalogue must be read again after them.
    pub fn changes_schema(&self) -> bool {
        self.statements.iter().flat_map(|statement| &statement.effects).any(|effect| {
            matches!(effect.verb, Verb::Create | Verb::Alter | Verb::Drop | Verb::Call | Verb::Grant)
        })
    }

    /// Whether the statements may end a transaction, or undo part of it.
    pub fn ends_or_undoes(&self) -> bool {
        may_undo(&self.statements)
    }

    /// Whether the message switches the connection to COPY FROM STDIN.
    pub fn copies_from_client(&self) -> bool {
        self.statements.iter().any(|statement| statement.copy == Some(CopyDirection::FromClient))
    }

    /// `schema.table.column` of every mask in force, for the audit record.
    pub fn masked_columns(&self) -> Vec<String> {
        self.masks.columns.keys().map(ToString::to_string).collect()
    }

    fn touches_only_unmasked_relations(&self) -> bool {
        self.statements.iter().flat_map(|statement| &statement.effects).all(|effect| {
            let Some(name) = &effect.relation else { return true };
            // A relation that the catalogue does not know may show anything.
            let Some(relation) = self.catalogue.relation(name) else { return false };
            relation.columns.iter().all(|column| {
                column.origins.iter().all(|origin| !self.target_masks.columns.contains_key(origin))
            })
        })
    }
}

/// How the name in an EXECUTE is looked up: what the session knows of its prepared statements.
pub trait Prepared {
    /// The statements behind a name; `None` when the session never saw it prepared.
    fn statements(&self, name: &str) -> Option<Arc<[Statement]>>;
}

impl Judge {
    /// A judge that asks `policies`.
    pub fn new(policies: Arc<Policies>) -> Self {
        Self { policies, readings: Cache::new(CACHED_TEXTS), seen: Seen::new() }
    }

    /// The epoch of the policies in force: a verdict of another epoch is stale.
    pub fn policy_epoch(&self) -> u64 {
        self.policies.epoch()
    }

    /// Reads `text` against `catalogue`, without deciding.
    pub fn read(&self, text: &str, catalogue: &Catalogue) -> Reading {
        if text.len() > CACHED_TEXT_BYTES || !self.seen.before(catalogue.epoch, text) {
            return read_now(text, catalogue);
        }
        // A look-up needs an owned key; the copy costs far less than the parse that it saves.
        let key = (catalogue.epoch, Arc::from(text));
        if let Some(reading) = self.readings.get(&key) {
            return reading;
        }
        let reading = read_now(text, catalogue);
        self.readings.insert(key, reading.clone());
        reading
    }

    /// Judges statements that were read against `catalogue`.
    pub fn decide(
        &self,
        asker: &Asker,
        target: &TargetFacts,
        catalogue: &Arc<Catalogue>,
        reading: Reading,
        prepared: &impl Prepared,
    ) -> Verdict {
        let policy_epoch = self.policies.epoch();
        let target_masks = self.policies.masks_for(&asker.principal, &asker.workload, target, catalogue);
        let mut verdict = Verdict {
            statements: Arc::from([]),
            denial: None,
            policies: Vec::new(),
            masks: MaskPlan::default(),
            target_masks,
            catalogue: Arc::clone(catalogue),
            policy_epoch,
            // A refused statement returns none.
            rows: Rows::Clear,
        };
        let statements = match reading.and_then(|statements| with_executed(statements, prepared)) {
            Ok(statements) => statements,
            Err(denial) => {
                verdict.denial = Some(denial);
                return verdict;
            }
        };
        if !statements.is_empty() {
            let action = Action::Sql(&statements);
            match self.policies.decide(&asker.principal, &asker.workload, target, action) {
                Decision::Allow { masks, policies } => {
                    verdict.masks = masks;
                    verdict.policies = policies;
                }
                Decision::Deny(denial) => verdict.denial = Some(Arc::new(denial)),
            }
        }
        verdict.statements = statements;
        verdict.rows = verdict.trace_rows();
        verdict
    }
}

fn read_now(text: &str, catalogue: &Catalogue) -> Reading {
    match postgres::read(text, catalogue) {
        Ok(statements) => Ok(statements.into()),
        Err(error) => Err(Arc::new(Denial {
            reason: error.to_string(),
            hint: Some(error.hint().to_owned()),
            policies: vec![PolicyId::from(error.rule())],
        })),
    }
}

/// Adds what an EXECUTE runs, so that it is judged as if it stood there; and keeps apart what may not come
/// together in one message.
fn with_executed(statements: Arc<[Statement]>, prepared: &impl Prepared) -> Reading {
    let alone = statements.len() == 1;
    let mut executed = Vec::new();
    for statement in statements.iter() {
        if statement.copy.is_some() && !alone {
            return Err(refuse(
                "COPY shares a message with other statements",
                "Send COPY alone.",
                "copy-alone",
            ));
        }
        match &statement.session_effect {
            SessionEffect::None => {}
            SessionEffect::Prepare { .. } | SessionEffect::Deallocate { .. } => {
                if !alone {
                    return Err(refuse(
                        "PREPARE or DEALLOCATE shares a message with other statements",
                        "Send it alone.",
                        "prepare-alone",
                    ));
                }
            }
            SessionEffect::Execute { name } => {
                let Some(inner) = prepared.statements(name) else {
                    return Err(refuse(
                        &format!("EXECUTE names {name:?}, which this session has not prepared"),
                        "PREPARE it on this connection first.",
                        "unknown-prepared-statement",
                    ));
                };
                executed.extend(inner.iter().cloned());
            }
        }
    }
    if executed.is_empty() {
        return Ok(statements);
    }
    Ok(statements.iter().cloned().chain(executed).collect())
}

fn refuse(reason: &str, hint: &str, rule: &str) -> Arc<Denial> {
    Arc::new(Denial::builtin(reason, hint, rule))
}

/// Whether one of the statements is about transactions: BEGIN, COMMIT, ROLLBACK, SAVEPOINT and their like.
pub fn may_undo(statements: &[Statement]) -> bool {
    statements.iter().flat_map(|statement| &statement.effects).any(|effect| effect.verb == Verb::Transaction)
}

/// A sentence for the audit record of what could not be read in `statements`; empty when all could.
pub fn opaque_note(statements: &[Statement]) -> String {
    let names: Vec<&str> = statements
        .iter()
        .flat_map(|statement| &statement.opaque)
        .map(|opaque| match opaque {
            Opaque::Function(name) | Opaque::Operator(name) | Opaque::Code(name) => name.as_str(),
        })
        .collect();
    if names.is_empty() {
        String::new()
    } else {
        format!("runs code of unknown effect: {}", names.join(", "))
    }
}
