//! One issuer's keys, cached. Known keys answer without I/O; an unknown one asks the issuer again, one request at a
//! time and not more often than [`Timing::between_fetches`], whatever agents send. While the issuer is down, its last
//! keys go on serving for [`Timing::stale`]; after that nobody is identified by it.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    Clock, IdentityError,
    error::shown,
    fetch::{Endpoint, Limits},
    jwk::{self, Match, PublicKey},
    settings::{IssuerSettings, KeySource},
};

/// How long keys live and how often they are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// From the end of one fetch to the start of the next.
    pub(super) between_fetches: Duration,
    /// Age at which keys are fetched again although they are known, so that a withdrawn key stops counting.
    pub(super) fresh: Duration,
    /// Age at which keys count no longer although the issuer cannot be reached.
    pub(super) stale: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            between_fetches: Duration::from_secs(10),
            fresh: Duration::from_hours(1),
            stale: Duration::from_hours(24),
        }
    }
}

/// The key cache of one issuer.
pub(super) struct Keys {
    issuer: String,
    source: Source,
    timing: Timing,
    clock: Arc<dyn Clock>,
    current: ArcSwapOption<KeySet>,
    last_failed: AtomicBool,
    turn: Arc<Mutex<LastFetch>>,
}

enum Source {
    Network(Endpoint),
    File(PathBuf),
}

struct KeySet {
    keys: Vec<PublicKey>,
    fetched_at: Duration,
    /// Of the file that it was read from.
    stamp: Option<Stamp>,
}

/// What the last fetch, by whomever, ended with. Its lock is the right to make the next one.
#[derive(Default)]
struct LastFetch {
    ended_at: Option<Duration>,
    problem: Option<String>,
    /// The file as it was then.
    stamp: Option<Stamp>,
}

