//! A token's text in, a principal out. The order matters: form and algorithm before any key is looked at, the issuer
//! by its exact name, the key by the issuer's word, the signature over the very bytes that were read.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::crypto;
use serde_json::Value;

use super::{
    Clock, IdentityError, claims,
    error::shown,
    fetch::Limits,
    issuer::{Keys, Timing},
    settings::IssuerSettings,
    token::Unverified,
};
use crate::domain::principal::Principal;

/// Verifies tokens of all configured issuers.
pub(super) struct Verifier {
    issuers: Vec<Issuer>,
    clock: Arc<dyn Clock>,
}

struct Issuer {
    settings: IssuerSettings,
    keys: Arc<Keys>,
}

impl Verifier {
    pub(super) fn new(
        issuers: Vec<IssuerSettings>,
        clock: &Arc<dyn Clock>,
        limits: Limits,
        timing: Timing,
    ) -> Result<Self, IdentityError> {
        // Otherwise the library's cargo features choose, and panic where two of them are on. A second time is refused
        // and changes nothing.
        let _installed_before = crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let issuers = issuers
            .into_iter()
            .map(|settings| {
                let keys = Arc::new(Keys::new(&settings, Arc::clone(clock), limits, timing)?);
                Ok(Issuer { settings, keys })
            })
            .collect::<Result<_, IdentityError>>()?;
        Ok(Self { issuers, clock: Arc::clone(clock) })
    }

    /// The settings of all issuers.
    pub(super) fn settings(&self) -> Vec<IssuerSettings> {
        self.issuers.iter().map(|issuer| issuer.settings.clone()).collect()
    }

    /// The leeway of the issuer that vouches for `principal`.
    pub(super) fn leeway(&self, principal: &Principal) -> Duration {
        self.issuer(&principal.issuer_url).map_or(Duration::ZERO, |issuer| issuer.settings.leeway)
    }

    /// The principal that `token` proves, now.
    pub(super) async fn verify(&self, token: &str) -> Result<Arc<Principal>, IdentityError> {
        let token = Unverified::parse(token.trim_ascii())?;
        let Some(Value::String(claimed)) = token.claims.get("iss") else {
            return Err(IdentityError::Claim {
                claim: "iss".to_owned(),
                problem: "is missing or not a string",
            });
        };
        let issuer =
            self.issuer(claimed).ok_or_else(|| IdentityError::UnknownIssuer { issuer: shown(claimed) })?;
        let verdict = claims::principal(&issuer.settings, &token.claims, self.clock.wall());
        // Claims that refuse the token anyway are reason enough not to ask the issuer for a new key.
        if let Err(refusal) = &verdict
            && !issuer.keys.knows(token.algorithm, token.kid.as_deref())
        {
            return Err(refusal.clone());
        }
        let keys = issuer.keys.find(token.algorithm, token.kid.as_deref()).await?;
        let signed_by = |key| crypto::verify(token.signature, token.signed.as_bytes(), key, token.algorithm);
        if !keys.iter().any(|key| signed_by(key) == Ok(true)) {
            return Err(IdentityError::BadSignature { issuer: issuer.settings.name.clone() });
        }
        verdict.map(Arc::new)
    }

    fn issuer(&self, url: &str) -> Option<&Issuer> {
        self.issuers.iter().find(|issuer| issuer.settings.issuer == url)
    }
}
