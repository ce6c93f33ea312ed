//! Refusals that no policy can lift.

use crate::{domain::decision::Denial, protocol::dns::RecordKind};

pub(super) fn malformed(why: &str) -> Denial {
    Denial::builtin(
        format!("the message is no DNS query: {why}"),
        "Ask one question in one message.",
        "dns-malformed",
    )
}

pub(super) fn unattributed() -> Denial {
    Denial::builtin("the query's cgroup is not captured any more", "Start the process again.", "unattributed")
}

pub(super) fn identity(why: &str) -> Denial {
    Denial::builtin(
        why,
        "Enrol a valid token with `nodegate identity enrol`, or start with `nodegate run --token-file`.",
        "identity",
    )
}

pub(super) fn no_host_name() -> Denial {
    Denial::builtin(
        "the name has characters that no host name has",
        "Use letters, digits, hyphens and underscores.",
        "dns-name",
    )
}

pub(super) fn record_kind(kind: RecordKind) -> Denial {
    Denial::builtin(
        format!("records of type {kind} are not for agents"),
        "Ask for addresses, or for another type in common use.",
        "dns-type",
    )
}

pub(super) fn too_many(limit: u32) -> Denial {
    Denial::builtin(
        format!("this workload asks more than {limit} questions a second (dns.queries_per_second)"),
        "Remember answers, or ask the operator to raise the limit.",
        "dns-rate",
    )
}

pub(super) fn odd_names(domain: &str) -> Denial {
    Denial::builtin(
        format!("too many names below {domain} look as if they carried data (dns.odd_bytes_per_minute)"),
        "Wait a minute, or ask the operator to raise the limit.",
        "dns-tunnel",
    )
}
