//! COPY in both directions and in every format, as psql and the protocol do it; what is refused ends nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{fmt::Write as _, fs};

use nodegate_tests::{
    agent::Agent,
    stage::Stage,
    wire::{Client, Reply},
};

fn stage() -> Stage {
    let stage = Stage::new();
    stage.postgres.admin(
        "CREATE TABLE parts (id int PRIMARY KEY, name text, blob bytea, made timestamptz); \
         ALTER TABLE parts OWNER TO app_agent",
    );
    stage
}

/// Rows that would be cut wrongly by anybody who looks for separators, quotes or the end-of-data mark.
const ROWS: &str = "INSERT INTO parts SELECT n, CASE n % 5 WHEN 0 THEN NULL WHEN 1 THEN E'tab\\there' \
    WHEN 2 THEN E'line\\nbreak' WHEN 3 THEN '\"quoted\", and \\.' ELSE repeat('x', n) END, \
    decode(repeat('00ff0a', n), 'hex'), now() FROM generate_series(1, 500) AS n";
const SUM: &str = "SELECT md5(string_agg(parts::text, ';' ORDER BY id)) FROM parts";

#[test]
fn psql_copies_out_and_in_again_in_every_format() {
    let stage = stage();
    stage.postgres.admin(ROWS);
    let before = stage.postgres.admin(SUM);
    for format in ["text", "csv", "binary"] {
        let file = stage.daemon.folder().join(format!("parts.{format}"));
        let out = format!("\\copy parts TO '{}' (FORMAT {format})\n", file.display());
        assert_eq!(stage.psql_script(&["-At"], &out).ok(), "COPY 500\n", "{format}");
        stage.postgres.admin("TRUNCATE parts");
        let back = format!("\\copy parts FROM '{}' (FORMAT {format})\n", file.display());
        assert_eq!(stage.psql_script(&["-At"], &back).ok(), "COPY 500\n", "{format}");
        assert_eq!(stage.postgres.admin(SUM), before, "{format}");
        // What came is what the server itself writes.
        let direct =
            stage.direct(nodegate_tests::postgres::PASSWORD, &["-At"], &out.replace("parts.", "direct."));
        direct.ok();
        let (mine, its) =
            (fs::read(&file).unwrap(), fs::read(file.with_file_name(format!("direct.{format}"))).unwrap());
        assert_eq!(mine, its, "{format}");
    }
}

#[test]
fn copy_of_masked_columns_is_refused_and_of_the_others_is_not() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for sql in [
        "COPY customers TO STDOUT",
        "COPY customers (id, email) TO STDOUT (FORMAT binary)",
        "COPY (SELECT upper(email) FROM customers) TO STDOUT (FORMAT csv)",
        "COPY (INSERT INTO customers (name, email) VALUES ('a', 'b') RETURNING email) TO STDOUT",
    ] {
        let reply = client.query(sql);
        assert_eq!((reply.error().code(), reply.status), ("42501", 'I'), "{sql}");
        assert!(!reply.order.contains('d'), "{sql}: {}", reply.order);
    }
    let reply = client.query("COPY (SELECT id FROM customers ORDER BY id LIMIT 3) TO STDOUT");
    assert_eq!((reply.order.as_str(), reply.tags[0].as_str()), ("HdddcCZ", "COPY 3"));
}

fn begin(client: &mut Client) {
    client.send(b'Q', b"COPY parts (id, name) FROM STDIN\0");
    assert_eq!(client.read().unwrap().tag, b'G');
}

fn count(client: &mut Client) -> String {
    client.query("SELECT count(*) FROM parts").texts()[0][0].clone()
}

