//! The leak hunt: thousands of queries that a seed decides, over a schema full of marked secrets, through a real daemon
//! to two real servers that agree in everything but the secrets.
//!
//! It looks for two things. A *mark*: a piece of a secret, in whatever writing, in any byte that a client receives or
//! that is recorded. A *difference*: whatever depends on a secret, be it a value, a count, an order, an error or its
//! absence, tells the twins apart, although no mark is seen.

mod definitions;
mod expressions;
pub mod marks;
mod operands;
mod queries;
pub mod random;
mod schema;
mod speech;
pub mod statements;
pub mod truth;
pub mod vault;

use std::collections::BTreeMap;

use super::wire::{Client, Message, ServerError};
use marks::Marks;
use random::Random;

/// What came back for one message of one twin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// Every message up to ReadyForQuery.
    pub messages: Vec<(char, Vec<u8>)>,
    /// Whether the connection is gone.
    pub ended: bool,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was answered.
    Answered,
    /// nodegate refused it.
    Refused,
    /// The server refused it: the generator writes some nonsense.
    Failed,
}

/// A leak.
#[derive(Debug)]
pub struct Leak {
    /// The statements of the connection up to the one that leaked.
    pub statements: Vec<String>,
    /// What was seen.
    pub seen: String,
}

/// What a hunt has found.
#[derive(Debug, Default)]
pub struct Report {
    /// Statements sent.
    pub statements: usize,
    /// How they went.
    pub outcomes: BTreeMap<Outcome, usize>,
    /// The rules that refused, and how often.
    pub refusals: BTreeMap<String, usize>,
    /// What leaked.
    pub leaks: Vec<Leak>,
}

impl Report {
    /// Per cent of the statements that were answered.
    pub fn answered(&self) -> usize {
        100 * self.outcomes.get(&Outcome::Answered).copied().unwrap_or(0) / self.statements.max(1)
    }
}

/// How a statement is sent.
#[derive(Debug, Clone, Copy)]
enum Way {
    Simple,
    Extended { format: i16, rows: u32 },
    Undescribed { format: i16 },
}

impl Way {
    fn of(random: &mut Random) -> Self {
        let format = i16::from(random.chance(50));
        match random.below(10) {
            0..=5 => Self::Simple,
            6 | 7 => Self::Extended { format, rows: 0 },
            8 => Self::Extended { format, rows: 2 },
            _ => Self::Undescribed { format },
        }
    }

    fn send(self, client: &mut Client, sql: &str) {
        match self {
            Self::Simple => client.send(b'Q', &[sql.as_bytes(), &[0]].concat()),
            Self::Extended { format, rows } => {
                client.parse("", sql);
                client.bind("", "", &[], format);
                client.describe(b'P', "");
                client.execute("", rows);
                if rows > 0 {
                    client.execute("", 0);
                }
                client.send(b'S', &[]);
            }
            Self::Undescribed { format } => {
                client.parse("", sql);
                client.bind("", "", &[], format);
                client.execute("", 0);
                client.send(b'S', &[]);
            }
        }
    }
}

/// Connections of one agent to the twins.
struct Pair {
    /// To the one and to the other.
    clients: [Client; 2],
}

impl Pair {
    fn ask(&mut self, way: Way, sql: &str) -> [Transcript; 2] {
        for client in &mut self.clients {
            way.send(client, sql);
        }
        let [left, right] = &mut self.clients;
        [receive(left), receive(right)]
    }
}

fn receive(client: &mut Client) -> Transcript {
    let mut messages = Vec::new();
    loop {
        let Ok(Message { tag, body }) = client.read() else {
            return Transcript { messages, ended: true };
        };
        match tag {
            b'G' => client.send(b'f', b"no data\0"),
            b'Z' => {
                messages.push(('Z', body));
                return Transcript { messages, ended: false };
            }
            _ => {}
        }
        messages.push((char::from(tag), body));
    }
}

/// What a startup message sets.
pub type Startup = &'static [(&'static str, &'static str)];

