use super::{check, shop};
use crate::domain::statement::{CopyDirection, Run, SearchPathStep, SessionEffect};
use crate::sql::postgres::{read, unknown_relations};

#[test]
fn writes_name_their_targets_and_sources() {
    check(&[
        ("INSERT INTO notes (body) VALUES ('x')", "insert notes | W notes.body"),
        ("INSERT INTO notes VALUES (1, 'x')", "insert notes | W notes.body notes.id"),
        ("INSERT INTO notes DEFAULT VALUES", "insert notes"),
        (
            "INSERT INTO notes (body) SELECT email FROM customers",
            "select customers, insert notes | M customers.email | W notes.body",
        ),
        (
            "INSERT INTO notes (body) VALUES ((SELECT email FROM customers))",
            "select customers, insert notes | M customers.email | W notes.body",
        ),
        (
            "INSERT INTO customers (name) VALUES ('x') RETURNING email",
            "insert customers | P customers.email | W customers.name",
        ),
        (
            "INSERT INTO notes (id, body) VALUES (1, 'a') ON CONFLICT (id) DO UPDATE SET body = excluded.body || notes.body WHERE notes.id > 0",
            "insert notes, update notes | C notes.id | F notes.body | M notes.body | W notes.body notes.id",
        ),
        (
            "INSERT INTO customers (email) VALUES ('a') ON CONFLICT (email) DO NOTHING",
            "insert customers | C customers.email | W customers.email",
        ),
        (
            "UPDATE customers SET name = email WHERE id = 1",
            "update customers | C customers.id | M customers.email | W customers.name",
        ),
        (
            "UPDATE notes n SET body = c.email FROM customers c WHERE c.id = n.id",
            "select customers, update notes | C customers.id notes.id | M customers.email | W notes.body",
        ),
        (
            "UPDATE notes SET (id, body) = (SELECT id, email FROM customers WHERE id = 1) WHERE id = 2",
            "select customers, update notes | C customers.id notes.id | M customers.email customers.id | W notes.body notes.id",
        ),
        (
            "UPDATE notes SET body = 'x' WHERE id = 1 RETURNING old.body, new.id",
            "update notes | P notes.body notes.id | C notes.id | W notes.body",
        ),
        (
            "DELETE FROM notes USING customers c WHERE body = c.email RETURNING c.ssn",
            "select customers, delete notes | P customers.ssn | C customers.email notes.body",
        ),
        ("WITH x AS (DELETE FROM customers) SELECT 1", "select -, delete customers | unlimited"),
        (
            "WITH x AS (DELETE FROM customers WHERE id = 1 RETURNING email) INSERT INTO notes (body) SELECT email FROM x",
            "insert notes, delete customers | C customers.id | M customers.email | W notes.body",
        ),
        (
            "MERGE INTO notes n USING customers c ON n.id = c.id WHEN MATCHED AND c.ssn = 'x' THEN UPDATE SET body = c.email WHEN NOT MATCHED THEN INSERT (id, body) VALUES (c.id, c.name) WHEN NOT MATCHED BY SOURCE THEN DELETE",
            "select customers, insert notes, update notes, delete notes, merge notes | C customers.id customers.ssn notes.id | M customers.email customers.id customers.name | W notes.body notes.id",
        ),
        (
            "MERGE INTO notes USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
            "delete notes, merge notes | unlimited",
        ),
        ("TRUNCATE notes, orders", "truncate notes, truncate orders"),
        ("TRUNCATE notes CASCADE", "truncate -, truncate notes"),
    ]);
}

