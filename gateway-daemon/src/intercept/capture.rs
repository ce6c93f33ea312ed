//! What is captured: arming and releasing cgroups, taking over those of the daemon before, and the namespaces
//! that their processes need.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use gateway_common::state::Standing;
use tokio::{
    sync::{Mutex, Notify, mpsc},
    time::sleep,
};

use super::{
    accept::{Gate, Place},
    brought::{Looks, Since},
    cgroups::{Cgroup, Places, Tree, path_of_process},
    error::{Doing, InterceptError},
    handle::Settings,
    kernel::{Kernel, held},
    labels::Change,
    links::Reaped,
    lookout::Lookout,
    namespaces::{Namespaces, Opened, Traveller, open_listeners},
    pods::KnownPods,
    queries::Counter,
    refusals::KernelRefusal,
    watch::Watch,
};
use crate::domain::{
    flow::Workload,
    ids::{CgroupId, NetnsCookie},
};

/// When the processes of a cgroup are looked at after some have appeared.
const NEWCOMERS: [Duration; 5] = [
    Duration::from_millis(2),
    Duration::from_millis(10),
    Duration::from_millis(40),
    Duration::from_millis(150),
    Duration::from_millis(800),
];

/// What captured a cgroup, and so what ends its capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// `nodegate run`: we made it, and remove it when everybody has left.
    Run,
    /// `nodegate capture add`, until `remove`.
    Command,
    /// The label on its directory, while it is there.
    Label,
    /// It is a pod's, for as long as the pod lives.
    Pod,
}

impl Origin {
    /// Whether the label on the directory is followed after it was captured.
    pub fn heeds_labels(self) -> bool {
        matches!(self, Self::Command | Self::Label)
    }

    /// Its name in the pins.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Command => "command",
            Self::Label => "label",
            Self::Pod => "pod",
        }
    }

    /// The origin of a name. What another version wrote ends by command only.
    pub fn from_name(name: &str) -> Self {
        [Self::Run, Self::Label, Self::Pod]
            .into_iter()
            .find(|origin| origin.name() == name)
            .unwrap_or(Self::Command)
    }
}

/// One captured cgroup.
#[derive(Debug, Clone)]
pub(super) struct Captured {
    pub cgroup: Cgroup,
    pub label: Option<String>,
    pub origin: Origin,
    /// It was said already that somebody wants it otherwise.
    pub disputed: bool,
}

impl Captured {
    pub fn workload(&self) -> Workload {
        Workload { cgroup: self.cgroup.id, path: self.cgroup.path.clone(), label: self.label.clone() }
    }
}

/// Where capture tells what happens.
#[derive(Debug)]
pub(super) struct Told {
    /// What it has to report of connections.
    pub notices: mpsc::Sender<KernelRefusal>,
    /// Changes of what is captured that nobody asked for.
    pub news: mpsc::UnboundedSender<Change>,
}

/// Everything that the handle and the background tasks share.
#[derive(Debug)]
pub(super) struct Core {
    pub settings: Settings,
    pub tree: Tree,
    pub places: Places,
    pub kernel: Arc<Kernel>,
    pub gate: Arc<Gate>,
    pub counter: Arc<Counter>,
    pub traveller: Traveller,
    pub namespaces: Namespaces,
    pub watch: Watch,
    /// For what capture itself has to report.
    pub notices: mpsc::Sender<KernelRefusal>,
    pub lookout: Lookout,
    /// Who is to be looked at again.
    pub looks: Looks,
    pub pods: KnownPods,
    /// Where changes are told that nobody asked for.
    pub news: mpsc::UnboundedSender<Change>,
    /// Held while the set of captured cgroups changes.
    pub changes: Arc<Mutex<()>>,
    /// Held while a namespace is taken into service.
    opening: Mutex<()>,
    captured: RwLock<HashMap<CgroupId, Captured>>,
    /// Cgroups whose newcomers are being looked at.
    awaiting: std::sync::Mutex<HashSet<CgroupId>>,
    /// Cgroups that are gone while sockets of theirs may live.
    retired: std::sync::Mutex<HashSet<CgroupId>>,
    /// There is one more of them.
    retires: Notify,
    /// Every few heartbeats.
    pub(super) round: Notify,
}

