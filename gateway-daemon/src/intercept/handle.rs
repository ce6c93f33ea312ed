//! The handle: what the rest of the daemon sees of capture.

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use gateway_common::maps;
use tokio::{
    sync::{OwnedMutexGuard, mpsc},
    task::{AbortHandle, JoinHandle},
};

use super::{
    accept::{Arrival, Gate, Unattributed},
    capture::{Captured, Core, Origin, Told, raise_descriptor_limit},
    cgroups::Tree,
    direct::{self, DirectFlow, Grant, Leave},
    error::{Doing, InterceptError},
    existing::Existing,
    guard::UnixSockets,
    kernel::{Kernel, MapFill, Succession, held},
    labels::{self, Change},
    moves,
    namespaces::{Traveller, open_listeners},
    passages::{self, DatagramFlow, Passage},
    pods::UnknownPods,
    queries::{Counter, Query},
    refusals::{self, KernelRefusal, RefusalReason},
    sys, upkeep, watch,
};
use crate::domain::{flow::Workload, ids::CgroupId, pod::Pods};

/// How many arrivals wait for their session; then connections wait in the listener's queue.
const ARRIVALS: usize = 1024;
/// How many notices of what was turned away are kept for a slow reader; then they are dropped.
const NOTICES: usize = 1024;
/// How many DNS queries wait to be judged; then they are dropped.
const QUERIES: usize = 1024;

/// What capture needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory for pins on a bpf file system, e.g. `/sys/fs/bpf/nodegate`; made when it is missing.
    pub pins: PathBuf,
    /// Cgroup below the cgroup2 mount that holds the cgroups of `nodegate run`, e.g. `nodegate`.
    pub run_parent: String,
    /// Which Unix sockets captured processes are kept from, where the kernel lets nodegate do so.
    pub unix_sockets: UnixSockets,
    /// What becomes of connections that a cgroup had before it was captured.
    pub existing: Existing,
    /// Cgroup below the mount that is looked at for labels and pods, with everything below; empty for all.
    pub root: String,
    /// Whether pods are captured, and what becomes of unknown ones.
    pub pods: Option<UnknownPods>,
    /// Length of the queue of each listener, as for listen(2).
    pub listen_backlog: u32,
}

/// Whether another daemon accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Successor {
    /// No.
    None,
    /// Yes.
    Serves,
}

/// What capture yields.
#[derive(Debug)]
pub struct Streams {
    /// Captured connections. When nobody takes them, new ones wait in the listeners' queues.
    pub arrivals: mpsc::Receiver<Arrival>,
    /// Connections that were turned away because the kernel knows nothing of them. Dropped when not read.
    pub unattributed: mpsc::Receiver<Unattributed>,
    /// What the kernel side refused. Dropped when not read.
    pub refusals: mpsc::Receiver<KernelRefusal>,
    /// DNS queries over UDP. Dropped when not read: resolvers ask again.
    pub queries: mpsc::Receiver<Query>,
    /// Flows of datagrams that the kernel side let pass. When nobody takes them, the kernel's own buffer fills and it
    /// refuses what it cannot report.
    pub datagrams: mpsc::Receiver<DatagramFlow>,
    /// What was captured or let go without a command. Kept until read.
    pub changes: mpsc::UnboundedReceiver<Change>,
    /// Connections that went direct. They wait to be read: when the kernel's buffer is full, nothing goes direct.
    pub direct_flows: mpsc::Receiver<DirectFlow>,
}

/// Capture, running. Clones are the same one; when the last is dropped, the listeners close, and captured
/// cgroups stay captured: their connections are refused until the next start.
#[derive(Debug, Clone)]
pub struct Intercept {
    pub(super) running: Arc<Running>,
}

#[derive(Debug)]
pub(super) struct Running {
    pub core: Arc<Core>,
    /// The heartbeat and the programs' log: for as long as there is anything to accept.
    pulse: Vec<AbortHandle>,
    /// What only the owner of the pins does.
    duties: Mutex<Vec<JoinHandle<()>>>,
    refusals: mpsc::Sender<KernelRefusal>,
    datagrams: mpsc::Sender<DatagramFlow>,
    direct_flows: mpsc::Sender<DirectFlow>,
}

