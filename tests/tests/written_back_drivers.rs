//! What applications do with a masked row: they read it, change one field and save all of them. The save is refused, the
//! message says why and the way out, and a save of the changed field alone works. The programs are in `tests/drivers`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nodegate_tests::{
    postgres,
    programs::{self, Said},
    stage::Stage,
};

const PATIENCE: Duration = Duration::from_mins(3);

/// All of a row but its name.
const REST: &str = "SELECT id, email, phone, ssn, notes, created_at FROM customers WHERE id = 7";

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers").join(name)
}

fn run(stage: &Stage, program: &[&str]) -> Said {
    let mut command = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    command
        .args(program)
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", stage.postgres.port().to_string())
        .env("PGDATABASE", postgres::DATABASE)
        .env("PGUSER", postgres::ROLE)
        .env("PGPASSWORD", "wrong")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    programs::said(&mut command, "", PATIENCE)
}

/// Runs a program whose saves of whole rows, so many, are refused.
fn saves_only_what_changed(program: &[&str], refusals: usize) {
    let stage = Stage::new();
    let before = stage.postgres.admin(REST);
    let said = run(&stage, program);
    let out = said.ok();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), refusals + 1, "{out}");
    for refused in &lines[..refusals] {
        assert!(refused.starts_with("refused 42501 "), "{refused}");
        assert!(refused.contains("is masked for this agent by policy"), "{refused}");
        assert!(refused.contains("is a mask, not a value"), "{refused}");
        assert!(refused.contains("Save only the fields that changed."), "{refused}");
    }
    assert_eq!(lines[refusals], "changed saved");
    assert_eq!(stage.postgres.admin(REST), before);
    assert_eq!(stage.postgres.admin("SELECT name FROM customers WHERE id = 7"), "changed");
    // Nothing of it was ever written: only what the database itself says counts.
    assert_eq!(
        stage
            .postgres
            .admin("SELECT count(*) FROM customers WHERE email LIKE '%***%' OR ssn LIKE '%redacted%'"),
        "0"
    );
}

#[test]
fn psycopg() {
    saves_only_what_changed(&["/usr/bin/python3", source("write_back.py").to_str().unwrap(), "psycopg"], 1);
}

#[test]
fn django() {
    saves_only_what_changed(&["/usr/bin/python3", source("write_back.py").to_str().unwrap(), "django"], 1);
}

#[test]
fn sqlalchemy() {
    saves_only_what_changed(
        &["/usr/bin/python3", source("write_back.py").to_str().unwrap(), "sqlalchemy"],
        1,
    );
}

#[test]
fn active_record() {
    saves_only_what_changed(&["/usr/bin/ruby", source("write_back.rb").to_str().unwrap()], 1);
}

#[test]
fn jdbc_with_the_statements_of_hibernate() {
    let folder = tempfile::tempdir().expect("a folder");
    let classes = format!("/usr/share/java/postgresql.jar:{}", folder.path().display());
    let mut compiler = Command::new("javac");
    compiler.args(["-cp", &classes, "-d"]).arg(folder.path());
    programs::succeed(compiler.arg(source("WriteBack.java")));
    saves_only_what_changed(&["java", "-XX:TieredStopAtLevel=1", "-cp", &classes, "WriteBack"], 7);
}

/// Prisma's client needs an engine or a generated client for each schema: these are the statements that its adapter sends
/// for `update({ where: { id }, data: row })` and `upsert`, parameters as text and as it types them.
#[test]
fn the_statements_of_prisma() {
    let stage = Stage::new();
    let before = stage.postgres.admin(REST);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let read = client.extended(
        r#"SELECT "public"."customers"."id", "public"."customers"."name", "public"."customers"."email", "public"."customers"."phone", "public"."customers"."ssn" FROM "public"."customers" WHERE ("public"."customers"."id" = $1 AND 1=1) LIMIT $2 OFFSET $3"#,
        &["7", "1", "0"],
        0,
    );
    let row = &read.texts()[0];
    let values = ["changed", row[2].as_str(), row[3].as_str(), row[4].as_str(), "7"];
    let returning = r#"RETURNING "public"."customers"."id", "public"."customers"."name""#;
    for sql in [
        format!(
            r#"UPDATE "public"."customers" SET "name" = $1, "email" = $2, "phone" = $3, "ssn" = $4 WHERE ("public"."customers"."id" = $5 AND 1=1) {returning}"#
        ),
        format!(
            r#"INSERT INTO "public"."customers" ("name","email","phone","ssn","id") VALUES ($1,$2,$3,$4,$5) ON CONFLICT ("id") DO UPDATE SET "name" = $1, "email" = $2, "phone" = $3, "ssn" = $4 WHERE ("public"."customers"."id" = $5 AND 1=1) {returning}"#
        ),
    ] {
        let reply = client.extended(&sql, &values, 0);
        let error = reply.error();
        assert_eq!(error.code(), "42501", "{error:?}");
        assert!(error.field('D').contains("builtin/mask-written-back"), "{error:?}");
        assert_eq!(error.field('H'), "Save only the fields that changed.");
    }
    assert_eq!(stage.postgres.admin(REST), before);
    let sql = format!(
        r#"UPDATE "public"."customers" SET "name" = $1 WHERE ("public"."customers"."id" = $2 AND 1=1) {returning}"#
    );
    let saved = client.extended(&sql, &["changed", "7"], 0);
    assert_eq!(saved.texts(), [["7", "changed"]]);
    assert_eq!(stage.postgres.admin(REST), before);
}
