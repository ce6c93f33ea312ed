//! HTTP as the house sees it: the client speaks first, a refusal is an answer to each request, and a session that is passed
//! on is not looked into.

use std::sync::Arc;

use tokio::time::timeout;

use super::{
    Http, HttpTarget, TowardsClients,
    conversation::{Admission, Conversation},
    ends::End,
    front::{self, Secured},
    judge::Connection,
};
use crate::{
    detect::Detected,
    domain::{
        decision::Denial,
        event::{EventKind, Outcome},
        ids::PolicyId,
    },
    protocol::http::Limits,
    session::{
        driver::{Client, Driver, Followed, Opening, Permit},
        ending::reset,
        transport::Transport,
    },
};

impl Driver for Http {
    type Target = HttpTarget;

    fn opening(&self) -> Opening {
        Opening::Client
    }

    fn takes(&self, target: &HttpTarget, first: Detected) -> Result<(), Denial> {
        match (first, target.clients) {
            (Detected::Tls, TowardsClients::Tls | TowardsClients::TheirOwn) | (Detected::Http, _) => Ok(()),
            (Detected::Tls, TowardsClients::Plaintext) => Err(Denial::builtin(
                format!("target {} takes no TLS from clients", target.facts.name),
                "Ask for http://, or ask the operator for `tls: { client: terminate }`.",
                "protocol",
            )),
            _ => Err(Denial::builtin(
                format!("target {} speaks HTTP/1.1, and this connection does not", target.facts.name),
                "Use an HTTP client.",
                "protocol",
            )),
        }
    }

    async fn serve(&self, client: Client, target: Arc<HttpTarget>, permit: Permit) {
        let Permit { principal, policies, .. } = permit;
        let mut first = [0];
        let tls = matches!(client.stream.peek(&mut first).await, Ok(1)) && first == [TLS_HANDSHAKE];
        if !tls && target.clients != TowardsClients::Plaintext {
            let denial = Denial::builtin(
                format!("target {} is reached by https:// alone", target.facts.name),
                "Ask for https://.",
                "protocol",
            );
            return self.attend(client, Admission::Refused(denial), Vec::new()).await;
        }
        if target.clients == TowardsClients::TheirOwn {
            return self.pass_through(client, target, policies).await;
        }
        self.attend(client, Admission::Admitted(target, principal), policies).await;
    }

    async fn refuse(&self, client: Client, target: Option<Arc<HttpTarget>>, denial: Denial) {
        if target.is_some_and(|target| target.clients == TowardsClients::TheirOwn) {
            // Nobody there trusts what the daemon could say.
            if let Err(error) = self.shared.ledger.refused(&client.about, &denial).await {
                tracing::error!(%error, "a refusal could not be recorded");
            }
            return reset(&client.stream);
        }
        self.attend(client, Admission::Refused(denial), Vec::new()).await;
    }

    /// Its TLS is the two ends' own.
    async fn follow(&self, _: Followed, _: Arc<HttpTarget>) {}
}

/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 22;

impl Http {
    /// Serves one connection to its end. Whether it may be is on disk first, and its end is recorded.
    async fn attend(&self, client: Client, admission: Admission, policies: Vec<PolicyId>) {
        let route = client.route();
        let Client { about, workload, asked, stream, stop } = client;
        let address = route.address.ip();
        let ledger = &self.shared.ledger;
        let recorded = match &admission {
            Admission::Refused(denial) => ledger.refused(&about, denial).await,
            Admission::Admitted(..) => {
                let mut event = about.event(EventKind::Connect, Outcome::Allowed);
                event.policies = policies;
                ledger.write(event).await
            }
        };
        if let Err(error) = recorded {
            tracing::error!(%error, session = %about.session, "a connection could not be recorded, so it is reset");
            return reset(&stream);
        }
        let mut first = [0];
        let secure = matches!(stream.peek(&mut first).await, Ok(1)) && first == [TLS_HANDSHAKE];
        let Secured { transport, asked_for } = if secure {
            let handshake = front::shake_hands(&self.terminator, stream, address, &asked);
            match stop.cuts(timeout(self.shared.limits.startup, handshake)).await {
                Ok(Ok(Ok(secured))) => secured,
                Ok(Ok(Err(error))) => {
                    let reason = format!("the TLS handshake with the client failed: {error}");
                    return ledger.closed(&about, None, reason, None);
                }
                Ok(Err(_)) => {
                    let reason = "the TLS handshake took longer than limits.startup_timeout".to_owned();
                    return ledger.closed(&about, None, reason, None);
                }
                Err(told) => return ledger.closed(&about, None, told.to_string(), Some(&told)),
            }
        } else {
            Secured { transport: Transport::Plain(stream), asked_for: None }
        };
        let conversation = Conversation {
            room: self,
            about: &about,
            workload: &workload,
            admission,
            connection: Connection {
                address,
                port: route.address.port(),
                asked: &asked,
                secure,
                asked_for: asked_for.as_ref(),
            },
            route,
            client: End::new(transport),
            upstream: None,
            limits: Limits::default(),
            stop: &stop,
        };
        match stop.warns(conversation.hold()).await {
            Ok(ending) => {
                tracing::debug!(session = %about.session, %ending, "session ended");
                ledger.closed(&about, None, ending.to_string(), ending.told());
            }
            Err(told) => ledger.closed(&about, None, told.to_string(), Some(&told)),
        }
    }
}
