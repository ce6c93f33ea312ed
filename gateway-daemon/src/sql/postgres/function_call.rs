//! A function that is called by its oid, past SQL: the protocol's FunctionCall, which libpq's `lo_open`, `lo_read` and
//! their like are made of. It is judged as a call of the same function in SQL is, and cannot be read any better: its
//! arguments are values, and nothing says what its result shows.

use std::collections::BTreeSet;

use crate::domain::catalogue::Catalogue;
use crate::domain::decision::{Denial, MaskPlan};
use crate::domain::statement::{Effect, Opaque, Statement, Verb};

use super::error::SqlError;
use super::functions::{check_secret, is_harmless, sees_no_table};
use super::settings;

/// Oids from here on are the database's own objects, not PostgreSQL's.
const FIRST_OWN_OID: u32 = 16_384;

/// Functions that work on large objects and show nothing else.
const LARGE_OBJECTS: &[&str] = &[
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
];

/// A function, as the server's catalogue names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalledFunction {
    /// `pg_proc.oid`.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
}

impl CalledFunction {
    /// The refusal of what it returns, where [`Shows::may_hold_masked`].
    pub fn unmasked(&self) -> Denial {
        Denial::builtin(
            format!(
                "what the function {}.{} returns may hold what is masked for this agent, and cannot be traced",
                self.schema, self.name
            ),
            "Select what you need from its table.",
            "function-call-unmasked",
        )
    }
}

/// What a function's result can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// Nothing of any table: it is PostgreSQL's own, and of its arguments, the session or the catalogue.
    NoTable,
    /// A large object.
    LargeObject,
    /// Whatever its body reads.
    Anything,
}

impl Shows {
    /// Whether the result can hold what is masked.
    pub fn may_hold_masked(self, masks: &MaskPlan) -> bool {
        match self {
            Self::NoTable => false,
            Self::LargeObject => masks.columns.keys().chain(masks.scans.keys()).any(|column| {
                column.relation.schema == "pg_catalog" && column.relation.name == "pg_largeobject"
            }),
            Self::Anything => masks.is_of_anything(),
        }
    }
}

/// What calling `function` does, and what its result can show.
///
/// # Errors
/// No policy can allow it.
pub fn function_call(
    function: &CalledFunction,
    catalogue: &Catalogue,
) -> Result<(Statement, Shows), SqlError> {
    let CalledFunction { oid, schema, name } = function;
    check_secret(name)?;
    let is_own = schema == "pg_catalog" && *oid < FIRST_OWN_OID;
    if is_own && name == settings::FUNCTION {
        return Err(SqlError::session_state("set_config() by a function call"));
    }
    let written = format!("{schema}.{name}");
    let mut statement = Statement::plain([Verb::FunctionCall]);
    statement.functions = BTreeSet::from([written.clone()]);
    if is_own && is_harmless(name, catalogue) {
        return Ok((statement, Shows::NoTable));
    }
    let sees_none = is_own && sees_no_table(name);
    if !sees_none {
        statement.out_of_sight.insert(written.clone());
    }
    statement.opaque.insert(Opaque::Function(written));
    statement.effects.insert(Effect { verb: Verb::Call, relation: None });
    let shows = match sees_none {
        true if LARGE_OBJECTS.contains(&name.as_str()) => Shows::LargeObject,
        true => Shows::NoTable,
        false => Shows::Anything,
    };
    Ok((statement, shows))
}

/// Whether a statement is a function call that works on large objects and changes nothing else.
pub fn works_on_large_objects(statement: &Statement, catalogue: &Catalogue) -> bool {
    let is_own = |name: &str| {
        !catalogue.user_functions.get(name).is_some_and(|schemas| schemas.contains("pg_catalog"))
    };
    statement.does(Verb::FunctionCall)
        && statement.functions.iter().all(|written| {
            let name = written.strip_prefix("pg_catalog.");
            name.is_some_and(|name| LARGE_OBJECTS.contains(&name) && is_own(name))
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::offline_catalogue;
    use super::*;

    fn called(oid: u32, schema: &str, name: &str) -> Result<(Statement, Shows), SqlError> {
        let function = CalledFunction { oid, schema: schema.to_owned(), name: name.to_owned() };
        function_call(&function, &offline_catalogue())
    }

    #[test]
    fn a_function_that_cannot_be_read_asks_for_what_it_would_ask_for_in_sql() {
        for (oid, schema, name, shows) in [
            (952, "pg_catalog", "lo_open", Shows::LargeObject),
            (954, "pg_catalog", "loread", Shows::LargeObject),
            (764, "pg_catalog", "lo_import", Shows::Anything),
            (2_923, "pg_catalog", "table_to_xml", Shows::Anything),
            (16_500, "public", "f", Shows::Anything),
            (16_501, "public", "loread", Shows::Anything),
            (16_502, "pg_catalog", "lo_open", Shows::Anything),
            (16_503, "pg_catalog", "upper", Shows::Anything),
        ] {
            let (statement, found) = called(oid, schema, name).unwrap();
            assert!(statement.does(Verb::FunctionCall) && statement.does(Verb::Call), "{name}");
            let written = format!("{schema}.{name}");
            assert!(statement.functions.contains(&written), "{name}");
            assert!(statement.opaque.contains(&Opaque::Function(written)), "{name}");
            assert_eq!(found, shows, "{name}");
        }
        let (statement, shows) = called(871, "pg_catalog", "upper").unwrap();
        assert!(!statement.does(Verb::Call) && statement.opaque.is_empty());
        assert_eq!(shows, Shows::NoTable);
    }

    #[test]
    fn what_sql_may_never_call_is_refused_and_so_is_a_setting() {
        for name in ["pg_read_file", "pg_ls_dir", "pg_stat_get_activity", "set_config"] {
            assert!(called(2_000, "pg_catalog", name).is_err(), "{name}");
        }
    }
}
