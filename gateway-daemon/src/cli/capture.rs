//! `nodegate capture`: label a cgroup that exists, so that what it connects to goes through the daemon.

use std::{io, path::PathBuf};

use clap::{Args, Subcommand};

use super::{CommandError, Connection, table, units};
use crate::{
    admin::{api::CaptureRequest, client::Client},
    domain::{flow::Workload, ids::CgroupId},
};

/// Capture cgroups that exist
#[derive(Debug, Args)]
pub struct CaptureArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Capture a cgroup: from now on, what its processes connect to goes through the daemon
    Add {
        /// Its directory: absolute, or relative to the cgroup2 mount
        #[arg(required_unless_present_any = ["pid", "unit"], conflicts_with_all = ["pid", "unit"])]
        cgroup: Option<PathBuf>,
        /// Capture the cgroup that this process is in
        #[arg(long, value_name = "PID")]
        pid: Option<u32>,
        /// Capture the cgroup of this systemd unit, which must be active
        #[arg(long, value_name = "UNIT", conflicts_with = "pid")]
        unit: Option<String>,
        /// What listings, policies and audit records call it; not an authentication
        #[arg(long, value_name = "NAME")]
        label: Option<String>,
    },
    /// Let a captured cgroup go: its processes connect directly again
    Remove {
        /// Its id or its path, as `nodegate capture list` shows them
        cgroup: String,
    },
    /// List what is captured
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

/// Runs the subcommand.
pub fn run(args: CaptureArgs, connection: &Connection) -> Result<(), CommandError> {
    let client = connection.client();
    match args.command {
        Command::Add { cgroup, pid, unit, label } => {
            let path = match unit {
                Some(unit) => Some(units::cgroup_of(&unit)?),
                None => cgroup.map(absolute_if_there),
            };
            let workload = client.capture(&CaptureRequest { path, pid, label })?;
            println!("captured {} (cgroup {})", workload.path, workload.cgroup);
        }
        Command::Remove { cgroup } => {
            let cgroup = find(&client, &cgroup)?;
            client.release(cgroup)?;
            println!("released cgroup {cgroup}");
        }
        Command::List { json } => {
            let captures = client.captures()?;
            let out = &mut io::stdout().lock();
            if json {
                table::write_json(out, captures)?;
            } else {
                table::write(
                    out,
                    ["CGROUP", "LABEL", "PATH"],
                    &captures.iter().map(row).collect::<Vec<_>>(),
                )?;
            }
        }
    }
    Ok(())
}

/// `./agents` and `agents` in the current directory are meant from there; anything else is the daemon's to find.
fn absolute_if_there(path: PathBuf) -> PathBuf {
    if path.is_relative() { path.canonicalize().unwrap_or(path) } else { path }
}

fn find(client: &Client, cgroup: &str) -> Result<CgroupId, CommandError> {
    if let Ok(id) = cgroup.parse() {
        return Ok(CgroupId(id));
    }
    let wanted = cgroup.trim_matches('/');
    let captures = client.captures()?;
    // A path of the file system ends with the path below the mount.
    captures
        .iter()
        .filter(|workload| {
            let path = workload.path.trim_matches('/');
            wanted == path || (cgroup.starts_with('/') && wanted.ends_with(&format!("/{path}")))
        })
        .max_by_key(|workload| workload.path.len())
        .map(|workload| workload.cgroup)
        .ok_or_else(|| CommandError::Refused(format!("`{cgroup}` is not captured")))
}

fn row(workload: &Workload) -> [String; 3] {
    [workload.cgroup.to_string(), workload.label.clone().unwrap_or_default(), workload.path.clone()]
}
