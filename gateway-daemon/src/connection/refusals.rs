//! Refusals that come before any session, and that no policy can lift.

use std::sync::atomic::Ordering;

use tokio::net::TcpStream;

use super::Gateway;
use crate::{
    domain::{decision::Denial, flow::Flow, mode::Mode},
    session::{about::About, ending::reset},
};

impl Gateway {
    /// Refuses a connection whose protocol has no words for it: it is reset.
    pub(super) async fn turn_away(&self, about: &About, denial: &Denial, stream: TcpStream) {
        self.counters.denials_total.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.ledger.refused(about, denial).await {
            // It stays refused without its record.
            tracing::error!(%error, "a refusal could not be recorded");
        }
        reset(&stream);
    }

    /// Refuses a connection that cannot be judged, or passes it on where nothing is enforced.
    pub(super) async fn refuse_unjudged(&self, about: About, denial: Denial, mode: Mode, stream: TcpStream) {
        if mode.enforces() {
            self.turn_away(&about, &denial, stream).await;
        } else {
            self.pass_on_unjudged(about, denial, mode, stream).await;
        }
    }
}

pub(super) fn unattributed() -> Denial {
    Denial::builtin(
        "the connection's cgroup is not captured any more",
        "Start the process again.",
        "unattributed",
    )
}

pub(super) fn own_address(flow: &Flow) -> Denial {
    Denial::builtin(
        format!("{} is nodegate's own", flow.original_destination),
        "Ask the operator for what you need to know.",
        "own-address",
    )
}

pub(super) fn no_room(limit: u32) -> Denial {
    Denial::builtin(
        format!("{limit} sessions are open, as many as limits.sessions allows"),
        "Close idle connections, or ask the operator to raise the limit.",
        "sessions",
    )
}

pub(super) fn no_target(flow: &Flow) -> Denial {
    Denial::builtin(
        format!("{} is not a target of this node's configuration", flow.original_destination),
        "Ask the operator to add it as a target.",
        "unknown-target",
    )
}
