//! The HTTP listener for whoever watches the node: metrics, health and readiness. It changes nothing and tells nothing
//! of any one flow. Captured cgroups do not reach it: their connections are judged like any other.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time,
};
use tracing::{debug, warn};

/// Connections at once.
const MAX_CONNECTIONS: usize = 64;
/// For a request's head, and for a whole connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_HEAD_BYTES: usize = 16 << 10;

/// The type of the text format that Prometheus scrapes.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The daemon, as whoever watches it sees it.
pub trait Watched: Send + Sync + 'static {
    /// All metrics, in the OpenMetrics text format.
    fn metrics(&self) -> String;

    /// Why the daemon cannot go on, if so: it is to be started again.
    fn sickness(&self) -> Option<String>;

    /// Why captured connections are not served, if so.
    fn unreadiness(&self) -> Option<String>;
}

/// Listens there. Must be called within a tokio runtime.
///
/// # Errors
/// Those of bind(2).
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Answers until the task is dropped.
pub async fn watch<W: Watched>(listener: TcpListener, watched: Arc<W>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let watched = Arc::clone(&watched);
                connections.spawn(time::timeout(CONNECTION_TIMEOUT, connection(stream, watched)));
            }
            Err(error) => {
                warn!(%error, "cannot accept on admin.listen");
                time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection<W: Watched>(stream: TcpStream, watched: Arc<W>) {
    let service = service_fn(move |request| {
        let watched = Arc::clone(&watched);
        async move { Ok::<_, Infallible>(answer(&request, watched.as_ref())) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "a connection to admin.listen broke");
    }
}

fn answer<B>(request: &Request<B>, watched: &impl Watched) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "GET alone is known here".to_owned());
        refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => {
            let mut response = text(StatusCode::OK, watched.metrics());
            response
                .headers_mut()
                .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(METRICS_TYPE));
            response
        }
        "/healthz" => state(watched.sickness()),
        "/readyz" => state(watched.sickness().or_else(|| watched.unreadiness())),
        _ => text(StatusCode::NOT_FOUND, "/metrics, /healthz and /readyz are here".to_owned()),
    }
}

fn state(problem: Option<String>) -> Response<Full<Bytes>> {
    match problem {
        None => text(StatusCode::OK, "ok".to_owned()),
        Some(problem) => text(StatusCode::SERVICE_UNAVAILABLE, problem),
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use hyper::{Method, Request, StatusCode};

    use super::{Watched, answer};

    struct Daemon {
        sick: bool,
        ready: bool,
    }

    impl Watched for Daemon {
        fn metrics(&self) -> String {
            "# EOF\n".to_owned()
        }

        fn sickness(&self) -> Option<String> {
            self.sick.then(|| "the audit log is gone".to_owned())
        }

        fn unreadiness(&self) -> Option<String> {
            (!self.ready).then(|| "no listener".to_owned())
        }
    }

    #[test]
    fn each_state_has_its_status() {
        let status = |method: Method, path: &str, sick, ready| {
            let mut request = Request::new(());
            *request.method_mut() = method;
            *request.uri_mut() = path.parse().unwrap_or_default();
            answer(&request, &Daemon { sick, ready }).status()
        };
        assert_eq!(status(Method::GET, "/metrics", true, false), StatusCode::OK);
        assert_eq!(status(Method::GET, "/healthz", false, false), StatusCode::OK);
        assert_eq!(status(Method::GET, "/healthz", true, true), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(Method::GET, "/readyz", false, true), StatusCode::OK);
        assert_eq!(status(Method::GET, "/readyz", false, false), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(Method::GET, "/readyz", true, true), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(Method::GET, "/v1/status", false, true), StatusCode::NOT_FOUND);
        assert_eq!(status(Method::POST, "/metrics", false, true), StatusCode::METHOD_NOT_ALLOWED);
    }
}
