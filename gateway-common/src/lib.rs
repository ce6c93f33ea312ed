//! What nodegate's kernel programs and its daemon share: map values, their layouts, and the rules that both
//! sides must apply alike. It knows neither aya nor Linux headers, so that it compiles for both targets.
//!
//! Everything that crosses the border is `repr(C)`, of fixed width, without implicit padding and without
//! `bool` or data-carrying enums. Sizes and offsets are asserted; changing one of them means changing
//! [`LAYOUT_VERSION`].

#![no_std]
#![allow(clippy::inline_always, reason = "kernel programs: a call costs registers and verifier work")]

pub mod address;
pub mod datagram;
pub mod direct;
pub mod flow;
pub mod guard;
pub mod moves;
pub mod refusal;
pub mod state;

/// Version of every layout in this crate. The daemon pins its maps in a directory of this name: a daemon of
/// another version makes its own maps and moves the links over, it never reinterprets foreign memory.
pub const LAYOUT_VERSION: u32 = 6;

/// How many levels below the cgroup root the kernel programs look for a captured cgroup.
pub const MAX_CGROUP_DEPTH: i32 = 32;

/// A daemon that has not written its heartbeat for so long is taken for stopped. One that is gone needs no such
/// limit: its listeners are gone with it.
pub const HEARTBEAT_LIMIT_NS: u64 = 5_000_000_000;

/// Grants that the daemon has not stood by for so long hold no more, though it be alive.
pub const GRANTS_LIMIT_NS: u64 = 12_000_000_000;

/// Names of the maps, as pinned.
pub mod maps {
    /// `NetnsCookie → Listener`.
    pub const LISTENERS: &str = "LISTENERS";
    /// `ListenerKey → the listening socket`.
    pub const ACCEPTING: &str = "ACCEPTING";
    /// `FlowKey → FlowRecord`.
    pub const FLOWS: &str = "FLOWS";
    /// Cgroup id → `Standing`, for every cgroup that has one.
    pub const CAPTURED: &str = "CAPTURED";
    /// Socket storage: `SocketState`.
    pub const SOCKETS: &str = "SOCKETS";
    /// Socket storage: 1 for a socket that was judged and not redirected.
    pub const TOUCHED: &str = "TOUCHED";
    /// Longest-prefix table of the names of Unix sockets that captured processes are kept from, to their numbers.
    pub const CONTROL_SOCKETS: &str = "CONTROL_SOCKETS";
    /// One `DaemonState`.
    pub const DAEMON: &str = "DAEMON";
    /// Ring buffer of `Refusal`.
    pub const REFUSALS: &str = "REFUSALS";
    /// `WayKey → u32`: the numbers of ways to DNS servers.
    pub const DNS_NUMBERS: &str = "DNS_NUMBERS";
    /// Number → `FlowRecord`: whose way it is, and to which server.
    pub const DNS_WAYS: &str = "DNS_WAYS";
    /// `FlowKey → Sender`: the latest query of each IPv6 socket.
    pub const DNS_SENDERS: &str = "DNS_SENDERS";
    /// Longest prefix of `Passage → Until`: datagrams that policy lets pass.
    pub const PASSAGES: &str = "PASSAGES";
    /// `FlowKey → u64`: which flows of datagrams have been reported, by socket cookie and destination.
    pub const REPORTED: &str = "REPORTED";
    /// Ring buffer of `FlowRecord`: each flow of datagrams that was let pass.
    pub const DATAGRAMS: &str = "DATAGRAMS";
    /// Cgroup id → which refusals are lifted there.
    pub const LENIENCE: &str = "LENIENCE";
    /// Longest prefix of `Direct` → `Grant`.
    pub const DIRECT: &str = "DIRECT";
    /// Ring buffer of `DirectFlow`.
    pub const DIRECT_FLOWS: &str = "DIRECT_FLOWS";
    /// Ring buffer of `Move`: processes that came into captured cgroups.
    pub const MOVES: &str = "MOVES";
    /// One number: not 0 where one did not fit into the buffer since the daemon last looked.
    pub const MOVES_LOST: &str = "MOVES_LOST";
    /// Entries that fit into [`LISTENERS`].
    pub const LISTENERS_ENTRIES: u64 = 4096;
    /// Entries that fit into [`CAPTURED`].
    pub const CAPTURED_ENTRIES: u64 = 16_384;
    /// Entries that fit into [`FLOWS`].
    pub const FLOWS_ENTRIES: u64 = 131_072;
    /// Entries that fit into [`DIRECT`].
    pub const DIRECT_ENTRIES: u64 = 65_536;
    /// All that are pinned.
    pub const PINNED: [&str; 20] = [
        LISTENERS,
        ACCEPTING,
        FLOWS,
        CAPTURED,
        SOCKETS,
        TOUCHED,
        CONTROL_SOCKETS,
        DAEMON,
        REFUSALS,
        DNS_NUMBERS,
        DNS_WAYS,
        DNS_SENDERS,
        PASSAGES,
        REPORTED,
        DATAGRAMS,
        LENIENCE,
        DIRECT,
        DIRECT_FLOWS,
        MOVES,
        MOVES_LOST,
    ];
}
