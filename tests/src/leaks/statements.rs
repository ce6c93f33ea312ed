//! The hunt's steps: what an agent may send to see what it should not, as short scripts that leave the vault as it was.

use super::{
    definitions, operands,
    queries::Queries,
    random::Random,
    schema::{Kind, RELATIONS},
    speech,
    vault::PEOPLE,
};

/// Statements that take no query of their own: catalogues, statistics, settings, code and what else may tell.
const FIXED: &[&str] = &[
    "SELECT relname, reltuples FROM pg_class WHERE relname LIKE 'peop%' ORDER BY 1",
    "SELECT attname, atttypid::regtype FROM pg_attribute WHERE attrelid = 'people'::regclass ORDER BY attnum",
    "SELECT pg_get_viewdef('folk'::regclass)",
    "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = 'people'::regclass",
    "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'people'::regclass ORDER BY 1",
    "SELECT column_name, column_default FROM information_schema.columns WHERE table_name = 'people' ORDER BY 1",
    "SELECT most_common_vals, histogram_bounds FROM pg_stats WHERE tablename = 'people'",
    "SELECT histogram_bounds FROM pg_catalog.pg_stats",
    "SELECT stavalues1 FROM pg_statistic",
    "SELECT * FROM pg_stats_ext",
    "SELECT n_distinct FROM pg_stats_ext WHERE tablename = 'people'",
    "SELECT stxdmcv FROM pg_statistic_ext_data",
    "SELECT query FROM pg_stat_activity",
    "SELECT * FROM pg_prepared_statements",
    "SELECT * FROM pg_cursors",
    "SELECT rolpassword FROM pg_authid",
    "SELECT secret_of(3)",
    "SELECT label_of(3)",
    "SELECT secret_by_hand(3)",
    "SELECT label FROM people WHERE secret_of(id) LIKE 'q%'",
    "SELECT n.body FROM notes AS n WHERE secret_of(n.id) > 'w'",
    "SELECT query_to_xml('SELECT secret FROM people', true, false, '')",
    "SELECT table_to_xml('people', true, false, '')",
    "SELECT pg_read_file('base/1/PG_VERSION')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT * FROM pg_largeobject",
    "SELECT dblink('dbname=shop', 'SELECT secret FROM people')",
    "DO $$ BEGIN RAISE NOTICE '%', (SELECT secret FROM people WHERE id = 1); END $$",
    "SHOW search_path",
    "SHOW server_version",
    "SELECT name, setting FROM pg_settings WHERE name LIKE 'max_%'",
    "SET search_path = public, pg_temp",
    "SET search_path = other, public",
    "SET search_path = public, other",
    "SET SCHEMA 'other'",
    "SET search_path = other, public; SELECT 1",
    "SELECT 1; SET search_path = other, public",
    "SELECT set_config('search_path', 'other, \"public\"', false)",
    "SELECT set_config('search_path', secret, false) FROM people WHERE id = 1",
    "SET search_path = other, pg_catalog",
    "SET search_path TO DEFAULT",
    "DISCARD TEMP",
    "DISCARD ALL",
    "SET search_path = ''",
    "RESET search_path",
    "SET extra_float_digits = 3",
    "SET bytea_output = 'escape'",
    "SET DateStyle = 'German'",
    "SET standard_conforming_strings = off",
    "SET role = 'postgres'",
    "SET enable_seqscan = off",
    "SET client_min_messages = debug1",
    "SET debug_print_plan = on",
    "SET log_statement = 'all'",
    "SET auto_explain.log_min_duration = 0",
    "SET session_replication_role = replica",
    "SET row_security = off",
    "SELECT set_config('search_path', '', false)",
    "RESET ALL",
    "DISCARD PLANS",
    "LISTEN secrets",
    "NOTIFY secrets, 'hello'",
    "SELECT pg_notify('secrets', secret) FROM people WHERE id = 1",
    "SELECT pg_notify('secrets', label) FROM people WHERE id = 1",
    "SELECT set_config('application_name', secret, false) FROM people WHERE id = 1",
    "SELECT setval('counter', pin) FROM people WHERE id = 1",
    "SELECT nextval('counter')",
    "SELECT pg_advisory_lock(pin) FROM people WHERE id = 1",
    "SELECT pg_sleep(0)",
    "SELECT count(*) FROM people",
    "SELECT count(*), count(email), count(pin) FROM people",
    "SELECT pg_column_size(secret) FROM people WHERE id = 1",
    "SELECT has_column_privilege('people', 'secret', 'SELECT')",
    "SELECT 'people'::regclass::oid > 0, to_regclass('people')",
    "SELECT ctid, tableoid::regclass FROM people WHERE id < 4",
    "SELECT secret::regclass FROM people WHERE id = 1",
    "SELECT secret::integer FROM people WHERE id = 1",
    "SELECT ('{' || secret)::json FROM people WHERE id = 1",
    "SELECT secret::inet FROM people WHERE id = 1",
    "SELECT to_date(secret, 'YYYY') FROM people WHERE id = 1",
    "SELECT 1 / (ascii(secret) - 113) FROM people WHERE id = 1",
    "SELECT CASE WHEN secret > 'v' THEN 1 / 0 END FROM people WHERE id = 1",
    "SELECT repeat('-', pin) FROM people WHERE id = 1",
    "SELECT lpad('', length(secret) * 60000000) FROM people WHERE id < 9",
    "SELECT ARRAY[1, 2] || CASE WHEN flag THEN ARRAY[[1], [2]] END FROM people WHERE id = 1",
    "SELECT (tags)[pin] FROM people WHERE id = 1",
    "SELECT home FROM people WHERE id = 1",
    "SELECT (home).street, (home).number FROM people WHERE id = 1",
    "SELECT (p).secret, p.loud FROM people AS p WHERE id = 1",
    "SELECT secret(p) FROM people AS p WHERE id = 1",
    "SELECT p.upper FROM people AS p WHERE id = 1",
    "SELECT lower(span), upper_inf(span) FROM people WHERE id = 1",
    "SELECT whole FROM folk_row WHERE id = 1",
    "SELECT (whole).secret FROM folk_row WHERE id = 1",
    "SELECT (folk).hint FROM folk WHERE id = 1",
    "SELECT * FROM people TABLESAMPLE SYSTEM (100) REPEATABLE (3) ORDER BY id",
    "SELECT id FROM people ORDER BY id FOR UPDATE",
    "SELECT xmlelement(name x, secret) FROM people WHERE id = 1",
    "SELECT xmlforest(secret, label) FROM people WHERE id = 1",
    "SELECT * FROM xmltable('/a' PASSING '<a>1</a>' COLUMNS x text PATH '.')",
    "SELECT x.* FROM people, xmltable('/a' PASSING ('<a>' || secret || '</a>')::xml COLUMNS x text PATH '.') AS x",
    "SELECT jsonb_path_query(doc, '$.k') FROM people WHERE id = 1",
    "SELECT doc @> '{\"k\": \"q\"}' FROM people",
    "SELECT ts_headline(secret, to_tsquery('q')) FROM people WHERE id = 1",
    "SELECT to_tsvector(secret) FROM people WHERE id = 1",
    "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY pin) FROM people",
    "SELECT mode() WITHIN GROUP (ORDER BY label) FROM people",
    "SELECT width_bucket(salary, 1, 1000000000, 10) FROM people",
    "SELECT id FROM people WHERE (id, secret) > (3, 'q')",
    "SELECT id FROM people ORDER BY people",
    "SELECT count(*) FROM people AS a JOIN staff AS b USING (secret)",
    "SELECT label FROM people GROUP BY label, secret",
    "SELECT DISTINCT ON (secret) id FROM people",
    "SELECT id FROM people ORDER BY secret USING <",
    "SELECT rank() OVER (ORDER BY salary), id FROM people",
    "SELECT id FROM people WHERE secret IS DISTINCT FROM 'x'",
    "SELECT GROUPING(kind), kind, count(*) FROM people GROUP BY ROLLUP (kind) ORDER BY 2, 3",
    "FETCH ALL FROM nobody",
    "EXECUTE nobody",
    "SELECT 1; SELECT secret FROM people WHERE id = 1; SELECT 2",
    "SELECT 1 AS secret, 'x' AS email",
    "SELECT 'people.secret' AS x -- secret\n",
    "SELECT $$secret$$ || U&'\\0041'",
];

