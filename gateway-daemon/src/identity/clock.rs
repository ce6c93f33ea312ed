//! Time, as an argument: tests move it instead of sleeping.

use std::time::{Duration, Instant, SystemTime};

/// What the identity room reads of time.
pub trait Clock: Send + Sync + 'static {
    /// The calendar's time, which tokens are judged by.
    fn wall(&self) -> SystemTime;
    /// Time since an arbitrary origin that no clock adjustment moves: ages and intervals.
    fn monotonic(&self) -> Duration;
}

/// The machine's own clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    origin: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }
}
