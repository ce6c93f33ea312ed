//! What a definition is about: each form of each statement, with the columns that it notes as defined (D).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{check_against, shop};
use crate::domain::catalogue::{Catalogue, TypeKind};
use crate::domain::definitions::{Constraint, Definitions, Function, Index};
use crate::domain::statement::{ColumnName, RelationName};

const ADDRESS: u32 = 20_001;
const PLACE: u32 = 20_002;
const MOOD: u32 = 20_003;
const PLACES: u32 = 20_004;

fn named(name: &str) -> RelationName {
    RelationName { schema: "public".to_owned(), name: name.to_owned() }
}

/// The shop, with keys, types, a child, a generated column and functions in SQL.
fn more() -> Catalogue {
    let mut catalogue = shop();
    super::table(&mut catalogue, 90_010, "staff", &["id", "name", "email", "ssn", "grade"]);
    super::table(&mut catalogue, 90_011, "people", &["id", "mail", "home", "homes", "mood", "host"]);
    super::table(&mut catalogue, 90_012, "typed", &["street", "number"]);
    super::table(&mut catalogue, 90_013, "events", &["id", "region", "payload"]);
    let relations = Arc::make_mut(&mut catalogue.relations);
    for (child, parent) in [(90_010, 90_001), (90_001, 90_010)] {
        let theirs = relations[&parent].name.clone();
        let names: Vec<String> =
            relations[&parent].columns.iter().map(|column| column.name.clone()).collect();
        for column in &mut relations.get_mut(&child).unwrap().columns {
            if names.contains(&column.name) {
                column.origins.insert(ColumnName { relation: theirs.clone(), column: column.name.clone() });
            }
        }
    }
    let people = relations.get_mut(&90_011).unwrap();
    for (name, oid) in [("mail", ADDRESS), ("home", PLACE), ("homes", PLACES), ("mood", MOOD)] {
        people.columns.iter_mut().find(|column| column.name == name).unwrap().type_oid = oid;
    }
    let host = people.columns.iter_mut().find(|column| column.name == "host").unwrap();
    host.is_computed = true;
    host.origins.insert(ColumnName { relation: named("people"), column: "mail".to_owned() });
    Arc::make_mut(&mut catalogue.types).extend([
        (ADDRESS, TypeKind::Domain(25)),
        (PLACE, TypeKind::Composite(vec![25, MOOD])),
        (MOOD, TypeKind::Enum("calm".to_owned())),
        (PLACES, TypeKind::Array(PLACE)),
    ]);
    let function = |schema: &str, text: &str| Function {
        schema: schema.to_owned(),
        definition: (!text.is_empty()).then(|| text.to_owned()),
    };
    let key = |columns: &[i16]| Constraint { columns: columns.to_vec(), referred: None };
    let definition = |name: &str, rest: &str| format!("CREATE OR REPLACE FUNCTION public.{name} {rest}");
    let text =
        |name: &str, body: &str| definition(name, &format!("LANGUAGE sql AS $function${body}$function$"));
    catalogue.definitions = Arc::new(Definitions {
        types: [("address", ADDRESS), ("place", PLACE), ("mood", MOOD)]
            .map(|(name, oid)| (named(name), oid))
            .into(),
        typed_tables: [(PLACE, vec![90_012])].into(),
        constraints: [
            ((90_001, "on_ssn".to_owned()), key(&[4])),
            (
                (90_002, "of_customer".to_owned()),
                Constraint { columns: vec![2], referred: Some((90_001, vec![1])) },
            ),
        ]
        .into(),
        indexes: [
            (named("customers_pkey"), Index { relation: 90_001, columns: vec![1] }),
            (named("customers_email"), Index { relation: 90_001, columns: vec![3] }),
            (named("customers_upper"), Index { relation: 90_001, columns: vec![1, 0] }),
        ]
        .into(),
        primary_keys: [(90_001, vec![1]), (90_011, vec![2])].into(),
        partition_keys: [(90_013, vec![2])].into(),
        functions: [
            (
                "label_of",
                text("label_of(who text) RETURNS text", "SELECT name FROM customers WHERE id = who"),
            ),
            ("mail_of", text("mail_of(who text) RETURNS text", "SELECT email FROM customers WHERE id = $1")),
            (
                "kept",
                definition(
                    "kept(who text) RETURNS text LANGUAGE sql",
                    "BEGIN ATOMIC SELECT n.body FROM notes n WHERE (n.id = kept.who); END",
                ),
            ),
            ("returned", definition("returned(a int) RETURNS int LANGUAGE sql", "RETURN (a + 1)")),
            ("purge", text("purge() RETURNS void", "DELETE FROM notes; SELECT 1")),
            ("outer_of", text("outer_of() RETURNS text", "SELECT mail_of('1')")),
            ("circle", text("circle() RETURNS text", "SELECT circle() FROM notes")),
            ("makes", text("makes() RETURNS void", "CREATE TABLE x (a int)")),
            ("calls_f", text("calls_f() RETURNS int", "SELECT f(1)")),
            (
                "elsewhere",
                definition(
                    "elsewhere() RETURNS text LANGUAGE sql SET search_path TO 'Other', 'pg_temp'",
                    "AS $function$SELECT email FROM customers$function$",
                ),
            ),
            (
                "as_somebody",
                definition("as_somebody() RETURNS int LANGUAGE sql SET role TO 'x'", "AS 'SELECT 1'"),
            ),
            ("by_hand", String::new()),
        ]
        .map(|(name, text)| (name.to_owned(), vec![function("public", &text)]))
        .into(),
        path: vec!["pg_catalog".to_owned(), "public".to_owned()],
    });
    let names: Vec<String> = catalogue.definitions.functions.keys().cloned().collect();
    for name in names {
        Arc::make_mut(&mut catalogue.user_functions).insert(name, BTreeSet::from(["public".to_owned()]));
    }
    catalogue
}

