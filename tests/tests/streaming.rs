//! Large things pass through in small pieces: the daemon's memory does not follow their size.
//!
//! `NODEGATE_STREAM_MIB` sets how large they are; 96 by default, so that a test takes seconds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use nodegate_tests::{
    agent::Agent,
    stage::Stage,
    wire::{Client, message},
};

/// More than a session needs, and much less than what passes through it.
const GROWTH_KIB: u64 = 8 * 1024;

fn size_mib() -> usize {
    std::env::var("NODEGATE_STREAM_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(96)
}

/// A stage, an agent, and a session that has warmed up.
fn warm() -> (Stage, Agent, Client) {
    let stage = Stage::new();
    stage.postgres.admin("CREATE TABLE heap (data text); ALTER TABLE heap OWNER TO app_agent; CREATE TABLE blobs (data bytea); ALTER TABLE blobs OWNER TO app_agent");
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    client.query("SELECT repeat('x', 1000) FROM generate_series(1, 5000)");
    client.query("SELECT count(*) FROM heap");
    client.stream().set_read_timeout(Some(Duration::from_mins(5))).unwrap();
    (stage, agent, client)
}

/// How far the daemon's memory rises above where it was, at the highest, while something runs.
fn growth_kib(stage: &Stage, what: &str, run: impl FnOnce()) -> u64 {
    let pid = stage.daemon.pid();
    // Writing 5 sets the high-water mark back to what is resident now: proc(5).
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("to reset the high-water mark");
    let mark = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon's status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).expect("a number")
    };
    let before = mark();
    run();
    let grown = mark().saturating_sub(before);
    println!("{what}: {grown} KiB more");
    grown
}

fn assert_flat(stage: &Stage, what: &str, run: impl FnOnce()) {
    let grown = growth_kib(stage, what, run);
    assert!(grown < GROWTH_KIB, "{what}: the daemon's memory grew by {grown} KiB");
}

/// Reads messages up to ReadyForQuery and adds up how many bytes of rows and COPY data came.
fn drain(client: &Client) -> usize {
    let mut stream: &TcpStream = client.stream();
    let (mut total, mut chunk) = (0, vec![0; 1 << 20]);
    loop {
        let mut header = [0; 5];
        stream.read_exact(&mut header).expect("a message");
        let mut left = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize - 4;
        assert_ne!(header[0], b'E', "an error");
        if matches!(header[0], b'D' | b'd') {
            total += left;
        }
        while left > 0 {
            let now = left.min(chunk.len());
            stream.read_exact(&mut chunk[..now]).expect("the rest of a message");
            left -= now;
        }
        if header[0] == b'Z' {
            return total;
        }
    }
}

fn ask(client: &mut Client, sql: &str) -> usize {
    client.send(b'Q', format!("{sql}\0").as_bytes());
    drain(client)
}

#[test]
fn a_large_result_a_large_copy_each_way_and_a_large_field_leave_memory_flat() {
    let (stage, _agent, mut client) = warm();
    let rows = size_mib() * 1024;
    let result = format!("SELECT repeat('r', 1024) FROM generate_series(1, {rows})");
    assert_flat(&stage, "a result of many rows", || assert!(ask(&mut client, &result) > rows * 1024));
    assert_flat(&stage, "COPY out", || {
        assert!(ask(&mut client, &format!("COPY ({result}) TO STDOUT")) > rows * 1024);
    });
    assert_flat(&stage, "COPY in", || {
        client.send(b'Q', b"COPY heap FROM STDIN\0");
        assert_eq!(client.read().unwrap().tag, b'G');
        let piece = message(b'd', format!("{}\n", "c".repeat(1023)).repeat(64).as_bytes());
        for _ in 0..rows / 64 {
            client.raw(&piece);
        }
        client.send(b'c', b"");
        drain(&client);
    });
    let copied = client.query("SELECT count(*) FROM heap").texts();
    assert_eq!(copied, [[(rows / 64 * 64).to_string()]]);
    // PostgreSQL has no field of more than a GiB.
    let field = size_mib().min(200) << 20;
    assert_flat(&stage, "a single field", || {
        assert!(ask(&mut client, &format!("SELECT repeat('f', {field})")) > field);
    });
}

#[test]
fn a_large_parameter_leaves_memory_flat_and_arrives_whole() {
    let (stage, _agent, mut client) = warm();
    let size = size_mib().min(200) << 20;
    client.parse("insert", "INSERT INTO blobs VALUES ($1) RETURNING length(data)");
    client.sync();
    assert_flat(&stage, "a parameter", || {
        let mut body = b"\0insert\0\0\x01\0\x01\0\x01".to_vec();
        body.extend(u32::try_from(size).unwrap().to_be_bytes());
        let length = body.len() + size + 2 + 4;
        let mut stream: &TcpStream = client.stream();
        let header = [&[b'B'][..], &u32::try_from(length).unwrap().to_be_bytes(), &body].concat();
        stream.write_all(&header).unwrap();
        io::copy(&mut io::repeat(7).take(size as u64), &mut stream).unwrap();
        stream.write_all(&[0, 0]).unwrap();
        client.execute("", 0);
        let reply = client.sync();
        assert_eq!(reply.texts(), [[size.to_string()]]);
    });
    // In a pipeline with others, some of them refused, each gets its own answer.
    let value = "v".repeat(600 * 1024);
    for _ in 0..3 {
        client.bind("", "insert", &[&value], 0);
        client.execute("", 0);
        client.parse("", "DROP TABLE blobs");
        client.bind("", "insert", &[&value], 0);
        client.execute("", 0);
        let reply = client.sync();
        assert_eq!((reply.error().code(), reply.order.as_str()), ("42501", "2DCEZ"));
    }
    client.parse("other", "SELECT length($1)");
    client.bind("", "other", &[&value], 0);
    client.execute("", 0);
    client.bind("", "insert", &[&value], 0);
    client.execute("", 0);
    let reply = client.sync();
    assert_eq!((reply.order.as_str(), reply.texts()), ("12DC2DCZ", vec![vec![value.len().to_string()]; 2]));
    // A large Bind of what does not exist is an error like any other.
    client.bind("", "nothing", &[&value], 0);
    client.execute("", 0);
    let reply = client.sync();
    assert_eq!((reply.error().code(), reply.order.as_str()), ("26000", "EZ"));
}

#[test]
fn a_statement_that_is_too_large_to_be_judged_says_how_large_one_may_be() {
    let (stage, mut agent, _) = warm();
    let mut client = stage.client(&mut agent);
    client.send(b'Q', format!("SELECT '{}'\0", "s".repeat(17 << 20)).as_bytes());
    let reply = client.until_ready();
    // What is still being sent may have cut the answer off.
    if let Some(error) = reply.errors.first() {
        assert_eq!(error.code(), "54000", "{error:?}");
        assert!(error.message().contains("16777216 bytes"), "{error:?}");
    }
    assert_eq!(reply.status, 'X');
    stage.client(&mut agent);
}
