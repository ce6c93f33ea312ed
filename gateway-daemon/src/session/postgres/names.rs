//! What the session knows of its prepared statements and portals, and how sure it is.
//!
//! A name is learnt when its Parse, Bind or PREPARE is forwarded, but the server may yet refuse it, or skip it after
//! an earlier error. Until the server has confirmed, a later batch must not rely on the name: it could mean
//! what it meant before, and be judged as something else. Within one batch it may: an error makes the server
//! skip everything up to the batch's end.

use std::collections::HashMap;

/// Which run of messages up to a Sync (or which simple query) something belongs to.
pub type Batch = u64;

/// One learning of a name.
pub type Learnt = u64;

/// Names of one kind and what they stand for.
#[derive(Debug)]
pub struct Names<T> {
    entries: HashMap<Vec<u8>, Entry<T>>,
    learnt: Learnt,
    /// Candidates in all entries, so that settling costs nothing where there is none.
    unsettled: usize,
}

#[derive(Debug)]
struct Entry<T> {
    /// What the server has accepted last.
    confirmed: Option<T>,
    /// What has been forwarded since, oldest first.
    candidates: Vec<(Learnt, Batch, T)>,
}

/// What a name stands for, for a message of one batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup<'a, T> {
    /// This.
    Known(&'a T),
    /// Nothing that the session saw.
    Unknown,
    /// Not settled: the server's answers to an earlier batch must come first.
    Unsettled,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), learnt: 0, unsettled: 0 }
    }
}

impl<T> Names<T> {
    /// How many names are known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// What `name` stands for, for a message of `batch`.
    pub fn lookup(&self, name: &[u8], batch: Batch) -> Lookup<'_, T> {
        let Some(entry) = self.entries.get(name) else { return Lookup::Unknown };
        match (entry.candidates.last(), &entry.confirmed) {
            (Some((_, made, value)), _) if *made == batch => Lookup::Known(value),
            (Some(_), _) => Lookup::Unsettled,
            (None, Some(value)) => Lookup::Known(value),
            (None, None) => Lookup::Unknown,
        }
    }

    /// Learns that a message of `batch`, just forwarded, gives `name` a meaning if the server accepts it.
    pub fn learn(&mut self, name: &[u8], value: T, batch: Batch) -> Learnt {
        self.learnt += 1;
        self.unsettled += 1;
        self.entries
            .entry(name.to_vec())
            .or_insert(Entry { confirmed: None, candidates: Vec::new() })
            .candidates
            .push((self.learnt, batch, value));
        self.learnt
    }

    /// The server has accepted the message that gave `name` its meaning.
    pub fn confirm(&mut self, name: &[u8], learnt: Learnt) {
        if let Some(entry) = self.entries.get_mut(name)
            && let Some(at) = entry.candidates.iter().position(|(made, _, _)| *made == learnt)
        {
            self.unsettled = self.unsettled.saturating_sub(at + 1);
            entry.confirmed = entry.candidates.drain(..=at).next_back().map(|(_, _, value)| value);
        }
    }

    /// `batch` has ended at the server: what of it was not confirmed did not happen.
    pub fn settle(&mut self, batch: Batch) {
        if self.unsettled == 0 {
            return;
        }
        let mut left = 0;
        self.entries.retain(|_, entry| {
            entry.candidates.retain(|(_, made, _)| *made != batch);
            left += entry.candidates.len();
            entry.confirmed.is_some() || !entry.candidates.is_empty()
        });
        self.unsettled = left;
    }

    /// The server has closed `name`.
    pub fn forget(&mut self, name: &[u8]) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.confirmed = None;
            if entry.candidates.is_empty() {
                self.entries.remove(name);
            }
        }
    }

    /// Nothing of this kind is left at the server.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.unsettled = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_serves_its_own_batch_at_once_and_later_ones_after_confirmation() {
        let mut names = Names::default();
        let learnt = names.learn(b"s", 1, 7);
        assert_eq!(names.lookup(b"s", 7), Lookup::Known(&1));
        assert_eq!(names.lookup(b"s", 8), Lookup::Unsettled);
        names.confirm(b"s", learnt);
        assert_eq!(names.lookup(b"s", 8), Lookup::Known(&1));
    }

    #[test]
    fn a_refused_redefinition_leaves_the_old_meaning() {
        let mut names = Names::default();
        let learnt = names.learn(b"s", "masked", 1);
        names.confirm(b"s", learnt);
        names.settle(1);
        names.learn(b"s", "harmless", 2);
        names.settle(2);
        assert_eq!(names.lookup(b"s", 3), Lookup::Known(&"masked"));
    }

    #[test]
    fn only_what_the_server_accepted_of_a_batch_counts_after_it() {
        let mut names = Names::default();
        let first = names.learn(b"s", 1, 1);
        names.learn(b"s", 2, 1);
        names.confirm(b"s", first);
        names.settle(1);
        assert_eq!(names.lookup(b"s", 2), Lookup::Known(&1));
    }
}
