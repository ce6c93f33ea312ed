//! Text of a message in, verdict out: read by PostgreSQL's own grammar, judged by policy, with what the relay
//! needs to mask its results. No socket, no clock.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    readings::{Reading, Readings, denied},
    written::Watch,
};
use crate::{
    domain::{
        action::{Action, TargetFacts},
        catalogue::{Catalogue, RelationKind},
        decision::{ContentMask, Decision, Denial, MaskPlan, MaxRows, RecordLimits},
        flow::Workload,
        ids::PolicyId,
        principal::Principal,
        results::{Results, Span},
        statement::{
            ColumnAccess, ColumnName, ColumnUse, CopyDirection, Effect, Opaque, RelationName, Run,
            SearchPathStep, SessionEffect, Statement, TransactionStep, Verb,
        },
    },
    policy::Policies,
    sql::postgres::{SqlError, beside_masks, why_unmasked, works_on_large_objects},
};

/// Reads and judges for all sessions; what was read is remembered.
#[derive(Debug)]
pub struct Judge {
    policies: Arc<Policies>,
    readings: Readings,
}

/// Who asks, for which target.
#[derive(Debug)]
pub struct Asker {
    /// The verified identity.
    pub principal: Arc<Principal>,
    /// The captured workload.
    pub workload: Workload,
    /// How often what policies see of the identity has changed since the session began.
    standing: u64,
}

impl Asker {
    /// Who asks, at the beginning of a session.
    pub const fn new(principal: Arc<Principal>, workload: Workload) -> Self {
        Self { principal, workload, standing: 0 }
    }

    /// Goes on with a token that is fresher; its claims may be others.
    pub fn renew(&mut self, principal: Arc<Principal>) {
        let later = Principal { expires_at: principal.expires_at, ..(*self.principal).clone() };
        if later != *principal {
            self.standing += 1;
        }
        self.principal = principal;
    }
}

/// What a verdict rests on, apart from the schema: of another one it is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Basis {
    /// The epoch of the policies.
    policies: u64,
    /// [`Asker::standing`].
    standing: u64,
}

/// What was decided of one message, and what its results need.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The statements as judged: those of an EXECUTE included.
    pub statements: Arc<[Statement]>,
    /// Why not, if not.
    pub denial: Option<Arc<Denial>>,
    /// The policies that permitted.
    pub policies: Vec<PolicyId>,
    /// What they say of recording.
    pub record: RecordLimits,
    /// How many rows each statement of the message may change; `None` where none of them is limited.
    pub max_rows: Option<Arc<[Option<MaxRows>]>>,
    /// Masks of the columns that the statements read.
    pub masks: MaskPlan,
    /// Masks of every tagged column of the target.
    pub target_masks: Arc<MaskPlan>,
    /// Against which the statements were read, and result columns are traced.
    pub catalogue: Arc<Catalogue>,
    /// What it was decided by.
    pub basis: Basis,
    /// Whether the result's columns must be traced.
    pub rows: Rows,
    /// Whether the statements' record must be on disk before they leave.
    pub forwarding: Forwarding,
    /// Whether they write into columns that are masked.
    pub writes_masked: bool,
    /// The columns that policy permits to write by that name.
    pub lifted: Arc<BTreeSet<ColumnName>>,
    /// What is still to be looked at of what they write.
    pub(super) watch: Option<Arc<Watch>>,
}

