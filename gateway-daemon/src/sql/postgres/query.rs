//! SELECT: what its result columns are made of, and which columns steer it.

use std::borrow::Cow;
use std::rc::Rc;

use pg_query::protobuf::{
    AExprKind, CommonTableExpr, MinMaxOp, SelectStmt, SetOperation, SubLinkType, WithClause, a_const,
};
use pg_query::{Node, NodeEnum};

use super::columns::Reads;
use super::error::SqlError;
use super::names::{inner, integer, text, unexpected};
use super::reader::{Counting, Reader};
use super::scope::{Cte, Env, Level, Output, Outputs, Rows, Source, chain};
use super::value::Value;

/// How often a recursive query is read again until its columns' sources no longer grow.
const MAX_PASSES: usize = 12;

impl<'a> Reader<'a> {
    /// A query where the grammar allows one: SELECT, or in WITH also a statement with RETURNING.
    pub(super) fn query_node(&mut self, node: &'a Node, env: &Env<'_, 'a>) -> Result<Outputs<'a>, SqlError> {
        match inner(node) {
            Some(NodeEnum::SelectStmt(stmt)) => self.select(stmt, env),
            Some(NodeEnum::InsertStmt(stmt)) => self.insert(stmt, env),
            Some(NodeEnum::UpdateStmt(stmt)) => self.update(stmt, env),
            Some(NodeEnum::DeleteStmt(stmt)) => self.delete(stmt, env),
            Some(NodeEnum::MergeStmt(stmt)) => self.merge(stmt, env),
            _ => Err(unexpected(node)),
        }
    }

    /// SELECT, VALUES, TABLE and set operations.
    pub(super) fn select(
        &mut self,
        stmt: &'a SelectStmt,
        env: &Env<'_, 'a>,
    ) -> Result<Outputs<'a>, SqlError> {
        self.enter()?;
        let ctes = self.with(stmt.with_clause.as_ref(), env)?;
        let env = Env { level: None, ctes: &ctes, parent: Some(env) };
        let outputs = if let (Some(left), Some(right)) = (stmt.larg.as_deref(), stmt.rarg.as_deref()) {
            self.set_operation(stmt, left, right, &env)
        } else if stmt.values_lists.is_empty() {
            self.plain_select(stmt, &env)
        } else {
            self.values(stmt, &env)
        }?;
        if let Some(into) = stmt.into_clause.as_deref() {
            if let Some(relation) = &into.rel {
                self.creates(relation);
            }
            let mut nothing = Reads::new();
            self.definitions(&into.options, &env, &mut nothing)?;
            let all = outputs.all();
            self.moved(all);
        }
        self.leave();
        Ok(outputs)
    }