fn check(cases: &[(&str, &str)]) {
    check_against(&more(), cases);
}

#[test]
fn every_form_of_alter_table_notes_what_it_is_about() {
    check(&[
        // What looks at no value.
        ("ALTER TABLE customers ADD COLUMN x int DEFAULT 1 NOT NULL", "alter customers"),
        (
            "ALTER TABLE customers ADD COLUMN x text REFERENCES customers (id)",
            "select customers, alter customers | D customers.id staff.id | C customers.id staff.id",
        ),
        ("ALTER TABLE customers ALTER email SET DEFAULT 'x'", "alter customers"),
        ("ALTER TABLE customers ALTER email DROP NOT NULL", "alter customers"),
        ("ALTER TABLE customers DROP CONSTRAINT on_ssn", "alter customers"),
        ("ALTER TABLE customers SET (fillfactor = 70, autovacuum_enabled = off)", "alter customers"),
        ("ALTER TABLE customers SET TABLESPACE t", "alter customers"),
        ("ALTER TABLE customers SET UNLOGGED", "alter customers"),
        ("ALTER TABLE orders DROP COLUMN note", "alter orders"),
        ("ALTER TABLE customers RENAME CONSTRAINT a TO b", "alter customers"),
        ("ALTER TABLE customers REPLICA IDENTITY DEFAULT", "alter customers"),
        (
            "ALTER TABLE customers REPLICA IDENTITY USING INDEX customers_pkey",
            "alter customers | D customers.id staff.id",
        ),
        // One column, with what it is made of.
        ("ALTER TABLE customers ALTER name SET NOT NULL", "alter customers | D customers.name staff.name"),
        (
            "ALTER TABLE people ALTER host DROP EXPRESSION",
            "alter people | D people.host people.mail | M people.host people.mail",
        ),
        (
            "ALTER TABLE people ALTER host SET EXPRESSION AS (id)",
            "alter people | D people.host people.id people.mail | C people.id | M people.id",
        ),
        ("ALTER TABLE orders ALTER note SET STATISTICS 0", "alter orders | D orders.note"),
        ("ALTER TABLE orders ALTER note SET (n_distinct = 1)", "alter orders | D orders.note"),
        ("ALTER TABLE orders ALTER note SET STORAGE PLAIN", "alter orders | D orders.note"),
        ("ALTER TABLE orders ALTER note SET COMPRESSION lz4", "alter orders | D orders.note"),
        ("ALTER TABLE orders ALTER id ADD GENERATED ALWAYS AS IDENTITY", "alter orders | D orders.id"),
        ("ALTER TABLE orders ALTER id SET GENERATED ALWAYS", "alter orders | D orders.id"),
        ("ALTER TABLE orders ALTER id DROP IDENTITY", "alter orders | D orders.id"),
        ("ALTER TABLE orders ALTER total TYPE bigint", "alter orders | D orders.total | F orders.total"),
        (
            "ALTER TABLE orders ALTER total TYPE text USING note",
            "alter orders | D orders.note orders.total | C orders.note | M orders.note",
        ),
        (
            "ALTER TABLE ONLY customers DROP COLUMN ssn",
            "alter customers | D customers.ssn staff.ssn | M customers.ssn staff.ssn",
        ),
        (
            "ALTER TABLE customers ADD COLUMN x text GENERATED ALWAYS AS (upper(email)) STORED",
            "alter customers | D customers.email staff.email | C customers.email staff.email",
        ),
        // Constraints and keys.
        (
            "ALTER TABLE customers ADD CHECK (email <> '') NOT VALID",
            "alter customers | D customers.email staff.email | C customers.email staff.email",
        ),
        (
            "ALTER TABLE customers ADD CHECK (name <> '')",
            "alter customers | D customers.name staff.name | C customers.name staff.name",
        ),
        (
            "ALTER TABLE customers ADD UNIQUE (id) INCLUDE (email)",
            "alter customers | D customers.email customers.id staff.email staff.id | C customers.email customers.id staff.email staff.id",
        ),
        (
            "ALTER TABLE customers ADD EXCLUDE USING gist (email WITH =)",
            "alter customers | D customers.email staff.email | C customers.email staff.email",
        ),
        (
            "ALTER TABLE customers ADD UNIQUE USING INDEX customers_email",
            "alter customers | D customers.email staff.email | C customers.email staff.email",
        ),
        (
            "ALTER TABLE orders ADD FOREIGN KEY (customer_id) REFERENCES customers",
            "select customers, alter orders | D customers.id orders.customer_id staff.id | C customers.id orders.customer_id staff.id",
        ),
        (
            "ALTER TABLE orders ADD FOREIGN KEY (note) REFERENCES people",
            "select people, alter orders | D orders.note people.mail | C orders.note people.mail",
        ),
        ("ALTER TABLE customers VALIDATE CONSTRAINT on_ssn", "alter customers | D customers.ssn staff.ssn"),
        (
            "ALTER TABLE orders VALIDATE CONSTRAINT of_customer",
            "alter orders | D customers.id orders.customer_id staff.id",
        ),
        (
            "ALTER TABLE orders VALIDATE CONSTRAINT unheard_of",
            "alter orders | D orders.customer_id orders.id orders.note orders.total",
        ),
        (
            "ALTER TABLE orders ALTER CONSTRAINT of_customer DEFERRABLE",
            "alter orders | D customers.id orders.customer_id staff.id",
        ),
        (
            "ALTER TABLE customers CLUSTER ON customers_pkey",
            "alter customers | D customers.id staff.id | C customers.id staff.id",
        ),
        (
            "ALTER TABLE customers CLUSTER ON customers_email",
            "alter customers | D customers.email staff.email | C customers.email staff.email",
        ),
        ("ALTER TABLE notes REPLICA IDENTITY FULL", "alter notes | D notes.body notes.id"),
        // Everything.
        ("ALTER TABLE notes SET (parallel_workers = 4)", "alter notes | D notes.body notes.id"),
        ("ALTER TABLE notes SET ACCESS METHOD other", "alter notes | D notes.body notes.id"),
        ("ALTER TABLE notes ENABLE TRIGGER t", "alter notes | D notes.body notes.id"),
        ("ALTER TABLE notes DISABLE TRIGGER ALL", "alter notes | D notes.body notes.id"),
        ("ALTER TABLE notes DISABLE RULE r", "alter notes | D notes.body notes.id"),
        ("ALTER TABLE notes FORCE ROW LEVEL SECURITY", "alter notes | D notes.body notes.id"),
        ("ALTER TABLE notes OF place", "alter notes | D notes.body notes.id"),
        ("ALTER TABLE notes NOT OF", "alter notes | D notes.body notes.id"),
        (
            "ALTER TABLE notes INHERIT typed",
            "alter notes, alter typed | D notes.body notes.id typed.number typed.street | M notes.body notes.id",
        ),
        (
            "ALTER TABLE typed ATTACH PARTITION notes DEFAULT",
            "alter notes, alter typed | D notes.body notes.id typed.number typed.street | M notes.body notes.id",
        ),
        (
            "ALTER TABLE typed DETACH PARTITION notes FINALIZE",
            "alter notes, alter typed | D notes.body notes.id typed.number typed.street | M notes.body notes.id",
        ),
        // By another name.
        (
            "ALTER TABLE customers RENAME name TO label",
            "alter customers | D customers.name staff.name | M customers.name staff.name",
        ),
        (
            "ALTER TABLE notes RENAME TO harmless",
            "alter notes | D notes.body notes.id | M notes.body notes.id",
        ),
        (
            "ALTER INDEX notes RENAME TO harmless",
            "alter notes | D notes.body notes.id | M notes.body notes.id",
        ),
        (
            "ALTER VIEW customer_mail SET SCHEMA other",
            "alter customer_mail | D customer_mail.id customer_mail.mail customers.email customers.id | M customer_mail.id customer_mail.mail customers.email customers.id",
        ),
    ]);
}

