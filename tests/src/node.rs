//! A node with pods on it: an API server, a daemon that holds what it has not been told of, and a target that counts.

use std::{fs, net::SocketAddr, time::Duration};

use super::{
    cgroups::Cgroup,
    daemon::{Daemon, Settings, Target as Configured},
    issuer::Issuer,
    kubernetes::{ApiServer, Pod},
    probe::{Probe, Target},
    programs::wait_for,
};

/// Its name.
pub const NODE: &str = "node-1";

/// The node; gone on drop with everything on it.
#[derive(Debug)]
pub struct Node {
    /// Lists and watches pods.
    pub api: ApiServer,
    /// Watches them.
    pub daemon: Daemon,
    /// Where agents want to go.
    pub target: Target,
    /// Who vouches for them.
    pub issuer: Issuer,
}

impl Node {
    /// One whose daemon runs and holds pods that it has not been told of.
    pub fn new() -> Self {
        Self::around(ApiServer::start(), "hold")
    }

    /// One whose daemon asks that API server and does that with pods that it has not been told of.
    pub fn around(api: ApiServer, unknown: &str) -> Self {
        let mut node = Self::prepared(api, unknown);
        node.daemon.restart();
        node
    }

    /// The same, and its daemon is yet to be started.
    pub fn prepared(api: ApiServer, unknown: &str) -> Self {
        let target = Target::new();
        let settings = Settings::new(vec![Configured::shop("shop", target.address())]);
        Self::with(api, unknown, target, settings)
    }

    /// The same with settings of the test's own.
    pub fn with(api: ApiServer, unknown: &str, target: Target, mut settings: Settings) -> Self {
        let issuer = Issuer::start();
        settings.more =
            format!("kubernetes: {{ node: {NODE}, kubeconfig: kubeconfig, unknown_pods: {unknown} }}\n");
        let daemon = Daemon::prepare(&settings, &issuer);
        api.write_kubeconfig(daemon.folder());
        fs::create_dir_all(daemon.cgroup()).unwrap();
        Self { api, daemon, target, issuer }
    }

    /// The path below the mount of a pod's cgroup.
    pub fn place(&self, pod: &Pod, form: Form) -> String {
        let (name, uid) = (self.daemon.name(), &pod.uid);
        let escaped = uid.replace('-', "_");
        match form {
            Form::Guaranteed => format!("/{name}/kubepods/pod{uid}"),
            Form::Burstable => format!("/{name}/kubepods/burstable/pod{uid}"),
            Form::Systemd => format!(
                "/{name}/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{escaped}.slice"
            ),
            Form::SystemdBestEffort => format!(
                "/{name}/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{escaped}.slice"
            ),
        }
    }

    /// Makes the pod's cgroup, as the kubelet does before anything else.
    pub fn cgroup(&self, pod: &Pod, form: Form) -> Cgroup {
        let place = self.place(pod, form);
        let below = place.trim_start_matches('/').split_once('/').unwrap().1;
        Cgroup::below(&self.daemon.cgroup(), below)
    }

    /// Waits until the daemon has heard of a pod, which it shows by letting another one pass.
    pub fn heard(&self) {
        let marker = Pod::free("marker", NODE);
        let cgroup = self.cgroup(&marker, Form::Guaranteed);
        let mut probe = Probe::user(cgroup.command());
        self.api.put(&marker);
        let before = self.target.reached();
        wait_for("the daemon to hear of pods", Duration::from_secs(15), || {
            probe.reaches(self.target.address()).then_some(())
        });
        assert_eq!(self.target.reached(), before + 1);
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

/// How a kubelet names a pod's cgroup.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    /// By the driver cgroupfs, without a class of service.
    Guaranteed,
    /// By the driver cgroupfs.
    Burstable,
    /// By the driver systemd.
    Systemd,
    /// By the driver systemd, of another class.
    SystemdBestEffort,
}

/// Connects as its first act, again and again, and says how often that came about.
pub fn eager(target: SocketAddr) -> Vec<String> {
    let attempt = format!(
        "n=0; i=0; while [ $i -lt 5 ]; do /bin/busybox nc -w 1 {} {} </dev/null >/dev/null 2>&1 && n=$((n+1)); i=$((i+1)); done; echo $n",
        target.ip(),
        target.port()
    );
    ["/bin/busybox", "sh", "-c", &attempt].map(str::to_owned).to_vec()
}