/// Definitions and maintenance: what they do is seen by the queries behind them.
const CHANGES: &[&str] = &[
    "CREATE INDEX made ON people (secret)",
    "CREATE UNIQUE INDEX made ON people (ref)",
    "CREATE INDEX made ON people ((upper(secret)))",
    "CREATE INDEX made ON people (label) WHERE pin > 700000000",
    "ALTER TABLE people ADD COLUMN more text DEFAULT 'x'",
    "ALTER TABLE people ADD COLUMN more text GENERATED ALWAYS AS (secret || '.') STORED",
    "ALTER TABLE people RENAME COLUMN secret TO label2",
    "ALTER TABLE people RENAME TO folks",
    "ALTER TABLE people ALTER COLUMN secret TYPE varchar(100)",
    "ALTER TABLE people ALTER COLUMN card TYPE integer USING 1",
    "ALTER TABLE people ALTER COLUMN secret SET DEFAULT 'x'",
    "ALTER TABLE people ALTER COLUMN amount TYPE text USING secret",
    "ALTER TABLE people ADD CONSTRAINT made CHECK (pin > 700000000)",
    "ALTER TABLE people ADD CONSTRAINT made CHECK (amount >= 0)",
    "ALTER TABLE people ADD CONSTRAINT made UNIQUE (secret, label)",
    "ALTER TABLE notes ADD CONSTRAINT made FOREIGN KEY (body) REFERENCES people (email)",
    "ALTER TABLE people CLUSTER ON people_secret",
    "ALTER TABLE staff NO INHERIT people",
    "ALTER TABLE events DETACH PARTITION events_north",
    "CREATE TABLE events_west PARTITION OF events FOR VALUES IN ('west')",
    "CREATE TABLE made (x text) INHERITS (people)",
    "CREATE TABLE made (LIKE people INCLUDING ALL)",
    "CREATE TABLE made AS SELECT secret FROM people",
    "CREATE TABLE made AS SELECT id, label FROM people",
    "CREATE TEMP TABLE people AS SELECT id, label AS secret FROM public.people",
    "CREATE TEMP TABLE notes (id integer, body text)",
    "CREATE VIEW made AS SELECT secret AS label FROM people",
    "CREATE TEMP VIEW made AS SELECT id, label FROM people",
    "CREATE OR REPLACE VIEW folk_count AS SELECT kind, count(*) AS many, sum(pin) AS total FROM people GROUP BY kind",
    "CREATE MATERIALIZED VIEW made AS SELECT secret FROM people",
    "CREATE FUNCTION made() RETURNS text LANGUAGE sql AS 'SELECT secret FROM people LIMIT 1'",
    "CREATE RULE made AS ON INSERT TO sink DO ALSO NOTIFY secrets",
    "CREATE POLICY made ON people USING (secret > 'q')",
    "CREATE TRIGGER made AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION tell()",
    "CREATE DOMAIN made AS text CHECK (VALUE > 'q')",
    "CREATE TYPE made AS (a text, b integer)",
    "CREATE SCHEMA made",
    "COMMENT ON COLUMN people.secret IS 'nothing'",
    "DROP VIEW folk_nested",
    "DROP INDEX people_secret",
    "TRUNCATE notes",
    "CLUSTER people USING people_secret",
    "CLUSTER people USING people_pkey",
    "ANALYZE people",
    "REINDEX TABLE people",
    "REFRESH MATERIALIZED VIEW folk_kept",
    "GRANT SELECT ON people TO PUBLIC",
    "SELECT secret INTO made FROM people",
    "SELECT id, label INTO TEMP made FROM people",
];

