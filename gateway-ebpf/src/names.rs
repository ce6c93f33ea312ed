//! DNS over UDP: queries go to the daemon's listener in the same network namespace, and their answers come back from
//! the server that was asked. What a way is, and why, stands in `gateway_common::datagram`.

use aya_ebpf::{
    helpers::generated::{
        bpf_bind, bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_get_socket_cookie, bpf_sk_storage_get,
    },
    macros::{cgroup_sock, cgroup_sock_addr},
    programs::{SockAddrContext, SockContext},
};
use gateway_common::{
    address::{AF_INET6, Address},
    datagram::{SERVERS_PER_CGROUP, Sender, WAYS, WayKey, way_address, way_number},
    flow::{FlowKey, FlowRecord, PHASE_SENDER, SocketState},
    refusal::Reason,
};

use crate::{
    ALLOW,
    connect::{fill, is_accepting, release_from_device},
    context::{Destination, bound_device, destination_v4, destination_v6, local_v6, set_v4, set_v6},
    datagram::Call,
    maps::{DNS_NUMBERS, DNS_SENDERS, DNS_WAYS, LISTENERS, SOCKETS},
    refuse::{Attempt, ECONNREFUSED, EPERM, refuse},
};

/// `BPF_NOEXIST`.
const IF_ABSENT: u64 = 1;
/// Numbers are drawn; a taken one is drawn again. Of four million, so many tries never fail in practice.
const DRAWS: u32 = 4;
/// Ports that are drawn from: the kernel's own default range.
const FIRST_PORT: u16 = 32_768;
const PORTS: u32 = 28_232;
/// How often one is drawn while those drawn are taken.
const PORT_DRAWS: u32 = 8;
/// `struct sockaddr_in6` in words.
const SOCKADDR_IN6_WORDS: usize = 7;

#[cgroup_sock_addr(recvmsg4)]
pub fn nodegate_recv4(ctx: SockAddrContext) -> i32 {
    if let Some(server) = server_behind(destination_v4(&ctx)) {
        set_v4(&ctx, server.address, server.port);
    }
    ALLOW
}

#[cgroup_sock_addr(recvmsg6)]
pub fn nodegate_recv6(ctx: SockAddrContext) -> i32 {
    let source = destination_v6(&ctx);
    let server = if source.address == Address::LOOPBACK_V6 {
        server_of_sender(&ctx, source.port)
    } else {
        server_behind(source)
    };
    if let Some(server) = server {
        set_v6(&ctx, server.address, server.port);
    }
    ALLOW
}

/// The server whose way this end is.
#[inline(always)]
pub fn server_behind(end: Destination) -> Option<Destination> {
    server_of_way(way_number(end.address)?)
}

#[inline(always)]
fn server_of_way(number: u32) -> Option<Destination> {
    // SAFETY: the value is read at once; the map is on demand, so that its memory is not reused meanwhile.
    let record = unsafe { DNS_WAYS.get(number) }?;
    Some(Destination { address: record.address, port: record.port })
}

/// The server that an IPv6 socket asked last, if the datagram is the daemon's.
#[inline(always)]
fn server_of_sender(ctx: &SockAddrContext, from_port: u16) -> Option<Destination> {
    // SAFETY: helpers on the program's own context.
    let (netns, socket) =
        unsafe { (bpf_get_netns_cookie(ctx.sock_addr.cast()), bpf_get_socket_cookie(ctx.sock_addr.cast())) };
    // SAFETY: the value is read at once.
    let listener = unsafe { LISTENERS.get(netns) }?;
    if listener.dns_v6 != from_port {
        return None;
    }
    let (address, port) = local_v6(ctx);
    // SAFETY: the value is read at once.
    let sender = unsafe { DNS_SENDERS.get(FlowKey::new(netns, or_loopback(address), port, 0)) }?;
    if sender.socket != socket {
        return None;
    }
    server_of_way(sender.way)
}

