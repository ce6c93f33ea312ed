//! What a captured client sees of columns that policy masks, and that it sees everything else as it is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use nodegate_tests::{postgres, stage::Stage};

/// Something of a real address that must never be seen by an agent.
const REAL: &str = "hopper1@";

#[test]
fn an_address_is_masked_under_any_name_and_a_name_is_not() {
    let stage = Stage::new();
    let masked = stage.psql("SELECT email AS x, name FROM customers WHERE id = 1");
    let (email, name) = masked.ok().trim().split_once('|').expect("two columns");
    assert_ne!(email, "grace.hopper1@example.com");
    assert!(!email.contains("hopper") && email.contains('@'), "partly masked: {email}");
    assert_eq!(name, "Grace Hopper");
    let control =
        stage.direct(postgres::PASSWORD, &["-At", "-c", "SELECT email FROM customers WHERE id = 1"], "");
    assert!(control.ok().contains(REAL));
}

#[test]
fn the_secret_number_leaves_nothing() {
    let stage = Stage::new();
    let number = stage.postgres.admin("SELECT ssn FROM customers WHERE id = 1");
    let seen = stage.psql("SELECT ssn FROM customers WHERE id = 1");
    assert!(!seen.ok().contains(number.get(..3).unwrap()), "{} of {number}", seen.out);
}

#[test]
fn counts_nulls_and_types_stay_as_they_are() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let reply = client.query("SELECT id, email, phone, ssn, notes FROM customers ORDER BY id");
    let rows = reply.texts();
    assert_eq!(rows.len(), 300);
    assert_eq!(
        rows.iter().filter(|row| row[1] == "NULL").count(),
        15,
        "every NULL is a NULL and nothing else is"
    );
    assert_eq!(rows.iter().filter(|row| row[4] == "NULL").count(), 200);
    let types: Vec<u32> = reply.columns.iter().map(|column| column.type_oid).collect();
    assert_eq!(types, [23, 25, 25, 1043, 25], "int4, text, text, varchar, text");
    assert_eq!(reply.tags, ["SELECT 300"]);
    let counted = client.query("SELECT count(*), count(email), count(DISTINCT status) FROM customers, orders WHERE customer_id = customers.id");
    assert!(counted.errors.is_empty() || counted.error().code() == "42501", "{counted:?}");
    assert_eq!(client.query("SELECT count(*) FROM customers").texts(), [["300"]]);
    // What is shown as NULL is no secret.
    let counted = client.query("SELECT count(email), count(*) FILTER (WHERE email IS NULL) FROM customers");
    assert_eq!(counted.texts(), [["285", "15"]]);
    assert_eq!(client.query("SELECT id FROM customers WHERE email IS NULL").texts().len(), 15);
    let parted = client.query("SELECT count(nullif(left(email, 1), 'g')) FROM customers");
    assert_eq!(
        parted.texts(),
        [["NULL"]],
        "which address begins with what is a secret, and no number is shown for it"
    );
    // Neither does a computed value tell by being NULL, by its length or by what it holds.
    for expression in [
        "nullif(email, 'grace.hopper1@example.com')",
        "nullif(length(email), 25)",
        "email > 'h' AND NULL",
        "ARRAY[nullif(left(email, 1), 'g')]",
        "json_build_array(nullif(left(email, 1), 'g'))",
        "ROW(nullif(left(email, 1), 'g'))",
        "(SELECT max(email) FROM customers AS c WHERE c.id < customers.id)",
    ] {
        for format in [0, 1] {
            let sql = format!("SELECT {expression} FROM customers WHERE id IN (1, 2, 3)");
            let reply = client.extended(&sql, &[], format);
            assert!(reply.errors.is_empty(), "{sql}: {:?}", reply.errors);
            let rows = reply.texts();
            assert!(rows.len() == 3 && rows.iter().all(|row| *row == rows[0]), "{sql}: {rows:?}");
        }
    }
}

