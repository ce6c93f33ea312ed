//! Why a session ends, and what each side of the house is told of it.

use std::io;

use super::target::LoginError;
use crate::{
    audit::AuditError,
    domain::decision::Denial,
    protocol::wire::WireError,
    recording::RecordingError,
    session::{dial::DialError, stop::Reason, transport::End},
};

/// SQLSTATE admin_shutdown.
pub const STOPPED: &str = "57P01";

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
pub enum Ending {
    /// The client said good-bye or hung up.
    #[error("the client closed the connection")]
    ClientClosed,
    /// The target hung up.
    #[error("the target closed the connection")]
    UpstreamClosed,
    /// A socket failed.
    #[error("{}: {source}", match end { End::Client => "client", End::Upstream => "target" })]
    Io {
        /// Which socket.
        end: End,
        /// How.
        source: io::Error,
    },
    /// The client does not keep to the protocol.
    #[error("the client broke the protocol: {0}")]
    ClientProtocol(String),
    /// A statement, or another message that must be looked at whole, of so many bytes.
    #[error("a message of {bytes} bytes: no more than {limit} bytes are judged at once")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A row with masked columns that is too large to be masked.
    #[error("a row of {bytes} bytes with masked columns: no more than {limit} bytes are masked at once")]
    RowTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The target stalled in the middle of a message.
    #[error("the target stalled in the middle of a message")]
    UpstreamStalled,
    /// TLS with the client could not begin.
    #[error("the TLS handshake with the client failed: {0}")]
    ClientTls(String),
    /// The client stalled in the middle of a message.
    #[error("the client stalled in the middle of a message")]
    ClientStalled,
    /// The client asked for nothing for as long as the configuration allows.
    #[error("the session was idle for longer than limits.idle_timeout")]
    Idle,
    /// The server does not keep to the protocol, or sent what cannot be judged.
    #[error("the target broke the protocol: {0}")]
    UpstreamProtocol(String),
    /// The session may not go on: the identity has expired, or the like.
    #[error("{}", .0.reason)]
    Refused(Denial),
    /// Somebody said that the session must end.
    #[error("{0}")]
    Stopped(Reason),
    /// What must be recorded cannot be.
    #[error("the audit log cannot be written: {0}")]
    Audit(#[from] AuditError),
    /// What must be recorded of the session cannot be.
    #[error("the session cannot be recorded: {0}")]
    Recording(RecordingError),
    /// No session with the target.
    #[error("no session with the target: {0}")]
    Login(LoginError),
    /// The server does not take what the client's startup message sets.
    #[error("the target refuses what the startup message sets: {message}")]
    Parameter {
        /// The server's.
        sqlstate: &'static str,
        /// The server's words.
        message: String,
    },
    /// The schema could not be read.
    #[error("the target's schema cannot be read: {0}")]
    Catalogue(LoginError),
    /// A result that is not what its statement was read as.
    #[error(
        "the result's column \"{column}\" cannot be traced to what it shows, and something of it may be masked"
    )]
    Untraced {
        /// Its name.
        column: String,
    },
    /// A row could not be masked.
    #[error("a row could not be masked: {0}")]
    Mask(String),
}

impl Ending {
    /// The last word for the client: SQLSTATE and sentence. `None` where nobody listens, or where the server
    /// has said it already.
    pub fn farewell(&self) -> Option<(&'static str, String)> {
        match self {
            Self::ClientClosed
            | Self::UpstreamClosed
            | Self::ClientTls(_)
            | Self::Io { end: End::Client, .. } => None,
            Self::Io { end: End::Upstream, .. } => {
                Some(("08006", "the connection to the target was lost".to_owned()))
            }
            Self::ClientProtocol(_) | Self::ClientStalled => Some(("08P01", self.to_string())),
            Self::TooLarge { .. } => {
                Some(("54000", format!("{self}; pass large values as parameters, or rows by COPY")))
            }
            Self::RowTooLarge { .. } => Some((
                "54000",
                format!("{self}; leave the masked columns out, or select parts of the large ones"),
            )),
            Self::UpstreamStalled => Some(("08006", self.to_string())),
            Self::Idle => Some(("57P05", self.to_string())),
            Self::UpstreamProtocol(_) => {
                Some(("08P01", "the target sent what nodegate does not understand".to_owned()))
            }
            // Told with its policy and hint by the caller.
            Self::Refused(denial) => Some(("28000", denial.reason.clone())),
            // As a server says that ends its sessions.
            Self::Stopped(reason) => Some((STOPPED, reason.to_string())),
            Self::Audit(_) => Some((
                "58030",
                "the request cannot be recorded, so it is not run; tell your operator".to_owned(),
            )),
            Self::Recording(_) => {
                Some(("58030", "the session cannot be recorded, so it ends; tell your operator".to_owned()))
            }
            // What the client chose itself, or what passes; everything else is the operator's to mend.
            Self::Login(LoginError::Refused { sqlstate, message }) if sqlstate == "3D000" => {
                Some(("3D000", message.clone()))
            }
            Self::Login(LoginError::Refused { sqlstate, message }) if sqlstate == "53300" => {
                Some(("53300", message.clone()))
            }
            Self::Parameter { sqlstate, message } => Some((sqlstate, message.clone())),
            Self::Login(LoginError::Dial(DialError::Connect { .. })) => {
                Some(("08001", "the target cannot be reached".to_owned()))
            }
            Self::Login(_) => Some((
                "08004",
                "nodegate could not log in to the target with its own credential; tell your operator"
                    .to_owned(),
            )),
            Self::Catalogue(_) => Some((
                "58000",
                "the target's schema cannot be read, so nothing can be judged; tell your operator".to_owned(),
            )),
            Self::Untraced { .. } => {
                Some(("42501", format!("{self}: the schema has changed meanwhile; connect again")))
            }
            Self::Mask(_) => Some(("58000", "a value could not be masked; tell your operator".to_owned())),
        }
    }

    /// Why the session had to end, where somebody said so.
    pub const fn told(&self) -> Option<&Reason> {
        match self {
            Self::Stopped(reason) => Some(reason),
            _ => None,
        }
    }

    /// The client's breach of the protocol.
    pub fn client(error: &WireError) -> Self {
        Self::ClientProtocol(error.to_string())
    }

    /// The server's breach of the protocol.
    pub fn upstream(error: &WireError) -> Self {
        Self::UpstreamProtocol(error.to_string())
    }
}
