//! `cargo xtask`: everything that building, checking and showing nodegate takes besides cargo itself.
//!
//! One command of the README is one sub-command here; nothing is hidden in shell scripts. Each step says
//! the command that it runs before it runs it. This crate stays light, since it is compiled first.

mod apt;
mod bench;
mod chart;
mod dist;
mod ebpf;
mod fuzz;
mod kernels;
mod kubernetes;
mod machine;
mod places;
mod regression;
mod rooms;
mod setup;
mod shell;
mod sources;
mod suite;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, test and demo tasks of nodegate")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Compile the kernel programs; install the toolchain for it on Debian if it is missing
    BuildEbpf,
    /// Install what the build and the tests need from the system (Debian), if it is missing
    Setup,
    /// Set up, build and run every test, or those whose names contain FILTER
    Test {
        /// Part of a test's name
        filter: Option<String>,
        /// Only the prober, through so many restarts, kills, stops and upgrades of the daemon
        #[arg(long, value_name = "COUNT", conflicts_with = "filter")]
        restarts: Option<u32>,
        /// Instead, a real node: builds an API server and a kubelet from Debian's source, once, which takes ten
        /// minutes and more
        #[arg(long, conflicts_with = "filter")]
        kubernetes: bool,
        /// Only the leak hunt, with so many statements: nothing that an agent sees may depend on a masked value
        #[arg(long, value_name = "COUNT", conflicts_with = "filter")]
        leaks: Option<u32>,
        /// Instead, PostgreSQL's own regression SQL, or its files whose names contain FILTER, direct and captured:
        /// the share of statements with the same outcome, and why the others differ
        #[arg(long)]
        regression: bool,
        /// On a Debian kernel of this release instead (6.1), in a virtual machine: the conformance suite, and the
        /// daemon's own tests of its kernel side, or those of both whose names contain FILTER
        #[arg(long, value_name = "RELEASE")]
        kernel: Option<String>,
        /// With --kernel: BPF programs are no security module there, as on many kernels
        #[arg(long, requires = "kernel")]
        no_guard: bool,
    },
    /// Try every way out of a captured cgroup, or those whose names contain FILTER, and print the table
    Bypass {
        /// Part of a way's name
        filter: Option<String>,
    },
    /// What CI runs: formatting, rooms, lints, licences, then every test
    Ci {
        /// Look known vulnerabilities of dependencies up as well; fetches their database
        #[arg(long)]
        advisories: bool,
    },
    /// Build the fuzz targets of the codecs, of masking and of lineage, and run each, or those whose names contain FILTER
    Fuzz {
        /// Part of a target's name
        filter: Option<String>,
        /// How long each runs
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Check the Helm chart against the Kubernetes schemas, and build and start the container image
    Chart,
    /// Build the release: a tree with all that it needs, below `dist/` in the target directory
    Dist {
        /// A container image as well, as an OCI archive
        #[arg(long)]
        image: bool,
    },
    /// Check which room of the daemon imports which, against the table in ARCHITECTURE.md
    Rooms,
    /// Show nodegate at work: a captured psql beside a direct one
    Demo {
        /// Leave everything running, and print what to try
        #[arg(long)]
        keep: bool,
    },
    /// Measure: pgbench, a million rows and COPY direct, through pgbouncer and through nodegate; connect(), open
    /// sessions, idle cgroups, DNS and bulk transfer
    Bench {
        /// Shorter rounds and fewer of them
        #[arg(long)]
        quick: bool,
        /// Only the parts and rows with this in their names: "prepared 8", "rows", "memory", "connect", "uncaptured",
        /// "idle", "dns", "bulk"
        #[arg(long, value_name = "PART")]
        only: Option<String>,
        /// The micro-benchmarks of single functions instead
        #[arg(long, conflicts_with_all = ["quick", "only"])]
        functions: bool,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::BuildEbpf => ebpf::build().map(drop),
        Task::Setup => setup::install_missing(),
        Task::Test { restarts: Some(count), .. } => suite::prober(count),
        Task::Test { leaks: Some(count), .. } => suite::leaks(count),
        Task::Test { kubernetes: true, .. } => suite::kubernetes(),
        Task::Test { regression: true, filter, .. } => regression::run(filter.as_deref()),
        Task::Test { kernel: Some(release), filter, no_guard, .. } => {
            let guard = if no_guard { machine::Guard::Off } else { machine::Guard::AsConfigured };
            machine::test(&release, filter.as_deref(), guard)
        }
        Task::Test { filter, .. } => suite::test(filter.as_deref()),
        Task::Bypass { filter } => suite::bypass(filter.as_deref()),
        Task::Ci { advisories } => {
            suite::ci(if advisories { suite::Advisories::Checked } else { suite::Advisories::Left })
        }
        Task::Fuzz { filter, seconds } => fuzz::run(seconds, filter.as_deref()),
        Task::Chart => chart::check().and_then(|()| dist::check()),
        Task::Dist { image } => dist::build(image),
        Task::Rooms => rooms::check(),
        Task::Demo { keep } => suite::demo(keep),
        Task::Bench { quick, only, functions: false } => bench::servers(quick, only.as_deref()),
        Task::Bench { functions: true, .. } => bench::functions(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
