//! A bounded map from a keyed hash to what was once worked out for the same question.
//!
//! The hash only finds the entry: an entry counts when it *equals* the question, so that no collision, found
//! or engineered, can hand one agent another's answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

const SHARDS: usize = 16;
/// Entries in one generation of one shard; two generations live at a time.
const GENERATION: usize = 256;

/// See the module's description. Entries leave when two generations have passed without a look-up.
#[derive(Debug)]
pub(super) struct Cache<V> {
    shards: [Mutex<Generations<V>>; SHARDS],
}

#[derive(Debug)]
struct Generations<V> {
    young: HashMap<u64, Arc<V>>,
    old: HashMap<u64, Arc<V>>,
}

impl<V> Default for Cache<V> {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| {
                Mutex::new(Generations { young: HashMap::new(), old: HashMap::new() })
            }),
        }
    }
}

impl<V> Cache<V> {
    /// The entry under `hash`, if it is the one that `matches`.
    pub(super) fn find(&self, hash: u64, matches: impl Fn(&V) -> bool) -> Option<Arc<V>> {
        let mut shard = self.shard(hash)?.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = shard.young.get(&hash) {
            let entry = Arc::clone(entry);
            drop(shard);
            return matches(&entry).then_some(entry);
        }
        let entry = shard.old.remove(&hash)?;
        shard.insert(hash, Arc::clone(&entry));
        drop(shard);
        matches(&entry).then_some(entry)
    }

    /// Puts `entry` under `hash`, in the place of whatever was there.
    pub(super) fn insert(&self, hash: u64, entry: Arc<V>) {
        if let Some(shard) = self.shard(hash) {
            shard.lock().unwrap_or_else(PoisonError::into_inner).insert(hash, entry);
        }
    }

    fn shard(&self, hash: u64) -> Option<&Mutex<Generations<V>>> {
        self.shards.get(usize::try_from(hash >> 60).unwrap_or_default() % SHARDS)
    }
}

impl<V> Generations<V> {
    fn insert(&mut self, hash: u64, entry: Arc<V>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, entry);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Cache, GENERATION, SHARDS};

    #[test]
    fn an_entry_under_the_same_hash_that_does_not_match_is_not_found() {
        let cache = Cache::default();
        cache.insert(7, Arc::new("one"));
        assert!(cache.find(7, |entry| *entry == "two").is_none());
        assert!(cache.find(7, |entry| *entry == "one").is_some());
    }

    #[test]
    fn it_stays_bounded_and_keeps_what_is_in_use() {
        let cache = Cache::default();
        cache.insert(0, Arc::new(0_u64));
        for hash in 1..100_000_u64 {
            cache.insert(hash, Arc::new(hash));
            assert!(cache.find(0, |_| true).is_some(), "lost after {hash}");
        }
        let held: usize = cache
            .shards
            .iter()
            .map(|shard| {
                let shard = shard.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                shard.young.len() + shard.old.len()
            })
            .sum();
        assert!(held <= SHARDS * GENERATION * 2);
    }
}
