//! The configuration file as it is written: every key that this version knows, with the place of each value. What
//! the values mean is [`check`](super::check)'s business.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{
        MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};
use serde_saphyr::Spanned;

/// A value and where it stands.
pub(super) type At<T> = Spanned<T>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    pub mode: Option<At<String>>,
    pub identity: At<Identity>,
    pub targets: At<Vec<At<Target>>>,
    pub policy: Policy,
    pub audit: Audit,
    pub recording: Option<Recording>,
    #[serde(default)]
    pub admin: Admin,
    #[serde(default)]
    pub capture: Capture,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub dns: Dns,
    pub kubernetes: Option<At<Kubernetes>>,
    pub vault: Option<At<Vault>>,
    /// Known to later versions; named here so that the error can say so.
    pub approvals: Option<At<Later>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    pub issuers: At<Vec<At<Issuer>>>,
    pub sources: Option<At<Vec<At<Source>>>>,
    pub leeway: Option<At<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the file's own keys")]
pub(super) struct Issuer {
    pub name: At<String>,
    pub issuer: At<String>,
    pub audience: At<OneOrMany>,
    pub groups_claim: Option<At<String>>,
    pub roles_claim: Option<At<String>>,
    #[serde(default)]
    pub claims: Vec<At<String>>,
    pub jwks_file: Option<At<String>>,
    pub ca: Option<At<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    pub kind: At<String>,
    pub path: Option<At<String>>,
    pub variable: Option<At<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    pub name: At<String>,
    pub protocol: At<String>,
    #[serde(default)]
    pub hosts: Vec<At<String>>,
    #[serde(default)]
    pub cidrs: Vec<At<String>>,
    pub ports: At<Vec<At<u32>>>,
    pub database: Option<At<String>>,
    pub mode: Option<At<String>>,
    pub inspect: Option<At<String>>,
    pub upstream_from: Option<At<String>>,
    pub concealed: Option<At<String>>,
    pub tls: Option<At<Tls>>,
    pub credential: Option<At<Credential>>,
    #[serde(default)]
    pub tags: BTreeMap<String, At<Vec<At<String>>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub client: At<String>,
    pub upstream: Option<At<String>>,
    pub ca: Option<At<String>>,
    pub server_name: Option<At<String>>,
    pub negotiation: Option<At<String>>,
    pub channel_binding: Option<At<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credential {
    pub username: Option<At<String>>,
    pub password: Option<At<Password>>,
    pub bearer: Option<At<Password>>,
    pub basic: Option<At<Basic>>,
    pub header: Option<At<NamedSecret>>,
    pub query: Option<At<NamedSecret>>,
}

impl Credential {
    /// Every secret in it.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Password> {
        let named = self.header.iter().chain(&self.query).map(|named| &named.value.value.value);
        let basic = self.basic.iter().map(|basic| &basic.value.password.value);
        self.password.iter().chain(&self.bearer).map(|secret| &secret.value).chain(basic).chain(named)
    }
}

/// HTTP's user and password.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Basic {
    pub username: At<String>,
    pub password: At<Password>,
}

/// A secret in a place of its own: a field, or a parameter.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedSecret {
    pub name: At<String>,
    pub value: At<Password>,
}

