//! What the build and the tests need from the system, and how Debian provides it.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

use super::shell;

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
        what_for: "the checks of the Helm chart",
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
];

fn has(program: &str) -> bool {
    shell::find(program).is_some()
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
    let still: Vec<_> = missing.iter().filter(|need| !(need.present)()).map(|need| need.package).collect();
    if still.is_empty() {
        return Ok(());
    }
    bail!("installed, and yet not usable: {}", still.join(" "))
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
