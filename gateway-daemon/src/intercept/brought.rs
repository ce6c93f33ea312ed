//! What a process brings along into a captured cgroup: sockets from outside that lead out without asking anybody. Its
//! descriptors are looked at; what the kernel can end is ended, and where it cannot, the process is. Connections that came
//! to a listening socket are somebody else's and stay.
//!
//! A descriptor that closes when its process runs another program gets a moment to do so: whoever starts a process in a
//! cgroup often has connections of its own, which the new process holds only until then.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gateway_common::direct::{LENIENT, OPEN};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    capture::{Captured, Core},
    cgroups::path_of_process,
    diag::{self, Ended, Found, LISTEN},
    existing::Existing,
    kernel::held,
    process::{Connected, Leads, MPTCP, Open, Process, UDP_LITE},
    refusals::{Fate, KernelRefusal, RefusalReason},
    sys,
};
use crate::domain::ids::{CgroupId, NetnsCookie};

/// How long a process may take to run its program after it has come.
const UNTIL_EXEC: Duration = Duration::from_millis(100);
/// How long it may take to let go of what it had when it is ended.
const UNTIL_GONE: Duration = Duration::from_millis(500);
/// How often a connection is looked for that is in no list.
const LISTINGS: u32 = 3;
/// How often those are looked for that a process has handed its socket on to; then their whole cgroup ends.
const ROUNDS: u32 = 3;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Since when a process is where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// It has just come; it is the one that started then, CLOCK_BOOTTIME.
    Moved { started_ns: u64 },
    /// Its cgroup has just been captured.
    Captured,
    /// Nobody has watched: what cannot be told from its own it keeps.
    Unwatched,
}

/// Which of its descriptors are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Those that it keeps when it runs another program.
    First,
    /// All.
    Last,
}

/// A process that is being looked at.
#[derive(Debug)]
pub(super) struct Look {
    process: Arc<Process>,
    since: Since,
    /// The sockets that have been dealt with.
    dealt: HashSet<u64>,
}

/// Those who are to be looked at again, and whether everybody is.
#[derive(Debug, Default)]
pub(super) struct Looks {
    later: Mutex<Vec<(Instant, Look)>>,
    everybody: AtomicBool,
    bell: Notify,
}

impl Looks {
    /// Has everybody in captured cgroups looked at.
    pub fn at_everybody(&self) {
        self.everybody.store(true, Ordering::Release);
        self.bell.notify_one();
    }

    /// Whether somebody wants that, who is then taken at his word.
    pub fn take_everybody(&self) -> bool {
        self.everybody.swap(false, Ordering::AcqRel)
    }

    fn again(&self, look: Look) {
        held(&self.later).push((Instant::now() + UNTIL_EXEC, look));
        self.bell.notify_one();
    }

    /// Returns when somebody is to be looked at: now, or after a while as soon as that is over. Cancel-safe.
    pub async fn wanted(&self) {
        let first = held(&self.later).first().map(|(due, _)| *due);
        match first {
            Some(due) => tokio::select! {
                () = sleep_until(due) => {}
                () = self.bell.notified() => {}
            },
            None => self.bell.notified().await,
        }
    }

    /// Those that are due now.
    pub fn due(&self) -> Vec<Look> {
        let mut later = held(&self.later);
        let now = Instant::now();
        let count = later.iter().take_while(|(due, _)| *due <= now).count();
        later.drain(..count).map(|(_, look)| look).collect()
    }
}

/// A socket that leads out and was not made inside.
#[derive(Debug)]
struct Brought {
    inode: u64,
    netns: NetnsCookie,
    family: i32,
    protocol: i32,
    peer: Option<SocketAddr>,
    /// With the way to the list that it is in, where the kernel can end it.
    found: Option<(Arc<OwnedFd>, Found)>,
}

impl Core {
    /// Looks at a process that is in a captured cgroup, as far as anybody knows.
    pub async fn look_through(&self, pid: u32, since: Since) {
        let Some(process) = Process::open(pid).filter(|_| self.kernel.sees_moves()) else { return };
        // A number may have gone to another meanwhile, which has not moved.
        let since = match since {
            Since::Moved { started_ns } if !process.started_at(started_ns) => Since::Unwatched,
            since => since,
        };
        let look = Look { process: Arc::new(process), since, dealt: HashSet::new() };
        self.examine(look, Pass::First).await;
    }

    /// Looks at everybody.
    pub async fn look_at_all_captured(&self) {
        let captured: Vec<Captured> = self.captured().values().cloned().collect();
        for captured in captured {
            for pid in captured.cgroup.processes() {
                self.look_through(pid, Since::Unwatched).await;
            }
        }
    }

