//! FROM: tables, subqueries, functions and joins as named sources.

use std::borrow::Cow;
use std::rc::Rc;

use pg_query::protobuf::{
    Alias, JoinExpr, JsonTable, RangeFunction, RangeTableFunc, RangeTableSample, RangeVar,
};
use pg_query::{Node, NodeEnum};

use crate::domain::statement::{Opaque, Verb};

use super::columns::Reads;
use super::error::SqlError;
use super::names::{inner, parts, unexpected};
use super::nodes::{clause_node, expression_node, planner_node, statement_node};
use super::reader::Reader;
use super::scope::{Env, Item, Level, Merged, Output, Outputs, Rows, Source};
use super::value::Value;

/// Functions that return rows, with the names of their columns; one that has none of its own gets that of the alias or
/// the function. Not among them: `unnest`, whose elements may be rows themselves.
const RETURNS: &[(&str, &[Option<&str>])] = &[
    ("generate_series", &[None]),
    ("generate_subscripts", &[None]),
    ("json_array_elements", &[Some("value")]),
    ("json_array_elements_text", &[Some("value")]),
    ("json_each", &[Some("key"), Some("value")]),
    ("json_each_text", &[Some("key"), Some("value")]),
    ("json_object_keys", &[None]),
    ("jsonb_array_elements", &[Some("value")]),
    ("jsonb_array_elements_text", &[Some("value")]),
    ("jsonb_each", &[Some("key"), Some("value")]),
    ("jsonb_each_text", &[Some("key"), Some("value")]),
    ("jsonb_object_keys", &[None]),
    ("jsonb_path_query", &[None]),
    ("regexp_matches", &[None]),
    ("regexp_split_to_table", &[None]),
    ("string_to_table", &[None]),
];

impl<'a> Reader<'a> {
    /// The level that a FROM list makes.
    pub(super) fn sources_of(&mut self, nodes: &'a [Node], env: &Env<'_, 'a>) -> Result<Level<'a>, SqlError> {
        self.sources_behind(Level::default(), nodes, env)
    }

    /// The same, behind sources that are already there: the target of UPDATE, DELETE or MERGE.
    pub(super) fn sources_behind(
        &mut self,
        mut level: Level<'a>,
        nodes: &'a [Node],
        env: &Env<'_, 'a>,
    ) -> Result<Level<'a>, SqlError> {
        for node in nodes {
            let piece = {
                let lateral = Env::within(&level, env);
                self.source_of(node, env, &lateral)?
            };
            level.append(piece);
        }
        Ok(level)
    }