#[test]
fn a_type_is_every_column_that_has_it() {
    check(&[
        ("ALTER DOMAIN address ADD CHECK (value <> '')", "alter - | D people.mail"),
        ("ALTER DOMAIN public.address VALIDATE CONSTRAINT c", "alter - | D people.mail"),
        ("ALTER DOMAIN address SET NOT NULL", "alter - | D people.mail"),
        ("ALTER DOMAIN address DROP NOT NULL", "alter -"),
        ("ALTER DOMAIN address SET DEFAULT 'x'", "alter -"),
        ("ALTER DOMAIN address DROP CONSTRAINT c", "alter -"),
        ("ALTER DOMAIN address RENAME CONSTRAINT c TO d", "alter -"),
        ("ALTER DOMAIN address RENAME TO other", "alter - | D people.mail"),
        (
            "ALTER TYPE mood RENAME VALUE 'calm' TO 'still'",
            "alter - | D people.home people.homes people.mood",
        ),
        ("ALTER TYPE mood ADD VALUE 'loud'", "alter - | D people.home people.homes people.mood"),
        ("ALTER TYPE mood SET SCHEMA other", "alter - | D people.home people.homes people.mood"),
        (
            "ALTER TYPE place ADD ATTRIBUTE more text CASCADE",
            "alter place | D people.home people.homes typed.number typed.street",
        ),
        (
            "ALTER TYPE place ALTER ATTRIBUTE street TYPE varchar",
            "alter place | D people.home people.homes place.street typed.number typed.street | F place.street",
        ),
        (
            "ALTER TYPE place RENAME ATTRIBUTE street TO road CASCADE",
            "alter place | D people.home people.homes place.street typed.number typed.street | M place.street",
        ),
        // One that nobody knows may be any.
        (
            "ALTER DOMAIN unheard ADD CHECK (value <> '')",
            "alter - | D people.home people.homes people.mail people.mood",
        ),
        ("CREATE DOMAIN more AS text CHECK (value <> '')", "create -"),
        ("CREATE TYPE more AS (a address, b mood)", "create -"),
        ("CREATE TYPE more AS ENUM ('a')", "create -"),
    ]);
}

