//! The annotations of a policy: what Cedar's yes or no cannot say.

use std::collections::BTreeSet;

use cedar_policy::{ActionConstraint, Effect, EntityUid, Policy, PolicyId as CedarId};

use super::{
    entity::malformed_id,
    error::{Place, Problem},
    rules::{Comparable, Rule},
};
use crate::domain::{
    decision::{RecordLimits, Transform},
    detector::Detector,
    ids::PolicyId,
    size::parse_size,
    statement::Verb,
};

/// The annotations that mean something here; another one is a mistake that would go unnoticed.
const ANNOTATIONS: [&str; 10] = [
    "id",
    "message",
    "mask",
    "detect",
    "compare",
    MAX_ROWS,
    "approval",
    "window",
    RECORD_RESULTS,
    RECORD_SESSION,
];
/// How many rows a statement may change that the policy would otherwise forbid.
const MAX_ROWS: &str = "max_rows";
/// How much is recorded of the results of a request that the policy permits.
const RECORD_RESULTS: &str = "record_results";
/// How much is recorded of a session that the policy permits to connect.
const RECORD_SESSION: &str = "record_session";
const MAX_ID_CHARS: usize = 128;

/// Checks one policy's annotations and the ids that it names.
pub(super) fn read_annotations(
    policy: &Policy,
    place: &Place,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Option<Rule> {
    let problem = |message: String, help: &str| Problem {
        place: Some(place.clone()),
        message,
        help: (!help.is_empty()).then(|| help.to_owned()),
    };
    for (name, _) in policy.annotations() {
        if !ANNOTATIONS.contains(&name) {
            problems.push(problem(
                format!("unknown annotation @{name}"),
                "known are @id, @message, @mask, @detect, @compare, @max_rows, @approval, @window, @record_results \
                 and @record_session",
            ));
        }
    }
    for uid in policy.entity_literals() {
        if let Some(help) = malformed_id(&uid.type_name().to_string(), uid.id().unescaped()) {
            problems.push(problem(format!("no request ever asks about {uid}"), help));
        }
    }
    let Some(id) = policy.annotation("id") else {
        problems.push(problem(
            "this policy has no @id".to_owned(),
            "put @id(\"what-it-does\") in front of it: denials and audit records name it",
        ));
        return None;
    };
    if let Some(complaint) = id_complaint(id) {
        problems.push(problem(format!("@id({id:?}) {complaint}"), ""));
    }
    let mut rule = Rule {
        id: PolicyId::from(id),
        place: place.clone(),
        effect: policy.effect(),
        message: policy.annotation("message").filter(|message| !message.is_empty()).map(str::to_owned),
        mask: None,
        detect: None,
        comparable: Comparable::Never,
        max_rows: None,
        approval: None,
        record: RecordLimits::default(),
        reads_context: false,
        policy: policy.new_id(CedarId::new(id)),
    };
    if let Some(name) = policy.annotation("mask") {
        rule.mask = transform(name);
        if rule.mask.is_none() {
            problems.push(problem(
                format!("@mask({name:?}) of \"{id}\" is not a known transform"),
                "known are redact, partial, hash, null and last4",
            ));
        }
        if rule.effect != Effect::Forbid || !only_reads(policy) {
            problems.push(problem(
                format!("@mask on \"{id}\" has no meaning: only a forbid of sql:read alone can mask"),
                "write: forbid (principal, action == Action::\"sql:read\", resource is Column) when { … };",
            ));
        }
    }
    if let Some(names) = policy.annotation("detect") {
        match detectors(names) {
            Ok(detectors) => rule.detect = Some(detectors),
            Err(unknown) => problems.push(problem(
                format!("@detect({names:?}) of \"{id}\" names {unknown:?}, which is no detector"),
                &format!("known are {}, and the groups all, personal and secrets", known_detectors()),
            )),
        }
        if rule.mask.is_none() {
            problems.push(problem(
                format!("@detect on \"{id}\" has no meaning without @mask"),
                "add @mask(\"redact\"): it says what becomes of what is found",
            ));
        }
    }
    if let Some(how) = policy.annotation("compare") {
        rule.comparable = Comparable::Equal;
        if how != "equal" {
            problems.push(problem(
                format!("@compare({how:?}) of \"{id}\" is not a known comparison"),
                "known is equal: =, <>, IN and = ANY with values that the statement brings along",
            ));
        }
        // Other masks hide whether two values are equal.
        if rule.mask != Some(Transform::Hash) || rule.detect.is_some() {
            problems.push(problem(
                format!("@compare on \"{id}\" has no meaning without @mask(\"hash\"), or beside @detect"),
                "hashes show which values are equal anyway; every other mask hides it, and so must a filter",
            ));
        }
    }
    if let Some(text) = policy.annotation(MAX_ROWS) {
        rule.max_rows = max_rows(text);
        if rule.max_rows.is_none() {
            problems.push(problem(
                format!("@max_rows({text:?}) of \"{id}\" is not a number of rows"),
                "write a whole number from 1: \"100\"; without @max_rows the forbid refuses every row",
            ));
        }
        if rule.effect != Effect::Forbid {
            problems.push(problem(
                format!(
                    "@max_rows on \"{id}\" has no meaning: it says how much of what is forbidden may be done"
                ),
                "put it on a forbid of its own: a permit beside it still has to let the statement through",
            ));
        }
        if let Some(other) = action_without_rows(policy) {
            problems.push(problem(
                format!("@max_rows on \"{id}\" has no meaning for {other}: it changes no rows that can be counted"),
                "name some of sql:insert, sql:update, sql:delete, sql:merge and sql:truncate as its actions, and no \
                 others; COPY … FROM is sql:insert as well",
            ));
        }
        for other in ["mask", "approval"] {
            if policy.annotation(other).is_some() {
                problems.push(problem(
                    format!("@max_rows and @{other} on \"{id}\" contradict each other"),
                    "make two policies of it: each says what becomes of what it forbids",
                ));
            }
        }
    }
    if let Some(approvers) = policy.annotation("approval") {
        if rule.effect != Effect::Forbid || approvers.is_empty() || rule.mask.is_some() {
            problems.push(problem(
                format!("@approval on \"{id}\" must name a group and stand on a forbid without @mask"),
                "write: @approval(\"dba\") forbid (…);",
            ));
        }
        warnings.push(problem(
            format!(
                "\"{id}\" asks for approval by \"{approvers}\", which this version cannot ask for: it refuses"
            ),
            "",
        ));
        rule.approval = Some(approvers.to_owned());
    } else if policy.annotation("window").is_some() {
        problems.push(problem(
            format!("@window on \"{id}\" has no meaning without @approval"),
            "add @approval(\"…\") or remove @window",
        ));
    }
    for name in [RECORD_RESULTS, RECORD_SESSION] {
        let Some(text) = policy.annotation(name) else { continue };
        let size = parse_size(text);
        if size.is_none() {
            problems.push(problem(
                format!("@{name}({text:?}) of \"{id}\" is not a size"),
                "write a number of bytes, or one with a unit: \"0\", \"16KiB\", \"1MiB\"",
            ));
        }
        if rule.effect != Effect::Permit {
            problems.push(problem(
                format!("@{name} on \"{id}\" has no meaning: what is forbidden has no result"),
                "put it on the permit that lets the request through",
            ));
        }
        if name == RECORD_RESULTS {
            rule.record.result_bytes = size;
        } else {
            rule.record.session_bytes = size;
        }
    }
    if rule.message.is_some() && rule.effect == Effect::Permit {
        warnings.push(problem(format!("@message on \"{id}\" is never shown: it permits"), ""));
    }
    Some(rule)
}

fn id_complaint(id: &str) -> Option<&'static str> {
    if id.is_empty() || id.chars().count() > MAX_ID_CHARS {
        Some("must have 1 to 128 characters")
    } else if id.starts_with("builtin/") {
        Some("starts with builtin/, which is kept for rules that no policy can lift")
    } else if id.chars().any(|character| !(character.is_ascii_alphanumeric() || "-_./".contains(character))) {
        Some("may hold letters, digits and - _ . / only: it is written into logs and error messages")
    } else {
        None
    }
}

