//! Searching: every condition, with the index and without, and while the log is written.

use std::{fs, time::Duration};

use proptest::prelude::*;

use super::{open, settings, statement};
use crate::{
    audit::{AuditLog, Order, Query, Settings, Source, search, search_in},
    domain::event::{AuditEvent, EventKind, Outcome},
};

fn numbers(dir: &std::path::Path, query: &Query) -> Vec<u64> {
    let found: Vec<u64> = search(dir, query).unwrap().iter().map(|record| record.seq).collect();
    let scanned: Vec<u64> =
        search_in(dir, query, Source::LogOnly).unwrap().iter().map(|record| record.seq).collect();
    assert_eq!(found, scanned, "{query:?}");
    found
}

#[allow(clippy::unnecessary_wraps, reason = "it shortens the conditions below")]
fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// The newest record in the index.
fn indexed(dir: &std::path::Path) -> u64 {
    let database = rusqlite::Connection::open(dir.join("index.sqlite")).unwrap();
    let rows: i64 = database.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
    let seq: i64 = database.query_row("SELECT seq FROM position", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, seq);
    seq.cast_unsigned()
}

fn mixed() -> Vec<AuditEvent> {
    let one = statement("SELECT name FROM customers WHERE note = '50% \"off\"'");
    let mut two = statement("DROP TABLE customers");
    two.outcome = Outcome::Denied;
    two.reason = "The statement destroys data.".to_owned();
    two.policies = vec!["no-drop".into(), "default".into()];
    two.session = Some("18f-1".into());
    let mut three = AuditEvent::new(EventKind::Connect, Outcome::Denied);
    three.identity = some("https://issuer.test|other");
    three.target = Some("stock-db".into());
    three.reason = "No policy allows it.".to_owned();
    let mut four = statement("sélect 'ÄÖ', '\u{0}nul\u{0}after' -- NEAR(\"x\" AND *) OR NOT");
    four.target = Some("orders-db-2".into());
    let mut five = AuditEvent::new(EventKind::Daemon, Outcome::Noted);
    five.reason = "started".to_owned();
    vec![one, two, three, four, five]
}

fn check_all(dir: &std::path::Path) {
    let all = Query::default();
    assert_eq!(numbers(dir, &all), [5, 4, 3, 2, 1]);
    assert_eq!(numbers(dir, &Query { order: Order::OldestFirst, ..all.clone() }), [1, 2, 3, 4, 5]);
    assert_eq!(numbers(dir, &Query { limit: Some(2), ..all.clone() }), [5, 4]);
    assert_eq!(numbers(dir, &Query { limit: Some(2), order: Order::OldestFirst, ..all.clone() }), [1, 2]);
    assert_eq!(numbers(dir, &Query { limit: Some(0), ..all.clone() }), [0; 0]);
    assert_eq!(
        numbers(dir, &Query { identity: some("https://issuer.test|agent"), ..all.clone() }),
        [4, 2, 1]
    );
    assert_eq!(numbers(dir, &Query { identity: some("|other"), ..all.clone() }), [3]);
    assert_eq!(numbers(dir, &Query { identity: some("%"), ..all.clone() }), [0; 0]);
    assert_eq!(numbers(dir, &Query { target: some("orders-db"), ..all.clone() }), [2, 1]);
    assert_eq!(numbers(dir, &Query { outcome: Some(Outcome::Denied), ..all.clone() }), [3, 2]);
    assert_eq!(numbers(dir, &Query { kind: Some(EventKind::Connect), ..all.clone() }), [3]);
    assert_eq!(numbers(dir, &Query { session: some("18f-1"), ..all.clone() }), [2]);
    assert_eq!(numbers(dir, &Query { policy: some("default"), ..all.clone() }), [2]);
    assert_eq!(numbers(dir, &Query { policy: some("no"), ..all.clone() }), [0; 0]);
    let text = |part: &str| numbers(dir, &Query { text: some(part), ..Query::default() });
    assert_eq!(text("table Custom"), [2]);
    assert_eq!(text("customers"), [2, 1]);
    assert_eq!(text("destroys data"), [2]);
    assert_eq!(text("50% \"OFF\""), [1]);
    assert_eq!(text("' OR 1=1 --"), [0; 0]);
    assert_eq!(text("NEAR(\"x\" AND *) OR NOT"), [4]);
    assert_eq!(text("nul\u{0}after"), [4]);
    assert_eq!(text("after"), [4]);
    assert_eq!(text("ÄÖ"), [4]);
    assert_eq!(text("é"), [4]);
    assert_eq!(text("a"), [5, 4, 3, 2, 1]);
    assert_eq!(text(""), [5, 4, 3, 2, 1]);
    let both = Query { identity: some("agent"), outcome: Some(Outcome::Denied), text: some("drop"), ..all };
    assert_eq!(numbers(dir, &both), [2]);
}

