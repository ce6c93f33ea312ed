//! nodegate on a real node: an API server, a kubelet, containerd and runc. `cargo xtask test --kubernetes` builds the
//! first two from Debian's source and runs this with the folder that they are in.
//!
//! Two pods connect to one target as their first act; one of them bears the label. Then two more do while the daemon
//! is away. The target counts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support: trouble must end the test, loudly and at once"
)]

use std::{
    env, fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use nodegate_tests::{
    daemon::{Daemon, Settings, Target as Configured},
    images,
    issuer::{Authority, Issuer},
    leftovers,
    probe::Target,
    programs::{bound, end, said, succeed, wait_for},
};
use serde_json::{Value, json};

/// The node's end of its pods' network; nothing is routed beyond it.
const GATEWAY: &str = "10.244.77.1";
const API: &str = "127.0.0.1:16443";
const ETCD: &str = "http://127.0.0.1:23790";

fn main() {
    let programs = PathBuf::from(env::args().nth(1).expect("usage: kubernetes FOLDER"));
    let issuer = Issuer::start();
    let bridge = Bridge::new();
    let target = Target::on(TcpListener::bind((GATEWAY, 0)).expect("a port on the bridge"));
    let mut settings = Settings::new(vec![Configured::shop("shop", target.address())]);
    "kubernetes: { node: localhost, kubeconfig: nodegate.kubeconfig }\n".clone_into(&mut settings.more);
    let mut daemon = Daemon::prepare(&settings, &issuer);
    let mut node = Node::start(&programs, daemon.folder(), daemon.name(), &bridge);
    println!("node ready: {}", node.kubectl(&["get", "nodes", "--no-headers"]).trim());
    daemon.restart();

    node.pod("agent", true, target.address());
    node.pod("plain", false, target.address());
    assert_eq!(node.finished("agent"), "5 of 5");
    assert_eq!(node.finished("plain"), "5 of 5");
    assert_eq!(target.reached(), 5, "the plain pod's connections, and none of the agent's");
    assert_eq!(daemon.counter("flows_total"), 5);
    assert_eq!(daemon.counter("kernel_refusals_total"), 0);
    println!("both pods connected five times: the target saw the plain one, the daemon the labelled one");
    let labels: Vec<Value> =
        daemon.status()["workloads"].as_array().unwrap().iter().map(|one| one["label"].clone()).collect();
    assert_eq!(labels, [json!("ci/agent/worker")]);
    println!("workload: {}", labels[0]);

    daemon.kill();
    node.pod("late-agent", true, target.address());
    node.pod("late-plain", false, target.address());
    assert_eq!(node.finished("late-agent"), "0 of 5");
    assert_eq!(node.finished("late-plain"), "0 of 5");
    assert_eq!(target.reached(), 5, "while the daemon is away, nobody new gets out");
    println!("while the daemon was away: nothing");

    daemon.restart();
    node.pod("next-plain", false, target.address());
    assert_eq!(node.finished("next-plain"), "5 of 5");
    assert_eq!(target.reached(), 10);
    println!("with the daemon back, pods pass and are captured again");
    node.stop();
}

/// A bridge for pods; gone on drop.
struct Bridge(String);

impl Bridge {
    fn new() -> Self {
        // Interface names have at most 15 characters.
        let name = format!("ngk{}", std::process::id());
        succeed(Command::new("ip").args(["link", "add", &name, "type", "bridge"]));
        succeed(Command::new("ip").args(["addr", "add", &format!("{GATEWAY}/24"), "dev", &name]));
        succeed(Command::new("ip").args(["link", "set", &name, "up"]));
        Self(name)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.0]).output();
    }
}

/// etcd, API server, containerd and kubelet.
struct Node {
    folder: PathBuf,
    cgroup: String,
    running: Vec<Child>,
}

