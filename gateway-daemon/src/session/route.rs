//! Where a session's connection to its target is made from, and where it leads.

use std::net::SocketAddr;

use crate::domain::{flow::Flow, ids::NetnsCookie};

/// Where to connect from and to.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// The agent's own network namespace.
    pub netns: NetnsCookie,
    /// The target's address.
    pub address: SocketAddr,
}

impl Route {
    /// The way that a flow would have gone by itself.
    pub fn of(flow: &Flow) -> Self {
        Self { netns: flow.netns, address: flow.original_destination.socket_addr() }
    }
}
