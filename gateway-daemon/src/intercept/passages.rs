//! Datagrams that policy lets pass: what is open to which captured cgroup, and the flows that made use of it. The
//! kernel side looks a destination up at each send and refuses at once what is not open.

use std::{net::IpAddr, time::SystemTime};

use aya::maps::{MapData, RingBuf, lpm_trie::Key};
use gateway_common::{
    address::Address,
    datagram::{Passage as Destination, Until},
    flow::FlowRecord,
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

/// What is open, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage {
    /// What.
    pub to: Reach,
    /// Until when: the expiry of the identity that policy permitted.
    pub until: SystemTime,
}

/// How far datagrams get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Anywhere.
    Everything,
    /// One port of one network.
    Network {
        /// The network's address, or a single one.
        address: IpAddr,
        /// How many of its bits count: up to 32 of an IPv4 address, up to 128 of an IPv6 one.
        prefix: u8,
        /// The port.
        port: u16,
    },
}

/// The first datagram of a socket to a destination, or its `connect()`. It was let pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatagramFlow {
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

impl Passage {
    fn key(&self, cgroup: CgroupId) -> Key<Destination> {
        match self.to {
            Reach::Everything => {
                Key::new(Destination::CGROUP_BITS, Destination::new(cgroup.0, Address::default(), 0))
            }
            Reach::Network { address: network, prefix, port } => {
                let mapped = if network.is_ipv4() { 96 } else { 0 };
                let bits = Destination::FIXED_BITS + mapped + u32::from(prefix);
                let destination = Destination::new(cgroup.0, address(network), port);
                Key::new(bits.min(Destination::BITS), destination)
            }
        }
    }

    fn until(&self) -> Result<Until, InterceptError> {
        let now = sys::boot_ns().doing(|| "read CLOCK_BOOTTIME".to_owned())?;
        let left = self.until.duration_since(SystemTime::now()).unwrap_or_default();
        Ok(Until::new(now.saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX))))
    }
}

impl Kernel {
    /// Opens these destinations to a captured cgroup and closes all others to it.
    pub fn set_passages(&self, cgroup: CgroupId, open: &[Passage]) -> Result<(), InterceptError> {
        let wanted: Vec<Key<Destination>> = open.iter().map(|passage| passage.key(cgroup)).collect();
        let of_cgroup = Destination::new(cgroup.0, Address::default(), 0).captured_cgroup;
        let mut map = held(&self.passages);
        let known: Vec<Key<Destination>> = map.keys().filter_map(Result::ok).collect();
        for key in known {
            let kept = wanted.iter().any(|other| same(other, &key));
            if key.data().captured_cgroup == of_cgroup && !kept {
                absent_is_fine(map.remove(&key)).map_err(map_error(maps::PASSAGES))?;
            }
        }
        for (key, passage) in wanted.iter().zip(open) {
            map.insert(key, passage.until()?, 0).map_err(map_error(maps::PASSAGES))?;
        }
        Ok(())
    }

    /// Closes destinations.
    pub fn close_passages(&self, which: impl Fn(&Destination) -> bool) -> Result<(), InterceptError> {
        let mut map = held(&self.passages);
        let known: Vec<Key<Destination>> = map.keys().filter_map(Result::ok).collect();
        for key in known.into_iter().filter(|key| which(&key.data())) {
            absent_is_fine(map.remove(&key)).map_err(map_error(maps::PASSAGES))?;
        }
        Ok(())
    }
}

fn same(one: &Key<Destination>, other: &Key<Destination>) -> bool {
    one.prefix_len() == other.prefix_len() && one.data() == other.data()
}

/// Hands each report on, until the buffer cannot be waited for. It waits for whoever takes them: what does not fit into
/// the kernel's buffer meanwhile is refused there.
pub(super) async fn report_all(buffer: RingBuf<MapData>, flows: mpsc::Sender<DatagramFlow>) {
    let Some(mut records) = Reports::new(buffer, "datagrams", FlowRecord::from_bytes) else { return };
    // The place first: one that was taken out of the buffer is not lost when this task is ended for a successor.
    while let Ok(place) = flows.reserve().await {
        let Some(record) = records.next().await else { return };
        place.send(DatagramFlow::from(record));
    }
}

impl From<FlowRecord> for DatagramFlow {
    fn from(record: FlowRecord) -> Self {
        Self {
            captured_cgroup: CgroupId(record.captured_cgroup),
            netns: NetnsCookie(record.netns),
            pid: record.tgid,
            comm: comm(&record.comm),
            destination: OriginalDestination::new(socket_addr(record.address, record.port)),
        }
    }
}
