//! A recording for people: statement, decision, and the rows as the client saw them.

use std::{
    collections::HashSet,
    io::{self, Write},
};

use super::values::value;
use crate::{
    cli::audit::listing::{Look, shown, time_text},
    domain::{event::Outcome, ids::PolicyId},
    recording::{Answered, Asked, Cell, Format, Read, Record, ResultSet, Said},
};

/// What stands in front of everything that belongs to a request.
const INDENT: &str = "    ";

/// Writes a transcript record by record.
pub struct Transcript {
    look: Look,
    /// Requests whose replies have not come.
    unanswered: HashSet<u64>,
    last: Option<u64>,
    has_ended: bool,
}

impl Transcript {
    /// One for that output.
    pub fn new(look: Look) -> Self {
        Self { look, unanswered: HashSet::new(), last: None, has_ended: false }
    }

    /// Writes one record.
    pub fn write(&mut self, record: &Record, out: &mut impl Write) -> io::Result<()> {
        match record {
            Record::Session(header) => {
                writeln!(out, "session   {}", header.session)?;
                writeln!(out, "started   {}", time_text(header.at))?;
                writeln!(out, "identity  {}", shown(&header.identity))?;
                let database = shown(&header.database);
                writeln!(out, "target    {}, database {database}", shown(header.target.as_str()))?;
                let label =
                    header.label.as_deref().map_or(String::new(), |label| format!(", {}", shown(label)));
                writeln!(
                    out,
                    "workload  {}{label}, process {}",
                    shown(&header.workload),
                    shown(&header.process)
                )
            }
            Record::Request(asked) => self.asked(asked, out),
            Record::Reply(answered) => self.answered(answered, out),
            Record::Failure(failed) => {
                writeln!(out, "\n{}  not a request", time_text(failed.at))?;
                said(&failed.error, out)
            }
            Record::Gap(gap) => {
                let why = shown(&gap.why);
                writeln!(out, "\n{}  {} entries are missing here: {why}", time_text(gap.at), gap.entries)
            }
            Record::End(end) => {
                self.has_ended = true;
                writeln!(out, "\n{}  end: {}", time_text(end.at), shown(&end.reason))
            }
            Record::Unknown => writeln!(out, "\nan entry that this version does not know"),
        }
    }

    /// Says what is missing at the end.
    pub fn finish(&self, read: &Read, out: &mut impl Write) -> io::Result<()> {
        if !self.has_ended {
            writeln!(out, "\nThe recording ends here: the session goes on, or its daemon was killed.")?;
        }
        if read.torn_bytes > 0 {
            writeln!(out, "{} bytes at the end of the file are not whole.", read.torn_bytes)?;
        }
        Ok(())
    }

    fn asked(&mut self, asked: &Asked, out: &mut impl Write) -> io::Result<()> {
        let outcome = match asked.outcome {
            Outcome::Allowed => "allowed",
            Outcome::Denied => "denied",
            Outcome::Noted => "noted",
            Outcome::WouldDeny => "would_deny",
        };
        self.last = Some(asked.number);
        let policies: Vec<String> = asked.policies.iter().map(|id: &PolicyId| shown(id.as_str())).collect();
        writeln!(out, "\n{}  #{} {outcome} [{}]", time_text(asked.at), asked.number, policies.join(", "))?;
        for line in asked.text.lines() {
            writeln!(out, "{INDENT}{}", shown(line))?;
        }
        if let Some(bytes) = asked.text_bytes {
            writeln!(out, "{INDENT}… ({bytes} bytes)")?;
        }
        for (at, parameter) in (1..).zip(&asked.parameters) {
            let quote = if parameter.value == Cell::Null { "" } else { "'" };
            let value = shown(&value(&parameter.value, parameter.format, parameter.type_oid));
            writeln!(out, "{INDENT}${at} = {quote}{value}{quote}")?;
        }
        if let Some(bytes) = asked.parameters_missing_bytes {
            writeln!(out, "{INDENT}parameters of {bytes} bytes are not recorded")?;
        }
        if asked.literals_withheld {
            writeln!(out, "{INDENT}(constants are left out: the statement uses masked columns)")?;
        }
        if asked.outcome == Outcome::Denied {
            writeln!(out, "{INDENT}refused: {}", shown(&asked.reason))?;
            if let Some(hint) = &asked.hint {
                writeln!(out, "{INDENT}hint: {}", shown(hint))?;
            }
        } else {
            self.unanswered.insert(asked.number);
        }
        if !asked.masked.is_empty() {
            writeln!(out, "{INDENT}masked: {}", shown(&asked.masked.join(", ")))?;
        }
        Ok(())
    }

