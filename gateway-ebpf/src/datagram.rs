//! What is not TCP: datagrams, connected or not.

use aya_ebpf::{
    helpers::generated::bpf_get_netns_cookie, macros::cgroup_sock_addr, programs::SockAddrContext,
};
use gateway_common::{
    address::{AF_INET, AF_INET6},
    refusal::Reason,
};

use crate::{
    ALLOW,
    attribution::caller,
    context::{Destination, IPPROTO_UDP, SOCK_DGRAM, destination_v4, destination_v6, kind},
    node::let_pass,
    refuse::{Attempt, EPERM, refuse, refuse_silently, refused_already},
};

/// Names must be resolved; everything else over UDP has no owner here.
const DNS_PORT: u16 = 53;

#[cgroup_sock_addr(sendmsg4)]
pub fn nodegate_send4(ctx: SockAddrContext) -> i32 {
    if refused_already() { ALLOW } else { judge(&ctx, destination_v4(&ctx), AF_INET) }
}

#[cgroup_sock_addr(sendmsg6)]
pub fn nodegate_send6(ctx: SockAddrContext) -> i32 {
    if refused_already() { ALLOW } else { judge(&ctx, destination_v6(&ctx), AF_INET6) }
}

/// Lets UDP to a DNS port pass, refuses the rest.
#[inline(always)]
pub fn judge(ctx: &SockAddrContext, wanted: Destination, family: u16) -> i32 {
    let (kind, protocol) = kind(ctx);
    let udp = kind == SOCK_DGRAM && protocol == IPPROTO_UDP;
    if udp && wanted.port == DNS_PORT {
        return let_pass(ctx);
    }
    if udp && wanted.port == 0 {
        // Nobody sends to port 0: this is a resolver that asks for its source address, which it can do without.
        return refuse_silently(EPERM);
    }
    let attempt = Attempt {
        caller: caller(),
        // SAFETY: helper on the program's own context.
        netns: unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) },
        address: wanted.address,
        port: wanted.port,
        family,
        kind,
        protocol,
    };
    refuse(ctx, &attempt, if udp { Reason::Datagram } else { Reason::SocketKind }, EPERM)
}
