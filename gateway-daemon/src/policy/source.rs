//! Policy files: which ones count, and their text.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::error::PolicyError;

/// Directories deeper than this are a loop of symbolic links.
const MAX_DEPTH: usize = 16;

/// One policy file's text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    /// Its path, for messages.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// Where policies come from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A file, or every `*.cedar` file below a directory.
    Path(PathBuf),
    /// Text that stands elsewhere, for example in a file of test cases.
    Inline(Source),
}

impl Origin {
    /// Reads everything behind `origins`, in their order, files sorted by path; a file that two of them name is
    /// read once.
    pub(super) fn read_all(origins: &[Self]) -> Result<Vec<Source>, PolicyError> {
        let mut sources: Vec<Source> = Vec::new();
        for origin in origins {
            match origin {
                Self::Inline(source) => sources.push(source.clone()),
                Self::Path(path) => {
                    for file in files(path)? {
                        let text = fs::read_to_string(&file)
                            .map_err(|source| PolicyError::Read { path: file.clone(), source })?;
                        if !sources.iter().any(|known| known.path == file) {
                            sources.push(Source { path: file, text });
                        }
                    }
                }
            }
        }
        Ok(sources)
    }
}

/// The policy files at `path`: itself if it is a file, else every `*.cedar` below it, sorted.
fn files(path: &Path) -> Result<Vec<PathBuf>, PolicyError> {
    let metadata =
        fs::metadata(path).map_err(|source| PolicyError::Read { path: path.to_owned(), source })?;
    if metadata.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    walk(path, MAX_DEPTH, &mut found)?;
    found.sort();
    Ok(found)
}

/// Links are followed and hidden entries left out: that is how a mounted ConfigMap looks (`..data` holds
/// the files, the visible names link into it), and each file must count once.
fn walk(dir: &Path, depth_left: usize, found: &mut Vec<PathBuf>) -> Result<(), PolicyError> {
    if depth_left == 0 {
        return Err(PolicyError::TooDeep { path: dir.to_owned() });
    }
    let unreadable = |source| PolicyError::Read { path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let metadata =
            fs::metadata(&path).map_err(|source| PolicyError::Read { path: path.clone(), source })?;
        if metadata.is_dir() {
            walk(&path, depth_left - 1, found)?;
        } else if path.extension().is_some_and(|extension| extension == "cedar") {
            found.push(path);
        }
    }
    Ok(())
}
