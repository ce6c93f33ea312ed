//! Whatever is done to a log, `verify` finds it and says where.

use std::{collections::BTreeMap, fs, path::Path, path::PathBuf, sync::OnceLock};

use proptest::{prelude::*, sample::Index};

use super::{lines, write_log};
use crate::audit::{Finding, Kept, VerifyError, verify, verify_against};

/// A closed log that the tests copy: writing one takes a while.
fn original() -> &'static Path {
    static ORIGINAL: OnceLock<tempfile::TempDir> = OnceLock::new();
    ORIGINAL
        .get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(write_log(dir.path(), 40));
            dir
        })
        .path()
}

fn copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("log")).unwrap();
    fs::copy(original().join("head.json"), dir.path().join("head.json")).unwrap();
    for entry in fs::read_dir(original().join("log")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join("log").join(entry.file_name())).unwrap();
    }
    dir
}

/// Writes the files anew from lines.
fn rewrite(dir: &Path, lines: &[(PathBuf, String)]) {
    let mut files: BTreeMap<PathBuf, String> =
        fs::read_dir(dir.join("log")).unwrap().map(|entry| (entry.unwrap().path(), String::new())).collect();
    for (file, line) in lines {
        let text = files.get_mut(file).unwrap();
        text.push_str(line);
        text.push('\n');
    }
    for (file, text) in files {
        fs::write(file, text).unwrap();
    }
}

fn findings(dir: &Path) -> Vec<Finding> {
    match verify(dir) {
        Err(VerifyError::Broken { findings, count, .. }) => {
            assert_eq!(findings.len() as u64, count);
            findings
        }
        other => panic!("{other:?}"),
    }
}

fn is_told(findings: &[Finding], part: &str) -> bool {
    findings.iter().any(|finding| finding.to_string().contains(part))
}

#[test]
fn an_untouched_log_is_intact() {
    let verified = verify(copy().path()).unwrap();
    assert_eq!((verified.records, verified.first_seq, verified.last_seq), (40, 1, 40));
    assert!(verified.segments > 2);
}

#[test]
fn one_tampered_record_makes_one_finding_that_names_it() {
    let dir = copy();
    let mut lines = lines(dir.path());
    lines[10].1 = lines[10].1.replace("SELECT 11", "SELECT 12");
    rewrite(dir.path(), &lines);
    let found = findings(dir.path());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].seq, Some(11));
    assert_eq!(found[0].file, lines[10].0);
    assert!(found[0].what.contains("changed"));
}

#[test]
fn a_record_replaced_with_its_hash_made_anew_breaks_the_chain() {
    let dir = copy();
    let mut lines = lines(dir.path());
    let (body, _) = lines[10].1.rsplit_once(",\"hash\":\"").unwrap();
    let body = body.replace("SELECT 11", "SELECT 12");
    lines[10].1 = format!("{body},\"hash\":\"{}\"}}", crate::audit::Digest::of(body.as_bytes()));
    rewrite(dir.path(), &lines);
    let found = findings(dir.path());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].seq, Some(12));
    assert!(found[0].what.contains("prev"));
}

#[test]
fn removed_moved_and_inserted_records_are_told_apart() {
    let dir = copy();
    let untouched = lines(dir.path());

    let mut removed = untouched.clone();
    removed.drain(10..13);
    rewrite(dir.path(), &removed);
    let found = findings(dir.path());
    assert!(is_told(&found, "records 11 to 13 were removed"), "{found:?}");

    let mut moved = untouched.clone();
    let line = moved[10].1.clone();
    moved[10].1 = moved[11].1.clone();
    moved[11].1 = line;
    rewrite(dir.path(), &moved);
    let found = findings(dir.path());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(is_told(&found, "record 11: out of order"), "{found:?}");

    let mut inserted = untouched.clone();
    inserted.insert(20, untouched[3].clone());
    inserted[20].0 = untouched[20].0.clone();
    rewrite(dir.path(), &inserted);
    let found = findings(dir.path());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(is_told(&found, "record 4: inserted"), "{found:?}");

    rewrite(dir.path(), &untouched[..37]);
    let found = findings(dir.path());
    assert!(is_told(&found, "records 38 to 40 were removed or broken at the end"), "{found:?}");

    let mut garbled = untouched.clone();
    garbled[5].1 = "what is this?".to_owned();
    rewrite(dir.path(), &garbled);
    let found = findings(dir.path());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(is_told(&found, "not a record; record 6 was due"), "{found:?}");

    rewrite(dir.path(), &untouched);
    verify(dir.path()).unwrap();
}

