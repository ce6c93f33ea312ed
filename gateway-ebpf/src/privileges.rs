//! What a captured process could do with privileges, or with the rights of a user who runs things elsewhere too, to get
//! past the programs of its cgroup: use a process outside, leave the cgroup, send the daemon's packets elsewhere, put BPF
//! programs of its own beside the daemon's.
//!
//! These run as a security module, for every process of the node: each first looks at what is asked for, which is nearly
//! always something else, and only then at who asks.

use aya_ebpf::{helpers::bpf_get_current_task, macros::lsm, programs::LsmContext};
use gateway_common::refusal::Reason;

use crate::{
    attribution::caller,
    fields::{cgroup_of, counts_for, offsets, pointer, read},
    guard::{Asked, PASS, refuse},
    refuse::{EOPNOTSUPP, EPERM},
};

/// Set in the mode of a look that may also change: `ptrace`, `pidfd_getfd`, memory that is written. Reading is not in it.
const PTRACE_MODE_ATTACH: u32 = 2;
const FMODE_WRITE: u32 = 2;
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `ptrace_access_check(struct task_struct *child, unsigned int mode)`
#[lsm(hook = "ptrace_access_check")]
pub fn nodegate_trace(ctx: LsmContext) -> i32 {
    let (child, mode): (u64, u32) = (ctx.arg::<*const u8>(0) as u64, ctx.arg(1));
    if mode & PTRACE_MODE_ATTACH == 0 {
        return PASS;
    }
    let Some(caller) = caller() else { return PASS };
    if caller.captured == 0 || cgroup_of(child).is_some_and(|cgroup| counts_for(cgroup) == caller.captured) {
        return PASS;
    }
    refuse(&ctx, Reason::Tracing, Asked::NOTHING, EPERM)
}

/// `file_open(struct file *file)`
#[lsm(hook = "file_open")]
pub fn nodegate_cgfile(ctx: LsmContext) -> i32 {
    if leads_out(ctx.arg::<*const u8>(0) as u64) {
        return refuse(&ctx, Reason::Leaving, Asked::NOTHING, EPERM);
    }
    PASS
}

/// Whether a file of the cgroup file system is open to be written, and belongs to another cgroup than those of the
/// captured caller's workload. Who opened it does not count, but who holds it.
#[inline(always)]
pub fn leads_out(file: u64) -> bool {
    let offsets = offsets();
    if read::<u32>(file, offsets.file_mode).is_none_or(|mode| mode & FMODE_WRITE == 0) {
        return false;
    }
    let Some(inode) = pointer(file, offsets.file_inode) else { return false };
    let magic = pointer(inode, offsets.inode_super).and_then(|of| read::<u64>(of, offsets.super_magic));
    if magic != Some(CGROUP2_SUPER_MAGIC) {
        return false;
    }
    let Some(caller) = caller() else { return false };
    if caller.captured == 0 {
        return false;
    }
    let cgroup = pointer(inode, offsets.inode_private)
        .and_then(|file| pointer(file, offsets.node_parent))
        .and_then(|directory| pointer(directory, offsets.node_private));
    cgroup.is_none_or(|cgroup| counts_for(cgroup) != caller.captured)
}

/// `task_alloc(struct task_struct *task, u64 clone_flags)`. Where a child that is to live in another cgroup will live is
/// not to be seen here. The answer is that of a kernel which cannot do it: whoever asks then moves the child, which
/// [`nodegate_cgfile`] sees.
#[lsm(hook = "task_alloc")]
pub fn nodegate_clone(ctx: LsmContext) -> i32 {
    if ctx.arg::<u64>(1) & CLONE_INTO_CGROUP == 0 {
        return PASS;
    }
    refuse(&ctx, Reason::Leaving, Asked::NOTHING, EOPNOTSUPP)
}