impl Core {
    pub fn new(
        settings: Settings,
        tree: Tree,
        gate: Arc<Gate>,
        counter: Arc<Counter>,
        traveller: Traveller,
        home: NetnsCookie,
        told: Told,
    ) -> Result<Self, InterceptError> {
        let Told { notices, news } = told;
        Ok(Self {
            settings,
            tree,
            places: Places::default(),
            kernel: Arc::clone(&gate.kernel),
            gate,
            counter,
            traveller,
            namespaces: Namespaces::new(home),
            watch: Watch::new().doing(|| "start inotify".to_owned())?,
            notices,
            changes: Arc::default(),
            lookout: Lookout::new().doing(|| "start inotify".to_owned())?,
            looks: Looks::default(),
            pods: KnownPods::default(),
            news,
            opening: Mutex::new(()),
            captured: RwLock::new(HashMap::new()),
            awaiting: std::sync::Mutex::new(HashSet::new()),
            retired: std::sync::Mutex::new(HashSet::new()),
            retires: Notify::new(),
            round: Notify::new(),
        })
    }

    /// Arms a cgroup for good: links, listeners where its processes live, and a look-out for its end. The
    /// caller holds `changes`.
    pub async fn take_in(
        &self,
        cgroup: Cgroup,
        label: Option<&str>,
        origin: Origin,
    ) -> Result<(), InterceptError> {
        refuse_own(&cgroup)?;
        let is_new = !self.kernel.is_armed(cgroup.id);
        self.kernel.arm(&cgroup, label, origin)?;
        // On the directory it is for whoever looks there, and captures the cgroup anew should the pins be lost. A
        // pod is known by its own label.
        if let Some(label) = label.filter(|_| origin != Origin::Pod) {
            cgroup.set_label(label);
        }
        let id = cgroup.id;
        // Before its first connection can arrive, or as soon as may be after.
        let label = label.map(str::to_owned);
        let captured = Captured { cgroup: cgroup.clone(), label, origin, disputed: false };
        self.captured_mut().insert(id, captured);
        for pid in cgroup.processes() {
            self.serve_process(pid, id).await;
        }
        if is_new && origin != Origin::Run {
            self.deal_with_existing(&cgroup).await;
            for pid in cgroup.processes() {
                self.look_through(pid, Since::Captured).await;
            }
        }
        self.watch.add(&cgroup).doing(|| format!("watch {}", cgroup.path))
    }

    /// Takes the links off a cgroup and forgets it. The caller holds `changes`.
    pub fn let_go(&self, id: CgroupId) -> Result<(), InterceptError> {
        self.kernel.disarm(id)?;
        self.forget(id);
        Ok(())
    }

    /// Forgets a cgroup whose directory is gone. Its links stay until its last socket is gone. The caller holds
    /// `changes`.
    pub fn retire(&self, id: CgroupId) -> Result<(), InterceptError> {
        self.kernel.unmark_captured(id)?;
        if let Some(gone) = self.captured().get(&id) {
            self.announce(Change::Gone(gone.workload()));
        }
        self.forget(id);
        held(&self.retired).insert(id);
        self.retires.notify_one();
        self.reap_retired();
        Ok(())
    }

    /// Waits until there are cgroups that are gone and whose sockets may live.
    pub async fn retirement(&self) {
        while held(&self.retired).is_empty() {
            self.retires.notified().await;
        }
    }

    /// Removes the pins of retired cgroups that have no sockets left.
    pub fn reap_retired(&self) {
        held(&self.retired).retain(|id| match self.kernel.reap(*id) {
            Ok(reaped) => reaped == Reaped::NotYet,
            Err(error) => {
                tracing::warn!(cgroup = %id, %error, "cannot remove the pins of a cgroup that is gone");
                true
            }
        });
    }

    /// Whether a cgroup that was captured is gone, and its sockets may not be.
    pub fn is_retired(&self, id: CgroupId) -> bool {
        held(&self.retired).contains(&id)
    }

    fn forget(&self, id: CgroupId) {
        self.watch.remove(id);
        for netns in self.namespaces.leave(id) {
            self.kernel.withdraw_listener(netns);
        }
        self.captured_mut().remove(&id);
    }

