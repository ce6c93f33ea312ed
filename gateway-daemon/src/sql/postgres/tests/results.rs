//! What each column of a result is made of.

use std::fmt::Write as _;

use super::shop;
use crate::domain::{
    catalogue::Catalogue,
    results::{Results, Span},
};
use crate::sql::postgres::{Origin, Shown, read, trace_columns};

/// The places of a result in their order: what each is made of, `-` for nothing, `*` behind one of any number.
fn line(results: &Results) -> String {
    let mut line = String::new();
    for place in &results.columns {
        let mut names: Vec<&str> = results.names_of(place).map(|name| name.column.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let names = if names.is_empty() { "-".to_owned() } else { names.join("+") };
        let span = match place.span {
            Span::One => "",
            Span::Any => "*",
            Span::Unsure => "?",
        };
        write!(line, "{}{names}{span}", if line.is_empty() { "" } else { " " }).unwrap();
    }
    line
}

fn check(cases: &[(&str, &str)]) {
    let catalogue = shop();
    let mut wrong = String::new();
    for (text, expected) in cases {
        let found = match read(text, &catalogue) {
            Ok(statements) => {
                statements.iter().map(|statement| line(&statement.results)).collect::<Vec<_>>().join("; ")
            }
            Err(error) => format!("{}: {error}", error.rule()),
        };
        if found != *expected {
            writeln!(wrong, "{text}\n  expected {expected}\n  found    {found}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn each_column_is_made_of_what_its_own_expression_reads() {
    check(&[
        ("SELECT 1, email, now(), upper(email), name || '!' FROM customers", "- email - email name"),
        (
            "SELECT count(*), count(email), max(email), count(*) FILTER (WHERE name = 'a') FROM customers",
            "- - email -",
        ),
        ("SELECT row_number() OVER (ORDER BY id), lag(email) OVER (ORDER BY id) FROM customers", "- email"),
        ("SELECT EXISTS (SELECT email FROM customers), (SELECT email FROM customers LIMIT 1)", "- email"),
        (
            "SELECT CASE WHEN email LIKE 'a%' THEN 1 END, CASE WHEN id > 1 THEN name END FROM customers",
            "email id+name",
        ),
        ("SELECT email IS NULL, email IS NOT NULL, email = 'x' FROM customers", "- - email"),
        ("SELECT ctid, tableoid, xmin FROM customers", "- - -"),
        ("SELECT 'a' UNION ALL SELECT email FROM customers", "email"),
        ("SELECT id, 1, email FROM customers UNION ALL SELECT 2, name, 'x' FROM customers", "id name email"),
        ("VALUES (1, (SELECT email FROM customers LIMIT 1)), (2, 'x')", "- email"),
        ("SELECT s.b, s.a FROM (SELECT email, 1 FROM customers) AS s (a, b)", "- email"),
        ("SELECT * FROM (SELECT email, 1 FROM customers) AS s (a, b)", "email -"),
        (
            "WITH c AS (SELECT upper(email) AS x, count(*) AS n FROM customers) SELECT n, x, n + 1 FROM c",
            "- email -",
        ),
        (
            "WITH RECURSIVE r (n, x) AS (SELECT 1, email FROM customers UNION ALL SELECT n + 1, x FROM r WHERE n < 3) \
          SELECT * FROM r",
            "- email",
        ),
        (
            "WITH RECURSIVE r AS (SELECT 1 AS n, email FROM customers UNION ALL SELECT * FROM r) SELECT n, email FROM r",
            "- email",
        ),
        ("SELECT l.x, l.y FROM customers c, LATERAL (SELECT c.email AS x, 7 AS y) l", "email -"),
    ]);
}

#[test]
fn rows_and_their_fields_are_told_apart() {
    check(&[
        ("SELECT c.* FROM customers c", "id name email ssn"),
        ("SELECT (c).* FROM customers c", "id name email ssn"),
        ("SELECT (c).id, (c).email, (c).id + 1 FROM customers c", "id email id"),
        ("SELECT c FROM customers c", "email+id+name+ssn"),
        ("SELECT to_jsonb(c), 1 FROM customers c", "email+id+name+ssn -"),
        ("SELECT count(c), count(c.*), count(c.email) FROM customers c", "- - -"),
        ("SELECT count(s) FROM (SELECT email FROM customers) AS s", "-"),
        ("SELECT ROW(id, email), ROW(id, 1) FROM customers", "email+id id"),
        ("SELECT (SELECT c FROM customers c LIMIT 1).id", "email+id+name+ssn"),
        ("SELECT (jsonb_populate_record(NULL::customers, '{}')).*, email FROM customers", "-* email"),
    ]);
}

#[test]
fn columns_stand_where_the_server_puts_them() {
    check(&[
        ("SELECT *, upper(email) FROM customers", "id name email ssn email"),
        ("SELECT * FROM customers a JOIN customers b USING (id)", "id name email ssn name email ssn"),
        ("SELECT * FROM customers NATURAL JOIN (SELECT id, 1 AS x FROM customers) b", "id name email ssn -"),
        ("SELECT * FROM customers, generate_series(1, 2) g", "id name email ssn -"),
        ("SELECT * FROM customers, generate_series(1, 2) WITH ORDINALITY", "id name email ssn - -"),
        ("SELECT * FROM unnest(ARRAY[1]) u (id) JOIN customers USING (id)", "id -* name email ssn"),
        ("SELECT *, 1 FROM json_each('{}')", "-* -"),
        ("SELECT * FROM json_to_record('{}') AS r (a int, b text)", "- -"),
        ("SELECT * FROM nowhere", "*?"),
        (
            "INSERT INTO customers (id, name) VALUES (1, 'x') RETURNING *, (xmax = 0) AS inserted",
            "id name email ssn -",
        ),
        (
            "INSERT INTO customers (id, name) VALUES (1, 'x') RETURNING old.email, new.id, old.id",
            "email id id",
        ),
        ("UPDATE customers SET name = 'x' WHERE id = 1 RETURNING id, upper(email)", "id email"),
        ("DELETE FROM customers USING (SELECT 1 AS k) s WHERE id = k RETURNING *", "id name email ssn -"),
        // The source's columns come first.
        (
            "MERGE INTO customers c USING (SELECT 1 AS k) s ON c.id = s.k WHEN MATCHED THEN DELETE \
          RETURNING merge_action(), *",
            "- - id name email ssn",
        ),
        ("INSERT INTO customers (id) VALUES (1)", ""),
        ("SELECT 1; SELECT email FROM customers", "-; email"),
        ("SHOW search_path", "-*"),
        ("EXPLAIN ANALYZE SELECT email, name FROM customers", "email+name"),
        ("EXPLAIN SELECT email FROM customers", "-*"),
        ("DECLARE c CURSOR FOR SELECT name FROM customers", "-*"),
        ("SELECT * INTO TEMP t FROM customers", "id name email ssn"),
    ]);
}

#[test]
fn what_contradicts_the_statement_is_not_taken_for_an_expression_of_it() {
    let catalogue = shop();
    let statements = read("SELECT id, upper(email), now() FROM customers", &catalogue).unwrap();
    let results = &statements[0].results;
    let table = catalogue.resolve("customers").unwrap();
    let column = |attribute| Origin { table_oid: table.oid, attribute };
    let expression = Origin { table_oid: 0, attribute: 0 };
    let shown = |catalogue: &Catalogue, origins: &[Origin]| -> Vec<String> {
        let each = trace_columns(Some(results), catalogue, origins);
        let word = |shown: &Shown<'_>| match shown {
            Shown::Column(_, column) => column.name.clone(),
            Shown::Made(results, places) => {
                let names: Vec<&str> = places
                    .iter()
                    .flat_map(|place| results.names_of(place))
                    .map(|name| name.column.as_str())
                    .collect();
                format!("made of {}", names.join("+"))
            }
            other => format!("{other:?}").split('(').next().unwrap().to_owned(),
        };
        each.iter().map(word).collect()
    };
    assert_eq!(shown(&catalogue, &[column(1), expression, expression]), ["id", "made of email", "made of "]);
    assert_eq!(shown(&catalogue, &[column(1), expression]), ["id", "Unread"], "too few");
    assert_eq!(
        shown(&catalogue, &[column(2), expression, expression]),
        ["name", "Unread", "Unread"],
        "another one"
    );
    let unknown = Origin { table_oid: 4_000_000, attribute: 1 };
    assert_eq!(shown(&catalogue, &[column(1), expression, unknown]), ["id", "made of email", "Unknown"]);
    assert_eq!(shown(&catalogue, &[column(1), expression, column(0)]), ["id", "made of email", "Row"]);
    assert_eq!(shown(&catalogue, &[column(1), expression, column(-1)]), ["id", "made of email", "Nothing"]);
}
