//! Refusals: an error for the caller, an entry for the daemon.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_get_retval,
        bpf_ktime_get_boot_ns, bpf_set_retval,
    },
};
use aya_log_ebpf::debug;
use gateway_common::{
    address::Address,
    direct::{WENT_ON, lifts},
    refusal::{Reason, Refusal},
};

use crate::{
    ALLOW, REFUSE,
    attribution::Caller,
    maps::{LENIENCE, REFUSALS},
};

/// `-EPERM`.
pub const EPERM: i32 = -1;
/// `-ENOMEM`.
pub const ENOMEM: i32 = -12;
/// `-EAFNOSUPPORT`: what a kernel without that family would answer.
pub const EAFNOSUPPORT: i32 = -97;
/// `-EPROTONOSUPPORT`: what makes clients fall back from MPTCP to TCP.
pub const EPROTONOSUPPORT: i32 = -93;
/// `-EOPNOTSUPP`: what a kernel that cannot do it would answer.
pub const EOPNOTSUPP: i32 = -95;
/// `-ECONNREFUSED`: what a client makes of a target that is not there.
pub const ECONNREFUSED: i32 = -111;

/// What was asked for.
pub struct Attempt {
    pub caller: Caller,
    pub netns: u64,
    pub address: Address,
    pub port: u16,
    pub family: u16,
    pub kind: u32,
    pub protocol: u32,
}

/// Whether a program that ran before, for a captured cgroup further down, has refused already.
#[inline(always)]
pub fn refused_already() -> bool {
    // SAFETY: takes no pointers.
    unsafe { bpf_get_retval() < 0 }
}

/// Refuses with `errno` (negative) and says so in the ring buffer. In a cgroup that is lenient in this the call goes on.
#[inline(always)]
pub fn refuse<C: EbpfContext>(ctx: &C, attempt: &Attempt, reason: Reason, errno: i32) -> i32 {
    if report(ctx, attempt, reason) { ALLOW } else { refuse_silently(errno) }
}

/// Says in the ring buffer that something was refused, or that it goes on in a cgroup that is lenient in this: whether it
/// goes on. A full buffer loses the entry, never the refusal.
#[inline(always)]
pub fn report<C: EbpfContext>(ctx: &C, attempt: &Attempt, reason: Reason) -> bool {
    let went_on = is_lifted(attempt.caller.captured, reason);
    if let Some(mut entry) = REFUSALS.reserve(0) {
        // SAFETY: helpers without pointers.
        let (at, pid_tgid, uid) = unsafe {
            (bpf_ktime_get_boot_ns(), bpf_get_current_pid_tgid(), bpf_get_current_uid_gid() as u32)
        };
        let refusal = entry.write(Refusal {
            captured_cgroup: attempt.caller.captured,
            cgroup: attempt.caller.cgroup,
            netns: attempt.netns,
            at,
            tgid: (pid_tgid >> 32) as u32,
            tid: pid_tgid as u32,
            uid,
            reason: reason as u32 | if went_on { WENT_ON } else { 0 },
            address: attempt.address,
            port: attempt.port,
            family: attempt.family,
            kind: attempt.kind as u16,
            protocol: attempt.protocol as u16,
            comm: [0; 16],
        });
        // SAFETY: the buffer is as long as stated.
        unsafe { bpf_get_current_comm(refusal.comm.as_mut_ptr().cast(), 16) };
        entry.submit(0);
    }
    debug!(ctx, "refused: reason {}, protocol {}, port {}", reason as u32, attempt.protocol, attempt.port);
    went_on
}

#[inline(always)]
fn is_lifted(captured: u64, reason: Reason) -> bool {
    // SAFETY: the number is read at once; the map is on demand, so that its memory is not reused meanwhile.
    unsafe { LENIENCE.get(captured) }.is_some_and(|flags| lifts(*flags, reason))
}

/// Refuses with `errno` (negative).
#[inline(always)]
pub fn refuse_silently(errno: i32) -> i32 {
    // SAFETY: takes no pointers.
    unsafe { bpf_set_retval(errno) };
    REFUSE
}
