//! What no cgroup hook sees, where the kernel runs BPF programs as a security module: sockets of other families when
//! they are made, Unix sockets that control the node when they are connected to, and sockets that arrive in a message.
//!
//! These run for every process of the node; whoever is not captured passes after one look at its own cgroup. The
//! fields that they read lie where the daemon found them in the kernel's own type information.

use aya_ebpf::{
    EbpfContext, btf_maps::lpm_trie::Key, helpers::bpf_probe_read_kernel_buf, macros::lsm,
    programs::LsmContext,
};
use gateway_common::{
    address::{AF_INET, AF_INET6, Address},
    guard::{ABSTRACT, PATH_BYTES, QUIETLY},
    refusal::Reason,
};

use crate::{
    attribution::{caller, is_captured},
    fields::{offsets, pointer, read, walk},
    maps::CONTROL_SOCKETS,
    privileges::leads_out,
    refuse::{Attempt, EAFNOSUPPORT, EPERM, report},
};

pub const PASS: i32 = 0;
const AF_UNIX: u16 = 1;
const AF_NETLINK: u16 = 16;
/// Routes and addresses, statistics of sockets, device events, generic: what libraries ask the kernel for.
/// Netfilter, XFRM and their like change where packets go.
const NETLINK_ALLOWED: [i32; 4] = [0, 4, 15, 16];
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

/// `socket_create(int family, int type, int protocol, int kern)`
#[lsm(hook = "socket_create")]
pub fn nodegate_family(ctx: LsmContext) -> i32 {
    let (family, kind, protocol, kern): (i32, i32, i32, i32) =
        (ctx.arg(0), ctx.arg(1), ctx.arg(2), ctx.arg(3));
    let family = family as u16;
    let known = match family {
        AF_UNIX | AF_INET | AF_INET6 => true,
        AF_NETLINK => NETLINK_ALLOWED.contains(&protocol),
        _ => false,
    };
    if known || kern != 0 {
        return PASS;
    }
    refuse(
        &ctx,
        Reason::SocketKind,
        Asked { family, kind: kind as u32, protocol: protocol as u32, entry: 0 },
        EAFNOSUPPORT,
    )
}

/// `unix_stream_connect(struct sock *sock, struct sock *other, struct sock *newsk)`
#[lsm(hook = "unix_stream_connect")]
pub fn nodegate_unixst(ctx: LsmContext) -> i32 {
    reach(&ctx, ctx.arg::<*const u8>(1) as u64, 1)
}

/// `unix_may_send(struct socket *sock, struct socket *other)`
#[lsm(hook = "unix_may_send")]
pub fn nodegate_unixdg(ctx: LsmContext) -> i32 {
    let Some(other) = pointer(ctx.arg::<*const u8>(1) as u64, offsets().socket_sk) else { return PASS };
    reach(&ctx, other, 2)
}

/// `file_receive(struct file *file)`
#[lsm(hook = "file_receive")]
pub fn nodegate_receiv(ctx: LsmContext) -> i32 {
    let offsets = offsets();
    let file = ctx.arg::<*const u8>(0) as u64;
    if leads_out(file) {
        return refuse(&ctx, Reason::Leaving, Asked::NOTHING, EPERM);
    }
    let mode: Option<u16> =
        pointer(file, offsets.file_inode).and_then(|inode| read(inode, offsets.inode_mode));
    if mode.is_none_or(|mode| mode & S_IFMT != S_IFSOCK) {
        return PASS;
    }
    let Some(socket) = pointer(file, offsets.file_private) else { return PASS };
    let Some(sk) = pointer(socket, offsets.socket_sk) else { return PASS };
    let family: u16 = read(sk, offsets.sock_family).unwrap_or_default();
    // A listening socket leads nowhere by itself, and services are handed theirs.
    let listens = read::<u8>(sk, offsets.sock_state) == Some(TCP_LISTEN);
    if family == AF_UNIX || family == AF_NETLINK || listens || belongs_to_captured(sk) {
        return PASS;
    }
    refuse(&ctx, Reason::SocketReceived, Asked { family, kind: 0, protocol: 0, entry: 0 }, EPERM)
}

const TCP_LISTEN: u8 = 10;

/// A captured process wants to talk to the Unix socket `other`. What counts is the name that the server gave it, which
/// no symbolic link and no mount of the caller's can change. A server that is captured itself gives nothing away.
#[inline(always)]
fn reach(ctx: &LsmContext, other: u64, kind: u32) -> i32 {
    if caller().is_none_or(|caller| caller.captured == 0) {
        return PASS;
    }
    let offsets = offsets();
    let Some(name) = pointer(other, offsets.unix_addr) else { return PASS };
    let mut key = Key::new(PATH_BYTES as u32 * 8, [0_u8; PATH_BYTES]);
    let path = name + u64::from(offsets.address_path);
    // SAFETY: reads from the kernel's memory are checked by the helper; the buffer is as long as it says. What lies
    // behind the name's end never matters: entries that are not prefixes end with the NUL that ends a path.
    let read = unsafe { bpf_probe_read_kernel_buf(path as *const u8, &mut *(&raw mut key.data)) };
    if read.is_err() {
        return PASS;
    }
    let entry = match CONTROL_SOCKETS.get(&key).copied() {
        Some(entry) => entry,
        // No file permission and no mount keeps anybody from an abstract name; some container runtimes are driven by
        // such.
        None if key.data[0] == 0 => u32::from(ABSTRACT),
        None => return PASS,
    };
    if belongs_to_captured(other) {
        return PASS;
    }
    if entry == 0 {
        return PASS;
    }
    if entry & QUIETLY != 0 {
        return EPERM;
    }
    refuse(
        ctx,
        Reason::ControlSocket,
        Asked { family: AF_UNIX, kind, protocol: 0, entry: entry as u16 },
        EPERM,
    )
}

/// What was asked for, as far as there is something to name.
pub struct Asked {
    pub family: u16,
    pub kind: u32,
    pub protocol: u32,
    /// Which control socket, where it is one.
    pub entry: u16,
}

impl Asked {
    /// The reason says it all.
    pub const NOTHING: Self = Self { family: 0, kind: 0, protocol: 0, entry: 0 };
}

/// Refuses a captured caller with `errno` (negative) and says so in the ring buffer; everybody else, and in a cgroup that
/// is lenient in this, passes.
#[inline(always)]
pub fn refuse<C: EbpfContext>(ctx: &C, reason: Reason, asked: Asked, errno: i32) -> i32 {
    let Some(caller) = caller() else { return PASS };
    if caller.captured == 0 {
        return PASS;
    }
    let Asked { family, kind, protocol, entry } = asked;
    let attempt =
        Attempt { caller, netns: 0, address: Address::default(), port: entry, family, kind, protocol };
    if report(ctx, &attempt, reason) { PASS } else { errno }
}

/// Whether a socket was made in a captured cgroup or below one.
#[inline(always)]
fn belongs_to_captured(sk: u64) -> bool {
    let Some(cgroup) = pointer(sk, offsets().sock_cgroup) else { return false };
    walk(cgroup, false, |found, id| found || is_captured(id))
}
