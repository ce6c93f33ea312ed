//! The leak hunt: no byte that an agent or a record sees depends on a masked value.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{env, fs, net::TcpStream, path::Path, time::Instant};

use nodegate_tests::{
    agent::Agent,
    daemon::{Daemon, Settings, Target},
    issuer::Issuer,
    leaks::{
        self,
        marks::Marks,
        random::Random,
        statements,
        vault::{self, Twin},
    },
    postgres::{self, Options, Postgres},
    wire::Client,
};
use serde_json::Value;

/// How many statements a run of all tests sends; `cargo xtask test --leaks COUNT` sends more.
const STATEMENTS: usize = 3_000;

struct Hunt {
    agent: Agent,
    daemon: Daemon,
    servers: [Postgres; 2],
    _issuer: Issuer,
    marks: [Marks; 2],
}

impl Hunt {
    fn new() -> Self {
        let issuer = Issuer::start();
        let twins = [Twin::Left, Twin::Right].map(|twin| {
            let server = Postgres::with(&Options { settings: vault::SETTINGS, ..Options::default() });
            let (sql, marks) = vault::sql(twin);
            let script = format!("SET ROLE {}; {sql}", postgres::ROLE);
            server.script(&script);
            server.script(&vault::loop_back(server.port()));
            (server, marks)
        });
        let [(left, left_marks), (right, right_marks)] = twins;
        let target = |name: &str, server: &Postgres| {
            let mut target = Target::shop(name, server.address());
            target.tags = vault::TAGS
                .iter()
                .map(|(column, tag)| ((*column).to_owned(), vec![(*tag).to_owned()]))
                .collect();
            target
        };
        let mut settings =
            Settings::new(vec![target(vault::NAMES[0], &left), target(vault::NAMES[1], &right)]);
        vault::POLICY.clone_into(&mut settings.policy);
        "recording: {}\n".clone_into(&mut settings.more);
        let daemon = Daemon::start(&settings, &issuer);
        let agent = daemon.agent(&issuer.token("agent-1"));
        Self { agent, daemon, servers: [left, right], _issuer: issuer, marks: [left_marks, right_marks] }
    }
}

#[test]
fn nothing_that_an_agent_sees_depends_on_a_masked_value() {
    let Hunt { mut agent, daemon, servers, _issuer, marks } = Hunt::new();
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let statements =
        number("NODEGATE_LEAK_STATEMENTS").map_or(STATEMENTS, |count| usize::try_from(count).unwrap());
    let seed = number("NODEGATE_LEAK_SEED").unwrap_or(1);
    let started = Instant::now();
    let report = leaks::hunt(seed, statements, &marks, |startup| {
        [&servers[0], &servers[1]].map(|server| {
            let usual = [("user", "somebody"), ("database", postgres::DATABASE)];
            let stream = agent.connect(server.address()).expect("a connection");
            Client::start_as(stream, &usual.into_iter().chain(startup.iter().copied()).collect::<Vec<_>>())
        })
    });
    for leak in report.leaks.iter().take(30) {
        println!("LEAK {}", leak.seen);
        for statement in leak.statements.iter().rev().take(4).rev() {
            println!("    {statement}");
        }
    }
    println!(
        "{} statements with seed {seed} in {:.1} s: {} % answered, {:?}",
        report.statements,
        started.elapsed().as_secs_f64(),
        report.answered(),
        report.outcomes
    );
    for (rule, count) in &report.refusals {
        println!("  {count:6} refused by {rule}");
    }
    assert!(report.leaks.is_empty(), "{} leaks", report.leaks.len());
    assert!(report.answered() > 50, "a hunt that is refused everywhere proves nothing");
    drop(agent);
    let sessions = daemon.sessions_list(&[]);
    assert!(sessions.len() > 2, "recordings are looked through as well");
    for session in sessions {
        let id = session["session"].as_str().expect("an id");
        let export = daemon.sessions_command(&["export", id]);
        fs::write(daemon.folder().join(format!("recording-{id}")), export.ok()).unwrap();
    }
    let recorded = search(daemon.folder(), &marks);
    assert_eq!(recorded, [""; 0], "secrets in what the daemon has written");
}

