//! A permitted connection whose bytes pass as they come: on record before the target is dialled, and closed with a record,
//! however it ends.

use tokio::net::TcpStream;

use super::{
    about::About,
    dial,
    driver::Shared,
    ending::reset,
    passing::{Taps, relay},
    route::Route,
    stop::Stop,
};
use crate::domain::event::AuditEvent;

/// Serves one connection to its end; `allowed` is the record of its beginning. What cannot be recorded is not connected.
pub async fn pass_on(
    shared: &Shared,
    about: &About,
    allowed: AuditEvent,
    route: Route,
    stream: TcpStream,
    stop: &Stop,
) {
    let Shared { intercept, ledger, limits, .. } = shared;
    if let Err(error) = ledger.write(allowed).await {
        tracing::error!(%error, session = %about.session, "a connection could not be recorded, so it is reset");
        return reset(&stream);
    }
    let upstream = match stop.cuts(dial::as_the_agent(intercept, *limits, route)).await {
        Ok(Ok(upstream)) => upstream,
        Ok(Err(error)) => {
            reset(&stream);
            return ledger.closed(about, None, format!("the target cannot be reached: {error}"), None);
        }
        Err(reason) => {
            reset(&stream);
            return ledger.closed(about, None, reason.to_string(), Some(&reason));
        }
    };
    let ended = relay(stream, upstream, limits.idle, Taps::default(), stop).await;
    ledger.closed(about, None, ended.to_string(), ended.told());
}