    fn plain_select(&mut self, stmt: &'a SelectStmt, env: &Env<'_, 'a>) -> Result<Outputs<'a>, SqlError> {
        let level = self.sources_of(&stmt.from_clause, env)?;
        let env = Env::within(&level, env);
        let outputs = self.targets(&stmt.target_list, &level, &env)?;
        if let Some(filter) = stmt.where_clause.as_deref() {
            self.steering(filter, &env)?;
        }
        let mut steering = Reads::new();
        for item in &stmt.group_clause {
            self.named_item(item, &outputs, &env, &mut steering)?;
        }
        self.optional(stmt.having_clause.as_deref(), &env, &mut steering)?;
        self.compared(steering);
        for window in &stmt.window_clause {
            match inner(window) {
                Some(NodeEnum::WindowDef(window)) => self.window(window, &env)?,
                _ => return Err(unexpected(window)),
            }
        }
        self.tail(stmt, &outputs, &env)?;
        Ok(outputs)
    }

    fn values(&mut self, stmt: &'a SelectStmt, env: &Env<'_, 'a>) -> Result<Outputs<'a>, SqlError> {
        let mut outputs = Outputs::default();
        for row in &stmt.values_lists {
            let Some(NodeEnum::List(list)) = inner(row) else { return Err(unexpected(row)) };
            for (index, value) in list.items.iter().enumerate() {
                let mut reads = Reads::new();
                self.value_is_free(value);
                let value = self.value(value, env, &mut reads)?.settled();
                match outputs.columns.get_mut(index) {
                    Some(column) => {
                        column.reads.append(&mut reads);
                        column.value = self.united(column.value, value, &column.reads);
                    }
                    None => outputs.columns.push(Output::one(
                        Some(Cow::Owned(format!("column{}", index + 1))),
                        reads,
                        value,
                    )),
                }
            }
        }
        self.set_tail(stmt, &outputs, env)?;
        Ok(outputs)
    }

    fn set_operation(
        &mut self,
        stmt: &'a SelectStmt,
        left: &'a SelectStmt,
        right: &'a SelectStmt,
        env: &Env<'_, 'a>,
    ) -> Result<Outputs<'a>, SqlError> {
        let left = self.select(left, env)?;
        let right = self.select(right, env)?;
        let compares = match SetOperation::try_from(stmt.op) {
            Ok(SetOperation::SetopUnion) => !stmt.all,
            Ok(SetOperation::SetopIntersect | SetOperation::SetopExcept) => true,
            Ok(SetOperation::SetopNone | SetOperation::Undefined) | Err(_) => {
                return Err(SqlError::UnknownNode { kind: "SetOperation" });
            }
        };
        let mut values = Vec::new();
        if !left.is_open() && !right.is_open() {
            for (left, right) in left.columns.iter().zip(&right.columns) {
                let reads = left.reads.union(&right.reads).copied().collect();
                values.push(self.united(left.value, right.value, &reads));
            }
        }
        let mut outputs = unite(left, &right);
        for (at, column) in outputs.columns.iter_mut().enumerate() {
            column.value = values.get(at).copied().unwrap_or(Value::UNKNOWN);
        }
        if compares {
            self.plain_operator("=");
            let all = outputs.all();
            self.compared(all);
        }
        self.set_tail(stmt, &outputs, env)?;
        Ok(outputs)
    }

    /// ORDER BY and LIMIT behind VALUES or a set operation, where only the result's names are visible.
    fn set_tail(
        &mut self,
        stmt: &'a SelectStmt,
        outputs: &Outputs<'a>,
        env: &Env<'_, 'a>,
    ) -> Result<(), SqlError> {
        let rows = Rows::Derived(Rc::new(outputs.clone()));
        let level = Level::of(Source { name: None, rows });
        self.tail(stmt, outputs, &Env::within(&level, env))
    }

    /// DISTINCT, ORDER BY, LIMIT and locks.
    fn tail(
        &mut self,
        stmt: &'a SelectStmt,
        outputs: &Outputs<'a>,
        env: &Env<'_, 'a>,
    ) -> Result<(), SqlError> {
        let mut steering = Reads::new();
        for item in &stmt.distinct_clause {
            if inner(item).is_some() {
                self.named_item(item, outputs, env, &mut steering)?;
            } else {
                steering.extend(outputs.all()); // plain DISTINCT
            }
        }
        for item in &stmt.sort_clause {
            match inner(item) {
                Some(NodeEnum::SortBy(sort)) => {
                    self.operator(&sort.use_op)?;
                    if let Some(key) = sort.node.as_deref() {
                        self.named_item(key, outputs, env, &mut steering)?;
                    }
                }
                _ => return Err(unexpected(item)),
            }
        }
        self.optional(stmt.limit_offset.as_deref(), env, &mut steering)?;
        self.optional(stmt.limit_count.as_deref(), env, &mut steering)?;
        self.compared(steering);
        for item in &stmt.locking_clause {
            if !matches!(inner(item), Some(NodeEnum::LockingClause(_))) {
                return Err(unexpected(item));
            }
        }
        Ok(())
    }

    /// An item of GROUP BY, ORDER BY or DISTINCT ON, which may also be a position or the name of a result column.
    fn named_item(
        &mut self,
        node: &'a Node,
        outputs: &Outputs<'a>,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        match inner(node) {
            Some(NodeEnum::AConst(_)) => {
                let position = integer(node).and_then(|position| usize::try_from(position).ok());
                match position.and_then(|position| outputs.at(position)) {
                    Some(column) => into.extend(&column.reads),
                    None => into.extend(outputs.all()),
                }
                Ok(())
            }
            Some(NodeEnum::ColumnRef(column)) => {
                if let [name] = column.fields.as_slice()
                    && let Some(name) = text(name)
                {
                    // Input columns win in GROUP BY, result columns in ORDER BY: both are meant here.
                    let matches: Vec<&Output<'a>> = outputs
                        .columns
                        .iter()
                        .filter(|column| column.name.as_deref() == Some(name))
                        .collect();
                    if !matches.is_empty() {
                        for column in matches {
                            into.extend(&column.reads);
                        }
                        return self.input_column(name, env, into);
                    }
                    outputs
                        .columns
                        .iter()
                        .filter(|column| column.name.is_none())
                        .for_each(|column| into.extend(&column.reads));
                }
                self.expression(node, env, into)
            }
            Some(NodeEnum::GroupingSet(set)) => {
                set.content.iter().try_for_each(|item| self.named_item(item, outputs, env, into))
            }
            Some(NodeEnum::List(list)) => {
                list.items.iter().try_for_each(|item| self.named_item(item, outputs, env, into))
            }
            Some(NodeEnum::RowExpr(row)) => {
                row.args.iter().try_for_each(|item| self.named_item(item, outputs, env, into))
            }
            _ => self.expression(node, env, into),
        }
    }

