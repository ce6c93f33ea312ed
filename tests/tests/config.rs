//! What the daemon says of a configuration that is wrong: where, what, and what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{fs, process::Command, time::Duration};

use nodegate_tests::{
    daemon::{Daemon, Settings, Target},
    issuer::Issuer,
    programs::{Said, nodegate, said},
};

fn prepared() -> Daemon {
    let target = Target::shop("shop", "127.0.0.1:5432".parse().unwrap());
    Daemon::prepare(&Settings::new(vec![target]), &Issuer::start())
}

fn start(daemon: &Daemon, more: &[&str]) -> Said {
    let mut command = Command::new(nodegate());
    command.arg("daemon").args(more).arg("--config").arg(daemon.config());
    said(&mut command, "", Duration::from_secs(10))
}

fn edit(daemon: &Daemon, from: &str, to: &str) {
    let text = fs::read_to_string(daemon.config()).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(daemon.config(), text.replace(from, to)).unwrap();
}

#[test]
fn a_good_configuration_is_said_to_be_good() {
    start(&prepared(), &["--check"]).ok();
}

#[test]
fn each_mistake_is_named_with_its_line_and_a_hint() {
    let cases = [
        ("retention_days", "retention_day", "retention_day"),
        ("mode: enforce", "mode: enforc", "enforc"),
        ("policy: { dir: policies }", "policy: { dir: nowhere }", "nowhere"),
        ("upstream: disable", "upstream: maybe", "maybe"),
        ("ports: [5432]", "ports: [0]", "port"),
        ("{ kind: enrolled }", "{ kind: file }", "path"),
        ("leeway: 1s", "leeway: soon", "soon"),
        ("protocol: postgres", "protocol: gopher", "gopher"),
    ];
    for (from, to, named) in cases {
        let daemon = prepared();
        edit(&daemon, from, to);
        for more in [&["--check"][..], &[]] {
            let refused = start(&daemon, more);
            assert_eq!(refused.status, 1, "{to}: {refused:?}");
            assert!(refused.err.contains("nodegate.yaml:"), "{to}: the file and line: {}", refused.err);
            assert!(refused.err.contains(named), "{to}: {}", refused.err);
        }
    }
}

#[test]
fn a_missing_configuration_is_not_an_unreadable_one() {
    let daemon = prepared();
    fs::remove_file(daemon.config()).unwrap();
    let missing = start(&daemon, &[]);
    assert_eq!(missing.status, 1);
    fs::create_dir(daemon.config()).unwrap();
    let unreadable = start(&daemon, &[]);
    assert_eq!(unreadable.status, 1);
    assert_ne!(missing.err, unreadable.err);
}
