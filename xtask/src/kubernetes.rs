//! A real Kubernetes node for `cargo xtask test --kubernetes`: API server and kubelet are built from Debian's source
//! package, once, below the target directory. It takes ten minutes and more, which is why CI does without.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{places, setup, shell, sources};

/// What builds and what runs beside it. Debian's `kubernetes-client` brings kubectl, where none is installed.
const PACKAGES: [&str; 9] = [
    "golang-1.19-go",
    "rsync",
    "jq",
    "make",
    "dpkg-dev",
    "etcd-server",
    "containerd",
    "containernetworking-plugins",
    "busybox-static",
];
const PROGRAMS: [&str; 2] = ["kube-apiserver", "kubelet"];

/// The folder with the built programs, made if it is missing.
pub fn programs() -> Result<PathBuf> {
    shell::step("a Kubernetes node from Debian's source");
    if !setup::can_install() {
        bail!("this stage needs Debian and root");
    }
    setup::install(&PACKAGES)?;
    if shell::find("kubectl").is_none() {
        setup::install(&["kubernetes-client"])?;
    }
    let folder = places::target()?.join("kubernetes");
    let built = folder.join("bin");
    if PROGRAMS.iter().all(|program| built.join(program).exists()) {
        return Ok(built);
    }
    fs::create_dir_all(&built).context("cannot make a folder for Kubernetes")?;
    fetch(&folder)?;
    build(&folder.join("tree"))?;
    for program in PROGRAMS {
        let made = folder.join("tree/_output/local/go/bin").join(program);
        fs::copy(&made, built.join(program)).with_context(|| format!("{} was not built", made.display()))?;
    }
    fs::remove_dir_all(folder.join("tree")).context("cannot remove the sources")?;
    Ok(built)
}

fn fetch(folder: &Path) -> Result<()> {
    sources::download(folder, "kubernetes")?;
    let description = sources::file(folder, ".dsc")?;
    let _ = fs::remove_dir_all(folder.join("tree"));
    shell::run(Command::new("dpkg-source").current_dir(folder).arg("-x").arg(description).arg("tree"))
}

fn build(tree: &Path) -> Result<()> {
    let inside = tree.join(".go/src/k8s.io");
    fs::create_dir_all(&inside).context("cannot make a GOPATH")?;
    std::os::unix::fs::symlink("../../..", inside.join("kubernetes")).context("cannot link the sources")?;
    let path = std::env::var("PATH").unwrap_or_default();
    for program in PROGRAMS {
        let mut make = Command::new("make");
        make.current_dir(inside.join("kubernetes")).arg(format!("WHAT=cmd/{program}")).arg("GOFLAGS=-p=1");
        make.env("GOPATH", tree.join(".go")).env("PATH", format!("/usr/lib/go-1.19/bin:{path}"));
        make.env("GO111MODULE", "off").env("GOPROXY", "off").env("CGO_ENABLED", "0");
        // The build looks at its working directory, which is a link.
        make.env("PWD", inside.join("kubernetes"));
        shell::run(&mut make)?;
    }
    Ok(())
}
