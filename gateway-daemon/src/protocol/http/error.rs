//! Why bytes are not a message that has one reading. The texts are for the peer as well: they carry names and sizes, and
//! nothing of what the peer sent.

/// A message that is not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// LF without CR before it.
    #[error("a line ends with LF alone")]
    BareLineFeed,
    /// CR without LF behind it.
    #[error("a CR stands alone")]
    BareCarriageReturn,
    /// A NUL or another control character.
    #[error("a control character in {0}")]
    Control(&'static str),
    /// More than is read.
    #[error("{what} is over {limit} bytes")]
    TooLong {
        /// What.
        what: &'static str,
        /// What is taken.
        limit: usize,
    },
    /// More fields than are read.
    #[error("more than {0} fields")]
    TooManyFields(usize),
    /// The first line is no request line.
    #[error("the request line is not METHOD, one blank, TARGET, one blank, HTTP/1.1")]
    RequestLine,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    #[error("the version is neither HTTP/1.1 nor HTTP/1.0")]
    Version,
    /// The first line is no status line.
    #[error("the status line is not HTTP/1.1, one blank, three digits, one blank, PHRASE")]
    StatusLine,
    /// A target in none of the four forms, or in one that its method does not have.
    #[error("the request's target {0}")]
    Target(&'static str),
    /// A line that begins with a blank continues the one before it for some readers, and is a field for others.
    #[error("a folded field")]
    Folded,
    /// No colon, an empty name, or a name with other characters than a token has.
    #[error("a field's name is empty or has characters that no name has")]
    FieldName,
    /// Not exactly one Host.
    #[error("{0}")]
    Host(&'static str),
    /// A Content-Length that is not one plain number, or stands twice.
    #[error("Content-Length {0}")]
    ContentLength(&'static str),
    /// A Transfer-Encoding that is not `chunked` alone, or is where none may be.
    #[error("Transfer-Encoding {0}")]
    TransferEncoding(&'static str),
    /// Both lengths.
    #[error("Content-Length beside Transfer-Encoding")]
    TwoLengths,
    /// A field whose name some servers read as another's.
    #[error("a field's name is read as {0} by some servers")]
    Alias(&'static str),
    /// Connection names a field that does not belong to the connection.
    #[error("Connection names {0}")]
    Nominated(&'static str),
    /// A chunk that does not begin with its size in hexadecimal, or does not end after it.
    #[error("a chunk {0}")]
    Chunk(&'static str),
    /// A field that may not be a trailer.
    #[error("{0} among the trailers")]
    Trailer(&'static str),
    /// The other end closed inside a message.
    #[error("the connection was closed inside a message")]
    Truncated,
    /// A field of which there may be one.
    #[error("{0} stands twice")]
    Repeated(&'static str),
    /// An interim or final answer that nobody asked for.
    #[error("status {0} was not asked for")]
    Unasked(u16),
}
