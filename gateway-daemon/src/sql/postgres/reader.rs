//! The walk's state: what has been found out about the statement that is being read.

use std::collections::BTreeSet;
use std::thread;

use pg_query::protobuf::a_const;
use pg_query::{Node, NodeEnum};

use crate::domain::catalogue::Catalogue;
use crate::domain::results::Results;
use crate::domain::statement::{
    ColumnAccess, ColumnName, ColumnUse, Continues, CopyDirection, Effect, OnConflict, Opaque, RelationName,
    RowLimit, Run, SearchPathStep, SessionEffect, Statement, TransactionStep, Verb,
};

use super::columns::{Columns, Reads, amounts_to};
use super::error::SqlError;
use super::names::{inner, parts};
use super::parser;
use super::relations;
use super::scope::{Env, Outputs};
use super::total::Met;

/// Longest text that is read at once.
pub const MAX_TEXT_BYTES: usize = 512 * 1024;

/// Deepest nesting of queries and expressions that is followed.
const MAX_DEPTH: usize = 1_000;

/// Units of work that one message may cost: nodes visited and columns looked at.
const MAX_WORK: usize = 1_000_000;

/// Longest text that is read on the caller's own stack. A level of nesting takes at least a byte of text and, while
/// the parse tree is decoded, a few KiB of stack.
pub(super) const INLINE_BYTES: usize = 2 * 1024;

/// Stack for longer texts. libpg_query itself gives up at 10,000 levels of its tree.
pub(super) const STACK_BYTES: usize = 512 * 1024 * 1024;

/// Reads every statement of a text.
///
/// Empty text gives no statement. The whole text is read before any result is given, so that one unreadable
/// statement refuses all of them. Blocks for as long as it takes: microseconds for what clients usually send, at
/// most some hundred milliseconds for the worst that fits. Needs a thread with at least 32 MiB of stack; a text
/// longer than 2 KiB is read on a thread of its own, whose stack is given back at once.
pub fn read(text: &str, catalogue: &Catalogue) -> Result<Vec<Statement>, SqlError> {
    read_text(text, catalogue).map(|text| text.statements)
}

/// What a text holds.
#[derive(Debug)]
pub struct Text {
    /// Its statements.
    pub statements: Vec<Statement>,
    /// Byte offsets of integer constants that play no part in the statements as read: with other numbers there, they
    /// would be the same.
    pub free: Vec<usize>,
}

/// The same as [`read`], with the constants that did not matter.
pub fn read_text(text: &str, catalogue: &Catalogue) -> Result<Text, SqlError> {
    if text.len() <= INLINE_BYTES {
        return read_here(text, catalogue);
    }
    parser::check_size(text, MAX_TEXT_BYTES)?;
    thread::scope(|scope| {
        let reader = thread::Builder::new()
            .name("sql-reader".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || read_here(text, catalogue));
        match reader {
            Ok(reader) => reader.join().unwrap_or(Err(SqlError::Failed)),
            Err(_) => Err(SqlError::Failed),
        }
    })
}

fn read_here(text: &str, catalogue: &Catalogue) -> Result<Text, SqlError> {
    let parsed = parser::parse(text, MAX_TEXT_BYTES)?;
    let mut reader = Reader::new(catalogue);
    let mut statements = Vec::with_capacity(parsed.statements.len());
    // An extension takes such a comment for a choice of the plan.
    let hints = text.contains("/*+");
    for raw in &parsed.statements {
        if let Some(node) = raw.stmt.as_deref() {
            reader.statement(node)?;
            let mut statement = reader.finish();
            relations::refuse_secret_columns(&statement)?;
            if hints && statement.unpins.is_none() {
                statement.unpins = Some("a planner's hint (/*+ … */)".to_owned());
            }
            statements.push(statement);
        }
    }
    Ok(Text { statements, free: reader.free })
}

/// What a column of a view shows.
#[derive(Debug)]
pub(super) struct ViewColumn {
    /// Of these columns.
    pub(super) origins: BTreeSet<ColumnName>,
    /// Whether it may be anything but the value of one of them.
    pub(super) is_computed: bool,
}

/// What each column of a view may show, by its definition; `None` when the definition cannot be followed.
pub(super) fn view_columns(definition: &str, catalogue: &Catalogue) -> Option<Vec<ViewColumn>> {
    with_stack(definition, || view_columns_here(definition, catalogue))
}

