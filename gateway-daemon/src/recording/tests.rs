//! Recordings from the session's hand to the reader's: whole, cut off, torn, without room, and removed.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, SystemTime},
};

use super::{
    Answered, Asked, Cell, Column, Cut, Format, Header, OnFailure, PackedRows, Parameter, Read, Record,
    Recorder, RecordingError, ResultSet, Settings, find, read, recorder::now, retention, summary, walk,
};
use crate::domain::{address::OriginalDestination, event::Outcome, ids::CgroupId};

fn recorder(dir: &Path, on_failure: OnFailure) -> Recorder {
    Recorder::start(Settings {
        dir: dir.to_owned(),
        result_bytes: 65_536,
        session_bytes: 1 << 20,
        retention: Duration::from_hours(24),
        total_bytes: 1 << 30,
        on_failure,
        on_removed: Box::new(|_| {}),
    })
    .unwrap()
}

fn header(session: &str) -> Header {
    Header {
        session: session.into(),
        at: now(),
        identity: "https://issuer.test|agent-1".to_owned(),
        target: "shop".into(),
        database: "shop".to_owned(),
        destination: OriginalDestination::new("127.0.0.1:5432".parse().unwrap()),
        cgroup: CgroupId(7),
        workload: "nodegate/run-1".to_owned(),
        label: None,
        process: "12 (psql)".to_owned(),
    }
}

fn asked(number: u64, text: &str) -> Record<PackedRows> {
    Record::Request(Asked {
        number,
        at: now(),
        outcome: Outcome::Allowed,
        policies: vec!["agents".into()],
        masked: Vec::new(),
        reason: String::new(),
        hint: None,
        text: text.to_owned(),
        text_bytes: None,
        literals_withheld: false,
        parameters: vec![Parameter { type_oid: 23, format: Format::Text, value: Cell::Text("7".to_owned()) }],
        parameters_missing_bytes: None,
    })
}

fn columns() -> Arc<[Column]> {
    let column =
        |name: &str, format, withheld| Column { name: name.to_owned(), type_oid: 25, format, withheld };
    Arc::from([
        column("a", Format::Text, false),
        column("b", Format::Binary, false),
        column("c", Format::Text, true),
    ])
}

fn answered(number: u64, rows: PackedRows) -> Record<PackedRows> {
    Record::Reply(Answered {
        number,
        at: now(),
        duration_us: 5,
        rows: 1,
        bytes: 10,
        results: vec![ResultSet {
            columns: columns(),
            copy: false,
            rows,
            cut: Some(Cut { rows: 2, bytes: 99 }),
        }],
        tags: vec!["SELECT 3".to_owned()],
        notices: Vec::new(),
        error: None,
        skipped: false,
    })
}

/// A row of these values, packed as it is handed over.
fn packed(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut row = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        match value {
            Some(value) => {
                row.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
                row.extend(*value);
            }
            None => row.extend((-1_i32).to_be_bytes()),
        }
    }
    row
}

fn only(dir: &Path) -> Read {
    let all = walk(dir, 0, u64::MAX).unwrap();
    assert_eq!(all.len(), 1);
    read(&all[0].path).unwrap()
}

#[test]
fn what_is_handed_over_is_read_again_by_root_alone() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = recorder(dir.path(), OnFailure::EndSession);
    let mut session = recorder.begin(header("19a-1")).unwrap();
    session.record(asked(1, "SELECT a, b, c FROM t")).unwrap();
    let mut rows = PackedRows::new(columns());
    rows.push(&packed(&[Some(b"x\xc3\xa4"), Some(&[0, 255]), Some(b"secret")]));
    rows.push(&packed(&[None, None, None]));
    rows.push(&packed(&[Some(&[0xff]), Some(b""), None]));
    session.record(answered(1, rows)).unwrap();
    session.end("the client closed the connection".to_owned());
    recorder.close();

    let Read { records, lines, torn_bytes } = only(dir.path());
    assert_eq!((records.len(), torn_bytes), (4, 0), "{lines}");
    let hex = |hex: &str| Cell::Hex { hex: hex.to_owned() };
    let Record::Reply(reply) = &records[2] else { panic!("{records:?}") };
    assert_eq!(
        reply.results[0].rows,
        [
            vec![Cell::Text("xä".to_owned()), hex("00ff"), Cell::Withheld { withheld_bytes: 6 }],
            vec![Cell::Null, Cell::Null, Cell::Null],
            vec![hex("ff"), hex(""), Cell::Null],
        ]
    );
    assert!(!lines.contains("secret"));
    assert_eq!(reply.results[0].cut, Some(Cut { rows: 2, bytes: 99 }));
    let Record::End(end) = &records[3] else { panic!("{records:?}") };
    assert_eq!((end.requests, end.denied), (1, 0));

    let filed = find(dir.path(), "19a").unwrap();
    assert_eq!(summary(&filed.path).unwrap().unwrap().end.as_ref(), Some(end));
    assert_eq!(fs::metadata(&filed.path).unwrap().permissions().mode() & 0o777, 0o600);
    for parent in filed.path.ancestors().skip(1).take(3) {
        assert_eq!(fs::metadata(parent).unwrap().permissions().mode() & 0o777, 0o700, "{parent:?}");
    }
}

