//! The protocol's corners: pipelines, portals, what comes at any time, long cancel keys, and servers that cheat.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use nodegate_tests::{
    agent::Agent,
    interposer::{Back, Front, Interposer, Offer},
    postgres::Postgres,
    stage::Stage,
    wire::{self, Client},
};

/// The types of so many messages.
fn tags(client: &mut Client, count: usize) -> String {
    (0..count).map(|_| char::from(client.read().expect("a message").tag)).collect()
}

#[test]
fn a_pipeline_is_answered_at_a_flush_and_skipped_after_an_error_up_to_its_sync() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    client.parse("s", "SELECT id FROM products WHERE id > $1 ORDER BY id");
    client.describe(b'S', "s");
    client.send(b'H', b"");
    assert_eq!(tags(&mut client, 3), "1tT", "before any Sync");
    client.bind("p", "s", &["0"], 0);
    client.describe(b'P', "p");
    client.execute("p", 2);
    client.send(b'H', b"");
    assert_eq!(tags(&mut client, 5), "2TDDs", "suspended after two rows");
    client.execute("p", 1);
    client.send(b'H', b"");
    assert_eq!(tags(&mut client, 2), "Ds", "resumed");
    // A portal is closed by itself; the statement stays.
    client.send(b'C', b"Pp\0");
    client.bind("", "s", &["1000000"], 1);
    client.execute("", 0);
    let reply = client.sync();
    assert_eq!((reply.order.as_str(), reply.tags[0].as_str()), ("32CZ", "SELECT 0"));
    // Two pipelines in one packet; the first fails half way, by the server or by policy.
    for (failing, code) in [("SELECT 1 / 0", "22012"), ("DROP TABLE products", "42501")] {
        client.parse("", failing);
        client.bind("", "", &[], 0);
        client.execute("", 0);
        client.parse("never", "SELECT 1");
        client.bind("", "s", &["0"], 0);
        client.execute("", 0);
        client.send(b'S', b"");
        client.bind("", "s", &["1000000"], 0);
        client.execute("", 0);
        client.send(b'S', b"");
        let (first, second) = (client.until_ready(), client.until_ready());
        assert_eq!(first.error().code(), code);
        assert_eq!(second.order, "2CZ");
        client.bind("", "never", &[], 0);
        assert_eq!(client.sync().error().code(), "26000", "what was skipped never was");
    }
    client.send(b'C', b"Ss\0");
    client.bind("", "s", &["1"], 0);
    let reply = client.sync();
    assert_eq!((reply.error().code(), reply.order.as_str()), ("26000", "3EZ"));
    // Empty statements, and no data.
    assert_eq!(client.extended("", &[], 0).order, "12nIZ");
    assert_eq!(client.query("").order, "IZ");
    assert_eq!(client.extended("BEGIN", &[], 0).status, 'T');
    assert_eq!(client.query("SELECT 1 / 0").status, 'E');
    assert_eq!(client.query("SELECT 1").error().code(), "25P02");
    assert_eq!(client.query("ROLLBACK").status, 'I');
}

#[test]
fn notifications_notices_and_settings_come_at_any_time() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let (mut hears, mut tells) = (stage.client(&mut agent), stage.client(&mut agent));
    let listening = hears.query("LISTEN orders");
    assert!(listening.errors.is_empty(), "{listening:?}");
    let told = tells.query("NOTIFY orders, 'shipped'");
    assert!(told.errors.is_empty(), "{told:?}");
    // To a session that asks for nothing.
    let notification = hears.read().unwrap();
    assert_eq!(notification.tag, b'A');
    assert!(notification.body.ends_with(b"orders\0shipped\0"), "{notification:?}");
    // Within its own transaction's answers.
    assert_eq!(hears.query("NOTIFY orders, 'again'").order, "CAZ");
    assert_eq!(hears.query("CREATE TABLE IF NOT EXISTS products (id int)").order, "NCZ");
    assert_eq!(hears.query("SET application_name = 'renamed'").order, "CSZ");
    assert_eq!(hears.query("SET application_name = 'again'").tags, ["SET"]);
}

