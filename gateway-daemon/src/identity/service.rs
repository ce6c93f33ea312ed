//! The identity of captured cgroups: sources in order, verification, a cache that answers a known cgroup without I/O.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use super::{
    Clock, IdentityError, SystemClock,
    enrolments::Enrolments,
    fetch::Limits,
    issuer::Timing,
    settings::{self, IssuerSettings, SourceSettings},
    slot::{Known, Slot},
    source::{self, Caller},
    verify::Verifier,
};
use crate::domain::{flow::Flow, ids::CgroupId, principal::Principal, sensitive::Sensitive};

/// How many new cgroups come between two looks for slots that nobody needs.
const SWEPT_EVERY: usize = 1024;

/// Who the captured cgroups are. A handle: clones share everything. Its methods need a tokio runtime with time and
/// I/O; dropping one of their futures cancels nothing that others wait for.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    verifier: Verifier,
    sources: Vec<SourceSettings>,
    clock: Arc<dyn Clock>,
    slots: RwLock<HashMap<CgroupId, Arc<Slot>>>,
    /// Set by [`Identity::remember_in`].
    enrolments: Mutex<Option<Enrolments>>,
}

impl Identity {
    /// Checks the settings and reads local key files and certificate authorities once; asks no issuer yet.
    pub fn new(issuers: Vec<IssuerSettings>, sources: Vec<SourceSettings>) -> Result<Self, IdentityError> {
        Self::with_clock(issuers, sources, Arc::new(SystemClock::default()))
    }

    /// The same, by another clock.
    pub fn with_clock(
        issuers: Vec<IssuerSettings>,
        sources: Vec<SourceSettings>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, IdentityError> {
        Self::with_bounds(issuers, sources, clock, Limits::default(), Timing::default())
    }

    pub(super) fn with_bounds(
        issuers: Vec<IssuerSettings>,
        sources: Vec<SourceSettings>,
        clock: Arc<dyn Clock>,
        limits: Limits,
        timing: Timing,
    ) -> Result<Self, IdentityError> {
        settings::check(&issuers, &sources)?;
        let verifier = Verifier::new(issuers, &clock, limits, timing)?;
        Ok(Self {
            inner: Arc::new(Inner {
                verifier,
                sources,
                clock,
                slots: RwLock::default(),
                enrolments: Mutex::default(),
            }),
        })
    }

    /// Who opened `flow`: the identity of its captured cgroup, from the first source whose token verifies. Kept until
    /// the token's expiry; a failure is kept for a second, for the same process.
    ///
    /// When several sources have tokens and none verifies, the error is that of the first.
    pub async fn principal_for(&self, flow: &Flow) -> Result<Arc<Principal>, IdentityError> {
        let inner = &self.inner;
        if let Some(principal) = inner.cached(flow.captured_cgroup) {
            return Ok(principal);
        }
        let slot = inner.slot(flow.captured_cgroup);
        let caller = Caller::from(flow);
        let turn = Arc::clone(&slot.turn).lock_owned().await;
        // Whoever had the turn before may have found it, or found out that there is none.
        if let Some(principal) = slot.current(inner.clock.wall()) {
            return Ok(principal);
        }
        if let Some(error) = slot.failure(caller.pid, inner.clock.monotonic()) {
            return Err(error);
        }
        let inner = Arc::clone(inner);
        let search = tokio::spawn(async move {
            let _turn = turn;
            inner.search(&slot, caller).await
        });
        search.await.unwrap_or(Err(IdentityError::Stopping))
    }

    /// Who `flow` is now that its identity has expired: the sources are read again, unless another flow of the cgroup
    /// has already brought a newer one. The subject may differ from before; whether a session outlives that is its
    /// own to decide.
    pub async fn renew(&self, flow: &Flow) -> Result<Arc<Principal>, IdentityError> {
        self.principal_for(flow).await
    }

    /// Whether `principal` may still act: its expiry lies ahead. If not, ask [`Self::renew`].
    pub fn is_current(&self, principal: &Principal) -> bool {
        self.inner.clock.wall() < principal.expires_at
    }

    /// Verifies `token` and binds it to `cgroup`, which the caller must have from peer credentials. Replaces an
    /// earlier enrolled token, and the identity in use unless that came from a source of higher precedence.
    pub async fn enrol(
        &self,
        cgroup: CgroupId,
        token: Sensitive<String>,
    ) -> Result<Arc<Principal>, IdentityError> {
        let inner = &self.inner;
        let source = inner
            .sources
            .iter()
            .position(|source| *source == SourceSettings::Enrolled)
            .ok_or(IdentityError::EnrolmentDisabled)?;
        let known = inner.known(source, inner.verifier.verify(token.expose()).await?);
        let principal = Arc::clone(&known.principal);
        inner.slot(cgroup).enrol(known, inner.clock.wall());
        inner.remember(|enrolments| enrolments.keep(cgroup, &principal));
        Ok(principal)
    }

    /// Keeps enrolled identities in a file from now on, and takes over those that an earlier daemon kept there, for
    /// cgroups that are `captured` still. Expired ones are taken over as such: their agents are told when.
    /// Answers how many there were.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn remember_in(&self, path: &Path, captured: impl Fn(CgroupId) -> bool) -> io::Result<usize> {
        let inner = &self.inner;
        let enrolments = Enrolments::open(path, &inner.verifier.settings())?;
        let source = inner.sources.iter().position(|source| *source == SourceSettings::Enrolled);
        let mut count = 0;
        for (cgroup, principal) in enrolments.iter().filter(|(cgroup, _)| captured(*cgroup)) {
            if let Some(source) = source {
                let known = inner.known(source, Arc::new(principal.clone()));
                inner.slot(cgroup).enrol(known, inner.clock.wall());
                count += 1;
            }
        }
        *inner.enrolments.lock().unwrap_or_else(PoisonError::into_inner) = Some(enrolments);
        Ok(count)
    }

