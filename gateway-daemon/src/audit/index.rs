//! The search index: SQLite beside the log, filled from the log's files by the upkeep thread, and made anew
//! whenever it is missing, broken, of another version or of another log. It holds where each record stands
//! and what narrows a search; the records themselves stay in the log.
//!
//! Text is indexed by its trigrams without their positions: that is the cheapest index that can narrow a
//! search for any part of a text.

use std::{collections::HashMap, fs, io, os::unix::fs::OpenOptionsExt as _};

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde::Serialize;

use super::{
    error::AuditError,
    layout::{FILE_MODE, Layout, SegmentFile},
    record::{Digest, Line, Record},
    segment::{Piece, SegmentReader, line_at},
};
use crate::domain::ids::{PolicyId, SessionId};

/// Changes with the tables, and with what is put into them.
const VERSION: i64 = 1;
const ROWS_PER_TRANSACTION: u32 = 1024;
/// Longer texts are not indexed, but looked at in every search for a text: an agent must not be able to keep the
/// index busy.
const TEXT_BYTES: usize = 64 * 1024;
/// Names kept at hand; beyond that they are looked up.
const NAMES: usize = 10_000;

const TABLES: &str = "
    CREATE TABLE position (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        seq INTEGER NOT NULL, hash TEXT NOT NULL,
        segment INTEGER NOT NULL, start INTEGER NOT NULL, next INTEGER NOT NULL
    );
    CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY, time INTEGER NOT NULL,
        segment INTEGER NOT NULL, start INTEGER NOT NULL,
        kind TEXT NOT NULL, outcome TEXT NOT NULL,
        identity INTEGER, target INTEGER, session TEXT, policies TEXT
    );
    CREATE INDEX events_identity ON events (identity) WHERE identity IS NOT NULL;
    CREATE INDEX events_target ON events (target) WHERE target IS NOT NULL;
    CREATE INDEX events_session ON events (session) WHERE session IS NOT NULL;
    CREATE INDEX events_denied ON events (seq) WHERE outcome = 'denied';
    CREATE VIRTUAL TABLE texts USING fts5 (
        text, content='', contentless_delete=1, tokenize='trigram', detail='none'
    );
    CREATE TABLE long_texts (seq INTEGER PRIMARY KEY);";

/// Where the index stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// The newest record that is indexed.
    pub(super) seq: u64,
    pub(super) hash: Digest,
    /// The first record of its segment.
    pub(super) segment: u64,
    /// Where its line starts, and where the one behind it does.
    pub(super) start: u64,
    pub(super) next: u64,
}

/// The writing side of the index.
pub(super) struct Index {
    layout: Layout,
    database: Connection,
    position: Option<Position>,
    /// Names already in the table.
    names: HashMap<String, i64>,
    /// The newest record that was looked at, also when it could not be indexed.
    indexed: u64,
}

impl Index {
    /// Opens the index, or begins one when there is none that fits the log.
    pub(super) fn open(layout: &Layout) -> Result<Self, AuditError> {
        match Self::open_existing(layout) {
            Ok(Some(index)) => return Ok(index),
            Ok(None) => tracing::info!("the audit index is made from the log"),
            Err(error) => tracing::warn!(%error, "the audit index cannot be used and is made anew"),
        }
        Self::begin(layout)
    }

    fn open_existing(layout: &Layout) -> Result<Option<Self>, AuditError> {
        if !layout.index().exists() {
            return Ok(None);
        }
        let database = Connection::open(layout.index())?;
        configure(&database)?;
        let version: i64 = database.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version != VERSION {
            return Ok(None);
        }
        let position = read_position(&database)?;
        if let Some(position) = position
            && !fits(layout, position)?
        {
            return Ok(None);
        }
        Ok(Some(Self::new(layout, database, position)))
    }

