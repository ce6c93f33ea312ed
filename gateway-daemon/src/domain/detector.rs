//! What can be looked for inside values: the names that `@detect` of a policy knows.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// One kind of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detector {
    /// E-mail addresses.
    Email,
    /// Telephone numbers, international and in common national forms.
    Phone,
    /// Numbers of payment cards.
    Card,
    /// International bank account numbers.
    Iban,
    /// Numbers that states give to people.
    NationalId,
    /// JSON web tokens.
    Jwt,
    /// Private keys in PEM, and age's.
    PrivateKey,
    /// The password in a URL.
    UrlPassword,
    /// Keys of AWS, Google Cloud and Azure.
    CloudKey,
    /// Tokens of other services that can be known by their form.
    ApiToken,
}

impl Detector {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Email,
        Self::Phone,
        Self::Card,
        Self::Iban,
        Self::NationalId,
        Self::Jwt,
        Self::PrivateKey,
        Self::UrlPassword,
        Self::CloudKey,
        Self::ApiToken,
    ];

    /// As policies write it, and as it stands in a hit's place.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Card => "card",
            Self::Iban => "iban",
            Self::NationalId => "national_id",
            Self::Jwt => "jwt",
            Self::PrivateKey => "private_key",
            Self::UrlPassword => "url_password",
            Self::CloudKey => "cloud_key",
            Self::ApiToken => "api_token",
        }
    }

    /// What a name in `@detect` means: one detector, or a group of them.
    pub fn named(name: &str) -> Option<BTreeSet<Self>> {
        use Detector::{
            ApiToken, Card, CloudKey, Email, Iban, Jwt, NationalId, Phone, PrivateKey, UrlPassword,
        };
        Some(match name {
            "all" => Self::ALL.into(),
            "personal" => [Email, Phone, Card, Iban, NationalId].into(),
            "secrets" => [Jwt, PrivateKey, UrlPassword, CloudKey, ApiToken].into(),
            _ => [Self::ALL.into_iter().find(|detector| detector.name() == name)?].into(),
        })
    }
}
