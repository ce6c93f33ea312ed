//! A process and the sockets that it has open, as far as they can lead anywhere. It knows nothing of what is captured.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs, io,
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{SockaddrStorage, getpeername},
};

use super::sys::{
    self,
    process::{Which, duplicate, open, option, share_descriptors},
};

/// Protocols by number.
pub(super) const TCP: i32 = 6;
pub(super) const UDP: i32 = 17;
pub(super) const UDP_LITE: i32 = 136;
pub(super) const MPTCP: i32 = 262;

/// The attribute by which a socket's file tells the kind of the socket.
const KIND: &str = "system.sockprotoname";
/// The kinds that most processes have and that lead nowhere outside of the node.
const LOCAL: [&str; 4] = ["UNIX", "UNIX-STREAM", "NETLINK", "ALG"];

/// A process; its number may be given to another, this may not.
#[derive(Debug)]
pub(super) struct Process {
    pub pid: u32,
    handle: OwnedFd,
}

/// A socket that a process has open and that may lead out.
#[derive(Debug)]
pub(super) struct Open {
    /// What all descriptors for it have in common.
    pub inode: u64,
    /// It is gone as soon as the process runs another program.
    pub closes_on_exec: bool,
    pub leads: Leads,
}

/// Where a socket leads.
#[derive(Debug)]
pub(super) enum Leads {
    /// To where it is connected: unconnected it is refused when it is used. It can be ended.
    AlongAPath(Connected),
    /// To wherever its owner likes, without any hook that sees it.
    Anywhere { family: i32, protocol: i32 },
    /// Nobody can look at it.
    Unknown,
}

/// A TCP or UDP socket, or one of their relatives.
#[derive(Debug)]
pub(super) struct Connected {
    pub socket: OwnedFd,
    pub family: i32,
    pub protocol: i32,
}

impl Process {
    /// The process of that number; `None` when it is gone.
    pub fn open(pid: u32) -> Option<Self> {
        Some(Self { pid, handle: open(pid, Which::Process).ok()? })
    }

    /// Whether it started at that time, CLOCK_BOOTTIME in nanoseconds.
    pub fn started_at(&self, boot_ns: u64) -> bool {
        /// What `/proc` counts in, on every kernel: hundredths of a second.
        const TICK_NS: u64 = 10_000_000;
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        // The name, in parentheses, may hold anything.
        let fields = text.rsplit_once(") ").map(|(_, fields)| fields);
        let started = fields.and_then(|fields| fields.split(' ').nth(19)?.parse::<u64>().ok());
        started == Some(boot_ns / TICK_NS)
    }

    /// Its name, for display only.
    pub fn name(&self) -> String {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        name.trim_end().to_owned()
    }

    /// The user it belongs to, in the daemon's user namespace.
    pub fn user(&self) -> u32 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let mut lines = status.lines();
        let ids = lines.find_map(|line| line.strip_prefix("Uid:"));
        ids.and_then(|ids| ids.split_whitespace().next()?.parse().ok()).unwrap_or_default()
    }

    /// Ends it, and waits a little until it has let go of what it had.
    pub fn kill(&self, patience: Duration) -> io::Result<()> {
        match sys::process::kill(&self.handle, self.user()) {
            // It has ended by itself.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
            done => done?,
        }
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
        poll(&mut [PollFd::new(self.handle.as_fd(), PollFlags::POLLIN)], patience)?;
        Ok(())
    }

    /// Every socket that may lead out, once. What is closed meanwhile is left out, and so is a process that is gone.
    pub fn sockets(&self) -> io::Result<Vec<Open>> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        for thread in self.tables() {
            // A thread may have descriptors of its own.
            let other = (thread != self.pid).then(|| open(thread, Which::Thread));
            let holder = match &other {
                None => Some(&self.handle),
                Some(other) => other.as_ref().ok(),
            };
            let folder = PathBuf::from(format!("/proc/{}/task/{thread}", self.pid));
            let entries = match fs::read_dir(folder.join("fd")) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
                Err(_) => continue,
            };
            for entry in entries {
                let Ok(entry) = entry else { continue };
                let path = entry.path();
                let Some(inode) = socket_inode(&path).filter(|inode| !seen.contains(inode)) else { continue };
                if !is_local(&path)
                    && let Some(leads) = leads(holder, &path)
                {
                    let closes_on_exec = closes_on_exec(&folder, &path);
                    found.push(Open { inode, closes_on_exec, leads });
                }
                seen.insert(inode);
            }
        }
        Ok(found)
    }

    /// A thread for each table of descriptors; nearly every process has one. The first thread, whose number is the
    /// process's, goes before others: for it no kernel is too old.
    fn tables(&self) -> Vec<u32> {
        let entries = fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten();
        let threads = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let mut threads: Vec<u32> = threads.collect();
        threads.sort_unstable_by_key(|thread| *thread != self.pid);
        let mut tables: Vec<u32> = Vec::new();
        for thread in threads {
            if !tables.iter().any(|known| share_descriptors(*known, thread)) {
                tables.push(thread);
            }
        }
        tables
    }
}

impl Connected {
    /// Whether something can be sent on it without a destination; a TCP socket is in one of these states then, each a
    /// bit.
    pub fn may_send(&self, states: u32) -> bool {
        if self.protocol != TCP {
            return self.peer().is_some();
        }
        // One that is being connected has no peer yet.
        sys::tcp_state(&self.socket).map_or(true, |state| states & 1 << state != 0)
    }

