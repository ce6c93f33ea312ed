//! Expressions: which base columns flow into a value, and which functions and operators make it.

use pg_query::protobuf::{
    AExpr, AExprKind, CaseExpr, ColumnRef, JsonAggConstructor, JsonBehavior, JsonFuncExpr, JsonOutput,
    JsonValueExpr, SubLink, SubLinkType, WindowDef,
};
use pg_query::{Node, NodeEnum};

use super::columns::{Reads, matched, tested};
use super::error::SqlError;
use super::functions::Whose;
use super::names::{inner, text, unexpected};
use super::nodes::{clause_node, planner_node, source_node, statement_node};
use super::reader::Reader;
use super::scope::{Env, Needs};

impl<'a> Reader<'a> {
    /// Adds what flows into the expression's value.
    pub(super) fn expression(
        &mut self,
        node: &'a Node,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        self.enter()?;
        let result = if self.nesting == 0 {
            self.whole_expression(node, env, into)
        } else {
            self.nested(node, env, into)
        };
        self.leave();
        result
    }

    /// One that is part of no other.
    fn whole_expression(
        &mut self,
        node: &'a Node,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        let before = self.constants;
        let mut reads = Reads::new();
        let result = self.nested(node, env, &mut reads);
        if self.constants > before {
            self.facts.beside_constants.extend(&reads);
        }
        into.append(&mut reads);
        result
    }

    fn nested(&mut self, node: &'a Node, env: &Env<'_, 'a>, into: &mut Reads) -> Result<(), SqlError> {
        self.nesting += 1;
        let result = self.any_expression(node, env, into);
        self.nesting -= 1;
        result
    }

    /// The same for each of a list.
    pub(super) fn expressions(
        &mut self,
        nodes: &'a [Node],
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        nodes.iter().try_for_each(|node| self.expression(node, env, into))
    }

    /// The same for an expression that may be absent.
    pub(super) fn optional(
        &mut self,
        node: Option<&'a Node>,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        node.map_or(Ok(()), |node| self.expression(node, env, into))
    }

    /// An expression that decides which rows appear, or in which order.
    pub(super) fn steering(&mut self, node: &'a Node, env: &Env<'_, 'a>) -> Result<(), SqlError> {
        let mut reads = Reads::new();
        self.expression(node, env, &mut reads)?;
        self.compared(reads);
        Ok(())
    }