/// Holds everything still between letting go of the pins and what comes then.
#[derive(Debug)]
pub struct LetGo {
    _changes: OwnedMutexGuard<()>,
}

impl Intercept {
    /// Makes the calling thread, and those that it starts from then on, see all cgroups of the node: to be called before
    /// the runtime is built. A daemon that cannot is no worse off outside a container.
    pub fn see_all_cgroups() {
        if let Err(error) = sys::join_first_cgroup_namespace() {
            tracing::warn!(%error, "cannot leave this cgroup namespace: cgroups outside it cannot be told apart");
        }
    }

    /// Loads the kernel programs, takes over what a daemon before captured, and starts accepting.
    ///
    /// Needs root (CAP_NET_ADMIN, CAP_SYS_ADMIN) and must be called on a tokio runtime.
    pub async fn start(
        settings: Settings,
        succession: Succession,
    ) -> Result<(Self, Streams), InterceptError> {
        if let Err(error) = raise_descriptor_limit() {
            tracing::warn!(%error, "cannot raise the limit of open descriptors");
        }
        let tree = Tree::find()?;
        let (kernel, log) = Kernel::load(&settings.pins, succession)?;
        let (arrivals_in, arrivals) = mpsc::channel(ARRIVALS);
        let (unattributed_in, unattributed) = mpsc::channel(NOTICES);
        let (refusals_in, refusals) = mpsc::channel(NOTICES);
        let (direct_in, direct_flows) = mpsc::channel(NOTICES);
        let (queries_in, queries) = mpsc::channel(QUERIES);
        let (datagrams_in, datagrams) = mpsc::channel(NOTICES);
        let (news, changes) = mpsc::unbounded_channel();
        let kernel = Arc::new(kernel);
        let next_flow = Arc::new(AtomicU64::new(1));
        let counter = Arc::new(Counter {
            kernel: Arc::clone(&kernel),
            next_flow: Arc::clone(&next_flow),
            queries: queries_in,
        });
        let gate = Arc::new(Gate { kernel, next_flow, arrivals: arrivals_in, unattributed: unattributed_in });

        let traveller = Traveller::start().doing(|| "start the thread for network namespaces".to_owned())?;
        let home = "/proc/thread-self/ns/net";
        let home = Arc::new(File::open(home).doing(|| format!("open {home}"))?);
        let opened = open_listeners(&traveller, home, settings.listen_backlog)
            .await
            .doing(|| "listen on the loopback addresses".to_owned())?;
        gate.kernel.deny_unix(&settings.unix_sockets)?;
        let core = Arc::new(Core::new(
            settings,
            tree,
            gate,
            counter,
            traveller,
            opened.cookie,
            Told { notices: refusals_in.clone(), news },
        )?);
        core.put_into_service(opened, None)?;
        core.kernel.beat()?;
        let clock = upkeep::clock().doing(|| "make a timer".to_owned())?;
        let running = Arc::new(Running {
            pulse: vec![
                tokio::spawn(upkeep::heartbeat(Arc::clone(&core), clock)).abort_handle(),
                tokio::spawn(log).abort_handle(),
            ],
            duties: Mutex::default(),
            refusals: refusals_in,
            datagrams: datagrams_in,
            direct_flows: direct_in,
            core,
        });
        running.take_up_duties()?;
        {
            let _changes = running.core.changes.lock().await;
            running.core.exempt_own_pod()?;
            running.core.take_over().await?;
        }
        running.core.clear_leftovers().await?;
        running.core.survey().await;
        let streams = Streams { arrivals, unattributed, refusals, queries, datagrams, changes, direct_flows };
        Ok((Self { running }, streams))
    }

    /// Lets go of the pins for a successor, which takes everything over while this daemon still accepts. Nothing is
    /// captured or released until the answer is dropped or [taken back](Self::take_back).
    pub async fn let_go(&self) -> LetGo {
        let changes = Arc::clone(&self.running.core.changes).lock_owned().await;
        let duties = std::mem::take(&mut *held(&self.running.duties));
        for duty in duties {
            duty.abort();
            // It has ended, one way or the other.
            let _ = duty.await;
        }
        self.running.core.kernel.let_go();
        LetGo { _changes: changes }
    }