/// When a request may leave for the target. However that is, nobody sees anything of what the database holds, and nothing
/// is kept there, before its record is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Forwarding {
    /// At once, and its reply as it comes: it opens a transaction or takes one back, and its reply is the same whatever
    /// the database holds.
    Unseen,
    /// While its record is being written: it only reads, so all there is to see of it is the reply, which is kept back.
    AtOnce,
    /// The same inside a transaction block: a connection that breaks takes back what it changed.
    InBlock,
    /// Once its record is on disk: it changes something that outlives the connection, or may.
    Recorded,
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
        if self.may_show_masked() || self.may_show_scanned() { Rows::Traced } else { Rows::Clear }
    }

    /// The same, refused after all: nothing of it is run.
    pub fn refused(&self, denial: Denial) -> Self {
        Self {
            denial: Some(Arc::new(denial)),
            max_rows: None,
            rows: Rows::Clear,
            forwarding: Forwarding::AtOnce,
            ..self.clone()
        }
    }

    /// Whether values that are masked as a whole can be among the rows.
    pub fn may_show_masked(&self) -> bool {
        if self.target_masks.columns.is_empty() && self.masks.columns.is_empty() {
            return false;
        }
        !self.masks.columns.is_empty()
            || !self.touches_only(|origin| !self.target_masks.columns.contains_key(origin))
    }

    /// Whether values can be among the rows that are looked through.
    fn may_show_scanned(&self) -> bool {
        if self.target_masks.scans.is_empty() && self.masks.scans.is_empty() {
            return false;
        }
        !self.masks.scans.is_empty()
            || !self.touches_only(|origin| !self.target_masks.scans.contains_key(origin))
    }

    /// The refusal of a result of which nobody could tell the masked columns from the others.
    fn untraceable(&self) -> Option<Denial> {
        let is_masked = |name: &ColumnName| {
            self.masks.columns.contains_key(name) || self.target_masks.columns.contains_key(name)
        };
        let (results, place) = self
            .statements
            .iter()
            .find_map(|statement| Some((&statement.results, statement.results.untraceable(is_masked)?)))?;
        let masked = results.names_of(place).find(|name| is_masked(name))?;
        let column = place
            .name
            .as_ref()
            .map_or_else(|| "a column".to_owned(), |name| format!("the column \"{name}\""));
        Some(Denial::builtin(
            format!(
                "where {column} of the result is, which reads {masked}, cannot be told: beside it stand columns of unknown number"
            ),
            "Write out the columns in place of *, or name the columns of functions and rows.",
            "untraceable-column",
        ))
    }

    /// What is looked for in texts that can quote any value of the target.
    pub fn content_mask(&self) -> Option<ContentMask> {
        let mut all = ContentMask::default();
        for scan in self.masks.scans.values().chain(self.target_masks.scans.values()) {
            all.extend(scan);
        }
        (!all.transforms.is_empty()).then_some(all)
    }

    /// Whether the message calls a function by its oid.
    pub fn calls_function(&self) -> bool {
        self.statements.iter().any(|statement| statement.does(Verb::FunctionCall))
    }

    /// Whether the message switches the connection to COPY TO STDOUT.
    pub fn copies_to_client(&self) -> bool {
        self.statements.iter().any(|statement| statement.copy == Some(CopyDirection::ToClient))
    }

    /// Whether the statements may change the schema, so that the catalogue must be read again after them.
    pub fn changes_schema(&self) -> bool {
        self.statements.iter().any(|statement| may_change_schema(statement, &self.catalogue))
    }

    /// Whether statements of the message may find names changed by those before them. `own` of the statements stand in
    /// its text; what its EXECUTEs run is behind these, and may run anywhere among them.
    pub fn changes_schema_under_itself(&self, own: usize) -> bool {
        let (own, executed) = self.statements.split_at(own.min(self.statements.len()));
        if own.len() < 2 {
            return false;
        }
        let changes =
            |statement: &Statement| may_change_schema(statement, &self.catalogue) || self.discards(statement);
        let first = if executed.iter().any(changes) { Some(0) } else { own.iter().position(changes) };
        let Some(behind) = first.and_then(|first| own.get(first + 1..)).filter(|behind| !behind.is_empty())
        else {
            return false;
        };
        behind.iter().chain(executed).any(|statement| self.looks_names_up(statement))
    }

    /// Whether a statement throws away temporary relations that it has been read against.
    pub fn discards(&self, statement: &Statement) -> bool {
        let is_temporary = |schema: &String| schema.starts_with("pg_temp");
        statement.search_path == SearchPathStep::Discards
            && self.catalogue.search_path.iter().any(is_temporary)
    }

    /// Whether a statement needs to know what a name stands for: not if all that it does is to make what is not there.
    fn looks_names_up(&self, statement: &Statement) -> bool {
        let looks = |effect: &Effect| {
            let makes = |name| effect.verb == Verb::Create && self.catalogue.relation(name).is_none();
            effect.relation.as_ref().is_some_and(|name| !makes(name))
        };
        // A function may have become another one.
        let calls = |name: &String| !name.starts_with("pg_catalog.");
        !statement.columns.is_empty()
            || statement.effects.iter().any(looks)
            || statement.functions.iter().any(calls)
    }

    /// Whether the statements run code of unknown effect, which may set what a session has.
    pub fn calls_unknown_code(&self) -> bool {
        self.statements.iter().any(|statement| statement.does(Verb::Call))
    }

    /// Whether they change what other sessions see of it: not what is temporary, nor what code may do unseen.
    pub fn changes_shared_schema(&self) -> bool {
        self.statements.iter().flat_map(|statement| &statement.effects).any(|effect| {
            matches!(effect.verb, Verb::Create | Verb::Alter | Verb::Drop)
                && effect.relation.as_ref().is_none_or(|name| !name.schema.starts_with("pg_temp"))
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

    /// When the statements may leave: by what is left of them should this connection break.
    fn forwarding(&self) -> Forwarding {
        let each = self.statements.iter().map(|statement| self.forwarding_of(statement));
        each.max().unwrap_or(Forwarding::AtOnce)
    }

    fn forwarding_of(&self, statement: &Statement) -> Forwarding {
        let harmless = |name: &String| {
            let builtin = name.strip_prefix("pg_catalog.");
            builtin.is_some_and(|name| self.catalogue.stable_builtin_functions.contains(name))
        };
        let is_plain = statement.opaque.is_empty()
            && statement.copy.is_none()
            && statement.session_effect == SessionEffect::None
            && statement.functions.iter().all(harmless);
        if !is_plain || statement.transaction == TransactionStep::Keeps {
            return Forwarding::Recorded;
        }
        let each = statement.effects.iter().map(|effect| {
            let here = effect.relation.as_ref().is_none_or(|name| self.is_local(name));
            match effect.verb {
                Verb::Transaction => Forwarding::Unseen,
                Verb::Explain => Forwarding::AtOnce,
                Verb::Select if here => Forwarding::AtOnce,
                // Triggers, rules and defaults run along; none of them can do more than the transaction.
                Verb::Insert | Verb::Update | Verb::Delete | Verb::Merge
                    if here && !self.catalogue.reaches_outside =>
                {
                    Forwarding::InBlock
                }
                _ => Forwarding::Recorded,
            }
        });
        each.max().unwrap_or(Forwarding::Recorded)
    }

    fn is_local(&self, name: &RelationName) -> bool {
        self.catalogue.relation(name).is_some_and(|relation| match relation.kind {
            RelationKind::Table
            | RelationKind::MaterialisedView
            | RelationKind::Sequence
            | RelationKind::Other => true,
            // A view may read a foreign table, or call what changes something.
            RelationKind::View => name.schema == "pg_catalog" || name.schema == "information_schema",
            RelationKind::ForeignTable => false,
        })
    }

    fn touches_only(&self, is_clear: impl Fn(&ColumnName) -> bool) -> bool {
        self.statements.iter().flat_map(|statement| &statement.effects).all(|effect| {
            let Some(name) = &effect.relation else { return true };
            // A relation that the catalogue does not know may show anything.
            let Some(relation) = self.catalogue.relation(name) else { return false };
            relation.columns.iter().all(|column| column.origins.iter().all(&is_clear))
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
        Self { policies, readings: Readings::new() }
    }

    /// What a verdict for `asker` rests on now.
    pub fn basis(&self, asker: &Asker) -> Basis {
        Basis { policies: self.policies.epoch(), standing: asker.standing }
    }

    /// Every mask that this agent meets at the target.
    pub fn target_masks(
        &self,
        asker: &Asker,
        target: &TargetFacts,
        catalogue: &Arc<Catalogue>,
    ) -> Arc<MaskPlan> {
        self.policies.masks_for(&asker.principal, &asker.workload, target, catalogue)
    }

    /// Reads `text` against `catalogue`, without deciding.
    pub fn read(&self, text: &str, catalogue: &Catalogue) -> Reading {
        self.readings.read(text, catalogue)
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
        let basis = self.basis(asker);
        let target_masks = self.target_masks(asker, target, catalogue);
        let mut verdict = Verdict {
            statements: Arc::from([]),
            denial: None,
            policies: Vec::new(),
            record: RecordLimits::default(),
            max_rows: None,
            masks: MaskPlan::default(),
            target_masks,
            catalogue: Arc::clone(catalogue),
            basis,
            // A refused statement returns none, and what is sent in its place changes nothing.
            rows: Rows::Clear,
            forwarding: Forwarding::AtOnce,
            writes_masked: false,
            lifted: Arc::default(),
            watch: None,
        };
        let judgeable = reading.and_then(|statements| with_executed(statements, prepared));
        let Judgeable { statements, behind } = match judgeable {
            Ok(judgeable) => judgeable,
            Err(denial) => {
                verdict.denial = Some(denial);
                return verdict;
            }
        };
        let unpins = statements.iter().find_map(|statement| statement.unpins.as_deref());
        if let Some(what) = unpins.filter(|_| verdict.target_masks.is_of_anything()) {
            verdict.denial = Some(denied(&SqlError::where_masked(what)));
            return verdict;
        }
        let statements = seen_beside_masks(statements, &verdict.target_masks);
        if !statements.is_empty() {
            let action = Action::Sql(&statements);
            match self.policies.decide(&asker.principal, &asker.workload, target, action) {
                Decision::Allow { masks, policies, record, max_rows, writable } => {
                    verdict.lifted = Arc::new(writable);
                    verdict.record = record;
                    verdict.max_rows = of_messages_own(max_rows, statements.len(), &behind);
                    verdict.masks = masks;
                    verdict.policies = policies;
                }
                Decision::Deny(mut denial) => {
                    let unmasked = statements.iter().find(|statement| statement.does(Verb::CallUnmasked));
                    if let Some(statement) = unmasked.filter(|_| names_calls(&denial)) {
                        denial.reason.push_str(&why_unmasked(statement, &verdict.target_masks));
                    }
                    verdict.denial = Some(Arc::new(denial));
                }
            }
        }
        verdict.statements = statements;
        if verdict.denial.is_none() {
            verdict.denial = verdict.untraceable().map(Arc::new);
        }
        verdict.rows = verdict.trace_rows();
        if verdict.denial.is_none() {
            verdict.forwarding = verdict.forwarding();
            verdict.writes_masked = verdict.finds_masked_written();
        }
        verdict
    }
}

/// The statements as they are judged where this is masked: see `beside_masks`. Those of which all can be followed stay the
/// very reading that they are.
fn seen_beside_masks(statements: Arc<[Statement]>, masks: &MaskPlan) -> Arc<[Statement]> {
    if !masks.is_of_anything() || statements.iter().all(|statement| statement.out_of_sight.is_empty()) {
        return statements;
    }
    statements.iter().map(|statement| beside_masks(statement.clone(), masks)).collect()
}

/// Whether a denial is about code that could show what is masked.
fn names_calls(denial: &Denial) -> bool {
    denial.reason.contains("sql:call_unmasked")
}

/// What is put to the policies.
struct Judgeable {
    /// The message's own statements, and behind them those that its EXECUTEs run.
    statements: Arc<[Statement]>,
    /// For each of the latter, the number of its EXECUTE.
    behind: Vec<usize>,
}

/// Adds what an EXECUTE runs, so that it is judged as if it stood there; and keeps apart what may not come
/// together in one message.
fn with_executed(statements: Arc<[Statement]>, prepared: &impl Prepared) -> Result<Judgeable, Arc<Denial>> {
    let alone = statements.len() == 1;
    let mut executed = Vec::new();
    let mut behind = Vec::new();
    for (number, statement) in statements.iter().enumerate() {
        if statement.copy.is_some() && !alone {
            return Err(refuse(
                "COPY shares a message with other statements",
                "Send COPY alone.",
                "copy-alone",
            ));
        }
        if statement.search_path == SearchPathStep::Moves && number + 1 < statements.len() {
            return Err(refuse(
                "statements stand behind the setting of search_path in one message",
                "Send them after it.",
                "search-path-alone",
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
                behind.extend(inner.iter().map(|_| number));
                executed.extend(inner.iter().map(|inner| {
                    if statement.does(Verb::Create) {
                        stored(inner)
                    } else if statement.does(Verb::Explain) {
                        explained(inner, statement.run)
                    } else {
                        inner.clone()
                    }
                }));
            }
        }
    }
    if executed.is_empty() {
        return Ok(Judgeable { statements, behind });
    }
    let mut own = statements.to_vec();
    for (number, executed) in behind.iter().zip(&executed) {
        if let Some(statement) = own.get_mut(*number) {
            statement.results = returned(statement, executed);
        }
    }
    Ok(Judgeable { statements: own.into_iter().chain(executed).collect(), behind })
}

/// What an EXECUTE returns, or the EXPLAIN ANALYZE of one.
fn returned(statement: &Statement, executed: &Statement) -> Results {
    let results = executed.results.clone();
    match statement.results.plan {
        Some(plan) => Results { plan: Some(plan), ..Results::alike(results.names, Span::One) },
        None if statement.does(Verb::Create) || statement.does(Verb::Explain) => statement.results.clone(),
        None => results,
    }
}

/// A statement whose rows CREATE TABLE AS EXECUTE keeps in a table.
fn stored(statement: &Statement) -> Statement {
    let columns = statement.columns.iter().cloned().map(|access| match access.usage {
        ColumnUse::Projected => ColumnAccess { usage: ColumnUse::Moved, ..access },
        _ => access,
    });
    Statement { columns: columns.collect(), ..statement.clone() }
}

/// A statement that EXPLAIN EXECUTE shows, and runs with ANALYZE: then its rows are not in the command tag.
fn explained(inner: &Statement, run: Run) -> Statement {
    let changes = inner.effects.iter().filter(|effect| effect.verb.changes_rows());
    Statement { uncounted: changes.cloned().collect(), run, ..inner.clone() }
}

/// The limits of a message's own statements. Those of what its EXECUTEs run stand behind them, and are held against the
/// tags of these.
fn of_messages_own(
    mut limits: Vec<Option<MaxRows>>,
    statements: usize,
    behind: &[usize],
) -> Option<Arc<[Option<MaxRows>]>> {
    if limits.is_empty() {
        return None;
    }
    let of_executed = limits.split_off(statements.saturating_sub(behind.len()).min(limits.len()));
    for (number, limit) in behind.iter().zip(of_executed) {
        if let Some(of_execute) = limits.get_mut(*number) {
            *of_execute = of_execute.take().into_iter().chain(limit).reduce(MaxRows::and);
        }
    }
    Some(limits.into())
}

fn refuse(reason: &str, hint: &str, rule: &str) -> Arc<Denial> {
    Arc::new(Denial::builtin(reason, hint, rule))
}

/// Whether a statement may change the schema, so that the catalogue must be read again after it.
fn may_change_schema(statement: &Statement, catalogue: &Catalogue) -> bool {
    let may = |effect: &Effect| {
        matches!(effect.verb, Verb::Create | Verb::Alter | Verb::Drop | Verb::Call | Verb::Grant)
    };
    statement.effects.iter().any(may) && !works_on_large_objects(statement, catalogue)
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
