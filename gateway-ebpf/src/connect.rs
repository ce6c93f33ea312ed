//! `connect()`: the destination becomes the daemon's listener.

use aya_ebpf::{
    helpers::generated::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_get_netns_cookie,
        bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_map_lookup_elem, bpf_setsockopt, bpf_sk_release,
    },
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use aya_log_ebpf::trace;
use gateway_common::{
    address::{AF_INET, AF_INET6, Address},
    flow::{COMM_LEN, FlowRecord, PHASE_REWRITTEN},
    refusal::Reason,
    state::{Listener, ListenerKey},
};

use crate::{
    ALLOW,
    attribution::caller,
    context::{
        Destination, IPPROTO_TCP, SOCK_STREAM, bound_device, destination_v4, destination_v6, kind, set_v4,
        set_v6,
    },
    datagram::{self, Call},
    direct,
    maps::{ACCEPTING, DAEMON, LISTENERS, SOCKETS},
    node::{let_pass, settle},
    refuse::{Attempt, ECONNREFUSED, EPERM, refuse, refused_already},
};

const SOL_SOCKET: i32 = 1;
const SO_BINDTOIFINDEX: i32 = 62;

#[cgroup_sock_addr(connect4)]
pub fn nodegate_conn4(ctx: SockAddrContext) -> i32 {
    match redirect(&ctx, destination_v4(&ctx), AF_INET) {
        Ok((address, port)) => {
            set_v4(&ctx, address, port);
            ALLOW
        }
        Err(verdict) => settle(&ctx, verdict),
    }
}

#[cgroup_sock_addr(connect6)]
pub fn nodegate_conn6(ctx: SockAddrContext) -> i32 {
    match redirect(&ctx, destination_v6(&ctx), AF_INET6) {
        Ok((address, port)) => {
            set_v6(&ctx, address, port);
            ALLOW
        }
        Err(verdict) => settle(&ctx, verdict),
    }
}

/// Where the connection shall go instead, or the program's verdict if it shall not be rewritten.
#[inline(always)]
fn redirect(ctx: &SockAddrContext, wanted: Destination, family: u16) -> Result<(Address, u16), i32> {
    if refused_already() {
        return Err(ALLOW);
    }
    let (kind, protocol) = kind(ctx);
    if kind != SOCK_STREAM || protocol != IPPROTO_TCP {
        let call = if wanted.address.as_v4().is_some() { Call::ConnectV4 } else { Call::ConnectV6 };
        return datagram::judge(ctx, wanted, family, call);
    }
    let Some(caller) = caller() else {
        return Err(ALLOW);
    };
    // SAFETY: helpers on the program's own context.
    let (now, netns) = unsafe { (bpf_ktime_get_boot_ns(), bpf_get_netns_cookie(ctx.sock_addr.cast())) };
    let attempt =
        Attempt { caller, netns, address: wanted.address, port: wanted.port, family, kind, protocol };
    if caller.captured == 0 {
        return Err(refuse(ctx, &attempt, Reason::CallerOutside, EPERM));
    }
    if caller.is_held() {
        return Err(refuse(ctx, &attempt, Reason::PodUnknown, ECONNREFUSED));
    }
    if !DAEMON.get(0).is_some_and(|daemon| daemon.alive_at(now)) {
        return Err(refuse(ctx, &attempt, Reason::DaemonSilent, ECONNREFUSED));
    }
    // SAFETY: the value is read at once; the map is on demand, so that its memory is not reused meanwhile.
    let listener = unsafe { LISTENERS.get(netns) }.copied().unwrap_or_default();
    let Some((address, port)) = listener_for(wanted.address, listener) else {
        return Err(refuse(ctx, &attempt, Reason::NoListener, ECONNREFUSED));
    };
    if !is_accepting(netns, address, port) {
        return Err(refuse(ctx, &attempt, Reason::DaemonSilent, ECONNREFUSED));
    }
    if direct::passes(ctx, &attempt, now) {
        return Err(let_pass(ctx));
    }
    // SAFETY: zeroed storage is a valid `SocketState`; the pointer is checked before use.
    let Some(state) = (unsafe { SOCKETS.get_or_insert_ptr_mut(ctx, None).as_mut() }) else {
        return Err(refuse(ctx, &attempt, Reason::NoMemory, ECONNREFUSED));
    };
    if state.phase == PHASE_REWRITTEN
        && state.listener == wanted.address
        && state.listener_port == u32::from(wanted.port)
    {
        // A captured cgroup inside a captured one, or the daemon's new program beside its old: done already.
        return Err(ALLOW);
    }
    if !release_from_device(ctx) {
        return Err(refuse(ctx, &attempt, Reason::BoundToDevice, ECONNREFUSED));
    }
    fill(ctx, &mut state.record, &attempt, now);
    state.listener = address;
    state.listener_port = u32::from(port);
    state.phase = PHASE_REWRITTEN;
    trace!(ctx, "redirected port {} to {}", wanted.port, port);
    Ok((address, port))
}

