//! Whether processes could have written an attribute of a cgroup's directory themselves. A label that they can take
//! off must not be what holds them. And whether they could lead a network namespace's addresses elsewhere.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Bits of a capability set (capabilities(7)): past permissions; over routes and addresses; mounting, so past what is
/// mounted read-only.
const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

/// Whether the attributes of `directory` are in reach of one of `processes`, or of anybody but root. What cannot be
/// found out counts as yes.
pub(super) fn is_within_reach(directory: &Path, processes: &[u32]) -> bool {
    let Ok(metadata) = fs::symlink_metadata(directory) else { return true };
    let roots_alone = metadata.uid() == 0 && metadata.mode() & 0o022 == 0;
    !roots_alone || processes.iter().any(|pid| is_mighty(*pid))
}

/// Whether a process may write what is root's in the cgroup tree.
fn is_mighty(pid: u32) -> bool {
    let process = PathBuf::from("/proc").join(pid.to_string());
    let read = || -> io::Result<bool> {
        let might = Might::parse(&fs::read_to_string(process.join("status"))?);
        let same_users = fs::read_link(process.join("ns/user"))? == fs::read_link("/proc/self/ns/user")?;
        // Capabilities of another user namespace count for nothing here, and its root is somebody else.
        if same_users && might.has(CAP_SYS_ADMIN) {
            return Ok(true);
        }
        let writes = might.is_root || (same_users && might.has(CAP_DAC_OVERRIDE));
        Ok(writes && sees_writable_tree(&fs::read_to_string(process.join("mountinfo"))?))
    };
    yes_unless_it_ended(read())
}

/// Whether a process may lead the addresses of its network namespace, one that the node's user namespace rules, wherever
/// it likes. One that may enter the daemon's own namespace as well does not count: nothing could be kept from it.
pub(super) fn rules_addresses(pid: u32) -> bool {
    let process = PathBuf::from("/proc").join(pid.to_string());
    let read = || -> io::Result<bool> {
        let might = Might::parse(&fs::read_to_string(process.join("status"))?);
        let same_users = fs::read_link(process.join("ns/user"))? == fs::read_link("/proc/self/ns/user")?;
        Ok(same_users && might.has(CAP_NET_ADMIN) && !might.has(CAP_SYS_ADMIN))
    };
    yes_unless_it_ended(read())
}

/// What cannot be found out of a process counts as yes, unless it ended meanwhile.
fn yes_unless_it_ended(read: io::Result<bool>) -> bool {
    read.unwrap_or_else(|error| {
        !(error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH))
    })
}

/// What `/proc/<pid>/status` says of a process's rights.
#[derive(Debug, PartialEq, Eq)]
struct Might {
    is_root: bool,
    /// Permitted, not effective: it may raise what it is permitted.
    permitted: u64,
}

impl Might {
    fn parse(status: &str) -> Self {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        // Any of the four ids: it may return to a saved one.
        let is_root = field("Uid").is_none_or(|ids| ids.split_whitespace().any(|id| id == "0"));
        let permitted = field("CapPrm").and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
        Self { is_root, permitted: permitted.unwrap_or(u64::MAX) }
    }

    fn has(&self, capability: u32) -> bool {
        self.permitted & (1 << capability) != 0
    }
}

/// Whether a cgroup2 tree is mounted in a way that can be written to (proc_pid_mountinfo(5)).
fn sees_writable_tree(mountinfo: &str) -> bool {
    mountinfo.lines().any(|line| {
        let Some((mount, file_system)) = line.split_once(" - ") else { return false };
        let options = mount.split(' ').nth(5).unwrap_or_default();
        file_system.starts_with("cgroup2 ") && options.split(',').any(|option| option == "rw")
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{CAP_DAC_OVERRIDE, CAP_NET_ADMIN, CAP_SYS_ADMIN, Might, sees_writable_tree};

    #[test]
    fn rights_that_can_be_taken_up_count() {
        let might =
            |uids: &str, permitted: &str| Might::parse(&format!("Uid:\t{uids}\nCapPrm:\t{permitted}\n"));
        let none = Might { is_root: false, permitted: 0 };
        assert_eq!(might("1000\t1000\t1000\t1000", "0000000000000000"), none);
        assert!(might("1000\t1000\t0\t1000", "0000000000000000").is_root);
        assert!(might("1000\t1000\t1000\t1000", "0000000000000002").has(CAP_DAC_OVERRIDE));
        assert!(might("1000\t1000\t1000\t1000", "0000000000001000").has(CAP_NET_ADMIN));
        assert!(might("1000\t1000\t1000\t1000", "0000000000200000").has(CAP_SYS_ADMIN));
        assert!(!might("1000\t1000\t1000\t1000", "0000000000200000").has(CAP_NET_ADMIN));
        assert_eq!(Might::parse("nothing"), Might { is_root: true, permitted: u64::MAX });
    }

    #[test]
    fn only_a_tree_that_is_mounted_for_writing_can_be_written_to() {
        let line = |options: &str, kind: &str| {
            format!("31 23 0:27 / /sys/fs/cgroup {options} shared:9 - {kind} cgroup rw")
        };
        assert!(sees_writable_tree(&line("rw,relatime", "cgroup2")));
        assert!(!sees_writable_tree(&line("ro,relatime", "cgroup2")));
        assert!(!sees_writable_tree(&line("rw,relatime", "cgroup")));
        assert!(!sees_writable_tree(""));
    }
}
