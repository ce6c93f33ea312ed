//! Why there is no identity. Every `Display` is one sentence that the agent itself may read: it names what was
//! expected and what was found, never a byte of a token's signature or of an unlisted claim.

use std::time::SystemTime;

use thiserror::Error;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Why no identity was accepted. Cheap to clone: one failure answers every connection of a storm.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// No source had a token.
    #[error(
        "no identity token was found (looked at: {tried}); start the command with `nodegate run --token-file FILE` or \
         provide the token where one of these sources reads it"
    )]
    NoToken {
        /// The sources, in the order tried.
        tried: String,
    },
    /// The process that connected is gone, or its pid is another process by now.
    #[error(
        "process {pid}, which connected, is gone or was replaced before its token could be read from its {place}"
    )]
    ProcessGone {
        /// Thread-group id that the kernel recorded.
        pid: u32,
        /// `file` or `environment`.
        place: &'static str,
    },
    /// A token may be there but cannot be read safely.
    #[error("the identity token in {origin} cannot be read: {problem}")]
    Unreadable {
        /// The source.
        origin: String,
        /// Why.
        problem: String,
    },
    /// The text is not a token in compact form (RFC 7515 §7.1) that this daemon reads.
    #[error("the identity token is malformed: {problem}")]
    Malformed {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A claim that must be there is missing or of the wrong kind.
    #[error("the claim \"{claim}\" of the identity token {problem}")]
    Claim {
        /// Its name.
        claim: String,
        /// What is wrong with it, as a verb phrase.
        problem: &'static str,
    },
    /// The signature algorithm is not one of the accepted public-key ones.
    #[error(
        "the identity token is signed with the algorithm {algorithm}, which is refused; RS256, ES256, EdDSA and their \
         like are accepted"
    )]
    AlgorithmRefused {
        /// As the token names it, shortened to what is safe to print.
        algorithm: String,
    },
    /// No configured issuer has this `iss`.
    #[error("the identity token comes from {issuer}, which is not a configured issuer")]
    UnknownIssuer {
        /// The `iss` claim, quoted and shortened.
        issuer: String,
    },
    /// The token was made for somebody else.
    #[error("the identity token is for another audience; issuer {issuer} must issue it for {expected}")]
    Audience {
        /// Configured name of the issuer.
        issuer: String,
        /// What is accepted.
        expected: String,
    },
    /// Past its `exp` and the leeway.
    #[error("the identity token expired at {}", instant(*at))]
    Expired {
        /// The `exp` claim.
        at: SystemTime,
    },
    /// Before its `nbf`, or issued in the future, by more than the leeway.
    #[error("the identity token is not valid before {}", instant(*at))]
    NotYetValid {
        /// The `nbf` or `iat` claim.
        at: SystemTime,
    },
    /// The issuer publishes no such key.
    #[error("no key with {} at issuer {issuer}", named(kid.as_deref()))]
    UnknownKey {
        /// Configured name of the issuer.
        issuer: String,
        /// The `kid`, quoted and shortened; `None` when the token names none.
        kid: Option<String>,
    },
    /// The key exists but is not for this algorithm or not for signatures.
    #[error("the key that the identity token names at issuer {issuer} is not one for {algorithm}")]
    KeyMismatch {
        /// Configured name of the issuer.
        issuer: String,
        /// The algorithm of the token.
        algorithm: String,
    },
    /// The signature does not fit.
    #[error("the signature of the identity token does not verify with the keys of issuer {issuer}")]
    BadSignature {
        /// Configured name of the issuer.
        issuer: String,
    },
    /// The issuer's keys cannot be had, and none are cached that may still be used.
    #[error("the keys of issuer {issuer} cannot be fetched: {reason}")]
    IssuerUnreachable {
        /// Configured name of the issuer.
        issuer: String,
        /// What went wrong.
        reason: String,
    },
    /// A token was enrolled although no source says `enrolled`.
    #[error("enrolment is not among the configured identity sources")]
    EnrolmentDisabled,
    /// The settings contradict themselves.
    #[error("identity settings: {0}")]
    Settings(String),
    /// The work was abandoned, at shutdown.
    #[error("the identity could not be looked up because the daemon is stopping")]
    Stopping,
}

fn named(kid: Option<&str>) -> String {
    kid.map_or_else(|| "the token's algorithm (it names no kid)".to_owned(), |kid| format!("kid {kid}"))
}

/// RFC 3339, in UTC, whole seconds.
fn instant(at: SystemTime) -> String {
    let whole = OffsetDateTime::from(at).replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    whole.format(&Rfc3339).unwrap_or_else(|_| "an unprintable time".to_owned())
}

/// A text of unproven origin for a message: quoted, without control or bidirectional characters, shortened.
pub(super) fn shown(text: &str) -> String {
    const LONGEST_CHARS: usize = 128;
    let mut shown = String::from("\"");
    for character in text.chars().take(LONGEST_CHARS) {
        if character.is_ascii_graphic() || character == ' ' {
            if matches!(character, '"' | '\\') {
                shown.push('\\');
            }
            shown.push(character);
        } else {
            shown.extend(character.escape_unicode());
        }
    }
    if text.chars().nth(LONGEST_CHARS).is_some() {
        shown.push('…');
    }
    shown.push('"');
    shown
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{IdentityError, shown};

    #[test]
    fn sentences_read_well() {
        let expired = IdentityError::Expired { at: UNIX_EPOCH + Duration::from_millis(1_795_428_000_900) };
        assert_eq!(expired.to_string(), "the identity token expired at 2026-11-23T10:00:00Z");
        let unknown = IdentityError::UnknownKey { issuer: "ci".into(), kid: Some(shown("x")) };
        assert_eq!(unknown.to_string(), "no key with kid \"x\" at issuer ci");
        let unnamed = IdentityError::UnknownKey { issuer: "ci".into(), kid: None };
        assert_eq!(unnamed.to_string(), "no key with the token's algorithm (it names no kid) at issuer ci");
    }

    #[test]
    fn text_of_a_token_cannot_forge_a_line_or_grow_a_message() {
        assert_eq!(shown("a\nb\u{202e}\"\\"), "\"a\\u{a}b\\u{202e}\\\"\\\\\"");
        assert!(shown(&"x".repeat(100_000)).len() < 140);
    }
}
