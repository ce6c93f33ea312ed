//! Whatever comes, `read` answers.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::short;
use crate::domain::catalogue::Catalogue;
use crate::domain::statement::ColumnUse;
use crate::sql::postgres::read;

static SHOP: LazyLock<Catalogue> = LazyLock::new(super::shop);

const WORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "customers",
    "notes",
    "email",
    "c",
    "x",
    "*",
    ",",
    "(",
    ")",
    ".",
    "AS",
    "JOIN",
    "ON",
    "USING",
    "NATURAL",
    "LEFT",
    "UNION",
    "ALL",
    "EXCEPT",
    "ORDER",
    "BY",
    "GROUP",
    "HAVING",
    "LIMIT",
    "1",
    "'a'",
    "$1",
    "=",
    "||",
    "::",
    "text",
    "IN",
    "EXISTS",
    "NOT",
    "AND",
    "OR",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "WITH",
    "RECURSIVE",
    "INSERT",
    "INTO",
    "VALUES",
    "UPDATE",
    "SET",
    "DELETE",
    "RETURNING",
    "MERGE",
    "MATCHED",
    "CREATE",
    "TABLE",
    "VIEW",
    "DROP",
    "ALTER",
    "COPY",
    "TO",
    "STDOUT",
    "EXPLAIN",
    "ANALYZE",
    "PREPARE",
    "EXECUTE",
    "LATERAL",
    "ROW",
    "ARRAY",
    "[",
    "]",
    "DISTINCT",
    "OVER",
    "PARTITION",
    "count",
    "lower",
    "f",
    ";",
    "NULL",
    "IS",
    "--\n",
    "/*",
    "*/",
    "$$",
    "E'\\''",
    "U&\"e\\006dail\"",
    "INDEX",
    "GRANT",
    "role",
    "search_path",
    "BEGIN",
    "COMMIT",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn token_soup_is_answered(words in prop::collection::vec(prop::sample::select(WORDS), 0..40)) {
        let _ = read(&words.join(" "), &SHOP);
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,200}") {
        let _ = read(&text, &SHOP);
    }

    /// A masked column that an expression mentions never goes unseen, however it is wrapped.
    #[test]
    fn a_wrapped_column_is_still_found(
        wrappers in prop::collection::vec(prop::sample::select(&[
            "lower(@)", "(@ || 'x')", "CASE WHEN true THEN @ END", "COALESCE(@, '')", "(SELECT @)",
            "(ARRAY[@])[1]", "(ROW(@, 1)).f1", "@::text", "(SELECT s.v FROM (SELECT @ AS v) s)",
            "(WITH w AS (SELECT @ AS v) SELECT v FROM w)", "(SELECT max(q.v) FROM (VALUES (@)) q(v))",
            "(SELECT v FROM (SELECT 'a' AS v UNION ALL SELECT @) u)",
            "(SELECT l.v FROM notes CROSS JOIN LATERAL (SELECT @ AS v) l LIMIT 1)",
            "(SELECT j.b FROM (notes CROSS JOIN (SELECT @ AS z) y) AS j(a, n, b) LIMIT 1)",
            "(SELECT t.v FROM (SELECT @, 1) t(v, w))",
        ][..]), 0..6),
        place in 0..6_usize,
    ) {
        let mut expression = "c.email".to_owned();
        for wrapper in wrappers {
            expression = wrapper.replace('@', &expression);
        }
        let (text, usage) = match place {
            0 => (format!("SELECT {expression} FROM customers c"), ColumnUse::Projected),
            1 => (format!("SELECT 1 FROM customers c WHERE {expression} < 'a'"), ColumnUse::Compared),
            2 => (format!("SELECT 1 FROM customers c ORDER BY {expression}"), ColumnUse::Compared),
            3 => (format!("INSERT INTO notes (body) SELECT {expression} FROM customers c"), ColumnUse::Moved),
            4 => (format!("UPDATE customers c SET name = {expression} WHERE id = 1"), ColumnUse::Moved),
            _ => (format!("COPY (SELECT {expression} FROM customers c) TO STDOUT"), ColumnUse::Moved),
        };
        let statements = read(&text, &SHOP).unwrap();
        let found: BTreeSet<String> = statements
            .iter()
            .flat_map(|statement| &statement.columns)
            .filter(|access| access.usage == usage)
            .map(|access| access.column.to_string())
            .collect();
        prop_assert!(found.contains("public.customers.email"), "{text}\n{}", short(&statements[0]));
        if usage == ColumnUse::Projected {
            let results = &statements[0].results;
            prop_assert_eq!(results.columns.len(), 1);
            prop_assert!(results.names_of(&results.columns[0]).any(|column| column.column == "email"));
        }
    }
}
