//! What the server still owes: one entry for each message that was forwarded and will be answered, in order.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use super::{
    judge::Verdict,
    names::{Batch, Learnt},
};
use crate::domain::decision::Denial;

/// A judged request on its way.
#[derive(Debug)]
pub struct Request {
    /// How it was judged.
    pub verdict: Arc<Verdict>,
    /// Set when it was refused: the server got a statement that fails instead.
    pub refusal: Option<Arc<Denial>>,
    /// When it was forwarded.
    pub started: Instant,
    /// Rows returned or affected so far.
    pub rows: u64,
    /// The statement's name that this request gives a meaning by SQL's PREPARE.
    pub prepares: Option<(Vec<u8>, Learnt)>,
}

/// An answer that is owed.
#[derive(Debug)]
pub enum Expected {
    /// A simple query: anything up to ReadyForQuery.
    Simple(Box<Request>, Batch),
    /// ParseComplete.
    Parse {
        /// The statement's name.
        name: Vec<u8>,
        /// Which learning of it this confirms; `None` for a refused one.
        learnt: Option<Learnt>,
        /// Why it was refused.
        refusal: Option<Arc<Denial>>,
        /// How it was judged.
        verdict: Arc<Verdict>,
    },
    /// BindComplete.
    Bind {
        /// The portal's name.
        name: Vec<u8>,
        /// Which learning of it this confirms.
        learnt: Learnt,
        /// How its statement was judged.
        verdict: Option<Arc<Verdict>>,
    },
    /// RowDescription or NoData for the client.
    Describe,
    /// RowDescription or NoData for the daemon, ahead of an Execute whose rows must be traced.
    DescribeOurs(Arc<Verdict>),
    /// CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute(Box<Request>),
    /// CloseComplete for a statement.
    CloseStatement(Vec<u8>),
    /// CloseComplete for a portal.
    ClosePortal(Vec<u8>),
    /// ReadyForQuery.
    Sync(Batch),
}

impl Expected {
    /// How the request behind the answer was judged, for what may be said of it.
    pub fn verdict(&self) -> Option<&Arc<Verdict>> {
        match self {
            Self::Simple(request, _) | Self::Execute(request) => Some(&request.verdict),
            Self::Parse { verdict, .. } | Self::DescribeOurs(verdict) => Some(verdict),
            Self::Bind { verdict, .. } => verdict.as_ref(),
            Self::Describe | Self::CloseStatement(_) | Self::ClosePortal(_) | Self::Sync(_) => None,
        }
    }

    /// The refusal that takes the place of the server's error.
    pub fn refusal(&self) -> Option<&Arc<Denial>> {
        match self {
            Self::Simple(request, _) | Self::Execute(request) => request.refusal.as_ref(),
            Self::Parse { refusal, .. } => refusal.as_ref(),
            _ => None,
        }
    }
}

/// Drops what the server skips after an error in the extended protocol: everything up to the next Sync, which stays.
pub fn skip_to_sync(queue: &mut VecDeque<Expected>) {
    while queue.front().is_some_and(|expected| !matches!(expected, Expected::Sync(_))) {
        queue.pop_front();
    }
}