    /// Removes what is there and begins an empty index.
    pub(super) fn begin(layout: &Layout) -> Result<Self, AuditError> {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let mut path = layout.index().into_os_string();
            path.push(suffix);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(AuditError::io("remove", path)(error));
                }
                _ => {}
            }
        }
        let path = layout.index();
        // SQLite gives its side files the mode of this one.
        fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(AuditError::io("create", &path))?;
        let database = Connection::open(&path)?;
        configure(&database)?;
        database.execute_batch(&format!("BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;"))?;
        Ok(Self::new(layout, database, None))
    }

    fn new(layout: &Layout, database: Connection, position: Option<Position>) -> Self {
        let indexed = position.map_or(0, |position| position.seq);
        Self { layout: layout.clone(), database, position, names: HashMap::new(), indexed }
    }

    /// The newest record that is indexed.
    pub(super) fn indexed(&self) -> u64 {
        self.indexed
    }

    /// Indexes records up to `durable`, until `is_enough` says so, which is asked between transactions.
    pub(super) fn catch_up(&mut self, durable: u64, is_enough: impl Fn() -> bool) -> Result<(), AuditError> {
        if self.indexed >= durable {
            return Ok(());
        }
        for (segment, start) in ahead(&self.layout, self.position)? {
            // A fresh reader each time: what one has buffered may since have become records.
            let mut reader = SegmentReader::open(&segment.path, start)?;
            while self.index_some(&segment, &mut reader, durable)? {
                if is_enough() {
                    return Ok(());
                }
            }
        }
        self.indexed = durable;
        Ok(())
    }

    /// One transaction; answers whether the segment may have more.
    fn index_some(
        &mut self,
        segment: &SegmentFile,
        reader: &mut SegmentReader,
        durable: u64,
    ) -> Result<bool, AuditError> {
        let mut line = Vec::new();
        let mut position = self.position;
        let mut is_more = true;
        let transaction = self.database.transaction()?;
        for _ in 0..ROWS_PER_TRANSACTION {
            let start = reader.offset;
            let piece = reader.next(&mut line).map_err(AuditError::io("read", &segment.path))?;
            // Behind an empty line there is only space laid out ahead.
            if matches!(piece, Piece::End | Piece::Blank) {
                is_more = false;
                break;
            }
            let Some(line) = Line::parse(&line).filter(|line| piece == Piece::Text && line.is_intact())
            else {
                tracing::warn!(segment = %segment.path.display(), start, "not a record: not indexed");
                continue;
            };
            if line.seq > durable {
                is_more = false;
                break;
            }
            if position.is_some_and(|position| line.seq <= position.seq) {
                continue;
            }
            match line.record() {
                Ok(record) => insert(&transaction, &mut self.names, &record, segment.first_seq, start)?,
                Err(error) => {
                    tracing::warn!(seq = line.seq, %error, "an event of an unknown kind: not indexed");
                }
            }
            position = Some(Position {
                seq: line.seq,
                hash: line.hash,
                segment: segment.first_seq,
                start,
                next: reader.offset,
            });
        }
        if let Some(position) = position.filter(|position| self.position != Some(*position)) {
            write_position(&transaction, position)?;
        }
        transaction.commit()?;
        self.position = position;
        self.indexed = position.map_or(0, |position| position.seq);
        Ok(is_more)
    }

    /// Drops the records up to `up_to`.
    pub(super) fn forget(&mut self, up_to: u64) -> Result<(), AuditError> {
        let transaction = self.database.transaction()?;
        for forget in [
            "DELETE FROM texts WHERE rowid <= ?1",
            "DELETE FROM long_texts WHERE seq <= ?1",
            "DELETE FROM events WHERE seq <= ?1",
        ] {
            transaction.execute(forget, [to_sql(up_to)])?;
        }
        Ok(transaction.commit()?)
    }
}

/// The segments from `position` on, each with where to begin.
pub(super) fn ahead(
    layout: &Layout,
    position: Option<Position>,
) -> Result<Vec<(SegmentFile, u64)>, AuditError> {
    let segments = layout.segments()?.into_iter();
    let Some(position) = position else { return Ok(segments.map(|segment| (segment, 0)).collect()) };
    Ok(segments
        .filter(|segment| segment.first_seq >= position.segment)
        .map(|segment| {
            let start = if segment.first_seq == position.segment { position.next } else { 0 };
            (segment, start)
        })
        .collect())
}

