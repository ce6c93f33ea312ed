//! `cargo xtask demo`: nodegate at work, readable in half a minute.
//!
//! A shop on PostgreSQL, an OIDC issuer and a daemon are started; then the same psql runs beside and inside a
//! captured cgroup. Everything is taken down at the end, or with `--keep` when it is told to stop.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a demo that cannot go on must say so and stop"
)]

use std::{
    env, fs,
    io::{self, IsTerminal as _},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use nix::sys::signal::{SigSet, Signal};
use nodegate_tests::{
    postgres::PASSWORD,
    programs::{self, Said},
    stage::{Stage, psql_words},
    tokens::now,
};
use serde_json::json;

/// What both sides ask.
const QUERY: &str = "SELECT id, name, email, ssn FROM customers ORDER BY id LIMIT 5";

fn main() -> ExitCode {
    let keep = match env::args().nth(1).as_deref() {
        None => false,
        Some("--keep") => true,
        Some(_) => {
            eprintln!("usage: demo [--keep]");
            return ExitCode::from(2);
        }
    };
    let page = Page {
        colours: io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|set| set.is_empty()),
    };
    let started = Instant::now();
    let stage = Stage::with(|settings| settings.policy = packs());
    page.title("nodegate: an agent's psql, unmodified, with guardrails that it does not see");
    page.note(&format!(
        "PostgreSQL with a shop on {}, an OIDC issuer on {}, one daemon; up in {:.1} s",
        stage.postgres.address(),
        stage.issuer.url().trim_start_matches("https://"),
        started.elapsed().as_secs_f64()
    ));
    let held = [masking(&page, &stage), refusal(&page, &stage), expiry(&page, &stage), trail(&page, &stage)];
    let good = held.iter().all(|held| *held);
    if keep {
        what_to_try(&page, &stage);
        wait_to_be_stopped();
    }
    drop(stage);
    println!();
    page.note(&format!(
        "{:.1} s in all. Stopped and removed: daemon, issuer, PostgreSQL and its data, cgroups, pinned kernel programs.",
        started.elapsed().as_secs_f64()
    ));
    if good {
        return ExitCode::SUCCESS;
    }
    eprintln!("demo: something above is not as it should be");
    ExitCode::FAILURE
}

/// The ready-made policy packs, as an operator would combine them.
fn packs() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let pack = |name: &str| {
        fs::read_to_string(folder.join(name).join(format!("{name}.cedar"))).expect("a policy pack")
    };
    ["read-only-analyst", "no-destructive-sql", "pii-masking"].map(pack).join("\n")
}

/// A captured psql with a wrong password in its environment.
fn captured(stage: &Stage, words: &[&str]) -> Said {
    let mut run = stage.daemon.run(Some(&stage.issuer.token("coding-agent")));
    run.args(psql_words(&stage.postgres, words)).env("PGPASSWORD", "wrong");
    programs::said(&mut run, "", Duration::from_secs(30))
}

/// The same query on both sides of nodegate.
fn masking(page: &Page, stage: &Stage) -> bool {
    page.step("1", "The same psql, the same query", QUERY);
    let words = ["-P", "footer=off", "-c", QUERY];
    let direct = stage.direct(PASSWORD, &words, "");
    let inside = captured(stage, &words);
    page.beside(
        &lines("outside, with the real password", &direct),
        &lines("captured, with a wrong password", &inside),
    );
    direct.out.contains("@example.com")
        && inside.status == 0
        && !inside.out.contains("hopper1")
        && inside.out.contains("Grace Hopper")
}

/// A statement that policy forbids, and the session after it.
fn refusal(page: &Page, stage: &Stage) -> bool {
    let statement = "SELECT 1; DROP TABLE customers";
    page.step("2", "A message that destroys", statement);
    let after = "SELECT count(*) || ' customers, asked on the same connection' FROM customers";
    let seen = captured(stage, &["-At", "-c", statement, "-c", after]);
    page.said(&seen.err, Colour::Red);
    page.said(&seen.out, Colour::Green);
    seen.err.contains("no-destructive-sql/no-ddl") && seen.out.starts_with("300 customers")
}

/// A token that was good once.
fn expiry(page: &Page, stage: &Stage) -> bool {
    page.step("3", "An agent whose token has expired", "nodegate run --token-file expired.jwt -- psql …");
    let expired = stage.issuer.token_with("coding-agent", &json!({ "exp": now() - 3600 }));
    let seen = stage.psql_as(&expired, "SELECT 1");
    page.said(&seen.err, Colour::Red);
    seen.status != 0 && seen.err.contains("expired")
}

