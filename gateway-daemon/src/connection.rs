//! One flow, in order: accept → attribute → detect → session → audit.
//!
//! Every way out of here but a session is a refusal, and is recorded before the client is told.

mod ahead;
pub mod datagrams;
mod observed;
pub mod targets;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use nix::ifaddrs::getifaddrs;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    detect::{self, Detected},
    domain::{
        action::{Action, TargetFacts},
        decision::{Decision, Denial, RecordLimits},
        event::{AuditEvent, EventKind, Outcome},
        flow::{Flow, Workload},
        ids::{CgroupId, PolicyId, SessionId, TargetName},
        mode::Modes,
        principal::Principal,
        way::Way,
    },
    identity::{Identity, IdentityError},
    intercept::{Arrival, Intercept},
    policy::Policies,
    session::{
        about::About,
        dns::Dns,
        passing::reset,
        postgres::{Admission, ClientTls, Encryption, Postgres, PostgresTarget},
        route::Route,
        tcp::{Tcp, TcpTarget},
    },
    tls::terminate::Terminator,
};
pub use ahead::Ahead;
use datagrams::Opened;
use targets::{Target, Targets};

/// DNS over TCP; whoever speaks it on another port speaks nothing that is known here.
const DNS_PORT: u16 = 53;

/// A client that means no target is refused after so long even if it says nothing: one that speaks PostgreSQL has said
/// so by then, and is told in PostgreSQL's own words.
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
    /// Certificates for PostgreSQL's clients.
    pub terminator: Arc<Terminator>,
    /// PostgreSQL sessions.
    pub postgres: Postgres,
    /// Sessions that nobody looks into.
    pub tcp: Tcp,
    /// Answers DNS queries.
    pub dns: Arc<Dns>,
    /// What is open to datagrams.
    pub opened: Opened,
    /// Where the daemon itself listens for whoever watches it: no flow gets there.
    pub own_door: Option<SocketAddr>,
    /// What the kernel is told ahead of time.
    pub ahead: Ahead,
    /// What has happened so far.
    pub counters: Counters,
}

/// Totals since the start, and how many sessions are open.
#[derive(Debug, Default)]
pub struct Counters {
    /// Captured connections that arrived.
    pub flows_total: AtomicU64,
    /// Of those, refused before a session began.
    pub denials_total: AtomicU64,
    /// Of the flows, those that went direct.
    pub direct_total: AtomicU64,
    /// Connections to a listener that were not captured.
    pub unattributed_total: AtomicU64,
    /// Refused by the kernel programs.
    pub kernel_refusals_total: AtomicU64,
    /// Sessions that are open now.
    pub sessions: Sessions,
}

/// Who has how many sessions open, to which target.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<(CgroupId, Option<TargetName>), u64>>);

impl Sessions {
    /// Sessions by workload and target; `None` are those that are being refused.
    pub fn open(&self) -> HashMap<(CgroupId, Option<TargetName>), u64> {
        self.lock().clone()
    }

