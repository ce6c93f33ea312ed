//! What a database's definitions are made of, as far as a change of one must be followed to the columns that it touches:
//! types by name, keys, indexes, and functions with their text.

use std::collections::HashMap;

use super::statement::RelationName;

/// Numbers of columns (`attnum`). [`WHOLE_ROW`] among them means any column of the relation.
pub type Numbers = Vec<i16>;

/// Stands for the whole row, and for an expression: whichever columns that is made of.
pub const WHOLE_ROW: i16 = 0;

/// What a constraint looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    /// Columns of its own relation.
    pub columns: Numbers,
    /// The relation that a foreign key refers to, and the columns there.
    pub referred: Option<(u32, Numbers)>,
}

/// What an index holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The relation that it is on.
    pub relation: u32,
    /// Its columns, included ones among them.
    pub columns: Numbers,
}

/// A function that is not PostgreSQL's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// The schema that holds it.
    pub schema: String,
    /// The statement that would make it, where it is written in SQL; `None` for all other code.
    pub definition: Option<String>,
}

/// See the module's description.
#[derive(Debug, Clone, Default)]
pub struct Definitions {
    /// Types outside of `pg_catalog`, by schema and name.
    pub types: HashMap<RelationName, u32>,
    /// Tables of a composite type (`CREATE TABLE … OF`), by that type.
    pub typed_tables: HashMap<u32, Vec<u32>>,
    /// Constraints of relations, by the relation's oid and their name.
    pub constraints: HashMap<(u32, String), Constraint>,
    /// Indexes by schema and name.
    pub indexes: HashMap<RelationName, Index>,
    /// The primary key of each relation.
    pub primary_keys: HashMap<u32, Numbers>,
    /// What partitioned tables are partitioned by.
    pub partition_keys: HashMap<u32, Numbers>,
    /// Functions by name, each with all others of that name.
    pub functions: HashMap<String, Vec<Function>>,
    /// The path along which the server wrote the definitions: what they name without a schema is found along it.
    pub path: Vec<String>,
}
