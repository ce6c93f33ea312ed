//! `rooms`: which room of the daemon may import which, read from ARCHITECTURE.md and held against the code.
//!
//! The table there is the rule; there is no second copy here. Anything that the check cannot place (a file
//! that belongs to no row, a path that leads to none, the whole crate under another name) is a finding too,
//! so that a new room has to be written into the table before it is used.

mod circles;
mod paths;
mod table;
mod tokens;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{places, shell};
use circles::Graph;
use table::Table;

/// One import that the table does not allow, or one thing that the check cannot place.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    file: PathBuf,
    line: usize,
    problem: String,
}

/// Checks the daemon's sources and prints every finding as `file:line: problem`.
pub fn check() -> Result<()> {
    shell::step("rooms");
    let root = places::root()?;
    let architecture = root.join("ARCHITECTURE.md");
    let text = fs::read_to_string(&architecture)
        .with_context(|| format!("cannot read {}", architecture.display()))?;
    let table = Table::parse(&text)?;
    let sources = root.join("gateway-daemon").join("src");
    let mut files = Vec::new();
    collect(&sources, &mut files)?;
    files.sort();

    let modules: Vec<Vec<String>> =
        files.iter().map(|file| paths::module_of(file.strip_prefix(&sources).unwrap_or(file))).collect();
    let mut graph = Graph::default();
    let mut findings = Vec::new();
    for (file, module) in files.iter().zip(&modules) {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let inner = file.strip_prefix(&sources).unwrap_or(file);
        findings.extend(findings_of(&table, inner, &text));
        let children: Vec<String> = modules.iter().filter_map(|other| child_of(module, other)).collect();
        graph.add(module, &tokens::tokens(&text), &children);
    }
    for Finding { file, line, problem } in &findings {
        eprintln!("gateway-daemon/src/{}:{line}: {problem}", file.display());
    }
    let circles = graph.circles();
    let now: BTreeSet<String> = circles.iter().flatten().map(|module| (*module).to_owned()).collect();
    let known = circles::known(&text)?;
    for module in now.difference(&known) {
        let circle = circle_of(&circles, module);
        eprintln!(
            "gateway-daemon/src/{module}: is in a circle of imports that ARCHITECTURE.md does not list: {circle}"
        );
    }
    for module in known.difference(&now) {
        eprintln!("ARCHITECTURE.md: `{module}` is in no circle any more: take it off the list");
    }
    let inner = table.inner();
    eprintln!(
        "  {} files, {} rooms, {inner} of them inside another: {} imports that the table does not allow",
        files.len(),
        table.len(),
        findings.len()
    );
    eprintln!("  {} circles of modules inside rooms, of {} modules", circles.len(), now.len());
    if findings.is_empty() && now == known {
        return Ok(());
    }
    bail!("the rooms are not as ARCHITECTURE.md has them")
}

/// The name of a module that is directly below another.
fn child_of(parent: &[String], module: &[String]) -> Option<String> {
    match module.strip_prefix(parent)? {
        [child] => Some(child.clone()),
        _ => None,
    }
}