#[test]
fn rows_are_limited_only_by_a_condition_on_a_column() {
    check(&[
        ("DELETE FROM notes", "delete notes | unlimited"),
        ("UPDATE notes SET body = ''", "update notes | W notes.body | unlimited"),
        ("DELETE FROM notes WHERE true", "delete notes | unlimited"),
        ("DELETE FROM notes WHERE 1 = 1", "delete notes | unlimited"),
        ("DELETE FROM notes WHERE NOT false", "delete notes | unlimited"),
        ("DELETE FROM notes WHERE 't'::bool AND 1 < 2", "delete notes | unlimited"),
        ("DELETE FROM notes WHERE id = 1 OR true", "delete notes | C notes.id | unlimited"),
        ("DELETE FROM notes WHERE id = id", "delete notes | C notes.id | unlimited"),
        ("DELETE FROM notes WHERE $1", "delete notes | unlimited"),
        ("DELETE FROM notes WHERE EXISTS (SELECT 1)", "delete notes | unlimited"),
        ("DELETE FROM notes WHERE true AND id = 1", "delete notes | C notes.id"),
        ("DELETE FROM notes WHERE id IN (1, 2)", "delete notes | C notes.id"),
        (
            "DELETE FROM notes n USING orders o WHERE n.id = o.id",
            "select orders, delete notes | C notes.id orders.id",
        ),
        ("DELETE FROM notes WHERE CURRENT OF c", "delete notes"),
        ("EXPLAIN ANALYZE DELETE FROM notes", "delete notes, explain - | unlimited"),
        ("PREPARE x AS DELETE FROM notes", "delete notes, other - | unlimited"),
    ]);
}

#[test]
fn what_is_stored_or_shown_elsewhere_is_moved() {
    let moved = "select customers, create x | M customers.email";
    check(&[
        ("CREATE TABLE x AS SELECT email FROM customers", moved),
        ("CREATE TABLE x AS SELECT email FROM customers WITH NO DATA", moved),
        ("CREATE VIEW x AS SELECT email FROM customers", moved),
        ("CREATE MATERIALIZED VIEW x AS SELECT email FROM customers", moved),
        (
            "SELECT email INTO x FROM customers",
            "select customers, create x | P customers.email | M customers.email",
        ),
        ("DECLARE c CURSOR FOR SELECT email FROM customers", "select customers, other - | M customers.email"),
        ("PREPARE p AS SELECT email FROM customers", "select customers, other - | M customers.email"),
        ("COPY notes TO STDOUT", "select notes, copy notes | M notes.body notes.id"),
        ("COPY customers (name) TO STDOUT", "select customers, copy customers | M customers.name"),
        ("COPY (SELECT email FROM customers) TO STDOUT", "select customers, copy - | M customers.email"),
        ("COPY notes (body) FROM STDIN", "insert notes, copy notes | W notes.body"),
        (
            "COPY notes FROM STDIN WITH (FORMAT csv, FORCE_NOT_NULL (body)) WHERE id > 1",
            "insert notes, copy notes | C notes.id | W notes.body notes.id",
        ),
        (
            "COPY notes TO PROGRAM 'cat'",
            "select notes, copy notes, call - | M notes.body notes.id | Code(\"COPY with PROGRAM\")",
        ),
        (
            "COPY notes FROM '/etc/passwd'",
            "insert notes, copy notes, call - | W notes.body notes.id | Code(\"COPY with a file of the server\")",
        ),
        (
            "EXPLAIN SELECT email FROM customers WHERE ssn = 'x'",
            "select customers, explain - | C customers.ssn",
        ),
        (
            "EXPLAIN (ANALYZE, VERBOSE) SELECT email FROM customers",
            "select customers, explain - | P customers.email",
        ),
        ("EXPLAIN (ANALYZE off) SELECT email FROM customers", "select customers, explain -"),
        (
            "EXPLAIN CREATE TABLE x AS SELECT email FROM customers",
            "select customers, create x, explain - | M customers.email",
        ),
        (
            "ALTER TABLE customers RENAME COLUMN email TO note",
            "alter customers | D customers.email | M customers.email",
        ),
        (
            "ALTER TABLE notes RENAME TO harmless",
            "alter notes | D notes.body notes.id | M notes.body notes.id",
        ),
        ("ALTER TABLE notes SET SCHEMA other", "alter notes | D notes.body notes.id | M notes.body notes.id"),
        (
            "ALTER TABLE orders ATTACH PARTITION notes DEFAULT",
            "alter notes, alter orders | D notes.body notes.id orders.customer_id orders.id orders.note orders.total | M notes.body notes.id",
        ),
        (
            "ALTER TABLE notes INHERIT orders",
            "alter notes, alter orders | D notes.body notes.id orders.customer_id orders.id orders.note orders.total | M notes.body notes.id",
        ),
        (
            "ALTER TABLE notes NO INHERIT customers",
            "alter customers, alter notes | D customers.email customers.id customers.name customers.ssn notes.body notes.id | M notes.body notes.id",
        ),
        (
            "ALTER TABLE customers DETACH PARTITION notes",
            "alter customers, alter notes | D customers.email customers.id customers.name customers.ssn notes.body notes.id | M notes.body notes.id",
        ),
        (
            "ALTER TABLE customers ALTER COLUMN name TYPE text USING email",
            "alter customers | D customers.email customers.name | C customers.email | M customers.email",
        ),
    ]);
}

