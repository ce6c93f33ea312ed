//! Client-side TLS settings for connections to targets: which roots to trust, which name to verify.
//!
//! Verification is never optional here: a target either speaks TLS that verifies, or plain text by an explicit
//! `upstream: disable` of the configuration.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest::{Digest, SHA256, digest};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// The system's bundle, used when a target names no CA of its own.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Why a TLS configuration could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA file cannot be read or holds no certificate.
    #[error("cannot use the CA file {}: {reason}", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// A server name that no certificate can bear.
    #[error("{0:?} is not a name that a certificate can bear")]
    ServerName(String),
    /// The TLS library refused the settings.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// Whom connections to a target trust: the certificates of one file, followed by content. A connection that is made after
/// the file was replaced trusts what is in it then, and nothing else.
#[derive(Debug)]
pub struct Trust {
    ca: PathBuf,
    alpn: Vec<Vec<u8>>,
    last: Mutex<Known>,
}

/// The file as it was last seen, and what came of it.
#[derive(Debug, Clone)]
struct Known {
    content: Digest,
    config: Arc<ClientConfig>,
}

impl Trust {
    /// Trust in the certificates in `ca` (PEM), for connections that name these application protocols, if any.
    ///
    /// # Errors
    /// The file is missing, unreadable or holds no usable certificate.
    pub fn new(ca: &Path, alpn: &[&[u8]]) -> Result<Self, TlsError> {
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|name| name.to_vec()).collect();
        let content = fs::read(ca).map_err(|error| unreadable(ca, &error))?;
        let last = Mutex::new(Known::new(ca, &content, &alpn)?);
        Ok(Self { ca: ca.to_owned(), alpn, last })
    }

    /// What a connection that is made now trusts.
    ///
    /// # Errors
    /// The file is not what it was and cannot be used as it is: then nobody is trusted.
    pub fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        // A small file of this node: read beside the handshake that follows it costs nothing.
        let content = fs::read(&self.ca).map_err(|error| unreadable(&self.ca, &error))?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.content.as_ref() != digest(&SHA256, &content).as_ref() {
            *last = Known::new(&self.ca, &content, &self.alpn)?;
        }
        Ok(Arc::clone(&last.config))
    }
}

impl Known {
    fn new(ca: &Path, content: &[u8], alpn: &[Vec<u8>]) -> Result<Self, TlsError> {
        let mut config = config(roots(ca, content, Unusable::Refused)?)?;
        config.alpn_protocols = alpn.to_vec();
        Ok(Self { content: digest(&SHA256, content), config: Arc::new(config) })
    }
}

/// What becomes of a certificate in a bundle that this library cannot use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unusable {
    /// The bundle is refused: it is a target's own.
    Refused,
    /// It is left out: a system's bundle may hold such.
    LeftOut,
}

/// A client configuration that trusts the certificates in `ca` (PEM) as they are now, or the system's roots when `ca` is
/// `None`.
///
/// # Errors
/// The file is missing, unreadable or holds no usable certificate.
pub fn client_config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let path = ca.unwrap_or_else(|| Path::new(SYSTEM_ROOTS));
    let content = fs::read(path).map_err(|error| unreadable(path, &error))?;
    let unusable = if ca.is_some() { Unusable::Refused } else { Unusable::LeftOut };
    Ok(Arc::new(config(roots(path, &content, unusable)?)?))
}

fn roots(path: &Path, content: &[u8], unusable: Unusable) -> Result<RootCertStore, TlsError> {
    let refuse = |reason: String| TlsError::Roots { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(content) {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        if let Err(error) = roots.add(certificate)
            && unusable == Unusable::Refused
        {
            return Err(refuse(error.to_string()));
        }
    }
    if roots.is_empty() {
        return Err(refuse("it holds no certificate".to_owned()));
    }
    Ok(roots)
}

fn config(roots: RootCertStore) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn unreadable(path: &Path, error: &io::Error) -> TlsError {
    TlsError::Roots { path: path.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::tls::authority::{Authority, CERTIFICATE_FILE};

    fn authority() -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        Authority::open(dir.path()).unwrap();
        fs::read(dir.path().join(CERTIFICATE_FILE)).unwrap()
    }

    #[test]
    fn a_replaced_file_counts_from_the_next_connection_on_and_one_that_is_the_same_costs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        let (first, second) = (authority(), authority());
        fs::write(&ca, &first).unwrap();
        let trust = Trust::new(&ca, &[b"postgresql"]).unwrap();
        let before = trust.config().unwrap();
        assert!(Arc::ptr_eq(&before, &trust.config().unwrap()));
        fs::write(&ca, &second).unwrap();
        let after = trust.config().unwrap();
        assert!(!Arc::ptr_eq(&before, &after));
        assert_eq!(after.alpn_protocols, [b"postgresql"]);
    }

    #[test]
    fn a_file_that_cannot_be_used_any_more_has_nobody_trusted_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        let good = authority();
        fs::write(&ca, &good).unwrap();
        let trust = Trust::new(&ca, &[]).unwrap();
        fs::write(&ca, "nothing").unwrap();
        assert!(trust.config().is_err());
        fs::remove_file(&ca).unwrap();
        assert!(trust.config().is_err());
        fs::write(&ca, &good).unwrap();
        assert!(trust.config().is_ok());
    }
}
