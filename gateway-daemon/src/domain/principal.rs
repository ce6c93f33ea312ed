//! Who is calling, once a signature has proved it.

use std::{collections::BTreeMap, fmt, time::SystemTime};

use serde::{Deserialize, Serialize};

/// A verified machine identity. Only the identity room makes one, and only from a token that verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// `identity.issuers[].name` of the configuration.
    pub issuer: String,
    /// The issuer's URL, the `iss` claim.
    pub issuer_url: String,
    /// The `sub` claim.
    pub subject: String,
    /// From the configured groups claim, as the issuer wrote them, sorted, without doubles.
    pub groups: Vec<String>,
    /// From the configured roles claim, sorted, without doubles.
    pub roles: Vec<String>,
    /// The other claims that the configuration names for use in policies, as text.
    pub claims: BTreeMap<String, String>,
    /// The `exp` claim, without leeway.
    pub expires_at: SystemTime,
}

impl Principal {
    /// `<issuer url>|<subject>`: the entity id of `Agent` in policies and the identity in audit records.
    pub fn id(&self) -> String {
        format!("{}|{}", self.issuer_url, self.subject)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|{}", self.issuer_url, self.subject)
    }
}
