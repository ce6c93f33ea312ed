//! Sessions that are told to end: each one that may go on is in a register, and whoever finds that it may no longer tells
//! it why. A session hears of it at once, whatever it waits for, and says it in its protocol's own words.

use std::{
    collections::HashMap,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use crate::domain::{
    decision::Denial,
    flow::{Flow, Workload},
    ids::{CgroupId, TargetName},
    principal::Principal,
};

/// A session that was told gets so long to come to a place where it can say so; then it is dropped where it is.
const GRACE: Duration = Duration::from_millis(500);

/// Why a session must end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Its identity has ended.
    Identity(Denial),
    /// Policy does not let it connect any more.
    Revoked(Denial),
    /// Its target is not one of the configuration any more.
    TargetRemoved(TargetName),
    /// The daemon stops.
    Drained,
}

impl Reason {
    /// The refusal behind it, where there is one.
    pub const fn denial(&self) -> Option<&Denial> {
        match self {
            Self::Identity(denial) | Self::Revoked(denial) => Some(denial),
            Self::TargetRemoved(_) | Self::Drained => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(denial) => f.write_str(&denial.reason),
            Self::Revoked(denial) => write!(f, "policy ends this session: {}", denial.reason),
            Self::TargetRemoved(target) => {
                write!(f, "target {target} is not in the configuration any more")
            }
            Self::Drained => f.write_str("nodegate stops, and the time for open sessions is over"),
        }
    }
}

/// On whose behalf a session was let in, and where to.
#[derive(Debug, Clone)]
pub struct Standing {
    /// What the kernel recorded.
    pub flow: Arc<Flow>,
    /// Whose it is.
    pub workload: Workload,
    /// Who calls.
    pub principal: Arc<Principal>,
    /// The target.
    pub target: TargetName,
    /// What it was last judged by.
    pub grounds: Grounds,
}

/// What lets sessions connect, by number: another number is another set of policies, or of targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grounds {
    /// The policies.
    pub policies: u64,
    /// The targets.
    pub targets: u64,
}

/// The sessions that are open. Clones share one register.
#[derive(Debug, Clone, Default)]
pub struct Register {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    open: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// `None` for a session that is being refused, or only passed on.
    standing: Option<Standing>,
    told: Arc<Told>,
}

#[derive(Debug, Default)]
struct Told {
    reason: OnceLock<Reason>,
    bell: Notify,
}

/// Where a session hears that it must end. As long as it lives the session is in the register.
#[derive(Debug)]
pub struct Stop {
    told: Arc<Told>,
    number: u64,
    register: Register,
}

impl Register {
    /// Takes a session in. Until it has a [`Stop::stand`] nothing is known of it but that it is open.
    pub fn enter(&self) -> Stop {
        let told = Arc::<Told>::default();
        let mut inner = self.lock();
        inner.next += 1;
        let number = inner.next;
        inner.open.insert(number, Entry { standing: None, told: Arc::clone(&told) });
        drop(inner);
        Stop { told, number, register: self.clone() }
    }

    /// Tells every session that it must end.
    pub fn end_all(&self, reason: &Reason) {
        for entry in self.lock().open.values() {
            entry.told.tell(reason.clone());
        }
    }

    /// Tells the sessions of a workload whose identity has been dropped.
    pub fn end_of(&self, cgroup: CgroupId, reason: &Reason) {
        for entry in self.lock().open.values() {
            if entry.standing.as_ref().is_some_and(|standing| standing.workload.cgroup == cgroup) {
                entry.told.tell(reason.clone());
            }
        }
    }

    /// The sessions that have not been told to end and about whose standing there is a doubt, by their numbers.
    pub fn doubtful(&self, doubt: impl Fn(&Standing) -> bool) -> Vec<(u64, Standing)> {
        let inner = self.lock();
        let open = inner.open.iter().filter(|(_, entry)| entry.told.reason.get().is_none());
        let standing = open.filter_map(|(number, entry)| Some((*number, entry.standing.as_ref()?)));
        standing.filter(|(_, it)| doubt(it)).map(|(number, standing)| (number, standing.clone())).collect()
    }

    /// Tells one session that it must end; one that has ended need not hear it.
    pub fn end(&self, number: u64, reason: Reason) {
        if let Some(entry) = self.lock().open.get(&number) {
            entry.told.tell(reason);
        }
    }

    /// The session goes on, as this one now stands.
    pub fn goes_on(&self, number: u64, standing: Standing) {
        if let Some(entry) = self.lock().open.get_mut(&number) {
            entry.standing = Some(standing);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lock().open.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the map was held cannot leave it half changed: every change is one call.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn tell(&self, reason: Reason) {
        // The first reason counts.
        let _ = self.reason.set(reason);
        self.bell.notify_one();
    }
}

impl Stop {
    /// The session has been let in.
    pub fn stand(&self, standing: Standing) {
        self.register.goes_on(self.number, standing);
    }

    /// Why the session must end, once somebody has said so. Costs nothing.
    pub fn told(&self) -> Option<&Reason> {
        self.told.reason.get()
    }

    /// Waits to be told. Cancel-safe; one waits at a time.
    pub async fn heard(&self) -> Reason {
        loop {
            if let Some(reason) = self.told() {
                return reason.clone();
            }
            self.told.bell.notified().await;
        }
    }

    /// Does something that is given up at once when the session must end.
    ///
    /// # Errors
    /// It was given up, for this reason.
    pub async fn cuts<T>(&self, work: impl Future<Output = T>) -> Result<T, Reason> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            reason = self.heard() => Err(reason),
        }
    }

    /// Does something that looks at [`Self::told`] by itself when it is polled, so that it can end where that is possible.
    ///
    /// # Errors
    /// It did not, and was given up.
    pub async fn warns<T>(&self, work: impl Future<Output = T>) -> Result<T, Reason> {
        let mut work = pin!(work);
        let reason = tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            reason = self.heard() => reason,
        };
        timeout(GRACE, work).await.map_err(|_| reason)
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.register.lock().open.remove(&self.number);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::{future::pending, task::Poll};

    use super::{Reason, Register};

    #[tokio::test]
    async fn who_waits_is_told_and_who_comes_later_finds_it_said() {
        let register = Register::default();
        let stop = register.enter();
        assert_eq!(stop.told(), None);
        let told = async {
            tokio::task::yield_now().await;
            register.end_all(&Reason::Drained);
        };
        let (cut, ()) = tokio::join!(stop.cuts(pending::<()>()), told);
        assert_eq!(cut, Err(Reason::Drained));
        assert_eq!(stop.heard().await, Reason::Drained);
        drop(stop);
        assert!(register.is_empty());
    }

    #[tokio::test]
    async fn work_that_looks_for_itself_ends_by_itself_and_other_work_is_given_up() {
        let register = Register::default();
        let stop = register.enter();
        register.end_all(&Reason::Drained);
        let looks = std::future::poll_fn(|_| match stop.told() {
            Some(reason) => Poll::Ready(reason.clone()),
            None => Poll::Pending,
        });
        assert_eq!(stop.warns(looks).await, Ok(Reason::Drained));
        assert_eq!(stop.warns(pending::<()>()).await, Err(Reason::Drained));
    }
}
