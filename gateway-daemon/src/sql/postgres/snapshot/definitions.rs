//! What definitions are made of, out of the catalogue: see [`Definitions`].

use crate::domain::definitions::{Constraint, Definitions, Function, Index, Numbers};
use crate::domain::statement::RelationName;

use super::{Rows, SnapshotError, number};

/// Number of the first of [`QUERIES`] among all of the snapshot.
const FIRST: usize = 23;

/// Types, typed tables, constraints, indexes, partition keys, functions.
pub(super) const QUERIES: [&str; 6] = [
    // 23: types by name
    "SELECT t.oid, n.nspname, t.typname FROM pg_catalog.pg_type t \
     JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.typnamespace \
     WHERE t.oid OPERATOR(pg_catalog.>=) 16384 AND n.nspname OPERATOR(pg_catalog.!~) '^pg_toast'",
    // 24: tables of a type
    "SELECT c.oid, c.reloftype FROM pg_catalog.pg_class c WHERE c.reloftype OPERATOR(pg_catalog.<>) 0",
    // 25: constraints; a CHECK that names no column has no key
    "SELECT c.conrelid, c.conname, COALESCE(pg_catalog.array_to_string(c.conkey, ' '), ''), c.confrelid, \
     COALESCE(pg_catalog.array_to_string(c.confkey, ' '), '') \
     FROM pg_catalog.pg_constraint c WHERE c.conrelid OPERATOR(pg_catalog.>=) 16384",
    // 26: indexes, and whether an expression or a predicate is part of them
    "SELECT i.indrelid, n.nspname, c.relname, i.indkey::pg_catalog.text, i.indisprimary, \
     i.indexprs IS NOT NULL OR i.indpred IS NOT NULL FROM pg_catalog.pg_index i \
     JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid \
     JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
     WHERE i.indrelid OPERATOR(pg_catalog.>=) 16384 AND n.nspname OPERATOR(pg_catalog.!~) '^pg_toast'",
    // 27: what tables are partitioned by
    "SELECT p.partrelid, p.partattrs::pg_catalog.text FROM pg_catalog.pg_partitioned_table p",
    // 28: functions that are not PostgreSQL's own, or are in SQL outside of pg_catalog; those in SQL with their text
    "SELECT n.nspname, p.proname, CASE WHEN l.lanname OPERATOR(pg_catalog.=) 'sql' \
     AND p.prokind OPERATOR(pg_catalog.=) ANY ('{f,p}'::pg_catalog.\"char\"[]) \
     THEN COALESCE(pg_catalog.pg_get_functiondef(p.oid), '') ELSE '' END FROM pg_catalog.pg_proc p \
     JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
     WHERE NOT (n.nspname OPERATOR(pg_catalog.=) 'pg_catalog' AND p.oid OPERATOR(pg_catalog.<) 16384) \
     AND NOT (l.lanname OPERATOR(pg_catalog.=) ANY ('{internal,c}'::pg_catalog.name[]) AND p.provolatile OPERATOR(pg_catalog.=) 'i' AND EXISTS (SELECT FROM pg_catalog.pg_proc o \
     WHERE o.proname OPERATOR(pg_catalog.=) p.proname AND o.pronamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace AND o.oid OPERATOR(pg_catalog.<) 16384))",
];

/// Takes them from the rows; `path` is the one along which the server wrote the functions' text.
pub(super) fn definitions(rows: &Rows<'_>, path: &[String]) -> Result<Definitions, SnapshotError> {
    let mut all = Definitions { path: path.to_vec(), ..Definitions::default() };
    for [oid, schema, name] in rows.of(FIRST)? {
        all.types.insert(named(schema, name), number(FIRST, oid)?);
    }
    for [table, of_type] in rows.of(FIRST + 1)? {
        let tables = all.typed_tables.entry(number(FIRST + 1, of_type)?).or_default();
        tables.push(number(FIRST + 1, table)?);
    }
    for [relation, name, columns, referred, keys] in rows.of(FIRST + 2)? {
        let referred = match number(FIRST + 2, referred)? {
            0 => None,
            relation => Some((relation, numbers(FIRST + 2, keys)?)),
        };
        let constraint = Constraint { columns: numbers(FIRST + 2, columns)?, referred };
        all.constraints.insert((number(FIRST + 2, relation)?, name.to_owned()), constraint);
    }
    for [relation, schema, name, columns, is_primary, computes] in rows.of(FIRST + 3)? {
        let relation: u32 = number(FIRST + 3, relation)?;
        let mut columns = numbers(FIRST + 3, columns)?;
        if is_primary == "t" {
            all.primary_keys.insert(relation, columns.clone());
        }
        if computes == "t" {
            columns.push(crate::domain::definitions::WHOLE_ROW);
        }
        all.indexes.insert(named(schema, name), Index { relation, columns });
    }
    for [relation, columns] in rows.of(FIRST + 4)? {
        all.partition_keys.insert(number(FIRST + 4, relation)?, numbers(FIRST + 4, columns)?);
    }
    for [schema, name, text] in rows.of(FIRST + 5)? {
        let definition = (!text.is_empty()).then(|| text.to_owned());
        all.functions
            .entry(name.to_owned())
            .or_default()
            .push(Function { schema: schema.to_owned(), definition });
    }
    Ok(all)
}

fn named(schema: &str, name: &str) -> RelationName {
    RelationName { schema: schema.to_owned(), name: name.to_owned() }
}

fn numbers(query: usize, text: &str) -> Result<Numbers, SnapshotError> {
    text.split_ascii_whitespace().map(|word| number(query, word)).collect()
}
