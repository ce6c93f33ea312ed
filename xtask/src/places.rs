//! Where things are: the workspace and cargo's target directory.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// The workspace's root, from this crate's own place in it.
pub fn root() -> Result<PathBuf> {
    let manifest =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.parent().map(Path::to_path_buf).context("xtask is not inside a workspace")
}

/// Cargo's target directory: this program lies two levels below it.
pub fn target() -> Result<PathBuf> {
    let program = env::current_exe().context("cannot tell where xtask itself lies")?;
    program.ancestors().nth(2).map(Path::to_path_buf).context("xtask does not lie in a target directory")
}

/// Programs that xtask installs for itself lie here, not among the user's own.
pub fn tools() -> Result<PathBuf> {
    Ok(target()?.join("tools"))
}

/// The compiled kernel programs.
pub fn ebpf_object() -> Result<PathBuf> {
    Ok(target()?.join("bpf").join("nodegate-ebpf"))
}
