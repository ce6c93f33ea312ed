//! pgbench direct, through pgbouncer, through a forwarder that only records, and through nodegate; and what open
//! sessions take of memory.

use std::{fs, net::TcpStream, path::Path, process::Command, thread, time::Duration};

use nodegate_tests::{
    daemon::{Daemon, Settings, Target},
    issuer::Issuer,
    postgres::{self, Options, Postgres},
    programs::{self, cpu_seconds, said, succeed},
    wire::Client,
};

use super::{Plan, bouncer::Bouncer, recorder::Recorder};

/// Measures what the plan asks for, and prints it.
pub fn print(plan: &Plan) {
    let works = [Work { name: "select-only", words: &["-S"] }, Work { name: "TPC-B", words: &[] }];
    let lines: Vec<_> = works
        .iter()
        .flat_map(|work| ["simple", "prepared"].map(|protocol| (work, protocol)))
        .flat_map(|(work, protocol)| [1, 8, 32].map(|clients| (work, protocol, clients)))
        .filter(|(work, protocol, clients)| plan.has(&format!("{} {protocol} {clients}", work.name)))
        .collect();
    if lines.is_empty() && !plan.has("memory") {
        return;
    }
    let course = Course::set_up();
    if !lines.is_empty() {
        course.print_head(plan);
        let ratios = lines.into_iter().map(|(work, protocol, clients)| {
            course.measure(work, protocol, clients, plan).print(work, protocol, clients)
        });
        let worst = ratios.fold(f64::INFINITY, f64::min);
        println!("\nworst ratio to pgbouncer: {worst:.2} (aim: at least 0.80)\n");
    }
    if plan.has("memory") {
        course.memory();
    }
}

/// What pgbench is told to do.
pub struct Work<'w> {
    /// For the table.
    pub name: &'static str,
    /// On its command line.
    pub words: &'w [&'w str],
}

/// One measured run of pgbench.
#[derive(Clone, Copy, Default)]
pub struct Run {
    pub transactions_per_second: f64,
    latency_us: f64,
    pub proxy_cpu_us: f64,
}

/// Median runs of the four ways.
struct Rows {
    direct: Run,
    bouncer: Run,
    recorder: Run,
    nodegate: Run,
}

impl Rows {
    /// Prints a line and returns the ratio to pgbouncer.
    fn print(&self, work: &Work<'_>, protocol: &str, clients: u32) -> f64 {
        let each = [self.direct, self.bouncer, self.recorder, self.nodegate];
        let [direct, bouncer, recorder, nodegate] = each.map(|run| run.transactions_per_second);
        println!(
            "{:<22} {direct:>9.0} {bouncer:>9.0} {recorder:>9.0} {nodegate:>9.0}  {:>9.2} {:>9.2} {:>9.2}  {:>9.1} {:>9.1}",
            format!("{} {protocol} {clients}", work.name),
            nodegate / direct,
            nodegate / bouncer,
            nodegate / recorder,
            self.nodegate.proxy_cpu_us,
            self.bouncer.proxy_cpu_us
        );
        if clients == 1 {
            let [bouncer, recorder, nodegate] = [self.bouncer, self.recorder, self.nodegate]
                .map(|run| run.latency_us - self.direct.latency_us);
            println!(
                "{:<22} {:>9} {bouncer:>9.0} {recorder:>9.0} {nodegate:>9.0}",
                "  added latency, µs", ""
            );
        }
        nodegate / bouncer
    }
}

/// Everything that runs during a measurement.
pub struct Course {
    pub daemon: Daemon,
    pub issuer: Issuer,
    bouncer: Bouncer,
    recorder: Recorder,
    pub postgres: Postgres,
}

impl Course {
    pub fn set_up() -> Self {
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
        let recorder = Recorder::start(postgres.address(), daemon.folder());
        Self { daemon, issuer, bouncer, recorder, postgres }
    }

    fn print_head(&self, plan: &Plan) {
        println!(
            "pgbench, scale 10, {} rounds of {} s each way, interleaved; medians. {} processors, all shared with the server.",
            plan.rounds,
            plan.seconds,
            thread::available_parallelism().map_or(1, usize::from)
        );
        println!(
            "pgbouncer {} in session mode; nodegate with policy and durable audit on. `recorder` forwards bytes and does\n\
             nothing but put a record of each request on disk before its reply: the rate that this disk leaves.",
            self.bouncer.version
        );
        println!(
            "One fdatasync on the audit log's disk takes {} µs here; each reply waits for one.\n",
            sync_cost(self.daemon.folder()).as_micros()
        );
        println!(
            "{:<22} {:>9} {:>9} {:>9} {:>9}  {:>9} {:>9} {:>9}  {:>9} {:>9}",
            "",
            "direct",
            "pgbouncer",
            "recorder",
            "nodegate",
            "/direct",
            "/bouncer",
            "/recorder",
            "µs CPU",
            "(bouncer)"
        );
    }

    fn measure(&self, work: &Work<'_>, protocol: &str, clients: u32, plan: &Plan) -> Rows {
        let mut runs: [Vec<Run>; 4] = Default::default();
        for _ in 0..plan.rounds {
            runs[0].push(Self::pgbench(None, self.postgres.port(), None, work, protocol, clients, plan));
            let bouncer = Some(self.bouncer.pid());
            runs[1].push(Self::pgbench(
                None,
                self.bouncer.address().port(),
                bouncer,
                work,
                protocol,
                clients,
                plan,
            ));
            let recorder = self.recorder.address().port();
            runs[2].push(Self::pgbench(None, recorder, None, work, protocol, clients, plan));
            let captured = self.daemon.run(Some(&self.issuer.token("bench")));
            let daemon = Some(self.daemon.pid());
            runs[3].push(Self::pgbench(
                Some(captured),
                self.postgres.port(),
                daemon,
                work,
                protocol,
                clients,
                plan,
            ));
        }
        let [direct, bouncer, recorder, nodegate] = runs.map(middle);
        Rows { direct, bouncer, recorder, nodegate }
    }

    pub fn pgbench(
        wrapper: Option<Command>,
        port: u16,
        proxy: Option<u32>,
        work: &Work<'_>,
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
        let place = self.bouncer.address();
        let bouncer = grown(self.bouncer.pid(), &mut || TcpStream::connect(place).expect("a connection"));
        println!("{SESSIONS} open sessions          memory");
        println!("  pgbouncer             {bouncer:>9.1} MiB");
        println!("  nodegate              {captured:>9.1} MiB   (aim: under 40)");
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

/// The run in the middle by its rate.
pub fn middle(mut runs: Vec<Run>) -> Run {
    runs.sort_by(|a, b| a.transactions_per_second.total_cmp(&b.transactions_per_second));
    runs.get(runs.len() / 2).copied().unwrap_or_default()
}
