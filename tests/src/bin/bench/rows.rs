//! A million rows, and a gibibyte by COPY: direct, through pgbouncer, and through nodegate as far as it looks into them.

use std::{fs, net::SocketAddr, process::Command, time::Duration};

use nodegate_tests::{
    daemon::{Daemon, Settings, Target},
    issuer::Issuer,
    postgres::{Options, Postgres},
    programs::{self, cpu_seconds, said},
};
use serde_json::Value;

use super::{bouncer::Bouncer, median};

/// Two tables with the same rows; two columns of the second are masked.
const TABLES: &str = "
    CREATE TABLE plain_rows AS SELECT i AS id, 'Customer number ' || i AS name, 'user' || i || '@example.com' AS email,
        '+49 30 ' || 1000000 + i AS phone, (i::bigint * 7919 % 100000) / 100.0 AS amount,
        timestamptz '2024-01-01' + i * interval '1 minute' AS at
        FROM generate_series(1, 1000000) i;
    CREATE TABLE masked_rows AS TABLE plain_rows;
    CREATE ROLE reader LOGIN;
    GRANT SELECT ON plain_rows, masked_rows TO reader, app_agent;
    VACUUM (FREEZE, ANALYZE) plain_rows, masked_rows;
";
const PLAIN: &str = "SELECT * FROM plain_rows";
const MASKED: &str = "SELECT * FROM masked_rows";
/// A row of COPY and its line feed have 1 KiB.
const COPY: &str = "COPY (SELECT repeat('x', 1023) FROM generate_series(1, 1048576)) TO STDOUT";

const POLICY: &str = r#"
@id("agents-read")
permit (principal in Group::"agents", action, resource);

@id("mask-personal-data")
@mask("partial")
forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("pii") };
"#;

/// One way to the rows.
struct Way<'a> {
    name: &'static str,
    statement: &'static str,
    place: SocketAddr,
    captured: bool,
    /// The proxy, and how much of a processor it may take.
    proxy: Option<(u32, &'a str)>,
}

/// One fetch.
#[derive(Default)]
struct Runs {
    seconds: Vec<f64>,
    proxy_cpu: Vec<f64>,
    mebibytes: f64,
}

/// Measures and prints: medians of so many rounds.
pub fn print(rounds: usize) {
    // At 127.0.0.2 the same server is another target, which nodegate does not look into.
    let settings = "shared_buffers = 512MB\nlisten_addresses = '127.0.0.1,127.0.0.2'";
    let postgres = Postgres::with(&Options { settings, ..Options::default() });
    trust_readers(&postgres);
    postgres.script(TABLES);
    let bouncer = Bouncer::start(&postgres);
    let issuer = Issuer::start();
    let mut shop = Target::shop("shop", postgres.address());
    shop.tags = ["email", "phone"]
        .map(|column| (format!("public.masked_rows.{column}"), vec!["pii".to_owned()]))
        .to_vec();
    let mut settings = Settings::new(vec![shop]);
    POLICY.clone_into(&mut settings.policy);
    settings.more_targets.push(format!(
        "{{ name: bytes, protocol: tcp, hosts: [\"127.0.0.2\"], ports: [{}] }}",
        postgres.port()
    ));
    let daemon = Daemon::start(&settings, &issuer);
    let direct = postgres.address();
    let bytes = SocketAddr::from(([127, 0, 0, 2], postgres.port()));
    let way = |name, statement, place, captured, proxy| Way { name, statement, place, captured, proxy };
    let (peer, ours) = (bouncer.pid(), daemon.pid());
    let ways = |statement, aim| {
        [
            way("direct", statement, direct, false, None),
            way("pgbouncer", statement, bouncer.address(), false, Some((peer, ""))),
            way("nodegate, bytes alone", statement, bytes, true, Some((ours, ""))),
            way("nodegate, policy", statement, direct, true, Some((ours, aim))),
        ]
    };
    let mut rows = Vec::from(ways(PLAIN, "   (aim: 0.5)"));
    rows.push(way("  two masked columns", MASKED, direct, true, Some((ours, "   (aim: 1.5)"))));
    let fetch = |way: &Way<'_>| fetch(way, &daemon, &issuer);
    table("a million rows", &rows, rounds, fetch);
    table("COPY of 1 GiB", &ways(COPY, ""), rounds, fetch);
}

/// Takes the ways in turns.
fn table(title: &str, ways: &[Way<'_>], rounds: usize, fetch: impl Fn(&Way<'_>) -> (f64, f64, f64)) {
    let mut all: Vec<Runs> = ways.iter().map(|_| Runs::default()).collect();
    for _ in 0..rounds {
        for (way, runs) in ways.iter().zip(&mut all) {
            let (seconds, cpu, mebibytes) = fetch(way);
            runs.seconds.push(seconds);
            runs.proxy_cpu.push(cpu);
            runs.mebibytes = mebibytes;
        }
    }
    let title = format!("{title}, {:.0} MiB", all[0].mebibytes);
    println!("\n{title:<26} {:>8} {:>8} {:>12}", "seconds", "/direct", "proxy CPU s");
    let direct = median(all[0].seconds.clone());
    for (way, runs) in ways.iter().zip(all) {
        let seconds = median(runs.seconds);
        let cpu =
            way.proxy.map_or_else(String::new, |(_, aim)| format!("{:>12.2}{aim}", median(runs.proxy_cpu)));
        // As elsewhere a ratio of rates: 1 is as fast as direct.
        println!("  {:<24} {seconds:>8.2} {:>8.2} {cpu}", way.name, direct / seconds);
    }
}

/// Fetches everything; seconds, the proxy's processor time in seconds, and mebibytes.
fn fetch(way: &Way<'_>, daemon: &Daemon, issuer: &Issuer) -> (f64, f64, f64) {
    let mut command = if way.captured {
        let mut run = daemon.run(Some(&issuer.token("bench")));
        run.arg(programs::agent());
        run
    } else {
        Command::new(programs::agent())
    };
    command.args(["fetch", &way.place.to_string(), "reader", way.statement]);
    let used = || way.proxy.map_or(0.0, |(pid, _)| cpu_seconds(pid));
    let before = used();
    let told = said(&mut command, "", Duration::from_mins(2));
    let used = used() - before;
    let told: Value = serde_json::from_str(told.ok()).expect("an account");
    let number = |key: &str| told[key].as_f64().expect("a number");
    (number("seconds"), used, number("bytes") / f64::from(1 << 20))
}

/// The role `reader` needs no password: whoever logs in by itself is not to be measured doing so.
fn trust_readers(postgres: &Postgres) {
    let file = postgres.socket_folder().join("data/pg_hba.conf");
    let rules = fs::read_to_string(&file).expect("its rules");
    fs::write(&file, format!("host all reader 127.0.0.1/32 trust\n{rules}")).expect("its rules");
    postgres.admin("SELECT pg_reload_conf()");
}
