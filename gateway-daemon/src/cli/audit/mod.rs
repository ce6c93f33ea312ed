//! `nodegate audit`: search, verify and export the log, also while the daemon writes it.
//!
//! Texts in the log come from agents. On a terminal nothing of them may move a cursor, set a colour or turn
//! the writing direction: such characters are shown escaped.

use std::{
    borrow::Cow,
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use clap::{Args, Subcommand, ValueEnum};

use super::ending::{Failed, fail};
use crate::{
    audit::{
        self, AuditError, ExportError, Finding, Kept, Order, Query, Source, Verified, VerifyError,
        query::parse_time,
    },
    domain::{
        event::{EventKind, Outcome},
        mode::Mode,
    },
};

pub(super) mod listing;

use listing::{Listing, Look};

/// Search, verify and export the audit log
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// The log's directory
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "NODEGATE_AUDIT_DIR",
        default_value = "/var/lib/nodegate/audit"
    )]
    dir: PathBuf,
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    Search(Box<SearchArgs>),
    Verify(VerifyArgs),
    Export(ExportArgs),
}

/// Find records: every condition that is given must hold
#[derive(Debug, Args)]
struct SearchArgs {
    /// Part of the identity, `<issuer url>|<subject>`
    #[arg(long, value_name = "PART")]
    identity: Option<String>,
    /// From this time on: 2026-01-31T08:00:00Z, 2026-01-31, or how long ago (45s, 30m, 1h, 7d)
    #[arg(long, value_name = "TIME", value_parser = time_argument)]
    since: Option<u64>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = time_argument)]
    until: Option<u64>,
    /// The target's name
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// How it was decided
    #[arg(long, alias = "outcome", value_enum)]
    decision: Option<DecisionArgument>,
    /// In which mode it was decided
    #[arg(long, value_enum)]
    mode: Option<ModeArgument>,
    /// What happened
    #[arg(long, value_enum)]
    kind: Option<KindArgument>,
    /// The session's id
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// The id of a policy that decided
    #[arg(long, value_name = "ID")]
    policy: Option<String>,
    /// Part of the request's text or of the reason, in either case
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    /// So many records at most; 0 for all
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// The oldest first, and the oldest kept when there are more than the limit
    #[arg(long)]
    oldest_first: bool,
    /// Read the log alone, not the index
    #[arg(long)]
    no_index: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Prove that no record was changed, removed, inserted or moved
#[derive(Debug, Args)]
struct VerifyArgs {
    /// The log must hold this record, which an earlier `verify` printed and which was kept elsewhere
    #[arg(long, value_name = "SEQ:HASH")]
    kept: Option<Kept>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Write records out as they stand in the log, one JSON object a line
#[derive(Debug, Args)]
struct ExportArgs {
    /// From this time on: 2026-01-31T08:00:00Z, 2026-01-31, or how long ago (45s, 30m, 1h, 7d)
    #[arg(long, value_name = "TIME", value_parser = time_argument)]
    since: Option<u64>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = time_argument)]
    until: Option<u64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DecisionArgument {
    Allowed,
    Denied,
    Noted,
    #[value(alias = "would_deny")]
    WouldDeny,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeArgument {
    Observe,
    Shadow,
    Enforce,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum KindArgument {
    Daemon,
    Capture,
    KernelRefusal,
    Resolve,
    Identity,
    Connect,
    Request,
    Completion,
    Close,
}

impl From<DecisionArgument> for Outcome {
    fn from(argument: DecisionArgument) -> Self {
        match argument {
            DecisionArgument::Allowed => Self::Allowed,
            DecisionArgument::Denied => Self::Denied,
            DecisionArgument::Noted => Self::Noted,
            DecisionArgument::WouldDeny => Self::WouldDeny,
        }
    }
}

impl From<ModeArgument> for Mode {
    fn from(argument: ModeArgument) -> Self {
        match argument {
            ModeArgument::Observe => Self::Observe,
            ModeArgument::Shadow => Self::Shadow,
            ModeArgument::Enforce => Self::Enforce,
        }
    }
}

impl From<KindArgument> for EventKind {
    fn from(argument: KindArgument) -> Self {
        match argument {
            KindArgument::Daemon => Self::Daemon,
            KindArgument::Capture => Self::Capture,
            KindArgument::KernelRefusal => Self::KernelRefusal,
            KindArgument::Resolve => Self::Resolve,
            KindArgument::Identity => Self::Identity,
            KindArgument::Connect => Self::Connect,
            KindArgument::Request => Self::Request,
            KindArgument::Completion => Self::Completion,
            KindArgument::Close => Self::Close,
        }
    }
}

pub(super) fn time_argument(text: &str) -> Result<u64, String> {
    parse_time(text, SystemTime::now())
}

/// Why a command ends with exit code 1.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Log(#[from] AuditError),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// Told already.
    #[error("the audit log is not what was written")]
    Broken,
}

impl Failed for Failure {
    fn output(&self) -> Option<&io::Error> {
        match self {
            Self::Output(error) => Some(error),
            _ => None,
        }
    }
}

/// Does what the arguments say. Exit codes: 0 done or intact, 1 failed or not intact; clap ends with 2.
pub fn run(args: AuditArgs) -> ExitCode {
    let AuditArgs { dir, command } = args;
    let stdout = io::stdout();
    let look = Look::of(&stdout);
    let mut out = io::BufWriter::new(stdout.lock());
    let done = match command {
        AuditCommand::Search(args) => search(&dir, *args, look, &mut out),
        AuditCommand::Verify(args) => verify(&dir, &args, look, &mut out),
        AuditCommand::Export(args) => export(&dir, &args, look, &mut out),
    };
    match done.and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = out.flush();
            if matches!(failure, Failure::Broken) { ExitCode::FAILURE } else { fail(&failure) }
        }
    }
}

