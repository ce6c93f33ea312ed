//! Many connections: each attributed, nothing left behind.

use std::collections::HashMap;

use super::{
    agent::Agent,
    bench::{Ground, eventually, parsed},
};

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_short_connections_is_attributed_one_by_one_and_leaves_nothing() {
    const EACH: usize = 10_000;
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (first, first_run) = capture.run(None, "first").await;
    let (second, second_run) = capture.run(None, "second").await;
    let before = descriptors();
    let storms = [(first, "192.0.2.1:1 192.0.2.2:2"), (second, "[2001:db8::3]:3 192.0.2.4:4")].map(
        |(mut agent, targets): (Agent, &str)| {
            let order = format!("storm {EACH} {targets}");
            tokio::task::spawn_blocking(move || {
                let answer = tokio::runtime::Handle::current().block_on(async { agent.ask(&order) });
                assert!(answer.starts_with("ok"), "{answer}");
                agent
            })
        },
    );
    let mut seen: HashMap<_, usize> = HashMap::new();
    for _ in 0..2 * EACH {
        let flow = capture.arrival().await.flow;
        *seen.entry((flow.captured_cgroup, flow.original_destination.socket_addr())).or_default() += 1;
    }
    for storm in storms {
        storm.await.unwrap();
    }
    let expected = HashMap::from([
        ((first_run.cgroup, parsed("192.0.2.1:1")), EACH / 2),
        ((first_run.cgroup, parsed("192.0.2.2:2")), EACH / 2),
        ((second_run.cgroup, parsed("[2001:db8::3]:3")), EACH / 2),
        ((second_run.cgroup, parsed("192.0.2.4:4")), EACH / 2),
    ]);
    assert_eq!(seen, expected);
    assert!(capture.streams.unattributed.try_recv().is_err(), "everything was attributed");
    capture.no_records().await;
    eventually("descriptors are left", || descriptors() <= before + 16).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_at_once_are_held() {
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (mut agent, _) = capture.run(None, "many").await;
    let held = tokio::task::spawn_blocking(move || {
        let answer = tokio::runtime::Handle::current().block_on(async { agent.ask("hold 1000 192.0.2.1:1") });
        assert_eq!(answer, "ok");
        agent
    });
    let mut arrivals = Vec::new();
    for _ in 0..1000 {
        arrivals.push(capture.arrival().await);
    }
    drop(held.await.unwrap());
    capture.no_records().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_nobody_accepts_leave_no_record_when_the_next_daemon_comes() {
    let ground = Ground::new();
    let capture = ground.start().await;
    let (mut agent, _) = capture.run(None, "ci").await;
    // More than the channel of arrivals holds: the rest stays in the listener's queue, with its records.
    assert_eq!(agent.ask("hold 1200 192.0.2.1:1"), "ok");
    eventually("records should wait", || capture.intercept.flow_records() > 0).await;
    drop(capture);
    let capture = ground.start().await;
    assert_eq!(capture.intercept.flow_records(), 0);
    drop(agent);
}
