//! `test`, `ci` and `demo`: the tasks that are other tasks in a fixed order.

use std::{
    env, fmt, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use super::{chart, dist, ebpf, fuzz, places, rooms, setup, shell};

/// How long CI runs each fuzz target.
const FUZZ_SECONDS: u32 = 60;

const DENY_VERSION: &str = "0.20.2";

/// Runs every test, or those whose names contain `filter`. The last line printed is the sum of all runners'.
pub fn test(filter: Option<&str>) -> Result<()> {
    if filter.is_none() {
        fuzz::check()?;
    }
    tests(filter)
}

fn tests(filter: Option<&str>) -> Result<()> {
    prepare()?;
    let mut totals = Totals::default();
    if filter.is_none() {
        totals.add(&policy_cases()?);
    }
    shell::step("tests");
    let mut tests = shell::cargo()?;
    tests.args(["test", "--workspace", "--exclude", "gateway-ebpf", "--no-fail-fast"]);
    tests.args(filter);
    // The end-to-end tests share two cores with the servers that they start; more at once only time out.
    tests.env("RUST_TEST_THREADS", env::var("RUST_TEST_THREADS").unwrap_or_else(|_| "4".to_owned()));
    let finished = counted(&mut tests, &mut totals)?;
    if !finished && totals.failed == 0 {
        bail!("the tests do not build");
    }
    println!("\n{totals}");
    if totals.failed == 0 {
        return Ok(());
    }
    bail!("not every test passed")
}

/// The conformance suite alone: its table says what became of each way out.
pub fn bypass(filter: Option<&str>) -> Result<()> {
    prepare()?;
    let mut suite = shell::cargo()?;
    suite.args(["test", "--package", "nodegate-tests", "--test", "bypass"]).args(filter);
    shell::run(&mut suite)
}

/// Probes whether anything gets through while the daemon goes and comes so often.
pub fn prober(restarts: u32) -> Result<()> {
    prepare()?;
    shell::step("prober");
    let mut tests = shell::cargo()?;
    tests.args(["test", "--package", "nodegate-tests", "--test", "upgrade", "a_prober", "--", "--nocapture"]);
    shell::run(tests.env("NODEGATE_PROBER_ROUNDS", restarts.to_string()))
}

/// The leak hunt through so many statements, with a seed that changes from day to day; it is printed.
pub fn leaks(statements: u32) -> Result<()> {
    prepare()?;
    shell::step("leak hunt");
    let day = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() / 86_400;
    let mut tests = shell::cargo()?;
    tests.args(["test", "--package", "nodegate-tests", "--test", "leaks", "--", "--nocapture"]);
    tests.env("NODEGATE_LEAK_SEED", day.to_string());
    shell::run(tests.env("NODEGATE_LEAK_STATEMENTS", statements.to_string()))
}

/// nodegate on a real Kubernetes node.
pub fn kubernetes() -> Result<()> {
    prepare()?;
    let programs = super::kubernetes::programs()?;
    shell::run(shell::cargo()?.args(["build", "--package", "nodegate-tests", "--bin", "kubernetes"]))?;
    shell::step("pods on a real node");
    shell::run(Command::new(places::target()?.join("debug").join("kubernetes")).arg(programs))
}

/// Everything that has to be there before tests, demo or benchmark.
pub fn prepare() -> Result<()> {
    setup::install_missing()?;
    ebpf::build()?;
    shell::step("nodegate");
    shell::run(shell::cargo()?.args(["build", "--package", "gateway-daemon", "--bin", "nodegate"]))
}

/// What all runners said, added up.
#[derive(Default)]
pub struct Totals {
    passed: u64,
    failed: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

impl Totals {
    /// Adds the counts of a line, if it is a runner's last one.
    pub fn count(&mut self, line: &str) {
        if let Some(counts) = counts_of(line) {
            self.add(&counts);
        }
    }

    /// Whether there were tests, and none failed.
    pub const fn all_passed(&self) -> bool {
        self.passed > 0 && self.failed == 0
    }

    fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// The cases that lie beside the policy packs, judged by the binary that users run.
fn policy_cases() -> Result<Totals> {
    shell::step("policy packs");
    let binary = places::target()?.join("debug").join("nodegate");
    let packs = places::root()?.join("policies");
    match shell::run(Command::new(binary).args(["policy", "test"]).arg(packs)) {
        Ok(()) => Ok(Totals { passed: 1, failed: 0 }),
        Err(error) => {
            eprintln!("{error:#}");
            Ok(Totals { passed: 0, failed: 1 })
        }
    }
}

/// Runs a test command, passing its output on and adding up what its runners say. Whether it succeeded.
fn counted(command: &mut Command, totals: &mut Totals) -> Result<bool> {
    eprintln!("  $ {}", shell::shown(command));
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start the tests")?;
    let output = child.stdout.take().context("the tests have no output")?;
    let mut shown = std::io::stdout().lock();
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read the tests' output")?;
        totals.count(&line);
        writeln!(shown, "{line}").context("cannot write the tests' output")?;
    }
    Ok(child.wait().context("cannot wait for the tests")?.success())
}

/// The counts in a line such as `test result: ok. 3 passed; 0 failed; …`.
fn counts_of(line: &str) -> Option<Totals> {
    let rest = line.strip_prefix("test result: ")?;
    let count = |unit: &str| {
        let before = rest.split(unit).next()?;
        before.rsplit(' ').find(|word| !word.is_empty())?.parse().ok()
    };
    Some(Totals { passed: count(" passed")?, failed: count(" failed")? })
}

/// What CI runs.
pub fn ci(advisories: Advisories) -> Result<()> {
    let started = Instant::now();
    shell::step("formatting");
    shell::run(shell::cargo()?.args(["fmt", "--all", "--check"]))?;
    rooms::check()?;
    setup::install_missing()?;
    // The object comes first: the lints compile the daemon, and the daemon embeds it.
    ebpf::build()?;
    shell::step("lints");
    let mut lints = shell::cargo()?;
    lints.args([
        "clippy",
        "--workspace",
        "--exclude",
        "gateway-ebpf",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    shell::run(&mut lints)?;
    shell::step("documentation");
    let mut docs = shell::cargo()?;
    docs.args(["doc", "--workspace", "--exclude", "gateway-ebpf", "--no-deps", "--document-private-items"]);
    // Private items are documented, so links to them lead somewhere.
    shell::run(docs.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"))?;
    dependencies(advisories)?;
    chart::check()?;
    dist::check()?;
    fuzz::run(FUZZ_SECONDS, None)?;
    tests(None)?;
    eprintln!("ci: {} s", started.elapsed().as_secs());
    Ok(())
}

/// Licences, sources and banned crates always; advisories when they are asked for.
fn dependencies(advisories: Advisories) -> Result<()> {
    shell::step("dependencies");
    let deny = deny_program()?;
    let check = |what: &[&str]| -> Result<Command> {
        let mut command = Command::new(&deny);
        command
            .current_dir(places::root()?)
            .args(["--workspace", "check", "--hide-inclusion-graph"])
            .args(what);
        Ok(command)
    };
    shell::run(&mut check(&["bans", "licenses", "sources"])?)?;
    match advisories {
        // The database of advisories is fetched, so this is asked for and not done by the way.
        Advisories::Checked => shell::run(&mut check(&["advisories"])?),
        Advisories::Left => {
            eprintln!(
                "  advisories are NOT checked; `cargo xtask ci --advisories` fetches their database and does"
            );
            Ok(())
        }
    }
}

/// Whether known vulnerabilities of dependencies are looked up.
#[derive(Debug, Clone, Copy)]
pub enum Advisories {
    /// Yes, which fetches their database.
    Checked,
    /// No.
    Left,
}

fn deny_program() -> Result<PathBuf> {
    let own = places::tools()?.join("bin").join("cargo-deny");
    if own.exists() {
        return Ok(own);
    }
    if let Some(found) = shell::find("cargo-deny") {
        return Ok(found);
    }
    let mut install = shell::cargo()?;
    install.args(["install", "cargo-deny", "--version", DENY_VERSION, "--locked", "--root"]);
    install.arg(places::tools()?).env("CARGO_TARGET_DIR", places::tools()?.join("build"));
    shell::run(&mut install).context("could not build cargo-deny")?;
    Ok(own)
}

/// Shows nodegate at work.
pub fn demo(keep: bool) -> Result<()> {
    prepare()?;
    shell::run(shell::cargo()?.args(["build", "--package", "nodegate-tests", "--bin", "demo"]))?;
    let program = places::target()?.join("debug").join("demo");
    fs::metadata(&program).with_context(|| format!("{} was not built", program.display()))?;
    eprintln!();
    let mut demo = Command::new(program);
    if keep {
        demo.arg("--keep");
    }
    let status = demo.status().context("cannot start the demo")?;
    if status.success() {
        return Ok(());
    }
    bail!("the demo ended with {status}")
}

#[cfg(test)]
mod tests {
    use super::counts_of;

    #[test]
    fn the_runners_own_lines_are_added_up() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.01s";
        let counts = counts_of(line).map(|counts| (counts.passed, counts.failed));
        assert_eq!(counts, Some((12, 3)));
        assert!(counts_of("test a_name ... ok").is_none());
    }
}
