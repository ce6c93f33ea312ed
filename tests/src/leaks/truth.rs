//! The other side of the hunt: what reads nothing masked is what the database says. A statement that nodegate has answered
//! is run past it as well, on the same server and in the same way, and every value of a column that has nothing to do with
//! a secret is compared.
//!
//! Which columns these are is told from the statement's text, by names alone, and not by anything that nodegate knows: a
//! column in whose expression no name of a secret column stands, nor a whole row, nor a name that a subquery gave.

use super::{Transcript, Way, queries::Queries, random::Random, receive, schema::RELATIONS, statements};
use crate::wire::{Client, columns_of, row_of};

/// What has been compared.
#[derive(Debug, Default, Clone, Copy)]
pub struct Compared {
    /// Queries sent.
    pub sent: usize,
    /// Those that nodegate answered.
    pub answered: usize,
    /// Statements of which something was.
    pub statements: usize,
    /// Values in text format.
    pub texts: usize,
    /// Values in binary format.
    pub binaries: usize,
    /// Values that are no column of a table.
    pub computed: usize,
}

/// Whether a statement reads only, so that it can be run once more.
pub fn can_be_repeated(sql: &str) -> bool {
    let start = sql.trim_start_matches('(');
    let reads = ["SELECT ", "WITH ", "VALUES ", "TABLE "].iter().any(|word| start.starts_with(word));
    let changes =
        ["nextval", "setval", "set_config", "advisory", " INTO ", "notify", "INSERT", "DELETE", "; "];
    reads && !changes.iter().any(|word| sql.contains(word))
}

/// Sends so many queries by way of nodegate and, where it answers, past it, over sessions that `connect` makes in that order;
/// returns what has been compared, and each query of which the two answers differ.
pub fn hold(
    seed: u64,
    queries: usize,
    mut connect: impl FnMut() -> [Client; 2],
) -> (Compared, Vec<(String, String)>) {
    let mut random = Random::new(seed);
    let mut compared = Compared::default();
    let mut untruths = Vec::new();
    while compared.sent < queries {
        let [mut client, mut direct] = connect();
        for _ in 0..200.min(queries - compared.sent) {
            let sql = if random.chance(12) {
                statements::fixed(&mut random)
            } else {
                Queries::new(&mut random).query()
            };
            let way = Way::of(&mut random);
            if !can_be_repeated(&sql) {
                continue;
            }
            compared.sent += 1;
            way.send(&mut client, &sql);
            let answer = receive(&mut client);
            if answer.ended {
                untruths.push((sql, "the session ended".to_owned()));
                break;
            }
            if answer.messages.iter().any(|(tag, _)| *tag == 'E') {
                continue;
            }
            compared.answered += 1;
            way.send(&mut direct, &sql);
            if let Some(what) = difference(&sql, &answer, &receive(&mut direct), &mut compared) {
                untruths.push((format!("{way:?} {sql}"), what));
            }
        }
    }
    (compared, untruths)
}

/// What differs between the answers to a statement by way of nodegate and past it, though it reads nothing masked.
pub fn difference(
    sql: &str,
    seen: &Transcript,
    direct: &Transcript,
    compared: &mut Compared,
) -> Option<String> {
    if direct.messages.iter().any(|(tag, _)| *tag == 'E') {
        return Some("past nodegate it fails".to_owned());
    }
    let bodies = |transcript: &Transcript, wanted: char| -> Vec<Vec<u8>> {
        let all = transcript.messages.iter().filter(|(tag, _)| *tag == wanted);
        all.map(|(_, body)| body.clone()).collect()
    };
    let (descriptions, rows) = (bodies(direct, 'T'), bodies(direct, 'D'));
    if bodies(seen, 'T') != descriptions {
        return Some("another description".to_owned());
    }
    let shown = bodies(seen, 'D');
    if shown.len() != rows.len() {
        return Some(format!("{} rows, and past nodegate {}", shown.len(), rows.len()));
    }
    let columns = descriptions.first().map(|body| columns_of(body)).unwrap_or_default();
    let expressions = expressions_of(sql);
    let is_open = |at: usize| match &expressions {
        Some(expressions) => expressions.get(at).is_some_and(|expression| !may_read_secrets(expression, sql)),
        // Columns by a star or a TABLE have the names of the tables' own.
        None if mentions_secrets(sql) || sql.contains('*') || sql.contains("TABLE") => {
            let column = columns.get(at);
            // A whole row has a table and no number.
            let column = column.filter(|column| column.number > 0 && !is_secret_name(&column.name));
            column.is_some() && !sql.starts_with("WITH") && !sql.contains('x')
        }
        None => true,
    };
    let mut found = 0;
    for (shown, row) in shown.iter().zip(&rows) {
        let (shown, row) = (row_of(shown), row_of(row));
        for (at, (shown, value)) in shown.iter().zip(&row).enumerate().filter(|(at, _)| is_open(*at)) {
            if shown != value {
                let text = |value: &Option<Vec<u8>>| match value {
                    Some(bytes) => bytes.escape_ascii().to_string(),
                    None => "NULL".to_owned(),
                };
                return Some(format!(
                    "column {} is {}, and past nodegate {}",
                    at + 1,
                    text(shown),
                    text(value)
                ));
            }
            found += 1;
            match columns.get(at) {
                Some(column) if column.format == 1 => compared.binaries += 1,
                _ => compared.texts += 1,
            }
            compared.computed += usize::from(columns.get(at).is_some_and(|column| column.table == 0));
        }
    }
    compared.statements += usize::from(found > 0);
    None
}

