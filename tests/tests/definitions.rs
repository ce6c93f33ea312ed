//! Nothing that is masked is carried off, copied, checked or sorted by a definition, nor reached by settings, foreign tables
//! or code; and migrations that touch none of it go on to work.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use nodegate_tests::{postgres::Postgres, stage::Stage, wire::Client};

const PEOPLE: &str = include_str!("../src/people.sql");

/// Everything that names no action, and masks. Code that cannot be read is permitted, as far as that goes.
const POLICY: &str = r#"
    @id("everything") permit (principal, action, resource);
    @id("mask-pii") @mask("redact")
    forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("pii") };
"#;

/// What else a policy may name.
const IN_CLEAR: &str = r#"
    @id("in-clear") permit (principal, action == Action::"sql:call_unmasked", resource);
"#;

const TAGGED: &[&str] = &[
    "public.customers.email",
    "public.customers.ssn",
    "public.customers.home",
    "archive.customers.email",
    "archive.customers.ssn",
    "archive.staff.email",
    "public.contacts.mail",
    "public.events.payload",
];

/// What stands in every masked value, and nowhere else.
const REAL: &str = "real";

/// A server with the people in it, and a server of its own name that leads back to it.
fn people() -> Postgres {
    let postgres = Postgres::start();
    let port = postgres.port();
    postgres.script(&format!(
        "DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION app_agent;
         GRANT CREATE ON DATABASE shop TO app_agent;
         SET ROLE app_agent; {PEOPLE} RESET ROLE;
         CREATE EXTENSION postgres_fdw;
         CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{port}', dbname 'shop');
         CREATE USER MAPPING FOR app_agent SERVER loop
         OPTIONS (user 'app_agent', password 'only the daemon knows this');
         GRANT USAGE ON FOREIGN SERVER loop TO app_agent;
         SET ROLE app_agent;
         CREATE FOREIGN TABLE far (id integer, name text) SERVER loop OPTIONS (schema_name 'public', table_name 'customers');"
    ));
    postgres
}

fn stage_with(policy: &str) -> Stage {
    Stage::around(people(), |settings| {
        policy.clone_into(&mut settings.policy);
        settings.targets[0].tags =
            TAGGED.iter().map(|column| ((*column).to_owned(), vec!["pii".to_owned()])).collect();
    })
}

/// Why a statement is refused; empty where it is not.
fn refusal(client: &mut Client, sql: &str) -> String {
    let reply = client.query(sql);
    reply.errors.first().map_or_else(String::new, |error| {
        assert_eq!(error.code(), "42501", "{sql}: {}", error.text());
        assert!(error.field('D').starts_with("policy: "), "{sql}: {}", error.text());
        error.text()
    })
}

/// Each is refused through nodegate, for a reason in which the word stands, and is something that the server itself takes
/// from the same role.
#[track_caller]
fn are_refused(cases: &[(&str, &str)]) {
    let stage = stage_with(POLICY);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for (sql, word) in cases {
        let why = refusal(&mut client, sql);
        assert!(why.contains(word), "{sql}: {why:?}");
        let control = stage.postgres.try_script(&format!(
            "SET SESSION AUTHORIZATION app_agent;\n\\set ON_ERROR_STOP on\nBEGIN;\n{sql};\nROLLBACK;\n"
        ));
        assert!(!control.contains("ERROR"), "the control must run: {sql}: {control}");
    }
}

