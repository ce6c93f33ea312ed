//! Ways that are open, each with its reason: a hole that is not closed yet, or a promise that `nodegate doctor` says
//! this kernel cannot keep. A way that gets closed must leave the list: the suite fails until it does.

use std::fs;

/// An open way.
#[derive(Debug)]
pub struct Known {
    /// Its name.
    pub way: &'static str,
    /// The promise under which `nodegate doctor` names it.
    pub promise: Option<&'static str>,
    /// The kernel that closed it, if one has.
    pub until: Option<(u32, u32)>,
    /// Why it is open.
    pub why: &'static str,
}

/// All of them.
const KNOWN: &[Known] = &[
    // Promises that this kernel cannot keep.
    promised("vsock_made", "socket-families", "no cgroup hook sees vsock sockets"),
    promised("packet_before", "af-packet", "no cgroup hook sees packet sockets"),
    // Holes.
    hole("opened_before", "connections from before are left alone"),
    hole("udp_connected_before", "connections from before are left alone"),
    hole("raw_made_before", "raw sockets from before are left alone"),
    hole("inherited_connection", "connections of processes outside are left alone"),
    promised("passed_connected", "received-sockets", "no cgroup hook sees what arrives in a message"),
    promised("passed_udp_connected", "received-sockets", "no cgroup hook sees what arrives in a message"),
    no_unix_hook("unix_docker"),
    no_unix_hook("unix_docker_run"),
    no_unix_hook("unix_containerd"),
    no_unix_hook("unix_crio"),
    no_unix_hook("unix_podman"),
    no_unix_hook("unix_kubelet"),
    no_unix_hook("unix_dbus"),
    no_unix_hook("unix_nscd"),
    no_unix_hook("unix_resolved"),
    no_unix_hook("unix_ssh_agent"),
    no_unix_hook("unix_docker_relative"),
    no_unix_hook("unix_docker_dots"),
    no_unix_hook("unix_docker_proc"),
    promised("unix_docker_link", "unix-aliases", "the hook sees the name that the caller gives"),
    promised("unix_docker_descriptor", "unix-aliases", "the hook sees the name that the caller gives"),
    promised("unix_docker_elsewhere", "unix-aliases", "the hook sees the name that the caller gives"),
    no_unix_hook("unix_docker_nonblocking"),
    hole("unix_abstract", "only control sockets, and those of capture.deny_unix, are refused"),
    // What does not keep working.
    hole("own_name", "getsockname() shows the loopback address that leads to the daemon"),
    hole("probe_closed", "the daemon accepts before anybody knows whether the target does"),
    hole("own_server", "loopback is captured like everything else"),
    hole("own_datagrams", "loopback is refused like everything else"),
];

const fn promised(way: &'static str, promise: &'static str, why: &'static str) -> Known {
    Known { way, promise: Some(promise), until: None, why }
}

/// Open before Linux 6.7.
const fn no_unix_hook(way: &'static str) -> Known {
    let why = "no hook sees the connect() of Unix sockets";
    Known { way, promise: Some("unix-connect"), until: Some((6, 7)), why }
}

const fn hole(way: &'static str, why: &'static str) -> Known {
    Known { way, promise: None, until: None, why }
}

/// The entry of a way, where it counts on this kernel.
pub fn of(way: &str) -> Option<&'static Known> {
    let counts = |known: &&Known| known.way == way && known.until.is_none_or(|closed| kernel() < closed);
    KNOWN.iter().find(counts)
}

fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