#[test]
fn definitions_have_their_effects() {
    check(&[
        (
            "CREATE TABLE x (a int DEFAULT 1 CHECK (a > 0), b text REFERENCES notes (body))",
            "select notes, create x | D notes.body | C notes.body",
        ),
        ("CREATE TABLE x (LIKE customers)", "select customers, create x"),
        ("CREATE TABLE x (a int DEFAULT f(1))", "create x, call - | Function(\"f\")"),
        ("CREATE TEMP TABLE customers (a int)", "create pg_temp.customers"),
        ("CREATE TABLE pg_class (a int)", "create pg_class"),
        ("CREATE TABLE x PARTITION OF orders FOR VALUES FROM (1) TO (MAXVALUE)", "create x, alter orders"),
        (
            "CREATE INDEX ON customers (lower(email)) WHERE id > 1",
            "create customers | D customers.email customers.id | C customers.email customers.id",
        ),
        ("CREATE INDEX ON customers (email)", "create customers | D customers.email"),
        (
            "CREATE UNIQUE INDEX ON customers (email)",
            "create customers | D customers.email | C customers.email",
        ),
        ("ALTER TABLE customers ADD COLUMN x int DEFAULT f(1)", "alter customers, call - | Function(\"f\")"),
        (
            "ALTER TABLE customers ADD CHECK (email NOT LIKE 'a%')",
            "alter customers | D customers.email | C customers.email",
        ),
        ("ALTER TABLE customers OWNER TO someone", "alter customers, grant customers"),
        (
            "ALTER TABLE customers DISABLE ROW LEVEL SECURITY",
            "alter customers | D customers.email customers.id customers.name customers.ssn",
        ),
        ("DROP TABLE customers, notes", "drop customers, drop notes"),
        ("DROP TABLE IF EXISTS other.t CASCADE", "drop -, drop other.t"),
        ("DROP VIEW customer_mail", "drop customer_mail"),
        ("DROP TRIGGER t ON notes", "drop notes"),
        ("DROP FUNCTION f(int)", "drop -"),
        ("DROP SCHEMA s", "drop -"),
        ("CREATE SCHEMA s", "create -"),
        (
            "CREATE SCHEMA s CREATE TABLE t (a int) CREATE VIEW v AS SELECT email FROM customers CREATE INDEX ON t (a)",
            "select customers, create -, create s.t, create s.v | M customers.email",
        ),
        (
            "CREATE SCHEMA AUTHORIZATION r GRANT SELECT ON new TO x CREATE TABLE new ()",
            "create -, create r.new, grant r.new",
        ),
        ("CREATE SEQUENCE s", "create s"),
        ("CREATE TABLE kept AS EXECUTE p", "create kept, other -"),
        ("CREATE TYPE mood AS ENUM ('a')", "create -"),
        ("CREATE DOMAIN d AS int CHECK (VALUE > f(1))", "create -, call - | Function(\"f\")"),
        ("COMMENT ON TABLE notes IS 'x'", "alter notes"),
        ("COMMENT ON COLUMN notes.body IS 'x'", "alter notes"),
        ("GRANT SELECT ON customers TO public", "grant customers"),
        ("GRANT SELECT ON ALL TABLES IN SCHEMA public TO x", "grant -"),
        ("REVOKE ALL ON customers FROM x", "grant customers"),
        ("GRANT admin TO app", "grant -"),
        ("ALTER TABLE customers OWNER TO x", "alter customers, grant customers"),
        ("CREATE ROLE x PASSWORD 'y'", "grant -"),
        ("ALTER ROLE x SET search_path = evil", "grant -"),
        ("REASSIGN OWNED BY a TO b", "grant -"),
        ("CREATE POLICY p ON notes USING (body = 'x')", "grant notes | D notes.body | C notes.body"),
        ("VACUUM ANALYZE notes", "maintenance notes"),
        ("VACUUM", "maintenance -"),
        ("VACUUM ANALYZE pg_authid", "maintenance pg_catalog.pg_authid"),
        ("REINDEX TABLE pg_toast.pg_toast_1260", "maintenance pg_toast.pg_toast_1260"),
        ("ANALYZE customers (email)", "maintenance customers"),
        ("REINDEX TABLE notes", "maintenance notes"),
        ("REFRESH MATERIALIZED VIEW notes", "maintenance notes"),
        ("CHECKPOINT", "maintenance -"),
        ("LOCK TABLE notes IN ACCESS EXCLUSIVE MODE", "other notes"),
        ("LISTEN x", "other -"),
        ("NOTIFY x, 'y'", "other -"),
        ("SHOW server_version", "other -"),
        ("FETCH ALL FROM c", "other -"),
        ("CLOSE c", "other -"),
    ]);
}