    /// Verifies a token without binding it to anything.
    pub async fn verify(&self, token: &Sensitive<String>) -> Result<Arc<Principal>, IdentityError> {
        self.inner.verifier.verify(token.expose()).await
    }

    /// The identity that `cgroup` was last known by, expired or not; asks nobody.
    pub fn known(&self, cgroup: CgroupId) -> Option<Arc<Principal>> {
        self.inner.slots.read().unwrap_or_else(PoisonError::into_inner).get(&cgroup)?.last()
    }

    /// Drops everything known of `cgroup`, enrolled token included: it is captured no longer.
    pub fn forget(&self, cgroup: CgroupId) {
        self.inner.slots.write().unwrap_or_else(PoisonError::into_inner).remove(&cgroup);
        self.inner.remember(|enrolments| enrolments.forget(cgroup));
    }
}

#[cfg(test)]
impl Identity {
    pub(super) fn known_cgroups(&self) -> usize {
        self.inner.slots.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Inner {
    /// Changes the file of enrolments, where there is one. Failing that, a restart asks for a new enrolment.
    fn remember(&self, change: impl FnOnce(&mut Enrolments) -> io::Result<()>) {
        let mut enrolments = self.enrolments.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(error)) = enrolments.as_mut().map(change) {
            tracing::warn!(%error, "enrolled identities cannot be kept for the next start of the daemon");
        }
    }

    fn cached(&self, cgroup: CgroupId) -> Option<Arc<Principal>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(&cgroup)?.current(self.clock.wall())
    }

    fn slot(&self, cgroup: CgroupId) -> Arc<Slot> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if slots.len() % SWEPT_EVERY == SWEPT_EVERY - 1 && !slots.contains_key(&cgroup) {
            // A flow that comes after `forget` leaves a slot behind that nobody forgets again.
            let (now, monotonic) = (self.clock.wall(), self.clock.monotonic());
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || !slot.is_idle(now, monotonic));
        }
        Arc::clone(slots.entry(cgroup).or_default())
    }

    fn known(&self, source: usize, principal: Arc<Principal>) -> Known {
        Known { leeway: self.verifier.leeway(&principal), principal, source }
    }

    async fn search(&self, slot: &Slot, caller: Caller) -> Result<Arc<Principal>, IdentityError> {
        let found = self.first_that_verifies(slot, caller).await;
        match &found {
            Ok(known) => slot.found(known.clone(), self.clock.wall()),
            Err(error) => slot.fail(caller.pid, self.clock.monotonic(), error.clone()),
        }
        found.map(|known| known.principal)
    }

    async fn first_that_verifies(&self, slot: &Slot, caller: Caller) -> Result<Known, IdentityError> {
        let mut first_failure = None;
        for (index, source) in self.sources.iter().enumerate() {
            match self.try_source(index, source, slot, caller).await {
                Ok(Some(known)) => return Ok(known),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(cgroup = caller.cgroup.0, %source, %error, "a token was refused");
                    first_failure.get_or_insert(error);
                }
            }
        }
        Err(first_failure.unwrap_or_else(|| self.no_token()))
    }

    async fn try_source(
        &self,
        index: usize,
        source: &SourceSettings,
        slot: &Slot,
        caller: Caller,
    ) -> Result<Option<Known>, IdentityError> {
        match source {
            SourceSettings::Enrolled => slot.enrolled(self.clock.wall()).transpose(),
            SourceSettings::File { .. } | SourceSettings::Environment { .. } => {
                let Some(token) = source::read(source, caller, &slot.one_reader).await? else {
                    return Ok(None);
                };
                Ok(Some(self.known(index, self.verifier.verify(token.expose()).await?)))
            }
        }
    }

    fn no_token(&self) -> IdentityError {
        let tried: Vec<_> = self.sources.iter().map(SourceSettings::to_string).collect();
        let tried = if tried.is_empty() { "no source is configured".to_owned() } else { tried.join(", ") };
        IdentityError::NoToken { tried }
    }
}
