//! `nodegate run`: the command as if it ran alone, but captured; or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use nodegate_tests::{
    programs::{Said, nodegate, said, succeed, wait_for},
    stage::{Stage, psql_words},
    wire,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn run(stage: &Stage, words: &[&str]) -> Said {
    said(stage.daemon.run(Some(&stage.issuer.token("agent-1"))).args(words), "", PATIENCE)
}

fn cgroups(stage: &Stage) -> usize {
    let entries = fs::read_dir(stage.daemon.cgroup()).into_iter().flatten().filter_map(Result::ok);
    entries.filter(|entry| entry.path().is_dir()).count()
}

#[test]
fn exit_status_and_streams_are_the_commands_own() {
    let stage = Stage::new();
    let mut command = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    command.args(["sh", "-c", "cat; echo oops >&2; exit 42"]);
    let seen = said(&mut command, "hello", PATIENCE);
    assert_eq!((seen.status, seen.out.as_str(), seen.err.as_str()), (42, "hello", "oops\n"));
    assert_eq!(run(&stage, &["true"]).status, 0);
}

#[test]
fn a_command_that_a_signal_ends_ends_run_in_the_same_way() {
    let stage = Stage::new();
    assert_eq!(run(&stage, &["sh", "-c", "kill -TERM $$"]).status, 128 + 15);
    assert_eq!(run(&stage, &["sh", "-c", "kill -KILL $$"]).status, 128 + 9);
}

#[test]
fn signals_reach_the_command() {
    let stage = Stage::new();
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGUSR1] {
        let name = signal.as_str().trim_start_matches("SIG");
        let script =
            format!("trap 'echo got {name}; exit 7' {name}; echo ready; while :; do sleep 0.05; done");
        let mut command = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
        let out = stage.daemon.folder().join("out");
        command.args(["sh", "-c", &script]).stdout(fs::File::create(&out).unwrap()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        wait_for("the command to be ready", PATIENCE, || {
            fs::read_to_string(&out).unwrap().contains("ready").then_some(())
        });
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        let seen = Said::from_output(&child.wait_with_output().unwrap());
        assert_eq!(seen.status, 7, "{name}: {seen:?}");
        assert!(fs::read_to_string(&out).unwrap().contains(&format!("got {name}")));
    }
}

#[test]
fn the_cgroup_and_everything_in_it_is_gone_afterwards() {
    let stage = Stage::new();
    let marker = "31536017";
    assert_eq!(run(&stage, &["sh", "-c", &format!("setsid sleep {marker} & sleep 0.2; exit 3")]).status, 3);
    wait_for("the cgroup to go", PATIENCE, || (cgroups(&stage) == 0).then_some(()));
    let left = Command::new("pgrep").args(["-f", &format!("^sleep {marker}$")]).output().unwrap();
    assert!(left.stdout.is_empty(), "a grandchild outlived the run");
    assert!(stage.daemon.status()["workloads"].as_array().unwrap().is_empty());
}

#[test]
fn without_a_daemon_nothing_is_started() {
    let mut stage = Stage::new();
    stage.daemon.kill();
    let proof = stage.daemon.folder().join("proof");
    let refused = run(&stage, &["touch", proof.to_str().unwrap()]);
    assert_eq!(refused.status, 126, "{refused:?}");
    assert!(!proof.exists(), "the command was started");
    let nowhere = said(
        Command::new(nodegate()).args(["run", "--socket", "/nonexistent/socket", "--", "touch"]).arg(&proof),
        "",
        PATIENCE,
    );
    assert_eq!((nowhere.status, proof.exists()), (126, false), "{nowhere:?}");
}

#[test]
fn a_command_that_does_not_exist_is_127_and_leaves_no_cgroup() {
    let stage = Stage::new();
    let missing = run(&stage, &["/no/such/program"]);
    assert_eq!(missing.status, 127, "{missing:?}");
    wait_for("the cgroup to go", PATIENCE, || (cgroups(&stage) == 0).then_some(()));
}