#[test]
fn a_definition_that_carries_a_masked_column_off_is_refused() {
    are_refused(&[
        ("ALTER TABLE customers ALTER COLUMN email_host DROP EXPRESSION", "customers.email"),
        ("ALTER TABLE archive.customers ALTER email_host DROP EXPRESSION", "customers.email"),
        ("ALTER TABLE ONLY customers DROP COLUMN ssn", "customers.ssn"),
        ("ALTER TABLE customers DROP COLUMN ssn", "customers.ssn"),
        ("ALTER TABLE customers RENAME COLUMN email TO mail", "customers.email"),
        ("ALTER TABLE customers RENAME TO people", "customers"),
        ("ALTER TABLE customers_vip RENAME TO vip", "customers"),
        ("ALTER TABLE contacts SET SCHEMA archive", "contacts.mail"),
        ("ALTER SCHEMA archive RENAME TO older", "archive."),
        ("ALTER INDEX archive.staff RENAME TO people", "archive.staff.email"),
        ("ALTER TABLE customers_vip NO INHERIT customers", "customers"),
        ("ALTER TABLE events DETACH PARTITION events_north", "events.payload"),
        ("CREATE TABLE made AS SELECT email FROM customers", "customers.email"),
        ("CREATE VIEW made AS SELECT email AS city FROM customers", "customers.email"),
        ("CREATE MATERIALIZED VIEW made AS SELECT ssn FROM customers", "customers.ssn"),
        ("CREATE PUBLICATION made FOR TABLE customers", "customers"),
        ("ALTER TYPE place RENAME ATTRIBUTE street TO road", "customers.home"),
        ("ALTER TYPE place ADD ATTRIBUTE more text", "customers.home"),
        ("ALTER TYPE place RENAME TO spot", "customers.home"),
        ("ALTER DOMAIN address SET SCHEMA archive", "contacts.mail"),
        ("ALTER TABLE customers ALTER ssn TYPE varchar(200)", "customers.ssn"),
        ("ALTER TABLE customers ALTER feels TYPE text USING email", "customers.email"),
        (
            "ALTER TABLE customers ADD COLUMN made text GENERATED ALWAYS AS (left(email, 1)) STORED",
            "customers.email",
        ),
        (
            "CREATE FUNCTION made() RETURNS text LANGUAGE sql AS 'SELECT email FROM customers'",
            "customers.email",
        ),
        (
            "CREATE FUNCTION made() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM customers WHERE email < 'b'; END",
            "customers.email",
        ),
    ]);
}

#[test]
fn a_definition_that_is_held_against_masked_values_is_refused_and_so_is_one_that_sorts_by_them() {
    are_refused(&[
        ("ALTER DOMAIN address ADD CONSTRAINT probe CHECK (value NOT LIKE 'z%')", "contacts.mail"),
        ("ALTER DOMAIN address ADD CONSTRAINT probe CHECK (value NOT LIKE 'z%') NOT VALID", "contacts.mail"),
        ("ALTER DOMAIN address SET NOT NULL", "contacts.mail"),
        ("ALTER TABLE customers ADD CHECK (email NOT LIKE 'z%')", "customers.email"),
        ("ALTER TABLE customers ADD CONSTRAINT probe CHECK (ssn > '0') NOT VALID", "customers.ssn"),
        ("ALTER TABLE customers ALTER COLUMN ssn SET NOT NULL", "customers.ssn"),
        ("ALTER TABLE logins ADD FOREIGN KEY (email) REFERENCES customers (email)", "customers.email"),
        ("CREATE TABLE made (email text REFERENCES customers (email))", "customers.email"),
        ("ALTER TABLE customers ADD UNIQUE (ssn)", "customers.ssn"),
        ("ALTER TABLE customers ADD EXCLUDE USING btree (ssn WITH =)", "customers.ssn"),
        ("CREATE INDEX made ON customers (email) INCLUDE (id, city)", "customers.email"),
        ("CREATE INDEX made ON customers (id) INCLUDE (email)", "customers.email"),
        ("CREATE INDEX made ON customers (upper(ssn))", "customers.ssn"),
        ("CREATE INDEX made ON customers (id) WHERE ssn > '2'", "customers.ssn"),
        ("CREATE INDEX made ON customers (email_host)", "customers.email"),
        ("CREATE STATISTICS made ON name, email FROM customers", "customers.email"),
        ("ALTER TABLE customers ALTER email SET STATISTICS 0", "customers.email"),
        ("ALTER TABLE customers ALTER email SET (n_distinct = 1)", "customers.email"),
        ("ALTER TABLE customers ALTER email SET STORAGE PLAIN", "customers.email"),
        ("ALTER TABLE customers SET (parallel_workers = 4)", "customers"),
        ("ALTER TABLE customers CLUSTER ON customers_email_key", "customers.email"),
        ("CLUSTER customers USING customers_email_key", "customers.email"),
        ("ALTER TABLE customers REPLICA IDENTITY USING INDEX customers_email_key", "customers.email"),
        ("ALTER TABLE customers REPLICA IDENTITY FULL", "customers"),
        ("CREATE POLICY made ON customers USING (email < 'b')", "customers.email"),
    ]);
}

