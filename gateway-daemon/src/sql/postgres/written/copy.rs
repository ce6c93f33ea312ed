//! COPY … FROM STDIN: which field of its rows goes into which column, and how the rows are written.
//! <https://www.postgresql.org/docs/current/sql-copy.html>

use pg_query::{Node, NodeEnum, protobuf::CopyStmt};

use super::super::{
    error::SqlError,
    names::{definition, inner, setting_text},
};
use crate::domain::statement::ColumnName;

/// How the rows of COPY are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyIn {
    /// The column of each field, in order.
    pub columns: Vec<ColumnName>,
    /// How they are written.
    pub format: CopyFormat,
    /// Whether the rows are in the session's encoding, or in one that writes ASCII as itself.
    pub is_in_known_encoding: bool,
}

/// The formats of COPY, with what can be set of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyFormat {
    /// The server's own text format.
    Text {
        /// Between fields.
        delimiter: u8,
        /// Stands for NULL.
        null: Vec<u8>,
    },
    /// CSV.
    Csv {
        /// Between fields.
        delimiter: u8,
        /// Stands for NULL where it is not quoted.
        null: Vec<u8>,
        /// Around fields.
        quote: u8,
        /// Before a quote inside of one.
        escape: u8,
    },
    /// Binary.
    Binary,
}

/// How the rows of `stmt` are read.
pub(super) fn copy_in(stmt: &CopyStmt, columns: Vec<ColumnName>) -> Result<CopyIn, SqlError> {
    let (mut format, mut is_in_known_encoding) = (String::new(), true);
    let (mut delimiter, mut null, mut quote, mut escape) = (None, None, None, None);
    for option in &stmt.options {
        let option = definition(option)?;
        let value = option.arg.as_deref();
        match option.defname.as_str() {
            "format" => format = value.and_then(setting_text).unwrap_or_default(),
            "delimiter" => delimiter = value.and_then(byte),
            "null" => null = value.and_then(exact),
            "quote" => quote = value.and_then(byte),
            "escape" => escape = value.and_then(byte),
            "encoding" => {
                let name = value.and_then(setting_text).unwrap_or_default();
                let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
                is_in_known_encoding = name == "utf8"
                    || name == "unicode"
                    || ["sqlascii", "latin", "iso8859", "win", "euc", "koi8"]
                        .iter()
                        .any(|known| name.starts_with(known));
            }
            _ => {}
        }
    }
    let format = match format.as_str() {
        "binary" => CopyFormat::Binary,
        "csv" => {
            let quote = quote.unwrap_or(b'"');
            CopyFormat::Csv {
                delimiter: delimiter.unwrap_or(b','),
                null: null.unwrap_or_default(),
                quote,
                escape: escape.unwrap_or(quote),
            }
        }
        _ => CopyFormat::Text {
            delimiter: delimiter.unwrap_or(b'\t'),
            null: null.unwrap_or_else(|| b"\\N".to_vec()),
        },
    };
    Ok(CopyIn { columns, format, is_in_known_encoding })
}

fn exact(node: &Node) -> Option<Vec<u8>> {
    match inner(node)? {
        NodeEnum::String(string) => Some(string.sval.clone().into_bytes()),
        _ => None,
    }
}

fn byte(node: &Node) -> Option<u8> {
    exact(node)?.first().copied()
}
