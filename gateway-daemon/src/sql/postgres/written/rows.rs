//! What rows that are not a table's own can show: the outputs of queries, the items of FROM, and the names for them.

use std::{borrow::Cow, rc::Rc};

use super::{Values, Way};
use crate::domain::catalogue::Relation;

/// The columns of a query, and what can stand in each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outputs<'a> {
    pub(super) columns: Vec<(Option<Cow<'a, str>>, Values<'a>)>,
    /// There may be further columns, in which this can stand.
    pub(super) rest: Option<Values<'a>>,
}

impl<'a> Outputs<'a> {
    /// Columns of unknown names and number.
    pub(super) fn unknown(values: Values<'a>) -> Self {
        Self { columns: Vec::new(), rest: Some(values) }
    }

    /// What can stand in the column at that place.
    pub(super) fn at(&self, index: usize) -> Values<'a> {
        match (self.columns.get(index), &self.rest) {
            (Some((_, values)), None) => values.clone(),
            // Behind an unknown number of columns, places mean nothing.
            (_, Some(_)) => self.all(),
            (None, None) => Values::new(),
        }
    }

    pub(super) fn all(&self) -> Values<'a> {
        let all = self.columns.iter().flat_map(|(_, values)| values).chain(self.rest.iter().flatten());
        all.cloned().collect()
    }

    /// Gives the first columns these names.
    pub(super) fn rename(&mut self, names: &[&'a str]) {
        let known = self.columns.len();
        for ((name, _), new) in self.columns.iter_mut().zip(names) {
            *name = Some(Cow::Borrowed(new));
        }
        if let Some(rest) = &self.rest {
            let more = names.iter().skip(known).map(|name| (Some(Cow::Borrowed(*name)), rest.clone()));
            self.columns.extend(more.collect::<Vec<_>>());
        }
    }

    /// Puts the columns of `more` behind these.
    pub(super) fn chain(&mut self, more: Self) {
        if self.rest.is_some() || more.rest.is_some() {
            let mut all = self.all();
            all.extend(more.all());
            self.rest = Some(all);
        }
        self.columns.extend(more.columns);
    }

    /// Adds what can stand in the columns of another query at the same places.
    pub(super) fn unite(&mut self, other: Self) {
        if self.rest.is_some() || other.rest.is_some() || self.columns.len() != other.columns.len() {
            self.rest.get_or_insert_default().extend(other.all());
            return;
        }
        for ((_, values), (_, more)) in self.columns.iter_mut().zip(other.columns) {
            values.extend(more);
        }
    }
}

/// What is behind a name in FROM.
#[derive(Debug, Clone)]
pub(super) enum Source<'a> {
    /// A table, whose values are none of the statement's.
    Table(Option<&'a Relation>),
    /// Something else.
    Rows(Rc<Outputs<'a>>),
}

/// What is visible at one place of a statement, from the inside out.
#[derive(Debug, Default)]
pub(super) struct Scope<'s, 'a> {
    pub(super) sources: Vec<(Option<&'a str>, Source<'a>)>,
    pub(super) ctes: Vec<(&'a str, Rc<Outputs<'a>>)>,
    pub(super) parent: Option<&'s Scope<'s, 'a>>,
}

impl<'s, 'a> Scope<'s, 'a> {
    pub(super) fn within(parent: &'s Self) -> Self {
        Scope { sources: Vec::new(), ctes: Vec::new(), parent: Some(parent) }
    }

    fn chain(&self) -> impl Iterator<Item = &Scope<'s, 'a>> {
        std::iter::successors(Some(self), |scope| scope.parent)
    }

    pub(super) fn cte(&self, name: &str) -> Option<Rc<Outputs<'a>>> {
        self.chain().find_map(|scope| {
            scope.ctes.iter().rev().find(|(known, _)| *known == name).map(|(_, outputs)| Rc::clone(outputs))
        })
    }

    /// What a column's name can stand for.
    pub(super) fn column(&self, qualifier: Option<&str>, name: &str) -> Values<'a> {
        let mut values = Values::new();
        for scope in self.chain() {
            let mut is_here = false;
            for (alias, source) in &scope.sources {
                if qualifier.is_some() && *alias != qualifier {
                    continue;
                }
                match source {
                    Source::Table(Some(relation)) => {
                        is_here |= relation.columns.iter().any(|column| column.name == name);
                    }
                    Source::Table(None) => {}
                    Source::Rows(outputs) => {
                        let named =
                            outputs.columns.iter().filter(|(known, _)| known.as_deref() == Some(name));
                        let before = is_here;
                        for (_, more) in named {
                            is_here = true;
                            values.extend(more.iter().cloned());
                        }
                        if is_here == before {
                            values.extend(outputs.rest.iter().flatten().cloned());
                        }
                    }
                }
            }
            if is_here
                || qualifier
                    .is_some_and(|wanted| scope.sources.iter().any(|(alias, _)| *alias == Some(wanted)))
            {
                return values;
            }
        }
        // The name of a source means its whole rows.
        if qualifier.is_none() {
            values.extend(self.row(name).all().into_iter().map(|(value, _)| (value, Way::Within)));
        }
        values
    }

    /// The columns of the nearest source of that name.
    pub(super) fn row(&self, name: &str) -> Outputs<'a> {
        let named = |scope: &Scope<'s, 'a>| {
            scope.sources.iter().find(|(alias, _)| *alias == Some(name)).map(|(_, source)| expanded(source))
        };
        self.chain().find_map(named).unwrap_or_default()
    }

    /// The columns of `*`.
    pub(super) fn star(&self) -> Outputs<'a> {
        let mut all = Outputs::default();
        for (_, source) in &self.sources {
            all.chain(expanded(source));
        }
        all
    }
}

/// The columns of a source, one by one.
fn expanded<'a>(source: &Source<'a>) -> Outputs<'a> {
    match source {
        Source::Table(Some(relation)) => Outputs {
            columns: relation
                .columns
                .iter()
                .map(|column| (Some(Cow::Borrowed(column.name.as_str())), Values::new()))
                .collect(),
            rest: None,
        },
        Source::Table(None) => Outputs::unknown(Values::new()),
        Source::Rows(outputs) => (**outputs).clone(),
    }
}
