//! What capture promises on every kernel, by names that stay: `nodegate doctor` prints them, and `capture.accept` of the
//! configuration takes them. One that a kernel cannot keep costs what its row says.

/// A promise that some kernels cannot keep, and that an operator may do without, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// Its name, in `doctor` and in `capture.accept`.
    pub name: &'static str,
    /// What stays open without it.
    pub cost: &'static str,
}

/// The name of the one that asks for nothing where `capture.existing` is `report`.
pub const EXISTING: &str = "existing-connections";

/// All of them.
pub const PROMISES: &[Promise] = &[
    Promise {
        name: "af-packet",
        cost: "a captured process that holds CAP_NET_RAW can send and read whole frames past every hook, and with them \
               what the daemon itself sends without TLS from the same network namespace: drop that capability from \
               captured workloads",
    },
    Promise {
        name: EXISTING,
        cost: "a cgroup that is captured while it runs keeps the connections that it has, which are reported and not \
               ended: start agents in their cgroup, or say `capture: { existing: report }`",
    },
    Promise {
        name: "moved-processes",
        cost: "a process that moves into a captured cgroup, or is made in one from outside, brings the connections that \
               it has, and raw, packet and SCTP sockets; a cgroup that is captured later keeps such sockets, but no \
               connection: start agents in their cgroup, as `nodegate run` and container runtimes do",
    },
    Promise {
        name: "privileged-processes",
        cost: "a captured process that holds CAP_NET_ADMIN or CAP_BPF can send what is meant for the daemon elsewhere, \
               one that may write to the cgroup file system can leave its cgroup, and one that runs as the same user as \
               a process outside can use that one: drop capabilities from captured workloads, and run nothing else as \
               their user",
    },
    Promise {
        name: "received-sockets",
        cost: "a process outside of capture can pass a captured one a connection that it made: run nothing beside a \
               captured workload that would",
    },
    Promise {
        name: "socket-families",
        cost: "sockets outside the internet families (vsock, netlink, Bluetooth, XDP…) are not seen when they are \
               made: refuse them by the workload's seccomp profile",
    },
    Promise {
        name: "unix-aliases",
        cost: "a captured process that can make a symbolic link or a mount reaches a control socket under another \
               name, and every Unix socket that is no control socket under its own: mount none into captured \
               workloads",
    },
    Promise {
        name: "unix-connect",
        cost: "a captured process reaches every Unix socket that file permissions let it reach, such as a container \
               runtime's: mount none into captured workloads",
    },
];

/// The promise of that name.
pub fn promise(name: &str) -> Option<&'static Promise> {
    PROMISES.iter().find(|promise| promise.name == name)
}

#[cfg(test)]
mod tests {
    use super::{PROMISES, promise};

    #[test]
    fn names_are_unique_and_found() {
        for known in PROMISES {
            assert_eq!(PROMISES.iter().filter(|other| other.name == known.name).count(), 1);
            assert_eq!(promise(known.name), Some(known));
        }
        assert_eq!(promise("af_packet"), None);
    }
}
