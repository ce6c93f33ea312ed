//! One question to the rules, in a form that can be compared: what policies can see of it and nothing else.
//!
//! Two requests that pose the same question get the same answer, so answers are cached by it. A column stands
//! for every other that policies cannot tell from it: Cedar can compare an entity with ids that stand in a
//! policy, ask where it is in the hierarchy, and read its attributes, and that is all.

use std::{borrow::Cow, collections::BTreeSet};

use cedar_policy::{Context, RestrictedExpression};

use super::{
    conditions::Look,
    entity::{Refusal, SQL_WRITE, column_id, table_id},
    state::State,
};
use crate::domain::statement::{
    ColumnName, ColumnUse, CopyDirection, OnConflict, RelationName, ReplicationCommand, RowLimit, Statement,
    Verb,
};

/// See the module's description.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question<'a> {
    pub(super) target: Cow<'a, str>,
    pub(super) subject: Subject<'a>,
    pub(super) facts: Facts<'a>,
}

/// What is to be done, and to what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject<'a> {
    Connect,
    Target(Verb),
    Table(Verb, Cow<'a, RelationName>),
    Column(Alike<'a>),
}

/// Columns that no policy can tell apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Alike<'a> {
    pub(super) usage: ColumnUse,
    schema: Cow<'a, str>,
    /// Set when some policy names the table, or looks at names.
    table: Option<Cow<'a, str>>,
    /// Set when some policy names the column, or looks at names.
    column: Option<Cow<'a, ColumnName>>,
    pub(super) tags: Option<Cow<'a, BTreeSet<String>>>,
}

/// The statement's facts: the schema's `SqlContext`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Facts<'a> {
    has_where: bool,
    multi_statement: bool,
    opaque: bool,
    /// Absent when no policy looks at them.
    functions: Option<Cow<'a, BTreeSet<String>>>,
    copy: Option<CopyDirection>,
    on_conflict: Option<OnConflict>,
    replication: Option<ReplicationCommand>,
}

/// Whether a message holds more than one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    One,
    Several,
}

impl Question<'_> {
    /// The request's context.
    pub(super) fn context(&self) -> Result<Context, Refusal> {
        match &self.subject {
            Subject::Connect => Ok(Context::empty()),
            Subject::Target(_) | Subject::Table(..) => self.facts.context(None),
            Subject::Column(alike) => {
                self.facts.context(Some(alike.usage).filter(|usage| *usage != ColumnUse::Written))
            }
        }
    }

    /// The same, to be kept.
    pub(super) fn into_owned(self) -> Question<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Question {
            target: own(self.target),
            subject: match self.subject {
                Subject::Connect => Subject::Connect,
                Subject::Target(verb) => Subject::Target(verb),
                Subject::Table(verb, relation) => Subject::Table(verb, Cow::Owned(relation.into_owned())),
                Subject::Column(alike) => Subject::Column(Alike {
                    usage: alike.usage,
                    schema: own(alike.schema),
                    table: alike.table.map(own),
                    column: alike.column.map(|column| Cow::Owned(column.into_owned())),
                    tags: alike.tags.map(|tags| Cow::Owned(tags.into_owned())),
                }),
            },
            facts: Facts {
                functions: self.facts.functions.map(|functions| Cow::Owned(functions.into_owned())),
                has_where: self.facts.has_where,
                multi_statement: self.facts.multi_statement,
                opaque: self.facts.opaque,
                copy: self.facts.copy,
                on_conflict: self.facts.on_conflict,
                replication: self.facts.replication,
            },
        }
    }
}

impl Subject<'_> {
    /// The action's name.
    pub(super) fn action(&self) -> String {
        match self {
            Self::Connect => "connect".to_owned(),
            Self::Target(verb) | Self::Table(verb, _) => format!("sql:{}", verb.as_str()),
            Self::Column(alike) if alike.usage == ColumnUse::Written => SQL_WRITE.to_owned(),
            Self::Column(_) => "sql:read".to_owned(),
        }
    }
}

/// What policies can see of a column.
pub(super) fn alike<'a>(
    state: &State,
    target: &str,
    usage: ColumnUse,
    column: &'a ColumnName,
    tags: Option<&'a BTreeSet<String>>,
) -> Alike<'a> {
    let set = &state.set;
    let looks_at_names = set.looks_at(Look::Names);
    let table = looks_at_names
        || !set.named_tables.is_empty() && set.named_tables.contains(&table_id(target, &column.relation));
    let this = looks_at_names
        || !set.named_columns.is_empty() && set.named_columns.contains(&column_id(target, column));
    Alike {
        usage,
        schema: Cow::Borrowed(&column.relation.schema),
        table: table.then_some(Cow::Borrowed(&column.relation.name)),
        column: this.then_some(Cow::Borrowed(column)),
        tags: tags.filter(|tags| !tags.is_empty()).map(Cow::Borrowed),
    }
}

impl<'a> Facts<'a> {
    /// Those of a plain SELECT.
    pub(super) const fn plain() -> Self {
        Self {
            has_where: true,
            multi_statement: false,
            opaque: false,
            functions: None,
            copy: None,
            on_conflict: None,
            replication: None,
        }
    }

    pub(super) fn of(state: &State, statement: &'a Statement, message: Message) -> Self {
        Self {
            has_where: statement.row_limit == RowLimit::Limited,
            multi_statement: message == Message::Several,
            opaque: !statement.opaque.is_empty(),
            functions: state.set.looks_at(Look::Functions).then_some(Cow::Borrowed(&statement.functions)),
            copy: statement.copy,
            on_conflict: statement.on_conflict,
            replication: statement.replication,
        }
    }

    pub(super) fn context(&self, usage: Option<ColumnUse>) -> Result<Context, Refusal> {
        let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
        let functions =
            self.functions.iter().flat_map(|functions| functions.iter()).map(|function| text(function));
        let mut pairs = vec![
            ("has_where".to_owned(), RestrictedExpression::new_bool(self.has_where)),
            ("multi_statement".to_owned(), RestrictedExpression::new_bool(self.multi_statement)),
            ("opaque".to_owned(), RestrictedExpression::new_bool(self.opaque)),
            ("functions".to_owned(), RestrictedExpression::new_set(functions)),
        ];
        if let Some(copy) = self.copy {
            let copy = match copy {
                CopyDirection::FromClient => "from_client",
                CopyDirection::ToClient => "to_client",
                CopyDirection::ServerSide => "server_side",
            };
            pairs.push(("copy".to_owned(), text(copy)));
        }
        // Reading a column knows of none.
        if let Some(on_conflict) = self.on_conflict.filter(|_| usage.is_none()) {
            let does = match on_conflict {
                OnConflict::Nothing => "nothing",
                OnConflict::Update => "update",
            };
            pairs.push(("on_conflict".to_owned(), text(does)));
        }
        if let Some(command) = self.replication {
            pairs.push(("replication".to_owned(), text(command.as_str())));
        }
        if let Some(usage) = usage {
            let usage = match usage {
                ColumnUse::Projected => "projected",
                ColumnUse::Tested | ColumnUse::Matched | ColumnUse::Compared => "compared",
                ColumnUse::Computed => "computed",
                ColumnUse::Moved => "moved",
                // A question of its own, which has no usage.
                ColumnUse::Written => "written",
                ColumnUse::Defined => "defined",
            };
            pairs.push(("usage".to_owned(), text(usage)));
        }
        Context::from_pairs(pairs).map_err(|error| Refusal(error.to_string()))
    }
}
