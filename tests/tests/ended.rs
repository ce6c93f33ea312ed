//! Sessions that must end: their identity has ended, policy does not let them connect any more, their target is gone from the
//! configuration, the daemon stops. Each ends within a second, in its protocol's own words, and its end is recorded.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::sys::signal::Signal;
use nodegate_tests::{
    agent::Agent,
    daemon::POLICY,
    programs::wait_for,
    stage::Stage,
    tokens::now,
    wire::{Client, ServerError, read_to_close},
};
use serde_json::{Value, json};

/// A session is over so long after it must end; as much again is what a busy machine may add.
const WITHIN: Duration = Duration::from_secs(2);
/// Before the daemon is told of a change it waits for the file to settle.
const SETTLED: Duration = Duration::from_millis(150);

/// A shop, and a cache that nobody looks into.
fn stage() -> (Stage, TcpListener) {
    let cache = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = cache.local_addr().unwrap().port();
    let stage = Stage::with(|settings| {
        let cache = format!("{{ name: cache, protocol: tcp, hosts: [\"127.0.0.1\"], ports: [{port}] }}");
        settings.more_targets.push(cache);
        "recording: {}\nlimits: { drain_timeout: 1s }\n".clone_into(&mut settings.more);
    });
    (stage, cache)
}

/// A session with the cache through which four bytes went and three came.
fn through(agent: &mut Agent, cache: &TcpListener) -> (TcpStream, TcpStream) {
    let mut near = agent.connect(cache.local_addr().unwrap()).unwrap();
    let (mut far, _) = cache.accept().unwrap();
    near.write_all(b"four").unwrap();
    far.read_exact(&mut [0; 4]).unwrap();
    far.write_all(b"one").unwrap();
    near.read_exact(&mut [0; 3]).unwrap();
    (near, far)
}

