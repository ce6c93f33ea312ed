//! Where the ways are tried: three network namespaces with cables between them, targets in each, and one daemon.
//!
//! `far` is the target's namespace, seen from the host's by one cable and from the pod's by another, under the same
//! addresses below 198.18.0.0/15 and fd00:6e67::/32. No packet goes anywhere else.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use nodegate_tests::{
    daemon::{Daemon, Settings, Target},
    issuer::Issuer,
    leftovers,
    netns::Netns,
    programs::{self, said, succeed},
};
use serde_json::Value;

use crate::{
    Flag, Row, Way,
    attempt::{Attempt, Said, Verdict},
    targets::Targets,
};

/// The far target, from everywhere.
const FAR4: &str = "198.18.7.2";
const FAR6: &str = "fd00:6e67::2";
/// The near end of each cable.
const OWN4: &str = "198.18.7.1";
const OWN6: &str = "fd00:6e67::1";
const FAR_LOCAL: &str = "fe80::7:2";
/// Ports that the ways ask for besides the suite's own.
const PORTS: [&str; 7] = ["1", "22", "53", "80", "443", "853", "65535"];
const MDNS: &str = "5353";

/// Which targets are which.
const HOST: usize = 0;
const POD: usize = 1;
const HOST_FAR: usize = 2;
const POD_FAR: usize = 3;

/// Where an attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the host's network namespace.
    Host,
    /// In another one.
    Pod,
}

impl Place {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Host, Self::Pod];
}

/// A cgroup of the suite's own that the daemon captures.
pub struct Cgroup(PathBuf);

/// Everything that the ways need. Taken down in the order of the fields.
pub struct Ground {
    /// The daemon between the ways and their targets.
    pub daemon: Daemon,
    _issuer: Issuer,
    resident: Child,
    captured: Cgroup,
    targets: Vec<Targets>,
    pod: Netns,
    far: [Netns; 2],
    ways: PathBuf,
    folder: PathBuf,
    port: u16,
    device: String,
    tokens: AtomicU64,
}

impl Ground {
    /// Lays it out and starts everything.
    pub fn new(ways: PathBuf) -> Self {
        let issuer = Issuer::start();
        // No way is to a configured target, so that nothing may be forwarded: whatever arrives went past the daemon.
        let nowhere = Target::shop("shop", "127.0.0.1:1".parse().unwrap());
        let daemon = Daemon::start(&Settings::new(vec![nowhere]), &issuer);
        let (pod, far) = (Netns::new(), [Netns::new(), Netns::new()]);
        let device = format!("ngb{}", std::process::id());
        cable(None, &far[0], &device);
        cable(Some(&pod), &far[1], "eth0");
        succeed(pod.command("sysctl".as_ref()).args(["-qw", "net.ipv4.ping_group_range=0 2147483647"]));
        let folder = leftovers::folder(&leftovers::unique_name());
        let port = free_port();
        let near = folder.join("near.sock");
        let mut open: Vec<&str> = PORTS.to_vec();
        open.extend([MDNS, "sniff"]);
        let targets = vec![
            Targets::start(&ways, None, port, &["machine", "node", near.to_str().unwrap()]),
            Targets::start(&ways, Some(&pod), port, &["node"]),
            Targets::start(&ways, Some(&far[0]), port, &open),
            Targets::start(&ways, Some(&far[1]), port, &open),
        ];
        let captured = Cgroup::captured_by(&daemon, "ways");
        // A process that lives there all the time, as a pod's first one does: so the namespace stays in service.
        let mut resident = pod.command("sh".as_ref());
        resident.args(["-c", "echo $$ > \"$0\"/cgroup.procs && exec sleep 3600"]).arg(&captured.0);
        let resident = resident.stdin(Stdio::null()).spawn().expect("a resident process");
        let ground = Self {
            daemon,
            _issuer: issuer,
            resident,
            captured,
            targets,
            pod,
            far,
            ways,
            folder,
            port,
            device,
            tokens: AtomicU64::new(u64::from(std::process::id()) << 16),
        };
        ground.wait_for_listener();
        ground
    }

    /// The first connect() in a namespace that the daemon does not know is refused, and makes it listen there.
    fn wait_for_listener(&self) {
        let way = Way::plain("tcp_v4");
        programs::wait_for("the daemon to listen in the other namespace", Duration::from_secs(20), || {
            let attempt = self.attempt(&way, Place::Pod, Some(&self.captured.0), "");
            (attempt.said == Said::Sent).then_some(())
        });
    }

