//! What goes direct, and for how long.

use std::{
    net::{SocketAddr, TcpListener},
    time::{Duration, SystemTime},
};

use gateway_common::{
    LAYOUT_VERSION,
    direct::{Direct, Grant as Entry},
    maps,
    state::DaemonState,
};

use super::bench::{Ground, eventually};
use crate::{
    domain::ids::CgroupId,
    intercept::{Grant, sys},
};

fn grant(cgroup: CgroupId, to: SocketAddr, lasts: Duration, number: u32) -> Grant {
    let until = SystemTime::now() + lasts;
    Grant { cgroup, address: to.ip(), prefix: 32, port: to.port(), until, number }
}

fn server() -> (TcpListener, SocketAddr) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let address = server.local_addr().unwrap();
    (server, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_that_a_daemon_does_not_stand_by_hold_no_more_though_it_be_alive() {
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (server, address) = server();
    let (mut agent, workload) = capture.run(None, "ci").await;
    let grants = [grant(workload.cgroup, address, Duration::from_hours(1), 7)];
    capture.intercept.grant(&grants).unwrap();
    agent.connect(&format!("tcp {address}"));
    assert!(server.accept().is_ok(), "it goes direct");
    assert_eq!(capture.streams.direct_flows.recv().await.unwrap().grant, 7);

    let mut daemon: aya::maps::Array<_, DaemonState> = ground.pinned(maps::DAEMON, aya::maps::Map::Array);
    // The daemon beats on, so that the moment must be met.
    eventually("grants hold all the same", || {
        let heartbeat = sys::boot_ns().unwrap();
        let stale = heartbeat.saturating_sub(gateway_common::GRANTS_LIMIT_NS) / 1_000_000_000;
        let settled = u32::try_from(stale.saturating_sub(1)).unwrap();
        daemon.set(0, DaemonState { heartbeat, layout: LAYOUT_VERSION, settled }, 0).unwrap();
        agent.connect(&format!("tcp {address}"));
        server.accept().is_err()
    })
    .await;
    assert_eq!(capture.arrival().await.flow.captured_cgroup, workload.cgroup);

    capture.intercept.grant(&grants).unwrap();
    eventually("it does not go direct again", || {
        agent.connect(&format!("tcp {address}"));
        server.accept().is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_is_written_anew_when_its_end_or_its_number_has_changed_and_not_otherwise() {
    let ground = Ground::new();
    let capture = ground.start().await;
    let (_server, address) = server();
    let (_agent, workload) = capture.run(None, "ci").await;
    let mut map: aya::maps::LpmTrie<_, Direct, Entry> = ground.pinned(maps::DIRECT, aya::maps::Map::LpmTrie);
    let hour = Duration::from_hours(1);
    let granted = |lasts, number| {
        capture.intercept.grant(&[grant(workload.cgroup, address, lasts, number)]).unwrap();
    };
    granted(hour, 7);
    let (key, first) = map.iter().next().unwrap().unwrap();
    assert_eq!(first.number, 7);
    // What the daemon does not write again stays as it is.
    map.insert(&key, Entry::new(first.until(), 1000), 0).unwrap();
    granted(hour, 7);
    assert_eq!(map.get(&key, 0).unwrap().number, 1000);
    granted(hour, 8);
    assert_eq!(map.get(&key, 0).unwrap().number, 8);
    granted(hour / 2, 8);
    assert!(map.get(&key, 0).unwrap().until() < first.until());
    capture.intercept.grant(&[]).unwrap();
    assert_eq!(map.keys().count(), 0);
}
