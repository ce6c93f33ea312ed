//! Which functions, operators and types are PostgreSQL's own and harmless, and which run code of unknown body.

use std::collections::HashSet;
use std::sync::LazyLock;

use pg_query::protobuf::{FuncCall, TypeName};
use pg_query::{Node, NodeEnum};

use crate::domain::catalogue::Catalogue;
use crate::domain::statement::{Opaque, Verb};

use super::columns::{Reads, tested};
use super::error::SqlError;
use super::expression::marked;
use super::names::{inner, parts, setting_text};
use super::offline;
use super::reader::Reader;
use super::scope::{Env, Needs, Outputs};
use super::settings;
use super::value::Value;

/// Volatile functions that change nothing outside the session and show nothing of others.
const HARMLESS_VOLATILE: &[&str] = &[
    "clock_timestamp",
    "current_query",
    "currval",
    "gen_random_uuid",
    "lastval",
    "nextval",
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_advisory_unlock",
    "pg_advisory_unlock_all",
    "pg_advisory_unlock_shared",
    "pg_advisory_xact_lock",
    "pg_advisory_xact_lock_shared",
    "pg_blocking_pids",
    "pg_collation_actual_version",
    "pg_current_wal_lsn",
    "pg_database_collation_actual_version",
    "pg_database_size",
    "pg_export_snapshot",
    "pg_indexes_size",
    "pg_is_in_recovery",
    "pg_is_wal_replay_paused",
    "pg_jit_available",
    "pg_last_wal_receive_lsn",
    "pg_last_wal_replay_lsn",
    "pg_last_xact_replay_timestamp",
    "pg_partition_ancestors",
    "pg_partition_tree",
    "pg_relation_size",
    "pg_sequence_last_value",
    "pg_table_size",
    "pg_tablespace_size",
    "pg_total_relation_size",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
    "pg_try_advisory_xact_lock",
    "pg_try_advisory_xact_lock_shared",
    "pg_xact_status",
    "random",
    "random_normal",
    "setseed",
    "timeofday",
    "txid_status",
    "uuidv4",
    "uuidv7",
];

/// Those of them that leave something behind which a later statement, or another session, can see.
const LEAVES_TRACES: &[&str] = &["nextval", "setseed"];

/// Functions whose effects reach beyond the session, and which see no table: whoever may call them learns nothing of one.
const SEES_NO_TABLE: &[&str] = &[
    "brin_desummarize_range",
    "brin_summarize_new_values",
    "brin_summarize_range",
    "gin_clean_pending_list",
    "lo_close",
    "lo_creat",
    "lo_create",
    "lo_from_bytea",
    "lo_get",
    "lo_lseek",
    "lo_lseek64",
    "lo_open",
    "lo_put",
    "lo_tell",
    "lo_tell64",
    "lo_truncate",
    "lo_truncate64",
    "lo_unlink",
    "loread",
    "lowrite",
    "pg_backup_start",
    "pg_backup_stop",
    "pg_cancel_backend",
    "pg_create_logical_replication_slot",
    "pg_create_physical_replication_slot",
    "pg_create_restore_point",
    "pg_drop_replication_slot",
    "pg_log_backend_memory_contexts",
    "pg_log_standby_snapshot",
    "pg_notify",
    "pg_promote",
    "pg_reload_conf",
    "pg_rotate_logfile",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "pg_stat_clear_snapshot",
    "pg_stat_force_next_flush",
    "pg_stat_reset",
    "pg_stat_reset_shared",
    "pg_stat_reset_single_function_counters",
    "pg_stat_reset_single_table_counters",
    "pg_stat_reset_slru",
    "pg_switch_wal",
    "pg_terminate_backend",
    "pg_timezone_names",
    "pg_wal_replay_pause",
    "pg_wal_replay_resume",
    "setval",
];

/// Functions that are stable by declaration and still run SQL from text, or read what is not theirs.
const HARMFUL_STABLE: &[&str] = &[
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    "database_to_xmlschema",
    "pg_tablespace_databases",
    "query_to_xml",
    "query_to_xml_and_xmlschema",
    "query_to_xmlschema",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "schema_to_xmlschema",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "table_to_xmlschema",
    "ts_rewrite",
    "ts_stat",
];

/// Functions behind the system views that nobody may read.
const SECRET_FUNCTIONS: &[&str] = &[
    "pg_config",
    "pg_cursor",
    "pg_get_backend_memory_contexts",
    "pg_get_replication_slots",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    "pg_mcv_list_items",
    "pg_prepared_statement",
    "pg_prepared_xact",
    "pg_read_binary_file",
    "pg_read_file",
    "pg_read_file_old",
    "pg_show_all_file_settings",
    "pg_stat_file",
    "pg_stat_get_activity",
    "pg_stat_get_progress_info",
    "pg_stat_get_wal_receiver",
    "pg_stat_get_wal_senders",
    "pg_stat_statements",
];

