//! One database's schema, as its own catalogue tells it to the session's login (PostgreSQL 12 to 18).
//!
//! The session runs `QUERIES` in order, each as a simple query in text format, and hands the rows to `build`.
//! Every name in them is qualified, operators too, so that nothing in the search path can stand in for PostgreSQL's own:
//! an operator that somebody has made for exactly the types at hand comes before one that takes a conversion.

mod definitions;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::domain::catalogue::{Catalogue, Column, Encoding, Overloaded, Relation, RelationKind, TypeKind};
use crate::domain::statement::{ColumnName, RelationName};

use super::automatic;
use super::reader::view_columns;

/// Asks for the schemas in the order of look-up.
pub const PATH_QUERY: &str =
    "SELECT s FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) WITH ORDINALITY AS u(s, n) ORDER BY n";

/// The queries, in the order in which `build` wants their rows.
pub const QUERIES: &[&str] = &[
    // 0: the path
    PATH_QUERY,
    // 1: relations
    "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relispartition \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
     WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,m,f,S}'::pg_catalog.\"char\"[]) AND n.nspname OPERATOR(pg_catalog.!~) '^pg_toast' \
     AND (n.nspname OPERATOR(pg_catalog.!~) '^pg_temp_' OR n.oid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())",
    // 2: their columns
    "SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation \
     FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.attrelid \
     JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
     WHERE a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,m,f,S}'::pg_catalog.\"char\"[]) \
     AND n.nspname OPERATOR(pg_catalog.!~) '^pg_toast' AND (n.nspname OPERATOR(pg_catalog.!~) '^pg_temp_' OR n.oid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) \
     ORDER BY a.attrelid, a.attnum",
    // 3: definitions of views
    "SELECT c.oid, pg_catalog.pg_get_viewdef(c.oid) \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
     WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{v,m}'::pg_catalog.\"char\"[]) AND c.oid OPERATOR(pg_catalog.>=) 16384 \
     AND (n.nspname OPERATOR(pg_catalog.!~) '^pg_temp_' OR n.oid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())",
    // 4: what views depend on; column 0 is the whole relation
    "SELECT DISTINCT r.ev_class, d.refobjid, d.refobjsubid \
     FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d \
     ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) r.oid \
     AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
     WHERE r.ev_type OPERATOR(pg_catalog.=) '1' AND r.ev_class OPERATOR(pg_catalog.>=) 16384 AND d.refobjid OPERATOR(pg_catalog.<>) r.ev_class",
    // 5: inheritance and partitions
    "SELECT i.inhrelid, i.inhparent FROM pg_catalog.pg_inherits i",
    // 6: generated columns and what they are made of
    "SELECT a.attrelid, a.attnum, d.refobjsubid \
     FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_attrdef f ON f.adrelid OPERATOR(pg_catalog.=) a.attrelid AND f.adnum OPERATOR(pg_catalog.=) a.attnum \
     JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) f.oid \
     AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid OPERATOR(pg_catalog.=) a.attrelid \
     WHERE a.attgenerated OPERATOR(pg_catalog.<>) '' AND NOT a.attisdropped AND d.refobjsubid OPERATOR(pg_catalog.<>) a.attnum",
    // 7: PostgreSQL's own functions, and whether every overload is stable
    "SELECT p.proname, pg_catalog.bool_and(p.provolatile OPERATOR(pg_catalog.<>) 'v') FROM pg_catalog.pg_proc p \
     WHERE p.pronamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace AND p.oid OPERATOR(pg_catalog.<) 16384 GROUP BY p.proname",
    // 8: all others; an extension's compiled immutable overload of a name of PostgreSQL's own counts as its own
    "SELECT DISTINCT p.proname, n.nspname, \
     p.provolatile OPERATOR(pg_catalog.=) 'v' AND l.lanname OPERATOR(pg_catalog.<>) ALL ('{internal,sql,plpgsql}'::pg_catalog.name[]) FROM pg_catalog.pg_proc p \
     JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
     WHERE NOT (n.nspname OPERATOR(pg_catalog.=) 'pg_catalog' AND p.oid OPERATOR(pg_catalog.<) 16384) \
     AND NOT (n.nspname OPERATOR(pg_catalog.=) 'information_schema' AND p.oid OPERATOR(pg_catalog.<) 16384) \
     AND NOT (l.lanname OPERATOR(pg_catalog.=) ANY ('{internal,c}'::pg_catalog.name[]) AND p.provolatile OPERATOR(pg_catalog.=) 'i' AND EXISTS (SELECT FROM pg_catalog.pg_proc o \
     WHERE o.proname OPERATOR(pg_catalog.=) p.proname AND o.pronamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace AND o.oid OPERATOR(pg_catalog.<) 16384))",
    // 9: operators that run code which is not compiled
    "SELECT DISTINCT o.oprname FROM pg_catalog.pg_operator o \
     LEFT JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) o.oprcode LEFT JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
     WHERE o.oid OPERATOR(pg_catalog.>=) 16384 AND (l.lanname IS NULL OR l.lanname OPERATOR(pg_catalog.<>) ALL ('{internal,c}'::pg_catalog.name[]) OR p.provolatile OPERATOR(pg_catalog.=) 'v')",
    // 10: types whose casts or constraints run code which is not compiled
    "WITH RECURSIVE code AS (SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l \
     ON l.oid OPERATOR(pg_catalog.=) p.prolang WHERE p.oid OPERATOR(pg_catalog.>=) 16384 AND l.lanname OPERATOR(pg_catalog.<>) ALL ('{internal,c}'::pg_catalog.name[])), \
     t AS (SELECT k.contypid AS oid FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_depend d \
     ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) k.oid \
     AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass JOIN code ON code.oid OPERATOR(pg_catalog.=) d.refobjid \
     WHERE k.contypid OPERATOR(pg_catalog.<>) 0 \
     UNION SELECT c.castsource FROM pg_catalog.pg_cast c JOIN code ON code.oid OPERATOR(pg_catalog.=) c.castfunc WHERE c.castsource OPERATOR(pg_catalog.>=) 16384 \
     UNION SELECT c.casttarget FROM pg_catalog.pg_cast c JOIN code ON code.oid OPERATOR(pg_catalog.=) c.castfunc \
     WHERE c.casttarget OPERATOR(pg_catalog.>=) 16384 OR c.castsource OPERATOR(pg_catalog.<) 16384), \
     u AS (SELECT oid FROM t UNION SELECT b.oid FROM pg_catalog.pg_type b JOIN u ON b.typbasetype OPERATOR(pg_catalog.=) u.oid) \
     SELECT DISTINCT y.typname FROM pg_catalog.pg_type y JOIN u ON u.oid OPERATOR(pg_catalog.=) y.oid",
    // 11: views that call code which is not compiled
    "SELECT DISTINCT r.ev_class FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d \
     ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) r.oid \
     AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass \
     JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) d.refobjid JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
     WHERE r.ev_type OPERATOR(pg_catalog.=) '1' AND p.oid OPERATOR(pg_catalog.>=) 16384 \
     AND (l.lanname OPERATOR(pg_catalog.<>) ALL ('{internal,c}'::pg_catalog.name[]) OR p.provolatile OPERATOR(pg_catalog.=) 'v')",
    // 12: what types are made of; PostgreSQL 12 and 13 know no multiranges. LIMIT with a number would be a call of
    // int8(integer), which a role may have lost the right to
    "SELECT t.oid, t.typtype, t.typname, \
     CASE WHEN t.typtype OPERATOR(pg_catalog.=) 'b' AND t.typcategory OPERATOR(pg_catalog.=) 'A' THEN t.typelem WHEN t.typtype OPERATOR(pg_catalog.=) 'd' THEN t.typbasetype \
     WHEN t.typtype OPERATOR(pg_catalog.=) ANY ('{r,m}'::pg_catalog.\"char\"[]) THEN COALESCE(r.rngsubtype, 0) ELSE 0 END, \
     COALESCE((SELECT e.enumlabel FROM pg_catalog.pg_enum e WHERE e.enumtypid OPERATOR(pg_catalog.=) t.oid \
     ORDER BY e.enumsortorder LIMIT '1'), ''), \
     COALESCE((SELECT pg_catalog.string_agg(a.atttypid::pg_catalog.text, ' ' ORDER BY a.attnum) \
     FROM pg_catalog.pg_attribute a WHERE t.typtype OPERATOR(pg_catalog.=) 'c' AND a.attrelid OPERATOR(pg_catalog.=) t.typrelid AND a.attnum OPERATOR(pg_catalog.>) 0 \
     AND NOT a.attisdropped), '') \
     FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_range r ON t.oid OPERATOR(pg_catalog.=) r.rngtypid \
     OR t.oid OPERATOR(pg_catalog.=) (pg_catalog.to_jsonb(r) OPERATOR(pg_catalog.->>) 'rngmultitypid')::pg_catalog.oid \
     WHERE t.oid OPERATOR(pg_catalog.>=) 16384",
    // 13: what bears the name of PostgreSQL's own, and the encoding
    "SELECT 'f', p.proname, '' FROM pg_catalog.pg_proc p WHERE p.oid OPERATOR(pg_catalog.>=) 16384 AND EXISTS (SELECT FROM pg_catalog.pg_proc o \
     WHERE o.proname OPERATOR(pg_catalog.=) p.proname AND o.oid OPERATOR(pg_catalog.<) 16384) \
     UNION ALL SELECT 'o', o.oprname, '' FROM pg_catalog.pg_operator o WHERE o.oid OPERATOR(pg_catalog.>=) 16384 \
     UNION ALL SELECT 't', t.typname, n.nspname FROM pg_catalog.pg_type t \
     JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.typnamespace WHERE t.oid OPERATOR(pg_catalog.>=) 16384 AND EXISTS (SELECT FROM pg_catalog.pg_type o \
     WHERE o.typname OPERATOR(pg_catalog.=) t.typname AND o.oid OPERATOR(pg_catalog.<) 16384) \
     UNION ALL SELECT 'e', pg_catalog.getdatabaseencoding(), ''",
    // 14 to 22: what the server runs by itself
    automatic::FUNCTIONS,
    automatic::CALLS,
    automatic::TRIGGERS,
    automatic::IN_EXPRESSIONS,
    automatic::IN_DOMAINS,
    automatic::ELSEWHERE,
    automatic::FOREIGN_KEYS,
    automatic::RULES,
    automatic::EXPRESSIONS,
    // 23 to 28: what definitions are made of
    definitions::QUERIES[0],
    definitions::QUERIES[1],
    definitions::QUERIES[2],
    definitions::QUERIES[3],
    definitions::QUERIES[4],
    definitions::QUERIES[5],
];

