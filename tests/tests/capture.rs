//! Capture itself: every spelling of an address, what is not TCP, and cgroups that exist already.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use nodegate_tests::{
    agent::Agent,
    leftovers,
    postgres::PASSWORD,
    programs::said,
    stage::{Stage, psql_words},
    wire::Client,
};

/// A cgroup of the test's own, as a container runtime would have made it.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Self {
        let path = leftovers::cgroup_mount().join(leftovers::unique_name());
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// A command that runs inside it.
    fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\"/cgroup.procs && exec \"$@\""]).arg(&self.0);
        command
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        leftovers::remove_cgroup(&self.0);
    }
}

#[test]
fn a_client_sees_the_address_that_it_asked_for() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let stream = agent.connect(stage.postgres.address()).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), stage.postgres.address());
    Client::start(stream).expect("and speaks with the target");
}

#[test]
fn a_v4_mapped_address_is_the_same_target() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{}", stage.postgres.port()).parse().unwrap();
    let mut client = Client::start(agent.connect(mapped).unwrap()).expect("a session");
    let seen = client.query("SELECT email FROM customers WHERE id = 1").texts();
    assert!(!seen[0][0].contains("hopper"), "{seen:?}");
}

#[test]
fn other_spellings_of_this_host_do_not_go_past_the_daemon() {
    let stage = Stage::new();
    let six = TcpListener::bind("[::1]:0").unwrap();
    let four = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut agent = stage.agent();
    for (listener, hosts) in [
        (&six, &["[::1]", "[::]"][..]),
        (&four, &["127.0.0.1", "0.0.0.0", "127.9.9.9", "[::ffff:127.0.0.1]"]),
    ] {
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in hosts {
            let to: SocketAddr = format!("{host}:{port}").parse().unwrap();
            let held = agent.connect(to);
            std::thread::sleep(Duration::from_millis(100));
            assert!(listener.accept().is_err(), "{to} was reached from inside: {held:?}");
        }
        std::net::TcpStream::connect(listener.local_addr().unwrap()).expect("the way is open outside");
        std::thread::sleep(Duration::from_millis(20));
        listener.accept().expect("the control arrives");
    }
}

#[test]
fn a_datagram_does_not_leave_the_cgroup() {
    let stage = Stage::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let script = format!("echo out > /dev/udp/127.0.0.1/{}", socket.local_addr().unwrap().port());
    let mut run = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    let refused = said(run.args(["bash", "-c", &script]), "", Duration::from_secs(20));
    assert_ne!(refused.status, 0, "{refused:?}");
    let mut bytes = [0; 16];
    socket.recv(&mut bytes).expect_err("nothing may arrive");
    said(Command::new("bash").args(["-c", &script]), "", Duration::from_secs(5)).ok();
    assert_eq!(socket.recv(&mut bytes).unwrap(), 4, "the way is open outside");
}

#[test]
fn what_the_kernel_refuses_is_recorded() {
    let stage = Stage::new();
    let mut run = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    said(run.args(["bash", "-c", "echo out > /dev/udp/127.0.0.1/5353"]), "", Duration::from_secs(20));
    let found =
        nodegate_tests::programs::wait_for("the refusal to be recorded", Duration::from_secs(5), || {
            let found = stage.daemon.audit_search(&["--kind", "kernel_refusal"]);
            (!found.is_empty()).then_some(found)
        });
    assert!(found[0].to_string().contains("127.0.0.1:5353"), "{found:?}");
}

#[test]
fn a_cgroup_that_exists_is_captured_identified_and_let_go() {
    let stage = Stage::new();
    let cgroup = Cgroup::new();
    let mut agent = Agent::start(cgroup.command()).expect("an agent in its cgroup");
    let address = stage.postgres.address();
    assert_eq!(agent.connect(address).unwrap().peer_addr().unwrap(), address);
    assert_eq!(stage.daemon.counter("flows_total"), 0, "it is free before");

    let run = |words: &[&str]| said(&mut stage.daemon.nodegate(words), "", Duration::from_secs(10));
    let path = cgroup.0.to_str().unwrap();
    run(&["capture", "add", path, "--label", "worker"]).ok();
    let listed = run(&["capture", "list", "--json"]);
    let entry: serde_json::Value = serde_json::from_str(listed.ok().trim()).unwrap();
    assert_eq!(entry["label"], "worker");
    let id = entry["cgroup"].to_string();

    let refused = Client::start(agent.connect(address).unwrap()).expect_err("nobody has vouched for it");
    assert!(refused.text().contains("token"), "{refused:?}");
    let token = stage.daemon.token_file(&stage.issuer.token("agent-1"));
    run(&["identity", "enrol", "--cgroup", &id, "--token-file", token.to_str().unwrap()]).ok();
    let mut client = Client::start(agent.connect(address).unwrap()).expect("a session");
    let seen = client.query("SELECT email FROM customers WHERE id = 1").texts();
    assert!(!seen[0][0].contains("hopper"), "{seen:?}");

    run(&["capture", "remove", &id]).ok();
    let words = psql_words(&stage.postgres, &["-At", "-c", "SELECT email FROM customers WHERE id = 1"]);
    let mut psql = cgroup.command();
    let direct = said(psql.args(&words).env("PGPASSWORD", PASSWORD), "", Duration::from_secs(10));
    assert_eq!(direct.ok(), "grace.hopper1@example.com\n");
}

#[test]
fn a_process_that_moves_to_a_cgroup_below_stays_captured() {
    let stage = Stage::new();
    let mut run = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    let mount = leftovers::cgroup_mount();
    let script = format!(
        "own={}$(grep ^0:: /proc/self/cgroup | cut -d: -f3); mkdir \"$own/deeper\" && echo $$ > \"$own/deeper/cgroup.procs\" \
         && exec \"$@\"",
        mount.display()
    );
    run.args(["sh", "-c", &script, "sh"]);
    run.args(psql_words(&stage.postgres, &["-At", "-c", "SELECT name, email FROM customers WHERE id = 1"]));
    let seen = said(run.env("PGPASSWORD", "wrong"), "", Duration::from_secs(20));
    assert!(seen.ok().starts_with("Grace Hopper|"), "{seen:?}");
    assert!(!seen.out.contains("hopper"), "{seen:?}");
    nodegate_tests::programs::wait_for("both cgroups to go", Duration::from_secs(5), || {
        let left = fs::read_dir(stage.daemon.cgroup()).into_iter().flatten().filter_map(Result::ok);
        (left.filter(|entry| entry.path().is_dir()).count() == 0).then_some(())
    });
}
