//! Datagrams: what policy opens passes and is recorded, everything else is refused in the kernel, at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    net::{SocketAddr, UdpSocket},
    process::Command,
    time::Duration,
};

use nodegate_tests::{
    daemon::{Daemon, Settings},
    dns::{Dnsmasq, dig_words, own_address},
    issuer::Issuer,
    programs::{agent, said, wait_for},
};

const PATIENCE: Duration = Duration::from_secs(30);

const POLICY: &str = r#"
@id("agents-use-metrics")
permit (principal in Group::"agents", action == Action::"connect", resource == Target::"metrics");
"#;

/// A server for datagrams, and a daemon with a target for it.
struct Scene {
    daemon: Daemon,
    issuer: Issuer,
    server: UdpSocket,
}

impl Scene {
    /// `place` is what the target lists: `hosts: […]` or `cidrs: […]`.
    fn new(place: impl FnOnce(SocketAddr) -> String, more: &str) -> Self {
        let server = UdpSocket::bind((own_address(), 0)).unwrap();
        server.set_nonblocking(true).unwrap();
        let address = server.local_addr().unwrap();
        let mut settings = Settings::new(Vec::new());
        POLICY.clone_into(&mut settings.policy);
        more.clone_into(&mut settings.more);
        settings.more_targets.push(format!(
            "{{ name: metrics, protocol: udp, {}, ports: [{}] }}",
            place(address),
            address.port()
        ));
        let issuer = Issuer::start();
        Self { daemon: Daemon::start(&settings, &issuer), issuer, server }
    }

    fn address(&self) -> SocketAddr {
        self.server.local_addr().unwrap()
    }

    fn send(&self, token: &str, to: SocketAddr) -> String {
        let mut command = self.daemon.run(Some(token));
        command.arg(agent()).arg("datagrams").arg(to.to_string());
        said(&mut command, "", PATIENCE).ok().to_owned()
    }

    /// How many datagrams have come.
    fn received(&self) -> usize {
        std::iter::from_fn(|| self.server.recv(&mut [0; 64]).ok()).count()
    }
}

const ALL_SENT: &str = "sent\nconnected: sent\nsendmmsg: sent\n";
const ALL_REFUSED: &str = "refused (1)\nconnected: refused (1)\nsendmmsg: refused (1)\n";

#[test]
fn what_policy_opens_passes_and_is_recorded_and_the_next_port_is_refused() {
    let scene = Scene::new(|address| format!("hosts: [\"{}\"]", address.ip()), "");
    let (open, mut shut) = (scene.address(), scene.address());
    shut.set_port(if open.port() == 40_000 { 40_001 } else { 40_000 });
    let control = said(Command::new(agent()).arg("datagrams").arg(open.to_string()), "", PATIENCE);
    assert_eq!((control.ok(), scene.received()), (ALL_SENT, 3));

    let token = scene.issuer.token("agent-1");
    assert_eq!(scene.send(&token, open), ALL_SENT);
    assert_eq!(scene.received(), 3);
    assert_eq!(scene.send(&token, shut), ALL_REFUSED);
    let stranger = scene.issuer.token_with("stranger-1", &serde_json::json!({ "groups": ["strangers"] }));
    assert_eq!(scene.send(&stranger, open), ALL_REFUSED);
    assert_eq!(scene.received(), 0);

    let flows = wait_for("the flows in the log", PATIENCE, || {
        let flows = scene.daemon.audit_search(&["--kind", "connect", "--outcome", "allowed"]);
        (flows.len() >= 2).then_some(flows)
    });
    assert_eq!(flows.len(), 2, "one for the socket without connection, one for connect(): {flows:?}");
    for flow in &flows {
        let event = &flow["event"];
        assert_eq!(
            (&event["target"], &event["policies"][0]),
            (&"metrics".into(), &"agents-use-metrics".into())
        );
        assert_eq!(event["destination"], open.to_string());
        assert!(event["identity"].as_str().unwrap().ends_with("|agent-1"), "{event}");
    }
}

#[test]
fn a_policy_that_closes_a_destination_closes_it_to_whoever_runs_already() {
    let scene = Scene::new(|address| format!("cidrs: [\"{}/32\"]", address.ip()), "");
    let mut command = scene.daemon.run(Some(&scene.issuer.token("agent-1")));
    let address = scene.address();
    let script = format!(
        "while read go; do all=$({} datagrams {address}); echo \"$all\" | head -1; done",
        agent().display()
    );
    let mut child = command
        .args(["sh", "-c", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let mut ask = || {
        std::io::Write::write_all(&mut input, b"go\n").unwrap();
        output.next().unwrap().unwrap()
    };
    assert_eq!(ask(), "sent");
    scene.daemon.set_policy("");
    wait_for("the new policy", PATIENCE, || (ask() == "refused (1)").then_some(()));
    scene.daemon.set_policy(POLICY);
    wait_for("the old policy", PATIENCE, || (ask() == "sent").then_some(()));
    drop(input);
    child.wait().unwrap();
}

#[test]
fn a_name_that_is_asked_for_opens_the_address_that_it_stands_for() {
    let address = own_address();
    let names = Dnsmasq::start(&[&format!("--address=/metrics.test/{address}")]);
    let trust = format!("dns: {{ trusted: [\"{}\"] }}\n", names.address());
    let scene = Scene::new(|_| "hosts: [metrics.test]".to_owned(), &trust);
    let port = scene.address().port();
    let server = UdpSocket::bind((address, port)).unwrap();
    server.set_nonblocking(true).unwrap();

    let dig = dig_words(names.address(), &["metrics.test"]).join(" ");
    let send = format!("{} datagrams {}", agent().display(), SocketAddr::new(address, port));
    let mut command = scene.daemon.run(Some(&scene.issuer.token("agent-1")));
    let seen = said(command.args(["sh", "-c", &format!("{send}; {dig} > /dev/null; {send}")]), "", PATIENCE);
    assert_eq!(seen.ok(), format!("{ALL_REFUSED}{ALL_SENT}"));
    let received = std::iter::from_fn(|| server.recv(&mut [0; 64]).ok()).count();
    assert_eq!(received, 3);
}

#[test]
fn without_a_daemon_nothing_is_open() {
    let mut scene = Scene::new(|address| format!("hosts: [\"{}\"]", address.ip()), "");
    let address = scene.address();
    let mut command = scene.daemon.run(Some(&scene.issuer.token("agent-1")));
    let script = format!("echo ready; read go; {} datagrams {address}", agent().display());
    let mut child = command
        .args(["sh", "-c", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert_eq!(output.next().unwrap().unwrap(), "ready");
    scene.daemon.kill();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"go\n").unwrap();
    let first = output.next().unwrap().unwrap();
    assert!(first.starts_with("refused"), "{first}");
    child.wait().unwrap();
    assert_eq!(scene.received(), 0);
}
