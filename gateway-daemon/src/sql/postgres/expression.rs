//! Expressions: which base columns flow into a value, and which functions and operators make it.

use pg_query::protobuf::{
    AExpr, AExprKind, AIndirection, CaseExpr, ColumnRef, JsonAggConstructor, JsonBehavior, JsonFuncExpr,
    JsonOutput, JsonValueExpr, SubLink, SubLinkType, WindowDef, a_const,
};
use pg_query::{Node, NodeEnum};

use super::columns::{Reads, matched, tested};
use super::computable::Kind;
use super::error::SqlError;
use super::functions::Whose;
use super::names::{inner, text, unexpected};
use super::nodes::{clause_node, planner_node, source_node, statement_node};
use super::reader::Reader;
use super::scope::{Env, Needs};
use super::value::Value;

impl<'a> Reader<'a> {
    /// Adds what flows into the expression's value.
    pub(super) fn expression(
        &mut self,
        node: &'a Node,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        self.value(node, env, into).map(|_| ())
    }

    /// The same, and what is known of the value.
    pub(super) fn value(
        &mut self,
        node: &'a Node,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<Value, SqlError> {
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
    ) -> Result<Value, SqlError> {
        let before = self.constants;
        let mut reads = Reads::new();
        let result = self.nested(node, env, &mut reads);
        if self.constants > before {
            self.facts.beside_constants.extend(&reads);
        }
        into.append(&mut reads);
        result
    }

