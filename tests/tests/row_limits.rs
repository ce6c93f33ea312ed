//! `@max_rows`: what changes more rows than policy allows is undone, however it comes, and nobody ever sees it done.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{fmt::Write as _, io::Write as _, net::Shutdown, process::Command, thread, time::Duration};

use nodegate_tests::{
    postgres::{Options, Postgres},
    programs::{self, wait_for},
    stage::Stage,
    wire::{self, Client, Reply},
};

/// At most ten rows of `parts`, three of `gadgets`; anything else as before.
const POLICY: &str = r#"
@id("all") permit (principal, action, resource);
@id("few-rows") @max_rows("10") @message("Ask a DBA.")
forbid (
    principal,
    action in [Action::"sql:insert", Action::"sql:update", Action::"sql:delete", Action::"sql:merge", Action::"sql:truncate"],
    resource == Table::"shop/public.parts"
);
@id("fewer-rows") @max_rows("3")
forbid (principal, action in [Action::"sql:update", Action::"sql:delete"], resource == Table::"shop/public.gadgets");
@id("more-rows") @max_rows("50")
forbid (principal, action == Action::"sql:update", resource == Table::"shop/public.gadgets");
"#;

const TABLES: &str = "
    CREATE TABLE parts (id int PRIMARY KEY, name text);
    CREATE TABLE gadgets (id int PRIMARY KEY, name text);
    CREATE TABLE tools (id int PRIMARY KEY, name text);
    CREATE TABLE checked (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);
    INSERT INTO parts SELECT n, 'part' FROM generate_series(1, 100) AS n;
    INSERT INTO gadgets SELECT n, 'gadget' FROM generate_series(1, 100) AS n;
    INSERT INTO tools SELECT n, 'tool' FROM generate_series(1, 100) AS n;
    ALTER TABLE parts OWNER TO app_agent;
    ALTER TABLE gadgets OWNER TO app_agent;
    ALTER TABLE tools OWNER TO app_agent;
    ALTER TABLE checked OWNER TO app_agent;
";

fn stage() -> Stage {
    stage_with("")
}

/// A stage whose server has these settings as well.
fn stage_with(settings: &str) -> Stage {
    let postgres = Postgres::with(&Options { settings, ..Options::default() });
    postgres.script(TABLES);
    Stage::around(postgres, |settings| POLICY.clone_into(&mut settings.policy))
}

/// All rows of `parts`, as somebody else sees them.
const SUM: &str = "SELECT md5(string_agg(parts::text, ';' ORDER BY id)) FROM parts";

/// Insists that the reply is the refusal of so many rows.
fn assert_refused(reply: &Reply, rows: u32, status: char) {
    let error = reply.error();
    assert_eq!((error.code(), reply.status), ("42501", status), "{reply:?}");
    assert_eq!(
        error.message(),
        format!(
            "nodegate: the statement changes {rows} rows, and policy \"few-rows\" allows 10: nothing was changed"
        )
    );
    assert_eq!((error.field('D'), error.field('H')), ("policy: few-rows", "Ask a DBA."));
}

#[test]
fn outside_of_a_block_more_rows_than_allowed_leave_nothing_behind() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let before = stage.postgres.admin(SUM);
    for sql in [
        "UPDATE parts SET name = 'gone'",
        "UPDATE parts SET name = 'gone' WHERE id = id",
        "UPDATE parts SET name = 'gone' WHERE id > 0 OR name LIKE '%x%'",
        "UPDATE parts AS p SET name = 'gone' FROM tools AS t WHERE p.id = t.id",
        "DELETE FROM parts WHERE name IS NOT NULL",
        "INSERT INTO parts SELECT id + 1000, name FROM tools",
        "INSERT INTO parts SELECT id, 'gone' FROM tools ON CONFLICT (id) DO UPDATE SET name = excluded.name",
        "MERGE INTO parts AS p USING tools AS t ON p.id = t.id WHEN MATCHED THEN UPDATE SET name = 'gone'",
        "MERGE INTO parts AS p USING tools AS t ON p.id = t.id WHEN MATCHED THEN DELETE",
    ] {
        let reply = client.query(sql);
        assert_refused(&reply, 100, 'I');
        assert_eq!(reply.order, "EZ", "{sql}");
        assert_eq!(stage.postgres.admin(SUM), before, "{sql}");
        // Nothing is left open.
        assert_eq!(client.query("SHOW transaction_isolation").status, 'I');
        let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'";
        assert_eq!(stage.postgres.admin(open), "0", "{sql}");
    }
    for (sql, tag) in [
        ("UPDATE parts SET name = 'ten' WHERE id <= 10", "UPDATE 10"),
        ("UPDATE parts SET name = 'none' WHERE id < 0", "UPDATE 0"),
        ("DELETE FROM parts WHERE id > 90", "DELETE 10"),
        ("INSERT INTO parts SELECT id, 'new' FROM tools WHERE id > 95", "INSERT 0 5"),
        (
            "MERGE INTO parts AS p USING tools AS t ON p.id = t.id AND t.id < 3 WHEN MATCHED THEN DELETE",
            "MERGE 2",
        ),
    ] {
        let reply = client.query(sql);
        assert_eq!((reply.order.as_str(), reply.tags[0].as_str(), reply.status), ("CZ", tag, 'I'), "{sql}");
    }
    assert_refused(&client.query("UPDATE parts SET name = 'eleven' WHERE id BETWEEN 20 AND 30"), 11, 'I');
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM parts WHERE name = 'ten'"), "8");
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM parts"), "93");
    // Rows that were returned before the count was known are like those before any error.
    let reply = client.query("UPDATE parts SET name = 'seen' RETURNING id");
    assert_refused(&reply, 93, 'I');
    assert_eq!((reply.rows.len(), reply.tags.len()), (93, 0));
    let reply = client.query("DELETE FROM parts WHERE id = 50 RETURNING id");
    assert_eq!((reply.order.as_str(), reply.tags[0].as_str()), ("TDCZ", "DELETE 1"));
    // What fails by itself fails in the server's words.
    let reply = client.query("UPDATE parts SET id = 51 WHERE id = 52");
    assert_eq!((reply.error().code(), reply.order.as_str(), reply.status), ("23505", "EZ", 'I'));
    assert_eq!(client.query("UPDATE parts SET nothing = 1").error().code(), "42703");
}