#[test]
fn the_command_runs_captured_from_its_first_instruction_and_with_all_its_children() {
    let stage = Stage::new();
    let mut command = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    let words = psql_words(&stage.postgres, &["-At", "-c", "SELECT email FROM customers WHERE id = 1"]);
    command.args(["sh", "-c", "sh -c '\"$@\"; exit $?' sh \"$@\"; exit $?", "sh"]).args(&words);
    let seen = said(&mut command, "", PATIENCE);
    assert!(!seen.ok().contains("hopper"), "{seen:?}");
    let inside = run(&stage, &["cat", "/proc/self/cgroup"]);
    let name = stage.daemon.cgroup();
    assert!(inside.ok().contains(name.file_name().unwrap().to_str().unwrap()), "{}", inside.out);
}

#[test]
fn a_captured_agent_cannot_use_the_admin_api_to_get_out() {
    let stage = Stage::new();
    let nodegate = nodegate();
    let nodegate = nodegate.to_str().unwrap();
    let socket = stage.daemon.socket();
    let socket = socket.to_str().unwrap();
    let script = format!(
        "id=$(grep ^0:: /proc/self/cgroup | cut -d: -f3); {nodegate} --socket {socket} capture remove \"$id\""
    );
    for words in [
        vec!["sh", "-c", &script],
        vec![nodegate, "--socket", socket, "run", "--", "true"],
        vec![nodegate, "--socket", socket, "capture", "list"],
        vec![nodegate, "--socket", socket, "status"],
    ] {
        let refused = run(&stage, &words);
        assert_ne!(refused.status, 0, "{words:?}: {refused:?}");
    }
    assert_eq!(stage.daemon.status()["workloads"].as_array().map(Vec::len), Some(0));
}

#[test]
fn the_daemons_own_listener_is_closed_to_who_is_not_captured() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    stage.client(&mut agent);
    let sockets = succeed(Command::new("ss").args(["-Hltnp"]));
    let mine = format!("pid={},", stage.daemon.pid());
    let listeners: Vec<&str> = sockets.lines().filter(|line| line.contains(&mine)).collect();
    assert!(!listeners.is_empty(), "the daemon listens: {sockets}");
    let reached = stage.postgres.connections_received();
    for line in listeners {
        let address = line.split_whitespace().nth(3).unwrap();
        let (device, port) = address.rsplit_once(':').unwrap();
        assert_eq!(device, "*%lo", "by way of the loopback device only: {address}");
        for host in ["127.0.0.1", "[::1]"] {
            let Ok(stream) = std::net::TcpStream::connect(format!("{host}:{port}")) else { continue };
            wire::Client::start(stream).expect_err("no session for a connection that nobody captured");
        }
    }
    assert_eq!(stage.postgres.connections_received(), reached);
}

#[test]
fn an_unprivileged_user_can_run_captured_and_change_nothing_else() {
    let stage = Stage::new();
    let token = stage.daemon.token_file(&stage.issuer.token("agent-1"));
    succeed(Command::new("chown").arg("nobody").arg(&token));
    let copy = readable_copy(&stage);
    let as_nobody = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]).arg(&copy);
        command.arg("--socket").arg(stage.daemon.socket());
        command
    };
    let mut command = as_nobody();
    command.arg("run").arg("--token-file").arg(&token).arg("--");
    command
        .args(psql_words(&stage.postgres, &["-At", "-c", "SELECT name, email FROM customers WHERE id = 1"]));
    let seen = said(command.env("PGPASSWORD", "wrong"), "", PATIENCE);
    assert!(seen.ok().starts_with("Grace Hopper|") && !seen.out.contains("hopper"), "{seen:?}");

    let agent = stage.agent();
    let cgroup = stage.daemon.status()["workloads"][0]["cgroup"].to_string();
    for words in [&["capture", "list"][..], &["capture", "remove", &cgroup]] {
        let refused = said(as_nobody().args(words), "", PATIENCE);
        assert_eq!(refused.status, 1, "{words:?}: {refused:?}");
    }
    assert_eq!(stage.daemon.status()["workloads"].as_array().map(Vec::len), Some(1));
    drop(agent);
}

/// The binary where any user can execute it, wherever the target directory lies.
fn readable_copy(stage: &Stage) -> std::path::PathBuf {
    let copy = Path::new(stage.daemon.folder()).join("nodegate");
    fs::copy(nodegate(), &copy).unwrap();
    succeed(Command::new("chmod").arg("755").arg(&copy));
    copy
}
