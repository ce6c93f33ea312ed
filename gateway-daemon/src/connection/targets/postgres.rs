//! A PostgreSQL target out of its configuration.

use super::tls::{towards_clients, verified};
use crate::{
    config::checked,
    protocol::postgres::ALPN,
    session::{
        dial::{Dial, UpstreamTls},
        postgres::{ChannelBinding, KeptKeys, Negotiation, PostgresTarget},
    },
    tls::originate::{Roots, TlsError},
};

/// # Errors
/// A CA file that cannot be used, or a server name that is none.
pub(super) fn target(
    target: &checked::Target,
    postgres: &checked::Postgres,
) -> Result<PostgresTarget, TlsError> {
    let (tls, negotiation, binding) = upstream(target, &postgres.tls.upstream)?;
    Ok(PostgresTarget {
        facts: target.facts.clone(),
        dial: Dial { from: target.upstream_from, tls },
        negotiation,
        binding,
        database: postgres.database.clone(),
        client_tls: towards_clients(target, postgres.tls.client),
        username: postgres.credential.username.clone(),
        password: postgres.credential.password.clone(),
        notices: postgres.notices,
        kept_keys: KeptKeys::default(),
    })
}

fn upstream(
    target: &checked::Target,
    tls: &checked::UpstreamTls,
) -> Result<(UpstreamTls, Negotiation, ChannelBinding), TlsError> {
    match tls {
        checked::UpstreamTls::Disable => {
            Ok((UpstreamTls::Disable, Negotiation::Request, ChannelBinding::Prefer))
        }
        checked::UpstreamTls::VerifyFull { ca, server_name, negotiation, channel_binding } => {
            let (roots, negotiation) = match negotiation {
                checked::Negotiation::Request => (Roots::new(Some(ca), &[])?, Negotiation::Request),
                checked::Negotiation::Direct => (Roots::new(Some(ca), &[ALPN])?, Negotiation::Direct),
            };
            let binding = match channel_binding {
                checked::ChannelBinding::Prefer => ChannelBinding::Prefer,
                checked::ChannelBinding::Require => ChannelBinding::Require,
            };
            Ok((verified(target, roots, server_name.as_deref())?, negotiation, binding))
        }
    }
}
