//! What may be computed of a masked value fails for none: every line of the daemon's list, on PostgreSQL 15 and 18.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fmt::Write as _;

use nodegate_tests::computable::{
    Bare, COMPOSED, Database, Line, Version, databases, lines, place, preparation,
};

/// Operations that are not on the list, and fail for some of the same values: a fuzzer that sees none of them fail proves
/// nothing.
const FAILING: &[&str] = &[
    "SELECT x::int4 FROM all_0",
    "SELECT x LIKE 'a\\' FROM all_0",
    "SELECT 1 / length(x) FROM all_0",
    "SELECT x::public.text FROM all_0",
    "SELECT overlay('x' PLACING x FROM 2147483614) FROM all_0",
    "SELECT array_agg(x) FROM few_<text[]>",
    "SELECT x + 1 FROM few_<int4>",
    "SELECT -x FROM few_<int2>",
    "SELECT sum(x * x) FROM few_<numeric>",
    "SELECT x::jsonb FROM few_<json>",
];

/// One of so many statements is tried, but for those that are put together: all of them take minutes.
/// `NODEGATE_COMPUTABLE_SHARE=1` tries every one.
const SHARE: usize = 12;

fn share() -> usize {
    std::env::var("NODEGATE_COMPUTABLE_SHARE").map_or(SHARE, |share| share.parse().expect("a number from 1"))
}

/// The statement with the table of a type's values in it.
fn placed(sql: &str) -> String {
    match sql.split_once('<') {
        Some((before, rest)) => format!("{before}{}", place(rest.trim_end_matches('>'))),
        None => sql.to_owned(),
    }
}

/// The error of a function or an operator that there is not for a type, as `max(uuid)`: no statement with it is run.
const MISSING: &str = "42883";

fn prepared(server: &Bare, database: Database) {
    server.run(
        "postgres",
        &format!("CREATE DATABASE {} TEMPLATE template0 {}", database.name, database.encoding),
    );
    server.run(database.name, &preparation(database));
}

/// What fails of these, with what it says.
fn failures(server: &Bare, database: Database, probes: &[String]) -> Vec<String> {
    let mut script = String::from("SET statement_timeout = '120s';\n");
    for (at, probe) in probes.iter().enumerate() {
        writeln!(script, "SELECT {at}, tried($probe${probe}$probe$);").unwrap();
    }
    let said = server.run(database.name, &script);
    let answers: Vec<&str> = said.lines().filter(|line| line.contains('|')).collect();
    let found = answers.iter().filter_map(|line| {
        let (at, error) = line.split_once('|')?;
        let probe = at.parse::<usize>().ok().and_then(|at| probes.get(at));
        (!error.is_empty() && !error.starts_with(MISSING))
            .then(|| format!("{}: {}: {error}", database.name, probe.map_or(*line, String::as_str)))
    });
    found.collect()
}

fn nothing_fails(version: Version) {
    let server = Bare::start(version);
    let lines = lines();
    let (mut tried, mut wrong) = (0, Vec::new());
    for database in databases() {
        prepared(&server, database);
        let probes: Vec<String> = lines
            .iter()
            .filter(|line| line.counts_in(database))
            .flat_map(Line::probes)
            .step_by(share())
            .chain(lines.iter().filter(|line| line.counts_in(database)).filter_map(Line::large))
            .map(|probe| probe.sql.replace("<letters>", database.letters))
            .chain(COMPOSED.iter().filter(|_| database.is_whole).map(|sql| (*sql).to_owned()))
            .collect();
        tried += probes.len();
        let found = failures(&server, database, &probes);
        println!("{version:?}, {}: {} of {} fail", database.name, found.len(), probes.len());
        wrong.extend(found);
        let control: Vec<String> = FAILING.iter().map(|sql| placed(sql)).collect();
        let seen = failures(&server, database, &control);
        assert_eq!(seen.len(), FAILING.len(), "each of these fails for some value:\n{}", seen.join("\n"));
    }
    assert!(
        wrong.is_empty(),
        "{} of {tried} fail:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(60)].join("\n")
    );
    println!("{tried} statements of {} lines in {} databases", lines.len(), databases().len());
}

#[test]
fn what_may_be_computed_fails_for_no_value_on_the_systems_server() {
    nothing_fails(Version::System);
}

#[test]
fn what_may_be_computed_fails_for_no_value_on_postgresql_18() {
    nothing_fails(Version::Eighteen);
}
