//! A decision taken apart: every question that was asked, and the rules that had a say in it.

use serde::Serialize;

use super::{error::Place, rules::Rule};
use crate::domain::{
    decision::{Decision, Transform},
    ids::PolicyId,
    statement::ColumnUse,
};

/// A decision and how it came about.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The decision, the same that `decide` gives.
    pub decision: Decision,
    /// The questions, in the order in which they were asked.
    pub answers: Vec<Answer>,
}

/// One question and its answer.
#[derive(Debug, Clone, Serialize)]
pub struct Answer {
    /// The action's name: `sql:select`.
    pub action: String,
    /// The resource, as policies name it: `Table::"orders-db/public.orders"`.
    pub resource: String,
    /// For `sql:read`: what becomes of the column's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<ColumnUse>,
    /// How it came out.
    pub outcome: Outcome,
    /// Permits that apply.
    pub permits: Vec<RuleRef>,
    /// Forbids that apply, masks among them.
    pub forbids: Vec<RuleRef>,
    /// Rules that could not be evaluated, and why.
    pub errors: Vec<RuleError>,
}

/// How one question came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A rule permits it and none forbids it.
    Permitted,
    /// It is permitted, and the value is masked.
    Masked,
    /// The value is masked, and this use of it would show it all the same.
    MaskedUse,
    /// It is permitted for so many rows.
    Limited,
    /// It is permitted for so many rows, which nobody can count here.
    Uncounted,
    /// A rule forbids it.
    Forbidden,
    /// No rule permits it.
    NotPermitted,
    /// A rule could not be evaluated.
    Failed,
}

impl Outcome {
    /// Whether the question's answer is yes.
    pub const fn is_yes(self) -> bool {
        matches!(self, Self::Permitted | Self::Masked | Self::Limited)
    }
}

/// A rule that applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleRef {
    /// Its id.
    pub id: PolicyId,
    /// Where it stands.
    pub place: Place,
    /// Its `@mask`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<Transform>,
    /// The mask is for what its `@detect` finds inside values.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub finds: bool,
    /// Its `@max_rows`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rows: Option<u64>,
    /// Its `@message`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Its `@approval`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
}

impl RuleRef {
    pub(super) fn of(rule: &Rule) -> Self {
        Self {
            id: rule.id.clone(),
            place: rule.place.clone(),
            mask: rule.mask,
            finds: rule.detect.is_some(),
            max_rows: rule.max_rows,
            message: rule.message.clone(),
            approval: rule.approval.clone(),
        }
    }
}

/// A rule that could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleError {
    /// Its id.
    pub id: PolicyId,
    /// Why, in Cedar's words.
    pub error: String,
}
