//! Where a target's credential comes from. The secret itself is read at each login, never kept in the configuration.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Where a password is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PasswordSource {
    /// In a file, which is read again when it changes. One trailing line end is not part of the password.
    File(PathBuf),
    /// In the daemon's own environment, under this name.
    Environment(String),
    /// In a secret of Kubernetes.
    Kubernetes {
        /// How the API server is reached; `None` is what a pod finds in itself.
        kubeconfig: Option<PathBuf>,
        /// Where the secret is.
        namespace: String,
        /// Its name.
        name: String,
        /// The key in its data.
        key: String,
    },
    /// In Vault's key/value engine, version 2.
    Vault {
        /// Where the engine is mounted.
        mount: String,
        /// The secret's path there.
        path: String,
        /// The field in its data.
        field: String,
    },
}

impl fmt::Display for PasswordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::Kubernetes { namespace, name, key, .. } => {
                write!(f, "Kubernetes secret {namespace}/{name}, key {key}")
            }
            Self::Vault { mount, path, field } => write!(f, "Vault secret {mount}/{path}, field {field}"),
        }
    }
}