/// As many values as the agent likes would be put together, until the server says that it is too much.
#[test]
fn an_aggregate_that_collects_masked_values_is_refused() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for aggregate in ["array_agg(email)", "string_agg(email, ',')", "json_agg(email)", "jsonb_agg(customers)"]
    {
        for format in [0, 1] {
            let reply = client.extended(&format!("SELECT {aggregate} FROM customers"), &[], format);
            assert_eq!(reply.error().code(), "42501", "{aggregate}");
            assert!(reply.error().text().contains("Select the column itself"), "{}", reply.error().text());
        }
    }
    let clear = client.query("SELECT array_agg(id ORDER BY id) FROM customers WHERE id < 4");
    assert_eq!(clear.texts(), [["{1,2,3}"]], "what is not masked is all there");
}

#[test]
fn what_a_view_or_a_generated_column_computes_is_the_same_in_every_row_and_what_it_passes_on_is_masked() {
    let stage = Stage::new();
    stage.postgres.script(
        "SET ROLE app_agent;
         CREATE VIEW plain AS SELECT c.id, email AS mail FROM customers c LEFT JOIN orders o ON o.id = c.id;
         CREATE VIEW parted AS SELECT id, nullif(email, 'grace.hopper1@example.com') AS x FROM customers;
         CREATE VIEW deeper AS SELECT id, x AS y FROM parted;
         CREATE VIEW hidden AS SELECT s.id, s.y FROM (SELECT id, nullif(left(email, 1), 'g') AS y FROM customers) s;
         CREATE MATERIALIZED VIEW kept AS SELECT id, CASE WHEN email LIKE 'g%' THEN 1 END AS z FROM customers;
         ALTER TABLE customers ADD is_grace text GENERATED ALWAYS AS (nullif(left(email, 1), 'g')) STORED;",
    );
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let shown = client.query("SELECT mail FROM plain WHERE id IN (1, 2, 20) ORDER BY id").texts();
    assert_eq!(shown, [["g***@***.com"], ["a***@***.com"], ["NULL"]], "a column that is passed on");
    for sql in [
        "SELECT x FROM parted",
        "SELECT * FROM (SELECT x FROM parted) AS s",
        "SELECT y FROM deeper",
        "SELECT y FROM hidden",
        "SELECT z FROM kept",
        "SELECT is_grace FROM customers",
    ] {
        for format in [0, 1] {
            let rows = client.extended(&format!("{sql} LIMIT 40"), &[], format).texts();
            assert!(rows.len() == 40 && rows.iter().all(|row| *row == rows[0]), "{sql}: {rows:?}");
            // A number that is not to be seen is none.
            assert_eq!(rows[0], [if sql.contains('z') { "NULL" } else { "[redacted]" }], "{sql}");
        }
    }
}

#[test]
fn the_binary_format_is_masked_like_the_text_format() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for format in [0, 1] {
        let reply =
            client.extended("SELECT email AS x, id, name FROM customers WHERE id = $1", &["1"], format);
        assert!(reply.errors.is_empty(), "{:?}", reply.errors);
        assert_eq!(reply.columns[0].format, format);
        let row = &reply.rows[0];
        let email = String::from_utf8(row[0].clone().unwrap()).unwrap();
        assert!(!email.contains("hopper") && !email.is_empty(), "{email}");
        let id = if format == 1 { vec![0, 0, 0, 1] } else { b"1".to_vec() };
        assert_eq!(row[1].as_deref(), Some(&id[..]), "what is not masked is not touched");
        assert_eq!(row[2].as_deref(), Some(&b"Grace Hopper"[..]));
    }
}