    /// Deals with what a process has open and was not dealt with yet.
    pub async fn examine(&self, mut look: Look, pass: Pass) {
        // Asked when its descriptor is open: who is there now was there then.
        let path = path_of_process(look.process.pid);
        let Some(captured) = path.ok().and_then(|path| self.nearest_captured(&path)) else { return };
        let process = Arc::clone(&look.process);
        let sockets = tokio::task::spawn_blocking(move || process.sockets()).await;
        let mut sockets = match sockets.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(sockets) => sockets,
            Err(error) => {
                let pid = look.process.pid;
                tracing::error!(pid, %error, "what a process brought along cannot be looked at");
                return;
            }
        };
        sockets.retain(|open| !look.dealt.contains(&open.inode));
        let all = sockets.len();
        if pass == Pass::First {
            sockets.retain(|open| !open.closes_on_exec);
        }
        let kept = sockets.len() < all;
        look.dealt.extend(sockets.iter().map(|open| open.inode));
        let brought = self.brought(sockets, &captured, look.since).await;
        self.end_or_report(&look, &captured, brought).await;
        if kept {
            self.looks.again(look);
        }
    }

    /// Those of its sockets that were not made inside and lead out.
    async fn brought(&self, sockets: Vec<Open>, captured: &Captured, since: Since) -> Vec<Brought> {
        let mut brought = Vec::new();
        let mut by_namespace: HashMap<NetnsCookie, (Option<File>, HashMap<u64, Connected>)> = HashMap::new();
        for Open { inode, leads, .. } in sockets {
            let (family, protocol) = match leads {
                Leads::AlongAPath(connected) => {
                    let netns = NetnsCookie(sys::netns_cookie(&connected.socket).unwrap_or_default());
                    let namespace = || (sys::namespace_of(&connected.socket).ok(), HashMap::new());
                    by_namespace.entry(netns).or_insert_with(namespace).1.insert(inode, connected);
                    continue;
                }
                Leads::Anywhere { family, protocol } => (family, protocol),
                Leads::Unknown => (libc::AF_UNSPEC, 0),
            };
            if since != Since::Unwatched || !self.may_be_its_own(family, captured) {
                let netns = self.namespaces.home;
                brought.push(Brought { inode, netns, family, protocol, peer: None, found: None });
            }
        }
        for (netns, (namespace, sockets)) in by_namespace {
            brought.extend(self.connected(netns, namespace, sockets, since).await);
        }
        brought
    }

    /// Whether a process may have made such a socket in a captured cgroup.
    fn may_be_its_own(&self, family: i32, captured: &Captured) -> bool {
        match family {
            libc::AF_INET | libc::AF_INET6 => {
                let flags = held(&self.kernel.lenience).flags(captured.cgroup.id);
                flags & (LENIENT | OPEN) != 0
            }
            // Nobody can look at it.
            libc::AF_UNSPEC => true,
            _ => !self.kernel.is_guarded(),
        }
    }

    /// Those sockets of a network namespace that are connected, not by a peer, and were made outside.
    async fn connected(
        &self,
        netns: NetnsCookie,
        namespace: Option<File>,
        mut sockets: HashMap<u64, Connected>,
        since: Since,
    ) -> Vec<Brought> {
        let namespace = namespace.map(Arc::new);
        let mut brought = Vec::new();
        for _ in 0..LISTINGS {
            // Also again: a connection that ends just then is in no list.
            sockets.retain(|_, connected| connected.may_send(diag::STATES));
            if sockets.is_empty() {
                return brought;
            }
            let listed = match &namespace {
                Some(namespace) => self.list_all(Arc::clone(namespace), &sockets).await,
                None => Err(io::Error::other("their network namespace is out of reach")),
            };
            let (list, listed) = match listed {
                Ok(listed) => listed,
                Err(error) => {
                    tracing::error!(%error, "the connections that a process brings cannot be found");
                    break;
                }
            };
            let serving = serving(&listed);
            for found in listed {
                let Some(connected) = sockets.remove(&found.inode.into()) else { continue };
                let came_to_it = found.protocol == diag::TCP && serving.contains(&found.local_port());
                if came_to_it || self.was_made_inside(found.cgroup, since) {
                    continue;
                }
                let (inode, Connected { family, protocol, .. }) = (found.inode.into(), connected);
                let peer = Some(found.peer());
                // The kernel ends the parts of an MPTCP connection, not the whole.
                let found = Some((Arc::clone(&list), found)).filter(|_| protocol != MPTCP);
                brought.push(Brought { inode, netns, family, protocol, peer, found });
            }
        }
        // What is in no list cannot be told from one's own, nor ended.
        if since != Since::Unwatched {
            brought.extend(sockets.into_iter().map(|(inode, connected)| {
                let (peer, Connected { family, protocol, .. }) = (connected.peer(), connected);
                Brought { inode, netns, family, protocol, peer, found: None }
            }));
        }
        brought
    }

    /// The kernel's list of TCP sockets, and of what else is asked for.
    async fn list_all(
        &self,
        namespace: Arc<File>,
        wanted: &HashMap<u64, Connected>,
    ) -> io::Result<(Arc<OwnedFd>, Vec<Found>)> {
        let list = Arc::new(self.traveller.within(namespace, diag::open).await?);
        let has = |protocol| wanted.values().any(|connected| connected.protocol == protocol);
        let mut protocols = vec![diag::TCP, diag::UDP];
        protocols.extend(has(UDP_LITE).then_some(diag::UDP_LITE));
        let listed = Arc::clone(&list);
        let found = tokio::task::spawn_blocking(move || -> io::Result<Vec<Found>> {
            let mut found = Vec::new();
            for protocol in protocols {
                for family in [libc::AF_INET, libc::AF_INET6] {
                    found.extend(diag::list(&listed, u8::try_from(family).unwrap_or_default(), protocol)?);
                }
            }
            Ok(found)
        });
        Ok((list, found.await.map_err(io::Error::other)??))
    }

    /// Whether what was made in that cgroup was made under capture. Of one that is gone nobody knows where it was.
    fn was_made_inside(&self, cgroup: CgroupId, since: Since) -> bool {
        if self.captured().contains_key(&cgroup) || self.is_retired(cgroup) {
            return true;
        }
        match self.places.find(&self.tree, cgroup) {
            Some(path) => self.nearest_captured(&path).is_some(),
            None => since == Since::Unwatched,
        }
    }

    async fn end_or_report(&self, look: &Look, captured: &Captured, brought: Vec<Brought>) {
        let mut unended = HashSet::new();
        for socket in brought {
            let reason = match (self.settings.existing, &socket.found) {
                (Existing::Report, _) => RefusalReason::ExistingLeft,
                (Existing::End, Some((list, found))) => match diag::destroy(list, found) {
                    Ok(Ended::Yes) => RefusalReason::ExistingEnded,
                    // As for every connection of a cgroup that is captured late: a promise of its own.
                    _ if look.since == Since::Captured => RefusalReason::ExistingLeft,
                    _ => RefusalReason::ExistingKilled,
                },
                (Existing::End, None) => RefusalReason::ExistingKilled,
            };
            if reason == RefusalReason::ExistingKilled {
                unended.insert(socket.inode);
            }
            self.tell_of(&look.process, captured, &socket, reason);
        }
        if !unended.is_empty() {
            self.end_holders(&look.process, captured, &unended).await;
        }
    }

    /// Ends a process that holds what cannot be ended otherwise, and everybody in its captured cgroup to whom it has
    /// handed that on meanwhile.
    async fn end_holders(&self, process: &Arc<Process>, captured: &Captured, sockets: &HashSet<u64>) {
        let (first, cgroup, sockets) = (Arc::clone(process), captured.cgroup.clone(), sockets.clone());
        let path = cgroup.path.clone();
        let ended = tokio::task::spawn_blocking(move || -> io::Result<()> {
            // Who could make children meanwhile would be quicker than whoever looks for them.
            let still = cgroup.hold_still(UNTIL_GONE).inspect_err(|error| {
                tracing::warn!(cgroup = %cgroup.path, %error, "a cgroup does not hold still");
            });
            first.kill(UNTIL_GONE)?;
            for _ in 0..ROUNDS {
                let mut holders =
                    cgroup.processes().into_iter().filter_map(Process::open).filter(|process| {
                        process
                            .sockets()
                            .is_ok_and(|open| open.iter().any(|open| sockets.contains(&open.inode)))
                    });
                let Some(holder) = holders.next() else { return Ok(()) };
                holder.kill(UNTIL_GONE)?;
                for holder in holders {
                    holder.kill(UNTIL_GONE)?;
                }
            }
            drop(still);
            tracing::error!(cgroup = %cgroup.path, "a socket from outside is handed on too fast: the whole cgroup is ended");
            cgroup.kill(PATIENCE)
        });
        let ended = ended.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = ended {
            tracing::error!(cgroup = %path, pid = process.pid, %error, "a process with a socket from outside is not ended");
        }
    }

    fn tell_of(&self, process: &Process, captured: &Captured, socket: &Brought, reason: RefusalReason) {
        let (name, id) = (process.name(), captured.cgroup.id);
        let Brought { netns, family, protocol, peer, .. } = socket;
        tracing::info!(
            cgroup = %id, pid = process.pid, name, family, protocol, ?peer, %reason,
            "a process brought a socket from outside"
        );
        let refusal = KernelRefusal {
            cgroup: id,
            captured_cgroup: Some(id),
            netns: *netns,
            pid: process.pid,
            tid: process.pid,
            uid: process.user(),
            comm: name,
            destination: *peer,
            control_socket: None,
            family: u16::try_from(*family).unwrap_or_default(),
            protocol: u16::try_from(*protocol).unwrap_or_default(),
            reason,
            // No call was refused: nobody is asked who made it.
            at_boot_ns: 0,
            fate: Fate::Refused,
        };
        // For information only: whoever does not read must not make us remember.
        let _ = self.notices.try_send(refusal);
    }
}

/// The ports on which somebody listens for connections.
fn serving(found: &[Found]) -> HashSet<u16> {
    found.iter().filter(|found| found.state == LISTEN).map(Found::local_port).collect()
}
