//! Targets that nobody looks into: policy says who may connect, and the bytes pass as they come.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use nodegate_tests::{
    daemon::{Daemon, Settings},
    issuer::Issuer,
    programs::wait_for,
};
use serde_json::{Value, json};

const POLICY: &str = r#"
@id("agents-use-the-cache")
permit (principal in Group::"agents", action == Action::"connect", resource == Target::"cache");
"#;

/// A cache at a port of the test's own, behind a daemon that looks at nothing of it.
fn guarded(policy: &str) -> (Daemon, Issuer, TcpListener) {
    let cache = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = Settings::new(Vec::new());
    policy.clone_into(&mut settings.policy);
    settings.more_targets.push(format!(
        "{{ name: cache, protocol: tcp, hosts: [\"127.0.0.1\"], ports: [{}] }}",
        cache.local_addr().unwrap().port()
    ));
    let issuer = Issuer::start();
    (Daemon::start(&settings, &issuer), issuer, cache)
}

fn events(daemon: &Daemon, words: &[&str]) -> Vec<Value> {
    daemon.audit_search(words).into_iter().map(|record| record["event"].clone()).collect()
}

fn is_reset(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn bytes_pass_both_ways_and_each_way_ends_by_itself() {
    let (daemon, issuer, cache) = guarded(POLICY);
    let mut agent = daemon.agent(&issuer.token("agent-1"));
    let mut near = agent.connect(cache.local_addr().unwrap()).unwrap();
    let (mut far, _) = cache.accept().unwrap();
    far.write_all(b"hello\n").unwrap();
    let mut greeting = [0; 6];
    near.read_exact(&mut greeting).expect("a server may speak first");
    let megabytes = vec![5_u8; 8 << 20];
    let expected = megabytes.len();
    let sender = thread::spawn(move || {
        near.write_all(&megabytes).unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        near.read_to_string(&mut answer).unwrap();
        answer
    });
    let mut heard = Vec::new();
    far.read_to_end(&mut heard).unwrap();
    assert_eq!(heard.len(), expected);
    far.write_all(b"thanks").unwrap();
    drop(far);
    assert_eq!(sender.join().unwrap(), "thanks", "half closed, not closed");

    let connects = events(&daemon, &["--kind", "connect", "--outcome", "allowed"]);
    assert_eq!(connects[0]["target"], "cache");
    assert_eq!(connects[0]["policies"][0], "agents-use-the-cache", "{connects:?}");
    let closed = wait_for("the end to be recorded", Duration::from_secs(10), || {
        events(&daemon, &["--kind", "close"]).pop()
    });
    assert!(closed["reason"].as_str().unwrap().contains("8388608 bytes sent, 12 received"), "{closed}");
}

#[test]
fn who_may_not_connect_is_reset_before_the_target_hears_of_it() {
    let (daemon, issuer, cache) = guarded(POLICY);
    let stranger = issuer.token_with("agent-2", &json!({ "groups": ["visitors"] }));
    let mut agent = daemon.agent(&stranger);
    let mut near = agent.connect(cache.local_addr().unwrap()).unwrap();
    assert!(is_reset(&mut near));
    cache.set_nonblocking(true).unwrap();
    assert_eq!(cache.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let denied = events(&daemon, &["--outcome", "denied", "--kind", "connect"]);
    assert_eq!(denied[0]["policies"][0], "builtin/default-deny", "{denied:?}");
    assert!(denied[0]["identity"].as_str().unwrap().contains("agent-2"));
}

#[test]
fn a_target_that_is_down_ends_the_connection_at_once() {
    let (daemon, issuer, cache) = guarded(POLICY);
    let address = cache.local_addr().unwrap();
    drop(cache);
    let mut agent = daemon.agent(&issuer.token("agent-1"));
    assert!(is_reset(&mut agent.connect(address).unwrap()));
}

#[test]
fn a_session_does_not_outlive_its_identity() {
    let (daemon, issuer, cache) = guarded(POLICY);
    let expires = nodegate_tests::tokens::now() + 3;
    let mut agent = daemon.agent(&issuer.token_with("agent-1", &json!({ "exp": expires })));
    let mut near = agent.connect(cache.local_addr().unwrap()).unwrap();
    let (mut far, _) = cache.accept().unwrap();
    near.write_all(b"x").unwrap();
    far.read_exact(&mut [0]).unwrap();
    near.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!(matches!(near.read(&mut [0]), Ok(0) | Err(_)), "it ends");
    let closed = wait_for("the end to be recorded", Duration::from_secs(10), || {
        events(&daemon, &["--kind", "close"]).pop()
    });
    assert!(closed["reason"].as_str().unwrap().contains("expired"), "{closed}");
}