/// Rows that are not what the queries ask for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// More or fewer results than queries.
    #[error("{found} catalogue results for {expected} queries")]
    Results {
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A row of another shape, or a value that cannot be what was asked for.
    #[error("catalogue query {query} returned a row that does not fit")]
    Row {
        /// Index of the query.
        query: usize,
    },
}

/// Makes the catalogue from the queries' text rows.
pub fn build(results: &[Vec<Vec<Option<String>>>]) -> Result<Catalogue, SnapshotError> {
    if results.len() != QUERIES.len() {
        return Err(SnapshotError::Results { expected: QUERIES.len(), found: results.len() });
    }
    let rows = Rows(results);
    let mut catalogue = Catalogue { epoch: Catalogue::epoch_of(&results), ..Catalogue::default() };
    catalogue.search_path = path(results)?;
    let partitions = relations(&rows, &mut catalogue)?;
    for [name, is_stable] in rows.of(7)? {
        Arc::make_mut(&mut catalogue.builtin_functions).insert(name.to_owned());
        if flag(7, is_stable)? {
            Arc::make_mut(&mut catalogue.stable_builtin_functions).insert(name.to_owned());
        }
    }
    for [name, schema, reaches_outside] in rows.of(8)? {
        catalogue.reaches_outside |= reaches_outside == "t";
        let user_functions = Arc::make_mut(&mut catalogue.user_functions);
        user_functions.entry(name.to_owned()).or_default().insert(schema.to_owned());
    }
    for [name] in rows.of(9)? {
        catalogue.user_operators.insert(name.to_owned());
    }
    for [name] in rows.of(10)? {
        catalogue.opaque_types.insert(name.to_owned());
    }
    for [oid] in rows.of(11)? {
        if let Some(relation) = catalogue.relations.get(&number(11, oid)?) {
            catalogue.opaque_relations.insert(relation.name.clone());
        }
    }
    automatic::code(&rows, &mut catalogue)?;
    types(&rows, &mut catalogue)?;
    namesakes(&rows, &mut catalogue)?;
    // Before the views, whose definitions may call functions.
    catalogue.definitions = Arc::new(definitions::definitions(&rows, &catalogue.search_path)?);
    generated_columns(&rows, &mut catalogue)?;
    inherited_columns(&rows, &mut catalogue, &partitions)?;
    views(&rows, &mut catalogue)?;
    Ok(catalogue)
}

