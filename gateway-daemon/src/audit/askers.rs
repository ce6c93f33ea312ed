//! How many ask for commits, and so for how many of them a commit is worth waiting.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::entry::{Awaited, Entry};

/// Who has asked for a commit within this time counts as asking.
const ASKING: Duration = Duration::from_millis(4);
/// More askers than this change nothing.
const MOST_ASKERS: usize = 128;

/// Who asks for commits.
#[derive(Default)]
pub(super) struct Askers(HashMap<u64, Instant>);

impl Askers {
    /// Notes who waits for these entries, and answers how many waiting ones are enough for the next commit.
    pub(super) fn note(&mut self, entries: &[Entry], now: Instant) -> usize {
        self.0.retain(|_, last| now.duration_since(*last) < ASKING);
        for entry in entries {
            if let Awaited::Receipt(who) = entry.awaited
                && (self.0.len() < MOST_ASKERS || self.0.contains_key(&who))
            {
                self.0.insert(who, now);
            }
        }
        (self.0.len() / 4).max(1)
    }
}
