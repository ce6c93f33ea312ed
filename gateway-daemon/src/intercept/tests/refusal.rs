//! What cannot be redirected is refused, and said.

use nix::errno::Errno;

use super::{
    agent::Agent,
    bench::{Ground, NOWHERE, Netns, error, eventually, parsed},
};
use crate::intercept::{InterceptError, RefusalReason};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_are_refused_except_to_a_dns_port() {
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let mut agent = Agent::start(None);
    // The control: without capture all of this works.
    for order in ["udp-connect 127.0.0.1:443", "udp-send 127.0.0.1:443", "udp-send [::1]:443"] {
        assert_eq!(agent.ask(order), "ok", "{order}");
    }
    let workload = capture.intercept.start_run(agent.pid(), None).await.unwrap();
    for (order, destination) in [
        ("udp-connect 127.0.0.1:443", "127.0.0.1:443"),
        ("udp-send 127.0.0.1:443", "127.0.0.1:443"),
        ("udp-connect [::1]:443", "[::1]:443"),
        ("udp-send [::1]:443", "[::1]:443"),
    ] {
        assert_eq!(agent.ask(order), error(Errno::EPERM), "{order}");
        let refusal = capture.refusal().await;
        assert_eq!(refusal.reason, RefusalReason::Datagram);
        assert_eq!(refusal.destination, Some(parsed(destination)));
        assert_eq!((refusal.pid, refusal.protocol), (agent.pid(), 17));
        assert_eq!(refusal.captured_cgroup, Some(workload.cgroup));
    }
    assert_eq!(agent.ask("udp-connect 127.0.0.1:53"), "ok");
    assert_eq!(agent.ask("disconnect-udp"), "ok");
    assert_eq!(agent.ask("udp-connect 127.0.0.1:0"), error(Errno::EPERM));
    assert!(capture.streams.refusals.try_recv().is_err(), "a resolver's question is no incident");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_of_other_kinds_are_refused_when_they_are_made() {
    let netns = Netns::new("kinds");
    netns.inside(&["sh", "-c", "echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range"]);
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let mut agent = Agent::start(Some(&netns.0));
    for kind in ["raw", "ping", "mptcp"] {
        assert_eq!(agent.ask(&format!("make {kind}")), "ok", "the control for {kind}");
    }
    capture.intercept.start_run(agent.pid(), None).await.unwrap();
    for kind in ["raw", "ping", "mptcp"] {
        assert_eq!(agent.ask(&format!("make {kind}")), error(Errno::EPROTONOSUPPORT), "{kind}");
        let refusal = capture.refusal().await;
        assert_eq!((refusal.reason, refusal.destination), (RefusalReason::SocketKind, None));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_to_the_listener_that_was_not_captured_is_turned_away() {
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (mut agent, _) = capture.run(None, "ci").await;
    agent.connect(&format!("tcp {NOWHERE}"));
    let listener = capture.arrival().await.stream.local_addr().unwrap();
    // It shows IPv4 addresses as mapped ones.
    let listener = std::net::SocketAddr::new(listener.ip().to_canonical(), listener.port());

    let mut outsider = Agent::start(None);
    let own = "127.0.0.1:40321";
    // It may be cut off before it can even ask who its peer is.
    outsider.ask(&format!("tcp-from {own} {listener}"));
    assert_eq!(capture.unattributed().await.client.0, parsed(own));
    assert!(outsider.ask("say hello").starts_with("error"));
    assert!(capture.streams.arrivals.try_recv().is_err());

    // A captured one that finds the listener is captured as anywhere else.
    agent.connect(&format!("tcp {listener}"));
    assert_eq!(capture.arrival().await.flow.original_destination.socket_addr(), listener);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_is_new_is_served_from_the_second_attempt_on() {
    let netns = Netns::new("late");
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let dir = ground.cgroup("late");
    let workload = capture.intercept.capture(&dir, Some("late")).await.unwrap();
    let mut agent = Agent::start(Some(&netns.0));
    std::fs::write(dir.join("cgroup.procs"), agent.pid().to_string()).unwrap();

    assert_eq!(agent.ask(&format!("tcp {NOWHERE}")), error(Errno::ECONNREFUSED));
    let refusal = capture.refusal().await;
    assert_eq!(refusal.reason, RefusalReason::NoListener);
    assert_eq!(refusal.captured_cgroup, Some(workload.cgroup));
    eventually("the namespace is not served", || agent.ask(&format!("tcp {NOWHERE}")).starts_with("ok"))
        .await;
    assert_eq!(capture.arrival().await.flow.captured_cgroup, workload.cgroup);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_never_captures_itself_and_only_cgroups_can_be_captured() {
    let ground = Ground::new();
    let capture = ground.start().await;
    let own = crate::intercept::cgroups::path_of_process(std::process::id()).unwrap();
    let refused = capture.intercept.capture(std::path::Path::new(&own), None).await;
    assert!(matches!(refused, Err(InterceptError::OwnCgroup(_) | InterceptError::NotACgroup(_))));
    let refused = capture.intercept.capture(std::path::Path::new("/no/such/cgroup"), None).await;
    assert!(matches!(refused, Err(InterceptError::NotACgroup(_))));
    // A process that does not exist: nothing is left behind.
    assert!(capture.intercept.start_run(u32::MAX >> 1, None).await.is_err());
    assert!(capture.intercept.workloads().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_has_fallen_silent_is_not_waited_for() {
    use gateway_common::{maps, state::DaemonState};
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (mut agent, _) = capture.run(None, "ci").await;
    let mut daemon: aya::maps::Array<_, DaemonState> = ground.pinned(maps::DAEMON, aya::maps::Map::Array);
    let silence = DaemonState { heartbeat: 1, layout: gateway_common::LAYOUT_VERSION, settled: 0 };
    // The daemon beats on, so that the moment of silence must be met.
    eventually("the kernel side does not mind the silence", || {
        daemon.set(0, silence, 0).unwrap();
        agent.ask(&format!("tcp {NOWHERE}")) == error(Errno::ECONNREFUSED)
    })
    .await;
    let refusal = capture.refusal().await;
    assert_eq!((refusal.reason, refusal.destination), (RefusalReason::DaemonSilent, Some(parsed(NOWHERE))));
    eventually("the next heartbeat ends it", || agent.ask(&format!("tcp {NOWHERE}")).starts_with("ok")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_was_refused_leaves_no_record_and_can_try_again() {
    use gateway_common::{maps, state::Listener};
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (mut agent, _) = capture.run(None, "ci").await;
    agent.connect(&format!("tcp {NOWHERE}"));
    let home = capture.arrival().await.flow.netns.0;
    let mut listeners: aya::maps::HashMap<_, u64, Listener> =
        ground.pinned(maps::LISTENERS, aya::maps::Map::HashMap);
    let real = listeners.get(&home, 0).unwrap();

    assert_eq!(agent.ask("socket 0.0.0.0:0"), "ok");
    // Refused before the SYN: there is no listener.
    listeners.remove(&home).unwrap();
    assert_eq!(agent.ask("connect 192.0.2.1:1"), error(Errno::ECONNREFUSED));
    assert_eq!(capture.refusal().await.reason, RefusalReason::NoListener);
    // Refused by a reset: nothing listens at that port.
    listeners.insert(home, Listener { port_v4: 1, port_v6: 1, dns_v4: 1, dns_v6: 1 }, 0).unwrap();
    assert_eq!(agent.ask("connect 192.0.2.2:2"), error(Errno::ECONNREFUSED));
    assert_eq!(capture.intercept.flow_records(), 0);
    listeners.insert(home, real, 0).unwrap();
    assert_eq!(agent.connect("connect 192.0.2.3:3").1, parsed("192.0.2.3:3"));
    assert_eq!(capture.arrival().await.flow.original_destination.socket_addr(), parsed("192.0.2.3:3"));
    capture.no_records().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_captured_socket_in_other_hands_is_refused_or_attributed_to_those_hands() {
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (mut agent, maker) = capture.run(None, "maker").await;
    assert_eq!(agent.ask("socket 0.0.0.0:0"), "ok");
    assert_eq!(agent.ask("socket 0.0.0.0:0"), "ok");
    let (outside, other) = (ground.cgroup("outside"), ground.cgroup("other"));
    let heir = capture.intercept.capture(&other, Some("heir")).await.unwrap();

    std::fs::write(outside.join("cgroup.procs"), agent.pid().to_string()).unwrap();
    assert_eq!(agent.ask(&format!("connect {NOWHERE}")), error(Errno::EPERM));
    let refusal = capture.refusal().await;
    assert_eq!((refusal.reason, refusal.captured_cgroup), (RefusalReason::CallerOutside, None));

    // The run that made the sockets is gone by now: they stay captured all the same.
    eventually("the run is still there", || capture.intercept.workload(maker.cgroup).is_none()).await;
    let pins = ground.settings().pins.join("links").join(maker.cgroup.to_string());
    std::fs::write(other.join("cgroup.procs"), agent.pid().to_string()).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert!(pins.exists());
    assert_eq!(agent.connect(&format!("connect {NOWHERE}")).1, parsed(NOWHERE));
    assert_eq!(capture.arrival().await.flow.captured_cgroup, heir.cgroup);
    assert_eq!(agent.ask("close"), "closed");
    eventually("pins are left", || !pins.exists()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_were_made_before_the_process_came_are_refused() {
    let ground = Ground::new();
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let target = server.local_addr().unwrap();
    let sink = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    sink.set_nonblocking(true).unwrap();
    let datagrams = sink.local_addr().unwrap();
    let mut capture = ground.start().await;
    let mut agent = Agent::start(None);
    for order in ["udp-socket", "socket 0.0.0.0:0", "socket 0.0.0.0:0"] {
        assert_eq!(agent.ask(order), "ok");
    }
    // The control: outside of capture the way is open.
    assert!(agent.ask(&format!("connect {target}")).starts_with("ok"));
    server.accept().unwrap();
    assert_eq!(agent.ask("close-latest"), "ok");

    let workload = capture.intercept.start_run(agent.pid(), None).await.unwrap();
    assert_eq!(agent.ask(&format!("connect {target}")), error(Errno::EPERM));
    let refusal = capture.refusal().await;
    assert_eq!(refusal.reason, RefusalReason::SocketOutside);
    assert_eq!(refusal.captured_cgroup, Some(workload.cgroup));
    assert_eq!(agent.ask("close-latest"), "ok");
    assert_eq!(agent.ask(&format!("send-latest {datagrams}")), error(Errno::EPERM));
    assert_eq!(capture.refusal().await.reason, RefusalReason::SocketOutside);
    assert!(server.accept().is_err() && sink.recv(&mut [0; 8]).is_err(), "nothing went direct");
    // What it makes now is captured as ever.
    assert_eq!(agent.connect(&format!("tcp {target}")).1, target);
    assert_eq!(capture.arrival().await.flow.captured_cgroup, workload.cgroup);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_inherits_the_port_of_a_listener_that_is_gone() {
    use gateway_common::{maps, state::Listener};
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (mut agent, _) = capture.run(None, "ci").await;
    agent.connect(&format!("tcp {NOWHERE}"));
    let home = capture.arrival().await.flow.netns.0;
    let mut listeners: aya::maps::HashMap<_, u64, Listener> =
        ground.pinned(maps::LISTENERS, aya::maps::Map::HashMap);
    let heir = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    heir.set_nonblocking(true).unwrap();
    // As if the daemon had died with this very port, and another process had been quick.
    let port = heir.local_addr().unwrap().port();
    listeners.insert(home, Listener { port_v4: port, port_v6: port, dns_v4: 1, dns_v6: 1 }, 0).unwrap();
    for target in [NOWHERE, "[2001:db8::1]:5432"] {
        assert_eq!(agent.ask(&format!("tcp {target}")), error(Errno::ECONNREFUSED));
        assert_eq!(capture.refusal().await.reason, RefusalReason::DaemonSilent);
    }
    assert!(heir.accept().is_err(), "it was given a captured connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cgroup_had_open_before_it_was_captured_is_ended_but_for_what_came_to_it() {
    use std::io::{Read, Write};
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let dir = ground.cgroup("early");
    let mut agent = Agent::start(None);
    std::fs::write(dir.join("cgroup.procs"), agent.pid().to_string()).unwrap();
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let sink = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (target, datagrams) = (server.local_addr().unwrap(), sink.local_addr().unwrap());
    assert!(agent.ask("serve 127.0.0.77:20322").starts_with("ok"));
    let mut visitor = std::net::TcpStream::connect("127.0.0.77:20322").unwrap();
    assert_eq!(agent.ask("accept"), "ok");
    assert_eq!(agent.ask(&format!("udp-keep {datagrams}")), "ok");
    agent.connect(&format!("tcp {target}"));
    let (mut before, _) = server.accept().unwrap();
    // One of another cgroup, which stays.
    let mut other = Agent::start(None);
    other.connect(&format!("tcp {target}"));
    let (mut others, _) = server.accept().unwrap();

    let workload = capture.intercept.capture(&dir, Some("early")).await.unwrap();
    for destination in [target, datagrams] {
        let refusal = capture.refusal().await;
        assert_eq!(refusal.reason, RefusalReason::ExistingEnded);
        assert_eq!(refusal.captured_cgroup, Some(workload.cgroup));
        assert_eq!(refusal.destination, Some(destination));
    }
    assert!(!matches!(before.read(&mut [0; 8]), Ok(1..)), "it was cut");
    assert!(agent.ask("say hello").starts_with("error"));
    assert_eq!(other.ask("write hello"), "ok");
    assert_eq!(others.read(&mut [0; 8]).unwrap(), 5, "nobody else's was touched");
    visitor.write_all(b"hello").unwrap();
    assert_eq!(agent.ask("hear"), "heard hello", "a visitor's stays");

    // Captured once, nothing more is ended when the daemon comes again.
    let seen = capture.intercept.workloads().len();
    drop(capture);
    let mut capture = ground.start().await;
    assert_eq!(capture.intercept.workloads().len(), seen);
    assert!(capture.streams.refusals.try_recv().is_err());
}
