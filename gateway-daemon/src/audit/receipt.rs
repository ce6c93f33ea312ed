//! Waiting for the disk without a message for each: entries are numbered as they are queued, the writer says up to
//! which number they are on disk, and whoever holds a [`Receipt`] compares. Only one that must really wait is woken.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use super::{error::AuditError, queue::Shared};

/// Up to which entry everything is on disk, and who waits for more.
#[derive(Default)]
pub(super) struct Written {
    up_to: AtomicU64,
    waiting: Mutex<BTreeMap<u64, Waker>>,
}

impl Written {
    /// Whether the entry of that number is on disk.
    pub(super) fn reaches(&self, number: u64) -> bool {
        self.up_to.load(Ordering::Acquire) >= number
    }

    /// Everything up to that entry is on disk.
    pub(super) fn advance(&self, number: u64) {
        self.up_to.fetch_max(number, Ordering::Release);
        let mut waiting = self.waiting();
        let still = waiting.split_off(&number.saturating_add(1));
        let served = std::mem::replace(&mut *waiting, still);
        drop(waiting);
        served.into_values().for_each(Waker::wake);
    }

    /// Nothing more will be: those who wait look for the reason.
    pub(super) fn give_up(&self) {
        let waiting = std::mem::take(&mut *self.waiting());
        waiting.into_values().for_each(Waker::wake);
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For events on their way to the disk. Dropping it changes nothing about them.
pub struct Receipt {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u64,
}

impl Receipt {
    /// Whether the events are on disk, as far as one look tells.
    pub fn is_durable(&self) -> bool {
        self.shared.written.reaches(self.number)
    }

    /// Sees to it that the events come to the disk soon. May block for as long as that takes, where it usually takes
    /// less than a millisecond and hardly anybody else writes.
    pub fn press(&self) {
        if !self.is_durable() {
            self.shared.press();
        }
    }

    /// Ready once the events are on disk, or will never be: then with why.
    pub fn poll_durable(&self, cx: &mut Context<'_>) -> Poll<Result<(), AuditError>> {
        let written = &self.shared.written;
        if written.reaches(self.number) {
            return Poll::Ready(Ok(()));
        }
        written.waiting().insert(self.number, cx.waker().clone());
        // Looked at again behind the registration: what happened before it woke nobody.
        if written.reaches(self.number) {
            return Poll::Ready(Ok(()));
        }
        match self.shared.failure() {
            // A log that is closing still writes what was queued before.
            Some(failure) if !matches!(failure, AuditError::Closed) || !self.shared.is_running() => {
                Poll::Ready(if written.reaches(self.number) { Ok(()) } else { Err(failure) })
            }
            _ => Poll::Pending,
        }
    }

    /// Waits until the events are on disk.
    ///
    /// # Errors
    /// Why they will never be.
    pub async fn wait(&self) -> Result<(), AuditError> {
        poll_fn(|cx| self.poll_durable(cx)).await
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.is_durable() {
            self.shared.written.waiting().remove(&self.number);
        }
    }
}
