//! Why bytes are not the message that they claim to be. Carries positions and sizes, never payload.

/// A malformed message. Nothing of it may be forwarded, and the connection that sent it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The message ends inside a field.
    #[error("{what}: {needed} bytes needed, {left} left")]
    Truncated {
        /// The field.
        what: &'static str,
        /// Bytes that the field takes.
        needed: usize,
        /// Bytes that the message still had.
        left: usize,
    },
    /// The message goes on after its last field.
    #[error("{what}: {count} bytes after its end")]
    TrailingBytes {
        /// The message.
        what: &'static str,
        /// How many bytes follow.
        count: usize,
    },
    /// A string without its terminating NUL.
    #[error("{what}: no terminating NUL")]
    Unterminated {
        /// The field.
        what: &'static str,
    },
    /// A NUL inside a string that would end it early at the reader.
    #[error("{what}: a NUL inside the text")]
    InteriorNul {
        /// The field.
        what: &'static str,
    },
    /// A length that no such field can have.
    #[error("{what}: length {length} is impossible")]
    InvalidLength {
        /// The field.
        what: &'static str,
        /// As it was on the wire.
        length: i64,
    },
    /// A length over the limit; no memory was reserved for it.
    #[error("{what}: {length} bytes, at most {limit} are taken")]
    TooLong {
        /// The field or message.
        what: &'static str,
        /// What the peer announced, or what was to be sent.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A value outside the set that the protocol knows.
    #[error("{what}: {value} is not a value that the protocol knows")]
    InvalidValue {
        /// The field.
        what: &'static str,
        /// As it was on the wire.
        value: i64,
    },
    /// Text that is not UTF-8.
    #[error("{what}: not UTF-8")]
    NotUtf8 {
        /// The field.
        what: &'static str,
    },
    /// A name that stands twice where it may stand once.
    #[error("{what}: stands twice")]
    Duplicate {
        /// The field.
        what: &'static str,
    },
    /// A message type that the sender may not use.
    #[error("unknown message type {tag:#04x}")]
    UnknownTag {
        /// The type byte.
        tag: u8,
    },
    /// A protocol version that is not spoken here.
    #[error("protocol version {major}.{minor} is not spoken")]
    UnsupportedVersion {
        /// Its major part.
        major: u16,
        /// Its minor part.
        minor: u16,
    },
}
