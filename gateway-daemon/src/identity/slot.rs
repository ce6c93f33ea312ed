//! What is remembered of one captured cgroup: its identity until it expires, an enrolled one, and for a moment that
//! none was found. Reading it takes no lock that a look-up could hold.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use super::{IdentityError, claims};
use crate::domain::principal::Principal;

/// How long an answer that is not to be kept answers all the same: long enough for a storm, too short to notice.
pub(super) const ANSWER_LASTS: Duration = Duration::from_secs(1);

/// One captured cgroup.
pub(super) struct Slot {
    in_use: ArcSwapOption<InUse>,
    state: Mutex<State>,
    /// The right to look for a token: one search at a time, in the order of asking.
    pub(super) turn: Arc<AsyncMutex<()>>,
    /// Held by the thread that reads the workload's files.
    pub(super) one_reader: Arc<Semaphore>,
}

/// A verified identity with what bounds its use.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) principal: Arc<Principal>,
    /// Index of its source in the configured order.
    pub(super) source: usize,
    /// Of its issuer.
    pub(super) leeway: Duration,
}

/// What answers without a search, and how long.
struct InUse {
    known: Known,
    until: SystemTime,
}

impl InUse {
    /// Until the expiry. What was found in the leeway behind it answers a storm's next moment, and is then looked
    /// for again, since a newer token should be there by now.
    fn from(known: Known, now: SystemTime) -> Self {
        let expires_at = known.principal.expires_at;
        let until =
            if now < expires_at { expires_at } else { (now + ANSWER_LASTS).min(expires_at + known.leeway) };
        Self { known, until }
    }
}

#[derive(Default)]
struct State {
    enrolled: Option<Known>,
    failed: Option<Failed>,
}

struct Failed {
    pid: u32,
    at: Duration,
    error: IdentityError,
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            in_use: ArcSwapOption::empty(),
            state: Mutex::default(),
            turn: Arc::default(),
            one_reader: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Slot {
    /// The identity, as long as it needs no new search.
    pub(super) fn current(&self, now: SystemTime) -> Option<Arc<Principal>> {
        let in_use = self.in_use.load();
        let in_use = in_use.as_ref()?;
        (now < in_use.until).then(|| Arc::clone(&in_use.known.principal))
    }

    /// The identity last in use, expired or not, or else the enrolled one.
    pub(super) fn last(&self) -> Option<Arc<Principal>> {
        if let Some(in_use) = self.in_use.load().as_ref() {
            return Some(Arc::clone(&in_use.known.principal));
        }
        self.state().enrolled.as_ref().map(|known| Arc::clone(&known.principal))
    }

    /// Why the same process was refused a moment ago.
    pub(super) fn failure(&self, pid: u32, now: Duration) -> Option<IdentityError> {
        let state = self.state();
        let failed = state.failed.as_ref()?;
        (failed.pid == pid && now.saturating_sub(failed.at) < ANSWER_LASTS).then(|| failed.error.clone())
    }

    /// Remembers a failure.
    pub(super) fn fail(&self, pid: u32, at: Duration, error: IdentityError) {
        self.state().failed = Some(Failed { pid, at, error });
    }

    /// Remembers what a search found, unless an earlier source's identity, enrolled meanwhile, is in force.
    pub(super) fn found(&self, known: Known, now: SystemTime) {
        let mut state = self.state();
        state.failed = None;
        self.offer(known, now);
    }

    /// Takes an enrolled identity. It replaces one of the same or a later source at once; an earlier source's stays
    /// until it expires. Without one in force the order of sources decides: only a first source is used unasked.
    pub(super) fn enrol(&self, known: Known, now: SystemTime) {
        let mut state = self.state();
        state.failed = None;
        state.enrolled = Some(known.clone());
        if known.source == 0 || self.current(now).is_some() {
            self.offer(known, now);
        }
    }

    /// Whether forgetting this slot would change no answer.
    pub(super) fn is_idle(&self, now: SystemTime, monotonic: Duration) -> bool {
        let state = self.state();
        let answers =
            state.failed.as_ref().is_some_and(|failed| monotonic.saturating_sub(failed.at) < ANSWER_LASTS);
        state.enrolled.is_none() && !answers && self.current(now).is_none()
    }

    /// The enrolled identity, or when it expired. `None` when there is none.
    pub(super) fn enrolled(&self, now: SystemTime) -> Option<Result<Known, IdentityError>> {
        let known = self.state().enrolled.clone()?;
        let at = known.principal.expires_at;
        Some(if claims::in_force(at, known.leeway, now) {
            Ok(known)
        } else {
            Err(IdentityError::Expired { at })
        })
    }

    /// Called with the state locked, so that two offers cannot cross.
    fn offer(&self, known: Known, now: SystemTime) {
        let current = self.in_use.load();
        let earlier = current
            .as_ref()
            .is_some_and(|current| current.known.source < known.source && now < current.until);
        if !earlier {
            self.in_use.store(Some(Arc::new(InUse::from(known, now))));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
