//! Cancelling: the right session stops, and only for the one that owns it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    io::Write as _,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use nodegate_tests::{
    postgres,
    programs::{Said, wait_for},
    stage::{Stage, psql_words},
    wire::{self, Client},
};

/// Runs for minutes unless it is cancelled.
const LONG: &str = "SELECT count(*) FROM generate_series(1, 100000000) AS a, generate_series(1, 1000) AS b";

fn start_long_query(stage: &Stage, client: &mut Client) {
    let mut body = LONG.as_bytes().to_vec();
    body.push(0);
    client.send(b'Q', &body);
    wait_for("the long query to run", Duration::from_secs(10), || running(stage).then_some(()));
}

fn running(stage: &Stage) -> bool {
    stage
        .postgres
        .admin("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%1000) AS b'")
        == "1"
}

#[test]
fn a_cancel_request_of_the_owner_stops_its_query_and_the_session_goes_on() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let (process, secret) = client.key.clone().expect("a key to cancel with");
    start_long_query(&stage, &mut client);
    let mut second = agent.connect(stage.postgres.address()).unwrap();
    second.write_all(&wire::cancel(process, &secret)).unwrap();
    let reply = client.until_ready();
    assert_eq!((reply.error().code(), reply.status), ("57014", 'I'));
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
}

#[test]
fn the_key_is_the_daemons_own_and_of_no_use_to_another_agent() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let (process, secret) = client.key.clone().expect("a key to cancel with");
    start_long_query(&stage, &mut client);

    // Another cgroup, even with the very key: the right key alone is not enough.
    let mut stranger = stage.daemon.agent(&stage.issuer.token("agent-2"));
    let mut stream = stranger.connect(stage.postgres.address()).unwrap();
    stream.write_all(&wire::cancel(process, &secret)).unwrap();
    // The owner with a wrong secret.
    let mut wrong = secret.clone();
    wrong[0] ^= 1;
    let mut stream = agent.connect(stage.postgres.address()).unwrap();
    stream.write_all(&wire::cancel(process, &wrong)).unwrap();
    // From outside, straight at the server: the key means nothing there.
    let mut stream = std::net::TcpStream::connect(stage.postgres.address()).unwrap();
    stream.write_all(&wire::cancel(process, &secret)).unwrap();
    thread::sleep(Duration::from_millis(700));
    assert!(running(&stage), "somebody else's cancel stopped it");

    let mut stream = agent.connect(stage.postgres.address()).unwrap();
    stream.write_all(&wire::cancel(process, &secret)).unwrap();
    assert_eq!(client.until_ready().error().code(), "57014");
}

