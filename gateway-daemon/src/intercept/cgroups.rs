//! The cgroup2 tree: where it is mounted, which directory has which id, who lives in it.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Component, Path, PathBuf},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use super::{
    error::{Doing, InterceptError},
    kernel::held,
    sys,
};
use crate::domain::{flow::is_label, ids::CgroupId};

/// The extended attribute that labels a cgroup.
const LABEL: &str = "user.nodegate.identity";

/// How many places of cgroups are remembered: those of servers on this node.
const PLACES: usize = 1024;

/// One cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cgroup {
    /// Its id: the inode number of its directory.
    pub id: CgroupId,
    /// Its path below the mount, starting with `/`.
    pub path: String,
    /// Its directory.
    pub dir: PathBuf,
}

/// The mounted tree.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    mount: PathBuf,
}

impl Tree {
    /// Finds the mount: one that shows the whole tree, rather than a container's own part of it.
    pub fn find() -> Result<Self, InterceptError> {
        let mounts = "/proc/self/mountinfo";
        let mounts = fs::read_to_string(mounts).doing(|| format!("read {mounts}"))?;
        mount_of(&mounts).map(|mount| Self { mount }).ok_or(InterceptError::NoCgroup2)
    }

    /// The root's directory.
    pub fn root(&self) -> &Path {
        &self.mount
    }

    /// The directory of a path below the mount, whether it exists or not.
    pub fn join(&self, below: &str) -> PathBuf {
        self.mount.join(below.trim_start_matches('/'))
    }

    /// Resolves a path, absolute or relative to the mount. The root itself is no answer.
    pub fn resolve(&self, path: &Path) -> Result<Cgroup, InterceptError> {
        let not_one = || InterceptError::NotACgroup(path.to_path_buf());
        let below = match path.strip_prefix(&self.mount) {
            Ok(below) => below,
            Err(_) => path.strip_prefix("/").unwrap_or(path),
        };
        let plain = below.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || below.as_os_str().is_empty() {
            return Err(not_one());
        }
        let dir = self.mount.join(below);
        let metadata = fs::symlink_metadata(&dir).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => not_one(),
            _ => InterceptError::Io { what: format!("look at {}", dir.display()), source: error },
        })?;
        if !metadata.is_dir() {
            return Err(not_one());
        }
        let path = format!("/{}", below.to_str().ok_or_else(not_one)?);
        Ok(Cgroup { id: CgroupId(metadata.ino()), path, dir })
    }

    /// The directory of every id. Walks the whole tree: for starting up only.
    pub fn index(&self) -> HashMap<CgroupId, PathBuf> {
        let mut index = HashMap::new();
        let mut todo = vec![self.mount.clone()];
        while let Some(dir) = todo.pop() {
            for child in children(&dir) {
                if let Ok(metadata) = fs::symlink_metadata(&child) {
                    index.insert(CgroupId(metadata.ino()), child.clone());
                }
                todo.push(child);
            }
        }
        index
    }
}

impl Cgroup {
    /// The `user.nodegate.identity` label.
    pub fn label(&self) -> Option<String> {
        self.raw_label().filter(|label| is_label(label))
    }

    /// What the label's attribute holds, whatever it is: that it is there captures the cgroup.
    pub fn raw_label(&self) -> Option<String> {
        let value = sys::attribute(&self.dir, OsStr::new(LABEL)).ok().flatten()?;
        Some(String::from_utf8_lossy(&value).trim_end_matches(['\0', '\n']).to_owned())
    }

