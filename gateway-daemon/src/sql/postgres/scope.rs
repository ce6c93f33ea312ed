//! Which names a query level sees, and which base columns stand behind them.
//!
//! The rules of PostgreSQL's name look-up (parse_relation.c, parse_expr.c: `transformColumnRef`): a column name is
//! looked for level by level from the inside out; a level that has it ends the search; only then may the name
//! mean a whole row. Where the columns of a source are not known, every column that it may have is meant.

use std::borrow::Cow;
use std::rc::Rc;

use crate::domain::catalogue::{Column, Relation, RelationKind};
use crate::domain::results::Span;
use crate::domain::statement::RelationName;

use super::columns::Reads;
use super::error::SqlError;
use super::reader::Reader;
use super::typing::id;
use super::value::Value;

/// Columns that every stored relation has and that no snapshot lists.
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// What is asked of a stored column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// That it is PostgreSQL's own: a composite is NULL also where all that it is made of is.
    AnyType,
    /// That a handful of tests does not find out which value it is.
    ManyValues,
}

impl Needs {
    fn are_met_by(self, type_oid: u32) -> bool {
        match self {
            Self::AnyType => type_oid < FIRST_OTHER_TYPE && type_oid != RECORD,
            Self::ManyValues => TYPES_OF_MANY.contains(&type_oid),
        }
    }
}

/// The first oid that is not PostgreSQL's own (`FirstGenbkiObjectId`).
const FIRST_OTHER_TYPE: u32 = 10_000;
const RECORD: u32 = 2249;

/// Types whose values cannot be tried one by one: bytea, name, bigint, integer, text, inet, char, varchar, numeric, uuid.
const TYPES_OF_MANY: [u32; 10] = [17, 19, 20, 23, 25, 869, 1042, 1043, 1700, 2950];

/// One result column of a query, or several that are not told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Output<'a> {
    /// Its name; `None` where PostgreSQL makes one up: it is taken to match any.
    pub(super) name: Option<Cow<'a, str>>,
    /// The base columns that its value is made of.
    pub(super) reads: Reads,
    /// What else is known of its value.
    pub(super) value: Value,
    /// How many columns it stands for.
    pub(super) span: Span,
}

impl<'a> Output<'a> {
    /// A single column.
    pub(super) const fn one(name: Option<Cow<'a, str>>, reads: Reads, value: Value) -> Self {
        Self { name, reads, value, span: Span::One }
    }

    /// Something else, of whose value nothing is known.
    const fn spanning(name: Option<Cow<'a, str>>, reads: Reads, span: Span) -> Self {
        Self { name, reads, value: Value::UNKNOWN, span }
    }
}

/// The result columns of a query, a function or a join.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outputs<'a> {
    pub(super) columns: Vec<Output<'a>>,
}

impl<'a> Outputs<'a> {
    /// Columns of unknown number and name, each of which shows what all of `reads` are put together to.
    pub(super) fn opaque(reads: Reads) -> Self {
        Self { columns: vec![Output::spanning(None, reads, Span::Any)] }
    }

    /// Columns of unknown number and name, of which nobody knows which of `reads` each of them shows.
    pub(super) fn unsure(reads: Reads) -> Self {
        Self { columns: vec![Output::spanning(None, reads, Span::Unsure)] }
    }

    /// Everything that any of the columns is made of.
    pub(super) fn all(&self) -> Reads {
        self.columns.iter().flat_map(|column| column.reads.iter().copied()).collect()
    }

    /// Whether there may be more columns than are listed, or fewer.
    pub(super) fn is_open(&self) -> bool {
        self.certain() < self.columns.len()
    }

    /// How many of the first columns are single ones.
    fn certain(&self) -> usize {
        self.columns.iter().take_while(|column| column.span == Span::One).count()
    }