/// The path, from the rows of `PATH_QUERY` alone or of all queries.
pub fn path(results: &[Vec<Vec<Option<String>>>]) -> Result<Vec<String>, SnapshotError> {
    Ok(Rows(results).of(0)?.into_iter().map(|[schema]| schema.to_owned()).collect())
}

pub(super) struct Rows<'r>(&'r [Vec<Vec<Option<String>>>]);

impl<'r> Rows<'r> {
    /// The rows of a query that returns `N` columns, none of them NULL.
    pub(super) fn of<const N: usize>(&self, query: usize) -> Result<Vec<[&'r str; N]>, SnapshotError> {
        let wrong = SnapshotError::Row { query };
        let rows = self.0.get(query).ok_or_else(|| wrong.clone())?;
        rows.iter()
            .map(|row| {
                let values: Option<Vec<&str>> = row.iter().map(Option::as_deref).collect();
                values.and_then(|values| values.try_into().ok()).ok_or_else(|| wrong.clone())
            })
            .collect()
    }
}

pub(super) fn number<T: std::str::FromStr>(query: usize, text: &str) -> Result<T, SnapshotError> {
    text.parse().map_err(|_| SnapshotError::Row { query })
}

pub(super) fn flag(query: usize, text: &str) -> Result<bool, SnapshotError> {
    match text {
        "t" => Ok(true),
        "f" => Ok(false),
        _ => Err(SnapshotError::Row { query }),
    }
}

