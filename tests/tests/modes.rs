//! Introducing nodegate step by step: what is only observed goes on as if nodegate were not there, and what enforcing
//! would have done is on record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    time::Duration,
};

use nodegate_tests::{
    postgres::{DATABASE, Options, PASSWORD, Postgres, ROLE},
    programs::{self, Said, said, wait_for},
    stage::{Stage, psql_words},
};
use serde_json::Value;

fn observed(mode: &str) -> Stage {
    Stage::with(|settings| mode.clone_into(&mut settings.mode))
}

/// A captured psql with a credential of its own, as it ran before nodegate came.
fn own_psql(stage: &Stage, token: Option<&str>, words: &[&str], sql: &str) -> Said {
    let mut command = stage.daemon.run(token);
    let all: Vec<&str> = ["-At", "-c", sql].iter().chain(words).copied().collect();
    command.args(psql_words(&stage.postgres, &all)).env("PGPASSWORD", PASSWORD).env("PGSSLMODE", "disable");
    said(&mut command, "", Duration::from_secs(30))
}

/// The events that these words find, once there are any.
fn recorded(stage: &Stage, words: &[&str]) -> Vec<Value> {
    recorded_times(stage, words, 1)
}

/// The same, once there are so many.
fn recorded_times(stage: &Stage, words: &[&str], times: usize) -> Vec<Value> {
    let events = |words: &[&str]| -> Vec<Value> {
        stage.daemon.audit_search(words).into_iter().map(|record| record["event"].clone()).collect()
    };
    for _ in 0..100 {
        let found = events(words);
        if found.len() >= times {
            return found;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{words:?} finds fewer than {times} of {:#?}", events(&[]));
}

#[test]
fn what_would_be_refused_or_masked_goes_on_and_is_recorded() {
    let stage = observed("observe");
    let token = stage.issuer.token("agent-1");
    let seen = own_psql(&stage, Some(&token), &[], "SELECT email FROM customers WHERE id = 1");
    assert_eq!(seen.ok(), "grace.hopper1@example.com\n", "nothing is masked");
    let done = own_psql(&stage, Some(&token), &[], "BEGIN; UPDATE customers SET phone = phone; ROLLBACK");
    assert!(done.ok().contains("UPDATE"), "nothing is refused: {done:?}");

    let would = recorded(&stage, &["--outcome", "would_deny", "--mode", "observe"]);
    assert_eq!(would[0]["policies"][0], "no-change-of-everything", "{would:?}");
    assert_eq!(would[0]["mode"], "observe");
    assert!(would[0]["text"].as_str().unwrap().contains("UPDATE customers"));
    assert!(would[0]["identity"].as_str().unwrap().contains("agent-1"));
    let masked = recorded(&stage, &["--outcome", "allowed", "--kind", "request", "SELECT email"]);
    assert_eq!(masked[0]["masked"][0], "public.customers.email", "{masked:?}");
    assert!(stage.daemon.audit_search(&["--outcome", "denied"]).is_empty());
    let connects = recorded(&stage, &["--kind", "connect", "--outcome", "allowed"]);
    assert!(connects[0]["policies"].to_string().contains("agents-work-with-rows"), "{connects:?}");
}

#[test]
fn what_comes_past_sql_goes_on_and_what_enforcing_would_have_said_of_it_is_recorded() {
    let postgres = Postgres::with(&Options { settings: "wal_level = logical", ..Options::default() });
    postgres.admin(&format!("ALTER ROLE {ROLE} REPLICATION"));
    let stage = Stage::around(postgres, |settings| "shadow".clone_into(&mut settings.mode));
    let token = stage.issuer.token("agent-1");
    let (file, port) = (stage.daemon.folder().join("large"), stage.postgres.port().to_string());
    fs::write(&file, "large").unwrap();
    let import = format!("\\lo_import '{}'", file.display());
    own_psql(&stage, Some(&token), &[], &import).ok();
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM pg_largeobject_metadata"), "1");
    let would = recorded(&stage, &["--outcome", "would_deny", "lo_creat"]);
    assert_eq!(would[0]["policies"][0], "builtin/default-deny", "{would:?}");
    assert!(would[0]["reason"].as_str().unwrap().contains("sql:function_call on shop"), "{would:?}");

    let mut command = stage.daemon.run(Some(&token));
    command.arg(programs::postgres("pg_recvlogical")).args(["-h", "127.0.0.1", "-U", ROLE, "-p", &port]);
    command.args(["-d", "shop", "--slot=s", "-P", "test_decoding", "--create-slot"]);
    command.env("PGPASSWORD", PASSWORD).env("PGSSLMODE", "disable");
    said(&mut command, "", Duration::from_secs(30)).ok();
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM pg_replication_slots"), "1");
    let connected = recorded(&stage, &["--outcome", "would_deny", "--kind", "connect"]);
    assert!(connected[0]["reason"].as_str().unwrap().contains("sql:replication"), "{connected:?}");
    let made = recorded(&stage, &["--outcome", "would_deny", "CREATE_REPLICATION_SLOT"]);
    assert!(made[0]["reason"].as_str().unwrap().contains("create_replication_slot"), "{made:?}");
}

#[test]
fn prepared_statements_are_judged_when_they_run() {
    let stage = observed("observe");
    let script = stage.daemon.folder().join("prepared.sql");
    fs::write(&script, "UPDATE orders SET status = status;\n").unwrap();
    let mut command = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    command.arg(programs::postgres("pgbench")).args(["-n", "-M", "prepared", "-t", "2", "-f"]).arg(&script);
    command.args(["-h", "127.0.0.1", "-p", &stage.postgres.port().to_string(), "-U", ROLE, DATABASE]);
    command.env("PGPASSWORD", PASSWORD).env("PGSSLMODE", "disable");
    said(&mut command, "", Duration::from_secs(30)).ok();
    recorded_times(&stage, &["--outcome", "would_deny", "UPDATE orders"], 2);
}

#[test]
fn a_session_under_the_clients_own_tls_goes_on_and_shadow_says_that_it_cannot_be_judged() {
    let stage = observed("shadow");
    let mut command = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    let words = ["-At", "-c", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"];
    command.args(psql_words(&stage.postgres, &words)).env("PGPASSWORD", PASSWORD).env("PGSSLMODE", "require");
    assert_eq!(said(&mut command, "", Duration::from_secs(30)).ok(), "t\n");
    let would = recorded(&stage, &["--outcome", "would_deny"]);
    assert_eq!(would[0]["policies"][0], "builtin/encrypted", "{would:?}");
}

#[test]
fn a_missing_identity_is_a_fact_to_observe_and_a_refusal_to_shadow() {
    for (mode, outcome) in [("observe", "noted"), ("shadow", "would_deny")] {
        let stage = observed(mode);
        let seen = own_psql(&stage, None, &[], "SELECT 7");
        assert_eq!(seen.ok(), "7\n", "{mode}");
        let found = recorded(&stage, &["--kind", "connect", "--outcome", outcome]);
        assert_eq!(found[0]["policies"][0], "builtin/identity", "{mode}: {found:?}");
        assert_eq!(found[0]["mode"], mode);
    }
}

#[test]
fn what_is_no_target_and_speaks_no_known_protocol_is_passed_on_untouched() {
    let stage = observed("shadow");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut agent = stage.agent();
    let mut near = agent.connect(listener.local_addr().unwrap()).unwrap();
    let (mut far, _) = listener.accept().unwrap();
    far.write_all(b"220 mail\r\n").unwrap();
    let mut greeting = [0; 10];
    near.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 mail\r\n", "a server may speak first");
    near.write_all(b"\x00\xff\x00 what?").unwrap();
    drop(near);
    let mut heard = Vec::new();
    far.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"\x00\xff\x00 what?");
    drop(far);
    let would = recorded(&stage, &["--outcome", "would_deny"]);
    assert_eq!(would[0]["policies"][0], "builtin/unknown-target", "{would:?}");
    let closed = recorded(&stage, &["--kind", "close"]);
    assert!(closed[0]["reason"].as_str().unwrap().contains("9 bytes sent, 10 received"), "{closed:?}");
}

#[test]
fn one_label_is_enforced_on_a_node_that_observes_and_one_target_observed_on_a_node_that_enforces() {
    let stage = Stage::with(|settings| {
        settings.mode = "observe".to_owned();
        settings.capture = ", labels: { strict: { mode: enforce } }".to_owned();
    });
    let strict = |stage: &Stage| {
        let mut run = stage.daemon.nodegate(&["run", "--identity", "strict"]);
        run.arg("--token-file").arg(stage.daemon.token_file(&stage.issuer.token("agent-1"))).arg("--");
        run.args(psql_words(&stage.postgres, &["-At", "-c", "SELECT email FROM customers WHERE id = 1"]));
        said(run.env("PGPASSWORD", PASSWORD), "", Duration::from_secs(30))
    };
    assert!(!strict(&stage).ok().contains("hopper"), "the label's sessions are masked");
    let seen = own_psql(&stage, None, &[], "SELECT email FROM customers WHERE id = 1");
    assert!(seen.ok().contains("hopper"), "others are not");

    let port = stage.postgres.port();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = listener.local_addr().unwrap();
    drop(stage);
    let stage = Stage::with(|settings| {
        settings.targets.clear();
        settings.more_targets.push(format!(
            "{{ name: tried, mode: observe, protocol: tcp, hosts: [\"127.0.0.1\"], ports: [{}] }}",
            other.port()
        ));
    });
    assert_ne!(port, other.port());
    let mut agent = stage.agent();
    let mut near = agent.connect(other).unwrap();
    near.write_all(b"x").unwrap();
    listener.accept().expect("the observed target is reached");
    let refused = agent.connect(stage.postgres.address());
    let answer = refused.and_then(|mut stream| stream.read(&mut [0; 8]));
    assert!(answer.is_err(), "what is not named is enforced: {answer:?}");
}

#[test]
fn a_team_goes_from_observing_to_enforcing_without_a_restart() {
    let stage = observed("observe");
    let token = stage.issuer.token("agent-1");
    let sql = "SELECT email FROM customers WHERE id = 1";
    assert!(own_psql(&stage, Some(&token), &[], sql).ok().contains("hopper"));
    stage.daemon.edit_config("mode: observe", "mode: enforce");
    wait_for("the mode to change", Duration::from_secs(10), || {
        (stage.daemon.status()["mode"] == "enforce").then_some(())
    });
    assert!(!own_psql(&stage, Some(&token), &[], sql).ok().contains("hopper"));
    let refused = own_psql(&stage, Some(&token), &[], "UPDATE customers SET phone = phone");
    assert_ne!(refused.status, 0, "{refused:?}");
}

#[test]
fn datagrams_and_other_sockets_go_on_where_nothing_is_enforced_and_are_recorded() {
    let stage = observed("observe");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let port = socket.local_addr().unwrap().port();
    let mut run = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    let script = format!("echo out > /dev/udp/127.0.0.1/{port}");
    said(run.args(["bash", "-c", &script]), "", Duration::from_secs(20)).ok();
    assert_eq!(socket.recv(&mut [0; 16]).expect("the datagram arrives"), 4);
    let would = recorded(&stage, &["--kind", "connect", "--outcome", "would_deny"]);
    assert_eq!(would[0]["destination"], format!("127.0.0.1:{port}"), "{would:?}");
    assert_eq!(would[0]["mode"], "observe");
}

#[test]
fn without_a_daemon_a_node_that_observes_goes_on_and_one_that_enforces_anything_does_not() {
    for (node, target, goes_on) in [("observe", "observe", true), ("observe", "enforce", false)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stage = Stage::with(|settings| {
            node.clone_into(&mut settings.mode);
            settings.more_targets.push(format!(
                "{{ name: tried, mode: {target}, protocol: tcp, hosts: [\"127.0.0.9\"], ports: [9] }}"
            ));
        });
        let mut agent = stage.agent();
        stage.daemon.kill();
        let connected = agent.connect(listener.local_addr().unwrap());
        assert_eq!(connected.is_ok(), goes_on, "{node}, {target}: {connected:?}");
        if let Ok(near) = connected {
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(peer, near.local_addr().unwrap(), "directly");
        }
    }
}
