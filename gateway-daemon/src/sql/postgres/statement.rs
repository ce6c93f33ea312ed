//! Whole statements: which kind does what, and what the session must remember.

use pg_query::protobuf::{DiscardMode, ExplainStmt, PrepareStmt, TransactionStmt, TransactionStmtKind};
use pg_query::{Node, NodeEnum};

use crate::domain::results::{PlanFormat, Results, Span};
use crate::domain::statement::{
    ColumnAccess, ColumnUse, Continues, RelationName, Run, SearchPathStep, SessionEffect, TransactionStep,
    Verb,
};

use super::columns::{Reads, matched, tested};
use super::error::SqlError;
use super::names::{definition, inner, parts, setting_text, unexpected};
use super::nodes::{clause_node, expression_node, planner_node, source_node};
use super::reader::{Destination, Reader};
use super::scope::Env;
use super::settings;

impl<'a> Reader<'a> {
    /// Reads a statement into the facts.
    pub(super) fn statement(&mut self, node: &'a Node) -> Result<(), SqlError> {
        self.enter()?;
        let result = self.any_statement(node);
        self.leave();
        result
    }

    fn any_statement(&mut self, node: &'a Node) -> Result<(), SqlError> {
        let env = &Env::EMPTY;
        let Some(kind) = inner(node) else { return Err(unexpected(node)) };
        match kind {
            NodeEnum::SelectStmt(stmt) => {
                // Not for a SELECT that only the server decides when to run: behind PREPARE, a cursor or EXPLAIN.
                if self.depth == 1 {
                    self.only_sets = settings::is_call_alone(stmt);
                    self.setting = self.one_setting(stmt);
                }
                let outputs = self.select(stmt, env)?;
                (self.only_sets, self.setting) = (false, None);
                self.shown(&outputs);
                if !self.facts.effects.iter().any(|effect| effect.verb == Verb::Select) {
                    self.effect(Verb::Select, None);
                }
                Ok(())
            }
            NodeEnum::InsertStmt(_)
            | NodeEnum::UpdateStmt(_)
            | NodeEnum::DeleteStmt(_)
            | NodeEnum::MergeStmt(_) => {
                let outputs = self.counting(self.own_counting(), |reader| reader.query_node(node, env))?;
                self.shown(&outputs);
                Ok(())
            }
            NodeEnum::CopyStmt(stmt) => self.copy(stmt, env),
            NodeEnum::ExplainStmt(stmt) => self.explain(stmt),
            NodeEnum::PrepareStmt(stmt) => self.prepare(stmt),
            NodeEnum::ExecuteStmt(stmt) => {
                self.effect(Verb::Other, None);
                self.facts.session_effect = Some(SessionEffect::Execute { name: stmt.name.clone() });
                self.arguments(&stmt.params)
            }
            NodeEnum::DeallocateStmt(stmt) => {
                self.effect(Verb::Other, None);
                let name = (!stmt.isall).then(|| stmt.name.clone());
                self.facts.session_effect = Some(SessionEffect::Deallocate { name });
                Ok(())
            }
            NodeEnum::DeclareCursorStmt(stmt) => {
                self.effect(Verb::Other, None);
                match stmt.query.as_deref() {
                    Some(query) => self.towards(Destination::Elsewhere, query),
                    None => Err(unexpected(node)),
                }
            }
            NodeEnum::FetchStmt(_) => {
                self.effect(Verb::Other, None);
                self.facts.continues = Continues::Cursor;
                Ok(())
            }
            NodeEnum::NotifyStmt(stmt) => {
                self.effect(Verb::Other, None);
                self.facts.notifies.insert((stmt.conditionname.clone(), stmt.payload.clone()));
                Ok(())
            }
            NodeEnum::ClosePortalStmt(_) | NodeEnum::ListenStmt(_) | NodeEnum::UnlistenStmt(_) => {
                self.effect(Verb::Other, None);
                Ok(())
            }
            NodeEnum::VariableShowStmt(stmt) => {
                self.effect(Verb::Other, None);
                settings::check_shown(&stmt.name)
            }
            NodeEnum::VariableSetStmt(stmt) => self.set(stmt),
            NodeEnum::ConstraintsSetStmt(_) => {
                self.effect(Verb::Set, None);
                self.facts.continues = Continues::Deferred;
                Ok(())
            }
            NodeEnum::DiscardStmt(stmt) => {
                self.effect(Verb::Set, None);
                let mode = DiscardMode::try_from(stmt.target);
                if matches!(mode, Ok(DiscardMode::DiscardAll | DiscardMode::DiscardTemp)) {
                    self.facts.search_path = Some(SearchPathStep::Discards);
                }
                if mode == Ok(DiscardMode::DiscardAll) {
                    self.facts.session_effect = Some(SessionEffect::Deallocate { name: None });
                }
                Ok(())
            }
            NodeEnum::TransactionStmt(stmt) => self.transaction(stmt),
            NodeEnum::LockStmt(stmt) => self.relations(Verb::Other, &stmt.relations),
            NodeEnum::DoStmt(stmt) => {
                self.effect(Verb::Call, None);
                self.opaque_code("DO");
                let mut nothing = Reads::new();
                self.definitions(&stmt.args, env, &mut nothing)
            }
            NodeEnum::CallStmt(stmt) => {
                let Some(call) = stmt.funccall.as_deref() else { return Err(unexpected(node)) };
                self.called_procedure(&parts(&call.funcname)?)?;
                self.arguments(&call.args)?;
                self.arguments(&stmt.outargs)
            }
            NodeEnum::LoadStmt(_) => {
                self.effect(Verb::Call, None);
                self.opaque_code("LOAD");
                Ok(())
            }
            NodeEnum::TruncateStmt(stmt) => {
                self.relations(Verb::Truncate, &stmt.relations)?;
                self.cascade(Verb::Truncate, stmt.behavior);
                Ok(())
            }
            NodeEnum::VacuumStmt(stmt) => {
                let mut nothing = Reads::new();
                self.definitions(&stmt.options, env, &mut nothing)?;
                if stmt.rels.is_empty() {
                    self.effect(Verb::Maintenance, None);
                }
                for node in &stmt.rels {
                    let Some(NodeEnum::VacuumRelation(vacuum)) = inner(node) else {
                        return Err(unexpected(node));
                    };
                    if let Some(var) = &vacuum.relation {
                        self.target(Verb::Maintenance, var)?;
                    }
                }
                Ok(())
            }
            NodeEnum::ClusterStmt(stmt) => {
                self.maintenance(stmt.relation.as_ref())?;
                self.cluster(stmt.relation.as_ref(), &stmt.indexname)
            }
            NodeEnum::ReindexStmt(stmt) => self.maintenance(stmt.relation.as_ref()),
            NodeEnum::RefreshMatViewStmt(stmt) => self.maintenance(stmt.relation.as_ref()),
            NodeEnum::CheckPointStmt(_) => self.maintenance(None),
            NodeEnum::CreateSchemaStmt(_)
            | NodeEnum::AlterTableStmt(_)
            | NodeEnum::AlterCollationStmt(_)
            | NodeEnum::AlterDomainStmt(_)
            | NodeEnum::GrantStmt(_)
            | NodeEnum::GrantRoleStmt(_)
            | NodeEnum::AlterDefaultPrivilegesStmt(_)
            | NodeEnum::CreateStmt(_)
            | NodeEnum::CreateTableSpaceStmt(_)
            | NodeEnum::DropTableSpaceStmt(_)
            | NodeEnum::AlterTableSpaceOptionsStmt(_)
            | NodeEnum::AlterTableMoveAllStmt(_)
            | NodeEnum::CreateExtensionStmt(_)
            | NodeEnum::AlterExtensionStmt(_)
            | NodeEnum::AlterExtensionContentsStmt(_)
            | NodeEnum::CreateFdwStmt(_)
            | NodeEnum::AlterFdwStmt(_)
            | NodeEnum::CreateForeignServerStmt(_)
            | NodeEnum::AlterForeignServerStmt(_)
            | NodeEnum::CreateForeignTableStmt(_)
            | NodeEnum::CreateUserMappingStmt(_)
            | NodeEnum::AlterUserMappingStmt(_)
            | NodeEnum::DropUserMappingStmt(_)
            | NodeEnum::ImportForeignSchemaStmt(_)
            | NodeEnum::CreatePolicyStmt(_)
            | NodeEnum::AlterPolicyStmt(_)
            | NodeEnum::CreateAmStmt(_)
            | NodeEnum::CreateTrigStmt(_)
            | NodeEnum::CreateEventTrigStmt(_)
            | NodeEnum::AlterEventTrigStmt(_)
            | NodeEnum::CreatePlangStmt(_)
            | NodeEnum::CreateRoleStmt(_)
            | NodeEnum::AlterRoleStmt(_)
            | NodeEnum::AlterRoleSetStmt(_)
            | NodeEnum::DropRoleStmt(_)
            | NodeEnum::CreateSeqStmt(_)
            | NodeEnum::AlterSeqStmt(_)
            | NodeEnum::DefineStmt(_)
            | NodeEnum::CreateDomainStmt(_)
            | NodeEnum::CreateOpClassStmt(_)
            | NodeEnum::CreateOpFamilyStmt(_)
            | NodeEnum::AlterOpFamilyStmt(_)
            | NodeEnum::DropStmt(_)
            | NodeEnum::CommentStmt(_)
            | NodeEnum::SecLabelStmt(_)
            | NodeEnum::IndexStmt(_)
            | NodeEnum::CreateStatsStmt(_)
            | NodeEnum::AlterStatsStmt(_)
            | NodeEnum::CreateFunctionStmt(_)
            | NodeEnum::AlterFunctionStmt(_)
            | NodeEnum::RenameStmt(_)
            | NodeEnum::AlterObjectDependsStmt(_)
            | NodeEnum::AlterObjectSchemaStmt(_)
            | NodeEnum::AlterOwnerStmt(_)
            | NodeEnum::AlterOperatorStmt(_)
            | NodeEnum::AlterTypeStmt(_)
            | NodeEnum::RuleStmt(_)
            | NodeEnum::CompositeTypeStmt(_)
            | NodeEnum::CreateEnumStmt(_)
            | NodeEnum::CreateRangeStmt(_)
            | NodeEnum::AlterEnumStmt(_)
            | NodeEnum::ViewStmt(_)
            | NodeEnum::CreatedbStmt(_)
            | NodeEnum::AlterDatabaseStmt(_)
            | NodeEnum::AlterDatabaseRefreshCollStmt(_)
            | NodeEnum::AlterDatabaseSetStmt(_)
            | NodeEnum::DropdbStmt(_)
            | NodeEnum::AlterSystemStmt(_)
            | NodeEnum::CreateTableAsStmt(_)
            | NodeEnum::CreateConversionStmt(_)
            | NodeEnum::CreateCastStmt(_)
            | NodeEnum::CreateTransformStmt(_)
            | NodeEnum::DropOwnedStmt(_)
            | NodeEnum::ReassignOwnedStmt(_)
            | NodeEnum::AlterTsdictionaryStmt(_)
            | NodeEnum::AlterTsconfigurationStmt(_)
            | NodeEnum::CreatePublicationStmt(_)
            | NodeEnum::AlterPublicationStmt(_)
            | NodeEnum::CreateSubscriptionStmt(_)
            | NodeEnum::AlterSubscriptionStmt(_)
            | NodeEnum::DropSubscriptionStmt(_) => self.definition_statement(node),
            planner_node!() | source_node!() | expression_node!() | clause_node!() => Err(unexpected(node)),
        }
    }

