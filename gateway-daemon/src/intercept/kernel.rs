//! The kernel programs and their maps: loaded at every start, over maps that outlive the daemon.
//!
//! Maps are pinned below `<pins>/v<layout version>/`. A daemon of the same layout goes on with them; one of
//! another layout makes its own beside them, moves the links over (see `links.rs`) and removes the old
//! ones, so that foreign memory is never reinterpreted. Programs need no pins: each daemon loads its own and
//! swaps them into the pinned links in one step, which makes an upgrade of the programs an ordinary restart.

use std::{
    collections::HashSet,
    fmt,
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, MapError, MapInfo, RingBuf, SockHash, lpm_trie::LpmTrie},
    programs::{Program, ProgramError},
};
use aya_log::EbpfLogger;
use gateway_common::{
    LAYOUT_VERSION,
    address::{AF_INET, AF_INET6, Address},
    datagram::{Passage, Sender, Until, WayKey},
    direct::{Direct, Grant},
    flow::{FlowKey, FlowRecord, SocketState},
    guard::PATH_BYTES,
    maps,
    state::{DaemonState, Listener, ListenerKey, Standing},
};
use nix::{
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use tokio::net::TcpListener;

use super::{
    direct::{Granted, Lenient},
    error::{Doing, InterceptError},
    fields::Fields,
    sys,
    unix::UnixHooks,
};
use crate::domain::ids::{CgroupId, NetnsCookie};

/// Where bpffs is mounted by convention.
const BPFFS: &str = "/sys/fs/bpf";

/// The compiled programs; empty when the build had none.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/nodegate-ebpf"));

/// The programs of a captured cgroup, in the order in which it is armed: what a connection needs comes before what makes
/// connections need it. The kernel shows fifteen characters of a name.
pub(super) const PROGRAMS: [&str; 11] = [
    "nodegate_flows",
    "nodegate_peer4",
    "nodegate_peer6",
    "nodegate_recv4",
    "nodegate_recv6",
    "nodegate_close",
    "nodegate_create",
    "nodegate_send4",
    "nodegate_send6",
    "nodegate_conn4",
    "nodegate_conn6",
];

/// The programs of the whole node, attached to the root of the tree: they look at who uses a socket, wherever it was
/// made.
pub(super) const NODE_PROGRAMS: [&str; 4] =
    ["nodegate_ncon4", "nodegate_ncon6", "nodegate_nsnd4", "nodegate_nsnd6"];

/// The loaded programs with their maps.
pub(super) struct Kernel {
    pub programs: Mutex<Ebpf>,
    /// `None` where the kernel has no such hooks.
    pub unix: Option<UnixHooks>,
    pub pins: PathBuf,
    flow_map: MapData,
    flows: Mutex<HashMap<MapData, FlowKey, FlowRecord>>,
    listeners: Mutex<HashMap<MapData, u64, Listener>>,
    accepting: Mutex<SockHash<MapData, ListenerKey>>,
    captured: Mutex<HashMap<MapData, u64, u32>>,
    pub control_sockets: Mutex<LpmTrie<MapData, [u8; PATH_BYTES], u32>>,
    pub(super) lenience: Mutex<Lenient>,
    pub direct: Mutex<Granted>,
    daemon: Mutex<Array<MapData, DaemonState>>,
    /// As in [`DaemonState::settled`].
    settled: AtomicU32,
    pub(super) moves_lost: Mutex<Array<MapData, u32>>,
    pub(super) sees_moves: AtomicBool,
    way_numbers: Mutex<HashMap<MapData, WayKey, u32>>,
    ways: Mutex<HashMap<MapData, u32, FlowRecord>>,
    senders: Mutex<HashMap<MapData, FlowKey, Sender>>,
    pub(super) passages: Mutex<LpmTrie<MapData, Passage, Until>>,
    /// Held for as long as this daemon owns the pins.
    lock: Mutex<Option<Flock<File>>>,
}

/// How full a map is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapFill {
    /// Its name.
    pub name: &'static str,
    /// Entries in it.
    pub entries: u64,
    /// Entries that fit.
    pub capacity: u64,
}

/// Where the daemon before is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Succession {
    /// Gone, if there ever was one.
    AfterTheEnd,
    /// There, and it has let go of the pins: it accepts until we do, and looks after what it accepted.
    HandOver,
}

