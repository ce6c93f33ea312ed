//! HTTP sessions: TLS from the client with a certificate of the daemon's own, each request read strictly, judged and
//! recorded, then sent on as it came, with the credential of its target; the answer likewise. A refusal is an answer, and
//! the connection stays usable.
//!
//! One request is under way at a time: what a client sends ahead waits in its buffer. Bodies pass through buffers of fixed
//! size, in both directions at once, so that an early answer, `100 Continue` or a client that stops sending reach the
//! other side as they happen.

mod answer;
mod asked;
mod conversation;
mod credential;
mod driver;
mod ends;
mod exchange;
mod front;
mod hosts;
mod judge;
mod passage;
mod passthrough;
mod refusal;
mod shown;
mod target;

use std::sync::Arc;

use crate::{credential::Provider, policy::Policies, session::driver::Shared, tls::terminate::Terminator};

pub use asked::{Asked, Unasked};
pub use credential::Credential;
pub use hosts::{Hosts, Place};
pub use target::{HttpTarget, TowardsClients};

/// What all HTTP sessions share.
pub struct Http {
    shared: Shared,
    policies: Arc<Policies>,
    credentials: Arc<Provider>,
    terminator: Arc<Terminator>,
}

impl Http {
    /// The driver, over what all drivers share.
    pub fn new(
        shared: &Shared,
        policies: Arc<Policies>,
        credentials: Arc<Provider>,
        terminator: Arc<Terminator>,
    ) -> Self {
        Self { shared: shared.clone(), policies, credentials, terminator }
    }
}
