//! An OIDC issuer on loopback: discovery and keys over HTTPS under a CA of its own, or as a JWKS file.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use serde_json::{Value, json};

use super::tokens::{Algorithm, Key, now};

/// The audience of this installation.
pub const AUDIENCE: &str = "nodegate";

/// A running issuer.
#[derive(Debug)]
pub struct Issuer {
    address: SocketAddr,
    ca_pem: String,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    keys: Mutex<Vec<Key>>,
    fetches: AtomicUsize,
    stop: AtomicBool,
}

impl Issuer {
    /// Starts one with an ES256 key.
    pub fn start() -> Self {
        Self::with(vec![Key::generate("first", Algorithm::Es256)])
    }

    /// Starts one with these keys; the last signs.
    pub fn with(keys: Vec<Key>) -> Self {
        let authority = Authority::new();
        let (certificate, key) = authority.server_certificate();
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("TLS versions")
                .with_no_client_auth()
                .with_single_cert(vec![certificate], key)
                .expect("a usable certificate");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port for the issuer");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            keys: Mutex::new(keys),
            fetches: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let (serving, config) = (Arc::clone(&shared), Arc::new(config));
        let server = thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                if serving.stop.load(Ordering::Acquire) {
                    return;
                }
                let (serving, config) = (Arc::clone(&serving), Arc::clone(&config));
                thread::spawn(move || drop(answer(stream, config, &serving, address)));
            }
        });
        Self { address, ca_pem: authority.pem, shared, server: Some(server) }
    }

    /// The `iss` of its tokens.
    pub fn url(&self) -> String {
        url(self.address)
    }

    /// Writes the certificate of its CA to `folder`.
    pub fn write_ca(&self, folder: &Path) -> PathBuf {
        let path = folder.join("issuer-ca.pem");
        fs::write(&path, &self.ca_pem).expect("the issuer's CA");
        path
    }

    /// Its public keys as the document that it serves.
    pub fn jwks(&self) -> Value {
        jwks(&self.shared.keys.lock().expect("the keys"))
    }

    /// Claims of a good token for `subject` in group `agents`.
    pub fn claims(&self, subject: &str) -> Value {
        json!({ "iss": self.url(), "sub": subject, "aud": AUDIENCE, "iat": now() - 5, "nbf": now() - 5,
                "exp": now() + 3600, "groups": ["agents"] })
    }

    /// A good token for `subject`, valid for an hour.
    pub fn token(&self, subject: &str) -> String {
        self.sign(&self.claims(subject))
    }

    /// A token for `subject` with some claims replaced, or removed where the value is null.
    pub fn token_with(&self, subject: &str, changes: &Value) -> String {
        let mut claims = self.claims(subject);
        let object = claims.as_object_mut().expect("an object");
        for (name, value) in changes.as_object().expect("an object") {
            if value.is_null() {
                object.remove(name);
            } else {
                object.insert(name.clone(), value.clone());
            }
        }
        self.sign(&claims)
    }

    /// Signs with the newest key.
    pub fn sign(&self, claims: &Value) -> String {
        self.with_key(|key| key.sign(claims))
    }

    /// Lends the newest key.
    pub fn with_key<T>(&self, work: impl FnOnce(&Key) -> T) -> T {
        work(self.shared.keys.lock().expect("the keys").last().expect("a key"))
    }

    /// Publishes `key` and signs with it from now on; the keys before it are withdrawn.
    pub fn rotate_to(&self, key: Key) {
        *self.shared.keys.lock().expect("the keys") = vec![key];
    }

    /// How often its keys were fetched.
    pub fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::Relaxed)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

fn url(address: SocketAddr) -> String {
    format!("https://{address}")
}

fn jwks(keys: &[Key]) -> Value {
    json!({ "keys": keys.iter().map(Key::public_jwk).collect::<Vec<_>>() })
}

fn answer(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    shared: &Shared,
    address: SocketAddr,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut reader = BufReader::new(StreamOwned::new(connection, stream));
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let body = match request.split(' ').nth(1) {
        Some("/.well-known/openid-configuration") => {
            let issuer = url(address);
            Some(json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys"),
                         "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
                         "id_token_signing_alg_values_supported": ["RS256", "ES256", "EdDSA"] }))
        }
        Some("/keys") => {
            shared.fetches.fetch_add(1, Ordering::Relaxed);
            Some(jwks(&shared.keys.lock().expect("the keys")))
        }
        _ => None,
    };
    let (status, body) = body.map_or(("404 Not Found", String::new()), |body| ("200 OK", body.to_string()));
    let stream = reader.get_mut();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.conn.send_close_notify();
    stream.flush()
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

/// Whether a certificate can still be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// It can.
    Good,
    /// It could until yesterday.
    Expired,
}

/// A certificate authority for loopback.
pub struct Authority {
    /// Its certificate.
    pub pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    /// A fresh one.
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, "nodegate tests");
        let certificate = params.self_signed(&key).expect("a CA certificate");
        Self { pem: certificate.pem(), issuer: rcgen::Issuer::new(params, key) }
    }

    /// A certificate for `localhost` and `127.0.0.1` with its key.
    pub fn server_certificate(&self) -> (rustls::pki_types::CertificateDer<'static>, PrivateKeyDer<'static>) {
        let (certificate, key) = self.issue();
        (certificate.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    /// A certificate for these names with its key; an expired one ended yesterday.
    pub fn certificate_for(
        &self,
        names: &[&str],
        valid: Validity,
    ) -> (rustls::pki_types::CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).expect("names");
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        if valid == Validity::Expired {
            params.not_after = time::OffsetDateTime::now_utc() - time::Duration::days(1);
        }
        let certificate = params.signed_by(&key, &self.issuer).expect("a server certificate");
        (certificate.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    /// The same as PEM texts: certificate, key.
    pub fn server_pem(&self) -> (String, String) {
        let (certificate, key) = self.issue();
        (certificate.pem(), key.serialize_pem())
    }

    fn issue(&self) -> (rcgen::Certificate, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = rcgen::CertificateParams::new(names).expect("names");
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        (params.signed_by(&key, &self.issuer).expect("a server certificate"), key)
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
