//! Connections to targets: from which network namespace, with which doubts about who answers there, and under TLS where
//! the target has it. What a protocol says before a handshake is its own.

use std::{io, net::SocketAddr, sync::Arc};

use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{limits::Limits, route::Route, transport::Transport};
use crate::{
    domain::{decision::Denial, way::UpstreamFrom},
    intercept::{Doubt, Intercept, NoUpstream},
    tls::originate::{Roots, TlsError},
};

/// How connections to a target are made.
#[derive(Debug, Clone)]
pub struct Dial {
    /// In which network namespace.
    pub from: UpstreamFrom,
    /// How they are protected.
    pub tls: UpstreamTls,
}

/// How the connection to a target is protected.
#[derive(Debug, Clone)]
pub enum UpstreamTls {
    /// Plain text, by an explicit word of the configuration.
    Disable,
    /// TLS with the certificate and its name verified.
    VerifyFull {
        /// Who vouches for it, as the operator's file says at that moment.
        roots: Arc<Roots>,
        /// The name in the certificate; the address that is dialled when there is none.
        server_name: Option<ServerName<'static>>,
    },
}

/// Why there is no connection to a target. `Display` is for the operator: the agent is told less.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// TCP or TLS failed.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Whoever answers could be the workload itself.
    #[error("{address} proves nothing of itself, and {doubt}")]
    Doubtful {
        /// Where to.
        address: SocketAddr,
        /// Why.
        doubt: Doubt,
    },
    /// The file that says whom to trust cannot be used any more.
    #[error(transparent)]
    Roots(#[from] TlsError),
}

impl Dial {
    /// Why a target cannot be reached from where the agent is: its server proves nothing of itself, and the agent could
    /// have put one of its own in its place. Known before anything is dialled.
    pub fn doubt(&self, intercept: &Intercept, route: Route) -> Option<Doubt> {
        match self.tls {
            UpstreamTls::VerifyFull { .. } => None,
            UpstreamTls::Disable => intercept.doubt(intercept.dialled_from(self.from, route.netns)),
        }
    }

    /// Makes the connection, on which nothing has been said yet. Where TLS is to follow, [`Self::secure`] is next.
    ///
    /// # Errors
    /// [`DialError`]; nothing is left open. Cancel-safe: dropping the future closes the connection.
    pub async fn connect(&self, intercept: &Intercept, route: Route) -> Result<TcpStream, DialError> {
        let address = route.address;
        let netns = intercept.dialled_from(self.from, route.netns);
        match self.tls {
            UpstreamTls::VerifyFull { .. } => intercept
                .connect_upstream(netns, address)
                .await
                .map_err(|source| DialError::Connect { address, source }),
            UpstreamTls::Disable => {
                intercept.connect_unproven(netns, address).await.map_err(|error| match error {
                    NoUpstream::Io(source) => DialError::Connect { address, source },
                    NoUpstream::Doubt(doubt) => DialError::Doubtful { address, doubt },
                })
            }
        }
    }

    /// Goes on under TLS where the target has it; the certificate and its name are verified.
    ///
    /// # Errors
    /// The handshake failed; the connection is closed.
    pub async fn secure(&self, stream: TcpStream, address: SocketAddr) -> Result<Transport, DialError> {
        let UpstreamTls::VerifyFull { roots, server_name } = &self.tls else {
            return Ok(Transport::Plain(stream));
        };
        let config = roots.config()?;
        let name = server_name.clone().unwrap_or_else(|| ServerName::from(address.ip()));
        let stream = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|source| DialError::Connect { address, source })?;
        Ok(Transport::Tls(Box::new(stream.into())))
    }
}

/// Connects as the agent would have done by itself, within the time that a session's beginning may take.
///
/// # Errors
/// Those of connect(2), and a target that does not answer in time.
pub async fn as_the_agent(intercept: &Intercept, limits: Limits, route: Route) -> io::Result<TcpStream> {
    timeout(limits.startup, intercept.connect_upstream(route.netns, route.address))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// What is said where the workload itself could be at the other end of a connection to `target`.
pub fn in_doubt(target: &str, doubt: Doubt) -> Denial {
    Denial::builtin(
        format!("target {target} is reached without TLS, and {doubt}"),
        "Connect from a network namespace of the node's own; or ask the operator for `tls.upstream: \
         verify-full` or `upstream_from: node`.",
        "upstream-in-doubt",
    )
}
