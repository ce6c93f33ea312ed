//! The command line: arguments in, output and exit codes out. Composition only; what is done is done elsewhere.

mod audit;
mod ca;
mod capture;
mod daemon;
mod doctor;
mod ending;
mod identity;
mod policy;
mod postgres;
mod run;
mod sessions;
mod status;
mod table;
mod tokens;
mod uninstall;
mod units;

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::{
    admin::client::{Client, ClientError},
    config::{ConfigError, checked::DEFAULT_SOCKET},
};

/// Guardrails for AI agents on a node: captured connections are attributed, judged, masked and recorded.
#[derive(Debug, Parser)]
#[command(name = "nodegate", version, max_term_width = 100)]
struct Cli {
    /// The daemon's admin socket [default: /run/nodegate/nodegate.sock]
    #[arg(long, global = true, value_name = "PATH", env = "NODEGATE_SOCKET")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Daemon(daemon::DaemonArgs),
    Run(run::RunArgs),
    Capture(capture::CaptureArgs),
    Status(status::StatusArgs),
    Doctor(doctor::DoctorArgs),
    Identity(identity::IdentityArgs),
    Policy(policy::PolicyArgs),
    Audit(audit::AuditArgs),
    Sessions(sessions::SessionsArgs),
    Postgres(postgres::PostgresArgs),
    Ca(ca::CaArgs),
    Uninstall(uninstall::UninstallArgs),
}

/// Where the daemon is found.
#[derive(Debug)]
pub struct Connection {
    socket: PathBuf,
}

/// Why a command ends with exit code 1. The message is for the terminal.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The configuration is wrong: each problem on a line that begins with its place.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Refused or failed, in words that need no more.
    #[error("{0}")]
    Refused(String),
    /// The daemon did not do it.
    #[error(transparent)]
    Daemon(#[from] ClientError),
    /// The output could not be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Connection {
    /// A client for it.
    pub fn client(&self) -> Client {
        Client::new(&self.socket)
    }
}

/// Parses the command line and does what it says. Exit codes: 0 done, 1 refused or failed, 2 usage; `run` has its own.
pub fn main() -> ExitCode {
    let Cli { socket, command } = Cli::parse();
    let connection =
        Connection { socket: socket.clone().unwrap_or_else(|| Path::new(DEFAULT_SOCKET).to_owned()) };
    let done = match command {
        Command::Run(args) => return run::run(&args, &connection),
        Command::Policy(args) => return policy::run(args),
        Command::Audit(args) => return audit::run(args),
        Command::Sessions(args) => return sessions::run(args),
        Command::Doctor(args) => return doctor::run(&args),
        Command::Postgres(args) => postgres::run(args),
        Command::Ca(args) => ca::run(&args),
        Command::Uninstall(args) => uninstall::run(args),
        Command::Daemon(args) => daemon::run(&args, socket),
        Command::Capture(args) => capture::run(args, &connection),
        Command::Status(args) => status::run(&args, &connection),
        Command::Identity(args) => identity::run(args, &connection),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // `nodegate … | head`: the reader has seen enough.
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(CommandError::Config(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("nodegate: {error}");
            if let CommandError::Daemon(ClientError::NoDaemon { .. }) = error {
                eprintln!(
                    "  hint: start it with `nodegate daemon`, or name its socket with `--socket` or NODEGATE_SOCKET"
                );
            }
            ExitCode::FAILURE
        }
    }
}

/// An error and what caused it, in one line.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
