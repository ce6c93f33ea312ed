//! Secrets that can be known by the form that their makers have given them. Sources: the makers' own documentation of
//! their formats, as named at each row, and GitHub's list of secret scanning patterns.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{Hit, Place, Seen, is_word};
use crate::domain::detector::Detector;

/// How a secret goes on behind its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// So many of these.
    Exactly(usize, Letters),
    /// At least so many.
    AtLeast(usize, Letters),
    /// Three parts of base64url between dots, of which two are JSON.
    Jwt,
    /// A PEM block of a private key, to its end or to that of the text.
    Pem,
    /// Behind a sign of assignment: so many of these, which alone are the secret.
    Assigned(usize, Letters),
    /// Three letters stand before the prefix, so many behind it.
    Between(usize, Letters),
}

/// What a secret is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Letters {
    Base32Upper,
    Alphanumeric,
    Hex,
    /// Letters, digits, `_` and `-`.
    Url,
    /// Letters, digits, `+`, `/` and `=`.
    Base64,
    /// As `Url`, and dots and `~`.
    Dotted,
    /// As `Base64`, escaped with `%`.
    Escaped,
    /// As `Url`, and slashes.
    Path,
}

impl Letters {
    const fn hold(self, byte: u8) -> bool {
        match self {
            Self::Base32Upper => matches!(byte, b'A'..=b'Z' | b'2'..=b'7'),
            Self::Alphanumeric => byte.is_ascii_alphanumeric(),
            Self::Hex => byte.is_ascii_hexdigit(),
            Self::Url => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Self::Base64 => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='),
            Self::Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'~'),
            Self::Escaped => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'%'),
            Self::Path => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'/'),
        }
    }
}

/// One form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) detector: Detector,
    pub(super) prefix: &'static [u8],
    tail: Tail,
}

const fn form(detector: Detector, prefix: &'static [u8], tail: Tail) -> Form {
    Form { detector, prefix, tail }
}

use Detector::{ApiToken, CloudKey, Jwt, PrivateKey};
use Letters::{Alphanumeric, Base32Upper, Base64, Dotted, Escaped, Hex, Path, Url};
use Tail::{Assigned, AtLeast, Between, Exactly};