/// Columns by whose values a statement may fail, also where it compares them; `None` when it cannot be read.
pub(super) fn computed_columns(text: &str, catalogue: &Catalogue) -> Option<BTreeSet<ColumnName>> {
    with_stack(text, || {
        let parsed = parser::parse(text, MAX_TEXT_BYTES).ok()?;
        let mut reader = Reader::new(catalogue);
        for raw in &parsed.statements {
            reader.statement(raw.stmt.as_deref()?).ok()?;
        }
        Some(
            reader.facts.computed.iter().filter_map(|number| reader.columns.name(*number)).cloned().collect(),
        )
    })
}

/// Reads on a stack that is large enough for the text.
fn with_stack<T: Send>(text: &str, read: impl FnOnce() -> Option<T> + Send) -> Option<T> {
    if text.len() <= INLINE_BYTES {
        return read();
    }
    thread::scope(|scope| {
        let reader = thread::Builder::new()
            .name("sql-reader".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, read);
        reader.ok()?.join().ok().flatten()
    })
}

fn view_columns_here(definition: &str, catalogue: &Catalogue) -> Option<Vec<ViewColumn>> {
    let parsed = parser::parse(definition, MAX_TEXT_BYTES).ok()?;
    let [raw] = parsed.statements.as_slice() else { return None };
    let query = raw.stmt.as_deref()?;
    let mut reader = Reader::new(catalogue);
    let outputs = reader.query_node(query, &Env::EMPTY).ok()?;
    if outputs.is_open() {
        return None;
    }
    let mut plain = reader.passed_on(query);
    if plain.len() != outputs.columns.len() {
        plain.clear(); // a star: which is which is not known
    }
    let columns = outputs.columns.iter().enumerate().map(|(at, column)| ViewColumn {
        origins: column.reads.iter().filter_map(|number| reader.columns.name(*number)).cloned().collect(),
        is_computed: !plain.get(at).copied().unwrap_or(false),
    });
    Some(columns.collect())
}

impl<'a> Reader<'a> {
    /// Which result columns of a query are certainly columns of relations as they are stored there. Nothing is certain
    /// of what comes through a subquery, a WITH or a UNION.
    fn passed_on(&mut self, query: &'a Node) -> Vec<bool> {
        let Some(NodeEnum::SelectStmt(select)) = inner(query) else { return Vec::new() };
        if select.larg.is_some() || select.with_clause.is_some() {
            return Vec::new();
        }
        let Ok(level) = self.sources_of(&select.from_clause, &Env::EMPTY) else { return Vec::new() };
        let env = Env::within(&level, &Env::EMPTY);
        let is_plain = |node: &Node| match inner(node) {
            Some(NodeEnum::ResTarget(target)) => match target.val.as_deref().and_then(inner) {
                Some(NodeEnum::ColumnRef(column)) => parts(&column.fields).is_ok_and(|parts| match *parts {
                    [name] => env.column(None, name).is_some_and(|column| !column.is_computed),
                    [relation, name] => {
                        env.column(Some(relation), name).is_some_and(|column| !column.is_computed)
                    }
                    _ => false,
                }),
                _ => false,
            },
            _ => false,
        };
        select.target_list.iter().map(is_plain).collect()
    }
}

/// What is known of the statement so far.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) effects: BTreeSet<Effect>,
    /// See [`Statement::uncounted`].
    pub(super) uncounted: BTreeSet<Effect>,
    /// See [`Statement::run`].
    pub(super) run: Run,
    pub(super) projected: Reads,
    /// See [`ColumnUse::Defined`].
    pub(super) defined: Reads,
    pub(super) compared: Reads,
    pub(super) computed: Reads,
    pub(super) moved: Reads,
    pub(super) written: Reads,
    /// Those of expressions that hold a constant or a parameter.
    pub(super) beside_constants: Reads,
    /// See [`Statement::results`].
    pub(super) results: Option<Results>,
    pub(super) functions: BTreeSet<String>,
    pub(super) opaque: BTreeSet<Opaque>,
    /// See [`Statement::out_of_sight`].
    pub(super) out_of_sight: BTreeSet<String>,
    pub(super) unlimited: bool,
    /// A function was called whose effect outlives the row, so that calling it or not tells something.
    pub(super) leaves_traces: bool,
    pub(super) copy: Option<CopyDirection>,
    pub(super) on_conflict: Option<OnConflict>,
    pub(super) session_effect: Option<SessionEffect>,
    pub(super) transaction: Option<TransactionStep>,
    pub(super) search_path: Option<SearchPathStep>,
    /// See [`Statement::unpins`].
    pub(super) unpins: Option<String>,
    /// See [`Statement::continues`].
    pub(super) continues: Continues,
    /// See [`Statement::notifies`].
    pub(super) notifies: BTreeSet<(String, String)>,
}

