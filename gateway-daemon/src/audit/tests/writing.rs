//! Appending: order, durability, bounds, rotation, retention, and what happens when the disk says no.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{by_child, lines, open, settings, statement, write_log};
use crate::audit::{AuditError, AuditLog, Receipt, Settings, Verified, VerifyError, verify};

#[tokio::test]
async fn what_is_appended_is_in_the_log_when_append_returns() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    assert_eq!(log.append(vec![]).await.unwrap(), 0);
    assert_eq!(log.append(vec![statement("SELECT 1"), statement("SELECT 2")]).await.unwrap(), 2);
    let lines = lines(dir.path());
    assert_eq!(lines.len(), 2);
    assert!(lines[1].1.contains("SELECT 2"));
    assert_eq!(log.durable_seq(), 2);
    log.close().await;
    assert_eq!(verify(dir.path()).unwrap().last_seq, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_appenders_each_get_their_own_number() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(settings(dir.path())).unwrap();
    let tasks: Vec<_> = (0..1000)
        .map(|task| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut numbers = Vec::new();
                for round in 0..5 {
                    let seq = log.append(vec![statement(&format!("SELECT {task}, {round}"))]).await.unwrap();
                    assert!(log.durable_seq() >= seq);
                    numbers.push(seq);
                }
                assert!(numbers.is_sorted());
                numbers
            })
        })
        .collect();
    let mut numbers = Vec::new();
    for task in tasks {
        numbers.extend(task.await.unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=5000).collect::<Vec<u64>>());
    // Also while the log is open.
    assert_eq!(verify(dir.path()).unwrap().records, 5000);
    log.close().await;
    let verified = verify(dir.path()).unwrap();
    assert_eq!((verified.records, verified.last_seq), (5000, 5000));
    assert!(verified.segments > 1);
}

#[tokio::test]
async fn the_log_goes_on_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let log = open(dir.path());
        for number in 1..=7 {
            let seq = log.append(vec![statement(&"x".repeat(500))]).await.unwrap();
            assert_eq!(seq, round * 7 + number);
        }
        log.close().await;
    }
    let verified = verify(dir.path()).unwrap();
    assert_eq!((verified.first_seq, verified.last_seq, verified.records), (1, 28, 28));
    assert!(verified.segments >= 4);
    // Only `jq` and `sha256sum` are needed to read and check it: no empty space is left after closing.
    assert!(
        lines(dir.path()).iter().all(|(_, line)| serde_json::from_str::<serde_json::Value>(line).is_ok())
    );
}

#[tokio::test]
async fn files_are_for_the_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("audit");
    write_log(&root, 50).await;
    let mut pending: Vec<PathBuf> = vec![root];
    while let Some(path) = pending.pop() {
        let meta = fs::metadata(&path).unwrap();
        let allowed = if meta.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(meta.permissions().mode() & 0o777, allowed, "{}", path.display());
        if meta.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}

#[tokio::test]
async fn a_directory_that_others_may_write_is_closed_to_them() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    open(dir.path()).close().await;
    assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o755);
}

#[tokio::test]
async fn a_second_daemon_is_kept_out_until_the_first_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    assert!(matches!(AuditLog::open(settings(dir.path())), Err(AuditError::Locked(_))));
    log.close().await;
    open(dir.path()).close().await;
}

#[tokio::test]
async fn after_close_every_handle_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let other = log.clone();
    other.note(statement("SELECT 'noted'")).unwrap();
    log.close().await;
    assert!(matches!(other.append(vec![statement("SELECT 1")]).await, Err(AuditError::Closed)));
    assert!(matches!(other.note(statement("SELECT 1")), Err(AuditError::Closed)));
    assert!(matches!(other.failure(), Some(AuditError::Closed)));
    assert!(lines(dir.path())[0].1.contains("noted"), "what was queued is written");
}

#[tokio::test]
async fn an_event_beyond_the_limit_is_refused_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let huge = statement(&"x".repeat(17 * 1024 * 1024));
    assert!(matches!(log.append(vec![huge]).await, Err(AuditError::TooLarge { .. })));
    assert_eq!(log.append(vec![statement(&"y".repeat(3 * 1024 * 1024))]).await.unwrap(), 1);
    assert_eq!(log.append(vec![statement("SELECT 1")]).await.unwrap(), 2);
    log.close().await;
    assert_eq!(verify(dir.path()).unwrap().records, 2);
    open(dir.path()).close().await;
}

#[tokio::test]
async fn a_full_queue_makes_note_fail_and_append_wait() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(Settings { queue_len: 2, ..settings(dir.path()) }).unwrap();
    // The writer takes what it finds: fill faster than one commit.
    let mut refused = 0;
    for _ in 0..2_000 {
        match log.note(statement("SELECT 1")) {
            Ok(()) => {}
            Err(AuditError::QueueFull) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0);
    // More events in one append than there is room for must not wait for ever.
    log.append(vec![statement("SELECT 2"); 50]).await.unwrap();
    log.close().await;
    assert_eq!(verify(dir.path()).unwrap().records, 2_000 - refused + 50);
}

