//! Programs that the tests run, and how they are run: as another user, and never outliving the test.

use std::{
    env, fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The `nodegate` under test: beside this test's own binary. `cargo xtask test` builds it first.
pub fn nodegate() -> PathBuf {
    let found = beside_tests("nodegate");
    assert!(
        found.exists(),
        "{} is not there: run `cargo xtask test`, or `cargo build -p gateway-daemon`",
        found.display()
    );
    found
}

/// The tests' own helper that runs as a captured agent.
pub fn agent() -> PathBuf {
    beside_tests("agent")
}

fn beside_tests(name: &str) -> PathBuf {
    let this = env::current_exe().expect("where this test lies");
    let folder = this.parent().expect("a folder");
    let profile = if folder.ends_with("deps") { folder.parent().expect("a profile") } else { folder };
    profile.join(name)
}

/// A program of PostgreSQL's server, which Debian keeps off PATH.
pub fn postgres(program: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|version| {
            let number = version.file_name().to_string_lossy().parse().ok()?;
            Some((number, version.path().join("bin").join(program)))
        })
        .filter(|(_, path)| path.exists())
        .collect();
    found.sort();
    found.pop().map_or_else(|| PathBuf::from(program), |(_, path)| path)
}

/// A command that runs `program` as the user `postgres`, and dies with the thread that starts it.
pub fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        "postgres",
        "--regid",
        "postgres",
        "--init-groups",
        "--pdeathsig",
        "QUIT",
        "--",
    ]);
    command.arg(program);
    command
}

/// A command that runs `program` and dies with the thread that starts it.
pub fn bound(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Runs to the end and insists on success.
pub fn succeed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?} failed with {}:\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// What a finished program said.
#[derive(Debug)]
pub struct Said {
    /// Its exit status; 128 and the signal's number if a signal ended it.
    pub status: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// From what `Command::output` returns.
    pub fn from_output(output: &Output) -> Self {
        let status = output.status;
        Self {
            status: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Insists on exit status 0 and returns standard output.
    pub fn ok(&self) -> &str {
        assert_eq!(self.status, 0, "{}{}", self.out, self.err);
        &self.out
    }
}

/// Runs to the end, at most `limit`.
pub fn said(command: &mut Command, input: &str, limit: Duration) -> Said {
    use std::io::Write as _;
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{shown}: {error}"));
    let mut stdin = child.stdin.take().expect("its input");
    let input = input.to_owned();
    let feeder = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let pid = i32::try_from(child.id()).expect("a pid");
    let (done, waits) = std::sync::mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let late = waits.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if late {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        late
    });
    let output = child.wait_with_output().expect("its output");
    drop(done);
    drop(feeder.join());
    let said = Said::from_output(&output);
    assert!(!watchdog.join().unwrap_or(false), "{shown} took longer than {limit:?}: {said:?}");
    said
}

/// Waits until `condition` gives something, or panics naming what was waited for.
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "waited {limit:?} in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Ends a process with `signal` and reaps it.
pub fn end(child: &mut Child, signal: nix::sys::signal::Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
    }
    let _ = child.wait();
}

/// Resident memory of a process in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Processor time of a process so far, in user and kernel mode.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its statistics");
    // The name may hold blanks; what counts comes after its closing bracket: utime is the 14th field in all.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = [11, 12].map(|at| fields[at].parse::<f64>().expect("ticks")).iter().sum();
    ticks / 100.0
}

/// How many file descriptors a process has open.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count()
}

/// Lets this process have as many file descriptors as it may.
pub fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