#[test]
fn every_value_that_reads_nothing_masked_is_what_the_database_says() {
    let Hunt { mut agent, daemon: _daemon, servers, _issuer, marks: _ } = Hunt::new();
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let queries =
        number("NODEGATE_LEAK_STATEMENTS").map_or(STATEMENTS, |count| usize::try_from(count).unwrap());
    let seed = number("NODEGATE_LEAK_SEED").unwrap_or(1);
    let started = Instant::now();
    let (compared, untruths) = leaks::truth::hold(seed, queries, || {
        let stream = agent.connect(servers[0].address()).expect("a connection");
        let client = Client::start(stream).expect("a session");
        let stream = TcpStream::connect(servers[0].address()).expect("a connection");
        let user = [("user", postgres::DIRECT), ("database", postgres::DATABASE)];
        let mut direct = Client::start_as(stream, &user).expect("a session past nodegate");
        assert!(direct.query(&format!("SET ROLE {}", postgres::ROLE)).errors.is_empty());
        [client, direct]
    });
    for (sql, what) in untruths.iter().take(40) {
        println!("UNTRUE {what}\n    {sql}");
    }
    println!("{compared:?} with seed {seed} in {:.1} s", started.elapsed().as_secs_f64());
    assert!(untruths.is_empty(), "{} answers are not the database's", untruths.len());
    let enough = compared.statements * 4 > queries
        && compared.computed > queries
        && compared.texts > queries
        && compared.binaries > queries;
    assert!(enough, "{compared:?}: too little to prove anything");
}

#[test]
fn the_same_statements_show_secrets_where_nothing_is_masked() {
    let server = Postgres::start();
    let (sql, marks) = vault::sql(Twin::Left);
    server.script(&format!("SET ROLE {}; {sql}", postgres::ROLE));
    server.script(&vault::loop_back(server.port()));
    let mut random = Random::new(1);
    let steps: Vec<Vec<String>> = (0..200).map(|_| statements::step(&mut random)).collect();
    let showing = steps.iter().filter(|step| {
        let script = step.join(";\n");
        let said = server.try_script(&script);
        marks.find(said.as_bytes()).is_some()
    });
    let showing = showing.count();
    println!("{showing} of 200 steps show a secret to a role that may see it");
    assert!(showing > 40, "only {showing} of 200 steps show a secret when nothing hides it");
}

/// Files below a folder that hold a piece of a secret. Keys, certificates, tokens and the hashes that chain records are
/// left out: their random digits look like a piece now and then. So are recordings as they are compressed; beside them
/// lies what they read as.
fn search(folder: &Path, marks: &[Marks; 2]) -> Vec<String> {
    const RANDOM: [&str; 5] = ["pem", "key", "token", "json", "zst"];
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().filter_map(Result::ok) {
        let path = entry.path();
        let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(search(&path, marks));
        } else if let Ok(bytes) = fs::read(&path)
            && !RANDOM.contains(&extension.as_str())
        {
            let shown = if extension == "jsonl" { events(&bytes) } else { bytes };
            let is_index = extension.starts_with("sqlite");
            let mark = marks.iter().find_map(|marks| {
                if is_index { marks.find_among_numbers(&shown) } else { marks.find(&shown) }
            });
            found.extend(mark.map(|mark| format!("{}: {mark}", path.display())));
        }
    }
    found
}

/// What a log says of each event, a line each: without the clock, the chain and the random names of sessions.
fn events(log: &[u8]) -> Vec<u8> {
    let mut shown = Vec::new();
    for line in log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let mut record: Value = serde_json::from_slice(line).expect("a record");
        let event = record["event"].as_object_mut().expect("an event");
        event.remove("session");
        serde_json::to_writer(&mut shown, event).unwrap();
        shown.push(b'\n');
    }
    shown
}