    /// Tries a way outside and inside of capture, in both namespaces.
    pub fn try_everywhere(&self, way: Way) -> Row {
        let places = Place::ALL.into_iter().filter(|place| *place == Place::Pod || !way.is(Flag::Private));
        let places: Vec<Place> = places.collect();
        let controls = at_once(&places, |place| self.control(&way, place));
        let absent = controls.iter().any(|control| matches!(control.said, Said::Absent(..)));
        let mut row = Row::new(way, controls);
        if absent {
            return row;
        }
        let inside = at_once(&places, |place| {
            let inside = self.inside(&row.way, place, "");
            let privilege = row.way.needs.as_deref().filter(|_| matches!(inside.verdict(), Verdict::Open(_)));
            let without = privilege.map(|privilege| self.inside(&row.way, place, privilege));
            (inside, without)
        });
        for (place, (inside, without)) in places.into_iter().zip(inside) {
            row.inside.push((place, inside));
            row.without.extend(without.map(|attempt| (place, attempt)));
        }
        row
    }

    fn control(&self, way: &Way, place: Place) -> Attempt {
        let before = self.targets.iter().map(Targets::count).collect::<Vec<_>>();
        let mut control = self.attempt(way, place, None, "");
        if control.said == Said::Sent && control.arrived.is_empty() {
            // It may take its time, since it is the one that has to arrive.
            for _ in 0..100 {
                thread::sleep(Duration::from_millis(20));
                control.arrived = if way.is(Flag::First) {
                    self.anonymous_since(&before, place)
                } else {
                    self.arrived_since(&before, &control.token)
                };
                if !control.arrived.is_empty() {
                    break;
                }
            }
        }
        // What it left under way must not be taken for the next one's.
        thread::sleep(Duration::from_millis(5));
        control
    }

    /// An attempt in a captured cgroup; in one of its own where the way may take it apart.
    fn inside(&self, way: &Way, place: Place, without: &str) -> Attempt {
        if !way.is(Flag::Meddles) {
            return self.attempt(way, place, Some(&self.captured.0), without);
        }
        let own = Cgroup::captured_by(&self.daemon, "meddler");
        self.attempt(way, place, Some(&own.0), without)
    }

    /// One run of a way, in that cgroup if there is one, without that privilege if it is named.
    pub fn attempt(&self, way: &Way, place: Place, cgroup: Option<&Path>, without: &str) -> Attempt {
        let token = self.token();
        let before = self.targets.iter().map(Targets::count).collect::<Vec<_>>();
        let mut command = self.command(way, place, cgroup, without, &token);
        let child = command.spawn().expect("the way to start");
        let pid = child.id();
        let said = heard(child);
        if cgroup.is_some() {
            // Whoever is quick to arrive has arrived by then; the slow are looked for at the end.
            thread::sleep(Duration::from_millis(10));
        }
        let mut arrived = self.arrived_since(&before, &token);
        if cgroup.is_some() && !way.is(Flag::Keeps) && !way.is(Flag::Outside) {
            arrived.extend(self.anonymous_since(&before, place));
        }
        Attempt { token, pid, said, arrived, judged: false }
    }

    /// A mark that nobody else has.
    pub fn token(&self) -> String {
        format!("ngt-{:011x}", self.tokens.fetch_add(1, Ordering::Relaxed) & 0xfff_ffff_ffff)
    }

