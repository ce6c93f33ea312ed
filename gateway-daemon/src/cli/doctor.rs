//! `nodegate doctor`: what this kernel gives capture, what it lacks, and what that costs.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;

use super::table;
use crate::intercept::probe::{self, Check, Need, State};

/// Show what this node's kernel and this user's rights give capture, what is missing and what that costs
///
/// Exit code 0: every promise can be kept. 1: something is missing; the daemon enforces only where `capture.accept`
/// names it.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Looks, prints, and says by the exit code whether anything is broken.
pub fn run(args: &DoctorArgs) -> ExitCode {
    let checks = probe::everything();
    let out = &mut io::stdout().lock();
    let written = if args.json { table::write_json(out, &checks) } else { write(out, &checks) };
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("nodegate: cannot write the output: {error}");
            ExitCode::FAILURE
        }
        _ if checks.iter().any(Check::is_broken) => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

fn write(out: &mut impl Write, checks: &[Check]) -> io::Result<()> {
    let rows: Vec<_> = checks
        .iter()
        .map(|check| {
            let state = match (check.state, check.need) {
                (State::Kept, _) => "ok",
                (State::Missing, Need::Comfort) => "absent",
                (State::Missing, Need::Required | Need::Promise) => "MISSING",
            };
            [check.name.to_owned(), state.to_owned(), check.found.clone()]
        })
        .collect();
    table::write(out, ["CHECK", "STATE", "FOUND"], &rows)?;
    let missing: Vec<&Check> = checks.iter().filter(|check| check.state == State::Missing).collect();
    if missing.is_empty() {
        return writeln!(out, "\nEvery promise can be kept.");
    }
    writeln!(out, "\nWhat is missing, and what that costs")?;
    for check in &missing {
        writeln!(out, "  {}: {}", check.name, check.cost)?;
    }
    let acceptable: Vec<&str> =
        missing.iter().filter(|check| check.need == Need::Promise).map(|check| check.name).collect();
    if !acceptable.is_empty() {
        writeln!(out, "\nTo enforce all the same, accept it by name in nodegate.yaml:")?;
        writeln!(out, "  capture: {{ accept: [{}] }}", acceptable.join(", "))?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{Check, Need, State, write};

    fn check(name: &'static str, state: State, need: Need) -> Check {
        Check { name, state, need, found: "as it is".to_owned(), cost: "something stays open" }
    }

    #[test]
    fn what_is_missing_is_named_with_its_cost_and_its_way_out() {
        let mut out = Vec::new();
        let checks = [
            check("connect4", State::Kept, Need::Required),
            check("jit", State::Missing, Need::Comfort),
            check("af-packet", State::Missing, Need::Promise),
        ];
        write(&mut out, &checks).unwrap();
        let expected = "\
CHECK      STATE    FOUND
connect4   ok       as it is
jit        absent   as it is
af-packet  MISSING  as it is

What is missing, and what that costs
  jit: something stays open
  af-packet: something stays open

To enforce all the same, accept it by name in nodegate.yaml:
  capture: { accept: [af-packet] }
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
