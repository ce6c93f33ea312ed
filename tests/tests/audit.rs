//! The audit trail: what was asked, by whom, how it was decided; and that nobody can change it unseen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{fs, path::PathBuf, process::Command, thread, time::Duration};

use nodegate_tests::{
    daemon::{Daemon, Settings, Target},
    issuer::Issuer,
    postgres::Postgres,
    programs::succeed,
    stage::Stage,
    wire::Client,
};
use serde_json::Value;

/// A stage where two agents have each done something good and something refused.
fn busy() -> Stage {
    let stage = Stage::new();
    for who in ["agent-1", "agent-2"] {
        let token = stage.issuer.token(who);
        stage.psql_as(&token, "SELECT name, email FROM customers WHERE id = 7").ok();
        assert_ne!(stage.psql_as(&token, "DROP TABLE customers").status, 0);
    }
    stage
}

fn text(records: &[Value]) -> String {
    records.iter().fold(String::new(), |all, record| all + &record.to_string() + "\n")
}

#[test]
fn search_finds_by_identity_target_outcome_text_and_time() {
    let stage = busy();
    let search = |words: &[&str]| stage.daemon.audit_search(words);
    let identity = format!("{}|agent-1", stage.issuer.url());
    let of_one = search(&["--identity", &identity]);
    assert!(!of_one.is_empty());
    assert!(of_one.iter().all(|record| !record.to_string().contains("agent-2")), "{}", text(&of_one));

    let denied = search(&["--outcome", "denied"]);
    assert_eq!(denied.iter().filter(|record| record.to_string().contains("DROP TABLE customers")).count(), 2);
    assert!(text(&denied).contains("no-drop"), "{}", text(&denied));
    let allowed = search(&["--outcome", "allowed", "name"]);
    assert!(text(&allowed).contains("SELECT name, email"), "{}", text(&allowed));
    assert!(
        text(&allowed).contains("public.customers.email"),
        "what was masked is recorded: {}",
        text(&allowed)
    );
    assert!(!search(&["--target", "shop"]).is_empty());
    assert!(search(&["--target", "elsewhere"]).is_empty());
    assert!(search(&["--since", "2099-01-01T00:00:00Z"]).is_empty());
    assert!(search(&["--until", "2001-01-01T00:00:00Z"]).is_empty());
    assert!(!search(&["--since", "2001-01-01T00:00:00Z", "--until", "2099-01-01T00:00:00Z"]).is_empty());
}

#[test]
fn no_value_of_a_masked_column_and_no_secret_is_ever_recorded() {
    let stage = busy();
    stage.psql("UPDATE customers SET notes = 'seen' WHERE id = 1 RETURNING email").ok();
    let mut everything = stage.daemon.log().into_bytes();
    for file in files(&stage.daemon.audit()) {
        everything.extend(fs::read(file).unwrap());
    }
    let everything = String::from_utf8_lossy(&everything);
    assert!(everything.contains("agent-1"), "the trail is there");
    assert!(!everything.contains("hopper1@"), "a masked value");
    assert!(!everything.contains(nodegate_tests::postgres::PASSWORD), "the credential");
}

#[test]
fn a_request_is_on_disk_before_the_database_sees_it() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let mut body =
        b"SELECT count(*) FROM generate_series(1, 100000000) AS a, generate_series(1, 1000) AS b".to_vec();
    body.push(0);
    client.send(b'Q', &body);
    nodegate_tests::programs::wait_for("the query to run", Duration::from_secs(10), || {
        (stage.postgres.admin(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%1000) AS b' AND state = 'active'",
        ) == "1")
            .then_some(())
    });
    let found = stage.daemon.audit_search(&["generate_series"]);
    assert!(text(&found).contains("allowed"), "{}", text(&found));
}

