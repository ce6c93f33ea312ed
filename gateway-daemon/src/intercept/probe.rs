//! What this kernel and this process's rights give capture, found out by trying: every hook is loaded, and attached to
//! a cgroup that is made for it. `nodegate doctor` prints the answer; the daemon does not enforce where a promise is
//! broken and nobody has accepted that by name.

mod hooks;
mod node;

use serde::Serialize;

use super::{diag, guard, kernel, moves, unix};
use crate::domain::promise::{EXISTING, PROMISES, Promise, promise};

/// What was looked at, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A name that stays, for people and programs.
    pub name: &'static str,
    /// Whether it is there.
    pub state: State,
    /// Whether capture can do without.
    pub need: Need,
    /// What was found, in a few words.
    pub found: String,
    /// What its absence costs.
    pub cost: &'static str,
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is.
    Kept,
    /// It is not.
    Missing,
}

/// Whether capture can do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// Without it nothing is captured.
    Required,
    /// One of [`PROMISES`]: without it a way out stays open. The configuration may accept that by name.
    Promise,
    /// Without it something is slower or shows less; nothing is open.
    Comfort,
}

impl Check {
    /// Something that capture cannot do without.
    fn required(name: &'static str, cost: &'static str, found: Result<String, String>) -> Self {
        Self::new(name, Need::Required, cost, found)
    }

    /// Something that capture can do without.
    fn comfort(name: &'static str, cost: &'static str, found: Result<String, String>) -> Self {
        Self::new(name, Need::Comfort, cost, found)
    }

    fn new(name: &'static str, need: Need, cost: &'static str, found: Result<String, String>) -> Self {
        let state = if found.is_ok() { State::Kept } else { State::Missing };
        let (Ok(found) | Err(found)) = found;
        Self { name, state, need, found, cost }
    }

    /// Whether it is missing, and that breaks a promise or all of capture.
    pub fn is_broken(&self) -> bool {
        self.state == State::Missing && self.need != Need::Comfort
    }
}

/// Looks at everything, the loading of nodegate's own programs included. Needs root to find anything good.
pub fn everything() -> Vec<Check> {
    let mut checks = node::checks();
    checks.extend(hooks::checks());
    let programs = kernel::try_programs().map_err(|error| error.to_string());
    let programs = programs.map(|count| format!("the verifier takes all {count} programs"));
    checks.push(Check::required("programs", "nothing is captured", programs));
    checks.extend(promises());
    checks
}

/// The promises alone, which is what a start has to know: the rest it finds out by starting.
pub fn promises() -> Vec<Check> {
    let guard = guard::try_out();
    PROMISES
        .iter()
        .map(|promise| Check::new(promise.name, Need::Promise, promise.cost, kept(promise, &guard)))
        .collect()
}

/// A promise that this node cannot keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub promise: &'static Promise,
    /// What was found instead.
    pub why: String,
}

/// The promises that are broken here and that nobody has `accepted`.
pub fn broken(accepted: &[&'static Promise]) -> Vec<Broken> {
    let broken = promises().into_iter().filter(Check::is_broken);
    broken
        .filter_map(|check| Some(Broken { promise: promise(check.name)?, why: check.found }))
        .filter(|broken| !accepted.contains(&broken.promise))
        .collect()
}

/// Capabilities without which no program is loaded and no network namespace is known again by a socket in it.
const VITAL: [&str; 2] = ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"];

/// Capabilities that this process lacks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lacking {
    /// Without these nothing is captured.
    pub vital: Vec<&'static str>,
    /// Without these some of what agents show is not seen, and they are refused.
    pub others: Vec<&'static str>,
}

/// The capabilities that this process lacks; none where that cannot be told.
pub fn lacking() -> Lacking {
    let missing = node::held_and_missing().map(|(_, missing)| missing).unwrap_or_default();
    let (vital, others) = missing.into_iter().partition(|name| VITAL.contains(name));
    Lacking { vital, others }
}

/// How a promise is kept, or why it is not. One that nobody here knows how to keep is broken.
fn kept(promise: &Promise, guard: &Result<String, String>) -> Result<String, String> {
    match promise.name {
        "af-packet" | "privileged-processes" | "received-sockets" | "socket-families" | "unix-aliases" => {
            guard.clone()
        }
        EXISTING => diag::try_out(),
        "moved-processes" => moves::try_out(),
        "unix-connect" => guard.clone().or_else(|_| unix::try_out()),
        _ => Err("nothing here keeps it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Need, PROMISES, broken, everything, promises};

    /// Needs root.
    #[test]
    fn every_hook_of_this_kernel_is_found_and_nothing_is_left_behind() {
        let checks = everything();
        let missing: Vec<_> =
            checks.iter().filter(|check| check.is_broken() && check.need == Need::Required).collect();
        assert!(missing.is_empty(), "{missing:?}");
        for name in
            ["connect4", "getpeername6", "sock-create", "sock-ops", "ring-buffer", "cgroup2", "programs"]
        {
            assert!(checks.iter().any(|check| check.name == name), "{name}");
        }
        let names: std::collections::HashSet<_> = checks.iter().map(|check| check.name).collect();
        assert_eq!(names.len(), checks.len(), "names are unique");

        assert_eq!(promises().len(), PROMISES.len());
        let all: Vec<_> = PROMISES.iter().collect();
        assert!(broken(&all).is_empty(), "what is accepted is not asked for");
        let missing = promises().iter().filter(|check| check.is_broken()).count();
        assert_eq!(broken(&[]).len(), missing, "what nobody accepted is asked for");

        let own = format!("nodegate-doctor-{}-", std::process::id());
        let mount = super::node::cgroup2_mount();
        let left = mount.and_then(|mount| std::fs::read_dir(mount).ok()).into_iter().flatten().flatten();
        let left: Vec<_> =
            left.filter(|entry| entry.file_name().to_string_lossy().starts_with(&own)).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
