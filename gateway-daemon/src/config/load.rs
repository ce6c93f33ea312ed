//! From a path to a checked configuration.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{ConfigError, Problem, check, checked, raw};

/// A configuration file is a page or two; one beyond this is something else.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads and checks the configuration at `path`. Relative paths in it count from its own directory. Blocking.
///
/// Every problem that can be told apart is reported at once, with its place. Secrets are not read, only looked for.
pub fn load(path: &Path) -> Result<checked::Config, ConfigError> {
    let whole = |what: String, hint: Option<&str>| {
        ConfigError::new(path, vec![Problem { position: None, what, hint: hint.map(str::to_owned) }])
    };
    let file =
        std::path::absolute(path).map_err(|error| whole(format!("not a usable path: {error}"), None))?;
    let text = read(&file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            whole("there is no such file".to_owned(), Some("name the configuration with `--config FILE`"))
        }
        io::ErrorKind::PermissionDenied => whole(
            "the file may not be read".to_owned(),
            Some("run as a user who may read it, or change its mode"),
        ),
        _ => whole(format!("the file cannot be read: {error}"), None),
    })?;
    let raw: raw::Config =
        serde_saphyr::from_str(&text).map_err(|error| ConfigError::from_yaml(path, &error))?;
    let directory: PathBuf = file.parent().map_or_else(PathBuf::new, Path::to_owned);
    check::check(&raw, &file, &directory).map_err(|problems| ConfigError::new(path, problems))
}

fn read(file: &Path) -> io::Result<String> {
    let metadata = std::fs::metadata(file)?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    std::fs::read_to_string(file)
}
