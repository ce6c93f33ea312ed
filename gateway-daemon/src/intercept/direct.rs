//! What the daemon settles ahead of time: which connections go direct in the kernel, and which refusals are only
//! reported. A daemon that does not say again and again that it stands by its grants has soon granted nothing.

use std::{collections::HashMap, net::IpAddr, time::SystemTime};

use aya::maps::{HashMap as KernelMap, LpmTrie, MapData, RingBuf, lpm_trie::Key};
use gateway_common::{
    direct::{Direct, DirectFlow as Report, Grant as Entry, LENIENT, OPEN},
    maps,
};
use tokio::sync::mpsc;

use super::{
    accept::{address, comm, socket_addr},
    error::{Doing, InterceptError},
    kernel::{Kernel, absent_is_fine, held, map_error},
    reports::Reports,
    sys,
};
use crate::domain::{
    address::OriginalDestination,
    ids::{CgroupId, NetnsCookie},
};

/// A destination that a captured cgroup reaches directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The captured cgroup.
    pub cgroup: CgroupId,
    /// The network's address, or a single one.
    pub address: IpAddr,
    /// How many of its bits count: up to 32 of an IPv4 address, up to 128 of an IPv6 one.
    pub prefix: u8,
    /// The port.
    pub port: u16,
    /// Until when; what has ended already is an exception to a wider one.
    pub until: SystemTime,
    /// Comes back with each flow that makes use of it.
    pub number: u32,
}

/// Which refusals are only reported in a captured cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Those of datagrams and of sockets of other kinds.
    Sockets,
    /// Those, and those for want of a daemon.
    Everything,
}

/// A connection that went direct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectFlow {
    /// [`Grant::number`].
    pub grant: u32,
    /// The captured cgroup.
    pub captured_cgroup: CgroupId,
    /// The socket's network namespace.
    pub netns: NetnsCookie,
    /// Thread-group id in the initial pid namespace.
    pub pid: u32,
    /// The task's name, for display only.
    pub comm: String,
    /// Where it went.
    pub destination: OriginalDestination,
}

impl Grant {
    fn key(&self) -> Key<Direct> {
        let mapped = if self.address.is_ipv4() { 96 } else { 0 };
        let bits = Direct::FIXED_BITS + mapped + u32::from(self.prefix);
        let destination = Direct::new(self.cgroup.0, address(self.address), self.port);
        Key::new(bits.min(Direct::BITS), destination)
    }
}

/// Clocks are set by less than this all the time: a grant is not written anew for that.
const CLOCKS_DIFFER_NS: u64 = 1_000_000_000;

/// The kernel's map of grants, and what is known to be in it.
#[derive(Debug)]
pub(super) struct Granted {
    map: LpmTrie<MapData, Direct, Entry>,
    /// The destinations in the map, each with its bits, and what the map says of them; `None` where it must be asked: a
    /// daemon before this one may have filled it.
    told: Option<HashMap<(u32, Direct), Entry>>,
}

impl Granted {
    pub fn new(map: LpmTrie<MapData, Direct, Entry>) -> Self {
        Self { map, told: None }
    }

    /// Another daemon may have changed the map.
    pub fn forget(&mut self) {
        self.told = None;
    }

    /// How many destinations there are.
    pub fn count(&self) -> usize {
        self.map.keys().flatten().count()
    }

    fn set(&mut self, grants: &[Grant]) -> Result<(), InterceptError> {
        let now = sys::boot_ns().doing(|| "read CLOCK_BOOTTIME".to_owned())?;
        let wall = SystemTime::now();
        let end = |grant: &Grant| {
            let left = grant.until.duration_since(wall).ok()?;
            Some(now.saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)))
        };
        let mut wanted: HashMap<(u32, Direct), Entry> = grants
            .iter()
            .map(|grant| {
                let key = grant.key();
                ((key.prefix_len(), key.data()), Entry::new(end(grant).unwrap_or_default(), grant.number))
            })
            .collect();
        // Until all of it is done, nobody knows.
        let told = self.told.take().unwrap_or_else(|| {
            let keys = self.map.keys().filter_map(Result::ok);
            keys.map(|key| ((key.prefix_len(), key.data()), Entry::default())).collect()
        });
        for (bits, destination) in told.keys().filter(|key| !wanted.contains_key(key)) {
            absent_is_fine(self.map.remove(&Key::new(*bits, *destination)))
                .map_err(map_error(maps::DIRECT))?;
        }
        for (key, entry) in &mut wanted {
            if let Some(told) = told.get(key).filter(|told| is_as_good(**told, *entry)) {
                *entry = *told;
                continue;
            }
            self.map.insert(&Key::new(key.0, key.1), *entry, 0).map_err(map_error(maps::DIRECT))?;
        }
        self.told = Some(wanted);
        Ok(())
    }
}

