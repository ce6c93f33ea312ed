//! What happens behind the log, off the durable path: `head.json`, the search index, retention.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    index::Index,
    layout::{Layout, Marker, write_marker},
    priority::set_niceness,
    queue::Shared,
    retention,
};

/// Records are gathered so long before they are indexed. Searches read what is not indexed from the log.
const GATHER: Duration = Duration::from_millis(100);
/// Indexing rests this many times as long as it worked: it may not take more than a tenth of a processor from the
/// requests that it is behind of.
const REST: u32 = 9;
/// One stretch of work, about; a transaction is not cut short.
const STRETCH: Duration = Duration::from_millis(50);
/// `head.json` is at most about this old.
const HEAD_PERIOD: Duration = Duration::from_secs(1);
/// How often old segments are looked for, besides after each rotation.
const RETENTION_PERIOD: Duration = Duration::from_hours(1);
/// How many records are still indexed when the log closes; the rest waits for the next opening.
const LAST_RECORDS: u64 = 20_000;

/// The thread's state.
pub(super) struct Upkeep {
    layout: Layout,
    retention: Duration,
    head: Marker,
}

impl Upkeep {
    /// `durable` is the newest record at opening.
    pub(super) fn new(layout: Layout, retention: Duration, durable: Marker) -> Self {
        Self { layout, retention, head: durable }
    }

    /// Runs until the writer has ended.
    pub(super) fn run(mut self, shared: &Arc<Shared>) {
        // Indexing takes far more CPU time than logging: it gets what the requests leave.
        set_niceness(15);
        let mut index = IndexState::Untried;
        let mut seen = 0;
        let mut rotations = 0;
        let mut head_due = Instant::now();
        let mut retention_due = Instant::now();
        let mut rest_until = Instant::now();
        loop {
            let wake_at = if seen > self.head.seq { head_due } else { retention_due };
            let mut progress = shared.await_progress(seen, wake_at);
            if progress.is_running && progress.durable.seq > seen {
                progress = shared.await_end(GATHER);
            }
            seen = progress.durable.seq;
            if !progress.is_running {
                if index.behind(seen) <= LAST_RECORDS {
                    index.catch_up(&self.layout, progress.durable, || false);
                }
                self.write_head(progress.durable);
                return;
            }
            let now = Instant::now();
            if now >= head_due {
                self.write_head(progress.durable);
                head_due = now + HEAD_PERIOD;
            }
            if now >= retention_due || progress.rotations != rotations {
                rotations = progress.rotations;
                retention_due = now + RETENTION_PERIOD;
                self.apply_retention(shared, &mut index);
            }
            if now >= rest_until {
                let started = Instant::now();
                index.catch_up(&self.layout, progress.durable, || {
                    started.elapsed() >= STRETCH || !shared.is_running()
                });
                rest_until = Instant::now() + started.elapsed() * REST;
            }
            if index.behind(seen) > 0 {
                // More is waiting than was indexed: look again soon.
                seen = index.indexed();
            }
        }
    }

    fn write_head(&mut self, durable: Marker) {
        if durable == self.head {
            return;
        }
        match write_marker(&self.layout.head(), durable) {
            Ok(()) => self.head = durable,
            Err(error) => tracing::warn!(%error, "the audit log's head file was not written"),
        }
    }

    fn apply_retention(&self, shared: &Arc<Shared>, index: &mut IndexState) {
        match retention::apply(&self.layout, self.retention, shared) {
            Ok(None) => {}
            Ok(Some(removed)) => {
                tracing::info!(up_to = removed.seq, "audit records past their retention were removed");
                index.forget(removed.seq);
            }
            Err(error) => tracing::warn!(%error, "audit records past their retention were not removed"),
        }
    }
}

/// The index, as far as it works. Without one, searches read the log itself.
enum IndexState {
    Untried,
    Working(Box<Index>),
    Failed,
}

impl IndexState {
    fn catch_up(&mut self, layout: &Layout, durable: Marker, is_enough: impl Fn() -> bool) {
        if matches!(self, Self::Untried) {
            *self = Self::of(Index::open(layout));
        }
        let Self::Working(index) = self else { return };
        let Err(error) = index.catch_up(durable.seq, &is_enough) else { return };
        tracing::warn!(%error, "the audit index failed and is made anew");
        *self = Self::of(Index::begin(layout));
        if let Self::Working(index) = self
            && let Err(error) = index.catch_up(durable.seq, &is_enough)
        {
            tracing::error!(%error, "the audit index failed again: searches read the log without it");
            *self = Self::Failed;
        }
    }

    fn of(opened: Result<Index, super::AuditError>) -> Self {
        match opened {
            Ok(index) => Self::Working(Box::new(index)),
            Err(error) => {
                tracing::error!(%error, "no audit index: searches read the log without it");
                Self::Failed
            }
        }
    }

    fn forget(&mut self, up_to: u64) {
        if let Self::Working(index) = self
            && let Err(error) = index.forget(up_to)
        {
            tracing::warn!(%error, "removed records stay in the audit index");
        }
    }

    fn indexed(&self) -> u64 {
        match self {
            Self::Working(index) => index.indexed(),
            Self::Untried => 0,
            Self::Failed => u64::MAX,
        }
    }

    fn behind(&self, seq: u64) -> u64 {
        seq.saturating_sub(self.indexed())
    }
}
