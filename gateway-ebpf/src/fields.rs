//! Fields of the kernel's own structures, which lie where the daemon found them in its type information.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use gateway_common::{MAX_CGROUP_DEPTH, guard::Offsets, moves::TaskOffsets};

use crate::attribution::{above, counted_above};

/// Set by the daemon before the programs are loaded.
#[unsafe(no_mangle)]
static NODEGATE_OFFSETS: Offsets = Offsets::UNKNOWN;
/// Likewise.
#[unsafe(no_mangle)]
static NODEGATE_TASK: TaskOffsets = TaskOffsets::UNKNOWN;

/// Of sockets, files and cgroups. The compiler must not take the placeholder for the value.
#[inline(always)]
pub fn offsets() -> Offsets {
    // SAFETY: a static of this program.
    unsafe { (&raw const NODEGATE_OFFSETS).read_volatile() }
}

/// Of tasks.
#[inline(always)]
pub fn task_offsets() -> TaskOffsets {
    // SAFETY: a static of this program.
    unsafe { (&raw const NODEGATE_TASK).read_volatile() }
}

/// A field that is a pointer, unless it is null.
#[inline(always)]
pub fn pointer(base: u64, offset: u32) -> Option<u64> {
    read::<u64>(base, offset).filter(|pointer| *pointer != 0)
}

/// A field of another type.
#[inline(always)]
pub fn read<T>(base: u64, offset: u32) -> Option<T> {
    // SAFETY: reads from the kernel's memory are checked by the helper.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const T) }.ok()
}

/// What a cgroup has at a level of the tree.
enum Ancestor {
    /// This ancestor, or at its own level the cgroup itself.
    At(u64),
    /// Nothing: it lies higher.
    Below,
    /// It cannot be read.
    Unread,
}

/// The ancestor of a cgroup at a level, counted from the root downwards.
#[inline(always)]
fn ancestor(cgroup: u64, level: i32) -> Ancestor {
    let offsets = offsets();
    let own: i32 = read(cgroup, offsets.cgroup_level).unwrap_or_default();
    if level > own {
        return Ancestor::Below;
    }
    let place = offsets.cgroup_ancestors + level as u32 * 8;
    let id = pointer(cgroup, place)
        .and_then(|cgroup| pointer(cgroup, offsets.cgroup_node))
        .and_then(|node| read::<u64>(node, offsets.node_id));
    id.map_or(Ancestor::Unread, Ancestor::At)
}

/// A task's place in the one tree of version 2.
#[inline(always)]
pub fn cgroup_of(task: u64) -> Option<u64> {
    let offsets = task_offsets();
    pointer(task, offsets.cgroups).and_then(|set| pointer(set, offsets.cgroup))
}

/// The nearest cgroup above, or itself, that is captured; 0 where none is.
#[inline(always)]
pub fn captured_above(cgroup: u64) -> u64 {
    walk(cgroup, 0, above)
}

/// What a process in that cgroup counts for, as [`caller`](crate::attribution::caller) says it of the current one.
#[inline(always)]
pub fn counts_for(cgroup: u64) -> u64 {
    walk(cgroup, 0, counted_above)
}

/// Hands the ids of a cgroup's ancestors and its own to `step`, from the root downwards.
#[inline(always)]
pub fn walk<T>(cgroup: u64, from: T, step: impl Fn(T, u64) -> T) -> T {
    let mut so_far = from;
    for level in 1..=MAX_CGROUP_DEPTH {
        match ancestor(cgroup, level) {
            Ancestor::Below => break,
            Ancestor::At(id) => so_far = step(so_far, id),
            Ancestor::Unread => {}
        }
    }
    so_far
}
