//! Why a set of policies was not accepted, in words that lead to the line to change.

use std::{fmt, io, path::PathBuf};

use serde::Serialize;

/// A position in a policy file; line and column count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The file, as it was found below the policy directory.
    pub file: PathBuf,
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Place {
    /// The place of byte `offset` of `text`.
    pub(super) fn of(file: PathBuf, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            file,
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// One thing that is wrong, or doubtful, in a policy file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Where; `None` when it concerns the set as a whole.
    pub place: Option<Place>,
    /// What.
    pub message: String,
    /// The way out.
    pub help: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// Why policies could not be loaded. Nothing of a refused set takes effect.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A file or directory could not be read.
    #[error("cannot read policies at {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Directories below the policy directory nest deeper than anybody means them to: a loop of links.
    #[error("policy directories nest too deeply at {}; is a symbolic link going round in a circle?", path.display())]
    TooDeep {
        /// Where the walk stopped.
        path: PathBuf,
    },
    /// The files were read and are wrong.
    #[error("{}", Listing(.0))]
    Invalid(Vec<Problem>),
    /// The embedded schema is wrong: a defect of this program.
    #[error("the embedded policy schema is invalid: {0}")]
    Schema(String),
}

/// Problems, one after the other.
struct Listing<'a>(&'a [Problem]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}
