//! A session may set its search path to names, also where something is masked: masks follow what the server finds by them,
//! through transactions and whatever brings the path back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use nodegate_tests::{agent::Agent, postgres::Postgres, stage::Stage, wire::Client};

const MASKED: &str = r#"
    @id("everything") permit (principal, action, resource);
    @id("mask-pii") @mask("redact")
    forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("pii") };
    @id("code") permit (principal, action == Action::"sql:call_unmasked", resource);
"#;

/// The same table in three schemas. Its readers are masked in `shelf` alone, and `app_agent` is the login's own.
const SHELVES: &str = "
    CREATE SCHEMA shelf; CREATE SCHEMA open; CREATE SCHEMA app_agent;
    CREATE TABLE shelf.books (id integer, reader text); INSERT INTO shelf.books VALUES (1, 'ada lovelace');
    CREATE TABLE open.books (id integer, reader text); INSERT INTO open.books VALUES (1, 'of the open shelf');
    CREATE TABLE app_agent.books (id integer, reader text); INSERT INTO app_agent.books VALUES (1, 'of my own');
    CREATE FUNCTION public.moves(path text) RETURNS void LANGUAGE plpgsql
    AS $$ BEGIN PERFORM set_config('search_path', path, false); END $$;
    ALTER ROLE app_agent SET search_path = public;
    GRANT USAGE, CREATE ON SCHEMA shelf, open, app_agent, public TO app_agent;
    GRANT ALL ON ALL TABLES IN SCHEMA shelf, open, app_agent TO app_agent;
";

fn stage() -> Stage {
    let postgres = Postgres::start();
    postgres.script(SHELVES);
    Stage::around(postgres, |settings| {
        MASKED.clone_into(&mut settings.policy);
        settings.targets[0].tags = vec![("shelf.books.reader".to_owned(), vec!["pii".to_owned()])];
    })
}

fn client(stage: &Stage, agent: &mut Agent) -> Client {
    stage.client(agent)
}

fn code(client: &mut Client, sql: &str) -> String {
    let reply = client.query(sql);
    reply.errors.first().map_or_else(String::new, |error| error.code().to_owned())
}

/// Nothing of its result says which column it comes from, so that only the reading of it can tell.
const UPPER: &str = "SELECT upper(reader) FROM books";

const SHELF: &str = "[redacted]";
const OPEN: &str = "OF THE OPEN SHELF";
const OWN: &str = "OF MY OWN";
const NOTHING: &str = "42P01";

/// What is shown, or why nothing is.
fn shown(client: &mut Client) -> String {
    let reply = client.query(UPPER);
    match reply.errors.first() {
        Some(error) => error.code().to_owned(),
        None => reply.texts()[0][0].clone(),
    }
}

/// Runs statements that succeed, each with what is shown behind it; nothing where that is not asked.
#[track_caller]
fn steps(client: &mut Client, steps: &[(&str, &str)]) {
    for (sql, expected) in steps {
        assert_eq!(code(client, sql), "", "{sql}");
        if !expected.is_empty() {
            assert_eq!(shown(client), *expected, "behind {sql}");
        }
    }
}