#[test]
fn protocol_3_2_gives_keys_of_32_bytes_and_they_cancel() {
    let stage = Stage::new();
    let mut agent: Agent = stage.agent();
    let mut stream = agent.connect(stage.postgres.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let query =
        "SELECT count(*) FROM generate_series(1, 100000000) AS a, generate_series(1, 1000) AS long_key";
    let wanted = [("user", "a"), ("database", "shop"), ("_pq_.unheard_of", "1")];
    stream.write_all(&wire::startup(3, 2, &wanted)).unwrap();
    stream.write_all(&wire::message(b'Q', format!("{query}\0").as_bytes())).unwrap();
    let mut read = || {
        let mut header = [0; 5];
        stream.read_exact(&mut header).unwrap();
        let mut body = vec![0; u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize - 4];
        stream.read_exact(&mut body).unwrap();
        (header[0], body)
    };
    let (tag, body) = read();
    assert_eq!((tag, &body[..]), (b'v', &b"\0\x03\0\x02\0\0\0\x01_pq_.unheard_of\0"[..]));
    let key = loop {
        match read() {
            (b'K', body) => break body,
            (b'R' | b'S', _) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(key.len(), 4 + 32);
    assert_eq!(read().0, b'Z');
    nodegate_tests::programs::wait_for("the query to run", Duration::from_secs(10), || {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%AS long_key'";
        (stage.postgres.admin(sql) == "1").then_some(())
    });
    let process = u32::from_be_bytes([key[0], key[1], key[2], key[3]]);
    // A beginning of the key is no key.
    let cancel = |agent: &mut Agent, secret: &[u8]| {
        let mut stream: TcpStream = agent.connect(stage.postgres.address()).unwrap();
        stream.write_all(&wire::cancel(process, secret)).unwrap();
        wire::read_to_close(&mut stream, Duration::from_secs(10)).expect("a closed connection");
    };
    cancel(&mut agent, &key[4..8]);
    cancel(&mut agent, &key[4..]);
    assert_eq!(read().0, b'T');
    let (tag, body) = read();
    assert_eq!((tag, wire::error_of(&body).code()), (b'E', "57014"));
    let cancels = stage.daemon.audit_search(&["--outcome", "denied"]);
    assert_eq!(cancels.iter().filter(|record| record.to_string().contains("cancel-key")).count(), 1);
}

#[test]
fn a_row_that_is_too_large_to_be_masked_is_refused_and_says_so() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let small = client.query("SELECT email, repeat('x', 1000000) FROM customers ORDER BY id LIMIT 1");
    assert_eq!(small.rows.len(), 1, "{:?}", small.errors);
    let reply = client.query("SELECT email, repeat('x', 20000000) FROM customers ORDER BY id LIMIT 1");
    assert_eq!((reply.error().code(), reply.status, reply.rows.len()), ("54000", 'X', 0));
    assert!(reply.error().message().contains("leave the masked columns out"), "{:?}", reply.error());
}

/// What is masked of a target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Masks {
    Usual,
    None,
}

/// A stage whose server is one that cheats, and a session with it.
fn cheated(offer: Offer, masks: Masks) -> (Stage, Interposer, Agent, Client) {
    let postgres = Postgres::start();
    let interposer =
        Interposer::start(postgres.address(), &postgres.authority(), Front::Plain, Back::Plain, offer);
    let address = interposer.address();
    let stage = Stage::around(postgres, |settings| {
        settings.targets[0].address = address;
        if masks == Masks::None {
            settings.targets[0].tags.clear();
        }
        "limits: { idle_timeout: 4s }\n".clone_into(&mut settings.more);
    });
    let mut agent = stage.agent();
    let client = Client::start(agent.connect(address).unwrap()).expect("a session");
    (stage, interposer, agent, client)
}

#[test]
fn a_server_that_breaks_the_protocol_loses_the_session_and_nothing_of_it_gets_through() {
    const MARK: &str = "marked";
    let cases: &[(&str, &[u8])] = &[
        ("rows that nobody described", b"D\0\0\0\x0c\0\x01\0\0\0\x02hiC\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I"),
        ("a negative length", b"D\xff\xff\xff\xffmarked"),
        ("a length of nothing", b"C\0\0\0\0"),
        ("a notice of two GiB", b"N\x7f\xff\xff\xffSERROR\0"),
        ("COPY both ways", b"W\0\0\0\x07\0\0\0"),
        ("COPY in that nobody asked for", b"G\0\0\0\x07\0\0\0"),
        ("a request for a password", b"R\0\0\0\x08\0\0\0\x03"),
        ("another key", b"K\0\0\0\x0c\0\0\0\x01\0\0\0\x02"),
        ("a change of the encoding", b"S\0\0\0\x19client_encoding\0SJIS\0"),
        ("a change of how strings are read", b"S\0\0\0\x24standard_conforming_strings\0off\0"),
        ("a type that is none", b"y\0\0\0\x04"),
        ("ready in a state that is none", b"Z\0\0\0\x05X"),
        ("an answer to another request", b"1\0\0\0\x04"),
    ];
    for (case, bytes) in cases {
        let (mut stage, _interposer, _agent, mut client) =
            cheated(Offer::Replaced(MARK, bytes), Masks::Usual);
        let reply = client.query("SELECT 'marked'");
        assert_eq!(reply.status, 'X', "{case}: {reply:?}");
        assert!(reply.rows.is_empty() && !reply.order.contains(['W', 'G', 'K', 'R']), "{case}: {reply:?}");
        assert!(stage.daemon.is_alive(), "{case}");
    }
}

#[test]
fn a_server_that_answers_a_function_call_that_nobody_made_loses_the_session() {
    // The server's whole answer is replaced.
    let simple: &'static [u8] = b"V\0\0\0\x0a\0\0\0\x02hiC\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";
    let extended: &'static [u8] =
        b"1\0\0\0\x042\0\0\0\x04V\0\0\0\x0a\0\0\0\x02hiC\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";
    for (is_extended, answer) in [(false, simple), (true, extended)] {
        let (_stage, _interposer, _agent, mut client) =
            cheated(Offer::Replaced("marked", answer), Masks::None);
        let reply = if is_extended {
            // Not described: what comes is passed on without a look at its columns.
            client.parse("", "SELECT 'marked'");
            client.bind("", "", &[], 0);
            client.execute("", 0);
            client.sync()
        } else {
            client.query("SELECT 'marked'")
        };
        assert_eq!(reply.status, 'X', "{is_extended}: {reply:?}");
        assert!(!reply.order.contains('V'), "{is_extended}: {reply:?}");
    }
}

#[test]
fn a_server_that_stalls_in_the_middle_of_a_message_loses_the_session() {
    let (_stage, _interposer, _agent, mut client) = cheated(Offer::Stalled("marked"), Masks::Usual);
    let began = Instant::now();
    let reply = client.query("SELECT 'marked'");
    assert_eq!(reply.status, 'X', "{reply:?}");
    assert!(began.elapsed() < Duration::from_secs(25), "before the client gave up itself");
}
