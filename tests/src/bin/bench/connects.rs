//! What `connect()` costs: in a captured cgroup, and in those that nobody captures.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use nodegate_tests::{
    daemon::{Daemon, Settings, Target},
    issuer::Issuer,
    programs::{self, said, succeed},
};
use serde_json::Value;

use super::median;

/// `connect()` alone, to a listener that does nothing, captured and not; and the hook's own time.
pub fn print_captured(connects: u32) {
    let place = listener();
    let (daemon, issuer) = daemon();
    let count = connects.to_string();
    let captured = || {
        let mut run = daemon.run(Some(&issuer.token("bench")));
        run.arg(programs::agent());
        prober(run, &count, place)
    };
    let plain = prober(Command::new(programs::agent()), &count, place);
    let redirected = captured();
    // Once more with the kernel's own clock on, which is not free: its numbers are not mixed with the above.
    let statistics = Path::new("/proc/sys/kernel/bpf_stats_enabled");
    let _ = fs::write(statistics, "1");
    let before = HookTime::now();
    captured();
    let hooks = HookTime::now().since(&before);
    let _ = fs::write(statistics, "0");
    println!("\nconnect(), {count} times        median      p99");
    println!("  not captured          {:>9.1} µs {:>6.1} µs", plain.0, plain.1);
    println!("  captured              {:>9.1} µs {:>6.1} µs", redirected.0, redirected.1);
    hooks.print(connects);
}

/// `connect()` of a process that nobody captures: while a daemon runs, which has programs at the root of the cgroup tree,
/// and after everything of it was taken out of the kernel, in turns.
pub fn print_uncaptured(connects: u32, rounds: usize) {
    let place = listener();
    let (mut daemon, issuer) = daemon();
    let _captured = daemon.agent(&issuer.token("bench"));
    let count = connects.to_string();
    let measure = || prober(Command::new(programs::agent()), &count, place).0;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        with.push(measure());
        daemon.kill();
        succeed(Command::new(programs::nodegate()).args(["uninstall", "--config"]).arg(daemon.config()));
        without.push(measure());
        daemon.restart();
    }
    // How far apart two halves of the same measurement are says what the ratio is worth.
    let half = |odd: usize| median(without.iter().copied().skip(odd).step_by(2).collect());
    let noise = half(0) / half(1);
    let (with, without) = (median(with), median(without));
    println!(
        "\nconnect() in a cgroup that is not captured, {count} times in each of {rounds} rounds, medians"
    );
    println!("  without any program   {without:>9.2} µs   (one half of the rounds / the other: {noise:.3})");
    println!("  while a daemon runs   {with:>9.2} µs   {:.3} of that", with / without);
}

/// A listener that lets go of whatever comes.
fn listener() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let place = listener.local_addr().expect("its address");
    thread::spawn(move || listener.incoming().for_each(drop));
    place
}

/// One without a target that anybody asks for: what is captured is refused behind the `connect()`.
fn daemon() -> (Daemon, Issuer) {
    let issuer = Issuer::start();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], nodegate_tests::postgres::free_port()));
    (Daemon::start(&Settings::new(vec![Target::shop("shop", nowhere)]), &issuer), issuer)
}

fn prober(mut command: Command, count: &str, place: SocketAddr) -> (f64, f64) {
    command.args(["connect-cost", count, &place.to_string()]);
    let told = said(&mut command, "", Duration::from_mins(2));
    let report: Value = serde_json::from_str(told.ok()).expect("a report");
    let microseconds = |name: &str| report[name].as_f64().expect("a number") / 1000.0;
    (microseconds("median_ns"), microseconds("p99_ns"))
}

/// Run time and count of nodegate's programs, as the kernel keeps them.
struct HookTime(Vec<Program>);

struct Program {
    id: u64,
    name: String,
    nanoseconds: u64,
    runs: u64,
}

impl HookTime {
    fn now() -> Self {
        let output = Command::new("bpftool").args(["--json", "prog", "show"]).output();
        let programs: Vec<Value> =
            output.ok().and_then(|output| serde_json::from_slice(&output.stdout).ok()).unwrap_or_default();
        let number = |program: &Value, name: &str| program[name].as_u64().unwrap_or(0);
        let programs = programs.iter().filter_map(|program| {
            let name = program["name"].as_str().filter(|name| name.starts_with("nodegate_"))?.to_owned();
            let (nanoseconds, runs) = (number(program, "run_time_ns"), number(program, "run_cnt"));
            Some(Program { id: number(program, "id"), name, nanoseconds, runs })
        });
        Self(programs.collect())
    }

    /// What ran since then.
    fn since(mut self, before: &Self) -> Self {
        for program in &mut self.0 {
            if let Some(earlier) = before.0.iter().find(|earlier| earlier.id == program.id) {
                program.nanoseconds -= earlier.nanoseconds;
                program.runs -= earlier.runs;
            }
        }
        self.0.retain(|program| program.runs > 0);
        self
    }

    fn print(&self, connects: u32) {
        if self.0.is_empty() {
            println!("  in the hooks          not measured: bpftool is missing, or shows no run time here");
        }
        for program in &self.0 {
            let mean = program.nanoseconds as f64 / program.runs as f64 / 1000.0;
            let aim = if program.name.starts_with("nodegate_conn") { "   (aim: at most 2)" } else { "" };
            let each = program.runs as f64 / f64::from(connects);
            println!("  {:<21} {mean:>9.2} µs a run, {each:.1} runs a connection{aim}", program.name);
        }
    }
}