#[derive(Debug)]
pub(super) struct Password {
    pub file: Option<At<String>>,
    pub environment: Option<At<String>>,
    pub kubernetes: Option<At<KubernetesSecret>>,
    pub vault: Option<At<VaultSecret>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KubernetesSecret {
    pub namespace: At<String>,
    pub name: At<String>,
    pub key: At<String>,
    pub kubeconfig: Option<At<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VaultSecret {
    pub mount: Option<At<String>>,
    pub path: At<String>,
    pub field: At<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vault {
    pub address: At<String>,
    pub ca: Option<At<String>>,
    pub namespace: Option<At<String>>,
    pub token: Option<At<VaultToken>>,
    pub kubernetes: Option<At<VaultKubernetes>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VaultToken {
    pub file: At<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VaultKubernetes {
    pub role: At<String>,
    pub mount: Option<At<String>>,
    pub token_file: Option<At<String>>,
}

/// Like a derived one, but that a password in place of its source is answered with more than "not a mapping".
impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Keys {
            file: Option<At<String>>,
            environment: Option<At<String>>,
            kubernetes: Option<At<KubernetesSecret>>,
            vault: Option<At<VaultSecret>>,
        }
        struct Source;
        impl<'de> Visitor<'de> for Source {
            type Value = Password;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`{ file: … }`, `{ environment: … }`, `{ kubernetes: … }` or `{ vault: … }`, not the password itself,")
            }

            fn visit_map<A: MapAccess<'de>>(self, keys: A) -> Result<Password, A::Error> {
                let Keys { file, environment, kubernetes, vault } =
                    Keys::deserialize(MapAccessDeserializer::new(keys))?;
                Ok(Password { file, environment, kubernetes, vault })
            }
        }
        deserializer.deserialize_any(Source)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    pub dir: At<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Audit {
    pub dir: At<String>,
    pub retention_days: Option<At<u32>>,
    pub on_failure: Option<At<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recording {
    pub result_size: Option<At<Size>>,
    pub session_size: Option<At<Size>>,
    pub total_size: Option<At<Size>>,
    pub retention_days: Option<At<u32>>,
    pub on_failure: Option<At<String>>,
}

/// A number of bytes, or a text with a unit.
#[derive(Debug)]
pub(super) struct Size(pub String);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size, such as `64KiB`")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                Ok(Size(text.to_owned()))
            }

            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes.to_string()))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub socket: Option<At<String>>,
    pub listen: Option<At<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Capture {
    pub pins: Option<At<String>>,
    pub cgroup_parent: Option<At<String>>,
    pub existing: Option<At<String>>,
    #[serde(default)]
    pub deny_unix: Vec<At<String>>,
    #[serde(default)]
    pub allow_unix: Vec<At<String>>,
    pub root: Option<At<String>>,
    #[serde(default)]
    pub accept: Vec<At<String>>,
    #[serde(default)]
    pub labels: BTreeMap<String, Label>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Label {
    pub mode: At<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kubernetes {
    pub node: At<Node>,
    pub kubeconfig: Option<At<String>>,
    pub unknown_pods: Option<At<String>>,
}

/// A node's name, or the variable of the daemon's own environment that holds it.
#[derive(Debug)]
pub(super) enum Node {
    Name(String),
    Environment(String),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Keys {
            environment: String,
        }
        struct Source;
        impl<'de> Visitor<'de> for Source {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the node's name, or `{ environment: VARIABLE }`")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Node, E> {
                Ok(Node::Name(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, keys: A) -> Result<Node, A::Error> {
                let Keys { environment } = Keys::deserialize(MapAccessDeserializer::new(keys))?;
                Ok(Node::Environment(environment))
            }
        }
        deserializer.deserialize_any(Source)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub sessions: Option<At<u32>>,
    pub startup_timeout: Option<At<String>>,
    pub idle_timeout: Option<At<String>>,
    pub drain_timeout: Option<At<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dns {
    #[serde(default)]
    pub trusted: Vec<At<String>>,
    pub refuse_with: Option<At<String>>,
    pub timeout: Option<At<String>>,
    pub queries_per_second: Option<At<u32>>,
    pub odd_bytes_per_minute: Option<At<u32>>,
}

/// Anything at all: only that it is there matters.
#[derive(Debug)]
pub(super) struct Later;

impl<'de> Deserialize<'de> for Later {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// A text, or a list of texts.
#[derive(Debug)]
pub(super) struct OneOrMany(pub Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, texts: A) -> Result<OneOrMany, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(texts)).map(OneOrMany)
            }
        }
        deserializer.deserialize_any(Texts)
    }
}
