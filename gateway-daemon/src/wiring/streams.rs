//! What comes from the kernel side, each kind to whom it concerns: connections and questions are served, everything else
//! is counted and recorded.

use std::sync::{Arc, atomic::Ordering};

use tokio::sync::{Semaphore, mpsc};

use super::remember;
use crate::{
    connection::Gateway,
    domain::event::{AuditEvent, EventKind, Outcome},
    intercept::{Arrival, Change, DatagramFlow, Fate, KernelRefusal, Query, RefusalReason, Unattributed},
};

pub(super) async fn serve_arrivals(
    gateway: Arc<Gateway>,
    mut arrivals: mpsc::Receiver<Arrival>,
    sessions: u32,
) {
    let places = Arc::new(Semaphore::new(usize::try_from(sessions).unwrap_or(usize::MAX)));
    while let Some(arrival) = arrivals.recv().await {
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            let gateway = Arc::clone(&gateway);
            tokio::spawn(async move { gateway.refuse_for_want_of_room(arrival, sessions).await });
            continue;
        };
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move {
            gateway.serve(arrival).await;
            drop(place);
        });
    }
}

pub(super) async fn serve_queries(gateway: Arc<Gateway>, mut queries: mpsc::Receiver<Query>) {
    while let Some(query) = queries.recv().await {
        let dns = Arc::clone(&gateway.dns);
        tokio::spawn(async move { dns.serve(query).await });
    }
}

pub(super) async fn note_unattributed(gateway: Arc<Gateway>, mut unattributed: mpsc::Receiver<Unattributed>) {
    while let Some(connection) = unattributed.recv().await {
        gateway.counters.unattributed_total.fetch_add(1, Ordering::Relaxed);
        let mut event = AuditEvent::new(EventKind::Connect, Outcome::Denied);
        event.reason = format!(
            "{} connected to the daemon's listener in network namespace {} without having been captured",
            connection.client, connection.netns
        );
        remember(&gateway, event);
    }
}

pub(super) async fn note_refusals(gateway: Arc<Gateway>, mut refusals: mpsc::Receiver<KernelRefusal>) {
    while let Some(refusal) = refusals.recv().await {
        gateway.counters.kernel_refusals_total.fetch_add(1, Ordering::Relaxed);
        let outcome = match refusal.reason {
            RefusalReason::ExistingLeft => Outcome::Noted,
            _ => Outcome::Denied,
        };
        let mut event = AuditEvent::new(EventKind::KernelRefusal, outcome);
        if refusal.fate == Fate::WentOn {
            let workload = refusal.captured_cgroup.and_then(|cgroup| gateway.intercept.workload(cgroup));
            let label = workload.and_then(|workload| workload.label);
            event.mode = Some(gateway.modes.load().of_label(label.as_deref()));
            event.outcome = Outcome::WouldDeny;
        }
        event.cgroup = Some(refusal.captured_cgroup.unwrap_or(refusal.cgroup));
        event.process = Some(format!("{} ({})", refusal.pid, refusal.comm));
        event.destination = refusal.destination.map(crate::domain::address::OriginalDestination::new);
        event.reason = match &refusal.control_socket {
            Some(entry) => format!("{}: {entry}", refusal.reason),
            None => format!("{} (family {}, protocol {})", refusal.reason, refusal.family, refusal.protocol),
        };
        remember(&gateway, event);
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move { gateway.reconsider_datagram(refusal).await });
    }
}

pub(super) async fn note_datagrams(gateway: Arc<Gateway>, mut flows: mpsc::Receiver<DatagramFlow>) {
    while let Some(flow) = flows.recv().await {
        gateway.record_datagram(flow).await;
    }
}

/// What was captured or let go without a command.
pub(super) async fn note_changes(gateway: Arc<Gateway>, mut changes: mpsc::UnboundedReceiver<Change>) {
    while let Some(change) = changes.recv().await {
        let (workload, reason) = match change {
            Change::Captured(workload) => {
                gateway.open_datagrams(&workload);
                let reason = format!("captured {} ({})", workload.path, named(workload.label.as_deref()));
                (workload, reason)
            }
            Change::Relabelled { workload, before } => {
                // Who it was as another workload, it is not as this one.
                gateway.forget(workload.cgroup);
                gateway.open_datagrams(&workload);
                gateway.settle_ahead();
                let (before, now) = (named(before.as_deref()), named(workload.label.as_deref()));
                let reason =
                    format!("relabelled {}: {before} is now {now}; its identity is dropped", workload.path);
                (workload, reason)
            }
            Change::Released(workload) => {
                gateway.forget(workload.cgroup);
                let reason = format!("released {}: its label was removed", workload.path);
                (workload, reason)
            }
            Change::Gone(workload) => {
                gateway.forget(workload.cgroup);
                let reason = format!("{} is gone", workload.path);
                (workload, reason)
            }
            Change::Kept { workload, reason } => {
                let reason = format!("{} stays captured as it is: {reason}", workload.path);
                (workload, reason)
            }
        };
        let mut event = AuditEvent::new(EventKind::Capture, Outcome::Noted);
        event.cgroup = Some(workload.cgroup);
        event.reason = reason;
        remember(&gateway, event);
    }
}

fn named(label: Option<&str>) -> &str {
    label.unwrap_or("no label")
}