#[test]
fn settings_of_planning_and_reading_are_pinned_by_every_route() {
    are_refused(&[
        ("SET enable_seqscan = off", "enable_seqscan"),
        ("SET LOCAL enable_bitmapscan = off", "enable_bitmapscan"),
        ("SELECT set_config('enable_sort', 'off', false)", "enable_sort"),
        ("SELECT set_config('random_page_cost', '0', false) FROM plain", "random_page_cost"),
        ("SET cursor_tuple_fraction = 1", "cursor_tuple_fraction"),
        ("SET max_parallel_workers_per_gather = 4", "max_parallel_workers_per_gather"),
        ("SET join_collapse_limit = 1", "join_collapse_limit"),
        ("SET plan_cache_mode = force_generic_plan", "plan_cache_mode"),
        ("SET work_mem = '64kB'", "work_mem"),
        ("SET geqo = off", "geqo"),
        ("SELECT /*+ IndexScan(customers) */ id FROM customers", "hint"),
        ("UPDATE pg_settings SET setting = 'archive, public' WHERE name = 'search_path'", "pg_settings"),
        ("UPDATE settings SET setting = 'archive, public' WHERE name = 'search_path'", "pg_settings"),
        (
            "CREATE RULE made AS ON INSERT TO plain DO ALSO UPDATE pg_settings SET setting = 'archive'",
            "pg_settings",
        ),
        (
            "CREATE RULE made AS ON INSERT TO plain DO ALSO SELECT set_config('search_path', 'archive', false)",
            "search_path",
        ),
        ("CREATE VIEW made AS SELECT set_config('search_path', 'archive', false)", "search_path"),
        ("ALTER ROLE CURRENT_USER SET search_path = archive", "search_path"),
        ("ALTER ROLE CURRENT_USER SET enable_seqscan = off", "enable_seqscan"),
        ("ALTER ROLE CURRENT_USER SET standard_conforming_strings = off", "standard_conforming_strings"),
        ("ALTER ROLE CURRENT_USER RESET ALL", "resetting"),
        ("ALTER DATABASE shop SET enable_seqscan = off", "enable_seqscan"),
        ("ALTER FUNCTION mail_by_hand(integer) SET enable_seqscan = off", "enable_seqscan"),
        (
            "CREATE FUNCTION made() RETURNS integer LANGUAGE sql SET enable_seqscan = off AS 'SELECT 1'",
            "enable_seqscan",
        ),
        (
            "CREATE FUNCTION made() RETURNS integer LANGUAGE sql SET transform_null_equals = on AS 'SELECT 1'",
            "transform_null_equals",
        ),
    ]);
    // A startup message is no other way.
    let stage = stage_with(POLICY);
    let mut agent = stage.agent();
    let stream = agent.connect(stage.postgres.address()).unwrap();
    let startup = [("user", "x"), ("database", "shop"), ("options", "-c enable_seqscan=off")];
    let refused = Client::start_as(stream, &startup).expect_err("a refusal");
    assert!(refused.text().contains("enable_seqscan"), "{refused:?}");
    // What drivers set changes no plan.
    let mut client = stage.client(&mut agent);
    for sql in [
        "SET statement_timeout = 10000; SET application_name = 'x'; SET TimeZone = 'UTC'; SET DateStyle = 'ISO'",
        "SET extra_float_digits = 3",
        "SET client_min_messages = warning",
        "SET jit = off",
        "SET synchronize_seqscans TO off",
        "SET maintenance_work_mem = '64MB'",
        "SET search_path = public",
        "RESET enable_seqscan",
        "RESET ALL",
        "DISCARD ALL",
        "ALTER ROLE CURRENT_USER SET statement_timeout = '1min'",
    ] {
        assert_eq!(client.query(sql).errors, [], "{sql}");
    }
}

#[test]
fn a_way_that_leads_back_shows_nothing() {
    are_refused(&[
        (
            "CREATE FOREIGN TABLE made (id int, email text) SERVER loop OPTIONS (schema_name 'public', table_name 'customers')",
            "call_unmasked",
        ),
        ("IMPORT FOREIGN SCHEMA public LIMIT TO (contacts) FROM SERVER loop INTO archive", "call_unmasked"),
        ("ALTER FOREIGN TABLE far ADD COLUMN email text", "call_unmasked"),
        ("ALTER FOREIGN TABLE far RENAME COLUMN name TO email", "call_unmasked"),
        ("ALTER FOREIGN TABLE far ALTER COLUMN name OPTIONS (column_name 'email')", "call_unmasked"),
        ("ALTER FOREIGN TABLE far OPTIONS (SET table_name 'contacts')", "call_unmasked"),
        ("ALTER USER MAPPING FOR app_agent SERVER loop OPTIONS (SET user 'app_agent')", "call_unmasked"),
    ]);
    let stage = stage_with(&format!("{POLICY}{IN_CLEAR}"));
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let table = "CREATE FOREIGN TABLE made (id int, email text) SERVER loop OPTIONS (schema_name 'public', table_name 'customers')";
    assert_eq!(refusal(&mut client, table), "");
    let shown = client.query("SELECT email FROM made WHERE id = 1").texts();
    assert_eq!(shown, [["ada.real@example.com"]], "the way would be open");
}

