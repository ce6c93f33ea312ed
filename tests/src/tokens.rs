//! Keys and tokens made by hand, so that wrong ones can be made as well.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// The signature algorithms that issuers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA with SHA-256.
    Rs256,
    /// ECDSA on P-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// A signing key and the id under which its public half is published.
pub struct Key {
    id: String,
    pair: Pair,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl Key {
    /// A fresh key.
    pub fn generate(id: &str, algorithm: Algorithm) -> Self {
        let pair = match algorithm {
            Algorithm::Rs256 => {
                Pair::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key")))
            }
            Algorithm::Es256 => Pair::Ecdsa(Box::new(
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key"),
            )),
            Algorithm::EdDsa => Pair::Ed25519(Box::new(Ed25519KeyPair::generate().expect("an Ed25519 key"))),
        };
        Self { id: id.to_owned(), pair }
    }

    /// The `alg` of its tokens.
    pub const fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Ecdsa(_) => "ES256",
            Pair::Ed25519(_) => "EdDSA",
        }
    }

    /// The public half as a JSON Web Key.
    pub fn public_jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.pair {
            Pair::Rsa(pair) => {
                let (modulus, exponent) = rsa_numbers(pair.public_key().as_ref());
                json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.id,
                        "n": encode(&modulus), "e": encode(&exponent) })
            }
            Pair::Ecdsa(pair) => {
                let point = pair.public_key().as_ref();
                json!({ "kty": "EC", "use": "sig", "alg": "ES256", "crv": "P-256", "kid": self.id,
                        "x": encode(&point[1..33]), "y": encode(&point[33..65]) })
            }
            Pair::Ed25519(pair) => json!({ "kty": "OKP", "use": "sig", "alg": "EdDSA", "crv": "Ed25519",
                        "kid": self.id, "x": encode(pair.public_key().as_ref()) }),
        }
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let input = signing_input(&json!({ "alg": self.algorithm(), "typ": "JWT", "kid": self.id }), claims);
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, input.as_bytes(), &mut signature).expect("a signature");
                signature
            }
            Pair::Ecdsa(pair) => pair.sign(&random, input.as_bytes()).expect("a signature").as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(input.as_bytes()).as_ref().to_vec(),
        };
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The classic forgery: an HMAC with the published key as its secret.
    pub fn forge_with_public_key(&self, claims: &Value) -> String {
        let input = signing_input(&json!({ "alg": "HS256", "typ": "JWT", "kid": self.id }), claims);
        let secret = match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Ecdsa(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
        };
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), input.as_bytes());
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }

    /// The other classic: no signature at all, and a header that says so.
    pub fn unsigned(&self, claims: &Value) -> String {
        format!("{}.", signing_input(&json!({ "alg": "none", "typ": "JWT", "kid": self.id }), claims))
    }
}

fn signing_input(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// Modulus and exponent of a PKCS #1 `RSAPublicKey`: a sequence of two integers.
fn rsa_numbers(der: &[u8]) -> (Vec<u8>, Vec<u8>) {
    fn element(der: &[u8]) -> (&[u8], &[u8]) {
        let (length, start) = match der[1] {
            short if short < 0x80 => (usize::from(short), 2),
            long => {
                let count = usize::from(long & 0x7f);
                (der[2..2 + count].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), 2 + count)
            }
        };
        (&der[start..start + length], &der[start + length..])
    }
    let (inside, _) = element(der);
    let (modulus, rest) = element(inside);
    let (exponent, _) = element(rest);
    let unsigned = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    (unsigned(modulus), unsigned(exponent))
}

/// Seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since.as_secs()).expect("a date before the sun burns out")
}
