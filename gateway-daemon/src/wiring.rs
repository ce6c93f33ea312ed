//! Builds all rooms, hands each its own small settings, and keeps the daemon running until it is told to stop.

mod control;
mod handover;
mod pods;
mod reload;
mod watched;

use std::{
    fs,
    io::{self, IsTerminal as _, Read as _, Write as _},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use tokio::{
    net::lookup_host,
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, mpsc, watch as signal_watch},
    task::JoinHandle,
};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use crate::{
    admin::{AdminSocket, SocketError, listen, serve, watch},
    audit::{self, AuditError, AuditLog},
    config::checked::{self, Config},
    connection::{Ahead, Counters, Gateway, datagrams::Opened, targets::Targets},
    credential::{Provider, VaultLogin, VaultSettings},
    domain::{
        event::{AuditEvent, EventKind, Outcome},
        promise::Promise,
    },
    identity::{Identity, IdentityError, IssuerSettings, KeySource, SourceSettings},
    intercept::{
        self, Arrival, Change, DatagramFlow, Fate, Intercept, InterceptError, KernelRefusal, Query,
        RefusalReason, Streams, Succession, Successor, Unattributed, probe,
    },
    kubernetes,
    mask::{HashKey, Masker},
    policy::{Policies, PolicyError},
    protocol::postgres::ALPN,
    session::{
        dns::{self, Dns, Trust},
        postgres::{CancelKeys, Catalogues, Judge, Limits, Postgres},
        tcp::Tcp,
    },
    tls::{
        authority::{Authority, AuthorityError},
        originate::TlsError,
        terminate::Terminator,
    },
};

/// libpg_query and the walk over its tree recurse as deep as a statement nests; only touched pages cost memory.
const WORKER_STACK_BYTES: usize = 64 * 1024 * 1024;
/// Names of targets are resolved anew at this interval.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);
/// How often a daemon that stops looks whether its last session has ended.
const SETTLE: Duration = Duration::from_millis(100);
/// Where the daemon's own certificate authority is, below `audit.dir`.
pub const AUTHORITY_DIR: &str = "tls";
/// Connections that wait to be accepted, in each network namespace.
const LISTEN_BACKLOG: u32 = 4096;

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Threads, signals, files of the daemon's own.
    #[error("cannot {doing}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What came of it.
        source: io::Error,
    },
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The issuers or sources.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The policies.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The kernel side.
    #[error(transparent)]
    Intercept(#[from] InterceptError),
    /// Promises that this node breaks.
    #[error(
        "this node cannot keep what `mode: enforce` promises ({}); see `nodegate doctor`, and accept what that costs with \
         `capture: {{ accept: [{}] }}`",
        .0.iter().map(|promise| format!("{}: {}", promise.name, promise.cost)).collect::<Vec<_>>().join("; "),
        .0.iter().map(|promise| promise.name).collect::<Vec<_>>().join(", ")
    )]
    Promises(Vec<&'static Promise>),
    /// A target's TLS settings.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The daemon's own certificate authority.
    #[error("the certificate authority for clients: {0}")]
    Authority(#[from] AuthorityError),
    /// The API server's settings.
    #[error(transparent)]
    Kubernetes(#[from] kubernetes::ClientError),
    /// The admin socket.
    #[error(transparent)]
    Admin(#[from] SocketError),
}

/// Whether another daemon may be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// None may.
    Alone,
    /// If one is, it is taken over from.
    TakeOver,
}

/// Runs the daemon until SIGTERM, SIGINT or a successor. Captured cgroups stay captured: without a daemon they are refused.
///
/// # Errors
/// Whatever kept it from starting; nothing is then let through.
pub fn run(config: Config, start: Start) -> Result<(), Error> {
    log_to_stderr();
    // At least two: a session may keep its thread while it waits for the disk.
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    intercept::leave_cgroup_namespace();
    Intercept::see_all_cgroups();
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .thread_stack_size(WORKER_STACK_BYTES)
        .build()
        .map_err(|source| Error::Io { doing: "start the daemon's threads", source })?;
    runtime.block_on(daemon(config, start))
}

/// Logs go to standard error; `NODEGATE_LOG` filters them (`info` by default), in the syntax of `tracing`.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("NODEGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if subscriber.with_ansi(io::stderr().is_terminal()).try_init().is_err() {
        warn!("a log subscriber was there already");
    }
}

