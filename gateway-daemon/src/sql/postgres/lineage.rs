//! What a result column may show, and which relations the snapshot does not know.

use std::collections::BTreeSet;

use crate::domain::catalogue::Catalogue;
use crate::domain::statement::{ColumnName, ColumnUse, RelationName, Statement, Verb};

/// The base columns that a result column may show, by what RowDescription says of it.
///
/// A table oid and attribute of the catalogue name the column. Oid 0 is an expression: everything that the
/// statements project. An oid or attribute that the catalogue does not know: also every column of every relation
/// that they touch.
pub fn origins(
    statements: &[Statement],
    catalogue: &Catalogue,
    table_oid: u32,
    attribute: i16,
) -> BTreeSet<ColumnName> {
    if table_oid != 0 {
        if let Some((relation, column)) = catalogue.column(table_oid, attribute) {
            let mut origins = column.origins.clone();
            origins.insert(ColumnName { relation: relation.name.clone(), column: column.name.clone() });
            return origins;
        }
        if attribute < 0 && catalogue.relations.contains_key(&table_oid) {
            return BTreeSet::new(); // ctid, tableoid and the like
        }
    }
    let mut origins: BTreeSet<ColumnName> = statements
        .iter()
        .flat_map(|statement| &statement.columns)
        .filter(|access| access.usage == ColumnUse::Projected)
        .map(|access| access.column.clone())
        .collect();
    if table_oid != 0 {
        let touched = statements.iter().flat_map(|statement| &statement.effects);
        for relation in touched.filter_map(|effect| catalogue.relation(effect.relation.as_ref()?)) {
            for column in &relation.columns {
                origins.insert(ColumnName { relation: relation.name.clone(), column: column.name.clone() });
                origins.extend(column.origins.iter().cloned());
            }
        }
    }
    origins
}

/// Relations that a statement names and the catalogue does not know: reason to take a new snapshot before
/// judging. What the statement itself creates is not among them.
pub fn unknown_relations(statement: &Statement, catalogue: &Catalogue) -> BTreeSet<RelationName> {
    let by_effect = statement
        .effects
        .iter()
        .filter(|effect| effect.verb != Verb::Create)
        .filter_map(|effect| effect.relation.as_ref());
    let by_column = statement.columns.iter().map(|access| &access.column.relation);
    by_effect.chain(by_column).filter(|name| catalogue.relation(name).is_none()).cloned().collect()
}