    /// The column in that place, counted from 1.
    pub(super) fn at(&self, position: usize) -> Option<&Output<'a>> {
        let index = position.checked_sub(1).filter(|index| *index < self.certain())?;
        self.columns.get(index)
    }

    /// Gives the first columns new names, as `AS t(a, b)` does.
    pub(super) fn rename(&mut self, names: &[&'a str]) {
        let certain = self.certain();
        for (column, name) in self.columns.iter_mut().take(certain).zip(names) {
            column.name = Some(Cow::Borrowed(name));
        }
        if let Some(names) = names.get(certain..).filter(|names| !names.is_empty() && self.is_open()) {
            // Which column bears which name is not known: each of the names may be any of them.
            let rest: Vec<Output<'a>> = self.columns.drain(certain..).collect();
            let reads: Reads = rest.iter().flat_map(|column| column.reads.iter().copied()).collect();
            let is_sure = rest.iter().all(|column| column.span != Span::Unsure && column.reads == reads);
            let span = if is_sure { Span::One } else { Span::Unsure };
            let bears = |name: &&'a str| Output::spanning(Some(Cow::Borrowed(*name)), reads.clone(), span);
            self.columns.extend(names.iter().map(bears));
            self.columns.extend(if is_sure { Self::opaque(reads) } else { Self::unsure(reads) }.columns);
        }
    }

    /// What a column of that name may be made of, and whether it is certain that there is one.
    fn named(&self, name: &str, into: &mut Reads) -> Found {
        let mut found = Found::Absent;
        for column in self.columns.iter().filter(|column| column.name.as_deref() == Some(name)) {
            into.extend(&column.reads);
            found = Found::Exact;
        }
        if found == Found::Exact {
            return found;
        }
        for column in self.columns.iter().filter(|column| column.name.is_none()) {
            into.extend(&column.reads);
            found = Found::Maybe;
        }
        found
    }

    /// What a column of that name may be made of; everything when there is none.
    pub(super) fn reads_of(&self, name: &str) -> Reads {
        let mut reads = Reads::new();
        if self.named(name, &mut reads) == Found::Absent {
            return self.all();
        }
        reads
    }

    /// Whether there is certainly no column of that name.
    fn lacks(&self, name: &str) -> bool {
        self.named(name, &mut Reads::new()) == Found::Absent
    }

    /// Whether there certainly is a column of that name.
    fn has(&self, name: &str) -> bool {
        self.named(name, &mut Reads::new()) == Found::Exact
    }

    /// Whether every column and its name are known.
    pub(super) fn is_certain(&self) -> bool {
        !self.is_open() && self.columns.iter().all(|column| column.name.is_some())
    }

    /// What each of `count` columns may be made of; `None` where there cannot be so many.
    pub(super) fn fit(&self, count: usize) -> Option<Vec<Reads>> {
        let singles = |columns: &[Output<'a>]| {
            columns.iter().map(|column| column.reads.clone()).collect::<Vec<Reads>>()
        };
        let Some(last) = self.columns.iter().rposition(|column| column.span != Span::One) else {
            return (self.columns.len() == count).then(|| singles(&self.columns));
        };
        let (before, rest) = self.columns.split_at_checked(self.certain())?;
        let (middle, behind) = rest.split_at_checked((last + 1).checked_sub(before.len())?)?;
        let between = count.checked_sub(before.len() + behind.len())?;
        let reads: Reads = middle.iter().flat_map(|column| column.reads.iter().copied()).collect();
        let mut each = singles(before);
        each.extend(std::iter::repeat_n(reads, between));
        each.extend(singles(behind));
        Some(each)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// The column exists here.
    Exact,
    /// A column of that name may exist here.
    Maybe,
    /// It does not exist here.
    Absent,
}

/// What stands behind a name in FROM.
#[derive(Debug, Clone)]
pub(super) enum Rows<'a> {
    /// A relation of the catalogue.
    Relation(&'a Relation),
    /// A relation that the catalogue does not know.
    Unknown(RelationName),
    /// A subquery, CTE, function or aliased join.
    Derived(Rc<Outputs<'a>>),
}

/// One named thing in FROM.
#[derive(Debug, Clone)]
pub(super) struct Source<'a> {
    /// Alias, or the relation's own name.
    pub(super) name: Option<&'a str>,
    pub(super) rows: Rows<'a>,
}

/// How the columns of FROM are arranged, for `*`.
#[derive(Debug, Clone)]
pub(super) enum Item<'a> {
    /// The source of that index.
    Source(usize),
    /// A join; its merged columns come first and once.
    Join { left: Box<Item<'a>>, right: Box<Item<'a>>, merged: Merged<'a> },
}

/// The columns that USING or NATURAL merges.
#[derive(Debug, Clone)]
pub(super) enum Merged<'a> {
    Named(Vec<Cow<'a, str>>),
    /// NATURAL over a source whose columns are not known.
    Unknown,
}

/// The FROM of one query level.
#[derive(Debug, Clone, Default)]
pub(super) struct Level<'a> {
    pub(super) sources: Vec<Source<'a>>,
    pub(super) items: Vec<Item<'a>>,
    /// Sources whose columns are only found under their names: `old` and `new` in RETURNING.
    pub(super) by_name: Vec<Source<'a>>,
}

