//! What is done again and again: the heartbeat, and clearing away what nobody will ask for any more.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::{capture::Core, sys};

const HEARTBEAT: Duration = Duration::from_secs(1);
const SWEEP: Duration = Duration::from_secs(5);
const REAP: Duration = Duration::from_secs(2);
const NAMESPACES: Duration = Duration::from_secs(30);
/// A connection whose client closed may still lie in the listener's queue for so long.
const GRACE_NS: u64 = 30_000_000_000;

/// Tells the kernel side every second that somebody accepts.
pub(super) async fn heartbeat(core: Arc<Core>) {
    let mut ticks = interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = core.kernel.beat() {
            tracing::error!(%error, "cannot tell the kernel programs that the daemon is alive");
        }
    }
}

/// Removes the records of connections that ended without ever reaching the listener.
pub(super) async fn sweep_flows(core: Arc<Core>) {
    let mut ticks = interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(now) = sys::boot_ns() else { continue };
        for key in core.kernel.flows_ended_before(now.saturating_sub(GRACE_NS)) {
            // Another connection may have taken its place since we looked.
            if let Ok(Some(record)) = core.kernel.take_flow(&key)
                && record.ended_at == 0
            {
                core.kernel.return_flow(&key, &record);
            }
        }
    }
}

/// Removes the pins of cgroups that are gone, once their last sockets are gone too: of that the kernel tells nobody.
pub(super) async fn reap(core: Arc<Core>) {
    let mut ticks = interval(REAP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if core.has_retired() {
            core.reap_retired();
        }
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