    /// Takes over what the daemon before us had captured. Cgroups that are gone meanwhile lose their pins.
    pub async fn take_over(&self) -> Result<(), InterceptError> {
        let index = self.tree.index();
        let pinned = self.kernel.pinned()?;
        let known: HashSet<CgroupId> = pinned.iter().map(|pinned| pinned.cgroup).collect();
        self.take_over_pods(&index)?;
        self.hear_of_moves();
        for (stale, standing) in self.kernel.marks() {
            let for_pods = matches!(standing, Some(Standing::Passing | Standing::Held));
            if !known.contains(&stale) && !for_pods {
                self.kernel.unmark_captured(stale)?;
            }
        }
        for pinned in pinned {
            let Some(dir) = index.get(&pinned.cgroup) else {
                self.retire(pinned.cgroup)?;
                continue;
            };
            let cgroup = self.tree.resolve(dir)?;
            let label = pinned.label.or_else(|| cgroup.label());
            let origin = self.origin_by_place(&cgroup).unwrap_or(pinned.origin);
            let path = cgroup.path.clone();
            match self.take_in(cgroup, label.as_deref(), origin).await {
                Ok(()) => tracing::info!(cgroup = %path, "taken over"),
                // Its links stay as they are: refused connections are the lesser evil.
                Err(error) => tracing::error!(cgroup = %path, %error, "cannot take over"),
            }
        }
        let served = self.namespaces.all().into_iter().map(|(netns, _)| netns).collect();
        self.kernel.withdraw_all_but(&served);
        self.kernel.arm_node(self.tree.root())?;
        // Capture works without, as with moves.
        if let Err(error) = self.kernel.arm_guard() {
            tracing::warn!(%error, "no guard over Unix sockets and exotic families");
        }
        self.looks.at_everybody();
        self.kernel.remove_other_layouts().doing(|| "remove maps of another layout".to_owned())
    }

    /// Makes everything that is captured run this daemon's programs again.
    pub fn take_back_links(&self) -> Result<(), InterceptError> {
        let captured: Vec<Captured> = self.captured().values().cloned().collect();
        for Captured { cgroup, label, origin, .. } in captured {
            self.kernel.arm(&cgroup, label.as_deref(), origin)?;
        }
        self.take_back_pods()?;
        self.hear_of_moves();
        self.looks.at_everybody();
        self.kernel.arm_node(self.tree.root())
    }

    /// Has those who come into captured cgroups reported. Capture works without; what is open then is a promise, and
    /// whoever starts us judges those.
    fn hear_of_moves(&self) {
        if let Err(error) = self.kernel.arm_moves() {
            tracing::warn!(%error, "nobody tells who moves into captured cgroups");
        }
    }

    /// Serves the namespace of a process. What fails is logged: the process may be gone, and if it is not, the
    /// kernel side refuses and asks again.
    pub async fn serve_process(&self, pid: u32, user: CgroupId) {
        let path = format!("/proc/{pid}/ns/net");
        if let Err(error) = self.serve_namespace(Path::new(&path), user).await {
            tracing::debug!(pid, %error, "cannot serve the network namespace of a process");
        }
    }

    /// Serves the namespaces of a captured cgroup in which processes have just appeared. A runtime moves a process
    /// into its cgroup before it moves it into its namespace, so it is looked at more than once; whoever is quicker
    /// than that is refused, and asks for the listener by being refused.
    pub fn serve_newcomers(self: &Arc<Self>, id: CgroupId) {
        if !held(&self.awaiting).insert(id) {
            return;
        }
        let core = Arc::clone(self);
        tokio::spawn(async move {
            for pause in NEWCOMERS {
                sleep(pause).await;
                let Some(captured) = core.captured().get(&id).cloned() else { break };
                for pid in captured.cgroup.processes() {
                    core.serve_process(pid, id).await;
                }
            }
            held(&core.awaiting).remove(&id);
        });
    }

    /// Makes sure that there are listeners in a network namespace.
    pub async fn serve_namespace(&self, path: &Path, user: CgroupId) -> Result<(), InterceptError> {
        let file = File::open(path).doing(|| format!("open {}", path.display()))?;
        let _opening = self.opening.lock().await;
        if self.namespaces.use_known(&file, Some(user)).doing(|| format!("look at {}", path.display()))? {
            return Ok(());
        }
        let opened = open_listeners(&self.traveller, Arc::new(file), self.settings.listen_backlog)
            .await
            .doing(|| format!("listen in {}", path.display()))?;
        tracing::info!(netns = %opened.cookie, ports = ?opened.ports, "listening in another network namespace");
        self.put_into_service(opened, Some(user))
    }