/// The listener that a client of this family can reach.
#[inline(always)]
fn listener_for(wanted: Address, listener: Listener) -> Option<(Address, u16)> {
    if wanted.as_v4().is_none() && listener.port_v6 != 0 {
        return Some((Address::LOOPBACK_V6, listener.port_v6));
    }
    // Where IPv6 is switched off there is no ::1, but an IPv6 socket can still talk IPv4.
    (listener.port_v4 != 0).then_some((Address::LOOPBACK_V4, listener.port_v4))
}

/// Whether the daemon's socket still listens there. With the daemon gone, the port may be anybody's.
#[inline(always)]
pub fn is_accepting(netns: u64, address: Address, port: u16) -> bool {
    let family = if address.as_v4().is_some() { AF_INET } else { AF_INET6 };
    let key = ListenerKey { netns, port: u32::from(port), family: u32::from(family) };
    // SAFETY: map and key are what the helper expects; the socket that it answers with is given back.
    unsafe {
        let listener = bpf_map_lookup_elem((&raw const ACCEPTING).cast_mut().cast(), (&raw const key).cast());
        if listener.is_null() {
            return false;
        }
        bpf_sk_release(listener);
    }
    true
}

/// A socket bound to a device could not reach the loopback device, where the listener is. Whether it is free now.
#[inline(always)]
pub fn release_from_device(ctx: &SockAddrContext) -> bool {
    if bound_device(ctx) == 0 {
        return true;
    }
    let mut none: i32 = 0;
    // SAFETY: the value is as long as stated.
    unsafe {
        bpf_setsockopt(
            ctx.sock_addr.cast(),
            SOL_SOCKET,
            SO_BINDTOIFINDEX,
            (&raw mut none).cast(),
            size_of::<i32>() as i32,
        ) == 0
    }
}

/// Fills a record with what is known of this call.
#[inline(always)]
pub fn fill(ctx: &SockAddrContext, record: &mut FlowRecord, attempt: &Attempt, now: u64) {
    // SAFETY: helpers on the program's own context, or without pointers.
    let (pid_tgid, uid, socket) = unsafe {
        (
            bpf_get_current_pid_tgid(),
            bpf_get_current_uid_gid() as u32,
            bpf_get_socket_cookie(ctx.sock_addr.cast()),
        )
    };
    record.netns = attempt.netns;
    record.captured_cgroup = attempt.caller.captured;
    record.cgroup = attempt.caller.cgroup;
    record.connected_at = now;
    record.socket = socket;
    record.ended_at = 0;
    record.tgid = (pid_tgid >> 32) as u32;
    record.tid = pid_tgid as u32;
    record.uid = uid;
    record.port = attempt.port;
    record.family = attempt.family;
    record.address = attempt.address;
    // SAFETY: the buffer is as long as stated.
    unsafe { bpf_get_current_comm(record.comm.as_mut_ptr().cast(), COMM_LEN as u32) };
}