/// Whether what the map says of a destination can stay.
fn is_as_good(told: Entry, wanted: Entry) -> bool {
    told.number == wanted.number && told.until().abs_diff(wanted.until()) < CLOCKS_DIFFER_NS
}

/// The kernel's map of lenient cgroups, and what is known to be in it.
#[derive(Debug)]
pub(super) struct Lenient {
    map: KernelMap<MapData, u64, u32>,
    /// `None` where the map must be asked.
    told: Option<HashMap<u64, u32>>,
}

impl Lenient {
    pub fn new(map: KernelMap<MapData, u64, u32>) -> Self {
        Self { map, told: None }
    }

    /// Another daemon may have changed the map.
    pub fn forget(&mut self) {
        self.told = None;
    }

    /// The flags of a cgroup.
    pub fn flags(&self, cgroup: CgroupId) -> u32 {
        self.map.get(&cgroup.0, 0).unwrap_or_default()
    }

    fn set(&mut self, wanted: HashMap<u64, u32>) -> Result<(), InterceptError> {
        // Until all of it is done, nobody knows.
        let told = self.told.take().unwrap_or_else(|| self.map.iter().filter_map(Result::ok).collect());
        for cgroup in told.keys().filter(|cgroup| !wanted.contains_key(cgroup)) {
            absent_is_fine(self.map.remove(cgroup)).map_err(map_error(maps::LENIENCE))?;
        }
        for (cgroup, flags) in &wanted {
            if told.get(cgroup) != Some(flags) {
                self.map.insert(cgroup, flags, 0).map_err(map_error(maps::LENIENCE))?;
            }
        }
        self.told = Some(wanted);
        Ok(())
    }
}

impl Kernel {
    /// Makes these grants hold, and no others.
    pub fn set_direct(&self, grants: &[Grant]) -> Result<(), InterceptError> {
        if !self.is_ours() {
            return Ok(());
        }
        held(&self.direct).set(grants)?;
        if grants.is_empty() { Ok(()) } else { self.stand_by_grants() }
    }

    /// Makes these cgroups lenient, and no others.
    pub fn set_lenience(&self, leaves: &HashMap<CgroupId, Leave>) -> Result<(), InterceptError> {
        if !self.is_ours() {
            return Ok(());
        }
        let flags = |leave: &Leave| match leave {
            Leave::Sockets => LENIENT,
            Leave::Everything => LENIENT | OPEN,
        };
        let wanted = leaves.iter().map(|(cgroup, leave)| (cgroup.0, flags(leave))).collect();
        held(&self.lenience).set(wanted)
    }
}

/// Hands each report on, until the buffer cannot be waited for. It waits for whoever takes them: when the kernel's
/// buffer is full meanwhile, connections go through the daemon.
pub(super) async fn report_all(buffer: RingBuf<MapData>, flows: mpsc::Sender<DirectFlow>) {
    let Some(mut reports) = Reports::new(buffer, "direct connections", Report::from_bytes) else { return };
    // The place first: one that was taken out of the buffer is not lost when this task is ended for a successor.
    while let Ok(place) = flows.reserve().await {
        let Some(report) = reports.next().await else { return };
        place.send(DirectFlow::from(report));
    }
}

impl From<Report> for DirectFlow {
    fn from(report: Report) -> Self {
        // The kernel side filed a port's 16 bits.
        let port = u16::try_from(report.port).unwrap_or_default();
        Self {
            grant: report.grant,
            captured_cgroup: CgroupId(report.captured_cgroup),
            netns: NetnsCookie(report.netns),
            pid: report.tgid,
            comm: comm(&report.comm),
            destination: OriginalDestination::new(socket_addr(report.address, port)),
        }
    }
}
