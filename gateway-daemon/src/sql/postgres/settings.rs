//! Run-time parameters: which may be changed or shown by anyone, because they neither change how SQL is read
//! nor who runs it nor what is recorded.
//!
//! The search path may be set to names that are written out, and every parameter brought back to what it was at the login:
//! the session asks for the path anew where that may have moved it. All else (another role, parameters that are not known
//! here) is noted as unpinned: that is for policy to decide where nothing is masked, and refused where something is. What
//! would have the server read SQL in another way than nodegate is always refused.

use pg_query::NodeEnum;
use pg_query::protobuf::{AExprKind, CoercionForm, FuncCall, LimitOption, SelectStmt, SetOperation};
use pg_query::protobuf::{VariableSetKind, VariableSetStmt};

use crate::domain::catalogue::Catalogue;
use crate::domain::statement::{SearchPathStep, Statement, Verb};

use super::columns::Reads;
use super::error::SqlError;
use super::functions::constant_text;
use super::names::{inner, parts, setting_text};
use super::nodes::kind;
use super::reader::Reader;
use super::scope::Env;

/// The function that does what SET does.
pub(super) const FUNCTION: &str = "set_config";

const SEARCH_PATH: &str = "search_path";

/// Parameters by which the session becomes another role's.
const ROLES: &[&str] = &["role", "session_authorization"];

/// Parameters by which the server would read a text in another way than nodegate does.
const OF_READING: &[&str] =
    &["backslash_quote", "client_encoding", "standard_conforming_strings", "transform_null_equals"];

/// Parameters that may take any value: formats and limits of the session itself.
const HARMLESS: &[&str] = &[
    "application_name",
    "array_nulls",
    "bytea_output",
    "client_connection_check_interval",
    "client_min_messages",
    "commit_delay",
    "datestyle",
    "deadlock_timeout",
    "default_tablespace",
    "default_text_search_config",
    "default_toast_compression",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "effective_io_concurrency",
    "escape_string_warning",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "jit_above_cost",
    "lc_messages",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "maintenance_work_mem",
    "max_parallel_maintenance_workers",
    "password_encryption",
    "quote_all_identifiers",
    "seed",
    "statement_timeout",
    "stats_fetch_consistency",
    "synchronize_seqscans",
    "synchronous_commit",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_user_timeout",
    "temp_buffers",
    "temp_tablespaces",
    "timezone",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
    "transaction_timeout",
    "vacuum_cost_delay",
    "vacuum_cost_limit",
    "vacuum_cost_page_dirty",
    "vacuum_cost_page_hit",
    "vacuum_cost_page_miss",
    "xmlbinary",
    "xmloption",
];

/// Parameters by which somebody chooses how the server finds rows, beside all `enable_…`: by an index of his choice they come in
/// the order of what it is on, whatever that is. Harmless where nothing is masked.
const OF_PLANNING: &[&str] = &[
    "constraint_exclusion",
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "debug_parallel_query",
    "default_statistics_target",
    "effective_cache_size",
    "force_parallel_mode",
    "from_collapse_limit",
    "geqo",
    "geqo_effort",
    "geqo_generations",
    "geqo_pool_size",
    "geqo_seed",
    "geqo_selection_bias",
    "geqo_threshold",
    "gin_fuzzy_search_limit",
    "hash_mem_multiplier",
    "join_collapse_limit",
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
    "min_parallel_index_scan_size",
    "min_parallel_table_scan_size",
    "parallel_leader_participation",
    "parallel_setup_cost",
    "parallel_tuple_cost",
    "plan_cache_mode",
    "random_page_cost",
    "recursive_worktable_factor",
    "seq_page_cost",
    "work_mem",
];

