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
        dial,
        driver::{Client, Driver, Followed, Opening, Permit, Shared},
        ending::reset,
        passing::{Taps, relay},
        route::Route,
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
        let Shared { intercept, ledger, limits, .. } = &self.shared;
        let Route { netns, address } = client.route();
        let route = Route { netns: intercept.dialled_from(target.from, netns), address };
        let Client { about, stream, stop, .. } = client;
        let mut event = about.event(EventKind::Connect, Outcome::Allowed);
        event.policies = permit.policies;
        "passed on without being looked into".clone_into(&mut event.reason);
        if let Err(error) = ledger.write(event).await {
            tracing::error!(%error, session = %about.session, "a connection could not be recorded, so it is reset");
            return reset(&stream);
        }
        let upstream = match stop.cuts(dial::as_the_agent(intercept, *limits, route)).await {
            Ok(Ok(upstream)) => upstream,
            Ok(Err(error)) => {
                reset(&stream);
                return ledger.closed(&about, None, format!("the target cannot be reached: {error}"), None);
            }
            Err(reason) => {
                reset(&stream);
                return ledger.closed(&about, None, reason.to_string(), Some(&reason));
            }
        };
        let ended = relay(stream, upstream, limits.idle, Taps::default(), &stop).await;
        ledger.closed(&about, None, ended.to_string(), ended.told());
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