/// Fills in relations and columns; returns the oids of partitions.
fn relations(rows: &Rows<'_>, catalogue: &mut Catalogue) -> Result<BTreeSet<u32>, SnapshotError> {
    let mut columns: HashMap<u32, Vec<Column>> = HashMap::new();
    for [relation, attribute, name, type_oid, modifier, collation] in rows.of(2)? {
        columns.entry(number(2, relation)?).or_default().push(Column {
            name: name.to_owned(),
            number: number(2, attribute)?,
            type_oid: number(2, type_oid)?,
            modifier: number(2, modifier)?,
            collation: number(2, collation)?,
            origins: BTreeSet::new(),
            is_computed: false,
        });
    }
    let mut partitions = BTreeSet::new();
    for [oid, schema, name, kind, is_partition] in rows.of(1)? {
        let oid = number(1, oid)?;
        let kind = match kind {
            "r" | "p" => RelationKind::Table,
            "v" => RelationKind::View,
            "m" => RelationKind::MaterialisedView,
            "f" => RelationKind::ForeignTable,
            "S" => RelationKind::Sequence,
            _ => return Err(SnapshotError::Row { query: 1 }),
        };
        if flag(1, is_partition)? {
            partitions.insert(oid);
        }
        let name = RelationName { schema: schema.to_owned(), name: name.to_owned() };
        let mut columns = columns.remove(&oid).unwrap_or_default();
        if !matches!(kind, RelationKind::View | RelationKind::MaterialisedView) {
            for column in &mut columns {
                column.origins.insert(ColumnName { relation: name.clone(), column: column.name.clone() });
            }
        }
        catalogue.insert(Relation { oid, name, kind, columns });
    }
    Ok(partitions)
}

fn types(rows: &Rows<'_>, catalogue: &mut Catalogue) -> Result<(), SnapshotError> {
    for [oid, kind, name, inner, label, fields] in rows.of(12)? {
        let inner: u32 = number(12, inner)?;
        let kind = match (kind, inner) {
            ("b", 0) => TypeKind::Base(name.to_owned()),
            ("b", element) => TypeKind::Array(element),
            ("d", base) => TypeKind::Domain(base),
            ("r", subtype) => TypeKind::Range(subtype),
            ("m", subtype) => TypeKind::Multirange(subtype),
            ("e", _) => TypeKind::Enum(label.to_owned()),
            ("c", _) => {
                let fields = fields.split_ascii_whitespace().map(|field| number(12, field));
                TypeKind::Composite(fields.collect::<Result<_, _>>()?)
            }
            // A pseudo-type is no column's.
            _ => continue,
        };
        Arc::make_mut(&mut catalogue.types).insert(number(12, oid)?, kind);
    }
    Ok(())
}

