//! What a principal asks to do: the question that policy answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

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

/// A question to the DNS, as policy judges it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup<'a> {
    /// The name: lower case, without a dot at its end; the root is `.`.
    pub name: &'a str,
    /// The type of records, as `dig` writes it.
    pub kind: &'a str,
    /// The server that is asked.
    pub server: IpAddr,
    /// Whether that is one that the node's operator chose.
    pub trust: ServerTrust,
    /// The targets that list the name among their hosts.
    pub targets: &'a [TargetFacts],
}

/// Whether a DNS server can be believed about the addresses of targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerTrust {
    /// The operator chose it, and the agent cannot stand in for it.
    Trusted,
    /// The agent chose it.
    Untrusted,
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