#[test]
fn sessions_and_transactions() {
    check(&[
        ("BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY", "transaction -"),
        (
            "START TRANSACTION; SAVEPOINT a; ROLLBACK TO a; RELEASE a; COMMIT AND CHAIN",
            "transaction - ; transaction - ; transaction - ; transaction - ; transaction -",
        ),
        ("END; ABORT", "transaction - ; transaction -"),
        ("PREPARE TRANSACTION 'x'", "other -"),
        ("COMMIT PREPARED 'x'", "other -"),
        ("SET application_name = 'x'", "set -"),
        ("SET LOCAL statement_timeout = '5s'", "set -"),
        ("SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE", "set -"),
        ("SET DateStyle TO ISO, DMY", "set -"),
        ("SET client_encoding TO 'UTF8'", "set -"),
        ("SET NAMES 'utf8'", "set -"),
        ("SET standard_conforming_strings = on", "set -"),
        ("SET TRANSACTION READ ONLY", "set -"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "set -"),
        ("RESET ALL", "set -"),
        ("SET search_path = ''", "set -"),
        ("RESET search_path", "set -"),
        ("SET row_security = off", "set -"),
        ("SELECT pg_catalog.set_config('search_path', '', false)", "select -"),
        ("SELECT count(*) FROM pg_subscription", "select pg_catalog.pg_subscription"),
        ("DISCARD ALL", "set -"),
        ("SET CONSTRAINTS ALL DEFERRED", "set -"),
        ("SELECT set_config('application_name', 'x', false)", "select -"),
        ("SELECT 1; DROP TABLE customers", "select - ; drop customers"),
        ("", ""),
        (" ; -- nothing\n ;", ""),
    ]);
}

