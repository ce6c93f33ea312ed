//! Which columns a definition is about, beside those that stand in its expressions: all of a relation, those that have a
//! type, those of a constraint, an index or a key.
//!
//! The reader does not know what is masked: it notes the columns as defined, and policy refuses those that are. What the
//! snapshot does not know by its name means every column that it could mean.

use std::collections::{HashMap, HashSet};

use pg_query::Node;
use pg_query::protobuf::RangeVar;

use crate::domain::catalogue::{Relation, RelationKind, TypeKind};
use crate::domain::definitions::{Constraint, WHOLE_ROW};
use crate::domain::statement::RelationName;

use super::columns::Reads;
use super::error::SqlError;
use super::names::parts;
use super::reader::Reader;
use super::scope::{Rows, Source};

/// Types from here on are the database's own.
const FIRST_OWN_TYPE: u32 = 16_384;

impl<'a> Reader<'a> {
    /// A definition is about every column of a relation.
    pub(super) fn defines_all(&mut self, var: &'a RangeVar) -> Result<(), SqlError> {
        let all = self.all_columns(var)?;
        self.defined(&all);
        Ok(())
    }

    /// The relation is carried off with every column: policies that name the old place no longer apply to them, or its
    /// rows become readable through another one.
    pub(super) fn carries_off(&mut self, var: &'a RangeVar) -> Result<(), SqlError> {
        let all = self.all_columns(var)?;
        self.defined(&all);
        self.moved(all);
        Ok(())
    }

    /// Every relation of a schema is carried off.
    pub(super) fn carries_off_schema(&mut self, schema: &str) -> Result<(), SqlError> {
        let mut all = Reads::new();
        let catalogue = self.catalogue;
        for relation in catalogue.relations.values().filter(|found| found.name.schema == schema) {
            self.whole(&Source { name: None, rows: Rows::Relation(relation) }, &mut all)?;
        }
        self.defined(&all);
        self.moved(all);
        Ok(())
    }

    /// Columns of a relation by their numbers.
    pub(super) fn numbered(&mut self, relation: &'a Relation, numbers: &[i16]) -> Result<Reads, SqlError> {
        let mut reads = Reads::new();
        let is_any = numbers.contains(&WHOLE_ROW);
        for column in relation.columns.iter().filter(|column| is_any || numbers.contains(&column.number)) {
            let many = self.columns.read(relation, column, &mut reads);
            self.spend(many)?;
        }
        Ok(reads)
    }

    /// What a constraint of a relation looks at, here and where it refers to.
    pub(super) fn defines_constraint(&mut self, var: &'a RangeVar, name: &str) -> Result<(), SqlError> {
        let (_, known) = self.relation(var)?;
        let catalogue = self.catalogue;
        let constraint = known.and_then(|relation| {
            let key = (relation.oid, name.to_owned());
            Some((relation, catalogue.definitions.constraints.get(&key)?))
        });
        let Some((relation, Constraint { columns, referred })) = constraint else {
            return self.defines_all(var);
        };
        let mut reads = self.numbered(relation, columns)?;
        if let Some((other, keys)) = referred
            && let Some(other) = catalogue.relations.get(other)
        {
            reads.append(&mut self.numbered(other, keys)?);
        }
        self.defined(&reads);
        Ok(())
    }

    /// What an index of a relation is on: it is in the relation's own schema.
    pub(super) fn columns_of_index(&mut self, var: &'a RangeVar, name: &str) -> Result<Reads, SqlError> {
        let (_, known) = self.relation(var)?;
        let catalogue = self.catalogue;
        let index = known.and_then(|relation| {
            let named = RelationName { schema: relation.name.schema.clone(), name: name.to_owned() };
            let index = catalogue.definitions.indexes.get(&named)?;
            (index.relation == relation.oid).then_some((relation, index))
        });
        match index {
            Some((relation, index)) => self.numbered(relation, &index.columns),
            None => self.all_columns(var),
        }
    }

    /// The primary key of a relation, which a foreign key refers to where it names no columns.
    pub(super) fn primary_key(&mut self, var: &'a RangeVar) -> Result<Reads, SqlError> {
        let (_, known) = self.relation(var)?;
        let catalogue = self.catalogue;
        let key = known
            .and_then(|relation| Some((relation, catalogue.definitions.primary_keys.get(&relation.oid)?)));
        // Without one there is nothing to refer to, and the server says so.
        key.map_or(Ok(Reads::new()), |(relation, key)| self.numbered(relation, key))
    }

