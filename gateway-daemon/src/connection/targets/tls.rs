//! What a target's configuration says of TLS, for whichever protocol is inside.

use std::sync::Arc;

use rustls::pki_types::ServerName;

use crate::{
    config::checked,
    session::{client_tls::ClientTls, dial::UpstreamTls},
    tls::originate::{Roots, TlsError},
};

/// Towards clients: certificates bear the names that the target is known by.
pub(super) fn towards_clients(target: &checked::Target, client: checked::ClientTls) -> ClientTls {
    match client {
        checked::ClientTls::Plaintext => ClientTls::Plaintext,
        checked::ClientTls::Terminate => ClientTls::Terminate(target.host_names().map(Arc::from).collect()),
    }
}

/// Towards the target: the name to verify is the one that the configuration says, or the target's first.
pub(super) fn verified(
    target: &checked::Target,
    roots: Roots,
    server_name: Option<&str>,
) -> Result<UpstreamTls, TlsError> {
    let server_name = match server_name.or_else(|| target.host_names().next()) {
        Some(name) => {
            Some(ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName(name.to_owned()))?)
        }
        // Without a name the certificate must bear the address that is dialled.
        None => None,
    };
    Ok(UpstreamTls::VerifyFull { roots: Arc::new(roots), server_name })
}
