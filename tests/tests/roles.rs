//! Where nothing is masked, policy decides on another search path, another role and parameters that nodegate does not
//! know; names are read as the server reads them then.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use nodegate_tests::{postgres::Postgres, stage::Stage, wire::Client};

/// Everything but one table of another schema, and one of the role that the login may become.
const POLICY: &str = r#"
    @id("everything") permit (principal, action, resource);
    @id("hidden") forbid (principal, action, resource == Table::"shop/shelf.orders");
    @id("clerks") forbid (principal, action, resource == Table::"shop/clerk.orders");
"#;

fn stage(policy: &str) -> Stage {
    let postgres = Postgres::start();
    postgres.script(
        "CREATE ROLE clerk; GRANT clerk TO app_agent;
         CREATE SCHEMA shelf; CREATE TABLE shelf.orders (id integer); CREATE TABLE shelf.books (id integer);
         CREATE SCHEMA clerk; CREATE TABLE clerk.orders (id integer);
         GRANT USAGE ON SCHEMA shelf, clerk TO app_agent, clerk;
         GRANT SELECT ON ALL TABLES IN SCHEMA shelf, clerk TO app_agent, clerk;",
    );
    Stage::around(postgres, |settings| {
        policy.clone_into(&mut settings.policy);
        settings.targets[0].tags.clear();
    })
}

/// The SQLSTATE of an error, and the first policy that it names; nothing for success.
fn outcome(client: &mut Client, sql: &str) -> String {
    let reply = client.query(sql);
    let named = |text: &str| {
        ["hidden", "clerks", "builtin/session-state", "search-path-alone", "schema-in-message"]
            .into_iter()
            .find(|rule| text.contains(rule))
            .unwrap_or_default()
            .to_owned()
    };
    reply
        .errors
        .first()
        .map_or_else(String::new, |error| format!("{} {}", error.code(), named(&error.text())))
}

#[test]
fn names_are_judged_by_the_path_that_is_set() {
    let stage = stage(POLICY);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for (set, back) in [
        ("SET search_path = shelf, public", "RESET search_path"),
        ("SET SCHEMA 'shelf'", "RESET ALL"),
        ("BEGIN; SET TRANSACTION READ ONLY", "ROLLBACK"),
        ("BEGIN", "COMMIT"),
    ] {
        assert_eq!(outcome(&mut client, "SELECT id FROM orders"), "", "{set}");
        assert_eq!(outcome(&mut client, "SELECT id FROM books"), "42P01 ", "{set}");
        if set.starts_with("BEGIN") {
            // The error ends a transaction: it comes before one.
            assert_eq!(outcome(&mut client, set), "");
            assert_eq!(outcome(&mut client, "SET LOCAL search_path = shelf, public"), "");
        } else {
            assert_eq!(outcome(&mut client, set), "");
        }
        assert_eq!(outcome(&mut client, "SELECT id FROM books"), "", "{set}");
        if !set.starts_with("BEGIN") {
            assert_eq!(outcome(&mut client, "SELECT id FROM orders"), "42501 hidden", "{set}");
            assert_eq!(outcome(&mut client, "SELECT id FROM public.orders"), "", "{set}");
        }
        assert_eq!(outcome(&mut client, back), "", "{set}");
    }
    for sql in [
        "SET search_path = pg_catalog, public",
        "SET search_path = pg_temp, public",
        "SELECT set_config('search_path', 'shelf, pg_catalog', false)",
        "SET standard_conforming_strings = off",
        "SET client_encoding = latin1",
    ] {
        assert_eq!(outcome(&mut client, sql), "42501 builtin/session-state", "{sql}");
    }
    assert_eq!(outcome(&mut client, "SET search_path = shelf, pg_temp"), "");
    client.query("PREPARE ids AS SELECT id FROM books");
    assert_eq!(outcome(&mut client, "CREATE TEMPORARY TABLE books AS EXECUTE ids"), "");
    assert_eq!(client.query("SELECT count(*) FROM pg_temp.books").texts(), [["0"]]);
    assert_eq!(client.query("SELECT name FROM pg_prepared_statements").texts(), [["ids"]]);
    assert_eq!(outcome(&mut client, "SET search_path = shelf; TABLE orders"), "42501 search-path-alone");
}

