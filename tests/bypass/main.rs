//! The conformance suite: every way out of a captured cgroup that `THREATS` knows, really tried.
//!
//! A way is a small C function in `ways/`. It is tried outside capture, where it has to reach its target (the
//! control), in a captured cgroup in the host's network namespace, and in one inside another namespace. The
//! targets tell what arrived; what the way itself believes decides nothing but the words of the table. A way that
//! stays open has to be in `known.rs`, with the promise under which `nodegate doctor` names it; one that is closed
//! must not be there any more.
//!
//! `cargo xtask bypass [FILTER]` prints the table alone. Needs root. The program is its own harness: a table says
//! more than a list of names, and the ways share their stage.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support: trouble must end the test, loudly and at once"
)]

mod attempt;
mod circumstances;
mod ground;
mod known;
mod outage;
mod report;
mod table;
mod targets;
mod ways;

use std::{env, path::PathBuf, process::ExitCode};

use ground::Ground;
use report::{Report, Row};
use ways::{Flag, Way};

fn main() -> ExitCode {
    let words = Words::read();
    let program = words.program.unwrap_or_else(ways::compile);
    let wanted: Vec<Way> =
        ways::list(&program).into_iter().filter(|way| way.matches(&words.filter)).collect();
    let named = |names: &[&'static str]| -> Vec<&'static str> {
        names.iter().filter(|name| ways::names_match(name, &words.filter)).copied().collect()
    };
    let (circumstances, outages) = (named(&circumstances::NAMES), named(&outage::NAMES));
    if words.only_list {
        for name in wanted
            .iter()
            .map(|way| way.name.as_str())
            .chain(named(&circumstances::NAMES))
            .chain(named(&outage::NAMES))
        {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    if wanted.is_empty() && circumstances.is_empty() && outages.is_empty() {
        println!("\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        return ExitCode::SUCCESS;
    }

    let mut ground = Ground::new(program);
    let mut rows: Vec<Row> = wanted.into_iter().map(|way| ground.try_everywhere(way)).collect();
    ground.late_arrivals(&mut rows);
    ground.look_up_captures(&mut rows);
    let promises = Ground::broken_promises();
    let mut report = Report::new(&rows, &promises);
    report.add(circumstances::HEADING, circumstances::all(&ground, &circumstances));
    report.add(outage::HEADING, outage::all(&mut ground, &outages));
    drop(ground);
    report.print();
    if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the command line says, in the words of cargo's own harness as far as they make sense.
struct Words {
    filter: Vec<String>,
    program: Option<PathBuf>,
    only_list: bool,
}

impl Words {
    fn read() -> Self {
        let mut words = Self { filter: Vec::new(), program: None, only_list: false };
        let mut given = env::args().skip(1);
        while let Some(word) = given.next() {
            match word.as_str() {
                "--list" => words.only_list = true,
                "--ways" => words.program = given.next().map(PathBuf::from),
                "--test-threads" | "--format" | "--color" | "--skip" => drop(given.next()),
                other if other.starts_with('-') => {}
                _ => words.filter.push(word),
            }
        }
        words
    }
}
