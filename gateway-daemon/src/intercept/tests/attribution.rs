//! Every way to connect is captured, and attributed to who did it and where it was meant to go.

use super::bench::{Ground, NOWHERE, Netns, echo, parsed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_arrives_with_everything_that_the_kernel_knows_of_it() {
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (mut agent, workload) = capture.run(None, "ci").await;
    assert_eq!(workload.label.as_deref(), Some("ci"));
    assert!(workload.path.starts_with(&format!("/{}/run-", ground.settings().run_parent)));

    let (own, peer) = agent.connect(&format!("tcp {NOWHERE}"));
    assert_eq!(peer, parsed(NOWHERE), "getpeername shows what the client asked for");
    let arrival = capture.arrival().await;
    let flow = &arrival.flow;
    assert_eq!(flow.original_destination.socket_addr(), parsed(NOWHERE));
    assert_eq!(flow.client.0, own);
    assert_eq!((flow.captured_cgroup, flow.cgroup), (workload.cgroup, workload.cgroup));
    assert_eq!((flow.pid, flow.uid), (agent.pid(), 0));
    assert!(!flow.comm.is_empty() && flow.tid != 0 && flow.connected_at_boot_ns != 0);
    assert_eq!(capture.intercept.workload(workload.cgroup).as_ref(), Some(&workload));
    assert_eq!(capture.intercept.workload_of_pid(agent.pid()).unwrap().as_ref(), Some(&workload));
    assert_eq!(capture.intercept.workload_of_pid(std::process::id()).unwrap(), None);

    let talking = tokio::spawn(echo(arrival));
    assert_eq!(agent.ask("say hello"), "heard hello");
    talking.await.unwrap();
    capture.no_records().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipv6_and_mapped_addresses_are_captured_and_mapped_ones_are_ipv4() {
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (mut agent, _) = capture.run(None, "ci").await;

    let wanted = "[2001:db8::7]:443";
    assert_eq!(agent.connect(&format!("tcp {wanted}")).1, parsed(wanted));
    assert_eq!(capture.arrival().await.flow.original_destination.socket_addr(), parsed(wanted));

    let wanted = "[::ffff:192.0.2.1]:443";
    assert_eq!(agent.connect(&format!("tcp {wanted}")).1, parsed(wanted));
    assert_eq!(capture.arrival().await.flow.original_destination.socket_addr(), parsed("192.0.2.1:443"));

    for wanted in ["0.0.0.0:81", "127.0.0.1:82", "[::]:83", "[::1]:84", "169.254.1.1:85", "224.0.0.1:86"] {
        agent.connect(&format!("tcp {wanted}"));
        assert_eq!(
            capture.arrival().await.flow.original_destination.socket_addr(),
            parsed(wanted),
            "{wanted}"
        );
    }
    capture.no_records().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_chose_its_source_first_is_captured_with_that_source() {
    let netns = Netns::new("source");
    netns.inside(&["ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1"]);
    netns.inside(&["ip", "addr", "add", "198.51.100.2/24", "dev", "veth0"]);
    netns.inside(&["ip", "link", "set", "veth0", "up"]);
    netns.inside(&["ip", "link", "set", "veth1", "up"]);
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (mut agent, _) = capture.run(Some(&netns.0), "ci").await;

    for (source, wanted) in [
        ("127.0.0.2:0", NOWHERE),
        ("198.51.100.2:0", "198.51.100.77:5432"),
        ("198.51.100.2:40123", NOWHERE),
        ("[::1]:0", "[2001:db8::7]:443"),
    ] {
        let (own, peer) = agent.connect(&format!("tcp-from {source} {wanted}"));
        assert_eq!((own.ip(), peer), (parsed(source).ip(), parsed(wanted)));
        let flow = capture.arrival().await.flow;
        assert_eq!((flow.client.0, flow.original_destination.socket_addr()), (own, parsed(wanted)));
    }
    agent.connect(&format!("tcp-on veth0 {NOWHERE}"));
    assert_eq!(capture.arrival().await.flow.original_destination.socket_addr(), parsed(NOWHERE));
    capture.no_records().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_ends_in_two_namespaces_are_told_apart() {
    let (one, two) = (Netns::new("one"), Netns::new("two"));
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (mut first, first_run) = capture.run(Some(&one.0), "first").await;
    let (mut second, second_run) = capture.run(Some(&two.0), "second").await;

    let own = first.connect("tcp-from 127.0.0.1:40999 192.0.2.1:1").0;
    assert_eq!(own, second.connect("tcp-from 127.0.0.1:40999 192.0.2.2:2").0);
    let mut flows = [capture.arrival().await.flow, capture.arrival().await.flow];
    flows.sort_by_key(|flow| flow.original_destination.port());
    assert_eq!(flows.each_ref().map(|flow| flow.captured_cgroup), [first_run.cgroup, second_run.cgroup]);
    assert_eq!(flows.each_ref().map(|flow| flow.pid), [first.pid(), second.pid()]);
    assert_ne!(flows[0].netns, flows[1].netns);
    assert_eq!(flows[1].original_destination.socket_addr(), parsed("192.0.2.2:2"));
    capture.no_records().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_connections_leave_from_the_agents_namespace_uncaptured() {
    let netns = Netns::new("upstream");
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (mut agent, _) = capture.run(Some(&netns.0), "ci").await;
    agent.connect(&format!("tcp {NOWHERE}"));
    let flow = capture.arrival().await.flow;

    // Nothing listens in there; outside, something does.
    let outside = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = outside.local_addr().unwrap();
    let error = capture.intercept.connect_upstream(flow.netns, address).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let (mut home, _) = capture.run(None, "home").await;
    home.connect(&format!("tcp {NOWHERE}"));
    let home = capture.arrival().await.flow.netns;
    let stream = capture.intercept.connect_upstream(home, address).await.unwrap();
    assert!(stream.nodelay().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_ipv6_on_the_loopback_device_ipv6_clients_are_still_captured() {
    let netns = Netns::new("no6");
    netns.inside(&["sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6"]);
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (mut agent, _) = capture.run(Some(&netns.0), "ci").await;
    agent.connect(&format!("tcp {NOWHERE}"));
    assert_eq!(capture.arrival().await.flow.original_destination.socket_addr(), parsed(NOWHERE));
    let wanted = "[2001:db8::7]:443";
    assert_eq!(agent.connect(&format!("tcp {wanted}")).1, parsed(wanted));
    assert_eq!(capture.arrival().await.flow.original_destination.socket_addr(), parsed(wanted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nonblocking_connect_is_captured() {
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (mut agent, _) = capture.run(None, "ci").await;
    let (own, peer) = agent.connect(&format!("tcp-nonblocking {NOWHERE}"));
    assert_eq!(peer, parsed(NOWHERE));
    assert_eq!(capture.arrival().await.flow.client.0, own);
    capture.no_records().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fast_open_is_captured_with_its_early_data() {
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (mut agent, _) = capture.run(None, "ci").await;
    for order in ["tcp-fastopen", "tcp-deferred"] {
        let (own, peer) = agent.connect(&format!("{order} {NOWHERE}"));
        assert_eq!(peer, parsed(NOWHERE), "{order}");
        let arrival = capture.arrival().await;
        assert_eq!(arrival.flow.client.0, own, "{order}");
        assert_eq!(arrival.flow.original_destination.socket_addr(), parsed(NOWHERE), "{order}");
        let talking = tokio::spawn(echo(arrival));
        assert_eq!(agent.ask("say -later"), "heard early-later", "{order}");
        talking.await.unwrap();
    }
    capture.no_records().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_captured_cgroup_below_a_captured_one_is_the_one_that_counts() {
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let outer = capture.intercept.capture(&ground.cgroup("outer"), Some("outer")).await.unwrap();
    let dir = ground.cgroup("outer/inner");
    let inner = capture.intercept.capture(&dir, Some("inner")).await.unwrap();
    let deep = ground.cgroup("outer/inner/a/b");
    let mut agent = super::agent::Agent::start(None);
    std::fs::write(deep.join("cgroup.procs"), agent.pid().to_string()).unwrap();

    assert_eq!(agent.connect(&format!("tcp {NOWHERE}")).1, parsed(NOWHERE));
    let flow = capture.arrival().await.flow;
    assert_eq!(flow.captured_cgroup, inner.cgroup);
    assert!(flow.cgroup != inner.cgroup && flow.cgroup != outer.cgroup);
    assert_eq!(flow.original_destination.socket_addr(), parsed(NOWHERE));
    capture.no_records().await;

    capture.intercept.release(inner.cgroup).await.unwrap();
    agent.connect(&format!("tcp {NOWHERE}"));
    assert_eq!(capture.arrival().await.flow.captured_cgroup, outer.cgroup);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_cgroup_connects_directly_again_and_a_cgroups_label_is_found() {
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let dir = ground.cgroup("labelled");
    let first = capture.intercept.capture(&dir, Some("from-before")).await.unwrap();
    let again = capture.intercept.capture(&dir, None).await.unwrap();
    assert_eq!(again, first);
    let mut agent = super::agent::Agent::start(None);
    std::fs::write(dir.join("cgroup.procs"), agent.pid().to_string()).unwrap();

    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    agent.connect(&format!("tcp {address}"));
    assert_eq!(capture.arrival().await.flow.original_destination.socket_addr(), address);
    capture.intercept.release(first.cgroup).await.unwrap();
    let own = agent.connect(&format!("tcp {address}")).0;
    assert_eq!(server.accept().unwrap().1, own);
    assert!(capture.intercept.workloads().is_empty());
    assert!(capture.intercept.release(first.cgroup).await.is_err());
}