#[tokio::test]
async fn every_condition_means_the_same_with_the_index_and_without() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for event in mixed() {
        log.append(vec![event]).await.unwrap();
    }
    // Just written: from the log. Later: from the index. After closing, and with the index gone or broken.
    check_all(dir.path());
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(indexed(dir.path()), 5, "the index is there without closing the log");
    check_all(dir.path());
    log.close().await;
    check_all(dir.path());
    fs::write(dir.path().join("index.sqlite"), "not a database").unwrap();
    for side in ["index.sqlite-wal", "index.sqlite-shm"] {
        let _ = fs::remove_file(dir.path().join(side));
    }
    check_all(dir.path());
    open(dir.path()).close().await;
    check_all(dir.path());
    fs::remove_file(dir.path().join("index.sqlite")).unwrap();
    check_all(dir.path());
    open(dir.path()).close().await;
    assert_eq!(indexed(dir.path()), 5, "the index was made anew");
    check_all(dir.path());
}

#[tokio::test]
async fn times_bound_a_search() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for number in 1..=30 {
        log.append(vec![statement(&format!("SELECT {number}"))]).await.unwrap();
        if number % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }
    let records = search(dir.path(), &Query { order: Order::OldestFirst, ..Query::default() }).unwrap();
    for (from, to) in [(0, 29), (3, 17), (10, 20), (29, 29)] {
        let query =
            Query { since: Some(records[from].time), until: Some(records[to].time), ..Query::default() };
        let found = numbers(dir.path(), &query);
        let expected: Vec<u64> = records
            .iter()
            .filter(|record| record.time >= records[from].time && record.time < records[to].time)
            .map(|record| record.seq)
            .rev()
            .collect();
        assert_eq!(found, expected);
    }
    log.close().await;
}

#[tokio::test]
async fn an_index_of_another_log_is_not_used() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (dir, text) in [(&one, "alpha"), (&other, "beta")] {
        let log = open(dir.path());
        log.append(vec![statement(text)]).await.unwrap();
        log.close().await;
    }
    fs::copy(other.path().join("index.sqlite"), one.path().join("index.sqlite")).unwrap();
    open(one.path()).close().await;
    let found = search(one.path(), &Query { text: some("alpha"), ..Query::default() }).unwrap();
    assert_eq!(found.len(), 1);
}

#[tokio::test]
async fn a_changed_record_is_not_shown_as_if_it_were_one() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(Settings { segment_bytes: 1, ..settings(dir.path()) }).unwrap();
    for number in 1..=3 {
        log.append(vec![statement(&format!("SELECT {number}"))]).await.unwrap();
    }
    log.close().await;
    let first =
        fs::read_dir(dir.path().join("log")).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let text = fs::read_to_string(&first).unwrap().replace("SELECT 1", "SELECT 9");
    fs::write(first, text).unwrap();
    let error = search(dir.path(), &Query::default()).unwrap_err().to_string();
    assert!(error.contains("audit verify"), "{error}");
    search_in(dir.path(), &Query::default(), Source::LogOnly).unwrap_err();
}