#[test]
fn psql_shows_the_refusal_and_goes_on() {
    let stage = stage();
    let said = stage.psql_script(
        &["-At"],
        "UPDATE parts SET name = 'gone' WHERE id = id;\nSELECT count(*) FROM parts WHERE name = 'gone';\n\
         UPDATE parts SET name = 'x' WHERE id = 1;\n",
    );
    assert_eq!(said.out, "0\nUPDATE 1\n", "{said:?}");
    for word in ["100 rows", "\"few-rows\" allows 10", "policy: few-rows", "Ask a DBA."] {
        assert!(said.err.contains(word), "{}", said.err);
    }
}

#[test]
fn the_least_limit_counts_and_what_has_none_has_none() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let reply = client.query("UPDATE gadgets SET name = 'gone' WHERE id <= 4");
    assert!(reply.error().message().contains("policy \"fewer-rows\" allows 3"), "{reply:?}");
    assert!(reply.error().field('H').starts_with("Narrow the statement"), "{reply:?}");
    assert_eq!(client.query("UPDATE gadgets SET name = 'x' WHERE id <= 3").tags, ["UPDATE 3"]);
    assert_eq!(client.query("INSERT INTO gadgets SELECT id + 100, name FROM tools").tags, ["INSERT 0 100"]);
    assert_eq!(client.query("UPDATE tools SET name = 'all'").tags, ["UPDATE 100"]);
    assert_eq!(client.query("SELECT id FROM parts").rows.len(), 100);
}

#[test]
fn inside_a_block_the_transaction_has_failed_until_it_is_rolled_back() {
    let stage = stage_with("log_min_messages = error\n");
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let before = stage.postgres.admin(SUM);
    assert_eq!(client.query("BEGIN").status, 'T');
    assert_eq!(client.query("UPDATE tools SET name = 'first'").status, 'T');
    assert_eq!(client.query("UPDATE parts SET name = 'few' WHERE id < 5").status, 'T');
    let reply = client.query("UPDATE parts SET name = 'gone' WHERE id = id");
    assert_refused(&reply, 100, 'E');
    assert_eq!(reply.order, "EZ");
    assert_eq!(client.query("SELECT 1").error().code(), "25P02");
    assert_eq!(client.query("COMMIT").tags, ["ROLLBACK"]);
    assert_eq!(stage.postgres.admin(SUM), before);
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM tools WHERE name = 'first'"), "0");
    assert!(
        stage
            .postgres
            .log()
            .contains("nodegate undoes this transaction: 100 rows changed, 10 allowed by policy few-rows"),
        "{}",
        stage.postgres.log()
    );
    // Up to a savepoint.
    for extended in [false, true] {
        let mut run = |sql: &str| if extended { client.extended(sql, &[], 0) } else { client.query(sql) };
        run("BEGIN");
        run("UPDATE parts SET name = 'kept' WHERE id <= 10");
        run("SAVEPOINT here");
        assert_refused(&run("DELETE FROM parts"), 100, 'E');
        let back = run("ROLLBACK TO here");
        assert_eq!((back.status, back.errors.len()), ('T', 0));
        assert_eq!(run("DELETE FROM parts WHERE id > 95").status, 'T');
        assert_eq!(run("COMMIT").tags, ["COMMIT"]);
        let left = stage.postgres.admin("SELECT count(*) FILTER (WHERE name = 'kept'), count(*) FROM parts");
        assert_eq!(left, "10|95");
        stage
            .postgres
            .script("TRUNCATE parts; INSERT INTO parts SELECT n, 'part' FROM generate_series(1, 100) AS n");
    }
}

