//! `nodegate run`: a command in a fresh captured cgroup, armed before the command starts.
//!
//! The wrapper forks; the child waits on a pipe. Only when the daemon has answered that the child is in an armed
//! cgroup is it let go to `exec`. If anything fails before that, it is killed and the command never ran. From then on
//! the wrapper stands in for the command: it passes signals on, stops when the command stops, and ends as it ends.

mod child;
mod signals;
mod trust;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::Args;
use nix::sys::signal::Signal;

use self::{
    child::{Child, Ending},
    signals::{Pending, Signals},
    trust::Scratch,
};
use super::{Connection, tokens};
use crate::admin::{
    api::{RunRequest, RunStarted},
    client::{Client, ClientError},
};

/// The command was not started, as `env` and shells say it.
const NOT_STARTED: u8 = 126;

/// Run a command in a fresh captured cgroup
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: that of COMMAND; 126 if capture could not be armed (COMMAND is then never started) or \
                  COMMAND cannot be executed, 127 if it is not found. If COMMAND is killed by a signal, so is nodegate."
)]
pub struct RunArgs {
    /// What listings, policies and audit records call it; not an authentication
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
    /// A signed OIDC token to enrol for it before it starts
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Leave what the command trusts as it is: it is then not given the node's authority, under whose certificates
    /// nodegate answers where TLS is looked into
    #[arg(long)]
    no_trust: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command and returns its exit status. When a signal killed it, this process dies by the same one.
pub fn run(args: &RunArgs, connection: &Connection) -> ExitCode {
    match supervise(args, &connection.client()) {
        Ok(Ending::Exited(status)) => ExitCode::from(status),
        Ok(Ending::Killed(signal)) => signals::die_by(signal),
        Err(error) => {
            eprintln!("nodegate run: the command was not started: {error}");
            ExitCode::from(NOT_STARTED)
        }
    }
}

/// Why the command was not started.
#[derive(Debug, thiserror::Error)]
enum NotStarted {
    #[error(transparent)]
    Token(#[from] tokens::TokenError),
    #[error("capture could not be armed: {0}")]
    NotArmed(#[from] ClientError),
    #[error("cannot {0}: {1}")]
    System(&'static str, nix::Error),
    #[error("no directory can be made for what the command is to trust: {0}; with --no-trust none is needed")]
    Scratch(std::io::Error),
    #[error("an argument holds a NUL byte")]
    Argument,
    #[error("this process already has several threads")]
    Threads,
}

fn supervise(args: &RunArgs, client: &Client) -> Result<Ending, NotStarted> {
    let token = args.token_file.as_deref().map(tokens::read).transpose()?;
    let signals = Signals::block().map_err(|error| NotStarted::System("block signals", error))?;
    let scratch = if args.no_trust { None } else { Some(Scratch::make().map_err(NotStarted::Scratch)?) };
    let child = Child::fork(&args.command, &signals, scratch.as_ref().map(Scratch::path))?;
    let request = RunRequest { pid: child.pid(), label: args.identity.clone(), token };
    let mut interrupted = None;
    let armed = client.start_run(&request, async || interrupted = signals.interrupted().await);
    let RunStarted { workload, authority } = match armed {
        Ok(Some(started)) => started,
        // The child is killed when it is dropped; nothing was started.
        Ok(None) => return Ok(interrupted.map_or(Ending::Exited(NOT_STARTED), Ending::Killed)),
        Err(error) => return Err(error.into()),
    };
    let running =
        child.release(&authority).map_err(|error| NotStarted::System("start the command", error))?;
    let ending = loop {
        match signals.next() {
            Ok(Pending::ChildChanged) => match running.ending() {
                Ok(Some(ending)) => break ending,
                Ok(None) => {}
                Err(error) => {
                    eprintln!("nodegate run: lost sight of the command: {error}");
                    break Ending::Exited(1);
                }
            },
            Ok(Pending::Sent { signal, by }) => running.pass_on(signal, by),
            Ok(Pending::Nothing) => {}
            Err(error) => {
                eprintln!("nodegate run: cannot wait for signals: {error}");
                break running.wait();
            }
        }
    };
    if let Err(error) = client.end_run(workload.cgroup) {
        report_leftover(&error, &workload.path);
    }
    Ok(ending)
}

/// The command has ended; only its cgroup may be left.
fn report_leftover(error: &ClientError, path: &str) {
    match error {
        // It was empty, and the daemon was quicker.
        ClientError::Refused(problem) if problem.status == 404 => {}
        _ => eprintln!("nodegate run: cgroup {path} may be left behind: {error}"),
    }
}

/// Signals that end a process that does not handle them.
const ENDING: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];
