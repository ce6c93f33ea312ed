//! What can arrive in which column, in short form: `column` for new rows, `column!` for those that are there; then each
//! value, `=` as it stands, `?` unless it is NULL, `*` as an element, `~` as a part of something.

use std::fmt::Write as _;

use super::{
    super::written::{Carried, Rows, Way, written},
    shop,
};

fn short(text: &str) -> String {
    let catalogue = shop();
    let all = written(text, &catalogue, &|column| ["email", "ssn", "mail"].contains(&column.column.as_str()))
        .unwrap();
    let mut sinks = Vec::new();
    for statement in all {
        if let Some(executes) = &statement.executes {
            sinks.push(format!("execute {} {:?}", executes.name, executes.arguments.len()));
        }
        for sink in statement.sinks {
            let values = sink.values.iter().map(|arrival| {
                let way = match arrival.way {
                    Way::Itself => "=",
                    Way::UnlessNull => "?",
                    Way::Element => "*",
                    Way::Within => "~",
                };
                match &arrival.carried {
                    Carried::Null => format!("{way}NULL"),
                    Carried::Text(text) => format!("{way}{text}"),
                    Carried::Parameter(number) => format!("{way}${}", number + 1),
                }
            });
            let rows = if sink.rows == Rows::There { "!" } else { "" };
            sinks.push(format!("{}{rows} {}", sink.column.column, values.collect::<Vec<_>>().join(" ")));
        }
    }
    sinks.join("; ")
}