/// Hands the programs' own log to ours, for as long as it is polled.
pub(super) type LogPump = Pin<Box<dyn Future<Output = ()> + Send>>;

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("pins", &self.pins).finish_non_exhaustive()
    }
}

impl Kernel {
    /// Loads the programs over the pinned maps below `pins`, making what is missing.
    pub fn load(pins: &Path, succession: Succession) -> Result<(Self, LogPump), InterceptError> {
        if OBJECT.is_empty() {
            return Err(InterceptError::NoObject);
        }
        ensure_bpffs(pins)?;
        let map_dir = pins.join(format!("v{LAYOUT_VERSION}"));
        for dir in [pins, &pins.join("links"), &map_dir] {
            fs::create_dir_all(dir).doing(|| format!("create {}", dir.display()))?;
        }
        let lock = lock(pins)?;
        check_layout(&map_dir)?;

        let mut loader = EbpfLoader::new();
        for name in maps::PINNED {
            loader.map_pin_path(name, map_dir.join(name));
        }
        let level = log_level();
        loader.override_global("AYA_LOG_LEVEL", &level, false);
        // Without them neither the guard nor the reports of moves are loaded.
        let fields = Fields::of_this_kernel().unwrap_or(Fields::UNKNOWN);
        fields.tell(&mut loader);
        let mut ebpf = loader.load(OBJECT)?;
        for name in PROGRAMS.into_iter().chain(NODE_PROGRAMS) {
            let program = ebpf.program_mut(name).ok_or(InterceptError::Incomplete(name))?;
            load_program(program).map_err(|source| InterceptError::Program { name, source })?;
        }

        // Beside the guard, which knows a socket by its server's name for it: that may differ from the caller's.
        let unix =
            UnixHooks::load(&map_dir).inspect_err(|error| tracing::debug!(%error, "no Unix hooks")).ok();
        let log = log_pump(&mut ebpf)?;
        let kernel = Self {
            flow_map: MapData::from_pin(map_dir.join(maps::FLOWS)).map_err(map_error(maps::FLOWS))?,
            flows: Mutex::new(take(&mut ebpf, maps::FLOWS)?),
            listeners: Mutex::new(take(&mut ebpf, maps::LISTENERS)?),
            accepting: Mutex::new(take(&mut ebpf, maps::ACCEPTING)?),
            captured: Mutex::new(take(&mut ebpf, maps::CAPTURED)?),
            control_sockets: Mutex::new(take(&mut ebpf, maps::CONTROL_SOCKETS)?),
            lenience: Mutex::new(Lenient::new(take(&mut ebpf, maps::LENIENCE)?)),
            direct: Mutex::new(Granted::new(take(&mut ebpf, maps::DIRECT)?)),
            daemon: Mutex::new(take(&mut ebpf, maps::DAEMON)?),
            settled: AtomicU32::new(0),
            moves_lost: Mutex::new(take(&mut ebpf, maps::MOVES_LOST)?),
            sees_moves: AtomicBool::new(false),
            way_numbers: Mutex::new(take(&mut ebpf, maps::DNS_NUMBERS)?),
            ways: Mutex::new(take(&mut ebpf, maps::DNS_WAYS)?),
            senders: Mutex::new(take(&mut ebpf, maps::DNS_SENDERS)?),
            passages: Mutex::new(take(&mut ebpf, maps::PASSAGES)?),
            programs: Mutex::new(ebpf),
            unix,
            pins: pins.to_path_buf(),
            lock: Mutex::new(Some(lock)),
        };
        kernel.adopt_word();
        if succession == Succession::AfterTheEnd {
            kernel.forget_predecessor()?;
        }
        // What was open to whom, this daemon's policies and identities say.
        kernel.close_passages(|_| true)?;
        Ok((kernel, log))
    }

    /// The listeners and the queues of the daemon before us are gone, so no record of theirs is waited for.
    fn forget_predecessor(&self) -> Result<(), InterceptError> {
        let mut listeners = held(&self.listeners);
        let stale: Vec<u64> = listeners.keys().filter_map(Result::ok).collect();
        for netns in stale {
            absent_is_fine(listeners.remove(&netns)).map_err(map_error(maps::LISTENERS))?;
        }
        let mut flows = held(&self.flows);
        let stale: Vec<FlowKey> = flows.keys().filter_map(Result::ok).collect();
        for key in stale {
            absent_is_fine(flows.remove(&key)).map_err(map_error(maps::FLOWS))?;
        }
        Ok(())
    }

