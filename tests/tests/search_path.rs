//! The search path may be emptied and brought back, and names are read as the server reads them then; what is prepared,
//! bound or in one message with the change as well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use nodegate_tests::{
    postgres::Postgres,
    stage::Stage,
    wire::{Client, Reply},
};

const POLICY: &str = r#"
    @id("everything") permit (principal, action, resource);
    @id("mask-pii") @mask("partial")
    forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("pii") };
"#;

/// Whose `pg_cursors` and `pg_tables` are tables of the shop, as long as the path is that of the login.
fn stage() -> Stage {
    let postgres = Postgres::start();
    postgres.script(
        "CREATE TABLE public.pg_cursors (name text); INSERT INTO public.pg_cursors VALUES ('of the shop');
         CREATE TABLE public.pg_tables (schemaname text, tablename text);
         INSERT INTO public.pg_tables VALUES ('secret', 'secret');
         ALTER TABLE public.pg_cursors OWNER TO app_agent; ALTER TABLE public.pg_tables OWNER TO app_agent;
         ALTER ROLE app_agent SET search_path = public, pg_catalog;",
    );
    Stage::around(postgres, |settings| {
        POLICY.clone_into(&mut settings.policy);
        let tag = ("public.pg_tables.tablename".to_owned(), vec!["pii".to_owned()]);
        settings.targets[0].tags.push(tag);
    })
}

const UPPER: &str = "SELECT upper(email) FROM customers WHERE id = 1";

/// Insists that the one value is masked.
#[track_caller]
fn masked(reply: &Reply) {
    assert!(reply.errors.is_empty() && reply.texts() == [["[redacted]"]], "{reply:?}");
}

fn code(client: &mut Client, sql: &str) -> String {
    let reply = client.query(sql);
    reply.errors.first().map_or_else(String::new, |error| error.code().to_owned())
}

#[test]
fn names_are_those_of_the_path_that_is_in_force() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for (empty, back) in [
        ("SELECT pg_catalog.set_config('search_path', '', false)", "RESET search_path"),
        ("SET search_path = ''", "SET search_path TO DEFAULT"),
        ("set SEARCH_PATH to ''", "RESET ALL"),
        ("BEGIN; SET TRANSACTION READ ONLY", "ROLLBACK"),
        ("BEGIN READ ONLY", "COMMIT"),
    ] {
        assert_eq!(client.query("SELECT name FROM pg_cursors").texts(), [["of the shop"]], "{empty}");
        assert_eq!(code(&mut client, empty), "", "{empty}");
        if empty.starts_with("BEGIN") {
            assert_eq!(code(&mut client, "SET LOCAL search_path TO ''"), "");
        }
        // Now it is the server's own, which may show what other statements hold.
        assert_eq!(code(&mut client, "SELECT name FROM pg_cursors"), "42501", "{empty}");
        if !empty.starts_with("BEGIN") {
            assert_eq!(code(&mut client, "SELECT email FROM customers WHERE id = 1"), "42P01", "{empty}");
            masked(&client.query(&UPPER.replace("customers", "public.customers")));
        }
        assert_eq!(code(&mut client, back), "", "{back}");
        masked(&client.query(UPPER));
        masked(&client.query("SELECT tablename || '' FROM pg_tables"));
    }
}

#[test]
fn what_was_prepared_before_is_read_anew() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    client.parse("protocol", "SELECT name FROM pg_cursors");
    assert_eq!(client.sync().order, "1Z");
    client.query("PREPARE sql AS SELECT name FROM pg_cursors");
    assert_eq!(code(&mut client, "SET search_path = ''"), "");
    client.bind("", "protocol", &[], 0);
    client.execute("", 0);
    assert_eq!(client.sync().error().code(), "42501");
    assert_eq!(code(&mut client, "EXECUTE sql"), "42501");
    // And the other way round.
    client.query("PREPARE tables AS SELECT length(tablename::text) FROM pg_tables LIMIT 1");
    assert_eq!(client.query("EXECUTE tables").errors, []);
    assert_eq!(code(&mut client, "RESET search_path"), "");
    assert_eq!(client.query("EXECUTE tables").texts(), [["NULL"]]);
    // What may be seen masked may not be kept as it is.
    assert_eq!(code(&mut client, "CREATE TABLE kept AS EXECUTE tables"), "42501");
    assert_eq!(code(&mut client, "EXPLAIN ANALYZE CREATE TABLE kept AS EXECUTE tables"), "42501");
}

#[test]
fn a_portal_does_not_outlive_a_change_of_the_path() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    client.query("BEGIN");
    client.parse("", UPPER);
    client.bind("p", "", &[], 0);
    assert_eq!(client.sync().order, "12Z");
    assert_eq!(code(&mut client, "SET LOCAL search_path = ''"), "");
    client.execute("p", 0);
    let reply = client.sync();
    assert_eq!((reply.error().code(), reply.rows.len()), ("42501", 0));
}