#[test]
fn other_definitions_note_what_they_are_about() {
    check(&[
        ("CREATE INDEX ON customers (name)", "create customers | D customers.name staff.name"),
        (
            "CREATE INDEX ON customers (id) INCLUDE (email)",
            "create customers | D customers.email customers.id staff.email staff.id",
        ),
        (
            "CREATE STATISTICS s ON name, email FROM customers",
            "select customers, create customers | D customers.email customers.name staff.email staff.name",
        ),
        (
            "CREATE STATISTICS s ON (lower(email)) FROM customers",
            "select customers, create customers | D customers.email staff.email | C customers.email staff.email",
        ),
        (
            "CLUSTER customers USING customers_pkey",
            "maintenance customers | D customers.id staff.id | C customers.id staff.id",
        ),
        (
            "CLUSTER notes USING unheard_of",
            "maintenance notes | D notes.body notes.id | C notes.body notes.id",
        ),
        ("CREATE TABLE x (LIKE customers INCLUDING ALL)", "select customers, create x"),
        ("CREATE TABLE x (more int) INHERITS (customers)", "create x, alter customers"),
        (
            "CREATE TABLE x PARTITION OF events FOR VALUES IN ('west')",
            "create x, alter events | D events.region",
        ),
        (
            "CREATE TABLE x (a text REFERENCES people)",
            "select people, create x | D people.mail | C people.mail",
        ),
        ("CREATE TABLE x OF place", "create x"),
        ("CREATE FOREIGN TABLE x (a int) SERVER s", "create x"),
        (
            "CREATE POLICY p ON customers USING (email > 'm')",
            "grant customers | D customers.email staff.email | C customers.email staff.email",
        ),
        (
            "CREATE TRIGGER t BEFORE UPDATE OF ssn ON customers FOR EACH ROW EXECUTE FUNCTION f()",
            "create customers, call - | D customers.ssn staff.ssn | Code(\"CREATE TRIGGER\")",
        ),
        (
            "CREATE PUBLICATION p FOR TABLE customers (id, name)",
            "select customers, create -, call - | D customers.id customers.name staff.id staff.name | M customers.id customers.name staff.id staff.name | Code(\"a publication\")",
        ),
        ("SECURITY LABEL ON COLUMN customers.email IS 'x'", "grant - | D customers.email staff.email"),
        ("SECURITY LABEL ON TABLE notes IS 'x'", "grant - | D notes.body notes.id"),
        ("COMMENT ON COLUMN customers.email IS 'x'", "alter customers"),
        ("ALTER SCHEMA public OWNER TO x", "grant -"),
        ("DROP TABLE customers CASCADE", "drop -, drop customers"),
    ]);
    let renames = crate::sql::postgres::read("ALTER SCHEMA public RENAME TO other", &more()).unwrap();
    assert!(renames[0].columns.iter().any(|access| access.column.to_string() == "public.customers.email"));
}