#[test]
fn the_login_may_become_another_role_where_policy_allows_it() {
    let stage = stage(POLICY);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let user = |client: &mut Client| client.query("SELECT current_user").texts()[0][0].clone();
    for (set, back) in [
        ("SET ROLE clerk", "RESET ROLE"),
        ("SET role = 'clerk'", "SET ROLE TO DEFAULT"),
        ("SELECT set_config('role', 'clerk', false)", "SET SESSION AUTHORIZATION DEFAULT"),
        ("SET ROLE clerk", "DISCARD ALL"),
    ] {
        assert_eq!(outcome(&mut client, set), "", "{set}");
        assert_eq!(user(&mut client), "clerk", "{set}");
        // By the default path, names are those of the schema that is called like the role.
        assert_eq!(outcome(&mut client, "SELECT id FROM orders"), "42501 clerks", "{set}");
        let together = outcome(&mut client, &format!("{back}; SELECT id FROM orders"));
        assert!(together.starts_with("42501"), "{back}: {together}");
        assert_eq!(outcome(&mut client, back), "", "{back}");
        assert_eq!(user(&mut client), "app_agent", "{back}");
        assert_eq!(outcome(&mut client, "SELECT id FROM orders"), "", "{back}");
    }
    // Also where it may call less than others: the schema is read as that role.
    stage.postgres.admin("REVOKE ALL ON FUNCTION pg_catalog.int8(integer) FROM PUBLIC");
    client.query("BEGIN");
    assert_eq!(outcome(&mut client, "SET LOCAL ROLE clerk"), "");
    assert_eq!(outcome(&mut client, "SELECT id FROM orders"), "42501 clerks");
    client.query("ROLLBACK");
    assert_eq!(outcome(&mut client, "SELECT id FROM orders"), "");
    assert_eq!(outcome(&mut client, "SET ROLE postgres"), "42501 ", "the server's own");
}

#[test]
fn it_is_code_of_unknown_effect_to_policies() {
    let stage = stage(
        r#"@id("all") permit (principal, action, resource);
           @id("hidden") forbid (principal, action == Action::"sql:call", resource);"#,
    );
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for sql in [
        "SET ROLE clerk",
        "SET SESSION AUTHORIZATION clerk",
        "SET session_replication_role = replica",
        "SET own.tenant = 5",
        "SELECT set_config('own.tenant', '5', false)",
    ] {
        assert_eq!(outcome(&mut client, sql), "42501 hidden", "{sql}");
    }
    for sql in ["RESET ROLE", "RESET own.tenant", "SET search_path = shelf", "SET work_mem = '5MB'"] {
        assert_eq!(outcome(&mut client, sql), "", "{sql}");
    }
}

#[test]
fn what_a_new_schema_brings_along_is_judged_as_in_it() {
    let stage = stage(
        r#"@id("all") permit (principal, action, resource);
           @id("hidden") forbid (principal, action, resource == Table::"shop/fresh.secret");"#,
    );
    stage.postgres.admin("GRANT CREATE ON DATABASE shop TO app_agent");
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let made =
        "CREATE SCHEMA fresh CREATE TABLE things (id integer) CREATE VIEW seen AS SELECT id FROM things";
    assert_eq!(outcome(&mut client, made), "");
    assert_eq!(outcome(&mut client, "SELECT id FROM fresh.seen"), "");
    assert_eq!(outcome(&mut client, "DROP SCHEMA fresh CASCADE"), "");
    assert_eq!(outcome(&mut client, "CREATE SCHEMA fresh CREATE TABLE secret ()"), "42501 hidden");
}