    /// The successor did not come to serve: everything is this daemon's again.
    pub fn take_back(&self, _: &LetGo) -> Result<(), InterceptError> {
        let core = &self.running.core;
        core.kernel.take_back()?;
        core.take_back_links()?;
        for (netns, ports) in core.namespaces.all() {
            core.kernel.publish_listener(netns, ports)?;
        }
        core.kernel.beat()?;
        self.running.take_up_duties()
    }

    /// Accepts nothing from now on: connects are refused, unless a successor has its listeners up.
    pub fn stop_accepting(&self, successor: Successor) {
        let core = &self.running.core;
        if successor == Successor::None {
            // Nobody opens another listener.
            held(&self.running.duties).iter().for_each(JoinHandle::abort);
            for (netns, _) in core.namespaces.all() {
                core.kernel.withdraw_listener(netns);
            }
        }
        core.namespaces.close_all();
        self.running.pulse.iter().for_each(AbortHandle::abort);
    }

    /// Captures a cgroup that exists, with all its descendants. `path` is absolute or relative to the cgroup2
    /// mount. Without a `label`, the one on the cgroup's directory counts. Connections that were open before
    /// are dealt with as the settings say.
    pub async fn capture(&self, path: &Path, label: Option<&str>) -> Result<Workload, InterceptError> {
        let core = &self.running.core;
        let _changes = core.changes.lock().await;
        let cgroup = core.tree.resolve(path)?;
        let id = cgroup.id;
        let before = core.captured().get(&id).cloned();
        if let Some(pod) = before.as_ref().filter(|before| before.origin == Origin::Pod) {
            // Its label is its pod's, and it is captured for longer than a command could say.
            return Ok(pod.workload());
        }
        let found = cgroup.label();
        let origin = core.origin_by_place(&cgroup).unwrap_or(Origin::Command);
        if let Err(error) = core.take_in(cgroup, label.or(found.as_deref()), origin).await {
            // A cgroup that was captured before stays so.
            if core.captured().get(&id).is_none()
                && let Err(error) = core.let_go(id)
            {
                tracing::warn!(cgroup = %id, %error, "cannot take back what was armed");
            }
            return Err(error);
        }
        let workload = self.workload(id).ok_or(InterceptError::NotCaptured(id))?;
        if let Some(before) = before.filter(|before| before.label != workload.label) {
            core.announce(Change::Relabelled { workload: workload.clone(), before: before.label });
        }
        Ok(workload)
    }

    /// Ends the capture of a cgroup. Connections that were captured go on until their session ends.
    pub async fn release(&self, cgroup: CgroupId) -> Result<(), InterceptError> {
        let core = &self.running.core;
        let _changes = core.changes.lock().await;
        let captured = core.captured().get(&cgroup).cloned().ok_or(InterceptError::NotCaptured(cgroup))?;
        core.let_go(cgroup)?;
        captured.cgroup.remove_label();
        if captured.origin == Origin::Pod {
            core.pass_released_pod(&captured.cgroup)?;
        }
        Ok(())
    }

    /// Makes a cgroup for one run, arms it, sees to a listener in the network namespace of `pid`, and then
    /// moves that process into it.
    pub async fn start_run(&self, pid: u32, label: Option<&str>) -> Result<Workload, InterceptError> {
        self.running.core.start_run(pid, label).await
    }

    /// Ends a run: kills what is left of it and removes its cgroup with everything below. It ends by itself
    /// when its last process exits; ending it twice is no error.
    pub async fn end_run(&self, cgroup: CgroupId) -> Result<(), InterceptError> {
        self.running.core.end_run(cgroup).await
    }

    /// The workload that a captured cgroup stands for.
    pub fn workload(&self, captured_cgroup: CgroupId) -> Option<Workload> {
        self.running.core.captured().get(&captured_cgroup).map(Captured::workload)
    }

    /// The workload that a process belongs to: its nearest captured cgroup. The caller sees to it that the
    /// process is the one it means, by a pidfd.
    pub fn workload_of_pid(&self, pid: u32) -> io::Result<Option<Workload>> {
        self.running.core.workload_of_pid(pid)
    }