fn transform(name: &str) -> Option<Transform> {
    Some(match name {
        "redact" => Transform::Redact,
        "partial" => Transform::Partial,
        "hash" => Transform::Hash,
        "null" => Transform::Null,
        "last4" => Transform::Last4,
        _ => return None,
    })
}

/// What a list of names means, or the name that means nothing.
fn detectors(names: &str) -> Result<BTreeSet<Detector>, String> {
    let mut all = BTreeSet::new();
    for name in names.split(',').map(str::trim) {
        all.extend(Detector::named(name).ok_or_else(|| name.to_owned())?);
    }
    Ok(all)
}

fn known_detectors() -> String {
    Detector::ALL.map(Detector::name).join(", ")
}

fn max_rows(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|rows| is_number && *rows > 0)
}

/// What of the policy's scope changes no rows, if anything does not.
fn action_without_rows(policy: &Policy) -> Option<String> {
    use ActionConstraint::{Any, Eq, In};
    let counts = |uid: &EntityUid| {
        let name = uid.id().unescaped();
        Verb::ALL.iter().any(|verb| verb.changes_rows() && name.strip_prefix("sql:") == Some(verb.as_str()))
    };
    let other = |uids: Vec<EntityUid>| uids.into_iter().find(|uid| !counts(uid)).map(|uid| uid.to_string());
    match policy.action_constraint() {
        Any => Some("every action".to_owned()),
        Eq(uid) => other(vec![uid]),
        In(uids) => other(uids),
    }
}

/// Whether the policy's scope names sql:read and no other action.
fn only_reads(policy: &Policy) -> bool {
    use ActionConstraint::{Any, Eq, In};
    let is_read = |uid: &EntityUid| uid.id().unescaped() == "sql:read";
    match policy.action_constraint() {
        Any => false,
        Eq(uid) => is_read(&uid),
        In(uids) => !uids.is_empty() && uids.iter().all(is_read),
    }
}