#[test]
fn a_result_that_nobody_described_is_masked_too() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    client.parse("s", "SELECT email FROM customers WHERE id = 1");
    client.bind("", "s", &[], 0);
    client.execute("", 0);
    let reply = client.sync();
    let seen = String::from_utf8_lossy(reply.rows[0][0].as_deref().unwrap()).into_owned();
    assert!(!seen.contains("hopper"), "{seen}");
    client.bind("", "s", &[], 1);
    client.execute("", 0);
    let again = client.sync();
    let seen = String::from_utf8_lossy(again.rows[0][0].as_deref().unwrap()).into_owned();
    assert!(!seen.contains("hopper"), "a reused statement: {seen}");
}

#[test]
fn no_way_of_asking_shows_a_real_address() {
    let stage = Stage::new();
    // Each of these shows a real address to the role itself; to an agent it may be masked or refused.
    let ways = [
        "SELECT email FROM customers",
        "SELECT * FROM customers",
        "TABLE customers",
        "SELECT customers FROM customers",
        "SELECT c.* FROM customers AS c",
        "SELECT (c).email FROM customers AS c",
        "SELECT row_to_json(c) FROM customers AS c",
        "SELECT to_jsonb(c) ->> 'email' FROM customers AS c",
        "SELECT json_agg(c) FROM customers AS c",
        "SELECT upper(email) AS x FROM customers WHERE id = 1 UNION ALL SELECT lower(email) FROM customers",
        "SELECT email || '' FROM customers",
        "SELECT reverse(reverse(email)) FROM customers",
        "SELECT substr(email, 1, 40) FROM customers",
        "SELECT email::varchar FROM customers",
        "SELECT array_agg(email) FROM customers",
        "SELECT string_agg(email, ',') FROM customers",
        "SELECT min(email) FROM customers WHERE id = 1",
        "SELECT (SELECT email FROM customers WHERE id = 1)",
        "SELECT x FROM (SELECT email AS x FROM customers) AS sub",
        "WITH c AS (SELECT email AS x FROM customers) SELECT x FROM c",
        "WITH RECURSIVE c (x, n) AS (SELECT email, 1 FROM customers UNION ALL SELECT x, n + 1 FROM c WHERE n < 2) SELECT x FROM c",
        "SELECT name FROM products WHERE false UNION SELECT email FROM customers",
        "SELECT a.x FROM LATERAL (SELECT email AS x FROM customers) AS a",
        "SELECT coalesce(email, name) FROM customers",
        "SELECT CASE WHEN true THEN email END FROM customers",
        "SELECT address FROM contacts",
        "SELECT max(address) FROM contacts WHERE id = 1",
        "SELECT first_value(email) OVER (ORDER BY id) FROM customers",
        "COPY customers TO STDOUT",
        "COPY (SELECT email FROM customers) TO STDOUT",
        "VALUES ((SELECT email FROM customers WHERE id = 1))",
        "SELECT unnest(ARRAY(SELECT email FROM customers))",
        "SELECT query_to_xml('SELECT email FROM customers', true, false, '')",
        "SELECT email::integer FROM customers WHERE id = 1",
        "SELECT * FROM customers NATURAL JOIN contacts",
        "UPDATE customers SET notes = notes WHERE id = 1 RETURNING email",
        "SELECT histogram_bounds FROM pg_stats WHERE tablename = 'customers' AND attname = 'email'",
        "DECLARE c CURSOR WITH HOLD FOR SELECT email FROM customers WHERE id = 1; FETCH ALL FROM c",
        "PREPARE p AS SELECT email FROM customers WHERE id = 1; EXECUTE p",
        "BEGIN; DECLARE c CURSOR FOR SELECT email FROM customers; FETCH ALL FROM c; COMMIT",
        "CREATE TABLE copied AS SELECT email FROM customers; SELECT * FROM copied; DROP TABLE copied",
        "CREATE TEMP VIEW seen AS SELECT email AS x FROM customers; SELECT * FROM seen",
        "UPDATE customers SET name = email WHERE id = 1; SELECT name FROM customers WHERE id = 1",
        "DO $$ BEGIN RAISE NOTICE '%', (SELECT email FROM customers WHERE id = 1); END $$",
    ];
    let mut leaks = Vec::new();
    for way in ways {
        // One session each, and one message a statement, as a patient agent would try.
        let script = way.split("; ").fold(String::new(), |all, statement| all + statement + ";\n");
        let seen = stage.psql_script(&["-At"], &script);
        if seen.out.contains(REAL) || seen.err.contains(REAL) {
            leaks.push(way);
        }
    }
    assert_eq!(leaks, [""; 0], "these show a real address");
    for way in ways {
        let script = format!("BEGIN; {way}; ROLLBACK;\n").replace("; ", ";\n");
        let seen = stage.direct(postgres::PASSWORD, &["-At"], &script);
        let shown = format!("{}{}", seen.out, seen.err).to_lowercase();
        let binary_or_none =
            way.contains("reverse(reverse") || way.contains("pg_stats") || way.contains("NATURAL");
        assert!(shown.contains(REAL) || binary_or_none, "the control must show it: {way}\n{shown}");
    }
}