    /// A name that certainly is a result column's: the input column of that name counts if there is one.
    fn input_column(&mut self, name: &str, env: &Env<'_, 'a>, into: &mut Reads) -> Result<(), SqlError> {
        let Some(level) = env.level else { return Ok(()) };
        let is_known = level.sources.iter().any(|source| match &source.rows {
            Rows::Relation(relation) => relation.columns.iter().any(|column| column.name == name),
            Rows::Derived(outputs) => {
                outputs.columns.iter().any(|column| column.name.as_deref() == Some(name))
            }
            Rows::Unknown(_) => false,
        });
        if is_known { self.resolve_name(name, env, into) } else { Ok(()) }
    }

    /// The result columns of a target list.
    pub(super) fn targets(
        &mut self,
        nodes: &'a [Node],
        level: &Level<'a>,
        env: &Env<'_, 'a>,
    ) -> Result<Outputs<'a>, SqlError> {
        let mut outputs = Outputs::default();
        for node in nodes {
            let Some(NodeEnum::ResTarget(target)) = inner(node) else { return Err(unexpected(node)) };
            let Some(value) = target.val.as_deref() else { continue };
            let expanded = match star(value) {
                Star::All => Some(self.expand_all(level)?),
                Star::Of(name) => Some(self.star_of(name, env)?),
                Star::OfName(name) if self.is_row(name, env)? => Some(self.star_of(name, env)?),
                Star::OfName(_) | Star::OfValue => {
                    let mut reads = Reads::new();
                    self.expression(value, env, &mut reads)?;
                    Some(Outputs::opaque(reads))
                }
                Star::None => None,
            };
            if let Some(expanded) = expanded {
                chain(&mut outputs, expanded);
                continue;
            }
            let mut reads = Reads::new();
            let known = self.value(value, env, &mut reads)?.settled();
            let name = if target.name.is_empty() { made_up_name(value) } else { Some(target.name.as_str()) };
            outputs.columns.push(Output::one(name.map(Cow::Borrowed), reads, known));
        }
        Ok(outputs)
    }

    /// `name.*` in a target list.
    fn star_of(&mut self, name: &str, env: &Env<'_, 'a>) -> Result<Outputs<'a>, SqlError> {
        self.references += 1;
        let levels = std::iter::successors(Some(*env), |env| env.parent.copied()).filter_map(|env| env.level);
        for level in levels {
            let named: Vec<&Source<'a>> = level.called(Some(name)).collect();
            match named.as_slice() {
                [] => {}
                [source] => return self.expand_source(source),
                several => {
                    let mut reads = Reads::new();
                    for source in several {
                        self.whole(source, &mut reads)?;
                    }
                    return Ok(Outputs::unsure(reads));
                }
            }
        }
        let mut reads = Reads::new();
        self.everything(env, &mut reads)?;
        Ok(Outputs::unsure(reads))
    }

    /// WITH: each query in turn, visible to those behind it; with RECURSIVE to all of them.
    pub(super) fn with(
        &mut self,
        clause: Option<&'a WithClause>,
        env: &Env<'_, 'a>,
    ) -> Result<Vec<Cte<'a>>, SqlError> {
        let Some(clause) = clause else { return Ok(Vec::new()) };
        let mut queries = Vec::with_capacity(clause.ctes.len());
        for node in &clause.ctes {
            match inner(node) {
                Some(NodeEnum::CommonTableExpr(cte)) => queries.push(cte.as_ref()),
                _ => return Err(unexpected(node)),
            }
        }
        let mut ctes: Vec<Cte<'a>> = Vec::with_capacity(queries.len());
        if !clause.recursive {
            for cte in queries {
                let scope = Env { level: None, ctes: &ctes, parent: Some(env) };
                let outputs = self.common_table(cte, &scope)?;
                ctes.push(Cte { name: &cte.ctename, outputs: Rc::new(outputs) });
            }
            return Ok(ctes);
        }
        for cte in &queries {
            // Nothing is known of it yet but that it may have any column.
            ctes.push(Cte { name: &cte.ctename, outputs: Rc::new(Outputs::opaque(Reads::new())) });
        }
        for _ in 0..MAX_PASSES {
            let mut grown = Vec::with_capacity(queries.len());
            for cte in &queries {
                let scope = Env { level: None, ctes: &ctes, parent: Some(env) };
                let mut outputs = self.common_table(cte, &scope)?;
                // How often it is computed on is not known.
                outputs.columns.iter_mut().for_each(|column| column.value = Value::UNKNOWN);
                grown.push(Cte { name: &cte.ctename, outputs: Rc::new(outputs) });
            }
            let is_stable = grown.iter().zip(&ctes).all(|(new, old)| new.outputs == old.outputs);
            ctes = grown;
            if is_stable {
                return Ok(ctes);
            }
        }
        // Still growing: every column may show everything that any of them shows.
        let all: Reads = ctes.iter().flat_map(|cte| cte.outputs.all()).collect();
        for cte in &mut ctes {
            cte.outputs = Rc::new(Outputs::unsure(all.clone()));
        }
        let scope = Env { level: None, ctes: &ctes, parent: Some(env) };
        for cte in &queries {
            self.common_table(cte, &scope)?;
        }
        Ok(ctes)
    }

    fn common_table(&mut self, cte: &'a CommonTableExpr, env: &Env<'_, 'a>) -> Result<Outputs<'a>, SqlError> {
        let Some(query) = cte.ctequery.as_deref() else {
            return Err(SqlError::UnknownNode { kind: "CommonTableExpr" });
        };
        // The tag counts what the statement around it changes.
        let mut outputs = self.counting(Counting::Uncounted, |reader| reader.query_node(query, env))?;
        outputs.rename(&super::names::parts(&cte.aliascolnames)?);
        if let Some(search) = &cte.search_clause {
            let reads = named_reads(&outputs, &search.search_col_list)?;
            self.compared(reads.clone());
            let name = Some(Cow::Borrowed(search.search_seq_column.as_str()));
            outputs.columns.push(Output::one(name, reads, Value::UNKNOWN));
        }
        if let Some(cycle) = cte.cycle_clause.as_deref() {
            let mut reads = named_reads(&outputs, &cycle.cycle_col_list)?;
            self.optional(cycle.cycle_mark_value.as_deref(), env, &mut reads)?;
            self.optional(cycle.cycle_mark_default.as_deref(), env, &mut reads)?;
            self.compared(reads.clone());
            for name in [&cycle.cycle_mark_column, &cycle.cycle_path_column] {
                let name = Some(Cow::Borrowed(name.as_str()));
                outputs.columns.push(Output::one(name, reads.clone(), Value::UNKNOWN));
            }
        }
        Ok(outputs)
    }
}

