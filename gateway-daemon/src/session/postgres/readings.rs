//! What was read of statements, remembered by text and catalogue. Texts that differ only in numbers that do not matter
//! to the reading share an entry: most statements differ from the one before in nothing else.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use moka::sync::Cache;

use crate::{
    domain::{catalogue::Catalogue, decision::Denial, ids::PolicyId, statement::Statement},
    sql::postgres::{self, Shape, SqlError},
};

/// Statements whose text is longer are read anew each time: they are rare and would fill the cache.
const CACHED_TEXT_BYTES: usize = 4 * 1024;
/// How many texts are remembered as read.
const CACHED_TEXTS: u64 = 20_000;

/// A message's statements, read against one catalogue; or why they cannot be.
pub type Reading = Result<Arc<[Statement]>, Arc<Denial>>;

/// A catalogue's epoch and the key of a shape.
type Key = (u64, Arc<str>);

/// See the module's description.
#[derive(Debug)]
pub struct Readings {
    /// By shape: the numbers of the literals that mattered to any reading of it so far.
    matters: Cache<Key, Arc<[u16]>>,
    /// By the text with a placeholder for each literal that does not matter. An entry made when fewer literals were
    /// known to matter has more placeholders; it is still true of every text that it fits, only no longer found.
    texts: Cache<Key, Reading>,
    seen: Seen,
}

impl Readings {
    /// Nothing is remembered yet.
    pub fn new() -> Self {
        Self { matters: Cache::new(CACHED_TEXTS), texts: Cache::new(CACHED_TEXTS), seen: Seen::new() }
    }

    /// Reads `text` against `catalogue`.
    pub fn read(&self, text: &str, catalogue: &Catalogue) -> Reading {
        if text.len() > CACHED_TEXT_BYTES {
            return read_now(text, catalogue)
                .map(|text| text.statements.into())
                .map_err(|error| denied(&error));
        }
        let shape = Shape::of(text);
        let pattern: Arc<str> = shape.key(&[]).into();
        if !self.seen.before(catalogue.epoch, &pattern) {
            return read_now(text, catalogue)
                .map(|text| text.statements.into())
                .map_err(|error| denied(&error));
        }
        let pattern: Key = (catalogue.epoch, pattern);
        let known = if shape.literals() == 0 { Some(Arc::from([])) } else { self.matters.get(&pattern) };
        if let Some(matters) = &known {
            let key =
                if matters.is_empty() { pattern.clone() } else { (pattern.0, shape.key(matters).into()) };
            if let Some(reading) = self.texts.get(&key) {
                return reading;
            }
        }
        self.learn(text, catalogue, &shape, pattern, known.as_deref())
    }

    /// Reads a text whose shape has come before, and remembers it.
    fn learn(
        &self,
        text: &str,
        catalogue: &Catalogue,
        shape: &Shape<'_>,
        pattern: Key,
        known: Option<&[u16]>,
    ) -> Reading {
        let text = match read_now(text, catalogue) {
            Ok(text) => text,
            Err(error) => {
                let reading = Err(denied(&error));
                // Any literal may be why; without one it is the text.
                if shape.literals() == 0 {
                    self.texts.insert(pattern, reading.clone());
                }
                return reading;
            }
        };
        let mut matters = shape.others(&text.free);
        matters.extend(known.unwrap_or_default());
        matters.sort_unstable();
        matters.dedup();
        let reading: Reading = Ok(text.statements.into());
        self.texts.insert((pattern.0, shape.key(&matters).into()), reading.clone());
        if known != Some(matters.as_slice()) {
            self.matters.insert(pattern, matters.into());
        }
        reading
    }
}

fn read_now(text: &str, catalogue: &Catalogue) -> Result<postgres::Text, SqlError> {
    postgres::read_text(text, catalogue)
}

