//! What is left when the daemon or the machine stops in the middle.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use super::{by_child, child, lines, open, reopen, settings, statement, write_log};
use crate::audit::{AuditError, AuditLog, Query, Settings, search, verify};

/// Runs in a child: appends from many tasks until it is killed, and tells of each record that was acknowledged.
#[test]
fn child_that_appends_until_killed() {
    let Some(dir) = by_child() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let log = AuditLog::open(Settings { segment_bytes: 40_000, ..settings(&dir) }).unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..32 {
            let log = log.clone();
            tasks.spawn(async move {
                for round in 0.. {
                    let text = format!("acknowledged<{task}.{round}> {}", "x".repeat(round % 700));
                    let seq = log.append(vec![statement(&text)]).await.unwrap();
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "\nACK {seq} {task}.{round}").unwrap();
                }
            });
        }
        tasks.join_all().await;
    });
}

#[tokio::test]
async fn every_acknowledged_record_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected: u64 = 0;
    for round in 0..4 {
        let mut process = child("audit::tests::crash::child_that_appends_until_killed", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = Vec::new();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let enough = 500 + round * 137;
        for line in output.by_ref() {
            if let Some(rest) = line.unwrap().strip_prefix("ACK ") {
                let (seq, text) = rest.split_once(' ').unwrap();
                acknowledged.push((seq.parse::<u64>().unwrap(), format!("acknowledged<{text}>")));
            }
            if acknowledged.len() == enough {
                process.kill().unwrap();
            }
        }
        process.wait().unwrap();
        assert!(acknowledged.len() >= enough);

        open(dir.path()).close().await;
        let verified = verify(dir.path()).unwrap();
        let lines = lines(dir.path());
        for (seq, text) in acknowledged {
            assert!(seq > expected && seq <= verified.last_seq);
            let line = &lines[usize::try_from(seq - 1).unwrap()].1;
            assert!(line.starts_with(&format!("{{\"seq\":{seq},")) && line.contains(&text), "{line}");
        }
        expected = verified.last_seq;
    }
    let found =
        search(dir.path(), &Query { text: Some("acknowledged<".into()), ..Query::default() }).unwrap();
    assert!(found.len() > 2000);
}

fn newest_segment(dir: &Path) -> PathBuf {
    fs::read_dir(dir.join("log")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap()
}

fn torn_files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
        .collect()
}

#[tokio::test]
async fn a_torn_record_is_set_aside_and_recorded() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 20).await;
    let torn = b"{\"seq\":21,\"time\":1,\"synced\":20,\"prev\":\"00";
    let newest = newest_segment(dir.path());
    OpenOptions::new().append(true).open(&newest).unwrap().write_all(torn).unwrap();
    verify(dir.path()).unwrap_err();

    open(dir.path()).close().await;
    let verified = verify(dir.path()).unwrap();
    assert_eq!(verified.last_seq, 21, "the recovery is a record itself");
    let files = torn_files(dir.path());
    assert_eq!(fs::read(&files[0]).unwrap(), torn);
    let query = Query { kind: Some(crate::domain::event::EventKind::Daemon), ..Query::default() };
    let records = search(dir.path(), &query).unwrap();
    assert_eq!(records[0].event.text, files[0].display().to_string());
}

#[tokio::test]
async fn a_torn_batch_with_a_hole_in_front_is_set_aside() {
    // A machine that loses power may have written the second block of a batch and not the first.
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(Settings { segment_bytes: 1 << 20, ..settings(dir.path()) }).unwrap();
    log.append(vec![statement("SELECT 1")]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let head = fs::read(dir.path().join("head.json")).unwrap();
    log.append(vec![statement("SELECT 2"), statement("SELECT 3"), statement("SELECT 4")]).await.unwrap();
    log.close().await;
    // As if the crash had come in the middle of that batch: its first record blank, the head not yet moved.
    fs::write(dir.path().join("head.json"), head).unwrap();
    let newest = newest_segment(dir.path());
    let text = fs::read(&newest).unwrap();
    let mut ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    let (first, second) = (ends.next().unwrap(), ends.next().unwrap());
    let file = OpenOptions::new().write(true).open(&newest).unwrap();
    file.write_all_at(&vec![b'\n'; second - first], first as u64 + 1).unwrap();

    open(dir.path()).close().await;
    let verified = verify(dir.path()).unwrap();
    assert_eq!(verified.last_seq, 2);
    assert_eq!(torn_files(dir.path()).len(), 1);
    assert!(lines(dir.path())[1].1.contains("set aside"));
}

#[tokio::test]
async fn a_broken_record_in_the_middle_stops_the_opening_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(Settings { segment_bytes: 1 << 20, ..settings(dir.path()) }).unwrap();
    for number in 0..10 {
        log.append(vec![statement(&format!("SELECT {number}"))]).await.unwrap();
    }
    log.close().await;
    let newest = newest_segment(dir.path());
    let text = fs::read_to_string(&newest).unwrap().replace("SELECT 5", "SELECT 6");
    fs::write(&newest, &text).unwrap();
    let Err(error) = AuditLog::open(settings(dir.path())) else { panic!("it opened") };
    assert!(matches!(error, AuditError::Damaged { .. }));
    let message = error.to_string();
    assert!(
        message.contains("line 6") && message.contains("record 6") && message.contains("audit verify"),
        "{message}"
    );
    assert_eq!(fs::read_to_string(&newest).unwrap(), text);
    assert!(torn_files(dir.path()).is_empty());
}

#[tokio::test]
async fn a_removed_end_stops_the_opening() {
    for keep in [0, 5, 19] {
        let dir = tempfile::tempdir().unwrap();
        let log = AuditLog::open(Settings { segment_bytes: 1 << 20, ..settings(dir.path()) }).unwrap();
        for number in 0..20 {
            log.append(vec![statement(&format!("SELECT {number}"))]).await.unwrap();
        }
        log.close().await;
        let newest = newest_segment(dir.path());
        let text = fs::read_to_string(&newest).unwrap();
        fs::write(&newest, text.split_inclusive('\n').take(keep).collect::<String>()).unwrap();
        assert!(matches!(reopen(dir.path()), Err(AuditError::Damaged { .. })), "{keep}");
        fs::remove_file(&newest).unwrap();
        assert!(matches!(reopen(dir.path()), Err(AuditError::Damaged { .. })));
    }
}

#[tokio::test]
async fn a_log_without_its_head_does_not_open() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 3).await;
    fs::remove_file(dir.path().join("head.json")).unwrap();
    assert!(matches!(reopen(dir.path()), Err(AuditError::Damaged { .. })));
    verify(dir.path()).unwrap_err();
}

#[tokio::test]
async fn a_missing_segment_before_the_newest_stops_the_opening() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 60).await;
    let mut segments: Vec<_> =
        fs::read_dir(dir.path().join("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    fs::remove_file(&segments[segments.len() - 2]).unwrap();
    assert!(matches!(reopen(dir.path()), Err(AuditError::Damaged { .. })));
}
