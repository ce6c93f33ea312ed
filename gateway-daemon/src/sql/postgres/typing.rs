//! Which value a name stands for at one place of a statement: what its column, or the row of its source, is known to be.

use pg_query::NodeEnum;
use pg_query::protobuf::ColumnRef;

use crate::domain::catalogue::Catalogue;

use super::names::{inner, text};
use super::scope::{Env, Rows, Source};
use super::value::{Value, within};

/// What a level has by a name.
enum Found {
    /// It ends the search.
    This(Value),
    /// It is not here.
    Absent,
}

impl<'a> Env<'_, 'a> {
    /// The value of a column reference; an unknown one where it may mean several.
    pub(super) fn value(self, column: &ColumnRef, catalogue: &Catalogue) -> Value {
        let mut names: Vec<Option<&str>> = column.fields.iter().map(text).collect();
        if matches!(column.fields.last().and_then(inner), Some(NodeEnum::AStar(_))) {
            names.pop();
            return match names.last() {
                Some(Some(name)) => self.row(name, catalogue),
                _ => Value::UNKNOWN,
            };
        }
        match names.as_slice() {
            [Some(name)] => match self.find(None, name, catalogue) {
                Found::This(value) => value,
                Found::Absent => self.row(name, catalogue),
            },
            [.., Some(source), Some(name)] => match self.find(Some(source), name, catalogue) {
                Found::This(value) => value,
                Found::Absent => Value::UNKNOWN,
            },
            _ => Value::UNKNOWN,
        }
    }

    fn find(self, qualifier: Option<&str>, name: &str, catalogue: &Catalogue) -> Found {
        for level in std::iter::successors(Some(self), |env| env.parent.copied()).filter_map(|env| env.level)
        {
            let sources =
                level.sources.iter().filter(|source| qualifier.is_none() || source.name == qualifier);
            let mut found = Vec::new();
            let mut is_here = false;
            for source in sources {
                is_here = true;
                found.extend(named(source, name, catalogue));
            }
            match found.as_slice() {
                [] if is_here && qualifier.is_some() => return Found::This(Value::UNKNOWN),
                [] => {}
                [value] => return Found::This(*value),
                _ => return Found::This(Value::UNKNOWN),
            }
        }
        Found::Absent
    }

    /// The whole row of the nearest source of that name.
    fn row(self, name: &str, catalogue: &Catalogue) -> Value {
        let mut levels =
            std::iter::successors(Some(self), |env| env.parent.copied()).filter_map(|env| env.level);
        let sources = levels.find_map(|level| {
            let named: Vec<&Source<'a>> =
                level.sources.iter().filter(|source| source.name == Some(name)).collect();
            (!named.is_empty()).then_some(named)
        });
        let Some([source]) = sources.as_deref() else { return Value::UNKNOWN };
        match &source.rows {
            Rows::Relation(relation) => Value::of_row(relation, catalogue, id(source, relation.oid)),
            Rows::Derived(outputs) if !outputs.is_open() => {
                let fields: Vec<Value> =
                    outputs.columns.iter().map(|column| column.value.from_within(source.name)).collect();
                Value::row(&fields)
            }
            Rows::Derived(_) | Rows::Unknown(_) => Value::UNKNOWN,
        }
    }
}

/// What tells the rows of a source from those of every other one in the statement.
pub(super) fn id(source: &Source<'_>, relation: u32) -> u64 {
    within(u64::from(relation), source.name)
}

/// The columns of that name, and an unknown value for each that may bear it.
fn named(source: &Source<'_>, name: &str, catalogue: &Catalogue) -> Vec<Value> {
    match &source.rows {
        Rows::Relation(relation) => {
            let columns = relation.columns.iter().filter(|column| column.name == name);
            columns.map(|column| Value::of_column(column, catalogue, id(source, relation.oid))).collect()
        }
        Rows::Unknown(_) => vec![Value::UNKNOWN],
        Rows::Derived(outputs) => {
            let mut found: Vec<Value> = outputs
                .columns
                .iter()
                .filter(|column| column.name.as_deref() == Some(name))
                .map(|column| column.value.from_within(source.name))
                .collect();
            if found.is_empty()
                && (outputs.is_open() || outputs.columns.iter().any(|column| column.name.is_none()))
            {
                found.push(Value::UNKNOWN);
            }
            found
        }
    }
}
