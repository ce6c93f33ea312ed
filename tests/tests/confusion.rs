//! An agent that tries to make the daemon believe a name, or a schema, means something else than it does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use nodegate_tests::{stage::Stage, wire::Reply};

const SECRET: &str = "SELECT email FROM customers WHERE id = 1";

/// Every byte of every row, as text: a real address must not be among them.
fn shown(reply: &Reply) -> String {
    let values = reply.rows.iter().flatten().flatten();
    values.map(|value| String::from_utf8_lossy(value).into_owned() + " ").collect()
}

#[test]
fn a_name_that_the_server_refuses_to_redefine_keeps_its_meaning() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    client.parse("s", SECRET);
    assert_eq!(client.sync().order, "1Z");
    // The server refuses this: "s" exists. A daemon that forgot that would run the old statement as the new.
    client.parse("s", "SELECT name FROM products");
    assert_eq!(client.sync().error().code(), "42P05");
    client.bind("", "s", &[], 0);
    client.execute("", 0);
    let reply = client.sync();
    assert!(reply.rows.len() == 1 && !shown(&reply).contains("hopper"), "{reply:?}");
}

#[test]
fn a_pipeline_that_does_not_wait_for_the_refusal_gains_nothing() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    client.parse("s", SECRET);
    client.send(b'S', &[]);
    // All of it in flight before the first answer: a redefinition that fails, and its use in the next batch.
    client.parse("s", "SELECT name FROM products");
    client.send(b'S', &[]);
    client.bind("", "s", &[], 0);
    client.execute("", 0);
    client.send(b'S', &[]);
    assert_eq!(client.until_ready().order, "1Z");
    assert_eq!(client.until_ready().error().code(), "42P05");
    let reply = client.until_ready();
    assert!(reply.rows.len() == 1 && !shown(&reply).contains("hopper"), "{reply:?}");
}

#[test]
fn an_unnamed_statement_that_was_skipped_is_not_the_one_that_runs() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    client.parse("", SECRET);
    assert_eq!(client.sync().order, "1Z");
    // The Bind fails, so the server skips the Parse behind it, and the old unnamed statement stays.
    client.bind("", "no-such-statement", &[], 0);
    client.parse("", "SELECT name FROM products");
    client.send(b'S', &[]);
    client.bind("", "", &[], 0);
    client.execute("", 0);
    client.send(b'S', &[]);
    assert_eq!(client.until_ready().error().code(), "26000");
    let reply = client.until_ready();
    assert!(!shown(&reply).contains("hopper"), "{reply:?}");
}

#[test]
fn a_wait_within_a_pipeline_ends_though_the_server_holds_its_answers_back() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    client.parse("a", "SELECT 1");
    client.send(b'S', &[]);
    client.parse("b", "SELECT 2");
    client.bind("", "a", &[], 0);
    client.execute("", 0);
    client.send(b'S', &[]);
    assert_eq!(client.until_ready().order, "1Z");
    assert_eq!(client.until_ready().texts(), [["1"]]);
}

#[test]
fn sql_and_protocol_share_the_names_of_prepared_statements() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    client.parse("s", SECRET);
    client.sync();
    let reply = client.query("EXECUTE s");
    assert!(!shown(&reply).contains("hopper"), "{reply:?}");
    client.query("PREPARE harmless AS SELECT name FROM products WHERE id = 1");
    client.bind("", "harmless", &[], 0);
    client.execute("", 0);
    assert_eq!(client.sync().rows.len(), 1);
    let unknown = client.query("EXECUTE nobody_prepared_this");
    assert_eq!(unknown.error().code(), "42501");
}

#[test]
fn a_portal_that_no_bind_has_made_does_not_run() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    client.query("BEGIN");
    client.query("DECLARE c CURSOR FOR SELECT name FROM products");
    client.execute("c", 1);
    let reply = client.sync();
    assert_eq!(reply.error().code(), "42501", "{reply:?}");
    assert_eq!(reply.status, 'E');
}

#[test]
fn a_column_renamed_behind_the_daemons_back_stays_masked() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    assert!(!shown(&client.query(SECRET)).contains("hopper"));
    stage.postgres.admin("ALTER TABLE customers RENAME COLUMN email TO contact_address");
    let reply = client.query("SELECT contact_address FROM customers WHERE id = 1");
    assert!(!shown(&reply).contains("hopper"), "{reply:?}");
    let reply = client.query("SELECT upper(contact_address) FROM customers WHERE id = 1");
    assert!(!shown(&reply).to_lowercase().contains("hopper"), "{reply:?}");
}

/// An agent that may change the schema, where e-mail addresses are masked for it all the same.
fn stage_with_ddl() -> Stage {
    let stage = Stage::new();
    stage.daemon.set_policy(
        r#"
        @id("everything") permit (principal, action, resource);
        @id("mask-pii") @mask("partial")
        forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("pii") };
        "#,
    );
    std::thread::sleep(std::time::Duration::from_millis(800));
    stage
}

