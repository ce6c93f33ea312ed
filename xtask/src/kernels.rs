//! Debian's kernels: the newest package of a release, from the system's own lists or from those of later suites.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{apt, apt::Lists, places, shell};

/// Where later kernels are, for a system whose own lists do not offer a release.
const LATER_SUITES: &str = "bookworm-backports trixie trixie-backports";

/// Who signs them; every Debian has the keys.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An unpacked kernel package.
pub struct Kernel {
    folder: PathBuf,
    /// As `uname -r` says it.
    pub version: String,
}

impl Kernel {
    /// The newest package of that release; downloaded once.
    pub fn fetch(release: &str) -> Result<Self> {
        let kernels = places::target()?.join("kernels");
        let names = shell::answer(Command::new("apt-cache").args(["pkgnames", "linux-image-"]))
            .context("kernels come from Debian's packages, and there is no apt-cache here")?;
        if let Some(version) = newest(&names, release) {
            return Self::unpack(&kernels, version, || Command::new("apt-get"));
        }
        let archive = apt::archive()?;
        let sources = format!(
            "Types: deb\nURIs: {archive}\nSuites: {LATER_SUITES}\nComponents: main\nSigned-By: {KEYS}\n"
        );
        let lists = Lists::fetch(&kernels.join("later"), &sources)?;
        let names = shell::answer(lists.with("apt-cache").args(["pkgnames", "linux-image-"]));
        let version = names.and_then(|names| newest(&names, release)).with_context(|| {
            format!(
                "no package linux-image-{release}*-cloud-amd64 is offered here, nor in {LATER_SUITES}; `apt-get \
                 update` may help"
            )
        })?;
        Self::unpack(&kernels, version, || lists.with("apt-get"))
    }

    fn unpack(kernels: &Path, version: String, apt_get: impl Fn() -> Command) -> Result<Self> {
        let kernel = Self { folder: kernels.join(&version), version };
        if kernel.image().exists() {
            return Ok(kernel);
        }
        let folder = &kernel.folder;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut download = apt_get();
        download.current_dir(folder).args(["download", "-o", "APT::Sandbox::User=root"]);
        shell::run(download.arg(format!("linux-image-{}", kernel.version)))?;
        let package = fs::read_dir(folder)?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|end| end == "deb"))
            .context("apt-get left no package")?;
        shell::run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(folder))?;
        fs::remove_file(package)?;
        Ok(kernel)
    }

    /// What boots.
    pub fn image(&self) -> PathBuf {
        self.folder.join("boot").join(format!("vmlinuz-{}", self.version))
    }

    /// Its modules. Later suites have `/lib` in `/usr`.
    pub fn modules(&self) -> PathBuf {
        let merged = self.folder.join("usr/lib/modules");
        if merged.exists() { merged } else { self.folder.join("lib/modules") }
    }
}

/// The newest version of that release among names of packages.
fn newest(names: &str, release: &str) -> Option<String> {
    let version = |name: &str| -> Option<(Vec<u32>, String)> {
        let version = name.strip_prefix("linux-image-")?;
        version.strip_prefix(release)?.starts_with(['.', '-', '+']).then_some(())?;
        // 6.1.0-56, or 6.18.15+deb13.
        let numbers = version.strip_suffix("-cloud-amd64")?.split(['.', '-', '+']);
        let numbers = numbers.map(|number| number.strip_prefix("deb").unwrap_or(number).parse().ok());
        Some((numbers.collect::<Option<Vec<u32>>>()?, version.to_owned()))
    };
    names.lines().filter_map(version).max().map(|(_, version)| version)
}

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn the_newest_version_of_a_release_is_taken_by_its_numbers() {
        let names = "linux-image-6.18.5+deb13-cloud-amd64\nlinux-image-6.18.15+deb13-cloud-amd64\n\
                     linux-image-6.18.15+deb13-cloud-amd64-dbg\nlinux-image-6.1.0-9-cloud-amd64\n\
                     linux-image-6.1.0-10-cloud-amd64\nlinux-image-6.18.99+deb13-amd64\nlinux-image-cloud-amd64";
        assert_eq!(newest(names, "6.18").as_deref(), Some("6.18.15+deb13-cloud-amd64"));
        assert_eq!(newest(names, "6.18.5").as_deref(), Some("6.18.5+deb13-cloud-amd64"));
        assert_eq!(newest(names, "6.1").as_deref(), Some("6.1.0-10-cloud-amd64"));
        assert_eq!(newest(names, "6"), newest(names, "6.18"));
        assert_eq!(newest(names, "7.2"), None);
    }
}
