//! `nodegate daemon`: load the configuration, then run until told to stop.

use std::path::PathBuf;

use clap::Args;

use super::CommandError;
use crate::{config, wiring};

/// Run the daemon
#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", env = "NODEGATE_CONFIG", default_value = "/etc/nodegate/nodegate.yaml")]
    config: PathBuf,
    /// Take over from a daemon that runs on the same socket: it then looks after the sessions that it has, until they
    /// end or `limits.drain_timeout` is over. Without one, start as usual
    #[arg(long)]
    take_over: bool,
    /// Check the configuration and exit
    #[arg(long)]
    check: bool,
}

/// Runs the daemon; returns when it has stopped. `socket` overrides the configuration's.
pub fn run(args: &DaemonArgs, socket: Option<PathBuf>) -> Result<(), CommandError> {
    let mut config = config::load(&args.config)?;
    if let Some(socket) = socket {
        config.admin.socket = socket;
    }
    if args.check {
        println!("{}: the configuration is good", args.config.display());
        return Ok(());
    }
    let start = if args.take_over { wiring::Start::TakeOver } else { wiring::Start::Alone };
    wiring::run(config, start).map_err(|error| CommandError::Refused(super::with_causes(&error)))
}
