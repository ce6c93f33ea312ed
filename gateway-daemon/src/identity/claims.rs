//! What a token's claims mean: audience, times, subject, groups, roles (RFC 7519 §4.1, OpenID Connect Core §2).
//! Pure: time enters as an argument. A claim of the wrong kind refuses the token; were it read as absent, a rule
//! that forbids by group would not apply.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value};

use super::{IdentityError, settings::IssuerSettings};
use crate::domain::principal::Principal;

type Claims = Map<String, Value>;

/// 9999-12-31T23:59:59Z, the last second that RFC 3339 can print.
const LAST_SECOND: u64 = 253_402_300_799;

const LONGEST_SUBJECT_BYTES: usize = 1024;

/// The principal that `claims` name, if they hold at `now`. The signature is somebody else's business.
pub(super) fn principal(
    settings: &IssuerSettings,
    claims: &Claims,
    now: SystemTime,
) -> Result<Principal, IdentityError> {
    check_audience(settings, claims)?;
    let expires_at = date(claims, "exp")?.ok_or_else(|| wrong("exp", "is missing"))?;
    for claim in ["nbf", "iat"] {
        if let Some(at) = date(claims, claim)?
            && at > now + settings.leeway
        {
            return Err(IdentityError::NotYetValid { at });
        }
    }
    if !in_force(expires_at, settings.leeway, now) {
        return Err(IdentityError::Expired { at: expires_at });
    }
    Ok(Principal {
        issuer: settings.name.clone(),
        issuer_url: settings.issuer.clone(),
        subject: subject(claims)?,
        groups: names(claims, settings.groups_claim.as_deref())?,
        roles: names(claims, settings.roles_claim.as_deref())?,
        claims: texts(claims, &settings.claims),
        expires_at,
    })
}

/// Whether an expiry, with leeway, lies ahead. At the very second it does not (RFC 7519 §4.1.4).
pub(super) fn in_force(expires_at: SystemTime, leeway: Duration, now: SystemTime) -> bool {
    now < expires_at + leeway
}

fn check_audience(settings: &IssuerSettings, claims: &Claims) -> Result<(), IdentityError> {
    let accepted = |audience: &str| settings.audiences.iter().any(|ours| ours == audience);
    let fits = match claims.get("aud") {
        None => return Err(wrong("aud", "is missing")),
        Some(Value::String(audience)) => accepted(audience),
        Some(Value::Array(audiences)) => {
            let mut fits = false;
            for audience in audiences {
                let Value::String(audience) = audience else {
                    return Err(wrong("aud", "is not made of strings"));
                };
                fits |= accepted(audience);
            }
            fits
        }
        Some(_) => return Err(wrong("aud", "is neither a string nor a list of strings")),
    };
    if fits {
        return Ok(());
    }
    Err(IdentityError::Audience { issuer: settings.name.clone(), expected: settings.audiences.join(" or ") })
}

/// A NumericDate: seconds since 1970, whole or not. Fractions are cut off.
fn date(claims: &Claims, claim: &str) -> Result<Option<SystemTime>, IdentityError> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    let Value::Number(number) = value else { return Err(wrong(claim, "is not a number of seconds")) };
    let seconds = match (number.as_u64(), number.as_f64()) {
        (Some(seconds), _) => seconds,
        (None, Some(seconds)) if seconds >= 0.0 => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates; checked below"
            )]
            let whole = seconds as u64;
            whole
        }
        _ => return Err(wrong(claim, "is not a time after 1970")),
    };
    if seconds > LAST_SECOND {
        return Err(wrong(claim, "is later than the year 9999"));
    }
    Ok(Some(UNIX_EPOCH + Duration::from_secs(seconds)))
}

fn subject(claims: &Claims) -> Result<String, IdentityError> {
    match claims.get("sub") {
        None => Err(wrong("sub", "is missing")),
        Some(Value::String(subject)) if subject.is_empty() => Err(wrong("sub", "is empty")),
        Some(Value::String(subject)) if subject.len() > LONGEST_SUBJECT_BYTES => {
            Err(wrong("sub", "is longer than 1,024 bytes"))
        }
        // It becomes part of audit records and messages.
        Some(Value::String(subject)) if subject.chars().any(char::is_control) => {
            Err(wrong("sub", "holds control characters"))
        }
        Some(Value::String(subject)) => Ok(subject.clone()),
        Some(_) => Err(wrong("sub", "is not a string")),
    }
}

/// Groups or roles: a list of strings, or one string, which is one name whatever it holds. Sorted, no doubles.
fn names(claims: &Claims, claim: Option<&str>) -> Result<Vec<String>, IdentityError> {
    let Some(claim) = claim else { return Ok(Vec::new()) };
    let mut names = match find(claims, claim) {
        // OpenID Connect Core §5.6.2: "it is elsewhere" is not "there is none".
        None if distributed(claims, claim) => {
            return Err(wrong(claim, "is not in the token but elsewhere, where it is not looked for"));
        }
        None => Vec::new(),
        Some(Value::String(name)) => vec![name.clone()],
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| wrong(claim, "is not made of strings"))?,
        Some(_) => return Err(wrong(claim, "is neither a string nor a list of strings")),
    };
    if names.iter().any(|name| name.is_empty() || name.chars().any(char::is_control)) {
        return Err(wrong(claim, "holds an empty name or a control character"));
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn distributed(claims: &Claims, claim: &str) -> bool {
    let top = claim.split('.').next().unwrap_or(claim);
    matches!(claims.get("_claim_names"), Some(Value::Object(elsewhere))
        if elsewhere.contains_key(claim) || elsewhere.contains_key(top))
}

/// The configured further claims as text: strings as they are, everything else as JSON. `null` is absence.
fn texts(claims: &Claims, wanted: &[String]) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    wanted
        .iter()
        .filter_map(|claim| {
            Some((claim.clone(), find(claims, claim).filter(|value| !value.is_null()).map(text)?))
        })
        .collect()
}

/// A claim by name. A top-level claim of exactly that name comes first, because some issuers put URLs into claim
/// names; otherwise dots lead into nested objects.
fn find<'a>(claims: &'a Claims, claim: &str) -> Option<&'a Value> {
    claims.get(claim).or_else(|| {
        let mut steps = claim.split('.');
        let first = claims.get(steps.next()?)?;
        steps.try_fold(first, |value, step| value.get(step))
    })
}

fn wrong(claim: &str, problem: &'static str) -> IdentityError {
    IdentityError::Claim { claim: claim.to_owned(), problem }
}
