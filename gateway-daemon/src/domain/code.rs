//! What a database runs by itself when a statement touches a relation: triggers, rules, referential actions, constraints,
//! defaults, policies, and the functions behind them. Filled with the catalogue, followed by `sql`.

use std::{
    collections::{BTreeSet, HashMap},
    sync::OnceLock,
};

use super::statement::{ColumnName, RelationName};

/// What is done to a relation, as far as code hangs on it: a set of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Events(u8);

impl Events {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Rows are added.
    pub const INSERT: Self = Self(1);
    /// Rows are changed.
    pub const UPDATE: Self = Self(2);
    /// Rows are removed.
    pub const DELETE: Self = Self(4);
    /// It is emptied.
    pub const TRUNCATE: Self = Self(8);
    /// Rows are read.
    pub const READ: Self = Self(16);
    /// It is defined or rebuilt, which may compute everything in it anew.
    pub const DEFINE: Self = Self(32);
    /// Rows are changed in any way.
    pub const WRITE: Self = Self(1 | 2 | 4 | 8);
    /// Anything: what code does that is not followed statement by statement.
    pub const ALL: Self = Self(63);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that the other has not.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether they share one.
    pub const fn meets(self, other: Self) -> bool {
        !self.common(other).is_empty()
    }
}

/// How a function's body can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// SQL: what it says is said by PostgreSQL itself.
    Sql,
    /// PL/pgSQL.
    PlPgSql,
    /// Compiled, and known to look at nothing but what it is given, and to say nothing of it.
    Harmless,
    /// Compiled, of an extension: it may look at anything, but does not notify.
    Compiled,
    /// Anything else.
    Unreadable,
}

/// A function that is not PostgreSQL's own.
#[derive(Debug)]
pub struct Function {
    /// Its name.
    pub name: RelationName,
    /// What it is written in.
    pub language: Language,
    /// Its text, where that can be read; empty where it was kept as a parse tree.
    pub text: String,
    /// Functions that PostgreSQL knows it to call: of defaults, of a body kept as a parse tree, of an aggregate.
    pub calls: BTreeSet<u32>,
    /// Relations that PostgreSQL knows it to use.
    pub uses: BTreeSet<u32>,
    /// What its text names, once somebody has looked.
    pub body: OnceLock<Body>,
}

/// What a function's text names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Body {
    /// Every word in it that could be the name of something.
    pub names: BTreeSet<String>,
    /// Every operator.
    pub operators: BTreeSet<String>,
    /// What it does cannot be read in it: it runs text as SQL, fetches from cursors, ends transactions…
    pub is_dynamic: bool,
    /// It notifies.
    pub notifies: bool,
    /// Columns of a trigger's row that it looks at.
    pub fields: BTreeSet<String>,
    /// It does something with a trigger's row as a whole.
    pub takes_row: bool,
}

/// A trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// What it runs.
    pub function: u32,
    /// When.
    pub events: Events,
    /// It may wait for the end of the transaction.
    pub is_deferrable: bool,
    /// It is given all changed rows as a table.
    pub has_tables: bool,
}

/// What is computed whenever a row is written, or read.
#[derive(Debug)]
pub struct Expression {
    /// When.
    pub events: Events,
    /// As the server shows it.
    pub text: Text,
    /// Columns by whose values it may fail, once somebody has looked.
    pub fails_by: OnceLock<BTreeSet<ColumnName>>,
}

/// The text of what is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// Expressions over the columns of the relation.
    Expressions(String),
    /// A query: what a view is defined by.
    Query(String),
}

/// What hangs on one relation.
#[derive(Debug, Default)]
pub struct Attached {
    /// Triggers that run code.
    pub triggers: Vec<Trigger>,
    /// Functions in expressions, and when these are computed.
    pub functions: Vec<(u32, Events)>,
    /// Expressions, and when they are computed.
    pub expressions: Vec<Expression>,
    /// Relations that a rule uses.
    pub ruled: BTreeSet<u32>,
    /// Relations that a view reads, and writes where it is written.
    pub parts: BTreeSet<u32>,
    /// Partitions and tables that inherit.
    pub children: BTreeSet<u32>,
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// Its name.
    pub name: String,
    /// The referencing relation.
    pub child: u32,
    /// Its columns.
    pub child_columns: Vec<i16>,
    /// The referenced relation.
    pub parent: u32,
    /// Its columns.
    pub parent_columns: Vec<i16>,
    /// What happens to the child's rows when the parent's are updated; empty if that is refused.
    pub on_update: Events,
    /// The same, when they are deleted.
    pub on_delete: Events,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Code {
    /// Functions that are not PostgreSQL's own, by oid.
    pub functions: HashMap<u32, Function>,
    /// The same, by name.
    pub by_name: HashMap<String, Vec<u32>>,
    /// Relations by name, whatever their schema.
    pub relations: HashMap<String, Vec<u32>>,
    /// What hangs on relations, by oid.
    pub attached: HashMap<u32, Attached>,
    /// Foreign keys.
    pub foreign_keys: Vec<ForeignKey>,
    /// The same by the referenced relation: places in the list.
    pub referenced: HashMap<u32, Vec<usize>>,
    /// Functions behind operators that are not PostgreSQL's own, by the operator's name.
    pub operators: HashMap<String, Vec<u32>>,
    /// Functions that a domain's constraints call, by its oid.
    pub domains: HashMap<u32, Vec<u32>>,
    /// The same, by its name.
    pub domains_by_name: HashMap<String, Vec<u32>>,
    /// Functions that may run wherever a value is converted or indexed.
    pub anywhere: Vec<u32>,
    /// Functions of event triggers.
    pub on_definition: Vec<u32>,
}

impl Code {
    /// The foreign key of that name on that relation.
    pub fn foreign_key(&self, child: u32, name: &str) -> Option<&ForeignKey> {
        self.foreign_keys.iter().find(|key| key.child == child && key.name == name)
    }
}