#[test]
fn masks_follow_the_path_through_whatever_moves_it_and_brings_it_back() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = client(&stage, &mut agent);
    assert_eq!(shown(&mut client), NOTHING);
    steps(
        &mut client,
        &[
            ("SET search_path = shelf", SHELF),
            ("SET search_path TO open, shelf", OPEN),
            ("set SESSION Search_Path = \"shelf\", open", SHELF),
            ("SET SCHEMA 'open'", OPEN),
            ("SET search_path = '$user', open", OWN),
            ("SET search_path = nowhere, shelf, public", SHELF),
            // One name, which is no schema's.
            ("SET search_path = 'open, shelf'", NOTHING),
            ("SELECT set_config('search_path', 'open, shelf', false)", OPEN),
            ("SELECT pg_catalog.set_config('search_path', '\"shelf\", OPEN', false)", SHELF),
            ("RESET search_path", NOTHING),
            ("SET search_path = shelf", SHELF),
            ("SET search_path TO DEFAULT", NOTHING),
            ("SET search_path = shelf", SHELF),
            ("RESET ALL", NOTHING),
            ("SET search_path = open", OPEN),
            ("DISCARD ALL", NOTHING),
            // In a transaction.
            ("SET search_path = open", OPEN),
            ("BEGIN", OPEN),
            ("SET search_path = shelf", SHELF),
            ("ROLLBACK", OPEN),
            ("BEGIN", OPEN),
            ("SET LOCAL search_path = shelf", SHELF),
            ("COMMIT", OPEN),
            ("BEGIN", ""),
            ("SET search_path = shelf", ""),
            ("COMMIT", SHELF),
            ("BEGIN", SHELF),
            ("SAVEPOINT a", ""),
            ("SELECT set_config('search_path', 'open', true)", OPEN),
            ("SAVEPOINT b", ""),
            ("SET LOCAL search_path = app_agent", OWN),
            ("ROLLBACK TO b", OPEN),
            ("ROLLBACK TO a", SHELF),
            ("SET LOCAL search_path = open", OPEN),
            ("RELEASE a", OPEN),
            ("COMMIT AND CHAIN", SHELF),
            ("SET search_path = open", OPEN),
            ("ROLLBACK AND CHAIN", SHELF),
            ("COMMIT", SHELF),
            // Outside of one, SET LOCAL is nothing but a warning.
            ("SET LOCAL search_path = open", SHELF),
            ("SELECT set_config('search_path', 'open', true)", SHELF),
            // As the last statement of a message, nothing of which it touches.
            ("BEGIN; SET LOCAL search_path = open", OPEN),
            ("END", SHELF),
        ],
    );
    // What fails takes it back, also what nodegate refuses.
    for failing in ["SELECT 1 / 0", "SELECT upper(reader)::integer FROM books"] {
        steps(&mut client, &[("BEGIN", SHELF), ("SET search_path = open", OPEN)]);
        assert_ne!(
            code(&mut client, if failing.contains("books") { "TABLE pg_authid" } else { failing }),
            ""
        );
        assert_eq!(code(&mut client, "COMMIT"), "");
        assert_eq!(shown(&mut client), SHELF);
    }
    // One that the server does not take moves nothing.
    stage.postgres.admin("CREATE FUNCTION open.fails() RETURNS void LANGUAGE sql AS 'SELECT'");
    assert_eq!(code(&mut client, "SET search_path = open; SELECT 1 / 0"), "42501");
    assert_eq!(shown(&mut client), SHELF);
}

#[test]
fn what_is_sent_in_a_pipeline_is_judged_by_the_path_that_it_meets() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = client(&stage, &mut agent);
    for (name, sql) in
        [("open", "SET search_path = open"), ("shelf", "SET search_path = shelf"), ("upper", "SELECT 1")]
    {
        client.parse(name, sql);
    }
    assert_eq!(client.sync().order, "111Z");
    steps(&mut client, &[("SET search_path = open", OPEN)]);
    client.parse("books", UPPER);
    assert_eq!(client.sync().order, "1Z");
    // Behind the change in one batch nobody knows yet what a name means; in the next one it is known.
    client.bind("", "shelf", &[], 0);
    client.execute("", 0);
    client.bind("", "books", &[], 0);
    client.execute("", 0);
    let reply = client.sync();
    assert_eq!((reply.error().code(), reply.rows.len()), ("42501", 0));
    assert_eq!(shown(&mut client), OPEN, "the batch was undone as a whole");
    for (set, expected) in [("shelf", SHELF), ("open", OPEN), ("shelf", SHELF)] {
        client.bind("", set, &[], 0);
        client.execute("", 0);
        assert_eq!(client.sync().errors, []);
        client.bind("", "books", &[], 0);
        client.execute("", 0);
        assert_eq!(client.sync().texts(), [[expected]]);
    }
}

