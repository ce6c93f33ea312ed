//! What a result column may show, and which relations the snapshot does not know.

use std::collections::BTreeSet;

use crate::domain::catalogue::{Catalogue, Column, Relation};
use crate::domain::results::{ResultColumn, Results, Span};
use crate::domain::statement::{RelationName, Statement, Verb};

/// Where a result column comes from, as RowDescription says: table oid and attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// `pg_class.oid`; 0 for an expression.
    pub table_oid: u32,
    /// `attnum`; 0 for a whole row, negative for ctid, tableoid and the like.
    pub attribute: i16,
}

/// What a result column shows.
#[derive(Debug, Clone)]
pub enum Shown<'a> {
    /// A column as the relation has it.
    Column(&'a Relation, &'a Column),
    /// A whole row.
    Row(&'a Relation),
    /// Nothing that a column holds.
    Nothing,
    /// An expression over what flows into these places of the statement's results.
    Made(&'a Results, &'a [ResultColumn]),
    /// An expression of which the statement, as it was read, does not tell.
    Unread,
    /// A column that the catalogue does not know.
    Unknown,
}

/// What each column of a result shows: one that RowDescription traces to a table is that column, whatever the statement
/// says; an expression is what the statement, as it was read, has in that place. Where the two contradict each other, in
/// number or in any column that both know, the statement is not what it was when it was read, and tells of none.
pub fn trace_columns<'a>(
    results: Option<&'a Results>,
    catalogue: &'a Catalogue,
    origins: &[Origin],
) -> Vec<Shown<'a>> {
    let places = results.and_then(|results| Some((results, results.fit(origins.len())?)));
    let places = places.filter(|(results, places)| {
        origins.iter().zip(places).all(|(origin, places)| agree(results, places, *origin, catalogue))
    });
    let each = origins.iter().enumerate().map(|(index, origin)| {
        let relation = catalogue.relations.get(&origin.table_oid);
        let column = catalogue.column(origin.table_oid, origin.attribute);
        match (origin.table_oid, relation, column) {
            (0, _, _) => match &places {
                Some((results, places)) => {
                    places.get(index).map_or(Shown::Unread, |at| Shown::Made(results, at))
                }
                None => Shown::Unread,
            },
            (_, _, Some((relation, column))) => Shown::Column(relation, column),
            (_, Some(relation), None) if origin.attribute == 0 => Shown::Row(relation),
            (_, Some(_), None) if origin.attribute < 0 => Shown::Nothing,
            _ => Shown::Unknown,
        }
    });
    each.collect()
}

/// Whether a column as it is described can be what the statement has in that place.
fn agree(results: &Results, places: &[ResultColumn], origin: Origin, catalogue: &Catalogue) -> bool {
    let Some((relation, column)) = catalogue.column(origin.table_oid, origin.attribute) else { return true };
    let [ResultColumn { span: Span::One, .. }] = places else { return true };
    places
        .iter()
        .flat_map(|place| results.names_of(place))
        .any(|name| name.column == column.name && name.relation == relation.name)
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
