//! Network namespaces: one listener in each that captured processes live in, and sockets made inside them.
//!
//! A socket belongs to the namespace in which its thread was when it was made, and goes on serving it from
//! anywhere. So one thread of its own goes into a namespace, makes the socket and comes back; everything else
//! happens on the runtime. The listener also keeps the namespace: whoever wants to go there again asks it for the way.
//!
//! One socket serves both versions of IP, so that a namespace costs two descriptors: a listener, and one for datagrams.
//! Such a socket has no address of its own, and is out of the network's reach because it is bound to the loopback
//! device before it has a port.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    sync::{Arc, Mutex, Weak, mpsc},
    thread,
};

use gateway_common::state::Listener;
use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{setsockopt, sockopt},
};
use tokio::{
    net::{TcpListener, TcpSocket, UdpSocket},
    sync::oneshot,
    task::AbortHandle,
};

use super::{kernel::held, queries, sys};
use crate::domain::ids::{CgroupId, NetnsCookie};

type Job = Box<dyn FnOnce() + Send>;

/// The thread that goes into namespaces.
#[derive(Debug)]
pub(super) struct Traveller {
    jobs: Mutex<mpsc::Sender<Job>>,
}

impl Traveller {
    pub fn start() -> io::Result<Self> {
        Ok(Self { jobs: Mutex::new(spawn()?) })
    }

    /// Does `work` inside `namespace`. `work` must not block: everybody waits for this one thread.
    pub async fn within<T: Send + 'static>(
        &self,
        namespace: Arc<File>,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move || {
            let result =
                setns(&*namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from).and_then(|()| work());
            // Whoever asked may have given up meanwhile.
            let _ = answer.send(result);
        });
        {
            let mut jobs = held(&self.jobs);
            if let Err(mpsc::SendError(job)) = jobs.send(job) {
                // The thread stops when it cannot find the way home.
                *jobs = spawn()?;
                jobs.send(job).map_err(|_| gone())?;
            }
        }
        answered.await.map_err(|_| gone())?
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread for network namespaces is gone")
}

fn spawn() -> io::Result<mpsc::Sender<Job>> {
    let home = File::open("/proc/thread-self/ns/net")?;
    let (jobs, todo) = mpsc::channel::<Job>();
    thread::Builder::new().name("netns".to_owned()).spawn(move || {
        while let Ok(job) = todo.recv() {
            job();
            if let Err(error) = setns(&home, CloneFlags::CLONE_NEWNET) {
                tracing::error!(%error, "cannot come back from a network namespace");
                return;
            }
        }
    })?;
    Ok(jobs)
}

/// The namespaces that are served.
#[derive(Debug)]
pub(super) struct Namespaces {
    /// The daemon's own.
    pub home: NetnsCookie,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    served: HashMap<NetnsCookie, Served>,
    /// By device and inode of the namespace's file. Valid while a socket or the file holds the namespace.
    by_file: HashMap<(u64, u64), NetnsCookie>,
}

#[derive(Debug)]
struct Served {
    door: Door,
    ports: Listener,
    users: HashSet<CgroupId>,
    accepting: Vec<AbortHandle>,
}

/// The way into a namespace that is served.
#[derive(Debug)]
enum Door {
    /// The listener, while its task accepts.
    Listener(Weak<TcpListener>),
    /// What was kept of it when it closed, for the sessions that are left.
    Kept(Arc<File>),
}

impl Door {
    fn file(&self) -> Option<Arc<File>> {
        match self {
            Self::Listener(listener) => match sys::namespace_of(&*listener.upgrade()?) {
                Ok(file) => Some(Arc::new(file)),
                Err(error) => {
                    tracing::error!(%error, "a listener does not tell its network namespace");
                    None
                }
            },
            Self::Kept(file) => Some(Arc::clone(file)),
        }
    }
}

/// A listener that was just opened, not accepting yet, and a socket that does not receive yet.
pub(super) struct Opened {
    pub cookie: NetnsCookie,
    pub ports: Listener,
    pub listener: Arc<TcpListener>,
    pub datagrams: UdpSocket,
}

impl Namespaces {
    pub fn new(home: NetnsCookie) -> Self {
        Self { home, known: Mutex::new(Known::default()) }
    }

    /// Notes one more user of a namespace that is served; `false` where it is not served yet.
    pub fn use_known(&self, file: &File, user: Option<CgroupId>) -> io::Result<bool> {
        let identity = identity(file)?;
        let mut known = held(&self.known);
        let Some(cookie) = known.by_file.get(&identity).copied() else { return Ok(false) };
        if let (Some(served), Some(user)) = (known.served.get_mut(&cookie), user) {
            served.users.insert(user);
        }
        Ok(true)
    }

    /// Takes a namespace into service.
    pub fn insert(
        &self,
        cookie: NetnsCookie,
        ports: Listener,
        listener: &Arc<TcpListener>,
        user: Option<CgroupId>,
        accepting: Vec<AbortHandle>,
    ) -> io::Result<()> {
        let identity = identity(&sys::namespace_of(&**listener)?)?;
        let mut known = held(&self.known);
        known.by_file.insert(identity, cookie);
        let door = Door::Listener(Arc::downgrade(listener));
        let served = Served { door, ports, users: user.into_iter().collect(), accepting };
        if let Some(replaced) = known.served.insert(cookie, served) {
            replaced.accepting.iter().for_each(AbortHandle::abort);
        }
        Ok(())
    }

