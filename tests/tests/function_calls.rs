//! Functions called past SQL, by the protocol's FunctionCall: libpq's large objects, as psql and pg_dump use them, and
//! calls written by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{fs, path::Path, process::Command, time::Duration};

use nodegate_tests::{
    daemon::POLICY,
    postgres::{DATABASE, PASSWORD, ROLE},
    programs::{Said, said, succeed},
    stage::Stage,
    wire::{Client, Reply},
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_mins(1);
const EVERYTHING: &str = "@id(\"all\") permit (principal, action, resource);\n";
const PACK: &str = include_str!("../../policies/large-objects/large-objects.cedar");
const NAMED: &str = r#"@id("by-oid")
permit (principal, action in [Action::"sql:function_call", Action::"sql:call"], resource);
"#;

fn stage(policy: &str) -> Stage {
    Stage::with(|settings| policy.clone_into(&mut settings.policy))
}

fn captured(stage: &Stage, program: &str, words: &[&str]) -> Said {
    let mut command: Command = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    command.args([program, "-h", "127.0.0.1", "-U", ROLE, "-p", &stage.postgres.port().to_string()]);
    said(command.args(words), "", PATIENCE)
}

/// Calls the function of that oid, with arguments and result as text.
fn call(client: &mut Client, oid: &str, arguments: &[&str]) -> Reply {
    let oid: u32 = oid.parse().unwrap();
    let mut body = oid.to_be_bytes().to_vec();
    body.extend([0, 0]);
    body.extend(u16::try_from(arguments.len()).unwrap().to_be_bytes());
    for argument in arguments {
        body.extend(u32::try_from(argument.len()).unwrap().to_be_bytes());
        body.extend(argument.as_bytes());
    }
    body.extend([0, 0]);
    client.send(b'F', &body);
    client.until_ready()
}

fn oid(stage: &Stage, signature: &str) -> String {
    stage.postgres.admin(&format!("SELECT '{signature}'::regprocedure::oid"))
}

fn calls(stage: &Stage) -> Vec<Value> {
    let found = stage.daemon.audit_search(&["--limit", "1000"]);
    let events = found.into_iter().map(|record| record["event"].clone());
    events
        .filter(|event| event["text"].as_str().is_some_and(|text| text.starts_with("FUNCTION CALL")))
        .collect()
}

/// More than one piece of what libpq reads and writes at once.
fn content() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

#[test]
fn psql_brings_large_objects_in_and_out_where_policy_names_function_calls() {
    let stage = stage(&[POLICY, PACK].concat());
    let (from, to) = (stage.daemon.folder().join("in"), stage.daemon.folder().join("out"));
    fs::write(&from, content()).unwrap();
    let script = format!(
        "\\lo_import '{}'\n\\lo_export :LASTOID '{}'\n\\lo_unlink :LASTOID\n",
        from.display(),
        to.display()
    );
    let went = stage.psql_script(&["-At"], &script);
    assert!(went.ok().starts_with("lo_import "), "{went:?}");
    assert_eq!(went.err, "");
    assert!(fs::read(&to).unwrap() == content(), "what came back is something else");
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM pg_largeobject_metadata"), "0");
    // In one transaction with SQL, and taken back with it.
    let script =
        format!("BEGIN;\n\\lo_import '{}'\nSELECT count(*) FROM orders;\nROLLBACK;\n", from.display());
    let went = stage.psql_script(&["-At"], &script);
    assert!(went.ok().contains("\n600\n"), "{went:?}");
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM pg_largeobject_metadata"), "0");

    let calls = calls(&stage);
    for name in ["lo_creat", "lo_open", "lowrite", "loread", "lo_close", "lo_unlink"] {
        let found = calls
            .iter()
            .find(|event| event["text"].as_str().unwrap().contains(&format!("pg_catalog.{name} ")));
        let event = found.unwrap_or_else(|| panic!("{name}: {calls:?}"));
        assert_eq!(event["outcome"], "allowed");
        assert!(
            event["policies"].as_array().unwrap().contains(&"large-objects/read-and-write".into()),
            "{event}"
        );
    }
}

#[test]
fn a_policy_for_everything_leaves_function_calls_closed_and_says_what_would_open_them() {
    let stage = stage(EVERYTHING);
    let file = stage.daemon.folder().join("in");
    fs::write(&file, "large").unwrap();
    let refused = stage.psql_script(&["-At"], &format!("\\lo_import '{}'\n", file.display()));
    let expected = "no policy permits sql:function_call on shop (pg_catalog.lo_creat)";
    assert!(refused.err.contains(expected), "{}", refused.err);
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM pg_largeobject_metadata"), "0");
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let md5 = oid(&stage, "md5(text)");
    assert_eq!(client.query("BEGIN").status, 'T');
    let refused = call(&mut client, &md5, &["a"]);
    assert_eq!((refused.error().code(), refused.status), ("42501", 'E'), "like any statement that fails");
    assert!(refused.error().text().contains("Action::\"sql:function_call\""), "{refused:?}");
    assert_eq!(client.query("ROLLBACK").status, 'I');
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
    assert!(calls(&stage).iter().all(|event| event["outcome"] == "denied"));
}

#[test]
fn a_call_is_what_it_is_past_nodegate_inside_a_transaction_and_after_errors() {
    let stage = stage(&[EVERYTHING, NAMED].concat());
    stage.postgres.admin(
        "CREATE FUNCTION order_of(integer) RETURNS text LANGUAGE sql AS 'SELECT status FROM orders WHERE id = $1'",
    );
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let (md5, order_of, divide) =
        (oid(&stage, "md5(text)"), oid(&stage, "order_of(integer)"), oid(&stage, "int4div(integer,integer)"));
    assert_eq!(call(&mut client, &md5, &["quiet"]).order, "VZ");
    assert_eq!(call(&mut client, &order_of, &["1"]).order, "VZ");
    assert_eq!(client.query("BEGIN").status, 'T');
    assert_eq!(call(&mut client, &order_of, &["2"]).status, 'T');
    let failed = call(&mut client, &divide, &["1", "0"]);
    assert_eq!((failed.error().code(), failed.status), ("22012", 'E'));
    let refused = call(&mut client, &md5, &["a"]);
    assert_eq!(refused.status, 'E');
    let text = refused.error().text();
    assert!(text.contains("failed transaction") || text.contains("25P02"), "{text}");
    assert_eq!(client.query("ROLLBACK").status, 'I');
    // What no policy can allow, what is not there, and what would change how SQL is read.
    for (oid, arguments) in [
        (oid(&stage, "pg_read_file(text)"), &["/etc/hostname"][..]),
        (oid(&stage, "set_config(text,text,boolean)"), &["search_path", "evil", "f"]),
        ("4000000000".to_owned(), &[]),
    ] {
        let refused = call(&mut client, &oid, arguments);
        assert_eq!((refused.error().code(), refused.status), ("42501", 'I'), "{oid}");
    }
    // A function that is another one by now is judged as what it is.
    stage.postgres.admin("ALTER FUNCTION order_of(integer) RENAME TO status_of");
    client.query("CREATE TABLE reason_to_look_again ()");
    assert_eq!(call(&mut client, &order_of, &["3"]).order, "VZ");
    assert!(calls(&stage).iter().any(|event| event["text"].as_str().unwrap().contains("public.status_of ")));
}

#[test]
fn policy_chooses_functions_by_name() {
    let readers = r#"@id("read-large-objects")
        permit (principal, action in [Action::"sql:function_call", Action::"sql:call"], resource)
        when { ["pg_catalog.lo_open", "pg_catalog.loread", "pg_catalog.lo_close"].containsAll(context.functions) };"#;
    let stage = stage(&[POLICY, readers].concat());
    let large = stage.postgres.admin(&format!("SET ROLE {ROLE}; SELECT lo_from_bytea(0, 'large')"));
    let large = large.lines().last().unwrap().to_owned();
    let file = stage.daemon.folder().join("out");
    stage.psql_script(&["-At"], &format!("\\lo_export {large} '{}'\n", file.display())).ok();
    assert_eq!(fs::read(&file).unwrap(), b"large");
    let refused = stage.psql_script(&["-At"], &format!("\\lo_unlink {large}\n"));
    assert!(refused.err.contains("pg_catalog.lo_unlink"), "{}", refused.err);
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM pg_largeobject_metadata"), "1");
}

#[test]
fn what_a_function_returns_is_refused_where_it_may_hold_what_is_masked() {
    // The shop's own policies mask customers' addresses.
    let stage = stage(&[POLICY, NAMED].concat());
    stage.postgres.admin(
        "CREATE FUNCTION email_of(integer) RETURNS text LANGUAGE sql AS 'SELECT email FROM customers WHERE id = $1'",
    );
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for (signature, arguments) in [
        ("email_of(integer)", &["1"][..]),
        ("query_to_xml(text,boolean,boolean,text)", &["SELECT email FROM customers", "f", "f", ""]),
        ("lo_export(oid,text)", &["1", "/tmp/x"]),
    ] {
        let refused = call(&mut client, &oid(&stage, signature), arguments);
        let text = refused.error().text();
        assert!(
            text.contains("sql:call_unmasked") && text.contains("is masked for this agent"),
            "{signature}: {text}"
        );
        assert_eq!(refused.order, "EZ");
    }
    // Large objects and PostgreSQL's own harmless functions hold none of it.
    assert_eq!(call(&mut client, &oid(&stage, "md5(text)"), &["a"]).order, "VZ");
    assert_eq!(call(&mut client, &oid(&stage, "lo_creat(integer)"), &["-1"]).order, "VZ");
}

#[test]
fn calls_are_recorded_like_statements() {
    let stage = Stage::with(|settings| {
        settings.targets[0].tags.clear();
        "recording: {}\n".clone_into(&mut settings.more);
        [EVERYTHING, NAMED].concat().clone_into(&mut settings.policy);
    });
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    assert_eq!(call(&mut client, &oid(&stage, "md5(text)"), &["heard"]).order, "VZ");
    drop((client, agent));
    let lines = stage.daemon.ended_recordings(1).remove(0);
    let request = lines.iter().find(|line| line["kind"] == "request").unwrap();
    assert_eq!(request["text"], "FUNCTION CALL pg_catalog.md5 (1 arguments, 5 bytes)");
    assert!(!request.to_string().contains("heard"), "{request}");
    let reply = lines.iter().find(|line| line["kind"] == "reply").unwrap();
    assert!(reply.to_string().contains(&stage.postgres.admin("SELECT md5('heard')")), "{reply}");
}

#[test]
fn a_dump_with_large_objects_restores_to_the_same() {
    let stage = stage(&[EVERYTHING, NAMED].concat());
    stage
        .postgres
        .admin(&format!("SET ROLE {ROLE}; SELECT lo_from_bytea(4242, repeat('large', 9000)::bytea)"));
    stage.postgres.admin(&format!("CREATE DATABASE copy OWNER {ROLE}"));
    let file = stage.daemon.folder().join("dump");
    let file = file.to_str().unwrap();
    captured(&stage, "pg_dump", &["-d", "shop", "-Fc", "-f", file]).ok();
    let restored = captured(&stage, "pg_restore", &["-d", "copy", "--exit-on-error", file]);
    assert_eq!((restored.status, restored.err.as_str()), (0, ""));
    let sum = "SELECT md5(lo_get(4242))";
    let copy = captured(&stage, "psql", &["-X", "-At", "-d", "copy", "-c", sum]);
    assert_eq!(copy.ok().trim_end(), stage.postgres.admin(sum));
}

/// What a driver's program prints, at the server and captured.
fn both(stage: &Stage, program: &[&str]) -> [Said; 2] {
    let run = |mut command: Command, password: &str| {
        command.args(program).env("PGHOST", "127.0.0.1").env("PGPORT", stage.postgres.port().to_string());
        command.env("PGDATABASE", DATABASE).env("PGUSER", ROLE).env("PGPASSWORD", password);
        said(command.env("PYTHONDONTWRITEBYTECODE", "1"), "", Duration::from_mins(2))
    };
    [run(Command::new("env"), PASSWORD), run(stage.daemon.run(Some(&stage.issuer.token("agent-1"))), "wrong")]
}

#[test]
fn drivers_work_on_large_objects_by_their_own_means() {
    let stage = stage(&[EVERYTHING, NAMED].concat());
    let drivers = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers");
    let folder = tempfile::tempdir().unwrap();
    let classes = format!("/usr/share/java/postgresql.jar:{}", folder.path().display());
    let mut compiler = Command::new("javac");
    compiler.args(["-cp", &classes, "-d"]).arg(folder.path());
    succeed(compiler.arg(drivers.join("LargeObjects.java")));
    let python = drivers.join("large_objects.py");
    for (program, by) in [
        (vec!["/usr/bin/python3", python.to_str().unwrap()], "psycopg gone 1"),
        (vec!["java", "-XX:TieredStopAtLevel=1", "-cp", &classes, "LargeObjects"], "jdbc after 600"),
    ] {
        let [direct, captured] = both(&stage, &program);
        assert!(direct.ok().contains(by), "{direct:?}");
        assert_eq!(captured.ok(), direct.ok());
    }
    let called = serde_json::Value::from(calls(&stage)).to_string();
    for name in
        ["lo_creat", "lo_open", "lowrite", "loread", "lo_lseek64", "lo_truncate", "lo_unlink", "lo_close"]
    {
        assert!(called.contains(&format!("pg_catalog.{name} ")), "{name}");
    }
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM pg_largeobject_metadata"), "0");
}
