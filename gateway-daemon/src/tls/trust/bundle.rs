//! Bundles: files of many PEM certificates, one behind the other.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{TrustError, certificate::Certificate};

/// Where distributions keep theirs: Debian, Ubuntu and Alpine; Fedora, RHEL and Amazon Linux; SUSE; BSDs' way.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The machine's own bundle; `None` where it has none.
pub(super) fn of_the_machine() -> Option<PathBuf> {
    BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// What `path` holds, with the certificate behind it, once.
pub(super) fn with(path: &Path, certificate: &Certificate) -> Result<Vec<u8>, TrustError> {
    let mut bundle = match fs::read(path) {
        Ok(bundle) => bundle,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => {
            return Err(TrustError::System { what: format!("read {}", path.display()), source });
        }
    };
    if !bundle.is_empty() && !bundle.ends_with(b"\n") {
        bundle.push(b'\n');
    }
    let pem = certificate.pem().as_bytes();
    if !bundle.windows(pem.len()).any(|window| window == pem) {
        bundle.extend_from_slice(pem);
    }
    Ok(bundle)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::{super::certificate::tests::authority, *};

    #[test]
    fn what_was_there_stays_and_the_certificate_comes_behind_it_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bundle");
        let certificate = Certificate::from_pem(&authority()).unwrap();
        assert_eq!(with(&path, &certificate).unwrap(), certificate.pem().as_bytes());
        fs::write(&path, "# mine").unwrap();
        let twice = with(&path, &certificate).unwrap();
        assert_eq!(twice, format!("# mine\n{}", certificate.pem()).into_bytes());
        fs::write(&path, &twice).unwrap();
        assert_eq!(with(&path, &certificate).unwrap(), twice);
    }
}
