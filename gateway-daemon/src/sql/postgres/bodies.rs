//! Functions whose code can be read: those in SQL, as a text or as BEGIN ATOMIC. What their statements do is done by whoever
//! calls them, and what they read flows into the result.
//!
//! A name stands for every function that bears it; all of them are read, or the call counts as code that cannot be. A text
//! is read along the path that the server will read it along: the one that the function sets, or the session's own. The
//! server writes out BEGIN ATOMIC by what its names meant when the function was made.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::thread;

use pg_query::protobuf::{
    AlterFunctionStmt, CreateFunctionStmt, DefElem, FunctionParameterMode, VariableSetKind, VariableSetStmt,
    a_const,
};
use pg_query::{Node, NodeEnum};

use crate::domain::catalogue::Catalogue;
use crate::domain::statement::{
    ColumnAccess, ColumnName, ColumnUse, Opaque, RowLimit, SearchPathStep, Statement, Verb,
};

use super::columns::{Reads, matched, tested};
use super::error::SqlError;
use super::names::{definition, inner, parts, text, unexpected};
use super::parser;
use super::reader::{INLINE_BYTES, MAX_TEXT_BYTES, Reader, STACK_BYTES};
use super::scope::{Env, Level, Output, Outputs, Rows, Source};
use super::settings;
use super::value::Value;

/// How many functions may call one another before the innermost counts as code that cannot be read.
const MAX_CALLS: usize = 8;

/// What a body does and shows.
struct Body {
    statement: Statement,
    leaves_traces: bool,
    /// The columns that its results are made of.
    shown: BTreeSet<ColumnName>,
}

/// How the code of a CREATE FUNCTION is written.
enum Code<'t> {
    Text(&'t str),
    Parsed(&'t Node),
}

/// The parts of a CREATE FUNCTION that matter here, where it is in SQL.
struct Written<'t> {
    code: Code<'t>,
    /// The names of its parameters that it is called with.
    parameters: Vec<&'t str>,
    settings: Vec<&'t VariableSetStmt>,
}

impl<'a> Reader<'a> {
    /// Notes what every function of that name does; `None` where one of them cannot be read. Returns what their results
    /// may be made of beside their arguments.
    pub(super) fn bodies(&mut self, schema: Option<&str>, name: &str) -> Result<Option<Reads>, SqlError> {
        let catalogue = self.catalogue;
        let all = catalogue.definitions.functions.get(name).map_or(&[][..], Vec::as_slice);
        let meant: Vec<_> =
            all.iter().filter(|function| schema.is_none_or(|schema| function.schema == schema)).collect();
        if meant.is_empty() || self.within.len() >= MAX_CALLS {
            return Ok(None);
        }
        let mut bodies = Vec::with_capacity(meant.len());
        for function in meant {
            let Some(definition) = &function.definition else { return Ok(None) };
            let key = (function.schema.clone(), definition.clone());
            // What calls itself does no more than it does.
            if self.within.contains(&key) {
                continue;
            }
            self.within.push(key);
            let body = self.body(definition);
            self.within.pop();
            match body? {
                Some(body) => bodies.push(body),
                None => return Ok(None),
            }
        }
        // It may fail, by what is in it.
        self.can_fail(&Reads::new());
        let mut shown = Reads::new();
        for body in &bodies {
            shown.append(&mut self.done_by(body));
        }
        Ok(Some(shown))
    }

    fn body(&mut self, definition: &str) -> Result<Option<Body>, SqlError> {
        self.spend(1 + definition.len() / 64)?;
        let (catalogue, within) = (self.catalogue, self.within.clone());
        let (depth, work) = (self.depth, self.work);
        let read = move || {
            let mut work = work;
            let body = read_definition(definition, catalogue, within, depth, &mut work);
            (body, work)
        };
        let (body, work) = if definition.len() <= INLINE_BYTES {
            read()
        } else {
            thread::scope(|scope| {
                let builder = thread::Builder::new().name("sql-reader".to_owned()).stack_size(STACK_BYTES);
                let reader = builder.spawn_scoped(scope, read).map_err(|_| SqlError::Failed)?;
                reader.join().map_err(|_| SqlError::Failed)
            })?
        };
        self.work = work;
        match body {
            Ok(body) => Ok(body),
            Err(SqlError::TooComplex | SqlError::Failed) => Err(SqlError::TooComplex),
            // What may not be read as a statement of its own is left to policy, as all code of which nothing is known.
            Err(_) => Ok(None),
        }
    }

