//! The fields of ErrorResponse and NoticeResponse. Their texts can quote rows and statements, so whoever
//! forwards them decides field by field.
//! <https://www.postgresql.org/docs/current/protocol-error-fields.html>

use super::super::super::wire::{Reader, WireError};

/// As many as there are codes: a list of empty texts would take many times the memory of its message.
const MAX_FIELDS: usize = 255;

/// Code and text of each field, in the server's order.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Fields<'a>(Vec<(u8, &'a [u8])>);

impl<'a> Fields<'a> {
    /// The localised severity.
    pub const SEVERITY: u8 = b'S';
    /// The severity in English.
    pub const SEVERITY_ENGLISH: u8 = b'V';
    /// The SQLSTATE.
    pub const SQLSTATE: u8 = b'C';
    /// What went wrong, in one line.
    pub const MESSAGE: u8 = b'M';
    /// More about it. Can quote values.
    pub const DETAIL: u8 = b'D';
    /// What to do.
    pub const HINT: u8 = b'H';
    /// Where in the client's statement, counted in characters from 1.
    pub const POSITION: u8 = b'P';
    /// Where in `INTERNAL_QUERY`.
    pub const INTERNAL_POSITION: u8 = b'p';
    /// A statement that the server or a function made itself. Can quote values.
    pub const INTERNAL_QUERY: u8 = b'q';
    /// The call stack. Can quote values.
    pub const CONTEXT: u8 = b'W';
    /// The schema of the object concerned.
    pub const SCHEMA: u8 = b's';
    /// The table concerned.
    pub const TABLE: u8 = b't';
    /// The column concerned.
    pub const COLUMN: u8 = b'c';
    /// The type concerned.
    pub const DATA_TYPE: u8 = b'd';
    /// The constraint concerned.
    pub const CONSTRAINT: u8 = b'n';
    /// Source file of the server.
    pub const FILE: u8 = b'F';
    /// Source line of the server.
    pub const LINE: u8 = b'L';
    /// Source function of the server.
    pub const ROUTINE: u8 = b'R';

    /// A refusal of the daemon's own: severity (`ERROR` or `FATAL`), SQLSTATE, message and hint.
    pub fn refusal(severity: &'a str, sqlstate: &'a str, message: &'a str, hint: Option<&'a str>) -> Self {
        let mut fields = vec![
            (Self::SEVERITY, severity.as_bytes()),
            (Self::SEVERITY_ENGLISH, severity.as_bytes()),
            (Self::SQLSTATE, sqlstate.as_bytes()),
            (Self::MESSAGE, message.as_bytes()),
        ];
        fields.extend(hint.map(|hint| (Self::HINT, hint.as_bytes())));
        Self(fields)
    }

    /// From code and text. A code of 0 is refused when the message is written.
    pub const fn new(fields: Vec<(u8, &'a [u8])>) -> Self {
        Self(fields)
    }

    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let mut fields = Vec::new();
        loop {
            match reader.u8("field code")? {
                0 => return Ok(Self(fields)),
                code if fields.len() < MAX_FIELDS => fields.push((code, reader.cstr("field text")?)),
                _ => {
                    return Err(WireError::TooLong {
                        what: "fields",
                        length: fields.len(),
                        limit: MAX_FIELDS,
                    });
                }
            }
        }
    }

    /// All fields in order.
    pub fn as_slice(&self) -> &[(u8, &'a [u8])] {
        &self.0
    }

    /// The first field of that code.
    pub fn field(&self, code: u8) -> Option<&'a [u8]> {
        self.0.iter().find(|(other, _)| *other == code).map(|(_, text)| *text)
    }

    /// Whether the server ends the connection with it.
    pub fn is_fatal(&self) -> bool {
        matches!(self.field(Self::SEVERITY_ENGLISH), Some(b"FATAL" | b"PANIC"))
    }

    /// Only the fields of these codes.
    #[must_use]
    pub fn keep(mut self, codes: &[u8]) -> Self {
        self.0.retain(|(code, _)| codes.contains(code));
        self
    }

    /// All but the fields of these codes.
    #[must_use]
    pub fn strip(mut self, codes: &[u8]) -> Self {
        self.0.retain(|(code, _)| !codes.contains(code));
        self
    }

    /// With this text instead of whatever the field held; added at the end if it was not there.
    #[must_use]
    pub fn replace(mut self, code: u8, text: &'a [u8]) -> Self {
        match self.0.iter_mut().find(|(other, _)| *other == code) {
            Some(field) => field.1 = text,
            None => self.0.push((code, text)),
        }
        self
    }
}

impl std::fmt::Debug for Fields<'_> {
    /// Texts can quote rows: only the SQLSTATE is shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sqlstate = self.field(Self::SQLSTATE).unwrap_or_default();
        write!(f, "Fields {{ sqlstate: {}, fields: {} }}", sqlstate.escape_ascii(), self.0.len())
    }
}
