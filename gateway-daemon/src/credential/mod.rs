//! Target credentials, read at each login from where the configuration says they are: a file, the environment, a
//! Kubernetes secret, Vault. What has changed there is a rotated credential: the next login uses it. Errors never show
//! what was read.

mod https;
mod kubernetes;
mod vault;

pub use vault::{VaultLogin, VaultSettings};

use std::{
    collections::HashSet,
    env,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tracing::warn;

use crate::domain::{credential::PasswordSource, sensitive::Sensitive};

/// More than any password; a file that is larger is something else.
const MAX_PASSWORD_BYTES: u64 = 4096;

/// Gives out credentials.
#[derive(Debug, Default)]
pub struct Provider {
    vault: Option<vault::Vault>,
    /// Files that were warned of: once is enough.
    warned: Mutex<HashSet<PathBuf>>,
}

/// Why there is no credential. Fit for the operator's log.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file is not there.
    #[error("the password file {} does not exist", .0.display())]
    Missing(PathBuf),
    /// The file is there and cannot be read.
    #[error("the password file {} cannot be read: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The environment has no such variable, or it is not text.
    #[error("the environment variable {0} holds no password")]
    NoVariable(String),
    /// The service that holds it did not give it out.
    #[error("the {source_of}: {reason}")]
    Service {
        /// Which secret.
        source_of: PasswordSource,
        /// Why not.
        reason: String,
    },
    /// Nothing is in it, too much, or something that cannot be a password.
    #[error("{0} holds no usable password: 1 to {MAX_PASSWORD_BYTES} bytes of UTF-8 text without NUL")]
    Unusable(PasswordSource),
}

impl Provider {
    /// One that can ask this Vault.
    pub fn new(vault: Option<VaultSettings>) -> Self {
        Self { vault: vault.map(vault::Vault::new), warned: Mutex::default() }
    }

    /// Reads the password now: a login is rare beside what follows it, and what was read a moment ago may be out of
    /// date. A file is read blocking, since it is a small one.
    pub async fn password(&self, source: &PasswordSource) -> Result<Sensitive<String>, CredentialError> {
        let refused = |reason| CredentialError::Service { source_of: source.clone(), reason };
        let text = match source {
            PasswordSource::File(path) => self.file(path, source)?,
            PasswordSource::Environment(variable) => {
                env::var(variable).map_err(|_| CredentialError::NoVariable(variable.clone()))?
            }
            PasswordSource::Kubernetes { kubeconfig, namespace, name, key } => {
                let read = kubernetes::read(kubeconfig.as_deref(), namespace, name, key).await;
                let bytes = read.map_err(refused)?;
                let text = String::from_utf8(bytes).map_err(|_| CredentialError::Unusable(source.clone()))?;
                without_line_end(text)
            }
            PasswordSource::Vault { mount, path, field } => {
                let vault =
                    self.vault.as_ref().ok_or_else(|| refused("no Vault is configured".to_owned()))?;
                vault.read(mount, path, field).await.map_err(refused)?
            }
        };
        if text.is_empty() || text.len() as u64 > MAX_PASSWORD_BYTES || text.contains('\0') {
            return Err(CredentialError::Unusable(source.clone()));
        }
        Ok(Sensitive::new(text))
    }

    fn file(&self, path: &Path, source: &PasswordSource) -> Result<String, CredentialError> {
        let unreadable = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => CredentialError::Missing(path.to_owned()),
            // The error of a reader that found no UTF-8 says no more than that.
            io::ErrorKind::InvalidData => CredentialError::Unusable(source.clone()),
            _ => CredentialError::Unreadable { path: path.to_owned(), source: error },
        };
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(unreadable(io::Error::other("it is not a regular file")));
        }
        if metadata.permissions().mode() & 0o004 != 0 {
            self.warn_once(path);
        }
        let mut text = String::new();
        // Two bytes for the line end, one to notice that there is more.
        file.take(MAX_PASSWORD_BYTES + 3).read_to_string(&mut text).map_err(unreadable)?;
        Ok(without_line_end(text))
    }

    fn warn_once(&self, path: &Path) {
        if self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned()) {
            warn!(file = %path.display(), "everybody on this node may read this password file; `chmod o-r` it");
        }
    }
}

/// One line end is what editors and `kubectl create secret --from-file` add.
fn without_line_end(mut text: String) -> String {
    if let Some(line) = text.strip_suffix('\n') {
        text.truncate(line.strip_suffix('\r').unwrap_or(line).len());
    }
    text
}

/// A token: a kilobyte or two, of text.
fn read_small_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(64 * 1024).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::fs;

    use super::{CredentialError, Provider};
    use crate::domain::credential::PasswordSource;

    #[tokio::test]
    async fn a_rotated_file_is_used_at_the_next_login() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let source = PasswordSource::File(path.clone());
        let provider = Provider::default();
        for (content, password) in
            [("first\n", "first"), ("second", "second"), ("third\r\n", "third"), (" kept \n\n", " kept \n")]
        {
            fs::write(&path, content).unwrap();
            assert_eq!(provider.password(&source).await.unwrap().expose(), password);
        }
    }

    #[tokio::test]
    async fn what_is_no_password_is_an_error_that_shows_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let source = PasswordSource::File(path.clone());
        let provider = Provider::default();
        assert!(matches!(provider.password(&source).await, Err(CredentialError::Missing(_))));
        for content in
            [&b""[..], b"\n", b"hunter2\0hunter2", b"hunter2\xff", "hunter2".repeat(600).as_bytes()]
        {
            fs::write(&path, content).unwrap();
            let error = provider.password(&source).await.unwrap_err();
            assert!(matches!(error, CredentialError::Unusable(_)), "{error:?}");
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
        let directory = PasswordSource::File(dir.path().to_owned());
        assert!(matches!(provider.password(&directory).await, Err(CredentialError::Unreadable { .. })));
        let unset = PasswordSource::Environment("NODEGATE_NO_SUCH_VARIABLE".to_owned());
        assert!(matches!(provider.password(&unset).await, Err(CredentialError::NoVariable(_))));
        let vault =
            PasswordSource::Vault { mount: "a".to_owned(), path: "b".to_owned(), field: "c".to_owned() };
        assert!(matches!(provider.password(&vault).await, Err(CredentialError::Service { .. })));
    }
}
