//! `cargo xtask bench`: pgbench direct, through pgbouncer and through nodegate, round by round in one run, so that
//! whatever else the machine does falls on all three; what `connect()` costs when it is captured, and
//! what open sessions take of memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on must say so and stop; its numbers are small"
)]

use std::{
    env, fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use nodegate_tests::{
    daemon::{Daemon, Settings, Target},
    dns,
    issuer::Issuer,
    leftovers,
    postgres::{self, Options, Postgres},
    programs::{self, said, succeed, wait_for},
    wire::Client,
};
use serde_json::Value;

/// How long and how often is measured.
struct Plan {
    seconds: u32,
    rounds: usize,
    connects: u32,
    /// Part of the name of the rows that are measured; empty for all.
    only: String,
}

fn main() -> ExitCode {
    let mut plan = Plan { seconds: 6, rounds: 3, connects: 5000, only: String::new() };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match (word.as_str(), words.size_hint()) {
            ("--quick", _) => plan = Plan { seconds: 3, rounds: 1, connects: 2000, ..plan },
            ("--only", (1.., _)) => plan.only = words.next().unwrap_or_default(),
            _ => {
                eprintln!("usage: bench [--quick] [--only PART]");
                return ExitCode::from(2);
            }
        }
    }
    let course = Course::set_up();
    let sync = sync_cost(course.daemon.folder());
    println!(
        "pgbench, scale 10, {} rounds of {} s each way, interleaved; medians. {} processors, all shared with the server.",
        plan.rounds,
        plan.seconds,
        thread::available_parallelism().map_or(1, usize::from)
    );
    println!(
        "pgbouncer {} in session mode; nodegate with policy and durable audit on.",
        course.bouncer.version
    );
    println!(
        "One fdatasync on the audit log's disk takes {} µs here; each reply waits for one.\n",
        sync.as_micros()
    );
    println!(
        "{:<22} {:>9} {:>9} {:>9}  {:>9} {:>9}  {:>9} {:>9}",
        "", "direct", "pgbouncer", "nodegate", "/direct", "/bouncer", "µs CPU", "(bouncer)"
    );
    let mut worst_ratio = f64::INFINITY;
    for work in [Work { name: "select-only", words: &["-S"] }, Work { name: "TPC-B", words: &[] }] {
        for protocol in ["simple", "prepared"] {
            for clients in [1, 8, 32] {
                if !format!("{} {protocol} {clients}", work.name).contains(&plan.only) {
                    continue;
                }
                let rows = course.measure(&work, protocol, clients, &plan);
                worst_ratio = worst_ratio.min(rows.print(&work, protocol, clients));
            }
        }
    }
    if worst_ratio.is_finite() {
        println!("\nworst ratio to pgbouncer: {worst_ratio:.2} (aim: at least 0.80)\n");
    }
    if "connect".contains(&plan.only) {
        course.connect_cost(&plan);
    }
    if "memory".contains(&plan.only) {
        course.memory();
    }
    drop(course);
    if "dns".contains(&plan.only) {
        dns::compare(plan.seconds, plan.rounds);
    }
    if "throughput".contains(&plan.only) {
        println!();
        nodegate_tests::throughput::print(plan.rounds.min(3), plan.seconds.min(4));
    }
    ExitCode::SUCCESS
}

struct Work {
    name: &'static str,
    words: &'static [&'static str],
}

/// One measured run of pgbench.
#[derive(Clone, Copy, Default)]
struct Run {
    transactions_per_second: f64,
    latency_us: f64,
    proxy_cpu_us: f64,
}

/// Median runs of the three ways.
struct Rows {
    direct: Run,
    bouncer: Run,
    nodegate: Run,
}

impl Rows {
    /// Prints a line and returns the ratio to pgbouncer.
    fn print(&self, work: &Work, protocol: &str, clients: u32) -> f64 {
        let (direct, bouncer, nodegate) = (
            self.direct.transactions_per_second,
            self.bouncer.transactions_per_second,
            self.nodegate.transactions_per_second,
        );
        println!(
            "{:<22} {direct:>9.0} {bouncer:>9.0} {nodegate:>9.0}  {:>9.2} {:>9.2}  {:>9.1} {:>9.1}",
            format!("{} {protocol} {clients}", work.name),
            nodegate / direct,
            nodegate / bouncer,
            self.nodegate.proxy_cpu_us,
            self.bouncer.proxy_cpu_us
        );
        if clients == 1 {
            println!(
                "{:<22} {:>9} {:>9.0} {:>9.0}",
                "  added latency, µs",
                "",
                self.bouncer.latency_us - self.direct.latency_us,
                self.nodegate.latency_us - self.direct.latency_us
            );
        }
        nodegate / bouncer
    }
}

