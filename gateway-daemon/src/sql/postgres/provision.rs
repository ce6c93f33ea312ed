//! The grants of a role that can do what agents need and read no tagged column, as SQL for an administrator to read and
//! run. The columns are looked up when it runs, so that it fits whatever the database holds then.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// What the role may do beside reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Read,
    /// Insert, update and delete rows.
    Write,
}

/// The SQL, for psql. `tagged` are columns as `schema.table.column`.
pub fn provision(role: &str, access: Access, tagged: &BTreeSet<String>) -> String {
    let (name, role) = (literal(role), identifier(role));
    let mut values = String::new();
    for column in tagged {
        let mut parts = column.splitn(3, '.');
        if let (Some(schema), Some(table), Some(column)) = (parts.next(), parts.next(), parts.next()) {
            let separator = if values.is_empty() { "" } else { ", " };
            let _ =
                write!(values, "{separator}({}, {}, {})", literal(schema), literal(table), literal(column));
        }
    }
    if values.is_empty() {
        values.push_str("(NULL, NULL, NULL)");
    }
    let writes = match access {
        Access::Read => "",
        Access::Write => WRITES,
    };
    TEMPLATE
        .replace("-- writes\n", writes)
        .replace(":values", &values)
        .replace(":name", &name)
        .replace(":role", &role)
}

/// A role that may write needs the sequences behind its tables' keys as well.
const WRITES: &str = "        IF relation.kind IN ('r', 'p') THEN
            EXECUTE pg_catalog.format('GRANT INSERT, UPDATE, DELETE ON %s TO %I', relation.name, :name);
        END IF;
";

const TEMPLATE: &str = "-- The least that a role for agents needs: it owns nothing, and reads no tagged column, nor a view over a table with one.
-- Run it as an administrator in the target's database: psql -d DATABASE -v ON_ERROR_STOP=1 -f FILE
-- Afterwards give the role a password, with psql's \\password, and nodegate the same. It can be run again.
BEGIN;
-- Nobody's functions and operators but PostgreSQL's own run with an administrator's rights.
SET LOCAL search_path = '';
DO $nodegate$
DECLARE
    relation record;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :name) THEN
        CREATE ROLE :role LOGIN;
    END IF;
    FOR relation IN
        WITH RECURSIVE hidden (relation, number) AS (
            SELECT a.attrelid, a.attnum
            FROM (VALUES :values) AS tagged (schema, name, attribute)
            JOIN pg_catalog.pg_namespace n ON n.nspname = tagged.schema
            JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = tagged.name
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = tagged.attribute
            UNION
            SELECT more.relation, more.number FROM hidden AS h, LATERAL (
                -- Partitions and children hold the same column, and parents show it.
                SELECT other.attrelid AS relation, other.attnum AS number
                FROM pg_catalog.pg_inherits i
                JOIN pg_catalog.pg_attribute own ON own.attrelid = h.relation AND own.attnum = h.number
                JOIN pg_catalog.pg_attribute other ON other.attname = own.attname
                    AND other.attrelid = CASE i.inhparent WHEN h.relation THEN i.inhrelid ELSE i.inhparent END
                WHERE h.relation IN (i.inhparent, i.inhrelid)
                UNION ALL
                -- Generated columns are made of it.
                SELECT f.adrelid, f.adnum
                FROM pg_catalog.pg_depend d
                JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid
                JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
                WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.refobjid = h.relation
                    AND d.refobjsubid IN (h.number, 0) AND a.attgenerated <> ''
                UNION ALL
                -- Views read it with their owner's rights.
                SELECT a.attrelid, a.attnum
                FROM pg_catalog.pg_depend d
                JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid
                JOIN pg_catalog.pg_attribute a ON a.attrelid = w.ev_class AND a.attnum > 0
                WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.refobjid = h.relation
                    AND w.ev_class <> h.relation
            ) AS more
        )
        SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name,
            n.nspname AS schema, c.relkind AS kind,
            pg_catalog.bool_or(h.number IS NOT NULL) AS has_hidden,
            pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum)
                FILTER (WHERE h.number IS NULL) AS shown
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN hidden h ON h.relation = a.attrelid AND h.number = a.attnum
        WHERE c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
        GROUP BY n.nspname, c.relname, c.relkind
        ORDER BY n.nspname, c.relname
    LOOP
        EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA %I TO %I', relation.schema, :name);
        EXECUTE pg_catalog.format('REVOKE ALL ON %s FROM %I', relation.name, :name);
        IF NOT relation.has_hidden THEN
            EXECUTE pg_catalog.format('GRANT SELECT ON %s TO %I', relation.name, :name);
        ELSIF relation.shown IS NOT NULL THEN
            EXECUTE pg_catalog.format('GRANT SELECT (%s) ON %s TO %I', relation.shown, relation.name, :name);
        ELSE
            RAISE NOTICE '% is left out: it shows tagged columns', relation.name;
            CONTINUE;
        END IF;
-- writes
    END LOOP;
    EXECUTE pg_catalog.format('GRANT CONNECT ON DATABASE %I TO %I', pg_catalog.current_database(), :name);
END
$nodegate$;
ALTER ROLE :role NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
-- Everybody may make objects there in databases from before PostgreSQL 15, and a temporary one can shadow another.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
COMMIT;
";

fn literal(text: &str) -> String {
    // E'…' reads a backslash alike whatever the server's settings.
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn identifier(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_letters_stay_names() {
        let tagged = BTreeSet::from(["public.customers.e'mail".to_owned(), "no column".to_owned()]);
        let sql = provision("a\"b'c", Access::Read, &tagged);
        assert!(sql.contains("(VALUES (E'public', E'customers', E'e''mail'))"), "{sql}");
        assert!(sql.contains("CREATE ROLE \"a\"\"b'c\" LOGIN"), "{sql}");
        assert!(!sql.contains("INSERT") && provision("a", Access::Write, &tagged).contains("INSERT"));
        assert!(super::super::parser::parse(&sql, usize::MAX).is_ok(), "{sql}");
    }
}
