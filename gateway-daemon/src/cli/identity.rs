//! `nodegate identity`: who the caller's captured cgroup is.

use std::{io, path::PathBuf, time::SystemTime};

use clap::{Args, Subcommand};

use super::{CommandError, Connection, status, table, tokens};
use crate::{
    admin::{IdentityView, api::EnrolRequest, seconds},
    domain::ids::CgroupId,
};

/// Give a captured cgroup its identity, or show it
#[derive(Debug, Args)]
pub struct IdentityArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Verify a token and bind its identity to the caller's captured cgroup
    Enrol {
        /// The file that holds the signed OIDC token; `-` is standard input
        #[arg(long, value_name = "FILE", default_value = "-")]
        token_file: PathBuf,
        /// Another captured cgroup, by its id; for root outside captured cgroups
        #[arg(long, value_name = "ID")]
        cgroup: Option<u64>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show who the caller's captured cgroup is
    Show {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Runs the subcommand.
pub fn run(args: IdentityArgs, connection: &Connection) -> Result<(), CommandError> {
    let client = connection.client();
    let (identity, json) = match args.command {
        Command::Enrol { token_file, cgroup, json } => {
            let token =
                tokens::read(&token_file).map_err(|error| CommandError::Refused(error.to_string()))?;
            (client.enrol(&EnrolRequest { token, cgroup: cgroup.map(CgroupId) })?, json)
        }
        Command::Show { json } => (client.identity()?, json),
    };
    let out = &mut io::stdout().lock();
    if json {
        table::write_json(out, [identity])?;
    } else {
        table::write(out, ["IDENTITY", "ISSUER", "GROUPS", "ROLES", "EXPIRES"], &[row(&identity)])?;
    }
    Ok(())
}

fn row(identity: &IdentityView) -> [String; 5] {
    [
        identity.id.clone(),
        identity.issuer.clone(),
        identity.groups.join(","),
        identity.roles.join(","),
        status::expiry(identity, seconds(SystemTime::now())),
    ]
}
