//! The process that connected, held by a descriptor of its directory in /proc. Such a descriptor stays with the
//! process that it was opened for: when its pid becomes another's, reads through it fail instead of reading the
//! other. What is left to prove is that the pid had not changed hands between `connect()` and the opening; the start
//! time proves that (proc_pid_stat(5), field 22). It counts in ticks of 10 ms, rounded down, so a successor born in
//! the very tick of the `connect()` would pass; the kernel hands out all other pids before it reuses one.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2},
    sys::{
        stat::{Mode, SFlag, fstat},
        statfs::{PROC_SUPER_MAGIC, fstatfs},
    },
    unistd::{Gid, Uid, geteuid, setfsgid, setfsuid},
};

/// USER_HZ is 100 in the ABI of every architecture that this runs on.
const TICK_NS: u64 = 10_000_000;

/// execve(2) limits arguments and environment together to three quarters of the 8 MiB default stack.
const LARGEST_ENVIRONMENT_BYTES: u64 = 6 * 1024 * 1024;

/// A live process, the same that the kernel recorded.
#[derive(Debug)]
pub(super) struct Process {
    dir: OwnedFd,
    start_ticks: u64,
}

/// Why nothing was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    /// The process ended or is another one.
    Gone,
    /// There is no such file or variable.
    Absent,
    /// There is something that must not or cannot be read.
    Unreadable(String),
}

impl Process {
    /// Takes hold of `pid`, unless it started after `connected_at_boot_ns` and is thus another process.
    pub(super) fn open(pid: u32, connected_at_boot_ns: u64) -> Result<Self, ReadError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = nix::fcntl::open(Path::new(&format!("/proc/{pid}")), flags, Mode::empty())
            .map_err(|_| ReadError::Gone)?;
        let start_ticks = start_ticks(&dir).ok_or(ReadError::Gone)?;
        if start_ticks.saturating_mul(TICK_NS) > connected_at_boot_ns {
            return Err(ReadError::Gone);
        }
        Ok(Self { dir, start_ticks })
    }

    /// Fails when the process has ended since it was opened. Asked after every read: what was read before is then
    /// known to have been the live process's.
    fn still(&self) -> Result<(), ReadError> {
        if start_ticks(&self.dir) == Some(self.start_ticks) { Ok(()) } else { Err(ReadError::Gone) }
    }

    /// A variable of the environment that the process was started with; the first of that name, as getenv(3) reads.
    pub(super) fn variable(&self, name: &str) -> Result<Vec<u8>, ReadError> {
        let environment = read_at(&self.dir, "environ", LARGEST_ENVIRONMENT_BYTES);
        self.still()?;
        let environment = environment.map_err(|error| ReadError::Unreadable(error.to_string()))?;
        environment
            .split(|byte| *byte == 0)
            .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
            .map(<[u8]>::to_vec)
            .ok_or(ReadError::Absent)
    }

    /// A regular file by its path inside the process's root and mount namespace, of at most `longest_bytes`.
    /// Symbolic links cannot lead out of that root, nor through /proc's magic links. The file is opened with the
    /// process's own user and groups, so that an agent cannot make the daemon read what it could not read itself.
    ///
    /// Changes the calling thread's credentials for good: call it on a thread that ends afterwards.
    pub(super) fn file(&self, path: &Path, longest_bytes: u64) -> Result<Vec<u8>, ReadError> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let content = openat(&self.dir, "root", flags | OFlag::O_DIRECTORY, Mode::empty())
            .map_err(|error| match error {
                Errno::ENOENT | Errno::ESRCH => ReadError::Gone,
                _ => ReadError::Unreadable("the daemon may not look into the process's root".to_owned()),
            })
            .and_then(|root| {
                assume(&Credentials::of(&self.dir)?)?;
                let how = OpenHow::new()
                    .flags(flags)
                    .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
                let found = openat2(&root, path, how).map_err(read_error)?;
                read_regular(&found, longest_bytes)
            });
        self.still()?;
        content
    }
}

/// Looks before it opens: opening a device, a pipe or a file of /proc has effects or waits.
fn read_regular(found: &OwnedFd, longest_bytes: u64) -> Result<Vec<u8>, ReadError> {
    let unreadable = |problem: &str| Err(ReadError::Unreadable(problem.to_owned()));
    let stat = fstat(found).map_err(read_error)?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return unreadable("it is not a regular file");
    }
    if fstatfs(found).map_err(read_error)?.filesystem_type() == PROC_SUPER_MAGIC {
        return unreadable("it lies in /proc");
    }
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let descriptor = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(found));
    let opened = nix::fcntl::open(Path::new(&descriptor), flags, Mode::empty()).map_err(read_error)?;
    let mut content = Vec::new();
    File::from(opened)
        .take(longest_bytes + 1)
        .read_to_end(&mut content)
        .map_err(|error| ReadError::Unreadable(error.to_string()))?;
    if content.len() as u64 > longest_bytes {
        return unreadable("it is longer than any token");
    }
    Ok(content)
}

