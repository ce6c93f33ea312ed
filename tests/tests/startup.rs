//! What a startup message sets: the search path and whatever SET may set, by policy; names are read by it from the first
//! statement on, by masks as well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::process::Command;

use nodegate_tests::{
    agent::Agent,
    postgres::{self, Postgres},
    programs,
    stage::Stage,
    wire::{Client, ServerError},
};

const MASKED: &str = r#"
    @id("everything") permit (principal, action, resource);
    @id("mask-pii") @mask("redact")
    forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("pii") };
    @id("hidden") forbid (principal, action, resource == Table::"shop/shelf.orders");
"#;

/// A second schema, with a tagged column, a table that hides one of `public`, and a role that the login may become, whose
/// own schema hides both.
const SHELF: &str = "
    CREATE ROLE clerk; GRANT clerk TO app_agent;
    CREATE SCHEMA shelf; CREATE SCHEMA clerk;
    CREATE TABLE shelf.books (title text, reader text); INSERT INTO shelf.books VALUES ('Emma', 'Ada Lovelace');
    CREATE TABLE shelf.orders (id integer); CREATE TABLE clerk.orders (id integer);
    CREATE VIEW public.books AS SELECT 'none'::text AS title, 'nobody'::text AS reader;
    GRANT USAGE ON SCHEMA shelf, clerk TO app_agent, clerk;
    GRANT SELECT ON ALL TABLES IN SCHEMA shelf, clerk, public TO app_agent, clerk;
";

fn stage(policy: &str, tags: &[&str]) -> Stage {
    let postgres = Postgres::start();
    postgres.script(SHELF);
    Stage::around(postgres, |settings| {
        policy.clone_into(&mut settings.policy);
        settings.targets[0].tags =
            tags.iter().map(|tag| ((*tag).to_owned(), vec!["pii".to_owned()])).collect();
    })
}

const TAG: &[&str] = &["shelf.books.reader"];

/// A session whose startup message sets this.
fn begin(stage: &Stage, agent: &mut Agent, parameters: &[(&str, &str)]) -> Result<Client, ServerError> {
    let stream = agent.connect(stage.postgres.address()).expect("a captured connection");
    let usual = [("user", "somebody"), ("database", postgres::DATABASE)];
    Client::start_as(stream, &usual.into_iter().chain(parameters.iter().copied()).collect::<Vec<_>>())
}

fn code(client: &mut Client, sql: &str) -> String {
    let reply = client.query(sql);
    reply.errors.first().map_or_else(String::new, |error| error.code().to_owned())
}

const BOOKS: &str = "SELECT title, reader FROM books";

#[test]
fn names_are_read_by_the_path_that_a_session_begins_with() {
    let stage = stage(MASKED, TAG);
    let mut agent = stage.agent();
    // Sessions that begin in different ways do not share what they know of the schema.
    for _ in 0..2 {
        let mut plain = begin(&stage, &mut agent, &[]).unwrap();
        assert_eq!(plain.query(BOOKS).texts(), [["none", "nobody"]]);
        assert_eq!(code(&mut plain, "SELECT id FROM orders"), "");
        for parameter in [
            ("search_path", "shelf, public"),
            ("options", "-csearch_path=shelf"),
            ("options", "--search-path=\"shelf\",public"),
            ("search_path", "SHELF, pg_temp"),
        ] {
            let mut client = begin(&stage, &mut agent, &[parameter]).unwrap();
            assert_eq!(client.query(BOOKS).texts(), [["Emma", "[redacted]"]], "{parameter:?}");
            assert_eq!(code(&mut client, "SELECT upper(reader) || '' FROM books"), "");
            assert_eq!(client.query("SELECT upper(reader) || '' FROM books").texts(), [["[redacted]"]]);
            assert_eq!(code(&mut client, "SELECT id FROM orders"), "42501", "{parameter:?}");
            // RESET brings back what the session began with.
            assert_eq!(code(&mut client, "SET search_path = ''"), "");
            assert_eq!(code(&mut client, BOOKS), "42P01");
            assert_eq!(code(&mut client, "RESET search_path"), "");
            assert_eq!(client.query(BOOKS).texts(), [["Emma", "[redacted]"]], "{parameter:?}");
        }
    }
    let mut nothing = begin(&stage, &mut agent, &[("search_path", "")]).unwrap();
    assert_eq!(code(&mut nothing, BOOKS), "42P01");
    assert_eq!(nothing.query("SELECT reader FROM shelf.books").texts(), [["[redacted]"]]);
}

