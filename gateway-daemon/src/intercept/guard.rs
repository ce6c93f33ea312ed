//! The guard: programs that run as a security module and see what no cgroup hook does. Not every kernel runs BPF
//! programs so; capture works without, and `doctor` says what is open then.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    Btf, Ebpf,
    maps::lpm_trie::Key,
    programs::{Lsm, ProgramError, links::FdLink},
};
use gateway_common::guard::{PATH_BYTES, QUIETLY};

use super::{
    error::{Doing, InterceptError},
    fields::{self, Fields},
    kernel::{Kernel, held, map_error},
    sys,
    unix::LAST_PARTS,
};

/// The programs, each with its hook.
const PROGRAMS: [(&str, &str); 11] = [
    ("nodegate_family", "socket_create"),
    ("nodegate_unixst", "unix_stream_connect"),
    ("nodegate_unixdg", "unix_may_send"),
    ("nodegate_receiv", "file_receive"),
    ("nodegate_trace", "ptrace_access_check"),
    ("nodegate_cgfile", "file_open"),
    ("nodegate_clone", "task_alloc"),
    ("nodegate_routes", "netlink_send"),
    ("nodegate_ioctl", "file_ioctl"),
    ("nodegate_tables", "socket_setsockopt"),
    ("nodegate_bpf", "bpf"),
];
/// Where their links are pinned, below the pins.
pub(super) const PINS: &str = "guard";