async fn daemon(config: Config, start: Start) -> Result<(), Error> {
    let mut terminate = on_signal(SignalKind::terminate())?;
    let mut interrupt = on_signal(SignalKind::interrupt())?;
    let predecessor = match start {
        Start::Alone => None,
        Start::TakeOver => handover::ask(&config)
            .await
            .map_err(|source| Error::Io { doing: "take over from the daemon that runs", source })?,
    };
    let succession = if predecessor.is_some() { Succession::HandOver } else { Succession::AfterTheEnd };
    let (gateway, streams, audit) = build(&config, succession).await?;
    let mut admin = Admin::start(&config, &gateway)?;

    let opener = Arc::downgrade(&gateway);
    let open = move |cgroup| {
        if let Some(gateway) = opener.upgrade()
            && let Some(workload) = gateway.intercept.workload(cgroup)
        {
            gateway.open_datagrams(&workload);
        }
    };
    if gateway.dns.on_learned.set(Box::new(open)).is_err() {
        warn!("somebody else already waits for names");
    }
    resolve_names(&gateway).await;
    tokio::spawn(keep_resolving(Arc::clone(&gateway)));
    tokio::spawn(serve_arrivals(Arc::clone(&gateway), streams.arrivals, config.limits.sessions));
    tokio::spawn(note_unattributed(Arc::clone(&gateway), streams.unattributed));
    tokio::spawn(note_refusals(Arc::clone(&gateway), streams.refusals));
    tokio::spawn(note_datagrams(Arc::clone(&gateway), streams.datagrams));
    tokio::spawn(serve_queries(Arc::clone(&gateway), streams.queries));
    tokio::spawn(note_changes(Arc::clone(&gateway), streams.changes));
    if let Some(kubernetes) = &config.kubernetes {
        pods::follow(kubernetes, &gateway.intercept).await?;
    }
    let direct = Arc::clone(&gateway);
    tokio::spawn(async move { direct.record_direct(streams.direct_flows).await });
    let settled = Arc::clone(&gateway);
    tokio::spawn(async move { settled.keep_settled().await });
    reload::watch(Arc::clone(&gateway), config.clone())?;

    let how = if predecessor.is_some() { ", taking over" } else { "" };
    let version = env!("CARGO_PKG_VERSION");
    note(&audit, format!("started{how}, version {version}, policies {}", gateway.policies.count())).await?;
    if let Some(predecessor) = predecessor {
        predecessor.release(audit.clone()).await;
    }
    // Said whatever the log's level is: whoever started the daemon waits for this line.
    eprintln!("nodegate is ready: {}", config.admin.socket.display());

    // Ready until told to stop; then only sessions that are open go on, and for so long at most.
    let mut draining: Option<Instant> = None;
    loop {
        let heir = tokio::select! {
            _ = terminate.recv() => match draining {
                Some(_) => break,
                None => None,
            },
            _ = interrupt.recv() => break,
            () = drained(&gateway, draining) => break,
            heir = admin.handover.heir(&gateway) => Some(heir),
        };
        let until = draining.unwrap_or_else(|| Instant::now() + config.limits.drain_timeout);
        match heir {
            None => {
                info!("stopping; captured cgroups stay captured and are refused until a daemon runs again");
                gateway.intercept.stop_accepting(Successor::None);
                draining = Some(until);
            }
            Some(heir) => {
                admin.stop().await;
                match heir.bequeath(&gateway.intercept, &audit).await {
                    Ok(()) => {
                        info!("another daemon has taken over");
                        tokio::select! {
                            () = drained(&gateway, Some(until)) => {}
                            _ = terminate.recv() => {}
                            _ = interrupt.recv() => {}
                        }
                        audit.close().await;
                        return Ok(());
                    }
                    Err(error) => {
                        warn!(%error, "the daemon that was to take over did not: going on");
                        admin = Admin::start(&config, &gateway)?;
                    }
                }
            }
        }
    }
    let cut = gateway.counters.sessions.count();
    if cut > 0 {
        warn!(sessions = cut, "sessions that were still open are cut off");
    }
    admin.stop().await;
    note(&audit, "stopped".to_owned()).await?;
    audit.close().await;
    Ok(())
}

/// The admin API and the socket on which a successor asks.
struct Admin {
    handover: handover::Socket,
    stop: signal_watch::Sender<()>,
    server: JoinHandle<()>,
    /// For whoever watches, where the configuration says so.
    watched: Option<JoinHandle<()>>,
}

