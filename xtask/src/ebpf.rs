//! `build-ebpf`: the kernel programs, by whichever way of compiling them this machine has.
//!
//! Two ways work. Debian's `rustc-web` comes with a compiled `core` for the BPF target, so it needs neither
//! a nightly toolchain nor the library's source; and a rustup nightly with `rust-src` can build `core`
//! itself. Either needs a `bpf-linker` that was built against the LLVM of that very compiler.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{places, setup, shell};

const TARGET: &str = "bpfel-unknown-none";
const LINKER_VERSION: &str = "0.13.0";

/// A compiler that can produce BPF.
enum Compiler {
    /// Has `core` for the BPF target beside it.
    Prebuilt { rustc: PathBuf, llvm: u32 },
    /// Must build `core` from `rust-src`.
    BuildsCore { toolchain: String, llvm: u32 },
}

impl Compiler {
    const fn llvm(&self) -> u32 {
        match self {
            Self::Prebuilt { llvm, .. } | Self::BuildsCore { llvm, .. } => *llvm,
        }
    }

    fn said(&self) -> String {
        match self {
            Self::Prebuilt { rustc, llvm } => {
                format!("{} with its prebuilt core for {TARGET} (LLVM {llvm})", rustc.display())
            }
            Self::BuildsCore { toolchain, llvm } => {
                format!("rustup's {toolchain} building core from rust-src (LLVM {llvm})")
            }
        }
    }
}

/// Compiles the kernel programs and returns where the object lies.
pub fn build() -> Result<PathBuf> {
    shell::step("kernel programs");
    let compiler = find_or_install_compiler()?;
    eprintln!("  compiling with {}", compiler.said());
    let linker = find_or_install_linker(compiler.llvm())?;
    compile(&compiler, &linker)?;
    place_object()
}

fn find_or_install_compiler() -> Result<Compiler> {
    if let Some(compiler) = find_compiler() {
        return Ok(compiler);
    }
    if setup::can_install() {
        setup::install(&["rustc-web", "libstd-rust-web-dev-bpf"])
            .context("this release of Debian may lack rustc with BPF support; its security archive has it")?;
    }
    find_compiler().with_context(|| advice("no Rust compiler here can produce BPF"))
}

fn find_compiler() -> Option<Compiler> {
    let prebuilt = [PathBuf::from("/usr/bin/rustc"), PathBuf::from("rustc")];
    prebuilt.into_iter().find_map(prebuilt_compiler).or_else(nightly_compiler)
}

fn prebuilt_compiler(rustc: PathBuf) -> Option<Compiler> {
    let libraries =
        shell::answer(Command::new(&rustc).args(["--print", "target-libdir", "--target", TARGET]))?;
    let has_core = fs::read_dir(libraries.trim())
        .ok()?
        .filter_map(Result::ok)
        .any(|file| file.file_name().to_string_lossy().starts_with("libcore-"));
    if !has_core {
        return None;
    }
    let llvm = llvm_of(Command::new(&rustc))?;
    Some(Compiler::Prebuilt { rustc, llvm })
}

fn nightly_compiler() -> Option<Compiler> {
    let toolchain = "nightly";
    let rustc = || {
        let mut command = Command::new("rustup");
        command.args(["run", toolchain, "rustc"]);
        command
    };
    let sysroot = shell::answer(rustc().args(["--print", "sysroot"]))?;
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    let llvm = source.exists().then(|| llvm_of(rustc())).flatten()?;
    Some(Compiler::BuildsCore { toolchain: toolchain.to_owned(), llvm })
}

fn llvm_of(mut rustc: Command) -> Option<u32> {
    let version = shell::answer(rustc.arg("-vV"))?;
    version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?.split('.').next()?.parse().ok()
}

/// A `bpf-linker` of our own, or one on PATH; either only if it is linked with the compiler's LLVM, since
/// it has to read that compiler's bitcode.
fn find_or_install_linker(llvm: u32) -> Result<PathBuf> {
    let own = places::tools()?.join("bin").join("bpf-linker");
    if fits(&own, llvm) {
        return Ok(own);
    }
    if let Some(found) = shell::find("bpf-linker").filter(|found| fits(found, llvm)) {
        return Ok(found);
    }
    install_linker(llvm)?;
    Ok(own)
}