    /// The command of one run of a way.
    pub fn command(
        &self,
        way: &Way,
        place: Place,
        cgroup: Option<&Path>,
        without: &str,
        token: &str,
    ) -> Command {
        let netns = |netns: &Netns| format!("/run/netns/{}", netns.name());
        let (device, own_netns, far_netns) = match place {
            Place::Host => (self.device.as_str(), String::new(), netns(&self.far[0])),
            Place::Pod => ("eth0", netns(&self.pod), netns(&self.far[1])),
        };
        let mut command = Command::new(&self.ways);
        command.args(["try", &way.name]).env("NG_TOKEN", token).env("NG_PORT", self.port.to_string());
        command.env("NG_DEVICE", device).env("NG_FOLDER", &self.folder).env("NG_FAR_NETNS", far_netns);
        command.env("NG_FAR4", FAR4).env("NG_FAR6", FAR6).env("NG_LOCAL", FAR_LOCAL).env("NG_OWN4", OWN4);
        command.env("NG_NETNS", own_netns).env("NG_DROP", without);
        command.env("NG_CGROUP", cgroup.unwrap_or(Path::new("")));
        command.env("NG_PINS", self.daemon.pins()).env("NG_ADMIN", self.daemon.socket());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Everything that has arrived anywhere with this token.
    pub fn arrived(&self, token: &str) -> Vec<String> {
        self.arrived_since(&vec![0; self.targets.len()], token)
    }

    fn arrived_since(&self, before: &[usize], token: &str) -> Vec<String> {
        let lines = self.targets.iter().zip(before).flat_map(|(targets, before)| targets.since(*before));
        lines.filter(|line| line.contains(token)).collect()
    }

    /// First packets and connections without a token: inside capture, even these must not arrive.
    fn anonymous_since(&self, before: &[usize], place: Place) -> Vec<String> {
        let here = if place == Place::Host { [HOST, HOST_FAR] } else { [POD, POD_FAR] };
        let lines = here.into_iter().flat_map(|index| self.targets[index].since(before[index]));
        lines.filter(|line| line.starts_with("packet") || line.starts_with("accepted")).collect()
    }

    /// Looks for tokens that arrived after their attempt had been given up.
    pub fn late_arrivals(&self, rows: &mut [Row]) {
        thread::sleep(Duration::from_millis(500));
        for attempt in rows.iter_mut().flat_map(Row::attempts_inside) {
            if attempt.arrived.is_empty() {
                attempt.arrived = self.arrived(&attempt.token);
            }
        }
    }

    /// Finds out which attempts the daemon has judged.
    pub fn look_up_captures(&self, rows: &mut [Row]) {
        let records = self.daemon.audit_search(&["--kind", "connect", "--limit", "0"]);
        let processes: Vec<&str> =
            records.iter().filter_map(|record| record["event"]["process"].as_str()).collect();
        for attempt in rows.iter_mut().flat_map(Row::attempts_inside) {
            // By name, or by number where a kernel thread bears a name of its own.
            let (name, pid) = (format!("({})", attempt.token), format!("{} (", attempt.pid));
            attempt.judged =
                processes.iter().any(|process| process.ends_with(&name) || process.starts_with(&pid));
        }
    }

    /// The promises that `nodegate doctor` says are not kept on this kernel.
    pub fn broken_promises() -> Vec<String> {
        let mut doctor = Command::new(programs::nodegate());
        let told = said(doctor.args(["doctor", "--json"]), "", Duration::from_secs(30));
        let checks = told.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let missing = checks.filter(|check| check["state"] == "missing" && check["need"] == "promise");
        missing.filter_map(|check| check["name"].as_str().map(str::to_owned)).collect()
    }

    /// A process that lives in the other namespace, captured.
    pub fn resident(&self) -> u32 {
        self.resident.id()
    }

    /// A command for the program of the ways, captured in the other namespace.
    pub fn captured_in_pod(&self) -> Command {
        let mut command = self.pod.command("sh".as_ref());
        command
            .args(["-c", "echo $$ > \"$0\"/cgroup.procs && exec \"$@\""])
            .arg(&self.captured.0)
            .arg(&self.ways);
        command
    }

    /// The suite's own directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The shared captured cgroup.
    pub fn cgroup(&self) -> &Path {
        &self.captured.0
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        programs::end(&mut self.resident, Signal::SIGKILL);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Cgroup {
    /// One that nobody has captured.
    pub fn free() -> Self {
        let path = leftovers::cgroup_mount().join(leftovers::unique_name()).join("agents");
        fs::create_dir_all(&path).expect("a cgroup");
        Self(path)
    }

    fn captured_by(daemon: &Daemon, label: &str) -> Self {
        let cgroup = Self::free();
        cgroup.capture(daemon, label);
        cgroup
    }

    /// Has it captured.
    pub fn capture(&self, daemon: &Daemon, label: &str) {
        let mut capture = daemon.nodegate(&["capture", "add", "--label", label]);
        said(capture.arg(&self.0), "", Duration::from_secs(20)).ok();
    }

    /// The file that takes processes in.
    pub fn procs(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Some(parent) = self.0.parent() {
            leftovers::remove_cgroup(parent);
        }
    }
}

/// What a way says in the end.
pub fn heard(child: Child) -> Said {
    let output = child.wait_with_output().expect("what it says");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said::parse(&text(&output.stdout), &text(&output.stderr), output.status)
}

/// Does the same in all places at once: they share nothing but the daemon.
fn at_once<T: Send>(places: &[Place], work: impl Fn(Place) -> T + Sync) -> Vec<T> {
    let work = &work;
    thread::scope(|scope| {
        let running: Vec<_> = places.iter().map(|place| scope.spawn(move || work(*place))).collect();
        running.into_iter().map(|thread| thread.join().expect("an attempt")).collect()
    })
}

/// Lays a cable from a namespace (`None` is the host's) to the far one, with the same addresses every time.
fn cable(near: Option<&Netns>, far: &Netns, device: &str) {
    let script = format!(
        "set -e
         ip link add {device} type veth peer name eth0 netns {far}
         ip addr add {OWN4}/30 dev {device}; ip addr add {OWN6}/64 dev {device} nodad; ip link set {device} up
         ip -n {far} addr add {FAR4}/30 dev eth0; ip -n {far} addr add {FAR6}/64 dev eth0 nodad
         ip -n {far} addr add {FAR_LOCAL}/64 dev eth0 nodad; ip -n {far} link set eth0 up",
        far = far.name()
    );
    let mut shell = near.map_or_else(|| Command::new("sh"), |near| near.command("sh".as_ref()));
    succeed(shell.args(["-c", &script]));
}

/// A port that nobody listens on, below those that the kernel gives to outgoing connections.
fn free_port() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("the port range");
    let first: u16 = range.split_whitespace().next().and_then(|port| port.parse().ok()).expect("a port");
    let mut ports = (1024 + (std::process::id() % 20_000) as u16..first).chain(1024..first);
    ports.find(|port| std::net::TcpListener::bind(("0.0.0.0", *port)).is_ok()).expect("a free port")
}
