//! Cgroups of a test's own, as a service manager or a container runtime would have made them, and their labels.

use std::{
    ffi::CString,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::leftovers;

const LABEL: &std::ffi::CStr = c"user.nodegate.identity";

/// A cgroup; killed and removed on drop with everything below it.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one below another.
    pub fn below(parent: &Path, name: &str) -> Self {
        let path = parent.join(name);
        fs::create_dir_all(&path).expect("a cgroup");
        Self(path)
    }

    /// Makes one directly below the mount.
    pub fn new() -> Self {
        Self::below(&leftovers::cgroup_mount(), &leftovers::unique_name())
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its path below the mount, as nodegate shows it.
    pub fn shown(&self) -> String {
        let below = self.0.strip_prefix(leftovers::cgroup_mount()).expect("below the mount");
        format!("/{}", below.display())
    }

    /// A shell that enters it and becomes the words that are added.
    pub fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\"/cgroup.procs && exec \"$@\""]).arg(&self.0);
        command
    }

    /// Labels it.
    pub fn label(&self, label: &str) {
        set_label(&self.0, label).expect("to label the cgroup");
    }

    /// Takes the label off.
    pub fn unlabel(&self) {
        remove_label(&self.0).expect("to take the label off");
    }
}

impl Default for Cgroup {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        leftovers::remove_cgroup(&self.0);
    }
}

/// Sets the label of a directory.
pub fn set_label(directory: &Path, label: &str) -> io::Result<()> {
    let path = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: both strings end with NUL and live through the call; the value is as long as stated.
    #[expect(unsafe_code, reason = "the standard library has no extended attributes")]
    let answer =
        unsafe { libc::setxattr(path.as_ptr(), LABEL.as_ptr(), label.as_ptr().cast(), label.len(), 0) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Removes the label of a directory.
pub fn remove_label(directory: &Path) -> io::Result<()> {
    let path = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: both strings end with NUL and live through the call.
    #[expect(unsafe_code, reason = "the standard library has no extended attributes")]
    let answer = unsafe { libc::removexattr(path.as_ptr(), LABEL.as_ptr()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