/// Where a query goes instead of to its server.
#[inline(always)]
pub fn redirect(
    ctx: &SockAddrContext,
    attempt: &Attempt,
    call: Call,
    now: u64,
) -> Result<(Address, u16), i32> {
    // SAFETY: the value is read at once; the map is on demand, so that its memory is not reused meanwhile.
    let listener = unsafe { LISTENERS.get(attempt.netns) }.copied().unwrap_or_default();
    let port =
        if matches!(call, Call::ConnectV6 | Call::SendV6(_)) { listener.dns_v6 } else { listener.dns_v4 };
    if port == 0 {
        return Err(refuse(ctx, attempt, Reason::NoListener, ECONNREFUSED));
    }
    // The sockets for datagrams live and die with those for connections.
    if !is_accepting(attempt.netns, Address::LOOPBACK_V4, listener.port_v4) {
        return Err(refuse(ctx, attempt, Reason::DaemonSilent, ECONNREFUSED));
    }
    if bound_device(ctx) != 0 {
        // A send has looked at the device already; the next one finds the socket free.
        let freed = release_from_device(ctx);
        if !freed || !matches!(call, Call::ConnectV4 | Call::ConnectV6) {
            return Err(refuse(ctx, attempt, Reason::BoundToDevice, ECONNREFUSED));
        }
    }
    let number = match way(ctx, attempt, now) {
        Ok(number) => number,
        Err(reason) => return Err(refuse(ctx, attempt, reason, EPERM)),
    };
    let (source, own_port) = match call {
        Call::ConnectV4 | Call::SendV4 => return Ok((way_address(number), port)),
        Call::SendV6(source) => (source, Some(local_v6(ctx).1)),
        Call::ConnectV6 => (local_v6(ctx).0, own_port(ctx)),
    };
    let Some(own_port) = own_port else {
        return Err(refuse(ctx, attempt, Reason::NoMemory, EPERM));
    };
    let key = FlowKey::new(attempt.netns, or_loopback(source), own_port, 0);
    if let Err(reason) = note_sender(ctx, attempt, key, number, now) {
        return Err(refuse(ctx, attempt, reason, EPERM));
    }
    Ok((Address::LOOPBACK_V6, port))
}

/// Whether a program that ran before, for a captured cgroup further down or for the daemon before, has sent this to
/// the daemon. An agent that addresses the daemon so by itself gets no further than its own query would.
#[inline(always)]
pub fn is_redirected(ctx: &SockAddrContext, attempt: &Attempt) -> bool {
    // SAFETY: the value is read at once.
    let Some(listener) = (unsafe { LISTENERS.get(attempt.netns) }) else { return false };
    if let Some(number) = way_number(attempt.address) {
        // SAFETY: the value is read at once.
        let record = unsafe { DNS_WAYS.get(number) };
        return attempt.port == listener.dns_v4
            && record.is_some_and(|record| {
                record.captured_cgroup == attempt.caller.captured && record.netns == attempt.netns
            });
    }
    if attempt.address != Address::LOOPBACK_V6 || attempt.port != listener.dns_v6 || listener.dns_v6 == 0 {
        return false;
    }
    // SAFETY: the pointer is checked before use.
    unsafe { SOCKETS.get_ptr_mut(ctx).as_ref() }.is_some_and(|state| state.phase == PHASE_SENDER)
}

/// The number of this way, made if need be; its record tells who asked last.
#[inline(always)]
fn way(ctx: &SockAddrContext, attempt: &Attempt, now: u64) -> Result<u32, Reason> {
    // The kernel takes the unspecified IPv6 address for the loopback address, and here it stands for the count.
    let server = or_loopback(attempt.address);
    let key = WayKey { netns: attempt.netns, captured_cgroup: attempt.caller.captured, server };
    // SAFETY: the value is read at once.
    if let Some(number) = unsafe { DNS_NUMBERS.get(key) }.copied() {
        // SAFETY: the pointer is checked; two callers at once may mix their names, and both are of this cgroup.
        if let Some(record) = DNS_WAYS.get_ptr_mut(number).and_then(|record| unsafe { record.as_mut() }) {
            fill(ctx, record, attempt, now);
            record.address = server;
            return Ok(number);
        }
        let _ = DNS_NUMBERS.remove(key);
    }
    let counter = WayKey { server: Address::default(), ..key };
    // SAFETY: the value is read at once.
    let servers = unsafe { DNS_NUMBERS.get(counter) }.copied().unwrap_or(0);
    if servers >= SERVERS_PER_CGROUP {
        return Err(Reason::TooManyServers);
    }
    let mut record = FlowRecord::default();
    fill(ctx, &mut record, attempt, now);
    record.address = server;
    for _ in 0..DRAWS {
        // SAFETY: takes no pointers.
        let number = unsafe { bpf_get_prandom_u32() } & (WAYS - 1);
        if DNS_WAYS.insert(number, record, IF_ABSENT).is_err() {
            continue;
        }
        if DNS_NUMBERS.insert(key, number, IF_ABSENT).is_ok() {
            let _ = DNS_NUMBERS.insert(counter, servers + 1, 0);
            return Ok(number);
        }
        // Another thread was faster, or there is no room.
        let _ = DNS_WAYS.remove(number);
        // SAFETY: the value is read at once.
        return unsafe { DNS_NUMBERS.get(key) }.copied().ok_or(Reason::NoMemory);
    }
    Err(Reason::NoMemory)
}

