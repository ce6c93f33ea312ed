//! `nodegate policy explain`: what would be decided, and which rules make it so.

use std::{collections::BTreeMap, io::Write, path::PathBuf};

use clap::Args;
use serde::Serialize;

use super::{
    Asked, AskedName, Failure, Verdict,
    cases::{Caller, CaseFile},
    judge, read_request, refused, rules, word,
};
use crate::{
    cli::table,
    domain::{
        action::{ServerTrust, TargetFacts},
        decision::{Decision, MaxRows, Transform},
        detector::Detector,
    },
    policy::{Answer, Explanation, Outcome, Policies},
    sql,
};

/// Show the decision on a statement, and every rule that had a say in it
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The policies
    #[arg(long, value_name = "DIR", default_value = "/etc/nodegate/policies")]
    dir: PathBuf,
    /// Who asks: `<issuer url>|<subject>`, a subject, or an identity of the --schema file
    #[arg(long)]
    identity: String,
    /// The name of the identity's issuer in the configuration
    #[arg(long)]
    issuer: Option<String>,
    /// A group of the identity; once for each
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// A role of the identity; once for each
    #[arg(long = "role", value_name = "NAME")]
    roles: Vec<String>,
    /// Another claim of the identity; once for each
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = pair)]
    claims: Vec<(String, String)>,
    /// The label of its workload
    #[arg(long, value_name = "LABEL")]
    workload: Option<String>,
    /// The target [default: that of the --schema file]
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// A tag of a column, beside those of the --schema file; once for each
    #[arg(long = "tag", value_name = "SCHEMA.TABLE.COLUMN=TAG", value_parser = pair)]
    tags: Vec<(String, String)>,
    /// A case file (cases.yaml) that has the target's tables, tags and identities
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// The statement, or several
    #[arg(long, value_name = "SQL", required_unless_present_any = ["connect", "resolve", "function_call", "replication", "http"])]
    sql: Option<String>,
    /// Ask whether the agent may connect, instead of about a statement
    #[arg(long, conflicts_with = "sql")]
    connect: bool,
    /// Ask whether the agent may resolve this name, behind the type of records where that is not A
    #[arg(long, value_name = "[TYPE ]NAME", conflicts_with_all = ["sql", "connect"])]
    resolve: Option<String>,
    /// Ask about a call of this function by its oid, past SQL: `pg_catalog.lo_open`
    #[arg(long, value_name = "SCHEMA.NAME", conflicts_with_all = ["sql", "connect", "resolve"])]
    function_call: Option<String>,
    /// Ask about a replication connection (`database` or `true`), or a command of one
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["sql", "connect", "resolve", "function_call"])]
    replication: Option<String>,
    /// Ask about an HTTP request: `POST https://api.internal/items?page=2`
    #[arg(long, value_name = "METHOD URL", conflicts_with_all = ["sql", "connect", "resolve", "function_call", "replication"])]
    http: Option<String>,
    /// A field of the HTTP request; once for each
    #[arg(long = "field", value_name = "NAME=VALUE", value_parser = pair, requires = "http")]
    fields: Vec<(String, String)>,
    /// The DNS server is one that the agent chose
    #[arg(long, requires = "resolve")]
    untrusted_server: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

#[derive(Serialize)]
struct Report<'a> {
    identity: String,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sql: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resolve: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replication: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<&'a str>,
    decision: &'static str,
    policies: Vec<String>,
    masked: BTreeMap<String, Transform>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    finds: BTreeMap<String, BTreeMap<Detector, Transform>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    max_rows: Vec<Option<MaxRows>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    answers: &'a [Answer],
}

