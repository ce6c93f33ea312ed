//! What the node can promise: `nodegate doctor`, and a daemon that does not enforce more than that.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{fs, process::Command, time::Duration};

use nodegate_tests::{
    daemon::{Daemon, Settings, Target},
    issuer::Issuer,
    programs::{Said, nodegate, said},
};
use serde_json::Value;

fn checks(said: &Said) -> Vec<Value> {
    said.out.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
}

fn find<'a>(checks: &'a [Value], name: &str) -> &'a Value {
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name} in {checks:?}"))
}

/// Whether this kernel runs no BPF programs as a security module: the promises that take it stand and fall together.
fn is_broken(checks: &[Value]) -> bool {
    find(checks, "af-packet")["state"] == "missing"
}

#[test]
fn the_doctor_tries_every_hook_and_names_what_this_kernel_does_not_close() {
    let told = said(Command::new(nodegate()).args(["doctor", "--json"]), "", Duration::from_secs(20));
    let checks = checks(&told);
    for name in ["connect4", "connect6", "sendmsg4", "recvmsg6", "getpeername4", "sock-create", "sock-ops"] {
        assert_eq!(find(&checks, name)["state"], "kept", "{name}");
        assert!(find(&checks, name)["found"].as_str().unwrap().contains("attaches"), "{name}");
    }
    for name in ["cgroup2", "bpffs", "capabilities", "ring-buffer", "sk-storage", "netns-cookie", "programs"]
    {
        assert_eq!(find(&checks, name)["state"], "kept", "{name}");
    }
    assert_eq!(find(&checks, "existing-connections")["state"], "kept");
    assert_eq!(find(&checks, "moved-processes")["state"], "kept");
    let status = i32::from(is_broken(&checks));
    assert_eq!(told.status, status);

    let table = said(Command::new(nodegate()).arg("doctor"), "", Duration::from_secs(20));
    assert_eq!(table.status, status);
    let accept = table.out.lines().find(|line| line.contains("capture: { accept: ["));
    assert_eq!(accept.is_some_and(|accept| accept.contains("af-packet")), is_broken(&checks), "{accept:?}");
}

#[test]
fn the_doctor_tells_a_user_without_rights_what_they_lack() {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(nodegate());
    let told = said(command.args(["doctor", "--json"]), "", Duration::from_secs(20));
    let checks = checks(&told);
    assert_eq!(told.status, 1);
    assert!(find(&checks, "capabilities")["found"].as_str().unwrap().contains("CAP_SYS_ADMIN"));
    assert_eq!(find(&checks, "connect4")["state"], "missing");
}

#[test]
fn a_daemon_does_not_enforce_what_its_node_cannot_keep_unless_that_is_accepted_by_name() {
    let target = Target::shop("shop", "127.0.0.1:5432".parse().unwrap());
    let mut daemon = Daemon::prepare(&Settings::new(vec![target]), &Issuer::start());
    let whole = fs::read_to_string(daemon.config()).unwrap();
    let accepted = "accept: [af-packet, privileged-processes, received-sockets, socket-families, \
                    unix-aliases, unix-connect]";
    assert!(whole.contains(accepted));
    let config = daemon.config();
    let start = |text: String| {
        fs::write(&config, text).unwrap();
        let mut command = Command::new(nodegate());
        said(command.arg("daemon").arg("--config").arg(&config), "", Duration::from_secs(20))
    };

    let told = said(Command::new(nodegate()).args(["doctor", "--json"]), "", Duration::from_secs(20));
    if is_broken(&checks(&told)) {
        let refused = start(whole.replace(
            accepted,
            "accept: [unix-connect, unix-aliases, received-sockets, socket-families, privileged-processes]",
        ));
        assert_eq!(refused.status, 1, "{refused:?}");
        assert!(refused.err.contains("accept: [af-packet]"), "{}", refused.err);
        assert!(refused.err.contains("CAP_NET_RAW"), "what it costs: {}", refused.err);
    } else {
        fs::write(daemon.config(), whole.replace(accepted, "accept: []")).unwrap();
        daemon.restart();
        daemon.terminate();
    }

    let unknown = start(whole.replace(accepted, "accept: [af-paket]"));
    assert!(unknown.err.contains("did you mean `af-packet`?"), "{}", unknown.err);

    fs::write(daemon.config(), &whole).unwrap();
    daemon.restart();
}