fn read_error(error: Errno) -> ReadError {
    match error {
        Errno::ENOENT | Errno::ENOTDIR => ReadError::Absent,
        Errno::EXDEV | Errno::ELOOP => {
            ReadError::Unreadable("its path leads through links that are not followed".to_owned())
        }
        error => ReadError::Unreadable(error.desc().to_owned()),
    }
}

/// A file of the process's directory, whole.
fn read_at(dir: &OwnedFd, name: &str, longest_bytes: u64) -> io::Result<Vec<u8>> {
    let file = openat(dir.as_fd(), name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut content = Vec::new();
    File::from(file).take(longest_bytes + 1).read_to_end(&mut content)?;
    if content.len() as u64 > longest_bytes {
        return Err(io::Error::other("it is too large"));
    }
    Ok(content)
}

/// When the process started, unless it has ended (a zombie has).
fn start_ticks(dir: &OwnedFd) -> Option<u64> {
    parse_stat(&String::from_utf8_lossy(&read_at(dir, "stat", 4096).ok()?))
}

/// Field 22, counted from behind the command name, which may hold spaces and parentheses. `None` for a zombie.
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") { None } else { fields.nth(18)?.parse().ok() }
}

/// Whom the kernel takes the process for when it opens a file.
#[derive(Debug, PartialEq, Eq)]
struct Credentials {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Credentials {
    fn of(dir: &OwnedFd) -> Result<Self, ReadError> {
        let status = read_at(dir, "status", 1024 * 1024).map_err(|_| ReadError::Gone)?;
        Self::parse(&String::from_utf8_lossy(&status)).ok_or(ReadError::Gone)
    }

    /// From `/proc/<pid>/status`, whose `Uid` and `Gid` lines show real, effective, saved and file system ids.
    fn parse(status: &str) -> Option<Self> {
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let file_system = |name: &str| line(name)?.split_ascii_whitespace().nth(3)?.parse().ok();
        let groups =
            line("Groups")?.split_ascii_whitespace().map(|id| id.parse().ok()).collect::<Option<_>>()?;
        Some(Self { uid: file_system("Uid")?, gid: file_system("Gid")?, groups })
    }
}

/// Takes on `credentials` for this thread's file accesses. With a user id other than root's, the kernel drops the
/// capabilities that override file permissions along with it (capabilities(7)). A process that is root in the initial
/// user namespace is taken for all-powerful, even if it has given up such capabilities.
fn assume(credentials: &Credentials) -> Result<(), ReadError> {
    if credentials.uid == geteuid().as_raw() {
        return Ok(());
    }
    let refused = || ReadError::Unreadable("the daemon cannot take on the process's permissions".to_owned());
    set_thread_groups(&credentials.groups).map_err(|_| refused())?;
    let (uid, gid) = (Uid::from_raw(credentials.uid), Gid::from_raw(credentials.gid));
    setfsgid(gid);
    setfsuid(uid);
    // Neither call reports failure; asking for an impossible id answers with the one in force.
    let in_force = (setfsuid(Uid::from_raw(u32::MAX)), setfsgid(Gid::from_raw(u32::MAX)));
    if in_force == (uid, gid) { Ok(()) } else { Err(refused()) }
}

/// setgroups(2) of this thread alone; the C library's function changes all threads of the process.
fn set_thread_groups(groups: &[u32]) -> Result<(), Errno> {
    #[expect(unsafe_code, reason = "the C library has no per-thread setgroups")]
    // SAFETY: the kernel reads `len` ids of 32 bits from a slice that lives through the call, and writes nothing.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    Errno::result(result).map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{Credentials, parse_stat};

    #[test]
    fn a_command_name_cannot_forge_a_start_time() {
        let rest = "S 1 2 3 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1";
        assert_eq!(parse_stat(&format!("7 (sleep) {rest}")), Some(4711));
        assert_eq!(parse_stat(&format!("7 (a) S 1 1 1 1 (b) c) {rest}")), Some(4711));
        assert_eq!(parse_stat(&format!("7 (sleep) {}", rest.replacen('S', "Z", 1))), None);
        assert_eq!(parse_stat("7 (sleep) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn credentials_are_the_file_system_ids() {
        let status = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nFDSize:\t64\nGroups:\t9 10 \n";
        assert_eq!(Credentials::parse(status), Some(Credentials { uid: 4, gid: 8, groups: vec![9, 10] }));
        assert!(
            Credentials::parse("Groups:\t\nUid:\t1\t1\t1\t1\nGid:\t1\t1\t1\t1\n").unwrap().groups.is_empty()
        );
        assert_eq!(Credentials::parse("Uid:\t1\t2\t3\n"), None);
    }
}