    fn any_expression(
        &mut self,
        node: &'a Node,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        let Some(kind) = inner(node) else { return Ok(()) };
        match kind {
            NodeEnum::ColumnRef(column) => self.column_ref(column, env, into),
            NodeEnum::AConst(_) | NodeEnum::ParamRef(_) => {
                self.constants += 1;
                Ok(())
            }
            NodeEnum::SetToDefault(_) | NodeEnum::SqlvalueFunction(_) => Ok(()),
            NodeEnum::CurrentOfExpr(_) => {
                self.references += 1;
                Ok(())
            }
            NodeEnum::MergeSupportFunc(_) => {
                self.syntax_function("merge_action");
                Ok(())
            }
            NodeEnum::AExpr(expression) => self.operation(expression, env, into),
            NodeEnum::BoolExpr(expression) => {
                let before = self.met;
                let mut reads = Reads::new();
                self.expressions(&expression.args, env, &mut reads)?;
                self.guards(&reads, before);
                into.append(&mut reads);
                Ok(())
            }
            NodeEnum::TypeCast(cast) => {
                if let Some(name) = &cast.type_name {
                    self.type_name(name, env)?;
                }
                let mut reads = Reads::new();
                self.optional(cast.arg.as_deref(), env, &mut reads)?;
                self.cast(cast, &reads);
                into.append(&mut reads);
                Ok(())
            }
            NodeEnum::CollateClause(collate) => self.optional(collate.arg.as_deref(), env, into),
            NodeEnum::FuncCall(call) => self.call(call, env, into),
            NodeEnum::NamedArgExpr(argument) => self.optional(argument.arg.as_deref(), env, into),
            NodeEnum::AIndirection(indirection) => {
                self.optional(indirection.arg.as_deref(), env, into)?;
                for step in &indirection.indirection {
                    self.indirection_step(step, env, into)?;
                }
                Ok(())
            }
            NodeEnum::AIndices(indices) => {
                self.optional(indices.lidx.as_deref(), env, into)?;
                self.optional(indices.uidx.as_deref(), env, into)
            }
            NodeEnum::AArrayExpr(array) => {
                let before = self.met;
                let mut reads = Reads::new();
                self.expressions(&array.elements, env, &mut reads)?;
                self.must_fit(&reads, before);
                self.met.arrays += 1;
                into.append(&mut reads);
                Ok(())
            }
            NodeEnum::RowExpr(row) => self.expressions(&row.args, env, into),
            NodeEnum::List(list) => self.expressions(&list.items, env, into),
            NodeEnum::SubLink(link) => self.sub_link(link, env, into),
            NodeEnum::CaseExpr(case) => self.case(case, env, into),
            NodeEnum::CaseWhen(when) => {
                self.optional(when.expr.as_deref(), env, into)?;
                self.optional(when.result.as_deref(), env, into)
            }
            NodeEnum::CoalesceExpr(expression) => {
                let before = self.met;
                let mut reads = Reads::new();
                self.expressions(&expression.args, env, &mut reads)?;
                self.guards(&reads, before);
                into.append(&mut reads);
                Ok(())
            }
            NodeEnum::MinMaxExpr(expression) => self.expressions(&expression.args, env, into),
            NodeEnum::NullTest(test) => {
                let mut reads = Reads::new();
                self.optional(test.arg.as_deref(), env, &mut reads)?;
                into.extend(marked(reads, test.arg.as_deref(), env, Needs::AnyType, tested));
                Ok(())
            }
            NodeEnum::BooleanTest(test) => self.optional(test.arg.as_deref(), env, into),
            NodeEnum::GroupingFunc(grouping) => self.expressions(&grouping.args, env, into),
            NodeEnum::GroupingSet(set) => self.expressions(&set.content, env, into),
            NodeEnum::SortBy(sort) => {
                self.operator(&sort.use_op)?;
                self.optional(sort.node.as_deref(), env, into)
            }
            NodeEnum::ResTarget(target) => {
                for step in &target.indirection {
                    self.indirection_step(step, env, into)?;
                }
                self.optional(target.val.as_deref(), env, into)
            }
            NodeEnum::MultiAssignRef(assign) => self.optional(assign.source.as_deref(), env, into),
            NodeEnum::XmlExpr(xml) => {
                let mut reads = Reads::new();
                self.expressions(&xml.named_args, env, &mut reads)?;
                self.expressions(&xml.args, env, &mut reads)?;
                self.can_fail(&reads);
                into.append(&mut reads);
                Ok(())
            }
            NodeEnum::XmlSerialize(xml) => {
                if let Some(name) = &xml.type_name {
                    self.type_name(name, env)?;
                }
                self.optional(xml.expr.as_deref(), env, into)
            }
            NodeEnum::JsonValueExpr(value) => self.json_value(value, env, into),
            NodeEnum::JsonIsPredicate(test) => self.optional(test.expr.as_deref(), env, into),
            NodeEnum::JsonBehavior(behavior) => self.json_behavior(behavior, env, into),
            NodeEnum::JsonArgument(argument) => match argument.val.as_deref() {
                Some(value) => self.json_value(value, env, into),
                None => Ok(()),
            },
            NodeEnum::JsonKeyValue(pair) => {
                self.optional(pair.key.as_deref(), env, into)?;
                match pair.value.as_deref() {
                    Some(value) => self.json_value(value, env, into),
                    None => Ok(()),
                }
            }
            NodeEnum::JsonFuncExpr(_)
            | NodeEnum::JsonParseExpr(_)
            | NodeEnum::JsonScalarExpr(_)
            | NodeEnum::JsonSerializeExpr(_)
            | NodeEnum::JsonObjectConstructor(_)
            | NodeEnum::JsonArrayConstructor(_)
            | NodeEnum::JsonArrayQueryConstructor(_)
            | NodeEnum::JsonObjectAgg(_)
            | NodeEnum::JsonArrayAgg(_) => {
                let mut reads = Reads::new();
                self.sql_json(kind, env, &mut reads)?;
                self.can_fail(&reads);
                into.append(&mut reads);
                Ok(())
            }
            NodeEnum::AStar(_) => self.everything(env, into),
            planner_node!() | source_node!() | statement_node!() | clause_node!() => Err(unexpected(node)),
        }
    }

