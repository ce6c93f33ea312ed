//! The maps. The daemon pins all of them, so that they outlive it.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{
        array::Array,
        hash_map::{HashMap, LruHashMap},
        lpm_trie::LpmTrie,
        ring_buf::RingBuf,
        sk_storage::SkStorage,
        sock_hash::SockHash,
    },
    macros::btf_map,
};
use gateway_common::{
    datagram::{Passage, Sender, Until, WayKey},
    direct::{Direct, DirectFlow, Grant},
    flow::{FlowKey, FlowRecord, SocketState},
    guard::PATH_BYTES,
    maps,
    moves::Move,
    state::{DaemonState, Listener, ListenerKey},
};

/// Entries are made when needed: a preallocated table of this size would take 12 MiB of every node.
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

/// Listeners by network namespace.
#[btf_map]
pub static LISTENERS: HashMap<u64, Listener, { maps::LISTENERS_ENTRIES as usize }, ON_DEMAND> =
    HashMap::new();

/// The listening sockets themselves. The kernel removes a socket when it is closed, however its process ended.
#[btf_map]
pub static ACCEPTING: SockHash<ListenerKey, 8192> = SockHash::new();

/// Cgroups that have a standing: captured, passing, held.
#[btf_map]
pub static CAPTURED: HashMap<u64, u32, { maps::CAPTURED_ENTRIES as usize }, ON_DEMAND> = HashMap::new();

/// Connections that the daemon has not accepted yet.
#[btf_map]
pub static FLOWS: HashMap<FlowKey, FlowRecord, { maps::FLOWS_ENTRIES as usize }, ON_DEMAND> = HashMap::new();

/// What belongs to a socket; the kernel frees it together with the socket.
#[btf_map]
pub static SOCKETS: SkStorage<SocketState> = SkStorage::new();

/// Sockets other than redirected ones that the programs of a captured cgroup have judged.
#[btf_map]
pub static TOUCHED: SkStorage<u32> = SkStorage::new();

/// Unix sockets by which the node is controlled, by the names that their servers gave them.
#[btf_map]
pub static CONTROL_SOCKETS: LpmTrie<[u8; PATH_BYTES], u32, 1024> = LpmTrie::new();

/// The daemon's sign of life.
#[btf_map]
pub static DAEMON: Array<DaemonState, 1> = Array::new();

/// Refusals, for the daemon's audit.
#[btf_map]
pub static REFUSALS: RingBuf<gateway_common::refusal::Refusal, 262_144> = RingBuf::new();

/// Numbers of the ways to DNS servers.
#[btf_map]
pub static DNS_NUMBERS: HashMap<WayKey, u32, 65_536, ON_DEMAND> = HashMap::new();

/// The ways by number: whose, to which server, and who asked there last.
#[btf_map]
pub static DNS_WAYS: HashMap<u32, FlowRecord, 65_536, ON_DEMAND> = HashMap::new();

/// The latest query of each IPv6 socket; gone with the socket.
#[btf_map]
pub static DNS_SENDERS: HashMap<FlowKey, Sender, 131_072, ON_DEMAND> = HashMap::new();

/// Datagrams that policy lets pass.
#[btf_map]
pub static PASSAGES: LpmTrie<Passage, Until, 65_536> = LpmTrie::new();

/// Flows of datagrams that have been reported, by socket cookie and destination. What makes room is reported again.
#[btf_map]
pub static REPORTED: LruHashMap<FlowKey, u64, 16_384> = LruHashMap::new();

/// Flows of datagrams that were let pass, for the daemon's audit.
#[btf_map]
pub static DATAGRAMS: RingBuf<FlowRecord, 262_144> = RingBuf::new();
/// Captured cgroups in which some refusals are only reported.
#[btf_map]
pub static LENIENCE: HashMap<u64, u32, 16384, ON_DEMAND> = HashMap::new();

/// What goes direct.
#[btf_map]
pub static DIRECT: LpmTrie<Direct, Grant, { maps::DIRECT_ENTRIES as usize }> = LpmTrie::new();

/// Connections that went direct, for the daemon's audit.
#[btf_map]
pub static DIRECT_FLOWS: RingBuf<DirectFlow, 262_144> = RingBuf::new();

/// Processes that came into captured cgroups, for the daemon to look at.
#[btf_map]
pub static MOVES: RingBuf<Move, 65_536> = RingBuf::new();

/// Not 0 when one did not fit.
#[btf_map]
pub static MOVES_LOST: Array<u32, 1> = Array::new();