fn named_reads(outputs: &Outputs<'_>, names: &[Node]) -> Result<Reads, SqlError> {
    let mut reads = Reads::new();
    for name in super::names::parts(names)? {
        reads.extend(outputs.reads_of(name));
    }
    Ok(reads)
}

/// The columns of a set operation: by position, under the left side's names.
fn unite<'a>(left: Outputs<'a>, right: &Outputs<'a>) -> Outputs<'a> {
    let count = [&left, right].into_iter().find(|side| !side.is_open()).map(|side| side.columns.len());
    let sides = count.and_then(|count| Some((left.fit(count)?, right.fit(count)?)));
    let Some((reads, others)) = sides else {
        let mut all = left.all();
        all.extend(right.all());
        let unsure = left.columns.into_iter().map(|column| Output { reads: all.clone(), ..column });
        return Outputs { columns: unsure.chain(Outputs::unsure(all.clone()).columns).collect() };
    };
    let names = if left.is_open() { Vec::new() } else { left.columns };
    let mut names = names.into_iter().map(|column| column.name);
    let each = reads.into_iter().zip(others).map(|(mut reads, mut other)| {
        reads.append(&mut other);
        Output::one(names.next().flatten(), reads, Value::UNKNOWN)
    });
    Outputs { columns: each.collect() }
}

