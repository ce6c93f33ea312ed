//! Modules of one room that import each other in a circle, so that none of them can be read without the others. Those
//! that there are stand in ARCHITECTURE.md, below the table: none may be added, and one that is undone is taken off.
//!
//! A name that a module only hands on (`pub use`) counts as an import of where it comes from. What a module uses of the one
//! that it is a part of does not count: the two are one thing. Tests import what they like.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};

use super::{
    paths::{self, Reference},
    table,
    tokens::{Kind, Token},
};

const BEGIN: &str = "<!-- circles -->";
const END: &str = "<!-- end of circles -->";

/// Which module imports which.
#[derive(Default)]
pub struct Graph {
    files: BTreeMap<String, File>,
}

struct File {
    imports: Vec<Vec<String>>,
    /// Names that are handed on, and what they stand for.
    handed_on: BTreeMap<String, Vec<String>>,
}

impl Graph {
    /// Adds a file; `children` are the names of its modules that are files of their own.
    pub fn add(&mut self, module: &[String], tokens: &[Token<'_>], children: &[String]) {
        if module.iter().any(|part| part == "tests" || part == "testing") {
            return;
        }
        let (mut imports, mut handed_on) = (Vec::new(), BTreeMap::new());
        let spans = Spans::of(tokens);
        for Reference { at, target, .. } in paths::references_from(module, tokens, children) {
            if spans.tests.iter().any(|span| span.contains(&at)) {
                continue;
            }
            match target.last() {
                Some(name) if spans.handed_on.iter().any(|span| span.contains(&at)) => {
                    handed_on.insert(name.clone(), target);
                }
                _ => imports.push(target),
            }
        }
        self.files.insert(module.join("/"), File { imports, handed_on });
    }

    /// The circles: each the modules that lead to each other, in their order.
    pub fn circles(&self) -> Vec<Vec<&str>> {
        let edges: BTreeMap<&str, BTreeSet<&str>> = self
            .files
            .iter()
            .map(|(from, file)| {
                let imports = file.imports.iter().filter_map(|target| self.resolve(target));
                (
                    from.as_str(),
                    imports.filter(|to| room(to) == room(from) && !is_whole_of(to, from)).collect(),
                )
            })
            .collect();
        let mut circles: Vec<Vec<&str>> = Vec::new();
        for module in edges.keys() {
            if circles.iter().flatten().any(|known| known == module) {
                continue;
            }
            let ahead = reached(&edges, module);
            if ahead.contains(module) {
                circles.push(
                    ahead.into_iter().filter(|other| reached(&edges, other).contains(module)).collect(),
                );
            }
        }
        circles
    }

    /// The file that a path leads to.
    fn resolve(&self, target: &[String]) -> Option<&str> {
        let mut target = target.to_vec();
        // Names are handed on a few times at most.
        for _ in 0..8 {
            let (length, module, file) = (1..=target.len()).rev().find_map(|length| {
                let (module, file) = self.files.get_key_value(&target.get(..length)?.join("/"))?;
                Some((length, module, file))
            })?;
            let next = target.get(length).and_then(|name| file.handed_on.get(name));
            let Some(next) = next.filter(|next| !target.starts_with(next)) else { return Some(module) };
            let rest = target.get(length + 1..).unwrap_or_default();
            target = next.iter().chain(rest).cloned().collect();
        }
        None
    }
}

fn room(module: &str) -> &str {
    module.split('/').next().unwrap_or(module)
}

/// Whether a module is the other one, or what it is a part of.
fn is_whole_of(whole: &str, part: &str) -> bool {
    part.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Everything that a module imports, or that what it imports does.
fn reached<'a>(edges: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&str> = edges.get(from).into_iter().flatten().copied().collect();
    while let Some(module) = next.pop() {
        if found.insert(module) {
            next.extend(edges.get(module).into_iter().flatten().copied());
        }
    }
    found
}

/// The modules that ARCHITECTURE.md says are in circles.
pub fn known(document: &str) -> Result<BTreeSet<String>> {
    let (_, rest) =
        document.split_once(BEGIN).with_context(|| format!("ARCHITECTURE.md has no line {BEGIN}"))?;
    let (text, _) = rest.split_once(END).with_context(|| format!("ARCHITECTURE.md has no line {END}"))?;
    let mut modules = BTreeSet::new();
    for line in text.lines().filter(|line| line.contains('`')) {
        let mut names = table::names(line).into_iter();
        let room = names.next().unwrap_or_default();
        modules.extend(names.map(|name| if name == "mod" { room.clone() } else { format!("{room}/{name}") }));
    }
    Ok(modules)
}

/// Where a file's tokens stand in `pub use …;`, and where in its own tests.
struct Spans {
    handed_on: Vec<std::ops::Range<usize>>,
    tests: Vec<std::ops::Range<usize>>,
}

impl Spans {
    fn of(tokens: &[Token<'_>]) -> Self {
        let kind = |at: usize| tokens.get(at).map(|token| token.kind);
        let (mut handed_on, mut tests) = (Vec::new(), Vec::new());
        for at in 0..tokens.len() {
            match (kind(at), kind(at + 1), kind(at + 2)) {
                (Some(Kind::Word("pub")), Some(Kind::Word("use")), _) => {
                    let end = (at..tokens.len()).find(|end| kind(*end) == Some(Kind::Sign(';')));
                    handed_on.push(at..end.unwrap_or(tokens.len()));
                }
                (Some(Kind::Word("mod")), Some(Kind::Word("tests")), Some(Kind::Sign('{'))) => {
                    tests.push(at..tokens.len());
                }
                _ => {}
            }
        }
        Self { handed_on, tests }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{super::tokens::tokens, Graph, known};

    fn graph(files: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::default();
        for (module, text) in files {
            let path: Vec<String> = module.split('/').map(str::to_owned).collect();
            let below = format!("{module}/");
            let children: Vec<String> =
                files.iter().filter_map(|(other, _)| other.strip_prefix(&below)).map(str::to_owned).collect();
            graph.add(&path, &tokens(text), &children);
        }
        graph
    }

    #[test]
    fn modules_that_lead_to_each_other_are_a_circle_and_a_chain_is_none() {
        let files = [
            ("a", ""),
            ("a/one", "use super::two::Two; use super::four::Four;"),
            ("a/two", "use crate::a::three::Three;"),
            ("a/three", "fn f() { super::one::call() }"),
            ("a/four", "use crate::b::Other;"),
            ("b", "use crate::a::one::One;"),
        ];
        assert_eq!(graph(&files).circles(), [["a/one", "a/three", "a/two"]]);
    }

    #[test]
    fn a_name_that_is_handed_on_is_imported_from_where_it_is() {
        let files = [
            ("a", "mod one; mod two; pub use one::One; pub use self::two::{Two, second};"),
            ("a/one", "use super::Two;"),
            ("a/two", "use super::One;"),
        ];
        assert_eq!(graph(&files).circles(), [["a/one", "a/two"]]);
        let files = [("a", "pub use one::One;"), ("a/one", ""), ("a/two", "use super::One;")];
        assert_eq!(graph(&files).circles(), Vec::<Vec<&str>>::new());
    }

    #[test]
    fn a_module_with_its_own_part_is_no_circle_nor_is_one_that_a_test_closes() {
        let files = [("a", "use one::One; struct Whole;"), ("a/one", "use super::Whole;")];
        assert_eq!(graph(&files).circles(), Vec::<Vec<&str>>::new());
        let files = [
            ("a", ""),
            ("a/one", "use super::two::Two;"),
            ("a/two", "fn f() {} mod tests { use super::super::one::One; }"),
        ];
        assert_eq!(graph(&files).circles(), Vec::<Vec<&str>>::new());
        // Through what it is a part of, a part of another module still closes one.
        let files = [("a/b", "use super::c::C;"), ("a/b/one", ""), ("a/c", "use super::b::B;")];
        assert_eq!(graph(&files).circles(), [["a/b", "a/c"]]);
    }

    #[test]
    fn the_list_names_modules_by_their_room() {
        let text = "<!-- circles -->\n| room | modules |\n|---|---|\n| `a/b` | `mod`, `one` |\n<!-- end of circles -->";
        let expected: BTreeSet<String> = ["a/b", "a/b/one"].map(str::to_owned).into();
        assert_eq!(known(text).unwrap_or_default(), expected);
        assert!(known("").is_err());
    }
}