    /// Takes in what is known of this node's pods now. From the first call on, an unknown pod is held, where the
    /// settings say so.
    pub async fn know_pods(&self, pods: &Pods) -> Result<(), InterceptError> {
        self.running.core.know_pods(pods).await
    }

    /// Everything that is captured.
    pub fn workloads(&self) -> Vec<Workload> {
        self.running.core.captured().values().map(Captured::workload).collect()
    }

    /// Sets where a captured cgroup may send datagrams to, in place of what was open to it before.
    pub fn set_passages(&self, cgroup: CgroupId, open: &[Passage]) -> Result<(), InterceptError> {
        self.running.core.kernel.set_passages(cgroup, open)
    }

    /// Lets these grants hold, and no others: what is not among them goes through the daemon from now on.
    pub fn grant(&self, grants: &[Grant]) -> Result<(), InterceptError> {
        self.running.core.kernel.set_direct(grants)
    }

    /// Says in which captured cgroups which refusals are only reported. In all others none is.
    pub fn leave(&self, leaves: &HashMap<CgroupId, Leave>) -> Result<(), InterceptError> {
        self.running.core.kernel.set_lenience(leaves)
    }

    /// Waits for the next heartbeat on which what is done every five seconds is done; for ever when nothing is accepted
    /// any more.
    pub async fn round(&self) {
        self.running.core.round.notified().await;
    }

    /// How long ago the kernel programs were told that the daemon is alive; `None` where they cannot be asked.
    pub fn heartbeat_age(&self) -> Option<Duration> {
        let heard = self.running.core.kernel.heartbeat()?;
        Some(Duration::from_nanos(sys::boot_ns().ok()?.saturating_sub(heard)))
    }

    /// How full the maps of the kernel programs are that can be full.
    pub fn map_entries(&self) -> Vec<MapFill> {
        self.running.core.kernel.fills()
    }

    /// How many records of connections the kernel holds that were not accepted yet.
    pub fn flow_records(&self) -> usize {
        self.running.core.kernel.flow_count()
    }
}

impl Running {
    fn take_up_duties(&self) -> Result<(), InterceptError> {
        let core = || Arc::clone(&self.core);
        let refusals = self.core.kernel.feed(maps::REFUSALS)?;
        let datagrams = self.core.kernel.feed(maps::DATAGRAMS)?;
        let direct_flows = self.core.kernel.feed(maps::DIRECT_FLOWS)?;
        let moved = self.core.kernel.feed(maps::MOVES)?;
        let control_sockets = self.core.settings.unix_sockets.entries();
        let tell = teller(core(), self.refusals.clone());
        let duties = [
            tokio::spawn(upkeep::sweep_flows(core())),
            tokio::spawn(upkeep::reap(core())),
            tokio::spawn(upkeep::drop_namespaces(core())),
            tokio::spawn(watch::follow(core())),
            tokio::spawn(labels::follow(core())),
            tokio::spawn(moves::follow(core(), moved)),
            tokio::spawn(passages::report_all(datagrams, self.datagrams.clone())),
            tokio::spawn(direct::report_all(direct_flows, self.direct_flows.clone())),
            tokio::spawn(refusals::report_all(refusals, control_sockets, tell)),
        ];
        held(&self.duties).extend(duties);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.pulse.iter().for_each(AbortHandle::abort);
        held(&self.duties).iter().for_each(JoinHandle::abort);
        self.core.namespaces.close_all();
    }
}

/// Hands refusals on, and opens listeners where one was missing, so that the next attempt works.
fn teller(core: Arc<Core>, refusals: mpsc::Sender<KernelRefusal>) -> impl FnMut(KernelRefusal) + Send {
    move |refusal| {
        if let (RefusalReason::NoListener, Some(user)) = (refusal.reason, refusal.captured_cgroup) {
            let core = Arc::clone(&core);
            // The thread's, not the process's: a thread may have gone to a namespace of its own.
            let path = format!("/proc/{}/task/{}/ns/net", refusal.pid, refusal.tid);
            tokio::spawn(async move {
                if let Err(error) = core.serve_namespace(Path::new(&path), user).await {
                    tracing::warn!(%error, "cannot serve a network namespace");
                }
            });
        }
        // For information only: whoever does not read must not make us remember.
        let _ = refusals.try_send(refusal);
    }
}
