//! Changed files and SIGHUP: policies and targets are read again; what is invalid leaves the old in force and says so.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use tokio::{
    signal::unix::{Signal, SignalKind},
    sync::mpsc::{self, error::TrySendError},
    time::timeout,
};
use tracing::{error, info, warn};

use super::{Error, on_signal, remember, resolve_names};
use crate::{
    config::{self, checked::Config},
    connection::{Gateway, targets::Targets},
    domain::event::{AuditEvent, EventKind, Outcome},
    intercept::probe,
};

/// An editor writes a file in several steps: what changes within this time is read once.
const SETTLE: Duration = Duration::from_millis(150);
/// Where something changes all the time, it is read all the same.
const SETTLED_AT_LAST: Duration = Duration::from_secs(2);

/// Watches the configuration's directory, the policies' directories and SIGHUP, for as long as the daemon runs.
pub(super) fn watch(gateway: Arc<Gateway>, config: Config) -> Result<(), Error> {
    let failed = |source: std::io::Error| Error::Io { doing: "watch the configuration for changes", source };
    let inotify = Arc::new(Inotify::init(InitFlags::IN_CLOEXEC).map_err(|errno| failed(errno.into()))?);
    let (bell, changes) = mpsc::channel(1);
    let reader = Arc::clone(&inotify);
    thread::Builder::new()
        .name("file-watch".to_owned())
        .spawn(move || ring_at_changes(&reader, &bell))
        .map_err(failed)?;
    let hangup = on_signal(SignalKind::hangup())?;
    let mut watched = Watched { inotify, changes, hangup, gateway, config };
    watched.watch_directories();
    tokio::spawn(async move {
        loop {
            watched.changed().await;
            watched.reload().await;
            // New directories may have come with the change.
            watched.watch_directories();
        }
    });
    Ok(())
}

struct Watched {
    inotify: Arc<Inotify>,
    changes: mpsc::Receiver<()>,
    hangup: Signal,
    gateway: Arc<Gateway>,
    config: Config,
}

impl Watched {
    /// Waits for a change, then until no more come for a moment.
    async fn changed(&mut self) {
        tokio::select! {
            Some(()) = self.changes.recv() => {}
            _ = self.hangup.recv() => {}
        }
        let settled = async { while let Ok(Some(())) = timeout(SETTLE, self.changes.recv()).await {} };
        let _ = timeout(SETTLED_AT_LAST, settled).await;
    }

    fn watch_directories(&self) {
        let mut directories = vec![];
        directories.extend(self.config.file.parent().map(Path::to_owned));
        collect_directories(&self.config.policy.dir, &mut directories);
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE;
        for directory in directories {
            if let Err(error) = self.inotify.add_watch(&directory, flags) {
                warn!(directory = %directory.display(), %error, "changes here are not noticed; send SIGHUP");
            }
        }
    }

    async fn reload(&mut self) {
        match self.gateway.policies.reload() {
            Ok(reloaded) if reloaded.changed => {
                self.gateway.open_all_datagrams();
                self.gateway.settle_ahead();
                info!(epoch = reloaded.epoch, policies = reloaded.policies, "policies reloaded");
                for problem in reloaded.warnings {
                    warn!("policy: {problem}");
                }
                self.note(Outcome::Noted, format!("policies reloaded: {} in force", reloaded.policies));
            }
            Ok(_) => {}
            Err(problem) => {
                error!("the changed policies are invalid, the old ones stay in force: {problem}");
                self.note(Outcome::Denied, format!("changed policies are invalid: {problem}"));
            }
        }
        match config::load(&self.config.file) {
            Ok(new) if new == self.config => {}
            Ok(new) => self.adopt(new).await,
            Err(problem) => {
                error!("the changed configuration is invalid, the old one stays in force: {problem}");
                self.note(Outcome::Denied, format!("changed configuration is invalid: {problem}"));
            }
        }
    }

    /// Takes over what can change while the daemon runs.
    async fn adopt(&mut self, new: Config) {
        if new.targets != self.config.targets {
            match Targets::new(&new.targets) {
                Ok(targets) => {
                    self.gateway.dns.targets.store(Arc::new(targets.names()));
                    self.gateway.targets.store(Arc::new(targets));
                    self.gateway.settle_ahead();
                    resolve_names(&self.gateway).await;
                    info!(targets = new.targets.len(), "targets reloaded");
                    self.note(Outcome::Noted, format!("targets reloaded: {}", new.targets.len()));
                    self.config.targets.clone_from(&new.targets);
                }
                Err(problem) => {
                    error!("the changed targets are invalid, the old ones stay in force: {problem}");
                    self.note(Outcome::Denied, format!("changed targets are invalid: {problem}"));
                }
            }
        }
        if new.modes != self.config.modes {
            self.change_modes(&new);
        }
        let mut comparable = new;
        comparable.modes.clone_from(&self.config.modes);
        comparable.targets.clone_from(&self.config.targets);
        // The command line may have chosen another socket than the file names.
        comparable.admin.clone_from(&self.config.admin);
        if comparable != self.config {
            warn!(
                "identity, policy, audit, recording, capture, kubernetes or limits have changed in the configuration: they need a restart"
            );
        }
    }

    fn change_modes(&mut self, new: &Config) {
        let broken = probe::broken(&self.config.capture.accept);
        if new.modes.may_enforce() && !broken.is_empty() {
            let names: Vec<&str> = broken.iter().map(|broken| broken.promise.name).collect();
            let problem = format!("this node cannot keep {}", names.join(", "));
            error!("the changed modes cannot be adopted, the old ones stay in force: {problem}");
            return self.note(Outcome::Denied, format!("changed modes: {problem}"));
        }
        self.gateway.dns.modes.store(Arc::new(new.modes.clone()));
        self.gateway.modes.store(Arc::new(new.modes.clone()));
        self.gateway.open_all_datagrams();
        self.gateway.settle_ahead();
        self.config.modes.clone_from(&new.modes);
        info!(mode = %new.modes.node, "modes reloaded");
        self.note(Outcome::Noted, format!("modes reloaded: the node's is {}", new.modes.node));
    }

    fn note(&self, outcome: Outcome, reason: String) {
        let mut event = AuditEvent::new(EventKind::Daemon, outcome);
        event.reason = reason;
        remember(&self.gateway, event);
    }
}

/// Reads file events for as long as the daemon runs. A bell that rings already need not ring again.
fn ring_at_changes(inotify: &Inotify, bell: &mpsc::Sender<()>) {
    loop {
        match inotify.read_events() {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => {
                warn!(%error, "changed files are not noticed any more; send SIGHUP");
                return;
            }
        }
        if matches!(bell.try_send(()), Err(TrySendError::Closed(()))) {
            return;
        }
    }
}

fn collect_directories(directory: &Path, found: &mut Vec<PathBuf>) {
    found.push(directory.to_owned());
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_directories(&entry.path(), found);
        }
    }
}