    /// Leaves the pins to a successor.
    pub fn let_go(&self) {
        held(&self.lock).take();
    }

    /// Whether the pins are this daemon's: a successor tells the kernel side what it likes.
    pub fn is_ours(&self) -> bool {
        held(&self.lock).is_some()
    }

    /// Takes the pins again.
    pub fn take_back(&self) -> Result<(), InterceptError> {
        *held(&self.lock) = Some(lock(&self.pins)?);
        held(&self.direct).forget();
        held(&self.lenience).forget();
        self.adopt_word();
        Ok(())
    }

    /// What goes direct by the word of another daemon goes on until that has grown old, or ours replaces it.
    fn adopt_word(&self) {
        if let Ok(state) = held(&self.daemon).get(&0, 0) {
            self.settled.store(state.settled, Ordering::Release);
        }
    }

    /// One of the buffers that the programs write, for another reader than the one before.
    pub fn feed(&self, name: &'static str) -> Result<RingBuf<MapData>, InterceptError> {
        let failed = || map_error(name);
        let path = self.pins.join(format!("v{LAYOUT_VERSION}")).join(name);
        let map = MapData::from_pin(&path).map_err(failed())?;
        RingBuf::try_from(Map::RingBuf(map)).map_err(failed())
    }

    /// Withdraws the listeners of a predecessor in namespaces that are not served any more.
    pub fn withdraw_all_but(&self, served: &HashSet<NetnsCookie>) {
        let stale: Vec<u64> = held(&self.listeners).keys().filter_map(Result::ok).collect();
        for netns in stale.into_iter().map(NetnsCookie).filter(|netns| !served.contains(netns)) {
            self.withdraw_listener(netns);
        }
    }

