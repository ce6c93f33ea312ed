//! ALTER TABLE and its kin (views, indexes, sequences, foreign tables, composite types), form by form.
//!
//! The one rule: what moves, copies, detaches, checks, sorts, exposes or re-derives a column notes it as defined. The match
//! over the forms has no wildcard arm, so that a form which a later grammar adds does not compile until someone has decided.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AlterTableCmd, AlterTableStmt, AlterTableType, ObjectType, RangeVar, ReplicaIdentityStmt,
};

use crate::domain::statement::Verb;

use super::columns::Reads;
use super::error::SqlError;
use super::names::{definition, inner, unexpected};
use super::reader::Reader;
use super::scope::{Env, Level, Rows, Source};

/// Storage options that decide neither where a value is put nor how it is looked for.
const HARMLESS_OPTIONS: &[&str] = &["fillfactor"];
/// What begins the names of others.
const HARMLESS_PREFIXES: &[&str] = &["autovacuum_", "log_autovacuum_", "vacuum_"];

impl<'a> Reader<'a> {
    pub(super) fn alter_table(&mut self, stmt: &'a AlterTableStmt) -> Result<(), SqlError> {
        let Some(var) = &stmt.relation else { return Err(SqlError::UnknownNode { kind: "AlterTableStmt" }) };
        let target = self.target(Verb::Alter, var)?;
        let is_of_type = ObjectType::try_from(stmt.objtype) == Ok(ObjectType::ObjectType);
        if is_of_type || self.is_type_alone(var) {
            self.defines_type_named(&var.schemaname, &var.relname)?;
        }
        self.may_ask_elsewhere(var, "ALTER FOREIGN TABLE")?;
        let level = Level::of(target.clone());
        let env = Env::within(&level, &Env::EMPTY);
        for node in &stmt.cmds {
            let Some(NodeEnum::AlterTableCmd(command)) = inner(node) else { return Err(unexpected(node)) };
            self.alter_table_command(command, var, &target, &env)?;
        }
        Ok(())
    }