#[test]
fn verify_passes_an_untouched_log_and_names_what_was_done_to_another() {
    let mut stage = busy();
    let intact = stage.daemon.audit_command(&["verify"]);
    intact.ok();
    stage.daemon.terminate();
    thread::sleep(Duration::from_millis(100));
    stage.daemon.audit_command(&["verify"]).ok();

    let log = segment(&stage.daemon.audit());
    let original = fs::read(&log).unwrap();
    let at = find(&original, b"DROP TABLE customers").expect("the refused statement is in the log");

    let mut changed = original.clone();
    changed[at] = b'C';
    assert_tampering_is_found(&stage, &log, &changed, "a changed byte");

    let records: Vec<&[u8]> = original.split_inclusive(|byte| *byte == b'\n').collect();
    assert!(records.len() > 6, "one record a line");
    let without: Vec<u8> = [&records[..3], &records[4..]].concat().concat();
    assert_tampering_is_found(&stage, &log, &without, "a removed record");
    let mut swapped = records.clone();
    swapped.swap(3, 4);
    assert_tampering_is_found(&stage, &log, &swapped.concat(), "two records in another order");
    let headless: Vec<u8> = records[2..].concat();
    assert_tampering_is_found(&stage, &log, &headless, "a beginning cut off");

    fs::write(&log, &original).unwrap();
    stage.daemon.audit_command(&["verify"]).ok();
}

fn assert_tampering_is_found(stage: &Stage, log: &PathBuf, content: &[u8], what: &str) {
    fs::write(log, content).unwrap();
    let verdict = stage.daemon.audit_command(&["verify"]);
    assert_eq!(verdict.status, 1, "{what} went unnoticed: {verdict:?}");
    let said = format!("{}{}", verdict.out, verdict.err);
    assert!(said.chars().any(|c| c.is_ascii_digit()), "{what}: the record is named: {said}");
}

/// The file of the log itself that holds records.
fn segment(folder: &std::path::Path) -> PathBuf {
    let holds =
        |file: &PathBuf| fs::read(file).is_ok_and(|bytes| find(&bytes, b"DROP TABLE customers").is_some());
    let index =
        |file: &PathBuf| file.to_string_lossy().contains(".db") || file.to_string_lossy().contains("sqlite");
    files(folder)
        .into_iter()
        .find(|file| holds(file) && !index(file))
        .expect("a segment with the refused statement")
}

fn files(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().filter_map(Result::ok) {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// A small file system of its own for the log, so that it can be full, or stand still.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        succeed(Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "nodegate-test"]).arg(&path));
        Self(path)
    }

    /// One that can be frozen: an image in a file.
    fn with_image(path: PathBuf) -> Self {
        let image = path.with_extension("image");
        fs::create_dir(&path).unwrap();
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        succeed(Command::new("mkfs.ext4").arg("-q").arg(&image));
        succeed(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path));
        Self(path)
    }

    /// Whatever is written waits from now on, until the answer is dropped.
    fn freeze(&self) -> Frozen<'_> {
        succeed(Command::new("fsfreeze").arg("--freeze").arg(&self.0));
        Frozen(self)
    }
}

struct Frozen<'a>(&'a SmallDisk);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.0.0).output();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