    /// Removes the maps of other layout versions. Call it when no link runs a program of theirs any more.
    pub fn remove_other_layouts(&self) -> io::Result<()> {
        let ours = format!("v{LAYOUT_VERSION}");
        for entry in fs::read_dir(&self.pins)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(version) = name.to_str().and_then(|name| name.strip_prefix('v')) else { continue };
            if name.to_str() == Some(ours.as_str()) || version.parse::<u32>().is_err() {
                continue;
            }
            for map in fs::read_dir(entry.path())? {
                fs::remove_file(map?.path())?;
            }
            fs::remove_dir(entry.path())?;
        }
        Ok(())
    }

    /// Shows the kernel side that a socket listens. It forgets it by itself when the socket is closed, be it because
    /// this process died.
    pub fn show_listener(
        &self,
        netns: NetnsCookie,
        ports: Listener,
        listener: &TcpListener,
    ) -> Result<(), InterceptError> {
        for (port, family) in [(ports.port_v4, AF_INET), (ports.port_v6, AF_INET6)] {
            if port != 0 {
                let key = ListenerKey { netns: netns.0, port: port.into(), family: family.into() };
                held(&self.accepting)
                    .insert(key, listener.as_raw_fd(), 0)
                    .map_err(map_error(maps::ACCEPTING))?;
            }
        }
        Ok(())
    }

    /// Sends the connections of a network namespace to these ports.
    pub fn publish_listener(&self, netns: NetnsCookie, listener: Listener) -> Result<(), InterceptError> {
        held(&self.listeners).insert(netns.0, listener, 0).map_err(map_error(maps::LISTENERS))
    }

    /// Refuses the connections of a network namespace from now on.
    pub fn withdraw_listener(&self, netns: NetnsCookie) {
        if let Err(error) = absent_is_fine(held(&self.listeners).remove(&netns.0)) {
            tracing::warn!(%netns, %error, "cannot withdraw a listener");
        }
        self.forget_ways(|record| record.netns == netns.0);
    }

    /// Gives a cgroup its standing.
    pub fn mark(&self, cgroup: CgroupId, standing: Standing) -> Result<(), InterceptError> {
        held(&self.captured).insert(cgroup.0, standing as u32, 0).map_err(map_error(maps::CAPTURED))
    }

    /// Takes the standing of a cgroup away.
    pub fn unmark_captured(&self, cgroup: CgroupId) -> Result<(), InterceptError> {
        self.forget_ways(|record| record.captured_cgroup == cgroup.0);
        self.close_passages(|passage| {
            passage.captured_cgroup == Passage::new(cgroup.0, Address::default(), 0).captured_cgroup
        })?;
        absent_is_fine(held(&self.captured).remove(&cgroup.0)).map_err(map_error(maps::CAPTURED))
    }

    /// The standing of a cgroup.
    pub fn standing(&self, cgroup: CgroupId) -> Option<Standing> {
        Standing::from_number(held(&self.captured).get(&cgroup.0, 0).ok()?)
    }

    /// The cgroups that have a standing. `None` for one that this version does not know.
    pub fn marks(&self) -> Vec<(CgroupId, Option<Standing>)> {
        let captured = held(&self.captured);
        captured
            .iter()
            .filter_map(Result::ok)
            .map(|(cgroup, number)| (CgroupId(cgroup), Standing::from_number(number)))
            .collect()
    }

    /// Copies marks of one standing from the maps of other layouts, which are another version's.
    pub fn adopt_marks(
        &self,
        standing: Standing,
        wanted: impl Fn(CgroupId) -> bool,
    ) -> Result<(), InterceptError> {
        let ours = format!("v{LAYOUT_VERSION}");
        let entries = fs::read_dir(&self.pins).doing(|| format!("read {}", self.pins.display()))?;
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let is_layout = name.to_str().is_some_and(|name| name.starts_with('v') && name != ours);
            let path = entry.path().join(maps::CAPTURED);
            if !is_layout || !path.exists() {
                continue;
            }
            let map = MapData::from_pin(&path).map_err(map_error(maps::CAPTURED))?;
            let Ok(map) = HashMap::<_, u64, u32>::try_from(aya::maps::Map::HashMap(map)) else { continue };
            for (cgroup, number) in map.iter().filter_map(Result::ok) {
                if Standing::from_number(number) == Some(standing) && wanted(CgroupId(cgroup)) {
                    self.mark(CgroupId(cgroup), standing)?;
                }
            }
        }
        Ok(())
    }

    /// Takes the record of a client's end, which is then gone.
    pub fn take_flow(&self, key: &FlowKey) -> io::Result<Option<FlowRecord>> {
        sys::take_flow(self.flow_map.fd().as_fd(), key)
    }

    /// Puts a record back unless another one has taken its place.
    pub fn return_flow(&self, key: &FlowKey, record: &FlowRecord) {
        /// `BPF_NOEXIST`.
        const IF_ABSENT: u64 = 1;
        if let Err(error) = held(&self.flows).insert(key, record, IF_ABSENT) {
            tracing::debug!(%error, "a flow record was replaced meanwhile");
        }
    }

    /// The records whose client has closed: their keys, and when it did, in nanoseconds since boot.
    pub fn flows_ended(&self) -> Vec<(FlowKey, u64)> {
        held(&self.flows)
            .iter()
            .filter_map(Result::ok)
            .filter(|(_, record)| record.ended_at != 0)
            .map(|(key, record)| (key, record.ended_at))
            .collect()
    }

    /// Whose way to which DNS server this is.
    pub fn way(&self, number: u32) -> Option<FlowRecord> {
        held(&self.ways).get(&number, 0).ok()
    }

    /// What the IPv6 socket with this end asked last.
    pub fn sender(&self, key: &FlowKey) -> Option<Sender> {
        held(&self.senders).get(key, 0).ok()
    }

    /// Forgets the ways of cgroups or namespaces that are gone. What cannot be removed is in nobody's way: its cgroup
    /// id or cookie never comes back before the next boot.
    fn forget_ways(&self, gone: impl Fn(&FlowRecord) -> bool) {
        let mut ways = held(&self.ways);
        let mut numbers = held(&self.way_numbers);
        let found: Vec<(u32, FlowRecord)> =
            ways.iter().filter_map(Result::ok).filter(|(_, record)| gone(record)).collect();
        for (number, record) in found {
            let key = WayKey {
                netns: record.netns,
                captured_cgroup: record.captured_cgroup,
                server: record.address,
            };
            let counter = WayKey { server: Address::default(), ..key };
            let removed = [
                absent_is_fine(numbers.remove(&key)),
                absent_is_fine(numbers.remove(&counter)),
                absent_is_fine(ways.remove(&number)),
            ];
            if let Some(error) = removed.into_iter().find_map(Result::err) {
                tracing::warn!(%error, "cannot forget a way to a DNS server");
            }
        }
    }

    /// How many connections wait to be accepted.
    pub fn flow_count(&self) -> usize {
        held(&self.flows).keys().flatten().count()
    }

    /// When the kernel side last heard of a daemon, in nanoseconds since boot.
    pub fn heartbeat(&self) -> Option<u64> {
        held(&self.daemon).get(&0, 0).ok().map(|state| state.heartbeat)
    }

    /// How full the maps are that can be full.
    pub fn fills(&self) -> Vec<MapFill> {
        let fill = |name, entries: usize, capacity| MapFill {
            name,
            entries: u64::try_from(entries).unwrap_or(u64::MAX),
            capacity,
        };
        vec![
            fill("captured", held(&self.captured).keys().flatten().count(), maps::CAPTURED_ENTRIES),
            fill("direct", held(&self.direct).count(), maps::DIRECT_ENTRIES),
            fill("flows", self.flow_count(), maps::FLOWS_ENTRIES),
            fill("listeners", held(&self.listeners).keys().flatten().count(), maps::LISTENERS_ENTRIES),
        ]
    }

    /// Tells the kernel side that the daemon is alive, and when its grants were settled.
    pub fn beat(&self) -> Result<(), InterceptError> {
        let heartbeat = sys::boot_ns().doing(|| "read CLOCK_BOOTTIME".to_owned())?;
        let mut daemon = held(&self.daemon);
        let settled = if self.is_ours() {
            self.settled.load(Ordering::Acquire)
        } else {
            // The successor's grants are not ours to answer for.
            daemon.get(&0, 0).map_or(0, |state| state.settled)
        };
        let state = DaemonState { heartbeat, layout: LAYOUT_VERSION, settled };
        daemon.set(0, state, 0).map_err(map_error(maps::DAEMON))
    }

    /// Stands by the grants as they are in the map, for a while.
    pub(super) fn stand_by_grants(&self) -> Result<(), InterceptError> {
        let now = sys::boot_ns().doing(|| "read CLOCK_BOOTTIME".to_owned())?;
        self.settled.store(u32::try_from(now / 1_000_000_000).unwrap_or(u32::MAX), Ordering::Release);
        self.beat()
    }
}

