//! The daemon's own certificate authority: one key for each node, made at the first start, that never leaves its file.
//!
//! Only the key is state. The certificate is written beside it for those who are to trust it, and can be made again
//! from the key: its name is derived from it, so that certificates signed before still chain to it.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

/// The private key, below the authority's directory. Readable by its owner only.
pub const KEY_FILE: &str = "ca.key";
/// The certificate to trust, below the authority's directory.
pub const CERTIFICATE_FILE: &str = "ca.pem";

/// Agents are given the certificate by hand or by an image: it should not run out under them.
const CA_LIFE: Duration = Duration::days(3650);
/// Made anew long before.
const LEAF_LIFE: Duration = Duration::days(7);
/// Clocks of containers' hosts differ a little.
const BACKDATED: Duration = Duration::hours(1);

/// Why there is no authority, or no certificate of it.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file of it cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The key file may be read by others than its owner.
    #[error("{} may be read by others than its owner (mode {mode:o}); `chmod 600` it, or remove it and give clients the new certificate", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The key cannot be used, or a certificate cannot be made with it.
    #[error("{what}: {source}")]
    Certificate {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: rcgen::Error,
    },
}

/// Signs certificates for the names of targets. `Debug` shows no key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// The published certificate.
    pem: String,
    /// One key for all leaves of this daemon's life: it never leaves its memory.
    leaf_key: KeyPair,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority { <key withheld> }")
    }
}

impl Authority {
    /// The authority whose key is in `dir`, made if there is none. Blocking.
    pub fn open(dir: &Path) -> Result<Self, AuthorityError> {
        let key_path = dir.join(KEY_FILE);
        let key = match read_key(&key_path)? {
            Some(pem) => KeyPair::from_pem(&pem)
                .map_err(|source| AuthorityError::Certificate { what: "the key in ca.key", source })?,
            None => {
                let key = KeyPair::generate().map_err(making("a key for the authority"))?;
                let failed = |source| AuthorityError::File { path: dir.to_owned(), source };
                fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(failed)?;
                write(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
                key
            }
        };
        let params = ca_params(&key);
        let certificate_path = dir.join(CERTIFICATE_FILE);
        if !certificate_path.exists() {
            let certificate = params.self_signed(&key).map_err(making("the authority's certificate"))?;
            write(&certificate_path, certificate.pem().as_bytes(), 0o644)?;
        }
        let pem = fs::read_to_string(&certificate_path)
            .map_err(|source| AuthorityError::File { path: certificate_path, source })?;
        // What is served beside leaves need not be the published one byte by byte: name and key are the same.
        let certificate = params.self_signed(&key).map_err(making("the authority's certificate"))?;
        let leaf_key = KeyPair::generate().map_err(making("a key for certificates"))?;
        Ok(Self { certificate: certificate.der().clone(), pem, issuer: Issuer::new(params, key), leaf_key })
    }

    /// The published certificate, for those who are to trust it.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A fresh certificate for these names, its chain and its key.
    pub(super) fn issue(
        &self,
        names: &[SanType],
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "nodegate");
        params.subject_alt_names = names.to_vec();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let now = OffsetDateTime::now_utc();
        params.not_before = now - BACKDATED;
        params.not_after = now + LEAF_LIFE;
        let leaf =
            params.signed_by(&self.leaf_key, &self.issuer).map_err(making("a certificate for a target"))?;
        let key = PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der());
        Ok((vec![leaf.der().clone(), self.certificate.clone()], key.into()))
    }
}

fn making(what: &'static str) -> impl Fn(rcgen::Error) -> AuthorityError {
    move |source| AuthorityError::Certificate { what, source }
}

/// Everything but the dates follows from the key.
fn ca_params(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let id = digest::digest(&digest::SHA256, key.public_key_raw());
    let id = id.as_ref().iter().take(6).fold(0_u64, |id, byte| id << 8 | u64::from(*byte));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("nodegate node CA {id:012x}"));
    // It signs for servers, never for other authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATED;
    params.not_after = now + CA_LIFE;
    params
}

/// The key's PEM text; `None` when there is no such file. Others may not read it: who has it can be any target.
fn read_key(path: &Path) -> Result<Option<String>, AuthorityError> {
    let failed = |source| AuthorityError::File { path: path.to_owned(), source };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(AuthorityError::Exposed { path: path.to_owned(), mode });
    }
    fs::read_to_string(path).map(Some).map_err(failed)
}

/// Written beside and renamed: a crash leaves a whole file or none.
fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), AuthorityError> {
    let failed = |source| AuthorityError::File { path: path.to_owned(), source };
    let new = path.with_extension("new");
    // One that a crash has left could have another mode.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new).map_err(failed)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_is_its_owners_only() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("tls");
        Authority::open(&place).unwrap();
        let key = fs::read(place.join(KEY_FILE)).unwrap();
        let certificate = fs::read(place.join(CERTIFICATE_FILE)).unwrap();
        assert_eq!(fs::metadata(place.join(KEY_FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        Authority::open(&place).unwrap();
        assert_eq!(fs::read(place.join(KEY_FILE)).unwrap(), key);
        assert_eq!(fs::read(place.join(CERTIFICATE_FILE)).unwrap(), certificate);

        fs::set_permissions(place.join(KEY_FILE), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Authority::open(&place), Err(AuthorityError::Exposed { mode: 0o640, .. })));
    }

    #[test]
    fn a_key_that_is_none_is_an_error_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join(KEY_FILE), b"nothing", 0o600).unwrap();
        assert!(matches!(Authority::open(dir.path()), Err(AuthorityError::Certificate { .. })));
        assert_eq!(fs::read(dir.path().join(KEY_FILE)).unwrap(), b"nothing");
    }
}
