//! An issuer's public keys: JWK and JWK Set (RFC 7517, RFC 7518 §6, RFC 8037). A key is bound to the algorithms that
//! its type, curve, `alg`, `use` and `key_ops` allow at the moment it is read, so that a token cannot choose another.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::{json, token};

/// More keys than any issuer publishes.
const MOST_KEYS: usize = 256;

/// One key that may verify signatures.
pub(super) struct PublicKey {
    kid: Option<String>,
    kty: KeyType,
    /// The only algorithm that it is for, where the issuer says so.
    only: Option<Algorithm>,
    /// The key itself.
    pub(super) decoding: DecodingKey,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyType {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// Which keys of a set a token may have been signed with.
pub(super) enum Match<'a> {
    /// These; several only where the issuer gives one kid to several fitting keys.
    Keys(Vec<&'a PublicKey>),
    /// The kid exists, for another algorithm or another use.
    Unfit,
    /// There is no such key.
    Unknown,
}

impl PublicKey {
    fn fits(&self, algorithm: Algorithm) -> bool {
        let kty = match algorithm {
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512 => KeyType::Rsa,
            Algorithm::ES256 => KeyType::P256,
            Algorithm::ES384 => KeyType::P384,
            Algorithm::EdDSA => KeyType::Ed25519,
            _ => return false,
        };
        self.kty == kty && self.only.is_none_or(|only| only == algorithm)
    }
}

/// The keys that a token of `algorithm` and `kid` may be signed with. Without a kid there must be exactly one.
pub(super) fn matching<'a>(keys: &'a [PublicKey], algorithm: Algorithm, kid: Option<&str>) -> Match<'a> {
    let Some(kid) = kid else {
        let fitting: Vec<_> = keys.iter().filter(|key| key.fits(algorithm)).collect();
        return if fitting.len() == 1 { Match::Keys(fitting) } else { Match::Unknown };
    };
    let named: Vec<_> = keys.iter().filter(|key| key.kid.as_deref() == Some(kid)).collect();
    if named.is_empty() {
        return Match::Unknown;
    }
    let fitting: Vec<_> = named.into_iter().filter(|key| key.fits(algorithm)).collect();
    if fitting.is_empty() { Match::Unfit } else { Match::Keys(fitting) }
}

/// The usable keys of a JWK Set. Keys of other types, uses or strengths are left out, as RFC 7517 §5 asks; a
/// document that is no JWK Set at all is an error.
pub(super) fn parse_set(bytes: &[u8]) -> Result<Vec<PublicKey>, &'static str> {
    let document = json::object(bytes).ok_or("the key set is not a JSON object without repeated names")?;
    let Some(Value::Array(keys)) = document.get("keys") else {
        return Err("the key set has no list of keys");
    };
    if keys.len() > MOST_KEYS {
        return Err("the key set has more than 256 keys");
    }
    Ok(keys.iter().filter_map(Value::as_object).filter_map(public_key).collect())
}

fn public_key(jwk: &Map<String, Value>) -> Option<PublicKey> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    if jwk.contains_key("use") && text("use") != Some("sig") {
        return None;
    }
    if let Some(operations) = jwk.get("key_ops")
        && !operations.as_array()?.iter().any(|operation| operation == "verify")
    {
        return None;
    }
    let only = match jwk.get("alg") {
        None => None,
        Some(alg) => Some(token::accepted_algorithm(alg.as_str()?)?),
    };
    let kid = match jwk.get("kid") {
        None => None,
        Some(kid) => Some(kid.as_str()?.to_owned()),
    };
    let bytes = |name: &str| text(name).and_then(|encoded| URL_SAFE_NO_PAD.decode(encoded).ok());
    let (kty, decoding) = match (text("kty")?, text("crv")) {
        ("RSA", _) => (KeyType::Rsa, rsa(&bytes("n")?, &bytes("e")?)?),
        ("EC", Some("P-256")) => (KeyType::P256, point(&bytes("x")?, &bytes("y")?, 32)?),
        ("EC", Some("P-384")) => (KeyType::P384, point(&bytes("x")?, &bytes("y")?, 48)?),
        ("OKP", Some("Ed25519")) => {
            let x = bytes("x").filter(|x| x.len() == 32)?;
            (KeyType::Ed25519, DecodingKey::from_ed_der(&x))
        }
        // "oct" among them: a shared secret proves nothing about who signed.
        _ => return None,
    };
    Some(PublicKey { kid, kty, only, decoding })
}

/// Between 2,048 and 8,192 bits, with an odd exponent of at least 3: what the crypto library will verify with.
fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<DecodingKey> {
    let (modulus, exponent) = (unpadded(modulus), unpadded(exponent));
    let bits = modulus.len() * 8 - usize::try_from(modulus.first()?.leading_zeros()).ok()?;
    let odd = exponent.last()? & 1 == 1 && exponent != [1];
    ((2048..=8192).contains(&bits) && odd).then(|| DecodingKey::from_rsa_raw_components(modulus, exponent))
}

fn unpadded(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// An uncompressed point (SEC 1 §2.3.3). That it lies on the curve is checked when it is used.
fn point(x: &[u8], y: &[u8], coordinate_bytes: usize) -> Option<DecodingKey> {
    if x.len() != coordinate_bytes || y.len() != coordinate_bytes {
        return None;
    }
    Some(DecodingKey::from_ec_der(&[&[4], x, y].concat()))
}
