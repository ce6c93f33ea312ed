//! `vault:`, and passwords that are kept by a service.

use super::{Checker, Kind};
use crate::{
    config::{
        checked,
        raw::{self, At},
    },
    domain::credential::PasswordSource,
};

impl Checker {
    pub(super) fn vault(&mut self, at: &At<raw::Vault>) -> Option<checked::Vault> {
        let raw = &at.value;
        let address = self.text(&raw.address, "the address")?;
        let host = address.strip_prefix("https://").map(|rest| rest.trim_end_matches('/'));
        if host.is_none_or(|host| host.is_empty() || host.contains(['/', '?', '#', '@'])) {
            let hint = "write `https://host:port`: secrets are fetched over TLS that verifies only";
            self.note(&raw.address, "Vault cannot be reached by this address".to_owned(), Some(hint));
            return None;
        }
        let ca = match &raw.ca {
            None => None,
            Some(ca) => Some(self.existing(ca, Kind::File)?),
        };
        let namespace = self.optional_text(raw.namespace.as_ref(), "the namespace")?;
        let login = match (&raw.token, &raw.kubernetes) {
            (Some(token), None) => {
                checked::VaultLogin::TokenFile(self.existing(&token.value.file, Kind::File)?)
            }
            (None, Some(method)) => {
                let method = &method.value;
                let mount = self.optional_text(method.mount.as_ref(), "the mount")?;
                let token_file = match &method.token_file {
                    None => None,
                    Some(file) => Some(self.existing(file, Kind::File)?),
                };
                checked::VaultLogin::Kubernetes {
                    mount: mount.unwrap_or_else(|| "kubernetes".to_owned()),
                    role: self.text(&method.role, "the role")?,
                    token_file,
                }
            }
            _ => {
                let hint = "write `token: { file: … }` or `kubernetes: { role: … }`";
                self.note(at, "the daemon logs in at Vault in one way".to_owned(), Some(hint));
                return None;
            }
        };
        Some(checked::Vault { address, ca, namespace, login })
    }

    /// A password in Vault takes a Vault.
    pub(super) fn look_for_vault(&mut self, raw: &raw::Config) {
        if raw.vault.is_some() {
            return;
        }
        for target in &raw.targets.value {
            let credentials = target.value.credential.iter();
            let mut secrets = credentials.flat_map(|credential| credential.value.secrets());
            if let Some(secret) = secrets.find_map(|secret| secret.vault.as_ref()) {
                let hint = "add `vault: { address: https://…, token: { file: … } }`";
                self.note(secret, "no Vault is configured".to_owned(), Some(hint));
            }
        }
    }

    pub(super) fn kubernetes_secret(&mut self, at: &At<raw::KubernetesSecret>) -> Option<PasswordSource> {
        let raw = &at.value;
        let (namespace, name) =
            (self.name(&raw.namespace, "the namespace"), self.name(&raw.name, "the secret"));
        let key = self.name(&raw.key, "the key");
        let kubeconfig = match &raw.kubeconfig {
            None => None,
            Some(file) => Some(self.existing(file, Kind::File)?),
        };
        Some(PasswordSource::Kubernetes { kubeconfig, namespace: namespace?, name: name?, key: key? })
    }

    pub(super) fn vault_secret(&mut self, at: &At<raw::VaultSecret>) -> Option<PasswordSource> {
        let raw = &at.value;
        let mount = match &raw.mount {
            None => Some("secret".to_owned()),
            Some(mount) => self.vault_path(mount),
        };
        let (path, field) = (self.vault_path(&raw.path), self.text(&raw.field, "the field"));
        Some(PasswordSource::Vault { mount: mount?, path: path?, field: field? })
    }

    /// A path that stays where it is put: no `..`, nothing that ends it.
    fn vault_path(&mut self, at: &At<String>) -> Option<String> {
        let path = self.text(at, "the path")?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
        let steps = path.split('/').all(|step| !matches!(step, "" | "." | ".."));
        if !steps || !path.bytes().all(plain) {
            let hint = "write it without `data/`, such as `orders/database`";
            self.note(at, format!("`{}` is no path of a secret", path.escape_debug()), Some(hint));
            return None;
        }
        Some(path)
    }
}
