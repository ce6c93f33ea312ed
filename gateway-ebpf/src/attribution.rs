//! Who is calling: the task's cgroup and its nearest captured ancestor.

use aya_ebpf::helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id};
use gateway_common::{MAX_CGROUP_DEPTH, state::Standing};

use crate::maps::CAPTURED;

/// What [`Caller::captured`] holds for one that passes: no cgroup has that id.
const PASSES: u64 = u64::MAX;

/// The caller's place in the cgroup tree.
#[derive(Clone, Copy)]
pub struct Caller {
    /// Its own cgroup.
    pub cgroup: u64,
    /// That one or its nearest ancestor that has a standing; 0 where none has.
    pub captured: u64,
}

impl Caller {
    /// Whether it has no way out because nothing is known of it. Looked up again rather than kept: the programs'
    /// stacks are full.
    #[inline(always)]
    pub fn is_held(&self) -> bool {
        standing_of(self.captured) == Standing::Held as u32
    }
}

/// Looks the current task up; `None` where it is let through untouched, though these programs run for it. Most tasks
/// sit in the captured cgroup itself; the others are found from the root downwards, since the helper counts levels
/// from there.
#[inline(always)]
pub fn caller() -> Option<Caller> {
    // SAFETY: takes no pointers.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    let captured = match standing_of(cgroup) {
        0 => nearest(cgroup),
        standing => counted(cgroup, standing),
    };
    (captured != PASSES).then_some(Caller { cgroup, captured })
}

/// The nearest cgroup above that has a standing.
#[inline(always)]
fn nearest(cgroup: u64) -> u64 {
    let mut nearest = 0;
    for level in 1..MAX_CGROUP_DEPTH {
        // SAFETY: takes no pointers; answers 0 below the task's own level.
        let ancestor = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if ancestor == 0 || ancestor == cgroup {
            break;
        }
        let standing = standing_of(ancestor);
        if standing != 0 {
            nearest = counted(ancestor, standing);
        }
    }
    nearest
}

#[inline(always)]
fn counted(cgroup: u64, standing: u32) -> u64 {
    if standing == Standing::Passing as u32 { PASSES } else { cgroup }
}

/// 0 where it has none. What this version does not know counts as captured.
#[inline(always)]
fn standing_of(cgroup: u64) -> u32 {
    // SAFETY: the value is read at once; the map is on demand, so that its memory is not reused meanwhile.
    unsafe { CAPTURED.get(cgroup) }.copied().unwrap_or_default()
}

/// Whether an entry makes a cgroup captured or held.
#[inline(always)]
pub fn is_captured(cgroup: u64) -> bool {
    let standing = standing_of(cgroup);
    standing != 0 && standing != Standing::Passing as u32
}

/// What a cgroup further down makes of the nearest captured one above it.
#[inline(always)]
pub fn above(nearest: u64, cgroup: u64) -> u64 {
    match standing_of(cgroup) {
        0 => nearest,
        standing if standing == Standing::Captured as u32 => cgroup,
        _ => 0,
    }
}

/// What a cgroup further down makes of the cgroup that a caller above it would count for.
#[inline(always)]
pub fn counted_above(nearest: u64, cgroup: u64) -> u64 {
    match standing_of(cgroup) {
        0 => nearest,
        standing => counted(cgroup, standing),
    }
}