/// Whether the newest indexed record stands in the log where the index says.
fn fits(layout: &Layout, position: Position) -> Result<bool, AuditError> {
    let path = layout.segment(position.segment).path;
    let line = match line_at(&path, position.start) {
        Ok(line) => line,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(AuditError::io("read", path)(error)),
    };
    Ok(Line::parse(&line).is_some_and(|line| line.seq == position.seq && line.hash == position.hash))
}

fn configure(database: &Connection) -> Result<(), AuditError> {
    // A crash may cost the index its newest transactions, which the log still has.
    database.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 4000;
         PRAGMA cache_size = -16000; PRAGMA busy_timeout = 5000;",
    )?;
    Ok(())
}

pub(super) fn read_position(database: &Connection) -> Result<Option<Position>, AuditError> {
    let row = database
        .query_row("SELECT seq, hash, segment, start, next FROM position", [], |row| {
            let hash: String = row.get(1)?;
            Ok((
                from_sql(row.get(0)?),
                hash,
                from_sql(row.get(2)?),
                from_sql(row.get(3)?),
                from_sql(row.get(4)?),
            ))
        })
        .optional()?;
    Ok(row.and_then(|(seq, hash, segment, start, next)| {
        Some(Position { seq, hash: Digest::from_hex(hash.as_bytes())?, segment, start, next })
    }))
}

fn write_position(transaction: &Transaction<'_>, position: Position) -> Result<(), AuditError> {
    transaction.execute(
        "INSERT OR REPLACE INTO position (id, seq, hash, segment, start, next) VALUES (1, ?1, ?2, ?3, ?4, ?5)",
        params![
            to_sql(position.seq),
            position.hash.to_string(),
            to_sql(position.segment),
            to_sql(position.start),
            to_sql(position.next)
        ],
    )?;
    Ok(())
}

fn insert(
    transaction: &Transaction<'_>,
    names: &mut HashMap<String, i64>,
    record: &Record,
    segment: u64,
    start: u64,
) -> Result<(), AuditError> {
    let event = &record.event;
    let identity = event.identity.as_deref().map(|name| name_id(transaction, names, name)).transpose()?;
    let target = event.target.as_ref().map(|name| name_id(transaction, names, name.as_str())).transpose()?;
    let policies = event.policies.iter().map(PolicyId::as_str).collect::<Vec<_>>().join("\n");
    transaction
        .prepare_cached(
            "INSERT INTO events (seq, time, segment, start, kind, outcome, identity, target, session, policies)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            to_sql(record.seq),
            to_sql(record.time),
            to_sql(segment),
            to_sql(start),
            word(&event.kind)?,
            word(&event.outcome)?,
            identity,
            target,
            event.session.as_ref().map(SessionId::as_str),
            (!policies.is_empty()).then_some(policies),
        ])?;
    if event.text.len().saturating_add(event.reason.len()) > TEXT_BYTES {
        transaction
            .prepare_cached("INSERT INTO long_texts (seq) VALUES (?1)")?
            .execute([to_sql(record.seq)])?;
    } else if !(event.text.is_empty() && event.reason.is_empty()) {
        // The tokenizer stops at NUL.
        let text = format!("{}\n{}", event.text, event.reason).replace('\0', "\u{1}");
        transaction
            .prepare_cached("INSERT INTO texts (rowid, text) VALUES (?1, ?2)")?
            .execute(params![to_sql(record.seq), text])?;
    }
    Ok(())
}

fn name_id(
    transaction: &Transaction<'_>,
    names: &mut HashMap<String, i64>,
    name: &str,
) -> Result<i64, AuditError> {
    if let Some(id) = names.get(name) {
        return Ok(*id);
    }
    transaction.prepare_cached("INSERT OR IGNORE INTO names (name) VALUES (?1)")?.execute([name])?;
    let id = transaction
        .prepare_cached("SELECT id FROM names WHERE name = ?1")?
        .query_row([name], |row| row.get(0))?;
    if names.len() >= NAMES {
        names.clear();
    }
    names.insert(name.to_owned(), id);
    Ok(id)
}

/// An enum's name as the log writes it.
pub(super) fn word(value: &impl Serialize) -> Result<String, AuditError> {
    let json = serde_json::to_string(value).map_err(AuditError::Serialise)?;
    Ok(json.trim_matches('"').to_owned())
}

/// SQLite's integers are signed; no number here comes near the difference.
pub(super) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
