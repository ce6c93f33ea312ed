//! pg_dump and pg_restore through nodegate, and the empty search path that they work with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{path::Path, process::Command, time::Duration};

use nodegate_tests::{
    daemon::POLICY,
    postgres::{self, Postgres},
    programs::{Said, said},
    stage::Stage,
};

const PATIENCE: Duration = Duration::from_mins(2);

/// Something of every kind that a dump has its own query for.
const OBJECTS: &str = r"
    SET ROLE app_agent;
    CREATE SCHEMA books;
    CREATE TYPE mood AS ENUM ('bad', 'fine');
    CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
    CREATE TYPE pair AS (a integer, b text);
    CREATE TYPE span AS RANGE (subtype = float8);
    CREATE SEQUENCE books.numbers START 17;
    CREATE TABLE books.authors (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name text NOT NULL DEFAULT 'nobody' COLLATE pg_catalog.default,
        feels mood, size positive, couple pair, since span, at timestamptz DEFAULT now(),
        upper_name text GENERATED ALWAYS AS (upper(name)) STORED,
        EXCLUDE USING gist (since WITH &&), CHECK (length(name) > 0)
    );
    INSERT INTO books.authors (name, feels, size, couple, since) VALUES
        ('Ada', 'fine', 3, ROW(1, 'x'), '[1,2)'), (E'tab\tand \\. and \nline', 'bad', 4, NULL, '[3,4)');
    CREATE TABLE books.sales (day date, amount integer) PARTITION BY RANGE (day);
    CREATE TABLE books.sales_2026 PARTITION OF books.sales FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    INSERT INTO books.sales VALUES ('2026-05-06', 7);
    CREATE TABLE books.parent (a integer);
    CREATE TABLE books.child (b integer) INHERITS (books.parent);
    ALTER TABLE books.child ALTER COLUMN b SET STATISTICS 200;
    CREATE VIEW books.names AS SELECT name, 'fine'::mood AS feels FROM books.authors WHERE size > 1;
    CREATE MATERIALIZED VIEW books.counted AS SELECT count(*) AS n FROM books.authors;
    CREATE INDEX by_name ON books.authors (lower(name)) WHERE size > 1;
    CREATE STATISTICS books.together (dependencies) ON name, size FROM books.authors;
    CREATE FUNCTION books.twice(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
    CREATE FUNCTION books.touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$;
    CREATE TRIGGER touched BEFORE UPDATE ON books.authors FOR EACH ROW EXECUTE FUNCTION books.touch();
    CREATE RULE quiet AS ON DELETE TO books.parent DO INSTEAD NOTHING;
    CREATE OPERATOR books.### (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4pl);
    CREATE AGGREGATE books.total (integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0');
    CREATE TABLE books.guarded (owner text, note text);
    INSERT INTO books.guarded VALUES ('app_agent', 'a'), ('another', 'b');
    ALTER TABLE books.guarded ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON books.guarded USING (owner = current_user);
    COMMENT ON TABLE books.authors IS 'who wrote; DROP TABLE customers';
    GRANT SELECT ON books.authors TO app_md5;
";

fn everything_passes() -> Stage {
    let postgres = Postgres::start();
    postgres.script(OBJECTS);
    let stage = Stage::around(postgres, |settings| {
        settings.targets[0].tags.clear();
        r#"@id("all") permit (principal, action, resource);"#.clone_into(&mut settings.policy);
    });
    for database in ["copy", "second"] {
        stage.postgres.admin(&format!("CREATE DATABASE {database} OWNER app_agent"));
    }
    stage
}

fn words(stage: &Stage, database: &str) -> Vec<String> {
    let port = stage.postgres.port().to_string();
    ["-h", "127.0.0.1", "-p", &port, "-U", postgres::ROLE, "-d", database].map(str::to_owned).to_vec()
}

fn captured(stage: &Stage, database: &str, program: &[&str]) -> Said {
    let mut command = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    command.arg(program[0]).args(words(stage, database)).args(&program[1..]).env("PGPASSWORD", "wrong");
    said(&mut command, "", PATIENCE)
}

fn direct(stage: &Stage, database: &str, program: &[&str]) -> Said {
    let mut command = Command::new(program[0]);
    command.args(words(stage, database)).args(&program[1..]).env("PGPASSWORD", postgres::PASSWORD);
    said(&mut command, "", PATIENCE)
}

/// A dump as text, without the key that every dump has another of.
fn text(said: &Said) -> String {
    let lines = said.ok().lines().filter(|line| !line.contains("restrict "));
    lines.collect::<Vec<_>>().join("\n")
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_dump_is_the_servers_own_and_restores_to_the_same() {
    let stage = everything_passes();
    let folder = tempfile::tempdir().unwrap();
    let dumped = captured(&stage, "shop", &["pg_dump"]);
    let original = text(&direct(&stage, "shop", &["pg_dump"]));
    assert_eq!(text(&dumped), original);
    assert_eq!(dumped.err, "");

    let file = path(folder.path(), "custom");
    captured(&stage, "shop", &["pg_dump", "-Fc", "-f", &file]).ok();
    let restored = captured(&stage, "copy", &["pg_restore", "--exit-on-error", &file]);
    assert_eq!((restored.status, restored.err.as_str()), (0, ""));
    assert_eq!(text(&direct(&stage, "copy", &["pg_dump"])), original);

    // Once more over what is there.
    captured(&stage, "copy", &["pg_restore", "--clean", "--exit-on-error", "--single-transaction", &file])
        .ok();
    assert_eq!(text(&direct(&stage, "copy", &["pg_dump"])), original);

    // Large objects come by function calls of the protocol, which are refused.
    stage.postgres.admin("SET ROLE app_agent; SELECT pg_catalog.lo_from_bytea(4242, 'large')");
    let refused = captured(&stage, "shop", &["pg_dump", "--file=/dev/null"]);
    assert!(refused.err.contains("sql:function_call on shop (pg_catalog.lo_open)"), "{}", refused.err);
    assert_eq!(text(&captured(&stage, "shop", &["pg_dump", "--no-blobs"])), original);
    stage.postgres.admin("SELECT pg_catalog.lo_unlink(4242)");

    // Several sessions at once that share a snapshot.
    let file = path(folder.path(), "parallel");
    captured(&stage, "shop", &["pg_dump", "-Fd", "-j", "2", "-f", &file]).ok();
    captured(&stage, "second", &["pg_restore", "--exit-on-error", "-j", "2", &file]).ok();
    assert_eq!(text(&direct(&stage, "second", &["pg_dump"])), original);
}

#[test]
fn a_dump_as_a_script_is_run_by_psql() {
    let stage = everything_passes();
    let folder = tempfile::tempdir().unwrap();
    let file = path(folder.path(), "script.sql");
    for (database, how) in [("copy", &["--inserts", "--rows-per-insert=3"][..]), ("second", &[])] {
        captured(&stage, "shop", &[&["pg_dump", "-f", &file], how].concat()).ok();
        let run = captured(&stage, database, &["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &file]);
        assert_eq!((run.status, run.err.as_str()), (0, ""), "{}", run.out);
        assert_eq!(
            text(&direct(&stage, database, &["pg_dump"])),
            text(&direct(&stage, "shop", &["pg_dump"]))
        );
    }
}

#[test]
fn a_dump_that_meets_masked_columns_is_refused_and_one_of_other_tables_is_not() {
    let policy =
        POLICY.replace("Action::\"sql:create\"", "Action::\"sql:create\", Action::\"sql:maintenance\"");
    let stage = Stage::with(|settings| settings.policy = policy);
    let whole = captured(&stage, "shop", &["pg_dump", "--enable-row-security"]);
    assert_ne!(whole.status, 0);
    assert!(whole.err.contains("public.customers.email"), "{}", whole.err);
    assert!(whole.err.contains("mask"), "{}", whole.err);
    assert!(!whole.out.contains("@example.com"), "{}", whole.out);
    for exclusion in ["--exclude-table-data=customers", "--exclude-table=customers"] {
        let rest = captured(&stage, "shop", &["pg_dump", exclusion]);
        assert_eq!(text(&rest), text(&direct(&stage, "shop", &["pg_dump", exclusion])), "{}", rest.err);
    }
}
