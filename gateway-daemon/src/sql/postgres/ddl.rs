//! Statements that define, change or remove objects: the answer for each kind that PostgreSQL's grammar has.
//!
//! One rule: what moves, copies, detaches, checks, sorts, exposes or re-derives a column, or a type, parent, partition,
//! index or constraint that it is part of, notes the column as defined, and policy refuses it where the column is masked.
//! What touches none passes as any other definition. What brings code along is read, or counts as code that cannot be.
//!
//! The match has no wildcard arm: a statement that a later grammar adds does not compile until someone has decided.

use pg_query::protobuf::RangeVar;
use pg_query::{Node, NodeEnum};

use crate::domain::statement::{Opaque, Verb};

use super::columns::Reads;
use super::error::SqlError;
use super::names::{definition, inner, unexpected};
use super::nodes::{clause_node, expression_node, planner_node, source_node};
use super::reader::Reader;
use super::scope::Env;

impl<'a> Reader<'a> {
    /// Any statement that defines, changes or removes objects.
    pub(super) fn definition_statement(&mut self, node: &'a Node) -> Result<(), SqlError> {
        let env = &Env::EMPTY;
        let mut reads = Reads::new();
        let Some(kind) = inner(node) else { return Err(unexpected(node)) };
        match kind {
            // Relations and what belongs to them.
            NodeEnum::CreateStmt(stmt) => self.create_table(stmt),
            NodeEnum::CreateForeignTableStmt(stmt) => {
                // Its server may lead back to this one, where nothing tells its columns from others.
                self.out_of_sight("CREATE FOREIGN TABLE");
                self.definitions(&stmt.options, env, &mut reads)?;
                match &stmt.base_stmt {
                    Some(base) => self.create_table(base),
                    None => Err(unexpected(node)),
                }
            }
            NodeEnum::CreateTableAsStmt(stmt) => self.create_table_as(stmt),
            NodeEnum::ViewStmt(stmt) => self.create_view(stmt, node),
            NodeEnum::AlterTableStmt(stmt) => self.alter_table(stmt),
            NodeEnum::IndexStmt(stmt) => self.create_index(stmt),
            NodeEnum::CreateStatsStmt(stmt) => self.create_statistics(stmt),
            NodeEnum::CreatePolicyStmt(stmt) => {
                self.row_policy(stmt.table.as_ref(), [stmt.qual.as_deref(), stmt.with_check.as_deref()])
            }
            NodeEnum::AlterPolicyStmt(stmt) => {
                self.row_policy(stmt.table.as_ref(), [stmt.qual.as_deref(), stmt.with_check.as_deref()])
            }
            NodeEnum::CreateTrigStmt(stmt) => self.create_trigger(stmt, node),
            NodeEnum::RuleStmt(stmt) => self.create_rule(stmt),
            NodeEnum::CreateSeqStmt(stmt) => {
                self.definitions(&stmt.options, env, &mut reads)?;
                if let Some(sequence) = &stmt.sequence {
                    self.creates(sequence);
                }
                Ok(())
            }
            NodeEnum::AlterSeqStmt(stmt) => {
                self.definitions(&stmt.options, env, &mut reads)?;
                self.named(Verb::Alter, stmt.sequence.as_ref())
            }
            NodeEnum::CreatePublicationStmt(stmt) => {
                self.publish(Verb::Create, &stmt.pubobjects, stmt.for_all_tables)
            }
            NodeEnum::AlterPublicationStmt(stmt) => {
                self.publish(Verb::Alter, &stmt.pubobjects, stmt.for_all_tables)
            }
            // Any object, by its kind.
            NodeEnum::DropStmt(stmt) => self.drop_objects(stmt),
            NodeEnum::RenameStmt(stmt) => self.rename(stmt),
            NodeEnum::AlterObjectSchemaStmt(stmt) => self.set_schema(stmt),
            NodeEnum::AlterObjectDependsStmt(stmt) => self.named(Verb::Alter, stmt.relation.as_ref()),
            NodeEnum::AlterOwnerStmt(stmt) => self.named(Verb::Grant, stmt.relation.as_ref()),
            NodeEnum::CommentStmt(stmt) => self.comment(stmt),
            NodeEnum::SecLabelStmt(stmt) => self.security_label(stmt),
            // Rights, and what later sessions begin with.
            NodeEnum::GrantStmt(stmt) => self.grant(stmt),
            NodeEnum::AlterRoleStmt(stmt) => {
                for option in &stmt.options {
                    if definition(option)?.defname.eq_ignore_ascii_case("password") {
                        return Err(SqlError::secret("ALTER ROLE … PASSWORD"));
                    }
                }
                self.nameless(Verb::Grant)
            }
            NodeEnum::AlterRoleSetStmt(stmt) => {
                self.effect(Verb::Grant, None);
                stmt.setstmt.as_ref().map_or(Ok(()), |set| self.keeps_setting(set))
            }
            NodeEnum::AlterDatabaseSetStmt(stmt) => {
                self.effect(Verb::Alter, None);
                stmt.setstmt.as_ref().map_or(Ok(()), |set| self.keeps_setting(set))
            }
            NodeEnum::AlterSystemStmt(stmt) => {
                self.code(Verb::Alter, "ALTER SYSTEM")?;
                stmt.setstmt.as_ref().map_or(Ok(()), |set| self.keeps_setting(set))
            }
            NodeEnum::GrantRoleStmt(_)
            | NodeEnum::AlterDefaultPrivilegesStmt(_)
            | NodeEnum::CreateRoleStmt(_)
            | NodeEnum::DropRoleStmt(_)
            | NodeEnum::ReassignOwnedStmt(_) => self.nameless(Verb::Grant),
            NodeEnum::DropOwnedStmt(_) => {
                self.effect(Verb::Grant, None);
                self.nameless(Verb::Drop)
            }
            // Types: a change of one is a change of every column that has it.
            NodeEnum::CreateDomainStmt(stmt) => self.create_domain(stmt),
            NodeEnum::AlterDomainStmt(stmt) => self.alter_domain(stmt),
            NodeEnum::CompositeTypeStmt(stmt) => {
                self.definition_parts(&stmt.coldeflist, env, &mut reads)?;
                self.nameless(Verb::Create)
            }
            NodeEnum::AlterEnumStmt(stmt) => {
                self.defines_type(&stmt.type_name)?;
                self.nameless(Verb::Alter)
            }
            NodeEnum::AlterTypeStmt(stmt) => {
                self.defines_type(&stmt.type_name)?;
                self.code(Verb::Alter, "ALTER TYPE")
            }
            // What holds neither rows nor code.
            NodeEnum::CreateSchemaStmt(stmt) => self.create_schema(stmt),
            NodeEnum::CreateEnumStmt(_) | NodeEnum::CreateTableSpaceStmt(_) | NodeEnum::CreatedbStmt(_) => {
                self.nameless(Verb::Create)
            }
            NodeEnum::AlterCollationStmt(_)
            | NodeEnum::AlterTableSpaceOptionsStmt(_)
            | NodeEnum::AlterTableMoveAllStmt(_)
            | NodeEnum::AlterDatabaseStmt(_)
            | NodeEnum::AlterDatabaseRefreshCollStmt(_)
            | NodeEnum::AlterTsdictionaryStmt(_)
            | NodeEnum::AlterTsconfigurationStmt(_) => self.nameless(Verb::Alter),
            // Its name says nothing of what it is on.
            NodeEnum::AlterStatsStmt(_) => {
                self.facts.unpins = Some("ALTER STATISTICS".to_owned());
                self.nameless(Verb::Alter)
            }
            NodeEnum::DropTableSpaceStmt(_)
            | NodeEnum::DropdbStmt(_)
            | NodeEnum::DropUserMappingStmt(_)
            | NodeEnum::DropSubscriptionStmt(_) => self.nameless(Verb::Drop),
            // Other servers, which may be this one.
            NodeEnum::CreateUserMappingStmt(_) => {
                self.out_of_sight("CREATE USER MAPPING");
                self.nameless(Verb::Create)
            }
            NodeEnum::AlterUserMappingStmt(_) => {
                self.out_of_sight("ALTER USER MAPPING");
                self.nameless(Verb::Alter)
            }
            NodeEnum::CreateFdwStmt(_) => self.code(Verb::Create, "CREATE FOREIGN DATA WRAPPER"),
            NodeEnum::AlterFdwStmt(_) => self.code(Verb::Alter, "ALTER FOREIGN DATA WRAPPER"),
            NodeEnum::CreateForeignServerStmt(_) => self.code(Verb::Create, "CREATE SERVER"),
            NodeEnum::AlterForeignServerStmt(_) => self.code(Verb::Alter, "ALTER SERVER"),
            NodeEnum::ImportForeignSchemaStmt(_) => self.code(Verb::Create, "IMPORT FOREIGN SCHEMA"),
            NodeEnum::CreateSubscriptionStmt(_) => self.code(Verb::Create, "CREATE SUBSCRIPTION"),
            NodeEnum::AlterSubscriptionStmt(_) => self.code(Verb::Alter, "ALTER SUBSCRIPTION"),
            // What brings code along.
            NodeEnum::CreateFunctionStmt(stmt) => self.create_function(stmt),
            NodeEnum::AlterFunctionStmt(stmt) => self.alter_function(stmt),
            NodeEnum::CreateEventTrigStmt(_) => self.code(Verb::Create, "CREATE EVENT TRIGGER"),
            NodeEnum::AlterEventTrigStmt(_) => self.code(Verb::Alter, "ALTER EVENT TRIGGER"),
            NodeEnum::CreatePlangStmt(_) => self.code(Verb::Create, "CREATE LANGUAGE"),
            NodeEnum::CreateExtensionStmt(_) => self.code(Verb::Create, "CREATE EXTENSION"),
            NodeEnum::AlterExtensionStmt(_) | NodeEnum::AlterExtensionContentsStmt(_) => {
                self.code(Verb::Alter, "ALTER EXTENSION")
            }
            NodeEnum::CreateAmStmt(_) => self.code(Verb::Create, "CREATE ACCESS METHOD"),
            NodeEnum::DefineStmt(stmt) => self.define(stmt),
            NodeEnum::AlterOperatorStmt(_) => self.code(Verb::Alter, "ALTER OPERATOR"),
            NodeEnum::CreateOpClassStmt(_) => self.code(Verb::Create, "CREATE OPERATOR CLASS"),
            NodeEnum::CreateOpFamilyStmt(_) => self.code(Verb::Create, "CREATE OPERATOR FAMILY"),
            NodeEnum::AlterOpFamilyStmt(_) => {
                self.out_of_sight("ALTER OPERATOR FAMILY");
                self.nameless(Verb::Alter)
            }
            NodeEnum::CreateRangeStmt(_) => self.code(Verb::Create, "CREATE TYPE AS RANGE"),
            NodeEnum::CreateConversionStmt(_) => self.code(Verb::Create, "CREATE CONVERSION"),
            NodeEnum::CreateCastStmt(_) => self.code(Verb::Create, "CREATE CAST"),
            NodeEnum::CreateTransformStmt(_) => self.code(Verb::Create, "CREATE TRANSFORM"),
            // What defines nothing is read elsewhere.
            NodeEnum::SelectStmt(_)
            | NodeEnum::InsertStmt(_)
            | NodeEnum::UpdateStmt(_)
            | NodeEnum::DeleteStmt(_)
            | NodeEnum::MergeStmt(_)
            | NodeEnum::CopyStmt(_)
            | NodeEnum::ExplainStmt(_)
            | NodeEnum::PrepareStmt(_)
            | NodeEnum::ExecuteStmt(_)
            | NodeEnum::DeallocateStmt(_)
            | NodeEnum::DeclareCursorStmt(_)
            | NodeEnum::FetchStmt(_)
            | NodeEnum::ClosePortalStmt(_)
            | NodeEnum::ListenStmt(_)
            | NodeEnum::UnlistenStmt(_)
            | NodeEnum::NotifyStmt(_)
            | NodeEnum::VariableShowStmt(_)
            | NodeEnum::VariableSetStmt(_)
            | NodeEnum::ConstraintsSetStmt(_)
            | NodeEnum::DiscardStmt(_)
            | NodeEnum::TransactionStmt(_)
            | NodeEnum::LockStmt(_)
            | NodeEnum::DoStmt(_)
            | NodeEnum::CallStmt(_)
            | NodeEnum::LoadStmt(_)
            | NodeEnum::TruncateStmt(_)
            | NodeEnum::VacuumStmt(_)
            | NodeEnum::ClusterStmt(_)
            | NodeEnum::ReindexStmt(_)
            | NodeEnum::RefreshMatViewStmt(_)
            | NodeEnum::CheckPointStmt(_)
            | planner_node!()
            | source_node!()
            | expression_node!()
            | clause_node!() => Err(unexpected(node)),
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "an arm's whole answer")]
    pub(super) fn nameless(&mut self, verb: Verb) -> Result<(), SqlError> {
        self.effect(verb, None);
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "an arm's whole answer")]
    pub(super) fn code(&mut self, verb: Verb, what: &str) -> Result<(), SqlError> {
        self.effect(verb, None);
        self.opaque_code(what);
        Ok(())
    }

    /// Code that is made of what the server has already, and sees no table.
    #[expect(clippy::unnecessary_wraps, reason = "an arm's whole answer")]
    pub(super) fn blind_code(&mut self, verb: Verb, what: &str) -> Result<(), SqlError> {
        self.effect(verb, None);
        self.opaque_but_blind(Opaque::Code(what.to_owned()));
        Ok(())
    }

    pub(super) fn named(&mut self, verb: Verb, var: Option<&'a RangeVar>) -> Result<(), SqlError> {
        match var {
            Some(var) => self.target(verb, var).map(|_| ()),
            None => self.nameless(verb),
        }
    }
}