/// Parameters that may be set to the one value that they are pinned to.
const PINNED: &[(&str, &[&str])] = &[
    ("check_function_bodies", &["off", "false", "0", "no", "on", "true", "1", "yes"]),
    ("client_encoding", &["utf8", "utf-8", "unicode"]),
    ("default_table_access_method", &["heap"]),
    ("default_with_oids", &["off", "false", "0", "no"]),
    ("restrict_nonsystem_relation_kind", &["view, foreign-table", "view", "foreign-table"]),
    // Off, a row that a policy of the server's would hide is an error: nothing is seen that was not before.
    ("row_security", &["on", "true", "1", "yes", "off", "false", "0", "no"]),
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

/// Parameters that the server takes from a startup message alone, for what none of them should be asked of an agent: code
/// to be loaded, and how the session begins.
const OF_BEGINNING: &[&str] = &[
    "ignore_system_indexes",
    "jit_debugging_support",
    "jit_profiling_support",
    "local_preload_libraries",
    "log_connections",
    "log_disconnections",
    "post_auth_delay",
    "session_preload_libraries",
];

/// Whether a parameter is one of those by which plans are chosen.
fn is_of_planning(parameter: &str) -> bool {
    OF_PLANNING.contains(&parameter) || parameter.starts_with("enable_")
}

/// Whether a parameter may be given these values wherever that is written.
pub(super) fn is_harmless(parameter: &str, values: &[String]) -> bool {
    let is_harmless = HARMLESS.contains(&parameter);
    let is_pinned_value = PINNED.iter().any(|(name, allowed)| {
        *name == parameter
            && !values.is_empty()
            && values.iter().all(|value| allowed.contains(&value.to_ascii_lowercase().as_str()))
    });
    is_harmless || is_pinned_value
}

/// Whether a query is `SELECT set_config(…)` and nothing else, so that it runs now, once and by itself.
pub(super) fn is_call_alone(stmt: &SelectStmt) -> bool {
    let [target] = stmt.target_list.as_slice() else { return false };
    let Some(NodeEnum::ResTarget(target)) = inner(target) else { return false };
    let Some(NodeEnum::FuncCall(call)) = target.val.as_deref().and_then(inner) else { return false };
    if !matches!(parts(&call.funcname).as_deref(), Ok([FUNCTION] | ["pg_catalog", FUNCTION])) {
        return false;
    }
    // Compared as a whole, so that no part of a query that a later version of the grammar has is forgotten.
    let rest = SelectStmt { target_list: Vec::new(), ..stmt.clone() };
    let call = FuncCall { funcname: Vec::new(), args: Vec::new(), location: 0, ..call.as_ref().clone() };
    rest == SelectStmt {
        op: SetOperation::SetopNone.into(),
        limit_option: LimitOption::Default.into(),
        ..SelectStmt::default()
    } && call == FuncCall { funcformat: CoercionForm::CoerceExplicitCall.into(), ..FuncCall::default() }
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

/// What a startup message sets, as the statement that would set the same.
///
/// # Errors
/// What no policy can allow, as with SET.
pub fn startup_settings<'s>(
    settings: impl IntoIterator<Item = (&'s str, &'s str)>,
) -> Result<Statement, SqlError> {
    let catalogue = Catalogue::default();
    let mut reader = Reader::new(&catalogue);
    reader.effect(Verb::Set, None);
    for (parameter, value) in settings {
        reader.sets(parameter, &in_text(parameter, value)?, Place::Startup)?;
    }
    Ok(reader.finish())
}

/// The values that a text gives a parameter, where it stands in a startup message or in a call of `set_config`: of a list,
/// each.
pub(super) fn in_text(parameter: &str, value: &str) -> Result<Vec<String>, SqlError> {
    if !parameter.eq_ignore_ascii_case(SEARCH_PATH) {
        return Ok(vec![value.to_owned()]);
    }
    listed(value).ok_or_else(|| SqlError::session_state("a search_path that is no list of names"))
}

/// Whether names are looked up in another way once a parameter is set.
pub fn moves_names(parameter: &str) -> bool {
    let parameter = parameter.to_ascii_lowercase();
    parameter == SEARCH_PATH || ROLES.contains(&parameter.as_str())
}

/// The names of a list in one text, as the server takes it apart (`SplitIdentifierString`): what is not quoted goes on to
/// a comma or a blank, in lower case. `None` where it is none, or where versions of the server differ on what is blank.
fn listed(text: &str) -> Option<Vec<String>> {
    let is_blank = |character: char| matches!(character, ' ' | '\t' | '\n' | '\r');
    if text.chars().any(|character| character.is_ascii_control() && !is_blank(character)) {
        return None;
    }
    let mut rest = text.trim_matches(is_blank);
    let mut names = Vec::new();
    while !(rest.is_empty() && names.is_empty()) {
        let name;
        (name, rest) = match rest.strip_prefix('"') {
            Some(quoted) => until_quote(quoted)?,
            None => {
                let end = rest.find(|next| next == ',' || is_blank(next)).unwrap_or(rest.len());
                let (name, rest) = rest.split_at(end);
                (!name.is_empty()).then_some((name.to_ascii_lowercase(), rest))?
            }
        };
        names.push(name);
        rest = rest.trim_start_matches(is_blank);
        if rest.is_empty() {
            break;
        }
        rest = rest.strip_prefix(',')?.trim_start_matches(is_blank);
    }
    Some(names)
}

/// A quoted name without its quotes, and what is behind it. A quote in it is written twice.
fn until_quote(mut text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    loop {
        let (before, rest) = text.split_once('"')?;
        name.push_str(before);
        match rest.strip_prefix('"') {
            Some(rest) => {
                name.push('"');
                text = rest;
            }
            None => return Some((name, rest)),
        }
    }
}

impl<'a> Reader<'a> {
    /// The parameter whose row of `pg_settings` is all that a query reads: `… FROM pg_settings WHERE name = 'x'`, as
    /// pg_dump has it, which sets parameters only where there are such.
    pub(super) fn one_setting(&self, stmt: &'a SelectStmt) -> Option<String> {
        let [source] = stmt.from_clause.as_slice() else { return None };
        let NodeEnum::RangeVar(var) = inner(source)? else { return None };
        let NodeEnum::AExpr(test) = inner(stmt.where_clause.as_deref()?)? else { return None };
        let (relation, _) = self.relation(var).ok()?;
        let is_pg_settings = relation.schema == "pg_catalog" && relation.name == "pg_settings";
        let is_equality = AExprKind::try_from(test.kind) == Ok(AExprKind::AexprOp)
            && parts(&test.name).as_deref() == Ok(&["="])
            && !self.catalogue.user_operators.contains("=");
        let hides_nothing = var.alias.is_none() && stmt.with_clause.is_none();
        let is_name = is_name_column(test.lexpr.as_deref()?);
        (is_pg_settings && is_equality && hides_nothing && is_name)
            .then(|| constant_text(test.rexpr.as_deref()?))
            .flatten()
    }

    /// SET and RESET.
    pub(super) fn set(&mut self, stmt: &'a VariableSetStmt) -> Result<(), SqlError> {
        self.effect(Verb::Set, None);
        // The values are constants by grammar; walked all the same, so that nothing else slips by.
        let mut nothing = Reads::new();
        match VariableSetKind::try_from(stmt.kind) {
            Ok(VariableSetKind::VarSetValue) => {
                let values: Option<Vec<String>> = stmt.args.iter().map(value_text).collect();
                match values {
                    Some(values) => self.sets(&stmt.name, &values, Place::Statement),
                    None => Err(SqlError::session_state(&format!("setting {}", stmt.name))),
                }
            }
            // What it was at the login: nodegate has seen to that.
            Ok(VariableSetKind::VarSetDefault | VariableSetKind::VarReset) => {
                if moves_names(&stmt.name) {
                    self.facts.search_path = Some(SearchPathStep::Resets);
                }
                Ok(())
            }
            Ok(VariableSetKind::VarSetCurrent) => {
                Err(SqlError::session_state(&format!("setting {} from the session", stmt.name)))
            }
            Ok(VariableSetKind::VarSetMulti) => match stmt.name.as_str() {
                "TRANSACTION" | "SESSION CHARACTERISTICS" => {
                    self.definitions(&stmt.args, &Env::EMPTY, &mut nothing)
                }
                "TRANSACTION SNAPSHOT" => Ok(()),
                other => Err(SqlError::session_state(&format!("SET {other}"))),
            },
            Ok(VariableSetKind::VarResetAll) => {
                self.facts.search_path = Some(SearchPathStep::Resets);
                Ok(())
            }
            Ok(VariableSetKind::Undefined) | Err(_) => Err(SqlError::UnknownNode { kind: "VariableSetStmt" }),
        }
    }
}

/// Where a parameter is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// By a statement that does nothing else, and is run now and once.
    Statement,
    /// In the middle of one.
    Expression,
    /// Before the first one.
    Startup,
    /// Kept in the database, for later sessions or for the calls of a function.
    Stored,
}

