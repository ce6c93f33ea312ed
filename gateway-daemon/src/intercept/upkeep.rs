//! What is done again and again: the heartbeat, and clearing away what nobody will ask for any more.

use std::{io, sync::Arc, time::Duration};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{capture::Core, sys};

const HEARTBEAT: Duration = Duration::from_secs(1);
/// A round has so many heartbeats: what else is done every few seconds is done with one of them, and wakes nobody by
/// itself.
const ROUND: u32 = 5;
/// A look at the records of all connections is dear, so that it is taken when there is something to find, and not more
/// often than this.
const SWEEP: Duration = Duration::from_secs(5);
const REAP: Duration = Duration::from_secs(2);
const NAMESPACES: Duration = Duration::from_secs(30);
/// A connection whose client closed may still lie in the listener's queue for so long.
const GRACE: Duration = Duration::from_secs(30);

/// The clock of the heartbeat. One of the kernel's: the runtime's own timers wake up two or three times for each time
/// that they are set to, which is most of what an idle daemon does.
pub(super) fn clock() -> io::Result<TimerFd> {
    let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
    let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
    timer.set(Expiration::Interval(TimeSpec::from_duration(HEARTBEAT)), TimerSetTimeFlags::empty())?;
    Ok(timer)
}

/// Tells the kernel side every second that somebody accepts.
pub(super) async fn heartbeat(core: Arc<Core>, clock: TimerFd) {
    let bell = match sys::bell(&clock) {
        Ok(bell) => bell,
        Err(error) => {
            tracing::error!(%error, "there is no heartbeat: connections will be refused");
            return;
        }
    };
    let mut beats = 0_u32;
    while let Ok(mut ready) = bell.readable().await {
        ready.clear_ready();
        // How many times it has rung meanwhile does not matter.
        let _ = clock.wait();
        if let Err(error) = core.kernel.beat() {
            tracing::error!(%error, "cannot tell the kernel programs that the daemon is alive");
        }
        beats = beats.wrapping_add(1);
        if beats.is_multiple_of(ROUND) {
            core.round.notify_waiters();
        }
    }
}

/// Removes the records of connections that ended without ever reaching the listener.
pub(super) async fn sweep_flows(core: Arc<Core>) {
    loop {
        // What ends after this look is due later than that.
        let mut pause = GRACE;
        let now = sys::boot_ns().map(Duration::from_nanos).unwrap_or_default();
        for (key, ended_at) in core.kernel.flows_ended() {
            let due = Duration::from_nanos(ended_at).saturating_add(GRACE);
            if due >= now {
                pause = pause.min(due.saturating_sub(now));
                continue;
            }
            // Another connection may have taken its place since we looked.
            if let Ok(Some(record)) = core.kernel.take_flow(&key)
                && record.ended_at == 0
            {
                core.kernel.return_flow(&key, &record);
            }
        }
        sleep(pause.max(SWEEP)).await;
    }
}

/// Removes the pins of cgroups that are gone, once their last sockets are gone too: of that the kernel tells nobody.
pub(super) async fn reap(core: Arc<Core>) {
    loop {
        core.retirement().await;
        sleep(REAP).await;
        core.reap_retired();
    }
}

/// Closes the listeners in namespaces that only they keep alive.
pub(super) async fn drop_namespaces(core: Arc<Core>) {
    let mut ticks = interval(NAMESPACES);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        core.drop_unused_namespaces().await;
    }
}