impl<'a> Level<'a> {
    /// A level of one source.
    pub(super) fn of(source: Source<'a>) -> Self {
        Self { sources: vec![source], items: vec![Item::Source(0)], by_name: Vec::new() }
    }

    /// The sources of that name; without one, those whose columns are found by their own names alone.
    pub(super) fn called<'s>(&'s self, qualifier: Option<&'s str>) -> impl Iterator<Item = &'s Source<'a>> {
        let by_name = self.by_name.iter().filter(move |_| qualifier.is_some());
        self.sources
            .iter()
            .chain(by_name)
            .filter(move |source| qualifier.is_none() || source.name == qualifier)
    }

    /// Adds the sources and items of another piece of FROM.
    pub(super) fn append(&mut self, mut piece: Self) {
        let offset = self.sources.len();
        piece.items.iter_mut().for_each(|item| shift(item, offset));
        self.sources.append(&mut piece.sources);
        self.items.append(&mut piece.items);
        self.by_name.append(&mut piece.by_name);
    }
}

fn shift(item: &mut Item<'_>, offset: usize) {
    match item {
        Item::Source(index) => *index += offset,
        Item::Join { left, right, merged: _ } => {
            shift(left, offset);
            shift(right, offset);
        }
    }
}

/// A common table expression, analysed.
#[derive(Debug, Clone)]
pub(super) struct Cte<'a> {
    pub(super) name: &'a str,
    pub(super) outputs: Rc<Outputs<'a>>,
}

/// What is visible at one place of a statement, from the inside out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Env<'e, 'a> {
    pub(super) level: Option<&'e Level<'a>>,
    pub(super) ctes: &'e [Cte<'a>],
    pub(super) parent: Option<&'e Env<'e, 'a>>,
}

impl<'e, 'a> Env<'e, 'a> {
    /// Nothing is visible.
    pub(super) const EMPTY: Self = Env { level: None, ctes: &[], parent: None };

    /// One level further in.
    pub(super) fn within(level: &'e Level<'a>, parent: &'e Env<'e, 'a>) -> Self {
        Env { level: Some(level), ctes: &[], parent: Some(parent) }
    }

    fn chain(self) -> impl Iterator<Item = Env<'e, 'a>> {
        std::iter::successors(Some(self), |env| env.parent.copied())
    }

    /// Whether the name means a column as a table stores it, and nothing else: not one of a view, of a subquery or a
    /// join, which may show a part of a value, and not one that is generated from others.
    pub(super) fn is_stored(self, qualifier: Option<&str>, name: &str, needs: Needs) -> bool {
        let Some(level) = self.chain().find_map(|env| env.level) else { return false };
        let mut sources = level.called(qualifier);
        let mut stored = 0;
        let known = sources.all(|source| match &source.rows {
            Rows::Relation(relation) => match relation.columns.iter().find(|column| column.name == name) {
                Some(column) => {
                    stored += 1;
                    relation.kind == RelationKind::Table
                        && needs.are_met_by(column.type_oid)
                        && !column.is_computed
                        // What a table inherits, or its children hold, is the same column stored elsewhere.
                        && column.origins.iter().all(|origin| origin.column == column.name)
                }
                None => true,
            },
            Rows::Unknown(_) => false,
            Rows::Derived(outputs) => outputs.lacks(name),
        });
        known && stored == 1
    }

    /// The one column of a relation here that the name means; `None` where it may mean anything else.
    pub(super) fn column(self, qualifier: Option<&str>, name: &str) -> Option<&'a Column> {
        let level = self.level?;
        let mut found = None;
        for source in level.called(qualifier) {
            match &source.rows {
                Rows::Relation(relation) => {
                    let columns = relation.columns.iter().filter(|column| column.name == name);
                    for column in columns {
                        if found.replace(column).is_some() {
                            return None;
                        }
                    }
                }
                Rows::Derived(outputs) if outputs.lacks(name) => {}
                Rows::Derived(_) | Rows::Unknown(_) => return None,
            }
        }
        found
    }

    /// The CTE of that name, if one is in scope.
    pub(super) fn cte(self, name: &str) -> Option<Rc<Outputs<'a>>> {
        self.chain().find_map(|env| {
            env.ctes.iter().rev().find(|cte| cte.name == name).map(|cte| Rc::clone(&cte.outputs))
        })
    }
}

