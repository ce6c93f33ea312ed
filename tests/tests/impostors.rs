//! Servers that an agent puts in a target's place: none of them is given the daemon's credential, or believed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nodegate_tests::{
    daemon::{Daemon, Settings, Target},
    issuer::Issuer,
    leftovers,
    netns::Netns,
    postgres::PASSWORD,
    programs::{self, Said, nodegate, said, wait_for},
    stage::{Stage, psql_words},
};

/// An address that nobody has: whoever puts it on his loopback device is the target.
const TARGET: &str = "192.0.2.10:5432";

/// Starts an impostor beside a psql that connects to it. In a namespace that has just been made the first attempts are
/// refused, for want of a listener of the daemon's there.
const ATTEMPT: &str = r#"
agent=$1 address=$2 heard=$3
ip link set lo up
ip address add "${address%:*}/32" dev lo 2>/dev/null
"$agent" impostor "$address" "$heard" &
impostor=$!
until [ -e "$heard" ]; do sleep 0.05; done
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    said=$(psql -X "host=${address%:*} port=${address#*:} dbname=shop user=x connect_timeout=10" -c 'SELECT 1' 2>&1)
    case $said in *"Connection refused"*) sleep 0.2 ;; *) break ;; esac
done
echo "$said"
kill $impostor
"#;

/// A daemon with one target, a real one in its configuration alone.
fn guarded(address: SocketAddr, change: impl FnOnce(&mut Settings)) -> (Daemon, Issuer) {
    let mut settings = Settings::new(vec![Target::shop("shop", address)]);
    change(&mut settings);
    let issuer = Issuer::start();
    (Daemon::start(&settings, &issuer), issuer)
}

/// The attempt, captured, through `wrapper`; what psql said, and what the impostor heard.
fn attempt(daemon: &Daemon, issuer: &Issuer, address: &str, wrapper: &[&str]) -> (Said, Vec<u8>) {
    attempt_by(daemon.run(Some(&issuer.token("agent-1"))), daemon, address, wrapper)
}

fn attempt_by(mut run: Command, daemon: &Daemon, address: &str, wrapper: &[&str]) -> (Said, Vec<u8>) {
    let heard = heard_file(daemon);
    run.args(wrapper).args(["sh", "-c", ATTEMPT, "sh"]).arg(programs::agent()).arg(address).arg(&heard);
    let seen = said(run.env("PGPASSWORD", "wrong"), "", Duration::from_mins(1));
    (seen, fs::read(&heard).unwrap_or_default())
}

fn heard_file(daemon: &Daemon) -> PathBuf {
    daemon.folder().join(leftovers::unique_name())
}

/// `nodegate run` inside a network namespace of the node's.
fn run_inside(netns: &Netns, daemon: &Daemon, issuer: &Issuer) -> Command {
    let mut run = netns.command(&nodegate());
    run.args(["run", "--socket"]).arg(daemon.socket()).arg("--token-file");
    run.arg(daemon.token_file(&issuer.token("agent-1"))).arg("--");
    run
}

fn holds_password(heard: &[u8]) -> bool {
    heard.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes())
}

fn denials(daemon: &Daemon) -> String {
    let records = daemon.audit_search(&["--outcome", "denied", "--kind", "connect"]);
    let events: Vec<String> = records.iter().map(|record| record["event"].to_string()).collect();
    events.join("\n")
}

/// An impostor outside of every captured cgroup, ended on drop.
struct Outsider(Child);

impl Outsider {
    fn start(netns: &Netns, address: &str, heard: &Path) -> Self {
        let mut command = netns.command(&programs::agent());
        command.args(["impostor", address]).arg(heard).stdin(Stdio::null());
        let outsider = Self(command.spawn().expect("an impostor"));
        wait_for("the impostor to listen", Duration::from_secs(10), || heard.exists().then_some(()));
        outsider
    }
}

impl Drop for Outsider {
    fn drop(&mut self) {
        programs::end(&mut self.0, nix::sys::signal::Signal::SIGKILL);
    }
}

#[test]
fn in_a_namespace_of_its_own_an_agent_gets_no_credential_and_is_told_why() {
    let (daemon, issuer) = guarded(TARGET.parse().unwrap(), |_| {});
    let (seen, heard) = attempt(&daemon, &issuer, TARGET, &["unshare", "-U", "-r", "-n"]);
    assert!(heard.is_empty(), "dialled: {heard:?}\n{seen:?}");
    assert!(seen.out.contains("target shop is reached without TLS"), "{seen:?}");
    assert!(seen.out.contains("not the node's"), "{seen:?}");
    assert!(seen.out.contains("upstream_from: node"), "the way out: {seen:?}");
    assert!(denials(&daemon).contains("builtin/upstream-in-doubt"), "{}", denials(&daemon));
    let allowed = daemon.audit_search(&["--outcome", "allowed", "--kind", "connect"]);
    assert!(allowed.is_empty(), "{allowed:?}");
}

