//! Recordings: what an agent asked, how it was decided, and what it saw; never what it was not to see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nodegate_tests::{
    daemon::{Daemon, POLICY, Settings, Target},
    issuer::Issuer,
    postgres::Postgres,
    programs::{self, succeed},
    stage::Stage,
    wire::Client,
};
use serde_json::{Value, json};

fn stage() -> Stage {
    Stage::with(|settings| "recording: {}\n".clone_into(&mut settings.more))
}

/// A stage with these keys of `recording`, and this in place of the first policy's annotations.
fn limited(keys: &str, annotations: &str) -> Stage {
    Stage::with(|settings| {
        settings.more = format!("recording: {{ {keys} }}\n");
        let id = "@id(\"agents-work-with-rows\")";
        settings.policy = POLICY.replace(id, &format!("{id} {annotations}"));
    })
}

fn of_kind<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["kind"] == kind).collect()
}

/// The request with this in its text, and the reply to it.
fn exchange<'a>(lines: &'a [Value], text: &str) -> (&'a Value, Option<&'a Value>) {
    let request = of_kind(lines, "request")
        .into_iter()
        .find(|request| request["text"].as_str().unwrap().contains(text))
        .unwrap_or_else(|| panic!("{text} in {lines:#?}"));
    let reply = of_kind(lines, "reply").into_iter().find(|reply| reply["number"] == request["number"]);
    (request, reply)
}

/// The lines of the session that a client has just ended.
fn ended(stage: &Stage, client: Client) -> Vec<Value> {
    let before = stage.daemon.sessions_list(&[]).iter().filter(|session| session["end"].is_string()).count();
    drop(client);
    stage.daemon.ended_recordings(before + 1).remove(0)
}

