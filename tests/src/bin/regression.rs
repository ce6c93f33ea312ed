//! PostgreSQL's own regression SQL, sent by psql to three servers: twice directly, once through nodegate with a policy
//! that allows everything. What the two direct runs agree in, and the captured one does not, is a difference.
//!
//! Words: the folder `src/test/regress` of the server's source, and which files to run: parts of their names, with commas
//! between them; a file's whole name means that file alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a program of the tests: trouble must end it"
)]

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use nodegate_tests::{
    postgres::{self, Postgres},
    programs,
    regression::{Block, blocks, reason, statements},
    stage::Stage,
};

const POLICY: &str = r#"@id("all") permit (principal, action, resource);"#;
/// The database that every file runs in, made anew for it.
const DATABASE: &str = "regression";

/// How a file's run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    CutOff,
}

/// What all files came to.
#[derive(Debug, Default)]
struct Sum {
    same: usize,
    different: usize,
    unsteady: usize,
    missing: usize,
    reasons: BTreeMap<String, usize>,
    cut_off: Vec<String>,
    not_run: Vec<String>,
}

fn main() {
    let mut words = env::args().skip(1);
    let files = PathBuf::from(words.next().expect("the folder src/test/regress"));
    let filter = words.next().unwrap_or_default();
    let seconds =
        |name: &str| env::var(name).ok().and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let limit = seconds("NODEGATE_REGRESSION_SECONDS").unwrap_or(Duration::from_mins(1));
    let total = seconds("NODEGATE_REGRESSION_TOTAL_SECONDS").unwrap_or(Duration::MAX);
    let started = Instant::now();
    let all = scheduled(&files);
    let mut sum = Sum::default();
    let (first, second) = (server(&files), server(&files));
    let stage = Stage::around(server(&files), |settings| {
        settings.targets[0].tags.clear();
        POLICY.clone_into(&mut settings.policy);
    });
    for name in all.iter().filter(|name| is_asked_for(name, &filter, &all)) {
        if started.elapsed() > total {
            sum.not_run.push(name.clone());
            continue;
        }
        let begun = Instant::now();
        let script = fs::read(files.join("sql").join(format!("{name}.sql"))).expect("a file of SQL");
        let outputs = thread::scope(|scope| {
            let direct = |server| {
                let (files, script) = (&files, &script);
                scope.spawn(move || run(files, server, programs::bound(Path::new("psql")), script, limit))
            };
            let runs = (direct(&first), direct(&second));
            let mut captured = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
            captured.arg("psql");
            let captured = run(&files, &stage.postgres, captured, &script, limit);
            (runs.0.join().unwrap(), runs.1.join().unwrap(), captured)
        });
        let script = String::from_utf8_lossy(&script);
        compare(name, &script, [&outputs.0, &outputs.1, &outputs.2], &mut sum);
        eprintln!(
            "{name}: {} s; in all {} the same, {} different",
            begun.elapsed().as_secs(),
            sum.same,
            sum.different
        );
    }
    report(&sum, limit);
}

/// Whether one of the filter's words is part of the name, or the name itself where some file is called so.
fn is_asked_for(name: &str, filter: &str, all: &[String]) -> bool {
    filter.split(',').any(|word| {
        let is_name = all.iter().any(|other| other == word);
        if is_name { name == word } else { name.contains(word) }
    })
}

/// The tests' names in the order in which PostgreSQL runs them. The first one makes what the others read: it is run
/// once for the database that the others are copied from.
fn scheduled(files: &Path) -> Vec<String> {
    let schedule = fs::read_to_string(files.join("parallel_schedule")).expect("the schedule");
    let names = schedule.lines().filter_map(|line| line.strip_prefix("test:"));
    names
        .flat_map(str::split_whitespace)
        .filter(|name| *name != "test_setup" && files.join("sql").join(format!("{name}.sql")).exists())
        .map(str::to_owned)
        .collect()
}

/// A server whose login may do everything, with the tables that the files begin with.
fn server(files: &Path) -> Postgres {
    let server = Postgres::start();
    let all = format!("ALTER ROLE {} SUPERUSER", postgres::ROLE);
    server.admin(&all);
    server.admin(&format!("CREATE DATABASE prepared OWNER {} TEMPLATE template0", postgres::ROLE));
    let setup = fs::read(files.join("sql/test_setup.sql")).expect("the first file");
    let psql = programs::bound(Path::new("psql"));
    psql_run(files, &server, psql, "prepared", &setup, Duration::from_mins(2));
    server
}

