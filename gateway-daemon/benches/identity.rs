//! What an identity costs: a token verified by algorithm, and a cgroup that is already known.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark stops at the first surprise")]

use std::{
    hint::black_box,
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use criterion::{Criterion, criterion_group, criterion_main};
use gateway_daemon::{
    domain::{
        address::{ClientAddr, OriginalDestination},
        flow::Flow,
        ids::{CgroupId, FlowId, NetnsCookie},
        sensitive::Sensitive,
    },
    identity::{Identity, IssuerSettings, KeySource, SourceSettings},
};
use serde_json::{Value, json};

const ISSUER: &str = "https://ci.example";

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn token(alg: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> Sensitive<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let header = json!({ "alg": alg, "typ": "JWT", "kid": alg }).to_string();
    let claims = json!({
        "iss": ISSUER, "sub": "repo:shop/web:ref:refs/heads/main", "aud": "nodegate", "iat": now, "nbf": now,
        "exp": now + 3600, "groups": ["agents", "dev"], "repository": "shop/web", "run_id": "17",
    });
    let signed = format!("{}.{}", b64(header), b64(claims.to_string()));
    let signature = b64(sign(signed.as_bytes()));
    Sensitive::new(format!("{signed}.{signature}"))
}

/// Tokens by algorithm, and the key set that they verify with.
fn material() -> ([(&'static str, Sensitive<String>); 3], Value) {
    let rng = SystemRandom::new();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let ed25519 = Ed25519KeyPair::generate().unwrap();
    let components = RsaPublicKeyComponents::<Vec<u8>>::from(rsa.public_key());
    let (x, y) = p256.public_key().as_ref().get(1..).unwrap().split_at(32);
    let keys = json!({ "keys": [
        { "kty": "RSA", "kid": "RS256", "n": b64(components.n), "e": b64(components.e) },
        { "kty": "EC", "crv": "P-256", "kid": "ES256", "x": b64(x), "y": b64(y) },
        { "kty": "OKP", "crv": "Ed25519", "kid": "EdDSA", "x": b64(ed25519.public_key()) },
    ]});
    let rs256 = token("RS256", |message| {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(&RSA_PKCS1_SHA256, &rng, message, &mut signature).unwrap();
        signature
    });
    let es256 = token("ES256", |message| p256.sign(&rng, message).unwrap().as_ref().to_vec());
    let eddsa = token("EdDSA", |message| ed25519.sign(message).as_ref().to_vec());
    ([("RS256", rs256), ("ES256", es256), ("EdDSA", eddsa)], keys)
}

fn flow() -> Flow {
    Flow {
        id: FlowId(1),
        captured_cgroup: CgroupId(1),
        cgroup: CgroupId(1),
        pid: 1,
        tid: 1,
        uid: 0,
        comm: "psql".into(),
        netns: NetnsCookie(1),
        connected_at_boot_ns: u64::MAX,
        original_destination: OriginalDestination::new("127.0.0.1:5432".parse().unwrap()),
        client: ClientAddr("127.0.0.1:40000".parse().unwrap()),
    }
}

fn identity(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jwks.json");
    let (tokens, keys) = material();
    std::fs::write(&file, keys.to_string()).unwrap();
    let issuer = IssuerSettings {
        name: "ci".into(),
        issuer: ISSUER.into(),
        audiences: vec!["nodegate".into()],
        groups_claim: Some("groups".into()),
        roles_claim: None,
        claims: vec!["repository".into()],
        keys: KeySource::JwksFile(file),
        leeway: Duration::from_secs(30),
    };
    let identity = Identity::new(vec![issuer], vec![SourceSettings::Enrolled]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut group = c.benchmark_group("identity");
    for (algorithm, token) in &tokens {
        group.bench_function(format!("verify {algorithm}"), |b| {
            b.iter(|| runtime.block_on(identity.verify(black_box(token))).unwrap());
        });
    }
    let [(_, token), ..] = tokens;
    let flow = flow();
    runtime.block_on(identity.enrol(flow.captured_cgroup, token)).unwrap();
    group.bench_function("principal_for a known cgroup", |b| {
        // Many in one future, so that entering the runtime does not count.
        b.iter_custom(|iterations| {
            runtime.block_on(async {
                let start = std::time::Instant::now();
                for _ in 0..iterations {
                    black_box(identity.principal_for(black_box(&flow)).await.unwrap());
                }
                start.elapsed()
            })
        });
    });
    group.finish();
}

criterion_group!(benches, identity);
criterion_main!(benches);
