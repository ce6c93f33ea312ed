//! Ways that are open, each with its reason: a hole that is not closed yet, or a promise that `nodegate doctor` says
//! this kernel cannot keep. A way that gets closed must leave the list: the suite fails until it does.

/// An open way.
#[derive(Debug)]
pub struct Known {
    /// Its name.
    pub way: &'static str,
    /// The promise under which `nodegate doctor` names it.
    pub promise: Option<&'static str>,
    /// Why it is open.
    pub why: &'static str,
}

/// All of them.
const KNOWN: &[Known] = &[
    // Promises that a kernel cannot keep.
    promised("vsock", "socket-families", "no cgroup hook sees vsock sockets"),
    promised("vsock_made", "socket-families", "no cgroup hook sees vsock sockets"),
    promised("tipc", "socket-families", "no cgroup hook sees TIPC sockets"),
    promised("other_families", "socket-families", "the hook at socket() sees the internet families alone"),
    moved("packet_before"),
    moved("opened_before"),
    moved("udp_connected_before"),
    moved("raw_made_before"),
    moved("sctp_made_before"),
    moved("inherited_connection"),
    moved("cloned_into"),
    moved("opened_before_kept"),
    moved("raw_handed_on"),
    promised("passed_connected", "received-sockets", "no cgroup hook sees what arrives in a message"),
    promised("passed_udp_connected", "received-sockets", "no cgroup hook sees what arrives in a message"),
    promised("passed_list", "privileged-processes", "no cgroup hook sees what arrives in a message"),
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
    promised(
        "unix_abstract",
        "unix-aliases",
        "by the caller's name alone nobody can tell a server outside from one of the workload's own",
    ),
    promised("captured_late", "existing-connections", "the kernel does not end connections"),
    promised("captured_late_udp", "existing-connections", "the kernel does not end connections"),
    // What does not keep working; `docs/configuration.md` says so.
    hole("own_name", "getsockname() shows the loopback address that leads to the daemon"),
    hole("probe_closed", "the daemon accepts before anybody knows whether the target does"),
    hole("own_server", "loopback is captured like everything else"),
    hole("own_datagrams", "loopback is refused like everything else"),
];

const fn promised(way: &'static str, promise: &'static str, why: &'static str) -> Known {
    Known { way, promise: Some(promise), why }
}

/// What a process that moves in brings with it.
const fn moved(way: &'static str) -> Known {
    promised(way, "moved-processes", "nobody looks at what a process that moves in has open")
}

const fn no_unix_hook(way: &'static str) -> Known {
    promised(way, "unix-connect", "no hook sees the connect() of Unix sockets")
}

const fn hole(way: &'static str, why: &'static str) -> Known {
    Known { way, promise: None, why }
}

/// The entry of a way. One under a promise counts where that promise is broken; where it is kept, the way is closed.
pub fn of(way: &str, broken: &[String]) -> Option<&'static Known> {
    let counts = |known: &&Known| {
        known.way == way && known.promise.is_none_or(|promise| broken.iter().any(|name| name == promise))
    };
    KNOWN.iter().find(counts)
}
