//! One flow, in order: workload → mode → own door → target → driver.
//!
//! Every way out of here but a session is a refusal, and is recorded before the client is told. Which protocols there are
//! only `drivers` knows.

mod ahead;
mod counters;
pub mod datagrams;
mod drivers;
mod first_bytes;
mod observed;
mod own_door;
mod refusals;
mod standing;
pub mod targets;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::time::timeout;

use crate::{
    detect::Detected,
    domain::{
        action::{Action, TargetFacts},
        decision::{Decision, Denial},
        flow::Flow,
        ids::{SessionId, TargetName},
        mode::Modes,
        principal::Principal,
    },
    identity::Identity,
    intercept::{Arrival, Intercept},
    policy::Policies,
    recording::Recorder,
    session::{
        about::About,
        caller::unidentified,
        dns::Dns,
        driver::{Client, Opening, Permit},
        ledger::Ledger,
        limits::Limits,
        stop::{Register, Standing},
    },
    tls::authority::Authority,
};
pub use ahead::Ahead;
use counters::Open;
pub use counters::{Counters, Sessions};
use datagrams::Opened;
pub use drivers::Drivers;
use first_bytes::first_bytes;
use refusals::{no_room, no_target, own_address, unattributed};
use targets::{Target, Targets};

/// DNS over TCP; whoever speaks it on another port speaks nothing that is known here.
const DNS_PORT: u16 = 53;

/// A client that means no target is refused after so long even if it says nothing: one that speaks first has said
/// so by then, and is told in its own protocol's words.
const STRANGER_PATIENCE: Duration = Duration::from_millis(500);

/// What every connection needs.
pub struct Gateway {
    /// Attributes flows to workloads.
    pub intercept: Intercept,
    /// Attributes workloads to identities.
    pub identity: Arc<Identity>,
    /// Judges.
    pub policies: Arc<Policies>,
    /// What may be connected to.
    pub targets: ArcSwap<Targets>,
    /// What is done with what is refused.
    pub modes: ArcSwap<Modes>,
    /// The durable record.
    pub ledger: Ledger,
    /// Records what sessions see, where the configuration wants it.
    pub recorder: Option<Recorder>,
    /// How long a session may take.
    pub limits: Limits,
    /// Serve sessions, each those of its protocol.
    pub drivers: Drivers,
    /// Answers DNS queries.
    pub dns: Arc<Dns>,
    /// What is open to datagrams.
    pub opened: Opened,
    /// Where the daemon itself listens for whoever watches it: no flow gets there.
    pub own_door: Option<SocketAddr>,
    /// Signs what clients are shown under TLS.
    pub authority: Arc<Authority>,
    /// What the kernel is told ahead of time.
    pub ahead: Ahead,
    /// Which sessions are open, and how each is told that it must end.
    pub register: Register,
    /// What has happened so far.
    pub counters: Counters,
}

/// Why a flow got no session. The client of a known protocol is told in that protocol.
struct Refused {
    denial: Denial,
    principal: Option<Arc<Principal>>,
}

impl Gateway {
    /// Serves one captured connection to its end.
    pub async fn serve(&self, arrival: Arrival) {
        self.counters.flows_total.fetch_add(1, Ordering::Relaxed);
        let Arrival { flow, stream } = arrival;
        let flow = Arc::new(flow);
        let about =
            About { session: session_id(&flow), flow: Arc::clone(&flow), identity: None, target: None };
        let asked = self.names_asked(&flow);
        let target = self.targets.load().find(flow.original_destination, &asked).cloned();
        let name = target.as_ref().map(|target| target.facts().name.as_str());
        let workload = self.intercept.workload(flow.captured_cgroup);
        let mode =
            self.modes.load().of(workload.as_ref().and_then(|workload| workload.label.as_deref()), name);
        let Some(workload) = workload else {
            return self.refuse_unjudged(about, unattributed(), mode, stream).await;
        };
        if self.leads_to_own_door(&flow) {
            return self.turn_away(&about, &own_address(&flow), stream).await;
        }
        if target.is_none() && flow.original_destination.port() == DNS_PORT {
            // In every mode: the answers say which targets are meant.
            if let Err(error) = self.dns.serve_stream(flow, stream).await {
                tracing::debug!(%error, "a DNS connection ended");
            }
            return;
        }
        if !mode.enforces() {
            let _open = Open::new(&self.counters.sessions, workload.cgroup, name.map(TargetName::from));
            return self.observe(about, workload, target, mode, stream).await;
        }
        let client = Client { about, workload, asked, stream, stop: self.register.enter() };
        match target {
            Some(target) => self.drive(client, target).await,
            None => self.refuse_stranger(client).await,
        }
    }

