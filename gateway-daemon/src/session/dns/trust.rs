//! Which servers can be believed about the addresses of targets.
//!
//! An agent chooses whom it asks, and a server of its own would tell it that any address is a target's: the daemon
//! would then log in there. So only the operator's servers teach: those in the node's own `/etc/resolv.conf`, asked
//! in the node's own network namespace, and those that the configuration lists, asked from anywhere but a namespace
//! that its inhabitants rule, where any address can be made to lead to them.

use std::{fs, net::IpAddr};

use crate::{
    domain::{action::ServerTrust, ids::NetnsCookie},
    intercept::Intercept,
};

/// The node's resolver configuration.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The operator's servers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trust {
    configured: Vec<IpAddr>,
    node: Vec<IpAddr>,
}

impl Trust {
    /// Those of the configuration, and those of the node as they are now.
    pub fn new(configured: &[IpAddr]) -> Self {
        let text = fs::read_to_string(RESOLV_CONF).unwrap_or_else(|error| {
            tracing::warn!(%error, "{RESOLV_CONF} cannot be read: only the servers of dns.trusted are trusted");
            String::new()
        });
        Self { configured: configured.to_vec(), node: name_servers(&text) }
    }

    /// The same with the node's servers looked up anew.
    #[must_use]
    pub fn renewed(&self) -> Self {
        Self::new(&self.configured)
    }

    /// Whether this server, asked from this network namespace, can be believed.
    pub fn of(&self, intercept: &Intercept, netns: NetnsCookie, server: IpAddr) -> ServerTrust {
        let at_home = netns == intercept.home();
        let trusted = if at_home {
            self.configured.contains(&server) || self.node.contains(&server)
        } else {
            // A loopback address is whoever listens in that namespace.
            self.configured.contains(&server)
                && !server.is_loopback()
                && !server.is_unspecified()
                && intercept.is_node_ruled(netns)
        };
        if trusted { ServerTrust::Trusted } else { ServerTrust::Untrusted }
    }
}

/// resolv.conf(5): `nameserver` and an address, the scope of which does not matter here. Without any, resolvers ask
/// the local host.
fn name_servers(text: &str) -> Vec<IpAddr> {
    let found: Vec<IpAddr> = text
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver")?.split_whitespace().next())
        .filter_map(|address| address.split('%').next()?.parse::<IpAddr>().ok())
        .map(|address| address.to_canonical())
        .collect();
    if found.is_empty() { vec![IpAddr::from([127, 0, 0, 1])] } else { found }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::name_servers;

    #[test]
    fn name_servers_are_read_as_resolvers_read_them() {
        let text = "# one\nsearch a b\nnameserver 10.0.0.2\nnameserver\tfe80::1%eth0\nnameserver x\noptions ndots:5\n";
        let expected: Vec<std::net::IpAddr> =
            ["10.0.0.2", "fe80::1"].map(|text| text.parse().unwrap()).into();
        assert_eq!(name_servers(text), expected);
        assert_eq!(name_servers(""), ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    }
}