#[test]
fn functions_in_sql_are_judged_by_what_they_do() {
    check(&[
        (
            "SELECT label_of('1')",
            "select customers | P customers.name staff.name | C customers.id staff.id | F customers.name staff.name",
        ),
        (
            "SELECT mail_of(name) FROM orders o, customers",
            "select customers, select orders | P customers.email customers.name staff.email staff.name | C customers.id staff.id | F customers.email customers.name staff.email staff.name",
        ),
        ("SELECT kept('1')", "select notes | P notes.body | C notes.id | F notes.body notes.id"),
        ("SELECT returned(1), public.returned(2)", "select -"),
        ("SELECT purge()", "select -, delete notes | unlimited"),
        (
            "SELECT outer_of()",
            "select customers | P customers.email staff.email | C customers.id staff.id | F customers.email staff.email",
        ),
        ("SELECT circle()", "select notes"),
        ("CALL purge()", "delete notes | unlimited"),
        (
            "SELECT c.mail_of FROM notes c",
            "select customers, select notes | P customers.email notes.body notes.id staff.email | C customers.id staff.id | F customers.email notes.body notes.id staff.email",
        ),
        ("SELECT (c).purge FROM notes c", "select notes, delete notes | P notes.body notes.id | unlimited"),
        // Along its own path the name means another table.
        ("SELECT elsewhere()", "select Other.customers | P Other.customers.email | F Other.customers.email"),
        // What is no query, or sets something that matters, or calls what cannot be read.
        ("SELECT makes()", "select -, call - | Function(\"makes\")"),
        ("SELECT as_somebody()", "select -, call - | Function(\"as_somebody\")"),
        ("SELECT by_hand()", "select -, call - | Function(\"by_hand\")"),
        ("SELECT calls_f()", "select -, call - | Function(\"f\")"),
        (
            "SELECT (c).by_hand, c.by_hand FROM notes c",
            "select notes, call - | P notes.body notes.id | F notes.body notes.id | Function(\"by_hand\")",
        ),
        // Making one is doing what it does.
        ("CREATE FUNCTION g(a int) RETURNS int LANGUAGE sql AS 'SELECT a + 1'", "create -"),
        ("CREATE FUNCTION g() RETURNS int RETURN 1", "create -"),
        (
            "CREATE FUNCTION g() RETURNS text LANGUAGE SQL AS 'SELECT body FROM notes WHERE id = $1'",
            "select notes, create - | D notes.body notes.id | C notes.id | F notes.body | M notes.body",
        ),
        (
            "CREATE FUNCTION g() RETURNS void BEGIN ATOMIC DELETE FROM notes; END",
            "delete notes, create - | unlimited",
        ),
        (
            "CREATE FUNCTION g() RETURNS void LANGUAGE sql AS 'DROP TABLE notes'",
            "create -, call - | Code(\"CREATE FUNCTION\")",
        ),
        (
            "CREATE FUNCTION g() RETURNS void LANGUAGE plpgsql AS 'BEGIN END'",
            "create -, call - | Code(\"CREATE FUNCTION\")",
        ),
        (
            "CREATE FUNCTION g() RETURNS int LANGUAGE sql SET standard_conforming_strings = off AS 'SELECT 1'",
            "builtin/session-state: …",
        ),
        (
            "CREATE FUNCTION g() RETURNS int LANGUAGE sql SET search_path = pg_catalog, pg_temp AS 'SELECT 1'",
            "create -",
        ),
    ]);
}

