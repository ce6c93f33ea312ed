//! Secrets of a Vault server: the key/value engine, version 2, over its HTTP API.
//! <https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2>, "Read secret version"; and, for the login,
//! <https://developer.hashicorp.com/vault/api-docs/auth/kubernetes>, "Login".

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hyper::{
    Method, StatusCode, Uri,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use rustls::ClientConfig;
use serde_json::{Value, json};

use super::{https, read_small_file};
use crate::{domain::sensitive::Sensitive, tls::originate};

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// What a pod finds in itself.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// A token is renewed when so much of its time is left.
const BEFORE_ITS_END: Duration = Duration::from_secs(30);

/// Which Vault, and who the daemon is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultSettings {
    /// `https://host:port`, without a path.
    pub address: String,
    /// PEM file of the authorities to trust; the system's if none.
    pub ca: Option<PathBuf>,
    /// Vault's own namespaces (an enterprise feature).
    pub namespace: Option<String>,
    /// How the daemon logs in.
    pub login: VaultLogin,
}

/// How the daemon logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultLogin {
    /// With a token from a file, read again each time: something else renews it.
    TokenFile(PathBuf),
    /// With the token of the daemon's service account.
    Kubernetes {
        /// Where the method is mounted.
        mount: String,
        /// The role there.
        role: String,
        /// The service account's token; the pod's own if none.
        token_file: Option<PathBuf>,
    },
}

/// A client.
#[derive(Debug)]
pub(super) struct Vault {
    settings: VaultSettings,
    session: Mutex<Option<Session>>,
}

/// What a login gave.
#[derive(Debug, Clone)]
struct Session {
    token: Sensitive<String>,
    until: Instant,
}

impl Vault {
    pub(super) fn new(settings: VaultSettings) -> Self {
        Self { settings, session: Mutex::new(None) }
    }

    /// The secret's current version. An error shows nothing of it.
    pub(super) async fn read(&self, mount: &str, path: &str, field: &str) -> Result<String, String> {
        let ca = self.settings.ca.as_deref();
        let tls = originate::client_config(ca).map_err(|error| error.to_string())?;
        let uri = self.uri(&format!("{mount}/data/{path}"))?;
        let (mut status, mut body) = self.get(&tls, &uri).await?;
        if status == StatusCode::FORBIDDEN && self.forget_session() {
            // A session that was revoked is replaced once.
            (status, body) = self.get(&tls, &uri).await?;
        }
        match status {
            StatusCode::OK => {}
            StatusCode::FORBIDDEN => return Err("Vault refuses the daemon's token (403)".to_owned()),
            StatusCode::NOT_FOUND => {
                return Err("there is no such secret, or its version is deleted (404)".to_owned());
            }
            other => return Err(format!("Vault answered {}", other.as_u16())),
        }
        let value: Value =
            serde_json::from_slice(&body).map_err(|_| "Vault's answer is not JSON".to_owned())?;
        match value.pointer("/data/data").and_then(|data| data.get(field)) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(format!("the secret's field `{field}` is not a text")),
            None => Err(format!("the secret has no field `{field}`")),
        }
    }

    async fn get(&self, tls: &Arc<ClientConfig>, uri: &Uri) -> Result<(StatusCode, bytes::Bytes), String> {
        let token = self.token(tls).await?;
        let mut headers = self.headers()?;
        headers.push((TOKEN, secret_header(token.expose())?));
        let call = https::Call { method: Method::GET, uri: uri.clone(), headers, body: Vec::new() };
        https::call(tls, call).await
    }

    async fn token(&self, tls: &Arc<ClientConfig>) -> Result<Sensitive<String>, String> {
        match &self.settings.login {
            VaultLogin::TokenFile(path) => token_of(path),
            VaultLogin::Kubernetes { mount, role, token_file } => {
                if let Some(session) = self.session().clone().filter(|session| session.until > Instant::now())
                {
                    return Ok(session.token);
                }
                let file = token_file.as_deref().unwrap_or_else(|| Path::new(SERVICE_ACCOUNT_TOKEN));
                let session = self.log_in(tls, mount, role, file).await?;
                let token = session.token.clone();
                *self.session() = Some(session);
                Ok(token)
            }
        }
    }

    async fn log_in(
        &self,
        tls: &Arc<ClientConfig>,
        mount: &str,
        role: &str,
        file: &Path,
    ) -> Result<Session, String> {
        let body = json!({ "role": role, "jwt": token_of(file)?.expose() }).to_string().into_bytes();
        let mut headers = self.headers()?;
        headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        let call = https::Call {
            method: Method::POST,
            uri: self.uri(&format!("auth/{mount}/login"))?,
            headers,
            body,
        };
        let began = Instant::now();
        let (status, body) = https::call(tls, call).await?;
        if status != StatusCode::OK {
            return Err(format!("Vault refuses the login as role `{role}` ({})", status.as_u16()));
        }
        let answer: Value = serde_json::from_slice(&body)
            .map_err(|_| "Vault's answer to the login is not JSON".to_owned())?;
        let token = answer.pointer("/auth/client_token").and_then(Value::as_str);
        let token = token.ok_or("Vault's answer to the login has no token")?;
        let lasts = answer.pointer("/auth/lease_duration").and_then(Value::as_u64).unwrap_or(0);
        // One that never ends (0) is asked for anew each time: logins upstream are rare.
        let lasts = Duration::from_secs(lasts.min(86_400)).saturating_sub(BEFORE_ITS_END);
        Ok(Session { token: Sensitive::new(token.to_owned()), until: began + lasts })
    }

    /// Whether there was a session to forget.
    fn forget_session(&self) -> bool {
        self.session().take().is_some()
    }

    fn session(&self) -> std::sync::MutexGuard<'_, Option<Session>> {
        // A panic while it was held cannot leave it half changed.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        match &self.settings.namespace {
            None => Ok(Vec::new()),
            Some(namespace) => {
                let value = HeaderValue::from_str(namespace).map_err(|_| "the namespace is not usable")?;
                Ok(vec![(NAMESPACE, value)])
            }
        }
    }

    fn uri(&self, path: &str) -> Result<Uri, String> {
        format!("{}/v1/{path}", self.settings.address.trim_end_matches('/'))
            .parse()
            .map_err(|_| "the secret's path is not usable".to_owned())
    }
}

fn token_of(path: &Path) -> Result<Sensitive<String>, String> {
    let text =
        read_small_file(path).map_err(|error| format!("the token file {}: {error}", path.display()))?;
    Ok(Sensitive::new(text.trim().to_owned()))
}

fn secret_header(token: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(token).map_err(|_| "the token is not usable".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
