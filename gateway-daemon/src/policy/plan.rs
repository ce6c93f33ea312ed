//! All masks of a target at once, for values whose way into the reply cannot be traced.

use std::collections::{BTreeSet, HashMap};

use super::{
    entity::Refusal,
    judge::tags_of,
    question::{Alike, Facts, alike},
    slice::Asker,
    state::{Depth, Finding, State},
    verdict::{POLICY_ERROR, content_mask, strongest_mask},
};
use crate::domain::{
    action::TargetFacts,
    catalogue::Catalogue,
    decision::{ContentMask, Mask, MaskPlan, Transform},
    ids::PolicyId,
    statement::{ColumnName, ColumnUse, RelationName},
};

impl State {
    /// See `Policies::masks_for`. Without an asker, since the principal cannot be put to Cedar, nothing is shown.
    pub(super) fn plan(
        &self,
        asker: Option<&Asker>,
        target: &TargetFacts,
        catalogue: &Catalogue,
    ) -> MaskPlan {
        let columns = columns(target, catalogue);
        let mut plan = MaskPlan::default();
        let mut known: HashMap<Alike<'_>, Shown> = HashMap::new();
        let mut key = String::new();
        for column in &columns {
            let tags = tags_of(target, column, &mut key);
            let class = alike(self, &target.name, ColumnUse::Projected, column, tags);
            let Shown { mask, scan, is_unreadable } = known
                .entry(class)
                .or_insert_with(|| match asker {
                    Some(asker) => {
                        self.masks_of(asker, target, column, tags).unwrap_or_else(|_| Shown::unjudged())
                    }
                    None => Shown::unjudged(),
                })
                .clone();
            if let Some(mask) = mask {
                plan.columns.insert(column.clone(), mask);
            }
            if is_unreadable {
                plan.unreadable.insert(column.clone());
            }
            if let Some(scan) = scan {
                plan.scans.insert(column.clone(), scan);
            }
        }
        plan
    }

    /// What the rules say of one column in a plain SELECT.
    fn masks_of(
        &self,
        asker: &Asker,
        target: &TargetFacts,
        column: &ColumnName,
        tags: Option<&BTreeSet<String>>,
    ) -> Result<Shown, Refusal> {
        let action = &self.vocabulary.read;
        let resource = self.vocabulary.column(&target.name, column, tags)?;
        let context = Facts::plain().context(Some(ColumnUse::Projected))?;
        let finding = self.ask(asker, action, &resource, context, Depth::Explain)?;
        if !finding.errors.is_empty() {
            return Ok(Shown::unjudged());
        }
        let mut finding = Finding { permits: Vec::new(), ..finding };
        // A mask that depends on the statement is taken to apply, since the statement is not known here.
        for candidate in self.index.candidates(asker, action, &resource) {
            let depends =
                self.set.rules.get(candidate).is_some_and(|rule| rule.reads_context && rule.mask.is_some());
            if depends && !finding.forbids.contains(&candidate) {
                finding.forbids.push(candidate);
            }
        }
        let hard = finding
            .forbids
            .iter()
            .filter_map(|rule| self.set.rules.get(*rule))
            .find(|rule| rule.mask.is_none());
        let mask = match hard {
            Some(rule) => Some(Mask { transform: Transform::Null, policy: rule.id.clone() }),
            None => strongest_mask(&self.set.rules, &finding),
        };
        Ok(Shown { mask, scan: content_mask(&self.set.rules, &finding), is_unreadable: hard.is_some() })
    }
}

/// What is shown of a column.
#[derive(Debug, Clone)]
struct Shown {
    mask: Option<Mask>,
    scan: Option<ContentMask>,
    is_unreadable: bool,
}

impl Shown {
    /// Nothing, since nobody can say.
    fn unjudged() -> Self {
        let mask = Mask { transform: Transform::Null, policy: PolicyId::from(POLICY_ERROR) };
        Self { mask: Some(mask), scan: None, is_unreadable: true }
    }
}

/// Every column that is known: those of the catalogue, and those that bear a tag.
fn columns(target: &TargetFacts, catalogue: &Catalogue) -> BTreeSet<ColumnName> {
    let mut columns: BTreeSet<ColumnName> = catalogue
        .relations
        .values()
        .flat_map(|relation| {
            relation
                .columns
                .iter()
                .map(|column| ColumnName { relation: relation.name.clone(), column: column.name.clone() })
        })
        .collect();
    for key in target.tags.keys() {
        let mut parts = key.splitn(3, '.');
        if let (Some(schema), Some(name), Some(column)) = (parts.next(), parts.next(), parts.next()) {
            columns.insert(ColumnName {
                relation: RelationName { schema: schema.to_owned(), name: name.to_owned() },
                column: column.to_owned(),
            });
        }
    }
    columns
}