/// Sends so many statements over connections that `connect` makes, and compares what comes back.
pub fn hunt(
    seed: u64,
    statements: usize,
    marks: &[Marks; 2],
    mut connect: impl FnMut(Startup) -> [Result<Client, ServerError>; 2],
) -> Report {
    let mut random = Random::new(seed);
    let mut report = Report::default();
    while report.statements < statements {
        let startup = statements::startup(&mut random);
        let mut sent = vec![format!("{startup:?}")];
        let mut pair = match connect(startup) {
            [Ok(left), Ok(right)] => Pair { clients: [left, right] },
            refused => {
                report.statements += 1;
                *report.outcomes.entry(Outcome::Refused).or_default() += 1;
                let said = refused.map(|client| client.err().map(|error| error.text()).unwrap_or_default());
                *report.refusals.entry("the startup message".to_owned()).or_default() += 1;
                if said[0] != said[1].replace(vault::NAMES[1], vault::NAMES[0]) {
                    report.leaks.push(Leak { statements: sent, seen: format!("a difference: {said:?}") });
                }
                continue;
            }
        };
        'session: for _ in 0..25 {
            for sql in statements::step(&mut random) {
                let way = Way::of(&mut random);
                sent.push(format!("{way:?} {sql}"));
                let transcripts = pair.ask(way, &sql);
                report.statements += 1;
                *report.outcomes.entry(outcome(&transcripts[0], &mut report.refusals)).or_default() += 1;
                if let Some(seen) = leak(&transcripts, marks) {
                    report.leaks.push(Leak { statements: sent.clone(), seen });
                    break 'session;
                }
                if transcripts.iter().any(|transcript| transcript.ended) {
                    break 'session;
                }
            }
        }
    }
    report
}

fn outcome(transcript: &Transcript, refusals: &mut BTreeMap<String, usize>) -> Outcome {
    let errors = transcript.messages.iter().filter(|(tag, _)| *tag == 'E');
    let mut outcome = Outcome::Answered;
    for (_, body) in errors {
        let error = super::wire::error_of(body);
        if error.field('D').starts_with("policy: ") {
            *refusals.entry(error.field('D').to_owned()).or_default() += 1;
            return Outcome::Refused;
        }
        outcome = Outcome::Failed;
    }
    if transcript.ended { Outcome::Refused } else { outcome }
}

fn leak(transcripts: &[Transcript; 2], marks: &[Marks; 2]) -> Option<String> {
    for (transcript, marks) in transcripts.iter().zip(marks) {
        for (tag, body) in &transcript.messages {
            if let Some(mark) = marks.find(body) {
                return Some(format!("the mark {mark:?} in {tag:?} {}", body.escape_ascii()));
            }
        }
    }
    let [left, right] = transcripts.each_ref().map(comparable);
    if left == right {
        return None;
    }
    let pairs = left.iter().zip(&right).find(|(left, right)| left != right);
    Some(match pairs {
        Some((left, right)) => format!("a difference:\n  {left}\n  {right}"),
        None => format!("{} messages and {}", left.len(), right.len()),
    })
}

/// What both twins must agree in: everything but hashes, which are the values' own, their names, process ids, oids of what
/// was made, and the planner's estimates.
fn comparable(transcript: &Transcript) -> Vec<String> {
    let mut all: Vec<String> = transcript
        .messages
        .iter()
        .map(|(tag, body)| {
            // The listener's process id is the server's own.
            let body = if *tag == 'A' { &body[4..] } else { body };
            // A row's first bytes are the lengths of its values.
            let is_plan =
                *tag == 'D' && body.windows(5).any(|window| window == b"cost=" || window == b"Cost\"");
            let body = if is_plan { &body[6..] } else { body };
            let body = if *tag == 'T' { without_oids(body) } else { body.to_vec() };
            let text = without_hashes(&body).escape_ascii().to_string();
            format!("{tag} {}", without_estimates(&text.replace(vault::NAMES[1], vault::NAMES[0])))
        })
        .collect();
    if transcript.ended {
        all.push("the connection ended".to_owned());
    }
    all
}

/// A RowDescription without the oids of what users have made. A server counts on with every temporary schema, and how many of
/// these it makes depends on which of its slots a session gets.
fn without_oids(body: &[u8]) -> Vec<u8> {
    let mut plain = body.to_vec();
    let mut at = 2;
    while let Some(end) = plain.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0)) {
        let table = at + end + 1;
        for oid in [table, table + 6] {
            let Some(oid) = plain.get_mut(oid..oid + 4) else { return plain };
            if oid[..] >= 16_384_u32.to_be_bytes()[..] {
                oid.fill(b'#');
            }
        }
        at = table + 18;
    }
    plain
}

fn without_hashes(body: &[u8]) -> Vec<u8> {
    let mut plain = body.to_vec();
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    let mut at = 0;
    while at + 16 <= plain.len() {
        if plain[at..at + 16].iter().all(is_digit) {
            plain[at..at + 16].fill(b'#');
            at += 16;
        } else {
            at += 1;
        }
    }
    plain
}

/// Without the planner's estimates: they come from how many pages a table has and how wide its rows are on average.
fn without_estimates(text: &str) -> String {
    const WORDS: &[&str] = &["cost=", "Cost\\\": ", "Plan Rows\\\": ", "Plan Width\\\": "];
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = WORDS.iter().filter_map(|word| Some(rest.find(word)? + word.len())).min() {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let number = |letter: char| letter.is_ascii_digit() || letter == '.';
        let end = if plain.ends_with("cost=") { rest.find(')') } else { rest.find(|letter| !number(letter)) };
        rest = &rest[end.unwrap_or(rest.len())..];
    }
    plain + rest
}