#[test]
fn code_of_unknown_body_is_opaque() {
    check(&[
        ("DO $$ BEGIN DELETE FROM customers; END $$", "call - | Code(\"DO\")"),
        ("CALL p(1)", "call - | Code(\"CALL p\")"),
        ("SELECT f(1)", "select -, call - | Function(\"f\")"),
        ("SELECT public.f(1)", "select -, call - | Function(\"public.f\")"),
        ("SELECT public.lower('x')", "select -, call - | Function(\"public.lower\")"),
        ("SELECT pg_catalog.lower('x'), now(), random(), gen_random_uuid()", "select -"),
        ("SELECT unheard_of(1)", "select -, call - | Function(\"unheard_of\")"),
        ("SELECT 1 === 2", "select -, call - | Operator(\"===\")"),
        ("SELECT 1 OPERATOR(public.+) 2", "select -, call - | Operator(\"public.+\")"),
        ("SELECT 1 OPERATOR(pg_catalog.+) 2", "select -"),
        ("SELECT 1::dom", "select -, call - | Code(\"type dom\")"),
        ("SELECT pg_sleep(1)", "select -, call - | Function(\"pg_catalog.pg_sleep\")"),
        (
            "SELECT query_to_xml('DELETE FROM x', true, true, '')",
            "select -, call - | Function(\"pg_catalog.query_to_xml\")",
        ),
        (
            "SELECT table_to_xml('customers', true, true, '')",
            "select -, call - | Function(\"pg_catalog.table_to_xml\")",
        ),
        ("SELECT ts_stat('select 1')", "select -, call - | Function(\"pg_catalog.ts_stat\")"),
        ("SELECT lo_import('/etc/passwd')", "select -, call - | Function(\"pg_catalog.lo_import\")"),
        ("SELECT lo_get(1)", "select -, call - | Function(\"pg_catalog.lo_get\")"),
        (
            "SELECT pg_terminate_backend(1)",
            "select -, call - | Function(\"pg_catalog.pg_terminate_backend\")",
        ),
        (
            "SELECT pg_notify('x', email) FROM customers",
            "select customers, call - | P customers.email | F customers.email | Function(\"pg_catalog.pg_notify\")",
        ),
        ("SELECT dblink('x', 'y')", "select -, call - | Function(\"dblink\")"),
        ("SELECT * FROM dblink('x', 'y') AS t(a int)", "select -, call - | Function(\"dblink\")"),
        (
            "CREATE FUNCTION g() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
            "create -, call - | Code(\"CREATE FUNCTION\")",
        ),
        ("CREATE EXTENSION dblink", "create -, call - | Code(\"CREATE EXTENSION\")"),
        ("LOAD 'x'", "call - | Code(\"LOAD\")"),
        (
            "IMPORT FOREIGN SCHEMA a FROM SERVER b INTO c",
            "create -, call - | Code(\"IMPORT FOREIGN SCHEMA\")",
        ),
        ("ALTER SYSTEM SET work_mem = '1GB'", "alter -, call - | Code(\"ALTER SYSTEM\")"),
        ("SECURITY LABEL ON TABLE notes IS 'x'", "grant - | D notes.body notes.id"),
        (
            "CREATE RULE r AS ON INSERT TO notes DO ALSO DELETE FROM customers WHERE id = new.id",
            "delete customers, create notes, call - | C customers.id notes.id | Code(\"CREATE RULE\")",
        ),
        (
            "CREATE TRIGGER t BEFORE INSERT ON notes FOR EACH ROW WHEN (new.body IS NULL) EXECUTE FUNCTION f()",
            "create notes, call - | D notes.body | T notes.body | Code(\"CREATE TRIGGER\")",
        ),
        (
            "CREATE PUBLICATION p FOR TABLE notes",
            "select notes, create -, call - | D notes.body notes.id | M notes.body notes.id | Code(\"a publication\")",
        ),
    ]);
}

