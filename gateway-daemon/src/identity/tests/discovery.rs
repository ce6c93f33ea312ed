//! Keys by discovery, from a real TLS server on loopback: rotation, rate limit, and issuers that misbehave.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use super::super::{
    Clock, Identity, IdentityError, KeySource,
    fetch::Limits,
    issuer::Timing,
    testing::{ManualClock, NOW, P256, RSA, Signer, claims_with, issuer, jwks, token},
};
use crate::domain::sensitive::Sensitive;

const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Where an issuer is meant to miss it.
const DEADLINE: Duration = Duration::from_millis(800);
/// Where it is not, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone)]
enum Reply {
    Json(String),
    Raw(Vec<u8>),
    /// A valid start, and then nothing more.
    Stall(Vec<u8>),
    Slow(Duration, String),
}

/// An issuer with a certificate of its own CA. Gone when dropped.
struct Server {
    url: String,
    ca: PathBuf,
    replies: Arc<Mutex<HashMap<String, Reply>>>,
    requests: Arc<AtomicUsize>,
    task: AbortHandle,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start() -> Self {
        Self::start_as("127.0.0.1").await
    }

    async fn start_as(name: &str) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, authority.pem()).unwrap();
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![certificate.der().clone()],
                    PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
                )
                .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let replies: Arc<Mutex<HashMap<String, Reply>>> = Arc::default();
        let requests: Arc<AtomicUsize> = Arc::default();
        let (table, count) = (Arc::clone(&replies), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, table, count) = (acceptor.clone(), Arc::clone(&table), Arc::clone(&count));
                connections.spawn(async move {
                    let Ok(mut stream) = acceptor.accept(tcp).await else { return };
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    let head = String::from_utf8(head).unwrap();
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    let reply = table.lock().unwrap().get(&path).cloned();
                    let ok = |body: &str| {
                        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
                            .into_bytes()
                    };
                    let bytes = match reply {
                        Some(Reply::Json(body)) => ok(&body),
                        Some(Reply::Raw(bytes)) => bytes,
                        Some(Reply::Stall(bytes)) => {
                            stream.write_all(&bytes).await.unwrap();
                            stream.flush().await.unwrap();
                            std::future::pending().await
                        }
                        Some(Reply::Slow(time, body)) => {
                            tokio::time::sleep(time).await;
                            ok(&body)
                        }
                        None => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
                    };
                    drop(stream.write_all(&bytes).await);
                    drop(stream.shutdown().await);
                });
            }
        })
        .abort_handle();
        let server = Self { url, ca, replies, requests, task, _dir: dir };
        server.publish(&[P256.jwk("first")]);
        server
    }

    fn reply(&self, path: &str, reply: Reply) {
        self.replies.lock().unwrap().insert(path.to_owned(), reply);
    }

    fn publish(&self, keys: &[Value]) {
        let document = json!({ "issuer": self.url, "jwks_uri": format!("{}/keys?v=1", self.url) });
        self.reply(DISCOVERY, Reply::Json(document.to_string()));
        self.reply("/keys?v=1", Reply::Json(jwks(keys)));
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn identity(&self, clock: &Arc<ManualClock>) -> Identity {
        self.identity_with(clock, &self.ca, PATIENCE)
    }

    fn identity_with(&self, clock: &Arc<ManualClock>, ca: &Path, deadline: Duration) -> Identity {
        let mut settings = issuer(KeySource::Discovery { ca: Some(ca.to_owned()) });
        settings.issuer.clone_from(&self.url);
        let limits = Limits { deadline, ..Limits::default() };
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
        Identity::with_bounds(vec![settings], vec![], clock, limits, Timing::default()).unwrap()
    }

    fn token(&self, signer: &Signer, alg: &str, kid: &str) -> Sensitive<String> {
        let mut claims = claims_with("iss", json!(self.url));
        claims["exp"] = json!(NOW + 48 * 3600);
        Sensitive::new(token(signer, alg, kid, &claims))
    }
}

fn unreachable(outcome: &Result<Arc<crate::domain::principal::Principal>, IdentityError>) -> &str {
    match outcome {
        Err(IdentityError::IssuerUnreachable { reason, .. }) => reason,
        other => panic!("not unreachable: {other:?}"),
    }
}

