//! Keys, tokens and clocks for this room's tests. Keys are made in the test run; tokens are put together by hand, so
//! that they can be wrong in every way.

use std::{
    path::Path,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
        KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Clock, IssuerSettings, KeySource};
use crate::domain::{
    address::{ClientAddr, OriginalDestination},
    flow::Flow,
    ids::{CgroupId, FlowId, NetnsCookie},
};

/// The test clock's first moment, in seconds since 1970.
pub(super) const NOW: u64 = 1_800_000_000;
pub(super) const ISSUER: &str = "https://ci.example";

pub(super) static RSA: LazyLock<Signer> =
    LazyLock::new(|| Signer::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()));
pub(super) static OTHER_RSA: LazyLock<Signer> =
    LazyLock::new(|| Signer::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()));
pub(super) static P256: LazyLock<Signer> = LazyLock::new(Signer::p256);
pub(super) static P384: LazyLock<Signer> =
    LazyLock::new(|| Signer::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap()));
pub(super) static ED25519: LazyLock<Signer> =
    LazyLock::new(|| Signer::Ed25519(Ed25519KeyPair::generate().unwrap()));

pub(super) enum Signer {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    pub(super) fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(super) fn jwk(&self, kid: &str) -> Value {
        let point = |pair: &EcdsaKeyPair, curve: &str| {
            let (x, y) = pair.public_key().as_ref()[1..].split_at((pair.public_key().as_ref().len() - 1) / 2);
            json!({ "kty": "EC", "crv": curve, "x": b64(x), "y": b64(y), "kid": kid, "use": "sig" })
        };
        match self {
            Self::Rsa(pair) => {
                let (n, e) = (pair.public_key().modulus(), pair.public_key().exponent());
                let n = b64(n.big_endian_without_leading_zero());
                let e = b64(e.big_endian_without_leading_zero());
                json!({ "kty": "RSA", "n": n, "e": e, "kid": kid, "use": "sig" })
            }
            Self::P256(pair) => point(pair, "P-256"),
            Self::P384(pair) => point(pair, "P-384"),
            Self::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key().as_ref()), "kid": kid })
            }
        }
    }

    pub(super) fn sign(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let rng = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let padding: &dyn aws_lc_rs::signature::RsaEncoding = match alg {
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                pair.sign(padding, &rng, message, &mut signature).unwrap();
                signature
            }
            Self::P256(pair) | Self::P384(pair) => pair.sign(&rng, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Claims that hold at [`NOW`].
pub(super) fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "repo:shop", "aud": "nodegate", "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 600,
        "groups": ["agents", "dev", "agents"], "realm_access": { "roles": ["reader"] }, "repository": "shop/web",
        "run": 17, "https://ci.example/env": { "name": "prod" },
    })
}

/// Those claims with one of them changed; `null` removes it.
pub(super) fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

pub(super) fn token(signer: &Signer, alg: &str, kid: &str, claims: &Value) -> String {
    let header = json!({ "alg": alg, "typ": "JWT", "kid": kid });
    sign_texts(signer, alg, &header.to_string(), &claims.to_string())
}

pub(super) fn sign_texts(signer: &Signer, alg: &str, header: &str, payload: &str) -> String {
    let message = format!("{}.{}", b64(header), b64(payload));
    let signature = b64(signer.sign(alg, message.as_bytes()));
    format!("{message}.{signature}")
}

pub(super) fn jwks(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

pub(super) fn issuer(keys: KeySource) -> IssuerSettings {
    IssuerSettings {
        name: "ci".into(),
        issuer: ISSUER.into(),
        audiences: vec!["nodegate".into()],
        groups_claim: Some("groups".into()),
        roles_claim: Some("realm_access.roles".into()),
        claims: vec!["repository".into(), "run".into(), "https://ci.example/env".into(), "absent".into()],
        keys,
        leeway: Duration::from_secs(30),
    }
}

/// The issuer with every kind of key in a local file.
pub(super) fn issuer_with_file(dir: &Path) -> IssuerSettings {
    let file = dir.join("jwks.json");
    let keys = [
        RSA.jwk("rsa"),
        P256.jwk("p256"),
        P384.jwk("p384"),
        ED25519.jwk("ed"),
        json!({ "kty": "oct", "k": "AAAA" }),
    ];
    std::fs::write(&file, jwks(&keys)).unwrap();
    issuer(KeySource::JwksFile(file))
}

/// A clock that stands still until it is moved.
#[derive(Default)]
pub(super) struct ManualClock {
    elapsed_ms: AtomicU64,
}

impl ManualClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn advance(&self, by: Duration) {
        self.elapsed_ms.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW) + self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms.load(Ordering::SeqCst))
    }
}

/// A flow of `pid`, connected now, in captured cgroup `cgroup`.
pub(super) fn flow(cgroup: u64, pid: u32) -> Flow {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an uptime is small")]
    let now_ns = (seconds * 1e9) as u64 + 20_000_000;
    Flow {
        id: FlowId(1),
        captured_cgroup: CgroupId(cgroup),
        cgroup: CgroupId(cgroup),
        pid,
        tid: pid,
        uid: 0,
        comm: "psql".into(),
        netns: NetnsCookie(1),
        connected_at_boot_ns: now_ns,
        original_destination: OriginalDestination::new("127.0.0.1:5432".parse().unwrap()),
        client: ClientAddr("127.0.0.1:40000".parse().unwrap()),
    }
}
