//! Processes that come into captured cgroups with what they have open.

use std::{
    collections::HashSet,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use gateway_common::maps;
use tokio::time::sleep;

use super::{
    agent::Agent,
    bench::{Capture, Ground},
};
use crate::intercept::{RefusalReason, probe};

/// Long enough for everything that would be ended to be ended.
const LONG_ENOUGH: Duration = Duration::from_millis(400);

/// A target with its address.
fn target() -> (TcpListener, SocketAddr) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    (server, address)
}

fn move_in(agent: &Agent, cgroup: &Path) {
    fs::write(cgroup.join("cgroup.procs"), agent.pid().to_string()).unwrap();
}

fn is_cut(connection: &mut TcpStream) -> bool {
    connection.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    match connection.read(&mut [0; 8]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

async fn nothing_more(capture: &mut Capture) {
    sleep(LONG_ENOUGH).await;
    let more = capture.streams.refusals.try_recv();
    assert!(more.is_err(), "{more:?}");
}

#[test]
fn the_doctor_says_that_moves_are_seen() {
    let promises = probe::promises();
    let moved = promises.iter().find(|check| check.name == "moved-processes").unwrap();
    assert!(!moved.is_broken(), "{moved:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_brings_along_is_ended_but_for_what_came_to_it_and_what_was_made_inside() {
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (server, target) = target();
    let sink = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagrams = sink.local_addr().unwrap();
    let mut agent = Agent::start(None);
    assert!(agent.ask("serve 127.0.0.78:20323").starts_with("ok"));
    let mut visitor = TcpStream::connect("127.0.0.78:20323").unwrap();
    assert_eq!(agent.ask("accept"), "ok");
    assert_eq!(agent.ask(&format!("udp-keep {datagrams}")), "ok");
    agent.connect(&format!("tcp {target}"));
    let (mut before, _) = server.accept().unwrap();

    let workload = capture.intercept.start_run(agent.pid(), Some("moved")).await.unwrap();
    let mut ended = HashSet::new();
    for _ in 0..2 {
        let refusal = capture.refusal().await;
        assert_eq!(refusal.reason, RefusalReason::ExistingEnded);
        assert_eq!((refusal.captured_cgroup, refusal.pid), (Some(workload.cgroup), agent.pid()));
        ended.insert((refusal.protocol, refusal.destination));
    }
    assert_eq!(ended, HashSet::from([(6, Some(target)), (17, Some(datagrams))]));
    assert!(is_cut(&mut before));
    visitor.write_all(b"hello").unwrap();
    assert_eq!(agent.ask("hear"), "heard hello", "a visitor's stays");

    // Another one, which moves in by itself.
    let (agents, other) = (ground.cgroup("agents"), ground.cgroup("others"));
    capture.intercept.capture(&agents, None).await.unwrap();
    capture.intercept.capture(&other, None).await.unwrap();
    let mut second = Agent::start(None);
    second.connect(&format!("tcp {target}"));
    move_in(&second, &agents);
    let refusal = capture.refusal().await;
    assert_eq!((refusal.reason, refusal.destination), (RefusalReason::ExistingEnded, Some(target)));
    assert_eq!(refusal.pid, second.pid());

    // What was made in one captured cgroup stays in another.
    second.connect(&format!("tcp {target}"));
    let mut arrival = capture.arrival().await;
    move_in(&second, &other);
    nothing_more(&mut capture).await;
    assert_eq!(second.ask("write hello"), "ok");
    let mut heard = [0; 5];
    tokio::io::AsyncReadExt::read_exact(&mut arrival.stream, &mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_a_socket_that_cannot_be_ended_is_ended() {
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let mut agent = Agent::start(None);
    assert_eq!(agent.ask("raw-keep"), "ok");
    let pid = agent.pid();
    capture.intercept.start_run(pid, None).await.unwrap();
    let refusal = capture.refusal().await;
    assert_eq!((refusal.reason, refusal.pid), (RefusalReason::ExistingKilled, pid));
    assert_eq!((refusal.family, refusal.protocol, refusal.destination), (2, 1, None));
    super::bench::eventually("it lives", || {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_only_reported_goes_on() {
    let ground = Ground::reporting();
    let mut capture = ground.start().await;
    let (server, target) = target();
    let mut agent = Agent::start(None);
    assert_eq!(agent.ask("raw-keep"), "ok");
    agent.connect(&format!("tcp {target}"));
    let (mut before, _) = server.accept().unwrap();
    capture.intercept.start_run(agent.pid(), None).await.unwrap();
    for _ in 0..2 {
        assert_eq!(capture.refusal().await.reason, RefusalReason::ExistingLeft);
    }
    nothing_more(&mut capture).await;
    assert_eq!(agent.ask("write hello"), "ok");
    let mut heard = [0; 5];
    before.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_moves_in_while_no_daemon_runs_is_looked_at_when_one_does() {
    let ground = Ground::new();
    let capture = ground.start().await;
    let agents = ground.cgroup("agents");
    capture.intercept.capture(&agents, None).await.unwrap();
    drop(capture);
    let (server, target) = target();
    // By the report that waited, and by looking at everybody where there was none.
    for without in ["", "moves"] {
        let mut agent = Agent::start(None);
        agent.connect(&format!("tcp {target}"));
        let (mut before, _) = server.accept().unwrap();
        if without == "moves" {
            let pins = ground.settings().pins.join("moves");
            for pin in fs::read_dir(&pins).unwrap() {
                fs::remove_file(pin.unwrap().path()).unwrap();
            }
            // The kernel detaches them by and by.
            sleep(LONG_ENOUGH).await;
        }
        move_in(&agent, &agents);
        let mut capture = ground.start().await;
        let refusal = capture.refusal().await;
        assert_eq!((refusal.reason, refusal.destination), (RefusalReason::ExistingEnded, Some(target)));
        assert!(is_cut(&mut before), "{without}");
        nothing_more(&mut capture).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_connects_all_the_time_is_left_alone_however_often_everybody_is_looked_at() {
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (mut agent, _) = capture.run(None, "busy").await;
    let mut lost: aya::maps::Array<_, u32> = ground.pinned(maps::MOVES_LOST, aya::maps::Map::Array);
    let lookers = tokio::task::spawn_blocking(move || {
        for _ in 0..100 {
            lost.set(0, 1, 0).unwrap();
            let mut passer_by = std::process::Command::new("true").spawn().unwrap();
            passer_by.wait().unwrap();
        }
    });
    let agents = ground.cgroup("agents");
    capture.intercept.capture(&agents, None).await.unwrap();
    for round in 0..20 {
        assert!(agent.ask(&format!("storm 100 {}", super::bench::NOWHERE)).starts_with("ok"), "{round}");
        let mut passer_by = std::process::Command::new("sleep").arg("1").spawn().unwrap();
        fs::write(agents.join("cgroup.procs"), passer_by.id().to_string()).unwrap();
        passer_by.kill().unwrap();
        passer_by.wait().unwrap();
        while let Ok(arrival) = capture.streams.arrivals.try_recv() {
            drop(arrival);
        }
    }
    lookers.await.unwrap();
    nothing_more(&mut capture).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_report_is_lost_everybody_is_looked_at() {
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let agents = ground.cgroup("agents");
    capture.intercept.capture(&agents, None).await.unwrap();
    let (server, target) = target();
    let mut agent = Agent::start(None);
    agent.connect(&format!("tcp {target}"));
    let (mut before, _) = server.accept().unwrap();
    // As if there had been no room for this one.
    for pin in fs::read_dir(ground.settings().pins.join("moves")).unwrap() {
        fs::remove_file(pin.unwrap().path()).unwrap();
    }
    sleep(LONG_ENOUGH).await;
    move_in(&agent, &agents);
    nothing_more(&mut capture).await;
    let mut lost: aya::maps::Array<_, u32> = ground.pinned(maps::MOVES_LOST, aya::maps::Map::Array);
    lost.set(0, 1, 0).unwrap();
    // Seen the next time that there is anything to look at, which a full buffer is.
    let others = ground.cgroup("others");
    let mut other = Agent::start(None);
    assert_eq!(other.ask("udp-until-exec"), "ok");
    move_in(&other, &others);
    capture.intercept.capture(&others, None).await.unwrap();
    assert_eq!(capture.refusal().await.reason, RefusalReason::ExistingEnded);
    assert!(is_cut(&mut before));
    assert_eq!(lost.get(&0, 0).unwrap(), 0);
}
