//! `test --regression`: PostgreSQL's own regression SQL, from Debian's source package of the server that is installed.
//! Nothing of it is kept here but figures.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use super::{places, setup, shell, sources, suite};

/// Runs the files whose names contain `filter`, or all, direct and captured, and prints what came of it.
pub fn run(filter: Option<&str>) -> Result<()> {
    suite::prepare()?;
    let files = files()?;
    shell::run(shell::cargo()?.args(["build", "--package", "nodegate-tests", "--bin", "regression"]))?;
    shell::step("PostgreSQL's regression SQL");
    let program = places::target()?.join("debug").join("regression");
    shell::run(Command::new(program).arg(files).args(filter))
}

/// The folder `src/test/regress` of the server's source, fetched if it is missing.
fn files() -> Result<PathBuf> {
    let server = setup::server("postgres").context("no PostgreSQL server is installed")?;
    let major = server.iter().nth_back(2).context("an unusual place for a server")?.to_string_lossy();
    let package = format!("postgresql-{major}");
    let version =
        shell::answer(Command::new("dpkg-query").args(["--show", "--showformat=${Version}", &package]))
            .with_context(|| format!("{package} does not come from Debian"))?;
    let folder = places::target()?.join("regression").join(&version);
    let files = folder.join("src/test/regress");
    if files.join("sql").exists() {
        return Ok(files);
    }
    if !setup::can_install() {
        bail!("the source of PostgreSQL comes from Debian's packages, which need apt-get and root");
    }
    shell::step("PostgreSQL's source");
    fs::create_dir_all(&folder).context("cannot make a folder for PostgreSQL's source")?;
    sources::download(&folder, &format!("{package}={version}"))?;
    let archive = sources::file(&folder, ".orig.tar.bz2")?;
    let mut unpack = Command::new("tar");
    unpack.arg("-xf").arg(&archive).arg("-C").arg(&folder);
    shell::run(unpack.args(["--strip-components=1", "--wildcards", "*/src/test/regress"]))?;
    fs::remove_file(archive).context("cannot remove the archive")?;
    // The server reads some of them as another user.
    shell::run(Command::new("chmod").args(["-R", "a+rX"]).arg(&files))?;
    Ok(files)
}
