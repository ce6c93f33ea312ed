//! The bodies of the admin API, as both ends of the socket know them. Errors are RFC 9457 problem details.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::{flow::Workload, ids::CgroupId, sensitive::Sensitive};

/// `POST /v1/identity`: who the caller's cgroup is. Answered with an [`IdentityView`](super::IdentityView).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// A signed OIDC token.
    pub token: Token,
    /// Another cgroup than the caller's own; for root outside captured cgroups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupId>,
}

/// `POST /v1/runs`: move a child of the caller into a fresh captured cgroup. Answered with [`RunStarted`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// The child, as the caller's own pid namespace numbers it.
    pub pid: u32,
    /// What listings and policies call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its identity; without one, it enrols later or a token source speaks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
}

/// A run that may begin.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunStarted {
    /// Its cgroup.
    #[serde(flatten)]
    pub workload: Workload,
    /// The certificate (PEM) of the node's authority, which it is to trust.
    pub authority: String,
}

/// `POST /v1/captures`: capture a cgroup that exists, by its path or by a process in it. Answered with a
/// [`Workload`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureRequest {
    /// Its directory: absolute, or relative to the cgroup2 mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// A process in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// What listings and policies call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// What went wrong, `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The status in words.
    pub title: String,
    /// One sentence for the caller.
    pub detail: String,
}

/// A token on its way: never shown by `Debug`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// Wraps the token's text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The token as the other rooms carry it, without white space around it.
    pub fn into_sensitive(self) -> Sensitive<String> {
        Sensitive::new(self.0.trim().to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes withheld>", self.0.len())
    }
}