#[test]
fn prepared_statements_are_kept_for_execute() {
    let statements = read("PREPARE p (int) AS SELECT email FROM customers WHERE id = $1", &shop()).unwrap();
    let [statement] = statements.as_slice() else { panic!("one statement") };
    let SessionEffect::Prepare { name, statement } = &statement.session_effect else { panic!("prepare") };
    assert_eq!(name, "p");
    assert_eq!(super::short(statement), "select customers | P customers.email | C customers.id");
    let effect = |text: &str| read(text, &shop()).unwrap().remove(0).session_effect;
    assert_eq!(effect("EXECUTE p (1)"), SessionEffect::Execute { name: "p".to_owned() });
    assert_eq!(effect("EXPLAIN EXECUTE p (1)"), SessionEffect::Execute { name: "p".to_owned() });
    assert_eq!(effect("DEALLOCATE ALL"), SessionEffect::Deallocate { name: None });
    assert_eq!(effect("DISCARD ALL"), SessionEffect::Deallocate { name: None });
    assert_eq!(effect("DEALLOCATE p"), SessionEffect::Deallocate { name: Some("p".to_owned()) });
}

#[test]
fn copy_tells_its_direction() {
    let copy = |text: &str| read(text, &shop()).unwrap().remove(0).copy;
    assert_eq!(copy("COPY notes FROM STDIN"), Some(CopyDirection::FromClient));
    assert_eq!(copy("COPY notes TO STDOUT"), Some(CopyDirection::ToClient));
    assert_eq!(copy("COPY notes TO '/tmp/x'"), Some(CopyDirection::ServerSide));
    assert_eq!(copy("SELECT 1"), None);
}

