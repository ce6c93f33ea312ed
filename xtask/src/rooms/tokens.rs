//! Just enough of Rust's lexical grammar to see paths: comments and literals vanish, the rest becomes
//! identifiers and punctuation with line numbers. It never fails; what it cannot know it passes on.

/// A token that matters to paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// An identifier or keyword; `r#` is taken off.
    Word(&'a str),
    /// `::`
    Colons,
    /// Any other character.
    Sign(char),
}

/// A token and the line, counted from 1, on which it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: Kind<'a>,
    pub line: usize,
}

/// All tokens of a source text.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { rest: text, line: 1 };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next_token() {
        tokens.push(token);
    }
    tokens
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Lexer<'a> {
    fn next_token(&mut self) -> Option<Token<'a>> {
        loop {
            let first = self.rest.chars().next()?;
            if self.rest.starts_with("//") {
                self.take(self.rest.find('\n').unwrap_or(self.rest.len()));
            } else if self.rest.starts_with("/*") {
                self.take(block_comment(self.rest));
            } else if let Some(length) = literal(self.rest) {
                self.take(length);
            } else if first.is_whitespace() {
                self.take(first.len_utf8());
            } else {
                return Some(self.plain(first));
            }
        }
    }

    fn plain(&mut self, first: char) -> Token<'a> {
        let line = self.line;
        let kind = if self.rest.starts_with("::") {
            self.take(2);
            Kind::Colons
        } else if first.is_alphanumeric() || first == '_' {
            if self.rest.starts_with("r#") {
                self.take(2);
            }
            let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
            Kind::Word(self.take(end))
        } else {
            self.take(first.len_utf8());
            Kind::Sign(first)
        };
        Token { kind, line }
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }
}

/// Length of the block comment at the start; block comments nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) else { return text.len() };
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
}

/// Length of the string, character or lifetime at the start, if there is one.
fn literal(text: &str) -> Option<usize> {
    let prefix = text.len() - text.trim_start_matches(['b', 'c', 'r']).len();
    let after = text.get(prefix..)?;
    if prefix <= 2 && after.starts_with('"') && !text.get(..prefix)?.contains('r') {
        return Some(prefix + quoted(after, '"'));
    }
    if prefix <= 2 && text.get(..prefix)?.ends_with('r') && after.starts_with(['"', '#']) {
        let hashes = after.len() - after.trim_start_matches('#').len();
        let body = after.get(hashes..)?.strip_prefix('"')?;
        let close = format!("\"{}", "#".repeat(hashes));
        let end = body.find(&close).map_or(body.len(), |at| at + close.len());
        return Some(prefix + hashes + 1 + end);
    }
    if prefix <= 1 && after.starts_with('\'') && text.get(..prefix) != Some("r") {
        return Some(prefix + character_or_lifetime(after));
    }
    None
}

/// Length of a literal that starts and ends with `quote` and may hold escapes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

fn character_or_lifetime(text: &str) -> usize {
    let mut inner = text.chars().skip(1);
    match (inner.next(), inner.next()) {
        (Some('\\'), _) | (_, Some('\'')) => quoted(text, '\''),
        _ => {
            let name = text.get(1..).unwrap_or_default();
            1 + name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len())
        }
    }
}
