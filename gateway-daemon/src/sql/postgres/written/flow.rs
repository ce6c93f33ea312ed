//! The walk: statements that assign, the queries that they take rows from, and expressions.

use std::{borrow::Cow, collections::BTreeMap, rc::Rc};

use pg_query::{
    Node, NodeEnum,
    protobuf::{
        AExprKind, CmdType, CopyStmt, InsertStmt, MergeStmt, OnConflictAction, RangeFunction, RangeVar,
        SelectStmt, SubLinkType, UpdateStmt, WithClause, a_const,
    },
};

use super::{
    Executes, Rows, Sink, Value, Values, Way, Written, arrivals, copy,
    rows::{Outputs, Scope, Source},
};
use crate::{
    domain::{
        catalogue::{Catalogue, Relation, RelationKind},
        statement::ColumnName,
    },
    sql::postgres::{
        error::SqlError,
        names::{inner, parts, text},
    },
};

/// As in the reader.
const MAX_DEPTH: usize = 1_000;
const MAX_WORK: usize = 2_000_000;

/// See the module's description.
pub(super) struct Flow<'a> {
    catalogue: &'a Catalogue,
    is_watched: &'a (dyn Fn(&ColumnName) -> bool + Sync),
    sinks: BTreeMap<(ColumnName, Rows), Values<'a>>,
    copy: Option<copy::CopyIn>,
    executes: Option<Executes>,
    depth: usize,
    work: usize,
}

impl<'a> Flow<'a> {
    pub(super) fn new(
        catalogue: &'a Catalogue,
        is_watched: &'a (dyn Fn(&ColumnName) -> bool + Sync),
    ) -> Self {
        Self {
            catalogue,
            is_watched,
            sinks: BTreeMap::new(),
            copy: None,
            executes: None,
            depth: 0,
            work: MAX_WORK,
        }
    }

    pub(super) fn finish(self) -> Written {
        let sink = |((column, rows), values)| Sink { column, rows, values: arrivals(values) };
        Written {
            sinks: self.sinks.into_iter().map(sink).collect(),
            copy: self.copy,
            executes: self.executes,
        }
    }

    pub(super) fn statement(&mut self, node: &'a Node) -> Result<(), SqlError> {
        let nothing = Scope::default();
        match inner(node) {
            Some(NodeEnum::ExplainStmt(stmt)) => self.optional_statement(stmt.query.as_deref()),
            Some(NodeEnum::PrepareStmt(stmt)) => self.optional_statement(stmt.query.as_deref()),
            Some(NodeEnum::CreateTableAsStmt(stmt)) => self.optional_statement(stmt.query.as_deref()),
            Some(NodeEnum::ExecuteStmt(stmt)) => {
                let mut arguments = Vec::with_capacity(stmt.params.len());
                for argument in &stmt.params {
                    arguments.push(arrivals(self.value(argument, &nothing)?));
                }
                self.executes = Some(Executes { name: stmt.name.clone(), arguments });
                Ok(())
            }
            Some(NodeEnum::CopyStmt(stmt)) => self.copy(stmt),
            Some(
                NodeEnum::SelectStmt(_)
                | NodeEnum::InsertStmt(_)
                | NodeEnum::UpdateStmt(_)
                | NodeEnum::DeleteStmt(_)
                | NodeEnum::MergeStmt(_),
            ) => self.query(node, &nothing).map(|_| ()),
            _ => Ok(()),
        }
    }

    fn optional_statement(&mut self, node: Option<&'a Node>) -> Result<(), SqlError> {
        node.map_or(Ok(()), |node| self.statement(node))
    }

