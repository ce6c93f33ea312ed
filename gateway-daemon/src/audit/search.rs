//! Searching, also while a daemon writes: the index narrows, the log decides. What is newer than the index is
//! read from the log, so a search sees every record that is on disk when it begins.
//!
//! Without an index that can be read, the whole log is.

use std::{collections::VecDeque, io, path::Path};

use rusqlite::{Connection, OpenFlags, ToSql};

use super::{
    error::AuditError,
    index::{Position, ahead, from_sql, read_position, to_sql, word},
    layout::Layout,
    query::{Order, Query},
    record::{Line, Record},
    segment::{Piece, SegmentReader, line_at},
};

/// Whether the index may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// The index, and the log for what is newer.
    #[default]
    Indexed,
    /// The log alone: slower, and owes nothing to a file that the chain does not cover.
    LogOnly,
}

/// The records of the log in `dir` that the query asks for, in its order. A matching record that is not what
/// was written is an error.
pub fn search(dir: &Path, query: &Query) -> Result<Vec<Record>, AuditError> {
    search_in(dir, query, Source::Indexed)
}

/// [`search`], with a choice of where to look.
pub fn search_in(dir: &Path, query: &Query, source: Source) -> Result<Vec<Record>, AuditError> {
    let layout = Layout::new(dir);
    let limit = query.limit.unwrap_or(usize::MAX);
    if source == Source::Indexed {
        match search_indexed(&layout, query, limit) {
            Ok(records) => return Ok(records),
            Err(AuditError::Index(error)) => {
                tracing::debug!(%error, "no index to use: the whole log is read");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(scan(&layout, None, query, limit)?.into_records(query.order))
}

fn search_indexed(layout: &Layout, query: &Query, limit: usize) -> Result<Vec<Record>, AuditError> {
    let database = Connection::open_with_flags(
        layout.index(),
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    database.execute_batch("PRAGMA busy_timeout = 2000; BEGIN")?;
    let position = read_position(&database)?;
    let Some(position) = position else {
        return Ok(scan(layout, None, query, limit)?.into_records(query.order));
    };
    match query.order {
        Order::NewestFirst => {
            let mut records = scan(layout, Some(position), query, limit)?.into_records(query.order);
            let left = limit.saturating_sub(records.len());
            records.extend(from_index(layout, &database, position, query, left)?);
            Ok(records)
        }
        Order::OldestFirst => {
            let mut records = from_index(layout, &database, position, query, limit)?;
            let left = limit.saturating_sub(records.len());
            if left > 0 {
                records.extend(scan(layout, Some(position), query, left)?.into_records(query.order));
            }
            Ok(records)
        }
    }
}

/// Matches found by reading, at most `limit` of the end that the order asks for.
struct Found {
    records: VecDeque<Record>,
}

impl Found {
    fn into_records(self, order: Order) -> Vec<Record> {
        match order {
            Order::NewestFirst => self.records.into_iter().rev().collect(),
            Order::OldestFirst => self.records.into(),
        }
    }
}

/// Reads the log from behind `position` on.
fn scan(
    layout: &Layout,
    position: Option<Position>,
    query: &Query,
    limit: usize,
) -> Result<Found, AuditError> {
    let mut found = Found { records: VecDeque::new() };
    if limit == 0 {
        return Ok(found);
    }
    let mut buffer = Vec::new();
    let segments = ahead(layout, position)?;
    let count = segments.len();
    for (number, (segment, start)) in segments.into_iter().enumerate() {
        let mut reader = match SegmentReader::open(&segment.path, start) {
            Ok(reader) => reader,
            Err(AuditError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        loop {
            let offset = reader.offset;
            let piece = reader.next(&mut buffer).map_err(AuditError::io("read", &segment.path))?;
            let line = match piece {
                Piece::End => break,
                // Space laid out ahead, or filled since it was read: what follows may have a gap before it.
                Piece::Blank if number + 1 == count => break,
                Piece::Blank => continue,
                Piece::Text | Piece::Unended => Line::parse(&buffer).filter(Line::is_intact),
            };
            let Some(line) = line else {
                if number + 1 == count {
                    // The end of the newest segment: being written, or torn by a crash.
                    break;
                }
                return Err(damaged(&segment.path, offset));
            };
            if query.until.is_some_and(|until| line.time >= until) {
                return Ok(found);
            }
            if query.since.is_some_and(|since| line.time < since) {
                continue;
            }
            // An event of a kind that this version does not know cannot match what it can ask for.
            let Ok(record) = line.record() else { continue };
            if !query.matches(&record) {
                continue;
            }
            found.records.push_back(record);
            if found.records.len() >= limit {
                if query.order == Order::OldestFirst {
                    return Ok(found);
                }
                if found.records.len() > limit {
                    found.records.pop_front();
                }
            }
        }
    }
    Ok(found)
}

fn from_index(
    layout: &Layout,
    database: &Connection,
    position: Position,
    query: &Query,
    limit: usize,
) -> Result<Vec<Record>, AuditError> {
    let mut records = Vec::new();
    if limit == 0 {
        return Ok(records);
    }
    let (sql, values) = narrow(database, query)?;
    let mut statement = database.prepare(&sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        let (seq, segment, start) = (from_sql(row.get(0)?), from_sql(row.get(1)?), from_sql(row.get(2)?));
        if seq > position.seq {
            continue;
        }
        let path = layout.segment(segment).path;
        let line = match line_at(&path, start) {
            Ok(line) => line,
            // Retention came between.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(AuditError::io("read", path)(error)),
        };
        let line = Line::parse(&line).filter(|line| line.is_intact() && line.seq == seq);
        let record = line.and_then(|line| line.record().ok()).ok_or_else(|| damaged(&path, start))?;
        if query.matches(&record) {
            records.push(record);
            if records.len() >= limit {
                break;
            }
        }
    }
    Ok(records)
}

/// The statement whose rows are a superset of what the query asks for, and its values.
fn narrow(database: &Connection, query: &Query) -> Result<(String, Vec<Box<dyn ToSql>>), AuditError> {
    let mut sql = "SELECT seq, segment, start FROM events WHERE true".to_owned();
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    let mut also = |condition: &str, value: Box<dyn ToSql>| {
        sql.push_str(" AND ");
        sql.push_str(condition);
        values.push(value);
    };
    // Times never go backwards: a range of times is a range of numbers.
    if let Some(since) = query.since {
        also("seq >= ?", Box::new(first_at(database, since)?));
    }
    if let Some(until) = query.until {
        also("seq < ?", Box::new(first_at(database, until)?));
    }
    if let Some(part) = &query.identity {
        also("identity IN (SELECT id FROM names WHERE instr(name, ?) > 0)", Box::new(part.clone()));
    }
    if let Some(name) = &query.target {
        also("target IN (SELECT id FROM names WHERE name = ?)", Box::new(name.clone()));
    }
    if let Some(session) = &query.session {
        also("session = ?", Box::new(session.clone()));
    }
    if let Some(outcome) = &query.outcome {
        // A literal, so that the partial index of denials is found.
        also(&format!("outcome = '{}' AND ?", word(outcome)?), Box::new(true));
    }
    if let Some(kind) = &query.kind {
        also("kind = ?", Box::new(word(kind)?));
    }
    if let Some(policy) = &query.policy {
        also("instr(policies, ?) > 0", Box::new(policy.clone()));
    }
    if let Some(trigrams) = query.text.as_deref().and_then(trigrams) {
        also(
            "seq IN (SELECT rowid FROM texts WHERE texts MATCH ? UNION ALL SELECT seq FROM long_texts)",
            Box::new(trigrams),
        );
    }
    sql.push_str(match query.order {
        Order::NewestFirst => " ORDER BY seq DESC",
        Order::OldestFirst => " ORDER BY seq",
    });
    Ok((sql, values))
}

/// The number of the first record that is not older than `time`.
fn first_at(database: &Connection, time: u64) -> Result<i64, AuditError> {
    let time = to_sql(time);
    let (mut low, mut high): (i64, i64) = database.query_row(
        "SELECT coalesce(min(seq), 1), coalesce(max(seq), 0) + 1 FROM events",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let mut at_or_after = database.prepare("SELECT time FROM events WHERE seq >= ?1 ORDER BY seq LIMIT 1")?;
    while low < high {
        let middle = low + (high - low) / 2;
        let found: i64 = at_or_after.query_row([middle], |row| row.get(0))?;
        if found < time { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

/// The full-text query for those three-character parts of `text` that the tokenizer folds just as a match
/// does, which are those of printable ASCII; each is quoted, so nothing in it is syntax. `None` when there is
/// none: nothing is narrowed then.
fn trigrams(text: &str) -> Option<String> {
    let mut parts: Vec<String> = text
        .as_bytes()
        .windows(3)
        .filter(|part| part.iter().all(|byte| (b' '..=b'~').contains(byte)))
        .map(|part| format!("\"{}\"", String::from_utf8_lossy(part).to_lowercase().replace('"', "\"\"")))
        .collect();
    parts.sort_unstable();
    parts.dedup();
    parts.truncate(64);
    (!parts.is_empty()).then(|| parts.join(" AND "))
}

fn damaged(path: &Path, offset: u64) -> AuditError {
    AuditError::Damaged {
        what: format!("{} at byte {offset}: not a record as it was written", path.display()),
    }
}