/// The refusal of a text that was not read.
pub(super) fn denied(error: &SqlError) -> Arc<Denial> {
    Arc::new(Denial {
        reason: error.to_string(),
        hint: Some(error.hint().to_owned()),
        policies: vec![PolicyId::from(error.rule())],
    })
}

/// Hashes of shapes seen lately. Many texts come once: keeping those would cost more than it saves.
#[derive(Debug)]
struct Seen {
    hasher: RandomState,
    slots: Box<[AtomicU64]>,
}

impl Seen {
    fn new() -> Self {
        Self { hasher: RandomState::new(), slots: (0..8192).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Whether `pattern` was seen lately; it is from now on. A collision costs a parse, or a place in the cache.
    fn before(&self, epoch: u64, pattern: &str) -> bool {
        let hash = self.hasher.hash_one((epoch, pattern));
        let slot = usize::try_from(hash).unwrap_or_default() % self.slots.len();
        self.slots.get(slot).is_some_and(|slot| slot.swap(hash, Ordering::Relaxed) == hash)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::sql::postgres::offline_catalogue;

    /// What a text that went through the cache and one that did not are read as.
    fn both(readings: &Readings, text: &str) -> (Reading, Reading) {
        let catalogue = offline_catalogue();
        let fresh = Readings::new().read(text, &catalogue);
        (readings.read(text, &catalogue), fresh)
    }

    fn assert_same(readings: &Readings, texts: &[&str]) {
        for text in texts {
            let (cached, fresh) = both(readings, text);
            assert_eq!(
                cached.map_err(|denial| denial.reason.clone()),
                fresh.map_err(|denial| denial.reason.clone()),
                "{text}"
            );
        }
    }

    #[test]
    fn texts_that_differ_in_a_compared_number_are_read_once() {
        let readings = Readings::new();
        let catalogue = offline_catalogue();
        let read = |text: &str| readings.read(text, &catalogue).unwrap();
        read("SELECT oid FROM pg_class WHERE oid = 1");
        let first = read("SELECT oid FROM pg_class WHERE oid = 2");
        assert!(Arc::ptr_eq(&first, &read("SELECT oid FROM pg_class WHERE oid = 333")));
        assert!(
            Arc::ptr_eq(&first, &read("SELECT oid FROM pg_class WHERE oid = -4")).eq(&false),
            "another shape"
        );
        assert!(!Arc::ptr_eq(&first, &read("SELECT oid FROM pg_class WHERE oid = 12345678901")));
    }

    #[test]
    fn a_number_that_decides_what_is_compared_is_never_left_out() {
        let readings = Readings::new();
        let texts = [1, 2, 3, 1, 2, 3].map(|column| {
            format!("SELECT relname, oid, relkind FROM pg_class WHERE oid > 5 ORDER BY {column}")
        });
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        assert_same(&readings, &texts);
        assert_same(
            &readings,
            &[
                "SELECT relname, oid FROM pg_class GROUP BY 1, 2",
                "SELECT relname, oid FROM pg_class GROUP BY 2, 1",
                "SELECT relname, oid FROM pg_class GROUP BY 2, 2",
                "SELECT relname, oid FROM pg_class GROUP BY 1, 2",
                "SELECT DISTINCT ON (1) relname, oid FROM pg_class",
                "SELECT DISTINCT ON (2) relname, oid FROM pg_class",
                "SELECT DISTINCT ON (2) relname, oid FROM pg_class",
                "SELECT set_config(1, 2, true)",
                "SELECT set_config(3, 4, true)",
                "SET x.y = 5",
                "SET x.y = 6",
                "SET x.y = 5",
            ],
        );
    }

    #[test]
    fn a_refusal_is_remembered_for_its_own_text_only() {
        let readings = Readings::new();
        let texts = ["SELECT 1 FROM (5)", "SELECT 2 FROM (5)", "SELECT 1 FROM (5)", "SELECT 1 FROM (6)"];
        assert_same(&readings, &texts);
        assert_same(&readings, &texts);
    }
}
