//! What the client is told in the daemon's own words, and what is left of the server's words where they could
//! quote a masked value.

use bytes::BytesMut;

use super::texts::{self, Circumstances, Scrubbed};
use crate::{
    domain::{
        decision::{ContentMask, Denial},
        ids::PolicyId,
    },
    mask::Masker,
    protocol::{
        postgres::backend::{self, Fields},
        wire::WireError,
    },
};

/// SQLSTATE insufficient_privilege: what every driver reports as "you may not".
const REFUSED: &str = "42501";

/// SQLSTATE query_canceled.
pub const QUERY_CANCELED: &str = "57014";

/// Sent upstream in place of a refused statement. It is a syntax error, so the server does with transaction
/// and pipeline what it does after any error; its own ErrorResponse is then replaced by the refusal.
pub const REFUSED_STATEMENT: &[u8] = b"nodegate refused this statement";
/// The prepared statement's name under which [`REFUSED_STATEMENT`] is sent; it never comes into being.
pub const REFUSED_NAME: &[u8] = b"nodegate_refused";

/// A refusal after which the session goes on.
pub fn refusal(denial: &Denial, out: &mut BytesMut) -> Result<(), WireError> {
    refusal_fields(denial, |fields| backend::error_response(out, fields))
}

/// A refusal that ends the connection.
pub fn fatal_refusal(sqlstate: &str, denial: &Denial, out: &mut BytesMut) -> Result<(), WireError> {
    said("FATAL", sqlstate, denial, |fields| backend::error_response(out, fields))
}

/// An end of the connection that is no refusal.
pub fn fatal(sqlstate: &str, message: &str, out: &mut BytesMut) -> Result<(), WireError> {
    let message = format!("nodegate: {message}");
    backend::error_response(out, &Fields::refusal("FATAL", sqlstate, &message, None))
}

/// Hands on the fields of a refusal after which the session goes on.
pub fn refusal_fields<T>(denial: &Denial, take: impl FnOnce(&Fields<'_>) -> T) -> T {
    let sqlstate = if is_interrupted(denial) { QUERY_CANCELED } else { REFUSED };
    said("ERROR", sqlstate, denial, take)
}

/// Whether what is refused was ended by its client, and by nobody's rule.
pub fn is_interrupted(denial: &Denial) -> bool {
    denial.policies.iter().any(|policy| policy.as_str() == "builtin/interrupted")
}

fn said<T>(severity: &str, sqlstate: &str, denial: &Denial, take: impl FnOnce(&Fields<'_>) -> T) -> T {
    // A NUL ends a field: what came from a statement may hold none.
    let message = format!("nodegate: {}", denial.reason).replace('\0', " ");
    let policies: Vec<&str> = denial.policies.iter().map(PolicyId::as_str).collect();
    let detail = format!("policy: {}", policies.join(", ")).replace('\0', " ");
    let hint = denial.hint.as_ref().map(|hint| hint.replace('\0', " "));
    let mut fields = Fields::refusal(severity, sqlstate, &message, hint.as_deref());
    if !policies.is_empty() {
        fields = fields.replace(Fields::DETAIL, detail.as_bytes());
    }
    take(&fields)
}

/// The server's error or notice, without what could show a masked value.
pub(super) fn scrub<'a>(fields: Fields<'a>, about: Circumstances<'_>, masker: &Masker) -> Scrubbed<'a> {
    let wanted = match about.verdict {
        Some(verdict) => verdict.content_mask(),
        None => about.masks.content_mask(),
    };
    let fields = match wanted {
        Some(wanted) => without_finds(fields, wanted, masker),
        None => fields,
    };
    texts::scrub(&fields, about)
}

/// Without the texts in which something is found that policy masks: they may quote a value.
fn without_finds<'a>(fields: Fields<'a>, wanted: ContentMask, masker: &Masker) -> Fields<'a> {
    // What cannot be looked through is withheld.
    let scan = masker.scan(wanted.transforms, []).ok();
    let has_find = |fields: &Fields<'a>, field| {
        fields.field(field).is_some_and(|text| scan.as_ref().is_none_or(|scan| scan.finds_in(text)))
    };
    let mut fields = fields;
    for field in [Fields::DETAIL, Fields::HINT, Fields::INTERNAL_QUERY, Fields::CONTEXT] {
        if has_find(&fields, field) {
            fields = fields.strip(&[field]);
        }
    }
    if has_find(&fields, Fields::MESSAGE) {
        let said = b"nodegate: the database's message is withheld, since it quotes what policy masks";
        fields = fields.replace(Fields::MESSAGE, said);
    }
    fields
}

/// Whether something is found in a text that policy masks, or it cannot be looked through.
pub(super) fn has_finds(text: &[u8], wanted: ContentMask, masker: &Masker) -> bool {
    masker.scan(wanted.transforms, []).ok().is_none_or(|scan| scan.finds_in(text))
}
