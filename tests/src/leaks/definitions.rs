//! Definitions between statements, choices of the plan, settings by every route, foreign tables that lead back, and
//! functions in SQL: each undone again, with what could be seen of it before that.

use super::{queries::Queries, random::Random};

/// What a definition could do to a masked column. Some touch none, and are made.
const DEFINITIONS: &[&str] = &[
    "ALTER TABLE people ALTER COLUMN loud DROP EXPRESSION",
    "ALTER TABLE ONLY people DROP COLUMN secret CASCADE",
    "ALTER TABLE people DROP COLUMN pin CASCADE",
    "ALTER TABLE people DROP COLUMN amount CASCADE",
    "ALTER TABLE people RENAME COLUMN email TO label3",
    "ALTER TABLE people RENAME COLUMN label TO title",
    "ALTER TABLE staff RENAME TO crew",
    "ALTER TABLE letters SET SCHEMA other",
    "ALTER SCHEMA other RENAME TO another",
    "ALTER INDEX letters RENAME TO epistles",
    "ALTER INDEX people_kind RENAME TO people_by_kind",
    "ALTER TABLE people ALTER secret SET NOT NULL",
    "ALTER TABLE people ALTER label SET NOT NULL",
    "ALTER TABLE people ALTER salary DROP NOT NULL",
    "ALTER TABLE people ALTER card SET STORAGE PLAIN",
    "ALTER TABLE people ALTER card SET STATISTICS 0",
    "ALTER TABLE people ALTER secret SET (n_distinct = 1)",
    "ALTER TABLE people SET (parallel_workers = 4)",
    "ALTER TABLE people SET (fillfactor = 90)",
    "ALTER TABLE people ADD CONSTRAINT made CHECK (secret > 'q') NOT VALID",
    "ALTER TABLE people ADD CONSTRAINT made CHECK (label > 'a')",
    "ALTER TABLE people VALIDATE CONSTRAINT people_salary_check",
    "ALTER TABLE notes VALIDATE CONSTRAINT notes_person_fkey",
    "ALTER TABLE people ADD CONSTRAINT made EXCLUDE USING btree (secret WITH =)",
    "ALTER TABLE people ADD CONSTRAINT made UNIQUE (label) INCLUDE (secret)",
    "ALTER TABLE people REPLICA IDENTITY FULL",
    "ALTER TABLE people DISABLE TRIGGER people_tell",
    "ALTER TABLE people ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE events ATTACH PARTITION letters DEFAULT",
    "ALTER TABLE letters INHERIT notes",
    "ALTER DOMAIN nickname ADD CONSTRAINT made CHECK (value > 'q')",
    "ALTER DOMAIN nickname ADD CONSTRAINT made CHECK (value > 'q') NOT VALID",
    "ALTER DOMAIN nickname SET NOT NULL",
    "ALTER DOMAIN nickname RENAME TO moniker",
    "ALTER TYPE place ADD ATTRIBUTE more text CASCADE",
    "ALTER TYPE place RENAME ATTRIBUTE street TO road CASCADE",
    "ALTER TYPE mood RENAME VALUE 'calm' TO 'still'",
    "CREATE INDEX made ON people (secret) INCLUDE (id, label)",
    "CREATE INDEX made ON people (id) INCLUDE (secret)",
    "CREATE INDEX made ON people (label) INCLUDE (kind)",
    "CREATE INDEX made ON folk_kept (kept)",
    "CREATE INDEX made ON folk_kept (label)",
    "CREATE STATISTICS made ON label, secret FROM people",
    "CREATE STATISTICS made ON label, kind FROM people",
    "CREATE TABLE made (email text REFERENCES people (email))",
    "CREATE TABLE made (id integer REFERENCES people)",
    "CREATE TABLE made PARTITION OF events FOR VALUES IN ('made')",
    "CREATE TABLE made () INHERITS (people, notes)",
    "CREATE TABLE made () INHERITS (people)",
    "CREATE TABLE made (LIKE people INCLUDING ALL)",
    "CREATE POLICY made ON people USING (secret > 'q')",
    "CREATE PUBLICATION made FOR TABLE people",
    "CREATE PUBLICATION made FOR TABLE people (id, label)",
    "CREATE FOREIGN TABLE made (id integer, secret text) SERVER loop OPTIONS (schema_name 'public', table_name 'people')",
    "IMPORT FOREIGN SCHEMA public LIMIT TO (letters) FROM SERVER loop INTO made",
    "ALTER FOREIGN TABLE far RENAME COLUMN label TO secret",
    "ALTER FOREIGN TABLE far ADD COLUMN secret text",
    "ALTER FOREIGN TABLE far OPTIONS (SET table_name 'letters')",
    "ALTER SERVER loop OPTIONS (SET dbname 'postgres')",
    "ALTER USER MAPPING FOR app_agent SERVER loop OPTIONS (SET user 'app_agent')",
    "CREATE FUNCTION made() RETURNS text LANGUAGE sql AS 'SELECT min(secret) FROM people'",
    "CREATE FUNCTION made() RETURNS text LANGUAGE sql AS 'SELECT min(label) FROM people'",
    "CREATE FUNCTION made() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM people WHERE secret > 'q'; END",
    "CREATE FUNCTION made() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM people WHERE kind > 'a'; END",
    "CREATE OR REPLACE FUNCTION label_of(who integer) RETURNS text LANGUAGE sql STABLE AS 'SELECT secret FROM people WHERE id = who'",
    "CREATE FUNCTION made() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT min(secret) FROM people); END'",
    "CREATE AGGREGATE made (text) (sfunc = textcat, stype = text)",
    "CREATE RULE made AS ON INSERT TO sink DO ALSO UPDATE pg_settings SET setting = 'other' WHERE name = 'search_path'",
    "CREATE VIEW made AS SELECT name, setting FROM pg_settings",
    "SECURITY LABEL ON COLUMN people.secret IS 'open'",
    "CLUSTER people USING people_pkey",
    "CLUSTER people USING people_secret",
    "CLUSTER",
    "ALTER TABLE people CLUSTER ON people_pkey",
];