#[test]
fn what_could_show_anything_is_told() {
    let catalogue = more();
    for (text, expected) in [
        ("DO $$ $$", "DO"),
        ("CALL by_hand()", "CALL by_hand"),
        ("SELECT by_hand()", "by_hand"),
        ("SELECT query_to_xml('x', true, true, '')", "pg_catalog.query_to_xml"),
        ("SELECT 1 === 2", "==="),
        ("CREATE FOREIGN TABLE x (a int) SERVER s", "CREATE FOREIGN TABLE"),
        ("CREATE USER MAPPING FOR x SERVER s", "CREATE USER MAPPING"),
        ("ALTER FOREIGN TABLE x OPTIONS (SET table_name 'y')", "ALTER FOREIGN TABLE"),
        ("CREATE SERVER s FOREIGN DATA WRAPPER w", "CREATE SERVER"),
        ("IMPORT FOREIGN SCHEMA a FROM SERVER s INTO public", "IMPORT FOREIGN SCHEMA"),
        ("CREATE PUBLICATION p FOR ALL TABLES", "a publication of all tables"),
        ("CREATE PUBLICATION p FOR TABLES IN SCHEMA public", "a publication of whole schemas"),
        ("CREATE CAST (text AS int) WITH FUNCTION f(text)", "CREATE CAST"),
        ("CREATE AGGREGATE a (int) (sfunc = f, stype = int)", "CREATE of an operator, aggregate or type"),
        ("COPY notes FROM PROGRAM 'x'", "COPY with PROGRAM"),
        ("SELECT pg_sleep(1), setval('s', 1), pg_notify('a', 'b')", ""),
        ("SELECT lo_get(1)", ""),
        ("CREATE COLLATION c (locale = 'C')", ""),
        ("CREATE PUBLICATION p FOR TABLE notes", ""),
        ("SELECT label_of('1')", ""),
    ] {
        let read = crate::sql::postgres::read(text, &catalogue).unwrap();
        let all: Vec<&str> = read[0].out_of_sight.iter().map(String::as_str).collect();
        assert_eq!(all.join(", "), expected, "{text}");
    }
}

