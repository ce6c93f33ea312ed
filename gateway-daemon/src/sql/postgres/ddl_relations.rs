//! Definitions of relations and of what belongs to them: tables, views, indexes, statistics, row policies, triggers, rules,
//! publications, and the schemas that hold them.

use pg_query::protobuf::{
    CreateSchemaStmt, CreateStatsStmt, CreateStmt, CreateTableAsStmt, CreateTrigStmt, IndexStmt,
    PublicationObjSpecType, RangeVar, RuleStmt, ViewStmt,
};
use pg_query::{Node, NodeEnum};

use crate::domain::statement::Verb;

use super::columns::Reads;
use super::error::SqlError;
use super::names::{inner, unexpected};
use super::reader::{Destination, Reader};
use super::scope::{Env, Level, Outputs, Rows, Source};

impl<'a> Reader<'a> {
    /// CREATE SCHEMA, with whatever it makes within. Names without a schema are looked for in the new one first, where
    /// there is nothing yet but what the statement makes itself: taking them for what bears the name elsewhere is
    /// the stricter reading.
    pub(super) fn create_schema(&mut self, stmt: &'a CreateSchemaStmt) -> Result<(), SqlError> {
        self.effect(Verb::Create, None);
        let owner = stmt.authrole.as_ref().map(|role| role.rolename.as_str());
        let name = if stmt.schemaname.is_empty() { owner.unwrap_or_default() } else { &stmt.schemaname };
        if name.is_empty() && !stmt.schema_elts.is_empty() {
            return Err(SqlError::Unsupported { what: "CREATE SCHEMA with objects and without a name" });
        }
        let before = self.new_schema.replace(name);
        let result = stmt.schema_elts.iter().try_for_each(|node| match inner(node) {
            Some(
                NodeEnum::CreateStmt(_)
                | NodeEnum::ViewStmt(_)
                | NodeEnum::IndexStmt(_)
                | NodeEnum::CreateSeqStmt(_)
                | NodeEnum::CreateTrigStmt(_)
                | NodeEnum::GrantStmt(_),
            ) => self.statement(node),
            _ => Err(unexpected(node)),
        });
        self.new_schema = before;
        result
    }

    /// A new table holds no rows; as a child or a partition its columns are its parent's. What a new partition takes is
    /// looked for among the rows of the default one.
    pub(super) fn create_table(&mut self, stmt: &'a CreateStmt) -> Result<(), SqlError> {
        if let Some(relation) = &stmt.relation {
            self.creates(relation);
        }
        if !stmt.inh_relations.is_empty() {
            self.relations(Verb::Alter, &stmt.inh_relations)?;
        }
        if stmt.partbound.is_some() {
            for node in &stmt.inh_relations {
                let Some(NodeEnum::RangeVar(parent)) = inner(node) else { return Err(unexpected(node)) };
                let key = self.partition_key(parent)?;
                self.defined(&key);
            }
        }
        let level = unknown_level();
        let env = Env::within(&level, &Env::EMPTY);
        let mut reads = Reads::new();
        if let Some(name) = &stmt.of_typename {
            self.type_name(name, &env)?;
        }
        self.definition_parts(&stmt.table_elts, &env, &mut reads)?;
        self.definition_parts(&stmt.constraints, &env, &mut reads)?;
        self.definition_parts(&stmt.nnconstraints, &env, &mut reads)?;
        self.definitions(&stmt.options, &env, &mut reads)?;
        if let Some(spec) = &stmt.partspec {
            self.definition_parts(&spec.part_params, &env, &mut reads)?;
        }
        self.partition_bound(stmt.partbound.as_ref(), &env, &mut reads)?;
        self.defined(&reads);
        self.compared(reads);
        Ok(())
    }