#[test]
fn a_changed_schema_is_known_to_sessions_of_every_path() {
    let stage = stage(MASKED, &["shelf.late.reader"]);
    stage.postgres.admin("GRANT CREATE ON SCHEMA shelf TO app_agent");
    let mut agent = stage.agent();
    let mut one = begin(&stage, &mut agent, &[("search_path", "shelf")]).unwrap();
    let mut other = begin(&stage, &mut agent, &[]).unwrap();
    assert_eq!(code(&mut other, "CREATE TABLE shelf.late (reader text)"), "");
    assert_eq!(code(&mut other, "INSERT INTO shelf.late VALUES ('Ada')"), "");
    let mut later = begin(&stage, &mut agent, &[("search_path", "shelf")]).unwrap();
    for client in [&mut one, &mut later] {
        assert_eq!(client.query("SELECT reader || '' FROM late").texts(), [["[redacted]"]]);
    }
}

#[test]
fn what_set_may_not_do_a_startup_message_may_not_either() {
    let stage = stage(MASKED, TAG);
    let mut agent = stage.agent();
    for (name, value, said) in [
        ("search_path", "public, pg_catalog", "setting search_path would change how SQL is read"),
        ("search_path", "\"pg_temp\", public", "setting search_path would change how SQL is read"),
        ("search_path", "shelf,,public", "a search_path that is no list of names"),
        ("role", "clerk", "setting role is refused where values are masked"),
        (
            "session_authorization",
            "clerk",
            "setting session_authorization is refused where values are masked",
        ),
        ("own.tenant", "5", "setting own.tenant is refused where values are masked"),
        ("options", "-c standard_conforming_strings=off", "setting standard_conforming_strings would change"),
        ("options", "-c local_preload_libraries=x", "setting local_preload_libraries would change"),
        ("options", "-c user=postgres", "the startup parameter \"user\" is not allowed"),
        ("options", "-c session_replication_role=replica", "is refused where values are masked"),
    ] {
        let error = begin(&stage, &mut agent, &[(name, value)]).unwrap_err();
        assert!(error.code() == "28000" && error.message().contains(said), "{name}={value}: {error:?}");
    }
    // What the server does not take is said in its own words: nobody need call the operator.
    for (name, value, code, said) in [
        ("statement_timeout", "soon", "22023", "invalid value for parameter \"statement_timeout\""),
        ("lock_timeout", "lots", "22023", "invalid value for parameter \"lock_timeout\""),
        ("transaction_timeout", "1s", "42704", "unrecognized configuration parameter"),
    ] {
        let error = begin(&stage, &mut agent, &[(name, value)]).unwrap_err();
        assert!(error.code() == code && error.message().contains(said), "{name}={value}: {error:?}");
    }
}

#[test]
fn policy_decides_as_on_set() {
    let stage = stage(
        r#"@id("all") permit (principal, action, resource);
           @id("plain") forbid (principal, action == Action::"sql:set", resource)
           when { principal.subject == "agent-2" };
           @id("clerks") forbid (principal, action, resource == Table::"shop/clerk.orders");"#,
        &[],
    );
    let mut agent = stage.agent();
    let mut client = begin(
        &stage,
        &mut agent,
        &[(
            "options",
            "-c role=clerk -c own.tenant=5 -c work_mem=5MB -c enable_seqscan=off -c row_security=off",
        )],
    )
    .unwrap();
    let said =
        client.query("SELECT current_user, current_setting('own.tenant'), current_setting('work_mem')");
    assert_eq!(said.texts(), [["clerk", "5", "5MB"]]);
    // By the default path, names are those of the schema that is called like the role.
    assert_eq!(code(&mut client, "SELECT id FROM orders"), "42501");
    // Which ends where the session's authorisation is set anew.
    assert_eq!(code(&mut client, "SET SESSION AUTHORIZATION DEFAULT; SELECT id FROM orders"), "42501");
    assert_eq!(code(&mut client, "DISCARD ALL"), "");
    assert_eq!(code(&mut client, "SET ROLE NONE"), "");
    assert_eq!(client.query("SELECT current_user").texts(), [["app_agent"]]);
    assert_eq!(code(&mut client, "SELECT id FROM orders"), "");
    let error = begin(&stage, &mut agent, &[("role", "postgres")]).unwrap_err();
    assert!(error.code() == "42501" && error.message().contains("permission denied"), "{error:?}");

    let mut other = stage.daemon.agent(&stage.issuer.token("agent-2"));
    let error = begin(&stage, &mut other, &[("search_path", "shelf")]).unwrap_err();
    assert!(error.code() == "28000" && error.text().contains("policy: plain"), "{error:?}");
    begin(&stage, &mut other, &[("DateStyle", "ISO"), ("extra_float_digits", "3")]).unwrap();
    let begun = stage.daemon.audit_search(&["--kind", "connect", "--outcome", "allowed"]);
    let begun = serde_json::Value::from(begun).to_string();
    assert!(begun.contains("sets role, own.tenant, work_mem") && !begun.contains("5MB"), "{begun}");
}