#[test]
fn a_namespace_of_the_nodes_own_is_believed_and_so_the_impostor_is_one() {
    // The control: this is what the refusals keep from agents.
    let netns = Netns::new();
    programs::succeed(Command::new("ip").args([
        "-n",
        netns.name(),
        "addr",
        "add",
        "192.0.2.10/32",
        "dev",
        "lo",
    ]));
    let (daemon, issuer) = guarded(TARGET.parse().unwrap(), |_| {});
    let heard = heard_file(&daemon);
    let _impostor = Outsider::start(&netns, TARGET, &heard);
    let mut run = run_inside(&netns, &daemon, &issuer);
    run.args(["psql", "-X", "host=192.0.2.10 port=5432 dbname=shop user=x", "-c", "SELECT 1"]);
    let seen = said(run.env("PGPASSWORD", "wrong"), "", Duration::from_secs(30));
    let heard = fs::read(&heard).unwrap();
    // The daemon gives no password in clear text without TLS, but its login's name, and more to one who asks for more.
    assert!(heard.windows(9).any(|window| window == b"app_agent"), "{heard:?} {seen:?}");
}

#[test]
fn a_captured_server_at_a_targets_address_is_given_up_before_a_byte_is_sent() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (daemon, issuer) = guarded(free, |_| {});
    let (seen, heard) = attempt(&daemon, &issuer, &free.to_string(), &[]);
    assert!(heard.is_empty(), "{heard:?}\n{seen:?}");
    assert!(seen.out.contains("a captured process is what answers"), "{seen:?}");
    assert!(denials(&daemon).contains("builtin/upstream-in-doubt"), "{}", denials(&daemon));

    // In a namespace of the node's, too.
    let netns = Netns::new();
    let run = run_inside(&netns, &daemon, &issuer);
    let (seen, heard) = attempt_by(run, &daemon, &free.to_string(), &[]);
    assert!(heard.is_empty(), "{heard:?}\n{seen:?}");
    assert!(seen.out.contains("a captured process is what answers"), "{seen:?}");
}

#[test]
fn an_agent_that_may_change_its_namespace_is_refused_there() {
    let netns = Netns::new();
    let (daemon, issuer) = guarded(TARGET.parse().unwrap(), |_| {});
    let run = run_inside(&netns, &daemon, &issuer);
    let (seen, heard) =
        attempt_by(run, &daemon, TARGET, &["setpriv", "--bounding-set", "-all,+net_admin", "--"]);
    assert!(heard.is_empty(), "{heard:?}\n{seen:?}");
    assert!(seen.out.contains("has CAP_NET_ADMIN in this network namespace"), "{seen:?}");
}

#[test]
fn a_target_that_proves_who_it_is_may_be_dialled_from_anywhere() {
    let (daemon, issuer) = guarded(TARGET.parse().unwrap(), |settings| {
        "verify-full, ca: issuer-ca.pem".clone_into(&mut settings.targets[0].tls);
    });
    let (seen, heard) = attempt(&daemon, &issuer, TARGET, &["unshare", "-U", "-r", "-n"]);
    // It is asked for TLS, has none, and hears no more.
    assert_eq!(heard, [0, 0, 0, 8, 4, 210, 22, 47], "{seen:?}");
    assert!(!holds_password(&heard));
}

#[test]
fn a_target_that_is_dialled_from_the_node_is_reached_from_a_namespace_of_ones_own() {
    let stage = Stage::with(|settings| {
        "    upstream_from: node\n".clone_into(&mut settings.targets[0].more);
    });
    let query = "SELECT name, email FROM customers WHERE id = 1";
    let attempt =
        "ip link set lo up; for attempt in 1 2 3 4 5 6 7 8 9 10; do \"$@\" && exit; sleep 0.2; done";
    let mut run = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    run.args(["unshare", "-U", "-r", "-n", "sh", "-c", attempt, "sh"]);
    run.args(psql_words(&stage.postgres, &["-At", "-c", query])).env("PGPASSWORD", "wrong");
    let seen = said(&mut run, "", Duration::from_secs(30));
    assert!(seen.ok().starts_with("Grace Hopper|"), "{seen:?}");
    assert!(!seen.out.contains("hopper@"), "{seen:?}");
}
