//! Socket addresses by role: a client's, a listener's and a target's are not interchangeable.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

/// Where the agent meant to connect, as it stood in its `connect()`. IPv4-mapped IPv6 addresses are
/// normalised to IPv4, so that one rule matches both spellings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OriginalDestination(SocketAddr);

impl OriginalDestination {
    /// Normalises `address`.
    pub fn new(address: SocketAddr) -> Self {
        Self(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// The normalised socket address.
    pub const fn socket_addr(self) -> SocketAddr {
        self.0
    }

    /// The normalised IP address.
    pub const fn ip(self) -> IpAddr {
        self.0.ip()
    }

    /// The port.
    pub const fn port(self) -> u16 {
        self.0.port()
    }
}

impl fmt::Display for OriginalDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The agent's own end of a captured connection, as the daemon's listener sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientAddr(pub SocketAddr);

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::OriginalDestination;

    #[test]
    fn a_v4_mapped_destination_is_the_v4_one() {
        let mapped = OriginalDestination::new("[::ffff:127.0.0.1]:5432".parse().unwrap());
        assert_eq!(mapped.socket_addr(), "127.0.0.1:5432".parse().unwrap());
    }
}