#[test]
fn psql_and_drivers_begin_on_another_path_and_set_it() {
    let stage = stage(MASKED, TAG);
    let folder = tempfile::tempdir().unwrap();
    let drivers = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers");
    let classes = format!("/usr/share/java/postgresql.jar:{}", folder.path().display());
    let mut compiler = Command::new("javac");
    compiler.args(["-cp", &classes, "-d"]).arg(folder.path());
    programs::succeed(compiler.arg(drivers.join("SearchPath.java")));
    let python = drivers.join("search_path.py");
    let psql = programs::postgres("psql");
    let words = ["-XAtF", " ", "-c", "SELECT title, reader FROM books", "-c", "SHOW lock_timeout"];
    let set =
        ["-XAtF", " ", "-c", "SET search_path = shelf, public", "-c", "SELECT title, reader FROM books"];
    let set = set.into_iter().chain(["-c", "SHOW lock_timeout"]);
    let setting: Vec<&str> = std::iter::once(psql.to_str().unwrap()).chain(set).collect();
    let psql: Vec<&str> = std::iter::once(psql.to_str().unwrap()).chain(words).collect();
    for (program, environment) in [
        (psql.clone(), "-c search_path=shelf,public -c lock_timeout=5s"),
        (psql, "--search_path=shelf --lock-timeout=5s"),
        (setting, "-c lock_timeout=5s"),
        (vec!["/usr/bin/python3", python.to_str().unwrap()], ""),
        (vec!["java", "-XX:TieredStopAtLevel=1", "-cp", &classes, "SearchPath"], ""),
    ] {
        let run = |mut command: Command, password: &str| {
            command
                .args(&program)
                .env("PGHOST", "127.0.0.1")
                .env("PGPORT", stage.postgres.port().to_string())
                .env("PGDATABASE", postgres::DATABASE)
                .env("PGUSER", postgres::ROLE)
                .env("PGPASSWORD", password)
                .env("PYTHONDONTWRITEBYTECODE", "1");
            if !environment.is_empty() {
                command.env("PGOPTIONS", environment);
            }
            programs::said(&mut command, "", std::time::Duration::from_mins(2)).ok().to_owned()
        };
        let direct = run(Command::new("env"), postgres::PASSWORD);
        let captured = run(stage.daemon.run(Some(&stage.issuer.token("agent-1"))), "wrong");
        assert!(direct.contains("Emma Ada Lovelace") && direct.contains("5MB"), "{direct}");
        assert_eq!(
            captured,
            direct.replace("Ada Lovelace", "[redacted]").replace("ADA LOVELACE", "[redacted]")
        );
    }
}

#[test]
fn what_is_prepared_runs_on_after_the_session_has_changed_something() {
    let stage = stage(MASKED, TAG);
    stage.postgres.admin("CREATE FUNCTION own() RETURNS integer LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'");
    let mut agent = stage.agent();
    let mut client = begin(&stage, &mut agent, &[]).unwrap();
    client.parse("s", BOOKS);
    client.parse("b", "BEGIN");
    client.parse("i", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE");
    assert_eq!(client.sync().order, "111Z");
    for change in
        ["SELECT own()", "CREATE TEMPORARY TABLE own (id integer)", "SET search_path = ''", "RESET ALL"]
    {
        assert_eq!(code(&mut client, change), "");
        for statement in ["b", "i"] {
            client.bind("", statement, &[], 0);
            client.execute("", 0);
            assert_eq!(client.sync().errors, [], "{change}");
        }
        client.bind("", "s", &[], 0);
        client.execute("", 0);
        let reply = client.sync();
        // As at the server alone.
        let expected = if change.starts_with("SET") { vec!["42P01"] } else { vec![] };
        let codes: Vec<&str> = reply.errors.iter().map(ServerError::code).collect();
        assert_eq!(codes, expected, "{change}: {reply:?}");
        client.query("ROLLBACK");
    }
}
