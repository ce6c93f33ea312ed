//! Who may connect: nobody without a token that is signed, current, and meant for this installation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{thread, time::Duration};

use nodegate_tests::{
    agent::Agent,
    daemon::{Daemon, Discovery, Settings, Target},
    issuer::Issuer,
    postgres::Postgres,
    programs::{Said, said, wait_for},
    stage::{Stage, psql_words},
    tokens::{Algorithm, Key, now},
    wire::Client,
};
use serde_json::json;

/// A stage whose agents carry their token in the environment, so that `connect` is what is refused.
fn stage() -> Stage {
    Stage::with(|settings| {
        settings.sources = vec!["{ kind: environment, variable: NODEGATE_ID_TOKEN }".to_owned()];
    })
}

fn psql_with(stage: &Stage, token: Option<&str>, sql: &str) -> Said {
    let mut run = stage.daemon.run(None);
    run.args(psql_words(&stage.postgres, &["-At", "-c", sql])).env("PGPASSWORD", "wrong");
    if let Some(token) = token {
        run.env("NODEGATE_ID_TOKEN", token);
    }
    said(&mut run, "", Duration::from_secs(20))
}

#[test]
fn each_bad_token_is_refused_with_its_own_reason_before_a_byte_reaches_the_database() {
    let stage = stage();
    let issuer = &stage.issuer;
    let reached = stage.postgres.connections_received();
    let stranger = Key::generate("first", Algorithm::Es256);
    let unknown = Key::generate("never-published", Algorithm::Es256);
    let good = issuer.claims("agent-1");
    let cases = [
        ("no token", None, "no identity token"),
        ("another audience", Some(issuer.token_with("agent-1", &json!({ "aud": "elsewhere" }))), "audience"),
        ("expired", Some(issuer.token_with("agent-1", &json!({ "exp": now() - 60 }))), "expired"),
        (
            "not valid before",
            Some(issuer.token_with("agent-1", &json!({ "nbf": now() + 600 }))),
            "not valid before",
        ),
        (
            "another issuer",
            Some(issuer.token_with("agent-1", &json!({ "iss": "https://127.0.0.1:1" }))),
            "issuer",
        ),
        ("no expiry", Some(issuer.token_with("agent-1", &json!({ "exp": null }))), "exp"),
        ("a forged signature", Some(stranger.sign(&good)), "signature"),
        ("an unknown key", Some(unknown.sign(&good)), "key"),
        ("alg none", Some(issuer.with_key(|key| key.unsigned(&good))), "alg"),
        (
            "the public key as HMAC secret",
            Some(issuer.with_key(|key| key.forge_with_public_key(&good))),
            "alg",
        ),
        ("no token at all", Some("not a token".to_owned()), "token"),
    ];
    let mut reasons = Vec::new();
    for (case, token, reason) in cases {
        let refused = psql_with(&stage, token.as_deref(), "SELECT 1");
        assert_eq!(refused.status, 2, "{case}: {refused:?}");
        assert!(
            refused.err.contains("FATAL"),
            "{case}: the reason comes as PostgreSQL would say it: {}",
            refused.err
        );
        assert!(
            refused.err.to_lowercase().contains(reason),
            "{case} names its reason `{reason}`: {}",
            refused.err
        );
        if let Some(token) = token.filter(|token| token.len() > 40) {
            let tail = &token[token.len() - 20..];
            assert!(!stage.daemon.log().contains(tail), "{case}: the log shows the token");
        }
        reasons.push(refused.err.lines().filter(|line| line.contains("FATAL")).collect::<String>());
    }
    let distinct: std::collections::BTreeSet<_> = reasons.iter().collect();
    assert!(distinct.len() >= 9, "the reasons differ: {reasons:#?}");
    assert_eq!(stage.postgres.connections_received(), reached, "a byte reached the database");
    assert_eq!(psql_with(&stage, Some(&issuer.token("agent-1")), "SELECT 1").ok(), "1\n");
}

