//! Capture: the kernel programs, their pins, the listeners inside network namespaces, and the cgroups.
//! [`Intercept`] is the handle; it yields one [`Arrival`] for each captured connection
//! and one [`Query`] for each datagram to a DNS server.
//!
//! It knows nothing of identities, targets or protocols. `unsafe` lives in `sys.rs` alone.

mod accept;
mod brought;
mod btf;
mod capture;
mod cgroups;
mod diag;
mod direct;
mod error;
mod existing;
mod fields;
mod guard;
mod handle;
mod kernel;
mod kubepods;
mod labels;
mod links;
mod lookout;
mod moves;
mod namespaces;
mod passages;
mod pods;
pub mod probe;
mod process;
mod queries;
mod reach;
mod refusals;
mod remove;
mod reports;
mod runs;
mod sys;
mod unix;
mod upkeep;
mod upstream;
mod watch;

#[cfg(test)]
mod tests;

pub use accept::{Arrival, Unattributed};
pub use direct::{DirectFlow, Grant, Leave};
pub use error::InterceptError;
pub use existing::Existing;
pub use guard::UnixSockets;
pub use handle::{Intercept, LetGo, Settings, Streams, Successor};
pub use kernel::{MapFill, Succession};
pub use labels::Change;
pub use passages::{DatagramFlow, Passage, Reach};
pub use pods::UnknownPods;
pub use queries::{Query, Reply};
pub use refusals::{Fate, KernelRefusal, RefusalReason};
pub use remove::remove_all;
pub use upstream::{Doubt, NoUpstream};
