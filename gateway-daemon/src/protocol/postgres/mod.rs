//! PostgreSQL's frontend/backend protocol, versions 3.0 and 3.2.
//! <https://www.postgresql.org/docs/current/protocol.html>

pub mod auth;
pub mod backend;
pub mod copy_rows;
mod encode;
mod fields;
mod frame;
pub mod frontend;
mod sniff;
mod startup;

use fields::{format, formats, many};
/// The application protocol of TLS that begins without SSLRequest (PostgreSQL 17).
pub const ALPN: &[u8] = b"postgresql";

pub use frame::{Frame, HEADER_BYTES, peek_header, split_frame};
pub use sniff::{Sniff, sniff};
pub use startup::{MAX_STARTUP_BYTES, StartupPacket, split_startup};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod fixtures;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod splitting;