/// All that are known.
pub(super) static FORMS: [Form; 57] = [
    form(Jwt, b"eyJ", Tail::Jwt),
    form(PrivateKey, b"-----BEGIN ", Tail::Pem),
    form(PrivateKey, b"AGE-SECRET-KEY-1", Exactly(58, Alphanumeric)),
    // AWS: unique identifiers of IAM, and the secrets that go with them.
    form(CloudKey, b"AKIA", Exactly(16, Base32Upper)),
    form(CloudKey, b"ASIA", Exactly(16, Base32Upper)),
    form(CloudKey, b"ABIA", Exactly(16, Base32Upper)),
    form(CloudKey, b"ACCA", Exactly(16, Base32Upper)),
    form(CloudKey, b"aws_secret_access_key", Assigned(40, Base64)),
    form(CloudKey, b"AWS_SECRET_ACCESS_KEY", Assigned(40, Base64)),
    form(CloudKey, b"SecretAccessKey", Assigned(40, Base64)),
    form(CloudKey, b"secretAccessKey", Assigned(40, Base64)),
    // Google Cloud: API keys, OAuth tokens and client secrets.
    form(CloudKey, b"AIza", Exactly(35, Url)),
    form(CloudKey, b"ya29.", AtLeast(20, Url)),
    form(CloudKey, b"GOCSPX-", Exactly(28, Url)),
    // Azure: storage and bus keys, shared access signatures, secrets of applications.
    form(CloudKey, b"AccountKey=", Exactly(88, Base64)),
    form(CloudKey, b"SharedAccessKey=", Exactly(44, Base64)),
    form(CloudKey, b"&sig=", AtLeast(43, Escaped)),
    form(CloudKey, b"?sig=", AtLeast(43, Escaped)),
    form(CloudKey, b"8Q~", Between(34, Dotted)),
    form(CloudKey, b"7Q~", Between(34, Dotted)),
    // GitHub and GitLab.
    form(ApiToken, b"ghp_", AtLeast(36, Alphanumeric)),
    form(ApiToken, b"gho_", AtLeast(36, Alphanumeric)),
    form(ApiToken, b"ghu_", AtLeast(36, Alphanumeric)),
    form(ApiToken, b"ghs_", AtLeast(36, Alphanumeric)),
    form(ApiToken, b"ghr_", AtLeast(36, Alphanumeric)),
    form(ApiToken, b"github_pat_", AtLeast(70, Url)),
    form(ApiToken, b"glpat-", AtLeast(20, Url)),
    form(ApiToken, b"gldt-", AtLeast(20, Url)),
    form(ApiToken, b"glrt-", AtLeast(20, Url)),
    // Slack.
    form(ApiToken, b"xoxb-", AtLeast(20, Url)),
    form(ApiToken, b"xoxp-", AtLeast(20, Url)),
    form(ApiToken, b"xoxa-", AtLeast(20, Url)),
    form(ApiToken, b"xoxr-", AtLeast(20, Url)),
    form(ApiToken, b"xoxs-", AtLeast(20, Url)),
    form(ApiToken, b"xoxe-", AtLeast(20, Url)),
    form(ApiToken, b"xapp-", AtLeast(20, Url)),
    form(ApiToken, b"hooks.slack.com/services/", AtLeast(30, Path)),
    // Stripe.
    form(ApiToken, b"sk_live_", AtLeast(16, Alphanumeric)),
    form(ApiToken, b"sk_test_", AtLeast(16, Alphanumeric)),
    form(ApiToken, b"rk_live_", AtLeast(16, Alphanumeric)),
    form(ApiToken, b"rk_test_", AtLeast(16, Alphanumeric)),
    form(ApiToken, b"whsec_", AtLeast(24, Base64)),
    // Package registries.
    form(ApiToken, b"npm_", Exactly(36, Alphanumeric)),
    form(ApiToken, b"pypi-AgEIcHlwaS5vcmc", AtLeast(50, Url)),
    form(ApiToken, b"dckr_pat_", AtLeast(27, Url)),
    // Models.
    form(ApiToken, b"sk-ant-", AtLeast(40, Url)),
    form(ApiToken, b"sk-proj-", AtLeast(40, Url)),
    form(ApiToken, b"hf_", AtLeast(34, Alphanumeric)),
    // Infrastructure and mail.
    form(ApiToken, b"SG.", AtLeast(60, Dotted)),
    form(ApiToken, b"dop_v1_", Exactly(64, Hex)),
    form(ApiToken, b"hvs.", AtLeast(24, Url)),
    form(ApiToken, b"shpat_", Exactly(32, Hex)),
    form(ApiToken, b"glsa_", AtLeast(32, Url)),
    form(ApiToken, b"xkeysib-", AtLeast(64, Url)),
    form(ApiToken, b"PMAK-", AtLeast(50, Url)),
    form(ApiToken, b"lin_api_", AtLeast(32, Alphanumeric)),
    form(ApiToken, b"dp.pt.", AtLeast(40, Alphanumeric)),
];