/// Names of Unix sockets whose servers start processes, resolve names or sign for whoever asks: a captured process
/// would do by them what it may not do itself. Where both spellings of a path are in use, both are here.
const CONTROL_SOCKETS: &[&str] = &[
    // Container runtimes and what drives them.
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/docker/*",
    "/var/run/docker/*",
    "/run/containerd/*",
    "/var/run/containerd/*",
    "/run/k3s/containerd/*",
    "/run/crio/*",
    "/var/run/crio/*",
    "/run/cri-dockerd.sock",
    "/var/run/cri-dockerd.sock",
    "/run/dockershim.sock",
    "/var/run/dockershim.sock",
    "/run/podman/*",
    "/var/run/podman/*",
    "/run/buildkit/*",
    "/run/libvirt/*",
    "/var/run/libvirt/*",
    "/var/lib/lxd/*",
    "/var/snap/lxd/*",
    "/var/lib/incus/*",
    "/run/snapd.socket",
    "/run/snapd-snap.socket",
    "/var/lib/kubelet/*",
    // Buses and managers that start services, and users' own.
    "/run/dbus/*",
    "/var/run/dbus/*",
    "/run/systemd/private",
    "/run/systemd/io.system*",
    "/run/systemd/machine/*",
    "/run/user/*",
    // Those who resolve names.
    "/run/systemd/resolve/*",
    "/run/nscd/*",
    "/var/run/nscd/*",
    "/run/.nscd_socket",
    "/run/avahi-daemon/*",
    // Those who sign.
    "/tmp/ssh-*",
];

/// Those of them that libraries try for every process: a record of each would tell nobody anything.
const TRIED_BY_THE_WAY: &[&str] = &[
    "/run/systemd/resolve/*",
    "/run/nscd/*",
    "/var/run/nscd/*",
    "/run/.nscd_socket",
    "/run/dbus/*",
    "/var/run/dbus/*",
];

/// Which Unix sockets captured processes are kept from. The longest entry that fits decides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnixSockets {
    /// Kept from, beside the usual ones: a path, or the beginning of one and `*`; `@` begins an abstract name.
    pub denied: Vec<String>,
    /// Not kept from after all.
    pub allowed: Vec<String>,
}

impl UnixSockets {
    /// Every denied entry; the number of one, counted from 1, is what the kernel side reports.
    pub(super) fn entries(&self) -> Vec<String> {
        CONTROL_SOCKETS
            .iter()
            .map(|entry| (*entry).to_owned())
            .chain(LAST_PARTS.iter().map(|entry| (*entry).to_owned()))
            .chain(self.denied.iter().cloned())
            .collect()
    }
}

/// Tries it: the programs are loaded and attached, and gone again.
pub(super) fn try_out() -> Result<String, String> {
    require_module()?;
    let mut ebpf = fields::load_silently()?;
    load(&mut ebpf).map_err(|error| error.to_string())?;
    for (name, hook) in PROGRAMS {
        attach(&mut ebpf, name).map_err(|error| format!("{hook}: {error}"))?;
    }
    Ok("by BPF programs as a security module".to_owned())
}

/// Hooks of a security module that is not among the active ones are never called, however well they attach.
fn require_module() -> Result<(), String> {
    let listed = "/sys/kernel/security/lsm";
    let active = sys::bpf_is_security_module().or_else(|_| {
        fs::read_to_string(listed).map(|list| list.trim().split(',').any(|module| module == "bpf"))
    });
    match active {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err("the kernel runs no BPF programs as a security module (boot it with `lsm=…,bpf`)".to_owned())
        }
        Err(error) => Err(format!("the active security modules are not known: {listed}: {error}")),
    }
}

/// Loads the programs of an object in which the offsets are set.
pub(super) fn load(ebpf: &mut Ebpf) -> Result<(), InterceptError> {
    let failed = |name| move |source| InterceptError::Program { name, source };
    let btf = Btf::from_sys_fs().map_err(|error| ProgramError::IOError(io::Error::other(error)));
    let btf = btf.map_err(failed("of the guard"))?;
    for (name, hook) in PROGRAMS {
        lsm(ebpf, name)?.load(hook, &btf).map_err(failed(name))?;
    }
    Ok(())
}

fn lsm<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Lsm, InterceptError> {
    let program = ebpf.program_mut(name).ok_or(InterceptError::Incomplete(name))?;
    program.try_into().map_err(|source| InterceptError::Program { name, source })
}

fn attach(ebpf: &mut Ebpf, name: &'static str) -> Result<FdLink, InterceptError> {
    let program = lsm(ebpf, name)?;
    let link = program.attach().and_then(|id| program.take_link(id));
    link.map(FdLink::from).map_err(|source| InterceptError::Program { name, source })
}

impl Kernel {
    /// Puts the guard up, beside the one of the daemon before, which then goes.
    pub fn arm_guard(&self) -> Result<(), InterceptError> {
        require_module().map_err(InterceptError::NoGuard)?;
        Fields::of_this_kernel().doing(|| "find the kernel's structures".to_owned())?;
        let pins = self.pins.join(PINS);
        fs::create_dir_all(&pins).doing(|| format!("create {}", pins.display()))?;
        let mut programs = held(&self.programs);
        load(&mut programs)?;
        for (name, _) in PROGRAMS {
            let link = attach(&mut programs, name)?;
            replace_pin(link, &pins.join(name)).doing(|| format!("pin {name}"))?;
        }
        Ok(())
    }

    /// Whether the guard is up.
    pub fn is_guarded(&self) -> bool {
        PROGRAMS.iter().all(|(name, _)| self.pins.join(PINS).join(name).exists())
    }

    /// Tells the guard which Unix sockets to keep captured processes from.
    pub fn deny_unix(&self, sockets: &UnixSockets) -> Result<(), InterceptError> {
        let failed = || map_error(gateway_common::maps::CONTROL_SOCKETS);
        let mut table = held(&self.control_sockets);
        let denied = (1_u32..).zip(sockets.entries());
        let mut wanted: Vec<_> = denied
            .map(|(number, entry)| {
                let quietly = if TRIED_BY_THE_WAY.contains(&entry.as_str()) { QUIETLY } else { 0 };
                (key(&entry), number | quietly)
            })
            .collect();
        // Later ones replace earlier ones of the same length.
        wanted.extend(sockets.allowed.iter().map(|entry| (key(entry), 0_u32)));
        let stale: Vec<_> = table.keys().filter_map(Result::ok).collect();
        for (key, number) in &wanted {
            table.insert(key, number, 0).map_err(failed())?;
        }
        let same = |a: &Key<[u8; PATH_BYTES]>, b: &Key<[u8; PATH_BYTES]>| {
            a.prefix_len() == b.prefix_len() && a.data() == b.data()
        };
        for old in stale.iter().filter(|old| !wanted.iter().any(|(key, _)| same(key, old))) {
            table.remove(old).map_err(failed())?;
        }
        Ok(())
    }
}

/// An entry as the kernel side looks it up: paths end with a NUL there, beginnings of paths do not.
fn key(entry: &str) -> Key<[u8; PATH_BYTES]> {
    let (name, is_prefix) = match entry.strip_suffix('*') {
        Some(beginning) => (beginning, true),
        None => (entry, false),
    };
    let mut bytes = [0_u8; PATH_BYTES];
    for (place, byte) in bytes.iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    // The kernel writes an abstract name with a NUL before it and none behind.
    let is_abstract = name.starts_with('@');
    if let (true, Some(first)) = (is_abstract, bytes.first_mut()) {
        *first = 0;
    }
    let ending = usize::from(!is_prefix && !is_abstract);
    let bits = (name.len() + ending).min(PATH_BYTES) * 8;
    Key::new(u32::try_from(bits).unwrap_or_default(), bytes)
}

/// Such links cannot be given another program: the new one is pinned in place of the old one.
pub(super) fn replace_pin(link: FdLink, pin: &Path) -> io::Result<()> {
    let mut fresh = pin.as_os_str().to_owned();
    fresh.push("-new");
    let fresh = PathBuf::from(fresh);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    link.pin(&fresh).map_err(io::Error::other)?;
    fs::rename(&fresh, pin)
}

#[cfg(test)]
mod tests {
    use super::{CONTROL_SOCKETS, PATH_BYTES, UnixSockets, key};

    #[test]
    fn a_path_is_matched_to_its_end_and_a_beginning_to_the_star() {
        let path = key("/run/docker.sock");
        assert_eq!(path.prefix_len(), 17 * 8);
        assert!(path.data().starts_with(b"/run/docker.sock\0"));
        assert_eq!(key("/run/containerd/*").prefix_len(), 16 * 8);
        let name = key("@/containerd-shim/");
        assert_eq!(name.prefix_len(), 18 * 8);
        assert!(name.data().starts_with(b"\0/containerd-shim/"));
        assert_eq!(usize::try_from(key(&"x".repeat(300)).prefix_len()), Ok(PATH_BYTES * 8));
    }

    #[test]
    fn the_list_is_absolute_and_the_operators_entries_follow_it() {
        assert!(CONTROL_SOCKETS.iter().all(|entry| entry.starts_with('/')));
        let sockets = UnixSockets { denied: vec!["/srv/x".to_owned()], allowed: Vec::new() };
        assert_eq!(sockets.entries().last().map(String::as_str), Some("/srv/x"));
    }
}
