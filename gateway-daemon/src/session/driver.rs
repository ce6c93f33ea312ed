//! What the house asks of a protocol's driver, and what it hands over. A flow has been attributed, its mode enforces or does
//! not, its target is known: from there on a driver serves it, refuses it in its protocol's own words, or follows a
//! session that is passed on untouched.

use std::sync::Arc;

use tokio::net::TcpStream;

use super::{about::About, ledger::Ledger, limits::Limits, passing::Tapped, route::Route, stop::Stop};
use crate::{
    detect::Detected,
    domain::{
        decision::{Denial, RecordLimits},
        flow::Workload,
        ids::PolicyId,
        mode::Mode,
        principal::Principal,
    },
    identity::Identity,
    intercept::Intercept,
    recording::Recorder,
};

/// What every driver has a handle on.
#[derive(Clone)]
pub struct Shared {
    /// For connections from the agent's own network namespace.
    pub intercept: Intercept,
    /// Renews identities.
    pub identity: Arc<Identity>,
    /// The durable record.
    pub ledger: Ledger,
    /// Records what sessions see, where the configuration wants it.
    pub recorder: Option<Recorder>,
    /// How long a session may take.
    pub limits: Limits,
}

/// Who says something first on a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// The client, in plain text or under TLS: its first bytes must be those of the target's protocol, and come in time.
    Client,
    /// The server may, so that a silent client means nothing: nobody waits for it.
    Server,
}

/// A captured connection, as a driver gets it.
pub struct Client {
    /// The session's constants.
    pub about: About,
    /// Whose it is.
    pub workload: Workload,
    /// What trusted servers called the address when the agent asked.
    pub asked: Vec<Arc<str>>,
    /// The connection; nothing has been read of it.
    pub stream: TcpStream,
    /// Says when the session must end, and why. Every driver listens to it for as long as the session lives.
    pub stop: Stop,
}

impl Client {
    /// The way to the target: as the agent itself would have gone.
    pub fn route(&self) -> Route {
        Route::of(&self.about.flow)
    }
}

/// That a flow may talk to its target.
#[derive(Debug)]
pub struct Permit {
    /// Who calls.
    pub principal: Arc<Principal>,
    /// The policies that permitted.
    pub policies: Vec<PolicyId>,
    /// What they say of recording.
    pub record: RecordLimits,
}

/// A session that is passed on untouched, in a mode that does not enforce.
pub struct Followed {
    /// The session's constants.
    pub about: About,
    /// What its refusals amount to.
    pub mode: Mode,
    /// Who calls.
    pub principal: Arc<Principal>,
    /// Whose the session is.
    pub workload: Workload,
    /// What the client sends.
    pub tapped: Tapped,
    /// What the target sends, where somebody wants to know.
    pub replies: Option<Tapped>,
}

/// What a protocol's driver does. Nothing of it returns before the connection has ended; dropping a future closes both
/// sides.
pub trait Driver {
    /// What the driver must know of a target.
    type Target;

    /// Who speaks first.
    fn opening(&self) -> Opening;

    /// Whether a connection that begins with these bytes can be one to that target.
    ///
    /// # Errors
    /// It cannot; the client is not told, since nobody knows in which words.
    fn takes(&self, target: &Self::Target, first: Detected) -> Result<(), Denial>;

    /// Serves a connection to a target. That it may be is recorded first, and its end is. When `client.stop` is told, the
    /// session ends within a second, with the reason in the protocol's own words.
    fn serve(
        &self,
        client: Client,
        target: Arc<Self::Target>,
        permit: Permit,
    ) -> impl Future<Output = ()> + Send;

    /// Refuses a connection, which is recorded first. `None` is for a client that speaks the protocol and means no target.
    fn refuse(
        &self,
        client: Client,
        target: Option<Arc<Self::Target>>,
        denial: Denial,
    ) -> impl Future<Output = ()> + Send;

    /// Follows a session, and records what enforcing would have done.
    fn follow(&self, session: Followed, target: Arc<Self::Target>) -> impl Future<Output = ()> + Send;
}