/// `netlink_send(struct sock *sk, struct sk_buff *skb)`
#[lsm(hook = "netlink_send")]
pub fn nodegate_routes(ctx: LsmContext) -> i32 {
    let (sk, skb): (u64, u64) = (ctx.arg::<*const u8>(0) as u64, ctx.arg::<*const u8>(1) as u64);
    let offsets = offsets();
    let protocol = read::<u16>(sk, offsets.sock_protocol).unwrap_or_default();
    if protocol != NETLINK_ROUTE && protocol != NETLINK_GENERIC {
        return PASS;
    }
    let (Some(data), Some(length)) = (pointer(skb, offsets.skb_data), read(skb, offsets.skb_length)) else {
        return PASS;
    };
    if !reroutes(protocol, data, length) || !may_reroute() {
        return PASS;
    }
    refuse(&ctx, Reason::Rerouting, Asked { protocol: protocol.into(), ..Asked::NOTHING }, EPERM)
}

const NETLINK_ROUTE: u16 = 0;
const NETLINK_GENERIC: u16 = 16;
/// The generic family that tells of the others.
const GENL_ID_CTRL: u16 = 16;
/// Below are the kernel's own messages, which mean nothing in this direction.
const NLMSG_MIN_TYPE: u16 = 16;
const NLMSG_HEADER: u32 = 16;
/// One call seldom brings two.
const MESSAGES: u32 = 32;

/// Whether one of the messages asks for a change that could send the daemon's packets elsewhere. So does a call with more
/// messages than anybody sends, or with one that cannot be read.
#[inline(always)]
fn reroutes(protocol: u16, data: u64, length: u32) -> bool {
    let mut at = 0_u32;
    for _ in 0..MESSAGES {
        if at >= length || length - at < NLMSG_HEADER {
            return false;
        }
        let message = data + u64::from(at);
        let (Some(size), Some(kind)) = (read::<u32>(message, 0), read::<u16>(message, 4)) else {
            return true;
        };
        if size < NLMSG_HEADER || size > length - at {
            return false;
        }
        let changes = if protocol == NETLINK_GENERIC {
            kind > GENL_ID_CTRL
        } else {
            changes_routes(kind) || empties_loopback(kind, message)
        };
        if changes {
            return true;
        }
        at += (size + 3) & !3;
    }
    true
}

/// Routes, rules, next hops, and everything of traffic control, each to be set or deleted: messages come in fours, of
/// which these are the first two.
#[inline(always)]
fn changes_routes(kind: u16) -> bool {
    let of = kind & !3;
    kind >= NLMSG_MIN_TYPE && kind & 3 < 2 && matches!(of, 24 | 32 | 36 | 40 | 44 | 48 | 100 | 104)
}

const RTM_DELADDR: u16 = 21;
/// In every network namespace.
const LOOPBACK_INDEX: u32 = 1;

/// Whether the loopback device would lose an address: they keep what is meant for the daemon from leaving.
#[inline(always)]
fn empties_loopback(kind: u16, message: u64) -> bool {
    kind == RTM_DELADDR && read::<u32>(message, NLMSG_HEADER + 4) == Some(LOOPBACK_INDEX)
}

/// `file_ioctl(struct file *file, unsigned int cmd, unsigned long arg)`
#[lsm(hook = "file_ioctl")]
pub fn nodegate_ioctl(ctx: LsmContext) -> i32 {
    let command: u32 = ctx.arg(1);
    if !IOCTLS.contains(&command) || !may_reroute() {
        return PASS;
    }
    refuse(&ctx, Reason::Rerouting, Asked::NOTHING, EPERM)
}

/// `TUNSETIFF`, by which a process writes packets as if they came from a cable; the older forms of the messages above:
/// `SIOCADDRT`, `SIOCDELRT`, and `SIOCSIFADDR`, `SIOCSIFNETMASK`, `SIOCDIFADDR`, which do not say here whether they mean the
/// loopback device.
const IOCTLS: [u32; 6] = [0x4004_54ca, 0x890b, 0x890c, 0x8916, 0x891c, 0x8936];

