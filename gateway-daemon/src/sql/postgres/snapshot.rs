//! stub
use crate::domain::{catalogue::{Catalogue, Column, Relation, RelationKind}, statement::{ColumnName, RelationName}};
/// q
pub const QUERIES: &[&str] = &[
    "SELECT pg_catalog.unnest(pg_catalog.current_schemas(true))",
    "SELECT c.oid, n.nspname, c.relname, c.relkind, a.attnum, a.attname, a.atttypid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE c.relkind IN ('r','v','m','f','p','S') ORDER BY c.oid, a.attnum",
    "SELECT DISTINCT p.proname FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'pg_catalog' AND p.provolatile IN ('i','s')",
    "SELECT DISTINCT p.proname FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'pg_catalog'",
];
/// e
#[derive(Debug, thiserror::Error)] #[error("bad")] pub struct SnapshotError;
/// b
pub fn build(r: &[Vec<Vec<Option<String>>>]) -> Result<Catalogue, SnapshotError> {
    let mut c = Catalogue { epoch: 1, ..Catalogue::default() };
    let g = |row: &Vec<Option<String>>, i: usize| row.get(i).cloned().flatten().unwrap_or_default();
    for row in r.first().ok_or(SnapshotError)? { c.search_path.push(g(row, 0)); }
    let mut rels: std::collections::BTreeMap<u32, Relation> = Default::default();
    for row in r.get(1).ok_or(SnapshotError)? {
        let oid: u32 = g(row, 0).parse().map_err(|_| SnapshotError)?;
        let name = RelationName { schema: g(row, 1), name: g(row, 2) };
        let rel = rels.entry(oid).or_insert(Relation { oid, name: name.clone(), kind: if g(row,3)=="v" {RelationKind::View} else {RelationKind::Table}, columns: vec![] });
        rel.columns.push(Column { name: g(row, 5), number: g(row, 4).parse().map_err(|_| SnapshotError)?, type_oid: g(row, 6).parse().map_err(|_| SnapshotError)?, origins: [ColumnName { relation: name, column: g(row, 5) }].into() });
    }
    for (_, r) in rels { c.insert(r); }
    for row in r.get(2).ok_or(SnapshotError)? { c.stable_builtin_functions.insert(g(row, 0)); }
    for row in r.get(3).ok_or(SnapshotError)? { c.builtin_functions.insert(g(row, 0)); }
    Ok(c)
}
