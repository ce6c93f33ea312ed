//! The admin API's view of the daemon.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use super::{remember, unix_seconds};
use crate::{
    admin::{Control, ControlError, IdentityView, Status, TargetStatus, WorkloadStatus},
    config::checked::Config,
    connection::Gateway,
    domain::{
        event::{AuditEvent, EventKind, Outcome},
        flow::Workload,
        ids::{CgroupId, TargetName},
        principal::Principal,
        sensitive::Sensitive,
    },
    intercept::InterceptError,
};

/// What the admin API can do with the daemon.
pub(super) struct DaemonControl {
    gateway: Arc<Gateway>,
    started_at: u64,
    targets: Vec<(TargetName, &'static str, Vec<String>)>,
}

impl DaemonControl {
    pub(super) fn new(gateway: Arc<Gateway>, config: &Config) -> Self {
        let targets = config
            .targets
            .iter()
            .map(|target| {
                let hosts = target.hosts.iter().map(ToString::to_string);
                let places: Vec<String> = hosts.chain(target.cidrs.iter().map(ToString::to_string)).collect();
                let ports: Vec<String> = target.ports.iter().map(ToString::to_string).collect();
                let addresses = places.iter().map(|place| format!("{place}:{}", ports.join(","))).collect();
                (target.facts.id(), target.protocol.name(), addresses)
            })
            .collect();
        Self { gateway, started_at: unix_seconds(), targets }
    }

    fn note(&self, kind: EventKind, outcome: Outcome, cgroup: Option<CgroupId>, reason: String) {
        let mut event = AuditEvent::new(kind, outcome);
        event.cgroup = cgroup;
        event.reason = reason;
        remember(&self.gateway, event);
    }

    fn captured(&self, how: &str, workload: &Workload) {
        self.gateway.open_datagrams(workload);
        let label = workload.label.as_deref().unwrap_or("no label");
        let reason = format!("{how} {} ({label})", workload.path);
        self.note(EventKind::Capture, Outcome::Noted, Some(workload.cgroup), reason);
    }
}

impl Control for DaemonControl {
    fn workload_of_pid(&self, pid: u32) -> io::Result<Option<Workload>> {
        self.gateway.intercept.workload_of_pid(pid)
    }

    async fn start_run(&self, pid: u32, label: Option<String>) -> Result<Workload, ControlError> {
        let workload =
            self.gateway.intercept.start_run(pid, label.as_deref()).await.map_err(|error| failed(&error))?;
        self.gateway.settle_ahead();
        self.captured("run in", &workload);
        Ok(workload)
    }

    fn authority(&self) -> String {
        self.gateway.authority.pem().to_owned()
    }

    async fn end_run(&self, cgroup: CgroupId) -> Result<(), ControlError> {
        self.gateway.intercept.end_run(cgroup).await.map_err(|error| failed(&error))?;
        self.gateway.forget(cgroup);
        self.gateway.settle_ahead();
        self.note(EventKind::Capture, Outcome::Noted, Some(cgroup), "run ended".to_owned());
        Ok(())
    }

    async fn capture(&self, path: PathBuf, label: Option<String>) -> Result<Workload, ControlError> {
        let workload =
            self.gateway.intercept.capture(&path, label.as_deref()).await.map_err(|error| failed(&error))?;
        self.gateway.settle_ahead();
        self.captured("captured", &workload);
        Ok(workload)
    }

    async fn release(&self, cgroup: CgroupId) -> Result<(), ControlError> {
        self.gateway.intercept.release(cgroup).await.map_err(|error| failed(&error))?;
        self.gateway.forget(cgroup);
        self.gateway.settle_ahead();
        self.note(EventKind::Capture, Outcome::Noted, Some(cgroup), "released".to_owned());
        Ok(())
    }

    fn captures(&self) -> Vec<Workload> {
        self.gateway.intercept.workloads()
    }

    async fn enrol(
        &self,
        cgroup: CgroupId,
        token: Sensitive<String>,
    ) -> Result<Arc<Principal>, ControlError> {
        match self.gateway.identity.enrol(cgroup, token).await {
            Ok(principal) => {
                self.gateway.settle_ahead();
                let mut event = AuditEvent::new(EventKind::Identity, Outcome::Allowed);
                event.cgroup = Some(cgroup);
                event.identity = Some(principal.id());
                "token enrolled".clone_into(&mut event.reason);
                if let Some(workload) = self.gateway.intercept.workload(cgroup) {
                    self.gateway.open_datagrams(&workload);
                }
                remember(&self.gateway, event);
                Ok(principal)
            }
            Err(error) => {
                self.note(EventKind::Identity, Outcome::Denied, Some(cgroup), error.to_string());
                Err(ControlError::Refused(error.to_string()))
            }
        }
    }

    fn principal(&self, cgroup: CgroupId) -> Option<Arc<Principal>> {
        self.gateway.identity.known(cgroup)
    }

    fn status(&self) -> Status {
        let open = self.gateway.counters.sessions.open();
        let workloads = self.gateway.intercept.workloads().into_iter().map(|workload| WorkloadStatus {
            identity: self.principal(workload.cgroup).map(|principal| IdentityView::from(&*principal)),
            sessions: open
                .iter()
                .filter(|((cgroup, _), _)| *cgroup == workload.cgroup)
                .map(|(_, count)| count)
                .sum(),
            workload,
        });
        let targets = self.targets.iter().map(|(name, protocol, addresses)| TargetStatus {
            name: name.to_string(),
            protocol: (*protocol).to_owned(),
            addresses: addresses.clone(),
            sessions: open
                .iter()
                .filter(|((_, target), _)| target.as_ref() == Some(name))
                .map(|(_, count)| count)
                .sum(),
        });
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: self.started_at,
            mode: self.gateway.modes.load().node.to_string(),
            policy_epoch: self.gateway.policies.epoch(),
            workloads: workloads.collect(),
            targets: targets.collect(),
            counters: self.counters(),
        }
    }
}

impl DaemonControl {
    fn counters(&self) -> BTreeMap<String, u64> {
        let counters = &self.gateway.counters;
        let dns = &self.gateway.dns.counters;
        let records = u64::try_from(self.gateway.intercept.flow_records()).unwrap_or(u64::MAX);
        [
            ("flows_total", counters.flows_total.load(Ordering::Relaxed)),
            ("denials_total", counters.denials_total.load(Ordering::Relaxed)),
            ("direct_total", counters.direct_total.load(Ordering::Relaxed)),
            ("unattributed_total", counters.unattributed_total.load(Ordering::Relaxed)),
            ("dns_queries_total", dns.queries_total.load(Ordering::Relaxed)),
            ("dns_refusals_total", dns.refusals_total.load(Ordering::Relaxed)),
            ("kernel_refusals_total", counters.kernel_refusals_total.load(Ordering::Relaxed)),
            ("sessions", counters.sessions.count()),
            ("flow_records", records),
            ("audit_records_total", self.gateway.ledger.log().durable_seq()),
        ]
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
    }
}

fn failed(error: &InterceptError) -> ControlError {
    let sentence = error.to_string();
    match error {
        InterceptError::NotCaptured(_) => ControlError::NotFound(sentence),
        InterceptError::NotACgroup(_) | InterceptError::OwnCgroup(_) => ControlError::Refused(sentence),
        _ => ControlError::Failed(sentence),
    }
}
