//! An issuer's keys over the network: OpenID Connect Discovery 1.0 §4, then the `jwks_uri`. HTTPS only, no redirects,
//! no proxy, one deadline for all of it and a cap on every body. Knows nothing of caching.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, Uri, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{
    json,
    jwk::{self, PublicKey},
};

/// Where distributions keep the system's certificate authorities.
const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// What an issuer may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For discovery and key set together.
    pub(super) deadline: Duration,
    /// For either body.
    pub(super) body_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(5), body_bytes: 256 * 1024 }
    }
}

/// One issuer's key endpoint.
#[derive(Debug)]
pub(super) struct Endpoint {
    issuer: String,
    discovery: Uri,
    ca: Option<PathBuf>,
    limits: Limits,
}

impl Endpoint {
    /// Checks the URL and that the trusted certificates can be read; they are read again at every fetch, so that a
    /// renewed file counts at once.
    pub(super) fn new(issuer: &str, ca: Option<&Path>, limits: Limits) -> Result<Self, String> {
        let discovery = discovery_url(issuer)?;
        tls_config(ca)?;
        Ok(Self { issuer: issuer.to_owned(), discovery, ca: ca.map(Path::to_owned), limits })
    }

    /// The issuer's current keys. An error says in a few words what went wrong, for operator and agent alike.
    pub(super) async fn keys(&self) -> Result<Vec<PublicKey>, String> {
        tokio::time::timeout(self.limits.deadline, self.keys_without_deadline())
            .await
            .unwrap_or_else(|_| Err("it did not answer in time".to_owned()))
    }

    async fn keys_without_deadline(&self) -> Result<Vec<PublicKey>, String> {
        let tls = TlsConnector::from(Arc::new(tls_config(self.ca.as_deref())?));
        let document = get(&tls, &self.discovery, self.limits.body_bytes).await?;
        let jwks = jwks_url(&document, &self.issuer)?;
        let set = get(&tls, &jwks, self.limits.body_bytes).await?;
        Ok(jwk::parse_set(&set)?)
    }
}

/// `<issuer>/.well-known/openid-configuration`.
pub(super) fn discovery_url(issuer: &str) -> Result<Uri, String> {
    if issuer.contains(['?', '#']) {
        return Err("an issuer URL has neither query nor fragment".to_owned());
    }
    https(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))
}

fn jwks_url(document: &[u8], issuer: &str) -> Result<Uri, String> {
    let document = json::object(document).ok_or("its discovery document is not a JSON object")?;
    if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err("its discovery document is that of another issuer".to_owned());
    }
    let jwks =
        document.get("jwks_uri").and_then(Value::as_str).ok_or("its discovery document has no jwks_uri")?;
    https(jwks).map_err(|problem| format!("its jwks_uri cannot be used: {problem}"))
}

fn https(url: &str) -> Result<Uri, String> {
    let uri: Uri = url.parse().map_err(|_| "it is not a URL".to_owned())?;
    if uri.scheme_str() != Some("https") {
        return Err("only https URLs are used".to_owned());
    }
    match uri.authority() {
        Some(authority) if !authority.as_str().contains('@') && !authority.host().is_empty() => Ok(uri),
        _ => Err("the URL must name a host, and no user".to_owned()),
    }
}

/// One GET on a connection of its own: fetches are rare, and a pool would keep a dead issuer's sockets.
async fn get(tls: &TlsConnector, uri: &Uri, body_bytes: usize) -> Result<Bytes, String> {
    let authority = uri.authority().ok_or("the URL names no host")?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|_| "its host name is not valid".to_owned())?;
    let tcp = TcpStream::connect((host, authority.port_u16().unwrap_or(443)))
        .await
        .map_err(|error| format!("no connection: {error}"))?;
    let stream = tls.connect(name, tcp).await.map_err(|error| format!("no TLS session: {error}"))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(64 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("no HTTP: {error}"))?;
    let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, authority.as_str())
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("nodegate/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("no request: {error}"))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| format!("no answer: {error}"))?;
        if response.status() != StatusCode::OK {
            return Err(format!("it answered {}", response.status()));
        }
        let body = Limited::new(response.into_body(), body_bytes).collect().await;
        body.map(http_body_util::Collected::to_bytes)
            .map_err(|_| "its answer is too long or broken off".to_owned())
    };
    // The connection's future is polled here rather than spawned, so that dropping this one ends it. It stays
    // pending after its own end: the answer's last bytes may still be unread.
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}

fn tls_config(ca: Option<&Path>) -> Result<ClientConfig, String> {
    let roots = match ca {
        Some(file) => roots(file)?,
        None => SYSTEM_BUNDLES
            .iter()
            .map(Path::new)
            .find(|file| file.exists())
            .ok_or_else(|| "the system has no bundle of certificate authorities; name one as `ca`".to_owned())
            .and_then(roots)?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Certificates that the library cannot use are left out, as a system's bundle may hold some; none left is an error.
fn roots(file: &Path) -> Result<RootCertStore, String> {
    let unreadable =
        |error| format!("the certificate authorities in {} cannot be read: {error}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
        roots.add_parsable_certificates([certificate.map_err(unreadable)?]);
    }
    if roots.is_empty() {
        return Err(format!("{} holds no certificate authority", file.display()));
    }
    Ok(roots)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{discovery_url, jwks_url};

    #[test]
    fn the_document_lies_below_the_issuer_s_path() {
        for (issuer, document) in [
            ("https://ci.example", "https://ci.example/.well-known/openid-configuration"),
            ("https://ci.example/", "https://ci.example/.well-known/openid-configuration"),
            ("https://ci.example/realms/a", "https://ci.example/realms/a/.well-known/openid-configuration"),
            ("https://[::1]:8443", "https://[::1]:8443/.well-known/openid-configuration"),
        ] {
            assert_eq!(discovery_url(issuer).unwrap().to_string(), document);
        }
        for issuer in
            ["", "ci", "http://ci.example", "HTTP://ci.example", "https://", "https:///x", "https://a b"]
        {
            assert!(discovery_url(issuer).is_err(), "{issuer}");
        }
    }

    #[test]
    fn keys_may_be_on_another_host_but_not_without_tls() {
        let url = |jwks: &str| {
            let document = serde_json::json!({ "issuer": "https://a.example", "jwks_uri": jwks }).to_string();
            jwks_url(document.as_bytes(), "https://a.example")
        };
        assert_eq!(url("https://b.example/certs").unwrap().host(), Some("b.example"));
        for refused in ["http://a.example/certs", "/certs", "//a.example/certs", "https://a:b@a.example/", ""]
        {
            assert!(url(refused).is_err(), "{refused}");
        }
    }
}