    /// Starts accepting on listeners and tells the kernel side of them.
    pub fn put_into_service(&self, opened: Opened, user: Option<CgroupId>) -> Result<(), InterceptError> {
        let Opened { cookie, ports, listener, datagrams } = opened;
        self.kernel.show_listener(cookie, ports, &listener)?;
        let (gate, counter) = (Arc::clone(&self.gate), Arc::clone(&self.counter));
        let place = Place { netns: cookie, port: ports.port_v4 };
        let accepting = vec![
            tokio::spawn(gate.accept_all(Arc::clone(&listener), place)).abort_handle(),
            tokio::spawn(counter.receive_all(datagrams, cookie)).abort_handle(),
        ];
        self.namespaces
            .insert(cookie, ports, &listener, user, accepting)
            .doing(|| "look at a namespace".to_owned())?;
        self.kernel.publish_listener(cookie, ports)
    }

    /// Looks where all captured processes live and takes the namespaces of nobody out of service.
    pub async fn drop_unused_namespaces(&self) {
        let _changes = self.changes.lock().await;
        let _opening = self.opening.lock().await;
        if !self.namespaces.has_others() {
            return;
        }
        let mut seen: HashMap<(u64, u64), HashSet<CgroupId>> = HashMap::new();
        let captured: Vec<Captured> = self.captured().values().cloned().collect();
        for captured in captured {
            for pid in captured.cgroup.processes() {
                // Looked at by its path: that spares opening it.
                if let Ok(namespace) = fs::metadata(format!("/proc/{pid}/ns/net")) {
                    let namespace = (namespace.dev(), namespace.ino());
                    seen.entry(namespace).or_default().insert(captured.cgroup.id);
                }
            }
        }
        for netns in self.namespaces.set_users(&seen) {
            tracing::info!(%netns, "nobody lives in this network namespace any more");
            self.kernel.withdraw_listener(netns);
        }
    }

    /// The captured cgroup that a process is in: the nearest above it.
    pub fn workload_of_pid(&self, pid: u32) -> io::Result<Option<Workload>> {
        let path = path_of_process(pid)?;
        Ok(self.nearest_captured(&path).as_ref().map(Captured::workload))
    }

    /// The captured cgroup that is, or lies nearest above, the cgroup of that path.
    pub fn nearest_captured(&self, path: &str) -> Option<Captured> {
        let captured = self.captured();
        let above = captured.values().filter(|captured| captured.cgroup.contains(path));
        above.max_by_key(|captured| captured.cgroup.path.len()).cloned()
    }

    /// Gives a captured cgroup another label; answers what it stands for now.
    pub fn relabel(&self, id: CgroupId, label: Option<&str>) -> Option<Workload> {
        let mut captured = self.captured_mut();
        let captured = captured.get_mut(&id)?;
        captured.label = label.map(str::to_owned);
        Some(captured.workload())
    }

    /// Notes that somebody wants a captured cgroup otherwise; answers only the first time.
    pub fn first_dispute(&self, id: CgroupId) -> Option<Workload> {
        let mut captured = self.captured_mut();
        let captured = captured.get_mut(&id)?;
        let first = !std::mem::replace(&mut captured.disputed, true);
        first.then(|| captured.workload())
    }

    /// The cgroup is as everybody wants it.
    pub fn settle(&self, id: CgroupId) {
        if let Some(captured) = self.captured_mut().get_mut(&id) {
            captured.disputed = false;
        }
    }

    /// The captured cgroups whose directories are gone.
    pub fn vanished(&self) -> Vec<CgroupId> {
        self.captured()
            .values()
            .filter(|captured| !captured.cgroup.is_there())
            .map(|gone| gone.cgroup.id)
            .collect()
    }

    /// The set of captured cgroups.
    pub fn captured(&self) -> RwLockReadGuard<'_, HashMap<CgroupId, Captured>> {
        self.captured.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn captured_mut(&self) -> RwLockWriteGuard<'_, HashMap<CgroupId, Captured>> {
        self.captured.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The daemon's own connections must never come back to it.
fn refuse_own(cgroup: &Cgroup) -> Result<(), InterceptError> {
    let own = path_of_process(std::process::id()).doing(|| "find the daemon's own cgroup".to_owned())?;
    if cgroup.contains(&own) { Err(InterceptError::OwnCgroup(cgroup.path.clone())) } else { Ok(()) }
}

/// Raises the limit of open descriptors as far as it goes: each captured connection takes two.
pub(super) fn raise_descriptor_limit() -> io::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(())
}

/// Makes a directory unless it is there.
pub(super) fn make_dir(path: &Path) -> Result<(), InterceptError> {
    fs::create_dir_all(path).doing(|| format!("create {}", path.display()))
}