#[test]
fn several_statements_in_one_message_are_counted_one_by_one() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let before = stage.postgres.admin(SUM);
    let reply = client.query(
        "UPDATE tools SET name = 'a'; UPDATE parts SET name = 'b' WHERE id < 4; SELECT id FROM tools; \
         DELETE FROM parts WHERE id > 92",
    );
    assert_eq!(reply.tags, ["UPDATE 100", "UPDATE 3", "SELECT 100", "DELETE 8"]);
    assert_eq!((reply.status, reply.rows.len()), ('I', 100));
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM parts"), "92");
    stage
        .postgres
        .script("TRUNCATE parts; INSERT INTO parts SELECT n, 'part' FROM generate_series(1, 100) AS n");
    // The one that is too much may be anywhere: nothing of what comes behind it is shown, and all of it is undone.
    for (sql, order) in [
        ("UPDATE parts SET name = 'b'; UPDATE tools SET name = 'b'", "EZ"),
        ("UPDATE tools SET name = 'b'; DELETE FROM parts", "CEZ"),
        ("UPDATE tools SET name = 'b'; DELETE FROM parts; SELECT * FROM generate_series(1, 20000)", "CEZ"),
        ("DELETE FROM parts; SELECT 1/0", "EZ"),
    ] {
        let reply = client.query(sql);
        assert_refused(&reply, 100, 'I');
        assert_eq!(reply.order, order, "{sql}");
        assert_eq!(stage.postgres.admin(SUM), before, "{sql}");
        assert_eq!(stage.postgres.admin("SELECT count(*) FROM tools WHERE name = 'b'"), "0", "{sql}");
        client.query("BEGIN");
        let reply = client.query(sql);
        assert_refused(&reply, 100, 'E');
        assert_eq!(reply.order, order, "in a block: {sql}");
        assert_eq!(client.query("ROLLBACK").status, 'I');
        assert_eq!(stage.postgres.admin(SUM), before, "{sql}");
    }
    // An error of the server's own before it.
    let reply = client.query("SELECT 1/0; DELETE FROM parts");
    assert_eq!((reply.error().code(), reply.status), ("22012", 'I'));
    // A message that could keep what it did is not run at all.
    for sql in [
        "BEGIN; DELETE FROM parts; COMMIT",
        "DELETE FROM parts WHERE id = 1; COMMIT",
        "SAVEPOINT a; DELETE FROM parts; RELEASE a",
    ] {
        for block in ["I", "T"] {
            if block == "T" {
                client.query("BEGIN");
            }
            let reply = client.query(sql);
            assert_eq!(reply.error().code(), "42501", "{sql}");
            assert!(reply.error().text().contains("messages of their own"), "{reply:?}");
            assert_eq!(reply.order, "EZ");
            client.query("ROLLBACK");
            assert_eq!(stage.postgres.admin(SUM), before, "{sql}");
        }
    }
    assert_eq!(
        client.query("BEGIN; UPDATE tools SET name = 'c'; COMMIT").tags,
        ["BEGIN", "UPDATE 100", "COMMIT"]
    );
}

#[test]
fn settings_notices_and_clocks_are_as_without_a_limit() {
    let stage = stage();
    stage.postgres.script(
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'told'; RETURN NULL; END $$; \
         CREATE TRIGGER tells AFTER UPDATE ON parts EXECUTE FUNCTION tell(); \
         CREATE CONSTRAINT TRIGGER late AFTER DELETE ON parts DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tell()",
    );
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    assert_eq!(client.query("UPDATE parts SET name = 'x' WHERE id = 1").order, "NCZ");
    // At COMMIT, and before the tag of the statement that caused it.
    assert_eq!(client.query("DELETE FROM parts WHERE id = 1").order, "NCZ");
    let reply = client.query("SET application_name = 'renamed'; DELETE FROM parts WHERE id = 2");
    assert_eq!((reply.tags, reply.status), (vec!["SET".to_owned(), "DELETE 1".to_owned()], 'I'));
    assert_eq!(client.query("SHOW application_name").texts(), [["renamed"]]);
    client.query("LISTEN shipped");
    let reply = client.query("DELETE FROM parts WHERE id = 3; NOTIFY shipped");
    assert!(reply.order.ends_with("CAZ"), "{}", reply.order);
    let reply = client.query("UPDATE parts SET name = now()::text WHERE id = 4; SELECT name::timestamptz = now() FROM parts WHERE id = 4");
    assert_eq!(reply.rows, [[Some(b"t".to_vec())]]);
    assert_eq!(client.query("DELETE FROM parts WHERE id = 5; VACUUM parts").error().code(), "25001");
}

#[test]
fn an_error_at_commit_takes_the_place_of_the_last_tag() {
    let stage = stage();
    stage.daemon.set_policy(&POLICY.replace("shop/public.parts", "shop/public.checked"));
    wait_for("the policy", Duration::from_secs(10), || {
        stage.psql("INSERT INTO checked SELECT generate_series(1, 11)").err.contains("few-rows").then_some(())
    });
    stage.postgres.script("TRUNCATE checked");
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let reply = client.query("INSERT INTO checked VALUES (1), (1)");
    assert_eq!((reply.error().code(), reply.order.as_str(), reply.status), ("23505", "EZ", 'I'));
    let reply = client.query("INSERT INTO checked VALUES (2); INSERT INTO checked VALUES (1), (1)");
    assert_eq!((reply.error().code(), reply.order.as_str(), reply.status), ("23505", "CEZ", 'I'));
    let reply = client.extended("INSERT INTO checked VALUES (1), (1)", &[], 0);
    assert_eq!((reply.error().code(), reply.order.as_str(), reply.status), ("23505", "12nCEZ", 'I'));
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM checked"), "0");
    assert_eq!(client.query("INSERT INTO checked VALUES (1)").tags, ["INSERT 0 1"]);
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM checked"), "1");
}