/// What was recorded of it all.
fn trail(page: &Page, stage: &Stage) -> bool {
    page.step("4", "The audit trail", "nodegate audit search, then nodegate audit verify");
    let search = |kind| stage.daemon.audit_command(&["search", "--kind", kind, "--oldest-first"]).out;
    // A refused token is recorded behind its answer, which waits for no disk.
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut all = String::new();
    while !all.contains("expired") && Instant::now() < deadline {
        all = ["request", "identity"].map(search).concat();
    }
    page.said(&all, Colour::Plain);
    let verdict = stage.daemon.audit_command(&["verify"]);
    let colour = if verdict.status == 0 { Colour::Green } else { Colour::Red };
    page.said(&format!("{}{}", verdict.out, verdict.err), colour);
    all.contains("DROP TABLE customers") && all.contains("expired") && verdict.status == 0
}

fn what_to_try(page: &Page, stage: &Stage) {
    let nodegate = programs::nodegate();
    let socket = stage.daemon.socket();
    let token = stage.daemon.token_file(&stage.issuer.token("coding-agent"));
    let psql = format!("psql 'host=127.0.0.1 port={} dbname=shop user=app_agent'", stage.postgres.port());
    page.step("5", "It is all still running: try it (from another terminal, as root)", "");
    println!("  export NODEGATE_SOCKET={}", socket.display());
    println!("  alias nodegate={}\n", nodegate.display());
    println!("  # psql as a captured agent, and the same psql outside");
    println!("  nodegate run --token-file {} -- {psql}", token.display());
    println!("  PGPASSWORD='{PASSWORD}' {psql}\n");
    println!("  # what is captured, what was asked, and whether the log is whole");
    println!("  nodegate status");
    println!("  nodegate audit search --dir {} --outcome denied", stage.daemon.audit().display());
    println!("  nodegate audit verify --dir {}\n", stage.daemon.audit().display());
    println!("  # change the rules while it runs");
    println!("  $EDITOR {}\n", stage.daemon.folder().join("policies/tests.cedar").display());
    page.note("The token is good for an hour. Press Ctrl-C here, or send this process a TERM, to stop and remove everything.");
}

/// Waits for Ctrl-C or a service manager. The signals are blocked only now, so that no program started here
/// inherits the mask.
fn wait_to_be_stopped() {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().expect("to block signals");
    let _ = signals.wait();
}

fn lines(heading: &str, said: &Said) -> Vec<String> {
    let text = format!("{}{}", said.out, said.err);
    let shown = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(str::to_owned);
    std::iter::once(heading.to_owned()).chain(shown).collect()
}

/// How things are shown: colours only on a terminal, and not where NO_COLOR asks for none.
struct Page {
    colours: bool,
}

#[derive(Clone, Copy)]
enum Colour {
    Plain,
    Red,
    Green,
    Dim,
    Bold,
}

impl Page {
    fn paint(&self, text: &str, colour: Colour) -> String {
        let code = match colour {
            Colour::Red => "31",
            Colour::Green => "32",
            Colour::Dim => "2",
            Colour::Bold => "1",
            Colour::Plain => return text.to_owned(),
        };
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn title(&self, text: &str) {
        println!("{}", self.paint(text, Colour::Bold));
    }

    fn note(&self, text: &str) {
        println!("{}", self.paint(text, Colour::Dim));
    }

    fn step(&self, number: &str, title: &str, command: &str) {
        println!(
            "\n{} {}",
            self.paint(&format!("{number}. {title}"), Colour::Bold),
            self.paint(command, Colour::Dim)
        );
    }

    fn said(&self, text: &str, colour: Colour) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            println!("   {}", self.paint(line, colour));
        }
    }

    /// Two blocks in columns, or one below the other where the terminal is too narrow to say so otherwise.
    fn beside(&self, left: &[String], right: &[String]) {
        let width = left.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        for row in 0..left.len().max(right.len()) {
            let cell = |side: &[String]| side.get(row).cloned().unwrap_or_default();
            let colours = if row == 0 { (Colour::Dim, Colour::Dim) } else { (Colour::Plain, Colour::Green) };
            let (left, right) = (cell(left), cell(right));
            let gap = " ".repeat(width - left.chars().count());
            println!(
                "   {}{gap}   {}   {}",
                self.paint(&left, colours.0),
                self.paint("│", Colour::Dim),
                self.paint(&right, colours.1)
            );
        }
    }
}
