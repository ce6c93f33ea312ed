//! Replication through nodegate, by PostgreSQL's own programs: closed unless policy names it, and refused in whole where
//! something is masked that a stream cannot mask.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{process::Command, thread, time::Duration};

use nodegate_tests::{
    agent::Agent,
    daemon::POLICY,
    postgres::{Options, Postgres, ROLE},
    programs::{self, Said, said, wait_for},
    stage::Stage,
    tokens::now,
    wire::Client,
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_mins(1);
const EVERYTHING: &str = "@id(\"all\") permit (principal, action, resource);\n";
const PACK: &str = include_str!("../../policies/change-stream/change-stream.cedar");
const NAMED: &str = r#"@id("follow-changes")
permit (principal, action in [Action::"sql:replication", Action::"sql:copy_both"], resource);
"#;
const UNMASKED: &str = r#"@id("in-clear") permit (principal, action == Action::"sql:replication_unmasked", resource);
"#;
const MASKED: &str = r#"@id("mask-pii") @mask("partial")
forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("pii") };
"#;

/// A server that has replication, and a role that may use it.
fn stage(policy: &str) -> Stage {
    let settings = "wal_level = logical\nmax_wal_senders = 8\nmax_replication_slots = 8";
    let postgres = Postgres::with(&Options { settings, ..Options::default() });
    postgres.admin(&format!("ALTER ROLE {ROLE} REPLICATION"));
    Stage::around(postgres, |settings| policy.clone_into(&mut settings.policy))
}

/// A captured program of PostgreSQL's.
fn captured(stage: &Stage, program: &str, words: &[&str]) -> Said {
    let mut command: Command = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    command.arg(programs::postgres(program)).args(["-h", "127.0.0.1", "-U", "somebody", "-w", "-p"]);
    command.arg(stage.postgres.port().to_string()).args(words);
    said(&mut command, "", PATIENCE)
}

fn recvlogical(stage: &Stage, words: &[&str]) -> Said {
    captured(stage, "pg_recvlogical", &[&["-d", "shop", "--slot=agent"], words].concat())
}

/// Waits for it as well, and starts nothing meanwhile: what lies beside the configuration must come to rest first.
fn change_policy(stage: &Stage, policy: &str) {
    stage.daemon.set_policy(policy);
    wait_for("the new policy", Duration::from_secs(20), || {
        stage.daemon.log().contains("policies reloaded").then_some(())
    });
}

fn events(stage: &Stage, kind: &str) -> Vec<Value> {
    let found = stage.daemon.audit_search(&["--limit", "1000"]);
    found.into_iter().map(|record| record["event"].clone()).filter(|event| event["kind"] == kind).collect()
}

fn reasons(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["reason"].as_str()).collect::<Vec<_>>().join("\n")
}

/// A replication connection, spoken by hand.
fn connect(stage: &Stage, agent: &mut Agent, kind: &str) -> Client {
    let stream = agent.connect(stage.postgres.address()).unwrap();
    Client::start_as(stream, &[("user", "a"), ("database", "shop"), ("replication", kind)]).unwrap()
}

#[test]
fn a_policy_for_everything_leaves_replication_closed_and_says_what_would_open_it() {
    let stage = stage(EVERYTHING);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backup");
    for refused in [
        recvlogical(&stage, &["--create-slot", "-P", "test_decoding"]),
        captured(&stage, "pg_basebackup", &["-D", path.to_str().unwrap()]),
        captured(&stage, "pg_receivewal", &["-D", folder.path().to_str().unwrap(), "--no-loop"]),
    ] {
        assert_ne!(refused.status, 0);
        assert!(refused.err.contains("no policy permits sql:replication on shop"), "{}", refused.err);
        assert!(refused.err.contains("permits it by name, Action::\"sql:replication\""), "{}", refused.err);
    }
    assert!(!stage.postgres.log().contains("replication connection authorized"));
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM pg_replication_slots"), "0");
    let refused: Vec<Value> =
        events(&stage, "connect").into_iter().filter(|event| event["outcome"] == "denied").collect();
    assert_eq!(refused.len(), 3, "{refused:?}");
}