/// Writes.
const WRITES: &[&str] = &[
    "INSERT INTO sink SELECT id, secret, pin FROM people",
    "INSERT INTO sink SELECT id, label, amount FROM people RETURNING *",
    "INSERT INTO notes VALUES (900, 1, 'new', 2) RETURNING id, body",
    "INSERT INTO people (id, label, kind, amount, secret) VALUES (900, 'n', 'a', 1, 'given') RETURNING secret, loud, id",
    "INSERT INTO people (id, label, kind, amount, secret) VALUES (1, 'n', 'a', 1, 'given')",
    "INSERT INTO people (id, label, kind, amount, secret, salary) VALUES (901, 'n', 'a', 1, 'given', -1)",
    "INSERT INTO people AS p (id, label, kind, amount, secret) VALUES (1, 'n', 'a', 1, 'given') ON CONFLICT (id) DO UPDATE SET label = p.secret",
    "INSERT INTO people AS p (id, label, kind, amount, secret) VALUES (1, 'n', 'a', 1, 'given') ON CONFLICT (id) DO UPDATE SET amount = 7 RETURNING p.*",
    "INSERT INTO sink (id) SELECT id FROM people WHERE secret > 'v'",
    "UPDATE people SET label = secret WHERE id = 3",
    "UPDATE people SET label = upper(label) WHERE id = 3 RETURNING label, secret",
    "UPDATE people SET salary = salary WHERE id = 3",
    "UPDATE people SET salary = 5 WHERE id = 3",
    "UPDATE people SET salary = -salary WHERE id = 3",
    "UPDATE people SET secret = label WHERE id = 3 RETURNING secret, loud",
    "UPDATE people SET amount = 1 WHERE secret LIKE 'q%'",
    "UPDATE people SET amount = 1 WHERE id < 5 RETURNING *",
    "UPDATE sink SET body = p.secret FROM people AS p WHERE p.id = sink.id",
    "UPDATE notes SET body = p.label FROM people AS p WHERE p.id = notes.person RETURNING notes.*, p.email",
    "UPDATE people SET (label, amount) = (SELECT payload, 1 FROM events WHERE events.id = people.id) WHERE id = 4",
    "DELETE FROM notes USING people AS p WHERE p.id = notes.person AND p.pin > 700000000",
    "DELETE FROM notes WHERE id < 4 RETURNING *",
    "DELETE FROM letters WHERE id < 4 RETURNING body",
    "DELETE FROM people WHERE id = 3",
    "MERGE INTO sink USING people AS p ON p.id = sink.id WHEN NOT MATCHED THEN INSERT VALUES (p.id, p.secret, 1)",
    "MERGE INTO sink USING people AS p ON p.id = sink.id WHEN NOT MATCHED AND p.flag THEN INSERT VALUES (p.id, 'x', 1)",
    "MERGE INTO sink USING notes AS p ON p.id = sink.id WHEN NOT MATCHED THEN INSERT VALUES (p.id, p.body, p.amount)",
    "WITH gone AS (DELETE FROM letters WHERE id < 5 RETURNING id, body) SELECT * FROM gone",
    "WITH gone AS (DELETE FROM letters WHERE id < 5 RETURNING id, body) INSERT INTO sink SELECT id, body FROM gone",
    "WITH new AS (INSERT INTO notes VALUES (901, 2, 'cte', 3) RETURNING *) SELECT * FROM new, people AS p WHERE p.id = new.person",
];