#[test]
fn a_predicate_on_a_masked_column_is_no_oracle() {
    let stage = Stage::new();
    for question in [
        "SELECT id FROM customers WHERE email LIKE 'grace.hopper1@%'",
        "SELECT count(*) FROM customers WHERE substr(email, 1, 1) = 'g'",
        "SELECT id FROM customers ORDER BY email LIMIT 1",
        "SELECT a.id FROM customers AS a JOIN customers AS b USING (email)",
        "SELECT count(*) FROM customers GROUP BY email",
        "SELECT id FROM contacts WHERE address > 'g'",
        "UPDATE customers SET notes = 'x' WHERE email LIKE 'grace%'",
    ] {
        let seen = stage.psql(question);
        assert_ne!(seen.status, 0, "{question} was answered: {}", seen.out);
        assert!(seen.err.contains("ERROR"), "{}", seen.err);
    }
    assert_eq!(
        stage.psql("SELECT id FROM customers WHERE name = 'Grace Hopper' ORDER BY id LIMIT 1").ok(),
        "1\n"
    );
}

#[test]
fn a_hashed_column_can_be_looked_up_where_policy_says_so_and_in_no_other_way() {
    let policy = r#"@id("all") permit (principal, action, resource);
        @id("pseudonyms") @mask("hash") @compare("equal") forbid (principal, action == Action::"sql:read", resource is Column)
        when { resource.name == "email" };"#;
    let stage = Stage::with(|settings| policy.clone_into(&mut settings.policy));
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let known = "grace.hopper1@example.com";
    for (sql, parameters) in [
        ("SELECT id, email FROM customers WHERE email = $1", &[known][..]),
        ("SELECT id, email FROM customers WHERE email = 'grace.hopper1@example.com'", &[]),
        ("SELECT id, email FROM customers WHERE email IN ('nobody', $1)", &[known]),
    ] {
        let reply = client.extended(sql, parameters, 0);
        assert!(reply.errors.is_empty(), "{sql}: {:?}", reply.errors);
        let rows = reply.texts();
        assert_eq!((rows.len(), rows[0][0].as_str()), (1, "1"), "{sql}");
        assert!(!rows[0][1].contains("hopper"), "{sql}: {}", rows[0][1]);
    }
    for sql in [
        "SELECT id FROM customers WHERE email > 'g'",
        "SELECT id FROM customers WHERE left(email, 1) = 'g'",
        "SELECT id FROM (SELECT id, left(email, 1) AS email FROM customers) c WHERE email = 'g'",
        "SELECT a.id FROM customers a JOIN customers b ON a.email = b.email",
        "SELECT id FROM customers ORDER BY email",
    ] {
        let reply = client.query(sql);
        assert_eq!(reply.error().code(), "42501", "{sql}");
        assert!(reply.error().message().contains("pseudonyms"), "{sql}: {}", reply.error().message());
    }
}