#[test]
fn a_bad_token_that_is_enrolled_keeps_the_command_from_starting() {
    let stage = Stage::new();
    let expired = stage.issuer.token_with("agent-1", &json!({ "exp": now() - 60 }));
    let refused = stage.psql_as(&expired, "SELECT 1");
    assert_eq!(refused.status, 126, "{refused:?}");
    assert!(refused.err.contains("expired"), "{}", refused.err);
}

#[test]
fn a_token_without_the_group_is_a_good_token_and_still_may_nothing() {
    let stage = stage();
    let reached = stage.postgres.connections_received();
    let token = stage.issuer.token_with("visitor", &json!({ "groups": ["visitors"] }));
    let refused = psql_with(&stage, Some(&token), "SELECT 1");
    assert_eq!(refused.status, 2, "{refused:?}");
    assert_eq!(stage.postgres.connections_received(), reached);
    let denied = stage.daemon.audit_search(&["--outcome", "denied"]);
    assert!(denied.iter().any(|record| record.to_string().contains("visitor")), "{denied:?}");
}

#[test]
fn every_algorithm_that_issuers_use_is_accepted() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let postgres = Postgres::start();
        let issuer = Issuer::with(vec![Key::generate("only", algorithm)]);
        for discovery in [Discovery::Https, Discovery::JwksFile] {
            let mut settings = Settings::new(vec![Target::shop("shop", postgres.address())]);
            settings.discovery = discovery;
            let daemon = Daemon::start(&settings, &issuer);
            let mut agent = daemon.agent(&issuer.token("agent-1"));
            let stream = agent.connect(postgres.address()).unwrap();
            Client::start(stream).unwrap_or_else(|error| panic!("{algorithm:?} {discovery:?}: {error:?}"));
        }
    }
}

#[test]
fn an_unknown_key_is_looked_up_again_but_not_for_every_forgery() {
    let stage = stage();
    psql_with(&stage, Some(&stage.issuer.token("agent-1")), "SELECT 1").ok();
    stage.issuer.rotate_to(Key::generate("second", Algorithm::EdDsa));
    let rotated = stage.issuer.token("agent-1");
    wait_for("the new key to be fetched", Duration::from_secs(40), || {
        (psql_with(&stage, Some(&rotated), "SELECT 1").status == 0).then_some(())
    });
    let before = stage.issuer.fetches();
    for number in 0..8 {
        let forger = Key::generate(&format!("forged-{number}"), Algorithm::Es256);
        let token = forger.sign(&stage.issuer.claims("agent-1"));
        assert_eq!(psql_with(&stage, Some(&token), "SELECT 1").status, 2);
    }
    assert!(
        stage.issuer.fetches() <= before + 2,
        "{} fetches for 8 forgeries",
        stage.issuer.fetches() - before
    );
}

#[test]
fn an_identity_that_expires_ends_its_session_at_the_next_request() {
    let stage = stage();
    let short = stage.issuer.token_with("agent-1", &json!({ "exp": now() + 4 }));
    let mut run = stage.daemon.run(None);
    run.env("NODEGATE_ID_TOKEN", &short);
    let mut agent = Agent::start(run).expect("a captured agent");
    let mut client = stage.client(&mut agent);
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
    thread::sleep(Duration::from_secs(6));
    let reply = client.query("SELECT 2");
    assert_eq!(reply.status, 'X', "the session ends: {reply:?}");
    assert!(reply.rows.is_empty());
    assert!(reply.error().text().contains("expired"), "{:?}", reply.error());
    let refused =
        Client::start(agent.connect(stage.postgres.address()).unwrap()).expect_err("no new session");
    assert!(refused.text().contains("expired"), "{refused:?}");
}

