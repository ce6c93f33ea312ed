//! `nodegate policy`: are the rules sound, do they do what their cases say, and why was this denied?
//!
//! The statements are read and judged by the code that the daemon runs; nothing here decides by itself.

mod cases;
mod check;
mod explain;
mod test;

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr},
    process::ExitCode,
};

use clap::{Args, Subcommand};

use super::ending::{Failed, fail};
use crate::{
    domain::{
        action::{Action, Lookup, ServerTrust, TargetFacts},
        catalogue::Catalogue,
        decision::{Decision, Denial, MaxRows},
        flow::Workload,
        ids::PolicyId,
        principal::Principal,
        statement::Verb,
    },
    policy::{Explanation, Policies, PolicyError},
    protocol::dns::RecordKind,
    session::http,
    sql::{
        self,
        postgres::{CalledFunction, Connection, SqlError},
    },
};

/// Check, test and explain policies
#[derive(Debug, Args)]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::CheckArgs),
    Test(test::TestArgs),
    Explain(Box<explain::ExplainArgs>),
}

/// Why a command ends with exit code 1, and no sooner than it has said what it found.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("{0}")]
    Input(String),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Failed for Failure {
    fn output(&self) -> Option<&io::Error> {
        match self {
            Self::Output(error) => Some(error),
            _ => None,
        }
    }
}

/// Whether what was looked at is in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Bad,
}

/// Runs the subcommand. Exit codes: 0 in order (`explain`: explained), 1 not in order or not to be read, 2 usage.
pub fn run(args: PolicyArgs) -> ExitCode {
    let out = &mut io::stdout().lock();
    let outcome = match args.command {
        Command::Check(args) => check::run(&args, out),
        Command::Test(args) => test::run(&args, out),
        Command::Explain(args) => explain::run(&args, out),
    };
    match outcome.and_then(|verdict| Ok(out.flush().map(|()| verdict)?)) {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::FAILURE,
        Err(failure) => fail(&failure),
    }
}