    /// Notes what a body does as done by the statement that calls it.
    fn done_by(&mut self, body: &Body) -> Reads {
        let Body { statement, leaves_traces, shown } = body;
        for effect in &statement.effects {
            self.effect(effect.verb, effect.relation.clone());
            if effect.verb.changes_rows() {
                self.facts.uncounted.insert(effect.clone());
            }
        }
        self.facts.functions.extend(statement.functions.iter().cloned());
        self.facts.opaque.extend(statement.opaque.iter().cloned());
        self.facts.out_of_sight.extend(statement.out_of_sight.iter().cloned());
        self.facts.unlimited |= statement.row_limit == RowLimit::Unlimited;
        self.facts.leaves_traces |= leaves_traces;
        if self.facts.unpins.is_none() {
            self.facts.unpins.clone_from(&statement.unpins);
        }
        for ColumnAccess { column, usage } in &statement.columns {
            let number = Reads::from([self.columns.number(column.clone())]);
            match usage {
                ColumnUse::Projected | ColumnUse::Computed => self.computed(&number),
                ColumnUse::Tested => self.compared(tested(&number)),
                ColumnUse::Matched => self.compared(matched(&number)),
                ColumnUse::Compared => self.compared(number),
                ColumnUse::Moved => self.moved(number),
                ColumnUse::Written => self.facts.written.extend(number),
                ColumnUse::Defined => self.defined(&number),
            }
        }
        let shown: Reads = shown.iter().map(|column| self.columns.number(column.clone())).collect();
        // The result is converted to the type that is declared, and cut to one row.
        self.computed(&shown);
        shown
    }

    /// CREATE FUNCTION and PROCEDURE. One in SQL is judged by what it does, as if that were done now: where it is called
    /// from a trigger, a default or by somebody else, nobody asks any more.
    pub(super) fn create_function(&mut self, stmt: &'a CreateFunctionStmt) -> Result<(), SqlError> {
        self.effect(Verb::Create, None);
        for node in &stmt.parameters {
            let Some(NodeEnum::FunctionParameter(parameter)) = inner(node) else {
                return Err(unexpected(node));
            };
            if let Some(name) = &parameter.arg_type {
                self.type_name(name, &Env::EMPTY)?;
            }
            let mut reads = Reads::new();
            self.optional(parameter.defexpr.as_deref(), &Env::EMPTY, &mut reads)?;
            self.defined(&reads);
        }
        if let Some(name) = &stmt.return_type {
            self.type_name(name, &Env::EMPTY)?;
        }
        for set in settings_of(&stmt.options) {
            self.function_sets(set)?;
        }
        let body = match written(stmt)? {
            Some(written) => {
                let (catalogue, within) = (self.catalogue, self.within.clone());
                let mut work = self.work;
                let name = parts(&stmt.funcname)?.last().copied().unwrap_or_default();
                let body =
                    read_body(&written, name, Names::AsWritten, catalogue, within, self.depth, &mut work);
                self.work = work;
                match body {
                    Err(error @ SqlError::TooComplex) => return Err(error),
                    body => body.ok().flatten(),
                }
            }
            None => None,
        };
        let Some(body) = body else {
            self.opaque_code("CREATE FUNCTION");
            return Ok(());
        };
        let shown = self.done_by(&body);
        let read: Reads =
            body.statement.columns.iter().map(|access| self.columns.number(access.column.clone())).collect();
        self.defined(&read);
        self.defined(&shown);
        self.moved(shown);
        Ok(())
    }

    /// ALTER FUNCTION: who may call it, and what it sets, become others; its code stays.
    pub(super) fn alter_function(&mut self, stmt: &'a AlterFunctionStmt) -> Result<(), SqlError> {
        for set in settings_of(&stmt.actions) {
            self.function_sets(set)?;
        }
        self.effect(Verb::Alter, None);
        self.opaque(Opaque::Code("ALTER FUNCTION".to_owned()));
        Ok(())
    }

    /// What a function sets for as long as it runs. Its own path is for its own names.
    fn function_sets(&mut self, set: &'a VariableSetStmt) -> Result<(), SqlError> {
        if set.name.eq_ignore_ascii_case("search_path") { Ok(()) } else { self.keeps_setting(set) }
    }
}

