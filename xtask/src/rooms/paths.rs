//! Paths into the crate: found among the tokens of a file and resolved to module paths.

use std::path::Path;

use super::tokens::{Kind, Token};

/// A path that code names, from the crate's root.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference {
    pub line: usize,
    /// Which token its last name is.
    pub at: usize,
    /// Its segments without `crate`; empty for the whole crate.
    pub target: Vec<String>,
}

/// The module that a file (relative to `src`) is: `a/b.rs` and `a/b/mod.rs` are `a`, `b`. The crates' roots
/// count as modules named `lib` and `main`, so that the table can have rows for them.
pub fn module_of(file: &Path) -> Vec<String> {
    let mut module: Vec<String> = file
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    if module.len() > 1 && module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// Every path that starts at `crate`, `super`, `self` or the library's own name.
pub fn references(file_module: &[String], tokens: &[Token<'_>]) -> Vec<Reference> {
    references_from(file_module, tokens, &[])
}

/// The same, and every path that starts at one of the module's own `children`.
pub fn references_from(file_module: &[String], tokens: &[Token<'_>], children: &[String]) -> Vec<Reference> {
    let root = match file_module {
        [only] if only == "lib" || only == "main" => Vec::new(),
        module => module.to_vec(),
    };
    let mut walk = Walk { tokens, at: 0, found: Vec::new() };
    let mut depth = 0_usize;
    // Inline modules that are open: their names and the depth at which each ends.
    let mut inline: Vec<(String, usize)> = Vec::new();
    while let Some(token) = walk.peek(0) {
        let module =
            || root.iter().cloned().chain(inline.iter().map(|(name, _)| name.clone())).collect::<Vec<_>>();
        match token.kind {
            Kind::Word("mod") if walk.kind(2) == Some(Kind::Sign('{')) => {
                if let Some(Kind::Word(name)) = walk.kind(1) {
                    inline.push((name.to_owned(), depth));
                }
                depth += 1;
                walk.at += 3;
            }
            Kind::Sign('{') => {
                depth += 1;
                walk.at += 1;
            }
            Kind::Sign('}') => {
                depth = depth.saturating_sub(1);
                if inline.last().is_some_and(|(_, ends)| *ends == depth) {
                    inline.pop();
                }
                walk.at += 1;
            }
            Kind::Word(word) if walk.starts_path() => match start_of(word, module(), children) {
                Some(start) => walk.tree(start),
                None => walk.at += 1,
            },
            _ => walk.at += 1,
        }
    }
    walk.found
}

/// Crates named at the start of a path or after `use`, whichever they are; the table knows which matter.
pub fn foreign_crates<'a>(tokens: &[Token<'a>]) -> Vec<(usize, &'a str)> {
    let kind = |at: Option<usize>| at.and_then(|at| tokens.get(at)).map(|token| token.kind);
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let Kind::Word(word) = token.kind else { continue };
        let before = kind(at.checked_sub(1));
        let inside_path = before == Some(Kind::Colons)
            && matches!(kind(at.checked_sub(2)), Some(Kind::Word(_) | Kind::Sign('>')));
        let leads =
            kind(Some(at + 1)) == Some(Kind::Colons) || matches!(before, Some(Kind::Word("use" | "crate")));
        if leads && !inside_path {
            found.push((token.line, word));
        }
    }
    found
}

fn start_of(word: &str, mut module: Vec<String>, children: &[String]) -> Option<Vec<String>> {
    match word {
        "crate" | "gateway_daemon" => Some(Vec::new()),
        "self" => Some(module),
        "super" => Some(parent(module)),
        child if children.iter().any(|known| known == child) => {
            module.push(child.to_owned());
            Some(module)
        }
        _ => None,
    }
}

fn parent(mut module: Vec<String>) -> Vec<String> {
    module.pop();
    module
}

struct Walk<'t, 'a> {
    tokens: &'t [Token<'a>],
    at: usize,
    found: Vec<Reference>,
}

impl<'a> Walk<'_, 'a> {
    fn peek(&self, ahead: usize) -> Option<Token<'a>> {
        self.tokens.get(self.at + ahead).copied()
    }

    fn kind(&self, ahead: usize) -> Option<Kind<'a>> {
        self.peek(ahead).map(|token| token.kind)
    }

    /// Whether the word here is the first of a path that goes on, or is given another name by `use … as`.
    fn starts_path(&self) -> bool {
        let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map(|token| token.kind);
        let goes_on = matches!(self.kind(1), Some(Kind::Colons | Kind::Word("as")));
        before != Some(Kind::Colons) && goes_on
    }

    /// Reads the path, or tree of paths, whose first word is here and means `start`.
    fn tree(&mut self, start: Vec<String>) {
        let line = self.peek(0).map_or(0, |token| token.line);
        self.at += 1;
        self.rest_of_path(start, line);
    }

    fn rest_of_path(&mut self, mut path: Vec<String>, mut line: usize) {
        while self.kind(0) == Some(Kind::Colons) {
            match self.kind(1) {
                Some(Kind::Word(word)) => {
                    line = self.peek(1).map_or(line, |token| token.line);
                    self.at += 2;
                    match word {
                        "super" => path = parent(path),
                        "self" => {}
                        name => path.push(name.to_owned()),
                    }
                }
                Some(Kind::Sign('{')) => {
                    self.at += 2;
                    self.group(&path);
                    return;
                }
                Some(Kind::Sign('*')) => {
                    line = self.peek(1).map_or(line, |token| token.line);
                    self.at += 2;
                    break;
                }
                // Turbofish or something else that is no longer part of the module path.
                _ => {
                    self.at += 1;
                    break;
                }
            }
        }
        self.found.push(Reference { line, at: self.at.saturating_sub(1), target: path });
    }

    fn group(&mut self, path: &[String]) {
        while let Some(token) = self.peek(0) {
            match token.kind {
                Kind::Sign('}') => {
                    self.at += 1;
                    return;
                }
                Kind::Word(word) => {
                    self.at += 1;
                    let mut inner = path.to_vec();
                    match word {
                        "self" => {}
                        "super" => inner = parent(inner),
                        name => inner.push(name.to_owned()),
                    }
                    self.rest_of_path(inner, token.line);
                    if self.kind(0) == Some(Kind::Word("as")) {
                        self.at += 2;
                    }
                }
                _ => self.at += 1,
            }
        }
    }
}