/// Everything that the daemon has on disk, recordings as they read.
fn everything(daemon: &Daemon) -> String {
    fn collect(folder: &Path, all: &mut Vec<u8>) {
        for entry in fs::read_dir(folder).unwrap().filter_map(Result::ok) {
            if entry.path().is_dir() {
                collect(&entry.path(), all);
            } else {
                all.extend(fs::read(entry.path()).unwrap_or_default());
            }
        }
    }
    let mut all = daemon.log().into_bytes();
    collect(&daemon.folder().join("state"), &mut all);
    for session in daemon.sessions_list(&[]) {
        all.extend(daemon.sessions_command(&["export", session["session"].as_str().unwrap()]).ok().bytes());
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn a_psql_session_is_listed_shown_replayed_and_exported_as_the_agent_saw_it() {
    let stage = stage();
    let script = "SELECT name, email FROM customers WHERE id = 1;\nDROP TABLE customers;\n\
                  SELECT 1/0;\nSELECT 1 AS one; SELECT 2 AS two, NULL AS none;\n";
    let seen = stage.psql_script(&["-At"], script);
    let masked = seen.out.lines().next().unwrap().split_once('|').unwrap().1.to_owned();
    assert!(!masked.contains("hopper1"), "{masked}");
    let lines = stage.daemon.ended_recordings(1).remove(0);

    assert_eq!(lines[0]["kind"], "session");
    assert_eq!(lines[0]["identity"], format!("{}|agent-1", stage.issuer.url()));
    assert_eq!(lines[0]["target"], "shop");
    assert!(lines[0]["process"].as_str().unwrap().contains("psql"), "{}", lines[0]);
    let (request, reply) = exchange(&lines, "SELECT name, email");
    assert_eq!(request["text"], "SELECT name, email FROM customers WHERE id = 1;");
    assert_eq!(request["outcome"], "allowed");
    assert_eq!(request["policies"], json!(["agents-work-with-rows"]));
    assert_eq!(request["masked"], json!(["public.customers.email"]));
    let reply = reply.unwrap();
    let set = &reply["results"][0];
    assert_eq!(set["columns"][1]["name"], "email");
    assert_eq!(set["rows"], json!([["Grace Hopper", masked]]));
    assert_eq!(reply["rows"], 1);
    assert_eq!(reply["tags"], json!(["SELECT 1"]));
    assert!(reply["bytes"].as_u64().unwrap() > 20 && reply["duration_us"].as_u64().unwrap() > 0);

    let (refused, none) = exchange(&lines, "DROP TABLE");
    assert_eq!((&refused["outcome"], none), (&json!("denied"), None));
    assert_eq!(refused["policies"], json!(["no-drop"]));
    assert_eq!(refused["hint"], "Ask the owner of the table.");
    let (_, failed) = exchange(&lines, "1/0");
    let error = &failed.unwrap()["error"];
    assert_eq!(error["sqlstate"], "22012");
    assert_eq!(error["message"], "division by zero");
    let (_, last) = exchange(&lines, "AS two");
    assert_eq!(last.unwrap()["results"][0]["rows"], json!([["2", null]]));
    let end = lines.last().unwrap();
    assert_eq!((&end["kind"], &end["requests"], &end["denied"]), (&json!("end"), &json!(5), &json!(1)));

    let listed = stage.daemon.sessions_list(&["--identity", "agent-1", "--target", "shop", "--since", "1h"]);
    assert_eq!(listed.len(), 1);
    let id = listed[0]["session"].as_str().unwrap();
    assert_eq!(listed[0]["requests"], 5);
    for nothing in [["--identity", "agent-2"], ["--target", "else"], ["--until", "2026-01-01"]] {
        assert_eq!(stage.daemon.sessions_list(&nothing).len(), 0, "{nothing:?}");
    }
    let table = stage.daemon.sessions_command(&["list"]);
    assert!(table.ok().contains(id) && table.out.contains("IDENTITY"), "{}", table.out);
    let shown = stage.daemon.sessions_command(&["show", id]);
    for part in [
        "name         | email",
        "Grace Hopper | ",
        "#1 allowed",
        "refused: ",
        "22012: division by zero",
        "end: ",
    ] {
        assert!(shown.ok().contains(part), "{part:?} in {}", shown.out);
    }
    let replayed = stage.daemon.sessions_command(&["replay", id, "--speed", "1000"]);
    assert_eq!(replayed.ok(), shown.out);
    let crawling = ["replay", id, "--speed", "1e-300", "--longest-pause", "0"];
    assert_eq!(stage.daemon.sessions_command(&crawling).ok(), shown.out);
    assert_eq!(stage.daemon.sessions_command(&["show", "nothing"]).status, 1);
    assert_eq!(stage.daemon.sessions_command(&["replay", id, "--speed", "0"]).status, 2);

    let file = PathBuf::from(listed[0]["file"].as_str().unwrap());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let audited = stage.daemon.audit_search(&["--session", id]);
    assert!(!audited.is_empty(), "the same id leads to the audit log");
}

#[test]
fn parameters_and_rows_of_the_extended_protocol_are_recorded_in_both_formats() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for format in [0, 1] {
        let sql = format!("SELECT id, name, email, {format} AS f FROM customers WHERE id = $1");
        assert!(client.extended(&sql, &["1"], format).errors.is_empty());
    }
    // Described once, run twice; then never described at all, clear and masked.
    client.parse("s", "SELECT id AS i FROM customers WHERE id < $1");
    client.describe(b'S', "s");
    client.bind("", "s", &["3"], 1);
    client.execute("", 0);
    client.bind("", "s", &["2"], 0);
    client.execute("", 0);
    client.sync();
    client.parse("", "SELECT name FROM products WHERE id = 1");
    client.bind("", "", &[], 0);
    client.execute("", 0);
    client.parse("", "SELECT ssn FROM customers WHERE id = 1");
    client.bind("", "", &[], 0);
    client.execute("", 0);
    client.sync();
    // What comes behind an error in a pipeline never runs; a portal that is resumed is a request of its own.
    client.at_once(|client| {
        client.parse("", "SELECT 1/(id - 1) FROM customers WHERE id = 1");
        client.bind("", "", &[], 0);
        client.execute("", 0);
        client.parse("", "SELECT 'never run'");
        client.bind("", "", &[], 0);
        client.execute("", 0);
    });
    client.sync();
    client.parse("", "SELECT id FROM orders ORDER BY id LIMIT 3");
    client.bind("", "", &[], 0);
    client.execute("", 2);
    client.execute("", 2);
    client.sync();
    client.parse("", "SELECT nothing FROM customers");
    client.sync();
    client.parse("", "TRUNCATE orders");
    client.sync();
    let lines = ended(&stage, client);

    let (request, reply) = exchange(&lines, "0 AS f");
    assert_eq!(request["parameters"], json!([{ "type_oid": 0, "format": "text", "value": "1" }]));
    let rows = &reply.unwrap()["results"][0]["rows"];
    assert_eq!((&rows[0][0], &rows[0][1]), (&json!("1"), &json!("Grace Hopper")));
    assert!(!rows[0][2].as_str().unwrap().contains("hopper1"));
    let (_, reply) = exchange(&lines, "1 AS f");
    let set = &reply.unwrap()["results"][0];
    assert_eq!(set["rows"][0][0], json!({ "hex": "00000001" }));
    assert_eq!(set["columns"][0], json!({ "name": "id", "type_oid": 23, "format": "binary" }));

    let twice: Vec<&Value> = of_kind(&lines, "reply")
        .into_iter()
        .filter(|reply| reply["results"][0]["columns"][0]["name"] == "i")
        .collect();
    assert_eq!(twice.len(), 2, "{lines:#?}");
    assert_eq!(twice[0]["results"][0]["rows"], json!([[{ "hex": "00000001" }], [{ "hex": "00000002" }]]));
    assert_eq!(twice[1]["results"][0]["rows"], json!([["1"]]));
    let product = stage.postgres.admin("SELECT name FROM products WHERE id = 1");
    let (_, reply) = exchange(&lines, "FROM products");
    assert_eq!(reply.unwrap()["results"][0]["rows"], json!([[product]]));
    let (_, reply) = exchange(&lines, "SELECT ssn");
    let set = &reply.unwrap()["results"][0];
    assert_eq!(set["columns"][0]["name"], "ssn");
    let number = stage.postgres.admin("SELECT ssn FROM customers WHERE id = 1");
    assert!(!set["rows"][0][0].as_str().unwrap().contains(&number));

    let (_, reply) = exchange(&lines, "1/(id - 1)");
    assert_eq!(reply.unwrap()["error"]["sqlstate"], "22012");
    let (_, reply) = exchange(&lines, "never run");
    assert_eq!(reply.unwrap()["skipped"], true);
    let resumed: Vec<u64> = of_kind(&lines, "request")
        .into_iter()
        .filter(|request| request["text"].as_str().unwrap().contains("LIMIT 3"))
        .map(|request| request["number"].as_u64().unwrap())
        .collect();
    assert_eq!(resumed.len(), 2);
    let counts = resumed.iter().map(|number| {
        let reply = of_kind(&lines, "reply").into_iter().find(|reply| reply["number"] == *number).unwrap();
        reply["results"][0]["rows"].as_array().unwrap().len()
    });
    assert_eq!(counts.collect::<Vec<_>>(), [2, 1]);
    assert_eq!(of_kind(&lines, "failure")[0]["error"]["sqlstate"], "42703");
    assert_eq!(exchange(&lines, "TRUNCATE").0["outcome"], "denied");
}

#[test]
fn copy_out_notices_and_large_values_are_recorded_as_they_came() {
    let stage = limited("result_size: 200KiB", "");
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let copied = client.query("COPY (SELECT id, name FROM customers ORDER BY id LIMIT 3) TO STDOUT");
    assert_eq!(copied.tags, ["COPY 3"]);
    client.query("CREATE TABLE IF NOT EXISTS customers (id int)");
    // Larger than what is read at once: it comes in pieces.
    assert_eq!(client.query("SELECT repeat('ab', 50000) AS long, 1 AS n").rows.len(), 1);
    assert_eq!(client.query("SELECT repeat('cd', 200000) AS long").rows.len(), 1);
    assert_eq!(client.query("SELECT 5 AS after").rows.len(), 1);
    let lines = ended(&stage, client);

    let (_, reply) = exchange(&lines, "COPY");
    let set = &reply.unwrap()["results"][0];
    assert_eq!(set["copy"], true);
    assert_eq!(set["rows"][0], json!(["1\tGrace Hopper\n"]));
    assert_eq!(set["rows"].as_array().unwrap().len(), 3);
    let (_, reply) = exchange(&lines, "IF NOT EXISTS");
    assert_eq!(reply.unwrap()["notices"][0]["severity"], "NOTICE", "{}", reply.unwrap());
    let (_, reply) = exchange(&lines, "'ab'");
    assert_eq!(reply.unwrap()["results"][0]["rows"], json!([["ab".repeat(50_000), "1"]]));
    let (_, reply) = exchange(&lines, "'cd'");
    let set = &reply.unwrap()["results"][0];
    assert_eq!((&set["rows"], &set["cut"]["rows"]), (&json!([]), &json!(1)));
    assert!(set["cut"]["bytes"].as_u64().unwrap() > 400_000);
    assert_eq!(exchange(&lines, "AS after").1.unwrap()["results"][0]["rows"], json!([["5"]]));
}

#[test]
fn configuration_and_policies_limit_what_is_recorded_and_what_is_cut_is_said() {
    let numbers = "SELECT n FROM generate_series(1, 1000) AS n";
    let recorded = |stage: &Stage, repeated: usize| {
        let mut agent = stage.agent();
        let mut client = stage.client(&mut agent);
        for _ in 0..repeated {
            assert_eq!(client.query(numbers).rows.len(), 1000, "the client sees everything");
        }
        ended(stage, client)
    };
    let kept = |reply: &Value| {
        let set = &reply["results"][0];
        (set["rows"].as_array().unwrap().len(), set["cut"]["rows"].as_u64().unwrap_or(0))
    };
    for (keys, annotations) in [
        ("result_size: 1KiB", ""),
        ("", "@record_results(\"1KiB\")"),
        ("result_size: 2", "@record_results(\"1KiB\")"),
    ] {
        let lines = recorded(&limited(keys, annotations), 1);
        let reply = of_kind(&lines, "reply")[0];
        let (rows, cut) = kept(reply);
        assert!((50..200).contains(&rows), "{keys} {annotations}: {rows}");
        assert_eq!(rows + usize::try_from(cut).unwrap(), 1000);
        assert_eq!(reply["rows"], 1000);
    }
    let lines = recorded(&limited("", "@record_results(\"0\")"), 1);
    assert_eq!(kept(of_kind(&lines, "reply")[0]), (0, 1000));
    for (keys, annotations) in [("session_size: 16KiB", ""), ("", "@record_session(\"16KiB\")")] {
        let lines = recorded(&limited(keys, annotations), 10);
        let replies = of_kind(&lines, "reply");
        assert_eq!(kept(replies[0]), (1000, 0));
        let (rows, cut) = kept(replies[9]);
        assert!(rows == 0 && cut == 1000, "{keys} {annotations}: {rows}");
        let last = of_kind(&lines, "request")[9];
        assert_eq!(last["text"], "");
        assert_eq!(last["text_bytes"], numbers.len());
        assert_eq!(last["outcome"], "allowed");
    }
}

#[test]
fn what_is_written_into_a_masked_column_or_compared_with_one_is_nowhere_on_disk() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let insert = client.query("INSERT INTO customers (name, email) VALUES ('Zed', 'zed.needle@example.com') RETURNING name, 'zed.needle' AS echo, email");
    assert!(insert.errors.is_empty(), "{insert:?}");
    client
        .query("UPDATE customers SET email = 'zed.needle2@example.com' /* zed.needle */ WHERE name = 'Zed'");
    client.query("SELECT id FROM customers WHERE email = 'zed.needle@example.com'");
    client.query("INSERT INTO customers (name, email) VALUES ('zed.needle'::int, 'zed.needle')");
    client.query("INSERT INTO customers (name email) VALUES ('zed.needle')");
    client.query("UPDATE customers SET email 'zed.needle'");
    client.query("DO $$ BEGIN UPDATE customers SET email = 'zed.needle'; END $$");
    client.query("PREPARE p AS UPDATE customers SET phone = $1 WHERE email IS NULL AND name = 'zed.needle'");
    client.query("EXECUTE p ('zed.needle')");
    client.query("COPY (SELECT 'zed.needle' FROM customers WHERE ssn = 'zed.needle') TO STDOUT");
    client.query("SELECT email = 'zed.needle' FROM customers WHERE id = 1");
    client.query("SELECT coalesce(email, 'zed.needle') FROM customers WHERE id = 1");
    for format in [0, 1] {
        client.extended("UPDATE customers SET email = $1 WHERE id = 1", &["zed.needle"], format);
        client.extended("SELECT id FROM customers WHERE email = $1", &["zed.needle"], format);
    }
    // The control: what has nothing to do with masked columns is there.
    client.query("SELECT 'plain.needle' FROM customers WHERE id = 1");
    client.extended("SELECT name FROM customers WHERE name = $1", &["bound.needle"], 0);
    let lines = ended(&stage, client);
    assert_eq!(
        stage.postgres.admin("SELECT email FROM customers WHERE id = 1"),
        "zed.needle",
        "it was written"
    );
    let all = everything(&stage.daemon);
    assert!(all.contains("plain.needle") && all.contains("bound.needle"));
    let at = all.find("zed.needle");
    assert_eq!(at.map(|at| &all[at.saturating_sub(300)..at + 40]), None, "in clear on disk");
    let (request, reply) =
        exchange(&lines, "INSERT INTO customers (name, email) VALUES (?, ?) RETURNING name, ?");
    assert_eq!(request["literals_withheld"], true);
    let row = &reply.unwrap()["results"][0]["rows"][0];
    assert_eq!((&row[0], &row[1]), (&json!("Zed"), &json!({ "withheld_bytes": 10 })));
    let (bound, _) = exchange(&lines, "SET email = $1 WHERE id = ?");
    assert_eq!(bound["parameters"][0]["value"], json!({ "withheld_bytes": 10 }));
    let audited = stage.daemon.audit_search(&["--kind", "request", "UPDATE customers SET email = ?"]);
    assert!(!audited.is_empty(), "the audit log has the statement without its constants");
}

