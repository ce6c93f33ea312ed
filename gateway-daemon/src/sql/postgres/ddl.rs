//! Statements that define objects: which relation they change, which code they bring along, and which columns
//! a definition, a rename or a publication would carry out of reach of the policies that name them.

use pg_query::protobuf::{
    AlterTableCmd, AlterTableStmt, AlterTableType, ColumnDef, CommentStmt, Constraint, CreateSchemaStmt,
    CreateStmt, CreateTableAsStmt, DropStmt, GrantStmt, GrantTargetType, IndexElem, IndexStmt, ObjectType,
    PartitionBoundSpec, RangeVar, RenameStmt, RuleStmt,
};
use pg_query::{Node, NodeEnum};

use crate::domain::statement::Verb;

use super::columns::Reads;
use super::error::SqlError;
use super::names::{definition, inner, parts, unexpected};
use super::nodes::{expression_node, planner_node, source_node, statement_node};
use super::reader::{Destination, Reader};
use super::scope::{Env, Level, Outputs, Rows, Source};

impl<'a> Reader<'a> {
    /// Any statement that defines, changes or removes objects.
    pub(super) fn definition_statement(&mut self, node: &'a Node) -> Result<(), SqlError> {
        let env = &Env::EMPTY;
        let mut reads = Reads::new();
        match inner(node) {
            // Tables and what belongs to them.
            Some(NodeEnum::CreateStmt(stmt)) => self.create_table(stmt),
            Some(NodeEnum::CreateForeignTableStmt(stmt)) => {
                self.definitions(&stmt.options, env, &mut reads)?;
                match &stmt.base_stmt {
                    Some(base) => self.create_table(base),
                    None => Err(unexpected(node)),
                }
            }
            Some(NodeEnum::CreateTableAsStmt(stmt)) => self.create_table_as(stmt),
            Some(NodeEnum::ViewStmt(stmt)) => {
                if let Some(view) = &stmt.view {
                    self.creates(view);
                }
                self.definitions(&stmt.options, env, &mut reads)?;
                match stmt.query.as_deref() {
                    Some(query) => self.towards(Destination::Elsewhere, query),
                    None => Err(unexpected(node)),
                }
            }
            Some(NodeEnum::AlterTableStmt(stmt)) => self.alter_table(stmt),
            Some(NodeEnum::IndexStmt(stmt)) => self.create_index(stmt),
            Some(NodeEnum::CreateStatsStmt(stmt)) => {
                let level = self.sources_of(&stmt.relations, env)?;
                for node in &stmt.relations {
                    if let Some(NodeEnum::RangeVar(var)) = inner(node) {
                        self.target(Verb::Create, var)?;
                    }
                }
                for node in &stmt.exprs {
                    let Some(NodeEnum::StatsElem(element)) = inner(node) else {
                        return Err(unexpected(node));
                    };
                    if let Some(expression) = element.expr.as_deref() {
                        self.steering(expression, &Env::within(&level, env))?;
                    }
                }
                Ok(())
            }
            Some(NodeEnum::CreatePolicyStmt(stmt)) => {
                self.row_policy(stmt.table.as_ref(), [stmt.qual.as_deref(), stmt.with_check.as_deref()])
            }
            Some(NodeEnum::AlterPolicyStmt(stmt)) => {
                self.row_policy(stmt.table.as_ref(), [stmt.qual.as_deref(), stmt.with_check.as_deref()])
            }
            Some(NodeEnum::CreateTrigStmt(stmt)) => {
                self.opaque_code("CREATE TRIGGER");
                let Some(var) = &stmt.relation else { return Err(unexpected(node)) };
                let target = self.target(Verb::Create, var)?;
                if let Some(other) = &stmt.constrrel {
                    self.target(Verb::Alter, other)?;
                }
                let level = old_and_new(&target);
                match stmt.when_clause.as_deref() {
                    Some(condition) => self.steering(condition, &Env::within(&level, env)),
                    None => Ok(()),
                }
            }
            Some(NodeEnum::RuleStmt(stmt)) => self.create_rule(stmt),
            Some(NodeEnum::CreateSeqStmt(stmt)) => {
                self.definitions(&stmt.options, env, &mut reads)?;
                if let Some(sequence) = &stmt.sequence {
                    self.creates(sequence);
                }
                Ok(())
            }
            Some(NodeEnum::AlterSeqStmt(stmt)) => {
                self.definitions(&stmt.options, env, &mut reads)?;
                self.named(Verb::Alter, stmt.sequence.as_ref())
            }
            Some(NodeEnum::DropStmt(stmt)) => self.drop_objects(stmt),
            Some(NodeEnum::RenameStmt(stmt)) => self.rename(stmt),
            Some(NodeEnum::AlterObjectSchemaStmt(stmt)) => {
                self.named(Verb::Alter, stmt.relation.as_ref())?;
                self.move_all(stmt.relation.as_ref())
            }
            Some(NodeEnum::AlterObjectDependsStmt(stmt)) => self.named(Verb::Alter, stmt.relation.as_ref()),
            Some(NodeEnum::AlterOwnerStmt(stmt)) => self.named(Verb::Grant, stmt.relation.as_ref()),
            Some(NodeEnum::CommentStmt(stmt)) => self.comment(stmt),
            // Rights.
            Some(NodeEnum::GrantStmt(stmt)) => self.grant(stmt),
            Some(NodeEnum::AlterRoleStmt(stmt)) => {
                for option in &stmt.options {
                    if definition(option)?.defname.eq_ignore_ascii_case("password") {
                        return Err(SqlError::secret("ALTER ROLE … PASSWORD"));
                    }
                }
                self.nameless(Verb::Grant)
            }
            Some(
                NodeEnum::SecLabelStmt(_)
                | NodeEnum::GrantRoleStmt(_)
                | NodeEnum::AlterDefaultPrivilegesStmt(_)
                | NodeEnum::CreateRoleStmt(_)
                | NodeEnum::AlterRoleSetStmt(_)
                | NodeEnum::DropRoleStmt(_)
                | NodeEnum::ReassignOwnedStmt(_),
            ) => self.nameless(Verb::Grant),
            Some(NodeEnum::DropOwnedStmt(_)) => {
                self.effect(Verb::Grant, None);
                self.nameless(Verb::Drop)
            }
            // Schemas, types and whatever else holds neither rows nor code.
            Some(NodeEnum::CreateSchemaStmt(stmt)) => self.create_schema(stmt),
            Some(NodeEnum::CreateDomainStmt(stmt)) => {
                if let Some(name) = &stmt.type_name {
                    self.type_name(name, env)?;
                }
                let level = unknown_level();
                self.definition_parts(&stmt.constraints, &Env::within(&level, env), &mut reads)?;
                self.nameless(Verb::Create)
            }
            Some(NodeEnum::AlterDomainStmt(stmt)) => {
                let level = unknown_level();
                if let Some(part) = stmt.def.as_deref() {
                    self.definition_part(part, &Env::within(&level, env), &mut reads)?;
                }
                self.nameless(Verb::Alter)
            }
            Some(NodeEnum::CompositeTypeStmt(stmt)) => {
                self.definition_parts(&stmt.coldeflist, env, &mut reads)?;
                self.nameless(Verb::Create)
            }
            Some(
                NodeEnum::CreateEnumStmt(_)
                | NodeEnum::CreateTableSpaceStmt(_)
                | NodeEnum::CreatedbStmt(_)
                | NodeEnum::CreateUserMappingStmt(_),
            ) => self.nameless(Verb::Create),
            Some(
                NodeEnum::AlterEnumStmt(_)
                | NodeEnum::AlterCollationStmt(_)
                | NodeEnum::AlterTableSpaceOptionsStmt(_)
                | NodeEnum::AlterTableMoveAllStmt(_)
                | NodeEnum::AlterStatsStmt(_)
                | NodeEnum::AlterDatabaseStmt(_)
                | NodeEnum::AlterDatabaseRefreshCollStmt(_)
                | NodeEnum::AlterDatabaseSetStmt(_)
                | NodeEnum::AlterUserMappingStmt(_)
                | NodeEnum::AlterOpFamilyStmt(_)
                | NodeEnum::AlterTsdictionaryStmt(_)
                | NodeEnum::AlterTsconfigurationStmt(_),
            ) => self.nameless(Verb::Alter),
            Some(
                NodeEnum::DropTableSpaceStmt(_)
                | NodeEnum::DropdbStmt(_)
                | NodeEnum::DropUserMappingStmt(_)
                | NodeEnum::DropSubscriptionStmt(_),
            ) => self.nameless(Verb::Drop),
            // What brings code along, or lets data in and out by ways of its own.
            Some(NodeEnum::CreateFunctionStmt(_)) => self.code(Verb::Create, "CREATE FUNCTION"),
            Some(NodeEnum::AlterFunctionStmt(_)) => self.code(Verb::Alter, "ALTER FUNCTION"),
            Some(NodeEnum::CreateEventTrigStmt(_)) => self.code(Verb::Create, "CREATE EVENT TRIGGER"),
            Some(NodeEnum::AlterEventTrigStmt(_)) => self.code(Verb::Alter, "ALTER EVENT TRIGGER"),
            Some(NodeEnum::CreatePlangStmt(_)) => self.code(Verb::Create, "CREATE LANGUAGE"),
            Some(NodeEnum::CreateExtensionStmt(_)) => self.code(Verb::Create, "CREATE EXTENSION"),
            Some(NodeEnum::AlterExtensionStmt(_) | NodeEnum::AlterExtensionContentsStmt(_)) => {
                self.code(Verb::Alter, "ALTER EXTENSION")
            }
            Some(NodeEnum::CreateFdwStmt(_)) => self.code(Verb::Create, "CREATE FOREIGN DATA WRAPPER"),
            Some(NodeEnum::AlterFdwStmt(_)) => self.code(Verb::Alter, "ALTER FOREIGN DATA WRAPPER"),
            Some(NodeEnum::CreateForeignServerStmt(_)) => self.code(Verb::Create, "CREATE SERVER"),
            Some(NodeEnum::AlterForeignServerStmt(_)) => self.code(Verb::Alter, "ALTER SERVER"),
            Some(NodeEnum::ImportForeignSchemaStmt(_)) => self.code(Verb::Create, "IMPORT FOREIGN SCHEMA"),
            Some(NodeEnum::CreateAmStmt(_)) => self.code(Verb::Create, "CREATE ACCESS METHOD"),
            Some(NodeEnum::DefineStmt(_)) => {
                self.code(Verb::Create, "CREATE of an operator, aggregate or type")
            }
            Some(NodeEnum::AlterOperatorStmt(_)) => self.code(Verb::Alter, "ALTER OPERATOR"),
            Some(NodeEnum::AlterTypeStmt(_)) => self.code(Verb::Alter, "ALTER TYPE"),
            Some(NodeEnum::CreateOpClassStmt(_)) => self.code(Verb::Create, "CREATE OPERATOR CLASS"),
            Some(NodeEnum::CreateOpFamilyStmt(_)) => self.code(Verb::Create, "CREATE OPERATOR FAMILY"),
            Some(NodeEnum::CreateRangeStmt(_)) => self.code(Verb::Create, "CREATE TYPE AS RANGE"),
            Some(NodeEnum::CreateConversionStmt(_)) => self.code(Verb::Create, "CREATE CONVERSION"),
            Some(NodeEnum::CreateCastStmt(_)) => self.code(Verb::Create, "CREATE CAST"),
            Some(NodeEnum::CreateTransformStmt(_)) => self.code(Verb::Create, "CREATE TRANSFORM"),
            Some(NodeEnum::AlterSystemStmt(_)) => self.code(Verb::Alter, "ALTER SYSTEM"),
            Some(NodeEnum::CreateSubscriptionStmt(_)) => self.code(Verb::Create, "CREATE SUBSCRIPTION"),
            Some(NodeEnum::AlterSubscriptionStmt(_)) => self.code(Verb::Alter, "ALTER SUBSCRIPTION"),
            Some(NodeEnum::CreatePublicationStmt(stmt)) => self.publish(Verb::Create, &stmt.pubobjects),
            Some(NodeEnum::AlterPublicationStmt(stmt)) => self.publish(Verb::Alter, &stmt.pubobjects),
            _ => Err(unexpected(node)),
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "an arm's whole answer")]
    fn nameless(&mut self, verb: Verb) -> Result<(), SqlError> {
        self.effect(verb, None);
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "an arm's whole answer")]
    fn code(&mut self, verb: Verb, what: &str) -> Result<(), SqlError> {
        self.effect(verb, None);
        self.opaque_code(what);
        Ok(())
    }

    fn named(&mut self, verb: Verb, var: Option<&'a RangeVar>) -> Result<(), SqlError> {
        match var {
            Some(var) => self.target(verb, var).map(|_| ()),
            None => self.nameless(verb),
        }
    }

    /// After a rename or a move, policies that name the old place no longer apply to the columns.
    fn move_all(&mut self, var: Option<&'a RangeVar>) -> Result<(), SqlError> {
        if let Some(var) = var {
            let all = self.all_columns(var)?;
            self.moved(all);
        }
        Ok(())
    }

    /// CLUSTER writes the rows in the order of an index, on whichever columns: that order is seen by every later query.
    pub(super) fn sorted(&mut self, var: Option<&'a RangeVar>) -> Result<(), SqlError> {
        if let Some(var) = var {
            let all = self.all_columns(var)?;
            self.compared(all);
        }
        Ok(())
    }

    /// CREATE SCHEMA, with whatever it makes within. Names without a schema are looked for in the new one first, where
    /// there is nothing yet but what the statement makes itself: taking them for what bears the name elsewhere is
    /// the stricter reading.
    fn create_schema(&mut self, stmt: &'a CreateSchemaStmt) -> Result<(), SqlError> {
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

    fn create_table(&mut self, stmt: &'a CreateStmt) -> Result<(), SqlError> {
        if let Some(relation) = &stmt.relation {
            self.creates(relation);
        }
        if !stmt.inh_relations.is_empty() {
            self.relations(Verb::Alter, &stmt.inh_relations)?;
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
        self.compared(reads);
        Ok(())
    }

    fn create_table_as(&mut self, stmt: &'a CreateTableAsStmt) -> Result<(), SqlError> {
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

    fn alter_table(&mut self, stmt: &'a AlterTableStmt) -> Result<(), SqlError> {
        let Some(var) = &stmt.relation else { return Err(SqlError::UnknownNode { kind: "AlterTableStmt" }) };
        let target = self.target(Verb::Alter, var)?;
        let level = Level::of(target);
        let env = Env::within(&level, &Env::EMPTY);
        for node in &stmt.cmds {
            let Some(NodeEnum::AlterTableCmd(command)) = inner(node) else { return Err(unexpected(node)) };
            self.alter_table_command(command, var, &env)?;
        }
        Ok(())
    }

    fn alter_table_command(
        &mut self,
        command: &'a AlterTableCmd,
        var: &'a RangeVar,
        env: &Env<'_, 'a>,
    ) -> Result<(), SqlError> {
        let mut reads = Reads::new();
        if let Some(part) = command.def.as_deref() {
            self.definition_part(part, env, &mut reads)?;
        }
        let (name, _) = self.relation(var)?;
        match AlterTableType::try_from(command.subtype) {
            Ok(AlterTableType::AtChangeOwner) => self.effect(Verb::Grant, Some(name)),
            // The rows of the one table become readable through the other.
            Ok(AlterTableType::AtAddInherit | AlterTableType::AtDropInherit) => self.move_all(Some(var))?,
            // Or no longer bear what the other's columns are tagged with.
            Ok(AlterTableType::AtAttachPartition | AlterTableType::AtDetachPartition) => {
                if let Some(NodeEnum::PartitionCmd(attach)) = command.def.as_deref().and_then(inner) {
                    self.move_all(attach.name.as_ref())?;
                }
            }
            Ok(AlterTableType::AtAlterColumnType) => {
                // Without USING every value is cast, and one that cannot be is an error.
                let has_using = matches!(command.def.as_deref().and_then(inner),
                    Some(NodeEnum::ColumnDef(column)) if column.raw_default.is_some());
                if !has_using {
                    let mut own = Reads::new();
                    self.resolve_name(&command.name, env, &mut own)?;
                    self.can_fail(&own);
                }
                self.moved(reads.clone());
            }
            Ok(AlterTableType::AtSetExpression) => self.moved(reads.clone()),
            Ok(AlterTableType::AtClusterOn) => self.sorted(Some(var))?,
            Ok(AlterTableType::AtDropColumn) => self.cascade(Verb::Drop, command.behavior),
            Ok(_) => {}
            Err(_) => return Err(SqlError::UnknownNode { kind: "AlterTableCmd" }),
        }
        self.compared(reads);
        Ok(())
    }

    fn create_index(&mut self, stmt: &'a IndexStmt) -> Result<(), SqlError> {
        let Some(var) = &stmt.relation else { return Err(SqlError::UnknownNode { kind: "IndexStmt" }) };
        let target = self.target(Verb::Create, var)?;
        let level = Level::of(target);
        let env = Env::within(&level, &Env::EMPTY);
        let mut expressions = Reads::new();
        for element in stmt.index_params.iter().chain(&stmt.index_including_params) {
            let mut reads = Reads::new();
            self.index_element(element, &env, &mut reads)?;
            if let Some(NodeEnum::IndexElem(element)) = inner(element)
                && (element.expr.is_some() || stmt.unique)
            {
                expressions.append(&mut reads);
            }
        }
        self.optional(stmt.where_clause.as_deref(), &env, &mut expressions)?;
        let mut nothing = Reads::new();
        self.definitions(&stmt.options, &env, &mut nothing)?;
        self.compared(expressions);
        Ok(())
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

    fn row_policy(
        &mut self,
        table: Option<&'a RangeVar>,
        rules: [Option<&'a Node>; 2],
    ) -> Result<(), SqlError> {
        let Some(var) = table else { return Err(SqlError::UnknownNode { kind: "CreatePolicyStmt" }) };
        let target = self.target(Verb::Grant, var)?;
        let level = Level::of(target);
        let env = Env::within(&level, &Env::EMPTY);
        rules.into_iter().flatten().try_for_each(|rule| self.steering(rule, &env))
    }

    /// A rule makes other statements mean something else: its actions are read, and it counts as code.
    fn create_rule(&mut self, stmt: &'a RuleStmt) -> Result<(), SqlError> {
        let Some(var) = &stmt.relation else { return Err(SqlError::UnknownNode { kind: "RuleStmt" }) };
        self.opaque_code("CREATE RULE");
        let target = self.target(Verb::Create, var)?;
        let level = old_and_new(&target);
        let env = Env::within(&level, &Env::EMPTY);
        if let Some(condition) = stmt.where_clause.as_deref() {
            self.steering(condition, &env)?;
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

    fn drop_objects(&mut self, stmt: &'a DropStmt) -> Result<(), SqlError> {
        self.cascade(Verb::Drop, stmt.behavior);
        let kind =
            ObjectType::try_from(stmt.remove_type).map_err(|_| SqlError::UnknownNode { kind: "DropStmt" })?;
        for object in &stmt.objects {
            match (relation_part(kind), inner(object)) {
                (RelationPart::Whole, Some(NodeEnum::List(name))) => {
                    self.named_relation(Verb::Drop, &name.items)?;
                }
                (RelationPart::Owner, Some(NodeEnum::List(name))) => {
                    let (_, owner) = name.items.split_last().ok_or_else(|| unexpected(object))?;
                    self.named_relation(Verb::Drop, owner)?;
                }
                (RelationPart::None, _) => self.effect(Verb::Drop, None),
                (RelationPart::Whole | RelationPart::Owner, _) => return Err(unexpected(object)),
            }
        }
        Ok(())
    }

    fn rename(&mut self, stmt: &'a RenameStmt) -> Result<(), SqlError> {
        self.named(Verb::Alter, stmt.relation.as_ref())?;
        match ObjectType::try_from(stmt.rename_type) {
            Ok(ObjectType::ObjectColumn | ObjectType::ObjectAttribute) => {
                if let Some(var) = &stmt.relation {
                    let level = Level::of(self.target(Verb::Alter, var)?);
                    let mut reads = Reads::new();
                    self.resolve_name(&stmt.subname, &Env::within(&level, &Env::EMPTY), &mut reads)?;
                    self.moved(reads);
                }
                Ok(())
            }
            Ok(
                ObjectType::ObjectTable
                | ObjectType::ObjectView
                | ObjectType::ObjectMatview
                | ObjectType::ObjectForeignTable,
            ) => self.move_all(stmt.relation.as_ref()),
            Ok(ObjectType::ObjectSchema) => {
                let mut all = Reads::new();
                let catalogue = self.catalogue;
                for relation in catalogue.relations.values().filter(|found| found.name.schema == stmt.subname)
                {
                    self.whole(&Source { name: None, rows: Rows::Relation(relation) }, &mut all)?;
                }
                self.moved(all);
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(_) => Err(SqlError::UnknownNode { kind: "RenameStmt" }),
        }
    }

    fn comment(&mut self, stmt: &'a CommentStmt) -> Result<(), SqlError> {
        let kind =
            ObjectType::try_from(stmt.objtype).map_err(|_| SqlError::UnknownNode { kind: "CommentStmt" })?;
        let is_column = kind == ObjectType::ObjectColumn;
        match (relation_part(kind), stmt.object.as_deref().and_then(inner)) {
            (RelationPart::Whole, Some(NodeEnum::List(name))) => {
                self.named_relation(Verb::Alter, &name.items)?;
            }
            (part, Some(NodeEnum::List(name))) if is_column || part == RelationPart::Owner => {
                let owner = name.items.split_last().map_or(&[][..], |(_, owner)| owner);
                self.named_relation(Verb::Alter, owner)?;
            }
            _ => self.effect(Verb::Alter, None),
        }
        Ok(())
    }

    fn grant(&mut self, stmt: &'a GrantStmt) -> Result<(), SqlError> {
        let is_relation = matches!(
            ObjectType::try_from(stmt.objtype),
            Ok(ObjectType::ObjectTable | ObjectType::ObjectSequence)
        );
        if is_relation && GrantTargetType::try_from(stmt.targtype) == Ok(GrantTargetType::AclTargetObject) {
            self.relations(Verb::Grant, &stmt.objects)
        } else {
            self.nameless(Verb::Grant)
        }
    }

    /// A publication sends every change of its tables to whoever subscribes.
    fn publish(&mut self, verb: Verb, objects: &'a [Node]) -> Result<(), SqlError> {
        self.code(verb, "a publication")?;
        for node in objects {
            let Some(NodeEnum::PublicationObjSpec(object)) = inner(node) else {
                return Err(unexpected(node));
            };
            let Some(table) = object.pubtable.as_deref() else { continue };
            let Some(var) = &table.relation else { continue };
            let level = Level::of(self.target(Verb::Select, var)?);
            self.move_all(Some(var))?;
            if let Some(filter) = table.where_clause.as_deref() {
                self.steering(filter, &Env::within(&level, &Env::EMPTY))?;
            }
        }
        Ok(())
    }

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

    fn definition_parts(
        &mut self,
        nodes: &'a [Node],
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<(), SqlError> {
        nodes.iter().try_for_each(|node| self.definition_part(node, env, into))
    }

    /// One part of a definition: a column, a constraint, an option's value, an expression.
    fn definition_part(
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
        for key in parts(&constraint.keys)?.into_iter().chain(parts(&constraint.fk_attrs)?) {
            self.resolve_name(key, env, into)?;
        }
        if let Some(var) = &constraint.pktable {
            self.target(Verb::Select, var)?;
            let mut referred = self.columns_of(var, &constraint.pk_attrs)?;
            into.append(&mut referred);
        }
        Ok(())
    }

    fn partition_bound(
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

/// How a relation is named by an object of that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RelationPart {
    /// The object is a relation.
    Whole,
    /// All parts of the name but the last are a relation's.
    Owner,
    /// No relation is named.
    None,
}

fn relation_part(kind: ObjectType) -> RelationPart {
    match kind {
        ObjectType::ObjectTable
        | ObjectType::ObjectView
        | ObjectType::ObjectMatview
        | ObjectType::ObjectSequence
        | ObjectType::ObjectIndex
        | ObjectType::ObjectForeignTable => RelationPart::Whole,
        ObjectType::ObjectTrigger
        | ObjectType::ObjectRule
        | ObjectType::ObjectPolicy
        | ObjectType::ObjectTabconstraint => RelationPart::Owner,
        _ => RelationPart::None,
    }
}

/// A level whose columns are those of a relation that does not exist yet, or of no relation.
fn unknown_level<'a>() -> Level<'a> {
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
