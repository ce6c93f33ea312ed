//! HTTP/1.1 messages (RFC 9112, RFC 9110): one reading or none.
//!
//! Whatever two readers could understand differently is malformed here, although RFC 9112 would let a recipient repair
//! much of it: a message that the daemon reads one way and the server another is one that nobody has judged. What is
//! understood goes on as the bytes that came: order, letter case and duplicates of fields, phrases, trailers. Only what
//! belongs to the connection and not to the message (RFC 9110 §7.6.1) is left out, and chunks are framed anew.

mod authority;
mod body;
mod error;
mod fields;
mod framing;
mod head;
mod path;
mod query;
mod request;
mod response;
mod sniff;
mod syntax;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests;

/// The name of HTTP/1.1 in TLS (RFC 7301).
pub const ALPN: &[u8] = b"http/1.1";

pub use authority::{Authority, Host};
pub use body::{Body, Part, Progress, put_chunk, put_last_chunk};
pub use error::Malformed;
pub use fields::{Field, Fields};
pub use framing::Framing;
pub use head::{HeadEnd, Limits};
pub use path::{PathError, readings};
pub use query::{Parameters, parameters};
pub use request::{Form, Request, Version};
pub use response::Response;
pub use sniff::{Sniff, sniff};
