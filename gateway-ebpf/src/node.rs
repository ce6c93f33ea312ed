//! The whole node: these are attached to the root of the cgroup tree, where they run for every socket.
//!
//! The programs of a captured cgroup run for the sockets that were made in it. A socket that was made elsewhere and
//! came to a captured process by inheritance, in a message, or because the process was moved, is none of those: it is
//! refused here, by who uses it. Everybody else pays for one look at their own cgroup.

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
    context::{Destination, destination_v4, destination_v6, kind},
    maps::{SOCKETS, TOUCHED},
    refuse::{Attempt, ENOMEM, EPERM, refuse, refuse_silently, refused_already},
};

#[cgroup_sock_addr(connect4)]
pub fn nodegate_ncon4(ctx: SockAddrContext) -> i32 {
    judge(&ctx, destination_v4, AF_INET)
}

#[cgroup_sock_addr(connect6)]
pub fn nodegate_ncon6(ctx: SockAddrContext) -> i32 {
    judge(&ctx, destination_v6, AF_INET6)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn nodegate_nsnd4(ctx: SockAddrContext) -> i32 {
    judge(&ctx, destination_v4, AF_INET)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn nodegate_nsnd6(ctx: SockAddrContext) -> i32 {
    judge(&ctx, destination_v6, AF_INET6)
}

#[inline(always)]
fn judge(ctx: &SockAddrContext, destination: fn(&SockAddrContext) -> Destination, family: u16) -> i32 {
    let Some(caller) = caller() else { return ALLOW };
    if caller.captured == 0 || refused_already() {
        return ALLOW;
    }
    if is_known(ctx) {
        return ALLOW;
    }
    let wanted = destination(ctx);
    let (kind, protocol) = kind(ctx);
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
    refuse(ctx, &attempt, Reason::SocketOutside, EPERM)
}

/// Notes that the programs of a captured cgroup judge this socket and let it be used, for the programs of the root,
/// which run after them. Where it cannot be noted the socket is refused.
#[inline(always)]
pub fn let_pass(ctx: &SockAddrContext) -> i32 {
    // SAFETY: zeroed storage is a valid number; the pointer is only compared.
    let noted = unsafe { !TOUCHED.get_or_insert_ptr_mut(ctx, None).is_null() };
    if noted { ALLOW } else { refuse_silently(ENOMEM) }
}

/// Notes what a captured cgroup's programs have let be used although they would have refused it elsewhere.
#[inline(always)]
pub fn settle(ctx: &SockAddrContext, verdict: i32) -> i32 {
    if verdict == ALLOW { let_pass(ctx) } else { verdict }
}

/// Whether the programs of a captured cgroup have judged this socket: a socket never changes its cgroup.
#[inline(always)]
fn is_known(ctx: &SockAddrContext) -> bool {
    // SAFETY: the pointers are only compared.
    unsafe { !SOCKETS.get_ptr_mut(ctx).is_null() || !TOUCHED.get_ptr_mut(ctx).is_null() }
}