    /// Reads a statement whose result columns go somewhere else than to the client.
    pub(super) fn towards(&mut self, destination: Destination, node: &'a Node) -> Result<(), SqlError> {
        let before = self.destination;
        // Nested statements never bring a destination closer to the client again.
        if before == Destination::Client {
            self.destination = destination;
        }
        let result = self.statement(node);
        self.destination = before;
        result
    }

    fn explain(&mut self, stmt: &'a ExplainStmt) -> Result<(), SqlError> {
        self.effect(Verb::Explain, None);
        let mut runs = false;
        let mut plan = PlanFormat::Text;
        for option in &stmt.options {
            let element = definition(option)?;
            if element.defname == "analyze" {
                let value = element.arg.as_deref().and_then(setting_text);
                runs = !matches!(value.as_deref(), Some("off" | "false" | "0" | "no"));
            }
            if element.defname == "format" {
                plan = match element.arg.as_deref().and_then(setting_text).as_deref() {
                    Some("json") => PlanFormat::Json,
                    Some("xml") => PlanFormat::Xml,
                    Some("yaml") => PlanFormat::Yaml,
                    _ => PlanFormat::Text,
                };
            }
        }
        let mut nothing = Reads::new();
        self.definitions(&stmt.options, &Env::EMPTY, &mut nothing)?;
        match stmt.query.as_deref() {
            Some(query) if runs => {
                self.statement(query)?;
                // What is shown is one column, made of all that the statement would have shown.
                let names = self.facts.results.take().map(|results| results.names).unwrap_or_default();
                self.facts.results = Some(Results { plan: Some(plan), ..Results::alike(names, Span::One) });
                Ok(())
            }
            Some(query) => {
                self.facts.run = Run::NotYet;
                self.towards(Destination::Nowhere, query)
            }
            None => Err(SqlError::UnknownNode { kind: "ExplainStmt" }),
        }
    }

