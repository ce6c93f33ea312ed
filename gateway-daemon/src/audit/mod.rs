//! The audit log: append-only, hash-chained, durable before anything of the request that it describes can be seen or
//! kept.
//!
//! # Files, below `<audit.dir>/audit/`
//!
//! | file | what |
//! |---|---|
//! | `log/<first sequence, 20 digits>.jsonl` | the log itself, in segments |
//! | `head.json` | the newest record known to be on disk a moment ago: shows a removed end |
//! | `anchor.json` | the last record that retention removed: what the rest is chained to |
//! | `index.sqlite` | a search index, made from the log and rebuilt from it when missing or broken |
//! | `torn-<sequence>-<time>.bin` | what a crash left of records that were never acknowledged |
//! | `lock` | held by the one daemon that writes |
//!
//! # The record format
//!
//! One JSON object a line, in exactly this order and without spaces outside `event`'s strings:
//!
//! ```text
//! {"seq":7,"time":1767225600000000,"synced":6,"prev":"<64 hex>","event":{…},"hash":"<64 hex>"}
//! ```
//!
//! - `seq` counts from 1 without gaps; `time` is Unix time in microseconds and never goes backwards;
//! - `synced` is the newest sequence number that was on disk before this record was written;
//! - `prev` is the `hash` of record `seq - 1`; 64 zeros in record 1;
//! - `hash` is the SHA-256, in lower-case hex, of the line's bytes from its first `{` up to and without
//!   `,"hash":"`, that is of everything but the last 75 bytes of the line. It so covers `prev`.
//!
//! Anybody can check it: `sed -n 7p FILE | sed 's/,"hash":"[0-9a-f]*"}$//' | tr -d '\n' | sha256sum`.
//!
//! The segment that is being written ends in empty lines: space laid out ahead of the records, so that a
//! commit writes data and no file metadata. `jq` skips them; they are cut when the segment is closed.
//!
//! # What the chain proves, and what it does not
//!
//! `verify` finds a record that was changed, removed, inserted or moved, and names it. The end of a chain has
//! nothing after it that could vouch for it: a removed tail is found through `head.json`, which is at most a
//! second old. Somebody who may write all these files can recompute the whole chain and `head.json`; only a
//! copy of a hash kept elsewhere finds that: `audit verify` prints the newest one, and `audit verify --kept`
//! checks it later. Removing old segments by hand and forging `anchor.json` is found as long as the record
//! that retention writes of each removal is missing.

pub mod error;
pub mod export;
pub mod query;
pub mod record;
pub mod search;
pub mod verify;

mod askers;
mod entry;
mod forward;
mod index;
mod layout;
mod log;
mod priority;
mod queue;
mod receipt;
mod recover;
mod retention;
mod segment;
mod tally;
mod upkeep;
mod writer;

pub use error::AuditError;
pub use export::{ExportError, export};
pub use log::{AuditLog, Settings, Submitter};
pub use query::{Order, Query};
pub use receipt::Receipt;
pub use record::{Digest, Record};
pub use search::{Source, search, search_in};
pub use tally::Tally;
pub use verify::{Finding, Kept, Verified, VerifyError, verify, verify_against};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests;
