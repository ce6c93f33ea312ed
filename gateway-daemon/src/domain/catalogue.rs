//! A database's schema, as far as statements must be read against it. Filled by `session`, read by `sql`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{BuildHasher as _, Hash, RandomState},
    sync::{Arc, LazyLock},
};

use super::{
    code::Code,
    definitions::Definitions,
    statement::{ColumnName, RelationName},
};

/// What kind of relation a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    /// Ordinary or partitioned table.
    Table,
    /// View: it shows what its definition reads.
    View,
    /// Materialised view: a stored copy of what its definition read.
    MaterialisedView,
    /// Foreign table: another server answers.
    ForeignTable,
    /// Sequence.
    Sequence,
    /// Index, TOAST table, composite type: nothing that a query reads by name.
    Other,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// `attnum`; user columns count from 1. Dropped columns are absent.
    pub number: i16,
    /// `atttypid`.
    pub type_oid: u32,
    /// `atttypmod`: a length or a precision, as the type counts it; -1 without one.
    pub modifier: i32,
    /// `attcollation`; 0 where the type has none.
    pub collation: u32,
    /// Base columns that it may show: itself for tables; for views everything that the definition depends on,
    /// through any number of views; for generated columns and partitions their sources and parents as well.
    pub origins: BTreeSet<ColumnName>,
    /// Whether it may show something else of its origins than their values: a view's expression, a generated column.
    pub is_computed: bool,
}

/// One relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Resolved name.
    pub name: RelationName,
    /// Its kind.
    pub kind: RelationKind,
    /// Its columns by `attnum`.
    pub columns: Vec<Column>,
}

/// What a type is made of that is not PostgreSQL's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeKind {
    /// An enum, with its first label.
    Enum(String),
    /// A domain over this type.
    Domain(u32),
    /// An array of this type.
    Array(u32),
    /// A composite type, with the types of its fields in order.
    Composite(Vec<u32>),
    /// A range over this type.
    Range(u32),
    /// A multirange over this type.
    Multirange(u32),
    /// A base type, such as an extension brings, by its name.
    Base(String),
}

/// How the database writes characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encoding {
    /// So that every piece of a text is a text that can be sent in UTF8: UTF8 itself, and LATIN1.
    #[default]
    Whole,
    /// In any other way: a byte may be none of a character, or a character none of UTF8.
    Other,
}

/// Names of PostgreSQL's own that something else of the database bears as well, compiled code of extensions included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overloaded {
    /// Of functions.
    pub functions: BTreeSet<String>,
    /// Of operators.
    pub operators: BTreeSet<String>,
    /// Of types, the row types of tables among them, with the schemas that hold one of that name.
    pub types: BTreeMap<String, BTreeSet<String>>,
}

/// A snapshot of one database. What is large is shared: a copy along another path costs little.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// Changes whenever a snapshot differs: part of every cache key.
    pub epoch: u64,
    /// Schemas in the order that an unqualified name is looked up, `pg_catalog` first unless it is listed elsewhere.
    pub search_path: Vec<String>,
    /// All relations, by oid.
    pub relations: Arc<HashMap<u32, Relation>>,
    /// The same, by name.
    pub by_name: Arc<HashMap<RelationName, u32>>,
    /// Types outside `pg_catalog`, by oid.
    pub types: Arc<HashMap<u32, TypeKind>>,
    /// Functions of `pg_catalog` that are immutable or stable, by name.
    pub stable_builtin_functions: Arc<BTreeSet<String>>,
    /// Every function of `pg_catalog`, by name.
    pub builtin_functions: Arc<BTreeSet<String>>,
    /// Functions outside `pg_catalog`, by name, with the schemas that hold one of that name.
    pub user_functions: Arc<BTreeMap<String, BTreeSet<String>>>,
    /// Whether some function outside `pg_catalog` may do what no ROLLBACK takes back: it changes something, and is
    /// written in a language that can reach beyond the database.
    pub reaches_outside: bool,
    /// Operators outside `pg_catalog`, by name.
    pub user_operators: BTreeSet<String>,
    /// What bears the name of PostgreSQL's own.
    pub overloaded: Arc<Overloaded>,
    /// The database's encoding.
    pub encoding: Encoding,
    /// Casts, types with casts, domains with constraints whose code is not PostgreSQL's own: type names.
    pub opaque_types: BTreeSet<String>,
    /// Views whose definition calls functions of unknown body: what they show cannot be traced.
    pub opaque_relations: BTreeSet<RelationName>,
    /// What the server runs by itself.
    pub code: Arc<Code>,
    /// What definitions are made of, beside relations.
    pub definitions: Arc<Definitions>,
}

impl Catalogue {
    /// Adds a relation under its oid and name.
    pub fn insert(&mut self, relation: Relation) {
        Arc::make_mut(&mut self.by_name).insert(relation.name.clone(), relation.oid);
        Arc::make_mut(&mut self.relations).insert(relation.oid, relation);
    }

    /// The same schema, along another path: nothing else of it depends on how names are looked up, not even what views
    /// show, whose definitions were read along the path that they were written for. Its epoch is another one, the same each
    /// time.
    #[must_use]
    pub fn along(&self, search_path: Vec<String>) -> Self {
        Self { epoch: Self::epoch_of(&(self.epoch, &search_path)), search_path, ..self.clone() }
    }

    /// What tells snapshots apart: the same for the same `snapshot`, as long as the process runs. By a key that nobody
    /// outside knows: who may name schemas and tables as he likes cannot work out two snapshots that share one.
    pub fn epoch_of(snapshot: &impl Hash) -> u64 {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        KEY.hash_one(snapshot)
    }

    /// The relation of that resolved name.
    pub fn relation(&self, name: &RelationName) -> Option<&Relation> {
        self.relations.get(self.by_name.get(name)?)
    }

    /// Resolves an unqualified name through the search path, as PostgreSQL would.
    pub fn resolve(&self, name: &str) -> Option<&Relation> {
        self.search_path
            .iter()
            .find_map(|schema| self.relation(&RelationName { schema: schema.clone(), name: name.to_owned() }))
    }

    /// The column behind a RowDescription's table oid and attribute number.
    pub fn column(&self, table_oid: u32, number: i16) -> Option<(&Relation, &Column)> {
        let relation = self.relations.get(&table_oid)?;
        let column = relation.columns.iter().find(|column| column.number == number)?;
        Some((relation, column))
    }
}
