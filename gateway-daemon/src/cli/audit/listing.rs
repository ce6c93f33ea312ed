//! Audit records for people: aligned, coloured and cut to width on a terminal, plain and whole elsewhere.

use std::{
    env,
    fmt::Write as _,
    io::{self, IsTerminal as _, Stdout, Write},
    os::fd::AsRawFd as _,
};

use time::{OffsetDateTime, macros::format_description};

use crate::{
    audit::Record,
    domain::event::{EventKind, Outcome},
};

/// Below this width lines are left to wrap.
const NARROWEST: usize = 60;
const IDENTITY_WIDTH: usize = 40;

/// What the output goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Columns of the terminal; `None` when it is none.
    width: Option<usize>,
    colours: Colours,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colours {
    On,
    Off,
}

impl Look {
    /// What suits this output and the environment (`NO_COLOR`, `TERM`).
    pub fn of(stdout: &Stdout) -> Self {
        if !stdout.is_terminal() {
            return Self { width: None, colours: Colours::Off };
        }
        let is_plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colours = if is_plain { Colours::Off } else { Colours::On };
        Self { width: Some(terminal_columns(stdout).unwrap_or(80)), colours }
    }

    /// `text` in what is left of the terminal's width behind `before` columns.
    pub fn cut(self, text: &str, before: usize) -> String {
        let Some(width) = self.width.filter(|width| *width >= NARROWEST) else { return text.to_owned() };
        // In a narrow window the text still gets a piece of line of its own.
        let room = width.saturating_sub(before).max(20);
        shorten(text, room)
    }

    /// Whether somebody looks at it through a terminal.
    pub fn is_terminal(self) -> bool {
        self.width.is_some()
    }
}

/// Writes records as a table.
pub struct Listing {
    look: Look,
}

impl Listing {
    /// A table for that output.
    pub fn new(look: Look) -> Self {
        Self { look }
    }

    /// One line for each record, and a second one with the reason where there is a reason to give.
    pub fn write(&self, records: &[Record], out: &mut impl Write) -> io::Result<()> {
        let rows: Vec<Row> = records.iter().map(Row::of).collect();
        let widest =
            |cell: fn(&Row) -> &String| rows.iter().map(|row| cell(row).chars().count()).max().unwrap_or(0);
        let (kind, identity, target) =
            (widest(|row| &row.kind), widest(|row| &row.identity), widest(|row| &row.target));
        let outcome = rows.iter().map(|row| outcome_word(row.outcome).len()).max().unwrap_or(0).max(7);
        for row in &rows {
            let mut line = format!("{}  ", row.time);
            self.coloured(&mut line, row.outcome, &format!("{:outcome$}", outcome_word(row.outcome)));
            let _ =
                write!(line, "  {:kind$}  {:identity$}  {:target$}  ", row.kind, row.identity, row.target);
            let before = 24 + 2 + outcome + 2 + kind + 2 + identity + 2 + target + 2;
            line.push_str(&self.look.cut(&row.text, before));
            writeln!(out, "{}", line.trim_end())?;
            if !row.reason.is_empty() {
                let indent = 26;
                writeln!(out, "{:indent$}└ {}", "", self.look.cut(&row.reason, indent + 2))?;
            }
        }
        Ok(())
    }

    fn coloured(&self, line: &mut String, outcome: Outcome, text: &str) {
        let colour = match (self.look.colours, outcome) {
            (Colours::Off, _) => None,
            (Colours::On, Outcome::Denied) => Some("1;31"),
            (Colours::On, Outcome::Allowed) => Some("32"),
            (Colours::On, Outcome::Noted) => Some("2"),
            (Colours::On, Outcome::WouldDeny) => Some("33"),
        };
        let _ = match colour {
            Some(colour) => write!(line, "\u{1b}[{colour}m{text}\u{1b}[0m"),
            None => write!(line, "{text}"),
        };
    }
}

struct Row {
    time: String,
    outcome: Outcome,
    kind: String,
    identity: String,
    target: String,
    text: String,
    reason: String,
}

impl Row {
    fn of(record: &Record) -> Self {
        let event = &record.event;
        let mut text = shown(&event.text);
        if let Some(rows) = event.rows {
            let _ = write!(text, "{}{rows} rows", separator(&text));
        }
        if let Some(micros) = event.duration_us {
            let _ = write!(text, "{}{}.{:03} ms", separator(&text), micros / 1000, micros % 1000);
        }
        let mut reason = String::new();
        let refused = matches!(event.outcome, Outcome::Denied | Outcome::WouldDeny);
        if refused || event.text.is_empty() {
            reason = shown(&event.reason);
        }
        let policies =
            event.policies.iter().map(|policy| shown(policy.as_str())).collect::<Vec<_>>().join(", ");
        if refused && !policies.is_empty() {
            let _ = write!(reason, "{}[{policies}]", if reason.is_empty() { "" } else { " " });
        }
        if !event.masked.is_empty() {
            let _ = write!(reason, "{}masked: {}", separator(&reason), shown(&event.masked.join(", ")));
        }
        if text.is_empty() && !refused {
            text = std::mem::take(&mut reason);
        }
        Self {
            time: time_text(record.time),
            outcome: event.outcome,
            kind: kind_word(event.kind).to_owned(),
            identity: shorten_middle(&shown(event.identity.as_deref().unwrap_or("-")), IDENTITY_WIDTH),
            target: shown(event.target.as_ref().map_or("-", |target| target.as_str())),
            text,
            reason,
        }
    }
}

