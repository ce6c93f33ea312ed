//! PostgreSQL's drivers, unmodified: each takes the same steps at the server and captured, and gets the same, but for
//! what is refused and what is masked. The programs are in `tests/drivers`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nodegate_tests::{
    postgres::{self, Postgres},
    programs::{self, Said},
    stage::Stage,
};

/// How long a program may take, or its compiler.
const PATIENCE: Duration = Duration::from_mins(3);

const TABLES: &str = "
    CREATE TABLE parts (id integer PRIMARY KEY, name text);
    CREATE TYPE mood AS ENUM ('bad', 'fine');
    CREATE TABLE moods (feels mood);
    INSERT INTO moods VALUES ('bad'), ('fine');
    CREATE TABLE people (
        id integer PRIMARY KEY, name text, email text, salary numeric(10, 2), born date, seen timestamptz,
        home inet, token uuid, doc jsonb, codes integer[], active boolean, score float8, badge bigint, feels mood
    );
    INSERT INTO people VALUES (
        1, 'Ada Lovelace', 'ada@example.com', 51234.56, '1815-12-10', '1843-09-01 12:34:56+00', '192.0.2.77',
        'b3bd8a5c-1f5e-4f4f-9d0b-2c963f66afa6', '{\"note\": \"first of all\", \"n\": 17}', '{17, 18}', true, 6.25,
        9007199254740993, 'fine'
    );
    ALTER TABLE parts OWNER TO app_agent;
    ALTER TABLE moods OWNER TO app_agent;
    ALTER TABLE people OWNER TO app_agent;
";

const PERSONAL: [&str; 12] =
    ["name", "email", "salary", "born", "seen", "home", "token", "doc", "codes", "score", "badge", "feels"];

fn stage() -> Stage {
    let postgres = Postgres::start();
    postgres.script(TABLES);
    Stage::around(postgres, |settings| {
        let tags = PERSONAL.map(|column| (format!("public.people.{column}"), vec!["pii".to_owned()]));
        settings.targets[0].tags.extend(tags);
    })
}

/// A policy that lets everything pass.
const ALL: &str = r#"@id("all") permit (principal, action, resource);"#;

/// A file of `tests/drivers`.
fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers").join(name)
}

/// The program at the server, or captured when `before` are the words of `nodegate run`.
fn run(stage: &Stage, before: Option<Command>, program: &[&str], password: &str) -> Said {
    let mut command = match before {
        Some(mut command) => {
            command.args(program);
            command
        }
        None => {
            let mut command = Command::new(program[0]);
            command.args(&program[1..]);
            command
        }
    };
    command
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", stage.postgres.port().to_string())
        .env("PGDATABASE", postgres::DATABASE)
        .env("PGUSER", postgres::ROLE)
        .env("PGPASSWORD", password)
        .env("NODE_PATH", node_modules())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    programs::said(&mut command, "", PATIENCE)
}

/// Where `cargo xtask setup` unpacks node-postgres; Debian's own Node.js would find it by itself.
fn node_modules() -> PathBuf {
    let target = programs::nodegate().ancestors().nth(2).expect("a target directory").to_path_buf();
    target.join("node-postgres/usr/share/nodejs")
}

/// Takes the steps at the server and captured, and compares.
fn takes_the_same_steps(program: &[&str]) {
    let stage = stage();
    let direct = run(&stage, None, program, postgres::PASSWORD);
    direct.ok();
    let captured =
        run(&stage, Some(stage.daemon.run(Some(&stage.issuer.token("agent-1")))), program, "wrong");
    assert_eq!(captured.status, 0, "{}{}\ndirect:\n{}", captured.out, captured.err, direct.out);
    let special = |line: &&str| line.starts_with("refused ") || line.starts_with("masked ");
    let same = |said: &Said| said.out.lines().filter(|line| !special(line)).collect::<Vec<_>>().join("\n");
    assert_eq!(same(&captured), same(&direct));
    for step in ["connected", "prepared", "binary", "transaction", "copy", "after", "done"] {
        assert!(direct.out.lines().any(|line| line.starts_with(step)), "{step}: {}", direct.out);
    }
    let specials = |said: &Said, step: &str| {
        said.out.lines().filter(|line| line.starts_with(step)).map(str::to_owned).collect::<Vec<_>>()
    };
    let (before, now) = (specials(&direct, "refused "), specials(&captured, "refused "));
    assert!(!before.is_empty() && before.iter().all(|line| line == "refused none"), "{before:?}");
    assert_eq!(now, vec!["refused 42501"; before.len()]);
    // Of the values that are masked nothing is left that tells them, and every one of them was decoded.
    let (before, now) = (specials(&direct, "masked "), specials(&captured, "masked "));
    assert!(!before.is_empty() && before.len() == now.len(), "{now:?}");
    for (before, now) in before.iter().zip(&now) {
        assert_ne!(before, now);
        for secret in ["Lovelace", "ada@example", "51234.56", "34:56", "9007199254740993", "first of all"] {
            assert!(!now.contains(secret), "{secret}: {now}");
        }
    }
}

