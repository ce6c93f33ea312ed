//! What may be computed of masked values, tried on real servers without nodegate: every line of the daemon's own list,
//! with every type that the line names and values that are meant to break it. One that fails for some value would be an
//! oracle.

mod bare;
mod expressions;
mod values;

pub use bare::{Bare, Version};
pub use expressions::{COMPOSED, Line, Probe, lines};
pub use values::{Database, databases, place, preparation};

/// The list that the daemon reads.
pub const LIST: &str = include_str!("../../../gateway-daemon/src/sql/postgres/computable.txt");