    /// PREPARE: the statement as it will run is kept apart, its effects are judged now as well.
    fn prepare(&mut self, stmt: &'a PrepareStmt) -> Result<(), SqlError> {
        for node in &stmt.argtypes {
            match inner(node) {
                Some(NodeEnum::TypeName(name)) => self.type_name(name, &Env::EMPTY)?,
                _ => return Err(unexpected(node)),
            }
        }
        let Some(query) = stmt.query.as_deref() else {
            return Err(SqlError::UnknownNode { kind: "PrepareStmt" });
        };
        let outer = std::mem::take(&mut self.facts);
        let destination = std::mem::replace(&mut self.destination, Destination::Client);
        self.is_prepared = true;
        let result = self.statement(query);
        self.is_prepared = false;
        self.destination = destination;
        result?;
        let statement = self.finish();
        self.facts = outer;
        self.effect(Verb::Other, None);
        self.facts.effects.extend(statement.effects.iter().cloned());
        self.facts.run = Run::NotYet;
        self.facts.functions.extend(statement.functions.iter().cloned());
        self.facts.opaque.extend(statement.opaque.iter().cloned());
        self.facts.out_of_sight.extend(statement.out_of_sight.iter().cloned());
        self.facts.unpins.clone_from(&statement.unpins);
        self.facts.on_conflict = self.facts.on_conflict.max(statement.on_conflict);
        self.facts.unlimited |= statement.row_limit == crate::domain::statement::RowLimit::Unlimited;
        for ColumnAccess { column, usage } in &statement.columns {
            let number = self.columns.number(column.clone());
            match usage {
                ColumnUse::Projected | ColumnUse::Moved => self.facts.moved.extend([number]),
                ColumnUse::Tested => self.facts.compared.extend(tested(&Reads::from([number]))),
                ColumnUse::Matched => self.facts.compared.extend(matched(&Reads::from([number]))),
                ColumnUse::Compared => self.facts.compared.extend([number]),
                ColumnUse::Computed => self.facts.computed.extend([number]),
                ColumnUse::Written => self.facts.written.extend([number]),
                ColumnUse::Defined => self.facts.defined.extend([number]),
            }
        }
        self.facts.session_effect =
            Some(SessionEffect::Prepare { name: stmt.name.clone(), statement: Box::new(statement) });
        Ok(())
    }

