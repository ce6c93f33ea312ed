//! `nodegate sessions`: list, show, replay and export recordings, also while the daemon writes them.
//!
//! What is in a recording comes from agents and servers. On a terminal nothing of it may move a cursor, set a colour or
//! turn the writing direction: such characters are shown escaped.

use std::{
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::{
    audit::{
        listing::{self, Look},
        time_argument,
    },
    ending::{Failed, fail},
    table,
};
use crate::recording::{self, Filed, ReadError, Record, Summary};

mod transcript;
mod values;

use transcript::Transcript;

/// List, show, replay and export recorded sessions
#[derive(Debug, Args)]
pub struct SessionsArgs {
    /// The recordings' directory
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "NODEGATE_RECORDINGS_DIR",
        default_value = "/var/lib/nodegate/recordings"
    )]
    dir: PathBuf,
    #[command(subcommand)]
    command: SessionsCommand,
}

#[derive(Debug, Subcommand)]
enum SessionsCommand {
    List(ListArgs),
    Show(ShowArgs),
    Replay(ReplayArgs),
    Export(ExportArgs),
}

/// List recorded sessions, the newest first: every condition that is given must hold
#[derive(Debug, Args)]
struct ListArgs {
    /// Part of the identity, `<issuer url>|<subject>`
    #[arg(long, value_name = "PART")]
    identity: Option<String>,
    /// The target's name
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Begun from this time on: 2026-01-31T08:00:00Z, 2026-01-31, or how long ago (45s, 30m, 1h, 7d)
    #[arg(long, value_name = "TIME", value_parser = time_argument)]
    since: Option<u64>,
    /// Begun before this time
    #[arg(long, value_name = "TIME", value_parser = time_argument)]
    until: Option<u64>,
    /// So many sessions at most; 0 for all
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Show what a session asked, how that was decided, and what it saw
#[derive(Debug, Args)]
struct ShowArgs {
    /// The session's id, or its beginning
    #[arg(value_name = "ID")]
    id: String,
}

/// Show a session at the pace at which it went
#[derive(Debug, Args)]
struct ReplayArgs {
    /// The session's id, or its beginning
    #[arg(value_name = "ID")]
    id: String,
    /// So many times as fast
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed_argument)]
    speed: f64,
    /// No pause is longer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    longest_pause: u64,
}

/// Write a session out as it was recorded
#[derive(Debug, Args)]
struct ExportArgs {
    /// The session's id, or its beginning
    #[arg(value_name = "ID")]
    id: String,
    /// In which format
    #[arg(long, value_enum, default_value_t = ExportFormat::Jsonl)]
    format: ExportFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ExportFormat {
    /// One JSON object a line
    Jsonl,
}

fn speed_argument(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(speed),
        _ => Err("not a number above 0".to_owned()),
    }
}

/// Why a command ends with exit code 1.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Recording(#[from] ReadError),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Failed for Failure {
    fn output(&self) -> Option<&io::Error> {
        match self {
            Self::Output(error) => Some(error),
            Self::Recording(_) => None,
        }
    }
}

/// Does what the arguments say. Exit codes: 0 done, 1 failed; clap ends with 2.
pub fn run(args: SessionsArgs) -> ExitCode {
    let SessionsArgs { dir, command } = args;
    let stdout = io::stdout();
    let look = Look::of(&stdout);
    let mut out = io::BufWriter::new(stdout.lock());
    let done = match command {
        SessionsCommand::List(args) => list(&dir, &args, look, &mut out),
        SessionsCommand::Show(args) => show(&dir, &args, look, &mut out),
        SessionsCommand::Replay(args) => replay(&dir, &args, look, &mut out),
        SessionsCommand::Export(args) => export(&dir, &args, look, &mut out),
    };
    match done.and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = out.flush();
            fail(&failure)
        }
    }
}

