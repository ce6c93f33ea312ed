//! A token's outer form: JWS compact serialisation (RFC 7515 §7.1) as OpenID Connect uses it. Read once, here, so
//! that what is judged and what is verified cannot be two readings of the same bytes. Proves nothing by itself.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::{IdentityError, json};

/// No honest token is longer; it must also fit into one read of a hostile file.
pub(super) const LONGEST_TOKEN_BYTES: usize = 16 * 1024;

/// A token taken apart, nothing of it proven.
pub(super) struct Unverified<'a> {
    /// One of the accepted algorithms.
    pub(super) algorithm: Algorithm,
    /// The key that it claims to be signed with.
    pub(super) kid: Option<String>,
    /// What it claims.
    pub(super) claims: Map<String, Value>,
    /// The signed bytes: header and payload as they came.
    pub(super) signed: &'a str,
    /// The signature as it came.
    pub(super) signature: &'a str,
}

impl<'a> Unverified<'a> {
    /// Takes `token` apart. Everything that is not exactly three parts of canonical base64url, an object in each of
    /// the first two and an accepted public-key algorithm ends here, before any key is looked at.
    pub(super) fn parse(token: &'a str) -> Result<Self, IdentityError> {
        if token.len() > LONGEST_TOKEN_BYTES {
            return Err(malformed("it is longer than 16 KiB"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(malformed(THREE_PARTS))?;
        let (header, payload) = signed.split_once('.').ok_or(malformed(THREE_PARTS))?;
        if payload.contains('.') {
            return Err(malformed(THREE_PARTS));
        }
        let header = part(header)
            .ok_or(malformed("its header is not a base64url JSON object without repeated names"))?;
        let algorithm = algorithm(header.get("alg"))?;
        check_header(&header)?;
        let claims = part(payload)
            .ok_or(malformed("its payload is not a base64url JSON object without repeated names"))?;
        match URL_SAFE_NO_PAD.decode(signature) {
            Ok(bytes) if !bytes.is_empty() => {}
            Ok(_) => return Err(malformed("it bears no signature")),
            Err(_) => return Err(malformed("its signature is not base64url")),
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(malformed("its kid is not a string")),
        };
        Ok(Self { algorithm, kid, claims, signed, signature })
    }
}

const THREE_PARTS: &str = "it does not have three parts";

/// The accepted algorithm of that name. Exact case; `none`, HMAC and everything unknown are refused by not being
/// listed.
pub(super) fn accepted_algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" | "Ed25519" => Algorithm::EdDSA,
        _ => return None,
    })
}

fn algorithm(alg: Option<&Value>) -> Result<Algorithm, IdentityError> {
    match alg {
        Some(Value::String(name)) => accepted_algorithm(name).ok_or_else(|| {
            // Only the shape of a registered name is repeated; anything else is the token's own text.
            let printable = name.len() <= 16 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            let algorithm = if printable && !name.is_empty() { name } else { "of no known name" };
            IdentityError::AlgorithmRefused { algorithm: algorithm.to_owned() }
        }),
        Some(_) => Err(malformed("its alg is not a string")),
        None => Err(malformed("its header names no alg")),
    }
}

/// `crit` announces extensions that must be understood; none is. `typ` keeps other signed objects of the issuer
/// (logout tokens, security events) from passing as identities. Keys and URLs in the header (`jwk`, `jku`, `x5u`,
/// `x5c`) are never looked at.
fn check_header(header: &Map<String, Value>) -> Result<(), IdentityError> {
    if header.contains_key("crit") || header.contains_key("b64") {
        return Err(malformed("its header has critical extensions, none of which is supported"));
    }
    match header.get("typ") {
        None => Ok(()),
        Some(Value::String(typ)) => {
            let typ = typ.to_ascii_lowercase();
            match typ.strip_prefix("application/").unwrap_or(&typ) {
                "jwt" | "jose" | "at+jwt" => Ok(()),
                _ => Err(malformed("its typ is not that of an identity token")),
            }
        }
        Some(_) => Err(malformed("its typ is not a string")),
    }
}

fn part(encoded: &str) -> Option<Map<String, Value>> {
    json::object(&URL_SAFE_NO_PAD.decode(encoded).ok()?)
}

const fn malformed(problem: &'static str) -> IdentityError {
    IdentityError::Malformed { problem }
}
