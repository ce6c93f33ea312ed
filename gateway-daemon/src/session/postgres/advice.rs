//! What the operator should know of a target's login: rights that it does not need, and a server that is newer than the
//! grammar. The database's own rights are the first line of defence, whatever nodegate masks and refuses before it.

use crate::{domain::action::TargetFacts, sql::postgres::GRAMMAR_VERSION};

/// So many names are told.
const NAMES: usize = 5;

/// Asks which relations the login owns (`o`), and which of these columns it may read (`r`).
pub fn query(columns: impl Iterator<Item = (u32, i16)>) -> String {
    let columns: Vec<String> = columns.map(|(oid, number)| format!("({oid}, {number})")).collect();
    let owned = "SELECT 'o', n.nspname || '.' || c.relname FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.oid >= 16384 AND n.nspname !~ '^pg_t' \
         AND pg_catalog.pg_has_role(c.relowner, 'USAGE')";
    if columns.is_empty() {
        return owned.to_owned();
    }
    format!(
        "{owned} UNION ALL SELECT 'r', n.nspname || '.' || c.relname || '.' || a.attname \
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE (a.attrelid, a.attnum::pg_catalog.int4) IN ({}) \
         AND pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT')",
        columns.join(", ")
    )
}

/// What of the answer is worth a warning.
fn warnings(rows: &[Vec<Option<String>>]) -> Vec<String> {
    let of_kind = |kind: &str| -> Vec<&str> {
        let found = rows.iter().filter_map(|row| match row.as_slice() {
            [Some(found), Some(name)] if found == kind => Some(name.as_str()),
            _ => None,
        });
        found.collect()
    };
    let mut warnings = Vec::new();
    for (kind, what) in [
        ("o", "owns relations, which no GRANT limits"),
        ("r", "may itself read tagged columns, so that nodegate's masks are all that hides them"),
    ] {
        let names = of_kind(kind);
        if names.is_empty() {
            continue;
        }
        let shown: Vec<&str> = names.iter().take(NAMES).copied().collect();
        let more =
            if names.len() > NAMES { format!(" and {} more", names.len() - NAMES) } else { String::new() };
        warnings.push(format!("{what}: {}{more}", shown.join(", ")));
    }
    warnings
}

/// Tells the log.
pub fn warn(target: &TargetFacts, rows: &[Vec<Option<String>>]) {
    for warning in warnings(rows) {
        tracing::warn!(
            target = %target.name,
            "the credential of this target {warning}; `nodegate postgres provision` prints the grants of a role that need not"
        );
    }
}

/// Tells the log of a login that is a superuser's, and of a server that may read a text in another way than nodegate
/// does.
pub fn warn_of_login(target: &TargetFacts, username: &str, parameters: &[(String, String)]) {
    let value =
        |wanted: &str| parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    if value("is_superuser") == Some("on") {
        tracing::warn!(
            target = %target.name,
            user = %username,
            "the credential of this target is a superuser; give it a role with the least privileges that work"
        );
    }
    let version = value("server_version").unwrap_or_default();
    if !is_read_alike(version) {
        tracing::warn!(
            target = %target.name,
            server = version,
            grammar = GRAMMAR_VERSION,
            "this server is newer than the grammar that statements are read with: what is new in it is refused, and what \
             it reads in another way is judged by the older meaning"
        );
    }
}

/// Whether a server of that version reads no text in another way than the grammar does.
fn is_read_alike(version: &str) -> bool {
    let digits = version.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default();
    digits.parse::<u32>().is_ok_and(|major| major <= GRAMMAR_VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: &str, name: &str) -> Vec<Option<String>> {
        vec![Some(kind.to_owned()), Some(name.to_owned())]
    }

    #[test]
    fn rights_that_a_login_need_not_have_are_named_and_no_more_than_a_few() {
        assert_eq!(warnings(&[]), [""; 0]);
        let mut rows: Vec<_> = (0..7).map(|n| row("o", &format!("public.t{n}"))).collect();
        rows.push(row("r", "public.customers.email"));
        let warnings = warnings(&rows);
        assert!(warnings.iter().any(|warning| warning.ends_with("public.t4 and 2 more")), "{warnings:?}");
        assert!(warnings.iter().any(|warning| warning.ends_with("public.customers.email")), "{warnings:?}");
    }

    #[test]
    fn a_server_that_is_newer_than_the_grammar_or_does_not_say_is_told_from_the_others() {
        for version in ["12.22", "15.14 (Debian 15.14-0+deb12u1)", "18beta1", "18.1"] {
            assert!(is_read_alike(version), "{version}");
        }
        for version in ["19.0", "19devel", "", "unknown"] {
            assert!(!is_read_alike(version), "{version}");
        }
    }
}