/// What could be seen of it.
const SEEN: &[&str] = &[
    "SELECT loud FROM people WHERE id = 1",
    "SELECT id, label FROM people",
    "SELECT id FROM ONLY people WHERE secret IS NOT NULL",
    "SELECT id, label FROM people WHERE email IS NOT NULL",
    "SELECT id, secret FROM staff WHERE id = 1001",
    "SELECT id, label, kept FROM folk_kept",
    "SELECT id, label, nick, home FROM people WHERE id = 2",
    "SELECT made()",
    "SELECT label_of(3), secret_of(4)",
    "SELECT label_of(id), id FROM notes",
    "SELECT n.label_of FROM notes AS n",
    "SELECT * FROM made",
    "SELECT * FROM far ORDER BY id",
    "SELECT f.id, p.secret FROM far AS f JOIN people AS p USING (id) WHERE f.id < 4",
    "INSERT INTO made (email) VALUES ('somebody@example.com')",
    "UPDATE made SET setting = 'other, public' WHERE name = 'search_path'",
    "SELECT tableoid::regclass, id FROM people WHERE id < 3",
    "EXPLAIN (COSTS OFF) SELECT id FROM people WHERE secret IS NOT NULL",
];

/// Ways to choose how rows are found, and to have names found elsewhere.
const SETTINGS: &[&str] = &[
    "SET enable_seqscan = off",
    "SET LOCAL enable_bitmapscan = off",
    "SET enable_indexonlyscan = on",
    "SELECT set_config('enable_seqscan', 'off', false)",
    "SELECT set_config('enable_sort', 'off', true) FROM notes LIMIT 1",
    "SELECT set_config('search_path', 'other', false) FROM notes LIMIT 1",
    "SET random_page_cost = 0",
    "SET seq_page_cost = 1000000",
    "SET cursor_tuple_fraction = 0",
    "SET max_parallel_workers_per_gather = 4; SET parallel_setup_cost = 0",
    "SET force_parallel_mode = on",
    "SET plan_cache_mode = force_generic_plan",
    "SET work_mem = '64kB'",
    "SET join_collapse_limit = 1",
    "SET geqo_threshold = 2",
    "UPDATE pg_settings SET setting = 'off' WHERE name = 'enable_seqscan'",
    "UPDATE pg_settings SET setting = 'other, public' WHERE name = 'search_path'",
    "ALTER ROLE CURRENT_USER SET enable_seqscan = off",
    "ALTER ROLE CURRENT_USER SET search_path = other",
    "ALTER DATABASE shop SET search_path = other, public",
    "ALTER FUNCTION label_of(integer) SET search_path = other",
    "ALTER FUNCTION label_of(integer) SET enable_seqscan = off",
    "SELECT /*+ IndexScan(people people_secret) */ id FROM people WHERE secret IS NOT NULL",
    "SET statement_timeout = '20s'",
    "SET jit = off",
];

/// One step of these.
pub fn step(random: &mut Random) -> Vec<String> {
    let seen = |random: &mut Random| {
        if random.chance(70) { random.one(SEEN).to_owned() } else { Queries::new(random).query() }
    };
    let mut steps = vec!["BEGIN".to_owned()];
    match random.below(10) {
        0..=5 => steps.push(random.one(DEFINITIONS).to_owned()),
        6 => {
            // In a schema of its own, along which names are found.
            steps.push("CREATE SCHEMA made".to_owned());
            steps.push("SET LOCAL search_path = made, public".to_owned());
            steps.push(random.one(DEFINITIONS).to_owned());
        }
        7 => {
            // What fails is taken back, and something else tried in its place.
            steps.push("SAVEPOINT a".to_owned());
            steps.push(random.one(DEFINITIONS).to_owned());
            steps.push("ROLLBACK TO a".to_owned());
            steps.push(random.one(DEFINITIONS).to_owned());
        }
        _ => steps.push(random.one(SETTINGS).to_owned()),
    }
    steps.push(seen(random));
    steps.push(seen(random));
    steps.push("ROLLBACK".to_owned());
    // What outlived the transaction after all.
    steps.push(seen(random));
    steps
}
