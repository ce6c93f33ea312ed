//! What the server runs by itself, out of its catalogue: the queries that ask for it and what they say. Everything is
//! asked for by what hangs on functions that are not PostgreSQL's own, so that a schema without any costs nothing.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use crate::domain::catalogue::Catalogue;
use crate::domain::code::{Code, Events, Expression, ForeignKey, Function, Language, Text, Trigger};
use crate::domain::statement::RelationName;

use super::functions;
use super::snapshot::{Rows, SnapshotError, flag, number};

/// Place of the first of these queries among those of the snapshot.
pub(super) const FIRST: usize = 14;

/// Functions that are not PostgreSQL's own, with the text of those that can be read.
pub(super) const FUNCTIONS: &str = "SELECT p.oid, n.nspname, p.proname, l.lanname, p.provolatile OPERATOR(pg_catalog.=) 'i', \
     COALESCE((SELECT x.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension x ON x.oid OPERATOR(pg_catalog.=) d.refobjid \
     WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) p.oid \
     AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype OPERATOR(pg_catalog.=) 'e' LIMIT '1'), ''), \
     CASE WHEN l.lanname OPERATOR(pg_catalog.=) ANY ('{sql,plpgsql,internal}'::pg_catalog.name[]) THEN p.prosrc ELSE '' END \
     FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
     JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang WHERE p.oid OPERATOR(pg_catalog.>=) 16384";

/// What they are known to call and to use.
pub(super) const CALLS: &str = "SELECT d.objid, d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass, d.refobjid \
     FROM pg_catalog.pg_depend d WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass \
     AND d.objid OPERATOR(pg_catalog.>=) 16384 AND (d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
     OR d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refobjid OPERATOR(pg_catalog.>=) 16384)";

/// Triggers.
pub(super) const TRIGGERS: &str = "SELECT t.tgrelid, t.tgfoid, t.tgtype, t.tgdeferrable, \
     t.tgnewtable IS NOT NULL OR t.tgoldtable IS NOT NULL FROM pg_catalog.pg_trigger t WHERE t.tgfoid OPERATOR(pg_catalog.>=) 16384";

/// Functions, and operators' functions, in expressions that hang on a relation. Those of a view and of row policies are
/// computed whenever it is read.
pub(super) const IN_EXPRESSIONS: &str = "SELECT COALESCE(r.ev_class, f.adrelid, k.conrelid, p.polrelid, t.tgrelid, i.indrelid, s.stxrelid, c.oid), \
     r.ev_type IS NOT NULL AND r.ev_type OPERATOR(pg_catalog.=) '1' OR p.oid IS NOT NULL, COALESCE(x.oprcode::pg_catalog.oid, d.refobjid) \
     FROM pg_catalog.pg_depend d \
     LEFT JOIN pg_catalog.pg_operator x ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass AND x.oid OPERATOR(pg_catalog.=) d.refobjid \
     LEFT JOIN pg_catalog.pg_rewrite r ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND r.oid OPERATOR(pg_catalog.=) d.objid \
     LEFT JOIN pg_catalog.pg_attrdef f ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND f.oid OPERATOR(pg_catalog.=) d.objid \
     LEFT JOIN pg_catalog.pg_constraint k ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.oid OPERATOR(pg_catalog.=) d.objid \
     LEFT JOIN pg_catalog.pg_policy p ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_policy'::pg_catalog.regclass AND p.oid OPERATOR(pg_catalog.=) d.objid \
     LEFT JOIN pg_catalog.pg_trigger t ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_trigger'::pg_catalog.regclass AND t.oid OPERATOR(pg_catalog.=) d.objid \
     AND t.tgfoid OPERATOR(pg_catalog.<>) d.refobjid \
     LEFT JOIN pg_catalog.pg_index i ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AND i.indexrelid OPERATOR(pg_catalog.=) d.objid \
     LEFT JOIN pg_catalog.pg_statistic_ext s ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass AND s.oid OPERATOR(pg_catalog.=) d.objid \
     LEFT JOIN pg_catalog.pg_class c ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid OPERATOR(pg_catalog.=) d.objid \
     WHERE d.refobjid OPERATOR(pg_catalog.>=) 16384 AND (d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass \
     OR d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass) \
     AND COALESCE(r.ev_class, f.adrelid, k.conrelid, p.polrelid, t.tgrelid, i.indrelid, s.stxrelid, c.oid) IS NOT NULL";