    /// One item of FROM. `lateral` also sees the items to its left.
    fn source_of(
        &mut self,
        node: &'a Node,
        env: &Env<'_, 'a>,
        lateral: &Env<'_, 'a>,
    ) -> Result<Level<'a>, SqlError> {
        self.enter()?;
        let level = match inner(node) {
            Some(NodeEnum::RangeVar(var)) => Level::of(self.range_var(var, env)?),
            Some(NodeEnum::RangeSubselect(subselect)) => {
                let Some(query) = subselect.subquery.as_deref() else { return Err(unexpected(node)) };
                let outputs = self.query_node(query, if subselect.lateral { lateral } else { env })?;
                Level::of(derived(outputs, subselect.alias.as_ref())?)
            }
            Some(NodeEnum::RangeFunction(function)) => Level::of(self.range_function(function, lateral)?),
            Some(NodeEnum::RangeTableFunc(table)) => Level::of(self.xml_table(table, lateral)?),
            Some(NodeEnum::JsonTable(table)) => Level::of(self.json_table(table, lateral)?),
            Some(NodeEnum::RangeTableSample(sample)) => self.sample(sample, env, lateral)?,
            Some(NodeEnum::JoinExpr(join)) => self.join(join, env, lateral)?,
            Some(planner_node!() | expression_node!() | statement_node!() | clause_node!()) | None => {
                return Err(unexpected(node));
            }
        };
        self.leave();
        Ok(level)
    }

    fn range_var(&mut self, var: &'a RangeVar, env: &Env<'_, 'a>) -> Result<Source<'a>, SqlError> {
        if var.schemaname.is_empty()
            && var.catalogname.is_empty()
            && let Some(outputs) = env.cte(&var.relname)
        {
            let alias = var.alias.as_ref();
            let mut source = derived_shared(outputs, alias)?;
            source.name = Some(alias.map_or(var.relname.as_str(), |alias| alias.aliasname.as_str()));
            return Ok(source);
        }
        let source = self.target(Verb::Select, var)?;
        match &var.alias {
            Some(alias) if !alias.colnames.is_empty() => {
                let mut outputs = self.expand_source(&source)?;
                outputs.rename(&parts(&alias.colnames)?);
                Ok(Source { name: source.name, rows: Rows::Derived(Rc::new(outputs)) })
            }
            _ => Ok(source),
        }
    }

    /// Functions in FROM: their arguments decide how many rows there are and what they show.
    fn range_function(
        &mut self,
        range: &'a RangeFunction,
        env: &Env<'_, 'a>,
    ) -> Result<Source<'a>, SqlError> {
        let mut outputs = Outputs::default();
        let mut compared = Reads::new();
        self.column_definitions(&range.coldeflist, env)?;
        for node in &range.functions {
            let Some(NodeEnum::List(list)) = inner(node) else { return Err(unexpected(node)) };
            let mut reads = Reads::new();
            let mut defined = range.coldeflist.as_slice();
            let mut returns = None;
            for part in &list.items {
                match inner(part) {
                    Some(NodeEnum::List(columns)) => {
                        self.column_definitions(&columns.items, env)?;
                        defined = &columns.items;
                    }
                    kind => {
                        self.expression(part, env, &mut reads)?;
                        returns = returns.or(self.returned_columns(kind));
                    }
                }
            }
            compared.extend(&reads);
            if defined.is_empty() {
                let Some((function, columns)) = returns else {
                    outputs.columns.extend(Outputs::opaque(reads).columns);
                    continue;
                };
                let alias = range.alias.as_ref().map(|alias| alias.aliasname.as_str());
                let names = columns.iter().map(|own| own.or(alias).unwrap_or(function));
                outputs.columns.extend(
                    names.map(|name| Output::one(Some(Cow::Borrowed(name)), reads.clone(), Value::UNKNOWN)),
                );
            } else {
                let names = defined.iter().map(|node| match inner(node) {
                    Some(NodeEnum::ColumnDef(column)) => Some(Cow::Borrowed(column.colname.as_str())),
                    _ => None,
                });
                outputs.columns.extend(names.map(|name| Output::one(name, reads.clone(), Value::UNKNOWN)));
            }
        }
        if range.ordinality {
            // Renamed like every other by `AS f(a, ordinality)`.
            outputs.columns.push(Output::one(
                Some(Cow::Borrowed("ordinality")),
                Reads::new(),
                Value::UNKNOWN,
            ));
        }
        self.compared(compared);
        derived(outputs, range.alias.as_ref())
    }

    /// The name and the columns of a function of PostgreSQL's own that returns the same ones whatever it is called with.
    fn returned_columns(
        &self,
        kind: Option<&'a NodeEnum>,
    ) -> Option<(&'a str, &'static [Option<&'static str>])> {
        let Some(NodeEnum::FuncCall(call)) = kind else { return None };
        let (is_own, name) = match parts(&call.funcname).unwrap_or_default().as_slice() {
            [name] => (!self.catalogue.user_functions.contains_key(*name), *name),
            ["pg_catalog", name] => (true, *name),
            _ => return None,
        };
        let (_, columns) = RETURNS.iter().find(|(known, _)| is_own && *known == name)?;
        Some((name, columns))
    }

    fn column_definitions(&mut self, nodes: &'a [Node], env: &Env<'_, 'a>) -> Result<(), SqlError> {
        for node in nodes {
            match inner(node) {
                Some(NodeEnum::ColumnDef(column)) => {
                    if let Some(name) = &column.type_name {
                        self.type_name(name, env)?;
                    }
                }
                _ => return Err(unexpected(node)),
            }
        }
        Ok(())
    }

    fn xml_table(&mut self, table: &'a RangeTableFunc, env: &Env<'_, 'a>) -> Result<Source<'a>, SqlError> {
        let mut reads = Reads::new();
        self.optional(table.docexpr.as_deref(), env, &mut reads)?;
        self.optional(table.rowexpr.as_deref(), env, &mut reads)?;
        self.expressions(&table.namespaces, env, &mut reads)?;
        let mut names = Vec::with_capacity(table.columns.len());
        for node in &table.columns {
            let Some(NodeEnum::RangeTableFuncCol(column)) = inner(node) else { return Err(unexpected(node)) };
            names.push(Cow::Borrowed(column.colname.as_str()));
            if let Some(name) = &column.type_name {
                self.type_name(name, env)?;
            }
            self.optional(column.colexpr.as_deref(), env, &mut reads)?;
            self.optional(column.coldefexpr.as_deref(), env, &mut reads)?;
        }
        self.compared(reads.clone());
        let columns =
            names.into_iter().map(|name| Output::one(Some(name), reads.clone(), Value::UNKNOWN)).collect();
        derived(Outputs { columns }, table.alias.as_ref())
    }

    fn json_table(&mut self, table: &'a JsonTable, env: &Env<'_, 'a>) -> Result<Source<'a>, SqlError> {
        self.syntax_function("json_table");
        let mut reads = Reads::new();
        if let Some(value) = table.context_item.as_deref() {
            self.json_value(value, env, &mut reads)?;
        }
        if let Some(path) = table.pathspec.as_deref() {
            self.optional(path.string.as_deref(), env, &mut reads)?;
        }
        self.expressions(&table.passing, env, &mut reads)?;
        self.json_columns(&table.columns, env, &mut reads)?;
        if let Some(behavior) = table.on_error.as_deref() {
            self.json_behavior(behavior, env, &mut reads)?;
        }
        self.compared(reads.clone());
        derived(Outputs::opaque(reads), table.alias.as_ref())
    }

    fn json_columns(
        &mut self,
        nodes: &'a [Node],
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        self.enter()?;
        for node in nodes {
            let Some(NodeEnum::JsonTableColumn(column)) = inner(node) else { return Err(unexpected(node)) };
            if let Some(name) = &column.type_name {
                self.type_name(name, env)?;
            }
            if let Some(path) = column.pathspec.as_deref() {
                self.optional(path.string.as_deref(), env, into)?;
            }
            for behavior in [column.on_empty.as_deref(), column.on_error.as_deref()].into_iter().flatten() {
                self.json_behavior(behavior, env, into)?;
            }
            self.json_columns(&column.columns, env, into)?;
        }
        self.leave();
        Ok(())
    }

    fn sample(
        &mut self,
        sample: &'a RangeTableSample,
        env: &Env<'_, 'a>,
        lateral: &Env<'_, 'a>,
    ) -> Result<Level<'a>, SqlError> {
        let Some(relation) = sample.relation.as_deref() else {
            return Err(SqlError::UnknownNode { kind: "RangeTableSample" });
        };
        let level = self.source_of(relation, env, lateral)?;
        match parts(&sample.method)?.as_slice() {
            ["bernoulli" | "system"] | ["pg_catalog", "bernoulli" | "system"] => {}
            method => self.opaque(Opaque::Function(method.join("."))),
        }
        let mut reads = Reads::new();
        self.expressions(&sample.args, lateral, &mut reads)?;
        self.optional(sample.repeatable.as_deref(), lateral, &mut reads)?;
        self.compared(reads);
        Ok(level)
    }

    fn join(
        &mut self,
        join: &'a JoinExpr,
        env: &Env<'_, 'a>,
        lateral: &Env<'_, 'a>,
    ) -> Result<Level<'a>, SqlError> {
        let (Some(left), Some(right)) = (join.larg.as_deref(), join.rarg.as_deref()) else {
            return Err(SqlError::UnknownNode { kind: "JoinExpr" });
        };
        let mut level = self.source_of(left, env, lateral)?;
        let right = {
            let lateral = Env::within(&level, lateral);
            self.source_of(right, env, &lateral)?
        };
        level.append(right);
        let (Some(right_item), Some(left_item)) = (level.items.pop(), level.items.pop()) else {
            return Err(SqlError::UnknownNode { kind: "JoinExpr" });
        };
        let using: Vec<&'a str> = parts(&join.using_clause)?;
        let mut merged = Merged::Named(Vec::new());
        if join.is_natural || !using.is_empty() {
            self.plain_operator("=");
            let left = self.expand(&level, &left_item)?;
            let right = self.expand(&level, &right_item)?;
            let (names, reads) = merged_columns(&left, &right, &using, join.is_natural);
            self.compared(reads);
            merged = names;
        }
        level.items.push(Item::Join { left: Box::new(left_item), right: Box::new(right_item), merged });
        if let Some(quals) = join.quals.as_deref() {
            self.steering(quals, &Env::within(&level, env))?;
        }
        if let Some(alias) = &join.join_using_alias {
            // Visible by name, but no part of `*`.
            let all = self.expand_all(&level)?;
            let mut outputs = Outputs::default();
            for name in &using {
                outputs.columns.push(Output::one(
                    Some(Cow::Borrowed(*name)),
                    all.reads_of(name),
                    Value::UNKNOWN,
                ));
            }
            level
                .sources
                .push(Source { name: Some(&alias.aliasname), rows: Rows::Derived(Rc::new(outputs)) });
        }
        match &join.alias {
            // An alias hides the joined tables' own names.
            Some(alias) => Ok(Level::of(derived(self.expand_all(&level)?, Some(alias))?)),
            None => Ok(level),
        }
    }
}

