//! What an agent is told of result columns that are concealed: which they are, of what they are computed, and whose rule it
//! is. Zero, false and NULL could be taken for what the database holds; the notice says that they are not.

use std::fmt::Write as _;

use super::judge::Verdict;
use crate::{
    domain::{decision::Mask, ids::PolicyId, statement::ColumnName},
    protocol::postgres::backend::Fields,
};

/// No more names than this are listed.
const LISTED: usize = 8;

/// The concealed columns of one result.
#[derive(Debug, Default)]
pub(super) struct Concealing {
    /// By the names that the result gives them.
    columns: Vec<String>,
    /// The masked columns that they are computed of.
    sources: Vec<String>,
    policies: Vec<PolicyId>,
}

impl Concealing {
    /// Adds a column that is made of these.
    pub(super) fn add<'m>(&mut self, name: &[u8], masked: impl Iterator<Item = (&'m ColumnName, &'m Mask)>) {
        self.columns.push(String::from_utf8_lossy(name).into_owned());
        for (source, mask) in masked {
            add_new(&mut self.sources, source.to_string());
            add_new(&mut self.policies, mask.policy.clone());
        }
    }

    /// Adds the plan of a statement that has been run, whose figures tell of what the rows hold.
    pub(super) fn add_plan(&mut self, name: &[u8], verdict: &Verdict) {
        let plans = [&verdict.masks, verdict.target_masks.as_ref()];
        let masked = |name| plans.iter().find_map(|plan| plan.columns.get_key_value(name));
        let relations = verdict.statements.iter().flat_map(|statement| &statement.effects);
        let relations = relations.filter_map(|effect| verdict.catalogue.relation(effect.relation.as_ref()?));
        let origins = relations.flat_map(|relation| &relation.columns).flat_map(|column| &column.origins);
        self.add(name, origins.filter_map(masked));
    }

    /// Itself, if there is anything to tell.
    pub(super) fn some(self) -> Option<Box<Self>> {
        (!self.columns.is_empty()).then(|| Box::new(self))
    }

    /// Hands on the fields of the notice.
    pub(super) fn fields<T>(&self, take: impl FnOnce(&Fields<'_>) -> T) -> T {
        let columns = list(&self.columns, |name| format!("\"{name}\""));
        let sources = list(&self.sources, Clone::clone);
        let message = format!("nodegate: concealed in this result: {columns}, computed of {sources}");
        let policies: Vec<&str> = self.policies.iter().map(PolicyId::as_str).collect();
        let detail = format!("policy: {}", policies.join(", "));
        let hint = "In place of the values stand [redacted] for text and NULL for everything else. Select a masked column itself \
                    to see what its mask shows.";
        // A NUL ends a field.
        let [message, detail] = [message, detail].map(|text| text.replace('\0', " "));
        let fields = Fields::refusal("NOTICE", "00000", &message, Some(hint));
        take(&fields.replace(Fields::DETAIL, detail.as_bytes()))
    }
}

fn add_new<T: PartialEq>(all: &mut Vec<T>, one: T) {
    if !all.contains(&one) {
        all.push(one);
    }
}

fn list(names: &[String], write: impl Fn(&String) -> String) -> String {
    let mut text = names.iter().take(LISTED).map(write).collect::<Vec<_>>().join(", ");
    if let Some(more) = names.len().checked_sub(LISTED).filter(|more| *more > 0) {
        let _ = write!(text, " and {more} more");
    }
    text
}