#[test]
fn the_extended_protocol_undoes_what_is_too_much_up_to_its_sync() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let before = stage.postgres.admin(SUM);
    let reply = client.extended("UPDATE parts SET name = $1 WHERE id = id", &["gone"], 0);
    assert_refused(&reply, 100, 'I');
    assert_eq!(reply.order, "12nEZ");
    let reply = client.extended("UPDATE parts SET name = $1 WHERE id = 1 RETURNING id", &["x"], 0);
    assert_eq!((reply.order.as_str(), reply.status), ("12TDCZ", 'I'));
    client.query("UPDATE parts SET name = 'part' WHERE id = 1");
    // A named statement, again and again.
    client.parse("many", "DELETE FROM parts WHERE id > $1");
    for (from, rows) in [("0", 100), ("50", 50), ("89", 11)] {
        client.bind("", "many", &[from], 0);
        client.execute("", 0);
        assert_refused(&client.sync(), rows, 'I');
    }
    client.bind("", "many", &["99"], 0);
    client.execute("", 0);
    assert_eq!(client.sync().tags, ["DELETE 1"]);
    client.query("INSERT INTO parts VALUES (100, 'part')");
    assert_eq!(stage.postgres.admin(SUM), before);
    // A pipeline: all of it is undone, what comes behind is skipped, and the next one runs.
    client.parse("", "UPDATE parts SET name = 'piped' WHERE id = 1");
    client.bind("", "", &[], 0);
    client.execute("", 0);
    client.bind("", "many", &["0"], 0);
    client.execute("", 0);
    client.parse("never", "UPDATE parts SET name = 'never' WHERE id = 2");
    client.bind("", "never", &[], 0);
    client.execute("", 0);
    client.send(b'S', b"");
    client.parse("", "UPDATE parts SET name = 'after' WHERE id = 3");
    client.bind("", "", &[], 0);
    client.execute("", 0);
    client.send(b'S', b"");
    let (first, second) = (client.until_ready(), client.until_ready());
    assert_refused(&first, 100, 'I');
    assert_eq!((first.order.as_str(), second.order.as_str()), ("12C2EZ", "12CZ"));
    let names = stage.postgres.admin("SELECT string_agg(name, ',' ORDER BY id) FROM parts WHERE id < 4");
    assert_eq!(names, "part,part,after");
    client.bind("", "never", &[], 0);
    assert_eq!(client.sync().error().code(), "26000");
    // COMMIT in the same pipeline waits for the count like everything else.
    for (name, sql) in [("begin", "BEGIN"), ("commit", "COMMIT")] {
        client.parse(name, sql);
    }
    for name in ["begin", "many", "commit"] {
        client.bind("", name, if name == "many" { &["0"] } else { &[] }, 0);
        client.execute("", 0);
    }
    assert_refused(&client.sync(), 100, 'E');
    assert_eq!(client.query("ROLLBACK").status, 'I');
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM parts"), "100");
}

#[test]
fn a_portal_that_is_suspended_cannot_be_counted() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let before = stage.postgres.admin(SUM);
    client.parse("", "UPDATE parts SET name = 'gone' RETURNING id");
    client.bind("", "", &[], 0);
    client.execute("", 5);
    let reply = client.sync();
    assert_eq!((reply.error().code(), reply.rows.len(), reply.status), ("42501", 5, 'I'));
    assert!(reply.error().field('H').contains("setFetchSize"), "{reply:?}");
    assert_eq!(stage.postgres.admin(SUM), before);
    // All of what it returns is fetched: the count is known. JDBC asks for one row of what returns none.
    client.parse("", "UPDATE parts SET name = 'x' WHERE id < 4 RETURNING id");
    client.bind("", "", &[], 0);
    client.execute("", 5);
    assert_eq!(client.sync().tags, ["UPDATE 3"]);
    client.parse("", "UPDATE parts SET name = 'y' WHERE id < 4");
    client.bind("", "", &[], 0);
    client.execute("", 1);
    assert_eq!(client.sync().tags, ["UPDATE 3"]);
}

