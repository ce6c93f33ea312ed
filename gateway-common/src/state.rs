//! What the daemon tells the kernel side.

use core::mem::offset_of;

/// Where connections of one network namespace are sent.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Listener {
    /// Port on 127.0.0.1, host byte order; 0 where there is none.
    pub port_v4: u16,
    /// Port on ::1, host byte order; 0 where there is none, which then sends IPv6 to 127.0.0.1 as a mapped one.
    pub port_v6: u16,
    /// Port for DNS queries over UDP on all of 127.0.0.0/8, host byte order; 0 where there is none.
    pub dns_v4: u16,
    /// The same on ::1.
    pub dns_v6: u16,
}

const _: () = assert!(size_of::<Listener>() == 8 && offset_of!(Listener, port_v6) == 2);
const _: () = assert!(offset_of!(Listener, dns_v4) == 4 && offset_of!(Listener, dns_v6) == 6);

/// A listener, as the kernel side finds the socket itself. The kernel takes the socket out of its table before it
/// frees the port, so what is found there is the daemon's, and nobody can take the port over unseen.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListenerKey {
    /// Cookie of its network namespace.
    pub netns: u64,
    /// Its port, host byte order.
    pub port: u32,
    /// Its address family.
    pub family: u32,
}

const _: () = assert!(size_of::<ListenerKey>() == 16 && offset_of!(ListenerKey, family) == 12);

/// What a cgroup's entry in [`CAPTURED`](crate::maps::CAPTURED) says of its processes. The nearest entry above a
/// process counts. The numbers are part of the layout.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Their connections go to the daemon.
    Captured = 1,
    /// Inside a cgroup whose unknown children are held, this one may pass untouched.
    Passing = 2,
    /// Nothing is known of them: they have no way out.
    Held = 3,
}

impl Standing {
    /// The standing of a number; `None` for one that this version does not know.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Captured,
            2 => Self::Passing,
            3 => Self::Held,
            _ => return None,
        })
    }
}

/// The daemon's sign of life.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DaemonState {
    /// CLOCK_BOOTTIME, nanoseconds, when the daemon last said that it is there; 0 before the first time.
    pub heartbeat: u64,
    /// [`LAYOUT_VERSION`](crate::LAYOUT_VERSION) of the daemon that made the maps.
    pub layout: u32,
    /// CLOCK_BOOTTIME, whole seconds, when the daemon last said that the grants in [`DIRECT`](crate::maps::DIRECT) are
    /// those that it stands by; 0 before the first time.
    pub settled: u32,
}

const _: () = assert!(size_of::<DaemonState>() == 16 && offset_of!(DaemonState, layout) == 8);
const _: () = assert!(offset_of!(DaemonState, settled) == 12);

impl DaemonState {
    /// Whether the daemon can be taken to be alive at `now`.
    #[inline(always)]
    #[must_use]
    pub const fn alive_at(&self, now: u64) -> bool {
        now < self.heartbeat.saturating_add(crate::HEARTBEAT_LIMIT_NS)
    }

    /// Whether grants hold at `now`.
    #[inline(always)]
    #[must_use]
    pub const fn grants_at(&self, now: u64) -> bool {
        now < (self.settled as u64).saturating_mul(1_000_000_000).saturating_add(crate::GRANTS_LIMIT_NS)
    }
}

// SAFETY: plain integers without padding (sizes asserted above); any bit pattern is a value.
#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "aya's marker for types that may be copied to and from the kernel as bytes")]
mod pod {
    unsafe impl aya::Pod for super::Listener {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::ListenerKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::DaemonState {}
}

#[cfg(test)]
mod tests {
    use super::DaemonState;
    use crate::{GRANTS_LIMIT_NS, HEARTBEAT_LIMIT_NS};

    #[test]
    fn a_daemon_is_alive_until_its_heartbeat_is_too_old() {
        let state = DaemonState { heartbeat: 5, layout: 1, settled: 0 };
        assert!(state.alive_at(5) && state.alive_at(4 + HEARTBEAT_LIMIT_NS));
        assert!(!state.alive_at(5 + HEARTBEAT_LIMIT_NS));
    }

    #[test]
    fn grants_hold_until_the_daemon_has_not_stood_by_them_for_too_long() {
        let state = DaemonState { heartbeat: u64::MAX, layout: 1, settled: 7 };
        let end = 7_000_000_000 + GRANTS_LIMIT_NS;
        assert!(state.grants_at(7_000_000_000) && state.grants_at(end - 1));
        assert!(!state.grants_at(end));
        assert!(!DaemonState { settled: 0, ..state }.grants_at(end));
    }
}