    fn answered(&mut self, answered: &Answered<Vec<Vec<Cell>>>, out: &mut impl Write) -> io::Result<()> {
        self.unanswered.remove(&answered.number);
        if self.last != Some(answered.number) {
            // Others came between it and its request.
            writeln!(out, "\n{}  reply to #{}", time_text(answered.at), answered.number)?;
        }
        self.last = Some(answered.number);
        if answered.skipped {
            return writeln!(out, "{INDENT}never run: something before it in its pipeline failed");
        }
        for notice in &answered.notices {
            said(notice, out)?;
        }
        for set in &answered.results {
            self.rows(set, out)?;
        }
        if let Some(error) = &answered.error {
            said(error, out)?;
        }
        let millis = answered.duration_us / 1000;
        let micros = answered.duration_us % 1000;
        let tags =
            if answered.tags.is_empty() { String::new() } else { format!("{}; ", answered.tags.join(", ")) };
        let tags = shown(&tags);
        writeln!(
            out,
            "{INDENT}{tags}{} rows, {} bytes, {millis}.{micros:03} ms",
            answered.rows, answered.bytes
        )
    }

    fn rows(&self, set: &ResultSet<Vec<Vec<Cell>>>, out: &mut impl Write) -> io::Result<()> {
        if set.copy {
            for row in &set.rows {
                let line = row.first().map_or(String::new(), |cell| value(cell, Format::default(), 0));
                self.line(&shown(line.strip_suffix('\n').unwrap_or(&line)), out)?;
            }
        } else {
            self.table(set, out)?;
        }
        match &set.cut {
            Some(cut) => {
                writeln!(out, "{INDENT}… {} more rows of {} bytes are not recorded", cut.rows, cut.bytes)
            }
            None => Ok(()),
        }
    }

    fn table(&self, set: &ResultSet<Vec<Vec<Cell>>>, out: &mut impl Write) -> io::Result<()> {
        let headings: Vec<String> = set.columns.iter().map(|column| shown(&column.name)).collect();
        let mut lines = Vec::with_capacity(set.rows.len());
        for row in &set.rows {
            let cells = row.iter().enumerate().map(|(at, cell)| {
                let (format, type_oid) = set
                    .columns
                    .get(at)
                    .map_or_else(Default::default, |column| (column.format, column.type_oid));
                shown(&value(cell, format, type_oid))
            });
            lines.push(cells.collect::<Vec<String>>());
        }
        let columns = lines.iter().map(Vec::len).chain([headings.len()]).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|at| {
                let cells = lines.iter().chain([&headings]).filter_map(|line| line.get(at));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        if !headings.is_empty() {
            self.line(&padded(&headings, &widths), out)?;
            let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            self.line(&rule.join("-+-"), out)?;
        }
        lines.iter().try_for_each(|line| self.line(&padded(line, &widths), out))
    }

    fn line(&self, line: &str, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{INDENT}{}", self.look.cut(line.trim_end(), INDENT.len()))
    }
}

fn padded(cells: &[String], widths: &[usize]) -> String {
    let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
    cells.collect::<Vec<_>>().join(" | ")
}

fn said(said: &Said, out: &mut impl Write) -> io::Result<()> {
    let message =
        if said.message.is_empty() { "(its text is left out)".to_owned() } else { shown(&said.message) };
    writeln!(out, "{INDENT}{} {}: {message}", shown(&said.severity), shown(&said.sqlstate))?;
    for (name, text) in [("detail", &said.detail), ("hint", &said.hint)] {
        if !text.is_empty() {
            writeln!(out, "{INDENT}{name}: {}", shown(text))?;
        }
    }
    Ok(())
}
