//! TLS that is the two ends' own: the name that it asks for says which target is meant, and the bytes pass as they come.
//!
//! Nobody here verifies the server's certificate, so a name counts only where the operator wrote it down or the workload's
//! own DNS answers gave the address for it.

use std::{sync::Arc, time::Duration};

use rustls::server::Acceptor;
use tokio::{net::TcpStream, time::timeout};

use super::{Http, HttpTarget, hosts::Proof};
use crate::{
    domain::{
        decision::Denial,
        event::{EventKind, Outcome},
        ids::PolicyId,
    },
    protocol::http::Host,
    session::{
        driver::{Client, Shared},
        ending::reset,
        route::Route,
        untouched::pass_on,
    },
};

/// No ClientHello is longer; those with post-quantum shares take up to 2 KiB.
const HELLO_BYTES: usize = 16 * 1024;
/// Peeking does not wait for more than is there.
const MOMENT: Duration = Duration::from_millis(5);

impl Http {
    /// Serves one connection to its end. What may be is on disk before the target is dialled.
    pub(super) async fn pass_through(
        &self,
        client: Client,
        target: Arc<HttpTarget>,
        policies: Vec<PolicyId>,
    ) {
        let Shared { intercept, ledger, limits, .. } = &self.shared;
        let Route { netns, address } = client.route();
        let Client { about, asked, stream, stop, .. } = client;
        let name = match stop.cuts(timeout(limits.startup, asked_for(&stream))).await {
            Ok(name) => name.ok().flatten(),
            Err(reason) => {
                reset(&stream);
                return ledger.closed(&about, None, reason.to_string(), Some(&reason));
            }
        };
        let admitted = match &name {
            Some(Some(name)) => target.hosts.admit(name, address.ip(), &asked, Proof::None),
            // No name: what was dialled is all that is known, and the target has it.
            Some(None) => true,
            None => false,
        };
        if !admitted {
            let shown = name.flatten().map_or("no name that can be read".to_owned(), |name| name.to_string());
            let denial = Denial::builtin(
                format!("TLS asks for {shown}, which is not a host of target {}", target.facts.name),
                "Connect to the host that is meant.",
                "http-host",
            );
            if let Err(error) = ledger.refused(&about, &denial).await {
                tracing::error!(%error, "a refusal could not be recorded");
            }
            return reset(&stream);
        }
        let mut event = about.event(EventKind::Connect, Outcome::Allowed);
        event.policies = policies;
        let shown = name.flatten().map_or_else(|| address.to_string(), |name| name.to_string());
        event.reason = format!("TLS with {shown} passed on without being looked into");
        let route = Route { netns: intercept.dialled_from(target.from, netns), address };
        pass_on(&self.shared, &about, event, route, stream, &stop).await;
    }
}

/// The name in a ClientHello that is looked at and left where it is: `Some(None)` for one without a name, `None` for what
/// is none, or has a name that cannot be read.
async fn asked_for(stream: &TcpStream) -> Option<Option<Host>> {
    let mut bytes = vec![0; HELLO_BYTES];
    let mut before = 0;
    loop {
        let count = stream.peek(&mut bytes).await.ok()?;
        if count == 0 || (count == before && count == HELLO_BYTES) {
            return None;
        }
        if count == before {
            tokio::time::sleep(MOMENT).await;
            continue;
        }
        before = count;
        let mut acceptor = Acceptor::default();
        let mut rest = bytes.get(..count)?;
        while !rest.is_empty() {
            acceptor.read_tls(&mut rest).ok()?;
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    return match hello.server_name() {
                        None => Some(None),
                        Some(name) => Host::read(name.as_bytes()).map(Some),
                    };
                }
                Err(_) => return None,
            }
        }
    }
}
