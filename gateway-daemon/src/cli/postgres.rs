//! `nodegate postgres`: what concerns the databases behind PostgreSQL targets.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{Args, Subcommand};

use super::CommandError;
use crate::{
    config::{self, checked::Protocol},
    sql::postgres::{Access, provision},
};

/// PostgreSQL targets: the rights of their credentials
#[derive(Debug, Args)]
pub struct PostgresArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the grants of a least-privileged role for a target: no tagged column is among them
    Provision(ProvisionArgs),
}

#[derive(Debug, Args)]
struct ProvisionArgs {
    /// The target's name
    #[arg(long, value_name = "NAME")]
    target: String,
    /// Let the role insert, update and delete rows as well
    #[arg(long)]
    write: bool,
    /// The configuration
    #[arg(long, value_name = "FILE", env = "NODEGATE_CONFIG", default_value = "/etc/nodegate/nodegate.yaml")]
    config: PathBuf,
}

/// Does what it says.
pub fn run(args: PostgresArgs) -> Result<(), CommandError> {
    let Command::Provision(args) = args.command;
    let config = config::load(&args.config)?;
    let found = config.targets.iter().find(|target| target.facts.name == args.target);
    let Some(target) = found else {
        return Err(CommandError::Refused(format!("{}: no target {:?}", args.config.display(), args.target)));
    };
    let Protocol::Postgres(postgres) = &target.protocol else {
        return Err(CommandError::Refused(format!(
            "target {:?} speaks {}, not postgres",
            args.target,
            target.protocol.name()
        )));
    };
    let access = if args.write { Access::Write } else { Access::Read };
    let tagged = target.facts.tags.keys().cloned().collect();
    let sql = provision(&postgres.credential.username, access, &tagged);
    io::stdout().lock().write_all(sql.as_bytes())?;
    Ok(())
}