/// Everything that psql says of a script, and whether it came to its end.
fn run(files: &Path, server: &Postgres, psql: Command, script: &[u8], limit: Duration) -> (String, End) {
    server.admin(&format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)"));
    server.admin(&format!("CREATE DATABASE {DATABASE} OWNER {} TEMPLATE prepared", postgres::ROLE));
    psql_run(files, server, psql, DATABASE, script, limit)
}

fn psql_run(
    files: &Path,
    server: &Postgres,
    mut psql: Command,
    database: &str,
    script: &[u8],
    limit: Duration,
) -> (String, End) {
    use std::os::unix::process::CommandExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    fs::write(&input, script).expect("its input");
    let written = fs::File::create(&output).expect("its output");
    psql.args(["-X", "-a", "-q", "-h", "127.0.0.1", "-U", postgres::ROLE, "-d", database, "-p"]);
    psql.arg(server.port().to_string());
    psql.env("PGPASSWORD", postgres::PASSWORD).env("PGTZ", "PST8PDT").env("PGDATESTYLE", "Postgres, MDY");
    psql.env("PGOPTIONS", "-c intervalstyle=postgres_verbose -c statement_timeout=20s");
    psql.env("PG_ABS_SRCDIR", files).env("PG_ABS_BUILDDIR", files).env("PG_LIBDIR", "/nowhere");
    psql.env("PG_DLSUFFIX", ".so").env("LC_MESSAGES", "C").env_remove("PAGER");
    psql.stdin(fs::File::open(&input).expect("its input"));
    psql.stdout(written.try_clone().expect("its output")).stderr(Stdio::from(written)).process_group(0);
    let mut child = psql.spawn().expect("psql to start");
    let end = Instant::now() + limit;
    let ended = loop {
        if child.try_wait().expect("its status").is_some() {
            break End::Whole;
        }
        if Instant::now() > end {
            // A group of its own: this ends what `nodegate run` has started as well.
            let _ = killpg(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), Signal::SIGKILL);
            let _ = child.wait();
            break End::CutOff;
        }
        thread::sleep(Duration::from_millis(20));
    };
    (String::from_utf8_lossy(&fs::read(&output).expect("its output")).into_owned(), ended)
}

fn compare(name: &str, script: &str, outputs: [&(String, End); 3], sum: &mut Sum) {
    let asked = statements(script);
    let [first, second, captured] = outputs.map(|(output, _)| blocks(&asked, output));
    let reached = captured.iter().flatten().count();
    if outputs[2].1 == End::CutOff {
        sum.cut_off
            .push(format!("{name} (behind {reached} of {} statements)", first.iter().flatten().count()));
    }
    let mut refused = false;
    for ((block, again), through) in first.iter().zip(&second).zip(&captured) {
        // What the server alone does not reach either, behind \q or in the dead branch of an \if.
        let Some(block) = block else { continue };
        if again.as_ref().is_none_or(|again| again.output != block.output) {
            sum.unsteady += 1;
            continue;
        }
        let Some(through) = through else {
            sum.missing += 1;
            continue;
        };
        if through.output == block.output {
            sum.same += 1;
            continue;
        }
        sum.different += 1;
        let own = reason(&through.output);
        refused |= own.is_some();
        let without = if refused { "follows from a refusal before" } else { "differs in itself" };
        let reason = own.unwrap_or_else(|| without.to_owned());
        show(name, &reason, block, through);
        *sum.reasons.entry(reason).or_default() += 1;
    }
}

/// With `NODEGATE_REGRESSION_SHOW`, prints the differences whose reason contains it.
fn show(name: &str, reason: &str, direct: &Block, captured: &Block) {
    if env::var("NODEGATE_REGRESSION_SHOW").is_ok_and(|part| reason.contains(&part)) {
        eprintln!(
            "--- {name}: {reason}\n{}\n--- direct\n{}\n--- captured\n{}",
            direct.statement, direct.output, captured.output
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share in per cent")]
fn report(sum: &Sum, limit: Duration) {
    let compared = sum.same + sum.different;
    println!("statements compared: {compared}");
    println!("the same outcome: {} ({:.1} %)", sum.same, sum.same as f64 * 100.0 / compared.max(1) as f64);
    println!("left out, since the server alone gives another output each time: {}", sum.unsteady);
    println!("not reached within {} s a file: {}", limit.as_secs(), sum.missing);
    let mut reasons: Vec<_> = sum.reasons.iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (reason, count) in reasons {
        println!("{count:6}  {reason}");
    }
    for file in &sum.cut_off {
        println!("cut off: {file}");
    }
    if !sum.not_run.is_empty() {
        println!("not run for want of time: {}", sum.not_run.join(", "));
    }
}
