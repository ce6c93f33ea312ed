//! Bytes that no honest client sends: an error, a closed connection, a daemon that lives, a flat memory line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use nodegate_tests::{
    programs::resident_kib,
    stage::Stage,
    wire::{self, Client, message, read_to_close, startup},
};

/// A stage whose daemon has little patience.
fn impatient() -> Stage {
    Stage::with(|settings| {
        "limits: { startup_timeout: 2s, idle_timeout: 4s }\n".clone_into(&mut settings.more);
    })
}

const PATIENCE: Duration = Duration::from_secs(14);

fn user() -> Vec<u8> {
    startup(3, 0, &[("user", "a"), ("database", "shop")])
}

#[test]
fn bytes_that_are_no_startup_end_the_connection() {
    let stage = impatient();
    let mut agent = stage.agent();
    let length = |length: u32, rest: &[u8]| [&length.to_be_bytes()[..], rest].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("HTTP", b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n".to_vec()),
        ("a TLS ClientHello without asking", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ("zeros", vec![0; 64]),
        ("ones", vec![0xff; 64]),
        ("length 0", length(0, &[])),
        ("length 4", length(4, &[])),
        ("length 7", length(7, &[0, 3, 0])),
        ("a length that is negative", length(0x8000_0008, &[0, 3, 0, 0])),
        ("the largest length", length(u32::MAX, &[0, 3, 0, 0])),
        ("a length past the limit", length(100_000, &[0, 3, 0, 0])),
        ("protocol 2", length(8, &[0, 2, 0, 0])),
        ("protocol 4", startup(4, 0, &[("user", "a")])),
        ("no terminator", length(14, &[0, 3, 0, 0, b'u', b's', b'e', b'r', 0, b'a'])),
        ("a parameter named twice", startup(3, 0, &[("user", "a"), ("user", "b"), ("database", "shop")])),
        ("bytes after the terminator", [&length(20, &[0, 3, 0, 0])[..], b"user\0a\0\0xxxx"].concat()),
        ("an SSLRequest of the wrong length", length(9, &[4, 210, 22, 47, 0])),
        ("a CancelRequest cut short", length(12, &[4, 210, 22, 46, 0, 0, 0, 1])),
        ("a CancelRequest for nobody", wire::cancel(1, &[0; 4])),
    ];
    for (case, bytes) in cases {
        let mut stream = agent.connect(stage.postgres.address()).unwrap();
        stream.write_all(&bytes).unwrap();
        let answer = read_to_close(&mut stream, PATIENCE).unwrap_or_else(|| panic!("{case}: still open"));
        let tags = wire::tags(&answer);
        assert!(tags.is_empty() || tags == "E" || tags == "N", "{case}: {tags:?} came of it");
    }
    stage.client(&mut agent);
}

#[test]
fn messages_that_break_the_protocol_end_the_session() {
    let stage = impatient();
    let mut agent = stage.agent();
    let with_length = |tag: u8, length: u32, rest: &[u8]| [&[tag][..], &length.to_be_bytes(), rest].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("an unknown type", message(b'y', b"hello")),
        ("a server's message", message(b'Z', b"I")),
        ("a password that nobody asked for", message(b'p', b"secret\0")),
        ("a second startup", user()),
        ("length 0", with_length(b'Q', 0, &[])),
        ("length 3", with_length(b'Q', 3, &[])),
        ("a negative length", with_length(b'Q', 0x8000_0010, b"SELECT 1\0")),
        ("the largest length", with_length(b'Q', u32::MAX, b"SELECT 1\0")),
        ("a query without its zero", message(b'Q', b"SELECT 1")),
        ("a zero inside a query", message(b'Q', b"SELECT 1\0; DROP TABLE customers\0")),
        ("a query that is not UTF-8", message(b'Q', b"SELECT '\xff\xfe'\0")),
        ("Parse with a type count that lies", message(b'P', b"\0SELECT 1\0\x7f\xff")),
        ("Bind with a value length that lies", message(b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff")),
        ("Bind with a negative count", message(b'B', b"\0\0\xff\xff")),
        ("Describe of a thing that is neither", message(b'D', b"X\0")),
        ("Execute cut short", message(b'E', b"\0\0")),
        ("Sync with a body", message(b'S', b"more")),
        ("CopyData outside of COPY", message(b'd', b"1\t2\n")),
        ("a function call cut short", message(b'F', &[0, 0])),
    ];
    for (case, bytes) in cases {
        let stream = agent.connect(stage.postgres.address()).unwrap();
        let mut client = Client::start(stream).expect("a session");
        client.raw(&bytes);
        // Some of these PostgreSQL answers with an error and goes on; none may run anything or hang.
        client.raw(&message(b'S', &[]));
        let mut stream = client.stream().try_clone().unwrap();
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let answer = read_to_close(&mut stream, PATIENCE).unwrap_or_else(|| panic!("{case}: still open"));
        let tags = wire::tags(&answer);
        assert!(!tags.contains('D'), "{case}: rows came of it: {tags}");
    }
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM customers"), "300");
    stage.client(&mut agent);
}

#[test]
fn a_startup_that_drips_is_cut_off_and_one_that_comes_in_pieces_is_not() {
    let stage = impatient();
    let mut agent = stage.agent();
    let mut stream = agent.connect(stage.postgres.address()).unwrap();
    let started = Instant::now();
    for byte in user() {
        if stream.write_all(&[byte]).is_err() || started.elapsed() > PATIENCE {
            break;
        }
        thread::sleep(Duration::from_millis(250));
    }
    let answer = read_to_close(&mut stream, PATIENCE).expect("a closed connection");
    assert!(answer.is_empty() || answer[0] == b'E', "{answer:?}");
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());

    // The control: the same bytes one by one, but without the pauses.
    let mut stream = agent.connect(stage.postgres.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in user().into_iter().chain(message(b'Q', b"SELECT 42\0")) {
        stream.write_all(&[byte]).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answer = read_to_close(&mut stream, PATIENCE).expect("a closed connection");
    assert!(answer.windows(2).any(|pair| pair == b"42"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn silence_after_an_encryption_request_and_in_mid_message_ends_the_connection() {
    let stage = impatient();
    let mut agent = stage.agent();
    let mut stream = agent.connect(stage.postgres.address()).unwrap();
    stream.write_all(&wire::ssl_request()).unwrap();
    let answer = read_to_close(&mut stream, PATIENCE).expect("a deadline after SSLRequest");
    assert_eq!(answer.first(), Some(&b'N'));

    let mut stream = agent.connect(stage.postgres.address()).unwrap();
    assert!(read_to_close(&mut stream, PATIENCE).is_some(), "a deadline for saying anything at all");
    stream = agent.connect(stage.postgres.address()).unwrap();
    let mut client = Client::start(stream).expect("a session");
    client.raw(b"Q\0\0\0\x20SELECT");
    let mut stream = client.stream().try_clone().unwrap();
    assert!(read_to_close(&mut stream, PATIENCE).is_some(), "a deadline in mid-message");
}

#[test]
fn oversized_and_broken_messages_leave_memory_flat() {
    let stage = impatient();
    let mut agent = stage.agent();
    let abuse = |agent: &mut nodegate_tests::agent::Agent| {
        for number in 0..40_u32 {
            let stream = agent.connect(stage.postgres.address()).unwrap();
            let mut client = Client::start(stream).expect("a session");
            // 900 MB are promised; the daemon must not believe it, nor read on and on.
            client.raw(&[&[b'Q'][..], &(900_000_000 + number).to_be_bytes()].concat());
            let mut stream = client.stream().try_clone().unwrap();
            let chunk = vec![b' '; 1 << 20];
            let sent = (0..64).take_while(|_| stream.write_all(&chunk).is_ok()).count();
            assert!(sent < 64, "64 MiB of one message were taken");
        }
    };
    abuse(&mut agent);
    let before = resident_kib(stage.daemon.pid());
    abuse(&mut agent);
    let after = resident_kib(stage.daemon.pid());
    assert!(after < before + 16 * 1024, "memory grew from {before} KiB to {after} KiB");
    stage.client(&mut agent);
}

#[test]
fn deeply_nested_and_very_long_statements_are_refused_and_the_daemon_lives() {
    let mut stage = impatient();
    let mut agent = stage.agent();
    let deep = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    let chain = format!("SELECT 1{}", " + 1".repeat(50_000));
    let long = format!("SELECT '{}'", "x".repeat(8 << 20));
    for sql in [&deep, &chain, &long] {
        let mut client = stage.client(&mut agent);
        let reply = client.query(sql);
        assert!(!reply.errors.is_empty() || !reply.rows.is_empty() || reply.status == 'X');
    }
    assert!(stage.daemon.is_alive());
    let mut client = stage.client(&mut agent);
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
}

#[test]
fn an_idle_crowd_cannot_keep_others_out_for_longer_than_the_deadline() {
    let stage = Stage::with(|settings| {
        settings.more = "limits: { sessions: 20, startup_timeout: 2s }\n".to_owned();
    });
    let mut agent = stage.agent();
    let idle: Vec<_> = (0..40).filter_map(|_| agent.connect(stage.postgres.address()).ok()).collect();
    thread::sleep(Duration::from_secs(3));
    assert_eq!(stage.client(&mut agent).query("SELECT 1").texts(), [["1"]]);
    drop(idle);
}