    /// The standard's own constructors and functions of JSON, most of which can be told to fail.
    fn sql_json(&mut self, kind: &'a NodeEnum, env: &Env<'_, 'a>, into: &mut Reads) -> Result<(), SqlError> {
        match kind {
            NodeEnum::JsonFuncExpr(call) => self.json_call(call, env, into),
            NodeEnum::JsonParseExpr(parse) => {
                self.syntax_function("json");
                self.json_output(parse.output.as_ref(), env)?;
                match parse.expr.as_deref() {
                    Some(value) => self.json_value(value, env, into),
                    None => Ok(()),
                }
            }
            NodeEnum::JsonScalarExpr(scalar) => {
                self.syntax_function("json_scalar");
                self.json_output(scalar.output.as_ref(), env)?;
                self.optional(scalar.expr.as_deref(), env, into)
            }
            NodeEnum::JsonSerializeExpr(serialize) => {
                self.syntax_function("json_serialize");
                self.json_output(serialize.output.as_ref(), env)?;
                match serialize.expr.as_deref() {
                    Some(value) => self.json_value(value, env, into),
                    None => Ok(()),
                }
            }
            NodeEnum::JsonObjectConstructor(object) => {
                self.syntax_function("json_object");
                self.json_output(object.output.as_ref(), env)?;
                self.expressions(&object.exprs, env, into)
            }
            NodeEnum::JsonArrayConstructor(array) => {
                self.syntax_function("json_array");
                self.json_output(array.output.as_ref(), env)?;
                self.expressions(&array.exprs, env, into)
            }
            NodeEnum::JsonArrayQueryConstructor(array) => {
                self.syntax_function("json_array");
                self.json_output(array.output.as_ref(), env)?;
                match array.query.as_deref() {
                    Some(query) => {
                        let outputs = self.query_node(query, env)?;
                        into.extend(outputs.all());
                        Ok(())
                    }
                    None => Ok(()),
                }
            }
            NodeEnum::JsonObjectAgg(aggregate) => {
                self.syntax_function("json_objectagg");
                if let Some(pair) = aggregate.arg.as_deref() {
                    self.optional(pair.key.as_deref(), env, into)?;
                    if let Some(value) = pair.value.as_deref() {
                        self.json_value(value, env, into)?;
                    }
                }
                self.json_aggregate(aggregate.constructor.as_deref(), env, into)
            }
            NodeEnum::JsonArrayAgg(aggregate) => {
                self.syntax_function("json_arrayagg");
                if let Some(value) = aggregate.arg.as_deref() {
                    self.json_value(value, env, into)?;
                }
                self.json_aggregate(aggregate.constructor.as_deref(), env, into)
            }
            // Only the kinds above are handed here.
            _ => Err(SqlError::UnknownNode { kind: "SQL/JSON" }),
        }
    }

