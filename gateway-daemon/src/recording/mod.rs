//! Recordings: what the client of a session asked, how it was decided, and what it saw, as files that can be shown
//! and replayed. Sessions hand over entries and never wait; one thread writes.
//!
//! # Files
//!
//! `<audit.dir>/recordings/YYYY/MM/DD/<session>.jsonl.zst`, by the day (UTC) on which the session began, readable by
//! root alone: one JSON object a line ([`Record`]), in zstd frames that follow each other, each with a checksum. A frame
//! is written when a session has had something to write for two seconds, when much of it has come together, and at its
//! end; so a crash takes the last seconds, and a file is readable up to its last whole frame. `zstdcat` reads one.
//!
//! This room knows nothing of protocols, sockets and policies. Whoever hands rows over has masked them.

mod error;
mod layout;
mod queue;
mod read;
mod record;
mod recorder;
mod retention;
mod rows;
mod writer;

pub use error::{ReadError, RecordingError};
pub use layout::{Filed, find, walk};
pub use read::{Read, Summary, read, summary};
pub use record::{
    Answered, Asked, Cell, Column, Cut, End, Failed, Format, Gap, Header, Parameter, Record, ResultSet, Said,
};
pub use recorder::{OnFailure, Recorder, SessionRecorder, Settings, Tally};
pub use retention::Removed;
pub use rows::PackedRows;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests;
