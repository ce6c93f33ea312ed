//! Where recordings lie: by the day on which the session began.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use time::OffsetDateTime;

use super::error::ReadError;
use crate::domain::ids::SessionId;

/// How a recording's file ends.
const EXTENSION: &str = ".jsonl.zst";
/// Of ids that begin alike, so many are named.
const NAMED: usize = 5;

/// A recording's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filed {
    /// The session's id.
    pub session: String,
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// When it was written last.
    pub written: SystemTime,
}

/// The file of a session that began at `at`, in microseconds since 1970.
pub(super) fn path(dir: &Path, session: &SessionId, at: u64) -> PathBuf {
    day(dir, at).join(format!("{session}{EXTENSION}"))
}

/// The directory of the day of `at`.
fn day(dir: &Path, at: u64) -> PathBuf {
    let seconds = i64::try_from(at / 1_000_000).unwrap_or_default();
    let date = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH).date();
    let month = u8::from(date.month());
    dir.join(format!("{:04}", date.year())).join(format!("{month:02}")).join(format!("{:02}", date.day()))
}

/// Every recording below `dir` of a day from that of `since` to that of `until`, in microseconds since 1970; the oldest
/// day first. No recordings at all is no error.
pub fn walk(dir: &Path, since: u64, until: u64) -> Result<Vec<Filed>, ReadError> {
    let (first, last) = (day(dir, since), day(dir, until.min(253_402_300_799_000_000)));
    let mut found = Vec::new();
    for year in entries(dir)?.into_iter().filter(|path| is_number(path)) {
        for month in entries(&year)?.into_iter().filter(|path| is_number(path)) {
            for day in entries(&month)?.into_iter().filter(|path| is_number(path)) {
                if day < first || day > last {
                    continue;
                }
                found.extend(entries(&day)?.into_iter().filter_map(filed));
            }
        }
    }
    Ok(found)
}

/// The recording whose session has this id, or an id that begins so, where only one has.
pub fn find(dir: &Path, id: &str) -> Result<Filed, ReadError> {
    let all = walk(dir, 0, u64::MAX)?;
    let mut found: Vec<Filed> = all.into_iter().filter(|filed| filed.session.starts_with(id)).collect();
    if let Some(exact) = found.iter().position(|filed| filed.session == id) {
        return Ok(found.swap_remove(exact));
    }
    match (found.pop(), found.is_empty()) {
        (Some(only), true) if !id.is_empty() => Ok(only),
        (Some(last), _) => {
            found.push(last);
            let found = found.into_iter().take(NAMED).map(|filed| filed.session).collect();
            Err(ReadError::Ambiguous { id: id.to_owned(), found })
        }
        (None, _) => Err(ReadError::Unknown { id: id.to_owned(), dir: dir.to_owned() }),
    }
}

/// What is in a directory, in order; nothing in one that is not there, or is gone meanwhile.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let listed = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(ReadError::io(dir))?,
    };
    let mut paths = Vec::new();
    for entry in listed {
        paths.push(entry.map_err(ReadError::io(dir))?.path());
    }
    paths.sort();
    Ok(paths)
}

fn is_number(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    !name.is_empty() && name.iter().all(u8::is_ascii_digit)
}

fn filed(path: PathBuf) -> Option<Filed> {
    let session = path.file_name()?.to_str()?.strip_suffix(EXTENSION)?.to_owned();
    // Gone meanwhile: retention removes what is old.
    let metadata = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?;
    Some(Filed { session, bytes: metadata.len(), written: metadata.modified().ok()?, path })
}
