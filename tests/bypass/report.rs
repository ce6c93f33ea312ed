//! The table, and what makes the suite fail.

use std::fmt::Write as _;

use crate::{
    Flag, Way,
    attempt::{Attempt, Said, Verdict},
    ground::Place,
    known,
    outage::Outage,
};

/// The promise that a privilege opens nothing.
const PRIVILEGED: &str = "privileged-processes";

/// A way with every attempt at it.
#[derive(Debug)]
pub struct Row {
    /// The way.
    pub way: Way,
    controls: Vec<Attempt>,
    /// Attempts inside capture, with every privilege.
    pub inside: Vec<(Place, Attempt)>,
    /// Attempts inside capture without the privilege that the way takes, where it was open with it.
    pub without: Vec<(Place, Attempt)>,
}

/// How a row ends.
enum Outcome {
    Closed,
    /// Open, and named by a promise that `nodegate doctor` calls broken.
    Known(&'static known::Known),
    /// Open to a privilege, closed without it.
    Privileged(String),
    /// Not to be had on this kernel.
    Absent(String),
    Failed(String),
}

impl Row {
    /// A row without attempts inside.
    pub fn new(way: Way, controls: Vec<Attempt>) -> Self {
        Self { way, controls, inside: Vec::new(), without: Vec::new() }
    }

    /// Every attempt inside capture.
    pub fn attempts_inside(&mut self) -> impl Iterator<Item = &mut Attempt> {
        self.inside.iter_mut().chain(self.without.iter_mut()).map(|(_, attempt)| attempt)
    }

    fn control(&self) -> Result<&'static str, Outcome> {
        for control in &self.controls {
            match &control.said {
                Said::Sent if !control.arrived.is_empty() => {}
                Said::Made(_) | Said::Works => {}
                Said::Absent(errno, what) if self.way.is(Flag::Optional) => {
                    return Err(Outcome::Absent(format!("{what}: {errno:?}")));
                }
                said => {
                    return Err(Outcome::Failed(format!("the control does not work: {}", words(said))));
                }
            }
        }
        Ok(if self.way.is(Flag::Keeps) { "works" } else { "arrives" })
    }

    fn outcome(&self, promises: &[String]) -> Outcome {
        if let Err(outcome) = self.control() {
            return outcome;
        }
        let mut open = Vec::new();
        for (place, attempt) in &self.inside {
            match attempt.verdict() {
                Verdict::Captured
                | Verdict::Refused(_)
                | Verdict::Killed
                | Verdict::Dropped
                | Verdict::Works => {}
                Verdict::Open(how) | Verdict::Broken(how) => open.push(format!("{}: {how}", name(*place))),
                Verdict::Trouble(what) => return Outcome::Failed(format!("{}: {what}", name(*place))),
            }
        }
        let known = known::of(&self.way.name, promises);
        match (open.is_empty(), known) {
            (true, None) => Outcome::Closed,
            (true, Some(_)) => {
                Outcome::Failed("closed, and still in the list of known.rs: take it out".to_owned())
            }
            (false, Some(known)) => Outcome::Known(known),
            // What a privilege opens counts as open, unless this kernel cannot keep it from who holds one.
            (false, None) => promises
                .iter()
                .any(|promise| promise == PRIVILEGED)
                .then(|| self.outcome_without())
                .flatten()
                .unwrap_or_else(|| Outcome::Failed(open.join("; "))),
        }
    }

    /// For a way that is open: whether it takes a privilege, and is closed without it.
    fn outcome_without(&self) -> Option<Outcome> {
        let privilege = self.way.needs.as_ref()?;
        let open = self.without.iter().find_map(|(place, attempt)| match attempt.verdict() {
            Verdict::Open(how) | Verdict::Trouble(how) => Some(format!("{}: {how}", name(*place))),
            _ => None,
        });
        Some(match open {
            Some(how) => Outcome::Failed(format!("open even without {privilege}: {how}")),
            None => Outcome::Privileged(privilege.clone()),
        })
    }

    fn at(&self, wanted: Place) -> String {
        let found = self.inside.iter().find(|(place, _)| *place == wanted);
        found.map_or_else(|| "–".to_owned(), |(_, attempt)| attempt.verdict().to_string())
    }
}

/// The whole of it.
pub struct Report {
    text: String,
    failures: Vec<String>,
    counts: [usize; 5],
    broken: Vec<String>,
}

