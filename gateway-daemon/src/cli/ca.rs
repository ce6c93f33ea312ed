//! `nodegate ca`: the certificate that clients are to trust where they verify the server.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

use clap::Args;

use super::CommandError;
use crate::{config, tls::authority::CERTIFICATE_FILE, wiring::AUTHORITY_DIR};

/// Print the certificate (PEM) of this node's authority, which signs what clients are shown under TLS
#[derive(Debug, Args)]
#[command(
    after_help = "Clients that verify the server (sslmode=verify-ca and verify-full) are to trust it: \
                  `nodegate ca > nodegate-ca.pem`, then sslrootcert=nodegate-ca.pem or PGSSLROOTCERT."
)]
pub struct CaArgs {
    /// The configuration, which names the directory of the daemon's state
    #[arg(long, value_name = "FILE", env = "NODEGATE_CONFIG", default_value = "/etc/nodegate/nodegate.yaml")]
    config: PathBuf,
}

/// Prints it.
pub fn run(args: &CaArgs) -> Result<(), CommandError> {
    let path = config::load(&args.config)?.audit.dir.join(AUTHORITY_DIR).join(CERTIFICATE_FILE);
    let pem = fs::read(&path).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "; the daemon makes it when it starts",
            _ => "",
        };
        CommandError::Refused(format!("{}: {error}{hint}", path.display()))
    })?;
    io::stdout().lock().write_all(&pem)?;
    Ok(())
}
