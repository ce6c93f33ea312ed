//! What a session needs to know of its target, and how it is reached.

use std::{net::SocketAddr, sync::Arc};

use rustls::{
    CertificateError,
    pki_types::{DnsName, ServerName},
};
use tokio::time::timeout;

use super::{
    credential::Credential,
    hosts::{Hosts, Proof},
};
use crate::{
    domain::{action::TargetFacts, way::UpstreamFrom},
    protocol::http::Host,
    session::{
        dial::{Dial, DialError, UpstreamTls},
        driver::Shared,
        route::Route,
        transport::Transport,
    },
    tls::originate::Roots,
};

/// How clients of a target come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TowardsClients {
    /// By `http://`.
    Plaintext,
    /// By `https://`, under a certificate of the daemon's own authority.
    Tls,
    /// By `https://`, under the server's own certificate: nothing in it is seen.
    TheirOwn,
}

/// One HTTP target.
#[derive(Debug)]
pub struct HttpTarget {
    /// Its name, as policies see it.
    pub facts: TargetFacts,
    /// Where connections to it are made.
    pub from: UpstreamFrom,
    /// Towards clients.
    pub clients: TowardsClients,
    tls: Option<Arc<Roots>>,
    /// Which hosts it stands for.
    pub hosts: Hosts,
    /// What its requests bear.
    pub credential: Option<Credential>,
}

/// Why a target cannot be reached. `Display` is for the operator.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreachable {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("{0} did not answer within limits.startup_timeout")]
    Timeout(SocketAddr),
}

impl Unreachable {
    /// What an agent is told: whose fault it is, and nothing of the way.
    pub(super) fn words(&self) -> String {
        let Self::Dial(DialError::Connect { source, .. }) = self else {
            return "the server did not answer in time".to_owned();
        };
        let tls = source.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::InvalidCertificate(why)) => {
                format!("the server's certificate is not valid: {}", certificate_words(why))
            }
            Some(error) => format!("no TLS with the server: {error}"),
            None => format!("cannot connect: {source}"),
        }
    }
}

fn certificate_words(why: &CertificateError) -> String {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".to_owned()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its authority is not one that is trusted for this target".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name".to_owned()
        }
        CertificateError::Revoked => "it was revoked".to_owned(),
        other => other.to_string(),
    }
}

impl HttpTarget {
    /// A target as its configuration has it.
    pub fn new(
        facts: TargetFacts,
        from: UpstreamFrom,
        clients: TowardsClients,
        tls: Option<Roots>,
        hosts: Hosts,
        credential: Option<Credential>,
    ) -> Self {
        Self { facts, from, clients, tls: tls.map(Arc::new), hosts, credential }
    }

    /// Who vouches for the server's name.
    pub(super) fn proof(&self) -> Proof {
        if self.tls.is_some() { Proof::Certificate } else { Proof::None }
    }

    /// A connection for requests to `host`. Under TLS the certificate must bear that name.
    ///
    /// # Errors
    /// [`Unreachable`]; nothing is left open. Cancel-safe: dropping the future closes the connection.
    pub(super) async fn connect(
        &self,
        shared: &Shared,
        route: Route,
        host: &Host,
    ) -> Result<Transport, Unreachable> {
        let tls = match &self.tls {
            None => UpstreamTls::Disable,
            Some(roots) => {
                UpstreamTls::VerifyFull { roots: Arc::clone(roots), server_name: server_name(host) }
            }
        };
        let dial = Dial { from: self.from, tls };
        let connected = timeout(shared.limits.startup, async {
            let stream = dial.connect(&shared.intercept, route).await?;
            dial.secure(stream, route.address).await
        });
        Ok(connected.await.map_err(|_| Unreachable::Timeout(route.address))??)
    }
}

/// `None` verifies the address that is dialled, which is the one that was named.
fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Name(name) => DnsName::try_from(name.to_string()).ok().map(ServerName::DnsName),
        Host::Address(_) => None,
    }
}