    /// The way into a namespace that is served.
    pub fn file(&self, cookie: NetnsCookie) -> Option<Arc<File>> {
        held(&self.known).served.get(&cookie)?.door.file()
    }

    /// The captured cgroups that have processes in a namespace, as far as is known.
    pub fn users(&self, cookie: NetnsCookie) -> Vec<CgroupId> {
        let known = held(&self.known);
        known.served.get(&cookie).map(|served| served.users.iter().copied().collect()).unwrap_or_default()
    }

    /// Forgets a user. Returns the namespaces that nobody uses any more: they are out of service.
    pub fn leave(&self, user: CgroupId) -> Vec<NetnsCookie> {
        let mut known = held(&self.known);
        for served in known.served.values_mut() {
            served.users.remove(&user);
        }
        known.drop_unused(self.home)
    }

    /// Sets who uses which namespace, by device and inode, after a look at all captured processes. Returns the
    /// namespaces that nobody uses any more: they are out of service.
    pub fn set_users(&self, seen: &HashMap<(u64, u64), HashSet<CgroupId>>) -> Vec<NetnsCookie> {
        let mut known = held(&self.known);
        let by_file = known.by_file.clone();
        for (identity, cookie) in by_file {
            if let Some(served) = known.served.get_mut(&cookie) {
                served.users = seen.get(&identity).cloned().unwrap_or_default();
            }
        }
        known.drop_unused(self.home)
    }

    /// Whether any is served but the daemon's own, which is in service for good.
    pub fn has_others(&self) -> bool {
        held(&self.known).served.keys().any(|cookie| *cookie != self.home)
    }

    /// All that are served, with their listeners' ports.
    pub fn all(&self) -> Vec<(NetnsCookie, Listener)> {
        held(&self.known).served.iter().map(|(cookie, served)| (*cookie, served.ports)).collect()
    }

    /// Stops all listeners. The ways into their namespaces stay.
    pub fn close_all(&self) {
        for served in held(&self.known).served.values_mut() {
            if let Some(file) = served.door.file() {
                served.door = Door::Kept(file);
            }
            served.accepting.iter().for_each(AbortHandle::abort);
        }
    }
}

impl Known {
    fn drop_unused(&mut self, home: NetnsCookie) -> Vec<NetnsCookie> {
        let unused: Vec<NetnsCookie> = self
            .served
            .iter()
            .filter(|(cookie, served)| **cookie != home && served.users.is_empty())
            .map(|(cookie, _)| *cookie)
            .collect();
        for cookie in &unused {
            if let Some(served) = self.served.remove(cookie) {
                served.accepting.iter().for_each(AbortHandle::abort);
            }
            self.by_file.retain(|_, served| served != cookie);
        }
        unused
    }
}

/// Device and inode of a namespace's file.
pub(super) fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Which versions of IP a namespace's loopback device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Versions {
    /// Both.
    Both,
    /// IPv4 alone.
    V4,
}

/// Opens the sockets of a namespace. Where IPv6 is switched off, IPv4 is all that they serve.
pub(super) async fn open_listeners(
    traveller: &Traveller,
    namespace: Arc<File>,
    backlog: u32,
) -> io::Result<Opened> {
    let (socket, datagrams, versions) = traveller
        .within(namespace, || {
            // Only an address that is there can be bound.
            let versions = match std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) {
                Ok(_) => Versions::Both,
                Err(_) => Versions::V4,
            };
            Ok((loopback_listener(versions)?, queries::open(versions)?, versions))
        })
        .await?;
    let listener = socket.listen(backlog)?;
    let cookie = NetnsCookie(sys::netns_cookie(&listener)?);
    let (tcp, dns) = (listener.local_addr()?.port(), datagrams.local_addr()?.port());
    let v6 = |port| if versions == Versions::Both { port } else { 0 };
    let ports = Listener { port_v4: tcp, port_v6: v6(tcp), dns_v4: dns, dns_v6: v6(dns) };
    Ok(Opened { cookie, ports, listener: Arc::new(listener), datagrams: UdpSocket::from_std(datagrams)? })
}

/// A listener on the loopback device, for both versions of IP or for IPv4 alone.
fn loopback_listener(versions: Versions) -> io::Result<TcpSocket> {
    let (socket, address): (_, SocketAddr) = match versions {
        Versions::Both => (TcpSocket::new_v6()?, (Ipv6Addr::UNSPECIFIED, 0).into()),
        Versions::V4 => (TcpSocket::new_v4()?, (Ipv4Addr::LOCALHOST, 0).into()),
    };
    socket.bind_device(Some(b"lo"))?;
    socket.set_reuseaddr(true)?;
    if versions == Versions::Both {
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    }
    socket.bind(address)?;
    Ok(socket)
}
