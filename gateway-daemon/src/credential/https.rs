//! One request over HTTPS: no redirects, no proxy, no pool, a deadline and a cap on the body. The certificate and its
//! name are verified.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    client::conn::http1,
    header::{self, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

const DEADLINE: Duration = Duration::from_secs(5);
/// A secret with its metadata is a kilobyte or two.
const BODY_BYTES: usize = 256 * 1024;

/// What to send.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Vec<u8>,
}

/// Sends it and returns status and body. An error shows nothing of what was sent or received.
pub(super) async fn call(tls: &Arc<ClientConfig>, call: Call) -> Result<(StatusCode, Bytes), String> {
    timeout(DEADLINE, exchange(tls, call))
        .await
        .unwrap_or_else(|_| Err("it did not answer in time".to_owned()))
}

async fn exchange(tls: &Arc<ClientConfig>, call: Call) -> Result<(StatusCode, Bytes), String> {
    let authority = call.uri.authority().ok_or("the URL names no host")?.clone();
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|_| "its host name is not valid".to_owned())?;
    let tcp = TcpStream::connect((host, authority.port_u16().unwrap_or(443)))
        .await
        .map_err(|error| format!("no connection: {error}"))?;
    let stream = TlsConnector::from(Arc::clone(tls))
        .connect(name, tcp)
        .await
        .map_err(|error| format!("no TLS session: {error}"))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(64 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("no HTTP: {error}"))?;
    let mut request = Request::builder()
        .method(call.method)
        .uri(call.uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, authority.as_str())
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("nodegate/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close");
    for (name, value) in call.headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Full::new(Bytes::from(call.body)))
        .map_err(|_| "the request cannot be written".to_owned())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| format!("no answer: {error}"))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_BYTES).collect().await;
        let body = body.map(Collected::to_bytes);
        Ok((status, body.map_err(|_| "its answer is too long or broken off".to_owned())?))
    };
    // Polled here rather than spawned, so that dropping this future ends the connection.
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}
