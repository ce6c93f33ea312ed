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

/// Not a test but a measurement: `cargo test … -- --ignored --nocapture what_a_connect_costs`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement; wants a quiet machine and sets kernel.bpf_stats_enabled"]
async fn what_a_connect_costs() {
    const COUNT: usize = 20_000;
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let mut agent = Agent::start(None);
    let started = std::time::Instant::now();
    capture.intercept.start_run(agent.pid(), Some("bench")).await.unwrap();
    println!("start_run {} us", started.elapsed().as_micros());
    let mut free = Agent::start(None);
    let server = tokio::net::TcpSocket::new_v4().unwrap();
    server.bind(parsed("127.0.0.1:0")).unwrap();
    let server = server.listen(4096).unwrap();
    let address = server.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok(stream) = server.accept().await {
            drop(stream);
        }
    });
    tokio::spawn(async move {
        while let Some(arrival) = capture.streams.arrivals.recv().await {
            drop(arrival);
        }
    });
    for round in 0..3 {
        println!("round {round}: free {} ns", free.ask(&format!("storm {COUNT} {address}")));
        println!("round {round}: captured {} ns", agent.ask(&format!("storm {COUNT} {address}")));
    }
    let switch = "/proc/sys/kernel/bpf_stats_enabled";
    std::fs::write(switch, "1").unwrap();
    agent.ask(&format!("storm {COUNT} {address}"));
    agent.ask(&format!("storm {COUNT} [2001:db8::1]:1"));
    let stats = std::process::Command::new("bpftool").args(["prog", "show"]).output().unwrap();
    std::fs::write(switch, "0").unwrap();
    for line in String::from_utf8_lossy(&stats.stdout).lines().filter(|line| line.contains("nodegate")) {
        println!("{line}");
    }
}
