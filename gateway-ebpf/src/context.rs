//! Field access to `bpf_sock_addr`, in the widths that the verifier allows.

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_addr},
    programs::SockAddrContext,
};
use gateway_common::address::Address;

/// `SOCK_STREAM`.
pub const SOCK_STREAM: u32 = 1;
/// `SOCK_DGRAM`.
pub const SOCK_DGRAM: u32 = 2;
/// `IPPROTO_TCP`.
pub const IPPROTO_TCP: u32 = 6;
/// `IPPROTO_UDP`.
pub const IPPROTO_UDP: u32 = 17;

/// A destination, as it stands in the call.
#[derive(Clone, Copy)]
pub struct Destination {
    /// Address, IPv4 mapped.
    pub address: Address,
    /// Port, host byte order.
    pub port: u16,
}

/// The destination of an IPv4 hook.
#[inline(always)]
pub fn destination_v4(ctx: &SockAddrContext) -> Destination {
    // SAFETY: the kernel hands a valid context to the program.
    let address = Address::from_v4(unsafe { (*ctx.sock_addr).user_ip4 });
    Destination { address, port: port(ctx.sock_addr) }
}

/// The destination of an IPv6 hook.
#[inline(always)]
pub fn destination_v6(ctx: &SockAddrContext) -> Destination {
    // SAFETY: the kernel hands a valid context to the program.
    let address = unsafe {
        let words = &raw const (*ctx.sock_addr).user_ip6;
        Address([(*words)[0], (*words)[1], (*words)[2], (*words)[3]])
    };
    Destination { address, port: port(ctx.sock_addr) }
}

#[inline(always)]
fn port(ctx: *mut bpf_sock_addr) -> u16 {
    // SAFETY: the kernel hands a valid context to the program.
    u16::from_be(unsafe { (*ctx).user_port } as u16)
}

/// Sets the destination of an IPv4 hook; `address` must be a mapped one.
#[inline(always)]
pub fn set_v4(ctx: &SockAddrContext, address: Address, port: u16) {
    // SAFETY: the kernel hands a valid context to the program; both fields are writable in these hooks.
    unsafe {
        (*ctx.sock_addr).user_ip4 = address.0[3];
        (*ctx.sock_addr).user_port = u32::from(port.to_be());
    }
}

/// Sets the destination of an IPv6 hook.
#[inline(always)]
pub fn set_v6(ctx: &SockAddrContext, address: Address, port: u16) {
    // SAFETY: the kernel hands a valid context to the program; both fields are writable in these hooks.
    unsafe {
        let words = &raw mut (*ctx.sock_addr).user_ip6;
        (*words)[0] = address.0[0];
        (*words)[1] = address.0[1];
        (*words)[2] = address.0[2];
        (*words)[3] = address.0[3];
        (*ctx.sock_addr).user_port = u32::from(port.to_be());
    }
}

/// Type and protocol of the calling socket.
#[inline(always)]
pub fn kind(ctx: &SockAddrContext) -> (u32, u32) {
    // SAFETY: the kernel hands a valid context to the program.
    unsafe { ((*ctx.sock_addr).type_, (*ctx.sock_addr).protocol) }
}

/// The device that the calling socket is bound to, or 0.
#[inline(always)]
pub fn bound_device(ctx: &SockAddrContext) -> u32 {
    // SAFETY: the kernel hands a valid context with a valid socket to the program.
    unsafe {
        let socket: *mut bpf_sock = (*ctx.sock_addr).__bindgen_anon_1.sk;
        if socket.is_null() { 0 } else { (*socket).bound_dev_if }
    }
}

/// The calling IPv6 socket's own address and port: all zero where it is bound to none.
#[inline(always)]
pub fn local_v6(ctx: &SockAddrContext) -> (Address, u16) {
    // SAFETY: the kernel hands a valid context with a valid socket to the program.
    unsafe {
        let socket: *mut bpf_sock = (*ctx.sock_addr).__bindgen_anon_1.sk;
        if socket.is_null() {
            return (Address::default(), 0);
        }
        let words = &raw const (*socket).src_ip6;
        (Address([(*words)[0], (*words)[1], (*words)[2], (*words)[3]]), (*socket).src_port as u16)
    }
}

/// The address that a send to an IPv6 address leaves from, in `sendmsg6` only: the one that the call names, or the
/// socket's own; all zero where neither says.
#[inline(always)]
pub fn source_v6(ctx: &SockAddrContext) -> Address {
    // SAFETY: the kernel hands a valid context to the program.
    let named = unsafe {
        let words = &raw const (*ctx.sock_addr).msg_src_ip6;
        Address([(*words)[0], (*words)[1], (*words)[2], (*words)[3]])
    };
    if named == Address::default() { local_v6(ctx).0 } else { named }
}