#[test]
fn code_that_cannot_be_read_sees_no_masked_value_unless_policy_says_so_by_name() {
    let code = [
        "SELECT mail_by_hand(1)",
        "SELECT label FROM plain WHERE mail_by_hand(id) IS NOT NULL",
        "SELECT p.first_mail FROM plain AS p",
        "SELECT (p).first_mail FROM plain AS p",
        "DO $$ BEGIN PERFORM mail_by_hand(1); END $$",
        "CREATE FUNCTION made() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT email FROM customers); END'",
        "CREATE TRIGGER made BEFORE UPDATE ON plain FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "SELECT query_to_xml('SELECT email FROM customers', true, false, '')",
        "SELECT table_to_xml('customers', true, false, '')",
        "CREATE AGGREGATE made (integer) (sfunc = int4pl, stype = integer)",
    ];
    let stage = stage_with(POLICY);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for sql in code {
        let why = refusal(&mut client, sql);
        assert!(
            why.contains("sql:call_unmasked") && why.contains("is masked for this agent"),
            "{sql}: {why}"
        );
        assert!(why.contains("Action::\"sql:call_unmasked\""), "the hint names it: {why}");
    }
    // PostgreSQL's own that see no table ask for sql:call alone.
    for sql in ["SELECT pg_sleep(0)", "SELECT pg_notify('a', 'b')", "SELECT count(lo_creat(-1))"] {
        assert_eq!(refusal(&mut client, sql), "", "{sql}");
    }
    let named = stage_with(&format!("{POLICY}{IN_CLEAR}"));
    let mut agent = named.agent();
    let mut client = named.client(&mut agent);
    assert_eq!(client.query("SELECT mail_by_hand(1)").texts(), [["ada.real@example.com"]]);
    assert_eq!(refusal(&mut client, "DO $$ BEGIN PERFORM mail_by_hand(1); END $$"), "");
}

