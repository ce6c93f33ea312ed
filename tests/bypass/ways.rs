//! The program with the ways in it: compiled, and asked what it knows.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nodegate_tests::programs::succeed;

/// One way out.
#[derive(Debug, Clone)]
pub struct Way {
    /// The row of THREATS.
    pub row: String,
    /// Its name.
    pub name: String,
    flags: u32,
    /// The privilege that it takes: a capability, `root`, or nothing.
    pub needs: Option<String>,
    /// What it does.
    pub title: String,
}

/// How a way differs from others; `enum flags` of `way.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// Kernels without the feature exist.
    Optional = 1,
    /// It starts outside, and may do harmless things there.
    Outside = 2,
    /// It changes its network namespace.
    Private = 4,
    /// It is no way out, but must keep working.
    Keeps = 8,
    /// It gets no further than a first packet.
    First = 16,
    /// It may take the capture of its own cgroup apart.
    Meddles = 32,
}

impl Way {
    /// A way by its name alone, for attempts whose control has been tried before.
    pub fn plain(name: &str) -> Self {
        let nothing = String::new;
        Self { row: nothing(), name: name.to_owned(), flags: 0, needs: None, title: nothing() }
    }

    /// Whether it has this flag.
    pub fn is(&self, flag: Flag) -> bool {
        self.flags & flag as u32 != 0
    }

    /// Whether the command line asks for it.
    pub fn matches(&self, filter: &[String]) -> bool {
        names_match(&self.name, filter)
    }
}

/// Whether `bypass::<name>` contains a word of the filter, or there is none.
pub fn names_match(name: &str, filter: &[String]) -> bool {
    let whole = format!("bypass::{name}");
    filter.is_empty() || filter.iter().any(|word| whole.contains(word.as_str()))
}

/// Compiles the ways, statically, so that the program also runs on a machine without libraries.
pub fn compile() -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("bypass/ways");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = folder.join("ways");
    let fresh = folder.join(format!("ways-{}", std::process::id()));
    let mut files: Vec<PathBuf> =
        fs::read_dir(&sources).expect("the ways").map(|entry| entry.expect("a file").path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "c"));
    // The table follows the order in which the files are linked.
    let order = |file: &PathBuf| {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len())
    };
    files.sort_by_key(order);
    succeed(
        Command::new("cc")
            .args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-o"])
            .arg(&fresh)
            .args(files),
    );
    // Another run may be using the one that is there.
    fs::rename(&fresh, &program).expect("to replace the ways");
    program
}

const ORDER: [&str; 11] =
    ["main", "serve", "tcp", "connects", "udp", "kinds", "options", "passing", "namespaces", "unix", "root"];

/// Every way that the program knows.
pub fn list(program: &Path) -> Vec<Way> {
    let listed = succeed(Command::new(program).arg("list"));
    let way = |line: &str| {
        let [row, name, flags, needs, title] = line.split('|').collect::<Vec<_>>()[..] else {
            panic!("`{line}` is no way")
        };
        Way {
            row: row.to_owned(),
            name: name.to_owned(),
            flags: flags.parse().expect("flags"),
            needs: Some(needs.to_owned()).filter(|needs| !needs.is_empty()),
            title: title.to_owned(),
        }
    };
    let ways: Vec<Way> = listed.lines().map(way).collect();
    for way in &ways {
        assert_eq!(ways.iter().filter(|other| other.name == way.name).count(), 1, "{}", way.name);
    }
    ways
}
