//! What is not TCP: datagrams, connected or not. Queries to DNS servers go to the daemon, what policy has opened passes
//! and is reported, and the rest is refused.

use aya_ebpf::{
    btf_maps::lpm_trie::Key,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_boot_ns},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use gateway_common::{
    address::{AF_INET, AF_INET6, Address},
    datagram::{DNS_PORT, Passage},
    flow::{FlowKey, FlowRecord},
    refusal::Reason,
};

use crate::{
    ALLOW,
    attribution::caller,
    connect::{fill, is_accepting},
    context::{
        Destination, IPPROTO_UDP, SOCK_DGRAM, destination_v4, destination_v6, kind, set_v4, set_v6, source_v6,
    },
    maps::{DAEMON, DATAGRAMS, LISTENERS, PASSAGES, REPORTED},
    names,
    node::{let_pass, settle},
    refuse::{Attempt, ECONNREFUSED, EPERM, refuse, refuse_silently, refused_already},
};

/// Which call is judged.
#[derive(Clone, Copy)]
pub enum Call {
    /// `connect()` of an IPv4 socket or to a mapped address, which settles the destination of all later sends.
    ConnectV4,
    /// `connect()` to an IPv6 address.
    ConnectV6,
    /// A send with a destination, from an IPv4 socket or to a mapped address.
    SendV4,
    /// The same to an IPv6 address, from this address.
    SendV6(Address),
}

#[cgroup_sock_addr(sendmsg4)]
pub fn nodegate_send4(ctx: SockAddrContext) -> i32 {
    if refused_already() {
        return ALLOW;
    }
    match judge(&ctx, destination_v4(&ctx), AF_INET, Call::SendV4) {
        Ok((address, port)) => {
            set_v4(&ctx, address, port);
            ALLOW
        }
        Err(verdict) => settle(&ctx, verdict),
    }
}

#[cgroup_sock_addr(sendmsg6)]
pub fn nodegate_send6(ctx: SockAddrContext) -> i32 {
    if refused_already() {
        return ALLOW;
    }
    match judge(&ctx, destination_v6(&ctx), AF_INET6, Call::SendV6(source_v6(&ctx))) {
        Ok((address, port)) => {
            set_v6(&ctx, address, port);
            ALLOW
        }
        Err(verdict) => settle(&ctx, verdict),
    }
}

/// Where the datagram shall go instead, or the program's verdict if it shall not be rewritten.
#[inline(always)]
pub fn judge(
    ctx: &SockAddrContext,
    wanted: Destination,
    family: u16,
    call: Call,
) -> Result<(Address, u16), i32> {
    let Some(caller) = caller() else {
        return Err(ALLOW);
    };
    let (kind, protocol) = kind(ctx);
    let udp = kind == SOCK_DGRAM && protocol == IPPROTO_UDP;
    if udp && wanted.port == 0 {
        // Nobody sends to port 0: this is a resolver that asks for its source address, which it can do without.
        return Err(refuse_silently(EPERM));
    }
    let attempt = Attempt {
        caller,
        // SAFETY: helper on the program's own context.
        netns: unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) },
        address: wanted.address,
        port: wanted.port,
        family,
        kind,
        protocol,
    };
    if caller.is_held() {
        return Err(refuse(ctx, &attempt, Reason::PodUnknown, EPERM));
    }
    if !udp {
        return Err(refuse(ctx, &attempt, Reason::SocketKind, EPERM));
    }
    if attempt.caller.captured == 0 {
        return Err(refuse(ctx, &attempt, Reason::CallerOutside, EPERM));
    }
    // SAFETY: takes no pointers.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if !DAEMON.get(0).is_some_and(|daemon| daemon.alive_at(now)) {
        return Err(refuse(ctx, &attempt, Reason::DaemonSilent, ECONNREFUSED));
    }
    if wanted.port == DNS_PORT {
        let redirected = names::redirect(ctx, &attempt, call, now)?;
        return match let_pass(ctx) {
            ALLOW => Ok(redirected),
            verdict => Err(verdict),
        };
    }
    if names::is_redirected(ctx, &attempt) {
        return Err(let_pass(ctx));
    }
    if !is_open(&attempt, now) {
        return Err(refuse(ctx, &attempt, Reason::Datagram, EPERM));
    }
    // Nobody hears the report of a daemon that is gone.
    // SAFETY: the value is read at once; the map is on demand, so that its memory is not reused meanwhile.
    let listener = unsafe { LISTENERS.get(attempt.netns) }.copied().unwrap_or_default();
    if listener.port_v4 == 0 {
        return Err(refuse(ctx, &attempt, Reason::NoListener, ECONNREFUSED));
    }
    if !is_accepting(attempt.netns, Address::LOOPBACK_V4, listener.port_v4) {
        return Err(refuse(ctx, &attempt, Reason::DaemonSilent, ECONNREFUSED));
    }
    if !report(ctx, &attempt, call, now) {
        return Err(refuse(ctx, &attempt, Reason::Unreported, EPERM));
    }
    Err(let_pass(ctx))
}

/// Whether policy lets this cgroup send there, as the daemon last said.
#[inline(always)]
fn is_open(attempt: &Attempt, now: u64) -> bool {
    let passage = Passage::new(attempt.caller.captured, attempt.address, attempt.port);
    PASSAGES.get(&Key::new(Passage::BITS, passage)).is_some_and(|until| now < until.moment())
}

/// Tells the daemon of a flow: each `connect()`, and the first send of a socket to a destination.
#[inline(always)]
fn report(ctx: &SockAddrContext, attempt: &Attempt, call: Call, now: u64) -> bool {
    // SAFETY: helper on the program's own context.
    let socket = unsafe { bpf_get_socket_cookie(ctx.sock_addr.cast()) };
    let key = FlowKey::new(socket, attempt.address, attempt.port, 0);
    if !matches!(call, Call::ConnectV4 | Call::ConnectV6) && REPORTED.get_ptr(key).is_some() {
        return true;
    }
    let Some(mut entry) = DATAGRAMS.reserve(0) else { return false };
    let record = entry.write(FlowRecord {
        netns: 0,
        captured_cgroup: 0,
        cgroup: 0,
        connected_at: 0,
        socket: 0,
        ended_at: 0,
        tgid: 0,
        tid: 0,
        uid: 0,
        port: 0,
        family: 0,
        address: attempt.address,
        comm: [0; 16],
    });
    fill(ctx, record, attempt, now);
    entry.submit(0);
    let _ = REPORTED.insert(key, now, 0);
    true
}