impl<'a> Reader<'a> {
    /// A setting that is kept: ALTER ROLE, DATABASE or SYSTEM … SET, and the SET of a function.
    pub(super) fn keeps_setting(&mut self, stmt: &'a VariableSetStmt) -> Result<(), SqlError> {
        match VariableSetKind::try_from(stmt.kind) {
            Ok(VariableSetKind::VarSetValue) => {
                let values: Option<Vec<String>> = stmt.args.iter().map(value_text).collect();
                let values =
                    values.ok_or_else(|| SqlError::session_state(&format!("setting {}", stmt.name)))?;
                self.sets(&stmt.name, &values, Place::Stored)
            }
            // What is kept so far may be what keeps names or plans as they are; later sessions would do without.
            Ok(VariableSetKind::VarReset | VariableSetKind::VarSetDefault) => {
                let parameter = stmt.name.to_ascii_lowercase();
                if !HARMLESS.contains(&parameter.as_str()) {
                    self.facts.unpins = Some(format!("resetting {parameter} for later sessions"));
                }
                Ok(())
            }
            Ok(VariableSetKind::VarResetAll) => {
                self.facts.unpins = Some("resetting all parameters for later sessions".to_owned());
                Ok(())
            }
            Ok(VariableSetKind::VarSetCurrent) => {
                Err(SqlError::session_state(&format!("setting {} from the session", stmt.name)))
            }
            Ok(VariableSetKind::VarSetMulti | VariableSetKind::Undefined) | Err(_) => {
                Err(SqlError::UnknownNode { kind: "VariableSetStmt" })
            }
        }
    }
}