fn list(dir: &Path, args: &ListArgs, look: Look, out: &mut impl Write) -> Result<(), Failure> {
    let (since, until) = (args.since.unwrap_or(0), args.until.unwrap_or(u64::MAX));
    let mut found: Vec<(Filed, Summary)> = Vec::new();
    for filed in recording::walk(dir, since, until)? {
        let summary = match recording::summary(&filed.path) {
            Ok(Some(summary)) => summary,
            Ok(None) => {
                eprintln!("nodegate: {} has no readable beginning", filed.path.display());
                continue;
            }
            // Gone meanwhile: retention removes what is old.
            Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        let header = &summary.header;
        let fits = args.identity.as_ref().is_none_or(|part| header.identity.contains(part.as_str()))
            && args.target.as_ref().is_none_or(|name| header.target.as_str() == name)
            && (since..until).contains(&header.at);
        if fits {
            found.push((filed, summary));
        }
    }
    found.sort_by_key(|(_, summary)| std::cmp::Reverse(summary.header.at));
    if args.limit > 0 {
        found.truncate(args.limit);
    }
    if args.json {
        for (filed, summary) in &found {
            let line = listed_json(filed, summary).to_string();
            writeln!(out, "{}", if look.is_terminal() { listing::json_shown(&line) } else { line })?;
        }
        return Ok(());
    }
    let rows: Vec<[String; 8]> = found.iter().map(|(filed, summary)| row(filed, summary)).collect();
    if rows.is_empty() {
        if io::stderr().is_terminal() {
            eprintln!("no such recordings below {}", dir.display());
        }
        return Ok(());
    }
    let headings = ["SESSION", "STARTED", "LASTED", "REQUESTS", "DENIED", "TARGET", "IDENTITY", "BYTES"];
    Ok(table::write(out, headings, &rows)?)
}

fn row(filed: &Filed, summary: &Summary) -> [String; 8] {
    let header = &summary.header;
    let (lasted, requests, denied) = match &summary.end {
        Some(end) => {
            let lasted = Duration::from_micros(end.at.saturating_sub(header.at));
            (format!("{:.1}s", lasted.as_secs_f64()), end.requests.to_string(), end.denied.to_string())
        }
        None => ("not ended".to_owned(), String::new(), String::new()),
    };
    [
        header.session.to_string(),
        listing::time_text(header.at),
        lasted,
        requests,
        denied,
        listing::shown(header.target.as_str()),
        listing::shown(&header.identity),
        filed.bytes.to_string(),
    ]
}

fn listed_json(filed: &Filed, summary: &Summary) -> serde_json::Value {
    let header = &summary.header;
    let end = summary.end.as_ref();
    json!({
        "session": header.session, "started": listing::time_text(header.at),
        "ended": end.map(|end| listing::time_text(end.at)), "end": end.map(|end| &end.reason),
        "identity": header.identity, "target": header.target, "database": header.database,
        "workload": header.workload, "process": header.process,
        "requests": end.map(|end| end.requests), "denied": end.map(|end| end.denied),
        "file": filed.path, "bytes": filed.bytes,
    })
}

fn show(dir: &Path, args: &ShowArgs, look: Look, out: &mut impl Write) -> Result<(), Failure> {
    let read = recording::read(&recording::find(dir, &args.id)?.path)?;
    let mut transcript = Transcript::new(look);
    for record in &read.records {
        transcript.write(record, out)?;
    }
    Ok(transcript.finish(&read, out)?)
}

fn replay(dir: &Path, args: &ReplayArgs, look: Look, out: &mut impl Write) -> Result<(), Failure> {
    let read = recording::read(&recording::find(dir, &args.id)?.path)?;
    let mut transcript = Transcript::new(look);
    let mut before = None;
    for record in &read.records {
        if let Some(at) = time_of(record) {
            let pause = Duration::from_micros(before.map_or(0, |before| at.saturating_sub(before)));
            let longest = Duration::from_secs(args.longest_pause);
            // At next to no speed it is longer than a Duration can be.
            let pause = Duration::try_from_secs_f64(pause.as_secs_f64() / args.speed);
            let pause = pause.map_or(longest, |pause| pause.min(longest));
            out.flush()?;
            std::thread::sleep(pause);
            before = Some(at);
        }
        transcript.write(record, out)?;
    }
    Ok(transcript.finish(&read, out)?)
}

/// When it happened, in microseconds since 1970.
fn time_of(record: &Record) -> Option<u64> {
    match record {
        Record::Session(header) => Some(header.at),
        Record::Request(asked) => Some(asked.at),
        Record::Reply(answered) => Some(answered.at),
        Record::Failure(failed) => Some(failed.at),
        Record::Gap(gap) => Some(gap.at),
        Record::End(end) => Some(end.at),
        Record::Unknown => None,
    }
}

fn export(dir: &Path, args: &ExportArgs, look: Look, out: &mut impl Write) -> Result<(), Failure> {
    let read = recording::read(&recording::find(dir, &args.id)?.path)?;
    let ExportFormat::Jsonl = args.format;
    for line in read.lines.lines() {
        if look.is_terminal() {
            writeln!(out, "{}", listing::json_shown(line))?;
        } else {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}
