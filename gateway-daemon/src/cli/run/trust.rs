//! What the command is given to trust before it starts: the authority of the node, beside all that it trusts already.

use std::{
    env,
    ffi::{CString, OsString},
    fs, io,
    os::unix::{ffi::OsStringExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process,
};

use crate::tls::trust;

/// A directory for files that no store of the machine can hold, removed when the command has ended.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// An empty one, which the command's user can read.
    pub(super) fn make() -> io::Result<Self> {
        let base = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|base| base.is_dir());
        let base = base.unwrap_or_else(env::temp_dir);
        let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let path = base.join(format!("nodegate-trust-{}-{}", process::id(), started.as_nanos()));
        // Fails where somebody was there before: in a directory of everybody's, it is not taken over.
        fs::create_dir(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// In the child: makes this process trust `authority`, and returns the environment that the command gets. What cannot be
/// done is said and left: a command that trusts less is refused more, and by nobody but itself.
pub(super) fn environment(authority: &str, scratch: &Path) -> Vec<CString> {
    let mut variables: Vec<(OsString, OsString)> = env::vars_os().collect();
    match trust::project(authority, scratch, |name| env::var_os(name)) {
        Ok(projected) => {
            if let Some(error) = projected.not_mounted {
                eprintln!("nodegate run: the machine's own stores do not have the node's authority: {error}");
            }
            for (name, value) in projected.variables {
                variables.retain(|(set, _)| set != name);
                variables.push((name.into(), value));
            }
        }
        Err(error) => eprintln!("nodegate run: the command does not trust the node's authority: {error}"),
    }
    let pair = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        // Neither part of what came from an environment holds a NUL.
        CString::new(name.into_vec()).ok()
    };
    variables.into_iter().filter_map(pair).collect()
}