    /// Where it is connected to.
    pub fn peer(&self) -> Option<SocketAddr> {
        let peer = getpeername::<SockaddrStorage>(self.socket.as_raw_fd()).ok()?;
        let v4 = peer.as_sockaddr_in().map(|address| SocketAddrV4::from(*address).into());
        v4.or_else(|| peer.as_sockaddr_in6().map(|address| SocketAddrV6::from(*address).into()))
    }
}

/// The number by which a socket is known, if that is one.
fn socket_inode(descriptor: &Path) -> Option<u64> {
    let target = fs::read_link(descriptor).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn is_local(descriptor: &Path) -> bool {
    let kind = sys::attribute(descriptor, OsStr::new(KIND)).ok().flatten().unwrap_or_default();
    let kind = String::from_utf8_lossy(&kind);
    LOCAL.contains(&kind.trim_end_matches('\0'))
}

fn closes_on_exec(folder: &Path, descriptor: &Path) -> bool {
    let name = descriptor.file_name().unwrap_or_default();
    let text = fs::read_to_string(folder.join("fdinfo").join(name)).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & libc::O_CLOEXEC != 0)
}

/// Where it leads; `None` where that is nowhere, or it is closed by now.
fn leads(holder: Option<&OwnedFd>, descriptor: &Path) -> Option<Leads> {
    let number: RawFd = descriptor.file_name()?.to_str()?.parse().ok()?;
    let Some(holder) = holder else { return Some(Leads::Unknown) };
    let socket = match duplicate(holder, number) {
        Ok(socket) => socket,
        Err(error) if matches!(error.raw_os_error(), Some(libc::EBADF | libc::ESRCH)) => return None,
        Err(_) => return Some(Leads::Unknown),
    };
    let asked = [libc::SO_DOMAIN, libc::SO_TYPE, libc::SO_PROTOCOL, libc::SO_ACCEPTCONN];
    let [Ok(family), Ok(kind), Ok(protocol), Ok(listens)] = asked.map(|name| option(&socket, name)) else {
        // The descriptor was given to something else in between.
        return None;
    };
    let along = |socket| Some(Leads::AlongAPath(Connected { socket, family, protocol }));
    match (family, kind, protocol) {
        (libc::AF_UNIX | libc::AF_NETLINK | libc::AF_ALG, ..) => None,
        // What listens leads nowhere by itself, and to be connected it has to call where the hooks are.
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM, TCP | MPTCP) | (libc::AF_VSOCK, ..)
            if listens != 0 =>
        {
            None
        }
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM, TCP | MPTCP)
        | (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM, UDP | UDP_LITE) => along(socket),
        _ => Some(Leads::Anywhere { family, protocol }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use std::{
        net::{TcpListener, TcpStream, UdpSocket},
        os::unix::net::UnixStream,
        path::Path,
        process::{Command, Stdio},
        time::Duration,
    };

    use super::{Leads, Process};

    /// Needs root.
    #[test]
    fn the_sockets_of_a_process_are_found_but_for_those_that_lead_nowhere() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (pair, _other) = UnixStream::pair().unwrap();
        let inode = |file: &dyn std::os::fd::AsRawFd| {
            super::socket_inode(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd()))).unwrap()
        };
        let own = Process::open(std::process::id()).unwrap();
        let sockets = own.sockets().unwrap();
        let find = |wanted: u64| sockets.iter().find(|open| open.inode == wanted);
        let connected = find(inode(&stream)).unwrap();
        assert!(connected.closes_on_exec, "as everything that std opens");
        assert!(matches!(&connected.leads, Leads::AlongAPath(found) if found.peer().is_some()));
        let unconnected = find(inode(&datagrams)).unwrap();
        assert!(matches!(&unconnected.leads, Leads::AlongAPath(found) if found.peer().is_none()));
        assert!(find(inode(&listener)).is_none(), "it listens");
        assert!(find(inode(&pair)).is_none(), "it leads nowhere");
    }

    /// Needs root.
    #[test]
    fn a_thread_that_has_descriptors_of_its_own_hides_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let apart = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES).unwrap();
            let stream = TcpStream::connect(address).unwrap();
            let own = format!("/proc/thread-self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&stream));
            tell.send(super::socket_inode(Path::new(&own)).unwrap()).unwrap();
            let _ = ended.recv();
        });
        let inode = told.recv().unwrap();
        let sockets = Process::open(std::process::id()).unwrap().sockets().unwrap();
        drop(end);
        apart.join().unwrap();
        let found = sockets.iter().find(|open| open.inode == inode).unwrap();
        // Before Linux 6.9 nobody can look at it.
        assert!(matches!(&found.leads, Leads::AlongAPath(_) | Leads::Unknown), "{found:?}");
    }

    /// Needs root.
    #[test]
    fn a_process_is_known_by_its_start_and_ended() {
        let mut child = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
        let process = Process::open(child.id()).unwrap();
        // It may not run its program yet.
        while process.name() != "sleep" {
            std::thread::sleep(Duration::from_millis(1));
        }
        let text = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let ticks: u64 = text.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
        assert!(process.started_at(ticks * 10_000_000 + 77));
        assert!(!process.started_at((ticks + 1) * 10_000_000));
        process.kill(Duration::from_secs(5)).unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(Process::open(child.id()).is_none());
    }
}
