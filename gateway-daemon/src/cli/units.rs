//! The cgroup of a systemd unit, as systemd itself says it.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use super::CommandError;

/// What a name without one means, as for systemctl(1).
const DEFAULT_KIND: &str = ".service";
const KINDS: [&str; 5] = [".service", ".scope", ".slice", ".socket", ".mount"];

/// The path below the cgroup2 mount of an active unit.
///
/// # Errors
/// systemd is not there, does not know the unit, or the unit has no processes.
pub(super) fn cgroup_of(unit: &str) -> Result<PathBuf, CommandError> {
    let named = KINDS.iter().any(|kind| unit.ends_with(kind));
    let unit = if named { unit.to_owned() } else { format!("{unit}{DEFAULT_KIND}") };
    let refused = |why: String| CommandError::Refused(format!("unit {unit}: {why}"));
    let output = Command::new("systemctl")
        .args(["show", "--property=ControlGroup", "--value", "--", &unit])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            refused(format!("systemctl cannot be started ({error}); name the cgroup's path instead"))
        })?;
    if !output.status.success() {
        return Err(refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    match String::from_utf8_lossy(&output.stdout).trim() {
        "" | "/" => Err(refused("it is not active, so it has no cgroup; start it first".to_owned())),
        path => Ok(PathBuf::from(path.trim_start_matches('/'))),
    }
}