/// Files the way of a query under its sender's end, for as long as the socket lives. Two captured cgroups that share
/// one end (SO_REUSEADDR, SO_REUSEPORT) would be taken for each other: the second is refused.
#[inline(always)]
fn note_sender(
    ctx: &SockAddrContext,
    attempt: &Attempt,
    key: FlowKey,
    way: u32,
    now: u64,
) -> Result<(), Reason> {
    // SAFETY: zeroed storage is a valid `SocketState`; the pointer is checked before use.
    let Some(state) = (unsafe { SOCKETS.get_or_insert_ptr_mut(ctx, None).as_mut() }) else {
        return Err(Reason::NoMemory);
    };
    // SAFETY: the value is read at once; the map is on demand, so that its memory is not reused meanwhile.
    if let Some(other) = unsafe { DNS_SENDERS.get(key) }
        && other.captured_cgroup != attempt.caller.captured
    {
        return Err(Reason::SharedEnd);
    }
    if state.phase == PHASE_SENDER && state.key != key {
        let _ = DNS_SENDERS.remove(state.key);
    }
    fill(ctx, &mut state.record, attempt, now);
    let sender =
        Sender { socket: state.record.socket, captured_cgroup: attempt.caller.captured, way, padding: 0 };
    state.key = key;
    state.phase = PHASE_SENDER;
    DNS_SENDERS.insert(key, sender, 0).map_err(|_| Reason::NoMemory)
}

/// The socket is closed: what was filed under its end goes with it.
#[cgroup_sock(sock_release)]
pub fn nodegate_close(ctx: SockContext) -> i32 {
    // SAFETY: the kernel hands a valid socket to the program; the pointer is checked before use.
    let state = unsafe {
        bpf_sk_storage_get((&raw const SOCKETS).cast_mut().cast(), ctx.sock.cast(), core::ptr::null_mut(), 0)
            .cast::<SocketState>()
            .as_ref()
    };
    if let Some(state) = state
        && state.phase == PHASE_SENDER
    {
        let key = state.key;
        // SAFETY: the value is read at once.
        if unsafe { DNS_SENDERS.get(key) }.is_some_and(|sender| sender.socket == state.record.socket) {
            let _ = DNS_SENDERS.remove(key);
        }
    }
    ALLOW
}

/// The port of a socket that is about to connect. The kernel would choose one only afterwards, when nothing of ours
/// runs any more, so one is drawn here.
#[inline(always)]
fn own_port(ctx: &SockAddrContext) -> Option<u16> {
    let (_, port) = local_v6(ctx);
    if port != 0 {
        return Some(port);
    }
    for _ in 0..PORT_DRAWS {
        // SAFETY: takes no pointers.
        let port = FIRST_PORT + (unsafe { bpf_get_prandom_u32() } % PORTS) as u16;
        // All zero but family and port: any address.
        let mut end = [0_u32; SOCKADDR_IN6_WORDS];
        let [family, port_in_network_order] = [AF_INET6.to_ne_bytes(), port.to_be_bytes()];
        end[0] =
            u32::from_ne_bytes([family[0], family[1], port_in_network_order[0], port_in_network_order[1]]);
        // SAFETY: the address is as long as stated.
        let bound = unsafe {
            bpf_bind(ctx.sock_addr, (&raw mut end).cast(), size_of::<[u32; SOCKADDR_IN6_WORDS]>() as i32)
        };
        if bound == 0 {
            return Some(port);
        }
    }
    None
}

/// The unspecified IPv6 address as what the kernel takes it for, as source or destination of a loopback datagram.
#[inline(always)]
fn or_loopback(address: Address) -> Address {
    if address == Address::default() { Address::LOOPBACK_V6 } else { address }
}