/// What is asked of the policies.
#[derive(Debug, Clone, Copy)]
enum Asked<'a> {
    Connect,
    Sql(&'a str),
    /// A call of this function by its oid: `pg_catalog.lo_open`.
    Call(&'a str),
    /// A replication connection, as its startup parameter says, or a command of one.
    Replication(&'a str),
    Resolve(&'a AskedName),
    Http(&'a http::Asked),
}

impl<'a> Asked<'a> {
    /// As cases and the command line have it, of which at most one is given; none asks for a connection.
    fn of(sql: Option<&'a str>, function_call: Option<&'a str>, replication: Option<&'a str>) -> Self {
        match (sql, function_call, replication) {
            (Some(text), ..) => Self::Sql(text),
            (_, Some(name), _) => Self::Call(name),
            (_, _, Some(text)) => Self::Replication(text),
            (None, None, None) => Self::Connect,
        }
    }
}

/// A question to the DNS, as a case or a command line has it: `api.github.com`, or `TXT api.github.com`.
#[derive(Debug, Clone)]
struct AskedName {
    name: String,
    kind: RecordKind,
    trust: ServerTrust,
}

impl AskedName {
    fn read(text: &str, trust: ServerTrust) -> Result<Self, String> {
        let (kind, name) = text.trim().rsplit_once(' ').unwrap_or(("A", text.trim()));
        let kind = kind.trim().parse()?;
        let name = if name == "." { name } else { name.strip_suffix('.').unwrap_or(name) };
        if name.is_empty() {
            return Err("write the name to be resolved: `api.github.com`, or `TXT api.github.com`".to_owned());
        }
        Ok(Self { name: name.to_ascii_lowercase(), kind, trust })
    }
}

/// The server of made-up questions.
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53));

/// Reads and judges, as the daemon does. A text that cannot be read is denied before any policy is asked.
fn judge(
    policies: &Policies,
    principal: &Principal,
    workload: &Workload,
    target: &TargetFacts,
    hosts: &[String],
    catalogue: &Catalogue,
    asked: Asked<'_>,
) -> Explanation {
    match asked {
        Asked::Resolve(AskedName { name, kind, trust }) => {
            let targets = if hosts.contains(name) { std::slice::from_ref(target) } else { &[] };
            let kind = kind.to_string();
            let lookup = Lookup { name, kind: &kind, server: SERVER, trust: *trust, targets };
            policies.explain_lookup(principal, workload, &lookup)
        }
        Asked::Http(asked) => {
            asked.judge(|request| policies.explain_request(principal, workload, target, request))
        }
        Asked::Connect => policies.explain(principal, workload, target, Action::Connect),
        Asked::Sql(text) => match sql::postgres::read(text, catalogue) {
            Ok(statements) => {
                let masks = policies.masks_for(principal, workload, target, catalogue);
                let unpins = statements.iter().find_map(|statement| statement.unpins.as_deref());
                match unpins.filter(|_| masks.is_of_anything()) {
                    Some(what) => unread(&SqlError::where_masked(what)),
                    None => {
                        let seen =
                            statements.into_iter().map(|each| sql::postgres::beside_masks(each, &masks));
                        let statements: Vec<_> = seen.collect();
                        policies.explain(principal, workload, target, Action::Sql(&statements))
                    }
                }
            }
            Err(error) => unread(&error),
        },
        Asked::Call(name) => {
            let (schema, name) = name.split_once('.').unwrap_or(("pg_catalog", name));
            let is_own = schema == "pg_catalog" && catalogue.builtin_functions.contains(name);
            let function = CalledFunction {
                oid: if is_own { 0 } else { u32::MAX },
                schema: schema.to_owned(),
                name: name.to_owned(),
            };
            match sql::postgres::function_call(&function, catalogue) {
                Ok((statement, shows)) => {
                    let masks = policies.masks_for(principal, workload, target, catalogue);
                    let statement = sql::postgres::beside_masks(statement, &masks);
                    let is_named = statement.does(Verb::CallUnmasked);
                    let mut explanation =
                        policies.explain(principal, workload, target, Action::Sql(&[statement]));
                    let is_allowed = matches!(explanation.decision, Decision::Allow { .. });
                    if is_allowed && !is_named && shows.may_hold_masked(&masks) {
                        explanation.decision = Decision::Deny(function.unmasked());
                    }
                    explanation
                }
                Err(error) => unread(&error),
            }
        }
        Asked::Replication(text) => {
            let asked = match Connection::named(text) {
                Some(connection) => Some(Ok(connection.statement())),
                None => sql::postgres::replication_command(text),
            };
            match asked {
                None => judge(policies, principal, workload, target, hosts, catalogue, Asked::Sql(text)),
                Some(Err(error)) => unread(&error),
                Some(Ok(statement)) => {
                    let masks = policies.masks_for(principal, workload, target, catalogue);
                    let statement = sql::postgres::beside_masks(statement, &masks);
                    policies.explain(principal, workload, target, Action::Sql(&[statement]))
                }
            }
        }
    }
}

/// The refusal of what cannot be read, or may never be.
fn unread(error: &SqlError) -> Explanation {
    refused(Denial {
        reason: error.to_string(),
        hint: Some(error.hint().to_owned()),
        policies: vec![PolicyId::from(error.rule())],
    })
}

/// A refusal that no policy was asked about.
const fn refused(denial: Denial) -> Explanation {
    Explanation { decision: Decision::Deny(denial), answers: Vec::new() }
}

/// A request in words, or the refusal of one that no policy can permit.
fn read_request<'f>(
    text: &str,
    fields: impl IntoIterator<Item = (&'f str, &'f str)>,
) -> Result<Result<http::Asked, Denial>, String> {
    match http::Asked::read(text, fields) {
        Ok(asked) => Ok(Ok(asked)),
        Err(http::Unasked::Refused(denial)) => Ok(Err(denial)),
        Err(http::Unasked::Words(complaint)) => Err(complaint),
    }
}

/// `allow` or `deny`.
const fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Allow { .. } => "allow",
        Decision::Deny(_) => "deny",
    }
}

/// The rules behind a decision, by name.
fn rules(decision: &Decision) -> Vec<String> {
    match decision {
        Decision::Allow { policies, max_rows, .. } => {
            let mut limits: Vec<&MaxRows> = max_rows.iter().flatten().collect();
            limits.sort_by_key(|limit| limit.policy.as_str());
            MaxRows::behind(policies, limits).iter().map(ToString::to_string).collect()
        }
        Decision::Deny(denial) => denial.policies.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests;
