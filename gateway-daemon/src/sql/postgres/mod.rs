//! PostgreSQL: read with PostgreSQL's own grammar (libpg_query), judged by an exhaustive walk of its parse tree.
//!
//! What cannot be read is refused here; what can be read but not understood is marked opaque and left to
//! policy; what a column reference may mean is listed generously. SQL is never written, only read.

#![allow(clippy::unnested_or_patterns, reason = "groups of node kinds are macros, named side by side")]

mod alter_table;
mod automatic;
mod bodies;
mod body;
mod columns;
mod computable;
mod ddl;
mod ddl_objects;
mod ddl_parts;
mod ddl_relations;
mod dml;
mod error;
mod expression;
mod function_call;
mod functions;
mod lineage;
mod literals;
mod names;
mod nodes;
mod offline;
mod parser;
mod provision;
mod query;
mod reach;
mod reader;
mod relations;
mod replication;
mod scope;
mod settings;
mod shape;
pub mod snapshot;
mod source;
mod statement;
mod total;
mod touched;
mod typing;
mod value;
mod written;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests;

pub use error::{SqlError, UNREADABLE};
pub use function_call::{CalledFunction, Shows, function_call, works_on_large_objects};
pub use lineage::{Origin, Shown, trace_columns, unknown_relations};
pub use literals::without_literals;
pub use offline::offline_catalogue;
pub use provision::{Access, provision};
pub use reach::{Reach, Speaker, reach, reach_of_all, reach_of_deferred};
pub use reader::{MAX_TEXT_BYTES, Text, read, read_text};
pub use replication::{Connection, beside_masks, replication_command, why_unmasked};
pub use settings::{moves_names, startup_settings};
pub use shape::Shape;
pub use written::{Arrival, Carried, CopyFormat, CopyIn, Executes, Rows, Sink, Way, Written, written};

/// The major version of PostgreSQL whose grammar reads the statements.
pub const GRAMMAR_VERSION: u32 = 18;