/// Loads every program, without pins, and lets go of it again: whether this kernel's verifier takes them.
pub(super) fn try_programs() -> Result<usize, InterceptError> {
    if OBJECT.is_empty() {
        return Err(InterceptError::NoObject);
    }
    let mut ebpf = EbpfLoader::new().override_global("AYA_LOG_LEVEL", &0_u8, false).load(OBJECT)?;
    for name in PROGRAMS.into_iter().chain(NODE_PROGRAMS) {
        let program = ebpf.program_mut(name).ok_or(InterceptError::Incomplete(name))?;
        load_program(program).map_err(|source| InterceptError::Program { name, source })?;
    }
    Ok(PROGRAMS.len() + NODE_PROGRAMS.len())
}

/// `aya-log` writes to the `log` crate's logger, which `tracing-subscriber` installs.
fn log_pump(ebpf: &mut Ebpf) -> Result<LogPump, InterceptError> {
    let mut logger = EbpfLogger::init(ebpf).map_err(|_| InterceptError::Incomplete("its log buffer"))?;
    Ok(Box::pin(async move {
        let Ok(bell) = sys::bell(&logger) else { return };
        while let Ok(mut ready) = bell.readable().await {
            ready.clear_ready();
            logger.flush();
        }
    }))
}

/// A poisoned lock guards a map handle, which no panic can leave half-changed.
pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn map_error(name: &'static str) -> impl FnOnce(MapError) -> InterceptError {
    move |source| InterceptError::Map { name, source }
}

pub(super) fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