/// Whose an operator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    /// PostgreSQL's.
    Own,
    /// It may be a user's: code of unknown effect, which is shown its operands and can fail by them.
    Users,
}

/// What a function's name in a call stands for.
struct Called<'a> {
    /// A function of PostgreSQL's own, and no other.
    own: Option<&'a str>,
    /// A function of PostgreSQL's own, perhaps among others of that name.
    may_be: Option<&'a str>,
    /// What the result may be made of beside the arguments: what the bodies of others read.
    shown: Reads,
}

static SET_RETURNING: LazyLock<HashSet<&'static str>> = LazyLock::new(offline::set_returning_functions);

impl<'a> Reader<'a> {
    /// A function call in an expression or in FROM.
    pub(super) fn call(
        &mut self,
        call: &'a FuncCall,
        env: &Env<'_, 'a>,
        into: &mut Reads,
    ) -> Result<Value, SqlError> {
        let Called { own: name, may_be, mut shown } = self.called(&call.funcname)?;
        let mut arguments = Reads::new();
        let value = self.call_arguments(name, call, env, &mut arguments)?;
        if name == Some("count")
            && !call.agg_distinct
            && let [argument] = call.args.as_slice()
        {
            if self.is_whole_row(argument, env)? {
                // A row is there or not, whatever its columns hold.
                arguments.clear();
            }
            arguments = marked(arguments, Some(argument), env, Needs::AnyType, tested);
        }
        if call.agg_distinct || name.is_some_and(|name| SET_RETURNING.contains(name)) {
            // The value decides how many rows come out.
            self.compared(arguments.clone());
        }
        for sort in &call.agg_order {
            let mut reads = Reads::new();
            self.expression(sort, env, &mut reads)?;
            arguments.extend(&reads);
            self.compared(reads);
        }
        if let Some(filter) = call.agg_filter.as_deref() {
            self.steering(filter, env)?;
        }
        if let Some(window) = call.over.as_deref() {
            self.window(window, env)?;
        }
        if let Some(name) = may_be {
            self.check_settings_function(name, &call.args)?;
        }
        if name == Some("pg_notify")
            && let [channel, payload] = call.args.as_slice()
            && let (Some(channel), Some(payload)) = (constant_text(channel), constant_text(payload))
        {
            self.facts.notifies.insert((channel, payload));
        }
        into.append(&mut arguments);
        into.append(&mut shown);
        Ok(value)
    }