impl Report {
    /// Judges every row, given the promises that are broken on this kernel.
    pub fn new(rows: &[Row], promises: &[String]) -> Self {
        let mut report =
            Self { text: String::new(), failures: Vec::new(), counts: [0; 5], broken: promises.to_vec() };
        let mut heading = String::new();
        // Ways of one row may lie in several files.
        let mut order: Vec<String> = Vec::new();
        for row in rows {
            if !order.contains(&row.way.row) {
                order.push(row.way.row.clone());
            }
        }
        for row in order.iter().flat_map(|wanted| rows.iter().filter(move |row| row.way.row == *wanted)) {
            if heading != row.way.row {
                heading.clone_from(&row.way.row);
                let _ = writeln!(report.text, "\n{heading}");
                report.line("", "control", "captured: host", "captured: netns", "verdict");
            }
            let (verdict, place) = match row.outcome(promises) {
                Outcome::Closed if row.way.is(Flag::Keeps) => ("works".to_owned(), 0),
                Outcome::Closed => (closed(row), 0),
                Outcome::Known(known) => (format!("OPEN, known: {}", known.why), 1),
                Outcome::Privileged(privilege) => (format!("open to {privilege} alone"), 2),
                Outcome::Absent(why) => (format!("not on this kernel ({why})"), 3),
                Outcome::Failed(why) => {
                    report.failures.push(format!("{}: {why}", row.way.name));
                    (format!("FAILED: {why}"), 4)
                }
            };
            report.counts[place] += 1;
            let control = row.control().unwrap_or("–");
            report.line(&row.way.title, control, &row.at(Place::Host), &row.at(Place::Pod), &verdict);
        }
        report
    }

    /// Adds what was tried with more than one attempt.
    pub fn add(&mut self, heading: &str, outages: Vec<Outage>) {
        if !outages.is_empty() {
            let _ = writeln!(self.text, "\n{heading}");
        }
        for outage in outages {
            let verdict = match outage.result {
                Ok(how) => {
                    self.counts[0] += 1;
                    how
                }
                Err(why) => match known::of(outage.name, &self.broken) {
                    Some(known) => {
                        self.counts[1] += 1;
                        format!("OPEN, known: {}", known.why)
                    }
                    None => {
                        self.counts[4] += 1;
                        self.failures.push(format!("{}: {why}", outage.name));
                        format!("FAILED: {why}")
                    }
                },
            };
            self.line(outage.title, "", "", "", &verdict);
        }
    }

    fn line(&mut self, title: &str, control: &str, host: &str, pod: &str, verdict: &str) {
        let _ = writeln!(self.text, "  {title:<76} {control:<8} {host:<22} {pod:<22} {verdict}");
    }

    /// How many ways failed.
    pub fn failed(&self) -> usize {
        self.failures.len()
    }

    /// Prints the table, and at its end what went wrong.
    pub fn print(&self) {
        let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
        println!("\nways out of a captured cgroup, Linux {}", release.unwrap_or_default());
        println!("{}", self.text);
        let [closed, known, privileged, absent, failed] = self.counts;
        println!(
            "{closed} closed, {known} open and known, {privileged} open to a privilege, {absent} not on this kernel, \
             {failed} failed"
        );
        for failure in &self.failures {
            println!("failed: {failure}");
        }
        let passed = closed + known + privileged;
        let word = if failed == 0 { "ok" } else { "FAILED" };
        println!(
            "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {absent} filtered out"
        );
    }
}

fn closed(row: &Row) -> String {
    let mut verdicts: Vec<String> =
        row.inside.iter().map(|(_, attempt)| attempt.verdict().to_string()).collect();
    verdicts.dedup();
    verdicts.join(", ")
}

const fn name(place: Place) -> &'static str {
    match place {
        Place::Host => "host",
        Place::Pod => "netns",
    }
}

fn words(said: &Said) -> String {
    match said {
        Said::Sent => "nothing arrived".to_owned(),
        Said::Refused(errno, step) | Said::Absent(errno, step) => format!("{step}: {errno:?}"),
        Said::Made(what) | Said::Broken(what) | Said::Trouble(what) => what.clone(),
        Said::Works => "works".to_owned(),
        Said::Killed => "killed".to_owned(),
    }
}