impl Node {
    fn start(programs: &Path, folder: &Path, cgroup: &str, bridge: &Bridge) -> Self {
        let mut node = Self { folder: folder.to_path_buf(), cgroup: cgroup.to_owned(), running: Vec::new() };
        node.write_files(bridge);
        node.make_cgroups();
        let here = |name: &str| folder.join(name).display().to_string();
        node.spawn(
            "etcd",
            Path::new("etcd"),
            &[
                &format!("--data-dir={}", here("etcd")),
                &format!("--listen-client-urls={ETCD}"),
                &format!("--advertise-client-urls={ETCD}"),
                "--listen-peer-urls=http://127.0.0.1:23791",
            ],
        );
        node.spawn(
            "api",
            &programs.join("kube-apiserver"),
            &[
                &format!("--etcd-servers={ETCD}"),
                "--secure-port=16443",
                "--bind-address=127.0.0.1",
                "--service-account-issuer=https://kubernetes.default.svc",
                &format!("--service-account-key-file={}", here("sa.pub")),
                &format!("--service-account-signing-key-file={}", here("sa.key")),
                &format!("--tls-cert-file={}", here("api.crt")),
                &format!("--tls-private-key-file={}", here("api.key")),
                &format!("--token-auth-file={}", here("tokens.csv")),
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.96.0.0/24",
                "--kubelet-preferred-address-types=Hostname",
                // It would wait for a controller that makes the accounts' secrets.
                "--disable-admission-plugins=ServiceAccount",
            ],
        );
        node.spawn("containerd", Path::new("containerd"), &["--config", &here("containerd.toml")]);
        wait_for("the API server", Duration::from_mins(2), || {
            (node.try_kubectl(&["get", "--raw", "/readyz"]).status == 0).then_some(())
        });
        let socket = here("containerd.sock");
        succeed(
            Command::new("ctr")
                .args(["-a", &socket, "-n", "k8s.io", "images", "import"])
                .arg(here("images.tar")),
        );
        node.spawn(
            "kubelet",
            &programs.join("kubelet"),
            &[
                &format!("--kubeconfig={}", here("admin.kubeconfig")),
                &format!("--config={}", here("kubelet.yaml")),
                "--container-runtime=remote",
                &format!("--container-runtime-endpoint=unix://{socket}"),
                "--hostname-override=localhost",
                &format!("--root-dir={}", here("kubelet")),
                &format!("--cert-dir={}", here("kubelet-certificates")),
                "--pod-infra-container-image=localhost/pause:1",
                "--oom-score-adj=0",
            ],
        );
        wait_for("the node to be ready", Duration::from_mins(2), || {
            node.try_kubectl(&["get", "nodes"]).out.contains(" Ready").then_some(())
        });
        node.apply(&json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": { "name": "nodegate" },
            "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"] }] }));
        node.apply(&json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": "nodegate" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "nodegate" },
            "subjects": [{ "kind": "User", "name": "nodegate", "apiGroup": "rbac.authorization.k8s.io" }] }));
        node.apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "ci" } }));
        node.apply(&json!({ "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": "worker", "namespace": "ci" } }));
        node
    }

    fn write_files(&self, bridge: &Bridge) {
        let write = |name: &str, text: &str| fs::write(self.folder.join(name), text).expect(name);
        let authority = Authority::new();
        let (certificate, key) = authority.server_pem();
        write("api.crt", &certificate);
        write("api.key", &key);
        write("ca.crt", &authority.pem);
        let accounts = rcgen::KeyPair::generate().expect("a key");
        write("sa.key", &accounts.serialize_pem());
        // The API server takes no public key out of a private one of this form.
        write("sa.pub", &accounts.public_key_pem());
        write("tokens.csv", "admin-token,admin,1,system:masters\nnodegate-token,nodegate,2\n");
        for user in ["admin", "nodegate"] {
            let config = json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "it",
                "clusters": [{ "name": "it", "cluster": { "server": format!("https://{API}"),
                    "certificate-authority": self.folder.join("ca.crt") } }],
                "users": [{ "name": "it", "user": { "token": format!("{user}-token") } }],
                "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
            });
            write(&format!("{user}.kubeconfig"), &config.to_string());
        }
        write(
            "kubelet.yaml",
            &json!({
                "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
                "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
                "authorization": { "mode": "AlwaysAllow" },
                "cgroupDriver": "cgroupfs", "cgroupRoot": format!("/{}", self.cgroup),
                "failSwapOn": false, "enforceNodeAllocatable": [], "evictionHard": { "memory.available": "1Mi" },
                "port": 20250, "healthzPort": 20248, "resolvConf": "",
                // Its rules would stay in the host's tables.
                "makeIPTablesUtilChains": false,
            })
            .to_string(),
        );
        fs::create_dir(self.folder.join("cni")).expect("a folder");
        write(
            "cni/10-pods.conflist",
            &json!({ "cniVersion": "0.4.0", "name": "pods", "plugins": [{
                "type": "bridge", "bridge": bridge.0, "isGateway": true, "ipMasq": false,
                "ipam": { "type": "host-local", "dataDir": self.folder.join("addresses"),
                    "ranges": [[{ "subnet": "10.244.77.0/24", "gateway": GATEWAY }]], "routes": [{ "dst": "0.0.0.0/0" }] },
            }] })
            .to_string(),
        );
        let here = self.folder.display();
        write(
            "containerd.toml",
            &format!(
                "version = 2\nroot = \"{here}/containerd\"\nstate = \"{here}/containerd-state\"\n\
                 [grpc]\n  address = \"{here}/containerd.sock\"\n\
                 [plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"localhost/pause:1\"\n  \
                 restrict_oom_score_adj = true\n  \
                 [plugins.\"io.containerd.grpc.v1.cri\".cni]\n    bin_dir = \"/usr/lib/cni\"\n    conf_dir = \"{here}/cni\"\n  \
                 [plugins.\"io.containerd.grpc.v1.cri\".containerd]\n    snapshotter = \"native\"\n"
            ),
        );
        images::write(
            &self.folder.join("images.tar"),
            &[
                ("localhost/pause:1", &["/bin/busybox", "sleep", "1000000"]),
                ("localhost/agent:1", &["/bin/sh"]),
            ],
        );
    }

    /// The kubelet insists that its root is there in every hierarchy. On a hybrid system it makes nothing of the
    /// cgroup2 tree itself, so the cgroup of all pods is made here, as the documentation asks for.
    fn make_cgroups(&self) {
        for hierarchy in hierarchies() {
            fs::create_dir_all(hierarchy.join(&self.cgroup)).expect("a cgroup");
        }
        fs::create_dir_all(leftovers::cgroup_mount().join(&self.cgroup).join("kubepods")).expect("a cgroup");
    }

    fn spawn(&mut self, name: &str, program: &Path, words: &[&str]) {
        let log = fs::File::create(self.folder.join(format!("{name}.log"))).expect("a log");
        let mut command = bound(program);
        command.args(words).current_dir(&self.folder).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.running.push(command.spawn().expect(name));
    }

    fn try_kubectl(&self, words: &[&str]) -> nodegate_tests::programs::Said {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.folder.join("admin.kubeconfig")).args(words);
        said(&mut command, "", Duration::from_mins(1))
    }

    fn kubectl(&self, words: &[&str]) -> String {
        self.try_kubectl(words).ok().to_owned()
    }

    fn apply(&self, object: &Value) {
        let path = self.folder.join("object.json");
        fs::write(&path, object.to_string()).expect("an object");
        self.kubectl(&["apply", "-f", path.to_str().expect("a path")]);
    }

    /// A pod whose first act is to connect, five times, and which then says how often that came about.
    fn pod(&self, name: &str, labelled: bool, target: SocketAddr) {
        let script = format!(
            "n=0; for i in 1 2 3 4 5; do busybox nc -w 2 {} {} </dev/null >/dev/null 2>&1 && n=$((n+1)); done; \
             echo \"$n of 5\"; busybox sleep 600",
            target.ip(),
            target.port()
        );
        let labels = if labelled { json!({ "nodegate.dev/capture": "true" }) } else { json!({}) };
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "ci", "labels": labels },
            "spec": {
                "nodeName": "localhost", "serviceAccountName": "worker", "restartPolicy": "Never",
                "automountServiceAccountToken": false, "enableServiceLinks": false,
                "containers": [{ "name": "agent", "image": "localhost/agent:1", "imagePullPolicy": "Never",
                                 "args": ["-c", script] }],
            },
        }));
    }

    fn finished(&self, name: &str) -> String {
        wait_for("a pod to have said its piece", Duration::from_mins(2), || {
            let log = self.try_kubectl(&["-n", "ci", "logs", name]).out;
            log.lines().next().map(str::to_owned)
        })
    }

    /// Removes the pods, so that nothing of theirs is left, and ends everything.
    fn stop(&mut self) {
        self.try_kubectl(&["-n", "ci", "delete", "pods", "--all", "--grace-period=1", "--timeout=50s"]);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("logs are in {}", self.folder.display());
            for name in ["kubelet", "containerd", "api"] {
                let log = fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                eprintln!("{name}:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
            }
        }
        for mut child in self.running.drain(..).rev() {
            end(&mut child, Signal::SIGTERM);
        }
        leftovers::remove_cgroup(&leftovers::cgroup_mount().join(&self.cgroup));
        for hierarchy in hierarchies() {
            remove_empty(&hierarchy.join(&self.cgroup));
        }
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let ours = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for place in ours.filter(|place| Path::new(place).starts_with(&self.folder)) {
            let _ = Command::new("umount").arg(place).output();
        }
    }
}

/// The hierarchies of the older cgroups; none on a system that has cgroup2 alone.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").expect("/proc/mounts");
    let of = |line: &str| {
        let mut fields = line.split(' ');
        let (_, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup").then(|| PathBuf::from(place))
    };
    mounts.lines().filter_map(of).collect()
}

fn remove_empty(directory: &Path) {
    let below = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    below.filter(|entry| entry.path().is_dir()).for_each(|entry| remove_empty(&entry.path()));
    let _ = fs::remove_dir(directory);
}
