//! The Unix socket's file: who may make it, and when an old one may be removed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

/// The listening socket; its file goes when this is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Held as long as the daemon lives: a second daemon on the same socket does not start.
    _lock: File,
}

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon listens there.
    #[error("another daemon is listening on {}", .0.display())]
    InUse(PathBuf),
    /// Something that is not a socket is in the way.
    #[error("{} exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// The file system said no.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
}

impl AdminSocket {
    /// Opens the socket. Must be called within a tokio runtime.
    ///
    /// Everybody may connect (mode 0666): a captured agent must be able to enrol, whatever its user. What a caller
    /// may do is decided by its kernel credentials.
    pub fn open(path: &Path) -> Result<Self, SocketError> {
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| SocketError::Io { doing, path, source }
        };
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(failed("create", parent))?;
        }
        let lock = lock(path)?;
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("look at", path)(error)),
            Ok(metadata) if !metadata.file_type().is_socket() => {
                return Err(SocketError::NotASocket(path.to_owned()));
            }
            Ok(_) => match UnixStream::connect(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).map_err(failed("remove the stale socket", path))?;
                }
                Err(error) => return Err(failed("probe", path)(error)),
                Ok(_) => return Err(SocketError::InUse(path.to_owned())),
            },
        }
        let listener = UnixListener::bind(path).map_err(failed("listen on", path))?;
        fs::set_permissions(path, Permissions::from_mode(0o666))
            .map_err(failed("open to everybody", path))?;
        Ok(Self { listener, path: path.to_owned(), _lock: lock })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // The lock is still held, so the file is this daemon's own. If it stays, the next start removes it.
        let _ = fs::remove_file(&self.path);
    }
}

fn lock(socket: &Path) -> Result<File, SocketError> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = open.map_err(|source| SocketError::Io { doing: "open", path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SocketError::InUse(socket.to_owned())),
        Err(TryLockError::Error(source)) => Err(SocketError::Io { doing: "lock", path, source }),
    }
}
