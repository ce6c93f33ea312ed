//! Debian's source packages: fetched with lists of their own, so that nothing of the system's settings changes.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::shell;

/// Downloads a source package into `folder`; `package` may name a version, as `name=version`.
pub fn download(folder: &Path, package: &str) -> Result<()> {
    let settings = Path::new("/etc/apt/sources.list.d/debian.sources");
    let text = fs::read_to_string(settings).with_context(|| format!("cannot read {}", settings.display()))?;
    let of_sources: Vec<String> = text
        .lines()
        .map(|line| if line.starts_with("Types:") { "Types: deb-src".to_owned() } else { line.to_owned() })
        .collect();
    let list = folder.join("src.sources");
    fs::write(&list, of_sources.join("\n") + "\n").context("cannot write a list of sources")?;
    fs::create_dir_all(folder.join("lists")).context("cannot make a folder")?;
    let apt = |words: &[&str]| -> Result<()> {
        let mut command = Command::new("apt-get");
        command.current_dir(folder).args(["-o", "Dir::Etc::sourceparts=/dev/null", "-o"]);
        command.arg(format!("Dir::Etc::sourcelist={}", list.display())).arg("-o");
        shell::run(command.arg(format!("Dir::State::lists={}", folder.join("lists").display())).args(words))
    };
    apt(&["update"])?;
    apt(&["--download-only", "source", package])
}

/// The file in `folder` whose name ends so.
pub fn file(folder: &Path, ending: &str) -> Result<std::path::PathBuf> {
    let entries = fs::read_dir(folder).context("cannot look for the source package")?.filter_map(Result::ok);
    entries
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().ends_with(ending))
        .with_context(|| format!("no file *{ending} came"))
}
