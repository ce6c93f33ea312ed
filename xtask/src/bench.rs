//! `bench`: builds what is measured with optimisation, and starts the measurement.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{ebpf, places, setup, shell};

/// pgbench direct, through pgbouncer and through nodegate; and the cost of `connect()`.
pub fn servers(quick: bool, only: Option<&str>) -> Result<()> {
    setup::install_missing()?;
    ebpf::build()?;
    shell::step("optimised build");
    let mut build = shell::cargo()?;
    build.args([
        "build",
        "--release",
        "--package",
        "gateway-daemon",
        "--package",
        "nodegate-tests",
        "--bins",
    ]);
    shell::run(&mut build)?;
    let mut measurement = Command::new(places::target()?.join("release").join("bench"));
    if quick {
        measurement.arg("--quick");
    }
    if let Some(only) = only {
        measurement.args(["--only", only]);
    }
    eprintln!();
    let status = measurement.status().context("cannot start the measurement")?;
    if status.success() {
        return Ok(());
    }
    bail!("the measurement ended with {status}")
}

/// The micro-benchmarks of single functions.
pub fn functions() -> Result<()> {
    ebpf::build()?;
    shell::step("benchmarks of functions");
    shell::run(shell::cargo()?.args(["bench", "--package", "gateway-daemon"]))
}
