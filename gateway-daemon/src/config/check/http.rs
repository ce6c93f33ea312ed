//! `protocol: http`: what its targets take.

use super::{Checker, Kind};
use crate::{
    config::{
        checked,
        raw::{self, At},
    },
    domain::credential::PasswordSource,
};

/// Fields that carry the message itself: none of them can carry a secret beside that.
const NO_SECRETS: &[&str] = &[
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "expect",
    "content-type",
    "content-encoding",
];

impl Checker {
    pub(super) fn http(&mut self, entry: &At<raw::Target>) -> Option<checked::Http> {
        let raw = &entry.value;
        self.meaningless(raw.database.as_ref(), "database", "http");
        self.meaningless(raw.inspect.as_ref(), "inspect", "http");
        self.meaningless(raw.tags.values().next(), "tags", "http");
        let tls = self.there(entry, raw.tls.as_ref(), "tls");
        let tls = tls.and_then(|tls| self.http_tls(tls));
        let credential = match &raw.credential {
            None => Some(None),
            Some(credential) => self.http_credential(credential).map(Some),
        };
        let (client, upstream) = tls?;
        if let (checked::HttpClientTls::Passthrough, Some(credential)) = (client, &raw.credential) {
            let what = "with `client: passthrough` nothing is looked into, so `credential` has no meaning";
            self.note(credential, what.to_owned(), Some("leave it out, or write `client: terminate`"));
            return None;
        }
        Some(checked::Http { client, upstream, credential: credential? })
    }

    fn http_tls(
        &mut self,
        at: &At<raw::Tls>,
    ) -> Option<(checked::HttpClientTls, Option<checked::HttpUpstreamTls>)> {
        let raw = &at.value;
        let client = self.word(&raw.client, "client", &["terminate", "plaintext", "passthrough"], &[]);
        for (key, unused) in [
            ("server_name", &raw.server_name),
            ("negotiation", &raw.negotiation),
            ("channel_binding", &raw.channel_binding),
        ] {
            if let Some(unused) = unused {
                let what = format!("`{key}` has no meaning with `protocol: http`");
                let hint = "the name that is verified is the one that the agent asks for, as far as the target lists it";
                self.note(unused, what, Some(hint));
            }
        }
        let client = match client? {
            "terminate" => checked::HttpClientTls::Terminate,
            "passthrough" => {
                for unused in [&raw.upstream, &raw.ca].into_iter().flatten() {
                    let what = "with `client: passthrough` TLS is the two ends' own, so this has no meaning";
                    self.note(unused, what.to_owned(), Some("leave it out, or write `client: terminate`"));
                }
                return Some((checked::HttpClientTls::Passthrough, None));
            }
            _ => checked::HttpClientTls::Plaintext,
        };
        let word = self.there(at, raw.upstream.as_ref(), "upstream")?;
        let upstream = match (self.word(word, "upstream", &["verify-full", "none"], &[])?, &raw.ca) {
            ("verify-full", None) => Some(checked::HttpUpstreamTls { ca: None }),
            ("verify-full", Some(ca)) => {
                Some(checked::HttpUpstreamTls { ca: Some(self.existing(ca, Kind::File)?) })
            }
            (_, None) => None,
            (_, Some(ca)) => {
                let what =
                    "with `upstream: none` no certificate is checked, so this has no meaning".to_owned();
                self.note(ca, what, Some("write `upstream: verify-full`, or leave it out"));
                return None;
            }
        };
        Some((client, upstream))
    }

    fn http_credential(&mut self, at: &At<raw::Credential>) -> Option<checked::HttpCredential> {
        let raw = &at.value;
        let others = raw.username.is_some() || raw.password.is_some();
        match (&raw.bearer, &raw.basic, &raw.header, &raw.query) {
            (Some(token), None, None, None) if !others => {
                self.secret(token).map(checked::HttpCredential::Bearer)
            }
            (None, Some(login), None, None) if !others => {
                let username = self.text(&login.value.username, "the user's name");
                let password = self.secret(&login.value.password);
                let username = username?;
                if username.contains(':') {
                    let hint = "HTTP ends the name at the first colon (RFC 7617)";
                    self.note(&login.value.username, "the user's name has a colon".to_owned(), Some(hint));
                    return None;
                }
                Some(checked::HttpCredential::Basic { username, password: password? })
            }
            (None, None, Some(header), None) if !others => {
                let (name, value) = self.named_secret(header)?;
                let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
                if !name.bytes().all(is_name) || NO_SECRETS.contains(&name.to_ascii_lowercase().as_str()) {
                    let what = format!("`{}` is no field that can carry a credential", name.escape_debug());
                    self.note(&header.value.name, what, Some("write a name such as `X-Api-Key`"));
                    return None;
                }
                Some(checked::HttpCredential::Header { name, value })
            }
            (None, None, None, Some(query)) if !others => {
                let (name, value) = self.named_secret(query)?;
                Some(checked::HttpCredential::Query { name, value })
            }
            _ => {
                let hint = "write one of `bearer: { file: … }`, `basic: { username: …, password: { file: … } }`, \
                            `header: { name: …, value: { file: … } }` and `query: { name: …, value: { file: … } }`";
                self.note(at, "an HTTP target has one credential".to_owned(), Some(hint));
                None
            }
        }
    }

    fn named_secret(&mut self, at: &At<raw::NamedSecret>) -> Option<(String, PasswordSource)> {
        let name = self.text(&at.value.name, "the name");
        let value = self.secret(&at.value.value);
        Some((name?, value?))
    }
}
