//! What `admin.listen` tells: metrics gathered when they are asked for, health and readiness. The data path counts in
//! plain atomics and knows nothing of any of this.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::unix_seconds;
use crate::{admin::Watched, connection::Gateway, domain::ids::TargetName};

/// Labels of one series: a few fixed names, values from the configuration or of the program's own.
type Labels = Vec<(&'static str, String)>;

/// The daemon, as whoever watches it sees it.
pub(super) struct WatchedDaemon {
    gateway: Arc<Gateway>,
    started_at: u64,
}

impl WatchedDaemon {
    pub(super) fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway, started_at: unix_seconds() }
    }

    fn gather(&self, page: &mut Page) {
        let gateway = &self.gateway;
        let counters = &gateway.counters;
        let tally = gateway.ledger.log().tally();
        let flows = tally.flows().into_iter().map(|((target, outcome), count)| {
            (vec![("target", target), ("outcome", outcome.to_owned())], count)
        });
        page.counter("flows", "Captured connections that were judged, by target and outcome", flows);
        let requests = tally.requests().into_iter();
        let requests = requests.map(|(outcome, count)| (vec![("outcome", outcome.to_owned())], count));
        page.counter("requests", "Requests within sessions that were judged, by outcome", requests);
        let refusals = tally
            .refusals()
            .into_iter()
            .map(|((rule, outcome), count)| (vec![("rule", rule), ("outcome", outcome.to_owned())], count));
        page.counter("refusals", "What was refused, or would have been, by the rule that did", refusals);
        for (name, help, counter) in [
            (
                "flows_arrived",
                "Captured connections that reached the daemon or went direct",
                &counters.flows_total,
            ),
            ("flows_direct", "Of those, the ones that went direct from the kernel", &counters.direct_total),
            (
                "flows_unattributed",
                "Connections to the daemon's listeners that had not been captured",
                &counters.unattributed_total,
            ),
            (
                "kernel_refusals",
                "Calls that the kernel programs refused, or would have",
                &counters.kernel_refusals_total,
            ),
        ] {
            page.counter(name, help, [(vec![], counter.load(Ordering::Relaxed))]);
        }
        page.counter(
            "audit_records",
            "Records in the audit log that are on disk",
            [(vec![], gateway.ledger.log().durable_seq())],
        );
        self.gather_states(page);
    }

    fn gather_states(&self, page: &mut Page) {
        let gateway = &self.gateway;
        let mut sessions: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
        for ((_, target), count) in gateway.counters.sessions.open() {
            *sessions.entry(target.as_ref().map_or("", TargetName::as_str).to_owned()).or_default() += count;
        }
        let sessions = sessions.into_iter().map(|(target, count)| (vec![("target", target)], count));
        page.gauge("sessions_open", "Sessions that are open, by target", sessions);

        let (mut valid, mut expired, mut missing) = (0, 0, 0);
        let workloads = gateway.intercept.workloads();
        for workload in &workloads {
            match gateway.identity.known(workload.cgroup) {
                Some(principal) if gateway.identity.is_current(&principal) => valid += 1,
                Some(_) => expired += 1,
                None => missing += 1,
            }
        }
        let states = [("valid", valid), ("expired", expired), ("missing", missing)];
        let states = states.map(|(state, count)| (vec![("state", state.to_owned())], count));
        page.gauge("identities", "Captured cgroups by the state of their identity", states);

        let (queued, capacity) = gateway.ledger.log().queue();
        page.gauge("audit_queue_events", "Events that wait for the disk", [(vec![], queued)]);
        page.gauge("audit_queue_capacity_events", "Events that may wait for the disk", [(vec![], capacity)]);
        if let Some(recorder) = &gateway.recorder {
            let tally = recorder.tally();
            for (name, help, count) in [
                ("recording_entries", "Entries of recordings that were taken", tally.entries),
                ("recording_entries_lost", "Entries that are missing in recordings", tally.lost),
                ("recording_write_failures", "Attempts to write recordings that failed", tally.failures),
            ] {
                page.counter(name, help, [(vec![], count)]);
            }
            page.gauge(
                "recording_queue_bytes",
                "Bytes of recordings that wait for the disk",
                [(vec![], tally.waiting)],
            );
            page.gauge(
                "recording_queue_capacity_bytes",
                "Bytes of recordings that may wait for the disk",
                [(vec![], tally.capacity)],
            );
        }
        let maps = gateway.intercept.map_entries();
        let entries = maps.iter().map(|map| (vec![("map", map.name.to_owned())], map.entries));
        page.gauge("kernel_map_entries", "Entries in maps of the kernel programs", entries);
        let capacities = maps.iter().map(|map| (vec![("map", map.name.to_owned())], map.capacity));
        page.gauge("kernel_map_capacity_entries", "Entries that fit into those maps", capacities);
        page.gauge(
            "policy_epoch",
            "Changes with every policy set that is loaded",
            [(vec![], gateway.policies.epoch())],
        );
        let mode = gateway.modes.load().node;
        page.gauge("mode", "The node's mode", [(vec![("mode", mode.to_string())], 1)]);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        page.gauge("build_info", "The version that runs", [(vec![("version", version)], 1)]);
        page.seconds("start_time", "When the daemon started, since 1970", lossy(self.started_at));
        if let Some(age) = gateway.intercept.heartbeat_age() {
            page.seconds(
                "heartbeat_age",
                "Since the kernel programs last heard of the daemon",
                age.as_secs_f64(),
            );
        }
    }
}

impl Watched for WatchedDaemon {
    fn metrics(&self) -> String {
        let mut page = Page { registry: Registry::with_prefix("nodegate") };
        self.gather(&mut page);
        let mut text = String::new();
        match encode(&mut text, &page.registry) {
            Ok(()) => text,
            // It writes into memory: there is nothing that could fail.
            Err(fmt::Error) => String::new(),
        }
    }

    fn sickness(&self) -> Option<String> {
        self.gateway.ledger.log().failure().map(|error| format!("the audit log: {error}"))
    }

    fn unreadiness(&self) -> Option<String> {
        match self.gateway.intercept.heartbeat_age() {
            Some(age) if age < silence_limit() => None,
            Some(age) => {
                Some(format!("the kernel programs have not heard of the daemon for {} s", age.as_secs()))
            }
            None => Some("the kernel programs cannot be asked".to_owned()),
        }
    }
}

/// After so long without a sign of life the kernel programs refuse.
const fn silence_limit() -> std::time::Duration {
    std::time::Duration::from_nanos(gateway_common::HEARTBEAT_LIMIT_NS)
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
const fn lossy(seconds: u64) -> f64 {
    seconds as f64
}

/// One answer to one scrape.
struct Page {
    registry: Registry,
}

impl Page {
    fn counter(&mut self, name: &str, help: &str, series: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Counter>::default();
        for (labels, count) in series {
            family.get_or_create(&labels).inc_by(count);
        }
        self.registry.register(name, help, family);
    }

    fn gauge(&mut self, name: &str, help: &str, series: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Gauge>::default();
        for (labels, value) in series {
            family.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.registry.register(name, help, family);
    }

    fn seconds(&mut self, name: &str, help: &str, value: f64) {
        let gauge = Gauge::<f64, std::sync::atomic::AtomicU64>::default();
        gauge.set(value);
        self.registry.register_with_unit(name, help, Unit::Seconds, gauge);
    }
}
