//! Processes that come into captured cgroups with what they have open: each is reported to the daemon, which looks at
//! their descriptors. Nothing is refused here.
//!
//! Everybody else pays for a look at the destination when a process is moved, and for one comparison when one is made.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use gateway_common::moves::Move;

use crate::{
    fields::{captured_above, cgroup_of, pointer, read, task_offsets},
    maps::{MOVES, MOVES_LOST},
};

/// `cgroup_attach_task(struct cgroup *dst_cgrp, const char *path, struct task_struct *task, bool threadgroup)`, called
/// when the task has been moved. The older hierarchies call it too.
#[raw_tracepoint(tracepoint = "cgroup_attach_task")]
pub fn nodegate_moved(ctx: RawTracePointContext) -> i32 {
    let (destination, task) = (ctx.arg::<*const u8>(0) as u64, ctx.arg::<*const u8>(2) as u64);
    if cgroup_of(task) == Some(destination) && captured_above(destination) != 0 {
        report(task);
    }
    0
}

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`, called before the child runs. It lives
/// elsewhere than its parent when it was made so (`CLONE_INTO_CGROUP`).
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn nodegate_forked(ctx: RawTracePointContext) -> i32 {
    let (parent, child) = (ctx.arg::<*const u8>(0) as u64, ctx.arg::<*const u8>(1) as u64);
    let place = task_offsets().cgroups;
    if pointer(parent, place) == pointer(child, place) {
        return 0;
    }
    let (Some(from), Some(to)) = (cgroup_of(parent), cgroup_of(child)) else { return 0 };
    if from != to {
        let captured = captured_above(to);
        if captured != 0 && captured != captured_above(from) {
            report(child);
        }
    }
    0
}

#[inline(always)]
fn report(task: u64) {
    let offsets = task_offsets();
    let (Some(leader), Some(tgid)) = (pointer(task, offsets.leader), read(task, offsets.tgid)) else {
        return;
    };
    let started = read(leader, offsets.started).unwrap_or_default();
    match MOVES.reserve(0) {
        Some(mut entry) => {
            entry.write(Move { started, tgid, padding: 0 });
            entry.submit(0);
        }
        None => lose(),
    }
}

/// The daemon looks at everybody then.
#[inline(always)]
fn lose() {
    if let Some(lost) = MOVES_LOST.get_ptr_mut(0) {
        // SAFETY: the map's own memory; what two processors write at once is more than nothing either way.
        unsafe { *lost = 1 };
    }
}
