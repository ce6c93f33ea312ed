//! From the SYN to the end of a captured socket: its record is filed before the daemon can accept the
//! connection, and taken away when no accept can come any more.

use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE,
        BPF_TCP_SYN_SENT, bpf_sock_ops,
    },
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_sk_storage_get},
    macros::sock_ops,
    programs::SockOpsContext,
};
use gateway_common::{
    address::{AF_INET6, Address},
    flow::{FlowKey, PHASE_KEYED, PHASE_REWRITTEN, SocketState},
};

use crate::maps::{FLOWS, SOCKETS};

#[sock_ops]
pub fn nodegate_flows(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => file(&ctx),
        BPF_SOCK_OPS_STATE_CB => follow(&ctx),
        _ => {}
    }
    1
}

/// The SYN is about to leave: the source is chosen now.
#[inline(always)]
fn file(ctx: &SockOpsContext) {
    let Some(state) = state_of(ctx.ops) else { return };
    if state.phase != PHASE_REWRITTEN {
        return;
    }
    let key = FlowKey::new(
        state.record.netns,
        local_address(ctx),
        ctx.local_port() as u16,
        state.listener_port as u16,
    );
    state.key = key;
    // A full table leaves the connection without a record: the daemon closes what it cannot attribute.
    if FLOWS.insert(key, state.record, 0).is_ok() {
        state.phase = PHASE_KEYED;
        let _ = ctx.set_cb_flags((ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG) as i32);
    } else {
        state.phase = 0;
    }
}

/// The socket changed its state.
#[inline(always)]
fn follow(ctx: &SockOpsContext) {
    let (old, new) = (ctx.arg(0), ctx.arg(1));
    if new != BPF_TCP_CLOSE {
        return;
    }
    let Some(state) = state_of(ctx.ops) else { return };
    if state.phase != PHASE_KEYED {
        return;
    }
    state.phase = 0;
    let key = state.key;
    // SAFETY: the record is only compared and marked; another socket's is left alone.
    let Some(record) = FLOWS.get_ptr_mut(key).and_then(|record| unsafe { record.as_mut() }) else { return };
    if record.socket != state.record.socket {
        return;
    }
    if old == BPF_TCP_SYN_SENT {
        let _ = FLOWS.remove(key);
    } else {
        // It was established, so it lies in the listener's queue: the daemon takes the record when it accepts.
        // If it never does, it finds the mark and clears the record away.
        // SAFETY: takes no pointers.
        record.ended_at = unsafe { bpf_ktime_get_boot_ns() };
    }
}

#[inline(always)]
fn state_of<'a>(ops: *mut bpf_sock_ops) -> Option<&'a mut SocketState> {
    // SAFETY: the kernel hands a valid context to the program; both pointers are checked before use.
    unsafe {
        let socket = (*ops).__bindgen_anon_2.sk;
        if socket.is_null() {
            return None;
        }
        bpf_sk_storage_get((&raw const SOCKETS).cast_mut().cast(), socket.cast(), core::ptr::null_mut(), 0)
            .cast::<SocketState>()
            .as_mut()
    }
}

/// Both forms are read before one is chosen: the verifier wants constant offsets into the context, and the
/// compiler must not make a choice between two offsets of a choice between two values.
#[inline(always)]
fn local_address(ctx: &SockOpsContext) -> Address {
    // SAFETY: the kernel hands a valid context to the program.
    let (v6, v4) = unsafe {
        let words = &raw const (*ctx.ops).local_ip6;
        let v6 = Address([
            (&raw const (*words)[0]).read_volatile(),
            (&raw const (*words)[1]).read_volatile(),
            (&raw const (*words)[2]).read_volatile(),
            (&raw const (*words)[3]).read_volatile(),
        ]);
        (v6, (&raw const (*ctx.ops).local_ip4).read_volatile())
    };
    if ctx.family() == u32::from(AF_INET6) { v6 } else { Address::from_v4(v4) }
}