/// The same in the constraints of domains.
pub(super) const IN_DOMAINS: &str = "SELECT y.oid, y.typname, COALESCE(x.oprcode::pg_catalog.oid, d.refobjid) \
     FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_type y ON y.oid OPERATOR(pg_catalog.=) k.contypid \
     JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) k.oid \
     LEFT JOIN pg_catalog.pg_operator x ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass AND x.oid OPERATOR(pg_catalog.=) d.refobjid \
     WHERE k.contypid OPERATOR(pg_catalog.<>) 0 AND d.refobjid OPERATOR(pg_catalog.>=) 16384 \
     AND (d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass \
     OR d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass)";

/// Functions of event triggers, of casts and of operator classes, and those behind operators by the operator's name.
pub(super) const ELSEWHERE: &str = "SELECT 'definition', '', e.evtfoid FROM pg_catalog.pg_event_trigger e \
     UNION ALL SELECT 'anywhere', '', c.castfunc FROM pg_catalog.pg_cast c WHERE c.castfunc OPERATOR(pg_catalog.>=) 16384 \
     UNION ALL SELECT 'anywhere', '', m.amproc::pg_catalog.oid FROM pg_catalog.pg_amproc m WHERE m.amproc::pg_catalog.oid OPERATOR(pg_catalog.>=) 16384 \
     UNION ALL SELECT 'operator', o.oprname::pg_catalog.text, o.oprcode::pg_catalog.oid FROM pg_catalog.pg_operator o \
     WHERE o.oid OPERATOR(pg_catalog.>=) 16384 AND o.oprcode::pg_catalog.oid OPERATOR(pg_catalog.>=) 16384";

/// Foreign keys.
pub(super) const FOREIGN_KEYS: &str = "SELECT k.conname, k.conrelid, k.conkey::pg_catalog.text, k.confrelid, k.confkey::pg_catalog.text, \
     k.confupdtype, k.confdeltype FROM pg_catalog.pg_constraint k WHERE k.contype OPERATOR(pg_catalog.=) 'f'";

/// What rules use, views' own apart.
pub(super) const RULES: &str = "SELECT DISTINCT r.ev_class, d.refobjid FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d \
     ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) r.oid \
     AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
     WHERE r.ev_type OPERATOR(pg_catalog.<>) '1'";

/// Expressions that are computed of a row whenever it is written, and those of row policies.
pub(super) const EXPRESSIONS: &str = "SELECT k.conrelid, false, COALESCE(pg_catalog.pg_get_expr(k.conbin, k.conrelid), '') \
     FROM pg_catalog.pg_constraint k WHERE k.contype OPERATOR(pg_catalog.=) 'c' AND k.conrelid OPERATOR(pg_catalog.>=) 16384 \
     UNION ALL SELECT f.adrelid, a.attgenerated OPERATOR(pg_catalog.=) 'v', COALESCE(pg_catalog.pg_get_expr(f.adbin, f.adrelid), '') FROM pg_catalog.pg_attrdef f \
     JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) f.adrelid AND a.attnum OPERATOR(pg_catalog.=) f.adnum \
     WHERE a.attgenerated OPERATOR(pg_catalog.<>) '' AND f.adrelid OPERATOR(pg_catalog.>=) 16384 \
     UNION ALL SELECT i.indrelid, false, COALESCE(pg_catalog.pg_get_expr(i.indexprs, i.indrelid), '') FROM pg_catalog.pg_index i \
     WHERE i.indexprs IS NOT NULL AND i.indrelid OPERATOR(pg_catalog.>=) 16384 \
     UNION ALL SELECT i.indrelid, false, COALESCE(pg_catalog.pg_get_expr(i.indpred, i.indrelid), '') FROM pg_catalog.pg_index i \
     WHERE i.indpred IS NOT NULL AND i.indrelid OPERATOR(pg_catalog.>=) 16384 \
     UNION ALL SELECT p.polrelid, true, COALESCE(pg_catalog.pg_get_expr(p.polqual, p.polrelid), '') FROM pg_catalog.pg_policy p WHERE p.polqual IS NOT NULL \
     UNION ALL SELECT p.polrelid, true, COALESCE(pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid), '') FROM pg_catalog.pg_policy p WHERE p.polwithcheck IS NOT NULL";

