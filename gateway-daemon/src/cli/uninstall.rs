//! `nodegate uninstall`: take everything off the kernel that outlives the daemon.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::Args;

use super::{CommandError, with_causes};
use crate::{config, intercept};

/// Remove everything from this node's kernel: programs, maps, labels. The daemon must have stopped
#[derive(Debug, Args)]
#[command(
    after_help = "What was captured connects directly afterwards. The configuration, the policies and the audit log \
                  stay; remove them by hand."
)]
pub struct UninstallArgs {
    /// The configuration, which names the pins
    #[arg(long, value_name = "FILE", env = "NODEGATE_CONFIG", default_value = "/etc/nodegate/nodegate.yaml")]
    config: PathBuf,
    /// The pins, where there is no configuration any more
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pins: Option<PathBuf>,
}

/// Removes, and says what.
pub fn run(args: UninstallArgs) -> Result<(), CommandError> {
    let pins = match args.pins {
        Some(pins) => pins,
        None => config::load(&args.config)?.capture.pins,
    };
    let removed = intercept::remove_all(&pins).map_err(|error| CommandError::Refused(with_causes(&error)))?;
    let out = &mut io::stdout().lock();
    for what in &removed {
        writeln!(out, "removed {what}")?;
    }
    if removed.is_empty() {
        writeln!(out, "nothing is installed in {}", pins.display())?;
    }
    Ok(())
}
