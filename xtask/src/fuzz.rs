//! `cargo xtask fuzz`: the fuzz targets of `gateway-daemon/fuzz`, with the toolchain that builds everything else.
//!
//! What cargo-fuzz adds to a build is flags of LLVM's coverage pass, which stable compilers take as well; the address
//! sanitizer, which they do not, finds little in code without `unsafe`.

use std::{
    fs,
    num::NonZero,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail};

use super::{places, shell};

/// What libFuzzer reads: <https://clang.llvm.org/docs/SanitizerCoverage.html>.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Ccodegen-units=1",
];
/// A message or two; what is longer is explored more slowly.
const INPUT_BYTES: u32 = 4096;

/// Builds all targets and runs each for so long, or those whose names contain `filter`. `words/NAME` is the dictionary
/// of a target that reads a language.
pub fn run(seconds: u32, filter: Option<&str>) -> Result<()> {
    shell::step("fuzz targets");
    let folder = places::root()?.join("gateway-daemon").join("fuzz");
    let target = places::target()?.join("fuzz");
    let triple = host()?;
    // A target triple keeps the flags from build scripts.
    let mut build = shell::cargo()?;
    build.args(["build", "--release", "--locked", "--manifest-path"]).arg(folder.join("Cargo.toml"));
    build.args(["--target", &triple, "--target-dir"]).arg(&target).env("RUSTFLAGS", FLAGS.join(" "));
    shell::run(&mut build)?;
    let names = names(&folder)?;
    let wanted: Vec<&String> =
        names.iter().filter(|name| filter.is_none_or(|part| name.contains(part))).collect();
    // Each target has one thread.
    let together = thread::available_parallelism().map_or(1, NonZero::get);
    for names in wanted.chunks(together) {
        let shown = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        shell::step(&format!("fuzz {shown} for {seconds} s"));
        let running: Vec<_> = names
            .iter()
            .map(|name| {
                let mut fuzz = one(&folder, &target, &triple, name, seconds)?;
                eprintln!("  $ {}", shell::shown(&fuzz));
                let child = fuzz.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
                Ok((name, child.with_context(|| format!("cannot start {name}"))?))
            })
            .collect::<Result<_>>()?;
        // Read side by side: a target whose pipe is full would stand still.
        let finished =
            running.into_iter().map(|(name, child)| (name, thread::spawn(|| child.wait_with_output())));
        for (name, finished) in finished.collect::<Vec<_>>() {
            let output = finished.join().map_err(|_| anyhow!("{name}: nobody waits for it"))??;
            let told = String::from_utf8_lossy(&output.stderr);
            if !output.status.success() {
                eprintln!("{}", told.trim_end());
                bail!("{name} has found something, or could not run: {}", output.status);
            }
            let figures = told.lines().filter_map(|line| line.strip_prefix("stat::"));
            eprintln!("  {name}: {}", figures.map(squeezed).collect::<Vec<_>>().join(", "));
        }
    }
    Ok(())
}

/// Checks that all targets still compile: they are no member of the workspace, whose rooms they are made of.
pub fn check() -> Result<()> {
    shell::step("fuzz targets compile");
    let manifest = places::root()?.join("gateway-daemon").join("fuzz").join("Cargo.toml");
    let mut check = shell::cargo()?;
    check.args(["check", "--locked", "--manifest-path"]).arg(manifest);
    check.arg("--target-dir").arg(places::target()?.join("fuzz")).env("RUSTFLAGS", "--cfg=fuzzing");
    shell::run(&mut check)
}

/// The command of one target: its corpus so far, its seeds, and its dictionary if it reads a language.
fn one(folder: &Path, target: &Path, triple: &str, name: &str, seconds: u32) -> Result<Command> {
    let made = |what: &str| -> Result<PathBuf> {
        let path = target.join(what).join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    };
    let (corpus, artifacts) = (made("corpus")?, made("artifacts")?);
    let mut fuzz = Command::new(target.join(triple).join("release").join(name));
    fuzz.arg(corpus).arg(folder.join("seeds").join(name));
    fuzz.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={INPUT_BYTES}"));
    fuzz.arg(format!("-artifact_prefix={}/", artifacts.display()));
    let words = folder.join("words").join(name);
    if words.exists() {
        fuzz.arg(format!("-dict={}", words.display()));
    }
    fuzz.args(["-print_final_stats=1", "-verbosity=0", "-timeout=10"]);
    Ok(fuzz)
}

/// A figure of libFuzzer's, without the blanks that align it.
fn squeezed(figure: &str) -> String {
    figure.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let targets = folder.join("fuzz_targets");
    let entries = fs::read_dir(&targets).with_context(|| format!("cannot read {}", targets.display()))?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

fn host() -> Result<String> {
    let said = shell::answer(Command::new("rustc").arg("-vV")).context("rustc does not say what it is")?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say its host")?.to_owned())
}