/// Everything that runs during a measurement.
struct Course {
    daemon: Daemon,
    issuer: Issuer,
    bouncer: Bouncer,
    postgres: Postgres,
}

impl Course {
    fn set_up() -> Self {
        // As a server that means it: nothing about durability is switched off.
        let durable = "fsync = on\nsynchronous_commit = on\nfull_page_writes = on\nshared_buffers = 512MB\n\
                       log_connections = off\nlog_disconnections = off\nautovacuum = on";
        let options = Options { connections: Some(200), settings: durable, ..Options::default() };
        let postgres = Postgres::with(&options);
        let mut fill = Command::new(programs::postgres("pgbench"));
        fill.args(["-i", "-s", "10", "-q", "-h"]).arg(postgres.socket_folder());
        succeed(fill.args(["-p", &postgres.port().to_string(), "-U", postgres::ROLE, postgres::DATABASE]));
        let bouncer = Bouncer::start(&postgres);
        let issuer = Issuer::start();
        let mut settings = Settings::new(vec![Target::shop("shop", postgres.address())]);
        "limits: { sessions: 1000 }\n".clone_into(&mut settings.more);
        let daemon = Daemon::start(&settings, &issuer);
        Self { daemon, issuer, bouncer, postgres }
    }

    fn measure(&self, work: &Work, protocol: &str, clients: u32, plan: &Plan) -> Rows {
        let mut runs: [Vec<Run>; 3] = Default::default();
        for _ in 0..plan.rounds {
            runs[0].push(Self::pgbench(None, self.postgres.port(), None, work, protocol, clients, plan));
            let bouncer = Some(self.bouncer.child.id());
            runs[1].push(Self::pgbench(None, self.bouncer.port, bouncer, work, protocol, clients, plan));
            let captured = self.daemon.run(Some(&self.issuer.token("bench")));
            let daemon = Some(self.daemon.pid());
            runs[2].push(Self::pgbench(
                Some(captured),
                self.postgres.port(),
                daemon,
                work,
                protocol,
                clients,
                plan,
            ));
        }
        let [direct, bouncer, nodegate] = runs.map(median);
        Rows { direct, bouncer, nodegate }
    }

    fn pgbench(
        wrapper: Option<Command>,
        port: u16,
        proxy: Option<u32>,
        work: &Work,
        protocol: &str,
        clients: u32,
        plan: &Plan,
    ) -> Run {
        let program = programs::postgres("pgbench");
        let mut command = match wrapper {
            Some(mut wrapper) => {
                wrapper.arg(&program);
                wrapper
            }
            None => Command::new(&program),
        };
        command.args(["-n", "-M", protocol, "-T", &plan.seconds.to_string()]).args(work.words);
        command.args(["-c", &clients.to_string(), "-j", &clients.min(2).to_string()]);
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", postgres::ROLE, postgres::DATABASE]);
        command.env("PGPASSWORD", postgres::PASSWORD).env("PGSSLMODE", "disable");
        let before = proxy.map_or(0.0, cpu_seconds);
        let told = said(&mut command, "", Duration::from_secs(u64::from(plan.seconds) + 60));
        let used = proxy.map_or(0.0, cpu_seconds) - before;
        let out = told.ok();
        let number = |label: &str| {
            let line = out
                .lines()
                .find_map(|line| line.strip_prefix(label))
                .unwrap_or_else(|| panic!("{label}: {out}"));
            let digits = line.trim().split([' ', '/']).next().unwrap_or_default();
            digits.parse::<f64>().unwrap_or_else(|_| panic!("{label}: {line}"))
        };
        Run {
            transactions_per_second: number("tps ="),
            latency_us: number("latency average =") * 1000.0,
            proxy_cpu_us: used * 1e6 / number("number of transactions actually processed:").max(1.0),
        }
    }

    /// What so many sessions cost the daemon and pgbouncer while they are open and have asked something.
    fn memory(&self) {
        let grown = |pid: u32, connect: &mut dyn FnMut() -> TcpStream| {
            let before = programs::resident_kib(pid);
            let clients: Vec<Client> = (0..SESSIONS)
                .map(|_| {
                    let mut client = Client::start(connect()).expect("a session");
                    client.query("SELECT * FROM pgbench_accounts WHERE aid <= 100").texts();
                    client
                })
                .collect();
            let kib = programs::resident_kib(pid).saturating_sub(before);
            drop(clients);
            kib as f64 / 1024.0
        };
        let mut agent = self.daemon.agent(&self.issuer.token("bench"));
        let server = self.postgres.address();
        let captured = grown(self.daemon.pid(), &mut || agent.connect(server).expect("a connection"));
        let place = SocketAddr::from(([127, 0, 0, 1], self.bouncer.port));
        let bouncer =
            grown(self.bouncer.child.id(), &mut || TcpStream::connect(place).expect("a connection"));
        println!("{SESSIONS} open sessions          memory");
        println!("  pgbouncer             {bouncer:>9.1} MiB");
        println!("  nodegate              {captured:>9.1} MiB   (aim: under 40)");
    }

