//! INSERT, UPDATE, DELETE, MERGE and COPY: what is written, where the written values come from, and whether
//! the rows are selected at all.

use pg_query::protobuf::{
    BoolExprType, CmdType, CopyStmt, DeleteStmt, InsertStmt, MergeStmt, OnConflictAction, OnConflictClause,
    RangeVar, ReturningClause, UpdateStmt,
};
use pg_query::{Node, NodeEnum};

use crate::domain::statement::{CopyDirection, OnConflict, Verb};

use super::columns::Reads;
use super::error::SqlError;
use super::names::{inner, text, unexpected};
use super::reader::Reader;
use super::scope::{Env, Level, Outputs, Rows, Source};

impl<'a> Reader<'a> {
    /// INSERT. The outputs are those of RETURNING.
    pub(super) fn insert(
        &mut self,
        stmt: &'a InsertStmt,
        env: &Env<'_, 'a>,
    ) -> Result<Outputs<'a>, SqlError> {
        self.enter()?;
        let ctes = self.with(stmt.with_clause.as_ref(), env)?;
        let env = &Env { level: None, ctes: &ctes, parent: Some(env) };
        let var = required(stmt.relation.as_ref())?;
        let target = self.target(Verb::Insert, var)?;
        let level = Level::of(target.clone());
        if stmt.cols.is_empty() && stmt.select_stmt.is_some() {
            self.write_all(&target);
        }
        self.assignments(&stmt.cols, &target, &Env::within(&level, env))?;
        if let Some(select) = stmt.select_stmt.as_deref() {
            let outputs = self.query_node(select, env)?;
            let all = outputs.all();
            self.moved(all);
        }
        if let Some(conflict) = stmt.on_conflict_clause.as_deref() {
            self.on_conflict(conflict, var, &target, env)?;
        }
        let outputs = self.returning(stmt.returning_clause.as_ref(), &level, env)?;
        self.leave();
        Ok(outputs)
    }

    fn on_conflict(
        &mut self,
        conflict: &'a OnConflictClause,
        var: &'a RangeVar,
        target: &Source<'a>,
        env: &Env<'_, 'a>,
    ) -> Result<(), SqlError> {
        let mut level = Level::of(target.clone());
        let plain = Env::within(&level, env);
        let mut steering = Reads::new();
        if let Some(infer) = conflict.infer.as_deref() {
            for element in &infer.index_elems {
                self.index_element(element, &plain, &mut steering)?;
            }
            self.optional(infer.where_clause.as_deref(), &plain, &mut steering)?;
        }
        let updates = OnConflictAction::try_from(conflict.action) == Ok(OnConflictAction::OnconflictUpdate);
        let does = if updates { OnConflict::Update } else { OnConflict::Nothing };
        self.facts.on_conflict = self.facts.on_conflict.max(Some(does));
        if updates {
            let (name, _) = self.relation(var)?;
            self.effect(Verb::Update, Some(name));
        }
        level.append(Level::of(Source { name: Some("excluded"), rows: target.rows.clone() }));
        let env = Env::within(&level, env);
        self.assignments(&conflict.target_list, target, &env)?;
        self.optional(conflict.where_clause.as_deref(), &env, &mut steering)?;
        self.compared(steering);
        Ok(())
    }

    /// UPDATE. The outputs are those of RETURNING.
    pub(super) fn update(
        &mut self,
        stmt: &'a UpdateStmt,
        env: &Env<'_, 'a>,
    ) -> Result<Outputs<'a>, SqlError> {
        self.enter()?;
        let ctes = self.with(stmt.with_clause.as_ref(), env)?;
        let env = &Env { level: None, ctes: &ctes, parent: Some(env) };
        let target = self.target(Verb::Update, required(stmt.relation.as_ref())?)?;
        let level = self.sources_behind(Level::of(target.clone()), &stmt.from_clause, env)?;
        let inside = Env::within(&level, env);
        self.assignments(&stmt.target_list, &target, &inside)?;
        self.row_filter(stmt.where_clause.as_deref(), &inside)?;
        let outputs = self.returning(stmt.returning_clause.as_ref(), &level, env)?;
        self.leave();
        Ok(outputs)
    }

    /// DELETE. The outputs are those of RETURNING.
    pub(super) fn delete(
        &mut self,
        stmt: &'a DeleteStmt,
        env: &Env<'_, 'a>,
    ) -> Result<Outputs<'a>, SqlError> {
        self.enter()?;
        let ctes = self.with(stmt.with_clause.as_ref(), env)?;
        let env = &Env { level: None, ctes: &ctes, parent: Some(env) };
        let target = self.target(Verb::Delete, required(stmt.relation.as_ref())?)?;
        let level = self.sources_behind(Level::of(target), &stmt.using_clause, env)?;
        self.row_filter(stmt.where_clause.as_deref(), &Env::within(&level, env))?;
        let outputs = self.returning(stmt.returning_clause.as_ref(), &level, env)?;
        self.leave();
        Ok(outputs)
    }

    /// MERGE. The outputs are those of RETURNING.
    pub(super) fn merge(&mut self, stmt: &'a MergeStmt, env: &Env<'_, 'a>) -> Result<Outputs<'a>, SqlError> {
        self.enter()?;
        let ctes = self.with(stmt.with_clause.as_ref(), env)?;
        let env = &Env { level: None, ctes: &ctes, parent: Some(env) };
        let var = required(stmt.relation.as_ref())?;
        let target = self.target(Verb::Merge, var)?;
        let source = required(stmt.source_relation.as_deref())?;
        let level = self.sources_behind(Level::of(target.clone()), std::slice::from_ref(source), env)?;
        let inside = Env::within(&level, env);
        let mut is_limited = true;
        if let Some(condition) = stmt.join_condition.as_deref() {
            is_limited = self.selects_rows(condition, &inside)?;
        }
        for node in &stmt.merge_when_clauses {
            let Some(NodeEnum::MergeWhenClause(when)) = inner(node) else { return Err(unexpected(node)) };
            if let Some(condition) = when.condition.as_deref() {
                self.steering(condition, &inside)?;
            }
            let verb = match CmdType::try_from(when.command_type) {
                Ok(CmdType::CmdInsert) => Some(Verb::Insert),
                Ok(CmdType::CmdUpdate) => Some(Verb::Update),
                Ok(CmdType::CmdDelete) => Some(Verb::Delete),
                Ok(CmdType::CmdNothing) => None,
                Ok(
                    CmdType::Undefined
                    | CmdType::CmdUnknown
                    | CmdType::CmdSelect
                    | CmdType::CmdMerge
                    | CmdType::CmdUtility,
                )
                | Err(_) => return Err(SqlError::UnknownNode { kind: "MergeWhenClause" }),
            };
            if let Some(verb) = verb {
                let (name, _) = self.relation(var)?;
                self.effect(verb, Some(name));
            }
            if matches!(verb, Some(Verb::Update | Verb::Delete)) && !is_limited {
                self.facts.unlimited = true;
            }
            if verb == Some(Verb::Insert) && when.target_list.is_empty() {
                self.write_all(&target);
            }
            self.assignments(&when.target_list, &target, &inside)?;
            let mut values = Reads::new();
            self.expressions(&when.values, &inside, &mut values)?;
            self.moved(values);
        }
        // `*` shows the source's columns before the target's.
        let mut shown = level;
        shown.items.rotate_left(1);
        let outputs = self.returning(stmt.returning_clause.as_ref(), &shown, env)?;
        self.leave();
        Ok(outputs)
    }

    /// COPY, in either direction.
    pub(super) fn copy(&mut self, stmt: &'a CopyStmt, env: &Env<'_, 'a>) -> Result<(), SqlError> {
        let is_server_side = stmt.is_program || !stmt.filename.is_empty();
        self.facts.copy = Some(match (is_server_side, stmt.is_from) {
            (true, _) => CopyDirection::ServerSide,
            (false, true) => CopyDirection::FromClient,
            (false, false) => CopyDirection::ToClient,
        });
        if stmt.is_program {
            self.opaque_code("COPY with PROGRAM");
        } else if is_server_side {
            self.opaque_code("COPY with a file of the server");
        }
        let mut nothing = Reads::new();
        self.definitions(&stmt.options, env, &mut nothing)?;
        let Some(var) = &stmt.relation else {
            self.effect(Verb::Copy, None);
            let outputs = self.query_node(required(stmt.query.as_deref())?, env)?;
            let all = outputs.all();
            self.moved(all);
            return Ok(());
        };
        let target = self.target(Verb::Copy, var)?;
        let verb = if stmt.is_from { Verb::Insert } else { Verb::Select };
        self.counting(self.own_counting(), |reader| reader.target(verb, var))?;
        let level = Level::of(target.clone());
        match (stmt.is_from, stmt.attlist.is_empty()) {
            (true, true) => self.write_all(&target),
            (true, false) => {
                for column in &stmt.attlist {
                    self.write(&target, text(column).ok_or_else(|| unexpected(column))?);
                }
            }
            (false, true) => {
                let all = self.all_columns(var)?;
                self.moved(all);
            }
            (false, false) => {
                let listed = self.columns_of(var, &stmt.attlist)?;
                self.moved(listed);
            }
        }
        match stmt.where_clause.as_deref() {
            Some(filter) => self.steering(filter, &Env::within(&level, env)),
            None => Ok(()),
        }
    }

    /// `column = value, …`: the columns are written, the values' columns moved.
    fn assignments(
        &mut self,
        nodes: &'a [Node],
        target: &Source<'a>,
        env: &Env<'_, 'a>,
    ) -> Result<(), SqlError> {
        for node in nodes {
            let Some(NodeEnum::ResTarget(assignment)) = inner(node) else { return Err(unexpected(node)) };
            self.write(target, &assignment.name);
            let mut reads = Reads::new();
            if let Some(value) = assignment.val.as_deref() {
                self.value_is_free(value);
            }
            self.expression(node, env, &mut reads)?;
            self.moved(reads);
        }
        Ok(())
    }

    /// Notes that a column is written, and with it those that it shows: a view's is a way to its table's.
    fn write(&mut self, target: &Source<'a>, column: &str) {
        let relation = match &target.rows {
            Rows::Relation(relation) => {
                if let Some(known) = relation.columns.iter().find(|known| known.name == column) {
                    self.columns.read(relation, known, &mut self.facts.written);
                }
                &relation.name
            }
            Rows::Unknown(name) => name,
            Rows::Derived(_) => return,
        };
        let number = self.columns.own(relation, column);
        self.facts.written.insert(number);
    }

    fn write_all(&mut self, target: &Source<'a>) {
        match &target.rows {
            Rows::Relation(relation) => {
                relation.columns.iter().for_each(|column| self.write(target, &column.name));
            }
            Rows::Unknown(_) => self.write(target, "*"),
            Rows::Derived(_) => {}
        }
    }

    fn returning(
        &mut self,
        clause: Option<&'a ReturningClause>,
        level: &Level<'a>,
        env: &Env<'_, 'a>,
    ) -> Result<Outputs<'a>, SqlError> {
        let Some(clause) = clause else { return Ok(Outputs::default()) };
        // `old` and `new`, or what WITH (OLD AS …) calls them, show the target's columns.
        let mut rows = Level { sources: level.sources.clone(), items: level.items.clone() };
        if let Some(target) = level.sources.first() {
            let mut names = vec!["old", "new"];
            for option in &clause.options {
                let Some(NodeEnum::ReturningOption(option)) = inner(option) else {
                    return Err(unexpected(option));
                };
                names.push(&option.value);
            }
            rows.sources
                .extend(names.into_iter().map(|name| Source { name: Some(name), rows: target.rows.clone() }));
        }
        // The further sources add no column of their own: an unqualified name finds the target either way.
        self.targets(&clause.exprs, &rows, &Env::within(&rows, env))
    }

    fn row_filter(&mut self, filter: Option<&'a Node>, env: &Env<'_, 'a>) -> Result<(), SqlError> {
        let is_limited = match filter {
            Some(filter) => self.selects_rows(filter, env)?,
            None => false,
        };
        self.facts.unlimited |= !is_limited;
        Ok(())
    }

    /// Reads a row filter and tells whether it can tell rows apart: it must refer to a column, not only beside an
    /// OR that is always true, and not only compare a column with itself.
    fn selects_rows(&mut self, node: &'a Node, env: &Env<'_, 'a>) -> Result<bool, SqlError> {
        self.enter()?;
        let mut is_limited = None;
        match inner(node) {
            Some(NodeEnum::BoolExpr(expression)) => match BoolExprType::try_from(expression.boolop) {
                Ok(BoolExprType::AndExpr) => {
                    let mut any = false;
                    for part in &expression.args {
                        any |= self.selects_rows(part, env)?;
                    }
                    is_limited = Some(any);
                }
                Ok(BoolExprType::OrExpr) => {
                    let mut every = true;
                    for part in &expression.args {
                        every &= self.selects_rows(part, env)?;
                    }
                    is_limited = Some(every);
                }
                Ok(BoolExprType::NotExpr | BoolExprType::Undefined) | Err(_) => {}
            },
            Some(NodeEnum::AExpr(expression))
                if same_column(expression.lexpr.as_deref(), expression.rexpr.as_deref()) =>
            {
                self.steering(node, env)?;
                is_limited = Some(false);
            }
            _ => {}
        }
        self.leave();
        if let Some(is_limited) = is_limited {
            return Ok(is_limited);
        }
        let before = self.references;
        self.steering(node, env)?;
        Ok(self.references > before)
    }
}

fn same_column(left: Option<&Node>, right: Option<&Node>) -> bool {
    match (left.and_then(inner), right.and_then(inner)) {
        (Some(NodeEnum::ColumnRef(left)), Some(NodeEnum::ColumnRef(right))) => {
            left.fields.iter().map(text).eq(right.fields.iter().map(text))
        }
        _ => false,
    }
}

fn required<T>(part: Option<T>) -> Result<T, SqlError> {
    part.ok_or(SqlError::UnknownNode { kind: "(missing part)" })
}
