//! Processes that come into captured cgroups.

use core::mem::offset_of;

/// A process that has moved into a captured cgroup, or was made in one by a parent elsewhere.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Move {
    /// When the process started, CLOCK_BOOTTIME, nanoseconds: what tells it from another one of the same number.
    pub started: u64,
    /// Thread-group id in the initial pid namespace.
    pub tgid: u32,
    /// Zero.
    pub padding: u32,
}

const _: () = assert!(size_of::<Move>() == 16 && offset_of!(Move, tgid) == 8);

/// Where fields lie in structures of the running kernel, in bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskOffsets {
    /// `task_struct.cgroups`
    pub cgroups: u32,
    /// `css_set.dfl_cgrp`
    pub cgroup: u32,
    /// `task_struct.group_leader`
    pub leader: u32,
    /// `task_struct.tgid`
    pub tgid: u32,
    /// `task_struct.start_boottime`
    pub started: u32,
}

const _: () = assert!(size_of::<TaskOffsets>() == 20 && offset_of!(TaskOffsets, started) == 16);

impl TaskOffsets {
    /// Before the daemon has looked.
    pub const UNKNOWN: Self = Self { cgroups: 0, cgroup: 0, leader: 0, tgid: 0, started: 0 };
}

#[cfg(feature = "user")]
impl Move {
    /// An entry of the ring buffer; `None` where its length is not this layout's.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 16] = bytes.try_into().ok()?;
        let (started, rest) = bytes.split_first_chunk::<8>()?;
        let tgid = u32::from_ne_bytes(*rest.first_chunk()?);
        Some(Self { started: u64::from_ne_bytes(*started), tgid, padding: 0 })
    }
}

// SAFETY: plain integers without padding (sizes asserted above); any bit pattern is a value.
#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "aya's marker for types that may be copied to and from the kernel as bytes")]
mod pod {
    unsafe impl aya::Pod for super::TaskOffsets {}
}

#[cfg(all(test, feature = "user"))]
mod tests {
    use super::Move;

    #[test]
    fn an_entry_is_read_and_one_of_another_length_is_not() {
        let mut bytes = [0_u8; 16];
        bytes[..8].copy_from_slice(&9_u64.to_ne_bytes());
        bytes[8..12].copy_from_slice(&7_u32.to_ne_bytes());
        assert_eq!(Move::from_bytes(&bytes), Some(Move { started: 9, tgid: 7, padding: 0 }));
        assert_eq!(Move::from_bytes(&bytes[..15]), None);
    }
}