pub(super) fn run(args: &ExplainArgs, out: &mut impl Write) -> Result<Verdict, Failure> {
    let file = args.schema.as_deref().map(CaseFile::read).transpose()?;
    let caller = caller(args, file.as_ref());
    let target = target(args, file.as_ref())?;
    let catalogue = match &file {
        Some(file) => file.catalogue().map_err(Failure::Input)?,
        None => sql::postgres::offline_catalogue(),
    };
    let issuers = match &file {
        Some(file) => file.issuers(),
        None => vec![caller.principal.issuer.clone()],
    };
    let policies = Policies::load(&args.dir, &issuers)?;
    let trust = if args.untrusted_server { ServerTrust::Untrusted } else { ServerTrust::Trusted };
    let name = args.resolve.as_deref().map(|text| AskedName::read(text, trust));
    let name = name.transpose().map_err(Failure::Input)?;
    let fields = args.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let request = args.http.as_deref().map(|text| read_request(text, fields));
    let request = request.transpose().map_err(Failure::Input)?;
    let asked = match (&name, &request) {
        (Some(name), _) => Ok(Asked::Resolve(name)),
        (None, Some(Ok(request))) => Ok(Asked::Http(request)),
        (None, Some(Err(denial))) => Err(denial),
        (None, None) => {
            Ok(Asked::of(args.sql.as_deref(), args.function_call.as_deref(), args.replication.as_deref()))
        }
    };
    let hosts = file.as_ref().map(CaseFile::hosts).unwrap_or_default();
    let (principal, workload) = (&caller.principal, &caller.workload);
    let explanation = match asked {
        Ok(asked) => judge(&policies, principal, workload, &target, hosts, &catalogue, asked),
        Err(denial) => refused(denial.clone()),
    };
    let report = report(args, &caller, &target, &explanation);
    if args.json {
        table::write_json(out, [report])?;
    } else {
        show(&report, out)?;
    }
    Ok(Verdict::Good)
}

fn caller(args: &ExplainArgs, file: Option<&CaseFile>) -> Caller {
    let claims: BTreeMap<String, String> = args.claims.iter().cloned().collect();
    let known = file.and_then(|file| file.caller(&args.identity));
    let mut caller = known.unwrap_or_else(|| {
        Caller::named(&args.identity, args.issuer.as_deref(), &[], &[], &BTreeMap::new(), None)
    });
    let principal = &mut caller.principal;
    for (known, more) in [(&mut principal.groups, &args.groups), (&mut principal.roles, &args.roles)] {
        known.extend(more.iter().cloned());
        known.sort();
        known.dedup();
    }
    principal.claims.extend(claims);
    if args.workload.is_some() {
        caller.workload.label.clone_from(&args.workload);
    }
    caller
}

fn target(args: &ExplainArgs, file: Option<&CaseFile>) -> Result<TargetFacts, Failure> {
    let mut target = file.map(CaseFile::target).unwrap_or_default();
    if let Some(name) = &args.target {
        target.name.clone_from(name);
    }
    // A name can be asked for whether or not some target has it.
    if target.name.is_empty() && args.resolve.is_none() {
        return Err(Failure::Input(
            "which target? Name it with --target, or give a --schema file".to_owned(),
        ));
    }
    for (column, tag) in &args.tags {
        target.tags.entry(column.clone()).or_default().insert(tag.clone());
    }
    Ok(target)
}

fn report<'a>(
    args: &'a ExplainArgs,
    caller: &Caller,
    target: &'a TargetFacts,
    explanation: &'a Explanation,
) -> Report<'a> {
    let (masked, reason, hint) = match &explanation.decision {
        Decision::Allow { masks, .. } => {
            let columns = masks.columns.iter();
            (columns.map(|(column, mask)| (column.to_string(), mask.transform)).collect(), None, None)
        }
        Decision::Deny(denial) => (BTreeMap::new(), Some(denial.reason.as_str()), denial.hint.as_deref()),
    };
    Report {
        identity: caller.principal.id(),
        target: &target.name,
        sql: args.sql.as_deref(),
        resolve: args.resolve.as_deref(),
        function_call: args.function_call.as_deref(),
        replication: args.replication.as_deref(),
        http: args.http.as_deref(),
        decision: word(&explanation.decision),
        policies: rules(&explanation.decision),
        masked,
        finds: finds(&explanation.decision),
        max_rows: limits(&explanation.decision).to_vec(),
        reason,
        hint,
        answers: &explanation.answers,
    }
}

