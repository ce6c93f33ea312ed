//! Removes recordings that are past their time, and the oldest ones where all together take too much room. Those of
//! open sessions stay.

use std::{
    collections::HashSet,
    fs,
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, SystemTime},
};

use tracing::warn;

use super::{
    layout::{Filed, walk},
    queue::Queue,
};
use crate::domain::ids::SessionId;

/// How often recordings are looked through.
const INTERVAL: Duration = Duration::from_mins(10);

/// How long, and how much.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) age: Duration,
    pub(super) total_bytes: u64,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Recordings past their time.
    pub old: u64,
    /// Recordings for which there was no room.
    pub surplus: u64,
    /// Bytes of both.
    pub bytes: u64,
}

/// Removes what is due, now and at intervals, until `ended` says so.
pub(super) fn keep(
    dir: &Path,
    limits: Limits,
    queue: &Queue,
    ended: &Receiver<()>,
    on_removed: &dyn Fn(Removed),
) {
    loop {
        let removed = apply(dir, limits, &queue.open().clone(), SystemTime::now());
        if removed != Removed::default() {
            on_removed(removed);
        }
        match ended.recv_timeout(INTERVAL) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

pub(super) fn apply(dir: &Path, limits: Limits, open: &HashSet<SessionId>, now: SystemTime) -> Removed {
    let mut all = match walk(dir, 0, u64::MAX) {
        Ok(all) => all,
        Err(error) => {
            warn!(%error, "recordings cannot be looked through, so none is removed");
            return Removed::default();
        }
    };
    all.sort_by_key(|filed| filed.written);
    let mut total: u64 = all.iter().map(|filed| filed.bytes).sum();
    let mut removed = Removed::default();
    for filed in all {
        let is_old = now.duration_since(filed.written).is_ok_and(|age| age > limits.age);
        let is_surplus = total > limits.total_bytes;
        if !(is_old || is_surplus) {
            break;
        }
        if open.contains(&SessionId::from(filed.session.as_str())) || !remove(dir, &filed) {
            continue;
        }
        total = total.saturating_sub(filed.bytes);
        removed.bytes += filed.bytes;
        if is_old {
            removed.old += 1;
        } else {
            removed.surplus += 1;
        }
    }
    removed
}

fn remove(dir: &Path, filed: &Filed) -> bool {
    if let Err(error) = fs::remove_file(&filed.path) {
        warn!(path = %filed.path.display(), %error, "an old recording cannot be removed");
        return false;
    }
    // Directories that this was the last file of.
    let parents = filed.path.ancestors().skip(1).take_while(|parent| *parent != dir);
    for parent in parents {
        if fs::remove_dir(parent).is_err() {
            break;
        }
    }
    true
}
