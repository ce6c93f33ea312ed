//! Relation names: resolved through the search path, and the ones that nobody may read.

use pg_query::Node;
use pg_query::protobuf::RangeVar;

use crate::domain::catalogue::Relation;
use crate::domain::statement::{ColumnName, RelationName, Statement, Verb};

use super::columns::Reads;
use super::error::SqlError;
use super::names::{parts, unexpected};
use super::reader::Reader;
use super::scope::{Rows, Source};

/// Relations of pg_catalog and information_schema that show credentials, other sessions or column statistics.
const SECRET_RELATIONS: &[&str] = &[
    "pg_authid",
    "pg_shadow",
    "pg_user_mapping",
    "pg_user_mappings",
    "pg_statistic",
    "pg_stats",
    "pg_statistic_ext_data",
    "pg_stats_ext",
    "pg_stats_ext_exprs",
    "pg_stat_activity",
    "pg_stat_replication",
    "pg_stat_wal_receiver",
    "pg_largeobject",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    "pg_file_settings",
    "pg_prepared_xacts",
    "pg_backend_memory_contexts",
    "pg_shmem_allocations",
    "pg_replication_slots",
    "pg_aios",
    "user_mapping_options",
    "_pg_user_mappings",
    "foreign_server_options",
    "_pg_foreign_servers",
    "foreign_table_options",
    "column_options",
];

/// Relations that show the session's own statements, with what was masked in them.
const OF_THE_SESSION: &[&str] = &["pg_cursors", "pg_prepared_statements"];

/// Relations of well-known extensions that show other sessions' statements, in whatever schema they are.
const SECRET_ANYWHERE: &[&str] = &[
    "pg_stat_statements",
    "pg_stat_statements_info",
    "pg_stat_monitor",
    "pg_store_plans",
    "pg_qualstats",
    "pg_qualstats_all",
    "pg_wait_sampling_history",
];

/// Columns of the same kind in relations that are harmless otherwise: the server itself shows these to superusers alone.
const SECRET_COLUMNS: &[(&str, &str)] = &[("pg_subscription", "subconninfo")];

/// Refuses a statement that has anything to do with a column that nobody may read, also through a view.
pub(super) fn refuse_secret_columns(statement: &Statement) -> Result<(), SqlError> {
    let is_secret = |name: &ColumnName| {
        SECRET_COLUMNS
            .iter()
            .any(|(relation, column)| name.relation.name == *relation && name.column == *column)
    };
    match statement.columns.iter().find(|access| is_secret(&access.column)) {
        Some(access) => Err(SqlError::secret(&access.column.to_string())),
        None => Ok(()),
    }
}

impl<'a> Reader<'a> {
    /// The resolved name, and the relation if the catalogue knows it.
    pub(super) fn relation(
        &self,
        var: &'a RangeVar,
    ) -> Result<(RelationName, Option<&'a Relation>), SqlError> {
        allowed(self.resolve_relation(&var.schemaname, &var.relname))
    }

    /// The resolved name of a dotted name.
    pub(super) fn relation_by_parts(
        &self,
        nodes: &[Node],
    ) -> Result<(RelationName, Option<&'a Relation>), SqlError> {
        match parts(nodes)?.as_slice() {
            [name] => allowed(self.resolve_relation("", name)),
            [schema, name] | [_, schema, name] => allowed(self.resolve_relation(schema, name)),
            _ => Err(nodes.first().map_or(SqlError::Unsupported { what: "an empty name" }, unexpected)),
        }
    }

