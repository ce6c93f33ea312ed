//! Cancelling: the right session stops, and only for the one that owns it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    io::Write as _,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use nodegate_tests::{
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
