//! What the server still owes: one entry for each message that was forwarded and will be answered, in order.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use super::{
    judge::Verdict,
    names::{Batch, Learnt},
    recorded::Recorded,
    relay::Prepared,
    row_limit::Limited,
};
use crate::domain::decision::Denial;

/// A judged request on its way.
#[derive(Debug)]
pub(super) struct Request {
    /// How it was judged.
    pub verdict: Arc<Verdict>,
    /// Set when it was refused: the server got a statement that fails instead.
    pub refusal: Option<Arc<Denial>>,
    /// When it was forwarded.
    pub started: Instant,
    /// Rows returned or affected so far.
    pub rows: u64,
    /// How many of its statements have ended.
    pub ended: usize,
    /// Whether the client knows already which columns of the statement are concealed.
    pub told: Told,
    /// What the recording must know of it, until its reply is recorded.
    pub(super) recorded: Option<Recorded>,
    /// The statement's name that this request gives a meaning by SQL's PREPARE.
    pub prepares: Option<(Vec<u8>, Learnt)>,
    /// Set while its rows are counted.
    pub limit: Option<Box<Limited>>,
}

/// Whether a client has been told of concealed columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It is told as soon as a value is concealed.
    NotYet,
    /// It has been, or does not want to be.
    Already,
}

/// An answer that is owed.
#[derive(Debug)]
pub(super) enum Expected {
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
    /// An error: the server's own word on a text that nodegate cannot read. ParseComplete, if the server can; what comes
    /// behind it then fails.
    Syntax {
        /// What is said where it is no syntax error to the server.
        refusal: Arc<Denial>,
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
    /// RowDescription or NoData for the client. The statement is known where the session is recorded.
    Describe(Option<Arc<Prepared>>),
    /// RowDescription or NoData for the daemon, ahead of an Execute whose rows must be traced.
    DescribeOurs(Arc<Verdict>),
    /// CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute(Box<Request>),
    /// CloseComplete for a statement.
    CloseStatement(Vec<u8>),
    /// CloseComplete for a portal.
    ClosePortal(Vec<u8>),
    /// An error that undoes what was too much, and of which the client hears nothing.
    Undoing,
    /// ReadyForQuery.
    Sync(Batch),
}

impl Expected {
    /// How the request behind the answer was judged, for what may be said of it.
    pub fn verdict(&self) -> Option<&Arc<Verdict>> {
        match self {
            Self::Simple(request, _) | Self::Execute(request) => Some(&request.verdict),
            Self::Parse { verdict, .. } | Self::Syntax { verdict, .. } | Self::DescribeOurs(verdict) => {
                Some(verdict)
            }
            Self::Bind { verdict, .. } => verdict.as_ref(),
            Self::Describe(_)
            | Self::CloseStatement(_)
            | Self::ClosePortal(_)
            | Self::Undoing
            | Self::Sync(_) => None,
        }
    }

    /// How the request's rows are counted, if they are.
    pub fn limited(&self) -> Option<&Limited> {
        match self {
            Self::Simple(request, _) | Self::Execute(request) => request.limit.as_deref(),
            _ => None,
        }
    }

    /// The same, to go on with it.
    pub fn limited_mut(&mut self) -> Option<&mut Limited> {
        match self {
            Self::Simple(request, _) | Self::Execute(request) => request.limit.as_deref_mut(),
            _ => None,
        }
    }

    /// The refusal that takes the place of the server's error.
    pub fn refusal(&self) -> Option<&Arc<Denial>> {
        match self {
            Self::Simple(request, _) | Self::Execute(request) => request.refusal.as_ref(),
            Self::Parse { refusal, .. } => refusal.as_ref(),
            Self::Syntax { refusal, .. } => Some(refusal),
            _ => None,
        }
    }
}

/// Drops what the server skips after an error in the extended protocol: everything up to the next Sync, which stays.
/// Returns what the recording knows of the requests among that.
pub(super) fn skip_to_sync(queue: &mut VecDeque<Expected>) -> Vec<Recorded> {
    let mut skipped = Vec::new();
    while let Some(expected) = queue.pop_front_if(|expected| !matches!(expected, Expected::Sync(_))) {
        if let Expected::Execute(request) = expected {
            skipped.extend(request.recorded);
        }
    }
    skipped
}
