//! Who is calling: the task's cgroup and its nearest captured ancestor.

use aya_ebpf::helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id};
use gateway_common::MAX_CGROUP_DEPTH;

use crate::maps::CAPTURED;

/// The caller's place in the cgroup tree.
#[derive(Clone, Copy)]
pub struct Caller {
    /// Its own cgroup.
    pub cgroup: u64,
    /// That one or its nearest captured ancestor; 0 where none is captured.
    pub captured: u64,
}

/// Looks the current task up. Most tasks sit in the captured cgroup itself; the others are found from the root
/// downwards, since the helper counts levels from there.
#[inline(always)]
pub fn caller() -> Caller {
    // SAFETY: takes no pointers.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    if is_captured(cgroup) {
        return Caller { cgroup, captured: cgroup };
    }
    let mut captured = 0;
    for level in 1..MAX_CGROUP_DEPTH {
        // SAFETY: takes no pointers; answers 0 below the task's own level.
        let ancestor = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if ancestor == 0 || ancestor == cgroup {
            break;
        }
        if is_captured(ancestor) {
            captured = ancestor;
        }
    }
    Caller { cgroup, captured }
}

#[inline(always)]
pub fn is_captured(cgroup: u64) -> bool {
    CAPTURED.get_ptr(cgroup).is_some()
}