#[test]
fn relations_that_the_snapshot_lacks_are_named() {
    let unknown = |text: &str| {
        let catalogue = shop();
        let statements = read(text, &catalogue).unwrap();
        statements
            .iter()
            .flat_map(|statement| unknown_relations(statement, &catalogue))
            .map(|name| name.to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(unknown("SELECT * FROM customers, fresh, s.t"), "public.fresh s.t");
    assert_eq!(unknown("CREATE TABLE fresh (a int)"), "");
    assert_eq!(unknown("DROP TABLE fresh"), "public.fresh");
}

#[test]
fn what_is_refused_where_something_is_masked_is_told() {
    for (text, what, opaque) in [
        ("SET search_path = ''", None, false),
        ("SET search_path = one, two", None, false),
        ("SET SCHEMA 'one'", None, false),
        ("SET ROLE somebody", Some("setting role"), true),
        ("SET ROLE NONE", Some("setting role"), true),
        ("SET LOCAL SESSION AUTHORIZATION somebody", Some("setting session_authorization"), true),
        ("SELECT set_config('role', 'somebody', true)", Some("setting role"), true),
        ("SET Own.Thing = 1", Some("setting own.thing"), true),
        ("SELECT set_config('own.thing', 'x', true) FROM customers", Some("setting own.thing"), true),
        ("SET session_replication_role = replica", Some("setting session_replication_role"), true),
        ("SET search_path = one, pg_temp", None, false),
        ("TABLE pg_cursors", Some("reading pg_cursors"), false),
        ("PREPARE p AS TABLE pg_prepared_statements", Some("reading pg_prepared_statements"), false),
        ("RESET ROLE", None, false),
        ("SET own.thing TO DEFAULT", None, false),
        ("SET standard_conforming_strings TO DEFAULT", None, false),
        ("SET default_tablespace = elsewhere", None, false),
    ] {
        let read = read(text, &shop()).unwrap();
        assert_eq!(read[0].unpins.as_deref(), what, "{text}");
        assert_eq!(!read[0].opaque.is_empty(), opaque, "{text}");
    }
}

#[test]
fn steps_of_the_search_path_are_told() {
    for (text, step) in [
        ("SELECT set_config('search_path', '', true)", SearchPathStep::Moves),
        ("SET LOCAL search_path = ''", SearchPathStep::Moves),
        ("SET search_path = one, two", SearchPathStep::Moves),
        ("SELECT set_config('search_path', 'one, \"Two\"', false)", SearchPathStep::Moves),
        ("SET ROLE somebody", SearchPathStep::Moves),
        ("SET LOCAL SESSION AUTHORIZATION somebody", SearchPathStep::Moves),
        ("SELECT set_config('role', 'somebody', true)", SearchPathStep::Moves),
        ("RESET ROLE", SearchPathStep::Resets),
        ("SET SESSION AUTHORIZATION DEFAULT", SearchPathStep::Resets),
        ("SET search_path TO DEFAULT", SearchPathStep::Resets),
        ("RESET ALL", SearchPathStep::Resets),
        ("DISCARD ALL", SearchPathStep::Discards),
        ("DISCARD TEMP", SearchPathStep::Discards),
        ("DISCARD PLANS", SearchPathStep::None),
        ("SELECT set_config('work_mem', '', true)", SearchPathStep::None),
        ("RESET work_mem", SearchPathStep::None),
    ] {
        let read = read(text, &shop()).unwrap();
        assert_eq!(read[0].search_path, step, "{text}");
    }
}

#[test]
fn what_the_command_tag_does_not_count_is_told_apart() {
    let catalogue = shop();
    for (text, uncounted, run) in [
        ("UPDATE orders SET total = 1 WHERE id = id", "", Run::Now),
        (
            "INSERT INTO orders (id) SELECT id FROM customers ON CONFLICT (id) DO UPDATE SET total = 1",
            "",
            Run::Now,
        ),
        (
            "MERGE INTO orders o USING notes n ON o.id = n.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id) VALUES (1)",
            "",
            Run::Now,
        ),
        ("COPY orders FROM STDIN", "", Run::Now),
        ("COPY orders TO STDOUT", "", Run::Now),
        ("COPY (DELETE FROM orders RETURNING id) TO STDOUT", "delete orders", Run::Now),
        ("WITH d AS (DELETE FROM orders RETURNING id) SELECT id FROM d", "delete orders", Run::Now),
        (
            "WITH d AS (DELETE FROM orders RETURNING id) DELETE FROM notes USING d WHERE d.id = notes.id",
            "delete orders",
            Run::Now,
        ),
        ("WITH d AS (DELETE FROM orders RETURNING id) DELETE FROM orders", "delete orders", Run::Now),
        (
            "INSERT INTO notes (id) WITH u AS (UPDATE orders SET total = 1 RETURNING id) SELECT id FROM u",
            "update orders",
            Run::Now,
        ),
        (
            "WITH RECURSIVE a AS (INSERT INTO notes (id) WITH u AS (MERGE INTO orders USING notes ON true WHEN MATCHED THEN DELETE RETURNING 1) SELECT 1 FROM u RETURNING id) SELECT id FROM a",
            "insert notes, delete orders, merge orders",
            Run::Now,
        ),
        ("TRUNCATE orders, notes", "truncate notes, truncate orders", Run::Now),
        ("TRUNCATE orders CASCADE", "truncate -, truncate orders", Run::Now),
        ("EXPLAIN UPDATE orders SET total = 1", "update orders", Run::NotYet),
        ("EXPLAIN (ANALYZE off) UPDATE orders SET total = 1", "update orders", Run::NotYet),
        ("EXPLAIN ANALYZE UPDATE orders SET total = 1", "update orders", Run::Now),
        ("EXPLAIN (ANALYZE) INSERT INTO notes (id) VALUES (1)", "insert notes", Run::Now),
        ("PREPARE p AS DELETE FROM orders", "", Run::NotYet),
        ("CREATE RULE r AS ON INSERT TO notes DO ALSO DELETE FROM orders", "delete orders", Run::Now),
    ] {
        let statement = &read(text, &catalogue).unwrap()[0];
        let names = statement.uncounted.iter().map(|effect| {
            let name = effect.relation.as_ref().map_or("-", |name| name.name.as_str());
            format!("{} {name}", effect.verb.as_str())
        });
        assert_eq!(
            (names.collect::<Vec<_>>().join(", ").as_str(), statement.run),
            (uncounted, run),
            "{text}"
        );
        if let SessionEffect::Prepare { statement, .. } = &statement.session_effect {
            assert_eq!((statement.uncounted.len(), statement.run), (0, Run::Now));
        }
    }
}
