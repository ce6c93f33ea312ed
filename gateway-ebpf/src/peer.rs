//! `getpeername()`: the client sees the address that it asked for.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::{
    ALLOW,
    context::{destination_v4, destination_v6, set_v4, set_v6},
    maps::SOCKETS,
    names,
};

#[cgroup_sock_addr(getpeername4)]
pub fn nodegate_peer4(ctx: SockAddrContext) -> i32 {
    // SAFETY: the pointer is checked before use.
    if let Some(state) = unsafe { SOCKETS.get_ptr_mut(&ctx).as_ref() } {
        set_v4(&ctx, state.record.address, state.record.port);
    } else if let Some(server) = names::server_behind(destination_v4(&ctx)) {
        set_v4(&ctx, server.address, server.port);
    }
    ALLOW
}

#[cgroup_sock_addr(getpeername6)]
pub fn nodegate_peer6(ctx: SockAddrContext) -> i32 {
    // SAFETY: the pointer is checked before use.
    if let Some(state) = unsafe { SOCKETS.get_ptr_mut(&ctx).as_ref() } {
        set_v6(&ctx, state.record.address, state.record.port);
    } else if let Some(server) = names::server_behind(destination_v6(&ctx)) {
        set_v6(&ctx, server.address, server.port);
    }
    ALLOW
}
