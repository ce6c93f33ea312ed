//! What a client sends after its startup packet.

mod encode;
mod parse;

pub use encode::{
    cancel_request, gssenc_request, password, sasl_initial_response, sasl_response, ssl_request, startup,
};
pub use parse::{bind_names, parse};

/// One message, borrowed from its frame. Names and texts are bytes: their encoding is the session's matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// Run this text, which may hold several statements.
    Query(&'a [u8]),
    /// Prepare a statement.
    Parse {
        /// Empty for the unnamed one.
        name: &'a [u8],
        /// One statement, or nothing.
        sql: &'a [u8],
        /// Types that the client fixes, by parameter; 0 leaves one to the server.
        parameter_types: Vec<u32>,
    },
    /// Make a portal of a prepared statement.
    Bind {
        /// Empty for the unnamed one.
        portal: &'a [u8],
        /// Empty for the unnamed one.
        statement: &'a [u8],
        /// 0 text, 1 binary: none, one for all, or one for each parameter.
        parameter_formats: Vec<i16>,
        /// `None` is NULL.
        parameters: Vec<Option<&'a [u8]>>,
        /// 0 text, 1 binary: none, one for all, or one for each result column.
        result_formats: Vec<i16>,
    },
    /// Ask for the parameters and columns of an object.
    Describe {
        /// Which sort of object.
        kind: Kind,
        /// Empty for the unnamed one.
        name: &'a [u8],
    },
    /// Forget an object.
    Close {
        /// Which sort of object.
        kind: Kind,
        /// Empty for the unnamed one.
        name: &'a [u8],
    },
    /// Run a portal.
    Execute {
        /// Empty for the unnamed one.
        portal: &'a [u8],
        /// 0 and less mean all.
        max_rows: i32,
    },
    /// Send what there is.
    Flush,
    /// End of a pipeline: errors stop being skipped here.
    Sync,
    /// A piece of COPY data.
    CopyData(&'a [u8]),
    /// End of COPY data.
    CopyDone,
    /// End COPY with this error.
    CopyFail(&'a [u8]),
    /// The legacy fastpath: call a function by oid.
    FunctionCall {
        /// The function's oid.
        function: u32,
        /// As in `Bind`.
        argument_formats: Vec<i16>,
        /// `None` is NULL.
        arguments: Vec<Option<&'a [u8]>>,
        /// 0 text, 1 binary.
        result_format: i16,
    },
    /// Any answer to an authentication request; what it holds depends on the request.
    Password(&'a [u8]),
    /// Good-bye.
    Terminate,
}

/// What `Describe` and `Close` name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests;