#[tokio::test]
async fn an_export_is_the_log_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    super::write_log(dir.path(), 30).await;
    let mut out = Vec::new();
    assert_eq!(crate::audit::export(dir.path(), 0, u64::MAX, &mut out).unwrap(), 30);
    let text = String::from_utf8(out).unwrap();
    assert!(text.ends_with('\n'));
    assert!(text.lines().eq(super::lines(dir.path()).iter().map(|(_, line)| line.as_str())));
    let records = search(dir.path(), &Query::default()).unwrap();
    let mut out = Vec::new();
    let since = records[9].time;
    let count = crate::audit::export(dir.path(), since, records[3].time, &mut out).unwrap();
    assert_eq!(
        count,
        records.iter().filter(|it| it.time >= since && it.time < records[3].time).count() as u64
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_part_of_any_text_is_found(
        texts in prop::collection::vec("[a-zA-Zäß \"'%*()\\-\u{0}\u{212a}]{0,12}", 1..8),
        parts in prop::collection::vec("[a-zA-Zäß \"'%*()\\-k\u{0}]{0,5}", 6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let log = open(dir.path());
            log.append(texts.iter().map(|text| statement(text)).collect()).await.unwrap();
            log.close().await;
        });
        let own = texts.iter().map(|text| text.chars().skip(1).take(5).collect::<String>());
        for part in own.chain(parts.iter().cloned()) {
            numbers(dir.path(), &Query { text: Some(part), ..Query::default() });
        }
    }
}

#[tokio::test]
async fn a_text_too_long_for_the_index_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let text = format!("{} needle {}", "x".repeat(40_000), "y".repeat(40_000));
    log.append(vec![statement("SELECT 1"), statement(&text), statement("needles")]).await.unwrap();
    log.close().await;
    assert_eq!(indexed(dir.path()), 3);
    assert_eq!(numbers(dir.path(), &Query { text: some("NEEDLE"), ..Query::default() }), [3, 2]);
}

/// What an operator does in the middle of it all: no false alarm, nothing missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_beside_a_busy_writer_see_a_whole_log_and_every_acknowledged_record() {
    let dir = tempfile::tempdir().unwrap();
    // Some rotations, and segments with space laid out ahead in between.
    let log = AuditLog::open(Settings { segment_bytes: 700_000, ..settings(dir.path()) }).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16 {
        let log = log.clone();
        tasks.spawn(async move {
            for round in 0..250 {
                log.append(vec![statement(&format!("busy {task} {round}"))]).await.unwrap();
            }
        });
    }
    let mut rounds: u32 = 0;
    while !tasks.is_empty() || rounds < 5 {
        while tasks.try_join_next().is_some() {}
        let text = format!("needle <{rounds}>");
        let seq = log.append(vec![statement(&text)]).await.unwrap();
        let found = search(dir.path(), &Query { text: Some(text), ..Query::default() }).unwrap();
        assert_eq!(found.iter().map(|record| record.seq).collect::<Vec<_>>(), [seq]);
        let path = dir.path().to_owned();
        let verified = tokio::task::spawn_blocking(move || crate::audit::verify(&path)).await.unwrap();
        let verified = verified.unwrap_or_else(|error| panic!("round {rounds}: {error:?}"));
        assert!(verified.last_seq >= seq);
        let mut out = Vec::new();
        crate::audit::export(dir.path(), 0, u64::MAX, &mut out).unwrap();
        let count = out.split(|byte| *byte == b'\n').count() as u64 - 1;
        assert!(count >= verified.records);
        rounds += 1;
    }
    log.close().await;
    assert_eq!(crate::audit::verify(dir.path()).unwrap().records, 16 * 250 + u64::from(rounds));
}