#[test]
fn no_change_of_the_schema_takes_a_mask_off() {
    let stage = stage_with_ddl();
    stage.postgres.admin("ALTER TABLE customers OWNER TO app_agent");
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    assert!(client.query("CREATE TABLE notes (id int)").errors.is_empty(), "the control: DDL is allowed");
    assert!(client.query("ALTER TABLE notes RENAME TO remarks").errors.is_empty(), "so is renaming");
    let ways = [
        "ALTER TABLE customers RENAME TO people",
        "ALTER TABLE customers RENAME COLUMN email TO contact",
        "ALTER TABLE customers RENAME TO people; SELECT upper(email) FROM people",
        "CREATE VIEW shown AS SELECT email AS x FROM customers",
        "CREATE VIEW shown AS SELECT email AS x FROM customers; SELECT x FROM shown",
        "CREATE TABLE copy AS SELECT email FROM customers",
        "CREATE TABLE heir () INHERITS (customers); SELECT upper(email) FROM heir",
        "CREATE INDEX ON customers ((1 / length(email)))",
    ];
    for way in ways {
        let reply = client.query(way);
        assert!(!shown(&reply).to_lowercase().contains("hopper"), "{way}: {reply:?}");
        assert_eq!(reply.errors.len(), 1, "{way}: {reply:?}");
    }
    let reply = client.query("SELECT upper(email), email FROM customers WHERE id = 1");
    assert!(reply.rows.len() == 1 && !shown(&reply).to_lowercase().contains("hopper"), "{reply:?}");
}

#[test]
fn a_message_that_makes_what_it_reads_is_refused_where_something_is_masked() {
    let stage = stage_with_ddl();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let reply = client.query("CREATE TABLE notes (id int); INSERT INTO notes VALUES (1)");
    assert_eq!(reply.error().code(), "42501", "{reply:?}");
    assert!(reply.error().text().contains("one by one"), "{reply:?}");
    assert!(client.query("CREATE TABLE notes (id int)").errors.is_empty());
    assert_eq!(client.query("INSERT INTO notes VALUES (1)").tags, ["INSERT 0 1"]);
    client.query("BEGIN");
    assert!(client.query("CREATE TABLE more (id int)").errors.is_empty());
    assert_eq!(
        client.query("INSERT INTO more VALUES (1)").tags,
        ["INSERT 0 1"],
        "a transaction sees its own"
    );
    assert_eq!(client.query("ROLLBACK").status, 'I');
    assert_eq!(
        client.query("SELECT * FROM more").error().code(),
        "42P01",
        "and PostgreSQL names what is gone"
    );
}

#[test]
fn a_change_of_the_schema_that_is_rolled_back_leaves_no_gap_behind() {
    let stage = stage_with_ddl();
    stage.postgres.admin("ALTER TABLE customers OWNER TO app_agent");
    // Other objects of the owner stand in the column's way.
    stage.postgres.admin("DROP VIEW contacts");
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    // Every column that is masked: a name that is not known would be taken for any of those that are left.
    let drop_columns = "ALTER TABLE customers DROP COLUMN email CASCADE, DROP COLUMN phone CASCADE, \
                        DROP COLUMN ssn CASCADE";
    let secret = "SELECT upper(email) FROM customers WHERE id = 1";
    for (begin, undo) in [("BEGIN", "ROLLBACK"), ("BEGIN; SAVEPOINT s", "ROLLBACK TO s")] {
        for together in [false, true] {
            assert!(client.query(begin).errors.is_empty());
            let dropped = client.query(drop_columns);
            assert!(dropped.errors.is_empty(), "{dropped:?}");
            // This one is judged by the schema without the columns.
            assert_eq!(client.query("SELECT count(*) FROM customers").texts(), [["300"]]);
            let reply = if together {
                client.query(&format!("{undo}; {secret}"))
            } else {
                assert!(client.query(undo).errors.is_empty());
                client.query(secret)
            };
            assert!(!shown(&reply).to_lowercase().contains("hopper"), "{undo}, {together}: {reply:?}");
            client.query("ROLLBACK");
        }
    }
    // The answer to a message before the change must not be taken for the end of the change.
    client.send(b'Q', b"SELECT 1\0");
    client.send(b'Q', format!("BEGIN; {drop_columns}\0").as_bytes());
    assert!(client.until_ready().errors.is_empty());
    assert_eq!(client.until_ready().status, 'T');
    assert_eq!(client.query("SELECT count(*) FROM customers").texts(), [["300"]]);
    client.query("ROLLBACK");
    let reply = client.query(secret);
    assert!(reply.rows.len() == 1 && !shown(&reply).to_lowercase().contains("hopper"), "{reply:?}");
}

#[test]
fn a_copy_from_in_a_pipeline_is_no_tunnel_for_a_query() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    // While the server takes COPY data it drops queries: a daemon that counted on an answer would be out of step.
    client.send(b'Q', b"COPY products (name, price, stock) FROM STDIN\0");
    client.send(b'Q', b"SELECT 1\0");
    let reply = client.until_ready();
    assert!(reply.status == 'X' || !reply.errors.is_empty(), "{reply:?}");
}