/// Extensions whose compiled functions look at nothing but their arguments, and quote these at most in an error of their
/// own SQLSTATE class, as PostgreSQL's do. `moddatetime` sets a column of its row.
const HARMLESS_EXTENSIONS: &[&str] = &[
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "earthdistance",
    "fuzzystrmatch",
    "hstore",
    "intarray",
    "isn",
    "ltree",
    "moddatetime",
    "pg_trgm",
    "pgcrypto",
    "postgis",
    "seg",
    "unaccent",
    "uuid-ossp",
    "vector",
];

/// Fills in the code.
pub(super) fn code(rows: &Rows<'_>, catalogue: &mut Catalogue) -> Result<(), SnapshotError> {
    let mut code = Code::default();
    user_functions(rows, &mut code)?;
    attached(rows, &mut code)?;
    foreign_keys(rows, &mut code)?;
    for relation in catalogue.relations.values() {
        // What is PostgreSQL's own is no secret, or nobody may read it.
        if !matches!(relation.name.schema.as_str(), "pg_catalog" | "information_schema") {
            code.relations.entry(relation.name.name.clone()).or_default().push(relation.oid);
        }
    }
    catalogue.code = code.into();
    Ok(())
}

fn user_functions(rows: &Rows<'_>, code: &mut Code) -> Result<(), SnapshotError> {
    for [oid, schema, name, language, is_immutable, extension, text] in rows.of(FIRST)? {
        let oid = number(FIRST, oid)?;
        let is_immutable = flag(FIRST, is_immutable)?;
        let language = match language {
            "sql" => Language::Sql,
            "plpgsql" => Language::PlPgSql,
            // PostgreSQL's own under another name.
            "internal" if !functions::runs_anything(text) => Language::Harmless,
            // Without tables to look at, it has nothing but what it is given.
            "c" if is_immutable || HARMLESS_EXTENSIONS.contains(&extension) => Language::Harmless,
            "c" if !extension.is_empty() && extension != "tcn" => Language::Compiled,
            _ => Language::Unreadable,
        };
        code.by_name.entry(name.to_owned()).or_default().push(oid);
        let function = Function {
            name: RelationName { schema: schema.to_owned(), name: name.to_owned() },
            language,
            text: text.to_owned(),
            calls: BTreeSet::new(),
            uses: BTreeSet::new(),
            body: OnceLock::new(),
        };
        code.functions.insert(oid, function);
    }
    let query = FIRST + 1;
    for [function, is_relation, other] in rows.of(query)? {
        let Some(function) = code.functions.get_mut(&number(query, function)?) else { continue };
        let of = if flag(query, is_relation)? { &mut function.uses } else { &mut function.calls };
        of.insert(number(query, other)?);
    }
    Ok(())
}

