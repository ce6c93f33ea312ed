//! `dist`: what a node needs to run nodegate, and nothing else: the binary, the libraries that it is linked with, the
//! system's certificate authorities; as a tree, and as a container image.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{ebpf, places, setup, shell};

/// Where Debian keeps them, and where the image does.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";
/// Where the binary lies in the image.
const PROGRAM: &str = "usr/local/bin/nodegate";
/// Directories that are there, and empty.
const EMPTY: &[&str] = &["etc/nodegate", "var/lib/nodegate", "run/nodegate", "tmp"];

/// Builds the release and lays it out below `dist/` in the target directory; `image` makes an image of it as well.
pub fn build(image: bool) -> Result<()> {
    ebpf::build()?;
    shell::step("release");
    shell::run(shell::cargo()?.args([
        "build",
        "--release",
        "--package",
        "gateway-daemon",
        "--bin",
        "nodegate",
    ]))?;
    let target = places::target()?;
    let dist = target.join("dist");
    lay_out(&target.join("release/nodegate"), &dist)?;
    eprintln!("  {}", dist.join("root").join(PROGRAM).display());
    if image {
        let archive = Builder::new(&dist)?.build()?;
        eprintln!("  {}", archive.display());
    }
    Ok(())
}

/// Builds the image around the binary that is there already, and tries it: it holds all that the binary needs, and
/// starts it.
pub fn check() -> Result<()> {
    shell::step("image");
    let target = places::target()?;
    let binary = target.join("debug/nodegate");
    if !binary.exists() {
        shell::run(shell::cargo()?.args(["build", "--package", "gateway-daemon", "--bin", "nodegate"]))?;
    }
    let folder = target.join("dist-check");
    lay_out(&binary, &folder)?;
    let builder = Builder::new(&folder)?;
    let archive = builder.build()?;
    let said = builder.start(&archive, &["--version"])?;
    ensure!(said.starts_with("nodegate "), "the image's program says {said}");
    // The whole of its start, up to the file that only a pod has: the program that the image names by itself.
    let Err(error) = builder.start(&archive, &[]) else {
        bail!("the image's daemon starts without a configuration")
    };
    let error = format!("{error:#}");
    ensure!(error.contains("/etc/nodegate/nodegate.yaml"), "the image's daemon says {error}");
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    eprintln!("  built, and it starts");
    Ok(())
}

/// Makes `root/` in the folder.
fn lay_out(binary: &Path, folder: &Path) -> Result<()> {
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    for directory in EMPTY {
        make(&root.join(directory))?;
    }
    let program = root.join(PROGRAM);
    make_for(&program)?;
    shell::run(Command::new("strip").arg("-o").arg(&program).arg(binary))?;
    for library in libraries(binary)? {
        copy(&library, &root.join(library.strip_prefix("/").context("ldd names whole paths")?))?;
    }
    copy(&Path::new("/").join(AUTHORITIES), &root.join(AUTHORITIES))?;
    Ok(())
}

/// What the binary is linked with, the loader among it.
fn libraries(binary: &Path) -> Result<Vec<PathBuf>> {
    let listed = shell::answer(Command::new("ldd").arg(binary)).context("cannot run ldd on the binary")?;
    let mut found = Vec::new();
    for line in listed.lines() {
        let words = line.split_whitespace().find(|word| word.starts_with('/'));
        match words {
            Some(path) => found.push(PathBuf::from(path)),
            None if line.contains("linux-vdso") => {}
            None => bail!("ldd finds no file for {}", line.trim()),
        }
    }
    Ok(found)
}

/// buildah with a store of its own: it needs no engine and no service.
struct Builder<'a> {
    folder: &'a Path,
}

impl<'a> Builder<'a> {
    fn new(folder: &'a Path) -> Result<Self> {
        if shell::find("buildah").is_none() {
            ensure!(setup::can_install(), "install buildah, then run this again");
            setup::install(&["buildah"])?;
        }
        Ok(Self { folder })
    }

    fn command(&self) -> Command {
        let mut command = Command::new("buildah");
        command.args(["--storage-driver", "vfs", "--root"]).arg(self.folder.join("store"));
        command.arg("--runroot").arg(self.folder.join("run"));
        command
    }

    /// Makes the last stage of the Dockerfile, with what was laid out here in place of the first.
    fn build(&self) -> Result<PathBuf> {
        let archive = self.folder.join("nodegate-image.tar");
        // `COPY --from=build` of the Dockerfile names the path that its first stage has.
        let first_stage = self.folder.join("stage");
        let place = first_stage.join("src/target/dist");
        make(&place)?;
        let root = place.join("root");
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
        }
        fs::rename(self.folder.join("root"), &root).context("cannot move what was laid out")?;
        let mut build = self.command();
        build.args(["build", "--quiet", "--isolation", "chroot", "--build-context"]);
        build.arg(format!("build={}", first_stage.display()));
        build.arg("--file").arg(places::root()?.join("deploy/container/Dockerfile"));
        build.arg("--tag").arg(format!("oci-archive:{}", archive.display())).arg(self.folder);
        let outcome = shell::run(&mut build);
        fs::rename(&root, self.folder.join("root")).context("cannot move back what was laid out")?;
        fs::remove_dir_all(&first_stage).context("cannot remove the stage")?;
        outcome.map(|()| archive)
    }

    /// Starts what the image says, with these words, in nothing but the image's files.
    fn start(&self, archive: &Path, words: &[&str]) -> Result<String> {
        let name = self.said(&["from", &format!("oci-archive:{}", archive.display())])?;
        let of_image = |format: &str| self.said(&["inspect", "--format", format, &name]);
        let entry = of_image("{{range .OCIv1.Config.Entrypoint}}{{.}} {{end}}");
        let usual = of_image("{{range .OCIv1.Config.Cmd}}{{.}} {{end}}");
        let outcome = entry.and_then(|entry| Ok((entry, usual?, self.said(&["mount", &name])?))).and_then(
            |(entry, usual, root)| {
                let mut start = Command::new("chroot");
                start.arg(&root).args(entry.split_whitespace());
                if words.is_empty() {
                    start.args(usual.split_whitespace())
                } else {
                    start.args(words)
                };
                output(&mut start)
            },
        );
        self.said(&["rm", &name])?;
        outcome
    }

    fn said(&self, words: &[&str]) -> Result<String> {
        output(self.command().args(words))
    }
}

/// What the command prints; its complaint is the error.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", shell::shown(command)))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    make_for(to)?;
    fs::copy(from, to).map(drop).with_context(|| format!("cannot copy {} into the tree", from.display()))
}

fn make_for(file: &Path) -> Result<()> {
    make(file.parent().context("a file in a tree has a parent")?)
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}
