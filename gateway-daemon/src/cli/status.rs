//! `nodegate status`: what the daemon is doing.

use std::{
    io::{self, Write},
    time::SystemTime,
};

use clap::Args;

use super::{CommandError, Connection, table};
use crate::admin::{IdentityView, Status, seconds};

/// Show what the daemon is doing: captured workloads, their identities, targets, counters
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Prints the status.
pub fn run(args: &StatusArgs, connection: &Connection) -> Result<(), CommandError> {
    let status = connection.client().status()?;
    let out = &mut io::stdout().lock();
    if args.json {
        table::write_json(out, [status])?;
    } else {
        write(out, &status, seconds(SystemTime::now()))?;
    }
    Ok(())
}

fn write(out: &mut impl Write, status: &Status, now: u64) -> io::Result<()> {
    writeln!(
        out,
        "nodegate {} (pid {}), up {}, mode {}, policy set {}",
        status.version,
        status.pid,
        span(now.saturating_sub(status.started_at)),
        status.mode,
        status.policy_epoch
    )?;
    writeln!(out, "\nWorkloads")?;
    let rows: Vec<_> = status
        .workloads
        .iter()
        .map(|entry| {
            [
                entry.workload.cgroup.to_string(),
                entry.workload.label.clone().unwrap_or_default(),
                entry.sessions.to_string(),
                entry.identity.as_ref().map(|identity| identity.id.clone()).unwrap_or_default(),
                entry.identity.as_ref().map(|identity| expiry(identity, now)).unwrap_or_default(),
                entry.workload.path.clone(),
            ]
        })
        .collect();
    table::write(out, ["CGROUP", "LABEL", "SESSIONS", "IDENTITY", "EXPIRES", "PATH"], &rows)?;
    writeln!(out, "\nTargets")?;
    let rows: Vec<_> = status
        .targets
        .iter()
        .map(|target| {
            let addresses = target.addresses.join(" ");
            [target.name.clone(), target.protocol.clone(), target.sessions.to_string(), addresses]
        })
        .collect();
    table::write(out, ["TARGET", "PROTOCOL", "SESSIONS", "ADDRESSES"], &rows)?;
    if !status.counters.is_empty() {
        writeln!(out, "\nSince the start")?;
        let rows: Vec<_> =
            status.counters.iter().map(|(name, count)| [name.clone(), count.to_string()]).collect();
        table::write(out, ["COUNTER", "TOTAL"], &rows)?;
    }
    Ok(())
}

/// When an identity expires, seen from `now`, both in seconds since 1970.
pub(super) fn expiry(identity: &IdentityView, now: u64) -> String {
    match identity.expires_at.checked_sub(now) {
        Some(left) if left > 0 => format!("in {}", span(left)),
        _ => format!("{} ago", span(now.saturating_sub(identity.expires_at))),
    }
}

/// The two largest units of a number of seconds.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use super::{span, write};
    use crate::{
        admin::{IdentityView, Status, TargetStatus, WorkloadStatus},
        domain::{flow::Workload, ids::CgroupId},
    };

    #[test]
    fn a_status_is_readable() {
        let identity = IdentityView {
            id: "https://ci|job-7".to_owned(),
            issuer: "ci".to_owned(),
            subject: "job-7".to_owned(),
            groups: Vec::new(),
            roles: Vec::new(),
            expires_at: 1_000,
        };
        let workload = |id, label: Option<&str>| Workload {
            cgroup: CgroupId(id),
            path: format!("/nodegate/run-{id}"),
            label: label.map(str::to_owned),
        };
        let status = Status {
            version: "0.1.0".to_owned(),
            pid: 7,
            started_at: 0,
            mode: "enforce".to_owned(),
            policy_epoch: 3,
            workloads: vec![
                WorkloadStatus {
                    workload: workload(41, Some("agent")),
                    identity: Some(identity),
                    sessions: 2,
                },
                WorkloadStatus { workload: workload(42, None), identity: None, sessions: 0 },
            ],
            targets: vec![TargetStatus {
                name: "orders-db".to_owned(),
                protocol: "postgres".to_owned(),
                addresses: vec!["127.0.0.1:5432".to_owned()],
                sessions: 2,
            }],
            counters: BTreeMap::from([("flows_total".to_owned(), 9)]),
        };
        let mut out = Vec::new();
        write(&mut out, &status, 700).unwrap();
        let expected = "\
nodegate 0.1.0 (pid 7), up 11m 40s, mode enforce, policy set 3

Workloads
CGROUP  LABEL  SESSIONS  IDENTITY          EXPIRES   PATH
41      agent  2         https://ci|job-7  in 5m 0s  /nodegate/run-41
42      -      0         -                 -         /nodegate/run-42

Targets
TARGET     PROTOCOL  SESSIONS  ADDRESSES
orders-db  postgres  2         127.0.0.1:5432

Since the start
COUNTER      TOTAL
flows_total  9
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn spans_show_their_two_largest_units() {
        assert_eq!(span(59), "59s");
        assert_eq!(span(3_599), "59m 59s");
        assert_eq!(span(7_260), "2h 1m");
        assert_eq!(span(90_000), "1d 1h");
    }
}