/// Changes when a file is replaced or rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size_bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Keys {
    /// Fetches nothing yet: the first token does.
    pub(super) fn new(
        settings: &IssuerSettings,
        clock: Arc<dyn Clock>,
        limits: Limits,
        timing: Timing,
    ) -> Result<Self, IdentityError> {
        let refuse =
            |problem: String| IdentityError::Settings(format!("issuer {}: {problem}", settings.name));
        let source = match &settings.keys {
            KeySource::Discovery { ca } => {
                Source::Network(Endpoint::new(&settings.issuer, ca.as_deref(), limits).map_err(refuse)?)
            }
            KeySource::JwksFile(path) => {
                read_set(path).map_err(refuse)?;
                Source::File(path.clone())
            }
        };
        Ok(Self {
            issuer: settings.name.clone(),
            source,
            timing,
            clock,
            current: ArcSwapOption::empty(),
            last_failed: AtomicBool::new(false),
            turn: Arc::default(),
        })
    }

    /// Whether a cached key would do, as far as is known without I/O.
    pub(super) fn knows(&self, algorithm: Algorithm, kid: Option<&str>) -> bool {
        self.usable().is_some_and(|set| !matches!(jwk::matching(&set.keys, algorithm, kid), Match::Unknown))
    }

    /// The keys that a token of `algorithm` and `kid` may be signed with.
    pub(super) async fn find(
        self: &Arc<Self>,
        algorithm: Algorithm,
        kid: Option<&str>,
    ) -> Result<Vec<DecodingKey>, IdentityError> {
        let problem = self.refresh_if_due(algorithm, kid).await;
        let unreachable = |reason| IdentityError::IssuerUnreachable { issuer: self.issuer.clone(), reason };
        let Some(set) = self.usable() else {
            return Err(unreachable(
                problem.unwrap_or_else(|| "its last keys are too old to be used".to_owned()),
            ));
        };
        match (jwk::matching(&set.keys, algorithm, kid), problem) {
            (Match::Keys(keys), _) => Ok(keys.into_iter().map(|key| key.decoding.clone()).collect()),
            (Match::Unfit, _) => Err(IdentityError::KeyMismatch {
                issuer: self.issuer.clone(),
                algorithm: format!("{algorithm:?}"),
            }),
            (Match::Unknown, Some(problem)) => Err(unreachable(problem)),
            (Match::Unknown, None) => {
                Err(IdentityError::UnknownKey { issuer: self.issuer.clone(), kid: kid.map(shown) })
            }
        }
    }

    /// Fetches when the wanted key is unknown or the known ones have aged. Returns the last fetch's problem, if it
    /// had one.
    async fn refresh_if_due(self: &Arc<Self>, algorithm: Algorithm, kid: Option<&str>) -> Option<String> {
        let seen = self.current.load_full();
        match &self.source {
            Source::File(path) => {
                let stamp = Stamp::of(path).ok();
                if stamp.is_some() && seen.as_ref().is_some_and(|set| set.stamp == stamp && !self.aged(set)) {
                    return None;
                }
                self.fetch().await
            }
            Source::Network(_) if !self.knows(algorithm, kid) => self.fetch().await,
            Source::Network(_) if seen.as_ref().is_some_and(|set| self.aged(set)) => {
                // Once the issuer has failed to answer, known keys do not wait for it again.
                if !self.last_failed.load(Ordering::Relaxed) {
                    return self.fetch().await;
                }
                if let Ok(turn) = Arc::clone(&self.turn).try_lock_owned()
                    && self.may_fetch(&turn, None)
                {
                    drop(tokio::spawn(Arc::clone(self).fetch_now(turn)));
                }
                None
            }
            Source::Network(_) => None,
        }
    }

    /// One fetch at a time. Who waited for somebody else's fetch comes too early for another, and uses what it brought.
    async fn fetch(self: &Arc<Self>) -> Option<String> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let stamp = match &self.source {
            Source::Network(_) => None,
            Source::File(path) => Stamp::of(path).ok(),
        };
        if !self.may_fetch(&turn, stamp) {
            return turn.problem.clone();
        }
        // In a task of its own: a client that hangs up must not cancel what others wait for.
        let fetch = tokio::spawn(Arc::clone(self).fetch_now(turn));
        fetch.await.unwrap_or_else(|_| Some("the daemon is stopping".to_owned()))
    }

    /// The network is asked at intervals; a file is read again as soon as it is another one.
    fn may_fetch(&self, last: &LastFetch, stamp: Option<Stamp>) -> bool {
        let rested = last.ended_at.is_none_or(|ended_at| {
            self.clock.monotonic().saturating_sub(ended_at) >= self.timing.between_fetches
        });
        rested || (stamp.is_some() && stamp != last.stamp)
    }

    async fn fetch_now(self: Arc<Self>, mut turn: OwnedMutexGuard<LastFetch>) -> Option<String> {
        let (result, stamp) = match &self.source {
            Source::Network(endpoint) => (endpoint.keys().await.map(|keys| (keys, None)), None),
            Source::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || {
                    let stamp = Stamp::of(&path).ok();
                    (read_set(&path).map(|(keys, stamp)| (keys, Some(stamp))), stamp)
                });
                read.await.unwrap_or_else(|_| (Err("the daemon is stopping".to_owned()), None))
            }
        };
        let now = self.clock.monotonic();
        turn.ended_at = Some(now);
        turn.stamp = stamp;
        turn.problem = match result {
            Ok((keys, stamp)) => {
                self.last_failed.store(false, Ordering::Relaxed);
                tracing::debug!(issuer = self.issuer, keys = keys.len(), "the issuer's keys were read");
                self.current.store(Some(Arc::new(KeySet { keys, fetched_at: now, stamp })));
                None
            }
            Err(problem) => {
                self.last_failed.store(true, Ordering::Relaxed);
                tracing::warn!(issuer = self.issuer, problem, "the issuer's keys cannot be read");
                Some(problem)
            }
        };
        turn.problem.clone()
    }

    fn aged(&self, set: &KeySet) -> bool {
        self.clock.monotonic().saturating_sub(set.fetched_at) >= self.timing.fresh
    }

    fn usable(&self) -> Option<Arc<KeySet>> {
        let set = self.current.load_full()?;
        (self.clock.monotonic().saturating_sub(set.fetched_at) < self.timing.stale).then_some(set)
    }
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from_metadata(&fs::metadata(path)?))
    }

    fn from_metadata(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A local key set, with the stamp of the very file that was read.
fn read_set(path: &Path) -> Result<(Vec<PublicKey>, Stamp), String> {
    let unreadable = |error: io::Error| format!("the key set {} cannot be read: {error}", path.display());
    let longest = Limits::default().body_bytes;
    let file = File::open(path).map_err(unreadable)?;
    let stamp = Stamp::from_metadata(&file.metadata().map_err(unreadable)?);
    let mut text = Vec::new();
    file.take(longest as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() > longest {
        return Err(format!("the key set {} is longer than {longest} bytes", path.display()));
    }
    let keys = jwk::parse_set(&text).map_err(|problem| format!("{}: {problem}", path.display()))?;
    Ok((keys, stamp))
}