    fn alter_table_command(
        &mut self,
        command: &'a AlterTableCmd,
        var: &'a RangeVar,
        target: &Source<'a>,
        env: &Env<'_, 'a>,
    ) -> Result<(), SqlError> {
        use AlterTableType as Form;
        let mut reads = Reads::new();
        if let Some(part) = command.def.as_deref() {
            self.definition_part(part, env, &mut reads)?;
        }
        // Whatever its expressions and keys read.
        self.defined(&reads);
        let form =
            Form::try_from(command.subtype).map_err(|_| SqlError::UnknownNode { kind: "AlterTableCmd" })?;
        match form {
            // Nothing of a column's values is looked at, or put anywhere else.
            Form::AtAddColumn
            | Form::AtColumnDefault
            | Form::AtDropNotNull
            | Form::AtAddConstraint
            | Form::AtDropConstraint
            | Form::AtDropCluster
            | Form::AtSetLogged
            | Form::AtSetUnLogged
            | Form::AtDropOids
            | Form::AtSetTableSpace => {}
            // The column's values are checked or derived anew, or stored or estimated in another way.
            Form::AtSetNotNull
            | Form::AtSetOptions
            | Form::AtResetOptions
            | Form::AtSetStorage
            | Form::AtSetCompression
            | Form::AtAddIdentity
            | Form::AtSetIdentity
            | Form::AtDropIdentity => {
                self.defined_here(command, env)?;
            }
            Form::AtSetStatistics => match command.name.as_str() {
                // Of an index, by number: which expression that is stands nowhere.
                "" => self.facts.unpins = Some("ALTER INDEX … SET STATISTICS".to_owned()),
                _ => {
                    self.defined_here(command, env)?;
                }
            },
            Form::AtAlterColumnGenericOptions => {
                self.defined_here(command, env)?;
                self.out_of_sight("ALTER FOREIGN TABLE");
            }
            Form::AtGenericOptions => self.out_of_sight("ALTER FOREIGN TABLE"),
            // What it holds stays, and what it was made of is forgotten.
            Form::AtDropExpression => {
                let own = self.defined_here(command, env)?;
                self.moved(own);
            }
            Form::AtSetExpression => {
                self.defined_here(command, env)?;
                self.moved(reads.clone());
            }
            Form::AtAlterColumnType => {
                let own = self.defined_here(command, env)?;
                // Without USING every value is cast, and one that cannot be is an error.
                let has_using = matches!(command.def.as_deref().and_then(inner),
                    Some(NodeEnum::ColumnDef(column)) if column.raw_default.is_some());
                if !has_using {
                    self.can_fail(&own);
                }
                self.moved(reads.clone());
            }
            Form::AtDropColumn => {
                self.cascade(Verb::Drop, command.behavior);
                // Children may keep theirs, which no longer is the parent's.
                if shares_column(target, &command.name) {
                    let own = self.defined_here(command, env)?;
                    self.moved(own);
                }
            }
            // Rows that are there are held against it.
            Form::AtAlterConstraint => match command.def.as_deref().and_then(inner) {
                Some(NodeEnum::AtalterConstraint(alter)) => self.defines_constraint(var, &alter.conname)?,
                _ => self.defines_all(var)?,
            },
            Form::AtValidateConstraint => self.defines_constraint(var, &command.name)?,
            Form::AtChangeOwner => {
                let (name, _) = self.relation(var)?;
                self.effect(Verb::Grant, Some(name));
            }
            Form::AtClusterOn => {
                let keys = self.columns_of_index(var, &command.name)?;
                self.defined(&keys);
                self.compared(keys);
            }
            Form::AtReplicaIdentity => match command.def.as_deref().and_then(inner) {
                Some(NodeEnum::ReplicaIdentityStmt(identity)) => self.replica_identity(identity, var)?,
                _ => self.defines_all(var)?,
            },
            Form::AtSetRelOptions | Form::AtResetRelOptions => {
                if !are_harmless(command)? {
                    self.defines_all(var)?;
                }
            }
            // Every value is written anew by other code; or code that is there runs at writes, or runs no more; or rows
            // are seen, or are not, by what existing conditions say of them.
            Form::AtSetAccessMethod
            | Form::AtEnableTrig
            | Form::AtEnableAlwaysTrig
            | Form::AtEnableReplicaTrig
            | Form::AtDisableTrig
            | Form::AtEnableTrigAll
            | Form::AtDisableTrigAll
            | Form::AtEnableTrigUser
            | Form::AtDisableTrigUser
            | Form::AtEnableRule
            | Form::AtEnableAlwaysRule
            | Form::AtEnableReplicaRule
            | Form::AtDisableRule
            | Form::AtEnableRowSecurity
            | Form::AtDisableRowSecurity
            | Form::AtForceRowSecurity
            | Form::AtNoForceRowSecurity
            | Form::AtAddOf
            | Form::AtDropOf => self.defines_all(var)?,
            // The rows of the one table become readable through the other, or no longer bear what the other's columns are
            // tagged with.
            Form::AtAddInherit | Form::AtDropInherit => {
                self.carries_off(var)?;
                if let Some(NodeEnum::RangeVar(parent)) = command.def.as_deref().and_then(inner) {
                    self.defines_all(parent)?;
                }
            }
            Form::AtAttachPartition | Form::AtDetachPartition | Form::AtDetachPartitionFinalize => {
                self.defines_all(var)?;
                if let Some(NodeEnum::PartitionCmd(partition)) = command.def.as_deref().and_then(inner)
                    && let Some(partition) = &partition.name
                {
                    self.carries_off(partition)?;
                }
            }
            // Made by the server out of other forms, never by the grammar.
            Form::Undefined
            | Form::AtAddColumnToView
            | Form::AtCookedColumnDefault
            | Form::AtAddIndex
            | Form::AtReAddIndex
            | Form::AtReAddConstraint
            | Form::AtReAddDomainConstraint
            | Form::AtAddIndexConstraint
            | Form::AtReAddComment
            | Form::AtReplaceRelOptions
            | Form::AtReAddStatistics => return Err(SqlError::UnknownNode { kind: "AlterTableCmd" }),
        }
        if form == Form::AtAddConstraint
            && let Some(NodeEnum::Constraint(constraint)) = command.def.as_deref().and_then(inner)
            && !constraint.indexname.is_empty()
        {
            let keys = self.columns_of_index(var, &constraint.indexname)?;
            self.defined(&keys);
            reads.extend(keys);
        }
        self.compared(reads);
        Ok(())
    }

    /// Notes the column that a form names, and what it is made of.
    fn defined_here(&mut self, command: &'a AlterTableCmd, env: &Env<'_, 'a>) -> Result<Reads, SqlError> {
        let mut own = Reads::new();
        self.resolve_name(&command.name, env, &mut own)?;
        self.defined(&own);
        Ok(own)
    }

    /// Which columns of a row that is changed or removed are written to the log.
    fn replica_identity(
        &mut self,
        identity: &'a ReplicaIdentityStmt,
        var: &'a RangeVar,
    ) -> Result<(), SqlError> {
        match identity.identity_type.as_str() {
            // The primary key; nothing.
            "d" | "n" => Ok(()),
            "i" => {
                let keys = self.columns_of_index(var, &identity.name)?;
                self.defined(&keys);
                Ok(())
            }
            _ => self.defines_all(var),
        }
    }
}

/// Whether a column of that name is another relation's as well, by inheritance.
fn shares_column(target: &Source<'_>, name: &str) -> bool {
    match &target.rows {
        Rows::Relation(relation) => relation
            .columns
            .iter()
            .filter(|column| column.name == name)
            .flat_map(|column| &column.origins)
            .any(|origin| origin.relation != relation.name),
        Rows::Unknown(_) | Rows::Derived(_) => true,
    }
}

/// Whether all options that a form sets or resets are harmless.
fn are_harmless(command: &AlterTableCmd) -> Result<bool, SqlError> {
    let Some(NodeEnum::List(options)) = command.def.as_deref().and_then(inner) else { return Ok(false) };
    for option in &options.items {
        let name = definition(option)?.defname.as_str();
        let is_harmless = HARMLESS_OPTIONS.contains(&name)
            || HARMLESS_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        if !is_harmless {
            return Ok(false);
        }
    }
    Ok(true)
}