    /// Whether the directory is still this cgroup's.
    pub fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.dir).is_ok_and(|metadata| metadata.ino() == self.id.0)
    }

    /// Sets the label. Where the kernel has no attributes on cgroups the pins remember it alone.
    pub fn set_label(&self, label: &str) {
        if let Err(error) = sys::set_attribute(&self.dir, OsStr::new(LABEL), label.as_bytes()) {
            tracing::debug!(cgroup = %self.path, %error, "the cgroup directory takes no label");
        }
    }

    /// Takes the label off, so that nothing captures the cgroup anew.
    pub fn remove_label(&self) {
        if let Err(error) = sys::remove_attribute(&self.dir, OsStr::new(LABEL)) {
            tracing::debug!(cgroup = %self.path, %error, "the cgroup directory keeps its label");
        }
    }

    /// Whether this cgroup is, or lies above, the cgroup of that path.
    pub fn contains(&self, path: &str) -> bool {
        path.strip_prefix(&self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Its id and those of all below it.
    pub fn family(&self) -> Vec<CgroupId> {
        let mut ids = vec![self.id];
        let mut todo = vec![self.dir.clone()];
        while let Some(dir) = todo.pop() {
            for child in children(&dir) {
                ids.extend(fs::symlink_metadata(&child).map(|metadata| CgroupId(metadata.ino())));
                todo.push(child);
            }
        }
        ids
    }

    /// The processes in it and below.
    pub fn processes(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        let mut todo = vec![self.dir.clone()];
        while let Some(dir) = todo.pop() {
            let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            pids.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok()));
            todo.extend(children(&dir));
        }
        pids
    }

    /// Moves a process into it.
    pub fn adopt(&self, pid: u32) -> io::Result<()> {
        fs::write(self.dir.join("cgroup.procs"), pid.to_string())
    }

    /// The file that changes when the last process leaves.
    pub fn events_file(&self) -> PathBuf {
        self.dir.join("cgroup.events")
    }

    /// Whether a process lives in it or below. A directory that is gone holds nobody.
    pub fn is_populated(&self) -> bool {
        fs::read_to_string(self.events_file())
            .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
    }

    /// Has everybody in it and below hold still until the answer is dropped; who is already still stays so.
    pub fn hold_still(&self, patience: Duration) -> io::Result<Still> {
        let file = self.dir.join("cgroup.freeze");
        let was_still = fs::read_to_string(&file)?.trim() == "1";
        if !was_still {
            fs::write(&file, "1")?;
        }
        // From here on it is let go again, whatever comes.
        let still = Still(Some(file).filter(|_| !was_still));
        let deadline = Instant::now() + patience;
        let moves = || {
            let events = fs::read_to_string(self.events_file()).unwrap_or_default();
            events.lines().any(|line| line == "frozen 0")
        };
        while moves() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(still)
    }

    /// Kills everything in it and below and waits until it is gone.
    pub fn kill(&self, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        while self.is_populated() {
            match fs::write(self.dir.join("cgroup.kill"), "1") {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.dir.exists() => return Ok(()),
                Err(error) => return Err(error),
            }
            if Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "its processes do not die"));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Removes it with everything below, as soon as the kernel lets go.
    pub fn remove(&self, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            match remove_tree(&self.dir) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// A cgroup that holds still.
#[derive(Debug)]
pub(super) struct Still(Option<PathBuf>);

impl Drop for Still {
    fn drop(&mut self) {
        if let Some(file) = &self.0
            && let Err(error) = fs::write(file, "0")
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(file = %file.display(), %error, "a cgroup that was held still stays so");
        }
    }
}

/// Where cgroups were found: which one an id stands for never changes.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<HashMap<CgroupId, PathBuf>>);

impl Places {
    /// The path below the mount of a cgroup that is there. Walks the whole tree for one that was not asked for before.
    pub fn find(&self, tree: &Tree, id: CgroupId) -> Option<String> {
        let is = |dir: &Path| fs::symlink_metadata(dir).is_ok_and(|metadata| metadata.ino() == id.0);
        if is(tree.root()) {
            return Some("/".to_owned());
        }
        let known = held(&self.0).get(&id).cloned();
        let dir = match known.filter(|dir| is(dir)) {
            Some(dir) => dir,
            None => {
                let dir = tree.index().remove(&id)?;
                let mut places = held(&self.0);
                if places.len() >= PLACES {
                    places.clear();
                }
                places.entry(id).or_insert(dir).clone()
            }
        };
        Some(format!("/{}", dir.strip_prefix(tree.root()).ok()?.to_str()?))
    }
}

