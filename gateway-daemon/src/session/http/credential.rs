//! What the daemon puts into requests so that the server takes them, and what it takes out of them first: whatever the
//! agent sent in the same place.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    credential::{CredentialError, Provider},
    domain::{credential::PasswordSource, sensitive::Sensitive},
    protocol::http::Field,
};

/// A secret is read again after so long: a rotated one is used at once, as far as anybody can see.
const FRESH: Duration = Duration::from_secs(1);

/// The credential of a target.
#[derive(Debug)]
pub struct Credential {
    place: Place,
    source: PasswordSource,
    kept: Mutex<Option<(Instant, Sensitive<String>)>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Bearer,
    Basic { username: String },
    Header { name: String },
    Query { name: String },
}

/// The credential as one request bears it.
#[derive(Debug)]
pub(super) enum Injected {
    /// A field.
    Header(String, Sensitive<String>),
    /// A parameter's name and its encoded value.
    Query(String, Sensitive<String>),
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoCredential {
    #[error(transparent)]
    Source(#[from] CredentialError),
    /// It would end the field that it stands in.
    #[error("the {0} has characters that no field can bear")]
    Unfit(PasswordSource),
}

impl Credential {
    /// `Authorization: Bearer`.
    pub fn bearer(token: PasswordSource) -> Self {
        Self::new(Place::Bearer, token)
    }

    /// `Authorization: Basic` (RFC 7617).
    pub fn basic(username: String, password: PasswordSource) -> Self {
        Self::new(Place::Basic { username }, password)
    }

    /// A field of its own.
    pub fn header(name: String, value: PasswordSource) -> Self {
        Self::new(Place::Header { name }, value)
    }

    /// A parameter of the query.
    pub fn query(name: String, value: PasswordSource) -> Self {
        Self::new(Place::Query { name }, value)
    }

    fn new(place: Place, source: PasswordSource) -> Self {
        Self { place, source, kept: Mutex::new(None) }
    }

    /// Whether a field of the agent's stands where the credential belongs, for some server.
    pub(super) fn displaces(&self, field: &Field<'_>) -> bool {
        match &self.place {
            Place::Bearer | Place::Basic { .. } => field.resembles("authorization"),
            Place::Header { name } => field.resembles(&name.to_ascii_lowercase()),
            Place::Query { .. } => false,
        }
    }

    /// The name of the parameter that the credential is.
    pub(super) fn parameter(&self) -> Option<&str> {
        match &self.place {
            Place::Query { name } => Some(name),
            Place::Bearer | Place::Basic { .. } | Place::Header { .. } => None,
        }
    }

    /// What a request bears now.
    pub(super) async fn now(&self, provider: &Provider) -> Result<Injected, NoCredential> {
        let secret = self.secret(provider).await?;
        let text = secret.expose();
        let plain = |text: &str| !text.bytes().any(|byte| byte.is_ascii_control());
        if !plain(text) {
            return Err(NoCredential::Unfit(self.source.clone()));
        }
        Ok(match &self.place {
            Place::Bearer => header("Authorization", format!("Bearer {text}")),
            Place::Basic { username } => {
                header("Authorization", format!("Basic {}", STANDARD.encode(format!("{username}:{text}"))))
            }
            Place::Header { name } => header(name, text.clone()),
            Place::Query { name } => Injected::Query(encoded(name), Sensitive::new(encoded(text))),
        })
    }

    async fn secret(&self, provider: &Provider) -> Result<Sensitive<String>, CredentialError> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((read, secret)) = kept
            && read.elapsed() < FRESH
        {
            return Ok(secret);
        }
        let secret = provider.password(&self.source).await?;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), secret.clone()));
        Ok(secret)
    }
}

fn header(name: &str, value: String) -> Injected {
    Injected::Header(name.to_owned(), Sensitive::new(value))
}

/// Encoded so that no server reads anything but the text (RFC 3986 §2.3).
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use std::fs;

    use super::{Credential, Injected};
    use crate::{credential::Provider, domain::credential::PasswordSource};

    async fn now(make: impl FnOnce(PasswordSource) -> Credential, secret: &str) -> Option<(String, String)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, secret).unwrap();
        match make(PasswordSource::File(path)).now(&Provider::default()).await.ok()? {
            Injected::Header(name, value) | Injected::Query(name, value) => {
                Some((name, value.expose().clone()))
            }
        }
    }

    #[tokio::test]
    async fn each_kind_stands_where_servers_look_for_it() {
        let pair = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        assert_eq!(now(Credential::bearer, "t0k3n\n").await, pair("Authorization", "Bearer t0k3n"));
        let basic = |source| Credential::basic("Aladdin".to_owned(), source);
        let expected = pair("Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(now(basic, "open sesame").await, expected);
        let header = |source| Credential::header("X-Api-Key".to_owned(), source);
        assert_eq!(now(header, "k").await, pair("X-Api-Key", "k"));
        let query = |source| Credential::query("api key".to_owned(), source);
        assert_eq!(now(query, "a&b=%").await, pair("api%20key", "a%26b%3D%25"));
        // It would begin another field.
        assert_eq!(now(Credential::bearer, "a\r\nX-Admin: yes").await, None);
    }
}