fn search(dir: &Path, args: SearchArgs, look: Look, out: &mut impl Write) -> Result<(), Failure> {
    let query = Query {
        identity: args.identity,
        since: args.since,
        until: args.until,
        target: args.target,
        outcome: args.decision.map(Outcome::from),
        mode: args.mode.map(Mode::from),
        kind: args.kind.map(EventKind::from),
        session: args.session,
        policy: args.policy,
        text: args.text,
        limit: (args.limit > 0).then_some(args.limit),
        order: if args.oldest_first { Order::OldestFirst } else { Order::NewestFirst },
    };
    let source = if args.no_index { Source::LogOnly } else { Source::Indexed };
    let records = audit::search_in(dir, &query, source)?;
    if args.json {
        for record in &records {
            let json = serde_json::to_string(record).map_err(AuditError::Serialise)?;
            writeln!(out, "{}", json_for(&json, look))?;
        }
        return Ok(());
    }
    Listing::new(look).write(&records, out)?;
    if records.is_empty() && io::stderr().is_terminal() {
        eprintln!("no such records");
    } else if args.limit > 0 && records.len() >= args.limit && io::stderr().is_terminal() {
        eprintln!("the first {} are shown: `--limit 0` shows all", args.limit);
    }
    Ok(())
}

fn verify(dir: &Path, args: &VerifyArgs, look: Look, out: &mut impl Write) -> Result<(), Failure> {
    match audit::verify_against(dir, args.kept) {
        Ok(verified) => write_verified(&verified, args, out).map_err(Failure::from),
        Err(VerifyError::Unreadable(error)) => Err(error.into()),
        Err(VerifyError::Broken { findings, count, intact }) => {
            if args.json {
                for finding in &findings {
                    writeln!(out, "{}", json_for(&finding_json(finding).to_string(), look))?;
                }
                let summary =
                    serde_json::json!({ "intact": false, "findings": count, "intact_records": intact });
                writeln!(out, "{summary}")?;
            } else {
                for finding in &findings {
                    writeln!(out, "{}", listing::shown(&finding.to_string()))?;
                }
                writeln!(out, "NOT INTACT: {count} findings; {intact} records are as they were written")?;
            }
            Err(Failure::Broken)
        }
    }
}

fn write_verified(verified: &Verified, args: &VerifyArgs, out: &mut impl Write) -> io::Result<()> {
    let Verified { records, segments, first_seq, last_seq, head, removed_up_to } = verified;
    if args.json {
        let summary = serde_json::json!({
            "intact": true, "records": records, "segments": segments, "first_seq": first_seq,
            "last_seq": last_seq, "head": head, "removed_up_to": removed_up_to,
        });
        return writeln!(out, "{summary}");
    }
    write!(out, "intact: {records} records")?;
    if *records > 0 {
        write!(out, ", {first_seq} to {last_seq}, in {segments} files")?;
    }
    if *removed_up_to > 0 {
        write!(out, "; retention removed those up to {removed_up_to}")?;
    }
    writeln!(out, "\nhead:   {last_seq}:{head}")
}

fn finding_json(finding: &Finding) -> serde_json::Value {
    serde_json::json!({
        "file": finding.file, "line": finding.line, "seq": finding.seq, "what": finding.what,
    })
}

fn export(dir: &Path, args: &ExportArgs, look: Look, out: &mut impl Write) -> Result<(), Failure> {
    let (since, until) = (args.since.unwrap_or(0), args.until.unwrap_or(u64::MAX));
    let done = if look.is_terminal() {
        let mut out = Escaping { out };
        audit::export(dir, since, until, &mut out)
    } else {
        audit::export(dir, since, until, out)
    };
    match done {
        Ok(_) => Ok(()),
        Err(ExportError::Log(error)) => Err(error.into()),
        Err(ExportError::Output(error)) => Err(error.into()),
    }
}

/// Escapes whole lines on their way to a terminal.
struct Escaping<'a, W> {
    out: &'a mut W,
}

impl<W: Write> Write for Escaping<'_, W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        writeln!(self.out, "{}", listing::json_shown(text))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// JSON for a terminal: still JSON, of the same meaning.
fn json_for(json: &str, look: Look) -> Cow<'_, str> {
    if look.is_terminal() { Cow::Owned(listing::json_shown(json)) } else { Cow::Borrowed(json) }
}