#[test]
fn what_is_temporary_stands_before_the_path_or_where_it_says() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = client(&stage, &mut agent);
    steps(
        &mut client,
        &[
            ("SET search_path = shelf", SHELF),
            ("CREATE TEMP TABLE books AS SELECT 1 AS id, 'of mine' AS reader", "OF MINE"),
            ("SET search_path = shelf, pg_temp", SHELF),
            ("SET search_path = open, pg_temp, shelf", OPEN),
            ("SET search_path = nowhere, pg_temp, shelf", "OF MINE"),
            ("DROP TABLE books", SHELF),
            ("CREATE TEMP TABLE books AS SELECT 1 AS id, 'of mine' AS reader", "OF MINE"),
            ("SET search_path = shelf", "OF MINE"),
            ("DISCARD TEMP", SHELF),
            ("BEGIN", SHELF),
            ("CREATE TEMP TABLE books ON COMMIT DROP AS SELECT 1 AS id, 'of mine' AS reader", "OF MINE"),
            ("SET LOCAL search_path = shelf, pg_temp", SHELF),
            ("COMMIT", SHELF),
            ("DISCARD ALL", NOTHING),
        ],
    );
}

#[test]
fn code_of_a_schema_on_the_path_is_not_taken_for_postgresqls_own() {
    let stage = stage();
    stage.postgres.script(
        "CREATE FUNCTION open.upper(varchar) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
         CREATE FUNCTION open.same(text, varchar) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN true; END';
         CREATE OPERATOR open.|| (LEFTARG = text, RIGHTARG = varchar, FUNCTION = open.same);",
    );
    let mut agent = stage.agent();
    let mut client = client(&stage, &mut agent);
    steps(&mut client, &[("SET search_path = open, shelf", "")]);
    for sql in [
        "SELECT upper(reader::varchar) FROM shelf.books",
        "SELECT reader || 'x'::varchar FROM shelf.books",
        "SELECT open.upper(reader) FROM shelf.books",
    ] {
        assert_eq!(code(&mut client, sql), "42501", "{sql}");
    }
    // Before those of PostgreSQL, nothing of a user's may stand.
    for sql in [
        "SET search_path = open, pg_catalog",
        "SET search_path = pg_catalog, open",
        "SET search_path = 'PG_CATALOG', open",
        "SET search_path = pg_temp, shelf",
        "SET search_path = \"pg_temp\"",
        "SET search_path = shelf, pg_temp_3",
        "SET search_path = pg_toast",
        "SELECT set_config('search_path', 'open, PG_catalog', false)",
        "SELECT set_config('search_path', '\"pg_catalog\"', false)",
        "SELECT set_config('search_path', 'pg_temp, open', true)",
        "SELECT set_config('search_path', 'open,,shelf', true)",
        "SELECT set_config('search_path', reader, true) FROM books",
        "SELECT set_config('search_path', 'op' || 'en', true)",
        "SELECT set_config('search_path', 'open', true), upper(reader) FROM books",
        "SET search_path FROM CURRENT",
        "SET ROLE app_agent",
        "SET search_path = open; SELECT 1",
    ] {
        assert_eq!(code(&mut client, sql).as_str(), "42501", "{sql}");
    }
}

#[test]
fn the_path_that_code_sets_is_followed_as_well() {
    let stage = stage();
    let mut agent = stage.agent();
    let mut client = client(&stage, &mut agent);
    steps(
        &mut client,
        &[
            ("SELECT public.moves('open')", OPEN),
            ("SELECT public.moves('shelf')", SHELF),
            ("RESET search_path", NOTHING),
            ("DO $$ BEGIN SET search_path = open; END $$", OPEN),
            ("RESET ALL", NOTHING),
        ],
    );
    // What sessions begin with is not an agent's to say.
    assert_eq!(code(&mut client, "ALTER ROLE app_agent SET search_path = shelf"), "42501");
    stage.postgres.admin("ALTER ROLE app_agent SET search_path = shelf");
    assert_eq!(code(&mut client, "CREATE TABLE public.reason_to_look_again ()"), "");
    // Those that begin now find what the role was given.
    let mut later = self::client(&stage, &mut agent);
    assert_eq!(shown(&mut later), SHELF);
    steps(&mut later, &[("SET search_path = open", OPEN), ("RESET search_path", SHELF)]);
}
