//! The Kubernetes API server, as far as this node needs it: which pods it has, and what they ask for.
//!
//! It knows nothing of cgroups or kernel programs: it tells what the API server says, and goes on telling the last
//! that it heard while the server is away.

mod client;
mod follow;
mod object;

pub use client::{ClientError, Settings};
pub use follow::follow;