#[test]
fn while_the_disk_stands_still_nothing_is_seen_and_nothing_is_kept() {
    let postgres = Postgres::start();
    let issuer = Issuer::start();
    let settings = Settings::new(vec![Target::shop("shop", postgres.address())]);
    let mut daemon = Daemon::prepare(&settings, &issuer);
    let disk = SmallDisk::with_image(daemon.folder().join("state"));
    daemon.restart();
    let mut agent = daemon.agent(&issuer.token("agent-1"));
    let mut session = || {
        let mut client = Client::start(agent.connect(postgres.address()).unwrap()).expect("a session");
        assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
        client
    };
    let (mut reading, mut writing, mut committing, mut undoing) =
        (session(), session(), session(), session());
    let mut opening = session();
    let insert = |name: &str| format!("INSERT INTO products (name, price, stock) VALUES ('{name}', 1, 1)");
    assert_eq!(committing.query("BEGIN").status, 'T');
    assert_eq!(committing.query(&insert("Committed")).tags, ["INSERT 0 1"]);
    assert_eq!(undoing.query("BEGIN").status, 'T');
    let products = || postgres.admin("SELECT count(*) FROM products WHERE price = 1");
    let before = products();

    let frozen = disk.freeze();
    let send = |client: &mut Client, sql: &str| client.send(b'Q', &[sql.as_bytes(), b"\0"].concat());
    send(&mut reading, "SELECT name FROM customers WHERE id = 7");
    send(&mut writing, &insert("Written"));
    send(&mut committing, "COMMIT");
    // The block ends in the middle of the message: what comes behind it would be kept.
    send(&mut undoing, &format!("ROLLBACK; {}", insert("Behind")));
    let silent = |client: &mut Client| client.is_silent_for(Duration::from_millis(700));
    assert!(silent(&mut reading), "a row was shown that no record tells of");
    assert!(silent(&mut writing) && silent(&mut committing) && silent(&mut undoing));
    assert_eq!(products(), before, "a change that no record tells of");
    // A transaction that begins shows nothing; the first look into it does.
    assert_eq!(opening.query("BEGIN").status, 'T');
    send(&mut opening, "SELECT name FROM customers WHERE id = 7");
    assert!(silent(&mut opening), "a row was shown that no record tells of");

    drop(frozen);
    assert_eq!(reading.until_ready().rows.len(), 1);
    assert_eq!(writing.until_ready().tags, ["INSERT 0 1"]);
    assert_eq!(committing.until_ready().tags, ["COMMIT"]);
    assert_eq!(undoing.until_ready().tags, ["ROLLBACK", "INSERT 0 1"]);
    assert_ne!(products(), before);
    assert_eq!(opening.until_ready().rows.len(), 1);
    // The disk is unmounted when the daemon has let go of it, which waits for sessions to end.
    drop((reading, writing, committing, undoing, opening));
    daemon.terminate();
}

#[test]
fn what_cannot_be_recorded_is_not_forwarded() {
    let postgres = Postgres::start();
    let issuer = Issuer::start();
    let settings = Settings::new(vec![Target::shop("shop", postgres.address())]);
    let mut daemon = Daemon::prepare(&settings, &issuer);
    let disk = SmallDisk::at(daemon.folder().join("state"));
    daemon.restart();
    let mut agent = daemon.agent(&issuer.token("agent-1"));
    let mut client = Client::start(agent.connect(postgres.address()).unwrap()).expect("a session");
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);

    // Nothing is left on the disk; what the log has laid out ahead is used up by long statements.
    let ballast = disk.0.join("ballast");
    succeed(Command::new("sh").args(["-c", "cat /dev/zero > \"$0\" 2>/dev/null || true"]).arg(&ballast));
    let long = format!("SELECT length('{}')", "x".repeat(60_000));
    let refused = (0..600).map(|_| client.query(&long)).find(|reply| reply.rows.is_empty());
    let refused = refused.expect("a full disk must refuse");
    assert!(refused.status == 'X' || !refused.errors.is_empty(), "{refused:?}");

    // From now on nothing reaches the database, in this session or in another.
    let insert = "INSERT INTO products (name, price, stock) VALUES ('Unrecorded', 1, 1)";
    let mut attempts = vec![client.query(insert).tags];
    if let Ok(stream) = agent.connect(postgres.address())
        && let Ok(mut other) = Client::start(stream)
    {
        attempts.push(other.query(insert).tags);
    }
    assert!(attempts.iter().all(Vec::is_empty), "{attempts:?}");
    assert_eq!(postgres.admin("SELECT count(*) FROM products WHERE name = 'Unrecorded'"), "0");
    assert!(daemon.is_alive());

    fs::remove_file(ballast).unwrap();
    daemon.terminate();
    daemon.restart();
    daemon.audit_command(&["verify"]).ok();
    let mut agent = daemon.agent(&issuer.token("agent-1"));
    let mut client = Client::start(agent.connect(postgres.address()).unwrap()).expect("a session");
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
}