/// What bears the name of PostgreSQL's own, and the encoding. One that is not known is taken for the worst.
fn namesakes(rows: &Rows<'_>, catalogue: &mut Catalogue) -> Result<(), SnapshotError> {
    catalogue.encoding = Encoding::Other;
    let mut overloaded = Overloaded::default();
    for [kind, name, schema] in rows.of(13)? {
        match kind {
            "f" => drop(overloaded.functions.insert(name.to_owned())),
            "o" => drop(overloaded.operators.insert(name.to_owned())),
            "t" => {
                overloaded.types.entry(name.to_owned()).or_default().insert(schema.to_owned());
            }
            "e" => catalogue.encoding = encoding(name),
            _ => return Err(SnapshotError::Row { query: 13 }),
        }
    }
    catalogue.overloaded = Arc::new(overloaded);
    Ok(())
}

fn encoding(name: &str) -> Encoding {
    if matches!(name, "UTF8" | "LATIN1") { Encoding::Whole } else { Encoding::Other }
}

/// A generated column shows what it is made of.
fn generated_columns(rows: &Rows<'_>, catalogue: &mut Catalogue) -> Result<(), SnapshotError> {
    for [relation, attribute, source] in rows.of(6)? {
        let (attribute, source): (i16, i16) = (number(6, attribute)?, number(6, source)?);
        let Some(relation) = Arc::make_mut(&mut catalogue.relations).get_mut(&number(6, relation)?) else {
            continue;
        };
        let sources: BTreeSet<ColumnName> = relation
            .columns
            .iter()
            .filter(|column| column.number == source || source == 0)
            .flat_map(|column| column.origins.iter().cloned())
            .collect();
        for column in relation.columns.iter_mut().filter(|column| column.number == attribute) {
            column.is_computed = true;
            column.origins.extend(sources.iter().cloned());
        }
    }
    Ok(())
}

/// A child's column is also its ancestors'. A parent also shows its children's rows; not so partitions, which
/// may be thousands and are governed by their parent.
fn inherited_columns(
    rows: &Rows<'_>,
    catalogue: &mut Catalogue,
    partitions: &BTreeSet<u32>,
) -> Result<(), SnapshotError> {
    let mut parents: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for [child, parent] in rows.of(5)? {
        let (child, parent) = (number(5, child)?, number(5, parent)?);
        parents.entry(child).or_default().push(parent);
        if !partitions.contains(&child) {
            children.entry(parent).or_default().push(child);
        }
    }
    let kin: BTreeSet<u32> = parents.keys().chain(children.keys()).copied().collect();
    let mut additions: Vec<(u32, String, BTreeSet<ColumnName>)> = Vec::new();
    for oid in kin {
        let Some(relation) = catalogue.relations.get(&oid) else { continue };
        let mut others = reachable(oid, &parents);
        others.extend(reachable(oid, &children));
        for column in &relation.columns {
            let mut origins = BTreeSet::new();
            for other in others.iter().filter_map(|other| catalogue.relations.get(other)) {
                for same in other.columns.iter().filter(|other| other.name == column.name) {
                    origins.extend(same.origins.iter().cloned());
                }
            }
            if !origins.is_empty() {
                additions.push((oid, column.name.clone(), origins));
            }
        }
    }
    for (oid, name, origins) in additions {
        if let Some(relation) = Arc::make_mut(&mut catalogue.relations).get_mut(&oid) {
            for column in relation.columns.iter_mut().filter(|column| column.name == name) {
                column.origins.extend(origins.iter().cloned());
            }
        }
    }
    Ok(())
}

fn reachable(from: u32, edges: &BTreeMap<u32, Vec<u32>>) -> BTreeSet<u32> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(oid) = open.pop() {
        for next in edges.get(&oid).into_iter().flatten() {
            if seen.insert(*next) {
                open.push(*next);
            }
        }
    }
    seen.remove(&from);
    seen
}

