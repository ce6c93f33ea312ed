//! `@max_rows` under drivers of many sessions at once: what is within the limit is kept, all of it and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{path::Path, process::Command, time::Duration};

use nodegate_tests::{
    postgres::{self, Postgres},
    programs,
    stage::Stage,
};

const POLICY: &str = r#"
@id("all") permit (principal, action, resource);
@id("few-rows") @max_rows("10")
forbid (
    principal, action in [Action::"sql:insert", Action::"sql:update", Action::"sql:delete"],
    resource == Table::"shop/public.parts"
);
"#;

const TABLES: &str = "
    CREATE TABLE parts (id int PRIMARY KEY, name text);
    CREATE TABLE tools (id int PRIMARY KEY, name text);
    INSERT INTO parts SELECT n, 'part' FROM generate_series(1, 240) AS n;
    INSERT INTO tools SELECT n, 'tool' FROM generate_series(1, 240) AS n;
    ALTER TABLE parts OWNER TO app_agent;
    ALTER TABLE tools OWNER TO app_agent;
";

fn stage() -> Stage {
    let postgres = Postgres::start();
    postgres.script(TABLES);
    Stage::around(postgres, |settings| POLICY.clone_into(&mut settings.policy))
}

/// What a captured program prints.
fn run(stage: &Stage, program: &[&str]) -> String {
    let mut command = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    command.args(program).env("PGHOST", "127.0.0.1").env("PGPORT", stage.postgres.port().to_string());
    command.env("PGDATABASE", postgres::DATABASE).env("PGUSER", "somebody").env("PGPASSWORD", "wrong");
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    programs::said(&mut command, "", Duration::from_mins(2)).ok().to_owned()
}

fn source(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers").join(name).to_str().unwrap().to_owned()
}

/// So many refusals for each of eight workers.
fn each(refusals: u32) -> String {
    format!(" {refusals}").repeat(8)
}

/// Insists that every worker's last change is there, and nothing that was refused.
fn assert_kept(stage: &Stage, driver: &str) {
    let kept = stage.postgres.admin(&format!(
        "SELECT count(*) FILTER (WHERE name LIKE '{driver} %14'), count(*) FILTER (WHERE name = 'part'), \
         count(*) FROM parts"
    ));
    assert_eq!(kept, "80|160|240");
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM tools WHERE name = 'gone'"), "0");
}

#[test]
fn asyncpg_and_psycopg() {
    let stage = stage();
    let said = run(&stage, &["/usr/bin/python3", &source("row_limits.py")]);
    let expected = format!(
        "asyncpg refused{}\nasyncpg COPY 10\nasyncpg DELETE 10\npsycopg refused{}\n",
        each(4 * 15),
        each(2 * 15)
    );
    assert_eq!(said, expected);
    assert_kept(&stage, "psycopg");
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM tools WHERE id > 1000"), "120");
}

#[test]
fn jdbc() {
    let stage = stage();
    let folder = tempfile::tempdir().unwrap();
    let classes = format!("/usr/share/java/postgresql.jar:{}", folder.path().display());
    let mut compiler = Command::new("javac");
    compiler.args(["-cp", &classes, "-d"]).arg(folder.path());
    programs::succeed(compiler.arg(source("RowLimits.java")));
    let said = run(&stage, &["java", "-XX:TieredStopAtLevel=1", "-cp", &classes, "RowLimits"]);
    assert_eq!(said, format!("jdbc refused{}\n", each(5 * 15)));
    assert_kept(&stage, "jdbc");
}