#[test]
fn what_a_killed_daemon_has_written_can_be_shown() {
    let mut stage = stage();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    client.query("SELECT 'before the crash' AS said");
    let id = programs::wait_for("the recording to be on disk", Duration::from_secs(20), || {
        let listed = stage.daemon.sessions_list(&[]);
        let id = listed.first()?["session"].as_str()?.to_owned();
        (of_kind(&stage.daemon.recording(&id), "reply").len() == 1).then_some(id)
    });
    stage.daemon.kill();
    let shown = stage.daemon.sessions_command(&["show", &id]);
    assert!(shown.ok().contains("before the crash"), "{}", shown.out);
    assert!(shown.out.contains("The recording ends here"), "{}", shown.out);
    let file = PathBuf::from(stage.daemon.sessions_list(&[])[0]["file"].as_str().unwrap());
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
    let torn = stage.daemon.sessions_command(&["show", &id]);
    assert!(torn.ok().contains("not whole"), "{}", torn.out);
    drop((client, agent));

    stage.daemon.restart();
    stage.psql("SELECT 'after the crash'").ok();
    let lines = stage.daemon.ended_recordings(1).remove(0);
    exchange(&lines, "after the crash");
    // A daemon that is told to stop writes what sessions have left.
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    client.query("SELECT 'at the end'");
    stage.daemon.signal(nix::sys::signal::Signal::SIGINT);
    let lines = stage.daemon.ended_recordings(2).remove(0);
    exchange(&lines, "at the end");
    stage.daemon.terminate();
}

