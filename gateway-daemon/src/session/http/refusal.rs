//! What is said instead of the server's answer: which status, and why.
//!
//! A refusal by policy is 403, never a status that makes clients ask for a password (401, 407), wait and repeat (429,
//! 5xx), or take the resource for gone. 400 and 431 are for what cannot be read, 421 for a name that is not this
//! connection's, 502 for a server that cannot be reached or understood.

use crate::{
    domain::decision::Denial,
    protocol::http::{Malformed, PathError},
};

/// An answer of the daemon's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: Status,
    pub(super) denial: Denial,
}

/// The statuses that the daemon answers with by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    BadRequest,
    Forbidden,
    RequestTimeout,
    MisdirectedRequest,
    HeadTooLarge,
    Unrecorded,
    BadGateway,
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    GoOn,
    Close,
}

impl Status {
    pub(super) const fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Forbidden => 403,
            Self::RequestTimeout => 408,
            Self::MisdirectedRequest => 421,
            Self::HeadTooLarge => 431,
            Self::Unrecorded => 500,
            Self::BadGateway => 502,
        }
    }

    /// What the phrase begins with.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::BadRequest | Self::HeadTooLarge => "Not understood by nodegate",
            Self::Forbidden | Self::MisdirectedRequest => "Refused by nodegate",
            Self::RequestTimeout => "Request timed out at nodegate",
            Self::Unrecorded => "Not recorded by nodegate",
            Self::BadGateway => "Bad gateway: nodegate cannot reach the server",
        }
    }

    /// Behind what was not read, nobody knows where the next request begins.
    pub(super) const fn after(self) -> After {
        match self {
            Self::BadRequest | Self::RequestTimeout | Self::HeadTooLarge | Self::Unrecorded => After::Close,
            Self::Forbidden | Self::MisdirectedRequest | Self::BadGateway => After::GoOn,
        }
    }
}

impl Refusal {
    /// By a policy, or a rule that no policy can lift.
    pub(super) const fn forbidden(denial: Denial) -> Self {
        Self { status: Status::Forbidden, denial }
    }

    /// A request that has not one reading.
    pub(super) fn malformed(why: &Malformed) -> Self {
        let status = match why {
            Malformed::TooLong { what: "the head", .. } | Malformed::TooManyFields(_) => Status::HeadTooLarge,
            _ => Status::BadRequest,
        };
        let hint =
            "Nothing was sent to the server. Send a request that every reader understands in the same way.";
        Self { status, denial: Denial::builtin(why.to_string(), hint, "http-malformed") }
    }

    /// A path that cannot be judged.
    pub(super) fn path(why: PathError) -> Self {
        let hint = "Ask for the path in its plain form.";
        Self { status: Status::BadRequest, denial: Denial::builtin(why.to_string(), hint, "http-path") }
    }

    /// A host that this connection does not lead to.
    pub(super) fn misdirected(reason: String) -> Self {
        let hint = "Connect to the host that the request is for.";
        Self { status: Status::MisdirectedRequest, denial: Denial::builtin(reason, hint, "http-host") }
    }

    /// A head that does not come to its end.
    pub(super) fn slow() -> Self {
        let reason = "the request's head did not come within limits.startup_timeout";
        Self {
            status: Status::RequestTimeout,
            denial: Denial::builtin(reason, "Send it again.", "http-slow"),
        }
    }

    /// What cannot be recorded is not done.
    pub(super) fn unrecorded() -> Self {
        let reason = "the request cannot be recorded, so it was not sent";
        let denial = Denial::builtin(reason, "Tell your operator.", "audit");
        Self { status: Status::Unrecorded, denial }
    }

    /// The server's fault, or the way's.
    pub(super) fn gateway(reason: String) -> Self {
        let hint = "The request was permitted. Try again later, or tell the operator of the server.";
        Self { status: Status::BadGateway, denial: Denial::builtin(reason, hint, "http-upstream") }
    }
}
