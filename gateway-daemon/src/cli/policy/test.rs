//! `nodegate policy test`: do the packs do what their cases say?

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;

use super::{
    Asked, Failure, Verdict,
    cases::{self, Case, CaseFile, Expected},
    explain::{finds, limits},
    judge, refused, rules, word,
};
use crate::{
    cli::table,
    domain::decision::{Decision, Transform},
};

/// Run the cases (cases.yaml) of every policy pack below a directory
#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// A directory, or one case file
    #[arg(default_value = "/etc/nodegate/policies")]
    dir: PathBuf,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// How one case went.
#[derive(Debug, Serialize)]
pub(super) struct CaseResult {
    file: String,
    case: String,
    #[serde(rename = "as")]
    identity: String,
    pub(super) passed: bool,
    decision: &'static str,
    policies: Vec<String>,
    masked: BTreeMap<String, Transform>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_rows: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What is not as expected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) complaints: Vec<String>,
}

pub(super) fn run(args: &TestArgs, out: &mut impl Write) -> Result<Verdict, Failure> {
    let files = cases::find(&args.dir)?;
    if files.is_empty() {
        return Err(Failure::Input(format!("there is no cases.yaml at or below {}", args.dir.display())));
    }
    let mut results = Vec::new();
    for file in &files {
        results.extend(run_file(file)?);
    }
    if results.is_empty() {
        return Err(Failure::Input(format!("the case files below {} hold no cases", args.dir.display())));
    }
    let failed = results.iter().filter(|result| !result.passed).count();
    if args.json {
        table::write_json(out, &results)?;
    } else {
        let rows: Vec<[String; 6]> = results.iter().map(row).collect();
        table::write(out, ["RESULT", "PACK", "CASE", "AS", "DECISION", "BY"], &rows)?;
        for result in results.iter().filter(|result| !result.passed) {
            writeln!(out, "\n{}: {}", result.file, result.case)?;
            for complaint in &result.complaints {
                writeln!(out, "  {complaint}")?;
            }
            if let Some(reason) = &result.reason {
                writeln!(out, "  reason given: {reason}")?;
            }
        }
        writeln!(out, "\n{} cases in {} files, {failed} failed", results.len(), files.len())?;
    }
    Ok(if failed == 0 { Verdict::Good } else { Verdict::Bad })
}

/// Runs the cases of one file.
pub(super) fn run_file(path: &Path) -> Result<Vec<CaseResult>, Failure> {
    let file = CaseFile::read(path)?;
    let policies = file.load_policies(path)?;
    let catalogue = file.catalogue().map_err(Failure::Input)?;
    let target = file.target();
    let mut results = Vec::new();
    for case in &file.cases {
        let caller = file
            .caller(&case.identity)
            .ok_or_else(|| Failure::Input(format!("there is no identity \"{}\"", case.identity)))?;
        let name = case.name_asked().transpose().map_err(Failure::Input)?;
        let request = case.request_asked().transpose().map_err(Failure::Input)?;
        let asked = match (&name, &request) {
            (Some(name), _) => Ok(Asked::Resolve(name)),
            (None, Some(Ok(request))) => Ok(Asked::Http(request)),
            (None, Some(Err(denial))) => Err(denial),
            (None, None) => Ok(case.asked()),
        };
        let (principal, workload) = (&caller.principal, &caller.workload);
        let explanation = match asked {
            Ok(asked) => judge(&policies, principal, workload, &target, file.hosts(), &catalogue, asked),
            Err(denial) => refused(denial.clone()),
        };
        results.push(compare(path, case, &explanation.decision));
    }
    Ok(results)
}

fn compare(path: &Path, case: &Case, decision: &Decision) -> CaseResult {
    let (masked, reason) = match decision {
        Decision::Allow { masks, .. } => {
            let columns = masks.columns.iter();
            (columns.map(|(column, mask)| (column.to_string(), mask.transform)).collect(), None)
        }
        Decision::Deny(denial) => (BTreeMap::new(), Some(denial.reason.clone())),
    };
    let max_rows = limits(decision).iter().flatten().map(|limit| limit.rows).min();
    let policies = rules(decision);
    let expected = match case.expect {
        Expected::Allow => "allow",
        Expected::Deny => "deny",
    };
    let mut complaints = Vec::new();
    if expected != word(decision) {
        complaints.push(format!("expected {expected}, got {}", word(decision)));
    } else if masked != case.masked {
        complaints.push(format!("expected masks {:?}, got {masked:?}", case.masked));
    } else if max_rows != case.max_rows {
        let said =
            |rows: Option<u64>| rows.map_or("no limit".to_owned(), |rows| format!("at most {rows} rows"));
        complaints.push(format!("expected {}, got {}", said(case.max_rows), said(max_rows)));
    } else if let Some(expected) = &case.finds
        && *expected != finds(decision)
    {
        complaints.push(format!("expected to look for {expected:?}, got {:?}", finds(decision)));
    }
    for policy in &case.policies {
        if !policies.contains(policy) {
            complaints.push(format!("\"{policy}\" had no say in it; {} had", policies.join(", ")));
        }
    }
    CaseResult {
        file: path.display().to_string(),
        case: case.name.clone(),
        identity: case.identity.clone(),
        passed: complaints.is_empty(),
        decision: word(decision),
        policies,
        masked,
        max_rows,
        reason,
        complaints,
    }
}

fn row(result: &CaseResult) -> [String; 6] {
    [
        if result.passed { "ok" } else { "FAILED" }.to_owned(),
        pack(&result.file),
        result.case.clone(),
        result.identity.clone(),
        match (result.masked.is_empty(), result.max_rows) {
            (true, None) => result.decision.to_owned(),
            (true, Some(rows)) => format!("{}, {rows} rows", result.decision),
            (false, None) => format!("{}, masked", result.decision),
            (false, Some(rows)) => format!("{}, masked, {rows} rows", result.decision),
        },
        result.policies.join(", "),
    ]
}

/// The directory of a case file.
fn pack(file: &str) -> String {
    let dir = Path::new(file).parent().and_then(Path::file_name);
    dir.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
