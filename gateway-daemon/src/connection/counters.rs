//! What has happened so far, and which sessions are open now.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError, atomic::AtomicU64},
};

use crate::domain::ids::{CgroupId, TargetName};

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

/// Counts an open session for as long as it lives.
pub(super) struct Open<'a> {
    sessions: &'a Sessions,
    key: (CgroupId, Option<TargetName>),
}

impl<'a> Open<'a> {
    pub(super) fn new(sessions: &'a Sessions, workload: CgroupId, target: Option<TargetName>) -> Self {
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
