//! Builds all rooms, hands each its own small settings, and keeps the daemon running until it is told to stop.

mod build;
mod control;
mod handover;
mod pods;
mod recordings;
mod reload;
mod streams;
mod watched;

use std::{
    io::{self, IsTerminal as _},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    net::lookup_host,
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    sync::watch as signal_watch,
    task::JoinHandle,
};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use build::build;

use crate::{
    admin::{AdminSocket, SocketError, listen, serve, watch},
    audit::{AuditError, AuditLog},
    config::checked::Config,
    connection::Gateway,
    domain::event::{AuditEvent, EventKind, Outcome},
    identity::IdentityError,
    intercept::{Intercept, InterceptError, Succession, Successor, probe::Broken},
    kubernetes,
    policy::PolicyError,
    tls::{authority::AuthorityError, originate::TlsError},
};

/// libpg_query and the walk over its tree recurse as deep as a statement nests; only touched pages cost memory.
const WORKER_STACK_BYTES: usize = 64 * 1024 * 1024;
/// Names of targets are resolved anew at this interval.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);
/// How often a daemon that stops looks whether its last session has ended.
const SETTLE: Duration = Duration::from_millis(100);
/// Where the daemon's own certificate authority is, below `audit.dir`.
pub const AUTHORITY_DIR: &str = "tls";

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
    /// Capabilities that this process lacks.
    #[error("this process has no {}, without which nothing is captured: docs/deploy.md lists what it takes", .0.join(", no "))]
    Rights(Vec<&'static str>),
    /// Promises that this node breaks.
    #[error(
        "this node cannot keep what `mode: enforce` promises ({}); see `nodegate doctor`, and accept what that costs with \
         `capture: {{ accept: [{}] }}`",
        .0.iter().map(|broken| format!("{} ({}): {}", broken.promise.name, broken.why, broken.promise.cost)).collect::<Vec<_>>().join("; "),
        .0.iter().map(|broken| broken.promise.name).collect::<Vec<_>>().join(", ")
    )]
    Promises(Vec<Broken>),
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
    let (gateway, from_kernel, audit) = build(&config, succession).await?;
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
    tokio::spawn(streams::serve_arrivals(Arc::clone(&gateway), from_kernel.arrivals, config.limits.sessions));
    tokio::spawn(streams::note_unattributed(Arc::clone(&gateway), from_kernel.unattributed));
    tokio::spawn(streams::note_refusals(Arc::clone(&gateway), from_kernel.refusals));
    tokio::spawn(streams::note_datagrams(Arc::clone(&gateway), from_kernel.datagrams));
    tokio::spawn(streams::serve_queries(Arc::clone(&gateway), from_kernel.queries));
    tokio::spawn(streams::note_changes(Arc::clone(&gateway), from_kernel.changes));
    if let Some(kubernetes) = &config.kubernetes {
        pods::follow(kubernetes, &gateway.intercept).await?;
    }
    let direct = Arc::clone(&gateway);
    tokio::spawn(async move { direct.record_direct(from_kernel.direct_flows).await });
    let settled = Arc::clone(&gateway);
    tokio::spawn(async move { settled.keep_settled().await });
    let standing = Arc::clone(&gateway);
    tokio::spawn(async move { standing.keep_standing().await });
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
                        end_sessions(&gateway).await;
                        recordings::close(&gateway);
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
    admin.stop().await;
    end_sessions(&gateway).await;
    recordings::close(&gateway);
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

/// Ends the sessions that are still open: their clients are told, and their ends recorded.
async fn end_sessions(gateway: &Gateway) {
    let open = gateway.counters.sessions.count();
    if open > 0 {
        warn!(sessions = open, "sessions that were still open are ended");
    }
    gateway.drain().await;
}

fn on_signal(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Error> {
    signal(kind).map_err(|source| Error::Io { doing: "listen for signals", source })
}

async fn note(audit: &AuditLog, reason: String) -> Result<(), AuditError> {
    let mut event = AuditEvent::new(EventKind::Daemon, Outcome::Noted);
    event.reason = reason;
    audit.append(vec![event]).await.map(|_| ())
}

/// Records a fact that nobody waits for.
fn remember(gateway: &Gateway, event: AuditEvent) {
    if let Err(error) = gateway.ledger.log().note(event) {
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
