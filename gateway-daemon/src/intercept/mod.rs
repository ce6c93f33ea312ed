//! Capture: the kernel programs, their pins, the listeners inside network namespaces, and the cgroups.
//! [`Intercept`] is the handle; it yields one [`Arrival`] for each captured connection
//! and one [`Query`] for each datagram to a DNS server.
//!
//! It knows nothing of identities, targets or protocols. `unsafe` lives in `sys.rs` alone.

mod accept;
mod capture;
mod cgroups;
mod error;
mod handle;
mod kernel;
mod links;
mod namespaces;
mod passages;
pub mod probe;
mod queries;
mod refusals;
mod runs;
mod sys;
mod upkeep;
mod watch;

#[cfg(test)]
mod tests;

pub use accept::{Arrival, Unattributed};
pub use error::InterceptError;
pub use handle::{Intercept, Settings, Streams};
pub use passages::{DatagramFlow, Passage};
pub use queries::{Query, Reply};
pub use refusals::{KernelRefusal, RefusalReason};