#[test]
fn copy_in_is_counted_when_all_of_it_has_come() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let lines = |from: u32, count: u32| {
        (from..from + count).fold(String::new(), |mut all, id| {
            writeln!(all, "{id}\tcopied").unwrap();
            all
        })
    };
    let copy = |client: &mut Client, extended: bool, count: u32| {
        if extended {
            client.parse("", "COPY parts FROM STDIN");
            client.bind("", "", &[], 0);
            client.execute("", 0);
        } else {
            client.send(b'Q', b"COPY parts FROM STDIN\0");
        }
        client.send(b'd', lines(1000, count).as_bytes());
        client.send(b'c', b"");
        if extended { client.sync() } else { client.until_ready() }
    };
    for extended in [false, true] {
        assert_refused(&copy(&mut client, extended, 11), 11, 'I');
        assert_eq!(copy(&mut client, extended, 10).tags, ["COPY 10"]);
        assert_eq!(stage.postgres.admin("DELETE FROM parts WHERE id >= 1000"), "DELETE 10");
        // It fails by the server, and by the client.
        client.send(b'Q', b"COPY parts FROM STDIN\0");
        client.send(b'd', b"1\ttwice\n");
        client.send(b'c', b"");
        assert_eq!(client.until_ready().error().code(), "23505");
        client.send(b'Q', b"COPY parts FROM STDIN\0");
        client.send(b'f', b"no more\0");
        let reply = client.until_ready();
        assert_eq!((reply.error().code(), reply.status), ("57014", 'I'));
    }
    let file = stage.daemon.folder().join("parts.tsv");
    std::fs::write(&file, lines(2000, 500)).unwrap();
    let said = stage.psql_script(&["-At"], &format!("\\copy parts FROM '{}'\n", file.display()));
    assert!(said.err.contains("changes 500 rows"), "{said:?}");
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM parts"), "100");
}

#[test]
fn what_cannot_be_counted_is_refused() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let before = stage.postgres.admin(SUM);
    for sql in [
        "WITH gone AS (DELETE FROM parts RETURNING id) SELECT count(*) FROM gone",
        "WITH gone AS (DELETE FROM parts RETURNING id) INSERT INTO tools SELECT id + 1000, 'x' FROM gone",
        "WITH few AS (UPDATE parts SET name = 'x' RETURNING id) UPDATE parts SET name = 'y' WHERE id = 1",
        "INSERT INTO tools WITH gone AS (DELETE FROM parts RETURNING id) SELECT id + 1000, 'x' FROM gone",
        "EXPLAIN ANALYZE DELETE FROM parts",
        "EXPLAIN (ANALYZE true) UPDATE parts SET name = 'x'",
        "TRUNCATE parts",
        "TRUNCATE tools, parts",
        "COPY (DELETE FROM parts RETURNING id) TO STDOUT",
        "CREATE RULE hidden AS ON UPDATE TO tools DO ALSO DELETE FROM parts",
        "PREPARE hidden AS WITH gone AS (DELETE FROM parts RETURNING id) SELECT count(*) FROM gone",
    ] {
        let reply = client.query(sql);
        let error = reply.error();
        assert_eq!((error.code(), reply.status), ("42501", 'I'), "{sql}: {reply:?}");
        assert!(error.message().contains("cannot be counted"), "{sql}: {reply:?}");
        assert!(
            error.text().contains("few-rows") && error.field('H').starts_with("Ask a DBA. "),
            "{reply:?}"
        );
        assert_eq!(stage.postgres.admin(SUM), before, "{sql}");
    }
    // What only plans is not counted, and what runs later is counted then.
    assert_eq!(client.query("EXPLAIN DELETE FROM parts").tags, ["EXPLAIN"]);
    assert_eq!(client.query("PREPARE all_of_them AS DELETE FROM parts WHERE id > $1").tags, ["PREPARE"]);
    assert_eq!(client.query("EXPLAIN EXECUTE all_of_them(0)").tags, ["EXPLAIN"]);
    let reply = client.query("EXPLAIN ANALYZE EXECUTE all_of_them(0)");
    assert!(reply.error().message().contains("cannot be counted"), "{reply:?}");
    assert_refused(&client.query("EXECUTE all_of_them(0)"), 100, 'I');
    assert_refused(&client.extended("EXECUTE all_of_them(1)", &[], 0), 99, 'I');
    client.bind("", "all_of_them", &["2"], 0);
    client.execute("", 0);
    assert_refused(&client.sync(), 98, 'I');
    assert_refused(&client.query("SELECT 1; EXECUTE all_of_them(3); SELECT 2"), 97, 'I');
    assert_eq!(stage.postgres.admin(SUM), before);
    assert_eq!(client.query("EXECUTE all_of_them(99)").tags, ["DELETE 1"]);
    // What a pipeline has prepared, as asyncpg does ahead of COPY, is in nobody's way.
    client.parse("", "SELECT 1");
    client.describe(b'S', "");
    client.send(b'H', b"");
    let reply = client.query("DELETE FROM parts");
    assert_refused(&reply, 99, 'I');
    assert_eq!(client.query("DELETE FROM parts WHERE id = 98").tags, ["DELETE 1"]);
    // What it has run may have ended the transaction, or begun one.
    for (first, statement) in [("BEGIN", "COMMIT"), ("SELECT 1", "BEGIN"), ("SELECT 1", "SELECT 1")] {
        client.query(first);
        client.parse("", statement);
        client.bind("", "", &[], 0);
        client.execute("", 0);
        let reply = client.query("DELETE FROM parts");
        assert!(reply.error().field('H').contains("Sync"), "{statement}: {reply:?}");
        client.query("ROLLBACK");
    }
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM parts"), "98");
}