enum Star<'a> {
    None,
    All,
    Of(&'a str),
    /// `(name).*`: of a row, or of a composite column.
    OfName(&'a str),
    /// `(expression).*`
    OfValue,
}

fn star(value: &Node) -> Star<'_> {
    let is_star = |node: &Node| matches!(inner(node), Some(NodeEnum::AStar(_)));
    match inner(value) {
        Some(NodeEnum::ColumnRef(column)) => match column.fields.as_slice() {
            [only] if is_star(only) => Star::All,
            [.., relation, last] if is_star(last) => text(relation).map_or(Star::OfValue, Star::Of),
            _ => Star::None,
        },
        Some(NodeEnum::AIndirection(indirection)) if indirection.indirection.last().is_some_and(is_star) => {
            match (indirection.arg.as_deref().and_then(inner), indirection.indirection.as_slice()) {
                (Some(NodeEnum::ColumnRef(column)), [_]) => match column.fields.as_slice() {
                    [only] => text(only).map_or(Star::OfValue, Star::OfName),
                    _ => Star::OfValue,
                },
                _ => Star::OfValue,
            }
        }
        _ => Star::None,
    }
}

/// The name that PostgreSQL gives a column without AS, where that is certain (parse_target.c: `FigureColname`).
fn made_up_name(value: &Node) -> Option<&str> {
    figured_name(value).map(|(name, _)| name)
}

/// How sure PostgreSQL is of a name: a cast and a CASE give theirs to what has no better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strength {
    None,
    Weak,
    Strong,
}

fn or_weak<'a>(inside: Option<&'a Node>, name: &'a str) -> Option<(&'a str, Strength)> {
    match inside.map(figured_name) {
        Some(Some((_, Strength::None | Strength::Weak))) | None => Some((name, Strength::Weak)),
        Some(found) => found,
    }
}

fn figured_name(value: &Node) -> Option<(&str, Strength)> {
    const NAMELESS: (&str, Strength) = ("?column?", Strength::None);
    let strong = |name| Some((name, Strength::Strong));
    match inner(value)? {
        NodeEnum::ColumnRef(column) => strong(text(column.fields.last()?)?),
        NodeEnum::FuncCall(call) => strong(text(call.funcname.last()?)?),
        NodeEnum::CollateClause(collate) => figured_name(collate.arg.as_deref()?),
        NodeEnum::TypeCast(cast) => {
            or_weak(cast.arg.as_deref(), text(cast.type_name.as_ref()?.names.last()?)?)
        }
        NodeEnum::CaseExpr(case) => or_weak(case.defresult.as_deref(), "case"),
        NodeEnum::CoalesceExpr(_) => strong("coalesce"),
        NodeEnum::AArrayExpr(_) => strong("array"),
        NodeEnum::RowExpr(_) => strong("row"),
        NodeEnum::GroupingFunc(_) => strong("grouping"),
        NodeEnum::MinMaxExpr(expression) => match MinMaxOp::try_from(expression.op) {
            Ok(MinMaxOp::IsGreatest) => strong("greatest"),
            Ok(MinMaxOp::IsLeast) => strong("least"),
            _ => None,
        },
        NodeEnum::AExpr(expression) => match AExprKind::try_from(expression.kind) {
            Ok(AExprKind::AexprNullif) => strong("nullif"),
            _ => Some(NAMELESS),
        },
        NodeEnum::SubLink(link) => match SubLinkType::try_from(link.sub_link_type) {
            Ok(SubLinkType::ExistsSublink) => strong("exists"),
            Ok(SubLinkType::ArraySublink) => strong("array"),
            Ok(SubLinkType::AllSublink | SubLinkType::AnySublink) => Some(NAMELESS),
            _ => None,
        },
        NodeEnum::BoolExpr(_) | NodeEnum::NullTest(_) | NodeEnum::ParamRef(_) => Some(NAMELESS),
        // How a boolean is written in the parse tree, and so what it is called, depends on the version.
        NodeEnum::AConst(constant) if !matches!(constant.val, Some(a_const::Val::Boolval(_))) => {
            Some(NAMELESS)
        }
        _ => None,
    }
}