/// What becomes of a query's result columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    /// The client sees them.
    Client,
    /// They are stored, or shown by a way that cannot be masked.
    Elsewhere,
    /// Nobody sees a value of them.
    Nowhere,
}

/// Whether the command tag counts the rows that are changed by what is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    /// It is the statement itself.
    Counted,
    /// It is a part of it, or what it makes.
    Uncounted,
}

/// Reads one statement after the other.
pub(super) struct Reader<'a> {
    pub(super) catalogue: &'a Catalogue,
    pub(super) columns: Columns,
    pub(super) facts: Facts,
    pub(super) destination: Destination,
    pub(super) counting: Counting,
    /// Column references seen: a WHERE that has none does not select rows.
    pub(super) references: usize,
    pub(super) depth: usize,
    /// It is the statement behind PREPARE that is being read.
    pub(super) is_prepared: bool,
    /// What of the statement can fail.
    pub(super) met: Met,
    /// The statement is nothing but a call of `set_config` for its reader.
    pub(super) only_sets: bool,
    /// The statement's one row is this parameter's of `pg_settings`, so that `name` is its name.
    pub(super) setting: Option<String>,
    /// Constants and parameters seen.
    pub(super) constants: usize,
    /// How many expressions are around the one that is being read.
    pub(super) nesting: usize,
    /// The schema that is being made, with what is in it.
    pub(super) new_schema: Option<&'a str>,
    /// The functions whose bodies are being read, from the outside in.
    pub(super) within: Vec<(String, String)>,
    pub(super) work: usize,
    /// See [`Text::free`].
    free: Vec<usize>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(catalogue: &'a Catalogue) -> Self {
        Self {
            catalogue,
            columns: Columns::default(),
            facts: Facts::default(),
            destination: Destination::Client,
            counting: Counting::Uncounted,
            references: 0,
            depth: 0,
            is_prepared: false,
            met: Met::default(),
            only_sets: false,
            setting: None,
            constants: 0,
            nesting: 0,
            new_schema: None,
            within: Vec::new(),
            work: MAX_WORK,
            free: Vec::new(),
        }
    }

    /// Takes the facts as a statement and starts afresh.
    pub(super) fn finish(&mut self) -> Statement {
        let mut facts = std::mem::take(&mut self.facts);
        if facts.leaves_traces {
            let projected = facts.projected.clone();
            facts.compared.extend(projected);
        }
        // Whatever refuses to compute with a column refuses to compare it.
        facts.computed.retain(|number| !facts.compared.contains(number));
        if !facts.opaque.is_empty() {
            facts.effects.insert(Effect { verb: Verb::Call, relation: None });
        }
        if facts.effects.is_empty() {
            facts.effects.insert(Effect { verb: Verb::Other, relation: None });
        }
        let mut columns = BTreeSet::new();
        for (reads, usage) in [
            (&facts.projected, ColumnUse::Projected),
            (&facts.defined, ColumnUse::Defined),
            (&facts.compared, ColumnUse::Compared),
            (&facts.computed, ColumnUse::Computed),
            (&facts.moved, ColumnUse::Moved),
            (&facts.written, ColumnUse::Written),
        ] {
            columns.extend(reads.iter().filter_map(|number| {
                let column = self.columns.name(*number)?.clone();
                Some(ColumnAccess { column, usage: amounts_to(usage, *number) })
            }));
        }
        let beside_constants = facts.beside_constants.intersection(&facts.projected);
        let beside_constants =
            beside_constants.filter_map(|number| self.columns.name(*number)).cloned().collect();
        Statement {
            beside_constants,
            effects: facts.effects,
            uncounted: facts.uncounted,
            run: facts.run,
            columns,
            results: facts.results.unwrap_or_default(),
            functions: facts.functions,
            opaque: facts.opaque,
            out_of_sight: facts.out_of_sight,
            row_limit: if facts.unlimited { RowLimit::Unlimited } else { RowLimit::Limited },
            copy: facts.copy,
            on_conflict: facts.on_conflict,
            session_effect: facts.session_effect.unwrap_or(SessionEffect::None),
            transaction: facts.transaction.unwrap_or(TransactionStep::None),
            search_path: facts.search_path.unwrap_or(SearchPathStep::None),
            replication: None,
            unpins: facts.unpins,
            continues: facts.continues,
            notifies: facts.notifies,
        }
    }

    /// Notes what the statement does to what.
    pub(super) fn effect(&mut self, verb: Verb, relation: Option<RelationName>) {
        let effect = Effect { verb, relation };
        if verb.changes_rows() && self.counting == Counting::Uncounted {
            self.facts.uncounted.insert(effect.clone());
        }
        self.facts.effects.insert(effect);
    }

    /// Reads something whose changes of rows the command tag counts, or does not.
    pub(super) fn counting<T>(&mut self, counting: Counting, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.counting, counting);
        let result = read(self);
        self.counting = before;
        result
    }

    /// Whether the tag counts what the statement that is being read changes: it is not part of another one.
    pub(super) fn own_counting(&self) -> Counting {
        if self.depth == 1 || self.is_prepared { Counting::Counted } else { Counting::Uncounted }
    }

    /// Notes something that cannot be read, and so may show whatever it likes.
    pub(super) fn opaque(&mut self, what: Opaque) {
        let (Opaque::Function(name) | Opaque::Operator(name) | Opaque::Code(name)) = &what;
        self.out_of_sight(name);
        self.facts.opaque.insert(what);
    }

    /// Notes code that cannot be read.
    pub(super) fn opaque_code(&mut self, what: &str) {
        self.opaque(Opaque::Code(what.to_owned()));
    }

    /// Notes something whose effects cannot be read, though it sees no table.
    pub(super) fn opaque_but_blind(&mut self, what: Opaque) {
        self.facts.opaque.insert(what);
    }

    /// Notes what nobody can follow to the columns that it may show.
    pub(super) fn out_of_sight(&mut self, what: &str) {
        self.facts.out_of_sight.insert(what.to_owned());
    }

    /// Notes that the value of an operand or a written value does not matter, if it is an integer constant, or those
    /// of a list. Nothing but its place may have been looked at, here or further out.
    pub(super) fn value_is_free(&mut self, node: &Node) {
        match inner(node) {
            Some(NodeEnum::AConst(constant)) if matches!(constant.val, Some(a_const::Val::Ival(_))) => {
                self.free.extend(usize::try_from(constant.location).ok());
            }
            Some(NodeEnum::List(list)) => list.items.iter().for_each(|item| self.value_is_free(item)),
            _ => {}
        }
    }

    /// Notes that the columns steer the statement.
    pub(super) fn compared(&mut self, reads: Reads) {
        merge(&mut self.facts.compared, reads);
    }

    /// Notes that a definition is about these columns: see [`ColumnUse::Defined`].
    pub(super) fn defined(&mut self, reads: &Reads) {
        self.facts.defined.extend(reads);
    }

    /// Notes that an operation on the columns' values can fail, or decides whether another one is run.
    pub(super) fn computed(&mut self, reads: &Reads) {
        self.facts.computed.extend(reads);
    }

    /// Notes that the columns' values are stored elsewhere.
    pub(super) fn moved(&mut self, reads: Reads) {
        merge(&mut self.facts.moved, reads);
    }

    /// Notes where the values of the statement's own result columns go.
    pub(super) fn shown(&mut self, outputs: &Outputs<'a>) {
        match self.destination {
            Destination::Client => {
                merge(&mut self.facts.projected, outputs.all());
                self.facts.results = Some(self.columns.results(outputs));
            }
            Destination::Elsewhere => merge(&mut self.facts.moved, outputs.all()),
            Destination::Nowhere => {}
        }
    }

    /// Counts work against the limit.
    pub(super) fn spend(&mut self, units: usize) -> Result<(), SqlError> {
        self.work = self.work.checked_sub(units).ok_or(SqlError::TooComplex)?;
        Ok(())
    }

    /// Counts one level of nesting; the caller counts it off again.
    pub(super) fn enter(&mut self) -> Result<(), SqlError> {
        self.spend(1)?;
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(SqlError::TooDeep) } else { Ok(()) }
    }

    /// Leaves the level.
    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }
}

fn merge(into: &mut Reads, mut reads: Reads) {
    into.append(&mut reads);
}