    /// Serves a connection to a target, if it begins as one may and policy permits.
    async fn drive(&self, mut client: Client, target: Target) {
        if self.drivers.opening(&target) == Opening::Client {
            let Some(detected) = beginning(&client, self.limits.startup).await else { return };
            if let Err(denial) = self.drivers.takes(&target, detected) {
                return self.turn_away(&client.about, &denial, client.stream).await;
            }
        }
        client.about.target = Some(target.facts().id());
        // Before the decision: what changes while it is made is looked at again.
        let grounds = self.grounds();
        let admitted = self.admit(&client, target.facts()).await;
        let _open = Open::new(&self.counters.sessions, client.workload.cgroup, client.about.target.clone());
        match admitted {
            Ok(permit) => {
                client.about.identity = Some(permit.principal.id());
                client.stop.stand(Standing {
                    flow: Arc::clone(&client.about.flow),
                    workload: client.workload.clone(),
                    principal: Arc::clone(&permit.principal),
                    target: target.facts().id(),
                    grounds,
                });
                if target.goes_direct() {
                    // It came before the kernel knew of it; the next one need not.
                    self.ahead.ring();
                }
                self.drivers.serve(client, target, permit).await;
            }
            Err(Refused { denial, principal }) => {
                self.counters.denials_total.fetch_add(1, Ordering::Relaxed);
                client.about.identity = principal.map(|principal| principal.id());
                self.drivers.refuse(client, target, denial).await;
            }
        }
    }

    /// Refuses a connection that means no target: in the words of the protocol that it begins with, if it says so soon
    /// enough, or by a reset.
    async fn refuse_stranger(&self, mut client: Client) {
        let patience = self.limits.startup.min(STRANGER_PATIENCE);
        let Some(detected) = beginning(&client, patience).await else { return };
        let no_target = no_target(&client.about.flow);
        if !Drivers::has_words_for(detected) {
            return self.turn_away(&client.about, &no_target, client.stream).await;
        }
        self.counters.denials_total.fetch_add(1, Ordering::Relaxed);
        let denial = match self.identity.principal_for(&client.about.flow).await {
            Ok(principal) => {
                client.about.identity = Some(principal.id());
                no_target
            }
            Err(error) => unidentified(&error),
        };
        let _open = Open::new(&self.counters.sessions, client.workload.cgroup, None);
        self.drivers.refuse_stranger(client, detected, denial).await;
    }

    /// Whether a flow may talk to a target.
    async fn admit(&self, client: &Client, target: &TargetFacts) -> Result<Permit, Refused> {
        let principal = match self.identity.principal_for(&client.about.flow).await {
            Ok(principal) => principal,
            Err(error) => return Err(Refused { denial: unidentified(&error), principal: None }),
        };
        match self.policies.decide(&principal, &client.workload, target, Action::Connect) {
            Decision::Allow { policies, record, .. } => Ok(Permit { principal, policies, record }),
            Decision::Deny(denial) => Err(Refused { denial, principal: Some(principal) }),
        }
    }

    /// What trusted servers called a flow's destination when its workload asked, the latest first.
    fn names_asked(&self, flow: &Flow) -> Vec<Arc<str>> {
        self.dns.names.of(flow.captured_cgroup, flow.original_destination.ip(), Instant::now())
    }

    /// Refuses a connection for which there is no room.
    pub async fn refuse_for_want_of_room(&self, arrival: Arrival, limit: u32) {
        let flow = Arc::new(arrival.flow);
        let asked = self.names_asked(&flow);
        let target =
            self.targets.load().find(flow.original_destination, &asked).map(|target| target.facts().id());
        let label = self.intercept.workload(flow.captured_cgroup).and_then(|workload| workload.label);
        let mode = self.modes.load().of(label.as_deref(), target.as_ref().map(TargetName::as_str));
        let about = About { session: session_id(&flow), flow, identity: None, target };
        self.refuse_unjudged(about, no_room(limit), mode, arrival.stream).await;
    }
}

/// What a client begins with; one that waits to be spoken to begins with nothing known. `None` for one that hangs up, like a
/// probe, and when the daemon stops.
async fn beginning(client: &Client, patience: Duration) -> Option<Detected> {
    let begins = timeout(patience, first_bytes(&client.stream));
    client.stop.cuts(begins).await.ok()?.unwrap_or(Some(Detected::Unknown))
}

fn session_id(flow: &Flow) -> SessionId {
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    SessionId(format!("{started:x}-{:x}", flow.id.0).into())
}