fn attached(rows: &Rows<'_>, code: &mut Code) -> Result<(), SnapshotError> {
    let query = FIRST + 2;
    for [relation, function, kind, is_deferrable, has_tables] in rows.of(query)? {
        let kind: i16 = number(query, kind)?;
        let events = [
            (1 << 2, Events::INSERT),
            (1 << 3, Events::DELETE),
            (1 << 4, Events::UPDATE),
            (1 << 5, Events::TRUNCATE),
        ];
        let events = events
            .into_iter()
            .filter(|(bit, _)| kind & bit != 0)
            .fold(Events::NONE, |all, (_, event)| all.and(event));
        code.attached.entry(number(query, relation)?).or_default().triggers.push(Trigger {
            function: number(query, function)?,
            events,
            is_deferrable: flag(query, is_deferrable)?,
            has_tables: flag(query, has_tables)?,
        });
    }
    let query = FIRST + 3;
    for [relation, is_read, function] in rows.of(query)? {
        let events = when_computed(flag(query, is_read)?);
        let attached = code.attached.entry(number(query, relation)?).or_default();
        attached.functions.push((number(query, function)?, events));
    }
    let query = FIRST + 4;
    for [oid, name, function] in rows.of(query)? {
        let function = number(query, function)?;
        code.domains.entry(number(query, oid)?).or_default().push(function);
        code.domains_by_name.entry(name.to_owned()).or_default().push(function);
    }
    let query = FIRST + 5;
    for [place, name, function] in rows.of(query)? {
        let function = number(query, function)?;
        match place {
            "definition" => code.on_definition.push(function),
            "operator" => code.operators.entry(name.to_owned()).or_default().push(function),
            _ => code.anywhere.push(function),
        }
    }
    let query = FIRST + 7;
    for [relation, other] in rows.of(query)? {
        let attached = code.attached.entry(number(query, relation)?).or_default();
        attached.ruled.insert(number(query, other)?);
    }
    let query = FIRST + 8;
    for [relation, is_read, text] in rows.of(query)? {
        let events = when_computed(flag(query, is_read)?);
        code.attached.entry(number(query, relation)?).or_default().expressions.push(Expression {
            events,
            text: Text::Expressions(text.to_owned()),
            fails_by: OnceLock::new(),
        });
    }
    for [view, text] in rows.of(3)? {
        code.attached.entry(number(3, view)?).or_default().expressions.push(Expression {
            events: Events::ALL,
            text: Text::Query(text.trim_end().trim_end_matches(';').to_owned()),
            fails_by: OnceLock::new(),
        });
    }
    for [view, relation, _] in rows.of(4)? {
        code.attached.entry(number(4, view)?).or_default().parts.insert(number(4, relation)?);
    }
    for [child, parent] in rows.of(5)? {
        code.attached.entry(number(5, parent)?).or_default().children.insert(number(5, child)?);
    }
    Ok(())
}

/// When an expression is computed: what is read is written as well.
const fn when_computed(is_read: bool) -> Events {
    let written = Events::WRITE.and(Events::DEFINE);
    if is_read { written.and(Events::READ) } else { written }
}

fn foreign_keys(rows: &Rows<'_>, code: &mut Code) -> Result<(), SnapshotError> {
    let query = FIRST + 6;
    for [name, child, child_columns, parent, parent_columns, on_update, on_delete] in rows.of(query)? {
        let parent = number(query, parent)?;
        let place = code.foreign_keys.len();
        code.foreign_keys.push(ForeignKey {
            name: name.to_owned(),
            child: number(query, child)?,
            child_columns: numbers(query, child_columns)?,
            parent,
            parent_columns: numbers(query, parent_columns)?,
            on_update: if matches!(on_update, "c" | "n" | "d") { Events::UPDATE } else { Events::NONE },
            on_delete: match on_delete {
                "c" => Events::DELETE,
                "n" | "d" => Events::UPDATE,
                _ => Events::NONE,
            },
        });
        code.referenced.entry(parent).or_default().push(place);
    }
    Ok(())
}

/// The elements of an array of numbers, as text.
fn numbers(query: usize, text: &str) -> Result<Vec<i16>, SnapshotError> {
    let inside = text.trim_start_matches('{').trim_end_matches('}');
    inside.split(',').filter(|part| !part.is_empty()).map(|part| number(query, part)).collect()
}
