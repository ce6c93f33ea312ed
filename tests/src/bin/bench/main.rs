//! `cargo xtask bench`: nodegate beside its peers and beside nothing at all. The ways are taken in turns within one run,
//! so that whatever else the machine does falls on all of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on must say so and stop; its numbers are small"
)]

mod bouncer;
mod connects;
mod idle;
mod limits;
mod pgbench;
mod recorder;
mod rows;

use std::{env, process::ExitCode};

use nodegate_tests::{dns, throughput};

/// How long and how often is measured.
struct Plan {
    seconds: u32,
    rounds: usize,
    connects: u32,
    /// Part of the name of what is measured; empty for all.
    only: String,
}

impl Plan {
    fn has(&self, name: &str) -> bool {
        name.contains(&self.only)
    }
}

fn main() -> ExitCode {
    let mut plan = Plan { seconds: 6, rounds: 3, connects: 5000, only: String::new() };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match (word.as_str(), words.size_hint()) {
            ("--quick", _) => plan = Plan { seconds: 3, rounds: 1, connects: 2000, ..plan },
            ("--only", (1.., _)) => plan.only = words.next().unwrap_or_default(),
            _ => {
                eprintln!("usage: bench [--quick] [--only PART]");
                return ExitCode::from(2);
            }
        }
    }
    pgbench::print(&plan);
    if plan.has("limits") {
        limits::print(&plan);
    }
    if plan.has("rows") {
        rows::print(plan.rounds);
    }
    if plan.has("connect") {
        connects::print_captured(plan.connects);
    }
    if plan.has("uncaptured") {
        connects::print_uncaptured(plan.connects, plan.rounds * 4);
    }
    if plan.has("idle") {
        idle::print(plan.seconds * 10);
    }
    if plan.has("dns") {
        dns::compare(plan.seconds, plan.rounds);
    }
    if plan.has("bulk") {
        println!();
        throughput::print(plan.rounds, plan.seconds.min(4));
    }
    ExitCode::SUCCESS
}

/// The value in the middle; of an even number the upper one of both.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