    fn enter(&mut self) -> Result<(), SqlError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SqlError::TooDeep);
        }
        self.spend(1)
    }

    fn spend(&mut self, units: usize) -> Result<(), SqlError> {
        self.work = self.work.checked_sub(units).ok_or(SqlError::TooComplex)?;
        Ok(())
    }

    fn relation(&self, var: &RangeVar) -> Option<&'a Relation> {
        if var.schemaname.is_empty() {
            return self.catalogue.resolve(&var.relname);
        }
        let mut relations = self.catalogue.search_path.iter().filter(|_| var.schemaname == "pg_temp");
        let schema = relations.find(|schema| schema.starts_with("pg_temp")).unwrap_or(&var.schemaname);
        let name =
            crate::domain::statement::RelationName { schema: schema.clone(), name: var.relname.clone() };
        self.catalogue.relation(&name)
    }

    /// Notes what arrives in a column of a table that the catalogue knows; another one has no mask.
    fn sink(&mut self, relation: Option<&Relation>, column: &str, rows: Rows, values: Values<'a>) {
        let Some(relation) = relation else { return };
        let name = ColumnName { relation: relation.name.clone(), column: column.to_owned() };
        if (self.is_watched)(&name) {
            self.sinks.entry((name, rows)).or_default().extend(values);
        }
    }

    fn query(&mut self, node: &'a Node, scope: &Scope<'_, 'a>) -> Result<Outputs<'a>, SqlError> {
        self.enter()?;
        let outputs = match inner(node) {
            Some(NodeEnum::SelectStmt(stmt)) => self.select(stmt, scope),
            Some(NodeEnum::InsertStmt(stmt)) => self.insert(stmt, scope),
            Some(NodeEnum::UpdateStmt(stmt)) => self.update(stmt, scope),
            Some(NodeEnum::MergeStmt(stmt)) => self.merge(stmt, scope),
            Some(NodeEnum::DeleteStmt(stmt)) => {
                self.with(stmt.with_clause.as_ref(), scope)?;
                Ok(Outputs::unknown(Values::new()))
            }
            _ => Ok(Outputs::unknown(Values::new())),
        };
        self.depth -= 1;
        outputs
    }

    fn insert(&mut self, stmt: &'a InsertStmt, scope: &Scope<'_, 'a>) -> Result<Outputs<'a>, SqlError> {
        let scope = self.with(stmt.with_clause.as_ref(), scope)?;
        let Some(var) = &stmt.relation else { return Ok(Outputs::default()) };
        let relation = self.relation(var);
        let mut columns: Vec<(&'a str, bool)> = Vec::new();
        if stmt.cols.is_empty() {
            let all = relation.into_iter().flat_map(|relation| &relation.columns);
            columns.extend(all.map(|column| (column.name.as_str(), false)));
        }
        for node in &stmt.cols {
            if let Some(NodeEnum::ResTarget(target)) = inner(node) {
                columns.push((&target.name, !target.indirection.is_empty()));
            }
        }
        let given = match stmt.select_stmt.as_deref() {
            Some(select) => self.query(select, &scope)?,
            None => Outputs::default(),
        };
        let mut assigned = Outputs::default();
        for (index, (column, is_part)) in columns.into_iter().enumerate() {
            let values = if is_part { within(given.at(index)) } else { given.at(index) };
            self.spend(values.len() / 8)?;
            self.sink(relation, column, Rows::New, values.clone());
            assigned.columns.push((Some(Cow::Borrowed(column)), values));
        }
        let assigned = Rc::new(assigned);
        if let Some(conflict) = stmt.on_conflict_clause.as_deref()
            && OnConflictAction::try_from(conflict.action) == Ok(OnConflictAction::OnconflictUpdate)
        {
            let mut inside = Scope::within(&scope);
            inside.sources.push((Some(alias(var)), Source::Table(relation)));
            inside.sources.push((Some("excluded"), Source::Rows(Rc::clone(&assigned))));
            self.assignments(&conflict.target_list, relation, Rows::There, &inside)?;
        }
        Ok(returned(&assigned))
    }

    fn update(&mut self, stmt: &'a UpdateStmt, scope: &Scope<'_, 'a>) -> Result<Outputs<'a>, SqlError> {
        let scope = self.with(stmt.with_clause.as_ref(), scope)?;
        let Some(var) = &stmt.relation else { return Ok(Outputs::default()) };
        let relation = self.relation(var);
        let mut inside = Scope::within(&scope);
        inside.sources.push((Some(alias(var)), Source::Table(relation)));
        self.sources(&stmt.from_clause, &mut inside)?;
        let assigned = self.assignments(&stmt.target_list, relation, Rows::There, &inside)?;
        Ok(returned(&assigned))
    }

    fn merge(&mut self, stmt: &'a MergeStmt, scope: &Scope<'_, 'a>) -> Result<Outputs<'a>, SqlError> {
        let scope = self.with(stmt.with_clause.as_ref(), scope)?;
        let Some(var) = &stmt.relation else { return Ok(Outputs::default()) };
        let relation = self.relation(var);
        let mut inside = Scope::within(&scope);
        inside.sources.push((Some(alias(var)), Source::Table(relation)));
        if let Some(source) = stmt.source_relation.as_deref() {
            self.source(source, &mut inside)?;
        }
        let mut all = Outputs::default();
        for node in &stmt.merge_when_clauses {
            let Some(NodeEnum::MergeWhenClause(when)) = inner(node) else { continue };
            let assigned = if CmdType::try_from(when.command_type) == Ok(CmdType::CmdInsert) {
                self.merge_insert(&when.target_list, &when.values, relation, &inside)?
            } else {
                self.assignments(&when.target_list, relation, Rows::There, &inside)?
            };
            all.chain(assigned);
        }
        Ok(returned(&all))
    }

    fn merge_insert(
        &mut self,
        targets: &'a [Node],
        values: &'a [Node],
        relation: Option<&'a Relation>,
        scope: &Scope<'_, 'a>,
    ) -> Result<Outputs<'a>, SqlError> {
        let mut columns: Vec<&'a str> = Vec::new();
        for node in targets {
            if let Some(NodeEnum::ResTarget(target)) = inner(node) {
                columns.push(&target.name);
            }
        }
        if targets.is_empty() {
            let all = relation.into_iter().flat_map(|relation| &relation.columns);
            columns.extend(all.map(|column| column.name.as_str()));
        }
        let mut assigned = Outputs::default();
        for (column, value) in columns.into_iter().zip(values) {
            let values = self.value(value, scope)?;
            self.sink(relation, column, Rows::New, values.clone());
            assigned.columns.push((Some(Cow::Borrowed(column)), values));
        }
        Ok(assigned)
    }

    fn assignments(
        &mut self,
        targets: &'a [Node],
        relation: Option<&'a Relation>,
        rows: Rows,
        scope: &Scope<'_, 'a>,
    ) -> Result<Outputs<'a>, SqlError> {
        let mut assigned = Outputs::default();
        for node in targets {
            let Some(NodeEnum::ResTarget(target)) = inner(node) else { continue };
            let Some(value) = target.val.as_deref() else { continue };
            let mut values = match inner(value) {
                Some(NodeEnum::MultiAssignRef(part)) => {
                    let place = usize::try_from(part.colno).unwrap_or_default().saturating_sub(1);
                    self.part_of(part.source.as_deref(), place, scope)?
                }
                _ => self.value(value, scope)?,
            };
            if !target.indirection.is_empty() {
                values = within(values);
            }
            self.sink(relation, &target.name, rows, values.clone());
            assigned.columns.push((Some(Cow::Borrowed(target.name.as_str())), values));
        }
        Ok(assigned)
    }

    /// One column of what `SET (a, b) = …` assigns.
    fn part_of(
        &mut self,
        source: Option<&'a Node>,
        place: usize,
        scope: &Scope<'_, 'a>,
    ) -> Result<Values<'a>, SqlError> {
        let Some(source) = source else { return Ok(Values::new()) };
        match inner(source) {
            Some(NodeEnum::RowExpr(row)) => match row.args.get(place) {
                Some(value) => self.value(value, scope),
                None => Ok(Values::new()),
            },
            Some(NodeEnum::SubLink(link)) => match link.subselect.as_deref() {
                Some(query) => Ok(self.query(query, scope)?.at(place)),
                None => Ok(Values::new()),
            },
            _ => Ok(within(self.value(source, scope)?)),
        }
    }

    fn copy(&mut self, stmt: &'a CopyStmt) -> Result<(), SqlError> {
        if let Some(query) = stmt.query.as_deref() {
            return self.query(query, &Scope::default()).map(|_| ());
        }
        let Some(relation) = stmt.relation.as_ref().and_then(|var| self.relation(var)) else { return Ok(()) };
        if !stmt.is_from || stmt.is_program || !stmt.filename.is_empty() {
            return Ok(());
        }
        let mut columns = Vec::new();
        let mut push = |column: &str| {
            columns.push(ColumnName { relation: relation.name.clone(), column: column.to_owned() });
        };
        if stmt.attlist.is_empty() {
            // What is generated has no field.
            let is_generated = |is_computed: bool| relation.kind != RelationKind::View && is_computed;
            let all = relation.columns.iter().filter(|column| !is_generated(column.is_computed));
            all.for_each(|column| push(&column.name));
        } else {
            parts(&stmt.attlist)?.into_iter().for_each(push);
        }
        if columns.iter().any(|column| (self.is_watched)(column)) {
            self.copy = Some(copy::copy_in(stmt, columns)?);
        }
        Ok(())
    }

    fn select(&mut self, stmt: &'a SelectStmt, scope: &Scope<'_, 'a>) -> Result<Outputs<'a>, SqlError> {
        self.enter()?;
        let scope = self.with(stmt.with_clause.as_ref(), scope)?;
        let outputs = if let (Some(left), Some(right)) = (stmt.larg.as_deref(), stmt.rarg.as_deref()) {
            let mut outputs = self.select(left, &scope)?;
            outputs.unite(self.select(right, &scope)?);
            outputs
        } else if stmt.values_lists.is_empty() {
            let mut inside = Scope::within(&scope);
            self.sources(&stmt.from_clause, &mut inside)?;
            self.targets(&stmt.target_list, &inside)?
        } else {
            let mut outputs = Outputs::default();
            for row in &stmt.values_lists {
                let Some(NodeEnum::List(list)) = inner(row) else { continue };
                for (index, value) in list.items.iter().enumerate() {
                    let values = self.value(value, &scope)?;
                    match outputs.columns.get_mut(index) {
                        Some((_, all)) => all.extend(values),
                        None => {
                            let name = Some(Cow::Owned(format!("column{}", index + 1)));
                            outputs.columns.push((name, values));
                        }
                    }
                }
            }
            outputs
        };
        self.depth -= 1;
        Ok(outputs)
    }

    fn targets(&mut self, nodes: &'a [Node], scope: &Scope<'_, 'a>) -> Result<Outputs<'a>, SqlError> {
        let mut outputs = Outputs::default();
        for node in nodes {
            let Some(NodeEnum::ResTarget(target)) = inner(node) else { continue };
            let Some(value) = target.val.as_deref() else { continue };
            let star = match inner(value) {
                Some(NodeEnum::ColumnRef(column)) => match column.fields.as_slice() {
                    [star] if is_star(star) => Some(scope.star()),
                    [.., relation, star] if is_star(star) => text(relation).map(|name| scope.row(name)),
                    _ => None,
                },
                Some(NodeEnum::AIndirection(indirection))
                    if indirection.indirection.last().is_some_and(is_star) =>
                {
                    Some(Outputs::unknown(within(self.value(value, scope)?)))
                }
                _ => None,
            };
            let more = match star {
                Some(star) => star,
                None => {
                    let name =
                        if target.name.is_empty() { made_up_name(value) } else { Some(target.name.as_str()) };
                    Outputs {
                        columns: vec![(name.map(Cow::Borrowed), self.value(value, scope)?)],
                        rest: None,
                    }
                }
            };
            self.spend(more.columns.len())?;
            outputs.chain(more);
        }
        Ok(outputs)
    }

    /// WITH. Of a query that refers to itself what the first reading has found arrives in the second.
    fn with<'s>(
        &mut self,
        clause: Option<&'a WithClause>,
        scope: &'s Scope<'s, 'a>,
    ) -> Result<Scope<'s, 'a>, SqlError> {
        let mut inside = Scope::within(scope);
        let Some(clause) = clause else { return Ok(inside) };
        let passes = if clause.recursive { 2 } else { 1 };
        for _ in 0..passes {
            for node in &clause.ctes {
                let Some(NodeEnum::CommonTableExpr(cte)) = inner(node) else { continue };
                let Some(query) = cte.ctequery.as_deref() else { continue };
                let mut outputs = self.query(query, &inside)?;
                outputs.rename(&parts(&cte.aliascolnames)?);
                if clause.recursive || cte.search_clause.is_some() || cte.cycle_clause.is_some() {
                    outputs.rest.get_or_insert_default();
                }
                inside.ctes.push((&cte.ctename, Rc::new(outputs)));
            }
        }
        Ok(inside)
    }

    fn sources(&mut self, nodes: &'a [Node], scope: &mut Scope<'_, 'a>) -> Result<(), SqlError> {
        nodes.iter().try_for_each(|node| self.source(node, scope))
    }

    /// One item of FROM, which sees those to its left.
    fn source(&mut self, node: &'a Node, scope: &mut Scope<'_, 'a>) -> Result<(), SqlError> {
        self.enter()?;
        match inner(node) {
            Some(NodeEnum::RangeVar(var)) => {
                let cte = scope.cte(&var.relname).filter(|_| var.schemaname.is_empty());
                let source = cte.map_or_else(|| Source::Table(self.relation(var)), Source::Rows);
                let names = var.alias.as_ref().map(|alias| parts(&alias.colnames)).transpose()?;
                scope.sources.push((Some(alias(var)), renamed(source, names.as_deref())));
            }
            Some(NodeEnum::RangeSubselect(subselect)) => {
                if let Some(query) = subselect.subquery.as_deref() {
                    let outputs = self.query(query, scope)?;
                    push(scope, outputs, subselect.alias.as_ref())?;
                }
            }
            Some(NodeEnum::RangeFunction(function)) => {
                let outputs = self.function_rows(function, scope)?;
                push(scope, outputs, function.alias.as_ref())?;
            }
            Some(NodeEnum::RangeTableFunc(table)) => {
                let values = self.optional(table.docexpr.as_deref(), scope)?;
                push(scope, Outputs::unknown(within(values)), table.alias.as_ref())?;
            }
            Some(NodeEnum::JsonTable(table)) => {
                let document = table.context_item.as_deref().and_then(|item| item.raw_expr.as_deref());
                let values = self.optional(document, scope)?;
                push(scope, Outputs::unknown(within(values)), table.alias.as_ref())?;
            }
            Some(NodeEnum::RangeTableSample(sample)) => {
                if let Some(relation) = sample.relation.as_deref() {
                    self.source(relation, scope)?;
                }
            }
            Some(NodeEnum::JoinExpr(join)) => {
                let before = scope.sources.len();
                for side in [join.larg.as_deref(), join.rarg.as_deref()].into_iter().flatten() {
                    self.source(side, scope)?;
                }
                if let Some(alias) = &join.alias {
                    let joined = Scope { sources: scope.sources.split_off(before), ..Scope::default() };
                    push(scope, joined.star(), Some(alias))?;
                }
            }
            _ => {}
        }
        self.depth -= 1;
        Ok(())
    }

    /// Functions in FROM. An array's elements are handed on; what others make of their arguments is not known.
    fn function_rows(
        &mut self,
        range: &'a RangeFunction,
        scope: &Scope<'_, 'a>,
    ) -> Result<Outputs<'a>, SqlError> {
        let mut outputs = Outputs::default();
        for node in &range.functions {
            let Some(NodeEnum::List(list)) = inner(node) else { continue };
            let Some(call) = list.items.first() else { continue };
            match inner(call) {
                Some(NodeEnum::FuncCall(call)) if call.funcname.last().and_then(text) == Some("unnest") => {
                    for argument in &call.args {
                        let elements = self.elements(argument, scope)?;
                        let is_only = call.args.len() == 1 && range.functions.len() == 1;
                        let name = match &range.alias {
                            Some(alias) if is_only => alias.aliasname.as_str(),
                            _ => "unnest",
                        };
                        outputs.columns.push((Some(Cow::Borrowed(name)), elements));
                    }
                }
                _ => {
                    let values = within(self.value(call, scope)?);
                    outputs.chain(Outputs::unknown(values));
                }
            }
        }
        if range.ordinality {
            outputs.columns.push((Some(Cow::Borrowed("ordinality")), Values::new()));
        }
        Ok(outputs)
    }

    /// What the elements of an array are.
    fn elements(&mut self, node: &'a Node, scope: &Scope<'_, 'a>) -> Result<Values<'a>, SqlError> {
        self.enter()?;
        let values = match inner(node) {
            Some(NodeEnum::AArrayExpr(array)) => {
                let mut all = Values::new();
                for element in &array.elements {
                    all.extend(match inner(element) {
                        Some(NodeEnum::AArrayExpr(_)) => self.elements(element, scope)?,
                        _ => self.value(element, scope)?,
                    });
                }
                Ok(all)
            }
            Some(NodeEnum::TypeCast(cast)) => match cast.arg.as_deref() {
                Some(array) => self.elements(array, scope),
                None => Ok(Values::new()),
            },
            _ => {
                let element = |(value, way)| match way {
                    Way::Itself | Way::UnlessNull => (value, Way::Element),
                    Way::Element | Way::Within => (value, Way::Within),
                };
                Ok(self.value(node, scope)?.into_iter().map(element).collect())
            }
        };
        self.depth -= 1;
        values
    }

    fn optional(&mut self, node: Option<&'a Node>, scope: &Scope<'_, 'a>) -> Result<Values<'a>, SqlError> {
        node.map_or(Ok(Values::new()), |node| self.value(node, scope))
    }

    /// Everything that something is made of.
    fn made_of<'n>(
        &mut self,
        nodes: impl IntoIterator<Item = &'a Node>,
        scope: &Scope<'n, 'a>,
    ) -> Result<Values<'a>, SqlError> {
        let mut all = Values::new();
        for node in nodes {
            all.extend(within(self.value(node, scope)?));
        }
        Ok(all)
    }

    /// What can be the value of an expression, or go into it.
    fn value(&mut self, node: &'a Node, scope: &Scope<'_, 'a>) -> Result<Values<'a>, SqlError> {
        self.enter()?;
        let values = self.any_value(node, scope)?;
        self.depth -= 1;
        self.spend(values.len() / 8)?;
        Ok(values)
    }

    fn any_value(&mut self, node: &'a Node, scope: &Scope<'_, 'a>) -> Result<Values<'a>, SqlError> {
        let Some(kind) = inner(node) else { return Ok(Values::new()) };
        match kind {
            NodeEnum::AConst(_) => Ok(constant(node).map(|value| (value, Way::Itself)).into_iter().collect()),
            NodeEnum::ParamRef(parameter) => {
                let number = usize::try_from(parameter.number).ok().and_then(|number| number.checked_sub(1));
                Ok(number.map(|number| (Value::Parameter(number), Way::Itself)).into_iter().collect())
            }
            NodeEnum::TypeCast(cast) => self.optional(cast.arg.as_deref(), scope),
            NodeEnum::CollateClause(collate) => self.optional(collate.arg.as_deref(), scope),
            NodeEnum::NamedArgExpr(argument) => self.optional(argument.arg.as_deref(), scope),
            NodeEnum::ColumnRef(column) => Ok(match column.fields.as_slice() {
                [.., relation, star] if is_star(star) => {
                    within(text(relation).map(|name| scope.row(name).all()).unwrap_or_default())
                }
                [star] if is_star(star) => within(scope.star().all()),
                [name] => text(name).map(|name| scope.column(None, name)).unwrap_or_default(),
                [.., relation, name] => match (text(relation), text(name)) {
                    (Some(relation), Some(name)) => scope.column(Some(relation), name),
                    _ => Values::new(),
                },
                [] => Values::new(),
            }),
            NodeEnum::CaseExpr(case) => {
                let mut all = within(self.optional(case.arg.as_deref(), scope)?);
                for node in &case.args {
                    let Some(NodeEnum::CaseWhen(when)) = inner(node) else { continue };
                    all.extend(within(self.optional(when.expr.as_deref(), scope)?));
                    all.extend(self.optional(when.result.as_deref(), scope)?);
                }
                all.extend(self.optional(case.defresult.as_deref(), scope)?);
                Ok(all)
            }
            NodeEnum::CoalesceExpr(expression) => self.first_of(&expression.args, true, scope),
            NodeEnum::MinMaxExpr(expression) => self.first_of(&expression.args, false, scope),
            NodeEnum::AExpr(expression) => {
                let sides = [expression.lexpr.as_deref(), expression.rexpr.as_deref()];
                if AExprKind::try_from(expression.kind) == Ok(AExprKind::AexprNullif) {
                    let mut all = self.optional(sides[0], scope)?;
                    all.extend(self.made_of(sides[1], scope)?);
                    return Ok(all);
                }
                let mut all = self.made_of(sides.into_iter().flatten(), scope)?;
                all.extend(joined(node).map(|text| (Value::Text(Cow::Owned(text)), Way::Itself)));
                Ok(all)
            }
            NodeEnum::SubLink(link) => {
                let mut all = self.made_of(link.testexpr.as_deref(), scope)?;
                if let Some(query) = link.subselect.as_deref() {
                    let outputs = self.query(query, scope)?;
                    if SubLinkType::try_from(link.sub_link_type) == Ok(SubLinkType::ExprSublink) {
                        all.extend(outputs.at(0));
                    } else {
                        all.extend(within(outputs.all()));
                    }
                }
                Ok(all)
            }
            NodeEnum::FuncCall(call) => {
                if let ([argument], Some("unnest")) =
                    (call.args.as_slice(), call.funcname.last().and_then(text))
                {
                    return self.elements(argument, scope);
                }
                let mut all = self.made_of(&call.args, scope)?;
                all.extend(self.made_of(call.agg_filter.as_deref(), scope)?);
                Ok(all)
            }
            NodeEnum::AArrayExpr(array) if array.elements.is_empty() => {
                Ok(Values::from([(Value::Text(Cow::Borrowed("{}")), Way::Itself)]))
            }
            NodeEnum::AArrayExpr(array) => self.made_of(&array.elements, scope),
            NodeEnum::RowExpr(row) => self.made_of(&row.args, scope),
            NodeEnum::List(list) => self.made_of(&list.items, scope),
            NodeEnum::BoolExpr(expression) => self.made_of(&expression.args, scope),
            NodeEnum::NullTest(test) => self.made_of(test.arg.as_deref(), scope),
            NodeEnum::BooleanTest(test) => self.made_of(test.arg.as_deref(), scope),
            NodeEnum::AIndirection(indirection) => self.made_of(indirection.arg.as_deref(), scope),
            NodeEnum::ResTarget(target) => self.made_of(target.val.as_deref(), scope),
            NodeEnum::XmlExpr(xml) => self.made_of(xml.named_args.iter().chain(&xml.args), scope),
            NodeEnum::XmlSerialize(xml) => self.made_of(xml.expr.as_deref(), scope),
            NodeEnum::JsonValueExpr(value) => self.made_of(value.raw_expr.as_deref(), scope),
            NodeEnum::JsonKeyValue(pair) => {
                let value = pair.value.as_deref().and_then(|value| value.raw_expr.as_deref());
                self.made_of(pair.key.as_deref().into_iter().chain(value), scope)
            }
            NodeEnum::JsonArgument(argument) => {
                self.made_of(argument.val.as_deref().and_then(|value| value.raw_expr.as_deref()), scope)
            }
            NodeEnum::JsonObjectConstructor(object) => self.made_of(&object.exprs, scope),
            NodeEnum::JsonArrayConstructor(array) => self.made_of(&array.exprs, scope),
            NodeEnum::JsonScalarExpr(scalar) => self.made_of(scalar.expr.as_deref(), scope),
            NodeEnum::JsonParseExpr(parse) => {
                self.made_of(parse.expr.as_deref().and_then(|value| value.raw_expr.as_deref()), scope)
            }
            NodeEnum::JsonSerializeExpr(serialize) => {
                self.made_of(serialize.expr.as_deref().and_then(|value| value.raw_expr.as_deref()), scope)
            }
            NodeEnum::JsonFuncExpr(call) => {
                let document = call.context_item.as_deref().and_then(|item| item.raw_expr.as_deref());
                self.made_of(document.into_iter().chain(&call.passing), scope)
            }
            _ => Ok(Values::new()),
        }
    }

    /// Each of several values, where NULL gives way to the next; the last may be NULL if `last_may_be`.
    fn first_of(
        &mut self,
        nodes: &'a [Node],
        last_may_be: bool,
        scope: &Scope<'_, 'a>,
    ) -> Result<Values<'a>, SqlError> {
        let mut all = Values::new();
        for (index, node) in nodes.iter().enumerate() {
            let values = self.value(node, scope)?;
            if last_may_be && index + 1 == nodes.len() {
                all.extend(values);
                continue;
            }
            all.extend(
                values
                    .into_iter()
                    .filter(|(value, _)| *value != Value::Null)
                    .map(|(value, way)| (value, if way == Way::Itself { Way::UnlessNull } else { way })),
            );
        }
        Ok(all)
    }
}

fn within(values: Values<'_>) -> Values<'_> {
    if values.iter().all(|(_, way)| *way == Way::Within) {
        return values;
    }
    values
        .into_iter()
        .map(|(value, _)| (value, Way::Within))
        .filter(|(value, _)| *value != Value::Null)
        .collect()
}

/// RETURNING shows the target's columns, under whatever names: it may show any value that was assigned.
fn returned<'a>(assigned: &Outputs<'a>) -> Outputs<'a> {
    Outputs::unknown(assigned.all())
}

fn alias(var: &RangeVar) -> &str {
    var.alias.as_ref().map_or(var.relname.as_str(), |alias| alias.aliasname.as_str())
}

fn renamed<'a>(source: Source<'a>, names: Option<&[&'a str]>) -> Source<'a> {
    let Some(names) = names.filter(|names| !names.is_empty()) else { return source };
    match source {
        Source::Rows(mut outputs) => {
            Rc::make_mut(&mut outputs).rename(names);
            Source::Rows(outputs)
        }
        // Whatever its columns are called, they hold none of the statement's values.
        Source::Table(_) => Source::Rows(Rc::new(Outputs::unknown(Values::new()))),
    }
}

fn push<'a>(
    scope: &mut Scope<'_, 'a>,
    mut outputs: Outputs<'a>,
    alias: Option<&'a pg_query::protobuf::Alias>,
) -> Result<(), SqlError> {
    if let Some(alias) = alias {
        outputs.rename(&parts(&alias.colnames)?);
    }
    let name = alias.map(|alias| alias.aliasname.as_str());
    scope.sources.push((name, Source::Rows(Rc::new(outputs))));
    Ok(())
}

fn is_star(node: &Node) -> bool {
    matches!(inner(node), Some(NodeEnum::AStar(_)))
}

/// The name that PostgreSQL gives a column without AS, where that is certain.
fn made_up_name(value: &Node) -> Option<&str> {
    match inner(value)? {
        NodeEnum::ColumnRef(column) => text(column.fields.last()?),
        NodeEnum::FuncCall(call) => text(call.funcname.last()?),
        NodeEnum::CollateClause(collate) => made_up_name(collate.arg.as_deref()?),
        NodeEnum::TypeCast(cast) => made_up_name(cast.arg.as_deref()?),
        _ => None,
    }
}

/// A constant as the text that the server would read it from.
fn constant(node: &Node) -> Option<Value<'_>> {
    let NodeEnum::AConst(constant) = inner(node)? else { return None };
    if constant.isnull {
        return Some(Value::Null);
    }
    Some(Value::Text(match constant.val.as_ref() {
        Some(a_const::Val::Sval(string)) => Cow::Borrowed(string.sval.as_str()),
        Some(a_const::Val::Ival(integer)) => Cow::Owned(integer.ival.to_string()),
        Some(a_const::Val::Fval(float)) => Cow::Borrowed(float.fval.as_str()),
        Some(a_const::Val::Boolval(boolean)) => Cow::Borrowed(if boolean.boolval { "t" } else { "f" }),
        Some(a_const::Val::Bsval(bits)) => Cow::Borrowed(bits.bsval.trim_start_matches('b')),
        // An integer zero has no bytes in protobuf.
        None => Cow::Borrowed("0"),
    }))
}

/// The text of constants that are put together by `||`.
fn joined(node: &Node) -> Option<String> {
    match inner(node)? {
        NodeEnum::AConst(_) => match constant(node)? {
            Value::Text(text) => Some(text.into_owned()),
            Value::Null | Value::Parameter(_) => None,
        },
        NodeEnum::TypeCast(cast) => joined(cast.arg.as_deref()?),
        NodeEnum::AExpr(expression) if expression.name.last().and_then(text) == Some("||") => {
            let mut whole = joined(expression.lexpr.as_deref()?)?;
            whole.push_str(&joined(expression.rexpr.as_deref()?)?);
            Some(whole)
        }
        _ => None,
    }
}
