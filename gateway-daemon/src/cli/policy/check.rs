//! `nodegate policy check`: would the daemon accept these files?

use std::{io::Write, path::PathBuf};

use clap::Args;
use serde::Serialize;

use super::{Failure, Verdict};
use crate::{
    cli::table,
    policy::{Policies, PolicyError, Problem},
};

/// Validate the policies below a directory as the daemon would load them
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The directory
    #[arg(default_value = "/etc/nodegate/policies")]
    dir: PathBuf,
    /// A target of the configuration, once for each: warn of rules that name others
    #[arg(long = "target", value_name = "NAME")]
    targets: Vec<String>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    level: &'static str,
    #[serde(flatten)]
    problem: &'a Problem,
}

pub(super) fn run(args: &CheckArgs, out: &mut impl Write) -> Result<Verdict, Failure> {
    // Which issuers there are makes no difference to whether the policies are valid.
    let (errors, warnings, count) = match Policies::load::<&str>(&args.dir, &[]) {
        Ok(policies) => {
            let mut warnings = policies.warnings();
            if !args.targets.is_empty() {
                warnings.extend(policies.unknown_targets(&args.targets));
            }
            (Vec::new(), warnings, policies.count())
        }
        Err(PolicyError::Invalid(problems)) => (problems, Vec::new(), 0),
        Err(error) => return Err(error.into()),
    };
    let lines = errors
        .iter()
        .map(|problem| Line { level: "error", problem })
        .chain(warnings.iter().map(|problem| Line { level: "warning", problem }));
    if args.json {
        table::write_json(out, lines)?;
    } else {
        for line in lines {
            writeln!(out, "{}: {}", line.level, line.problem)?;
        }
        if errors.is_empty() {
            writeln!(out, "{count} policies below {} are valid", args.dir.display())?;
        } else {
            writeln!(out, "{} errors: the daemon would refuse these policies", errors.len())?;
        }
    }
    Ok(if errors.is_empty() { Verdict::Good } else { Verdict::Bad })
}
