//! One session with a target that nobody looks into: policy has said who may connect, and the bytes pass as they come.
//! TLS is the two ends' own, and so are credentials.

use std::sync::Arc;

use crate::{
    detect::Detected,
    domain::{
        action::TargetFacts,
        decision::Denial,
        event::{EventKind, Outcome},
        way::{UpstreamFrom, Way},
    },
    session::{
        driver::{Client, Driver, Followed, Opening, Permit, Shared},
        ending::reset,
        route::Route,
        untouched::pass_on,
    },
};

/// A target that nobody looks into.
#[derive(Debug)]
pub struct TcpTarget {
    /// Its name, as policies see it.
    pub facts: TargetFacts,
    /// How its bytes go.
    pub way: Way,
    /// Where connections to it are made.
    pub from: UpstreamFrom,
}

/// What all such sessions share.
pub struct Tcp {
    shared: Shared,
}

impl Tcp {
    /// The driver, over what all drivers share.
    pub const fn new(shared: Shared) -> Self {
        Self { shared }
    }
}

impl Driver for Tcp {
    type Target = TcpTarget;

    fn opening(&self) -> Opening {
        Opening::Server
    }

    fn takes(&self, _: &TcpTarget, _: Detected) -> Result<(), Denial> {
        Ok(())
    }

    /// What cannot be recorded is not connected.
    async fn serve(&self, client: Client, target: Arc<TcpTarget>, permit: Permit) {
        let Route { netns, address } = client.route();
        let route = Route { netns: self.shared.intercept.dialled_from(target.from, netns), address };
        let Client { about, stream, stop, .. } = client;
        let mut event = about.event(EventKind::Connect, Outcome::Allowed);
        event.policies = permit.policies;
        "passed on without being looked into".clone_into(&mut event.reason);
        pass_on(&self.shared, &about, event, route, stream, &stop).await;
    }

    /// A reset: the protocol, if it has one, is not known here.
    async fn refuse(&self, client: Client, _: Option<Arc<TcpTarget>>, denial: Denial) {
        if let Err(error) = self.shared.ledger.refused(&client.about, &denial).await {
            tracing::error!(%error, "a refusal could not be recorded");
        }
        reset(&client.stream);
    }

    /// Nothing in it is judged.
    async fn follow(&self, _: Followed, _: Arc<TcpTarget>) {}
}
