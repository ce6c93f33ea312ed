//! What a refusal is to the client: an error with a reason, and a session that goes on as PostgreSQL would.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use nodegate_tests::stage::Stage;

#[test]
fn of_two_statements_in_one_message_neither_runs_and_the_session_goes_on() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let reply = client.query("SELECT 1; DROP TABLE customers");
    assert_eq!(reply.order, "EZ", "the harmless first statement must not have run");
    assert_eq!(reply.error().code(), "42501");
    assert!(reply.error().text().contains("no-drop"), "the policy is named: {:?}", reply.error());
    assert!(reply.error().text().contains("Ask the owner"), "and its advice: {:?}", reply.error());
    assert_eq!(reply.status, 'I');
    assert_eq!(client.query("SELECT count(*) FROM customers").texts(), [["300"]]);
}

#[test]
fn psql_shows_the_refusal_and_goes_on() {
    let stage = Stage::new();
    let script = "\\set VERBOSITY verbose\nDROP TABLE customers;\nSELECT count(*) FROM customers;\n";
    let seen = stage.psql_script(&["-At"], script);
    assert_eq!(seen.ok(), "300\n");
    assert!(
        seen.err.contains("42501") && seen.err.contains("no-drop") && seen.err.contains("HINT"),
        "{}",
        seen.err
    );
}

#[test]
fn a_refusal_inside_a_transaction_aborts_it_as_any_error_does() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    assert_eq!(client.query("BEGIN").status, 'T');
    let insert = "INSERT INTO products (name, price, stock) VALUES ('Ghost', 1, 1)";
    assert_eq!(client.query(insert).tags, ["INSERT 0 1"]);
    let refused = client.query("DROP TABLE customers");
    assert_eq!((refused.error().code(), refused.status), ("42501", 'E'));
    let after = client.query("SELECT 1");
    assert_eq!((after.error().code(), after.status), ("25P02", 'E'));
    let ended = client.query("COMMIT");
    assert_eq!((ended.tags, ended.status), (vec!["ROLLBACK".to_owned()], 'I'));
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM products WHERE name = 'Ghost'"), "0");
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
}

#[test]
fn a_refusal_after_a_savepoint_can_be_rolled_back_to_it() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    client.query("BEGIN");
    client.query("INSERT INTO products (name, price, stock) VALUES ('Kept', 1, 1)");
    client.query("SAVEPOINT here");
    assert_eq!(client.query("DROP TABLE customers").status, 'E');
    assert_eq!(client.query("ROLLBACK TO here").status, 'T');
    assert_eq!(client.query("COMMIT").tags, ["COMMIT"]);
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM products WHERE name = 'Kept'"), "1");
}

#[test]
fn a_refusal_in_a_pipeline_skips_to_sync_and_undoes_what_came_before() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let pipeline = |client: &mut nodegate_tests::wire::Client, middle: &str, name: &str| {
        let insert = format!("INSERT INTO products (name, price, stock) VALUES ('{name}', 1, 1)");
        for sql in [insert.as_str(), middle, "SELECT 7"] {
            client.parse("", sql);
            client.bind("", "", &[], 0);
            client.execute("", 0);
        }
        client.sync()
    };
    let good = pipeline(&mut client, "SELECT 6", "Piped");
    assert_eq!(good.order, "12C12DC12DCZ");
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM products WHERE name = 'Piped'"), "1");

    let refused = pipeline(&mut client, "DROP TABLE customers", "Unpiped");
    assert_eq!(refused.order, "12CEZ", "nothing after the refusal is answered before Sync");
    assert_eq!((refused.error().code(), refused.status), ("42501", 'I'));
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM products WHERE name = 'Unpiped'"), "0");
    assert_eq!(client.query("SELECT count(*) FROM customers").texts(), [["300"]]);
}

#[test]
fn a_named_statement_that_was_refused_does_not_exist() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    client.parse("dropper", "DROP TABLE customers");
    assert_eq!(client.sync().error().code(), "42501");
    client.bind("", "dropper", &[], 0);
    client.execute("", 0);
    assert_eq!(client.sync().error().code(), "26000", "prepared statement does not exist");
}

#[test]
fn what_the_policy_says_of_a_where_clause_holds() {
    let stage = Stage::new();
    let refused = stage.psql("DELETE FROM order_items");
    assert!(refused.err.contains("no-change-of-everything"), "{}", refused.err);
    assert_eq!(stage.psql("DELETE FROM order_items WHERE order_id = 1").ok(), "DELETE 2\n");
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM order_items"), "1198");
}