    /// All of them.
    pub fn count(&self) -> u64 {
        self.lock().values().sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(CgroupId, Option<TargetName>), u64>> {
        // A panic while the map was held cannot leave it half changed: every change is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A flow that may talk to its target.
struct Permitted {
    principal: Arc<Principal>,
    policies: Vec<PolicyId>,
    record: RecordLimits,
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
        let target = self.target_of(&flow);
        let name = target.as_ref().map(|target| target.facts().name.as_str());
        let workload = self.intercept.workload(flow.captured_cgroup);
        let mode =
            self.modes.load().of(workload.as_ref().and_then(|workload| workload.label.as_deref()), name);
        let Some(workload) = workload else {
            let denial = Denial::builtin(
                "the connection's cgroup is not captured any more".to_owned(),
                "Start the process again.",
                "unattributed",
            );
            if mode.enforces() {
                return self.turn_away(&about, &denial, stream).await;
            }
            return self.pass_on_unjudged(about, denial, mode, stream).await;
        };
        if self.leads_to_own_door(&flow) {
            let denial = Denial::builtin(
                format!("{} is nodegate's own", flow.original_destination),
                "Ask the operator for what you need to know.",
                "own-address",
            );
            return self.turn_away(&about, &denial, stream).await;
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
        let target = match target {
            Some(Target::Tcp(target)) => return self.pass(about, flow, workload, target, stream).await,
            Some(Target::Postgres(target)) => Some(target),
            None => None,
        };
        let patience = match &target {
            Some(_) => self.postgres.limits.startup,
            None => self.postgres.limits.startup.min(STRANGER_PATIENCE),
        };
        let detected = match timeout(patience, first_bytes(&stream)).await {
            Ok(Some(detected)) => detected,
            // A probe that connects and hangs up, or a client that waits to be spoken to.
            Ok(None) => return,
            Err(_) => Detected::Unknown,
        };
        let speaks = match (detected, &target) {
            (Detected::Postgres, _) => true,
            // TLS at once; that PostgreSQL is in it the handshake must show.
            (Detected::Tls, Some(target)) => target.client_tls != ClientTls::Plaintext,
            _ => false,
        };
        if !speaks {
            let denial = match target {
                Some(target) if detected == Detected::Tls => Denial::builtin(
                    format!("target {} takes no TLS from clients", target.facts.name),
                    "Connect with sslmode=disable, or ask the operator for `tls: { client: terminate }`.",
                    "protocol",
                ),
                Some(target) => Denial::builtin(
                    format!("target {} speaks PostgreSQL, and this connection does not", target.facts.name),
                    "Use a PostgreSQL client.",
                    "protocol",
                ),
                None => no_target(&flow),
            };
            return self.turn_away(&about, &denial, stream).await;
        }
        self.session(about, flow, workload, target, stream).await;
    }

    /// The target that a flow means.
    fn target_of(&self, flow: &Flow) -> Option<Target> {
        let asked = self.dns.names.of(flow.captured_cgroup, flow.original_destination.ip(), Instant::now());
        self.targets.load().find(flow.original_destination, &asked).cloned()
    }

    /// Whether a flow is meant for the daemon's own HTTP listener. In a mode that does not enforce it would get there.
    fn leads_to_own_door(&self, flow: &Flow) -> bool {
        let Some(own) = self.own_door else { return false };
        let wanted = flow.original_destination.socket_addr();
        if wanted.port() != own.port() {
            return false;
        }
        if !own.ip().is_unspecified() {
            return wanted.ip() == own.ip().to_canonical()
                && (!wanted.ip().is_loopback() || self.is_home(flow));
        }
        // It listens on every address of this network namespace.
        let Ok(interfaces) = getifaddrs() else { return true };
        let mut local = interfaces.filter_map(|interface| interface.address).filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        });
        if wanted.ip().is_loopback() || wanted.ip().is_unspecified() {
            self.is_home(flow)
        } else {
            local.any(|address| address == wanted.ip())
        }
    }

    /// Whether a flow comes from the daemon's own network namespace.
    fn is_home(&self, flow: &Flow) -> bool {
        self.intercept.is_home(flow.netns)
    }

    /// A session that nobody looks into. Refused, it is reset: its protocol, if it has one, is not known here.
    async fn pass(
        &self,
        mut about: About,
        flow: Arc<Flow>,
        workload: Workload,
        target: Arc<TcpTarget>,
        stream: TcpStream,
    ) {
        about.target = Some(target.facts.id());
        match self.admit(&flow, &workload, Some(&target.facts)).await {
            Ok(Permitted { principal, policies, .. }) => {
                about.identity = Some(principal.id());
                if target.way == Way::Direct {
                    // It came before the kernel knew of it; the next one need not.
                    self.ahead.ring();
                }
                let _open = Open::new(&self.counters.sessions, workload.cgroup, about.target.clone());
                let netns = self.intercept.dialled_from(target.from, flow.netns);
                let route = Route { netns, address: flow.original_destination.socket_addr() };
                self.tcp.serve(&about, &principal, route, policies, stream).await;
            }
            Err(Refused { denial, principal }) => {
                about.identity = principal.map(|principal| principal.id());
                self.turn_away(&about, &denial, stream).await;
            }
        }
    }

    async fn session(
        &self,
        mut about: About,
        flow: Arc<Flow>,
        workload: Workload,
        target: Option<Arc<PostgresTarget>>,
        stream: TcpStream,
    ) {
        about.target = target.as_ref().map(|target| target.facts.id());
        let encryption = self.encryption(&flow, target.as_deref());
        let admitted = self.admit(&flow, &workload, target.as_ref().map(|target| &target.facts)).await;
        let admission = match (admitted, target) {
            (Ok(Permitted { principal, policies, record }), Some(target)) => {
                about.identity = Some(principal.id());
                let route = Route { netns: flow.netns, address: flow.original_destination.socket_addr() };
                Admission::Admitted { principal, target, route, policies, record }
            }
            (Ok(Permitted { principal, .. }), None) => {
                self.refused(&mut about, no_target(&flow), Some(&principal))
            }
            (Err(Refused { denial, principal }), _) => self.refused(&mut about, denial, principal.as_deref()),
        };
        let _open = Open::new(&self.counters.sessions, workload.cgroup, about.target.clone());
        self.postgres.serve(about, workload, admission, encryption, stream).await;
    }

    /// What a client that asks for TLS is answered. One that means no target gets it as well, so that one that insists
    /// on TLS hears why it is refused.
    fn encryption(&self, flow: &Flow, target: Option<&PostgresTarget>) -> Encryption {
        let address = flow.original_destination.ip();
        let names = match target.map(|target| &target.client_tls) {
            Some(ClientTls::Plaintext) => return Encryption::Refused,
            Some(ClientTls::Terminate(names)) => {
                // And what trusted servers called this address when the agent asked.
                let asked = self.dns.names.of(flow.captured_cgroup, address, Instant::now());
                names.iter().cloned().chain(asked).collect()
            }
            None => Vec::new(),
        };
        Encryption::Offered { terminator: Arc::clone(&self.terminator), names, address }
    }

    fn refused(&self, about: &mut About, denial: Denial, principal: Option<&Principal>) -> Admission {
        self.counters.denials_total.fetch_add(1, Ordering::Relaxed);
        about.identity = principal.map(Principal::id);
        Admission::Refused(denial)
    }

    async fn admit(
        &self,
        flow: &Flow,
        workload: &Workload,
        target: Option<&TargetFacts>,
    ) -> Result<Permitted, Refused> {
        let principal = match self.identity.principal_for(flow).await {
            Ok(principal) => principal,
            Err(error) => return Err(Refused { denial: no_identity(&error), principal: None }),
        };
        let Some(target) = target else {
            return Err(Refused { denial: no_target(flow), principal: Some(principal) });
        };
        match self.policies.decide(&principal, workload, target, Action::Connect) {
            Decision::Allow { policies, record, .. } => Ok(Permitted { principal, policies, record }),
            Decision::Deny(denial) => Err(Refused { denial, principal: Some(principal) }),
        }
    }

    /// Refuses a connection for which there is no room.
    pub async fn refuse_for_want_of_room(&self, arrival: Arrival, limit: u32) {
        let flow = Arc::new(arrival.flow);
        let target = self.target_of(&flow).map(|target| target.facts().id());
        let label = self.intercept.workload(flow.captured_cgroup).and_then(|workload| workload.label);
        let mode = self.modes.load().of(label.as_deref(), target.as_ref().map(TargetName::as_str));
        let about = About { session: session_id(&flow), flow, identity: None, target };
        let denial = Denial::builtin(
            format!("{limit} sessions are open, as many as limits.sessions allows"),
            "Close idle connections, or ask the operator to raise the limit.",
            "sessions",
        );
        if mode.enforces() {
            self.turn_away(&about, &denial, arrival.stream).await;
        } else {
            self.pass_on_unjudged(about, denial, mode, arrival.stream).await;
        }
    }

    /// Refuses a connection whose protocol has no words for it: it is reset.
    async fn turn_away(&self, about: &About, denial: &Denial, stream: TcpStream) {
        self.counters.denials_total.fetch_add(1, Ordering::Relaxed);
        let mut event = about.event(EventKind::Connect, Outcome::Denied);
        event.policies.clone_from(&denial.policies);
        event.reason.clone_from(&denial.reason);
        self.record(event).await;
        reset(&stream);
    }

    /// Records what is refused in any case: without its record it stays refused.
    async fn record(&self, event: AuditEvent) {
        if let Err(error) = self.postgres.audit.append(vec![event]).await {
            tracing::error!(%error, "a refusal could not be recorded");
        }
    }
}

/// Counts an open session for as long as it lives.
struct Open<'a> {
    sessions: &'a Sessions,
    key: (CgroupId, Option<TargetName>),
}

