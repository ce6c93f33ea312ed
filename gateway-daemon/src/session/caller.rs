//! Who a session acts for, and for how long: a token ends, and its source may have a fresher one of the same identity.

use std::{sync::Arc, time::SystemTime};

use crate::{
    domain::{decision::Denial, flow::Flow, principal::Principal},
    identity::{Identity, IdentityError},
};

/// The identity that a session of `principal` goes on with: `None` while its own is valid, else the fresher token of the
/// same one, which its source may have.
///
/// # Errors
/// The session may not go on: there is no valid token, or the workload has become somebody else.
pub async fn renewed(
    identity: &Identity,
    flow: &Flow,
    principal: &Principal,
) -> Result<Option<Arc<Principal>>, Denial> {
    if principal.expires_at > SystemTime::now() {
        return Ok(None);
    }
    match identity.renew(flow).await {
        Ok(renewed) if renewed.id() == principal.id() => Ok(Some(renewed)),
        Ok(renewed) => Err(ended(format!(
            "this session belongs to {principal}, whose token has expired; the workload is now {renewed}"
        ))),
        Err(error) => Err(ended(error.to_string())),
    }
}

/// The refusal of a flow whose workload has no identity.
pub fn unidentified(error: &IdentityError) -> Denial {
    Denial::builtin(
        error.to_string(),
        "Enrol a valid token with `nodegate identity enrol`, or start with `nodegate run --token-file`.",
        "identity",
    )
}

fn ended(reason: String) -> Denial {
    Denial::builtin(reason, "Get a fresh token and connect again.", "identity")
}
