//! What a text writes into columns: which of its constants and parameters can arrive in each, so that the session can
//! look at them. It says nothing about whether a statement may run; that is the reader's.
//!
//! A value that is handed on as it stands (by CASE, COALESCE, casts, VALUES, subqueries, WITH) is told from one that
//! something else is made of. Where a name cannot be traced, everything that it may mean arrives.

mod copy;
mod flow;
mod rows;

use std::{borrow::Cow, collections::BTreeSet, thread};

pub use copy::{CopyFormat, CopyIn};

use super::{
    error::SqlError,
    parser,
    reader::{INLINE_BYTES, MAX_TEXT_BYTES, STACK_BYTES},
};
use crate::domain::{catalogue::Catalogue, statement::ColumnName};
use flow::Flow;

/// What one statement writes into the columns that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// What is assigned.
    pub sinks: Vec<Sink>,
    /// COPY FROM STDIN, whose rows come later.
    pub copy: Option<CopyIn>,
    /// EXECUTE: what it is that runs.
    pub executes: Option<Executes>,
}

/// A column and what can arrive in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sink {
    /// The column, by the relation that the statement names.
    pub column: ColumnName,
    /// Into which rows.
    pub rows: Rows,
    /// The constants and parameters, each once for each way.
    pub values: Vec<Arrival>,
}

/// Whether there was a value before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rows {
    /// The row is new.
    New,
    /// The row is there: its value is overwritten.
    There,
}

/// One constant or parameter on its way into a column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival {
    /// What it is.
    pub carried: Carried,
    /// How it comes there.
    pub way: Way,
}

/// A constant or a parameter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carried {
    /// NULL.
    Null,
    /// A constant, as text.
    Text(String),
    /// The parameter of that number, counted from 0.
    Parameter(usize),
}

/// What becomes of a value on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// It is handed on as it stands.
    Itself,
    /// The same, but in the place of a NULL comes something else.
    UnlessNull,
    /// Each element of the array that it is.
    Element,
    /// Something is made of it.
    Within,
}

impl Way {
    /// This way, and behind it that one.
    #[must_use]
    pub const fn then(self, next: Self) -> Self {
        match (self, next) {
            (Self::Itself, way) | (way, Self::Itself) => way,
            (Self::UnlessNull, Self::UnlessNull) => Self::UnlessNull,
            (Self::UnlessNull, Self::Element) => Self::Element,
            _ => Self::Within,
        }
    }
}

/// EXECUTE of a prepared statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executes {
    /// The prepared statement's name.
    pub name: String,
    /// What can be each of its parameters.
    pub arguments: Vec<Vec<Arrival>>,
}

/// The same while it is being found, borrowed from the parse tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Value<'a> {
    Null,
    Text(Cow<'a, str>),
    Parameter(usize),
}

/// What can arrive at one place.
type Values<'a> = BTreeSet<(Value<'a>, Way)>;

/// What each statement of `text` writes into columns that `is_watched`.
///
/// # Errors
/// The text cannot be read, or is too deep or too complex to be followed.
pub fn written(
    text: &str,
    catalogue: &Catalogue,
    is_watched: &(dyn Fn(&ColumnName) -> bool + Sync),
) -> Result<Vec<Written>, SqlError> {
    if text.len() <= INLINE_BYTES {
        return written_here(text, catalogue, is_watched);
    }
    parser::check_size(text, MAX_TEXT_BYTES)?;
    thread::scope(|scope| {
        let reader = thread::Builder::new()
            .name("sql-reader".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || written_here(text, catalogue, is_watched));
        match reader {
            Ok(reader) => reader.join().unwrap_or(Err(SqlError::Failed)),
            Err(_) => Err(SqlError::Failed),
        }
    })
}

fn written_here(
    text: &str,
    catalogue: &Catalogue,
    is_watched: &(dyn Fn(&ColumnName) -> bool + Sync),
) -> Result<Vec<Written>, SqlError> {
    let parsed = parser::parse(text, MAX_TEXT_BYTES)?;
    let mut all = Vec::with_capacity(parsed.statements.len());
    for raw in &parsed.statements {
        if let Some(node) = raw.stmt.as_deref() {
            let mut flow = Flow::new(catalogue, is_watched);
            flow.statement(node)?;
            all.push(flow.finish());
        }
    }
    Ok(all)
}

fn arrivals(values: Values<'_>) -> Vec<Arrival> {
    let arrival = |(value, way)| {
        let carried = match value {
            Value::Null => Carried::Null,
            Value::Text(text) => Carried::Text(text.into_owned()),
            Value::Parameter(number) => Carried::Parameter(number),
        };
        Arrival { carried, way }
    };
    values.into_iter().map(arrival).collect()
}