/// What a session's startup message sets, beside what each does: most set nothing. Some of it nodegate refuses.
pub fn startup(random: &mut Random) -> &'static [(&'static str, &'static str)] {
    const BEGINNINGS: &[&[(&str, &str)]] = &[
        &[("search_path", "other, public")],
        &[("search_path", "public, other")],
        &[("options", "-csearch_path=other,public -c work_mem=1MB")],
        &[("options", "--search-path=nowhere,\"other\" -c extra_float_digits=0")],
        &[("search_path", "public"), ("options", "-c search_path=other")],
        &[("search_path", "\"$user\", OTHER, pg_temp, public")],
        &[("search_path", "")],
        &[("statement_timeout", "20s"), ("lock_timeout", "20s"), ("search_path", "other, public")],
        &[("search_path", "other, pg_catalog")],
        &[("role", "postgres")],
        &[("options", "-c role=postgres -c log_statement=all")],
        &[("options", "-c session_replication_role=replica")],
        &[("options", "-c standard_conforming_strings=off")],
        &[("options", "-c enable_seqscan=off -c enable_bitmapscan=off")],
        &[("random_page_cost", "0")],
    ];
    if random.chance(60) { &[] } else { BEGINNINGS[random.below(BEGINNINGS.len())] }
}

/// A statement that takes no query of its own.
pub fn fixed(random: &mut Random) -> String {
    random.one(FIXED).to_owned()
}

