//! The log as a whole: written, killed, tampered with, read.

mod crash;
mod searching;
mod tampering;
mod writing;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use super::{AuditError, AuditLog, Settings};
use crate::domain::event::{AuditEvent, EventKind, Outcome};

/// Small segments, so that a short test has several.
fn settings(dir: &Path) -> Settings {
    Settings { segment_bytes: 4096, retention: Duration::ZERO, ..Settings::new(dir) }
}

fn statement(text: &str) -> AuditEvent {
    let mut event = AuditEvent::new(EventKind::Request, Outcome::Allowed);
    event.identity = Some("https://issuer.test|agent".to_owned());
    event.target = Some("orders-db".into());
    event.text = text.to_owned();
    event
}

/// Opens a log that was closed. A child that another test has just made holds its lock as well until it executes.
fn reopen(dir: &Path) -> Result<AuditLog, AuditError> {
    for _ in 0..500 {
        match AuditLog::open(settings(dir)) {
            Err(AuditError::Locked(_)) => thread::sleep(Duration::from_millis(10)),
            opened => return opened,
        }
    }
    AuditLog::open(settings(dir))
}

fn open(dir: &Path) -> AuditLog {
    reopen(dir).unwrap()
}

/// A closed log of so many statements, `SELECT 1` and so on.
async fn write_log(dir: &Path, count: u64) {
    let log = open(dir);
    for number in 1..=count {
        assert_eq!(log.append(vec![statement(&format!("SELECT {number}"))]).await.unwrap(), number);
    }
    log.close().await;
}

/// The log's lines, each with the file that it stands in, oldest first.
fn lines(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut files: Vec<_> =
        fs::read_dir(dir.join("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .into_iter()
        .flat_map(|file| {
            let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
            let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
            lines.into_iter().map(move |line| (file.clone(), line))
        })
        .collect()
}

const CHILD: &str = "NODEGATE_AUDIT_TEST_DIR";

/// A run of this binary that does nothing but the one test, which [`by_child`] tells that it is the child.
fn child(test: &str, dir: &Path) -> Command {
    // The path of a test below the crate's root may have more in front of it in another crate.
    let here = module_path!();
    let crate_and_more = here.strip_suffix("audit::tests").unwrap();
    let prefix = crate_and_more.split_once("::").map_or("", |(_, more)| more);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("{prefix}{test}"), "--nocapture", "--test-threads=1"]).env(CHILD, dir);
    command
}

/// The directory that a child is to write in; `None` in the run that does all tests.
fn by_child() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}