fn show(report: &Report<'_>, out: &mut impl Write) -> Result<(), Failure> {
    writeln!(out, "decision  {}", report.decision)?;
    if !report.policies.is_empty() {
        writeln!(out, "by        {}", report.policies.join(", "))?;
    }
    if let Some(reason) = report.reason {
        writeln!(out, "reason    {reason}")?;
    }
    if let Some(hint) = report.hint {
        writeln!(out, "hint      {hint}")?;
    }
    for (column, transform) in &report.masked {
        writeln!(out, "masked    {column}: {}", name(*transform))?;
    }
    for (column, looked_for) in &report.finds {
        let each: Vec<_> = looked_for
            .iter()
            .map(|(detector, how)| format!("{} ({})", detector.name(), name(*how)))
            .collect();
        writeln!(out, "finds     {column}: {}", each.join(", "))?;
    }
    for (number, limit) in (1..).zip(&report.max_rows) {
        let Some(limit) = limit else { continue };
        let of = if report.max_rows.len() > 1 { format!("statement {number}: ") } else { String::new() };
        writeln!(out, "rows      {of}{limit}")?;
    }
    writeln!(out, "identity  {}", report.identity)?;
    if !report.target.is_empty() {
        writeln!(out, "target    {}", report.target)?;
    }
    if report.answers.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let rows: Vec<[String; 4]> = report.answers.iter().map(row).collect();
    table::write(out, ["ACTION", "RESOURCE", "OUTCOME", "RULES"], &rows)?;
    Ok(())
}

fn row(answer: &Answer) -> [String; 4] {
    let usage = answer.usage.map_or("", |usage| match usage {
        crate::domain::statement::ColumnUse::Projected => " (projected)",
        crate::domain::statement::ColumnUse::Tested => " (tested for NULL)",
        crate::domain::statement::ColumnUse::Matched => " (compared by equality)",
        crate::domain::statement::ColumnUse::Compared => " (compared)",
        crate::domain::statement::ColumnUse::Computed => " (computed)",
        crate::domain::statement::ColumnUse::Moved => " (moved)",
        crate::domain::statement::ColumnUse::Written => " (written)",
        crate::domain::statement::ColumnUse::Defined => " (defined)",
    });
    let outcome = match answer.outcome {
        Outcome::Permitted => "permitted",
        Outcome::Masked => "masked",
        Outcome::MaskedUse => "refused: masked",
        Outcome::Limited => "permitted, limited",
        Outcome::Uncounted => "refused: rows cannot be counted",
        Outcome::Forbidden => "forbidden",
        Outcome::NotPermitted => "not permitted",
        Outcome::Failed => "policy error",
    };
    let mut rules: Vec<String> = Vec::new();
    for forbid in &answer.forbids {
        let how = match (forbid.mask, forbid.max_rows) {
            (Some(mask), _) => format!("{} {}", if forbid.finds { "mask finds" } else { "mask" }, name(mask)),
            (None, Some(rows)) => format!("at most {rows} rows"),
            (None, None) => "forbid".to_owned(),
        };
        rules.push(format!("{how}: {} ({})", forbid.id, forbid.place));
    }
    for permit in &answer.permits {
        rules.push(format!("permit: {} ({})", permit.id, permit.place));
    }
    for error in &answer.errors {
        rules.push(format!("error: {} ({})", error.id, error.error));
    }
    [format!("{}{usage}", answer.action), answer.resource.clone(), outcome.to_owned(), rules.join("; ")]
}

/// What is looked for inside the values of each column.
pub(super) fn finds(decision: &Decision) -> BTreeMap<String, BTreeMap<Detector, Transform>> {
    match decision {
        Decision::Allow { masks, .. } => {
            masks.scans.iter().map(|(column, scan)| (column.to_string(), scan.transforms.clone())).collect()
        }
        Decision::Deny(_) => BTreeMap::new(),
    }
}

/// How many rows each statement may change; empty where none of them is limited.
pub(super) fn limits(decision: &Decision) -> &[Option<MaxRows>] {
    match decision {
        Decision::Allow { max_rows, .. } => max_rows,
        Decision::Deny(_) => &[],
    }
}

const fn name(transform: Transform) -> &'static str {
    match transform {
        Transform::Redact => "redact",
        Transform::Partial => "partial",
        Transform::Hash => "hash",
        Transform::Null => "null",
        Transform::Last4 => "last4",
    }
}