#[test]
fn what_comes_behind_waits_for_the_count() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let all: Vec<u8> = [
        "BEGIN",
        "DELETE FROM parts",
        "COMMIT",
        "DELETE FROM parts",
        "UPDATE parts SET name = 'x' WHERE id = 1",
        "SELECT count(*) FROM parts",
    ]
    .iter()
    .flat_map(|sql| wire::message(b'Q', format!("{sql}\0").as_bytes()))
    .collect();
    client.raw(&all);
    assert_eq!(client.until_ready().status, 'T');
    assert_refused(&client.until_ready(), 100, 'E');
    assert_eq!(client.until_ready().tags, ["ROLLBACK"]);
    assert_refused(&client.until_ready(), 100, 'I');
    assert_eq!(client.until_ready().tags, ["UPDATE 1"]);
    assert_eq!(client.until_ready().texts(), [["100"]]);
    // A client that has said all that it has to say still gets its answers, and its last statement is kept.
    let mut body = wire::message(b'P', b"\0UPDATE parts SET name = 'last' WHERE id = 2\0\0\0");
    body.extend(wire::message(b'B', b"\0\0\0\0\0\0\0\0"));
    body.extend(wire::message(b'E', b"\0\0\0\0\0"));
    body.extend(wire::message(b'S', b""));
    client.raw(&body);
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.until_ready().tags, ["UPDATE 1"]);
    assert_eq!(stage.postgres.admin("SELECT name FROM parts WHERE id = 2"), "last");
}

/// Runs `during` while a statement of `client` that is too much waits for a lock, which is let go afterwards.
fn while_held(
    stage: &mut Stage,
    client: &mut Client,
    extended: bool,
    during: impl FnOnce(&mut Stage, &mut Client),
) {
    let mut holder = Command::new("psql");
    let words = nodegate_tests::stage::psql_words(&stage.postgres, &["-At"]);
    holder.args(&words[1..]).env("PGPASSWORD", nodegate_tests::postgres::PASSWORD);
    holder.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
    let mut holder = holder.spawn().expect("psql");
    let mut input = holder.stdin.take().unwrap();
    input.write_all(b"BEGIN; SELECT id FROM parts WHERE id = 100 FOR UPDATE;\n").unwrap();
    let held = "SELECT count(*) FROM pg_locks WHERE relation = 'parts'::regclass AND mode = 'RowShareLock'";
    wait_for("the lock", Duration::from_secs(10), || (stage.postgres.admin(held) == "1").then_some(()));
    if extended {
        client.parse("", "DELETE FROM parts");
        client.bind("", "", &[], 0);
        client.execute("", 0);
        client.send(b'S', b"");
    } else {
        client.send(b'Q', b"DELETE FROM parts\0");
    }
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    wait_for("the statement to wait", Duration::from_secs(10), || {
        (stage.postgres.admin(waits) == "1").then_some(())
    });
    during(stage, client);
    input.write_all(b"ROLLBACK;\n").unwrap();
    drop(input);
    holder.wait().unwrap();
}

/// Nobody is in a transaction any more, and everything is still there.
fn assert_all_there(stage: &Stage) {
    let open = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_agent' AND xact_start IS NOT NULL";
    wait_for("all transactions to end", Duration::from_secs(20), || {
        (stage.postgres.admin(open) == "0").then_some(())
    });
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM parts"), "100");
}

#[test]
fn a_client_that_goes_away_leaves_nothing_over_the_limit() {
    let mut stage = stage();
    for extended in [false, true] {
        let mut agent = stage.agent();
        let mut client = stage.client(&mut agent);
        while_held(&mut stage, &mut client, extended, |_, client| {
            client.stream().shutdown(Shutdown::Both).unwrap();
            thread::sleep(Duration::from_millis(200));
        });
        assert_all_there(&stage);
    }
}

#[test]
fn a_cancel_request_leaves_no_transaction_open() {
    let mut stage = stage();
    for extended in [false, true] {
        let mut agent = stage.agent();
        let mut client = stage.client(&mut agent);
        let (process, secret) = client.key.clone().unwrap();
        while_held(&mut stage, &mut client, extended, |stage, client| {
            let mut second = agent.connect(stage.postgres.address()).unwrap();
            second.write_all(&wire::cancel(process, &secret)).unwrap();
            let reply = client.until_ready();
            assert_eq!((reply.error().code(), reply.status), ("57014", 'I'));
        });
        assert_all_there(&stage);
        assert_eq!(client.query("SELECT count(*) FROM parts").texts(), [["100"]]);
    }
}

#[test]
fn cancel_requests_at_any_time_never_let_a_statement_slip_through() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let (process, secret) = client.key.clone().unwrap();
    for round in 0..40_u64 {
        let mut second = agent.connect(stage.postgres.address()).unwrap();
        client.send(b'Q', b"DELETE FROM parts WHERE (SELECT count(*) FROM generate_series(1, 50000)) > 0\0");
        thread::sleep(Duration::from_micros(round * 600));
        second.write_all(&wire::cancel(process, &secret)).unwrap();
        let reply = client.until_ready();
        assert_eq!((reply.status, reply.tags.len()), ('I', 0), "{reply:?}");
        assert!(["42501", "57014"].contains(&reply.error().code()), "{reply:?}");
    }
    assert_all_there(&stage);
}

