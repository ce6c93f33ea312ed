//! Names that tell whose they are, and the removal of what tests left behind that were killed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const PREFIX: &str = "nodegate-test-";

/// A name that no other test uses: `nodegate-test-<pid>-<n>`.
pub fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static SWEPT: Once = Once::new();
    SWEPT.call_once(sweep);
    format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A fresh directory under that name, which any user may enter.
pub fn folder(name: &str) -> PathBuf {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let folder = std::env::temp_dir().join(name);
    fs::DirBuilder::new().mode(0o755).create(&folder).expect("a fresh directory for the test");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("its mode");
    folder
}

/// Where cgroup2 is mounted.
pub fn cgroup_mount() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").expect("/proc/mounts");
    let of = |line: &str| {
        let mut fields = line.split(' ');
        let (_, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    };
    mounts.lines().find_map(of).expect("the tests need cgroup2: it is not mounted")
}

/// Removes what tests whose process is gone left behind.
fn sweep() {
    let dead = |name: &str| {
        let pid = name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok()?;
        (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    };
    let in_folder = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        entries.filter(|entry| dead(&entry.file_name().to_string_lossy()).is_some()).map(|entry| entry.path())
    };
    in_folder(&cgroup_mount()).for_each(|cgroup| remove_cgroup(&cgroup));
    in_folder(Path::new("/sys/fs/bpf")).for_each(|pins| remove_pins(&pins));
    in_folder(Path::new("/run/netns")).for_each(|namespace| {
        let name = namespace.file_name().unwrap_or_default();
        let _ = Command::new("ip").args(["netns", "del"]).arg(name).output();
    });
    in_folder(&std::env::temp_dir()).for_each(|folder| super::containerd::remove(&folder));
    // On a hybrid system container runtimes make their cgroups in every hierarchy; by now nobody is in them.
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().filter_map(Result::ok);
    for hierarchy in hierarchies.map(|entry| entry.path()).filter(|path| *path != cgroup_mount()) {
        in_folder(&hierarchy).for_each(|tree| super::containers::remove_empty(&tree));
    }
}

/// Kills what is in a cgroup and removes it with everything below it.
pub fn remove_cgroup(cgroup: &Path) {
    let _ = fs::write(cgroup.join("cgroup.kill"), "1");
    let below = fs::read_dir(cgroup).into_iter().flatten().filter_map(Result::ok);
    below.filter(|entry| entry.path().is_dir()).for_each(|entry| remove_cgroup(&entry.path()));
    let patience = Instant::now() + Duration::from_secs(2);
    while cgroup.exists() && fs::remove_dir(cgroup).is_err() && Instant::now() < patience {
        thread::sleep(Duration::from_millis(10));
    }
}

/// Removes a directory of pins, which detaches what is pinned there.
pub fn remove_pins(pins: &Path) {
    let entries = fs::read_dir(pins).into_iter().flatten().filter_map(Result::ok);
    for entry in entries {
        if entry.path().is_dir() {
            remove_pins(&entry.path());
        } else {
            let _ = fs::remove_file(entry.path());
        }
    }
    let _ = fs::remove_dir(pins);
}
