//! What a recording is made of: one [`Record`] a line.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::{
    address::OriginalDestination,
    event::Outcome,
    ids::{CgroupId, PolicyId, SessionId, TargetName},
};

/// One line of a recording. `R` is how rows are held: packed while they are written, as cells once they are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record<R = Vec<Vec<Cell>>> {
    /// The first line: whose session it is.
    Session(Header),
    /// A request, as it was judged; written before it is forwarded.
    Request(Asked),
    /// What the client saw of the reply.
    Reply(Answered<R>),
    /// An error that the client saw of something that is not a request: a Parse, a Bind.
    Failure(Failed),
    /// Entries are missing here.
    Gap(Gap),
    /// The last line.
    End(End),
    /// A line that a later version writes.
    #[serde(other)]
    Unknown,
}

/// Whose session it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The session, as in the audit log.
    pub session: SessionId,
    /// Microseconds since 1970.
    pub at: u64,
    /// `<issuer url>|<subject>`.
    pub identity: String,
    /// The target's name.
    pub target: TargetName,
    /// The database that the session is in.
    pub database: String,
    /// Where the agent meant to go.
    pub destination: OriginalDestination,
    /// The captured cgroup.
    pub cgroup: CgroupId,
    /// Its path.
    pub workload: String,
    /// Its label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// `pid (comm)` of the caller.
    pub process: String,
}

/// A request and its decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Counts from 1 within the session.
    pub number: u64,
    /// Microseconds since 1970.
    pub at: u64,
    /// How it was decided.
    pub outcome: Outcome,
    /// The policies that decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyId>,
    /// Columns masked in its results, as `schema.table.column`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masked: Vec<String>,
    /// What the client was told of a refusal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The way out that it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The statement's text.
    pub text: String,
    /// The text's whole length, where it is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_bytes: Option<u64>,
    /// Constants, parameters and messages are left out: they may be values of masked columns.
    #[serde(default, skip_serializing_if = "is_false")]
    pub literals_withheld: bool,
    /// The parameters, as they were sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// Set when parameters are missing: the bytes that they took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters_missing_bytes: Option<u64>,
}

/// A parameter as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// The type that the client fixed; 0 leaves it to the server.
    pub type_oid: u32,
    /// How the value was written.
    pub format: Format,
    /// The value.
    pub value: Cell,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// As text.
    #[default]
    Text,
    /// In the type's binary format.
    Binary,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// NULL.
    Null,
    /// A text.
    Text(String),
    /// Bytes.
    Hex {
        /// In hex.
        hex: String,
    },
    /// The beginning of a long value.
    Cut {
        /// The beginning, as text.
        beginning: String,
        /// The whole length.
        bytes: u64,
    },
    /// Left out.
    Withheld {
        /// Its length.
        withheld_bytes: u64,
    },
}

/// What the client saw of a reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answered<R> {
    /// Of the request.
    pub number: u64,
    /// Microseconds since 1970, when the reply was complete.
    pub at: u64,
    /// Microseconds from forwarding to the end of the reply.
    pub duration_us: u64,
    /// Rows returned or affected.
    pub rows: u64,
    /// Bytes of the rows that the client got.
    pub bytes: u64,
    /// One for each statement that returned rows.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<ResultSet<R>>,
    /// What the server called each statement that it ran: `INSERT 0 1`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Notices and warnings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Said>,
    /// The error that it ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Said>,
    /// It never ran: something before it in its pipeline failed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub skipped: bool,
}

/// Rows with one description.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultSet<R> {
    /// Empty where nobody described them, and for COPY.
    pub columns: Arc<[Column]>,
    /// COPY data: each row has one cell, a line as it came.
    #[serde(default, skip_serializing_if = "is_false")]
    pub copy: bool,
    /// The rows, as the client saw them.
    pub rows: R,
    /// What is missing at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
}

/// Rows that the client saw and the recording does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cut {
    /// How many.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A result column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// As the client was told.
    pub name: String,
    /// The type's oid.
    pub type_oid: u32,
    /// How values are written.
    pub format: Format,
    /// The values are left out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub withheld: bool,
}

/// An error or a notice, as the client was told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Said {
    /// `ERROR`, `NOTICE`, …
    pub severity: String,
    /// Five characters.
    pub sqlstate: String,
    /// Empty where it is left out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// More of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The way out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

/// An error outside of requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Microseconds since 1970.
    pub at: u64,
    /// What the client was told.
    pub error: Said,
}

/// Entries are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Microseconds since 1970.
    pub at: u64,
    /// How many.
    pub entries: u64,
    /// Why.
    pub why: String,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Microseconds since 1970.
    pub at: u64,
    /// Why it ended.
    pub reason: String,
    /// Requests in all.
    pub requests: u64,
    /// Of those, refused ones.
    pub denied: u64,
}

impl Cell {
    /// A value as it was sent, of which no more than `limit` bytes are kept.
    pub fn of(value: Option<&[u8]>, format: Format, limit: usize) -> Self {
        let Some(value) = value else { return Self::Null };
        if value.len() > limit {
            let beginning = value.get(..limit).unwrap_or_default();
            let beginning = match format {
                Format::Text => String::from_utf8_lossy(beginning).into_owned(),
                Format::Binary => String::new(),
            };
            return Self::Cut { beginning, bytes: u64::try_from(value.len()).unwrap_or(u64::MAX) };
        }
        match (format, std::str::from_utf8(value)) {
            (Format::Text, Ok(text)) => Self::Text(text.to_owned()),
            _ => Self::Hex { hex: hex(value) },
        }
    }

    /// In place of a value of that length.
    pub fn withheld(bytes: usize) -> Self {
        Self::Withheld { withheld_bytes: u64::try_from(bytes).unwrap_or(u64::MAX) }
    }

    /// What it takes in memory, about.
    pub fn size(&self) -> usize {
        match self {
            Self::Null | Self::Withheld { .. } => 16,
            Self::Text(text) | Self::Hex { hex: text } | Self::Cut { beginning: text, .. } => 16 + text.len(),
        }
    }
}

/// Bytes in hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}
