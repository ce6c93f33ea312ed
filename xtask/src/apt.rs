//! Packages from lists of one's own, so that nothing of the system's settings changes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::shell;

/// Lists of packages that lie in a folder of their own.
pub struct Lists {
    folder: PathBuf,
}

impl Lists {
    /// Fetches what `sources` names, in the words of sources.list(5), into `folder`.
    pub fn fetch(folder: &Path, sources: &str) -> Result<Self> {
        let lists = folder.join("lists");
        fs::create_dir_all(&lists).with_context(|| format!("cannot make {}", lists.display()))?;
        let folder = folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()))?;
        let fetched = Self { folder };
        fs::write(fetched.named(), sources).context("cannot write a list of sources")?;
        shell::run(fetched.with("apt-get").arg("update"))?;
        Ok(fetched)
    }

    /// A program of apt's that knows these lists and no others; what it downloads goes to their folder.
    pub fn with(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).args(["-o", "APT::Sandbox::User=root"]);
        command.args(["-o", "Dir::Etc::sourceparts=/dev/null", "-o"]);
        command.arg(format!("Dir::Etc::sourcelist={}", self.named().display())).arg("-o");
        command.arg(format!("Dir::State::lists={}", self.folder.join("lists").display()));
        // What apt remembers of its own lists is not of these.
        command.args(["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]);
        command
    }

    fn named(&self) -> PathBuf {
        self.folder.join("own.sources")
    }
}

/// Where the system has Debian's packages from.
pub fn archive() -> Result<String> {
    let mut asked = Command::new("apt-get");
    asked.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    let answer = shell::answer(asked.args(["Origin: Debian", "Label: Debian"]));
    let answer = answer.context("kernels come from Debian's packages, and there is no apt-get here")?;
    let first = answer.lines().next().map(str::to_owned);
    first.context("the system's package lists name no archive of Debian's; `apt-get update` may help")
}
