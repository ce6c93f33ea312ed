//! What a server sends.

mod encode;
mod fields;
mod parse;
mod row;

pub use encode::{data_row, error_response, notice_response};
pub use fields::Fields;
pub use parse::{parse, row_description, rows};
pub use row::{DataRow, Values};

/// One message, borrowed from its frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// A step of the login.
    Authentication(Authentication<'a>),
    /// The key that cancels this session's statements.
    BackendKeyData {
        /// The server process.
        process_id: u32,
        /// 4 bytes in protocol 3.0, up to 256 in 3.2.
        secret: &'a [u8],
    },
    /// A setting that the client is to know.
    ParameterStatus {
        /// The setting.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// The server waits for a statement.
    ReadyForQuery(TransactionStatus),
    /// The columns of the rows that follow.
    RowDescription(Vec<Field<'a>>),
    /// One row.
    DataRow(DataRow<'a>),
    /// A statement is done; the tag says what it did. See [`rows`].
    CommandComplete(&'a [u8]),
    /// An error; in a pipeline everything up to Sync is now skipped.
    ErrorResponse(Fields<'a>),
    /// A warning or note.
    NoticeResponse(Fields<'a>),
    /// A statement is prepared.
    ParseComplete,
    /// A portal is made.
    BindComplete,
    /// A statement or portal is gone.
    CloseComplete,
    /// What was described returns no rows.
    NoData,
    /// The parameter types of a prepared statement.
    ParameterDescription(Vec<u32>),
    /// Execute reached its row limit.
    PortalSuspended,
    /// The text held no statement.
    EmptyQueryResponse,
    /// COPY FROM STDIN begins.
    CopyInResponse(CopyFormats),
    /// COPY TO STDOUT begins.
    CopyOutResponse(CopyFormats),
    /// Replication begins.
    CopyBothResponse(CopyFormats),
    /// A piece of COPY data.
    CopyData(&'a [u8]),
    /// End of COPY data.
    CopyDone,
    /// NOTIFY by some session.
    NotificationResponse {
        /// The session that notified.
        process_id: u32,
        /// The channel.
        channel: &'a [u8],
        /// What it said.
        payload: &'a [u8],
    },
    /// The server speaks only an older minor version, or does not know some `_pq_.` options.
    NegotiateProtocolVersion {
        /// The newest version that it speaks, as in a StartupMessage: `3 << 16 | minor`.
        version: u32,
        /// The options that it does not know.
        unrecognised: Vec<&'a [u8]>,
    },
    /// The result of a fastpath call; `None` is NULL.
    FunctionCallResponse(Option<&'a [u8]>),
}

/// What the server asks of the client to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// Nothing more.
    Ok,
    /// The password itself.
    Cleartext,
    /// The password, hashed with the user's name and this salt.
    Md5 {
        /// Four random bytes.
        salt: [u8; 4],
    },
    /// One of these SASL mechanisms.
    Sasl {
        /// By name, the server's favourite first.
        mechanisms: Vec<&'a [u8]>,
    },
    /// The SASL exchange goes on with this challenge.
    SaslContinue(&'a [u8]),
    /// The SASL exchange is over; this proves the server.
    SaslFinal(&'a [u8]),
    /// A method that is not spoken here (Kerberos, GSSAPI, SSPI), by its code.
    Other(u32),
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// Outside a transaction block.
    Idle,
    /// In a transaction block.
    InTransaction,
    /// In a transaction block that can only be rolled back.
    Failed,
}

impl TransactionStatus {
    /// As it stands in ReadyForQuery.
    pub const fn as_byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }
}

/// One column of a RowDescription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name that the statement gave it. It proves nothing about where the value comes from.
    pub name: &'a [u8],
    /// The table that the value comes from unchanged, or 0.
    pub table_oid: u32,
    /// The column of that table, or 0.
    pub attribute: i16,
    /// The value's type.
    pub type_oid: u32,
    /// `pg_type.typlen`; negative for variable sizes.
    pub type_size: i16,
    /// `pg_attribute.atttypmod`.
    pub type_modifier: i32,
    /// 0 text, 1 binary; 0 while it is not known yet.
    pub format: i16,
}

/// How COPY data are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyFormats {
    /// 0 text, 1 binary.
    pub overall: i16,
    /// By column.
    pub columns: Vec<i16>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests;