/// `socket_setsockopt(struct socket *sock, int level, int optname)`
#[lsm(hook = "socket_setsockopt")]
pub fn nodegate_tables(ctx: LsmContext) -> i32 {
    let (level, name): (i32, i32) = (ctx.arg(1), ctx.arg(2));
    let is_table = match level {
        // iptables, arptables, ebtables, and the range of IP virtual servers.
        0 => matches!(name, 64 | 65 | 96 | 97 | 128 | 129) || (name >= 1152 && name < 1184),
        41 => matches!(name, 64 | 65),
        _ => false,
    };
    if !is_table || !may_reroute() {
        return PASS;
    }
    refuse(&ctx, Reason::Rerouting, Asked::NOTHING, EPERM)
}

const CAP_NET_ADMIN: u64 = 1 << 12;

/// Whether the caller has the right in the user namespace that the node's network belongs to. Others are refused by the
/// kernel itself there; and in a network that belongs to a user namespace of their own, from which no cable leads
/// anywhere, they may do what they like.
#[inline(always)]
fn may_reroute() -> bool {
    let offsets = offsets();
    // SAFETY: takes no pointers.
    let task = unsafe { bpf_get_current_task() };
    let Some(cred) = pointer(task, offsets.task_cred) else { return true };
    let level =
        pointer(cred, offsets.cred_user_ns).and_then(|space| read::<i32>(space, offsets.user_ns_level));
    level.is_none_or(|level| level == 0)
        && read::<u64>(cred, offsets.cred_effective).is_none_or(|effective| effective & CAP_NET_ADMIN != 0)
}

/// `bpf(int cmd, union bpf_attr *attr, unsigned int size)`
#[lsm(hook = "bpf")]
pub fn nodegate_bpf(ctx: LsmContext) -> i32 {
    let (command, attributes): (u32, u64) = (ctx.arg(0), ctx.arg::<*const u8>(1) as u64);
    if is_harmless(command, attributes) {
        return PASS;
    }
    refuse(&ctx, Reason::Programming, Asked { protocol: command, ..Asked::NOTHING }, EPERM)
}

/// Commands that reach nothing but what the caller has made or holds: maps of its own, what programs there are. Of
/// programs and where they are attached, those that container runtimes and service managers need: they can refuse, and
/// nothing else.
#[inline(always)]
fn is_harmless(command: u32, attributes: u64) -> bool {
    match command {
        PROG_LOAD => {
            read::<u32>(attributes, 0).is_some_and(|kind| kind < 64 && PROGRAM_TYPES & 1 << kind != 0)
        }
        PROG_ATTACH | PROG_DETACH | LINK_CREATE => {
            read::<u32>(attributes, 8).is_some_and(|place| place < 64 && ATTACH_TYPES & 1 << place != 0)
        }
        _ => command < 64 && COMMANDS & 1 << command != 0,
    }
}

const PROG_LOAD: u32 = 5;
const PROG_ATTACH: u32 = 8;
const PROG_DETACH: u32 = 9;
const LINK_CREATE: u32 = 28;
/// Map create, look up, update, delete, next key; pin; test run; next program; next map; program by id; facts of what is
/// held; query; type information load, by id; look up and delete; freeze; next type information; batches.
const COMMANDS: u64 = mask(&[0, 1, 2, 3, 4, 6, 10, 11, 12, 13, 15, 16, 18, 19, 21, 22, 23, 24, 25, 26, 27]);
/// Socket filter, cgroup packets, cgroup devices, cgroup settings.
const PROGRAM_TYPES: u64 = mask(&[1, 8, 15, 23]);
/// Cgroup ingress and egress, devices, settings.
const ATTACH_TYPES: u64 = mask(&[0, 1, 6, 18]);

const fn mask(numbers: &[u32]) -> u64 {
    let (mut mask, mut at) = (0, 0);
    while at < numbers.len() {
        mask |= 1 << numbers[at];
        at += 1;
    }
    mask
}
