//! An HTTP target out of its configuration.

use crate::{
    config::{checked, checked::Host},
    protocol::http::ALPN,
    session::http::{Credential, Hosts, HttpTarget, Place, TowardsClients},
    tls::originate::{Roots, TlsError},
};

/// `all` are the targets of the configuration: a wildcard does not cover what another of them names.
///
/// # Errors
/// A CA file that cannot be used.
pub(super) fn target(
    target: &checked::Target,
    http: &checked::Http,
    all: &[checked::Target],
) -> Result<HttpTarget, TlsError> {
    let tls = match &http.upstream {
        None => None,
        Some(upstream) => Some(Roots::new(upstream.ca.as_deref(), &[ALPN])?),
    };
    let others = all.iter().filter(|other| {
        other.facts.name != target.facts.name && other.ports.iter().any(|port| target.has_port(*port))
    });
    Ok(HttpTarget::new(
        target.facts.clone(),
        target.upstream_from,
        match http.client {
            checked::HttpClientTls::Plaintext => TowardsClients::Plaintext,
            checked::HttpClientTls::Terminate => TowardsClients::Tls,
            checked::HttpClientTls::Passthrough => TowardsClients::TheirOwn,
        },
        tls,
        Hosts { own: names(target), others: others.flat_map(names).collect() },
        http.credential.as_ref().map(credential),
    ))
}

fn names(target: &checked::Target) -> Vec<Place> {
    let place = |host: &Host| match host {
        Host::Name(name) => Some(Place::Name(name.clone())),
        Host::Below(name) => Some(Place::Below(name.clone())),
        Host::Any => Some(Place::Any),
        Host::Address(_) => None,
    };
    target.hosts.iter().filter_map(place).collect()
}

fn credential(credential: &checked::HttpCredential) -> Credential {
    match credential.clone() {
        checked::HttpCredential::Bearer(token) => Credential::bearer(token),
        checked::HttpCredential::Basic { username, password } => Credential::basic(username, password),
        checked::HttpCredential::Header { name, value } => Credential::header(name, value),
        checked::HttpCredential::Query { name, value } => Credential::query(name, value),
    }
}