/// Looks behind a prefix.
pub(super) fn look(form: &Form, place: &Place<'_>) -> Seen {
    let nothing = Seen::Nothing(place.end);
    let hit = |start: usize, end: usize| Seen::Hit(Hit { detector: form.detector, range: start..end });
    // A prefix in the middle of a word is none, unless it begins with a sign of its own.
    let begins_with_letter = form.prefix.first().is_some_and(u8::is_ascii_alphanumeric);
    let in_word = begins_with_letter && place.before(place.at).is_some_and(is_word);
    match form.tail {
        Tail::Between(count, letters) => {
            // Three letters and no fourth.
            let three = place.at.checked_sub(3).filter(|start| *start >= place.from);
            let Some(start) = three else { return nothing };
            let begins = place.slice(start..place.at).iter().all(|byte| Letters::Dotted.hold(*byte))
                && !place.before(start).is_some_and(|byte| Letters::Dotted.hold(byte));
            let end = place.ahead_at_most(count + 1, place.end, |byte| letters.hold(byte));
            if begins && end - place.end == count { hit(start, end) } else { nothing }
        }
        _ if in_word => nothing,
        Tail::Exactly(count, letters) => {
            let end = place.ahead(place.end, |byte| letters.hold(byte));
            let ends = !place.byte(end).is_some_and(is_word);
            let is_secret = end - place.end == count && ends && is_random(place.slice(place.end..end));
            if is_secret { hit(place.at, end) } else { Seen::Nothing(end) }
        }
        Tail::AtLeast(count, letters) => {
            let end = place.ahead(place.end, |byte| letters.hold(byte));
            let is_secret = end - place.end >= count && is_random(place.slice(place.end..end));
            if is_secret { hit(place.at, end) } else { Seen::Nothing(end) }
        }
        Tail::Assigned(count, letters) => {
            let start = place.ahead_at_most(8, place.end, |byte| b" \t=:\"'\\".contains(&byte));
            let end = place.ahead_at_most(count + 1, start, |byte| letters.hold(byte));
            let is_secret = start > place.end && end - start == count && is_random(place.slice(start..end));
            if is_secret { hit(start, end) } else { nothing }
        }
        Tail::Jwt => {
            let end = place.ahead(place.end, |byte| Letters::Url.hold(byte) || byte == b'.');
            if is_jwt(place.slice(place.at..end)) { hit(place.at, end) } else { Seen::Nothing(end) }
        }
        Tail::Pem => {
            // `RSA PRIVATE KEY`, `PGP PRIVATE KEY BLOCK`.
            let label = place
                .ahead(place.end, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ');
            let is_key = place.slice(place.end..label).windows(11).any(|words| words == b"PRIVATE KEY");
            if !is_key || !place.slice(label..label + 5).starts_with(b"-----") {
                return nothing;
            }
            hit(place.at, pem_end(place, label + 5))
        }
    }
}

/// Secrets are random: what stands for one in an example, `XXXXXXXX` or `00000000`, has few different signs.
fn is_random(secret: &[u8]) -> bool {
    let mut seen = [false; 256];
    for byte in secret {
        if let Some(slot) = seen.get_mut(usize::from(*byte)) {
            *slot = true;
        }
    }
    seen.iter().filter(|seen| **seen).count() >= 6.min(secret.len() / 3)
}

fn is_jwt(token: &[u8]) -> bool {
    let mut parts = token.split(|byte| *byte == b'.');
    let (Some(header), Some(payload)) = (parts.next(), parts.next()) else { return false };
    // Only the header must be readable: a payload may be cut or encrypted.
    let header = URL_SAFE_NO_PAD.decode(header.get(..header.len().min(1_024)).unwrap_or_default());
    let names_algorithm = header.is_ok_and(|header| header.windows(5).any(|word| word == b"\"alg\""));
    names_algorithm && payload.len() >= 4 && parts.next().is_some()
}

/// Behind the matching `-----END …-----`; without one, the end of the text or of its field.
fn pem_end(place: &Place<'_>, from: usize) -> usize {
    const END: &[u8] = b"-----END ";
    let rest = place.text.get(from..).unwrap_or_default();
    let Some(at) = position_of(rest, END) else {
        return place.ahead(from, |byte| !matches!(byte, b'\t' | b'"' | b'\''));
    };
    let label = from + at + END.len();
    let label_end =
        place.ahead(label, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ');
    place.ahead(label_end, |byte| byte == b'-').min(label_end + 5)
}

fn position_of(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}