/// Views show what their definitions read: column by column where the definition can be read, otherwise every
/// column that the view depends on.
fn views(rows: &Rows<'_>, catalogue: &mut Catalogue) -> Result<(), SnapshotError> {
    let mut definitions: BTreeMap<u32, &str> = BTreeMap::new();
    for [oid, text] in rows.of(3)? {
        definitions.insert(number(3, oid)?, text);
    }
    let mut depends: BTreeMap<u32, BTreeSet<(u32, i16)>> = BTreeMap::new();
    for [view, relation, attribute] in rows.of(4)? {
        depends.entry(number(4, view)?).or_default().insert((number(4, relation)?, number(4, attribute)?));
    }
    let mut open: Vec<u32> = catalogue
        .relations
        .values()
        .filter(|relation| matches!(relation.kind, RelationKind::View | RelationKind::MaterialisedView))
        .map(|relation| relation.oid)
        .filter(|oid| definitions.contains_key(oid) || depends.contains_key(oid))
        .collect();
    open.sort_unstable();
    // Views over views come after the views that they read.
    while !open.is_empty() {
        let waits = |oid: &u32| {
            depends
                .get(oid)
                .is_some_and(|on| on.iter().any(|(other, _)| other != oid && open.contains(other)))
        };
        let (mut later, mut ready): (Vec<u32>, Vec<u32>) = open.iter().partition(|oid| waits(oid));
        if ready.is_empty() {
            ready = std::mem::take(&mut later); // no such circle can be; end all the same
        }
        for oid in &ready {
            let exact = definitions.get(oid).and_then(|text| view_columns(text, catalogue));
            let empty = BTreeSet::new();
            let coarse = all_columns(catalogue, depends.get(oid).unwrap_or(&empty));
            let opaque = catalogue
                .relations
                .get(oid)
                .is_some_and(|relation| catalogue.opaque_relations.contains(&relation.name));
            let from_opaque = depends.get(oid).unwrap_or(&empty).iter().any(|(other, _)| {
                catalogue
                    .relations
                    .get(other)
                    .is_some_and(|relation| catalogue.opaque_relations.contains(&relation.name))
            });
            let Some(relation) = Arc::make_mut(&mut catalogue.relations).get_mut(oid) else { continue };
            if from_opaque && !opaque {
                catalogue.opaque_relations.insert(relation.name.clone());
            }
            match exact {
                Some(columns) if columns.len() == relation.columns.len() => {
                    for (column, shown) in relation.columns.iter_mut().zip(columns) {
                        column.is_computed = shown.is_computed;
                        column.origins.extend(shown.origins);
                    }
                }
                _ => {
                    for column in &mut relation.columns {
                        column.is_computed = true;
                        column.origins.extend(coarse.iter().cloned());
                    }
                }
            }
        }
        open = later;
    }
    Ok(())
}

fn all_columns(catalogue: &Catalogue, depends: &BTreeSet<(u32, i16)>) -> BTreeSet<ColumnName> {
    let mut origins = BTreeSet::new();
    for (oid, attribute) in depends {
        let Some(relation) = catalogue.relations.get(oid) else { continue };
        for column in relation.columns.iter().filter(|column| *attribute == 0 || column.number == *attribute)
        {
            origins.insert(ColumnName { relation: relation.name.clone(), column: column.name.clone() });
            origins.extend(column.origins.iter().cloned());
        }
    }
    origins
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::QUERIES;

    #[test]
    fn every_operator_is_named_with_its_schema() {
        let is_operator = |character: char| "+-*/<>=~!@#%^&|`?".contains(character);
        for query in QUERIES {
            // What stands between quotes is text.
            let code: String = query.split('\'').step_by(2).collect();
            for (at, _) in code.char_indices().filter(|(_, character)| is_operator(*character)) {
                let before = code[..at].trim_end_matches(is_operator);
                assert!(before.ends_with("OPERATOR(pg_catalog."), "{}", &code[at.saturating_sub(40)..]);
            }
            assert!(!code.contains(" IN (") && !code.contains("BETWEEN") && !code.contains("LIKE"), "{code}");
        }
    }
}
