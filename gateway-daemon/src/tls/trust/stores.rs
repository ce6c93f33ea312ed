//! The machine's own stores, laid over in a mount namespace of the process's own.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    time::SystemTime,
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::{TrustError, bundle, certificate::Certificate, keystore};

/// OpenSSL's directory, in which Debian keeps bundle and keystore as well.
const DIRECTORY: &str = "/etc/ssl/certs";
const BUNDLE: &str = "ca-certificates.crt";
const KEYSTORE: &str = "java/cacerts";
/// What `update-ca-certificates` makes all of that from: without the authority here it would take it out again.
const LOCAL: &str = "/usr/local/share/ca-certificates";
const OWN: &str = "nodegate.pem";

/// Where the workload finds what it may be told of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// Everything that the machine trusts, and the authority; `None` where the machine has no bundle.
    pub(super) bundle: Option<PathBuf>,
    /// The authority alone.
    pub(super) authority: PathBuf,
    /// Where more files can be made.
    pub(super) folder: PathBuf,
}

/// Lays the stores over, in a mount namespace that this process alone is in. `None` where it may not have one, or the
/// machine has no such stores.
pub(super) fn lay_over(certificate: &Certificate) -> Result<Option<Places>, TrustError> {
    let directory = Path::new(DIRECTORY);
    if !directory.join(BUNDLE).is_file() {
        return Ok(None);
    }
    match unshare(CloneFlags::CLONE_NEWNS) {
        Ok(()) => {}
        Err(Errno::EPERM) => return Ok(None),
        Err(error) => return Err(failed("make a mount namespace")(error.into())),
    }
    // What the host mounts and unmounts is seen here too, and nothing of here there.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)
        .map_err(|error| failed("keep mounts apart from the host's")(error.into()))?;
    // Made in full beside it and moved into place: nobody ever sees half a store.
    over(directory, |copy| {
        write(&copy.join(BUNDLE), &bundle::with(&directory.join(BUNDLE), certificate)?)?;
        write(&copy.join(OWN), certificate.pem().as_bytes())?;
        let name = free_name(copy, &certificate.hash_name())?;
        symlink(OWN, copy.join(&name)).map_err(failed(&format!("make {name}")))?;
        let store = copy.join(KEYSTORE);
        if let Ok(old) = fs::read(&store)
            && let Some(new) = keystore::with(&old, certificate.der(), SystemTime::now())
        {
            write(&store, &new)?;
        }
        Ok(())
    })?;
    if Path::new(LOCAL).is_dir() {
        over(Path::new(LOCAL), |copy| write(&copy.join("nodegate.crt"), certificate.pem().as_bytes()))?;
    }
    Ok(Some(Places {
        bundle: Some(directory.join(BUNDLE)),
        authority: directory.join(OWN),
        folder: directory.to_owned(),
    }))
}

/// The same files in a directory of the workload's own, where the stores stay as they are.
pub(super) fn in_scratch(certificate: &Certificate, scratch: &Path) -> Result<Places, TrustError> {
    let authority = scratch.join(OWN);
    write(&authority, certificate.pem().as_bytes())?;
    let bundle = match bundle::of_the_machine() {
        Some(machine) => {
            let path = scratch.join(BUNDLE);
            write(&path, &bundle::with(&machine, certificate)?)?;
            Some(path)
        }
        None => None,
    };
    Ok(Places { bundle, authority, folder: scratch.to_owned() })
}

/// Lays a copy of a directory over it, after `change` has been made in the copy.
fn over(directory: &Path, change: impl FnOnce(&Path) -> Result<(), TrustError>) -> Result<(), TrustError> {
    let what = format!("lay a copy over {}", directory.display());
    // A place for the copy to be made in: any directory will do, since this namespace is nobody else's.
    let place = ["/mnt", "/tmp", "/run"].map(Path::new).into_iter().find(|place| place.is_dir());
    let place = place.ok_or_else(|| failed(&what)(io::ErrorKind::NotFound.into()))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("nodegate"), place, Some("tmpfs"), flags, Some("mode=0755"))
        .map_err(|error| failed(&what)(error.into()))?;
    copy(directory, place).map_err(failed(&what))?;
    change(place)?;
    mount(Some(place), directory, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .map_err(|error| failed(&what)(error.into()))
}

/// Copies what a directory holds, links as links.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (old, new) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            symlink(fs::read_link(&old)?, &new)?;
        } else if kind.is_dir() {
            fs::create_dir(&new)?;
            copy(&old, &new)?;
        } else if kind.is_file() {
            fs::copy(&old, &new)?;
            let owner = entry.metadata()?;
            chown(&new, Some(owner.uid()), Some(owner.gid()))?;
        }
    }
    Ok(())
}

/// `<hash>.0`, or the first number that is not taken: different names may have one hash.
fn free_name(directory: &Path, hash: &str) -> Result<String, TrustError> {
    (0..u16::MAX)
        .map(|number| format!("{hash}.{number}"))
        .find(|name| directory.join(name).symlink_metadata().is_err())
        .ok_or(TrustError::Certificate("every name of its hash is taken"))
}

/// Writes a file that everybody may read. What is a link there becomes a file: its target is the host's.
pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), TrustError> {
    let what = format!("write {}", path.display());
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&what)(error)),
        _ => {}
    }
    fs::write(path, content).map_err(failed(&what))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(failed(&what))
}

fn failed(what: &str) -> impl Fn(io::Error) -> TrustError {
    move |source| TrustError::System { what: what.to_owned(), source }
}