impl<'a> Reader<'a> {
    /// Adds what an unqualified name may mean.
    pub(super) fn resolve_name(
        &mut self,
        name: &str,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        let mut maybe = Reads::new();
        let mut possible = false;
        for level in env.chain().filter_map(|env| env.level) {
            let mut exact = false;
            for source in &level.sources {
                let mut reads = Reads::new();
                match self.look_up(source, name, &mut reads)? {
                    Found::Exact => {
                        exact = true;
                        into.append(&mut reads);
                    }
                    Found::Maybe => {
                        possible = true;
                        maybe.append(&mut reads);
                    }
                    Found::Absent => {}
                }
            }
            if exact {
                // A "maybe" further in would have won over this level.
                into.append(&mut maybe);
                return Ok(());
            }
        }
        into.append(&mut maybe);
        let mut is_row = false;
        for source in env.chain().filter_map(|env| env.level).flat_map(|level| level.called(Some(name))) {
            is_row = true;
            self.whole(source, into)?;
        }
        if possible || is_row { Ok(()) } else { self.everything(env, into) }
    }

    /// Adds what `source.name` may mean.
    pub(super) fn resolve_qualified(
        &mut self,
        qualifier: &str,
        name: &str,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        for level in env.chain().filter_map(|env| env.level) {
            let mut found = false;
            for source in level.called(Some(qualifier)) {
                found = true;
                if self.look_up(source, name, into)? == Found::Absent {
                    // Functional notation: `c.f` calls f on the whole row.
                    let mut row = Reads::new();
                    self.whole(source, &mut row)?;
                    self.called_as_column(name, into)?;
                    self.can_fail(&row);
                    into.append(&mut row);
                }
            }
            if found {
                return Ok(());
            }
        }
        self.everything(env, into)
    }

    /// Whether an unqualified name certainly means a whole row: it is a source's, and no column's.
    pub(super) fn is_row(&mut self, name: &str, env: &Env<'_, 'a>) -> Result<bool, SqlError> {
        let mut is_source = false;
        for level in env.chain().filter_map(|env| env.level) {
            for source in &level.sources {
                if self.look_up(source, name, &mut Reads::new())? != Found::Absent {
                    return Ok(false);
                }
            }
            is_source |= level.called(Some(name)).next().is_some();
        }
        Ok(is_source)
    }

    /// Whether the nearest source of that name certainly has a column of this one.
    pub(super) fn has_column(&mut self, row: &str, name: &str, env: &Env<'_, 'a>) -> Result<bool, SqlError> {
        let level =
            env.chain().filter_map(|env| env.level).find(|level| level.called(Some(row)).next().is_some());
        let Some(level) = level else { return Ok(false) };
        let sources: Vec<&Source<'a>> = level.called(Some(row)).collect();
        match sources.as_slice() {
            [source] => Ok(self.look_up(source, name, &mut Reads::new())? == Found::Exact),
            _ => Ok(false),
        }
    }

    /// Adds every column of the nearest source of that name; of all sources when there is none.
    pub(super) fn resolve_row(
        &mut self,
        name: &str,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        for level in env.chain().filter_map(|env| env.level) {
            let mut found = false;
            for source in level.called(Some(name)) {
                found = true;
                self.whole(source, into)?;
            }
            if found {
                return Ok(());
            }
        }
        self.everything(env, into)
    }

    /// Adds every column of everything in scope: the answer for names that cannot be traced.
    pub(super) fn everything(&mut self, env: &Env<'_, 'a>, into: &mut Reads) -> Result<(), SqlError> {
        let levels = env.chain().filter_map(|env| env.level);
        for source in levels.flat_map(|level| level.sources.iter().chain(&level.by_name)) {
            self.whole(source, into)?;
        }
        Ok(())
    }

