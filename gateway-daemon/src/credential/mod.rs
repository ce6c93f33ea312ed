//! Target credentials, read at each login from where the configuration says they are. A changed file is a rotated
//! credential: the next login uses it. Errors never show what was read.

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
    /// Nothing is in it, too much, or something that cannot be a password.
    #[error("{0} holds no usable password: 1 to {MAX_PASSWORD_BYTES} bytes of UTF-8 text without NUL")]
    Unusable(PasswordSource),
}

impl Provider {
    /// Reads the password now. Blocking, of one small file: a login is rare beside what follows it, and what was
    /// read a moment ago may be out of date.
    pub fn password(&self, source: &PasswordSource) -> Result<Sensitive<String>, CredentialError> {
        let text = match source {
            PasswordSource::File(path) => self.file(path, source)?,
            PasswordSource::Environment(variable) => {
                env::var(variable).map_err(|_| CredentialError::NoVariable(variable.clone()))?
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
        if let Some(line) = text.strip_suffix('\n') {
            text.truncate(line.strip_suffix('\r').unwrap_or(line).len());
        }
        Ok(text)
    }

    fn warn_once(&self, path: &Path) {
        if self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned()) {
            warn!(file = %path.display(), "everybody on this node may read this password file; `chmod o-r` it");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::fs;

    use super::{CredentialError, Provider};
    use crate::domain::credential::PasswordSource;

    #[test]
    fn a_rotated_file_is_used_at_the_next_login() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let source = PasswordSource::File(path.clone());
        let provider = Provider::default();
        for (content, password) in
            [("first\n", "first"), ("second", "second"), ("third\r\n", "third"), (" kept \n\n", " kept \n")]
        {
            fs::write(&path, content).unwrap();
            assert_eq!(provider.password(&source).unwrap().expose(), password);
        }
    }

    #[test]
    fn what_is_no_password_is_an_error_that_shows_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let source = PasswordSource::File(path.clone());
        let provider = Provider::default();
        assert!(matches!(provider.password(&source), Err(CredentialError::Missing(_))));
        for content in
            [&b""[..], b"\n", b"hunter2\0hunter2", b"hunter2\xff", "hunter2".repeat(600).as_bytes()]
        {
            fs::write(&path, content).unwrap();
            let error = provider.password(&source).unwrap_err();
            assert!(matches!(error, CredentialError::Unusable(_)), "{error:?}");
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
        let directory = PasswordSource::File(dir.path().to_owned());
        assert!(matches!(provider.password(&directory), Err(CredentialError::Unreadable { .. })));
        let unset = PasswordSource::Environment("NODEGATE_NO_SUCH_VARIABLE".to_owned());
        assert!(matches!(provider.password(&unset), Err(CredentialError::NoVariable(_))));
    }
}
