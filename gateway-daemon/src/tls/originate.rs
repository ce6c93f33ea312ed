//! Client-side TLS settings for connections to targets: which roots to trust, which name to verify.
//!
//! Verification is never optional here: a target either speaks TLS that verifies, or plain text by an explicit
//! `upstream: disable` of the configuration.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
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

/// Whom connections to a target trust: the certificates of one file, which is followed. A connection that is made after
/// the file was replaced trusts what is in it then, and nothing else.
#[derive(Debug)]
pub struct Roots {
    file: PathBuf,
    unusable: Unusable,
    alpn: Vec<Vec<u8>>,
    last: Mutex<Known>,
}

/// The file as it was last read, and what came of it.
#[derive(Debug)]
struct Known {
    stamp: Option<Stamp>,
    content: Digest,
    config: Arc<ClientConfig>,
}

/// Another one is another content. A file that was changed a moment ago has none: what comes next could be as old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size_bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// For so long after a change the times of a file say nothing.
const UNSETTLED: Duration = Duration::from_secs(2);

impl Roots {
    /// Those in `ca` (PEM), or the system's where it is `None`, for connections that name these application protocols, if
    /// any.
    ///
    /// # Errors
    /// The file is missing, unreadable or holds no usable certificate.
    pub fn new(ca: Option<&Path>, alpn: &[&[u8]]) -> Result<Self, TlsError> {
        let (file, unusable) = bundle(ca);
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|name| name.to_vec()).collect();
        let (stamp, content) = read(file)?;
        let config = settings(file, &content, unusable, &alpn)?;
        let last = Mutex::new(Known { stamp, content: digest(&SHA256, &content), config });
        Ok(Self { file: file.to_owned(), unusable, alpn, last })
    }

    /// What a connection that is made now trusts.
    ///
    /// # Errors
    /// The file is not what it was and cannot be used as it is: then nobody is trusted.
    pub fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = fs::metadata(&self.file).map_err(|error| unreadable(&self.file, &error))?;
        if last.stamp.is_none() || last.stamp != Stamp::of(&now) {
            // A small file of this node: read beside the handshake that follows it costs nothing.
            let (stamp, content) = read(&self.file)?;
            let content_now = digest(&SHA256, &content);
            if last.content.as_ref() != content_now.as_ref() {
                last.config = settings(&self.file, &content, self.unusable, &self.alpn)?;
                last.content = content_now;
            }
            last.stamp = stamp;
        }
        Ok(Arc::clone(&last.config))
    }
}

impl Stamp {
    fn of(file: &Metadata) -> Option<Self> {
        let settled = file.ctime().saturating_add(UNSETTLED.as_secs().try_into().unwrap_or(i64::MAX));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        (settled < i64::try_from(now).ok()?).then(|| Self {
            device: file.dev(),
            inode: file.ino(),
            size_bytes: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

/// A file and the stamp that it had before it was read.
fn read(file: &Path) -> Result<(Option<Stamp>, Vec<u8>), TlsError> {
    let stamp = fs::metadata(file).map_err(|error| unreadable(file, &error))?;
    let content = fs::read(file).map_err(|error| unreadable(file, &error))?;
    Ok((Stamp::of(&stamp), content))
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
    let (file, unusable) = bundle(ca);
    let (_, content) = read(file)?;
    settings(file, &content, unusable, &[])
}

fn bundle(ca: Option<&Path>) -> (&Path, Unusable) {
    ca.map_or((Path::new(SYSTEM_ROOTS), Unusable::LeftOut), |ca| (ca, Unusable::Refused))
}

fn settings(
    file: &Path,
    content: &[u8],
    unusable: Unusable,
    alpn: &[Vec<u8>],
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(file, content, unusable)?)
        .with_no_client_auth();
    config.alpn_protocols = alpn.to_vec();
    Ok(Arc::new(config))
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
        let roots = Roots::new(Some(&ca), &[b"postgresql"]).unwrap();
        let before = roots.config().unwrap();
        assert!(Arc::ptr_eq(&before, &roots.config().unwrap()));
        fs::write(&ca, &second).unwrap();
        let after = roots.config().unwrap();
        assert!(!Arc::ptr_eq(&before, &after));
        assert_eq!(after.alpn_protocols, [b"postgresql"]);
    }

    #[test]
    fn a_file_that_cannot_be_used_any_more_has_nobody_trusted_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        let good = authority();
        fs::write(&ca, &good).unwrap();
        let roots = Roots::new(Some(&ca), &[]).unwrap();
        fs::write(&ca, "nothing").unwrap();
        assert!(roots.config().is_err());
        fs::remove_file(&ca).unwrap();
        assert!(roots.config().is_err());
        fs::write(&ca, &good).unwrap();
        assert!(roots.config().is_ok());
    }

    #[test]
    fn a_file_that_lies_still_is_known_by_its_stamp_and_another_one_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        fs::write(&ca, authority()).unwrap();
        assert_eq!(Stamp::of(&fs::metadata(&ca).unwrap()), None, "it was changed a moment ago");
        std::thread::sleep(UNSETTLED + Duration::from_millis(1100));
        let roots = Roots::new(Some(&ca), &[]).unwrap();
        let before = roots.config().unwrap();
        assert!(roots.last.lock().unwrap().stamp.is_some());
        assert!(Arc::ptr_eq(&before, &roots.config().unwrap()));
        let new = dir.path().join("ca.new");
        fs::write(&new, authority()).unwrap();
        fs::rename(&new, &ca).unwrap();
        assert!(!Arc::ptr_eq(&before, &roots.config().unwrap()));
    }
}