#[test]
fn lines_are_on_disk_while_the_session_goes_on_and_a_torn_end_hides_nothing_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = recorder(dir.path(), OnFailure::EndSession);
    let mut session = recorder.begin(header("19a-2")).unwrap();
    session.record(asked(1, "SELECT 1")).unwrap();
    let written = || walk(dir.path(), 0, u64::MAX).unwrap().first().map_or(0, |filed| filed.bytes);
    let wait_beyond = |bytes: u64| {
        for _ in 0..1000 {
            if written() > bytes {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("nothing is written");
    };
    wait_beyond(0);
    assert_eq!(only(dir.path()).records.len(), 2);
    let first = written();
    session.record(asked(2, "SELECT 2")).unwrap();
    wait_beyond(first);
    let path = walk(dir.path(), 0, u64::MAX).unwrap().remove(0).path;
    assert_eq!(summary(&path).unwrap().unwrap().end, None);
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        let torn = dir.path().join("torn");
        fs::write(&torn, &whole[..length]).unwrap();
        let seen = read(&torn).unwrap().records.len();
        let expected = if u64::try_from(length).unwrap() < first { 0 } else { 2 };
        assert_eq!(seen, expected, "{length} of {}", whole.len());
    }
    let mut flipped = whole.clone();
    let last = flipped.len() - 6;
    flipped[last] ^= 1;
    fs::write(dir.path().join("torn"), &flipped).unwrap();
    assert_eq!(read(&dir.path().join("torn")).unwrap().records.len(), 2, "a frame has a checksum");
    drop(session);
    recorder.close();
    let records = only(dir.path()).records;
    let Some(Record::End(end)) = records.last() else { panic!("{records:?}") };
    assert_eq!(end.reason, "the session was cut off");
}

#[test]
fn a_session_that_is_open_when_the_recorder_closes_is_ended_there() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = recorder(dir.path(), OnFailure::EndSession);
    let mut session = recorder.begin(header("19a-3")).unwrap();
    recorder.close();
    let refused = session.record(asked(1, "SELECT 1"));
    assert!(matches!(refused, Err(RecordingError::Closed)), "{refused:?}");
    let records = only(dir.path()).records;
    assert!(matches!(records.last(), Some(Record::End(end)) if end.reason == "the daemon stopped"));
}

/// Takes the directory away, so that nothing can be written; a file in its place keeps it away.
fn break_disk(dir: &Path) {
    fs::remove_dir_all(dir).unwrap();
    fs::write(dir, "in the way").unwrap();
}

#[test]
fn where_nothing_can_be_written_sessions_end_and_recording_goes_on_when_it_can_again() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("recordings");
    let recorder = recorder(&dir, OnFailure::EndSession);
    break_disk(&dir);
    let mut session = recorder.begin(header("19a-4")).unwrap();
    let mut fails = || {
        (0..1000).any(|_| {
            thread::sleep(Duration::from_millis(10));
            matches!(session.record(asked(1, "SELECT 1")), Err(RecordingError::Failed(_)))
        })
    };
    assert!(fails(), "the failure is noticed");
    assert!(matches!(recorder.begin(header("19a-5")), Err(RecordingError::Failed(_))));
    assert!(recorder.tally().failures > 0);
    fs::remove_file(&dir).unwrap();
    let mut works = || {
        (0..1000).any(|_| {
            thread::sleep(Duration::from_millis(10));
            session.record(asked(2, "SELECT 2")).is_ok()
        })
    };
    assert!(works(), "the disk is back");
    drop(session);
    recorder.close();
    let Read { records, .. } = read(&find(&dir, "19a-4").unwrap().path).unwrap();
    assert!(matches!(records[0], Record::Session(_)), "nothing that was taken is lost");
    assert_eq!(recorder.tally().waiting, 0);
}

