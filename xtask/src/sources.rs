//! Debian's source packages.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::{apt::Lists, shell};

/// Downloads a source package into `folder`; `package` may name a version, as `name=version`.
pub fn download(folder: &Path, package: &str) -> Result<()> {
    let settings = Path::new("/etc/apt/sources.list.d/debian.sources");
    let text = fs::read_to_string(settings).with_context(|| format!("cannot read {}", settings.display()))?;
    let of_sources: Vec<String> = text
        .lines()
        .map(|line| if line.starts_with("Types:") { "Types: deb-src".to_owned() } else { line.to_owned() })
        .collect();
    let lists = Lists::fetch(folder, &(of_sources.join("\n") + "\n"))?;
    shell::run(lists.with("apt-get").args(["--download-only", "source", package]))
}

/// The file in `folder` whose name ends so.
pub fn file(folder: &Path, ending: &str) -> Result<std::path::PathBuf> {
    let entries = fs::read_dir(folder).context("cannot look for the source package")?.filter_map(Result::ok);
    entries
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().ends_with(ending))
        .with_context(|| format!("no file *{ending} came"))
}
