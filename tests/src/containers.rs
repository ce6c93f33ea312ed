//! Real containers by Debian's runc, in the cgroups that a kubelet would give them, with a root of one busybox.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    leftovers,
    programs::{self, Said, said},
};

/// How long a container may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A bundle: a root file system with a busybox, and a place for runc's own state.
#[derive(Debug)]
pub struct Bundle {
    folder: PathBuf,
}

impl Bundle {
    /// Makes one.
    pub fn new() -> Self {
        let folder = leftovers::folder(&leftovers::unique_name());
        let bin = folder.join("rootfs").join("bin");
        fs::create_dir_all(&bin).expect("a root file system");
        fs::copy("/bin/busybox", bin.join("busybox")).expect("Debian's busybox-static");
        fs::set_permissions(bin.join("busybox"), fs::Permissions::from_mode(0o755)).expect("its mode");
        // Where runtimes mount things: they do not make these in a root that is read-only.
        for mount in ["proc", "dev", "sys", "run"] {
            fs::create_dir(folder.join("rootfs").join(mount)).expect("a place to mount at");
        }
        Self { folder }
    }

    /// A container that is to run `words` in the cgroup of that path below the mount. Without a network namespace
    /// by path it shares the host's.
    pub fn container(&self, cgroup: &str, netns: Option<&Path>, words: &[&str]) -> Container<'_> {
        let id = leftovers::unique_name();
        let folder = self.folder.join(&id);
        fs::create_dir(&folder).expect("a bundle");
        let mut namespaces: Vec<Value> =
            ["pid", "ipc", "uts", "mount", "cgroup"].iter().map(|kind| json!({ "type": kind })).collect();
        if let Some(netns) = netns {
            namespaces.push(json!({ "type": "network", "path": netns }));
        }
        let capabilities =
            json!(["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID", "CAP_NET_RAW"]);
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false, "user": { "uid": 0, "gid": 0 }, "cwd": "/", "noNewPrivileges": true,
                "args": words, "env": ["PATH=/bin"],
                "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            },
            "root": { "path": self.root(), "readonly": true },
            "hostname": "agent",
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"] },
                { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
                { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                  "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] },
            ],
            "linux": { "namespaces": namespaces, "cgroupsPath": cgroup, "resources": {} },
        });
        fs::write(folder.join("config.json"), config.to_string()).expect("the container's description");
        Container { bundle: self, id, cgroup: cgroup.to_owned() }
    }

    /// Its root file system.
    fn root(&self) -> PathBuf {
        self.folder.join("rootfs")
    }

    fn runc(&self, words: &[&str]) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.folder.join("state")).args(words);
        command
    }
}

impl Default for Bundle {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A container, gone on drop.
#[derive(Debug)]
pub struct Container<'a> {
    bundle: &'a Bundle,
    id: String,
    cgroup: String,
}

impl Container<'_> {
    /// Runs it to its end.
    pub fn run(&self) -> Said {
        said(self.bundle.runc(&["run", "--bundle"]).arg(self.folder()).arg(&self.id), "", PATIENCE)
    }

    /// Makes it: its first process exists and waits before its first instruction. As a sandbox, it holds the
    /// network namespace.
    pub fn create(&self) {
        // The container keeps what it is given for output: nobody may wait for its end.
        let mut create = self.bundle.runc(&["create", "--bundle"]);
        create.arg(self.folder()).arg(&self.id);
        create.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(create.status().expect("runc").success(), "{create:?} failed");
    }

    /// Lets the first process of a container that was made run.
    pub fn start(&self) {
        programs::succeed(self.bundle.runc(&["start"]).arg(&self.id));
    }

    fn folder(&self) -> PathBuf {
        self.bundle.folder.join(&self.id)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.bundle.runc(&["delete", "--force"]).arg(&self.id).output();
        tidy_hierarchies(&self.cgroup);
    }
}

/// On a hybrid system runc leaves the way to the cgroup behind in every hierarchy.
pub(super) fn tidy_hierarchies(cgroup: &str) {
    let Some(first) = cgroup.trim_matches('/').split('/').next() else { return };
    if !first.starts_with("nodegate-test-") {
        return;
    }
    for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().filter_map(Result::ok) {
        let tree = hierarchy.path().join(first);
        if tree.is_dir() && hierarchy.path() != leftovers::cgroup_mount() {
            remove_empty(&tree);
        }
    }
}

/// Removes the directories of a tree of cgroups that nobody is in.
pub(super) fn remove_empty(directory: &Path) {
    let below = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    below.filter(|entry| entry.path().is_dir()).for_each(|entry| remove_empty(&entry.path()));
    let _ = fs::remove_dir(directory);
}