fn fits(linker: &Path, llvm: u32) -> bool {
    let version = shell::answer(Command::new(linker).arg("--version")).unwrap_or_default();
    let libraries = shell::answer(Command::new("ldd").arg(linker)).unwrap_or_default();
    let wanted = format!("libLLVM.so.{llvm}");
    let older_name = format!("libLLVM-{llvm}");
    version.trim_end().ends_with(LINKER_VERSION)
        && (libraries.contains(&wanted) || libraries.contains(&older_name))
}

fn install_linker(llvm: u32) -> Result<()> {
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
    let has_headers = || prefix.join("bin/llvm-config").exists() && prefix.join("include/llvm-c").exists();
    if !has_headers() && setup::can_install() {
        setup::install(&[&format!("llvm-{llvm}-dev")])?;
    }
    if !has_headers() {
        bail!(advice(&format!(
            "bpf-linker needs LLVM {llvm} with its headers, and {} has none",
            prefix.display()
        )));
    }
    let feature = format!("llvm-{llvm}");
    let mut install = shell::cargo()?;
    install
        .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--force"])
        .args(["--no-default-features", "--features", &feature, "--root"])
        .arg(places::tools()?)
        // One place for everything that xtask compiles, so that a second try goes on where the first ended.
        .env("CARGO_TARGET_DIR", places::tools()?.join("build"))
        .env("LLVM_PREFIX", &prefix);
    shell::run(&mut install).context("could not build bpf-linker")
}

fn compile(compiler: &Compiler, linker: &Path) -> Result<()> {
    let linker_folder = linker.parent().context("bpf-linker has no folder")?;
    let mut build = match compiler {
        Compiler::Prebuilt { rustc, .. } => {
            let mut build = shell::cargo()?;
            build.arg("build").env("RUSTC", rustc);
            build
        }
        Compiler::BuildsCore { toolchain, .. } => {
            let mut build = Command::new("rustup");
            build.current_dir(places::root()?).args([
                "run",
                toolchain,
                "cargo",
                "build",
                "-Z",
                "build-std=core",
            ]);
            build.env_remove("RUSTC").env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
            build
        }
    };
    build
        .args(["--release", "--package", "gateway-ebpf", "--bins", "--target", TARGET])
        .env("CARGO_TARGET_DIR", places::target()?.join("bpf-build"))
        // aya-ebpf uses one unstable feature of core.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
        // BTF is made of debug information; the kernel shows it in dumps and checks map layouts by it.
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS", "-C debuginfo=2 -C link-arg=--btf")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("PATH", shell::path_with(linker_folder)?)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    shell::run(&mut build).context("the kernel programs do not compile")
}

/// Copies the object to the place where the daemon's build looks for it, only when it differs, so that an
/// unchanged program does not rebuild the daemon.
fn place_object() -> Result<PathBuf> {
    let built = places::target()?.join("bpf-build").join(TARGET).join("release").join("nodegate-ebpf");
    let object = fs::read(&built).with_context(|| format!("cargo left no {}", built.display()))?;
    let place = places::ebpf_object()?;
    if fs::read(&place).is_ok_and(|present| present == object) {
        eprintln!("  {} is up to date ({} bytes)", place.display(), object.len());
        return Ok(place);
    }
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(&place, &object).with_context(|| format!("cannot write {}", place.display()))?;
    eprintln!("  {} written ({} bytes)", place.display(), object.len());
    Ok(place)
}

fn advice(problem: &str) -> String {
    format!(
        "{problem}.\n\
         On Debian 12 or later, as root: `apt-get install rustc-web libstd-rust-web-dev-bpf llvm-N-dev`, where N is\n\
         the LLVM version that `/usr/bin/rustc -vV` names; then run this command again, it builds the linker itself.\n\
         Elsewhere: `rustup toolchain install nightly --component rust-src`, and the development files of the LLVM\n\
         that `rustup run nightly rustc -vV` names, below /usr/lib/llvm-N; then run this command again."
    )
}