impl Reader<'_> {
    /// Notes that a parameter is given these values.
    pub(super) fn sets(&mut self, parameter: &str, values: &[String], place: Place) -> Result<(), SqlError> {
        let parameter = parameter.to_ascii_lowercase();
        if is_harmless(&parameter, values) {
            return Ok(());
        }
        let refused = || SqlError::session_state(&format!("setting {parameter}"));
        if is_of_planning(&parameter) {
            self.facts.unpins = Some(format!("setting {parameter}"));
            return Ok(());
        }
        if OF_READING.contains(&parameter.as_str()) {
            return Err(refused());
        }
        if place == Place::Startup && OF_BEGINNING.contains(&parameter.as_str()) {
            return Err(refused());
        }
        let moves = moves_names(&parameter);
        if moves && place == Place::Expression {
            return Err(refused());
        }
        // With those of PostgreSQL's own left out, these come first, and nothing stands in for them. Temporary relations
        // come first as well, unless they are put behind.
        let is_reserved = |(place, schema): (usize, &String)| {
            schema.starts_with("pg_") && !(place > 0 && schema == "pg_temp")
        };
        if parameter == SEARCH_PATH && values.iter().enumerate().any(is_reserved) {
            return Err(refused());
        }
        if place == Place::Stored {
            self.facts.unpins = Some(format!("setting {parameter}"));
            return Ok(());
        }
        if moves {
            self.facts.search_path = Some(SearchPathStep::Moves);
        }
        if parameter == SEARCH_PATH {
            return Ok(());
        }
        self.opaque_code(&format!("SET {parameter}"));
        self.facts.unpins = Some(format!("setting {parameter}"));
        Ok(())
    }
}

/// Whether an expression is the column `name` and nothing else.
pub(super) fn is_name_column(node: &pg_query::Node) -> bool {
    let Some(NodeEnum::ColumnRef(column)) = inner(node) else { return false };
    parts(&column.fields).as_deref() == Ok(&["name"])
}

fn value_text(node: &pg_query::Node) -> Option<String> {
    match node.node.as_ref()? {
        // SET TIME ZONE INTERVAL '…' is a cast.
        pg_query::NodeEnum::TypeCast(cast) => setting_text(cast.arg.as_deref()?),
        other => setting_text(node).or_else(|| Some(kind(other).to_owned())),
    }
}