#[test]
fn what_cannot_be_read_is_refused_and_says_so() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for sql in [
        "SELEC 1",
        "SELECT 'unterminated",
        "DO $$ BEGIN DROP TABLE customers; END $$",
        "SELECT lo_import('/etc/passwd')",
        "SELECT dblink('x', 'y')",
        "COPY customers TO PROGRAM 'cat'",
        "SELECT set_config('role', 'postgres', false)",
        "SET session_authorization = postgres",
        "SET ROLE postgres",
        "ALTER ROLE app_agent PASSWORD 'mine'",
        "SELECT pg_terminate_backend(1)",
    ] {
        let reply = client.query(sql);
        assert_eq!(reply.errors.len(), 1, "{sql}: {reply:?}");
        assert_eq!(reply.status, 'I', "{sql}");
        assert!(!reply.order.contains('D'), "{sql}");
    }
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM customers"), "300");
}

#[test]
fn what_is_no_sql_to_the_server_either_fails_in_its_own_words() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for (sql, position) in [
        ("SELECT id FORM customers", "16"),
        ("SELECT 1; SELEC 2", "11"),
        ("SELECT 'unterminated", "8"),
        ("DELETE FROM customers WHERE", "28"),
        (r"SELECT E'wrong: \u061'", "17"),
    ] {
        let simple = client.query(sql);
        client.parse("", sql);
        let extended = client.sync();
        for reply in [simple, extended] {
            let error = reply.error();
            let code = if sql.contains('\\') { "22025" } else { "42601" };
            assert_eq!((error.code(), error.field('P')), (code, position), "{sql}: {error:?}");
            assert_eq!((reply.order.as_str(), reply.status), ("EZ", 'I'), "{sql}");
        }
    }
    let script = "SELECT id\nFORM customers;\n";
    let seen = stage.psql_script(&["-At"], script);
    assert!(seen.err.contains("LINE 2: FORM customers;\n             ^"), "{}", seen.err);
    // As after any error.
    client.query("BEGIN");
    assert_eq!(client.query("SELEC").status, 'E');
    assert_eq!(client.query("SELEC").error().code(), "42601");
    assert_eq!(client.query("SELECT 1").error().code(), "25P02");
    assert_eq!(client.query("ROLLBACK").status, 'I');
    // In a pipeline, what comes behind it is skipped.
    client.parse("", "SELEC");
    client.bind("", "", &[], 0);
    client.execute("", 0);
    assert_eq!(client.sync().order, "EZ");
    assert_eq!(client.extended("SELECT $1::text", &["x"], 0).texts(), [["x"]]);
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM customers"), "300");
}

#[test]
fn what_only_the_server_can_read_is_refused_and_nothing_of_it_is_left() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let sql = "SELECT system_user FROM (SELECT 1) AS t (system_user)";
    // The word is reserved since PostgreSQL 16, and so to nodegate.
    let version: u32 = stage.postgres.admin("SHOW server_version_num").parse().unwrap();
    let code = if version < 160_000 { "42501" } else { "42601" };
    for _ in 0..2 {
        let reply = client.query(sql);
        assert_eq!((reply.error().code(), reply.order.as_str()), (code, "EZ"));
        client.parse("", sql);
        assert_eq!(client.sync().error().code(), code);
        client.bind("", "", &[], 0);
        client.execute("", 0);
        let reply = client.sync();
        assert!(!reply.errors.is_empty() && reply.rows.is_empty(), "{reply:?}");
        client.parse("named", sql);
        assert_eq!(client.sync().error().code(), "42501");
    }
    // It may not learn either whether something is there.
    for relation in ["customers", "nothing"] {
        let reply = client.query(&format!("{sql}, {relation} AS {relation}"));
        assert_eq!(reply.error().code(), code, "{relation}");
    }
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
}

#[test]
fn function_calls_by_the_old_fast_path_are_refused() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    // pg_backend_pid is function 2026; no arguments, text result.
    let mut body = 2026_u32.to_be_bytes().to_vec();
    body.extend([0; 6]);
    client.send(b'F', &body);
    let reply = client.until_ready();
    assert!(!reply.errors.is_empty() && !reply.order.contains('V'), "{reply:?}");
}