    /// What the parent of a new partition is divided by: its default partition is looked through for rows of the new one.
    pub(super) fn partition_key(&mut self, var: &'a RangeVar) -> Result<Reads, SqlError> {
        let (_, known) = self.relation(var)?;
        let catalogue = self.catalogue;
        let key = known
            .and_then(|relation| Some((relation, catalogue.definitions.partition_keys.get(&relation.oid)?)));
        key.map_or(Ok(Reads::new()), |(relation, key)| self.numbered(relation, key))
    }

    /// What a change of a type reaches: columns that have it, in whatever they have it, and tables that are made of it.
    pub(super) fn defines_type(&mut self, name: &[Node]) -> Result<(), SqlError> {
        match *parts(name)?.as_slice() {
            [name] => self.defines_type_named("", name),
            [schema, name] | [_, schema, name] => self.defines_type_named(schema, name),
            _ => Err(SqlError::Unsupported { what: "a type's name of that form" }),
        }
    }

    /// The same of a type whose name stands where a relation's does.
    pub(super) fn defines_type_named(&mut self, schema: &str, name: &str) -> Result<(), SqlError> {
        let catalogue = self.catalogue;
        let known = self.type_of(schema, name);
        let holders = known.map(|known| holders_of(&catalogue.types, known));
        self.spend(catalogue.types.len())?;
        let mut reads = Reads::new();
        for relation in catalogue.relations.values() {
            self.spend(1 + relation.columns.len() / 8)?;
            let is_of_it = known.is_some_and(|known| {
                catalogue.definitions.typed_tables.get(&known).is_some_and(|all| all.contains(&relation.oid))
            });
            for column in &relation.columns {
                let holds = holders
                    .as_ref()
                    .map_or(column.type_oid >= FIRST_OWN_TYPE, |holders| holders.contains(&column.type_oid));
                if is_of_it || holds {
                    let many = self.columns.read(relation, column, &mut reads);
                    self.spend(many)?;
                }
            }
        }
        self.defined(&reads);
        Ok(())
    }

    /// Whether a relation's name is that of a type that is no table's.
    pub(super) fn is_type_alone(&self, var: &RangeVar) -> bool {
        self.relation(var).is_ok_and(|(_, known)| known.is_none())
            && self.type_of(&var.schemaname, &var.relname).is_some()
    }

    fn type_of(&self, schema: &str, name: &str) -> Option<u32> {
        let in_schema = |schema: &str| {
            let name = RelationName { schema: schema.to_owned(), name: name.to_owned() };
            self.catalogue.definitions.types.get(&name).copied()
        };
        match schema {
            "" => self.catalogue.search_path.iter().find_map(|schema| in_schema(schema)),
            "pg_temp" => {
                let mut path = self.catalogue.search_path.iter();
                path.find(|schema| schema.starts_with("pg_temp")).and_then(|schema| in_schema(schema))
            }
            schema => in_schema(schema),
        }
    }

    /// What an agent does to a foreign table decides what another server is asked for; that may be this very one.
    pub(super) fn may_ask_elsewhere(&mut self, var: &'a RangeVar, what: &str) -> Result<(), SqlError> {
        let (_, known) = self.relation(var)?;
        if known.is_some_and(|relation| relation.kind == RelationKind::ForeignTable) {
            self.out_of_sight(what);
        }
        Ok(())
    }
}

/// Every type that a value of the wanted one can be part of, itself included.
fn holders_of(types: &HashMap<u32, TypeKind>, wanted: u32) -> HashSet<u32> {
    let mut outer: HashMap<u32, Vec<u32>> = HashMap::new();
    for (oid, kind) in types {
        let inner: &[u32] = match kind {
            TypeKind::Domain(inner)
            | TypeKind::Array(inner)
            | TypeKind::Range(inner)
            | TypeKind::Multirange(inner) => std::slice::from_ref(inner),
            TypeKind::Composite(fields) => fields,
            TypeKind::Enum(_) | TypeKind::Base(_) => &[],
        };
        for inner in inner {
            outer.entry(*inner).or_default().push(*oid);
        }
    }
    let mut holders = HashSet::from([wanted]);
    let mut open = vec![wanted];
    while let Some(inner) = open.pop() {
        for oid in outer.get(&inner).into_iter().flatten() {
            if holders.insert(*oid) {
                open.push(*oid);
            }
        }
    }
    holders
}