/// A small file system of its own for recordings alone.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        succeed(Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "nodegate-test"]).arg(&path));
        Self(path)
    }

    fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        succeed(Command::new("sh").args(["-c", "cat /dev/zero > \"$0\" 2>/dev/null || true"]).arg(&ballast));
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

#[test]
fn a_session_that_cannot_be_recorded_ends_unless_the_configuration_wants_it_marked() {
    let postgres = Postgres::start();
    let issuer = Issuer::start();
    let insert = "INSERT INTO products (name, price, stock) VALUES ('Unrecorded', 1, 1)";
    for on_failure in ["end_session", "mark"] {
        let mut settings = Settings::new(vec![Target::shop("shop", postgres.address())]);
        settings.more = format!("recording: {{ on_failure: {on_failure} }}\n");
        let mut daemon = Daemon::prepare(&settings, &issuer);
        let disk = SmallDisk::at(daemon.folder().join("state").join("recordings"));
        daemon.restart();
        let mut agent = daemon.agent(&issuer.token("agent-1"));
        let mut client = Client::start(agent.connect(postgres.address()).unwrap()).expect("a session");
        assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
        let ballast = disk.fill();
        assert_eq!(client.query("SELECT 2").texts(), [["2"]]);
        programs::wait_for("the failure to be noticed", Duration::from_secs(20), || {
            daemon.log().contains("recordings cannot be written").then_some(())
        });
        let tried = client.query(insert);
        let kept = postgres.admin("SELECT count(*) FROM products WHERE name = 'Unrecorded'");
        if on_failure == "mark" {
            assert_eq!((tried.tags, kept.as_str()), (vec!["INSERT 0 1".to_owned()], "1"));
        } else {
            assert!(tried.tags.is_empty() && tried.status == 'X', "{tried:?}");
            assert_eq!(tried.error().code(), "58030");
            assert_eq!(kept, "0");
            let another = Client::start(agent.connect(postgres.address()).unwrap());
            assert_eq!(another.expect_err("no session").code(), "58030");
        }
        fs::remove_file(ballast).unwrap();
        programs::wait_for("recordings to be written again", Duration::from_secs(20), || {
            daemon.log().contains("recordings can be written again").then_some(())
        });
        drop(client);
        let lines = daemon.ended_recordings(1).remove(0);
        assert_eq!(exchange(&lines, "SELECT 2").1.unwrap()["results"][0]["rows"], json!([["2"]]));
        daemon.terminate();
    }
}

#[test]
fn without_the_section_nothing_is_recorded_and_a_wrong_one_is_refused() {
    let stage = Stage::new();
    stage.psql("SELECT 1").ok();
    assert!(!stage.daemon.folder().join("state").join("recordings").exists());
    assert_eq!(stage.daemon.sessions_list(&[]).len(), 0);
    for (keys, said) in [
        ("result_size: 64kb", "is not a size"),
        ("result_size: 1GiB", "more than 16MiB"),
        ("total_size: 5", "less than 1MiB"),
        ("retention_days: 0", "at least a day"),
        ("on_failure: stop", "unknown on_failure"),
        ("results: 5", "results"),
    ] {
        let mut settings = Settings::new(vec![Target::shop("shop", stage.postgres.address())]);
        settings.more = format!("recording: {{ {keys} }}\n");
        let daemon = Daemon::prepare(&settings, &stage.issuer);
        let mut command = Command::new(programs::nodegate());
        command.args(["daemon", "--check", "--config"]).arg(daemon.config());
        let checked = programs::said(&mut command, "", Duration::from_secs(20));
        assert_eq!(checked.status, 1, "{keys}");
        assert!(checked.err.contains(said), "{keys}: {}", checked.err);
    }
}
