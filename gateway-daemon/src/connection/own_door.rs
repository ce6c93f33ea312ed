//! The daemon's own HTTP listener is no destination: what watches the daemon is not for agents.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;

use super::Gateway;
use crate::domain::flow::Flow;

impl Gateway {
    /// Whether a flow is meant for the daemon's own HTTP listener. In a mode that does not enforce it would get there.
    pub(super) fn leads_to_own_door(&self, flow: &Flow) -> bool {
        let Some(own) = self.own_door else { return false };
        let wanted = flow.original_destination.socket_addr();
        if wanted.port() != own.port() {
            return false;
        }
        if !own.ip().is_unspecified() {
            return wanted.ip() == own.ip().to_canonical()
                && (!wanted.ip().is_loopback() || self.is_home(flow));
        }
        // It listens on every address of this network namespace.
        let Ok(interfaces) = getifaddrs() else { return true };
        let mut local = interfaces.filter_map(|interface| interface.address).filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        });
        if wanted.ip().is_loopback() || wanted.ip().is_unspecified() {
            self.is_home(flow)
        } else {
            local.any(|address| address == wanted.ip())
        }
    }

    /// Whether a flow comes from the daemon's own network namespace.
    fn is_home(&self, flow: &Flow) -> bool {
        self.intercept.is_home(flow.netns)
    }
}