/// The circle of a module, as the list would have it.
fn circle_of(circles: &[Vec<&str>], module: &str) -> String {
    let Some(circle) = circles.iter().find(|circle| circle.contains(&module)) else { return String::new() };
    let mut room = module;
    while let Some((outer, _)) = room.rsplit_once('/') {
        room = outer;
        if circle.iter().all(|other| other.starts_with(&format!("{room}/"))) {
            break;
        }
    }
    let inner = circle.iter().filter_map(|other| other.strip_prefix(room)?.strip_prefix('/'));
    format!("| `{room}` | {} |", inner.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Everything in one file (its path is relative to `src`) that the table does not allow.
fn findings_of(table: &Table, file: &Path, text: &str) -> Vec<Finding> {
    let finding = |line, problem| Finding { file: file.to_path_buf(), line, problem };
    let module = paths::module_of(file);
    let Some(room) = table.room_of(&module) else {
        return vec![finding(1, "belongs to no room of the table in ARCHITECTURE.md".to_owned())];
    };
    let tokens = tokens::tokens(text);
    let mut findings = Vec::new();
    if table.lacks_a_row(&module, file.ends_with("mod.rs")) {
        findings.push(finding(1, "is a folder in a divided room and has no row of its own".to_owned()));
    }
    for reference in paths::references(&module, &tokens) {
        if let Some(problem) = table.objection(room, &reference.target) {
            findings.push(finding(reference.line, problem));
        }
    }
    for (line, name) in paths::foreign_crates(&tokens) {
        if let Some(problem) = table.objection_to_crate(room, name) {
            findings.push(finding(line, problem));
        }
    }
    findings
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "tests")]
mod tests {
    use std::path::Path;

    use super::{findings_of, table::Table};

    const TABLE: &str = "\
        # Rooms\n<!-- rooms -->\n\
        | room | for | may import | must not use |\n|---|---|---|---|\n\
        | `lib` | list | nothing | |\n\
        | `main` | start | everything | |\n\
        | `domain` | values | nothing | `tokio` |\n\
        | `intercept` | kernel | `domain`, `gateway-common` | |\n\
        | `protocol` | codecs | nothing | `tokio` |\n\
        | `protocol/wire` | reader | nothing | `tokio` |\n\
        | `protocol/postgres` | codec | `protocol/wire` | `tokio` |\n\
        | `session` | drivers | `domain`, `protocol`, `protocol/postgres` | |\n\
        <!-- end of rooms -->\n";

    fn problems(file: &str, text: &str) -> Vec<(usize, String)> {
        let table = Table::parse(TABLE).expect("the fixture is a table");
        findings_of(&table, Path::new(file), text)
            .into_iter()
            .map(|found| (found.line, found.problem))
            .collect()
    }

    fn lines(file: &str, text: &str) -> Vec<usize> {
        problems(file, text).into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn an_import_that_the_table_lists_is_no_finding() {
        assert_eq!(problems("session/mod.rs", "use crate::domain::ids::FlowId;\nuse super::domain;"), []);
        assert_eq!(problems("intercept/load.rs", "use gateway_common::Flow; use crate::domain::flow;"), []);
        assert_eq!(problems("domain/ids.rs", "use super::flow::Flow; use crate::domain::event;"), []);
    }

    #[test]
    fn an_import_that_the_table_does_not_list_is_found_with_its_line() {
        let found = problems("domain/ids.rs", "\n\nuse crate::session::Session;");
        assert_eq!(found, [(3, "`domain` must not import `session`".to_owned())]);
    }

    #[test]
    fn a_path_in_an_expression_counts_like_an_import() {
        assert_eq!(lines("domain/ids.rs", "fn f() {\n  crate::session::start();\n}"), [2]);
        assert_eq!(lines("domain/ids.rs", "fn f() {\n  super::super::session::start();\n}"), [2]);
    }

    #[test]
    fn every_branch_of_a_nested_group_over_several_lines_is_read() {
        let text = "use crate::{\n  domain::{ids, flow},\n  session::{\n    self,\n    tcp,\n  },\n};";
        assert_eq!(lines("intercept/mod.rs", text), [4, 5]);
        assert_eq!(lines("intercept/mod.rs", "use {\n  crate::domain,\n  crate::session,\n};"), [3]);
    }

    #[test]
    fn super_is_resolved_from_inline_modules_as_well() {
        let text = "mod tests {\n  use super::helper;\n  use super::super::super::session::x;\n}";
        assert_eq!(lines("domain/ids.rs", text), [3]);
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        let text = "// crate::session::x\n/* crate::session /* nested */ ::y */\n\
                    const A: &str = \"crate::session::z\";\nconst B: &str = r#\"\" crate::session::z\"#;\n\
                    const C: char = '\"'; /// crate::session\nconst D: u8 = b'\\''; fn e<'a>() {}\n\
                    use crate::session::real;";
        assert_eq!(lines("domain/ids.rs", text), [7]);
    }

    #[test]
    fn a_sub_room_has_a_row_of_its_own() {
        assert_eq!(problems("protocol/postgres/auth.rs", "use super::super::wire::Reader;"), []);
        assert_eq!(lines("protocol/wire.rs", "use super::postgres::Frame;"), [1]);
        assert_eq!(lines("session/postgres.rs", "use crate::protocol::wire::Reader;"), [1]);
    }

    #[test]
    fn a_folder_in_a_divided_room_needs_a_row() {
        let found = problems("protocol/novel/mod.rs", "");
        assert_eq!(found, [(1, "is a folder in a divided room and has no row of its own".to_owned())]);
        assert_eq!(problems("protocol/postgres/mod.rs", ""), []);
        assert_eq!(problems("protocol/postgres/auth/mod.rs", ""), []);
        assert_eq!(problems("intercept/sys/mod.rs", ""), [], "a room without rooms inside");
    }

    #[test]
    fn a_crate_that_a_row_rules_out_is_found() {
        let found = problems("protocol/wire.rs", "fn a() {}\nuse tokio::net::TcpStream;");
        assert_eq!(found, [(2, "`protocol/wire` must not use the crate `tokio`".to_owned())]);
        assert_eq!(lines("domain/ids.rs", "fn a() { ::tokio::spawn(x) }"), [1]);
        assert_eq!(problems("domain/ids.rs", "fn a(tokio: u8) { b.tokio }"), []);
    }

    #[test]
    fn a_crate_of_the_workspace_is_for_the_rooms_that_list_it() {
        assert_eq!(lines("session/mod.rs", "use gateway_common::Flow;"), [1]);
    }

    #[test]
    fn a_file_or_a_path_outside_the_table_is_found() {
        assert_eq!(lines("novel/mod.rs", "fn a() {}"), [1]);
        assert_eq!(lines("session/mod.rs", "\nuse crate::novel::Thing;"), [2]);
    }

    #[test]
    fn the_whole_crate_cannot_be_imported_under_another_name() {
        assert_eq!(lines("session/mod.rs", "use crate as everything;"), [1]);
        assert_eq!(lines("session/mod.rs", "use crate::{self as everything};"), [1]);
        assert_eq!(lines("session/mod.rs", "use crate::*;"), [1]);
        assert_eq!(lines("session/mod.rs", "use super::*;"), [1]);
        assert_eq!(problems("session/mod.rs", "pub(crate) fn a() {} pub(in crate::session) fn b() {}"), []);
    }

    #[test]
    fn the_row_that_may_import_everything_may() {
        assert_eq!(problems("main.rs", "use gateway_daemon::session::x; use tokio::runtime;"), []);
    }
}