#[test]
fn what_found_no_room_is_said_to_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("recordings");
    let recorder = recorder(&dir, OnFailure::Mark);
    break_disk(&dir);
    let mut session = recorder.begin(header("19a-6")).unwrap();
    let text = "x".repeat(8 << 20);
    for number in 1..=20 {
        session.record(asked(number, &text)).unwrap();
    }
    let lost = recorder.tally().lost;
    assert!((1..20).contains(&lost), "{lost}");
    assert!(recorder.tally().waiting < 70 << 20);
    fs::remove_file(&dir).unwrap();
    session.end("over".to_owned());
    recorder.close();
    let Read { records, .. } = read(&find(&dir, "19a-6").unwrap().path).unwrap();
    let missing = records.iter().map(|record| match record {
        Record::Gap(gap) => gap.entries,
        _ => 0,
    });
    assert_eq!(missing.sum::<u64>(), lost);
    let requests = records.iter().filter(|record| matches!(record, Record::Request(_))).count();
    assert_eq!(u64::try_from(requests).unwrap() + lost, 20);
}

#[test]
fn recordings_past_their_time_and_beyond_their_room_are_removed_oldest_first() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let day = dir.path().join("2026").join("01").join("31");
    fs::create_dir_all(&day).unwrap();
    let file = |name: &str, age_hours: u64| {
        let path = day.join(format!("{name}.jsonl.zst"));
        fs::write(&path, [0; 100]).unwrap();
        let written = now - Duration::from_secs(age_hours * 3600);
        fs::File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
    };
    for (name, age) in [("old", 50), ("open", 49), ("older", 40), ("newer", 10), ("newest", 1)] {
        file(name, age);
    }
    let limits = retention::Limits { age: Duration::from_hours(48), total_bytes: 250 };
    let open = HashSet::from(["open".into()]);
    let removed = retention::apply(dir.path(), limits, &open, now);
    assert_eq!((removed.old, removed.surplus, removed.bytes), (1, 2, 300));
    let left: Vec<String> =
        walk(dir.path(), 0, u64::MAX).unwrap().into_iter().map(|filed| filed.session).collect();
    assert_eq!(left, ["newest", "open"]);
    let limits = retention::Limits { age: Duration::ZERO, total_bytes: 0 };
    retention::apply(dir.path(), limits, &HashSet::new(), now);
    assert!(!dir.path().join("2026").exists(), "empty directories go as well");
}

#[test]
fn days_outside_of_the_time_asked_for_are_not_looked_into() {
    let dir = tempfile::tempdir().unwrap();
    for day in ["2026/01/30", "2026/01/31", "2026/02/01"] {
        fs::create_dir_all(dir.path().join(day)).unwrap();
        fs::write(dir.path().join(day).join(format!("{}.jsonl.zst", day.replace('/', "-"))), "").unwrap();
    }
    let second = 1_000_000;
    let noon = 1_769_860_800 * second;
    let names = |since, until| {
        let found = walk(dir.path(), since, until).unwrap();
        found.into_iter().map(|filed| filed.session).collect::<Vec<_>>()
    };
    assert_eq!(names(noon, noon), ["2026-01-31"]);
    assert_eq!(names(noon, u64::MAX), ["2026-01-31", "2026-02-01"]);
    assert_eq!(names(0, noon), ["2026-01-30", "2026-01-31"]);
    assert!(walk(&dir.path().join("nowhere"), 0, u64::MAX).unwrap().is_empty());
    assert!(find(dir.path(), "2026-01").is_err(), "the beginning of several");
    assert!(find(dir.path(), "2025").is_err() && find(dir.path(), "").is_err());
}

#[test]
fn the_upkeep_tells_what_it_has_removed() {
    let dir = tempfile::tempdir().unwrap();
    let day = dir.path().join("2020").join("01").join("01");
    fs::create_dir_all(&day).unwrap();
    let path = day.join("old.jsonl.zst");
    fs::write(&path, "x").unwrap();
    let long_ago = SystemTime::now() - Duration::from_hours(2400);
    fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
    let (tell, told) = mpsc::channel();
    let recorder = Recorder::start(Settings {
        dir: dir.path().to_owned(),
        result_bytes: 1,
        session_bytes: 1,
        retention: Duration::from_hours(24),
        total_bytes: 1 << 30,
        on_failure: OnFailure::EndSession,
        on_removed: Box::new(move |removed| tell.send(removed).unwrap()),
    })
    .unwrap();
    assert_eq!(told.recv_timeout(Duration::from_secs(30)).unwrap().old, 1);
    recorder.close();
}
