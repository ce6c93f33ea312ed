//! A real Kubernetes node for `cargo xtask test --kubernetes`: API server and kubelet are built from Debian's source
//! package, once, below the target directory. It takes ten minutes and more, which is why CI does without.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{places, setup, shell};

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

/// The system's own sources are used, with lists of their own: nothing of the system's settings changes.
fn fetch(folder: &Path) -> Result<()> {
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
    apt(&["--download-only", "source", "kubernetes"])?;
    let entries = fs::read_dir(folder).context("cannot look for the source package")?.filter_map(Result::ok);
    let description = entries
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "dsc"))
        .context("no source package came")?;
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
