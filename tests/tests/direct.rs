//! What policy lets through without looking into it goes direct: the kernel leaves the connection as it is, the log
//! has it all the same, and nothing else becomes reachable by that.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use nodegate_tests::{
    agent::Agent,
    daemon::{Daemon, Settings},
    issuer::Issuer,
    programs::wait_for,
};
use serde_json::{Value, json};

const POLICY: &str = r#"
@id("agents-use-the-cache")
permit (principal in Group::"agents", action == Action::"connect", resource == Target::"cache");
"#;

/// A cache that goes direct, on a port of the test's own.
struct Cache {
    daemon: Daemon,
    issuer: Issuer,
    listener: TcpListener,
}

impl Cache {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut settings = Settings::new(Vec::new());
        POLICY.clone_into(&mut settings.policy);
        settings.more_targets.push(format!(
            "{{ name: cache, protocol: tcp, inspect: none, hosts: [\"127.0.0.1\"], ports: [{}] }}",
            listener.local_addr().unwrap().port()
        ));
        let issuer = Issuer::start();
        Self { daemon: Daemon::start(&settings, &issuer), issuer, listener }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Who has connected, once somebody has.
    fn accepted(&self) -> (TcpStream, SocketAddr) {
        wait_for("a connection", Duration::from_secs(10), || self.listener.accept().ok())
    }

    /// Connects, and tells whether the cache has the very socket of the agent at its other end.
    fn is_direct(&self, agent: &mut Agent) -> bool {
        let near = agent.connect(self.address()).unwrap();
        let (_far, peer) = self.accepted();
        peer == near.local_addr().unwrap()
    }

    fn hears_nothing(&self) {
        std::thread::sleep(Duration::from_millis(100));
        let heard = self.listener.accept();
        assert_eq!(heard.expect_err("nobody may come through").kind(), ErrorKind::WouldBlock);
    }

    fn events(&self, words: &[&str]) -> Vec<Value> {
        self.daemon.audit_search(words).into_iter().map(|record| record["event"].clone()).collect()
    }
}

/// Whether a connection is refused, at once or by a reset.
fn is_refused(agent: &mut Agent, to: SocketAddr) -> bool {
    let Ok(mut stream) = agent.connect(to) else { return true };
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // What says nothing is given time to say something before it is judged.
    let _ = stream.write_all(b"something");
    matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn the_first_connection_of_an_enrolled_agent_goes_direct_already_and_each_is_recorded() {
    let cache = Cache::new();
    let mut agent = cache.daemon.agent(&cache.issuer.token("agent-1"));
    for _ in 0..3 {
        let mut near = agent.connect(cache.address()).unwrap();
        let (mut far, peer) = cache.accepted();
        assert_eq!(peer, near.local_addr().unwrap(), "no socket of the daemon is in between");
        assert_eq!(near.peer_addr().unwrap(), cache.address());
        near.write_all(b"get").unwrap();
        let mut heard = [0; 3];
        far.set_nonblocking(false).unwrap();
        far.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"get");
    }
    let found = wait_for("the records", Duration::from_secs(10), || {
        let found = cache.events(&["--kind", "connect", "--outcome", "allowed"]);
        (found.len() == 3).then_some(found)
    });
    assert_eq!(found[0]["target"], "cache");
    assert_eq!(found[0]["policies"], json!(["agents-use-the-cache"]));
    assert_eq!(found[0]["destination"], cache.address().to_string());
    assert!(found[0]["identity"].as_str().unwrap().ends_with("|agent-1"), "{found:?}");
    assert!(found[0]["process"].as_str().unwrap().contains("(agent)"), "{found:?}");
    assert_eq!(cache.daemon.counter("direct_total"), 3);
}

#[test]
fn nothing_else_becomes_reachable() {
    let cache = Cache::new();
    let mut agent = cache.daemon.agent(&cache.issuer.token("agent-1"));
    assert!(cache.is_direct(&mut agent), "the way is open");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(is_refused(&mut agent, other.local_addr().unwrap()), "another port");
    let neighbour = TcpListener::bind(("127.0.0.2", cache.address().port())).unwrap();
    assert!(is_refused(&mut agent, neighbour.local_addr().unwrap()), "another address");
    let six: SocketAddr = format!("[::1]:{}", cache.address().port()).parse().unwrap();
    assert!(is_refused(&mut agent, six), "another family");
    let visitor = cache.issuer.token_with("visitor", &json!({ "groups": ["visitors"] }));
    assert!(is_refused(&mut cache.daemon.agent(&visitor), cache.address()), "another identity");
    let mut nobody = Agent::start(cache.daemon.run(None)).unwrap();
    assert!(is_refused(&mut nobody, cache.address()), "no identity");
    assert!(cache.is_direct(&mut agent), "the way is open still");
    cache.hears_nothing();
}

#[test]
fn a_grant_goes_on_for_as_long_as_the_daemon_stands_by_it() {
    let cache = Cache::new();
    let mut agent = cache.daemon.agent(&cache.issuer.token("agent-1"));
    assert!(cache.is_direct(&mut agent));
    // The daemon's word alone holds for twelve seconds.
    std::thread::sleep(Duration::from_secs(13));
    assert!(cache.is_direct(&mut agent));
}

#[test]
fn a_grant_ends_with_its_policy_its_identity_and_its_daemon() {
    let mut cache = Cache::new();
    let mut agent = cache.daemon.agent(&cache.issuer.token("agent-1"));
    assert!(cache.is_direct(&mut agent));

    cache.daemon.set_policy(&POLICY.replace("Target::\"cache\"", "Target::\"other\""));
    wait_for("the policy to be in force", Duration::from_secs(10), || {
        cache.daemon.log().contains("policies reloaded").then_some(())
    });
    // The kernel is told right behind.
    std::thread::sleep(Duration::from_millis(500));
    assert!(is_refused(&mut agent, cache.address()), "policy forbids it now");
    cache.hears_nothing();
    cache.daemon.set_policy(POLICY);
    wait_for("the policy to be in force again", Duration::from_secs(10), || {
        (cache.daemon.log().matches("policies reloaded").count() == 2).then_some(())
    });
    assert!(cache.is_direct(&mut agent));

    let expires = nodegate_tests::tokens::now() + 3;
    let brief = cache.issuer.token_with("agent-2", &json!({ "exp": expires }));
    let mut brief = cache.daemon.agent(&brief);
    assert!(cache.is_direct(&mut brief));
    wait_for("the identity to expire", Duration::from_secs(10), || {
        // The leeway of the configuration is a second.
        (nodegate_tests::tokens::now() > expires + 1).then_some(())
    });
    assert!(is_refused(&mut brief, cache.address()), "the identity has expired");
    cache.hears_nothing();

    cache.daemon.kill();
    let dead = agent.connect(cache.address()).expect_err("no daemon, no connection");
    assert_eq!(dead.kind(), ErrorKind::ConnectionRefused);
    cache.hears_nothing();
    cache.daemon.restart();
    assert!(cache.is_direct(&mut agent), "enrolments outlive a restart, and so do their grants");
}