    /// One step behind a value: a field, a subscript or `.*`.
    fn indirection_step(
        &mut self,
        step: &'a Node,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        match inner(step) {
            Some(NodeEnum::String(_) | NodeEnum::AStar(_)) => Ok(()),
            _ => self.expression(step, env, into),
        }
    }

    fn column_ref(
        &mut self,
        column: &'a ColumnRef,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        self.references += 1;
        let is_star = |node: &Node| matches!(inner(node), Some(NodeEnum::AStar(_)));
        match column.fields.as_slice() {
            [name] if !is_star(name) => match text(name) {
                Some(name) => self.resolve_name(name, env, into),
                None => Err(unexpected(name)),
            },
            [relation, star] if is_star(star) => match text(relation) {
                Some(relation) => self.resolve_row(relation, env, into),
                None => Err(unexpected(relation)),
            },
            [relation, name] => match (text(relation), text(name)) {
                (Some(relation), Some(name)) => self.resolve_qualified(relation, name, env, into),
                _ => Err(unexpected(name)),
            },
            // schema.table.column and beyond. An aliased table hides its schema, but its own name is unique enough.
            [.., relation, star] if is_star(star) => match text(relation) {
                Some(relation) => self.resolve_row(relation, env, into),
                None => Err(unexpected(relation)),
            },
            [_, relation, name] | [_, _, relation, name] => match (text(relation), text(name)) {
                (Some(relation), Some(name)) => self.resolve_qualified(relation, name, env, into),
                _ => Err(unexpected(name)),
            },
            _ => self.everything(env, into),
        }
    }

    fn operation(
        &mut self,
        expression: &'a AExpr,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        let whose = match AExprKind::try_from(expression.kind) {
            Ok(
                AExprKind::AexprOp
                | AExprKind::AexprOpAny
                | AExprKind::AexprOpAll
                | AExprKind::AexprDistinct
                | AExprKind::AexprNotDistinct
                | AExprKind::AexprNullif
                | AExprKind::AexprIn
                | AExprKind::AexprLike
                | AExprKind::AexprIlike
                | AExprKind::AexprSimilar,
            ) => self.operator(&expression.name)?,
            Ok(
                AExprKind::AexprBetween
                | AExprKind::AexprNotBetween
                | AExprKind::AexprBetweenSym
                | AExprKind::AexprNotBetweenSym,
            ) => {
                let each = [">=", "<=", "<", ">"].map(|name| self.plain_operator(name));
                each.into_iter().max().unwrap_or(Whose::Own)
            }
            Ok(AExprKind::Undefined) | Err(_) => return Err(SqlError::UnknownNode { kind: "A_Expr" }),
        };
        let before = self.met;
        let mut reads = [Reads::new(), Reads::new()];
        let operands = [expression.lexpr.as_deref(), expression.rexpr.as_deref()];
        for (operand, reads) in operands.into_iter().zip(&mut reads) {
            if let Some(operand) = operand {
                self.value_is_free(operand);
                self.expression(operand, env, reads)?;
            }
        }
        let [mut left, mut right] = reads;
        self.operands(expression, &left, &right, before);
        for operand in [&left, &right] {
            self.shown_to(whose, operand);
        }
        if self.tests_equality(expression) {
            // With a column on the other side as well, the rows may come in the order of the values.
            if right.is_empty() {
                left = marked(left, expression.lexpr.as_deref(), env, Needs::ManyValues, matched);
            } else if left.is_empty() {
                right = marked(right, expression.rexpr.as_deref(), env, Needs::ManyValues, matched);
            }
        }
        into.append(&mut left);
        into.append(&mut right);
        Ok(())
    }

    /// Whether the operation is PostgreSQL's own test for equality, or its opposite, of one operand with one value or
    /// several.
    fn tests_equality(&self, expression: &AExpr) -> bool {
        let kind = AExprKind::try_from(expression.kind);
        let of_kind = matches!(
            kind,
            Ok(AExprKind::AexprOp
                | AExprKind::AexprOpAny
                | AExprKind::AexprOpAll
                | AExprKind::AexprIn
                | AExprKind::AexprDistinct
                | AExprKind::AexprNotDistinct)
        );
        let [name] = expression.name.as_slice() else { return false };
        let by_name = text(name)
            .is_some_and(|name| matches!(name, "=" | "<>") && !self.catalogue.user_operators.contains(name));
        of_kind && by_name
    }

    /// Its conditions decide which of its results is computed, and whether a later condition is.
    fn case(&mut self, case: &'a CaseExpr, env: &Env<'_, 'a>, into: &mut Reads) -> Result<(), SqlError> {
        let whose = if case.arg.is_some() { self.plain_operator("=") } else { Whose::Own };
        let before = self.met;
        let mut conditions = Reads::new();
        self.optional(case.arg.as_deref(), env, &mut conditions)?;
        for node in &case.args {
            let Some(NodeEnum::CaseWhen(when)) = inner(node) else { return Err(unexpected(node)) };
            self.optional(when.expr.as_deref(), env, &mut conditions)?;
            self.optional(when.result.as_deref(), env, into)?;
        }
        self.optional(case.defresult.as_deref(), env, into)?;
        self.guards(&conditions, before);
        self.shown_to(whose, &conditions);
        into.append(&mut conditions);
        Ok(())
    }

    fn sub_link(&mut self, link: &'a SubLink, env: &Env<'_, 'a>, into: &mut Reads) -> Result<(), SqlError> {
        let mut whose = self.operator(&link.oper_name)?;
        self.optional(link.testexpr.as_deref(), env, into)?;
        let Some(query) = link.subselect.as_deref() else { return Ok(()) };
        match SubLinkType::try_from(link.sub_link_type) {
            Ok(SubLinkType::ExistsSublink) => {
                // Only whether there is a row counts; what decides that is noted while the query is read.
                self.query_node(query, env)?;
            }
            Ok(
                SubLinkType::AllSublink
                | SubLinkType::AnySublink
                | SubLinkType::RowcompareSublink
                | SubLinkType::ExprSublink
                | SubLinkType::MultiexprSublink
                | SubLinkType::ArraySublink,
            ) => {
                if link.oper_name.is_empty() {
                    whose = self.plain_operator("=");
                }
                let outputs = self.query_node(query, env)?;
                let all = outputs.all();
                if link.testexpr.is_some() {
                    self.shown_to(whose, into);
                    self.shown_to(whose, &all);
                }
                // More than one row is an error; so much work may be noticed.
                self.met.failures += 1;
                if SubLinkType::try_from(link.sub_link_type) == Ok(SubLinkType::ArraySublink) {
                    self.met.arrays += 1;
                }
                into.extend(all);
            }
            Ok(SubLinkType::CteSublink | SubLinkType::Undefined) | Err(_) => {
                return Err(SqlError::UnknownNode { kind: "SubLink" });
            }
        }
        Ok(())
    }

    /// OVER (…): its partitions and order steer the result.
    pub(super) fn window(&mut self, window: &'a WindowDef, env: &Env<'_, 'a>) -> Result<(), SqlError> {
        let mut reads = Reads::new();
        self.expressions(&window.partition_clause, env, &mut reads)?;
        self.expressions(&window.order_clause, env, &mut reads)?;
        self.optional(window.start_offset.as_deref(), env, &mut reads)?;
        self.optional(window.end_offset.as_deref(), env, &mut reads)?;
        self.compared(reads);
        Ok(())
    }

    pub(super) fn json_value(
        &mut self,
        value: &'a JsonValueExpr,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        self.optional(value.raw_expr.as_deref(), env, into)?;
        self.optional(value.formatted_expr.as_deref(), env, into)
    }

    pub(super) fn json_behavior(
        &mut self,
        behavior: &'a JsonBehavior,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        self.optional(behavior.expr.as_deref(), env, into)
    }

    fn json_call(
        &mut self,
        call: &'a JsonFuncExpr,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        for name in ["json_exists", "json_query", "json_value"] {
            self.syntax_function(name);
        }
        self.json_output(call.output.as_ref(), env)?;
        if let Some(value) = call.context_item.as_deref() {
            self.json_value(value, env, into)?;
        }
        self.optional(call.pathspec.as_deref(), env, into)?;
        self.expressions(&call.passing, env, into)?;
        for behavior in [call.on_empty.as_deref(), call.on_error.as_deref()].into_iter().flatten() {
            self.json_behavior(behavior, env, into)?;
        }
        Ok(())
    }

    fn json_output(&mut self, output: Option<&'a JsonOutput>, env: &Env<'_, 'a>) -> Result<(), SqlError> {
        match output.and_then(|output| output.type_name.as_ref()) {
            Some(name) => self.type_name(name, env),
            None => Ok(()),
        }
    }

    fn json_aggregate(
        &mut self,
        constructor: Option<&'a JsonAggConstructor>,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        let Some(constructor) = constructor else { return Ok(()) };
        self.json_output(constructor.output.as_ref(), env)?;
        let mut reads = Reads::new();
        self.expressions(&constructor.agg_order, env, &mut reads)?;
        into.extend(&reads);
        self.optional(constructor.agg_filter.as_deref(), env, &mut reads)?;
        self.compared(reads);
        match constructor.over.as_deref() {
            Some(window) => self.window(window, env),
            None => Ok(()),
        }
    }
}

/// What an operand reads, with this mark where it is a column as a table stores it.
pub(super) fn marked(
    reads: Reads,
    operand: Option<&Node>,
    env: &Env<'_, '_>,
    needs: Needs,
    mark: impl FnOnce(&Reads) -> Reads,
) -> Reads {
    if is_stored_column(operand, env, needs) { mark(&reads) } else { reads }
}

/// Whether the operand is a column as a table stores it.
fn is_stored_column(operand: Option<&Node>, env: &Env<'_, '_>, needs: Needs) -> bool {
    let Some(NodeEnum::ColumnRef(column)) = operand.and_then(inner) else { return false };
    match column.fields.as_slice() {
        [name] => text(name).is_some_and(|name| env.is_stored(None, name, needs)),
        [relation, name] => match (text(relation), text(name)) {
            (Some(relation), Some(name)) => env.is_stored(Some(relation), name, needs),
            _ => false,
        },
        _ => false,
    }
}