#[test]
fn parameters_of_planning_and_reading_are_refused_where_something_is_masked() {
    let catalogue = more();
    for (text, expected) in [
        ("SET enable_seqscan = off", "setting enable_seqscan"),
        ("SET LOCAL ENABLE_bitmapscan TO off", "setting enable_bitmapscan"),
        ("SELECT set_config('enable_sort', 'off', true) FROM notes", "setting enable_sort"),
        ("SET random_page_cost = 0", "setting random_page_cost"),
        ("SET cursor_tuple_fraction = 0", "setting cursor_tuple_fraction"),
        ("SET max_parallel_workers_per_gather = 8", "setting max_parallel_workers_per_gather"),
        ("SET geqo = off", "setting geqo"),
        ("SET geqo_seed = 0.5", "setting geqo_seed"),
        ("SET plan_cache_mode = force_generic_plan", "setting plan_cache_mode"),
        ("SET work_mem = '64kB'", "setting work_mem"),
        ("SET join_collapse_limit = 1", "setting join_collapse_limit"),
        ("SELECT /*+ IndexScan(customers) */ id FROM customers", "a planner's hint (/*+ … */)"),
        ("ALTER ROLE x SET enable_seqscan = off", "setting enable_seqscan"),
        ("ALTER DATABASE shop SET search_path = other", "setting search_path"),
        ("ALTER ROLE x IN DATABASE shop SET role = y", "setting role"),
        ("ALTER ROLE ALL RESET search_path", "resetting search_path for later sessions"),
        ("ALTER ROLE x RESET ALL", "resetting all parameters for later sessions"),
        ("ALTER SYSTEM SET enable_seqscan = off", "setting enable_seqscan"),
        ("ALTER FUNCTION f(int) SET enable_seqscan = off", "setting enable_seqscan"),
        ("CREATE FUNCTION g() RETURNS int LANGUAGE sql SET role = x AS 'SELECT 1'", "setting role"),
        ("ALTER STATISTICS s SET STATISTICS 0", "ALTER STATISTICS"),
        ("ALTER INDEX i ALTER COLUMN 1 SET STATISTICS 0", "ALTER INDEX … SET STATISTICS"),
        ("CLUSTER", "CLUSTER of whatever was clustered before"),
        ("RESET enable_seqscan", ""),
        ("SET statement_timeout = 0", ""),
        ("SET jit = off", ""),
        ("SET extra_float_digits = 3", ""),
        ("SET synchronize_seqscans = off", ""),
        ("ALTER ROLE x SET statement_timeout = '5s'", ""),
        ("ALTER ROLE x RESET statement_timeout", ""),
        ("ALTER FUNCTION f(int) SET search_path = public, pg_temp", ""),
    ] {
        let read = crate::sql::postgres::read(text, &catalogue).unwrap();
        assert_eq!(read[0].unpins.as_deref().unwrap_or_default(), expected, "{text}");
    }
    check(&[
        ("UPDATE pg_settings SET setting = 'x' WHERE name = 'search_path'", "builtin/session-state: …"),
        ("UPDATE pg_catalog.pg_settings SET setting = 'x'", "builtin/session-state: …"),
        ("WITH x AS (UPDATE pg_settings SET setting = 'x' RETURNING 1) SELECT 1", "builtin/session-state: …"),
        (
            "MERGE INTO pg_settings USING notes ON true WHEN MATCHED THEN UPDATE SET setting = 'x'",
            "builtin/session-state: …",
        ),
        (
            "CREATE RULE r AS ON INSERT TO notes DO ALSO UPDATE pg_settings SET setting = 'x'",
            "builtin/session-state: …",
        ),
        ("ALTER ROLE x SET standard_conforming_strings = off", "builtin/session-state: …"),
        ("ALTER DATABASE shop SET search_path = evil, pg_catalog", "builtin/session-state: …"),
        ("ALTER ROLE x SET search_path FROM CURRENT", "builtin/session-state: …"),
        ("ALTER FUNCTION f(int) SET client_encoding = 'SJIS'", "builtin/session-state: …"),
    ]);
}