#[tokio::test]
async fn a_receipt_says_when_its_events_are_on_disk_whoever_puts_them_there() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let submitters = [log.submitter(), log.submitter(), log.submitter()];
    for round in 0..300 {
        let mut receipts = Vec::new();
        for (number, submitter) in submitters.iter().enumerate().take(1 + round % 3) {
            receipts
                .push(submitter.submit(&[statement(&format!("SELECT {round}, {number}"))]).await.unwrap());
        }
        if round % 10 != 0 {
            // Else left to itself: what nobody presses for comes to the disk all the same.
            receipts.iter().for_each(Receipt::press);
        }
        for receipt in &receipts {
            receipt.wait().await.unwrap();
            assert!(receipt.is_durable());
        }
        log.note(statement("noted")).unwrap();
    }
    let before = log.durable_seq();
    assert!(before >= 600 - 1);
    log.close().await;
    assert_eq!(verify(dir.path()).unwrap().records, 900);
    assert!(matches!(submitters[0].submit(&[statement("SELECT 1")]).await, Err(AuditError::Closed)));
}

#[tokio::test]
async fn retention_removes_whole_segments_and_the_rest_still_verifies() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 60).await;
    let before = verify(dir.path()).unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let settings = Settings { retention: Duration::from_millis(10), ..settings(dir.path()) };
    let log = AuditLog::open(settings.clone()).unwrap();
    // In between, the anchor is there and some of the segments still are: intact too.
    let is_done =
        |verified: &Verified| verified.removed_up_to > 0 && verified.first_seq > verified.removed_up_to;
    let verified = eventually(|| Some(verify(dir.path()).unwrap()).filter(is_done)).await;
    assert_eq!(verified.removed_up_to, verified.first_seq - 1);
    assert!(verified.segments < before.segments);
    log.close().await;
    // And once more, from behind the anchor.
    AuditLog::open(settings).unwrap().close().await;
    verify(dir.path()).unwrap();

    // The anchor cannot be moved by hand to hide more.
    let first =
        fs::read_dir(dir.path().join("log")).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let line = fs::read_to_string(&first).unwrap().trim_end().lines().last().unwrap().to_owned();
    let record: serde_json::Value = serde_json::from_str(&line).unwrap();
    let anchor = serde_json::json!({ "seq": record["seq"], "hash": record["hash"] });
    if fs::read_dir(dir.path().join("log")).unwrap().count() > 1 {
        fs::remove_file(first).unwrap();
        fs::write(dir.path().join("anchor.json"), anchor.to_string()).unwrap();
        assert!(matches!(verify(dir.path()), Err(VerifyError::Broken { .. })));
    }
}

async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs in a child of this test binary whose files may not grow beyond a limit: the same as a full disk to
/// whoever writes.
#[test]
fn child_that_fills_its_disk() {
    let Some(dir) = by_child() else { return };
    #[expect(unsafe_code, reason = "the default action of SIGXFSZ ends the process; ignored, write() fails")]
    // SAFETY: SIG_IGN is no handler that could run anything.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_FSIZE, 700_000, 700_000).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let log = AuditLog::open(Settings { segment_bytes: 1 << 30, ..settings(&dir) }).unwrap();
        let mut acknowledged = 0;
        let submitter = log.submitter();
        let mut receipt = submitter.submit(&[statement("SELECT 1")]).await.unwrap();
        let error = loop {
            receipt.press();
            let next = match submitter.submit(&[statement(&"x".repeat(1000))]).await {
                Ok(next) => next,
                Err(error) => break error,
            };
            match receipt.wait().await {
                Ok(()) => acknowledged += 1,
                Err(error) => break error,
            }
            receipt = next;
        };
        assert!(matches!(error, AuditError::Poisoned(_)), "{error}");
        assert!(error.to_string().contains("File too large"), "{error}");
        // Every later one fails at once, with the cause.
        let start = Instant::now();
        for _ in 0..100 {
            let again = log.append(vec![statement("SELECT 1")]).await.unwrap_err();
            assert_eq!(again.to_string(), error.to_string());
            assert!(matches!(log.note(statement("SELECT 1")), Err(AuditError::Poisoned(_))));
        }
        assert!(start.elapsed() < Duration::from_secs(1));
        assert!(
            matches!(receipt.wait().await, Err(AuditError::Poisoned(_))),
            "never written, and it says so"
        );
        assert!(matches!(submitter.submit(&[statement("SELECT 1")]).await, Err(AuditError::Poisoned(_))));
        assert!(matches!(log.failure(), Some(AuditError::Poisoned(_))));
        log.close().await;
        fs::write(dir.join("acknowledged"), acknowledged.to_string()).unwrap();
    });
}

#[tokio::test]
async fn a_full_disk_fails_the_append_and_poisons_the_log_until_it_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let status =
        super::child("audit::tests::writing::child_that_fills_its_disk", dir.path()).status().unwrap();
    assert!(status.success());
    let acknowledged: u64 = fs::read_to_string(dir.path().join("acknowledged")).unwrap().parse().unwrap();
    assert!(acknowledged > 10);
    let log = open(dir.path());
    assert_eq!(log.append(vec![statement("SELECT 'space again'")]).await.unwrap(), acknowledged + 1);
    log.close().await;
    assert_eq!(verify(dir.path()).unwrap().last_seq, acknowledged + 1);
}
