//! Tokens given on the command line: by file or standard input, never as an argument, which everybody can read.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::admin::api::Token;

/// A signed token is a few KiB.
const MAX_TOKEN_BYTES: u64 = 32 << 10;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the token in {}: {source}", path.display())]
    Unreadable {
        /// The file; `-` for standard input.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing, or something that is no token.
    #[error("{} does not hold a token", .0.display())]
    NotAToken(PathBuf),
}

/// Reads a token from `path`; `-` is standard input.
pub fn read(path: &Path) -> Result<Token, TokenError> {
    let unreadable = |source| TokenError::Unreadable { path: path.to_owned(), source };
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(MAX_TOKEN_BYTES + 1).read_to_string(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(MAX_TOKEN_BYTES + 1).read_to_string(&mut text))
    };
    let length = read.map_err(unreadable)?;
    let token = text.trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if token.is_empty() || length as u64 > MAX_TOKEN_BYTES || !token.bytes().all(plain) {
        return Err(TokenError::NotAToken(path.to_owned()));
    }
    Ok(Token::new(token.to_owned()))
}