    /// Notes the effect on a named relation and returns it as a source under its alias.
    pub(super) fn target(&mut self, verb: Verb, var: &'a RangeVar) -> Result<Source<'a>, SqlError> {
        let (name, known) = self.resolve_relation(&var.schemaname, &var.relname);
        // VACUUM, ANALYZE and REINDEX show nothing of what they go through.
        if verb != Verb::Maintenance {
            refuse_secrets(&name, known.is_some())?;
        }
        let may_be_builtin = name.schema == "pg_catalog" || known.is_none();
        if may_be_builtin && OF_THE_SESSION.contains(&name.name.as_str()) {
            self.facts.unpins = Some(format!("reading {}", name.name));
        }
        if self.catalogue.opaque_relations.contains(&name) {
            self.opaque_code(&format!("view {name}"));
        }
        if verb.changes_rows() && shows_settings(&name, known) {
            return Err(SqlError::session_state("a change of pg_settings, which is SET by another name,"));
        }
        self.effect(verb, Some(name.clone()));
        let alias = var.alias.as_ref().map_or(var.relname.as_str(), |alias| alias.aliasname.as_str());
        Ok(Source { name: Some(alias), rows: known.map_or(Rows::Unknown(name), Rows::Relation) })
    }

    /// Notes the creation of a relation. Its name is not looked up: it will be in the schema that is written, in the
    /// session's temporary one, or in the first of the search path, whatever else bears the name.
    pub(super) fn creates(&mut self, var: &'a RangeVar) {
        let schema = if !var.schemaname.is_empty() && var.schemaname != "pg_temp" {
            var.schemaname.as_str()
        } else if var.relpersistence == "t" || var.schemaname == "pg_temp" {
            self.own_temporary_schema()
        } else {
            self.creation_schema()
        };
        let name = RelationName { schema: schema.to_owned(), name: var.relname.clone() };
        self.effect(Verb::Create, Some(name));
    }

    /// Every column of a relation.
    pub(super) fn all_columns(&mut self, var: &'a RangeVar) -> Result<Reads, SqlError> {
        let (name, known) = self.relation(var)?;
        self.all_columns_of(name, known)
    }

    /// The same, resolved.
    pub(super) fn all_columns_of(
        &mut self,
        name: RelationName,
        known: Option<&'a Relation>,
    ) -> Result<Reads, SqlError> {
        let mut reads = Reads::new();
        let rows = known.map_or(Rows::Unknown(name), Rows::Relation);
        self.whole(&Source { name: None, rows }, &mut reads)?;
        Ok(reads)
    }

    /// Named columns of a relation, with what they may show.
    pub(super) fn columns_of(&mut self, var: &'a RangeVar, names: &'a [Node]) -> Result<Reads, SqlError> {
        let (name, known) = self.relation(var)?;
        let mut reads = Reads::new();
        for column in parts(names)? {
            match known.and_then(|relation| {
                relation
                    .columns
                    .iter()
                    .find(|candidate| candidate.name == column)
                    .map(|found| (relation, found))
            }) {
                Some((relation, found)) => {
                    let many = self.columns.read(relation, found, &mut reads);
                    self.spend(many)?;
                }
                None => {
                    reads.insert(self.columns.own(&name, column));
                }
            }
        }
        Ok(reads)
    }

    fn resolve_relation(&self, schema: &str, name: &str) -> (RelationName, Option<&'a Relation>) {
        let catalogue = self.catalogue;
        if schema.is_empty() {
            if let Some(relation) = catalogue.resolve(name) {
                (relation.name.clone(), Some(relation))
            } else {
                let first = self.creation_schema();
                (RelationName { schema: first.to_owned(), name: name.to_owned() }, None)
            }
        } else {
            let schema = if schema == "pg_temp" { self.own_temporary_schema() } else { schema };
            let written = RelationName { schema: schema.to_owned(), name: name.to_owned() };
            let known = catalogue.relation(&written);
            (written, known)
        }
    }

    fn creation_schema(&self) -> &'a str {
        let first = || {
            let mut path = self.catalogue.search_path.iter();
            path.find(|schema| *schema != "pg_catalog" && !schema.starts_with("pg_temp"))
        };
        self.new_schema.unwrap_or_else(|| first().map_or("public", String::as_str))
    }

    fn own_temporary_schema(&self) -> &'a str {
        self.catalogue
            .search_path
            .iter()
            .find(|schema| schema.starts_with("pg_temp"))
            .map_or("pg_temp", String::as_str)
    }
}

/// Whether a relation of that name, wherever it is, shows what nobody may read.
pub(super) fn may_be_secret(name: &str) -> bool {
    SECRET_RELATIONS.contains(&name) || SECRET_ANYWHERE.contains(&name) || OF_THE_SESSION.contains(&name)
}

/// Whether a relation is the server's view of its parameters, or a view of that: a change of a row sets the parameter.
fn shows_settings(name: &RelationName, known: Option<&Relation>) -> bool {
    let is_view =
        |name: &RelationName| name.name == "pg_settings" && (name.schema == "pg_catalog" || known.is_none());
    let mut origins =
        known.into_iter().flat_map(|relation| &relation.columns).flat_map(|column| &column.origins);
    is_view(name)
        || origins
            .any(|origin| origin.relation.schema == "pg_catalog" && origin.relation.name == "pg_settings")
}

/// What a name stands for, unless nobody may read it.
fn allowed(
    resolved: (RelationName, Option<&Relation>),
) -> Result<(RelationName, Option<&Relation>), SqlError> {
    refuse_secrets(&resolved.0, resolved.1.is_some())?;
    Ok(resolved)
}

fn refuse_secrets(name: &RelationName, is_known: bool) -> Result<(), SqlError> {
    let is_system = matches!(name.schema.as_str(), "pg_catalog" | "information_schema");
    // A name that the snapshot does not know may still be found by the server: in pg_catalog, for these names.
    let is_secret = SECRET_ANYWHERE.contains(&name.name.as_str())
        || ((is_system || !is_known) && SECRET_RELATIONS.contains(&name.name.as_str()))
        || name.schema.starts_with("pg_toast");
    if is_secret { Err(SqlError::secret(&name.to_string())) } else { Ok(()) }
}