#[test]
fn no_message_changes_the_path_under_its_own_statements() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let alone = "SET search_path = ''; SELECT * FROM pg_cursors";
    let reply = client.query(alone);
    assert!(reply.error().message().contains("stand behind the setting of search_path"), "{reply:?}");
    assert_eq!(code(&mut client, "SET search_path = ''"), "");
    for message in ["RESET ALL; SELECT max(tablename) FROM pg_tables", "RESET search_path; TABLE pg_tables"] {
        assert_eq!(code(&mut client, message), "42501", "{message}");
    }
    // As pools end a session's use.
    assert_eq!(code(&mut client, "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL"), "");
    masked(&client.query("SELECT max(tablename) FROM pg_tables"));
    client.query("BEGIN");
    assert_eq!(code(&mut client, "SET LOCAL search_path = ''"), "");
    assert_eq!(code(&mut client, "ROLLBACK; SELECT max(tablename) FROM pg_tables"), "42501");
}

#[test]
fn the_path_is_set_by_names_and_only_by_a_statement_of_its_own() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for sql in [
        "SET search_path = pg_catalog, public",
        "SET ROLE app_agent",
        "SET own.tenant = 5",
        "SELECT set_config('search_path', NULL, false)",
        "SELECT set_config('search_path', '', false) FROM products",
        "SELECT set_config('search_path', '', false), count(*) FROM pg_cursors",
        "DECLARE c CURSOR WITH HOLD FOR SELECT set_config('search_path', '', false)",
        "PREPARE p AS SELECT set_config('search_path', '', false)",
        "CREATE VIEW v AS SELECT set_config('search_path', '', false)",
        "CREATE TABLE t (a text DEFAULT set_config('search_path', '', false))",
        "EXPLAIN ANALYZE SELECT set_config('search_path', '', false)",
        "COPY (SELECT set_config('search_path', '', false)) TO STDOUT",
        "SELECT set_config('search_path', '', false) INTO t",
        "SELECT set_config(name, '', false) FROM pg_settings WHERE name = 'search_path'",
        "SELECT set_config(name, 'x', false) FROM pg_settings WHERE name <> 'lock_timeout'",
        "SELECT set_config(name, 'x', false) FROM pg_settings, products AS o (name) WHERE name = 'lock_timeout'",
    ] {
        assert_eq!(code(&mut client, sql), "42501", "{sql}");
    }
    let reply =
        client.query("SELECT set_config(name, '5s', false) FROM pg_settings WHERE name = 'lock_timeout'");
    assert_eq!(reply.texts(), [["5s"]]);
}

#[test]
fn a_statement_that_was_prepared_over_another_view_is_read_anew() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    client.query("CREATE VIEW shown AS SELECT id, name AS address, ''::text AS phone FROM products");
    client.query("PREPARE s AS SELECT max(address) FROM shown");
    assert_eq!(client.query("EXECUTE s").errors, []);
    stage.postgres.admin("ALTER VIEW shown RENAME TO gone; ALTER VIEW contacts RENAME TO shown");
    // Has the session read the schema anew.
    assert_eq!(code(&mut client, "CREATE TABLE more (id integer)"), "");
    masked(&client.query("EXECUTE s"));
}

#[test]
fn what_stood_before_a_masked_table_is_not_taken_for_it_once_it_is_gone() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for gone in [
        "DISCARD TEMP",
        "DISCARD ALL",
        "DROP TABLE customers",
        "DROP TABLE IF EXISTS pg_temp.customers",
        "ALTER TABLE customers RENAME TO others",
        "BEGIN; DROP TABLE customers; COMMIT",
    ] {
        assert_eq!(code(&mut client, "CREATE TEMP TABLE customers (id integer, email text)"), "", "{gone}");
        assert!(client.query(UPPER).rows.is_empty(), "{gone}");
        assert_eq!(code(&mut client, &format!("PREPARE shown AS {UPPER}")), "", "{gone}");
        for behind in [UPPER, "CREATE TABLE kept AS SELECT email FROM customers", "EXECUTE shown"] {
            let reply = client.query(&format!("{gone}; {behind}"));
            assert_eq!((reply.error().code(), reply.rows.len()), ("42501", 0), "{gone}; {behind}");
        }
        assert_eq!(code(&mut client, gone), "", "{gone}");
        masked(&client.query(UPPER));
        client.query("DEALLOCATE ALL");
    }
}

#[test]
fn statements_of_one_message_that_only_make_and_remove_are_taken() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for message in [
        "CREATE TABLE one (id integer); CREATE TABLE two (id integer)",
        "SELECT upper(email) FROM customers; DROP TABLE one",
        "DROP TABLE two; DISCARD TEMP; SELECT 1",
    ] {
        assert_eq!(code(&mut client, message), "", "{message}");
    }
}