/// Along which path the names of a body are found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// The session's, or the function's own: the text is as somebody wrote it.
    AsWritten,
    /// The server has written out what it made of the body.
    AsKept,
}

/// Reads the function that a statement would make.
fn read_definition(
    definition: &str,
    catalogue: &Catalogue,
    within: Vec<(String, String)>,
    depth: usize,
    work: &mut usize,
) -> Result<Option<Body>, SqlError> {
    let parsed = parser::parse(definition, MAX_TEXT_BYTES)?;
    let [raw] = parsed.statements.as_slice() else { return Ok(None) };
    let Some(NodeEnum::CreateFunctionStmt(stmt)) = raw.stmt.as_deref().and_then(inner) else {
        return Ok(None);
    };
    let Some(written) = written(stmt)? else { return Ok(None) };
    let name = parts(&stmt.funcname)?.last().copied().unwrap_or_default();
    read_body(&written, name, Names::AsKept, catalogue, within, depth, work)
}

fn read_body(
    written: &Written<'_>,
    name: &str,
    names: Names,
    catalogue: &Catalogue,
    within: Vec<(String, String)>,
    depth: usize,
    work: &mut usize,
) -> Result<Option<Body>, SqlError> {
    let along;
    let catalogue = match (path_of(&written.settings, catalogue), &written.code, names) {
        (Path::Unknown, _, _) => return Ok(None),
        (_, Code::Parsed(_), Names::AsKept) => {
            along = Catalogue { search_path: catalogue.definitions.path.clone(), ..catalogue.clone() };
            &along
        }
        (Path::Own(path), Code::Text(_), _) => {
            along = Catalogue { search_path: path, ..catalogue.clone() };
            &along
        }
        (_, _, _) => catalogue,
    };
    let parsed;
    let nodes: Vec<&Node> = match written.code {
        Code::Text(text) => {
            parsed = parser::parse(text, MAX_TEXT_BYTES)?;
            parsed.statements.iter().filter_map(|raw| raw.stmt.as_deref()).collect()
        }
        Code::Parsed(node) => statements_of(node),
    };
    let mut reader = Reader::new(catalogue);
    (reader.within, reader.depth, reader.work) = (within, depth, *work);
    let result = reader.statements_of_body(&nodes, written, name);
    *work = reader.work;
    let Some(shown) = result? else { return Ok(None) };
    let leaves_traces = reader.facts.leaves_traces;
    let has_effects = !reader.facts.effects.is_empty();
    let mut statement = reader.finish();
    if !has_effects && statement.opaque.is_empty() {
        statement.effects.clear();
    }
    let is_plain = statement.copy.is_none() && statement.search_path == SearchPathStep::None;
    let shown = shown.iter().filter_map(|number| reader.columns.name(*number)).cloned().collect();
    Ok(is_plain.then_some(Body { statement, leaves_traces, shown }))
}