    pub(super) fn create_table_as(&mut self, stmt: &'a CreateTableAsStmt) -> Result<(), SqlError> {
        let Some(query) = stmt.query.as_deref() else {
            return Err(SqlError::UnknownNode { kind: "CreateTableAsStmt" });
        };
        if let Some(into) = stmt.into.as_deref() {
            if let Some(relation) = &into.rel {
                self.creates(relation);
            }
            let mut nothing = Reads::new();
            self.definitions(&into.options, &Env::EMPTY, &mut nothing)?;
        }
        // Stored whatever surrounds the statement, EXPLAIN included.
        let before = std::mem::replace(&mut self.destination, Destination::Elsewhere);
        let result = self.statement(query);
        self.destination = before;
        result
    }

    pub(super) fn create_view(&mut self, stmt: &'a ViewStmt, node: &Node) -> Result<(), SqlError> {
        if let Some(view) = &stmt.view {
            self.creates(view);
        }
        let mut nothing = Reads::new();
        self.definitions(&stmt.options, &Env::EMPTY, &mut nothing)?;
        match stmt.query.as_deref() {
            Some(query) => self.towards(Destination::Elsewhere, query),
            None => Err(unexpected(node)),
        }
    }

    /// Rows may be found, and come, in the order of whatever an index holds.
    pub(super) fn create_index(&mut self, stmt: &'a IndexStmt) -> Result<(), SqlError> {
        let Some(var) = &stmt.relation else { return Err(SqlError::UnknownNode { kind: "IndexStmt" }) };
        let target = self.target(Verb::Create, var)?;
        // One that is not there yet was made by the message itself.
        let is_known = matches!(target.rows, Rows::Relation(_));
        let level = Level::of(target);
        let env = Env::within(&level, &Env::EMPTY);
        let mut expressions = Reads::new();
        for element in stmt.index_params.iter().chain(&stmt.index_including_params) {
            let mut reads = Reads::new();
            self.index_element(element, &env, &mut reads)?;
            if is_known {
                self.defined(&reads);
            }
            if let Some(NodeEnum::IndexElem(element)) = inner(element)
                && (element.expr.is_some() || stmt.unique)
            {
                expressions.append(&mut reads);
            }
        }
        self.optional(stmt.where_clause.as_deref(), &env, &mut expressions)?;
        self.defined(&expressions);
        let mut nothing = Reads::new();
        self.definitions(&stmt.options, &env, &mut nothing)?;
        self.compared(expressions);
        Ok(())
    }

    pub(super) fn create_statistics(&mut self, stmt: &'a CreateStatsStmt) -> Result<(), SqlError> {
        let env = &Env::EMPTY;
        let level = self.sources_of(&stmt.relations, env)?;
        for node in &stmt.relations {
            if let Some(NodeEnum::RangeVar(var)) = inner(node) {
                self.target(Verb::Create, var)?;
            }
        }
        let inside = Env::within(&level, env);
        for node in &stmt.exprs {
            let Some(NodeEnum::StatsElem(element)) = inner(node) else {
                return Err(unexpected(node));
            };
            let mut reads = Reads::new();
            if !element.name.is_empty() {
                self.resolve_name(&element.name, &inside, &mut reads)?;
            }
            let mut expression = Reads::new();
            self.optional(element.expr.as_deref(), &inside, &mut expression)?;
            reads.extend(&expression);
            self.defined(&reads);
            self.compared(expression);
        }
        Ok(())
    }

