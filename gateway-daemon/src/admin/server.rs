//! Accepts on the admin socket, within bounds: nobody can hold more than a share of the connections, and no connection
//! is open longer than a request takes.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::ready,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{HeaderValue, RETRY_AFTER},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::UnixStream, task::JoinSet, time};
use tracing::{debug, warn};

use super::{answer::Refusal, control::Control, peer::Peer, routes::Routes, socket::AdminSocket};
use crate::domain::ids::CgroupId;

/// Connections at once, of all callers.
const MAX_CONNECTIONS: usize = 512;
/// Connections at once of all captured cgroups together: the rest stays for those who look after them.
const MAX_CONNECTIONS_CAPTURED: u32 = 256;
/// Connections at once of one captured cgroup, or of one user outside all of them.
const MAX_CONNECTIONS_EACH: u32 = 64;
/// Connections beyond those that are told so, at once. The rest is closed: an answer costs too.
const MAX_TURNED_AWAY: u32 = 32;
/// For the request's head; the body has its own time in `routes`.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For the head of a request that is turned away.
const SHORT_HEAD_TIMEOUT: Duration = Duration::from_secs(1);
/// From accept to the end of the answer. Covers the slowest thing asked for: an issuer that answers late.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(1);
/// For what is under way when the daemon stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Serves until `stop` is ready, then gives what is under way a few seconds. The socket's file is removed at the end.
pub async fn serve<C: Control>(socket: AdminSocket, control: Arc<C>, stop: impl Future<Output = ()> + Send) {
    let routes = Arc::new(Routes::new(control));
    let shares = Arc::new(Shares::default());
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = socket.listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let (routes, shares) = (Arc::clone(&routes), Arc::clone(&shares));
                connections.spawn(async move {
                    if time::timeout(CONNECTION_TIMEOUT, connection(stream, routes, shares)).await.is_err() {
                        debug!("an admin connection took too long");
                    }
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: trying again at once would only burn the processor.
                warn!(%error, "cannot accept on the admin socket");
                time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    let drained =
        time::timeout(STOP_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        warn!(connections = connections.len(), "admin requests were cut off");
    }
}

async fn connection<C: Control>(stream: UnixStream, routes: Arc<Routes<C>>, shares: Arc<Shares>) {
    let peer = match Peer::of(&stream) {
        Ok(peer) => Arc::new(peer),
        Err(error) => return debug!(%error, "an admin caller could not be identified"),
    };
    let captured = match routes.captured(&peer) {
        Ok(captured) => captured,
        Err(error) => return debug!(%error, pid = peer.pid, "an admin caller's cgroup could not be found"),
    };
    let holder = captured.map_or(Holder::User(peer.uid), |workload| Holder::Cgroup(workload.cgroup));
    if let Some(_share) = shares.take(holder) {
        let answer = move |request| {
            let (routes, peer) = (Arc::clone(&routes), Arc::clone(&peer));
            async move { routes.answer(&peer, request).await }
        };
        return serve_one(stream, HEAD_TIMEOUT, answer).await;
    }
    debug!(?holder, "too many admin connections at once");
    if let Some(_share) = shares.take(Holder::TurnedAway) {
        serve_one(stream, SHORT_HEAD_TIMEOUT, |_| ready(turn_away(holder))).await;
    }
}

/// Serves the one request of a connection.
async fn serve_one<Answer: Future<Output = Response<Full<Bytes>>>>(
    stream: UnixStream,
    head_timeout: Duration,
    answer: impl Fn(Request<Incoming>) -> Answer,
) {
    let service = service_fn(|request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "an admin connection broke");
    }
}

/// What a caller hears whose share is used up.
fn turn_away(holder: Holder) -> Response<Full<Bytes>> {
    let whose = match holder {
        Holder::User(uid) => format!("user {uid}"),
        Holder::Cgroup(_) | Holder::TurnedAway => "this captured cgroup".to_owned(),
    };
    let detail = format!(
        "{whose} has {MAX_CONNECTIONS_EACH} requests under way, or captured cgroups together have \
         {MAX_CONNECTIONS_CAPTURED}: try again in a moment"
    );
    let mut response = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// On whose account a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Holder {
    Cgroup(CgroupId),
    User(u32),
    /// Of those who hear that they have too many.
    TurnedAway,
}

/// Open connections by holder.
#[derive(Debug, Default)]
struct Shares {
    held: Mutex<HashMap<Holder, u32>>,
}

/// One connection's share; given back when dropped.
struct Share {
    shares: Arc<Shares>,
    holder: Holder,
}

impl Shares {
    fn take(self: &Arc<Self>, holder: Holder) -> Option<Share> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let captured = |holder: &Holder| matches!(holder, Holder::Cgroup(_));
        let of_captured: u32 =
            held.iter().filter(|(other, _)| captured(other)).map(|(_, count)| *count).sum();
        if captured(&holder) && of_captured >= MAX_CONNECTIONS_CAPTURED {
            return None;
        }
        let most = if holder == Holder::TurnedAway { MAX_TURNED_AWAY } else { MAX_CONNECTIONS_EACH };
        let count = held.entry(holder).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Share { shares: Arc::clone(self), holder })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.holder);
            }
        }
    }
}