/// The best cgroup2 mount (proc_pid_mountinfo(5)): its root is that of the tree, or else the first there is.
fn mount_of(mountinfo: &str) -> Option<PathBuf> {
    let mounts: Vec<(&str, &str)> = mountinfo
        .lines()
        .filter_map(|line| {
            let (mount, file_system) = line.split_once(" - ")?;
            let mut fields = mount.split(' ').skip(3);
            let (root, path) = (fields.next()?, fields.next()?);
            file_system.starts_with("cgroup2 ").then_some((root, path))
        })
        .collect();
    let whole = mounts.iter().find(|(root, _)| *root == "/");
    whole.or(mounts.first()).map(|(_, path)| PathBuf::from(path))
}

/// The path below the mount of the cgroup that a process is in.
pub(super) fn path_of_process(pid: u32) -> io::Result<String> {
    let entries = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    entries
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(|path| path.trim_end_matches(" (deleted)").to_owned())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the process is in no cgroup2 cgroup"))
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    for child in children(dir) {
        remove_tree(&child)?;
    }
    fs::remove_dir(dir)
}

/// The directories in a directory.
pub(super) fn children(dir: &Path) -> Vec<PathBuf> {
    // Its own entry, its parent's, and one for each child: to list a cgroup's many files takes far longer.
    if fs::symlink_metadata(dir).is_ok_and(|dir| dir.nlink() == 2) {
        return Vec::new();
    }
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| !name.as_bytes().is_empty()))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::{Cgroup, CgroupId, PathBuf, Places, Tree, mount_of};

    #[test]
    fn the_mount_that_shows_the_whole_tree_is_taken() {
        let line = |root: &str, path: &str, kind: &str| {
            format!("31 23 0:27 {root} {path} rw shared:9 - {kind} none rw\n")
        };
        let own = line("/kubepods/pod1", "/sys/fs/cgroup", "cgroup2");
        let (whole, old) = (line("/", "/host/cgroup", "cgroup2"), line("/", "/sys/fs/cgroup/cpu", "cgroup"));
        assert_eq!(mount_of(&format!("{old}{own}{whole}")), Some("/host/cgroup".into()));
        assert_eq!(mount_of(&format!("{old}{own}")), Some("/sys/fs/cgroup".into()));
        assert_eq!(mount_of(&old), None);
    }

    #[test]
    fn a_cgroup_contains_itself_and_what_lies_below_but_no_namesake() {
        let cgroup = Cgroup { id: CgroupId(1), path: "/a/b".to_owned(), dir: PathBuf::new() };
        assert!(cgroup.contains("/a/b") && cgroup.contains("/a/b/c"));
        assert!(!cgroup.contains("/a/bc") && !cgroup.contains("/a") && !cgroup.contains("/"));
    }

    #[test]
    fn a_cgroup_is_found_by_its_id_while_it_is_there() {
        let tree = Tree::find().unwrap();
        let places = Places::default();
        let root = fs::metadata(tree.root()).unwrap().ino();
        assert_eq!(places.find(&tree, CgroupId(root)), Some("/".to_owned()));
        let name = format!("nodegate-places-{}", std::process::id());
        let dir = tree.join(&name);
        fs::create_dir(&dir).unwrap();
        let id = CgroupId(fs::metadata(&dir).unwrap().ino());
        let found = places.find(&tree, id);
        fs::remove_dir(&dir).unwrap();
        assert_eq!(found, Some(format!("/{name}")));
        assert_eq!(places.find(&tree, id), None, "it is gone, and was remembered");
    }

    #[test]
    fn the_root_and_ways_out_of_the_tree_are_no_cgroups() {
        let tree = Tree::find().unwrap();
        let mount = tree.mount.clone();
        for path in
            [mount.clone(), mount.join(".."), mount.join("a/../.."), "..".into(), "/".into(), "".into()]
        {
            assert!(tree.resolve(&path).is_err(), "{}", path.display());
        }
    }
}
