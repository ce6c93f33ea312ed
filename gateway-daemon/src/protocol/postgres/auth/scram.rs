//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS: RFC 5802 with the hash of RFC 7677, as PostgreSQL speaks it.
//! A state consumes itself and returns the next.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{AuthError, login::Password, prepare::prepare};

/// RFC 7677 asks for at least this many: fewer would let a false server guess the password from our proof.
pub const MIN_ITERATIONS: u32 = 4096;
/// Some tenths of a second of one core: more would let a false server stall the client.
pub const MAX_ITERATIONS: u32 = 1_000_000;

/// The mechanism's name.
pub(super) const MECHANISM: &[u8] = b"SCRAM-SHA-256";
/// The name of the one with channel binding.
pub(super) const BINDING: &[u8] = b"SCRAM-SHA-256-PLUS";

/// No message of an honest server comes near.
const MAX_MESSAGE_BYTES: usize = 4096;
const MAX_SALT_BYTES: usize = 1024;
const KEY_BYTES: usize = 32;

type Key = [u8; KEY_BYTES];

/// What the password becomes for one salt and iteration count: deriving it is nearly all of a login's cost, so a
/// caller that logs in often keeps it. As secret as the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    salt: Vec<u8>,
    iterations: u32,
    client: Key,
    server: Key,
}

impl std::fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ScramKeys {{ iterations: {}, <keys withheld> }}", self.iterations)
    }
}

impl ScramKeys {
    fn derive(password: &Password, salt: &[u8], iterations: u32) -> Result<Self, AuthError> {
        let mut salted = [0; KEY_BYTES];
        let rounds = NonZeroU32::new(iterations).ok_or(AuthError::Crypto)?;
        let prepared = prepare(password.expose());
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, &prepared, &mut salted);
        Ok(Self {
            salt: salt.to_vec(),
            iterations,
            client: mac(&salted, b"Client Key")?,
            server: mac(&salted, b"Server Key")?,
        })
    }

    fn fits(&self, salt: &[u8], iterations: u32) -> bool {
        self.salt == salt && self.iterations == iterations
    }
}

/// What the exchange says of the channel that it runs in: the `gs2-cbind-flag`.
#[derive(Clone)]
pub(super) enum ChannelBinding {
    /// The client knows none.
    Unsupported,
    /// The client would, but has heard of none from the server: a server that offered one ends the login.
    NotOffered,
    /// The hash of the server's certificate.
    EndPoint(Vec<u8>),
}

impl ChannelBinding {
    /// No authorisation identity.
    const fn header(&self) -> &'static str {
        match self {
            Self::Unsupported => "n,,",
            Self::NotOffered => "y,,",
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    /// `cbind-input`, as base64.
    fn input(&self) -> String {
        let mut input = self.header().as_bytes().to_vec();
        if let Self::EndPoint(hash) = self {
            input.extend_from_slice(hash);
        }
        STANDARD.encode(input)
    }
}

/// The client's first message is out.
pub(super) struct AwaitChallenge {
    nonce: String,
    first_bare: String,
    binding: ChannelBinding,
}

/// The client's proof is out.
pub(super) struct AwaitProof {
    signature: Key,
    /// What the proof was made with.
    pub(super) keys: ScramKeys,
}

/// Begins an exchange; `nonce` is printable and without a comma. PostgreSQL takes the user from the startup
/// packet and ignores the one here, which libpq therefore leaves empty.
pub(super) fn begin(user: &str, nonce: String, binding: ChannelBinding) -> (AwaitChallenge, Vec<u8>) {
    let first_bare = format!("n={user},r={nonce}");
    let message = format!("{}{first_bare}", binding.header()).into_bytes();
    (AwaitChallenge { nonce, first_bare, binding }, message)
}

impl AwaitChallenge {
    /// Answers the server's first message. Keys from an earlier login are used if salt and iterations are the same.
    pub(super) fn answer(
        self,
        password: &Password,
        kept: Option<ScramKeys>,
        message: &[u8],
    ) -> Result<(AwaitProof, Vec<u8>), AuthError> {
        let server_first = text(message)?;
        let challenge = Challenge::read(server_first)?;
        let added = challenge.nonce.strip_prefix(self.nonce.as_str()).ok_or(AuthError::ForeignNonce)?;
        if added.is_empty() {
            return Err(AuthError::ForeignNonce);
        }
        let keys = match kept {
            Some(keys) if keys.fits(&challenge.salt, challenge.iterations) => keys,
            _ => ScramKeys::derive(password, &challenge.salt, challenge.iterations)?,
        };
        let without_proof = format!("c={},r={}", self.binding.input(), challenge.nonce);
        let signed = format!("{},{server_first},{without_proof}", self.first_bare);
        let stored = sha256(&keys.client)?;
        let client_signature = mac(&stored, signed.as_bytes())?;
        let proof = xor(&keys.client, &client_signature);
        let signature = mac(&keys.server, signed.as_bytes())?;
        let reply = format!("{without_proof},p={}", STANDARD.encode(proof));
        Ok((AwaitProof { signature, keys }, reply.into_bytes()))
    }
}

impl AwaitProof {
    /// Checks the server's last message; on success the keys, for a later login.
    pub(super) fn verify(self, message: &[u8]) -> Result<ScramKeys, AuthError> {
        let mut attributes = text(message)?.split(',');
        let first = attributes.next().unwrap_or_default();
        if first.starts_with("e=") {
            return Err(AuthError::Refused);
        }
        let encoded = first.strip_prefix("v=").ok_or(AuthError::MalformedScram { what: "no verifier" })?;
        check_extensions(attributes)?;
        let signature = STANDARD
            .decode(encoded)
            .map_err(|_| AuthError::MalformedScram { what: "verifier is not base64" })?;
        constant_time::verify_slices_are_equal(&signature, &self.signature)
            .map_err(|_| AuthError::ServerSignature)?;
        Ok(self.keys)
    }
}

/// server-first-message = [reserved-mext ","] nonce "," salt "," iteration-count ["," extensions]
struct Challenge<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: u32,
}