/// Gives the one workload there is another token.
fn enrol_anew(stage: &Stage, token: &str) {
    let cgroup = stage.daemon.status()["workloads"][0]["cgroup"].to_string();
    let mut enrol = stage.daemon.nodegate(&["identity", "enrol", "--cgroup", &cgroup]);
    enrol.arg("--token-file").arg(stage.daemon.token_file(token));
    said(&mut enrol, "", Duration::from_secs(10)).ok();
}

#[test]
fn a_renewed_enrolment_keeps_the_session_alive() {
    let stage = Stage::new();
    let short = stage.issuer.token_with("agent-1", &json!({ "exp": now() + 4 }));
    let mut agent = stage.daemon.agent(&short);
    let mut client = stage.client(&mut agent);
    enrol_anew(&stage, &stage.issuer.token("agent-1"));
    thread::sleep(Duration::from_secs(6));
    assert_eq!(client.query("SELECT 2").texts(), [["2"]]);
}

#[test]
fn a_renewed_identity_that_may_not_connect_ends_its_session() {
    let stage = Stage::new();
    let short = stage.issuer.token_with("agent-1", &json!({ "exp": now() + 4 }));
    let mut agent = stage.daemon.agent(&short);
    let mut client = stage.client(&mut agent);
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
    enrol_anew(&stage, &stage.issuer.token_with("agent-1", &json!({ "groups": [] })));
    let told = client.until_ready();
    assert_eq!((told.error().code(), told.status), ("57P01", 'X'), "{told:?}");
    assert!(told.error().text().contains("no policy permits connect"), "{told:?}");
}

#[test]
fn a_renewed_identity_that_is_less_may_less() {
    let stage = Stage::with(|settings| {
        settings.policy.push_str(
            "@id(\"whoever-may-connect\")\npermit (principal, action == Action::\"connect\", resource);\n",
        );
    });
    let short = stage.issuer.token_with("agent-1", &json!({ "exp": now() + 4 }));
    let mut agent = stage.daemon.agent(&short);
    let mut client = stage.client(&mut agent);
    client.at_once(|client| {
        client.parse("kept", "SELECT count(*) FROM customers");
        client.bind("", "kept", &[], 0);
        client.execute("", 0);
    });
    let before = client.sync();
    assert!(before.errors.is_empty(), "{before:?}");
    // As plain text too, so that both ways have a verdict from before.
    for _ in 0..3 {
        assert!(client.query("SELECT count(*) FROM customers").errors.is_empty());
    }
    enrol_anew(&stage, &stage.issuer.token_with("agent-1", &json!({ "groups": [] })));
    thread::sleep(Duration::from_secs(6));
    client.at_once(|client| {
        client.bind("", "kept", &[], 0);
        client.execute("", 0);
    });
    let prepared = client.sync();
    assert!(prepared.rows.is_empty(), "{prepared:?}");
    assert_eq!(prepared.error().code(), "42501", "{prepared:?}");
    let plain = client.query("SELECT count(*) FROM customers");
    assert!(plain.rows.is_empty(), "{plain:?}");
    assert_eq!(plain.error().code(), "42501", "{plain:?}");
}

#[test]
fn a_token_in_a_file_is_read_through_the_agents_own_file_system() {
    let token_path = "/run/nodegate-test-token";
    let stage = Stage::with(|settings| {
        settings.sources = vec![format!("{{ kind: file, path: {token_path} }}")];
    });
    let file = stage.daemon.token_file(&stage.issuer.token("agent-1"));
    // The path exists only inside the agent's mount namespace.
    let inside = format!("mount -t tmpfs none /run && cp '{}' {token_path} && exec \"$@\"", file.display());
    let mut run = stage.daemon.run(None);
    run.args(["unshare", "--mount", "sh", "-c", &inside, "sh"]);
    run.args(psql_words(&stage.postgres, &["-At", "-c", "SELECT 1"]));
    let seen = said(&mut run, "", Duration::from_secs(20));
    assert_eq!(seen.ok(), "1\n", "{}", seen.err);
    assert!(!std::path::Path::new(token_path).exists());
}
