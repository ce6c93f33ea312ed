//! What a principal asks to do: the question that policy answers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{ids::TargetName, statement::Statement};

/// One question to policy. One request may pose several; one that is denied denies the request.
#[derive(Debug, Clone, Copy)]
pub enum Action<'a> {
    /// Open a session with the target.
    Connect,
    /// Run these statements, which came in one message.
    Sql(&'a [Statement]),
}

/// What policies know of a target.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TargetFacts {
    /// Its name; empty only in `Default`.
    pub name: String,
    /// Column tags: `schema.table.column` → tags.
    pub tags: BTreeMap<String, BTreeSet<String>>,
}

impl TargetFacts {
    /// The target's name as an id.
    pub fn id(&self) -> TargetName {
        TargetName::from(self.name.as_str())
    }
}
