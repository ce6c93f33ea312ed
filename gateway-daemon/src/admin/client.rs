//! The other end of the admin socket, for the command line. Blocking: one request, one connection, on a runtime of its
//! own on the calling thread.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, runtime, time};

use super::{
    api::{CaptureRequest, EnrolRequest, Problem, RunRequest, RunStarted},
    control::{IdentityView, Status},
};
use crate::domain::{flow::Workload, ids::CgroupId};

/// Somewhat longer than the server gives itself.
const TIMEOUT: Duration = Duration::from_secs(65);
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A daemon's admin API.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("no daemon answers on {}: {source}", socket.display())]
    NoDaemon {
        /// The socket.
        socket: PathBuf,
        /// What connecting to it said.
        source: io::Error,
    },
    /// The daemon said no; its own words.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// The conversation broke off, or made no sense.
    #[error("the daemon's answer did not arrive: {0}")]
    Broken(String),
}

impl Client {
    /// The daemon that listens on `socket`.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// What the daemon is doing.
    pub fn status(&self) -> Result<Status, ClientError> {
        self.call(Method::GET, "/v1/status", None::<&()>)
    }

    /// Everything that is captured.
    pub fn captures(&self) -> Result<Vec<Workload>, ClientError> {
        self.call(Method::GET, "/v1/captures", None::<&()>)
    }

    /// Captures a cgroup.
    pub fn capture(&self, request: &CaptureRequest) -> Result<Workload, ClientError> {
        self.call(Method::POST, "/v1/captures", Some(request))
    }

    /// Lets a captured cgroup go.
    pub fn release(&self, cgroup: CgroupId) -> Result<(), ClientError> {
        self.call(Method::DELETE, &format!("/v1/captures/{cgroup}"), None::<&()>)
    }

    /// Gives a captured cgroup its identity.
    pub fn enrol(&self, request: &EnrolRequest) -> Result<IdentityView, ClientError> {
        self.call(Method::POST, "/v1/identity", Some(request))
    }

    /// The identity of the caller's own cgroup.
    pub fn identity(&self) -> Result<IdentityView, ClientError> {
        self.call(Method::GET, "/v1/identity", None::<&()>)
    }

    /// Moves a child into a fresh captured cgroup; gives up when `interrupted` is ready.
    pub fn start_run(
        &self,
        request: &RunRequest,
        interrupted: impl AsyncFnOnce(),
    ) -> Result<Option<RunStarted>, ClientError> {
        block_on(async {
            tokio::select! {
                answer = self.exchange(Method::POST, "/v1/runs", Some(request)) => answer.map(Some),
                () = interrupted() => Ok(None),
            }
        })?
    }

    /// Ends a run; returns when its cgroup is gone.
    pub fn end_run(&self, cgroup: CgroupId) -> Result<(), ClientError> {
        self.call(Method::DELETE, &format!("/v1/runs/{cgroup}"), None::<&()>)
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        block_on(self.exchange(method, path, body))?
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let body = body.map(serde_json::to_vec).transpose().map_err(broken)?;
        match time::timeout(TIMEOUT, self.send(method, path, body)).await {
            Ok(answer) => decode(answer?),
            Err(_) => Err(ClientError::Broken(format!("nothing within {} s", TIMEOUT.as_secs()))),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| ClientError::NoDaemon { socket: self.socket.clone(), source })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut request = Request::new(Full::new(Bytes::from(body.unwrap_or_default())));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(broken)?;
        request.headers_mut().insert(HOST, HeaderValue::from_static("nodegate"));
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = async {
            let answer = sender.send_request(request).await.map_err(broken)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(broken)?;
            Ok((status, body.to_bytes()))
        };
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // The connection ends before the answer has been read out of it, or breaks.
            ended = connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(broken(error)),
            },
        }
    }
}

fn decode<T: DeserializeOwned>((status, body): (StatusCode, Bytes)) -> Result<T, ClientError> {
    if status.is_success() {
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        return serde_json::from_slice(body).map_err(broken);
    }
    Err(ClientError::Refused(serde_json::from_slice(&body).unwrap_or_else(|_| Problem {
        status: status.as_u16(),
        title: String::new(),
        detail: format!("the daemon answered {status}"),
    })))
}

fn block_on<T>(future: impl Future<Output = T>) -> Result<T, ClientError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(broken)?;
    Ok(runtime.block_on(future))
}

fn broken(error: impl std::fmt::Display) -> ClientError {
    ClientError::Broken(error.to_string())
}
