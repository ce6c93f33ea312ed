//! Real containers by Debian's containerd, a daemon of the test's own: its shim starts them, as it does on a node.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;

use super::{
    containers::{Bundle, tidy_hierarchies},
    leftovers,
    programs::{self, Said, said, wait_for},
};

/// How long a container may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A containerd with a root and a socket of its own; ended on drop.
#[derive(Debug)]
pub struct Containerd {
    child: Child,
    folder: PathBuf,
    bundle: Bundle,
}

impl Containerd {
    /// Starts one.
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
        let containerd = Self { child, folder, bundle: Bundle::new() };
        wait_for("containerd", Duration::from_secs(20), || {
            containerd.ctr(&["version"]).output().ok().filter(|output| output.status.success()).map(drop)
        });
        containerd
    }

    /// Runs a container to its end, in the cgroup of that path below the mount. Without a network namespace it shares
    /// the host's.
    pub fn run(&self, cgroup: &str, netns: Option<&Path>, words: &[&str]) -> Said {
        let id = leftovers::unique_name();
        let network = netns.map_or_else(
            || "--net-host".to_owned(),
            |netns| format!("--with-ns=network:{}", netns.display()),
        );
        let mut run = self.ctr(&["run", "--rm", "--rootfs", "--read-only", &network, "--cgroup", cgroup]);
        run.arg(self.bundle.root()).arg(id).args(words);
        let told = said(&mut run, "", PATIENCE);
        tidy_hierarchies(cgroup);
        told
    }

    fn ctr(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.folder.join("containerd.sock")).args(words);
        command
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        programs::end(&mut self.child, Signal::SIGTERM);
        let _ = fs::remove_dir_all(&self.folder);
    }
}
