//! What is not a hook: the kernel's release, mounts, rights and switches.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::{
    sys::{
        resource::{Resource, getrlimit},
        statfs::{BPF_FS_MAGIC, statfs},
    },
    unistd::geteuid,
};

use super::Check;

/// The capabilities that the daemon uses, by bit, each with what for. `docs/deploy.md` repeats them.
pub(super) const CAPABILITIES: &[(u32, &str)] = &[
    (12, "CAP_NET_ADMIN"),
    (6, "CAP_SETGID"),
    (7, "CAP_SETUID"),
    (21, "CAP_SYS_ADMIN"),
    (19, "CAP_SYS_PTRACE"),
];

/// Everything that can be read without loading a program.
pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::comfort("kernel", "", kernel()),
        Check::required("cgroup2", "nothing can be captured", cgroup2()),
        Check::required("bpffs", "capture would end with the daemon", bpffs()),
        Check::required("capabilities", "the daemon cannot load, attach or enter namespaces", capabilities()),
        Check::comfort("btf", "kernel structures cannot be described in messages of the verifier", btf()),
        Check::comfort("jit", "the programs are interpreted: each connect() takes longer", jit()),
        Check::comfort("memlock", "maps may not fit into RLIMIT_MEMLOCK", memlock()),
    ]
}

fn kernel() -> Result<String, String> {
    Ok(format!("{} {}", release()?, std::env::consts::ARCH))
}

fn release() -> Result<String, String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").map_err(|error| error.to_string())?;
    Ok(release.trim().to_owned())
}

/// Where cgroup2 is mounted.
pub(super) fn cgroup2_mount() -> Option<PathBuf> {
    mounts("cgroup2").first().cloned()
}

fn mounts(kind: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let of = |line: &str| {
        let mut fields = line.split(' ');
        let (_, place, found) = (fields.next()?, fields.next()?, fields.next()?);
        (found == kind).then(|| PathBuf::from(place))
    };
    mounts.lines().filter_map(of).collect()
}

fn cgroup2() -> Result<String, String> {
    let mount = cgroup2_mount().ok_or("not mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified`")?;
    let kind = if mounts("cgroup").is_empty() { "pure" } else { "hybrid, beside cgroup v1" };
    Ok(format!("{} ({kind})", mount.display()))
}

fn bpffs() -> Result<String, String> {
    let place = Path::new("/sys/fs/bpf");
    match statfs(place) {
        Ok(found) if found.filesystem_type() == BPF_FS_MAGIC => Ok(place.display().to_string()),
        Ok(_) if geteuid().is_root() => Ok("not mounted yet; the daemon mounts it".to_owned()),
        Ok(_) => Err("not mounted: `mount -t bpf bpf /sys/fs/bpf`".to_owned()),
        Err(error) => Err(format!("{}: {error}", place.display())),
    }
}

fn capabilities() -> Result<String, String> {
    let (held, missing) = held_and_missing()?;
    if missing.is_empty() { Ok(held.join(" ")) } else { Err(format!("without {}", missing.join(" "))) }
}

/// Those of [`CAPABILITIES`] that this process has, and those that it has not.
pub(super) fn held_and_missing() -> Result<(Vec<&'static str>, Vec<&'static str>), String> {
    let status = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .ok_or("/proc/self/status does not say")?;
    let (held, missing): (Vec<_>, Vec<_>) =
        CAPABILITIES.iter().partition(|(bit, _)| effective >> bit & 1 == 1);
    let names = |some: Vec<&(u32, &'static str)>| some.iter().map(|(_, name)| *name).collect();
    Ok((names(held), names(missing)))
}

fn btf() -> Result<String, String> {
    let path = "/sys/kernel/btf/vmlinux";
    let size = fs::metadata(path).map_err(|error| format!("{path}: {error}"))?.len();
    Ok(format!("{path}, {} KiB", size / 1024))
}

fn jit() -> Result<String, String> {
    match fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").as_deref().map(str::trim) {
        Ok("0") => Err("off: `sysctl net.core.bpf_jit_enable=1`".to_owned()),
        Ok(_) => Ok("on".to_owned()),
        // Kernels that are built with the JIT always on have no switch that everybody may read.
        Err(error) => Err(format!("cannot be told: {error}")),
    }
}

fn memlock() -> Result<String, String> {
    let release = release()?;
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 11) {
        return Ok("maps count as memory of the daemon's cgroup".to_owned());
    }
    let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK).map_err(|error| error.to_string())?;
    let enough = 64 << 20;
    let found = format!("RLIMIT_MEMLOCK is {} KiB", soft / 1024);
    if soft >= enough { Ok(found) } else { Err(found) }
}
