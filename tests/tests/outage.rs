//! The daemon gone: captured connections are refused at once, nothing goes direct, and a restart heals it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    io::ErrorKind,
    net::SocketAddr,
    time::{Duration, Instant},
};

use nodegate_tests::{agent::Agent, daemon::Daemon, programs, stage::Stage, wire::Client};

/// That a connection is refused, and fast.
fn assert_refused(agent: &mut Agent, to: SocketAddr) {
    let started = Instant::now();
    let refused = agent.connect(to).expect_err("nothing may be reached without the daemon");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{refused}");
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

fn identity_in(stage: &Stage) -> Option<String> {
    let records = stage.daemon.audit_search(&["--limit", "0", "--oldest-first"]);
    let mut connects = records.iter().filter(|record| record.to_string().contains("\"connect\""));
    connects.next_back().map(ToString::to_string)
}

#[test]
fn a_killed_daemon_leaves_nothing_open_and_its_successor_takes_over() {
    let mut stage = Stage::new();
    let to = stage.postgres.address();
    let mut agent = stage.agent();
    let mut before = stage.client(&mut agent);
    assert_eq!(before.query("SELECT 1").texts(), [["1"]]);
    let reached = stage.postgres.connections_received();

    stage.daemon.kill();
    assert_eq!(before.query("SELECT 1").status, 'X', "the session ended with the daemon");
    for _ in 0..5 {
        assert_refused(&mut agent, to);
    }
    assert_eq!(stage.postgres.connections_received(), reached, "nothing went direct");
    let control = stage.direct(nodegate_tests::postgres::PASSWORD, &["-At", "-c", "SELECT 1"], "");
    assert_eq!(control.ok(), "1\n", "the way is open outside");

    stage.daemon.restart();
    // The cgroup was not touched: its processes, its links and its identity are what they were.
    let mut after = stage.client(&mut agent);
    let seen = after.query("SELECT email, name FROM customers WHERE id = 1").texts();
    assert_eq!(seen[0][1], "Grace Hopper");
    assert!(!seen[0][0].contains("hopper"), "{seen:?}");
    let record = identity_in(&stage).expect("a connect record");
    assert!(record.contains("agent-1"), "{record}");
}

#[test]
fn a_token_in_the_environment_identifies_again_after_a_restart() {
    let mut stage = Stage::with(|settings| {
        settings.sources = vec!["{ kind: environment, variable: NODEGATE_ID_TOKEN }".to_owned()];
    });
    let mut run = stage.daemon.run(None);
    run.env("NODEGATE_ID_TOKEN", stage.issuer.token("agent-1"));
    let mut agent = Agent::start(run).expect("a captured agent");
    let mut client = stage.client(&mut agent);
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
    stage.daemon.kill();
    assert_refused(&mut agent, stage.postgres.address());
    stage.daemon.restart();
    let mut client = stage.client(&mut agent);
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
}

#[test]
fn a_daemon_that_is_told_to_end_leaves_nothing_open_either() {
    let mut stage = Stage::new();
    let to = stage.postgres.address();
    let mut agent = stage.agent();
    stage.client(&mut agent);
    stage.daemon.terminate();
    assert_refused(&mut agent, to);
    stage.daemon.restart();
    let mut client = stage.client(&mut agent);
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
}

#[test]
fn a_stopped_daemon_lets_nothing_through() {
    use nix::sys::signal::Signal;
    let stage = Stage::new();
    let mut agent = stage.agent();
    stage.client(&mut agent);
    let reached = stage.postgres.connections_received();
    stage.daemon.signal(Signal::SIGSTOP);
    // The kernel accepts for it, so the connection stands; but nobody speaks on it.
    if let Ok(stream) = agent.connect(stage.postgres.address()) {
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut peeked = [0];
        assert!(stream.peek(&mut peeked).is_err());
    }
    assert_eq!(stage.postgres.connections_received(), reached);
    stage.daemon.signal(Signal::SIGCONT);
    let stream = agent.connect(stage.postgres.address()).unwrap();
    Client::start(stream).expect("a session once it runs again");
}

#[test]
fn restarts_do_not_pile_up_pins_or_descriptors() {
    let mut stage = Stage::new();
    let mut agent = stage.agent();
    stage.client(&mut agent);
    let pins = |daemon: &Daemon| count_files(&daemon.pins());
    stage.daemon.kill();
    stage.daemon.restart();
    stage.client(&mut agent);
    let (first_pins, first_open) = (pins(&stage.daemon), programs::descriptors(stage.daemon.pid()));
    for _ in 0..5 {
        stage.daemon.kill();
        stage.daemon.restart();
    }
    stage.client(&mut agent);
    assert_eq!(pins(&stage.daemon), first_pins);
    let open = programs::descriptors(stage.daemon.pid());
    assert!(open <= first_open + 4, "{first_open} descriptors grew to {open}");
}

fn count_files(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| if entry.path().is_dir() { count_files(&entry.path()) } else { 1 }).sum()
}