fn separator(text: &str) -> &'static str {
    if text.is_empty() { "" } else { ", " }
}

const fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Allowed => "allowed",
        Outcome::Denied => "denied",
        Outcome::Noted => "noted",
        Outcome::WouldDeny => "would_deny",
    }
}

const fn kind_word(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Daemon => "daemon",
        EventKind::Capture => "capture",
        EventKind::KernelRefusal => "kernel_refusal",
        EventKind::Identity => "identity",
        EventKind::Connect => "connect",
        EventKind::Resolve => "resolve",
        EventKind::Request => "request",
        EventKind::Completion => "completion",
        EventKind::Close => "close",
    }
}

/// 24 columns, UTC, to the millisecond.
pub fn time_text(micros: u64) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000)
        .ok()
        .and_then(|time| time.format(&format).ok())
        .unwrap_or_else(|| format!("{micros:>22}µs"))
}

/// The text with everything escaped that could do more on a terminal than stand there. White space becomes a
/// space: a record is one line.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\t' | '\r' => out.push(' '),
            letter if is_active(letter) => out.extend(letter.escape_default()),
            letter => out.push(letter),
        }
    }
    out
}

/// JSON with the same characters written as JSON's own escapes.
pub fn json_shown(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for letter in json.chars() {
        if is_active(letter) {
            let mut units = [0; 2];
            for unit in letter.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(letter);
        }
    }
    out
}

/// Control characters, and those that turn the writing direction, separate lines or are not seen at all.
fn is_active(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn shorten(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(room.saturating_sub(1)).collect();
    out.push('…');
    out
}

/// Keeps both ends: issuer and subject.
fn shorten_middle(text: &str, room: usize) -> String {
    let count = text.chars().count();
    if count <= room {
        return text.to_owned();
    }
    let first = room / 2;
    let mut out: String = text.chars().take(first).collect();
    out.push('…');
    out.extend(text.chars().skip(count - (room - first - 1)));
    out
}

fn terminal_columns(stdout: &Stdout) -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    #[expect(unsafe_code, reason = "no safe wrapper asks a terminal for its size")]
    // SAFETY: the request writes one `winsize`, which `size` is.
    let result = unsafe { libc::ioctl(stdout.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::{audit::Digest, domain::event::AuditEvent};

    fn record(text: &str, outcome: Outcome) -> Record {
        let mut event = AuditEvent::new(EventKind::Request, outcome);
        event.text = text.to_owned();
        event.identity = Some("https://issuer.test|agent-7".to_owned());
        event.target = Some("orders-db".into());
        if outcome == Outcome::Denied {
            event.reason = "DROP is not allowed.".to_owned();
            event.policies = vec!["no-drop".into()];
        }
        Record {
            seq: 1,
            time: 1_767_225_600_123_456,
            synced: 0,
            prev: Digest::ZERO,
            event,
            hash: Digest::ZERO,
        }
    }

    fn listed(look: Look, records: &[Record]) -> String {
        let mut out = Vec::new();
        Listing::new(look).write(records, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    const PIPE: Look = Look { width: None, colours: Colours::Off };

    #[test]
    fn a_denial_shows_its_reason_and_policy() {
        let listed = listed(PIPE, &[record("DROP TABLE customers", Outcome::Denied)]);
        assert_eq!(
            listed,
            "2026-01-01T00:00:00.123Z  denied   request  https://issuer.test|agent-7  orders-db  DROP TABLE customers\n\
             \x20                         └ DROP is not allowed. [no-drop]\n"
        );
    }

    #[test]
    fn a_terminal_gets_lines_of_its_width_and_no_control_characters() {
        let look = Look { width: Some(120), colours: Colours::On };
        let text = format!("SELECT '\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\n{}", "x".repeat(300));
        let listed = listed(look, &[record(&text, Outcome::Allowed)]);
        assert!(listed.contains("\u{1b}[32mallowed\u{1b}[0m"));
        let plain = listed.replace("\u{1b}[32m", "").replace("\u{1b}[0m", "");
        let lines: Vec<_> = plain.lines().collect();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].chars().count(), 120);
        assert!(!lines[0].chars().any(is_active), "{lines:?}");
        assert!(lines[0].contains("\\u{1b}]0;owned"));
    }

    #[test]
    fn escaped_json_means_the_same() {
        let json = serde_json::to_string("a\u{9b}\u{202e}\u{e0041}\u{7f}é\u{1b}").unwrap();
        let shown = json_shown(&json);
        assert!(!shown.chars().any(is_active));
        assert_eq!(
            serde_json::from_str::<String>(&shown).unwrap(),
            serde_json::from_str::<String>(&json).unwrap()
        );
    }
}