    fn transaction(&mut self, stmt: &'a TransactionStmt) -> Result<(), SqlError> {
        let (verb, step) = match TransactionStmtKind::try_from(stmt.kind) {
            Ok(
                TransactionStmtKind::TransStmtBegin
                | TransactionStmtKind::TransStmtStart
                | TransactionStmtKind::TransStmtSavepoint
                | TransactionStmtKind::TransStmtRelease,
            ) => (Verb::Transaction, TransactionStep::Begins),
            Ok(TransactionStmtKind::TransStmtCommit) => (Verb::Transaction, TransactionStep::Keeps),
            Ok(TransactionStmtKind::TransStmtRollback | TransactionStmtKind::TransStmtRollbackTo) => {
                (Verb::Transaction, TransactionStep::Undoes)
            }
            // Two-phase commit outlives the session that began it.
            Ok(
                TransactionStmtKind::TransStmtPrepare
                | TransactionStmtKind::TransStmtCommitPrepared
                | TransactionStmtKind::TransStmtRollbackPrepared,
            ) => (Verb::Other, TransactionStep::Keeps),
            Ok(TransactionStmtKind::Undefined) | Err(_) => {
                return Err(SqlError::UnknownNode { kind: "TransactionStmt" });
            }
        };
        self.facts.transaction = Some(step);
        self.effect(verb, None);
        let mut nothing = Reads::new();
        self.definitions(&stmt.options, &Env::EMPTY, &mut nothing)
    }

    /// Arguments of EXECUTE and CALL: what they read goes where nodegate cannot follow.
    fn arguments(&mut self, nodes: &'a [Node]) -> Result<(), SqlError> {
        let mut reads = Reads::new();
        self.expressions(nodes, &Env::EMPTY, &mut reads)?;
        self.moved(reads);
        Ok(())
    }

    fn maintenance(&mut self, var: Option<&'a pg_query::protobuf::RangeVar>) -> Result<(), SqlError> {
        if let Some(var) = var {
            self.target(Verb::Maintenance, var)?;
        } else {
            self.effect(Verb::Maintenance, None);
        }
        Ok(())
    }

    /// One effect for each named relation; one without a relation when none is named.
    pub(super) fn relations(&mut self, verb: Verb, nodes: &'a [Node]) -> Result<(), SqlError> {
        if nodes.is_empty() {
            self.effect(verb, None);
        }
        for node in nodes {
            match inner(node) {
                Some(NodeEnum::RangeVar(var)) => {
                    self.target(verb, var)?;
                }
                _ => return Err(unexpected(node)),
            }
        }
        Ok(())
    }

    /// The effect on whatever CASCADE reaches.
    pub(super) fn cascade(&mut self, verb: Verb, behavior: i32) {
        use pg_query::protobuf::DropBehavior;
        if DropBehavior::try_from(behavior) == Ok(DropBehavior::DropCascade) {
            self.effect(verb, None);
        }
    }

    /// The effect on a relation that only has a dotted name.
    pub(super) fn named_relation(&mut self, verb: Verb, nodes: &[Node]) -> Result<RelationName, SqlError> {
        let (name, _) = self.relation_by_parts(nodes)?;
        self.effect(verb, Some(name.clone()));
        Ok(name)
    }
}
