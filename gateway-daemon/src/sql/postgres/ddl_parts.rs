//! Parts of definitions: columns, constraints, keys, bounds, options, and the expressions in them.

use pg_query::protobuf::{ColumnDef, Constraint, IndexElem, PartitionBoundSpec};
use pg_query::{Node, NodeEnum};

use crate::domain::statement::Verb;

use super::columns::Reads;
use super::error::SqlError;
use super::names::{inner, text, unexpected};
use super::nodes::{expression_node, planner_node, source_node, statement_node};
use super::reader::Reader;
use super::scope::Env;

impl<'a> Reader<'a> {
    /// Lists of definition elements: options, whose values are names and constants.
    pub(super) fn definitions(
        &mut self,
        nodes: &'a [Node],
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        for node in nodes {
            let element = match inner(node) {
                Some(NodeEnum::DefElem(element)) => element,
                None => continue,
                Some(_) => return Err(unexpected(node)),
            };
            if let Some(value) = element.arg.as_deref() {
                self.definition_part(value, env, into)?;
            }
        }
        Ok(())
    }

    pub(super) fn definition_parts(
        &mut self,
        nodes: &'a [Node],
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        nodes.iter().try_for_each(|node| self.definition_part(node, env, into))
    }

    /// One part of a definition: a column, a constraint, an option's value, an expression.
    pub(super) fn definition_part(
        &mut self,
        node: &'a Node,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        let Some(kind) = inner(node) else { return Ok(()) };
        self.enter()?;
        let result = self.any_definition_part(node, kind, env, into);
        self.leave();
        result
    }

    fn any_definition_part(
        &mut self,
        node: &'a Node,
        kind: &'a NodeEnum,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        // In a definition these mean something else than in an expression or in FROM.
        if let NodeEnum::RangeVar(var) = kind {
            return self.named(Verb::Alter, Some(var));
        }
        if let NodeEnum::List(list) = kind {
            return self.definition_parts(&list.items, env, into);
        }
        if let NodeEnum::AStar(_) = kind {
            return Ok(()); // FORCE_QUOTE *
        }
        match kind {
            NodeEnum::ColumnDef(column) => self.column_definition(column, env, into),
            NodeEnum::Constraint(constraint) => self.constraint(constraint, env, into),
            // Copies how the columns are defined, and no row.
            NodeEnum::TableLikeClause(like) => self.named(Verb::Select, like.relation.as_ref()),
            NodeEnum::IndexElem(element) => self.index_element_parts(element, env, into),
            NodeEnum::PartitionElem(element) => self.optional(element.expr.as_deref(), env, into),
            NodeEnum::PartitionCmd(command) => {
                self.named(Verb::Alter, command.name.as_ref())?;
                self.partition_bound(command.bound.as_ref(), env, into)
            }
            NodeEnum::PartitionBoundSpec(bound) => self.partition_bound(Some(bound), env, into),
            NodeEnum::PartitionRangeDatum(datum) => self.optional(datum.value.as_deref(), env, into),
            NodeEnum::DefElem(element) => match element.arg.as_deref() {
                Some(value) => self.definition_part(value, env, into),
                None => Ok(()),
            },
            NodeEnum::TypeName(name) => self.type_name(name, env),
            NodeEnum::String(_)
            | NodeEnum::Integer(_)
            | NodeEnum::Float(_)
            | NodeEnum::Boolean(_)
            | NodeEnum::BitString(_)
            | NodeEnum::RoleSpec(_)
            | NodeEnum::ObjectWithArgs(_)
            | NodeEnum::AtalterConstraint(_)
            | NodeEnum::ReplicaIdentityStmt(_) => Ok(()),
            expression_node!() => self.expression(node, env, into),
            planner_node!()
            | source_node!()
            | statement_node!()
            | NodeEnum::Alias(_)
            | NodeEnum::JsonFormat(_)
            | NodeEnum::WindowDef(_)
            | NodeEnum::RangeTableFuncCol(_)
            | NodeEnum::LockingClause(_)
            | NodeEnum::PartitionSpec(_)
            | NodeEnum::WithClause(_)
            | NodeEnum::InferClause(_)
            | NodeEnum::OnConflictClause(_)
            | NodeEnum::CtesearchClause(_)
            | NodeEnum::CtecycleClause(_)
            | NodeEnum::CommonTableExpr(_)
            | NodeEnum::MergeWhenClause(_)
            | NodeEnum::ReturningOption(_)
            | NodeEnum::ReturningClause(_)
            | NodeEnum::TriggerTransition(_)
            | NodeEnum::JsonOutput(_)
            | NodeEnum::JsonTablePathSpec(_)
            | NodeEnum::JsonTableColumn(_)
            | NodeEnum::JsonAggConstructor(_)
            | NodeEnum::ReturnStmt(_)
            | NodeEnum::AlterTableCmd(_)
            | NodeEnum::AccessPriv(_)
            | NodeEnum::CreateOpClassItem(_)
            | NodeEnum::StatsElem(_)
            | NodeEnum::FunctionParameter(_)
            | NodeEnum::VacuumRelation(_)
            | NodeEnum::PublicationTable(_)
            | NodeEnum::PublicationObjSpec(_) => Err(unexpected(node)),
        }
    }

    /// A column or expression of an index or of ON CONFLICT.
    pub(super) fn index_element(
        &mut self,
        node: &'a Node,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        let Some(NodeEnum::IndexElem(element)) = inner(node) else { return Err(unexpected(node)) };
        self.index_element_parts(element, env, into)
    }

    fn index_element_parts(
        &mut self,
        element: &'a IndexElem,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        if !element.name.is_empty() {
            self.resolve_name(&element.name, env, into)?;
        }
        self.definitions(&element.opclassopts, env, into)?;
        self.optional(element.expr.as_deref(), env, into)
    }

    fn column_definition(
        &mut self,
        column: &'a ColumnDef,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        if let Some(name) = &column.type_name {
            self.type_name(name, env)?;
        }
        self.optional(column.raw_default.as_deref(), env, into)?;
        self.optional(column.cooked_default.as_deref(), env, into)?;
        self.definitions(&column.fdwoptions, env, into)?;
        self.definition_parts(&column.constraints, env, into)
    }

    /// CHECK tells of existing rows whether they pass, FOREIGN KEY whether a value exists elsewhere.
    fn constraint(
        &mut self,
        constraint: &'a Constraint,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        self.optional(constraint.raw_expr.as_deref(), env, into)?;
        self.optional(constraint.where_clause.as_deref(), env, into)?;
        self.definition_parts(&constraint.exclusions, env, into)?;
        self.definitions(&constraint.options, env, into)?;
        let keys =
            [&constraint.keys, &constraint.including, &constraint.fk_attrs, &constraint.fk_del_set_cols];
        for key in keys.into_iter().flatten() {
            self.resolve_name(text(key).ok_or_else(|| unexpected(key))?, env, into)?;
        }
        if let Some(var) = &constraint.pktable {
            self.target(Verb::Select, var)?;
            let mut referred = if constraint.pk_attrs.is_empty() {
                self.primary_key(var)?
            } else {
                self.columns_of(var, &constraint.pk_attrs)?
            };
            into.append(&mut referred);
        }
        Ok(())
    }

    pub(super) fn partition_bound(
        &mut self,
        bound: Option<&'a PartitionBoundSpec>,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        let Some(bound) = bound else { return Ok(()) };
        for list in [&bound.listdatums, &bound.lowerdatums, &bound.upperdatums] {
            self.definition_parts(list, env, into)?;
        }
        Ok(())
    }
}