impl<'t> Reader<'t> {
    /// Reads the statements of a body; returns what their results are made of, and `None` where one of them is neither a
    /// query nor a change of rows.
    fn statements_of_body(
        &mut self,
        nodes: &[&'t Node],
        written: &Written<'t>,
        name: &'t str,
    ) -> Result<Option<Reads>, SqlError> {
        let parameters = written.parameters.iter();
        let columns =
            parameters.map(|name| Output::one(Some(Cow::Borrowed(*name)), Reads::new(), Value::UNKNOWN));
        let outputs = Outputs { columns: columns.collect() };
        // Columns come before parameters of the same name.
        let level = Level::of(Source { name: Some(name), rows: Rows::Derived(Rc::new(outputs)) });
        let env = Env::within(&level, &Env::EMPTY);
        let mut shown = Reads::new();
        for node in nodes {
            match inner(node) {
                Some(NodeEnum::ReturnStmt(stmt)) => {
                    self.optional(stmt.returnval.as_deref(), &env, &mut shown)?;
                }
                Some(
                    NodeEnum::SelectStmt(_)
                    | NodeEnum::InsertStmt(_)
                    | NodeEnum::UpdateStmt(_)
                    | NodeEnum::DeleteStmt(_)
                    | NodeEnum::MergeStmt(_),
                ) => {
                    let outputs = self.query_node(node, &env)?;
                    shown.extend(outputs.all());
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(shown))
    }
}

/// The statements of RETURN or BEGIN ATOMIC.
fn statements_of(node: &Node) -> Vec<&Node> {
    match inner(node) {
        Some(NodeEnum::List(list)) => list.items.iter().flat_map(statements_of).collect(),
        None => Vec::new(),
        Some(_) => vec![node],
    }
}

/// What matters of a CREATE FUNCTION, where it is in SQL.
fn written(stmt: &CreateFunctionStmt) -> Result<Option<Written<'_>>, SqlError> {
    let option = |name: &str| {
        let mut options = stmt.options.iter().filter_map(|node| definition(node).ok());
        options.find(|option| option.defname == name)
    };
    let language = option("language").and_then(|option| text(option.arg.as_deref()?));
    let is_sql = language.map_or(stmt.sql_body.is_some(), |language| language.eq_ignore_ascii_case("sql"));
    let code = match (stmt.sql_body.as_deref(), option("as").and_then(only_text)) {
        (Some(body), _) => Code::Parsed(body),
        (None, Some(text)) => Code::Text(text),
        (None, None) => return Ok(None),
    };
    if !is_sql {
        return Ok(None);
    }
    let mut parameters = Vec::new();
    for node in &stmt.parameters {
        let Some(NodeEnum::FunctionParameter(parameter)) = inner(node) else { return Err(unexpected(node)) };
        let is_given = !matches!(
            FunctionParameterMode::try_from(parameter.mode),
            Ok(FunctionParameterMode::FuncParamOut | FunctionParameterMode::FuncParamTable)
        );
        if is_given && !parameter.name.is_empty() {
            parameters.push(parameter.name.as_str());
        }
    }
    Ok(Some(Written { code, parameters, settings: settings_of(&stmt.options).collect() }))
}

/// The text of AS, if it is one alone.
fn only_text(option: &DefElem) -> Option<&str> {
    match inner(option.arg.as_deref()?)? {
        NodeEnum::List(list) => match list.items.as_slice() {
            [one] => text(one),
            _ => None,
        },
        _ => text(option.arg.as_deref()?),
    }
}

fn settings_of(options: &[Node]) -> impl Iterator<Item = &VariableSetStmt> {
    options.iter().filter_map(|node| match inner(definition(node).ok()?.arg.as_deref()?)? {
        NodeEnum::VariableSetStmt(set) => Some(set),
        _ => None,
    })
}

/// What a function does to the path.
enum Path {
    /// Nothing.
    Sessions,
    /// It has this one.
    Own(Vec<String>),
    /// That cannot be told, or it sets something else that matters.
    Unknown,
}

fn path_of(set: &[&VariableSetStmt], catalogue: &Catalogue) -> Path {
    let mut path = Path::Sessions;
    for set in set {
        if VariableSetKind::try_from(set.kind) != Ok(VariableSetKind::VarSetValue) {
            return Path::Unknown;
        }
        let values: Option<Vec<&str>> = set.args.iter().map(constant).collect();
        let Some(values) = values else { return Path::Unknown };
        if !set.name.eq_ignore_ascii_case("search_path") {
            let values: Vec<String> = values.into_iter().map(str::to_owned).collect();
            if settings::is_harmless(&set.name.to_ascii_lowercase(), &values) {
                continue;
            }
            return Path::Unknown;
        }
        if values.contains(&"$user") {
            return Path::Unknown;
        }
        let own_temporary = catalogue.search_path.iter().find(|schema| schema.starts_with("pg_temp"));
        let mut schemas: Vec<String> = Vec::new();
        if !values.contains(&"pg_temp") {
            schemas.extend(own_temporary.cloned());
        }
        if !values.contains(&"pg_catalog") {
            schemas.push("pg_catalog".to_owned());
        }
        for value in values {
            match value {
                "pg_temp" => schemas.extend(own_temporary.cloned()),
                _ => schemas.push(value.to_owned()),
            }
        }
        path = Path::Own(schemas);
    }
    path
}

/// A constant's text, as it is written.
fn constant(node: &Node) -> Option<&str> {
    match inner(node)? {
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            a_const::Val::Sval(string) => Some(&string.sval),
            _ => None,
        },
        _ => None,
    }
}