    fn nested(&mut self, node: &'a Node, env: &Env<'_, 'a>, into: &mut Reads) -> Result<Value, SqlError> {
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

    /// The value of each of a list.
    pub(super) fn values_of(
        &mut self,
        nodes: &'a [Node],
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<Vec<Value>, SqlError> {
        nodes.iter().map(|node| self.value(node, env, into)).collect()
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

    /// The value of one that may be absent, which is NULL.
    pub(super) fn optional_value(
        &mut self,
        node: Option<&'a Node>,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<Value, SqlError> {
        node.map_or(Ok(Value::NULL), |node| self.value(node, env, into))
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
    ) -> Result<Value, SqlError> {
        let Some(kind) = inner(node) else { return Ok(Value::NULL) };
        let mut reads = Reads::new();
        let before = self.met;
        let value = match kind {
            NodeEnum::ColumnRef(column) => {
                self.column_ref(column, env, &mut reads)?;
                env.value(column, self.catalogue)
            }
            NodeEnum::AConst(constant) => {
                self.constants += 1;
                match &constant.val {
                    _ if constant.isnull => Value::NULL,
                    Some(a_const::Val::Sval(text)) => Value::literal(&text.sval),
                    Some(a_const::Val::Ival(number)) => Value::number(number.ival.into()),
                    Some(a_const::Val::Fval(number)) => Value::decimal(&number.fval),
                    Some(a_const::Val::Boolval(_)) => Value::BOOL,
                    Some(a_const::Val::Bsval(_)) => Value::UNKNOWN,
                    // An integer zero has no bytes in protobuf.
                    None => Value::number(0),
                }
            }
            NodeEnum::ParamRef(_) => {
                self.constants += 1;
                Value::PARAMETER
            }
            NodeEnum::SetToDefault(_) | NodeEnum::SqlvalueFunction(_) => Value::UNKNOWN,
            NodeEnum::CurrentOfExpr(_) => {
                self.references += 1;
                Value::BOOL
            }
            NodeEnum::MergeSupportFunc(_) => {
                self.syntax_function("merge_action");
                Value::UNKNOWN
            }
            NodeEnum::AExpr(expression) => self.operation(expression, env, &mut reads)?,
            NodeEnum::BoolExpr(expression) => {
                self.expressions(&expression.args, env, &mut reads)?;
                self.guards(&reads, before);
                Value::BOOL
            }
            NodeEnum::TypeCast(cast) => {
                if let Some(name) = &cast.type_name {
                    self.type_name(name, env)?;
                }
                let value = self.optional_value(cast.arg.as_deref(), env, &mut reads)?;
                self.cast(cast, value, &reads)
            }
            NodeEnum::CollateClause(collate) => {
                self.optional(collate.arg.as_deref(), env, &mut reads)?;
                self.can_fail(&reads)
            }
            NodeEnum::FuncCall(call) => self.call(call, env, &mut reads)?,
            NodeEnum::NamedArgExpr(argument) => {
                self.optional(argument.arg.as_deref(), env, &mut reads)?;
                Value::UNKNOWN
            }
            NodeEnum::AIndirection(indirection) => self.indirection(indirection, env, &mut reads)?,
            NodeEnum::AIndices(indices) => {
                self.optional(indices.lidx.as_deref(), env, &mut reads)?;
                self.optional(indices.uidx.as_deref(), env, &mut reads)?;
                Value::UNKNOWN
            }
            NodeEnum::AArrayExpr(array) => {
                let values = self.values_of(&array.elements, env, &mut reads)?;
                self.operates(Kind::Form, "array", &values, &reads)
            }
            NodeEnum::RowExpr(row) => {
                let values = self.values_of(&row.args, env, &mut reads)?;
                Value::row(&values)
            }
            NodeEnum::List(list) => {
                self.expressions(&list.items, env, &mut reads)?;
                Value::UNKNOWN
            }
            NodeEnum::SubLink(link) => self.sub_link(link, env, &mut reads)?,
            NodeEnum::CaseExpr(case) => self.case(case, env, &mut reads)?,
            NodeEnum::CaseWhen(when) => {
                self.optional(when.expr.as_deref(), env, &mut reads)?;
                self.optional_value(when.result.as_deref(), env, &mut reads)?
            }
            NodeEnum::CoalesceExpr(expression) => {
                let mut values = Vec::with_capacity(expression.args.len());
                let mut tests = Reads::new();
                for argument in &expression.args {
                    let mut own = Reads::new();
                    values.push(self.value(argument, env, &mut own)?);
                    tests.extend(marked(own.clone(), Some(argument), env, Needs::AnyType, tested));
                    reads.append(&mut own);
                }
                self.guards(&tests, before);
                self.either("coalesce", &values, &reads)
            }
            NodeEnum::MinMaxExpr(expression) => {
                let values = self.values_of(&expression.args, env, &mut reads)?;
                self.either("greatest", &values, &reads)
            }
            NodeEnum::NullTest(test) => {
                self.optional(test.arg.as_deref(), env, &mut reads)?;
                reads = marked(reads, test.arg.as_deref(), env, Needs::AnyType, tested);
                Value::BOOL
            }
            NodeEnum::BooleanTest(test) => {
                self.optional(test.arg.as_deref(), env, &mut reads)?;
                Value::BOOL
            }
            NodeEnum::GroupingFunc(grouping) => {
                self.expressions(&grouping.args, env, &mut reads)?;
                Value::UNKNOWN
            }
            NodeEnum::GroupingSet(set) => {
                self.expressions(&set.content, env, &mut reads)?;
                Value::UNKNOWN
            }
            NodeEnum::SortBy(sort) => {
                self.operator(&sort.use_op)?;
                self.optional_value(sort.node.as_deref(), env, &mut reads)?
            }
            NodeEnum::ResTarget(target) => {
                for step in &target.indirection {
                    // A field that is assigned calls nothing.
                    if !matches!(inner(step), Some(NodeEnum::String(_))) {
                        self.indirection_step(step, env, &mut reads)?;
                    }
                }
                self.optional_value(target.val.as_deref(), env, &mut reads)?
            }
            NodeEnum::MultiAssignRef(assign) => {
                self.optional(assign.source.as_deref(), env, &mut reads)?;
                Value::UNKNOWN
            }
            NodeEnum::XmlExpr(xml) => {
                self.expressions(&xml.named_args, env, &mut reads)?;
                self.expressions(&xml.args, env, &mut reads)?;
                self.can_fail(&reads)
            }
            NodeEnum::XmlSerialize(xml) => {
                if let Some(name) = &xml.type_name {
                    self.type_name(name, env)?;
                }
                self.optional(xml.expr.as_deref(), env, &mut reads)?;
                self.can_fail(&reads)
            }
            NodeEnum::JsonValueExpr(value) => {
                self.json_value(value, env, &mut reads)?;
                Value::UNKNOWN
            }
            NodeEnum::JsonIsPredicate(test) => {
                self.optional(test.expr.as_deref(), env, &mut reads)?;
                self.can_fail(&reads)
            }
            NodeEnum::JsonBehavior(behavior) => {
                self.json_behavior(behavior, env, &mut reads)?;
                Value::UNKNOWN
            }
            NodeEnum::JsonArgument(argument) => {
                if let Some(value) = argument.val.as_deref() {
                    self.json_value(value, env, &mut reads)?;
                }
                Value::UNKNOWN
            }
            NodeEnum::JsonKeyValue(pair) => {
                self.optional(pair.key.as_deref(), env, &mut reads)?;
                if let Some(value) = pair.value.as_deref() {
                    self.json_value(value, env, &mut reads)?;
                }
                Value::UNKNOWN
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
                self.sql_json(kind, env, &mut reads)?;
                self.can_fail(&reads)
            }
            NodeEnum::AStar(_) => {
                self.everything(env, &mut reads)?;
                Value::UNKNOWN
            }
            planner_node!() | source_node!() | statement_node!() | clause_node!() => {
                return Err(unexpected(node));
            }
        };
        into.append(&mut reads);
        Ok(value)
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

    /// A value with fields, subscripts or `.*` behind it.
    fn indirection(
        &mut self,
        indirection: &'a AIndirection,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<Value, SqlError> {
        let mut steps = indirection.indirection.as_slice();
        let mut value = match self.field_of_row(indirection, env)? {
            Some((row, field)) => {
                steps = steps.get(1..).unwrap_or_default();
                let whole = self.optional_value(indirection.arg.as_deref(), env, &mut Reads::new())?;
                self.resolve_qualified(row, field, env, into)?;
                self.field(field, whole, into)
            }
            None => self.optional_value(indirection.arg.as_deref(), env, into)?,
        };
        for step in steps {
            let mut subscripts = Reads::new();
            self.indirection_step(step, env, &mut subscripts)?;
            value = match inner(step) {
                Some(NodeEnum::String(field)) => self.field(&field.sval, value, into),
                Some(NodeEnum::AStar(_)) if value.has_fields() => value.untyped(),
                Some(NodeEnum::AIndices(_)) => self.element(value, &subscripts, into),
                _ => self.can_fail(into),
            };
            into.append(&mut subscripts);
        }
        Ok(value)
    }

    /// Whether the value is certainly a whole row of FROM.
    pub(super) fn is_whole_row(&mut self, value: &'a Node, env: &Env<'_, 'a>) -> Result<bool, SqlError> {
        let Some(NodeEnum::ColumnRef(column)) = inner(value) else { return Ok(false) };
        match column.fields.as_slice() {
            [name] => text(name).map_or(Ok(false), |name| self.is_row(name, env)),
            [_, star] => Ok(matches!(inner(star), Some(NodeEnum::AStar(_)))),
            _ => Ok(false),
        }
    }

    /// The source and the column of it that `(source).column` means.
    fn field_of_row(
        &mut self,
        indirection: &'a AIndirection,
        env: &Env<'_, 'a>,
    ) -> Result<Option<(&'a str, &'a str)>, SqlError> {
        let Some(NodeEnum::ColumnRef(column)) = indirection.arg.as_deref().and_then(inner) else {
            return Ok(None);
        };
        match (column.fields.as_slice(), indirection.indirection.first().and_then(text)) {
            ([row], Some(field)) => match text(row) {
                Some(row) if self.is_row(row, env)? => Ok(Some((row, field))),
                _ => Ok(None),
            },
            _ => Ok(None),
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
            // A field, or a function that is called on the row.
            Some(NodeEnum::String(field)) => self.called_as_column(&field.sval, into),
            Some(NodeEnum::AStar(_)) => Ok(()),
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
    ) -> Result<Value, SqlError> {
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
        let mut reads = [Reads::new(), Reads::new()];
        let [left_reads, right_reads] = &mut reads;
        let operands = [expression.lexpr.as_deref(), expression.rexpr.as_deref()];
        operands.into_iter().flatten().for_each(|operand| self.value_is_free(operand));
        let left = self.optional_value(expression.lexpr.as_deref(), env, left_reads)?;
        let right = match expression.rexpr.as_deref() {
            Some(operand) => match inner(operand) {
                Some(NodeEnum::List(list)) => self.values_of(&list.items, env, right_reads)?,
                _ => vec![self.value(operand, env, right_reads)?],
            },
            None => Vec::new(),
        };
        let both = left_reads.union(right_reads).copied().collect();
        let is_brought = right_reads.is_empty();
        let value = if whose == Whose::Own {
            self.operands(expression, left, &right, is_brought, &both)
        } else {
            self.can_fail(&both)
        };
        let [mut left, mut right] = reads;
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
        Ok(value)
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
    fn case(&mut self, case: &'a CaseExpr, env: &Env<'_, 'a>, into: &mut Reads) -> Result<Value, SqlError> {
        let whose = if case.arg.is_some() { self.plain_operator("=") } else { Whose::Own };
        let (mut conditions, mut reads) = (Reads::new(), Reads::new());
        self.optional(case.arg.as_deref(), env, &mut conditions)?;
        let mut values = Vec::with_capacity(case.args.len() + 1);
        for node in &case.args {
            let Some(NodeEnum::CaseWhen(when)) = inner(node) else { return Err(unexpected(node)) };
            self.optional(when.expr.as_deref(), env, &mut conditions)?;
            values.push(self.optional_value(when.result.as_deref(), env, &mut reads)?);
        }
        values.push(self.optional_value(case.defresult.as_deref(), env, &mut reads)?);
        self.decides(&conditions);
        self.shown_to(whose, &conditions);
        let value = self.either("case", &values, &reads);
        into.append(&mut reads);
        into.append(&mut conditions);
        Ok(value)
    }

    fn sub_link(
        &mut self,
        link: &'a SubLink,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<Value, SqlError> {
        let mut whose = self.operator(&link.oper_name)?;
        self.optional(link.testexpr.as_deref(), env, into)?;
        let Some(query) = link.subselect.as_deref() else { return Ok(Value::UNKNOWN) };
        let kind = SubLinkType::try_from(link.sub_link_type);
        let is_value = match kind {
            Ok(SubLinkType::ExistsSublink) => {
                // Only whether there is a row counts; what decides that is noted while the query is read.
                self.query_node(query, env)?;
                return Ok(Value::BOOL);
            }
            Ok(SubLinkType::ExprSublink | SubLinkType::MultiexprSublink) => true,
            Ok(
                SubLinkType::AllSublink
                | SubLinkType::AnySublink
                | SubLinkType::RowcompareSublink
                | SubLinkType::ArraySublink,
            ) => false,
            Ok(SubLinkType::CteSublink | SubLinkType::Undefined) | Err(_) => {
                return Err(SqlError::UnknownNode { kind: "SubLink" });
            }
        };
        if link.oper_name.is_empty() && link.testexpr.is_some() {
            whose = self.plain_operator("=");
        }
        let outputs = self.query_node(query, env)?;
        let all = outputs.all();
        if link.testexpr.is_some() {
            self.shown_to(whose, into);
            self.shown_to(whose, &all);
        }
        into.extend(all);
        if !is_value {
            // As many rows as the query likes are compared with, or put into one array.
            return Ok(self.can_fail(into));
        }
        // More than one row is an error; so much work may be noticed.
        self.can_fail(&Reads::new());
        Ok(match outputs.columns.as_slice() {
            [only] if !outputs.is_open() => only.value.from_within(link.location),
            _ => Value::UNKNOWN,
        })
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
