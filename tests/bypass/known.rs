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
    hole("passed_connected", "a connection of a process outside that is passed in is not seen"),
    hole("passed_udp_connected", "a connection of a process outside that is passed in is not seen"),
    hole("unix_docker", "Unix sockets are not looked at yet"),
    hole("unix_docker_run", "Unix sockets are not looked at yet"),
    hole("unix_containerd", "Unix sockets are not looked at yet"),
    hole("unix_crio", "Unix sockets are not looked at yet"),
    hole("unix_podman", "Unix sockets are not looked at yet"),
    hole("unix_kubelet", "Unix sockets are not looked at yet"),
    hole("unix_dbus", "Unix sockets are not looked at yet"),
    hole("unix_nscd", "Unix sockets are not looked at yet"),
    hole("unix_resolved", "Unix sockets are not looked at yet"),
    hole("unix_ssh_agent", "Unix sockets are not looked at yet"),
    hole("unix_docker_relative", "Unix sockets are not looked at yet"),
    hole("unix_docker_dots", "Unix sockets are not looked at yet"),
    hole("unix_docker_proc", "Unix sockets are not looked at yet"),
    hole("unix_docker_link", "Unix sockets are not looked at yet"),
    hole("unix_docker_descriptor", "Unix sockets are not looked at yet"),
    hole("unix_docker_elsewhere", "Unix sockets are not looked at yet"),
    hole("unix_docker_nonblocking", "Unix sockets are not looked at yet"),
    hole("unix_abstract", "Unix sockets are not looked at yet"),
    // What does not keep working.
    hole("own_name", "getsockname() shows the loopback address that leads to the daemon"),
    hole("silent_client", "the daemon waits for a client's first words before it refuses an unknown target"),
    hole("probe_closed", "the daemon accepts before anybody knows whether the target does"),
    hole("own_server", "loopback is captured like everything else"),
    hole("own_datagrams", "loopback is refused like everything else"),
];

const fn promised(way: &'static str, promise: &'static str, why: &'static str) -> Known {
    Known { way, promise: Some(promise), until: None, why }
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