/// The columns that the join merges, and what they are made of.
fn merged_columns<'a>(
    left: &Outputs<'a>,
    right: &Outputs<'a>,
    using: &[&'a str],
    is_natural: bool,
) -> (Merged<'a>, Reads) {
    let names: Vec<Cow<'a, str>> = if !is_natural {
        using.iter().map(|name| Cow::Borrowed(*name)).collect()
    } else if left.is_certain() && right.is_certain() {
        left.columns
            .iter()
            .filter_map(|column| column.name.clone())
            .filter(|name| right.columns.iter().any(|column| column.name.as_ref() == Some(name)))
            .collect()
    } else {
        let mut all = left.all();
        all.extend(right.all());
        return (Merged::Unknown, all);
    };
    let mut reads = Reads::new();
    for name in &names {
        reads.extend(left.reads_of(name));
        reads.extend(right.reads_of(name));
    }
    (Merged::Named(names), reads)
}

/// A source of its own columns, under its alias.
pub(super) fn derived<'a>(outputs: Outputs<'a>, alias: Option<&'a Alias>) -> Result<Source<'a>, SqlError> {
    derived_shared(Rc::new(outputs), alias)
}

fn derived_shared<'a>(
    mut outputs: Rc<Outputs<'a>>,
    alias: Option<&'a Alias>,
) -> Result<Source<'a>, SqlError> {
    let Some(alias) = alias else { return Ok(Source { name: None, rows: Rows::Derived(outputs) }) };
    if !alias.colnames.is_empty() {
        let names = parts(&alias.colnames)?;
        Rc::make_mut(&mut outputs).rename(&names);
    }
    Ok(Source { name: Some(&alias.aliasname), rows: Rows::Derived(outputs) })
}