impl<'a> Challenge<'a> {
    fn read(message: &'a str) -> Result<Self, AuthError> {
        let mut attributes = message.split(',');
        let mut take = |prefix: &str, what: &'static str| {
            attributes
                .next()
                .and_then(|attribute| attribute.strip_prefix(prefix))
                .ok_or(AuthError::MalformedScram { what })
        };
        // A mandatory extension (`m=`) stands first, and is thereby refused as it must be.
        let nonce = take("r=", "no nonce")?;
        let salt = take("s=", "no salt")?;
        let iterations = take("i=", "no iteration count")?;
        check_extensions(attributes)?;
        if !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AuthError::MalformedScram { what: "nonce is not printable" });
        }
        let salt =
            STANDARD.decode(salt).map_err(|_| AuthError::MalformedScram { what: "salt is not base64" })?;
        if salt.is_empty() || salt.len() > MAX_SALT_BYTES {
            return Err(AuthError::MalformedScram { what: "salt size" });
        }
        Ok(Self { nonce, salt, iterations: read_iterations(iterations)? })
    }
}

/// posit-number = %x31-39 *DIGIT, within the limits.
fn read_iterations(text: &str) -> Result<u32, AuthError> {
    let malformed = AuthError::MalformedScram { what: "iteration count" };
    if text.starts_with('0') || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed);
    }
    let iterations: u64 = text.parse().map_err(|_| malformed)?;
    u32::try_from(iterations)
        .ok()
        .filter(|count| (MIN_ITERATIONS..=MAX_ITERATIONS).contains(count))
        .ok_or(AuthError::Iterations { iterations, min: MIN_ITERATIONS, max: MAX_ITERATIONS })
}

/// extensions = attr-val *("," attr-val): optional ones are ignored, but must be well formed.
fn check_extensions<'a>(attributes: impl Iterator<Item = &'a str>) -> Result<(), AuthError> {
    for attribute in attributes {
        let well_formed = attribute.split_once('=').is_some_and(|(name, value)| {
            name.len() == 1
                && name.bytes().all(|byte| byte.is_ascii_alphabetic() && byte != b'm')
                && !value.is_empty()
        });
        if !well_formed {
            return Err(AuthError::MalformedScram { what: "extension" });
        }
    }
    Ok(())
}

fn text(message: &[u8]) -> Result<&str, AuthError> {
    if message.len() > MAX_MESSAGE_BYTES {
        return Err(AuthError::MalformedScram { what: "size" });
    }
    std::str::from_utf8(message).map_err(|_| AuthError::MalformedScram { what: "not UTF-8" })
}

fn mac(key: &[u8], data: &[u8]) -> Result<Key, AuthError> {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    tag.as_ref().try_into().map_err(|_| AuthError::Crypto)
}

fn sha256(data: &[u8]) -> Result<Key, AuthError> {
    digest::digest(&digest::SHA256, data).as_ref().try_into().map_err(|_| AuthError::Crypto)
}

fn xor(left: &Key, right: &Key) -> Key {
    let mut out = *left;
    for (byte, other) in out.iter_mut().zip(right) {
        *byte ^= other;
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests;
