//! Server-side TLS towards clients: which certificate a connection is shown.
//!
//! A certificate bears the names by which its target is known, and the address that was dialled: nothing that a client
//! asks for gets another target's name into it. Certificates are kept for hours, and so many at most.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use moka::sync::Cache;
use rcgen::SanType;
use rustls::{ServerConfig, server::NoServerSessionStorage};

use super::authority::{Authority, AuthorityError};

/// One for each target and dialled address.
const KEPT: u64 = 1024;
/// Much shorter than a certificate lives.
const KEPT_FOR: Duration = Duration::from_hours(12);
/// Names in one certificate.
const NAMES: usize = 32;

/// Why a client cannot be shown a certificate.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TerminateError {
    /// The authority could not make one.
    #[error(transparent)]
    Authority(#[from] Arc<AuthorityError>),
    /// The TLS library refused it.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// Server configurations of one application protocol, by what is in their certificates.
#[derive(Debug)]
pub struct Terminator {
    authority: Arc<Authority>,
    alpn: &'static [u8],
    kept: Cache<(BTreeSet<Arc<str>>, IpAddr), Arc<ServerConfig>>,
}

impl Terminator {
    /// One for clients that, if they name an application protocol at all, name this one.
    pub fn new(authority: Arc<Authority>, alpn: &'static [u8]) -> Self {
        Self { authority, alpn, kept: Cache::builder().max_capacity(KEPT).time_to_live(KEPT_FOR).build() }
    }

    /// What to serve a client that dialled `address`, which is known by `names`, and asks for `asked`.
    ///
    /// A short name that a search list completes (`orders-db` for `orders-db.internal`) is one of the target's as well.
    pub fn config(
        &self,
        names: &[Arc<str>],
        address: IpAddr,
        asked: Option<&str>,
    ) -> Result<Arc<ServerConfig>, TerminateError> {
        let mut wanted: BTreeSet<Arc<str>> = names.iter().take(NAMES).cloned().collect();
        if address.is_loopback() {
            wanted.insert(Arc::from("localhost"));
        }
        if let Some(short) = asked.filter(|asked| names.iter().any(|name| completes(name, asked))) {
            wanted.insert(Arc::from(short.to_ascii_lowercase()));
        }
        let key = (wanted, address);
        if let Some(config) = self.kept.get(&key) {
            return Ok(config);
        }
        let config = Arc::new(self.make(&key.0, address)?);
        self.kept.insert(key, Arc::clone(&config));
        Ok(config)
    }

    fn make(&self, names: &BTreeSet<Arc<str>>, address: IpAddr) -> Result<ServerConfig, TerminateError> {
        let names = names.iter().filter_map(|name| name.to_string().try_into().ok().map(SanType::DnsName));
        let names: Vec<SanType> = names.chain([SanType::IpAddress(address)]).collect();
        let (chain, key) = self.authority.issue(&names).map_err(Arc::new)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![self.alpn.to_vec()];
        // A handshake on loopback is cheap; what would make it cheaper costs memory for each client.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// Whether `asked` is the beginning of `name` up to a dot.
fn completes(name: &str, asked: &str) -> bool {
    let (Some(head), Some(rest)) = (name.get(..asked.len()), name.get(asked.len()..)) else { return false };
    !asked.is_empty() && head.eq_ignore_ascii_case(asked) && rest.starts_with('.')
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::path::Path;

    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection, pki_types::ServerName};

    use super::*;
    use crate::tls::{authority::CERTIFICATE_FILE, originate};

    fn terminator(dir: &Path) -> Terminator {
        Terminator::new(Arc::new(Authority::open(dir).unwrap()), b"postgresql")
    }

    /// Whether a client that trusts the authority and verifies `name` completes a handshake.
    fn accepts(dir: &Path, terminator: &Terminator, names: &[Arc<str>], address: &str, name: &str) -> bool {
        let client = originate::client_config(Some(&dir.join(CERTIFICATE_FILE))).unwrap();
        let asked = name.parse::<IpAddr>().is_err().then_some(name);
        let server = terminator.config(names, address.parse().unwrap(), asked).unwrap();
        handshake(client, server, name)
    }

    fn handshake(client: Arc<ClientConfig>, server: Arc<ServerConfig>, name: &str) -> bool {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(client, name).unwrap();
        let mut server = ServerConnection::new(server).unwrap();
        for _ in 0..10 {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            server.read_tls(&mut bytes.as_slice()).unwrap();
            if server.process_new_packets().is_err() {
                return false;
            }
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            client.read_tls(&mut bytes.as_slice()).unwrap();
            if client.process_new_packets().is_err() {
                return false;
            }
        }
        !client.is_handshaking() && !server.is_handshaking()
    }

    #[test]
    fn a_certificate_bears_the_names_of_the_target_and_the_address_that_was_dialled() {
        let dir = tempfile::tempdir().unwrap();
        let terminator = terminator(dir.path());
        let names = [Arc::from("orders-db.internal"), Arc::from("orders.example.com")];
        for name in ["orders-db.internal", "orders.example.com", "orders-db", "orders.example", "10.0.0.7"] {
            assert!(accepts(dir.path(), &terminator, &names, "10.0.0.7", name), "{name}");
        }
        for name in ["other.internal", "order", "orders-d", "internal", "localhost", "10.0.0.8"] {
            assert!(!accepts(dir.path(), &terminator, &names, "10.0.0.7", name), "{name}");
        }
        assert!(accepts(dir.path(), &terminator, &[], "127.0.0.1", "localhost"));
        assert!(accepts(dir.path(), &terminator, &[], "::1", "::1"));
    }

    #[test]
    fn certificates_of_a_restarted_daemon_chain_to_the_one_that_was_given_out() {
        let dir = tempfile::tempdir().unwrap();
        let first = terminator(dir.path());
        let names = [Arc::from("db.internal")];
        assert!(accepts(dir.path(), &first, &names, "10.0.0.7", "db.internal"));
        let second = terminator(dir.path());
        assert!(accepts(dir.path(), &second, &names, "10.0.0.7", "db.internal"));
    }

    #[test]
    fn who_does_not_trust_the_authority_is_not_convinced() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (terminator, _) = (terminator(dir.path()), self::terminator(other.path()));
        let names = [Arc::from("db.internal")];
        assert!(!accepts(other.path(), &terminator, &names, "10.0.0.7", "db.internal"));
        let empty =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
        let server = terminator.config(&names, "10.0.0.7".parse().unwrap(), None).unwrap();
        assert!(!handshake(Arc::new(empty), server, "db.internal"));
    }

    #[test]
    fn one_certificate_serves_all_connections_of_a_target() {
        let dir = tempfile::tempdir().unwrap();
        let terminator = terminator(dir.path());
        let names = [Arc::from("db.internal")];
        let address = "10.0.0.7".parse().unwrap();
        let first = terminator.config(&names, address, None).unwrap();
        for asked in [Some("db.internal"), Some("elsewhere.example"), Some(""), None] {
            let again = terminator.config(&names, address, asked).unwrap();
            assert!(Arc::ptr_eq(&first, &again), "{asked:?}");
        }
    }
}