    /// Notes a function by name.
    fn called(&mut self, nodes: &'a [Node]) -> Result<Called<'a>, SqlError> {
        let (schema, name) = match parts(nodes)?.as_slice() {
            [name] => (None, *name),
            [schema, name] | [_, schema, name] => (Some(*schema), *name),
            _ => return Err(SqlError::Unsupported { what: "a function name of that form" }),
        };
        check_secret(name)?;
        let is_builtin = self.catalogue.builtin_functions.contains(name);
        let is_own = match schema {
            Some("pg_catalog") => is_builtin && !self.is_user_function_in(name, "pg_catalog"),
            Some(_) => false,
            None => is_builtin && !self.catalogue.user_functions.contains_key(name),
        };
        if is_own {
            self.own_function(name);
            return Ok(Called { own: Some(name), may_be: Some(name), shown: Reads::new() });
        }
        let written = schema.map_or_else(|| name.to_owned(), |schema| format!("{schema}.{name}"));
        self.facts.functions.insert(written.clone());
        let Some(shown) = self.bodies(schema, name)? else {
            self.opaque(Opaque::Function(written));
            return Ok(Called { own: None, may_be: None, shown: Reads::new() });
        };
        let may_be = (is_builtin && schema.is_none_or(|schema| schema == "pg_catalog")).then_some(name);
        if let Some(name) = may_be {
            self.own_function(name);
        }
        Ok(Called { own: None, may_be, shown })
    }

    /// Notes a function that is PostgreSQL's own.
    fn own_function(&mut self, name: &str) {
        self.facts.functions.insert(format!("pg_catalog.{name}"));
        if !is_harmless(name, self.catalogue) && settings::FUNCTION != name {
            let what = Opaque::Function(format!("pg_catalog.{name}"));
            if sees_no_table(name) { self.opaque_but_blind(what) } else { self.opaque(what) }
        }
        if LEAVES_TRACES.contains(&name)
            || name.starts_with("pg_advisory")
            || name.starts_with("pg_try_advisory")
        {
            self.facts.leaves_traces = true;
        }
    }

    /// Notes what CALL runs.
    pub(super) fn called_procedure(&mut self, name: &[&str]) -> Result<(), SqlError> {
        let written = name.join(".");
        self.facts.functions.insert(written.clone());
        let shown = match *name {
            [name] => self.bodies(None, name)?,
            [schema, name] | [_, schema, name] => self.bodies(Some(schema), name)?,
            _ => None,
        };
        match shown {
            Some(shown) => self.shown(&Outputs::opaque(shown)),
            None => {
                self.effect(Verb::Call, None);
                self.opaque_code(&format!("CALL {written}"));
            }
        }
        Ok(())
    }

    /// Notes a function that is called on a row by the notation of a column, if there is one of that name; adds what its
    /// result may be made of beside the row.
    pub(super) fn called_as_column(&mut self, name: &str, into: &mut Reads) -> Result<(), SqlError> {
        if !self.catalogue.user_functions.contains_key(name) {
            return Ok(());
        }
        self.facts.functions.insert(name.to_owned());
        match self.bodies(None, name)? {
            Some(mut shown) => into.append(&mut shown),
            None => self.opaque(Opaque::Function(name.to_owned())),
        }
        Ok(())
    }

    /// Notes syntax that an older server reads as a call of a function of that name.
    pub(super) fn syntax_function(&mut self, name: &str) {
        if self.catalogue.user_functions.contains_key(name) {
            self.opaque(Opaque::Function(name.to_owned()));
        }
    }

    /// Notes an operator by name; returns whose it may be.
    pub(super) fn operator(&mut self, nodes: &'a [Node]) -> Result<Whose, SqlError> {
        Ok(match parts(nodes)?.as_slice() {
            [] | ["pg_catalog", _] => Whose::Own,
            [name] => self.plain_operator(name),
            [schema @ .., name] => {
                let written = format!("{}.{name}", schema.join("."));
                self.opaque(Opaque::Operator(written));
                Whose::Users
            }
        })
    }

    /// Notes an operator that the syntax implies.
    pub(super) fn plain_operator(&mut self, name: &str) -> Whose {
        if !self.catalogue.user_operators.contains(name) {
            return Whose::Own;
        }
        self.opaque(Opaque::Operator(name.to_owned()));
        Whose::Users
    }

    /// Notes the type of a cast or a declaration.
    pub(super) fn type_name(&mut self, name: &'a TypeName, env: &Env<'_, 'a>) -> Result<(), SqlError> {
        let parts = parts(&name.names)?;
        if let Some(last) = parts.last()
            && !name.pct_type
            && self.catalogue.opaque_types.contains(*last)
        {
            self.opaque_code(&format!("type {}", parts.join(".")));
        }
        let mut nothing = Reads::new();
        self.expressions(&name.typmods, env, &mut nothing)
    }

    fn is_user_function_in(&self, name: &str, schema: &str) -> bool {
        self.catalogue.user_functions.get(name).is_some_and(|schemas| schemas.contains(schema))
    }

    /// `set_config` and `current_setting` do what SET and SHOW do, and are judged alike.
    fn check_settings_function(&mut self, name: &str, arguments: &[Node]) -> Result<(), SqlError> {
        let literal = |index: usize| arguments.get(index).and_then(constant_text);
        let is_of_row = arguments.first().is_some_and(settings::is_name_column);
        let parameter = if is_of_row { self.setting.clone() } else { literal(0) };
        match name {
            settings::FUNCTION => match (parameter, literal(1)) {
                (Some(parameter), Some(value)) => {
                    use settings::Place;
                    let place = if self.only_sets { Place::Statement } else { Place::Expression };
                    self.sets(&parameter, &settings::in_text(&parameter, &value)?, place)
                }
                _ => Err(SqlError::session_state("set_config() of something that is not written out")),
            },
            // A name that is computed is the server's to judge: it keeps the secret ones for its superusers.
            "current_setting" => parameter.map_or(Ok(()), |parameter| settings::check_shown(&parameter)),
            _ => Ok(()),
        }
    }
}

/// Refuses the functions that nobody may call.
pub(super) fn check_secret(name: &str) -> Result<(), SqlError> {
    let is_secret = SECRET_FUNCTIONS.contains(&name)
        || name.starts_with("pg_ls_")
        || name.starts_with("pg_stat_get_backend_");
    if is_secret { Err(SqlError::secret(&format!("the function {name}()"))) } else { Ok(()) }
}

/// Whether a function of PostgreSQL's own runs text as SQL, or shows what is not its caller's.
pub(super) fn runs_anything(name: &str) -> bool {
    HARMFUL_STABLE.contains(&name) || check_secret(name).is_err()
}

/// Whether a function of PostgreSQL's own shows nothing of any table, whatever else it does.
pub(super) fn sees_no_table(name: &str) -> bool {
    SEES_NO_TABLE.contains(&name)
}

/// Whether a function of PostgreSQL's own changes nothing outside the session and shows nothing of others.
pub(super) fn is_harmless(name: &str, catalogue: &Catalogue) -> bool {
    if catalogue.stable_builtin_functions.contains(name) {
        !HARMFUL_STABLE.contains(&name)
    } else {
        HARMLESS_VOLATILE.contains(&name)
    }
}

/// The text of a constant, also behind a cast such as `'x'::text`.
pub(super) fn constant_text(node: &Node) -> Option<String> {
    match inner(node)? {
        NodeEnum::TypeCast(cast) => constant_text(cast.arg.as_deref()?),
        NodeEnum::AConst(_) => setting_text(node),
        _ => None,
    }
}