#[test]
fn a_statement_within_its_limit_is_either_kept_and_said_to_be_or_neither() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let (process, secret) = client.key.clone().unwrap();
    client.query("UPDATE parts SET name = '0' WHERE id = 1");
    let mut kept = 0;
    for round in 0..40_u64 {
        let mut second = agent.connect(stage.postgres.address()).unwrap();
        let slowly = "UPDATE parts SET name = (name::int + 1)::text WHERE id = 1 \
            AND (SELECT count(*) FROM generate_series(1, 50000)) > 0\0";
        client.send(b'Q', slowly.as_bytes());
        thread::sleep(Duration::from_micros(round * 600));
        second.write_all(&wire::cancel(process, &secret)).unwrap();
        let reply = client.until_ready();
        assert_eq!((reply.status, reply.tags.len() + reply.errors.len()), ('I', 1), "{reply:?}");
        kept += reply.tags.len();
        assert_eq!(
            stage.postgres.admin("SELECT name FROM parts WHERE id = 1"),
            kept.to_string(),
            "{reply:?}"
        );
    }
    assert!((1..40).contains(&kept), "some must have been cancelled, and some not: {kept}");
}

#[test]
fn a_daemon_or_a_server_that_dies_leaves_nothing_over_the_limit() {
    let mut stage = stage();
    for extended in [false, true] {
        let mut agent = stage.agent();
        let mut client = stage.client(&mut agent);
        while_held(&mut stage, &mut client, extended, |stage, _| stage.daemon.kill());
        assert_all_there(&stage);
        stage.daemon.restart();
        // The server's side of the session ends.
        let mut agent = stage.agent();
        let mut client = stage.client(&mut agent);
        while_held(&mut stage, &mut client, extended, |stage, client| {
            let ended = "SELECT bool_and(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
            assert_eq!(stage.postgres.admin(ended), "t");
            let reply = client.until_ready();
            assert_eq!((reply.errors[0].code(), reply.status), ("57P01", 'X'), "{reply:?}");
        });
        assert_all_there(&stage);
    }
}

#[test]
fn the_server_is_asked_for_nothing_more_where_no_limit_applies() {
    let stage = stage_with("log_statement = 'all'\n");
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    client.query("UPDATE tools SET name = 'simple'");
    client.extended("UPDATE tools SET name = 'extended'", &[], 0);
    assert!(!stage.postgres.log().contains("nodegate:"), "{}", stage.postgres.log());
    client.query("UPDATE parts SET name = 'few' WHERE id = 1");
    client.query("UPDATE parts SET name = 'all'");
    let log = stage.postgres.log();
    for statement in [
        "BEGIN /* nodegate: at most 10 rows, by policy \"few-rows\" */",
        "COMMIT /* nodegate: no more rows than policy allows */",
        "ROLLBACK /* nodegate: 100 rows changed, 10 allowed by policy few-rows */",
    ] {
        assert!(log.contains(statement), "{statement}: {log}");
    }
}

#[test]
fn the_records_say_how_many_were_allowed_and_how_many_were_undone() {
    let postgres = Postgres::start();
    postgres.script(TABLES);
    let stage = Stage::around(postgres, |settings| {
        POLICY.clone_into(&mut settings.policy);
        "recording: {}\n".clone_into(&mut settings.more);
    });
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    client.query("UPDATE parts SET name = 'few' WHERE id = 1");
    client.query("UPDATE parts SET name = 'gone' WHERE id = id");
    client.extended("DELETE FROM parts WHERE id = id", &[], 0);
    client.send(b'X', b"");
    let lines = stage.daemon.ended_recordings(1).remove(0);
    let replies: Vec<_> = lines.iter().filter(|line| line["kind"] == "reply").collect();
    assert_eq!(replies.len(), 3, "{lines:?}");
    assert_eq!(replies[0]["tags"][0], "UPDATE 1", "{replies:?}");
    for reply in &replies[1..] {
        assert_eq!((&reply["rows"], &reply["error"]["sqlstate"]), (&100.into(), &"42501".into()), "{reply}");
    }
    let requests: Vec<_> = lines.iter().filter(|line| line["kind"] == "request").collect();
    assert_eq!(requests[0]["reason"], "at most 10 rows, by policy \"few-rows\"", "{requests:?}");
    let records = wait_for("the records", Duration::from_secs(10), || {
        let records = stage.daemon.audit_search(&["--outcome", "denied"]);
        (records.len() >= 2).then_some(records)
    });
    for record in &records {
        let event = &record["event"];
        assert_eq!((&event["kind"], &event["rows"]), (&"completion".into(), &100.into()), "{record}");
        assert_eq!(event["policies"][0], "few-rows", "{record}");
        assert!(event["identity"].as_str().unwrap().ends_with("|agent-1"), "{record}");
        assert!(
            event["reason"].as_str().unwrap().starts_with("undone: the statement changes 100 rows"),
            "{record}"
        );
    }
    let allowed = stage.daemon.audit_search(&["--outcome", "allowed", "gone"]);
    assert_eq!(allowed[0]["event"]["reason"], "at most 10 rows, by policy \"few-rows\"", "{allowed:?}");
    assert!(allowed[0]["event"]["policies"].to_string().contains("few-rows"), "{allowed:?}");
}