/// The expressions of a plain SELECT's columns, in their order; `None` for what is no plain SELECT, or has a star.
fn expressions_of(sql: &str) -> Option<Vec<&str>> {
    let list = sql.strip_prefix("SELECT ")?;
    let list = list.strip_prefix("DISTINCT ").unwrap_or(list);
    if list.starts_with("ON (") || top_level(list, &[" UNION ", " EXCEPT ", " INTERSECT "]).is_some() {
        return None;
    }
    let mut rest = &list[..top_level(list, &[" FROM "]).unwrap_or(list.len())];
    let mut expressions = Vec::new();
    while let Some(at) = top_level(rest, &[", "]) {
        expressions.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    expressions.push(rest);
    let has_star = |expression: &&str| expression.trim().ends_with(".*") || expression.trim() == "*";
    (!expressions.iter().any(has_star)).then_some(expressions)
}

/// Where the first of these words stands outside of parentheses and quotes.
fn top_level(text: &str, words: &[&str]) -> Option<usize> {
    let mut depth = 0;
    let mut is_quoted = false;
    for (at, letter) in text.char_indices() {
        match letter {
            '\'' => is_quoted = !is_quoted,
            '(' | '[' if !is_quoted => depth += 1,
            ')' | ']' if !is_quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 && !is_quoted && words.iter().any(|word| text[at..].starts_with(word)) {
            return Some(at);
        }
    }
    None
}

/// Whether an expression may be made of a secret.
fn may_read_secrets(expression: &str, sql: &str) -> bool {
    // Names of whole rows, and those that subqueries and functions give their columns.
    const OTHERS: &[&str] = &[
        "p", "t", "u", "s", "x", "n", "r", "c", "l", "f", "m", "d", "e", "a", "b", "folk", "people", "notes",
        "whole",
    ];
    let reads = words(expression)
        .any(|(word, is_qualifier)| is_secret_name(word) || (!is_qualifier && OTHERS.contains(&word)));
    reads
        || (sql.contains("(SELECT")
            && expression.contains('.')
            && mentions_secrets(sql)
            && !sql.starts_with("SELECT (SELECT"))
}

fn mentions_secrets(sql: &str) -> bool {
    words(sql).any(|(word, _)| is_secret_name(word))
}

/// Whether some relation has a secret column of that name.
fn is_secret_name(name: &str) -> bool {
    RELATIONS
        .iter()
        .flat_map(|relation| relation.columns)
        .any(|column| column.is_secret && column.name == name)
        || ["badge", "rec", "upper", "remark", "papers", "mail"].contains(&name)
}

/// The words of a text outside of quotes, and whether a dot follows each.
fn words(text: &str) -> impl Iterator<Item = (&str, bool)> {
    text.split('\'').step_by(2).flat_map(|code| {
        let is_letter = |letter: char| letter.is_alphanumeric() || letter == '_';
        let mut found = Vec::new();
        let mut start = None;
        for (at, letter) in code.char_indices().chain([(code.len(), ' ')]) {
            match (start, is_letter(letter)) {
                (None, true) => start = Some(at),
                (Some(from), false) => {
                    found.push((&code[from..at], letter == '.'));
                    start = None;
                }
                _ => {}
            }
        }
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_read_nothing_secret_are_told_by_names_alone() {
        let open = |sql: &str| -> Vec<bool> {
            let all = expressions_of(sql).expect("a plain SELECT");
            all.iter().map(|expression| !may_read_secrets(expression, sql)).collect()
        };
        assert_eq!(
            open("SELECT p.id, p.email, 'email', length(p.label), count(*) FROM people AS p"),
            [true, false, true, true, true]
        );
        assert_eq!(
            open("SELECT p, row_to_json(p), (SELECT p.secret || 'x'), f(1, 2) FROM people AS p"),
            [false, false, false, false]
        );
        assert!(expressions_of("SELECT p.* FROM people AS p").is_none());
        assert!(expressions_of("SELECT 1 UNION ALL SELECT secret FROM people").is_none());
        assert!(
            can_be_repeated("SELECT 1")
                && !can_be_repeated("SELECT nextval('a')")
                && !can_be_repeated("DELETE")
        );
    }
}