#[test]
fn copy_in_ends_well_or_fails_and_the_session_goes_on() {
    let stage = stage();
    let mut agent: Agent = stage.agent();
    let mut client = stage.client(&mut agent);
    // Rows that are cut anywhere but at their ends.
    begin(&mut client);
    for piece in ["1\ton", "e\n2\t", "two\n3\tthr", "ee\n"] {
        client.send(b'd', piece.as_bytes());
    }
    client.send(b'c', b"");
    assert_eq!(client.until_ready().tags, ["COPY 3"]);
    // The client gives up.
    begin(&mut client);
    client.send(b'd', b"4\tfour\n");
    client.send(b'f', b"changed my mind\0");
    let reply = client.until_ready();
    assert_eq!((reply.error().code(), reply.status), ("57014", 'I'));
    // The server does, with more data under way.
    begin(&mut client);
    client.send(b'd', b"no number\tfive\n");
    for number in 0..200 {
        client.send(b'd', format!("{number}\t{}\n", "x".repeat(1000)).as_bytes());
    }
    client.send(b'c', b"");
    let reply = client.until_ready();
    assert_eq!((reply.error().code(), reply.status), ("22P02", 'I'));
    assert_eq!(count(&mut client), "3");
    // A query in the middle of COPY is no way around anything: the session ends.
    begin(&mut client);
    client.send(b'Q', b"DROP TABLE parts\0");
    assert_eq!(client.until_ready().status, 'X');
    let mut client = stage.client(&mut agent);
    assert_eq!(count(&mut client), "3");
}

#[test]
fn copy_in_the_extended_protocol_ends_with_its_sync() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let ask = |client: &mut Client| {
        client.parse("", "COPY parts (id, name) FROM STDIN");
        client.bind("", "", &[], 0);
        client.execute("", 0);
    };
    ask(&mut client);
    // As libpq has it, the first Sync comes before the data, where the server ignores it.
    client.send(b'S', b"");
    let answers: Vec<u8> = (0..3).map(|_| client.read().unwrap().tag).collect();
    assert_eq!(answers, b"12G");
    client.send(b'd', b"1\tone\n");
    client.send(b'c', b"");
    let reply = client.sync();
    assert_eq!((reply.order.as_str(), reply.status), ("CZ", 'I'));
    // A failure skips to the Sync.
    ask(&mut client);
    client.send(b'H', b"");
    let answers: Vec<u8> = (0..3).map(|_| client.read().unwrap().tag).collect();
    assert_eq!(answers, b"12G");
    client.send(b'd', b"1\tone again\n");
    client.send(b'c', b"");
    client.parse("", "SELECT 1");
    let reply: Reply = client.sync();
    assert_eq!((reply.error().code(), reply.order.as_str()), ("23505", "EZ"));
    // And out.
    let reply = client.extended("COPY parts (id) TO STDOUT", &[], 0);
    assert_eq!(reply.order, "12nHdcCZ");
    assert_eq!(count(&mut client), "1");
}

#[test]
fn copy_both_replication_and_function_calls_are_refused() {
    let stage = stage();
    let mut agent = stage.agent();
    let stream = agent.connect(stage.postgres.address()).unwrap();
    let wanted = [("user", "a"), ("database", "shop"), ("replication", "database")];
    let refused = Client::start_as(stream, &wanted).expect_err("a refusal");
    assert!(refused.message().contains("no policy permits sql:replication"), "{refused:?}");
    let mut client = stage.client(&mut agent);
    for sql in ["START_REPLICATION SLOT s LOGICAL 0/0", "IDENTIFY_SYSTEM"] {
        assert_eq!(client.query(sql).errors.len(), 1, "{sql}");
    }
    // pg_backend_pid, without arguments, a text result.
    let mut call = 2026_u32.to_be_bytes().to_vec();
    call.extend([0, 0, 0, 0, 0, 0]);
    client.send(b'F', &call);
    let reply = client.until_ready();
    assert_eq!((reply.error().code(), reply.status), ("42501", 'I'));
    assert!(
        reply.error().text().contains("sql:function_call on shop (pg_catalog.pg_backend_pid)"),
        "{reply:?}"
    );
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
    let mut all = String::new();
    for record in stage.daemon.audit_search(&["--outcome", "denied"]) {
        let _ = write!(all, "{record}");
    }
    assert!(all.contains("sql:function_call") && all.contains("sql:replication"), "{all}");
}
