//! Run-time parameters: which may be changed or shown by anyone, because they neither change how SQL is read
//! nor who runs it nor what is recorded.

use pg_query::protobuf::{VariableSetKind, VariableSetStmt};

use crate::domain::statement::Verb;

use super::columns::Reads;
use super::error::SqlError;
use super::names::setting_text;
use super::nodes::kind;
use super::reader::Reader;
use super::scope::Env;

/// The function that does what SET does.
pub(super) const FUNCTION: &str = "set_config";

/// Parameters that may take any value: formats, limits and planner choices of the session itself.
const HARMLESS: &[&str] = &[
    "application_name",
    "array_nulls",
    "bytea_output",
    "client_connection_check_interval",
    "client_min_messages",
    "commit_delay",
    "constraint_exclusion",
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "datestyle",
    "deadlock_timeout",
    "default_statistics_target",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "effective_cache_size",
    "effective_io_concurrency",
    "extra_float_digits",
    "from_collapse_limit",
    "geqo",
    "geqo_threshold",
    "gin_fuzzy_search_limit",
    "hash_mem_multiplier",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "jit_above_cost",
    "join_collapse_limit",
    "lc_messages",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "maintenance_work_mem",
    "max_parallel_maintenance_workers",
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
    "parallel_leader_participation",
    "parallel_setup_cost",
    "parallel_tuple_cost",
    "plan_cache_mode",
    "quote_all_identifiers",
    "random_page_cost",
    "recursive_worktable_factor",
    "seed",
    "seq_page_cost",
    "statement_timeout",
    "synchronize_seqscans",
    "synchronous_commit",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_user_timeout",
    "temp_buffers",
    "timezone",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
    "transaction_timeout",
    "work_mem",
    "xmlbinary",
    "xmloption",
];

/// Parameters that may be set to the one value that they are pinned to.
const PINNED: &[(&str, &[&str])] = &[
    ("check_function_bodies", &["off", "false", "0", "no", "on", "true", "1", "yes"]),
    ("client_encoding", &["utf8", "utf-8", "unicode"]),
    ("default_with_oids", &["off", "false", "0", "no"]),
    ("escape_string_warning", &["on", "true", "1", "yes"]),
    ("row_security", &["on", "true", "1", "yes"]),
    ("standard_conforming_strings", &["on", "true", "1", "yes"]),
    ("transform_null_equals", &["off", "false", "0", "no"]),
];

/// Parameters that may hold a password, a key's place or a command with either.
const SECRET: &[&str] = &[
    "archive_cleanup_command",
    "archive_command",
    "config_file",
    "data_directory",
    "external_pid_file",
    "hba_file",
    "ident_file",
    "krb_server_keyfile",
    "log_directory",
    "log_filename",
    "oauth_validator_libraries",
    "primary_conninfo",
    "recovery_end_command",
    "restore_command",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_key_file",
    "ssl_passphrase_command",
];

/// Whether a parameter may be given these values.
pub(super) fn check(parameter: &str, values: &[String]) -> Result<(), SqlError> {
    let parameter = parameter.to_ascii_lowercase();
    let is_harmless = HARMLESS.contains(&parameter.as_str()) || parameter.starts_with("enable_");
    let is_pinned_value = PINNED.iter().any(|(name, allowed)| {
        *name == parameter
            && !values.is_empty()
            && values.iter().all(|value| allowed.contains(&value.to_ascii_lowercase().as_str()))
    });
    if is_harmless || is_pinned_value {
        Ok(())
    } else {
        Err(SqlError::session_state(&format!("setting {parameter}")))
    }
}

/// Whether a parameter's value may be shown.
pub(super) fn check_shown(parameter: &str) -> Result<(), SqlError> {
    let parameter = parameter.to_ascii_lowercase();
    if SECRET.contains(&parameter.as_str()) {
        Err(SqlError::secret(&format!("the setting {parameter}")))
    } else {
        Ok(())
    }
}

impl<'a> Reader<'a> {
    /// SET and RESET.
    pub(super) fn set(&mut self, stmt: &'a VariableSetStmt) -> Result<(), SqlError> {
        self.effect(Verb::Set, None);
        // The values are constants by grammar; walked all the same, so that nothing else slips by.
        let mut nothing = Reads::new();
        match VariableSetKind::try_from(stmt.kind) {
            Ok(VariableSetKind::VarSetValue) => {
                let values: Option<Vec<String>> = stmt.args.iter().map(value_text).collect();
                match values {
                    Some(values) => check(&stmt.name, &values),
                    None => check(&stmt.name, &[]),
                }
            }
            Ok(
                VariableSetKind::VarSetDefault | VariableSetKind::VarReset | VariableSetKind::VarSetCurrent,
            ) => check(&stmt.name, &[]),
            Ok(VariableSetKind::VarSetMulti) => match stmt.name.as_str() {
                "TRANSACTION" | "SESSION CHARACTERISTICS" => {
                    self.definitions(&stmt.args, &Env::EMPTY, &mut nothing)
                }
                "TRANSACTION SNAPSHOT" => Ok(()),
                other => Err(SqlError::session_state(&format!("SET {other}"))),
            },
            Ok(VariableSetKind::VarResetAll) => Ok(()),
            Ok(VariableSetKind::Undefined) | Err(_) => Err(SqlError::UnknownNode { kind: "VariableSetStmt" }),
        }
    }
}

fn value_text(node: &pg_query::Node) -> Option<String> {
    match node.node.as_ref()? {
        // SET TIME ZONE INTERVAL '…' is a cast.
        pg_query::NodeEnum::TypeCast(cast) => setting_text(cast.arg.as_deref()?),
        other => setting_text(node).or_else(|| Some(kind(other).to_owned())),
    }
}