#[test]
fn functions_in_sql_are_judged_by_what_they_do_and_need_no_permit_of_their_own() {
    let without_calls = format!(
        "{POLICY} @id(\"no-code\") forbid (principal, action == Action::\"sql:call\", resource);
         @id(\"no-delete\") forbid (principal, action == Action::\"sql:delete\", resource);"
    );
    let stage = stage_with(&without_calls);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    assert_eq!(client.query("SELECT label_of(1)").texts(), [["Ada"]]);
    assert_eq!(client.query("SELECT label_of(id), id FROM plain").texts(), [["Ada", "1"]]);
    let keys = "SELECT (information_schema._pg_expandarray(indkey)).n FROM pg_index WHERE indrelid = 'plain'::regclass";
    assert_eq!(client.query(keys).texts(), [["1"]]);
    for (sql, word) in [
        ("SELECT mail_of(1)", "customers.email"),
        ("SELECT mail_kept(1)", "customers.email"),
        ("SELECT label FROM plain WHERE mail_of(id) > 'm'", "customers.email"),
        ("SELECT count(*) FROM plain, LATERAL mail_kept(plain.id) AS m", "customers.email"),
        ("SELECT mail_by_hand(1)", "no-code"),
        ("CALL forget(1)", "no-delete"),
    ] {
        let why = refusal(&mut client, sql);
        assert!(why.contains(word), "{sql}: {why}");
    }
    assert_eq!(client.query("SELECT add_order(7)").errors, []);
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM orders WHERE id = 7"), "1");
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM orders WHERE id = 1"), "1", "nothing was deleted");
    // Names in its text are found along the session's path, or the one that it sets.
    assert_eq!(client.query("SELECT public.mails()").texts(), [["ken@open.example.com"]]);
    assert!(refusal(&mut client, "SELECT public.archived()").contains("archive.staff.email"));
    assert_eq!(client.query("SET search_path = archive").errors, []);
    assert!(refusal(&mut client, "SELECT public.mails()").contains("archive.staff.email"));
    // One that has become another is another, as soon as the schema is read anew.
    let mut again = stage.client(&mut agent);
    let kept = "CREATE FUNCTION public.kept() RETURNS text LANGUAGE sql AS 'SELECT name FROM customers WHERE id = 1'";
    assert_eq!(again.query(kept).errors, []);
    assert_eq!(again.query("SELECT public.kept()").texts(), [["Ada"]]);
    stage.postgres.script(
        "SET ROLE app_agent; CREATE OR REPLACE FUNCTION public.kept() RETURNS text LANGUAGE plpgsql
         AS 'BEGIN RETURN (SELECT min(email) FROM customers); END'",
    );
    assert_eq!(again.query("CREATE TABLE public.more (id integer)").errors, []);
    assert!(refusal(&mut again, "SELECT public.kept()").contains("no-code"));
    let both = "CREATE OR REPLACE FUNCTION public.mails() RETURNS SETOF text LANGUAGE sql AS 'SELECT name FROM staff'; SELECT public.mails()";
    assert!(refusal(&mut again, both).contains("schema-in-message"));
}

#[test]
fn migrations_that_touch_nothing_masked_go_on_to_work() {
    let stage = stage_with(POLICY);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for sql in [
        "ALTER TABLE customers ADD COLUMN notes text",
        "ALTER TABLE customers ADD COLUMN joined timestamptz NOT NULL DEFAULT now()",
        "ALTER TABLE customers ADD COLUMN shout text GENERATED ALWAYS AS (upper(name)) STORED",
        "CREATE INDEX by_name ON customers (name)",
        "CREATE INDEX by_city ON customers (lower(city)) INCLUDE (name) WHERE id > 0",
        "ALTER TABLE orders ADD CONSTRAINT of_customer FOREIGN KEY (customer_id) REFERENCES customers (id) NOT VALID",
        "ALTER TABLE orders VALIDATE CONSTRAINT of_customer",
        "CREATE TABLE visits (id int PRIMARY KEY, who int REFERENCES customers, at timestamptz)",
        "ALTER TABLE customers ADD CHECK (name <> '')",
        "ALTER TABLE customers ALTER COLUMN city SET NOT NULL",
        "ALTER TABLE customers ALTER COLUMN notes TYPE varchar(200)",
        "ALTER TABLE customers RENAME COLUMN notes TO remarks",
        "ALTER TABLE customers ALTER email SET DEFAULT 'none@example.com'",
        "ALTER TABLE customers ALTER email DROP DEFAULT",
        "ALTER TABLE customers SET (fillfactor = 80)",
        "ALTER TABLE archive.customers DROP COLUMN ssn",
        "CREATE STATISTICS by_both ON name, city FROM customers",
        "CLUSTER customers USING customers_pkey",
        "CREATE VIEW names AS SELECT id, name FROM customers",
        "CREATE TABLE names_kept AS SELECT id, name FROM customers",
        "CREATE TABLE events_west PARTITION OF events FOR VALUES IN ('west')",
        "CREATE TABLE customers_new (LIKE customers INCLUDING DEFAULTS)",
        "CREATE PUBLICATION of_names FOR TABLE customers (id, name)",
        "CREATE TYPE size AS ENUM ('s', 'm')",
        "ALTER TYPE size ADD VALUE 'l'",
        "ALTER TYPE mood ADD VALUE 'grim'",
        "CREATE DOMAIN code AS text CHECK (length(value) = 2)",
        "ALTER DOMAIN code ADD CONSTRAINT upper_case CHECK (value = upper(value))",
        "CREATE FUNCTION twice_of(a integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT a * 2'",
        "ALTER TABLE plain ADD COLUMN twice integer GENERATED ALWAYS AS (twice_of(id)) STORED",
        "ALTER TABLE plain RENAME TO plainer",
        "ALTER TABLE plainer ADD UNIQUE (label)",
        "ALTER TABLE plainer SET SCHEMA archive",
        "COMMENT ON COLUMN customers.email IS 'how to reach them'",
        "CREATE TABLE q (id int); CREATE INDEX ON q (id)",
        "DROP TABLE q",
    ] {
        assert_eq!(client.query(sql).errors, [], "{sql}");
    }
    let shown = client.query("SELECT id, shout, email, email_host FROM customers WHERE id = 1").texts();
    assert!(shown[0][1] == "ADA" && !shown.concat().concat().contains(REAL), "{shown:?}");
}

#[test]
fn a_definitions_refusal_speaks_of_definitions() {
    let stage = stage_with(POLICY);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    for sql in [
        "ALTER TABLE customers ADD COLUMN dom text GENERATED ALWAYS AS (split_part(email, '@', 2)) STORED",
        "CREATE INDEX ON customers (lower(email))",
        "ALTER TABLE customers RENAME COLUMN email TO mail",
    ] {
        let error = client.query(sql).error().clone();
        assert!(error.message().contains("by a definition"), "{sql}: {}", error.message());
        assert!(!error.message().contains("WHERE"), "{sql}: {}", error.message());
        assert!(error.field('H').contains("Leave the column out of the definition"), "{}", error.field('H'));
    }
}
