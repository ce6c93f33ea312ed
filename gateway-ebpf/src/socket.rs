//! `socket()`: kinds that `connect()` and `sendmsg()` hooks do not see are refused before they exist.

use aya_ebpf::{helpers::generated::bpf_get_netns_cookie, macros::cgroup_sock, programs::SockContext};
use gateway_common::{address::Address, refusal::Reason};

use crate::{
    ALLOW,
    attribution::caller,
    context::{IPPROTO_TCP, IPPROTO_UDP, SOCK_DGRAM, SOCK_STREAM},
    refuse::{Attempt, EPROTONOSUPPORT, refuse, refused_already},
};

#[cgroup_sock(sock_create)]
pub fn nodegate_create(ctx: SockContext) -> i32 {
    // SAFETY: the kernel hands a valid context to the program.
    let (kind, protocol, family) = unsafe { ((*ctx.sock).type_, (*ctx.sock).protocol, (*ctx.sock).family) };
    match (kind, protocol) {
        (SOCK_STREAM, IPPROTO_TCP) | (SOCK_DGRAM, IPPROTO_UDP) => return ALLOW,
        _ if refused_already() => return ALLOW,
        _ => {}
    }
    let Some(caller) = caller() else {
        return ALLOW;
    };
    let attempt = Attempt {
        caller,
        // SAFETY: helper on the program's own context.
        netns: unsafe { bpf_get_netns_cookie(ctx.sock.cast()) },
        address: Address::default(),
        port: 0,
        family: family as u16,
        kind,
        protocol,
    };
    refuse(&ctx, &attempt, Reason::SocketKind, EPROTONOSUPPORT)
}