#[test]
fn pg_recvlogical_follows_the_changes_of_a_database_where_policy_names_it() {
    // The pack as it is, for this target and these agents.
    let stage = stage(&PACK.replace("orders-db", "shop").replace("change-readers", "agents"));
    recvlogical(&stage, &["--create-slot", "-P", "test_decoding"]).ok();
    stage.postgres.admin("SELECT pg_create_logical_replication_slot('direct', 'test_decoding')");
    stage.postgres.admin(
        "INSERT INTO products (name, price, stock) SELECT 'part ' || n, 1, n FROM generate_series(1, 50) n",
    );
    stage.postgres.admin("UPDATE orders SET status = 'streamed' WHERE id = 7");
    let end = stage.postgres.admin("SELECT pg_current_wal_insert_lsn()");
    let endpos = format!("--endpos={end}");
    let streamed = recvlogical(&stage, &["--start", &endpos, "--no-loop", "-f", "-"]);
    let direct = stage.postgres.admin("SELECT data FROM pg_logical_slot_get_changes('direct', NULL, NULL)");
    stage.postgres.admin("SELECT pg_drop_replication_slot('direct')");
    assert_eq!(streamed.ok().trim_end(), direct);
    assert!(direct.contains("part 50") && direct.contains("streamed"), "{direct}");
    recvlogical(&stage, &["--drop-slot"]).ok();
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM pg_replication_slots"), "0");

    let connected = reasons(&events(&stage, "connect"));
    assert!(connected.contains("replication of database shop"), "{connected}");
    let requests = events(&stage, "request");
    for command in
        ["IDENTIFY_SYSTEM", "CREATE_REPLICATION_SLOT", "START_REPLICATION", "DROP_REPLICATION_SLOT"]
    {
        let request = requests.iter().find(|event| event["text"].as_str().unwrap().starts_with(command));
        let request = request.unwrap_or_else(|| panic!("{command}: {requests:?}"));
        assert_eq!(request["outcome"], "allowed");
        assert!(
            request["policies"].as_array().unwrap().contains(&"change-stream/follow".into()),
            "{request}"
        );
    }
    // How it ended, and how much there was of it.
    let ended = reasons(&events(&stage, "completion"));
    let line = ended.lines().find(|line| line.contains("bytes to the client")).expect("the stream's end");
    let bytes: u64 = line.split("replication: ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(bytes > u64::try_from(direct.len()).unwrap(), "{line}");
}

#[test]
fn what_is_masked_keeps_replication_closed_unless_policy_says_so_by_name() {
    let stage = stage(&[EVERYTHING, NAMED, MASKED].concat());
    let refused = recvlogical(&stage, &["--create-slot", "-P", "test_decoding"]);
    assert!(refused.err.contains("sql:replication_unmasked on shop"), "{}", refused.err);
    assert!(refused.err.contains("public.customers.email is masked for this agent"), "{}", refused.err);
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM pg_replication_slots"), "0");

    change_policy(&stage, &[EVERYTHING, NAMED, MASKED, UNMASKED].concat());
    recvlogical(&stage, &["--create-slot", "-P", "test_decoding"]).ok();
    // SQL over such a connection is judged and masked as everywhere.
    let mut agent = stage.agent();
    let mut client = connect(&stage, &mut agent, "database");
    assert_eq!(client.query("SELECT email FROM customers WHERE id = 1").texts(), [["g***@***.com"]]);
    assert_eq!(client.query("SELECT 1 FROM customers WHERE email LIKE 'a%'").error().code(), "42501");
    assert_eq!(client.query("IDENTIFY_SYSTEM; SELECT 1").error().code(), "42501");
    assert_eq!(client.query("SHOW primary_conninfo").error().code(), "42501");
    assert_eq!(client.query("SHOW wal_segment_size").texts(), [["16MB"]]);
    assert_eq!(client.query("IDENTIFY_SYSTEM").texts()[0][3], "shop");
}

#[test]
fn columns_that_no_tag_names_count_as_soon_as_the_schema_is_known() {
    let by_name = r#"@id("by-name") @mask("redact")
        forbid (principal, action == Action::"sql:read", resource is Column) when { resource.name == "notes" };"#;
    let stage = stage(&[EVERYTHING, NAMED, by_name].concat());
    let refused = recvlogical(&stage, &["--create-slot", "-P", "test_decoding"]);
    assert!(refused.err.contains("public.customers.notes is masked for this agent"), "{}", refused.err);
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM pg_replication_slots"), "0");
}

#[test]
fn the_whole_server_is_copied_where_policy_says_that_nothing_of_it_is_masked() {
    let stage = stage(&[EVERYTHING, NAMED].concat());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let refused = captured(&stage, "pg_basebackup", &["-D", &path("refused")]);
    assert!(refused.err.contains("it would show every database of the server"), "{}", refused.err);

    change_policy(&stage, &[EVERYTHING, NAMED, UNMASKED].concat());
    let backup = path("backup");
    captured(&stage, "pg_basebackup", &["-D", &backup, "-X", "stream", "-c", "fast", "--no-sync"]).ok();
    let mut verify = Command::new(programs::postgres("pg_verifybackup"));
    programs::succeed(verify.arg(&backup));

    // And its log as it is written.
    std::fs::create_dir(path("wal")).unwrap();
    let end = stage.postgres.admin("SELECT pg_current_wal_lsn()");
    stage.postgres.admin("SELECT pg_switch_wal(); CREATE TABLE after_the_switch ()");
    let endpos = format!("--endpos={end}");
    captured(&stage, "pg_receivewal", &["-D", &path("wal"), &endpos, "--no-loop"]).ok();
    assert!(std::fs::read_dir(path("wal")).unwrap().count() > 0);

    let requests = events(&stage, "request");
    for command in ["BASE_BACKUP", "START_REPLICATION"] {
        let request = requests.iter().find(|event| event["text"].as_str().unwrap().starts_with(command));
        let policies = &request.unwrap_or_else(|| panic!("{command}"))["policies"];
        assert!(policies.as_array().unwrap().contains(&"in-clear".into()), "{policies}");
    }
    let mut agent = stage.agent();
    let mut client = connect(&stage, &mut agent, "true");
    assert_eq!(client.query("SELECT 1").error().code(), "42501");
    assert_eq!(client.query("IDENTIFY_SYSTEM").rows.len(), 1);
}

#[test]
fn each_of_the_three_is_named_for_itself_and_a_refusal_keeps_the_session() {
    let alone = r#"@id("ask") permit (principal, action == Action::"sql:replication", resource)
        when { context has replication && context.replication != "create_replication_slot" };"#;
    let stage = stage(&[EVERYTHING, alone].concat());
    let mut agent = stage.agent();
    let mut client = connect(&stage, &mut agent, "database");
    stage.postgres.admin("SELECT pg_create_logical_replication_slot('s', 'test_decoding')");
    assert_eq!(client.query("IDENTIFY_SYSTEM").rows.len(), 1);
    let refused = client.query("START_REPLICATION SLOT s LOGICAL 0/0");
    assert!(refused.error().text().contains("sql:copy_both on shop (start_logical)"), "{refused:?}");
    let refused = client.query("CREATE_REPLICATION_SLOT t LOGICAL test_decoding");
    assert!(
        refused.error().text().contains("sql:replication on shop (create_replication_slot)"),
        "{refused:?}"
    );
    let refused = client.query("START_REPLICATION 0/0");
    assert_eq!(refused.error().code(), "42501");
    assert_eq!(client.query("IDENTIFY_SYSTEM").rows.len(), 1);
    // The server has no extended protocol there.
    client.send(b'P', b"\0SELECT 1\0\0\0");
    let ended = client.read().unwrap();
    assert_eq!(ended.tag, b'E');
}

#[test]
fn a_stream_ends_with_the_policy_that_it_began_under() {
    let policy = [EVERYTHING, NAMED].concat();
    let stage = stage(&policy);
    stage.postgres.admin("SELECT pg_create_logical_replication_slot('s', 'test_decoding')");
    let mut agent = stage.agent();
    let mut client = connect(&stage, &mut agent, "database");
    client.send(b'Q', b"START_REPLICATION SLOT s LOGICAL 0/0\0");
    assert_eq!(client.read().unwrap().tag, b'W');
    stage.postgres.admin("UPDATE orders SET status = 'seen' WHERE id = 1");
    let mut seen = String::new();
    while !seen.contains("seen") {
        let message = client.read().unwrap();
        assert_eq!(message.tag, b'd');
        seen += &String::from_utf8_lossy(&message.body);
    }
    let forbidden =
        [&policy, "@id(\"no-more\") forbid (principal, action == Action::\"sql:copy_both\", resource);"];
    stage.daemon.set_policy(&forbidden.concat());
    // Whatever comes next is what the session ends by.
    let ended = wait_for("the end of the stream", Duration::from_secs(30), || {
        stage.postgres.admin("UPDATE orders SET status = 'unseen' WHERE id = 2");
        loop {
            match client.read() {
                Ok(message) if message.tag == b'E' => return Some(message),
                Ok(message) if message.body.windows(6).any(|word| word == b"COMMIT") => return None,
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert!(String::from_utf8_lossy(&ended.body).contains("no-more"), "{ended:?}");
    let cut = wait_for("the stream's record", Duration::from_secs(20), || {
        let cut = reasons(&events(&stage, "completion"));
        cut.contains("bytes to the client").then_some(cut)
    });
    assert!(cut.contains("forbids sql:copy_both"), "{cut}");
}

#[test]
fn a_stream_that_fails_or_that_the_client_ends_leaves_a_session_for_commands() {
    let stage = stage(&[EVERYTHING, NAMED].concat());
    stage.postgres.admin("SELECT pg_create_logical_replication_slot('s', 'test_decoding')");
    let mut agent = stage.agent();
    let mut client = connect(&stage, &mut agent, "database");
    let failed = client.query("START_REPLICATION SLOT missing LOGICAL 0/0");
    assert_eq!((failed.error().code(), failed.status), ("42704", 'I'));
    assert_eq!(client.query("IDENTIFY_SYSTEM").rows.len(), 1);
    client.send(b'Q', b"START_REPLICATION SLOT s LOGICAL 0/0\0");
    assert_eq!(client.read().unwrap().tag, b'W');
    // A status update, as every client sends them; then the end.
    client.send(b'd', &[&b"r"[..], &[0; 33]].concat());
    client.send(b'c', b"");
    let ended = client.until_ready();
    assert!(ended.errors.is_empty() && ended.order.contains('c'), "{ended:?}");
    assert_eq!(ended.tags, ["COPY 0", "START_REPLICATION"]);
    assert_eq!(client.query("IDENTIFY_SYSTEM").rows.len(), 1);
    // Outside of a stream its messages mean nothing.
    client.send(b'd', b"r");
    client.send(b'c', b"");
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
    wait_for("the streams' records", Duration::from_secs(20), || {
        let ended = reasons(&events(&stage, "completion"));
        (ended.matches("replication: ").count() == 2 && ended.contains(", 34 from it")).then_some(())
    });
}

#[test]
fn a_stream_ends_with_the_identity_that_it_began_with() {
    let settings = "wal_level = logical\nmax_replication_slots = 8";
    let postgres = Postgres::with(&Options { settings, ..Options::default() });
    postgres.admin(&format!("ALTER ROLE {ROLE} REPLICATION"));
    postgres.admin("SELECT pg_create_logical_replication_slot('s', 'test_decoding')");
    let stage = Stage::around(postgres, |settings| {
        [EVERYTHING, NAMED].concat().clone_into(&mut settings.policy);
        settings.sources = vec!["{ kind: environment, variable: NODEGATE_ID_TOKEN }".to_owned()];
    });
    let short = stage.issuer.token_with("agent-1", &json!({ "exp": now() + 5 }));
    let mut run = stage.daemon.run(None);
    run.env("NODEGATE_ID_TOKEN", &short);
    let mut agent = Agent::start(run).expect("a captured agent");
    let mut client = connect(&stage, &mut agent, "database");
    client.send(b'Q', b"START_REPLICATION SLOT s LOGICAL 0/0\0");
    assert_eq!(client.read().unwrap().tag, b'W');
    thread::sleep(Duration::from_secs(6));
    stage.postgres.admin("UPDATE orders SET status = 'unseen' WHERE id = 1");
    loop {
        let message = client.read().unwrap();
        let text = String::from_utf8_lossy(&message.body).into_owned();
        assert!(!text.contains("unseen"), "{text}");
        if message.tag == b'E' {
            assert!(text.contains("expired"), "{text}");
            break;
        }
    }
}

#[test]
fn the_usual_policies_refuse_it_too() {
    let stage = stage(POLICY);
    let refused = recvlogical(&stage, &["--create-slot", "-P", "test_decoding"]);
    assert!(refused.err.contains("no policy permits sql:replication"), "{}", refused.err);
}
