//! Metrics, health and readiness: what whoever watches the node sees, and that captured agents are none of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use nix::sys::signal::Signal;
use nodegate_tests::{
    postgres::free_port,
    programs::{said, wait_for},
    stage::Stage,
};

/// What is answered to a GET, head and body.
fn get(address: SocketAddr, path: &str) -> String {
    ask(&mut TcpStream::connect(address).unwrap(), path).expect("an answer")
}

fn ask(stream: &mut TcpStream, path: &str) -> std::io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn watched(mode: &str) -> (Stage, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let stage = Stage::with(|settings| {
        mode.clone_into(&mut settings.mode);
        settings.listen = Some(address);
    });
    (stage, address)
}

#[test]
fn metrics_count_flows_requests_and_refusals_by_their_names() {
    let (stage, address) = watched("enforce");
    stage.psql("SELECT 1").ok();
    assert_ne!(stage.psql("TRUNCATE orders").status, 0);
    let metrics = get(address, "/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    for line in [
        "# TYPE nodegate_flows counter",
        "nodegate_flows_total{target=\"shop\",outcome=\"allowed\"} 2",
        "nodegate_requests_total{outcome=\"denied\"} 1",
        "nodegate_refusals_total{rule=\"no-drop\",outcome=\"denied\"} 1",
        "nodegate_audit_queue_capacity_events 16384",
        "nodegate_kernel_map_capacity_entries{map=\"captured\"} 16384",
        "nodegate_mode{mode=\"enforce\"} 1",
        "# UNIT nodegate_heartbeat_age_seconds seconds",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let agent = stage.agent();
    let metrics = get(address, "/metrics");
    assert!(metrics.contains("nodegate_identities{state=\"valid\"} 1"), "{metrics}");
    drop(agent);
    assert!(get(address, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(get(address, "/readyz").starts_with("HTTP/1.1 200"));
    assert!(get(address, "/v1/status").starts_with("HTTP/1.1 404"));
}

#[test]
fn a_captured_agent_does_not_reach_the_metrics_in_any_mode() {
    for mode in ["enforce", "observe"] {
        let (stage, address) = watched(mode);
        let mut agent = stage.agent();
        let answer = agent.connect(address).and_then(|mut stream| ask(&mut stream, "/metrics"));
        assert!(answer.is_err(), "{mode}: {answer:?}");
        let other = stage.daemon.audit_search(&["--outcome", "denied", "--kind", "connect"]);
        assert_eq!(other.len(), 1, "{mode}: it is judged and recorded as any flow");
        assert!(get(address, "/healthz").starts_with("HTTP/1.1 200"), "{mode}: others reach it");
    }
}

#[test]
fn a_daemon_that_cannot_listen_where_it_should_does_not_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (stage, address) = watched("enforce");
    let mut stage = stage;
    stage.daemon.terminate();
    stage.daemon.edit_config(&address.to_string(), &taken.local_addr().unwrap().to_string());
    let mut command = std::process::Command::new(nodegate_tests::programs::nodegate());
    let refused =
        said(command.arg("daemon").arg("--config").arg(stage.daemon.config()), "", Duration::from_secs(20));
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.err.contains("admin.listen"), "{refused:?}");
}

#[test]
fn a_daemon_that_stops_answering_is_seen_by_its_probes() {
    let (stage, address) = watched("enforce");
    assert!(get(address, "/readyz").starts_with("HTTP/1.1 200"));
    stage.daemon.signal(Signal::SIGSTOP);
    wait_for("it to stop", Duration::from_secs(10), || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", stage.daemon.pid())).unwrap();
        status.contains("State:\tT").then_some(())
    });
    std::thread::sleep(Duration::from_millis(200));
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
    stream.read(&mut [0]).expect_err("nothing is answered");
    stage.daemon.signal(Signal::SIGCONT);
    wait_for("it to answer again", Duration::from_secs(10), || {
        get(address, "/readyz").starts_with("HTTP/1.1 200").then_some(())
    });
}