impl Admin {
    fn start(config: &Config, gateway: &Arc<Gateway>) -> Result<Self, Error> {
        let socket = AdminSocket::open(&config.admin.socket)?;
        let handover = handover::Socket::open(&config.admin.socket)
            .map_err(|source| Error::Io { doing: "listen for a successor", source })?;
        let (stop, stopped) = signal_watch::channel(());
        let watched = match config.admin.listen {
            None => None,
            Some(address) => {
                let failed = |source| Error::Io { doing: "listen on admin.listen", source };
                let listener = listen(address).map_err(failed)?;
                info!(%address, "metrics, health and readiness are told over HTTP");
                let daemon = Arc::new(watched::WatchedDaemon::new(Arc::clone(gateway)));
                Some(tokio::spawn(watch(listener, daemon)))
            }
        };
        let control = Arc::new(control::DaemonControl::new(Arc::clone(gateway), config));
        let server = tokio::spawn(serve(socket, control, async move {
            let mut stopped = stopped;
            // An error means that the sender is gone, which is a stop as well.
            let _ = stopped.changed().await;
        }));
        Ok(Self { handover, stop, server, watched })
    }

    /// Ends what is under way. The sockets are free afterwards.
    async fn stop(&mut self) {
        self.handover.close();
        if let Some(watched) = self.watched.take() {
            watched.abort();
            // Its listener is gone when it is.
            let _ = watched.await;
        }
        // Whoever listens is gone already otherwise.
        let _ = self.stop.send(());
        if let Err(error) = (&mut self.server).await {
            warn!(%error, "the admin API ended badly");
        }
    }
}

/// Waits for the last session to end, or for the time; for ever while nobody has told the daemon to stop.
async fn drained(gateway: &Gateway, until: Option<Instant>) {
    let Some(until) = until else { return std::future::pending().await };
    // What was accepted a moment ago is on its way to becoming a session.
    tokio::time::sleep(SETTLE).await;
    while gateway.counters.sessions.count() > 0 && Instant::now() < until {
        tokio::time::sleep(SETTLE).await;
    }
}

async fn build(config: &Config, succession: Succession) -> Result<(Arc<Gateway>, Streams, AuditLog), Error> {
    keep_promises(config)?;
    let mut settings = audit::Settings::new(config.audit.dir.join("audit"));
    settings.retention = Duration::from_secs(u64::from(config.audit.retention_days) * 24 * 3600);
    let audit = AuditLog::open(settings)?;
    let identity = Arc::new(Identity::new(issuers(&config.identity), sources(&config.identity))?);
    let issuer_names: Vec<&str> = config.identity.issuers.iter().map(|issuer| issuer.name.as_str()).collect();
    let policies = Arc::new(Policies::load(&config.policy.dir, &issuer_names)?);
    let names: Vec<String> = config.targets.iter().map(|target| target.facts.name.clone()).collect();
    for problem in policies.warnings().into_iter().chain(policies.unknown_targets(&names)) {
        warn!("policy: {problem}");
    }
    let targets = Targets::new(&config.targets)?;
    let masker = Masker::new(hash_key(&config.audit.dir.join("mask.key"))?);
    let authority = Arc::new(Authority::open(&config.audit.dir.join(AUTHORITY_DIR))?);
    let (intercept, streams) = Intercept::start(
        intercept::Settings {
            pins: config.capture.pins.clone(),
            run_parent: config.capture.cgroup_parent.clone(),
            root: config.capture.root.clone(),
            pods: config.kubernetes.as_ref().map(|kubernetes| match kubernetes.unknown_pods {
                checked::UnknownPods::Hold => intercept::UnknownPods::Hold,
                checked::UnknownPods::Pass => intercept::UnknownPods::Pass,
            }),
            // Where nothing is enforced, nothing is broken.
            existing: match config.capture.existing {
                _ if !config.modes.may_enforce() => intercept::Existing::Report,
                checked::Existing::End => intercept::Existing::End,
                checked::Existing::Report => intercept::Existing::Report,
            },
            unix_sockets: intercept::UnixSockets {
                denied: config.capture.deny_unix.clone(),
                allowed: config.capture.allow_unix.clone(),
            },
            listen_backlog: LISTEN_BACKLOG,
        },
        succession,
    )
    .await?;
    let kept = identity
        .remember_in(&config.audit.dir.join("enrolled.json"), |cgroup| intercept.workload(cgroup).is_some())
        .map_err(|source| Error::Io { doing: "read the enrolled identities (enrolled.json)", source })?;
    if kept > 0 {
        info!(kept, "enrolled identities of captured cgroups taken over");
    }
    let limits = Limits { startup: config.limits.startup_timeout, idle: config.limits.idle_timeout };
    let dns = Dns::new(
        intercept.clone(),
        Arc::clone(&identity),
        Arc::clone(&policies),
        audit.clone(),
        dns_settings(&config.dns),
        Trust::new(&config.dns.trusted),
    );
    dns.targets.store(Arc::new(targets.names()));
    dns.modes.store(Arc::new(config.modes.clone()));
    let gateway = Gateway {
        dns: Arc::new(dns),
        intercept: intercept.clone(),
        modes: ArcSwap::from_pointee(config.modes.clone()),
        tcp: Tcp {
            intercept: intercept.clone(),
            identity: Arc::clone(&identity),
            audit: audit.clone(),
            limits,
        },
        identity: Arc::clone(&identity),
        policies: Arc::clone(&policies),
        targets: ArcSwap::from_pointee(targets),
        postgres: Postgres {
            intercept,
            credentials: Arc::new(Provider::new(config.vault.as_ref().map(vault_settings))),
            identity,
            judge: Judge::new(policies),
            audit: audit.clone(),
            masker,
            cancel_keys: CancelKeys::default(),
            catalogues: Catalogues::default(),
            limits,
        },
        terminator: Arc::new(Terminator::new(authority, ALPN)),
        opened: Opened::default(),
        ahead: Ahead::default(),
        own_door: config.admin.listen,
        counters: Counters::default(),
    };
    Ok((Arc::new(gateway), streams, audit))
}

