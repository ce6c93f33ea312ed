//! Constants that must not be kept: what a statement writes into a column that is masked for whoever asks, or compares
//! with one, would stand in the records in clear, where the column itself never does. Both records, the audit log and
//! the recording, ask here.

use std::borrow::Cow;

use super::judge::Verdict;
use crate::{
    domain::decision::Denial,
    domain::statement::{ColumnName, ColumnUse, SessionEffect, Statement, Verb},
    mask::Masker,
    sql::postgres::without_literals,
};

/// A statement's text as records may hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept<'t> {
    /// The text, with or without its constants.
    pub(super) text: Cow<'t, str>,
    /// Whether constants, and parameters with them, are left out.
    pub(super) constants: Constants,
}

/// Whether constants may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Constants {
    /// They may.
    Kept,
    /// They may be values of masked columns.
    Withheld,
}

/// What of `text` may be kept.
pub(super) fn kept<'t>(text: &'t str, verdict: &Verdict, masker: &Masker) -> Kept<'t> {
    if verdict.meets_masked() || quotes_finds(text.as_bytes(), verdict, masker) {
        return Kept { text: Cow::Owned(without_literals(text)), constants: Constants::Withheld };
    }
    Kept { text: Cow::Borrowed(text), constants: Constants::Kept }
}

/// The reason of a refusal as records may hold it: what the parser says of a text that it cannot read quotes it.
pub(super) fn kept_reason(denial: &Denial, constants: Constants) -> Cow<'_, str> {
    let quotes = denial.policies.iter().any(|policy| policy.as_str() == "builtin/unreadable-sql");
    if quotes && constants == Constants::Withheld {
        return Cow::Borrowed(
            "nodegate could not read this SQL; what the parser said is left out, since it may quote a constant",
        );
    }
    Cow::Borrowed(&denial.reason)
}

/// Whether something is found in `bytes` that policy masks wherever it finds it.
pub(super) fn quotes_finds(bytes: &[u8], verdict: &Verdict, masker: &Masker) -> bool {
    let Some(wanted) = verdict.content_mask() else { return false };
    // What cannot be looked through is withheld.
    masker.scan(wanted.transforms, []).ok().is_none_or(|scan| scan.finds_in(bytes))
}

impl Verdict {
    /// Whether the statements use a column that is masked as a whole in any other way than showing it, or may do so
    /// unseen: what cannot be read, and code of unknown effect, may.
    pub(super) fn meets_masked(&self) -> bool {
        if self.target_masks.columns.is_empty() && self.masks.columns.is_empty() {
            return false;
        }
        if self.statements.is_empty() {
            return self.denial.is_some();
        }
        self.statements.iter().any(|statement| self.statement_meets_masked(statement))
    }

    fn statement_meets_masked(&self, statement: &Statement) -> bool {
        if let SessionEffect::Prepare { statement, .. } = &statement.session_effect
            && self.statement_meets_masked(statement)
        {
            return true;
        }
        let uses = statement
            .columns
            .iter()
            .filter(|access| !matches!(access.usage, ColumnUse::Projected | ColumnUse::Tested))
            .any(|access| self.is_masked(&access.column));
        let shows = statement.beside_constants.iter().any(|name| self.is_masked(name));
        // Defaults, constraints and the bodies of functions hold constants too; none of them is followed.
        let defines = statement.effects.iter().any(|effect| match effect.verb {
            Verb::Alter | Verb::Create => match &effect.relation {
                Some(name) => self.catalogue.relation(name).is_some_and(|relation| {
                    relation.columns.iter().any(|column| {
                        let name = ColumnName { relation: name.clone(), column: column.name.clone() };
                        self.is_masked(&name)
                    })
                }),
                None => true,
            },
            Verb::Call => true,
            _ => false,
        });
        uses || shows || defines || !statement.opaque.is_empty()
    }

    /// Whether a column is masked, or shows one that is; of a relation that the catalogue does not know, any may be.
    fn is_masked(&self, name: &ColumnName) -> bool {
        let masked = |name: &ColumnName| {
            self.target_masks.columns.contains_key(name) || self.masks.columns.contains_key(name)
        };
        if masked(name) {
            return true;
        }
        let Some(relation) = self.catalogue.relation(&name.relation) else { return true };
        match relation.columns.iter().find(|column| column.name == name.column) {
            Some(column) => column.origins.iter().any(masked),
            None => true,
        }
    }
}
