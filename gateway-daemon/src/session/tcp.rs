//! One session with a target that nobody looks into: policy has said who may connect, and the bytes pass as they come.
//! TLS is the two ends' own, and so are credentials.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{net::TcpStream, time::timeout};

use crate::{
    audit::AuditLog,
    domain::{
        action::TargetFacts,
        event::{EventKind, Outcome},
        ids::PolicyId,
        principal::Principal,
        way::{UpstreamFrom, Way},
    },
    identity::Identity,
    intercept::Intercept,
    session::{
        about::About,
        limits::Limits,
        passing::{Taps, relay, reset},
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
    /// For connections from the agent's own network namespace.
    pub intercept: Intercept,
    /// Renews identities.
    pub identity: Arc<Identity>,
    /// The durable record.
    pub audit: AuditLog,
    /// How long a session may take.
    pub limits: Limits,
}

impl Tcp {
    /// Serves one connection that policy has permitted, to its end. What cannot be recorded is not connected. An
    /// identity that expires and cannot be renewed ends the session. Cancel-safe: dropping the future closes both sides.
    pub async fn serve(
        &self,
        about: &About,
        principal: &Principal,
        route: Route,
        policies: Vec<PolicyId>,
        client: TcpStream,
    ) {
        let mut event = about.event(EventKind::Connect, Outcome::Allowed);
        event.policies = policies;
        "passed on without being looked into".clone_into(&mut event.reason);
        if let Err(error) = self.audit.append(vec![event]).await {
            tracing::error!(%error, session = %about.session, "a connection could not be recorded, so it is reset");
            return reset(&client);
        }
        let reason = match self.connect(route).await {
            Ok(upstream) => tokio::select! {
                ended = relay(client, upstream, self.limits.idle, Taps::default()) => ended.to_string(),
                reason = self.expiry(about, principal) => reason,
            },
            Err(error) => {
                reset(&client);
                format!("the target cannot be reached: {error}")
            }
        };
        let mut event = about.event(EventKind::Close, Outcome::Noted);
        event.reason = reason;
        if let Err(error) = self.audit.note(event) {
            tracing::error!(%error, session = %about.session, "the end of a session could not be recorded");
        }
    }

    /// Connects as the agent would have.
    ///
    /// # Errors
    /// Those of connect(2), and a target that does not answer in the time that a login may take.
    pub async fn connect(&self, route: Route) -> io::Result<TcpStream> {
        timeout(self.limits.startup, self.intercept.connect_upstream(route.netns, route.address))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Waits until the identity has expired and could not be renewed, and says so.
    async fn expiry(&self, about: &About, principal: &Principal) -> String {
        let mut expires_at = principal.expires_at;
        loop {
            let left = expires_at.duration_since(SystemTime::now()).unwrap_or_default();
            // Clocks are set and machines sleep: none of these waits is believed for long.
            tokio::time::sleep(left.clamp(Duration::from_millis(100), Duration::from_mins(1))).await;
            if expires_at > SystemTime::now() {
                continue;
            }
            match self.identity.renew(&about.flow).await {
                Ok(renewed) if renewed.id() == principal.id() => expires_at = renewed.expires_at,
                Ok(renewed) => {
                    return format!("the token of {principal} has expired; the workload is now {renewed}");
                }
                Err(error) => return error.to_string(),
            }
        }
    }
}
