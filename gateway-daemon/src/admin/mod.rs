//! The admin API on the Unix socket: HTTP/1.1 with JSON bodies. The peer's kernel credentials decide what a caller may
//! do, never the path or what it says about itself; a captured cgroup may enrol and ask who it is, and nothing else.

mod access;
mod answer;
pub mod api;
pub mod client;
mod control;
mod http;
mod peer;
mod routes;
mod server;
mod socket;
#[cfg(test)]
mod tests;

pub use control::{Control, ControlError, IdentityView, Status, TargetStatus, WorkloadStatus, seconds};
pub use http::{Watched, listen, watch};
pub use peer::Peer;
pub use server::serve;
pub use socket::{AdminSocket, SocketError};