/// What a node cannot keep is accepted by name, or nothing is enforced on it.
fn keep_promises(config: &Config) -> Result<(), Error> {
    let broken = probe::broken(&[]);
    let asked: Vec<_> =
        broken.iter().copied().filter(|promise| !config.capture.accept.contains(promise)).collect();
    if config.modes.may_enforce() && !asked.is_empty() {
        return Err(Error::Promises(asked));
    }
    for promise in broken {
        warn!("{} is not kept on this node: {}", promise.name, promise.cost);
    }
    Ok(())
}

fn vault_settings(vault: &checked::Vault) -> VaultSettings {
    VaultSettings {
        address: vault.address.clone(),
        ca: vault.ca.clone(),
        namespace: vault.namespace.clone(),
        login: match &vault.login {
            checked::VaultLogin::TokenFile(path) => VaultLogin::TokenFile(path.clone()),
            checked::VaultLogin::Kubernetes { mount, role, token_file } => VaultLogin::Kubernetes {
                mount: mount.clone(),
                role: role.clone(),
                token_file: token_file.clone(),
            },
        },
    }
}

fn dns_settings(dns: &checked::Dns) -> dns::Settings {
    dns::Settings {
        refuse_with: match dns.refuse_with {
            checked::RefuseWith::Refused => dns::Refusal::Refused,
            checked::RefuseWith::NxDomain => dns::Refusal::NxDomain,
        },
        timeout: dns.timeout,
        queries_per_second: dns.queries_per_second,
        odd_bytes_per_minute: dns.odd_bytes_per_minute,
    }
}

fn issuers(identity: &checked::Identity) -> Vec<IssuerSettings> {
    identity
        .issuers
        .iter()
        .map(|issuer| IssuerSettings {
            name: issuer.name.clone(),
            issuer: issuer.issuer.clone(),
            audiences: issuer.audiences.clone(),
            groups_claim: issuer.groups_claim.clone(),
            roles_claim: issuer.roles_claim.clone(),
            claims: issuer.claims.clone(),
            keys: match &issuer.keys {
                checked::IssuerKeys::Discovery { ca } => KeySource::Discovery { ca: ca.clone() },
                checked::IssuerKeys::JwksFile(path) => KeySource::JwksFile(path.clone()),
            },
            leeway: identity.leeway,
        })
        .collect()
}

fn sources(identity: &checked::Identity) -> Vec<SourceSettings> {
    identity
        .sources
        .iter()
        .map(|source| match source {
            checked::Source::Enrolled => SourceSettings::Enrolled,
            checked::Source::File { path } => SourceSettings::File { path: path.clone() },
            checked::Source::Environment { variable } => {
                SourceSettings::Environment { variable: variable.clone() }
            }
        })
        .collect()
}