fn take<T: TryFrom<aya::maps::Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, InterceptError> {
    let map = ebpf.take_map(name).ok_or(InterceptError::Incomplete(name))?;
    T::try_from(map).map_err(map_error(name))
}

fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::SockOps(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// The kernel side's log level is fixed when the programs are loaded: what is off costs nothing there.
fn log_level() -> u8 {
    use tracing::level_filters::LevelFilter;
    match LevelFilter::current() {
        LevelFilter::OFF => 0,
        LevelFilter::ERROR => 1,
        LevelFilter::WARN => 2,
        LevelFilter::INFO => 3,
        LevelFilter::DEBUG => 4,
        LevelFilter::TRACE => 5,
    }
}

fn ensure_bpffs(pins: &Path) -> Result<(), InterceptError> {
    let standing = pins.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let found = statfs(standing).doing(|| format!("look at {}", standing.display()))?;
    if found.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    if !pins.starts_with(BPFFS) {
        let source = io::Error::new(io::ErrorKind::Unsupported, "pins must lie on a bpf file system");
        return Err(InterceptError::Io { what: pins.display().to_string(), source });
    }
    mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>)
        .doing(|| format!("mount a bpf file system on {BPFFS}"))
}

pub(super) fn lock(pins: &Path) -> Result<Flock<File>, InterceptError> {
    let dir = File::open(pins).doing(|| format!("open {}", pins.display()))?;
    Flock::lock(dir, FlockArg::LockExclusiveNonblock)
        .map_err(|_| InterceptError::AlreadyRunning(pins.to_path_buf()))
}

/// A pinned map is taken as it is, so it must be what the object describes.
fn check_layout(map_dir: &Path) -> Result<(), InterceptError> {
    let sizes = [
        (maps::LISTENERS, size_of::<u64>(), size_of::<Listener>()),
        (maps::FLOWS, size_of::<FlowKey>(), size_of::<FlowRecord>()),
        (maps::CAPTURED, size_of::<u64>(), size_of::<u32>()),
        (maps::ACCEPTING, size_of::<ListenerKey>(), size_of::<u32>()),
        (maps::LENIENCE, size_of::<u64>(), size_of::<u32>()),
        (maps::DIRECT, size_of::<u32>() + size_of::<Direct>(), size_of::<Grant>()),
        (maps::SOCKETS, size_of::<i32>(), size_of::<SocketState>()),
        (maps::TOUCHED, size_of::<i32>(), size_of::<u32>()),
        (maps::CONTROL_SOCKETS, 4 + PATH_BYTES, size_of::<u32>()),
        (maps::DAEMON, size_of::<u32>(), size_of::<DaemonState>()),
        (maps::MOVES_LOST, size_of::<u32>(), size_of::<u32>()),
        (maps::DNS_NUMBERS, size_of::<WayKey>(), size_of::<u32>()),
        (maps::DNS_WAYS, size_of::<u32>(), size_of::<FlowRecord>()),
        (maps::DNS_SENDERS, size_of::<FlowKey>(), size_of::<Sender>()),
        (maps::PASSAGES, size_of::<u32>() + size_of::<Passage>(), size_of::<Until>()),
        (maps::REPORTED, size_of::<FlowKey>(), size_of::<u64>()),
    ];
    for (name, key, value) in sizes {
        let path = map_dir.join(name);
        if !path.exists() {
            continue;
        }
        let info = MapInfo::from_pin(&path).map_err(map_error(name))?;
        if info.key_size() as usize != key || info.value_size() as usize != value {
            return Err(InterceptError::ForeignMap { path, version: LAYOUT_VERSION });
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{EbpfLoader, NODE_PROGRAMS, OBJECT, PROGRAMS, load_program};

    /// Needs root. What a level leaves out the verifier never sees, so each has to be tried.
    #[test]
    fn the_programs_load_at_every_log_level() {
        for level in 0_u8..=5 {
            let mut loader = EbpfLoader::new();
            loader.override_global("AYA_LOG_LEVEL", &level, true);
            let mut ebpf = loader.load(OBJECT).unwrap();
            for name in PROGRAMS.into_iter().chain(NODE_PROGRAMS) {
                load_program(ebpf.program_mut(name).unwrap())
                    .map_err(|error| format!("{name} at level {level}: {error}"))
                    .unwrap();
            }
        }
    }
}