    /// `connect()` alone, to a listener that does nothing, captured and not; and the hook's own time.
    fn connect_cost(&self, plan: &Plan) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let place = listener.local_addr().expect("its address");
        thread::spawn(move || listener.incoming().for_each(drop));
        let count = plan.connects.to_string();
        let direct = prober(Command::new(programs::agent()), &count, place);
        let statistics = Path::new("/proc/sys/kernel/bpf_stats_enabled");
        let mut run = self.daemon.run(Some(&self.issuer.token("bench")));
        run.arg(programs::agent());
        let captured = prober(run, &count, place);
        // Once more with the kernel's own clock on, which is not free: its numbers are not mixed with the above.
        let _ = fs::write(statistics, "1");
        let before = HookTime::now();
        let mut run = self.daemon.run(Some(&self.issuer.token("bench")));
        run.arg(programs::agent());
        prober(run, &count, place);
        let hooks = HookTime::now().since(&before);
        let _ = fs::write(statistics, "0");
        println!("connect(), {count} times        median      p99");
        println!("  not captured          {:>9.1} µs {:>6.1} µs", direct.0, direct.1);
        println!("  captured              {:>9.1} µs {:>6.1} µs", captured.0, captured.1);
        hooks.print(plan.connects);
    }
}

/// Sessions whose memory is measured.
const SESSIONS: usize = 100;

/// Median time of one `fdatasync` of a short append, into space that is already there, as the audit log does it:
/// what a single client waits for at least, since its request is on disk before it is forwarded.
fn sync_cost(folder: &Path) -> Duration {
    use std::os::unix::fs::FileExt as _;
    let file = fs::File::create(folder.join("sync-cost")).expect("a file");
    file.write_all_at(&vec![b'\n'; 1 << 20], 0).expect("space");
    file.sync_all().expect("on disk");
    let mut times: Vec<Duration> = (0..200)
        .map(|number| {
            let started = std::time::Instant::now();
            file.write_all_at(&[b'x'; 512], number * 512).expect("a record");
            file.sync_data().expect("on disk");
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
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

/// A pgbouncer in front of the same server, trusting its clients as nodegate does.
struct Bouncer {
    child: Child,
    port: u16,
    folder: PathBuf,
    version: String,
}

impl Bouncer {
    fn start(server: &Postgres) -> Self {
        let folder = leftovers::folder(&leftovers::unique_name());
        let port = postgres::free_port();
        let settings = format!(
            "[databases]\n{database} = host=127.0.0.1 port={server_port} user={role} password='{password}'\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = session\ndefault_pool_size = 128\nmax_client_conn = 200\nlogfile = {log}\n\
             ignore_startup_parameters = extra_float_digits\n",
            database = postgres::DATABASE,
            server_port = server.port(),
            role = postgres::ROLE,
            password = postgres::PASSWORD,
            log = folder.join("log").display(),
        );
        fs::write(folder.join("pgbouncer.ini"), settings).expect("its settings");
        succeed(Command::new("chown").arg("-R").arg("postgres:").arg(&folder));
        let program = Path::new("/usr/sbin/pgbouncer");
        let version = succeed(Command::new(program).arg("--version"));
        let version = version.lines().next().unwrap_or_default().trim_start_matches("PgBouncer ").to_owned();
        let child = programs::as_postgres(program)
            .arg("-q")
            .arg(folder.join("pgbouncer.ini"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbouncer to start");
        wait_for("pgbouncer", Duration::from_secs(10), || {
            postgres::answers(SocketAddr::from(([127, 0, 0, 1], port))).then_some(())
        });
        Self { child, port, folder, version }
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        programs::end(&mut self.child, Signal::SIGKILL);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn median(mut runs: Vec<Run>) -> Run {
    runs.sort_by(|a, b| a.transactions_per_second.total_cmp(&b.transactions_per_second));
    runs.get(runs.len() / 2).copied().unwrap_or_default()
}

/// Processor time of a process, in user and kernel mode.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its statistics");
    // The name may hold blanks; what counts comes after its closing bracket: utime is the 14th field in all.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = [11, 12].map(|at| fields[at].parse::<f64>().expect("ticks")).iter().sum();
    ticks / 100.0
}
