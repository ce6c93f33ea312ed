//! What is wrong with a configuration file, and where. Values are not repeated: one of them may be a secret.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde_saphyr::{Location, MessageFormatter as _, UserMessageFormatter};

/// Everything that is wrong with one file, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    file: PathBuf,
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line and column, counted from 1; `None` for the file as a whole.
    pub position: Option<(u64, u64)>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl ConfigError {
    pub(super) fn new(file: &Path, mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        Self { file: file.to_owned(), problems }
    }

    /// What is wrong, in the order of the lines; at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The reader's own errors: syntax, types, unknown and missing keys.
    pub(super) fn from_yaml(file: &Path, error: &serde_saphyr::Error) -> Self {
        use serde_saphyr::Error as Yaml;
        let error = error.without_snippet();
        let (what, hint) = match error {
            Yaml::SerdeUnknownField { field, expected, .. } => (
                format!("unknown key `{field}`"),
                Some(nearest(field, expected.iter().copied()).map_or_else(
                    || format!("the keys that may stand here are {}", expected.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                )),
            ),
            Yaml::SerdeMissingField { field, .. } => {
                (format!("the key `{field}` is missing"), missing_hint(field).map(str::to_owned))
            }
            Yaml::SerdeInvalidType { expected, .. }
            | Yaml::SerdeInvalidValue { expected, .. }
            | Yaml::SerdeInvalidLength { expected, .. } => (format!("expected {expected} here"), None),
            Yaml::NullIntoString { .. } => {
                ("a text is expected here, but nothing is written".to_owned(), None)
            }
            Yaml::Unexpected { expected: "mapping start", .. } => {
                ("a mapping is expected here".to_owned(), None)
            }
            Yaml::Unexpected { expected: "sequence start", .. } => {
                ("a list is expected here".to_owned(), Some("write `[…]`, or one `- …` a line".to_owned()))
            }
            Yaml::Unexpected { expected: "string scalar", .. } => {
                ("a text is expected here".to_owned(), None)
            }
            // Of all keys, those that are no text are whole numbers.
            Yaml::InvalidScalar { .. } => ("a whole number is expected here".to_owned(), None),
            Yaml::Eof { .. } => (
                "the file ends too early".to_owned(),
                Some("a configuration has at least `identity`, `targets`, `policy` and `audit`".to_owned()),
            ),
            Yaml::DuplicateMappingKey { key: Some(key), .. } => {
                (format!("the key `{key}` is written twice"), None)
            }
            other => (UserMessageFormatter.format_message(other).escape_debug().to_string(), None),
        };
        let position = error.location().and_then(position);
        Self::new(file, vec![Problem { position, what, hint }])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:", self.file.display())?;
            if let Some((line, column)) = problem.position {
                write!(f, "{line}:{column}:")?;
            }
            write!(f, " {}", problem.what)?;
            if let Some(hint) = &problem.hint {
                write!(f, "\n  hint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

pub(super) fn position(location: Location) -> Option<(u64, u64)> {
    (location.line() > 0).then(|| (location.line(), location.column()))
}

/// The candidate that `word` is most likely a misspelling of: at most a third of its letters differ.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(&word.to_lowercase(), candidate), candidate))
        .filter(|(distance, candidate)| distance * 3 <= candidate.chars().count().max(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours count 1 each.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    let mut previous_left = None;
    for (row, letter) in left.chars().enumerate() {
        let mut current = vec![row + 1];
        let mut previous_right = None;
        for (column, &other) in right.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut cost = (at(&above, column) + usize::from(letter != other))
                .min(at(&above, column + 1) + 1)
                .min(at(&current, column) + 1);
            if column > 0 && previous_left == Some(other) && previous_right == Some(letter) {
                cost = cost.min(at(&before, column - 1) + 1);
            }
            current.push(cost);
            previous_right = Some(other);
        }
        previous_left = Some(letter);
        before = std::mem::replace(&mut above, current);
    }
    above.last().copied().unwrap_or(0)
}

/// What to write for a key that has no default, where its name does not say it.
pub(super) fn missing_hint(key: &str) -> Option<&'static str> {
    Some(match key {
        "upstream" => {
            "say how the connection to the server is protected: `verify-full` (with `ca`), or `disable` (plain \
             text, for servers on this node)"
        }
        "tls" => {
            "write `tls: { client: terminate, upstream: verify-full, ca: … }`, or `upstream: disable` for plain text"
        }
        "client" => {
            "write `client: terminate`, or `client: plaintext`: agents reach the daemon over this node's loopback only"
        }
        "credential" => {
            "write `credential: { username: …, password: { file: … } }`: the login that only the daemon holds"
        }
        "audience" => "name the audience that a token must be meant for, such as `nodegate`",
        "protocol" => {
            "write `protocol: postgres` or `protocol: http`, or `protocol: tcp` for what is not looked into"
        }
        "ports" => "list the ports that belong to the target, such as `[5432]`",
        "identity" => {
            "name at least one issuer: `identity: { issuers: [{ name: …, issuer: …, audience: … }] }`"
        }
        "policy" => "write `policy: { dir: /etc/nodegate/policies }`",
        "audit" => "write `audit: { dir: /var/lib/nodegate }`",
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::{edit_distance, nearest};

    #[test]
    fn a_swap_of_neighbours_is_one_edit() {
        assert_eq!(edit_distance("prots", "ports"), 1);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("abc", ""), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }

    #[test]
    fn the_nearest_key_is_named_only_when_it_is_near() {
        let keys = ["audience", "issuer", "jwks_file", "ca"];
        assert_eq!(nearest("audiance", keys), Some("audience"));
        assert_eq!(nearest("Issuers", keys), Some("issuer"));
        assert_eq!(nearest("jwksfile", keys), Some("jwks_file"));
        assert_eq!(nearest("password", keys), None);
    }
}