#[tokio::test]
async fn keys_are_discovered_once_and_a_rotated_key_is_fetched_at_most_every_ten_seconds() {
    let (server, clock) = (Server::start().await, ManualClock::new());
    let identity = server.identity(&clock);
    let (first, second) = (server.token(&P256, "ES256", "first"), server.token(&RSA, "RS256", "second"));
    for _ in 0..5 {
        identity.verify(&first).await.unwrap();
    }
    assert_eq!(server.requests(), 2, "the discovery document and the keys");
    server.publish(&[P256.jwk("first"), RSA.jwk("second")]);
    clock.advance(Duration::from_millis(9_900));
    for _ in 0..5 {
        assert!(matches!(identity.verify(&second).await, Err(IdentityError::UnknownKey { .. })));
    }
    assert_eq!(server.requests(), 2, "not again within ten seconds");
    clock.advance(Duration::from_millis(100));
    identity.verify(&second).await.unwrap();
    identity.verify(&first).await.unwrap();
    assert_eq!(server.requests(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_unknown_keys_makes_one_fetch() {
    let (server, clock) = (Server::start().await, ManualClock::new());
    let identity = server.identity(&clock);
    for round in 1..=3 {
        let mut storm = JoinSet::new();
        for number in 0..100 {
            let token = server.token(&P256, "ES256", &format!("kid{number}"));
            let identity = identity.clone();
            storm.spawn(async move { identity.verify(&token).await });
        }
        for outcome in storm.join_all().await {
            assert!(matches!(outcome, Err(IdentityError::UnknownKey { .. })), "{outcome:?}");
        }
        assert_eq!(server.requests(), 2 * round);
        identity.verify(&server.token(&P256, "ES256", "first")).await.unwrap();
        clock.advance(Duration::from_secs(10));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_at_the_start_makes_one_fetch_and_nobody_is_refused() {
    let (server, clock) = (Server::start().await, ManualClock::new());
    let identity = server.identity(&clock);
    let mut storm = JoinSet::new();
    for _ in 0..100 {
        let (identity, token) = (identity.clone(), server.token(&P256, "ES256", "first"));
        storm.spawn(async move { identity.verify(&token).await });
    }
    assert!(storm.join_all().await.iter().all(Result::is_ok));
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn claims_that_are_refused_anyway_make_no_fetch() {
    let (server, clock) = (Server::start().await, ManualClock::new());
    let identity = server.identity(&clock);
    let verify = |name: &str, value: Value| {
        let mut claims = claims_with("iss", json!(server.url));
        claims[name] = value;
        let (identity, token) =
            (identity.clone(), Sensitive::new(token(&P256, "ES256", "nobody's", &claims)));
        async move { identity.verify(&token).await }
    };
    assert!(matches!(verify("exp", json!(NOW - 60)).await, Err(IdentityError::Expired { .. })));
    assert!(matches!(verify("aud", json!("x")).await, Err(IdentityError::Audience { .. })));
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_withdrawn_key_counts_for_an_hour_at_most() {
    let (server, clock) = (Server::start().await, ManualClock::new());
    let identity = server.identity(&clock);
    let first = server.token(&P256, "ES256", "first");
    identity.verify(&first).await.unwrap();
    server.publish(&[RSA.jwk("second")]);
    clock.advance(Duration::from_secs(3599));
    identity.verify(&first).await.unwrap();
    clock.advance(Duration::from_secs(1));
    assert!(matches!(identity.verify(&first).await, Err(IdentityError::UnknownKey { .. })));
}

#[tokio::test]
async fn known_keys_serve_for_a_day_while_the_issuer_is_down_and_it_is_asked_again() {
    let (server, clock) = (Server::start().await, ManualClock::new());
    let identity = server.identity_with(&clock, &server.ca, DEADLINE);
    let first = server.token(&P256, "ES256", "first");
    identity.verify(&first).await.unwrap();
    server.reply(DISCOVERY, Reply::Stall(Vec::new()));
    clock.advance(Duration::from_hours(1));
    identity.verify(&first).await.unwrap();
    for hour in 2..24 {
        clock.advance(Duration::from_hours(1));
        let start = Instant::now();
        identity.verify(&first).await.unwrap();
        assert!(start.elapsed() < DEADLINE / 2, "known keys do not wait for a dead issuer: hour {hour}");
        // Let the fetch in the background run into its deadline.
        tokio::time::sleep(if hour < 4 { DEADLINE + DEADLINE / 4 } else { Duration::ZERO }).await;
    }
    tokio::time::sleep(DEADLINE + DEADLINE / 4).await;
    clock.advance(Duration::from_hours(1));
    unreachable(&identity.verify(&first).await);
    server.publish(&[P256.jwk("first")]);
    unreachable(&identity.verify(&first).await);
    clock.advance(Duration::from_secs(10));
    identity.verify(&first).await.unwrap();
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_cancel_the_fetch_for_others() {
    let (server, clock) = (Server::start().await, ManualClock::new());
    let identity = server.identity(&clock);
    let keys = jwks(&[P256.jwk("first")]);
    server.reply("/keys?v=1", Reply::Slow(DEADLINE / 2, keys));
    let token = server.token(&P256, "ES256", "first");
    let hung_up = tokio::time::timeout(DEADLINE / 4, identity.verify(&token)).await;
    assert!(hung_up.is_err());
    identity.verify(&token).await.unwrap();
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn an_issuer_that_misbehaves_is_unreachable_in_bounded_time() {
    let server = Server::start().await;
    let document =
        |issuer: &str, jwks: &str| Reply::Json(json!({ "issuer": issuer, "jwks_uri": jwks }).to_string());
    let good_keys = format!("{}/keys?v=1", server.url);
    let raw = |text: &str| Reply::Raw(text.as_bytes().to_vec());
    let long = "x".repeat(300 * 1024);
    let cases = [
        (DISCOVERY, document("https://ci.example", &good_keys), "another issuer"),
        (DISCOVERY, document(&format!("{}/", server.url), &good_keys), "another issuer"),
        (DISCOVERY, document(&server.url, &good_keys.replace("https", "http")), "https"),
        (DISCOVERY, document(&server.url, "file:///etc/passwd"), "jwks_uri"),
        (DISCOVERY, document(&server.url, &good_keys.replace("//", "//user@")), "user"),
        (DISCOVERY, document(&server.url, ""), "jwks_uri"),
        (DISCOVERY, Reply::Json("[]".into()), "not a JSON object"),
        (
            DISCOVERY,
            Reply::Json(format!("{{\"issuer\":\"{0}\",\"issuer\":\"{0}\"}}", server.url)),
            "not a JSON",
        ),
        (
            DISCOVERY,
            raw(&format!("HTTP/1.1 302 Found\r\nlocation: {good_keys}\r\ncontent-length: 0\r\n\r\n")),
            "302",
        ),
        (DISCOVERY, raw("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"), "500"),
        (DISCOVERY, raw("SSH-2.0-OpenSSH\r\n"), "no answer"),
        (DISCOVERY, raw(""), "no answer"),
        (
            DISCOVERY,
            raw(&format!("HTTP/1.1 200 OK\r\n{}", format!("a: {}\r\n", "x".repeat(8000)).repeat(20))),
            "no",
        ),
        (DISCOVERY, Reply::Json(long.clone()), "too long"),
        ("/keys?v=1", raw(&format!("HTTP/1.1 200 OK\r\n\r\n{long}")), "too long"),
        ("/keys?v=1", raw("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"), "broken off"),
        ("/keys?v=1", Reply::Json("{}".into()), "no list of keys"),
        ("/keys?v=1", Reply::Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_vec()), "in time"),
        (DISCOVERY, Reply::Stall(Vec::new()), "in time"),
    ];
    for (path, reply, expected) in cases {
        server.publish(&[P256.jwk("first")]);
        server.reply(path, reply);
        let deadline = if expected == "in time" { DEADLINE } else { PATIENCE };
        let identity = server.identity_with(&ManualClock::new(), &server.ca, deadline);
        let start = Instant::now();
        let outcome = identity.verify(&server.token(&P256, "ES256", "first")).await;
        assert!(start.elapsed() < deadline * 2, "{expected}");
        assert!(unreachable(&outcome).contains(expected), "{expected}: {outcome:?}");
        // The next one is told the same, without another request.
        let (requests, start) = (server.requests(), Instant::now());
        assert_eq!(identity.verify(&server.token(&P256, "ES256", "first")).await, outcome);
        assert!(start.elapsed() < DEADLINE / 2);
        assert_eq!(server.requests(), requests);
    }
}

#[tokio::test]
async fn only_a_certificate_of_the_right_authority_and_name_is_believed() {
    let (server, other) = (Server::start().await, Server::start_as("other.example").await);
    let clock = ManualClock::new();
    let token = server.token(&P256, "ES256", "first");
    let stranger = server.identity_with(&clock, &other.ca, PATIENCE);
    assert!(unreachable(&stranger.verify(&token).await).contains("certificate"));
    let misnamed = other.identity(&clock);
    assert!(
        unreachable(&misnamed.verify(&other.token(&P256, "ES256", "first")).await).contains("certificate")
    );
    assert_eq!(server.requests() + other.requests(), 0);
    // A renewed file of authorities counts at the next fetch.
    std::fs::copy(&server.ca, &other.ca).unwrap();
    clock.advance(Duration::from_secs(10));
    stranger.verify(&token).await.unwrap();
}

#[tokio::test]
async fn nobody_listening_is_told_at_once() {
    let server = Server::start().await;
    let identity = server.identity(&ManualClock::new());
    let token = server.token(&P256, "ES256", "first");
    server.task.abort();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let outcome = identity.verify(&token).await;
    assert!(unreachable(&outcome).contains("no connection"), "{outcome:?}");
}

#[tokio::test]
async fn authorities_that_cannot_be_read_are_an_error_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let open = || Identity::new(vec![issuer(KeySource::Discovery { ca: Some(file.clone()) })], vec![]);
    assert!(matches!(open(), Err(IdentityError::Settings(_))));
    for broken in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&file, broken).unwrap();
        assert!(matches!(open(), Err(IdentityError::Settings(_))), "{broken}");
    }
    assert!(
        Identity::new(vec![issuer(KeySource::Discovery { ca: None })], vec![]).is_ok(),
        "the system's bundle"
    );
}