#[test]
fn values_are_followed_to_the_columns_that_they_arrive_in() {
    let mut wrong = String::new();
    for (text, expected) in [
        (
            "INSERT INTO customers VALUES (1, 'n', 'a', $1), (2, 'm', NULL, DEFAULT)",
            "email =NULL =a; ssn =$1",
        ),
        ("INSERT INTO customers (ssn, id) VALUES (0, 1), (-5, 2), (1.5, 3), (true, 4)", "ssn =-5 =0 =1.5 =t"),
        ("INSERT INTO customers (name) VALUES ('a')", ""),
        ("INSERT INTO orders VALUES (1, 2, 3, 'a')", ""),
        ("INSERT INTO customers (id, email) SELECT 1, note FROM orders", "email "),
        ("INSERT INTO customers (id, email) SELECT v.* FROM (VALUES (1, 'a'), (2, $1)) AS v", "email =a =$1"),
        (
            "INSERT INTO customers (id, email) SELECT i, m FROM (VALUES (1, 'a')) AS v (i, m) JOIN orders ON true",
            "email =a",
        ),
        ("INSERT INTO customers (id, email) SELECT 1, 'a' UNION ALL SELECT 2, 'b'", "email =a =b"),
        ("INSERT INTO customers (id, email) TABLE notes", "email "),
        (
            "WITH v AS (SELECT 1 AS i, 'a' AS m) INSERT INTO customers (id, email) SELECT i, m FROM v",
            "email =a",
        ),
        (
            "WITH n AS (INSERT INTO notes VALUES (1, 'a') RETURNING body) INSERT INTO customers (email) SELECT body FROM n",
            "email =1 =a",
        ),
        (
            "WITH RECURSIVE r (m) AS (VALUES ('a') UNION SELECT m || 'b' FROM r) INSERT INTO customers (email) SELECT m FROM r",
            "email =a ~a ~b",
        ),
        ("INSERT INTO customers (email) SELECT unnest($1::text[])", "email *$1"),
        ("INSERT INTO customers (id, email) SELECT * FROM unnest($1, $2)", "email *$2"),
        ("INSERT INTO customers (email) SELECT m FROM unnest(ARRAY['a', NULL]) AS m", "email =NULL =a"),
        (
            "INSERT INTO customers (email) SELECT r.email FROM json_to_recordset($1) AS r (email text)",
            "email ~$1",
        ),
        ("INSERT INTO customers SELECT (json_populate_record(null::customers, $1)).*", "email ~$1; ssn ~$1"),
        (
            "INSERT INTO customers (id, email) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET email = excluded.email, ssn = 'b'",
            "email =$1; email! =$1; ssn! =b",
        ),
        ("INSERT INTO customers (id, email) VALUES (1, $1) ON CONFLICT DO NOTHING", "email =$1"),
        ("INSERT INTO customer_mail VALUES (1, 'a')", "mail =a"),
        ("UPDATE customers SET email = $1, name = 'x' WHERE ssn = 'b'", "email! =$1"),
        ("UPDATE customers SET email = name", "email! "),
        ("UPDATE customers SET (name, email) = ('x', $1)", "email! =$1"),
        ("UPDATE customers SET (email, ssn) = (SELECT 'a', $1)", "email! =a; ssn! =$1"),
        ("UPDATE customers SET email = CASE id WHEN 0 THEN 'a' ELSE $1 END", "email! ~0 =a =$1"),
        ("UPDATE customers SET email = COALESCE($1, NULL, 'c')", "email! =c ?$1"),
        ("UPDATE customers SET email = COALESCE($1, NULL)", "email! =NULL ?$1"),
        ("UPDATE customers SET email = nullif($1, '')::varchar(9) COLLATE \"C\"", "email! ~ =$1"),
        ("UPDATE customers SET email = lower('A' || $1)", "email! ~A ~$1"),
        ("UPDATE customers SET email = 'a' || 'b'", "email! =ab ~a ~b"),
        ("UPDATE customers SET email = (SELECT m FROM (VALUES ('a')) v (m) WHERE m = 'b')", "email! =a"),
        ("UPDATE customers SET email = v.m FROM (VALUES (1, 'a')) AS v (i, m) WHERE id = v.i", "email! =a"),
        (
            "UPDATE customers SET email = m FROM unnest($1::int[], $2::text[]) AS u (i, m) WHERE id = i",
            "email! *$2",
        ),
        ("UPDATE customers SET email[1] = 'a'", "email! ~a"),
        ("UPDATE customers SET email = DEFAULT", "email! "),
        ("UPDATE customers SET email = ARRAY[]::text[]", "email! ={}"),
        (
            "MERGE INTO customers c USING (VALUES (1, $1)) AS s (i, m) ON c.id = s.i WHEN MATCHED THEN UPDATE SET email = s.m \
          WHEN NOT MATCHED THEN INSERT (id, email) VALUES (s.i, s.m)",
            "email =$1; email! =$1",
        ),
        (
            "MERGE INTO customers c USING orders o ON c.id = o.id WHEN NOT MATCHED THEN INSERT VALUES (1, 'n', 'a', 'b')",
            "email =a; ssn =b",
        ),
        ("EXPLAIN UPDATE customers SET email = 'a'", "email! =a"),
        ("PREPARE q AS UPDATE customers SET email = $1", "email! =$1"),
        ("EXECUTE q('a', 1)", "execute q 2"),
        ("COPY (UPDATE customers SET email = 'a' RETURNING id) TO STDOUT", "email! =a"),
        (
            "SELECT 'a' AS email; UPDATE customers SET email = 'b'; DELETE FROM customers WHERE email = 'c'",
            "email! =b",
        ),
    ] {
        let found = short(text);
        if found != expected {
            writeln!(wrong, "{text}\n  expected {expected}\n  found    {found}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn the_fields_of_copy_are_those_of_its_columns() {
    let catalogue = shop();
    let copy = |text: &str| {
        let mut all = written(text, &catalogue, &|column| column.column == "email").unwrap();
        all.remove(0).copy
    };
    let names = |text: &str| -> Vec<String> {
        copy(text).unwrap().columns.into_iter().map(|column| column.column).collect()
    };
    assert_eq!(names("COPY customers FROM STDIN"), ["id", "name", "email", "ssn"]);
    assert_eq!(names("COPY customers (email, id) FROM STDIN WITH (FORMAT csv)"), ["email", "id"]);
    for text in [
        "COPY customers TO STDOUT",
        "COPY orders FROM STDIN",
        "COPY customers (id) FROM STDIN",
        "COPY customers FROM '/x'",
    ] {
        assert_eq!(copy(text), None, "{text}");
    }
    for (options, known) in [
        ("", true),
        ("(ENCODING 'UTF-8')", true),
        ("(ENCODING 'latin1')", true),
        ("(ENCODING 'GB18030')", false),
    ] {
        assert_eq!(
            copy(&format!("COPY customers FROM STDIN {options}")).unwrap().is_in_known_encoding,
            known,
            "{options}"
        );
    }
}

#[test]
fn what_is_too_much_to_follow_is_an_error_and_many_rows_are_not() {
    let catalogue = shop();
    let rows: Vec<String> = (0..6_000).map(|id| format!("({id}, 'n', 'm{id}', NULL)")).collect();
    let text = format!("INSERT INTO customers VALUES {}", rows.join(", "));
    let started = std::time::Instant::now();
    let found = written(&text, &catalogue, &|column| column.column == "email").unwrap();
    assert_eq!(found[0].sinks[0].values.len(), 6_000);
    assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
    let deep = format!("UPDATE customers SET email = {}'a'{}", "lower(".repeat(1_500), ")".repeat(1_500));
    assert!(written(&deep, &catalogue, &|_| true).is_err());
}
