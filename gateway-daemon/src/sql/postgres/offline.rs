//! A catalogue without a server: PostgreSQL 15's own functions and relations, for `policy test` and `explain`.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::domain::catalogue::{Catalogue, Column, Relation, RelationKind};
use crate::domain::statement::RelationName;

const FUNCTIONS: &str = include_str!("offline_functions.txt");
const RELATIONS: &str = include_str!("offline_relations.txt");

/// The catalogue of an empty database: `pg_catalog` and `information_schema`, search path as PostgreSQL's default.
///
/// Relation oids are made up; they agree with no server's.
pub fn offline_catalogue() -> Catalogue {
    let mut catalogue =
        Catalogue { search_path: vec!["pg_catalog".to_owned(), "public".to_owned()], ..Catalogue::default() };
    for (name, flags) in functions() {
        Arc::make_mut(&mut catalogue.builtin_functions).insert(name.to_owned());
        if flags.contains('s') {
            Arc::make_mut(&mut catalogue.stable_builtin_functions).insert(name.to_owned());
        }
    }
    for (oid, line) in (1..).zip(lines(RELATIONS)) {
        if let Some(relation) = relation(oid, line) {
            catalogue.insert(relation);
        }
    }
    catalogue
}

/// Functions of pg_catalog that return sets: what they are called with decides how many rows there are.
pub(super) fn set_returning_functions() -> HashSet<&'static str> {
    functions().filter(|(_, flags)| flags.contains('r')).map(|(name, _)| name).collect()
}

fn functions() -> impl Iterator<Item = (&'static str, &'static str)> {
    lines(FUNCTIONS).map(|line| line.split_once(' ').unwrap_or((line, "")))
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty())
}

fn relation(oid: u32, line: &str) -> Option<Relation> {
    let mut words = line.split(' ');
    let name = RelationName { schema: words.next()?.to_owned(), name: words.next()?.to_owned() };
    let kind = if words.next()? == "v" { RelationKind::View } else { RelationKind::Table };
    let columns = (1..)
        .zip(words)
        .filter_map(|(number, word)| {
            let (column, type_oid) = word.rsplit_once(':')?;
            Some(Column {
                name: column.to_owned(),
                number,
                type_oid: type_oid.parse().ok()?,
                modifier: -1,
                collation: 0,
                origins: BTreeSet::new(),
                is_computed: false,
            })
        })
        .collect();
    Some(Relation { oid, name, kind, columns })
}