#[test]
fn control_c_in_a_captured_psql_cancels_the_query() {
    let stage = Stage::new();
    let mut run: Command = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    run.args(psql_words(&stage.postgres, &["-At", "-c", LONG])).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = run.spawn().unwrap();
    wait_for("the long query to run", Duration::from_secs(20), || running(&stage).then_some(()));
    let started = Instant::now();
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let said = Said::from_output(&child.wait_with_output().unwrap());
    assert!(said.err.contains("canceling statement due to user request"), "{said:?}");
    assert_eq!(said.status, 1, "{said:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
    wait_for("the query to end", Duration::from_secs(5), || (!running(&stage)).then_some(()));
}

/// A psql of the superuser that keeps a table of the catalogue locked which is read where the schema is, and nowhere else.
struct Locked {
    psql: Child,
}

impl Locked {
    fn hold(stage: &Stage) -> Self {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-U", "postgres", "-d", postgres::DATABASE, "-h"]);
        psql.arg(stage.postgres.socket_folder()).args(["-p", &stage.postgres.port().to_string()]);
        let mut psql = psql.stdin(Stdio::piped()).spawn().expect("psql");
        let lock = b"BEGIN; LOCK TABLE pg_catalog.pg_inherits IN ACCESS EXCLUSIVE MODE;\n";
        psql.stdin.as_mut().unwrap().write_all(lock).unwrap();
        let held = "SELECT count(*) FROM pg_locks WHERE relation = 'pg_inherits'::regclass AND granted \
                    AND mode = 'AccessExclusiveLock'";
        wait_for("the lock", Duration::from_secs(10), || (stage.postgres.admin(held) == "1").then_some(()));
        Self { psql }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        drop(self.psql.stdin.take());
        self.psql.wait().expect("psql");
    }
}

fn waits_for_the_schema(stage: &Stage) {
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%pg_inherits%'";
    wait_for("the schema to be asked for", Duration::from_secs(10), || {
        (stage.postgres.admin(waiting) == "1").then_some(())
    });
}

/// A request that needs the schema.
type Request = (&'static str, fn(&mut Client));

/// `s` is a statement that was prepared.
const REQUESTS: [Request; 4] = [
    ("Query", |client| client.send(b'Q', b"SELECT count(*) FROM orders\0")),
    ("Parse", |client| {
        client.parse("", "SELECT count(*) FROM orders");
        client.bind("", "", &[], 0);
        client.execute("", 0);
        client.send(b'S', b"");
    }),
    ("Bind", |client| {
        client.bind("", "s", &[], 0);
        client.execute("", 0);
        client.send(b'S', b"");
    }),
    ("large Bind", |client| {
        client.bind("", "s", &[&" ".repeat(200_000)], 0);
        client.execute("", 0);
        client.send(b'S', b"");
    }),
];

#[test]
fn a_cancel_request_that_meets_the_look_at_the_schema_ends_the_statement_and_not_the_session() {
    let stage = Stage::with(|settings| {
        r#"@id("all") permit (principal, action, resource);"#.clone_into(&mut settings.policy);
    });
    let mut agent = stage.agent();
    for (name, request) in REQUESTS {
        for block in [false, true] {
            let mut client = stage.client(&mut agent);
            let (process, secret) = client.key.clone().unwrap();
            let parameter = if name == "large Bind" { "$1::text" } else { "''" };
            client.parse("s", &format!("SELECT length({parameter}), count(*) FROM orders"));
            assert_eq!(client.sync().order, "1Z");
            if block {
                client.query("BEGIN");
            }
            assert_eq!(client.query("CREATE TEMPORARY TABLE own (id integer)").errors, []);
            let locked = Locked::hold(&stage);
            request(&mut client);
            waits_for_the_schema(&stage);
            let mut second = agent.connect(stage.postgres.address()).unwrap();
            second.write_all(&wire::cancel(process, &secret)).unwrap();
            let reply = client.until_ready();
            let status = if block { 'E' } else { 'I' };
            assert_eq!((reply.order.as_str(), reply.status), ("EZ", status), "{name}: {reply:?}");
            assert_eq!(reply.error().code(), "57014", "{name}: {reply:?}");
            let said = "canceling statement due to user request";
            assert!(reply.error().message().contains(said), "{name}: {reply:?}");
            drop(locked);
            client.query("ROLLBACK");
            assert_eq!(client.query("SELECT count(*) FROM orders").texts(), [["600"]], "{name}");
        }
    }
    let denied = stage.daemon.audit_search(&["--outcome", "denied"]);
    let other = denied.iter().find(|record| record["event"]["policies"][0] != "builtin/interrupted");
    assert!(denied.len() == 2 * REQUESTS.len() && other.is_none(), "{} {other:?}", denied.len());
}

/// Time-outs of a client that are shorter than a look at the schema may be, as its startup message sets them and as SHOW has
/// them.
const SHORT: [(&str, &str); 3] =
    [("statement_timeout", "150ms"), ("lock_timeout", "50ms"), ("idle_in_transaction_session_timeout", "5s")];

fn shown(client: &mut Client) {
    for (name, value) in SHORT {
        assert_eq!(client.query(&format!("SHOW {name}")).texts(), [[value]]);
    }
}

#[test]
fn a_clients_time_outs_are_for_its_own_statements_and_not_for_the_look_at_the_schema() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let after_a_while = |locked: Locked, stage: &Stage| {
        waits_for_the_schema(stage);
        thread::sleep(Duration::from_millis(400));
        drop(locked);
    };
    let locked = Locked::hold(&stage);
    let stream = agent.connect(stage.postgres.address()).unwrap();
    let begins = thread::spawn(move || {
        let usual = [("user", "somebody"), ("database", postgres::DATABASE)];
        Client::start_as(stream, &usual.into_iter().chain(SHORT).collect::<Vec<_>>()).expect("a session")
    });
    after_a_while(locked, &stage);
    let mut client = begins.join().unwrap();
    shown(&mut client);
    // What a startup message has set, RESET brings back.
    client.query("SET statement_timeout = '1h'");
    client.query("RESET ALL");
    shown(&mut client);
    for (begin, name) in [("", "one"), ("BEGIN", "two")] {
        client.query(begin);
        assert_eq!(client.query(&format!("CREATE TEMPORARY TABLE {name} (id integer)")).errors, []);
        let locked = Locked::hold(&stage);
        client.send(b'Q', b"SELECT count(*) FROM orders\0");
        after_a_while(locked, &stage);
        assert_eq!(client.until_ready().texts(), [["600"]], "{begin}");
        shown(&mut client);
        assert_eq!(client.query(LONG).error().code(), "57014", "{begin}");
        client.query("ROLLBACK");
    }
}

#[test]
fn a_notification_that_comes_during_the_look_at_the_schema_is_passed_on() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    assert_eq!(client.query("LISTEN news").errors, []);
    assert_eq!(client.query("CREATE TEMPORARY TABLE own (id integer)").errors, []);
    let locked = Locked::hold(&stage);
    client.send(b'Q', b"SELECT count(*) FROM orders\0");
    waits_for_the_schema(&stage);
    stage.postgres.admin("NOTIFY news, 'hello'");
    drop(locked);
    let reply = client.until_ready();
    assert!(reply.texts() == [["600"]] && reply.order.contains('A'), "{reply:?}");
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
}
