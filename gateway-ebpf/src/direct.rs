//! Connections that go direct: what policy lets through without looking into it is left as it is, and reported. What
//! cannot be reported goes through the daemon instead.

use aya_ebpf::{
    btf_maps::lpm_trie::Key,
    helpers::generated::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid},
    programs::SockAddrContext,
};
use gateway_common::{
    direct::{Direct, DirectFlow},
    flow::COMM_LEN,
};

use crate::{
    maps::{DAEMON, DIRECT, DIRECT_FLOWS, SOCKETS},
    refuse::Attempt,
};

/// Whether the connection goes on to where it was meant to go; it is reported then.
#[inline(always)]
pub fn passes(ctx: &SockAddrContext, attempt: &Attempt, now: u64) -> bool {
    let wanted = Direct::new(attempt.caller.captured, attempt.address, attempt.port);
    let Some(grant) = DIRECT.get(&Key::new(Direct::BITS, wanted)) else { return false };
    let grant = *grant;
    if grant.until() <= now || !DAEMON.get(0).is_some_and(|daemon| daemon.grants_at(now)) {
        return false;
    }
    let Some(mut entry) = DIRECT_FLOWS.reserve(0) else { return false };
    // SAFETY: helpers without pointers.
    let (pid_tgid, uid) = unsafe { (bpf_get_current_pid_tgid(), bpf_get_current_uid_gid() as u32) };
    let flow = entry.write(DirectFlow {
        netns: attempt.netns,
        captured_cgroup: attempt.caller.captured,
        cgroup: attempt.caller.cgroup,
        at: now,
        tgid: (pid_tgid >> 32) as u32,
        tid: pid_tgid as u32,
        uid,
        grant: grant.number,
        address: attempt.address,
        port: u32::from(attempt.port),
        padding: 0,
        comm: [0; COMM_LEN],
    });
    // SAFETY: the buffer is as long as stated.
    unsafe { bpf_get_current_comm(flow.comm.as_mut_ptr().cast(), COMM_LEN as u32) };
    entry.submit(0);
    // An earlier connect() of this socket may have gone to the daemon: this one is none of its.
    // SAFETY: the pointer is checked before use.
    if let Some(state) = unsafe { SOCKETS.get_ptr_mut(ctx).as_mut() } {
        state.phase = 0;
    }
    true
}