    pub(super) fn row_policy(
        &mut self,
        table: Option<&'a RangeVar>,
        rules: [Option<&'a Node>; 2],
    ) -> Result<(), SqlError> {
        let Some(var) = table else { return Err(SqlError::UnknownNode { kind: "CreatePolicyStmt" }) };
        let target = self.target(Verb::Grant, var)?;
        let level = Level::of(target);
        let env = Env::within(&level, &Env::EMPTY);
        rules.into_iter().flatten().try_for_each(|rule| self.condition(rule, &env))
    }

    pub(super) fn create_trigger(&mut self, stmt: &'a CreateTrigStmt, node: &Node) -> Result<(), SqlError> {
        self.opaque_code("CREATE TRIGGER");
        let Some(var) = &stmt.relation else { return Err(unexpected(node)) };
        let target = self.target(Verb::Create, var)?;
        if let Some(other) = &stmt.constrrel {
            self.target(Verb::Alter, other)?;
        }
        let named = self.columns_of(var, &stmt.columns)?;
        self.defined(&named);
        let level = old_and_new(&target);
        match stmt.when_clause.as_deref() {
            Some(condition) => self.condition(condition, &Env::within(&level, &Env::EMPTY)),
            None => Ok(()),
        }
    }

    /// A rule makes other statements mean something else: its actions are read, and it counts as code.
    pub(super) fn create_rule(&mut self, stmt: &'a RuleStmt) -> Result<(), SqlError> {
        let Some(var) = &stmt.relation else { return Err(SqlError::UnknownNode { kind: "RuleStmt" }) };
        self.opaque_code("CREATE RULE");
        let target = self.target(Verb::Create, var)?;
        let level = old_and_new(&target);
        let env = Env::within(&level, &Env::EMPTY);
        if let Some(condition) = stmt.where_clause.as_deref() {
            self.condition(condition, &env)?;
        }
        for action in &stmt.actions {
            match inner(action) {
                Some(NodeEnum::NotifyStmt(_)) | None => {}
                _ => {
                    let outputs = self.query_node(action, &env)?;
                    let all = outputs.all();
                    self.moved(all);
                }
            }
        }
        Ok(())
    }

    /// A condition that is kept, and decides about rows from then on.
    fn condition(&mut self, node: &'a Node, env: &Env<'_, 'a>) -> Result<(), SqlError> {
        let mut reads = Reads::new();
        self.expression(node, env, &mut reads)?;
        self.defined(&reads);
        self.compared(reads);
        Ok(())
    }

    /// A publication sends every change of its tables to whoever subscribes.
    pub(super) fn publish(
        &mut self,
        verb: Verb,
        objects: &'a [Node],
        all_tables: bool,
    ) -> Result<(), SqlError> {
        self.blind_code(verb, "a publication")?;
        if all_tables {
            self.out_of_sight("a publication of all tables");
        }
        for node in objects {
            let Some(NodeEnum::PublicationObjSpec(object)) = inner(node) else {
                return Err(unexpected(node));
            };
            let is_table = matches!(
                PublicationObjSpecType::try_from(object.pubobjtype),
                Ok(PublicationObjSpecType::PublicationobjTable
                    | PublicationObjSpecType::PublicationobjContinuation)
            );
            let Some(table) = object.pubtable.as_deref().filter(|_| is_table) else {
                self.out_of_sight("a publication of whole schemas");
                continue;
            };
            let Some(var) = &table.relation else { return Err(unexpected(node)) };
            let level = Level::of(self.target(Verb::Select, var)?);
            if table.columns.is_empty() {
                self.carries_off(var)?;
            } else {
                let listed = self.columns_of(var, &table.columns)?;
                self.defined(&listed);
                self.moved(listed);
            }
            if let Some(filter) = table.where_clause.as_deref() {
                self.condition(filter, &Env::within(&level, &Env::EMPTY))?;
            }
        }
        Ok(())
    }

    /// CLUSTER writes the rows in the order of an index: that order is seen by every later query.
    pub(super) fn cluster(&mut self, var: Option<&'a RangeVar>, index: &str) -> Result<(), SqlError> {
        let Some(var) = var else {
            self.facts.unpins = Some("CLUSTER of whatever was clustered before".to_owned());
            return Ok(());
        };
        let keys = if index.is_empty() { self.all_columns(var)? } else { self.columns_of_index(var, index)? };
        self.defined(&keys);
        self.compared(keys);
        Ok(())
    }
}

/// A level whose columns are those of a relation that does not exist yet, or of no relation.
pub(super) fn unknown_level<'a>() -> Level<'a> {
    Level::of(Source { name: None, rows: Rows::Derived(std::rc::Rc::new(Outputs::opaque(Reads::new()))) })
}

/// The rows that a trigger or rule sees.
fn old_and_new<'a>(target: &Source<'a>) -> Level<'a> {
    let mut level = Level::default();
    for name in ["old", "new"] {
        level.append(Level::of(Source { name: Some(name), rows: target.rows.clone() }));
    }
    level
}
