//! What policy answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use super::{detector::Detector, ids::PolicyId, statement::ColumnName};

/// Whether an agent is told which columns of a result are concealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Notices {
    /// By a NOTICE, once for each statement.
    #[default]
    Sent,
    /// It is not.
    Silent,
}

/// How a masked value is transformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transform {
    /// Nothing of the value is left.
    Redact,
    /// Enough is left to recognise the kind of value: `a***@***.com`.
    Partial,
    /// Keyed hash: equal values stay equal.
    Hash,
    /// NULL.
    Null,
    /// The last four characters are left.
    Last4,
}

impl Transform {
    /// The stronger of two, when two policies mask one column: null > redact > hash > last4 > partial.
    #[must_use]
    pub fn stronger(self, other: Self) -> Self {
        if self.rank() >= other.rank() { self } else { other }
    }

    const fn rank(self) -> u8 {
        match self {
            Self::Partial => 0,
            Self::Last4 => 1,
            Self::Hash => 2,
            Self::Redact => 3,
            Self::Null => 4,
        }
    }
}

/// Which columns' values are transformed on their way to the client, and by which policy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MaskPlan {
    /// By base column.
    pub columns: BTreeMap<ColumnName, Mask>,
    /// What is looked for inside the values of base columns. A mask of the whole value goes before it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scans: BTreeMap<ColumnName, ContentMask>,
    /// Those of the columns that are not shown at all, since policy forbids to read them: nobody has seen their masks.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unreadable: BTreeSet<ColumnName>,
}

impl MaskPlan {
    /// Whether anything at all is masked or looked through.
    pub fn is_of_anything(&self) -> bool {
        !self.columns.is_empty() || !self.scans.is_empty()
    }

    /// Everything that is looked for in any of its columns.
    pub fn content_mask(&self) -> Option<ContentMask> {
        let mut all = ContentMask::default();
        self.scans.values().for_each(|scan| all.extend(scan));
        (!all.transforms.is_empty()).then_some(all)
    }
}

/// What is looked for inside a column's values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContentMask {
    /// What happens to each find.
    pub transforms: BTreeMap<Detector, Transform>,
    /// The policies that ask for it.
    pub policies: Vec<PolicyId>,
}

impl ContentMask {
    /// Adds what another policy, or another column, asks for: of two transforms the stronger.
    pub fn extend(&mut self, other: &Self) {
        for (detector, transform) in &other.transforms {
            let known = self.transforms.entry(*detector).or_insert(*transform);
            *known = known.stronger(*transform);
        }
        for policy in &other.policies {
            if !self.policies.contains(policy) {
                self.policies.push(policy.clone());
            }
        }
    }
}

/// One column's mask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mask {
    /// What happens to the value.
    pub transform: Transform,
    /// The policy that asks for it.
    pub policy: PolicyId,
}

/// How much of what policies permitted is recorded, where they say so. Of several policies the smallest size counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RecordLimits {
    /// Bytes of a request's results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_bytes: Option<u64>,
    /// Bytes of a whole session; it counts where the policy permitted to connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_bytes: Option<u64>,
}

impl RecordLimits {
    /// Adds what another policy says.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let smaller = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
        Self {
            result_bytes: smaller(self.result_bytes, other.result_bytes),
            session_bytes: smaller(self.session_bytes, other.session_bytes),
        }
    }
}

/// How many rows a statement may change, by `@max_rows`; what changes more is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaxRows {
    /// At most so many.
    pub rows: u64,
    /// The policy that says so.
    pub policy: PolicyId,
    /// What it tells the agent, by `@message`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl MaxRows {
    /// The least of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if other.rows < self.rows { other } else { self }
    }

    /// The policies that permitted, and behind them those of `limits` in their order, each once.
    pub fn behind<'l>(permits: &[PolicyId], limits: impl IntoIterator<Item = &'l Self>) -> Vec<PolicyId> {
        let mut all = permits.to_vec();
        for limit in limits {
            if !all.contains(&limit.policy) {
                all.push(limit.policy.clone());
            }
        }
        all
    }
}

impl fmt::Display for MaxRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.rows == 1 { "" } else { "s" };
        write!(f, "at most {} row{s}, by policy \"{}\"", self.rows, self.policy)
    }
}

/// A refusal: what the agent is told, and what the operator reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// One sentence for the agent, without secrets.
    pub reason: String,
    /// The way out, from `@message`, or what to ask for.
    pub hint: Option<String>,
    /// The rules that refused, most specific first; `builtin/default-deny` when nothing permitted.
    pub policies: Vec<PolicyId>,
}

impl Denial {
    /// A refusal by a rule that no policy can lift: `builtin/<rule>`.
    pub fn builtin(reason: impl Into<String>, hint: &str, rule: &str) -> Self {
        Self {
            reason: reason.into(),
            hint: Some(hint.to_owned()),
            policies: vec![PolicyId(format!("builtin/{rule}").into())],
        }
    }
}

/// The answer to an [`Action`](super::action::Action).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// Go on, with these masks.
    Allow {
        /// Columns to mask.
        masks: MaskPlan,
        /// The policies that permitted.
        policies: Vec<PolicyId>,
        /// What they say of recording.
        record: RecordLimits,
        /// How many rows each statement may change, in order; empty where none of them is limited.
        max_rows: Vec<Option<MaxRows>>,
        /// The columns that a policy permits to write by that name, whatever masks show.
        writable: BTreeSet<ColumnName>,
    },
    /// Do not.
    Deny(Denial),
}
