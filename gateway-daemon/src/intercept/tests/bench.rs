//! What the tests stand on: a capture of their own, namespaces of their own, all gone afterwards.
#![expect(unsafe_code, reason = "system calls that no safe wrapper offers")]

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use aya::maps::{Map, MapData, MapError};
use nix::errno::Errno;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

use super::agent::Agent;
use crate::{
    domain::flow::Workload,
    intercept::{
        Arrival, Existing, Intercept, InterceptError, KernelRefusal, Settings, Streams, Succession,
        Unattributed, UnixSockets,
    },
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Pins and cgroups of one test.
pub struct Ground {
    settings: Settings,
}

impl Ground {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(nix::unistd::geteuid().is_root(), "these tests need root");
        let name = format!("nodegate-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let pins = PathBuf::from("/sys/fs/bpf").join(&name);
        let unix_sockets = UnixSockets { denied: vec![format!("/tmp/{name}-*")], allowed: Vec::new() };
        Self {
            settings: Settings {
                pins,
                root: name.clone(),
                run_parent: name,
                pods: None,
                unix_sockets,
                existing: Existing::End,
                listen_backlog: 4096,
            },
        }
    }

    /// Starts a capture; waits for the one before to let go of the pins.
    pub async fn start(&self) -> Capture {
        for _ in 0..200 {
            match Intercept::start(self.settings.clone(), Succession::AfterTheEnd).await {
                Ok((intercept, streams)) => return Capture { intercept, streams },
                Err(InterceptError::AlreadyRunning(_)) => sleep(Duration::from_millis(10)).await,
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the capture before does not end");
    }

    /// A ground whose captures report what was open before instead of ending it.
    pub fn reporting() -> Self {
        let mut ground = Self::new();
        ground.settings.existing = Existing::Report;
        ground
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Opens a pinned map behind the daemon's back.
    pub fn pinned<T: TryFrom<Map, Error = MapError>>(&self, name: &str, kind: fn(MapData) -> Map) -> T {
        let path = self.settings.pins.join(format!("v{}", gateway_common::LAYOUT_VERSION)).join(name);
        T::try_from(kind(MapData::from_pin(path).unwrap())).unwrap()
    }

    /// Makes an ordinary cgroup of this test's own.
    pub fn cgroup(&self, name: &str) -> PathBuf {
        let dir = super::super::cgroups::Tree::find().unwrap().join(&self.settings.run_parent).join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let tree = super::super::cgroups::Tree::find().unwrap();
        if let Ok(cgroup) = tree.resolve(&tree.join(&self.settings.run_parent)) {
            let _ = cgroup.kill(Duration::from_secs(5));
            let _ = cgroup.remove(Duration::from_secs(5));
        }
        remove_all(&self.settings.pins);
    }
}

fn remove_all(dir: &std::path::Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_all(&entry.path());
        } else {
            let _ = fs::remove_file(entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}

/// What an agent answers that was refused so.
pub fn error(errno: Errno) -> String {
    format!("error {}", errno as i32)
}

/// A capture that runs.
pub struct Capture {
    pub intercept: Intercept,
    pub streams: Streams,
}

impl Capture {
    /// An agent in a run of its own.
    pub async fn run(&self, netns: Option<&str>, label: &str) -> (Agent, Workload) {
        let agent = Agent::start(netns);
        let workload = self.intercept.start_run(agent.pid(), Some(label)).await.unwrap();
        (agent, workload)
    }

    pub async fn arrival(&mut self) -> Arrival {
        timeout(PATIENCE, self.streams.arrivals.recv()).await.expect("nothing arrived").unwrap()
    }

    pub async fn unattributed(&mut self) -> Unattributed {
        timeout(PATIENCE, self.streams.unattributed.recv()).await.expect("nothing was turned away").unwrap()
    }

    pub async fn refusal(&mut self) -> KernelRefusal {
        timeout(PATIENCE, self.streams.refusals.recv()).await.expect("nothing was refused").unwrap()
    }

    /// Waits until no record is left.
    pub async fn no_records(&self) {
        eventually("flow records are left", || self.intercept.flow_records() == 0).await;
    }
}

/// Waits for something to become true.
pub async fn eventually(otherwise: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if check() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{otherwise}");
}

/// Answers everything that comes with what came, and then the end.
pub async fn echo(mut arrival: Arrival) {
    let mut heard = Vec::new();
    arrival.stream.read_to_end(&mut heard).await.unwrap();
    arrival.stream.write_all(&heard).await.unwrap();
}

/// A network namespace with its loopback device up.
pub struct Netns(pub String);

impl Netns {
    pub fn new(tag: &str) -> Self {
        let netns = Self(format!("nodegate-test-{}-{tag}", std::process::id()));
        ip(&["netns", "add", &netns.0]);
        netns.inside(&["ip", "link", "set", "lo", "up"]);
        netns
    }

    pub fn inside(&self, command: &[&str]) {
        let mut line = vec!["netns", "exec", &self.0];
        line.extend(command);
        ip(&line);
    }
}

fn ip(arguments: &[&str]) {
    assert!(Command::new("ip").args(arguments).status().unwrap().success(), "ip {arguments:?}");
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

/// An address of nobody: nothing listens there, and nothing must ever be sent there.
pub const NOWHERE: &str = "192.0.2.1:5432";

pub fn parsed(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

pub fn mptcp_socket() -> Result<OwnedFd, Errno> {
    const IPPROTO_MPTCP: i32 = 262;
    raw_socket(libc::AF_INET, libc::SOCK_STREAM, IPPROTO_MPTCP)
}

/// Owns a descriptor that a system call has just made.
pub fn owned(fd: std::os::fd::RawFd) -> OwnedFd {
    // SAFETY: the callers have it from the kernel, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A socket of any kind at all.
pub fn raw_socket(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: takes numbers only.
    let fd = Errno::result(unsafe { libc::socket(family, kind, protocol) })?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An option of a socket, four bytes of nothing.
pub fn set_option(socket: &OwnedFd, level: i32, name: i32) -> Result<(), Errno> {
    let value = [0_u8; 4];
    // SAFETY: the value is a live local of the length stated.
    Errno::result(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), 4) })
        .map(drop)
}

/// A command to a descriptor, with a null pointer, which the kernel looks at only when it has let the command pass.
pub fn command(fd: &OwnedFd, number: u64) -> Result<(), Errno> {
    // SAFETY: the kernel does not follow a null pointer.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), number, 0) }).map(drop)
}

/// A command of bpf(2) whose attributes begin with these words, and nothing behind them.
pub fn bpf(command: u32, words: [u32; 3]) -> Result<(), Errno> {
    let mut attributes = [0_u32; 16];
    attributes[..3].copy_from_slice(&words);
    let length = size_of_val(&attributes);
    // SAFETY: the attributes are a live local of the length stated; all pointers in them are null.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), length) };
    let fd = Errno::result(answer)?;
    drop(i32::try_from(fd).ok().filter(|fd| *fd > 2).map(owned));
    Ok(())
}

/// `connect()` to AF_UNSPEC, which dissolves the association of a datagram socket.
pub fn disconnect(socket: &UdpSocket) -> Result<(), Errno> {
    let nowhere = libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr>()).unwrap();
    // SAFETY: the address is a live local of the length stated.
    Errno::result(unsafe { libc::connect(socket.as_raw_fd(), &raw const nowhere, length) }).map(drop)
}

/// With this, `connect()` returns at once, and the SYN leaves together with the first data.
pub fn defer_connect(socket: &OwnedFd) -> Result<(), Errno> {
    const TCP_FASTOPEN_CONNECT: libc::c_int = 30;
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap();
    // SAFETY: the value is a live local of the length stated.
    let answer = unsafe {
        let value = (&raw const on).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, TCP_FASTOPEN_CONNECT, value, length)
    };
    Errno::result(answer).map(drop)
}