/// One step: statements in order, all on one connection.
pub fn step(random: &mut Random) -> Vec<String> {
    if random.chance(12) {
        return definitions::step(random);
    }
    match random.below(100) {
        0..=36 => vec![Queries::new(random).query()],
        37..=46 => vec![operands::statement(random)],
        47..=52 => speech::step(random),
        53..=55 => along_another_path(random),
        56..=59 => behind_another(random),
        60..=70 => {
            let id = random.below(PEOPLE).to_string();
            vec![random.one(FIXED).replace("id = 1", &format!("id = {id}"))]
        }
        71..=76 => {
            let verify = if random.chance(50) {
                Queries::new(random).query()
            } else {
                TABLES[random.below(TABLES.len())].to_owned()
            };
            within(random, WRITES, verify)
        }
        77..=80 => {
            let verify = Queries::new(random).query();
            within(random, CHANGES, verify)
        }
        81..=84 => {
            let analyze = random.one(&[
                "",
                "(VERBOSE) ",
                "(ANALYZE, TIMING OFF, SUMMARY OFF) ",
                "(COSTS OFF, FORMAT JSON) ",
            ]);
            let analyze = analyze.to_owned();
            vec![format!("EXPLAIN {analyze}{}", Queries::new(random).query())]
        }
        85..=87 => {
            let options = random.one(&["", " WITH (FORMAT csv, HEADER)", " WITH (FORMAT binary)"]).to_owned();
            if random.chance(50) {
                vec![format!("COPY ({}) TO STDOUT{options}", Queries::new(random).query())]
            } else {
                let relation = &RELATIONS[random.below(RELATIONS.len())];
                let column = relation
                    .columns
                    .iter()
                    .find(|column| column.kind == Kind::Text)
                    .map_or("id", |column| column.name);
                let columns = if random.chance(60) { format!(" ({column})") } else { String::new() };
                vec![format!(
                    "COPY {}{columns} TO STDOUT{options}",
                    relation.name.trim_start_matches("ONLY ")
                )]
            }
        }
        88..=91 => {
            let hold = random.one(&["", " SCROLL", " BINARY"]).to_owned();
            vec![
                "BEGIN".to_owned(),
                format!("DECLARE c{hold} CURSOR FOR {}", Queries::new(random).query()),
                "FETCH 3 FROM c".to_owned(),
                random.one(&["FETCH ALL FROM c", "MOVE 2 IN c", "FETCH BACKWARD 1 FROM c"]).to_owned(),
                "ROLLBACK".to_owned(),
            ]
        }
        92..=95 => {
            let again = if random.chance(30) { "EXECUTE s" } else { "DEALLOCATE s" };
            vec![
                format!("PREPARE s AS {}", Queries::new(random).query()),
                "EXECUTE s".to_owned(),
                again.to_owned(),
                "DEALLOCATE ALL".to_owned(),
            ]
        }
        96 | 97 => {
            let query = Queries::new(random).query();
            vec![
                "BEGIN".to_owned(),
                "SAVEPOINT a".to_owned(),
                random.one(CHANGES).to_owned(),
                "ROLLBACK TO a".to_owned(),
                query,
                "ROLLBACK".to_owned(),
            ]
        }
        _ => {
            let one = Queries::new(random).query();
            vec![format!("{one}; {}", Queries::new(random).query())]
        }
    }
}

const TABLES: &[&str] = &[
    "TABLE sink",
    "TABLE notes",
    "SELECT id, label, amount FROM people ORDER BY id",
    "SELECT * FROM people ORDER BY id",
];

const PATHS: &[&str] = &[
    "SET LOCAL search_path = other, public",
    "SET search_path = other, public",
    "SET search_path = public, other, pg_temp",
    "SELECT set_config('search_path', 'other, public', true)",
    "SET LOCAL search_path = other",
    "RESET search_path",
];

/// Another path in a transaction, and what brings it back.
fn along_another_path(random: &mut Random) -> Vec<String> {
    vec![
        "BEGIN".to_owned(),
        random.one(PATHS).to_owned(),
        Queries::new(random).query(),
        "SAVEPOINT a".to_owned(),
        random.one(PATHS).to_owned(),
        Queries::new(random).query(),
        random.one(&["ROLLBACK TO a", "RELEASE a"]).to_owned(),
        Queries::new(random).query(),
        random.one(&["COMMIT", "ROLLBACK", "COMMIT AND CHAIN"]).to_owned(),
        Queries::new(random).query(),
        "ROLLBACK".to_owned(),
    ]
}

/// A temporary relation before one that holds secrets, and what takes it away.
fn behind_another(random: &mut Random) -> Vec<String> {
    const BEFORE: &[&str] = &[
        "CREATE TEMP TABLE people AS SELECT * FROM other.people",
        "CREATE TEMP TABLE people (LIKE public.people)",
        "CREATE TEMP TABLE letters (id integer, subject text, body text)",
        "CREATE TEMP VIEW folk AS SELECT * FROM other.folk",
        "CREATE TEMP TABLE events AS SELECT id, person, region, 'open'::text AS payload FROM other.events",
    ];
    const AWAY: &[&str] = &[
        "DISCARD TEMP",
        "DISCARD ALL",
        "DROP TABLE IF EXISTS pg_temp.people, pg_temp.letters, pg_temp.events",
        "ALTER TABLE IF EXISTS pg_temp.people RENAME TO gone",
        "SET search_path = public, pg_temp",
        "SET search_path = other, pg_temp, public",
    ];
    let away = random.one(AWAY).to_owned();
    let query = Queries::new(random).query();
    let away = if random.chance(40) { vec![format!("{away}; {query}")] } else { vec![away, query] };
    let before = [random.one(BEFORE).to_owned(), Queries::new(random).query()];
    let before = before.into_iter().chain(away);
    // A table that is not temporary stays what it is.
    before.chain([Queries::new(random).query(), "DISCARD TEMP".to_owned()]).collect()
}

/// A change, what can be seen of it, and back.
fn within(random: &mut Random, of: &[&str], verify: String) -> Vec<String> {
    vec!["BEGIN".to_owned(), random.one(of).to_owned(), verify, "ROLLBACK".to_owned()]
}