impl<'a> Open<'a> {
    fn new(sessions: &'a Sessions, workload: CgroupId, target: Option<TargetName>) -> Self {
        let key = (workload, target);
        *sessions.lock().entry(key.clone()).or_default() += 1;
        Self { sessions, key }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut sessions = self.sessions.lock();
        if let Some(count) = sessions.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                sessions.remove(&self.key);
            }
        }
    }
}

/// Looks at the first bytes without taking them; `None` when the client hung up before it said enough.
async fn first_bytes(stream: &TcpStream) -> Option<Detected> {
    let mut bytes = [0_u8; detect::ENOUGH_BYTES];
    let mut before = 0;
    loop {
        let count = stream.peek(&mut bytes).await.ok()?;
        match detect::detect(bytes.get(..count).unwrap_or_default()) {
            _ if count == 0 => return None,
            // Peeking does not wait for more than is there: wait a moment for the rest of a split message.
            Detected::Incomplete if count > before => before = count,
            Detected::Incomplete => tokio::time::sleep(Duration::from_millis(5)).await,
            detected => return Some(detected),
        }
    }
}

fn session_id(flow: &Flow) -> SessionId {
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    SessionId(format!("{started:x}-{:x}", flow.id.0).into())
}

fn no_identity(error: &IdentityError) -> Denial {
    Denial::builtin(
        error.to_string(),
        "Enrol a valid token with `nodegate identity enrol`, or start with `nodegate run --token-file`.",
        "identity",
    )
}

fn no_target(flow: &Flow) -> Denial {
    Denial::builtin(
        format!("{} is not a target of this node's configuration", flow.original_destination),
        "Ask the operator to add it as a target.",
        "unknown-target",
    )
}
