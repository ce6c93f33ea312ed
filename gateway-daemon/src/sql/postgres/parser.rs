//! libpg_query behind its caps: text in, parse tree out.
//!
//! Small texts are parsed side by side (the library keeps its state per thread); of large ones one at a time, so
//! that no crowd of them can take all memory with their trees.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pg_query::protobuf::RawStmt;

use super::error::SqlError;

static LARGE_TEXT: Mutex<()> = Mutex::new(());

/// Texts longer than this are parsed and walked one at a time.
const LARGE_TEXT_BYTES: usize = 32 * 1024;

/// Longest run of operator characters. At every `/*` the lexer first takes the whole run for an operator, so that
/// its work on nested comments without blanks grows with the square of the run.
const MAX_OPERATOR_RUN: usize = 1024;

/// The statements of a text, and its turn if it is a large one.
pub(super) struct Parsed {
    pub(super) statements: Vec<RawStmt>,
    _held: Option<MutexGuard<'static, ()>>,
}

/// Whether the text is fit to be given to the parser.
pub(super) fn check_size(text: &str, limit: usize) -> Result<(), SqlError> {
    if text.len() > limit {
        return Err(SqlError::TooLong { bytes: text.len(), limit });
    }
    if text.contains('\0') {
        return Err(SqlError::NulByte);
    }
    if longest_operator_run(text) > MAX_OPERATOR_RUN {
        return Err(SqlError::LongOperator { limit: MAX_OPERATOR_RUN });
    }
    Ok(())
}

/// Parses a text of at most `limit` bytes.
pub(super) fn parse(text: &str, limit: usize) -> Result<Parsed, SqlError> {
    check_size(text, limit)?;
    let held =
        (text.len() > LARGE_TEXT_BYTES).then(|| LARGE_TEXT.lock().unwrap_or_else(PoisonError::into_inner));
    // The binding asserts some shapes of the tree; a broken assertion must refuse the text, not end the session.
    let result = catch_unwind(AssertUnwindSafe(|| pg_query::parse(text, pg_query::ParserOptions::DEFAULT)))
        .map_err(|_| SqlError::Failed)?;
    match result {
        Ok(parsed) => Ok(Parsed { statements: parsed.protobuf.stmts, _held: held }),
        Err(pg_query::Error::Parse(message)) if is_depth(&message) => Err(SqlError::TooDeep),
        Err(pg_query::Error::Parse(message)) => Err(SqlError::Unreadable { message }),
        Err(pg_query::Error::Decode(cause)) if cause.to_string().contains("recursion limit") => {
            Err(SqlError::TooDeep)
        }
        Err(other) => Err(SqlError::Unreadable { message: other.to_string() }),
    }
}

/// Whether the parser gave up for depth: its own stack check, its serializer's, or the grammar's stack.
fn is_depth(message: &str) -> bool {
    message.starts_with("stack depth limit exceeded")
        || message.contains("nested too deeply")
        || message.starts_with("memory exhausted")
}

fn longest_operator_run(text: &str) -> usize {
    let is_operator = |byte: &u8| b"~!@#^&|`?+-*/%<>=".contains(byte);
    text.as_bytes()
        .chunk_by(|left, right| is_operator(left) == is_operator(right))
        .filter(|run| run.first().is_some_and(is_operator))
        .map(<[u8]>::len)
        .max()
        .unwrap_or(0)
}
