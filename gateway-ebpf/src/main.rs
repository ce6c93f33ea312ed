//! nodegate's kernel programs. Attached to each captured cgroup, they send its TCP connections to the daemon's
//! listener in the same network namespace, remember where each was meant to go, and refuse what cannot be
//! redirected. They decide nothing else: whether a connection may go on is the daemon's business.
//!
//! The order of one `connect()`: [`connect`] rewrites the destination and leaves a record with the socket,
//! [`lifecycle`] files that record under the client's end before the SYN leaves, [`peer`] shows the client the
//! address that it asked for. Datagrams have no SYN: [`datagram`] judges each call, and [`names`] sends what is meant
//! for DNS servers to the daemon.

#![no_std]
#![no_main]

mod attribution;
mod connect;
mod context;
mod datagram;
mod direct;
mod fields;
mod guard;
mod lifecycle;
mod maps;
mod moves;
mod names;
mod node;
mod peer;
mod privileges;
mod refuse;
mod socket;

/// What a cgroup program returns to let the call go on.
pub const ALLOW: i32 = 1;
/// What it returns to refuse it.
pub const REFUSE: i32 = 0;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