/// The key of hash masks: made once, so that equal values stay equal across restarts.
fn hash_key(path: &Path) -> Result<HashKey, Error> {
    let failed = |source| Error::Io { doing: "read or make the key of hash masks (mask.key)", source };
    let mut key = [0_u8; 32];
    match fs::File::open(path) {
        Ok(mut file) => file.read_exact(&mut key).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            SystemRandom::new().fill(&mut key).map_err(|_| failed(io::Error::other("no randomness")))?;
            // Written beside and renamed: a crash leaves a whole key or none.
            let new = path.with_extension("key.new");
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)
                .map_err(failed)?;
            file.write_all(&key).and_then(|()| file.sync_all()).map_err(failed)?;
            fs::rename(&new, path).map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    Ok(HashKey::new(key))
}

fn on_signal(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Error> {
    signal(kind).map_err(|source| Error::Io { doing: "listen for signals", source })
}

async fn note(audit: &AuditLog, reason: String) -> Result<(), AuditError> {
    let mut event = AuditEvent::new(EventKind::Daemon, Outcome::Noted);
    event.reason = reason;
    audit.append(vec![event]).await.map(|_| ())
}

async fn serve_arrivals(gateway: Arc<Gateway>, mut arrivals: mpsc::Receiver<Arrival>, sessions: u32) {
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

async fn serve_queries(gateway: Arc<Gateway>, mut queries: mpsc::Receiver<Query>) {
    while let Some(query) = queries.recv().await {
        let dns = Arc::clone(&gateway.dns);
        tokio::spawn(async move { dns.serve(query).await });
    }
}

async fn note_unattributed(gateway: Arc<Gateway>, mut unattributed: mpsc::Receiver<Unattributed>) {
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

async fn note_refusals(gateway: Arc<Gateway>, mut refusals: mpsc::Receiver<KernelRefusal>) {
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

async fn note_datagrams(gateway: Arc<Gateway>, mut flows: mpsc::Receiver<DatagramFlow>) {
    while let Some(flow) = flows.recv().await {
        gateway.record_datagram(flow).await;
    }
}

/// What was captured or let go without a command.
async fn note_changes(gateway: Arc<Gateway>, mut changes: mpsc::UnboundedReceiver<Change>) {
    while let Some(change) = changes.recv().await {
        let (workload, reason) = match change {
            Change::Captured(workload) => {
                gateway.open_datagrams(&workload);
                let reason = format!("captured {} ({})", workload.path, named(workload.label.as_deref()));
                (workload, reason)
            }
            Change::Relabelled { workload, before } => {
                // Who it was as another workload, it is not as this one.
                gateway.identity.forget(workload.cgroup);
                gateway.dns.forget(workload.cgroup);
                gateway.open_datagrams(&workload);
                gateway.settle_ahead();
                let (before, now) = (named(before.as_deref()), named(workload.label.as_deref()));
                let reason =
                    format!("relabelled {}: {before} is now {now}; its identity is dropped", workload.path);
                (workload, reason)
            }
            Change::Released(workload) => {
                gateway.identity.forget(workload.cgroup);
                let reason = format!("released {}: its label was removed", workload.path);
                (workload, reason)
            }
            Change::Gone(workload) => {
                gateway.identity.forget(workload.cgroup);
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

/// Records a fact that nobody waits for.
fn remember(gateway: &Gateway, event: AuditEvent) {
    if let Err(error) = gateway.postgres.audit.note(event) {
        error!(%error, "an event could not be recorded");
    }
}

async fn keep_resolving(gateway: Arc<Gateway>) {
    loop {
        tokio::time::sleep(RESOLVE_INTERVAL).await;
        resolve_names(&gateway).await;
    }
}

/// Resolves the names of all targets; one that cannot be resolved keeps its addresses. Which servers the node itself
/// asks may have changed as well.
async fn resolve_names(gateway: &Gateway) {
    gateway.dns.trust.rcu(|trust| trust.renewed());
    gateway.dns.forget_vanished();
    let mut addresses = std::collections::HashMap::new();
    for name in gateway.targets.load().host_names() {
        let found = lookup_host((name.as_str(), 0)).await;
        match found.map(|found| found.map(|address| address.ip().to_canonical()).collect::<Vec<IpAddr>>()) {
            Ok(found) => {
                addresses.insert(name, found);
            }
            Err(error) => warn!(host = %name, %error, "a target's name cannot be resolved"),
        }
    }
    if !addresses.is_empty() {
        gateway.targets.rcu(|targets| targets.with_resolved(&addresses));
        gateway.settle_ahead();
    }
    gateway.open_all_datagrams();
}

/// Seconds since 1970.
fn unix_seconds() -> u64 {
    crate::admin::seconds(SystemTime::now())
}