#[test]
fn psycopg_meets_the_limit_in_its_own_transactions_and_pipelines() {
    let stage = stage();
    let script = stage.daemon.folder().join("limits.py");
    std::fs::write(
        &script,
        r#"
import psycopg
from psycopg import errors

session = psycopg.connect("", autocommit=True, prepare_threshold=1)

def refused(what):
    try:
        what()
        return "done"
    except errors.InsufficientPrivilege as error:
        return f"{error.diag.message_detail} {session.info.transaction_status.name}"

for _ in range(3):
    print(session.execute("UPDATE parts SET name = %s WHERE id <= %s", ("a", 5)).rowcount)
    print(refused(lambda: session.execute("UPDATE parts SET name = %s WHERE id <= %s", ("b", 50))))

def transaction():
    with session.transaction():
        session.execute("UPDATE tools SET name = 'inside'")
        session.execute("DELETE FROM parts")
print(refused(transaction))

def nested():
    with session.transaction():
        session.execute("UPDATE parts SET name = 'outer' WHERE id = 1")
        print(refused(lambda: inner()))
        session.execute("UPDATE parts SET name = 'outer' WHERE id = 2")
def inner():
    with session.transaction():
        session.execute("DELETE FROM parts")
print(refused(nested))

def pipeline():
    with session.pipeline():
        session.execute("UPDATE tools SET name = 'piped'")
        session.execute("UPDATE parts SET name = 'piped'")
        session.execute("UPDATE tools SET name = 'behind'")
print(refused(pipeline))
with session.pipeline():
    cursors = [session.execute("UPDATE parts SET name = 'ok' WHERE id > %s", (at,)) for at in (95, 94, 93)]
print([cursor.rowcount for cursor in cursors])
print(session.execute("SELECT count(*) FILTER (WHERE name = 'outer'), count(*) FILTER (WHERE name = 'b'), count(*) FROM parts").fetchone())
print(session.execute("SELECT count(*) FROM tools WHERE name <> 'tool'").fetchone())
"#,
    )
    .unwrap();
    let mut command = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    command.args(["/usr/bin/python3", script.to_str().unwrap()]);
    command.env("PGHOST", "127.0.0.1").env("PGPORT", stage.postgres.address().port().to_string());
    command.env("PGDATABASE", "shop").env("PGUSER", "somebody").env("PGPASSWORD", "wrong");
    let said = programs::said(&mut command, "", Duration::from_mins(1));
    assert_eq!(
        said.ok(),
        "5\npolicy: few-rows IDLE\n5\npolicy: few-rows IDLE\n5\npolicy: few-rows IDLE\n\
         policy: few-rows IDLE\npolicy: few-rows INTRANS\ndone\npolicy: few-rows IDLE\n[5, 6, 7]\n\
         (2, 0, 100)\n(0,)\n"
    );
}

#[test]
fn nothing_is_undone_where_nothing_is_enforced() {
    let postgres = Postgres::start();
    postgres.script(TABLES);
    postgres.script("GRANT CONNECT ON DATABASE shop TO app_agent");
    let stage = Stage::around(postgres, |settings| {
        POLICY.clone_into(&mut settings.policy);
        "shadow".clone_into(&mut settings.mode);
    });
    let mut command = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    let words = nodegate_tests::stage::psql_words(
        &stage.postgres,
        &["-At", "-c", "UPDATE parts SET name = 'gone'", "-c", "TRUNCATE parts"],
    );
    command.args(words).env("PGPASSWORD", nodegate_tests::postgres::PASSWORD).env("PGSSLMODE", "disable");
    let said = programs::said(&mut command, "", Duration::from_secs(30));
    assert_eq!(said.ok(), "UPDATE 100\nTRUNCATE TABLE\n");
    let search = |words: &[&str]| {
        wait_for("the record", Duration::from_secs(10), || {
            stage.daemon.audit_search(words).into_iter().next()
        })
    };
    let record = search(&["--outcome", "allowed", "gone"]);
    assert_eq!(record["event"]["reason"], "at most 10 rows, by policy \"few-rows\"", "{record}");
    let record = search(&["--outcome", "would_deny", "gone"]);
    let event = &record["event"];
    assert_eq!((&event["kind"], &event["rows"]), (&"completion".into(), &100.into()), "{record}");
    assert_eq!(
        event["reason"], "to be undone: the statement changes 100 rows, and policy \"few-rows\" allows 10",
        "{record}"
    );
    let record = search(&["--outcome", "would_deny", "TRUNCATE"]);
    assert!(record["event"]["reason"].as_str().unwrap().contains("cannot be counted"), "{record}");
}
