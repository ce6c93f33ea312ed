//! Who is at the other end of a Unix socket, as the kernel says it; and what else `/proc` says of a process without
//! its number being taken for another's in the meantime.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{getsockopt, sockopt},
        stat::Mode,
    },
};

/// The files of `/proc` that are read here are far smaller.
const MAX_PROC_FILE_BYTES: u64 = 64 << 10;

/// The process that connected.
#[derive(Debug)]
pub struct Peer {
    /// Its process id when it connected, in the daemon's pid namespace.
    pub pid: u32,
    /// Its effective user id when it connected.
    pub uid: u32,
    handle: Handle,
}

/// Holds on to one process: its number may be given to another, this may not.
#[derive(Debug)]
enum Handle {
    /// From the socket itself (Linux 6.5): the process that connected, without doubt.
    PidFd(OwnedFd),
    /// Opened by number afterwards, on older kernels; its user was compared.
    Directory(Process),
}

impl Peer {
    /// Asks the kernel who connected `socket`.
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        let credentials = getsockopt(socket, sockopt::PeerCredentials)?;
        let pid = u32::try_from(credentials.pid())
            .ok()
            .filter(|pid| *pid > 0)
            .ok_or_else(|| io::Error::other("the caller is in a pid namespace that the daemon cannot see"))?;
        let uid = credentials.uid();
        let handle = match getsockopt(socket, sockopt::PeerPidfd) {
            Ok(pidfd) => Handle::PidFd(pidfd),
            Err(Errno::ENOPROTOOPT | Errno::EOPNOTSUPP) => {
                let process = Process::open(pid)?;
                if process.facts()?.uids.iter().all(|other| *other != uid) {
                    return Err(gone());
                }
                Handle::Directory(process)
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self { pid, uid, handle })
    }

    /// Fails once the process has ended: whatever was looked up by its number since then may be another's.
    pub fn ensure_alive(&self) -> io::Result<()> {
        match &self.handle {
            Handle::PidFd(pidfd) => {
                let mut ready = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
                match poll(&mut ready, PollTimeout::ZERO)? {
                    0 => Ok(()),
                    _ => Err(gone()),
                }
            }
            Handle::Directory(process) => process.facts().map(drop),
        }
    }
}

/// An open `/proc/<pid>` directory. Reading through it fails when the process is gone, even if its number is in use
/// again.
#[derive(Debug)]
pub(super) struct Process {
    directory: File,
}

/// What `/proc/<pid>/status` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// The parent's process id.
    pub(super) parent: u32,
    /// Real, effective, saved and file-system user id.
    pub(super) uids: [u32; 4],
}

impl Process {
    pub(super) fn open(pid: u32) -> io::Result<Self> {
        Ok(Self { directory: File::open(format!("/proc/{pid}"))? })
    }

    pub(super) fn facts(&self) -> io::Result<Facts> {
        parse_status(&self.read("status")?)
            .ok_or_else(|| io::Error::other("/proc/<pid>/status is not as expected"))
    }

    /// The process's cgroup on the cgroup2 hierarchy, below its mount, without a leading slash.
    pub(super) fn cgroup(&self) -> io::Result<PathBuf> {
        self.read("cgroup")?
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .map(PathBuf::from)
            .ok_or_else(|| io::Error::other("the process is in no cgroup of the cgroup2 hierarchy"))
    }

    fn read(&self, name: &str) -> io::Result<String> {
        let file = openat(&self.directory, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let mut text = String::new();
        File::from(file).take(MAX_PROC_FILE_BYTES).read_to_string(&mut text)?;
        Ok(text)
    }
}

fn parse_status(status: &str) -> Option<Facts> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let parent = field("PPid")?.trim().parse().ok()?;
    let uids: Vec<u32> = field("Uid")?.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    Some(Facts { parent, uids: uids.try_into().ok()? })
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the process that asked is gone")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::{os::unix::net::UnixStream, process::Command};

    use super::{Facts, Peer, Process, parse_status};

    #[test]
    fn a_socket_tells_its_peer() {
        let (left, _right) = UnixStream::pair().unwrap();
        let peer = Peer::of(&left).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
        peer.ensure_alive().unwrap();
    }

    #[test]
    fn a_process_that_is_gone_stays_gone() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open(child.id()).unwrap();
        assert_eq!(process.facts().unwrap().parent, std::process::id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(process.facts().is_err());
    }

    #[test]
    fn a_status_without_its_fields_is_not_guessed() {
        let status = "Name:\tPPid:\nPPid:\t7\nUid:\t1\t2\t3\t4\n";
        assert_eq!(parse_status(status), Some(Facts { parent: 7, uids: [1, 2, 3, 4] }));
        assert_eq!(parse_status("PPid:\t7\nUid:\t1\t2\t3\n"), None);
        assert_eq!(parse_status("Uid:\t1\t2\t3\t4\n"), None);
    }
}