#[test]
fn a_removed_segment_and_a_strange_file_are_found() {
    let dir = copy();
    let lines = lines(dir.path());
    fs::remove_file(&lines[20].0).unwrap();
    assert!(is_told(&findings(dir.path()), "were removed before this line"));

    let dir = copy();
    fs::write(dir.path().join("log/extra.jsonl"), "{}").unwrap();
    assert!(is_told(&findings(dir.path()), "not a segment"));
}

#[test]
fn a_chain_made_anew_as_a_whole_is_found_by_a_kept_hash() {
    let kept = verify(original()).unwrap();
    let kept: Kept = format!("{}:{}", kept.last_seq, kept.head).parse().unwrap();
    verify_against(original(), Some(kept)).unwrap();

    let other = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(write_log(other.path(), 41));
    verify(other.path()).unwrap();
    verify_against(other.path(), Some(kept)).unwrap_err();
    let shorter = tempfile::tempdir().unwrap();
    runtime.block_on(write_log(shorter.path(), 5));
    verify_against(shorter.path(), Some(kept)).unwrap_err();
}

#[derive(Debug, Clone)]
enum Tampering {
    Flip(Index, Index, u8),
    Delete(Index),
    Swap(Index, Index),
    Insert(Index, Index),
    CutMiddle(Index, Index),
    DropTail(Index),
    BlankLine(Index),
}

fn tampering() -> impl Strategy<Value = Tampering> {
    use Tampering::{BlankLine, CutMiddle, Delete, DropTail, Flip, Insert, Swap};
    let index = any::<Index>;
    prop_oneof![
        4 => (index(), index(), 1u8..).prop_map(|(line, at, flip)| Flip(line, at, flip)),
        2 => index().prop_map(Delete),
        2 => (index(), index()).prop_map(|(one, other)| Swap(one, other)),
        2 => (index(), index()).prop_map(|(from, to)| Insert(from, to)),
        1 => (index(), index()).prop_map(|(line, at)| CutMiddle(line, at)),
        1 => index().prop_map(DropTail),
        1 => index().prop_map(BlankLine),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_tampering_goes_unseen(tampering in tampering()) {
        let dir = copy();
        let untouched = lines(dir.path());
        let mut lines = untouched.clone();
        let count = lines.len();
        match tampering {
            Tampering::Flip(line, at, flip) => {
                let (file, text) = &lines[line.index(count)];
                let mut bytes = fs::read(file).unwrap();
                let start = String::from_utf8_lossy(&bytes).find(text.as_str()).unwrap();
                // Its line feed too.
                bytes[start + at.index(text.len() + 1)] ^= flip;
                fs::write(file, bytes).unwrap();
            }
            Tampering::Delete(line) => {
                lines.remove(line.index(count));
                rewrite(dir.path(), &lines);
            }
            Tampering::Swap(one, other) => {
                let (one, other) = (one.index(count), other.index(count));
                let text = std::mem::take(&mut lines[one].1);
                lines[one].1 = std::mem::replace(&mut lines[other].1, text);
                prop_assume!(one != other);
                rewrite(dir.path(), &lines);
            }
            Tampering::Insert(from, to) => {
                let text = lines[from.index(count)].1.clone();
                let to = to.index(count);
                let file = lines[to].0.clone();
                lines.insert(to, (file, text));
                rewrite(dir.path(), &lines);
            }
            Tampering::CutMiddle(line, at) => {
                let (file, text) = &lines[line.index(count)];
                let whole = fs::read_to_string(file).unwrap();
                let start = whole.find(text.as_str()).unwrap();
                let kept = start + at.index(text.len());
                let rest = whole[start + text.len()..].to_owned();
                fs::write(file, format!("{}{rest}", &whole[..kept])).unwrap();
            }
            Tampering::DropTail(from) => rewrite(dir.path(), &lines[..from.index(count)]),
            Tampering::BlankLine(at) => {
                let at = at.index(count);
                lines[at].1.insert(0, '\n');
                rewrite(dir.path(), &lines);
            }
        }
        let is_found = matches!(verify(dir.path()), Err(VerifyError::Broken { .. }));
        prop_assert!(is_found);
    }
}