    fn look_up(&mut self, source: &Source<'a>, name: &str, into: &mut Reads) -> Result<Found, SqlError> {
        match &source.rows {
            Rows::Relation(relation) => {
                self.spend(1 + relation.columns.len() / 8)?;
                match relation.columns.iter().find(|column| column.name == name) {
                    Some(column) => {
                        let many = self.columns.read(relation, column, into);
                        self.spend(many)?;
                        Ok(Found::Exact)
                    }
                    None if SYSTEM_COLUMNS.contains(&name) => Ok(Found::Exact),
                    None => Ok(Found::Absent),
                }
            }
            Rows::Unknown(relation) => {
                self.spend(1)?;
                into.insert(self.columns.own(relation, name));
                Ok(Found::Maybe)
            }
            Rows::Derived(outputs) => {
                self.spend(1 + outputs.columns.len() / 8)?;
                let found = outputs.named(name, into);
                self.spend(into.len() / 8)?;
                Ok(found)
            }
        }
    }

    /// Adds every column of a source.
    pub(super) fn whole(&mut self, source: &Source<'a>, into: &mut Reads) -> Result<(), SqlError> {
        match &source.rows {
            Rows::Relation(relation) => {
                for column in &relation.columns {
                    let many = self.columns.read(relation, column, into);
                    self.spend(many)?;
                }
            }
            Rows::Unknown(relation) => {
                into.insert(self.columns.own(relation, "*"));
            }
            Rows::Derived(outputs) => {
                let all = outputs.all();
                self.spend(1 + outputs.columns.len() + all.len())?;
                into.extend(all);
            }
        }
        Ok(())
    }

    /// The columns of a source one by one.
    pub(super) fn expand_source(&mut self, source: &Source<'a>) -> Result<Outputs<'a>, SqlError> {
        match &source.rows {
            Rows::Relation(relation) => {
                let mut outputs = Outputs::default();
                for column in &relation.columns {
                    let mut reads = Reads::new();
                    let many = self.columns.read(relation, column, &mut reads);
                    self.spend(many)?;
                    let value = Value::of_column(column, self.catalogue, id(source, relation.oid));
                    outputs.columns.push(Output::one(Some(Cow::Borrowed(&column.name)), reads, value));
                }
                Ok(outputs)
            }
            Rows::Unknown(relation) => {
                let all = Reads::from([self.columns.own(relation, "*")]);
                Ok(Outputs::unsure(all))
            }
            Rows::Derived(outputs) => {
                self.spend(1 + outputs.columns.len())?;
                let mut outputs = (**outputs).clone();
                for column in &mut outputs.columns {
                    column.value = column.value.from_within(source.name);
                }
                Ok(outputs)
            }
        }
    }

    /// The columns of a piece of FROM, in the order of `*`.
    pub(super) fn expand(&mut self, level: &Level<'a>, item: &Item<'a>) -> Result<Outputs<'a>, SqlError> {
        match item {
            Item::Source(index) => match level.sources.get(*index) {
                Some(source) => self.expand_source(source),
                None => Ok(Outputs::default()),
            },
            Item::Join { left, right, merged } => {
                let left = self.expand(level, left)?;
                let right = self.expand(level, right)?;
                Ok(join(left, right, merged))
            }
        }
    }

    /// The columns of `*`.
    pub(super) fn expand_all(&mut self, level: &Level<'a>) -> Result<Outputs<'a>, SqlError> {
        let mut all = Outputs::default();
        for item in &level.items {
            let outputs = self.expand(level, item)?;
            chain(&mut all, outputs);
        }
        Ok(all)
    }
}

/// Puts the columns of `more` behind those of `outputs`.
pub(super) fn chain<'a>(outputs: &mut Outputs<'a>, more: Outputs<'a>) {
    outputs.columns.extend(more.columns);
}

fn join<'a>(left: Outputs<'a>, right: Outputs<'a>, merged: &Merged<'a>) -> Outputs<'a> {
    let is_known = |name: &Cow<'a, str>| left.has(name) && right.has(name);
    let names = match merged {
        // Were there another column of that name, the server would not know which is meant.
        Merged::Named(names) if names.iter().all(is_known) => names,
        Merged::Named(_) | Merged::Unknown => {
            let mut all = left.all();
            all.extend(right.all());
            return Outputs::unsure(all);
        }
    };
    let mut outputs = Outputs::default();
    for name in names {
        let mut reads = left.reads_of(name);
        reads.extend(right.reads_of(name));
        outputs.columns.push(Output::one(Some(name.clone()), reads, Value::UNKNOWN));
    }
    for mut side in [left, right] {
        side.columns.retain(|column| column.name.as_ref().is_none_or(|name| !names.contains(name)));
        chain(&mut outputs, side);
    }
    outputs
}
