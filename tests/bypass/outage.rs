//! What captured processes reach while the daemon is killed, stopped, or replaced by an impostor.

use std::{fs, process::Command, thread, time::Duration};

use nix::sys::signal::Signal;
use nodegate_tests::programs;

use crate::{
    Way,
    attempt::Verdict,
    ground::{Ground, Place},
};

/// The heading of the table's part.
pub const HEADING: &str = "daemon killed, stopped, replaced";

/// What is tried, in this order.
pub const NAMES: [&str; 4] = ["daemon_killed", "daemon_stopped", "daemon_back", "port_taken_over"];

/// Ways that stand for all others while the daemon is away.
const WAYS: [&str; 6] =
    ["tcp_v4", "tcp_v6", "fastopen_sendto", "uring_connect", "udp_sendto", "dns_to_any_server"];

/// How one of them ended.
pub struct Outage {
    /// Its name.
    pub name: &'static str,
    /// What was done.
    pub title: &'static str,
    /// What came of it.
    pub result: Result<String, String>,
}

/// Tries those that are asked for.
pub fn all(ground: &mut Ground, wanted: &[&str]) -> Vec<Outage> {
    let mut outages = Vec::new();
    for name in NAMES {
        if !wanted.contains(&name) {
            continue;
        }
        let (title, result) = match name {
            "daemon_killed" => ("the daemon is killed (SIGKILL)", killed(ground)),
            "daemon_stopped" => {
                ("the daemon is stopped (SIGSTOP), at once and when it is stale", stopped(ground))
            }
            "daemon_back" => ("a new daemon: captured as before", nothing_arrives(ground)),
            _ => ("a captured process takes the dead daemon's port", taken_over(ground)),
        };
        outages.push(Outage { name, title, result });
    }
    outages
}

/// Tries the ways in both places; how they ended, or which one arrived.
pub fn nothing_arrives(ground: &Ground) -> Result<String, String> {
    let mut ends = Vec::new();
    for way in WAYS {
        for place in Place::ALL {
            let attempt = ground.attempt(&Way::plain(way), place, Some(ground.cgroup()), "");
            match attempt.verdict() {
                Verdict::Open(how) => return Err(format!("{way} arrives ({place:?}): {how}")),
                Verdict::Trouble(what) => return Err(format!("{way} ({place:?}): {what}")),
                Verdict::Dropped => ends.push("sent to nobody".to_owned()),
                verdict => ends.push(verdict.to_string()),
            }
        }
    }
    ends.sort();
    ends.dedup();
    Ok(ends.join(", "))
}

fn killed(ground: &mut Ground) -> Result<String, String> {
    ground.daemon.kill();
    let result = nothing_arrives(ground);
    ground.daemon.restart();
    result
}

fn stopped(ground: &Ground) -> Result<String, String> {
    ground.daemon.signal(Signal::SIGSTOP);
    let fresh = Way::plain("tcp_v4");
    let at_once = ground.attempt(&fresh, Place::Host, Some(ground.cgroup()), "").verdict();
    // Its heartbeat is taken for dead after ten seconds.
    thread::sleep(Duration::from_secs(11));
    let stale = nothing_arrives(ground);
    ground.daemon.signal(Signal::SIGCONT);
    match at_once {
        Verdict::Open(how) => Err(format!("at once: {how}")),
        _ => stale,
    }
}

/// While a dead daemon's heartbeat is fresh, its listener's port is still published: whoever binds it must not get
/// what others send.
fn taken_over(ground: &mut Ground) -> Result<String, String> {
    let port = ground.listener_port();
    ground.daemon.kill();
    let impostor = ground.impostor(port);
    let victim = ground.attempt(&Way::plain("tcp_v4"), Place::Pod, Some(ground.cgroup()), "");
    let stolen = impostor.since(0).into_iter().find(|line| line.contains(&victim.token));
    drop(impostor);
    ground.daemon.restart();
    match stolen {
        Some(line) => Err(format!("another captured process gets it: {line}")),
        None => Ok(victim.verdict().to_string()),
    }
}

impl Ground {
    /// The port of the daemon's listener in the other namespace.
    pub fn listener_port(&self) -> u16 {
        let fds = fs::read_dir(format!("/proc/{}/fd", self.daemon.pid())).expect("the daemon's descriptors");
        let sockets: Vec<String> = fds
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect();
        let port = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            let is_its = *state == "0A" && sockets.iter().any(|socket| socket == inode);
            u16::from_str_radix(local.rsplit(':').next().filter(|_| is_its)?, 16).ok()
        };
        self.listening().lines().find_map(port).expect("the daemon's listener")
    }

    /// The kernel's tables of TCP sockets in the other namespace.
    fn listening(&self) -> String {
        let table = |name: &str| fs::read_to_string(format!("/proc/{}/net/{name}", self.resident()));
        table("tcp").unwrap_or_default() + &table("tcp6").unwrap_or_default()
    }

    /// Targets on that port, run by a captured process in the other namespace.
    fn impostor(&self, port: u16) -> crate::targets::Targets {
        let mut command: Command = self.captured_in_pod();
        command.arg("serve").arg(port.to_string());
        programs::wait_for("the port to be free", Duration::from_secs(5), || {
            (!self.listens(port)).then_some(())
        });
        crate::targets::Targets::run(command)
    }

    fn listens(&self, port: u16) -> bool {
        let place = format!(":{port:04X}");
        self.listening().lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.get(1).is_some_and(|local| local.ends_with(&place)) && fields.get(3) == Some(&"0A")
        })
    }
}