/// A folder for what a compiler makes; gone on drop.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn libpq() {
    let folder = folder();
    let program = folder.path().join("libpq");
    let flags = programs::succeed(Command::new("pg_config").arg("--includedir"));
    let mut compiler = Command::new("cc");
    compiler.args(["-Wall", "-Werror", "-O1", "-pthread", "-I", flags.trim(), "-o"]).arg(&program);
    programs::succeed(compiler.arg(source("libpq.c")).arg("-lpq"));
    takes_the_same_steps(&[program.to_str().unwrap()]);
}

#[test]
fn psycopg() {
    takes_the_same_steps(&["/usr/bin/python3", source("with_psycopg.py").to_str().unwrap()]);
}

#[test]
fn asyncpg() {
    takes_the_same_steps(&["/usr/bin/python3", source("with_asyncpg.py").to_str().unwrap()]);
}

#[test]
fn node_postgres() {
    takes_the_same_steps(&["node", source("node-postgres.js").to_str().unwrap()]);
}

#[test]
fn jdbc() {
    let folder = folder();
    let classes = format!("/usr/share/java/postgresql.jar:{}", folder.path().display());
    let mut compiler = Command::new("javac");
    compiler.args(["-encoding", "UTF-8", "-cp", &classes, "-d"]).arg(folder.path());
    programs::succeed(compiler.arg(source("Jdbc.java")));
    takes_the_same_steps(&[
        "java",
        "-XX:TieredStopAtLevel=1",
        "-Dfile.encoding=UTF-8",
        "-cp",
        &classes,
        "Jdbc",
    ]);
}

#[test]
fn pq_of_go() {
    let folder = folder();
    let program = folder.path().join("pq");
    let mut compiler = Command::new("go");
    compiler.arg("build").arg("-o").arg(&program).arg(source("pq.go"));
    compiler.env("GO111MODULE", "off").env("GOPROXY", "off").env("GOPATH", "/usr/share/gocode");
    compiler
        .env("GOCACHE", programs::nodegate().ancestors().nth(2).unwrap().join("go"))
        .env("GOFLAGS", "-p=2");
    programs::succeed(compiler.env("CGO_ENABLED", "0"));
    takes_the_same_steps(&[program.to_str().unwrap()]);
}

#[test]
fn tokio_postgres() {
    takes_the_same_steps(&[env!("CARGO_BIN_EXE_with_tokio_postgres")]);
}

#[test]
fn sqlx() {
    let target = programs::nodegate().ancestors().nth(2).unwrap().join("sqlx");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked", "--quiet", "--manifest-path"]).arg(source("sqlx/Cargo.toml"));
    programs::succeed(cargo.arg("--target-dir").arg(&target));
    takes_the_same_steps(&[target.join("debug/with_sqlx").to_str().unwrap()]);
}

#[test]
fn sqlalchemy() {
    takes_the_same_steps(&["/usr/bin/python3", source("sqlalchemy_orm.py").to_str().unwrap()]);
}

#[test]
fn django() {
    takes_the_same_steps(&["/usr/bin/python3", source("django_orm.py").to_str().unwrap()]);
}

#[test]
fn pgbench_in_every_mode() {
    let stage = Stage::with(|settings| ALL.clone_into(&mut settings.policy));
    let pgbench = programs::postgres("pgbench");
    let pgbench = pgbench.to_str().unwrap();
    let token = stage.issuer.token("agent-1");
    let captured = |words: &[&str]| {
        let words: Vec<&str> = std::iter::once(pgbench).chain(words.iter().copied()).collect();
        run(&stage, Some(stage.daemon.run(Some(&token))), &words, "wrong").ok().to_owned()
    };
    captured(&["--initialize", "--init-steps=dtgvpf", "--quiet"]);
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM pgbench_accounts"), "100000");
    for mode in ["simple", "extended", "prepared"] {
        for builtin in ["tpcb-like", "select-only"] {
            let said = captured(&["-M", mode, "-b", builtin, "-c", "3", "-t", "40", "--no-vacuum"]);
            assert!(said.contains("number of transactions actually processed: 120/120"), "{said}");
            assert!(said.contains("number of failed transactions: 0 (0.000%)"), "{said}");
        }
    }
    assert_eq!(stage.postgres.admin("SELECT count(*) FROM pgbench_history"), "360");
}
