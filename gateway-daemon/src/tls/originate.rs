//! Client-side TLS settings for connections to targets: which roots to trust, which name to verify.
//!
//! Verification is never optional here: a target either speaks TLS that verifies, or plain text by an explicit
//! `upstream: disable` of the configuration.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

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

/// A client configuration that trusts the certificates in `ca` (PEM), or the system's roots when `ca` is `None`, and
/// names this application protocol.
///
/// # Errors
/// The file is missing, unreadable or holds no usable certificate.
pub fn client_config_for(ca: Option<&Path>, alpn: &[u8]) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = Arc::unwrap_or_clone(client_config(ca)?);
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config))
}

/// A client configuration that trusts the certificates in `ca` (PEM), or the system's roots when `ca` is `None`.
///
/// # Errors
/// The file is missing, unreadable or holds no usable certificate.
pub fn client_config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let path = ca.unwrap_or_else(|| Path::new(SYSTEM_ROOTS));
    let refuse = |reason: String| TlsError::Roots { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| refuse(error.to_string()))? {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        // A system bundle may hold a root that this library cannot use; a target's own CA file may not.
        if let Err(error) = roots.add(certificate)
            && ca.is_some()
        {
            return Err(refuse(error.to_string()));
        }
    }
    if roots.is_empty() {
        return Err(refuse("it holds no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
