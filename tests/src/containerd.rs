//! Real containers by Debian's containerd, a daemon of the test's own: its shim starts them, from an image that the
//! test has packed, as it does on a node. The system's own containerd is never asked.

use std::{
    cell::RefCell,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    containers::tidy_hierarchies,
    images, leftovers,
    programs::{self, Said, said, succeed, wait_for},
};

/// How long a container may take.
const PATIENCE: Duration = Duration::from_secs(30);
const IMAGE: &str = "localhost/agent:1";
/// Where the kubelet's containers are.
const NAMESPACE: &str = "k8s.io";

/// A containerd with a root, a state and a socket of its own; ended on drop with every container of its.
#[derive(Debug)]
pub struct Containerd {
    child: Child,
    folder: PathBuf,
    /// Of containers that go on.
    cgroups: RefCell<Vec<String>>,
}

/// What a container is to be.
#[derive(Debug, Clone)]
pub struct Container {
    id: String,
    cgroup: String,
    options: Vec<String>,
}

impl Container {
    /// One in the cgroup of that path below the mount, which shares the host's network namespace.
    pub fn new(id: &str, cgroup: &str) -> Self {
        let options = vec!["--net-host".to_owned()];
        Self { id: id.to_owned(), cgroup: cgroup.to_owned(), options }
    }

    /// One that lives in the network namespace of that path instead.
    pub fn in_network(mut self, netns: &Path) -> Self {
        self.options.retain(|option| option != "--net-host");
        self.options.push(format!("--with-ns=network:{}", netns.display()));
        self
    }

    /// One that sees a directory of the host's at another place.
    pub fn with(mut self, source: &Path, place: &str) -> Self {
        let mount = format!("type=bind,src={},dst={place},options=rbind:ro", source.display());
        self.options.extend(["--mount".to_owned(), mount]);
        self
    }
}

impl Containerd {
    /// Starts one and gives it the image.
    pub fn start() -> Self {
        let folder = leftovers::folder(&leftovers::unique_name());
        let place = folder.display();
        // Its plugin for kubelets looks for networks and takes a second to start: nobody asks it for pods here.
        let settings = format!(
            "version = 2\nroot = \"{place}/root\"\nstate = \"{place}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{place}/containerd.sock\"\n"
        );
        fs::write(folder.join("config.toml"), settings).expect("its settings");
        let log = fs::File::create(folder.join("log")).expect("its log");
        let child = programs::bound("containerd".as_ref())
            .arg("--config")
            .arg(folder.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd to start");
        let containerd = Self { child, folder, cgroups: RefCell::default() };
        wait_for("containerd", Duration::from_secs(20), || {
            containerd.ctr(&["version"]).output().ok().filter(|output| output.status.success()).map(drop)
        });
        let archive = containerd.folder.join("images.tar");
        images::write(&archive, &[(IMAGE, &["/bin/sh"])]);
        // Copies instead of an overlay, which not every file system of a test machine can be below.
        succeed(containerd.ctr(&["images", "import", "--snapshotter=native"]).arg(archive));
        containerd
    }

    /// Runs a container to its end.
    pub fn run(&self, container: &Container, words: &[&str]) -> Said {
        let told = said(&mut self.order(container, &["--rm"], words), "", PATIENCE);
        tidy_hierarchies(&container.cgroup);
        told
    }

    /// Starts a container that goes on, as a pod's sandbox does; gone with this containerd.
    pub fn begin(&self, container: &Container, words: &[&str]) {
        self.cgroups.borrow_mut().push(container.cgroup.clone());
        // It keeps what it is given for output: nobody may wait for its end.
        let mut order = self.order(container, &["--detach", "--null-io"], words);
        order.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(order.status().expect("ctr").success(), "{order:?} failed: {}", self.log());
    }

    fn order(&self, container: &Container, how: &[&str], words: &[&str]) -> Command {
        let mut run = self.ctr(&["run", "--snapshotter=native", "--read-only"]);
        // By itself runc keeps what it knows of containers in one place for the whole machine.
        run.arg("--runc-root").arg(self.folder.join("runc"));
        run.args(how).args(["--cgroup", &container.cgroup]).args(&container.options);
        run.args([IMAGE, &container.id]).args(words);
        run
    }

    /// The process of a container that goes on, as containerd knows it.
    pub fn process(&self, id: &str) -> u32 {
        let listed = succeed(&mut self.ctr(&["tasks", "list"]));
        let pid = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (*fields.first()? == id).then(|| fields.get(1)?.parse().ok())?
        };
        listed.lines().find_map(pid).unwrap_or_else(|| panic!("no task {id}:\n{listed}"))
    }

    /// Its directory, with everything that it has on this machine but the sockets of its shims.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn ctr(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.folder.join("containerd.sock"));
        command.args(["--namespace", NAMESPACE]).args(words);
        command
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("containerd's log:\n{}", self.log());
        }
        let tasks = self.ctr(&["tasks", "list", "--quiet"]).output();
        for id in tasks.iter().flat_map(|output| output.stdout.split(|byte| *byte == b'\n')) {
            if !id.is_empty() {
                let id = std::ffi::OsStr::from_bytes(id);
                let _ = self.ctr(&["tasks", "delete", "--force"]).arg(id).output();
            }
        }
        programs::end(&mut self.child, Signal::SIGTERM);
        remove(&self.folder);
        for cgroup in self.cgroups.borrow().iter() {
            tidy_hierarchies(cgroup);
        }
    }
}

/// Ends the shims that belong to a containerd of that directory, and removes it with what is mounted in it. For a
/// test that was killed, too: its containerd went with it, and its shims and their containers did not.
pub(super) fn remove(folder: &Path) {
    let shims = shims(folder);
    for (pid, _) in &shims {
        // Its containers' first processes are its children, and go on without it.
        for child in children(*pid) {
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        }
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    for (_, socket) in shims {
        let _ = fs::remove_file(socket);
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places: Vec<PathBuf> =
        mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from).collect();
    // What was mounted last goes first.
    for place in places.iter().rev().filter(|place| place.starts_with(folder)) {
        let _ = umount2(place, MntFlags::MNT_DETACH);
    }
    let _ = fs::remove_dir_all(folder);
}

/// The shims of a containerd of that directory, each with its socket.
pub fn shims(folder: &Path) -> Vec<(i32, PathBuf)> {
    let address = folder.join("containerd.sock");
    let shim = |pid: i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
        let is_shim = words.first()?.ends_with(b"containerd-shim-runc-v2");
        let after = |name: &[u8]| words.iter().skip_while(move |word| **word != name).nth(1).copied();
        (is_shim && after(b"-address")? == address.as_os_str().as_bytes()).then_some(())?;
        let id = std::str::from_utf8(after(b"-id")?).ok()?;
        Some((pid, socket(&address, id)))
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(shim).collect()
}

/// Where a shim listens, whatever its containerd's state directory: all shims of a machine share that folder.
fn socket(address: &Path, id: &str) -> PathBuf {
    let named = address.join(NAMESPACE).join(id);
    let name = images::sha256(named.as_os_str().as_bytes());
    Path::new("/run/containerd/s").join(name)
}

fn children(pid: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    let of = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).unwrap_or_default();
    let all: Vec<String> = threads.map(of).collect();
    all.iter().flat_map(|pids| pids.split_whitespace()).filter_map(|pid| pid.parse().ok()).collect()
}