/// When a connection was reset, which it must be.
fn reset_at(stream: &mut TcpStream) -> Instant {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let error = stream.read(&mut [0]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    Instant::now()
}

/// What a session is told at its end, which comes without being asked for.
fn told(client: &mut Client) -> (ServerError, Instant) {
    let reply = client.until_ready();
    assert_eq!((reply.order.as_str(), reply.status), ("E", 'X'), "one error, then the end: {reply:?}");
    (reply.error().clone(), Instant::now())
}

/// The record of the end of the one session with that target.
fn closed(stage: &Stage, target: &str) -> Value {
    let closed = || {
        let mut found = stage.daemon.audit_search(&["--kind", "close", "--target", target]);
        assert!(found.len() < 2, "{found:?}");
        found.pop().map(|record| record["event"].clone())
    };
    wait_for("the end to be recorded", Duration::from_secs(10), closed)
}

/// The end of the recording of a session that asked for so much.
fn assert_recorded(stage: &Stage, requests: u64, reason: &str) {
    let lines = stage.daemon.ended_recordings(1).remove(0);
    let end = lines.last().unwrap();
    assert_eq!((&end["kind"], &end["requests"]), (&json!("end"), &json!(requests)), "{end}");
    assert!(end["reason"].as_str().unwrap().contains(reason), "{end}");
}

fn assert_within(end: Instant, since: Instant, limit: Duration) {
    let took = end.duration_since(since);
    assert!(took < limit, "{took:?}");
}

/// A row that no buffer between the two holds.
const ROW_BYTES: usize = 60_000_000;

#[test]
fn a_session_ends_with_its_identity() {
    let (stage, cache) = stage();
    let expires = now() + 5;
    let mut agent = stage.daemon.agent(&stage.issuer.token_with("agent-1", &json!({ "exp": expires })));
    let mut client = stage.client(&mut agent);
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
    let (mut near, _far) = through(&mut agent, &cache);
    let left = (UNIX_EPOCH + Duration::from_secs(expires.try_into().unwrap()))
        .duration_since(SystemTime::now())
        .unwrap();
    let since = Instant::now() + left;

    let (error, end) = told(&mut client);
    assert_eq!(error.code(), "57P01");
    assert!(error.text().contains("expired"), "{error:?}");
    assert!(end > since, "it was good until then");
    assert_within(end, since, WITHIN);
    assert_within(reset_at(&mut near), since, WITHIN);
    for target in ["shop", "cache"] {
        let closed = closed(&stage, target);
        assert!(closed["reason"].as_str().unwrap().contains("expired"), "{closed}");
        assert_eq!(closed["policies"], json!(["builtin/identity"]), "{closed}");
    }
    assert!(closed(&stage, "cache")["reason"].as_str().unwrap().contains("4 bytes sent, 3 received"));
    assert_recorded(&stage, 1, "expired");
}

#[test]
fn a_session_ends_when_policy_does_not_let_it_connect_any_more() {
    let (stage, cache) = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    assert_eq!(client.query("BEGIN").status, 'T');
    let (mut near, _far) = through(&mut agent, &cache);
    let mut spared = stage.daemon.agent(&stage.issuer.token("agent-2"));
    let mut spared = stage.client(&mut spared);
    let revoked = r#"
@id("agent-1-is-locked-out")
@message("Talk to the platform team.")
forbid (principal, action == Action::"connect", resource) when { principal.subject == "agent-1" };
"#;
    let since = Instant::now() + SETTLED;
    stage.daemon.set_policy(&format!("{POLICY}{revoked}"));

    let (error, end) = told(&mut client);
    assert_eq!(error.code(), "57P01");
    assert!(error.text().contains("agent-1-is-locked-out"), "{error:?}");
    assert!(error.text().contains("Talk to the platform team."), "{error:?}");
    assert_within(end, since, WITHIN);
    assert_within(reset_at(&mut near), since, WITHIN);
    for target in ["shop", "cache"] {
        let records = wait_for("the end to be recorded", Duration::from_secs(10), || {
            let found = stage.daemon.audit_search(&["--kind", "close", "--target", target]);
            (!found.is_empty()).then_some(found)
        });
        assert_eq!(records.len(), 1, "{records:?}");
        assert_eq!(records[0]["event"]["policies"], json!(["agent-1-is-locked-out"]), "{records:?}");
    }
    assert_recorded(&stage, 1, "policy");
    assert_eq!(spared.query("SELECT 2").texts(), [["2"]], "whom it does not concern goes on");
}

#[test]
fn a_session_ends_with_its_target() {
    let (stage, cache) = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
    let (mut near, _far) = through(&mut agent, &cache);
    let since = Instant::now() + SETTLED;
    stage.daemon.edit_config("name: shop", "name: store");
    let (error, end) = told(&mut client);
    assert_eq!(error.code(), "57P01");
    assert!(error.text().contains("target shop is not in the configuration any more"), "{error:?}");
    assert_within(end, since, WITHIN);
    near.write_all(b"more").unwrap();
    let since = Instant::now() + SETTLED;
    stage.daemon.edit_config("name: cache", "name: memory");
    assert_within(reset_at(&mut near), since, WITHIN);
    for target in ["shop", "cache"] {
        let closed = closed(&stage, target);
        let reason = format!("target {target} is not in the configuration any more");
        assert!(closed["reason"].as_str().unwrap().contains(&reason), "{closed}");
    }
    assert!(closed(&stage, "cache")["reason"].as_str().unwrap().contains("8 bytes sent, 3 received"));
    assert_recorded(&stage, 1, "target shop");
    // Under its new name it is a target like any other.
    assert_eq!(stage.client(&mut agent).query("SELECT 2").texts(), [["2"]]);
}

#[test]
fn a_session_that_outlives_the_drain_is_told_and_recorded() {
    let (mut stage, cache) = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for _ in 0..14 {
        assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
    }
    let (mut near, _far) = through(&mut agent, &cache);
    let since = Instant::now() + Duration::from_secs(1);
    stage.daemon.signal(Signal::SIGTERM);
    assert_eq!(client.query("SELECT 2").texts(), [["2"]], "for as long as limits.drain_timeout says");
    let (error, end) = told(&mut client);
    assert_eq!(error.code(), "57P01");
    assert!(error.text().contains("nodegate stops"), "{error:?}");
    assert!(end > since);
    assert_within(end, since, WITHIN);
    assert_within(reset_at(&mut near), since, WITHIN);
    wait_for("the daemon to end", Duration::from_secs(10), || (!stage.daemon.is_alive()).then_some(()));
    for target in ["shop", "cache"] {
        let closed = closed(&stage, target);
        assert!(closed["reason"].as_str().unwrap().contains("nodegate stops"), "{closed}");
    }
    assert!(closed(&stage, "cache")["reason"].as_str().unwrap().contains("4 bytes sent, 3 received"));
    assert_recorded(&stage, 15, "nodegate stops");
    stage.daemon.audit_command(&["verify"]).ok();
}

#[test]
fn what_runs_for_a_session_that_must_end_is_cancelled_and_taken_back() {
    let (stage, _cache) = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let before = stage.postgres.admin("SELECT count(*) FROM orders");
    let sql = "INSERT INTO orders (customer_id, status, ordered_at) SELECT 1, 'open', now() FROM \
               (SELECT count(*) FROM generate_series(1, 10000) AS a, generate_series(1, 10000) AS b, \
               generate_series(1, 10000) AS slow) AS counted";
    client.send(b'Q', format!("{sql}\0").as_bytes());
    let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%AS counted'";
    wait_for("it to run", Duration::from_secs(10), || (stage.postgres.admin(running) == "1").then_some(()));
    let since = Instant::now() + SETTLED;
    stage.daemon.set_policy("");
    let (error, end) = told(&mut client);
    assert_eq!(error.code(), "57P01");
    assert_within(end, since, WITHIN);
    wait_for("the server to give it up", Duration::from_secs(5), || {
        (stage.postgres.admin(running) == "0").then_some(())
    });
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM orders"), before);
}

#[test]
fn a_released_workload_keeps_no_session() {
    let (stage, cache) = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let (mut near, _far) = through(&mut agent, &cache);
    let cgroup = stage.daemon.status()["workloads"][0]["cgroup"].to_string();
    let mut remove = stage.daemon.nodegate(&["capture", "remove", &cgroup]);
    assert!(remove.status().unwrap().success());
    let (error, _) = told(&mut client);
    assert_eq!(error.code(), "57P01");
    assert!(error.text().contains("released"), "{error:?}");
    reset_at(&mut near);
}

#[test]
fn a_session_in_the_middle_of_a_large_reply_is_cut_and_not_confused() {
    let (stage, _cache) = stage();
    let mut agent = stage.agent();
    let mut near = agent.connect(stage.postgres.address()).unwrap();
    let mut client = Client::start(near.try_clone().unwrap()).unwrap();
    // One row far larger than what is held of a session, of which the client takes a part.
    client.send(b'Q', format!("SELECT repeat('x', {ROW_BYTES})\0").as_bytes());
    near.read_exact(&mut vec![0; 1 << 20]).unwrap();
    stage.daemon.set_policy("");
    let seen = closed(&stage, "shop");
    assert_eq!(seen["policies"], json!(["builtin/default-deny"]), "{seen}");
    let rest = read_to_close(&mut near, Duration::from_secs(10)).expect("the end");
    assert!(rest.len() + (1 << 20) < ROW_BYTES, "the row is cut");
    assert!(rest.iter().all(|byte| *byte == b'x'), "nothing is put into the middle of a row");
}
