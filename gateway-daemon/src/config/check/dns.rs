//! `dns:`, the questions of agents.

use std::{net::IpAddr, time::Duration};

use super::{Checker, Zero};
use crate::config::{
    checked::{self, RefuseWith},
    raw::{self, At},
};

/// Resolvers wait five seconds: a dead server must be reported before they give up.
const TIMEOUT: Duration = Duration::from_secs(4);
const QUERIES_PER_SECOND: u32 = 100;
const ODD_BYTES_PER_MINUTE: u32 = 1024;

impl Checker {
    pub(super) fn dns(&mut self, raw: &raw::Dns) -> Option<checked::Dns> {
        let trusted: Vec<Option<IpAddr>> = raw.trusted.iter().map(|server| self.server(server)).collect();
        let refuse_with = match &raw.refuse_with {
            None => Some(RefuseWith::Refused),
            Some(word) => self
                .word(word, "refuse_with", &["refused", "nxdomain"], &[])
                .map(|word| if word == "refused" { RefuseWith::Refused } else { RefuseWith::NxDomain }),
        };
        let timeout = match &raw.timeout {
            None => Some(TIMEOUT),
            Some(timeout) => self.duration(timeout, Zero::Refused),
        };
        let queries_per_second = self.rate(raw.queries_per_second.as_ref(), QUERIES_PER_SECOND);
        Some(checked::Dns {
            trusted: trusted.into_iter().collect::<Option<_>>()?,
            refuse_with: refuse_with?,
            timeout: timeout?,
            queries_per_second: queries_per_second?,
            odd_bytes_per_minute: raw
                .odd_bytes_per_minute
                .as_ref()
                .map_or(ODD_BYTES_PER_MINUTE, |at| at.value),
        })
    }

    fn server(&mut self, at: &At<String>) -> Option<IpAddr> {
        match at.value.parse::<IpAddr>() {
            Ok(address) if !address.is_unspecified() && !address.is_multicast() => {
                Some(address.to_canonical())
            }
            _ => {
                let what = format!("`{}` is no server's address", at.value.escape_debug());
                self.note(at, what, Some("write an IP address without a port, such as 10.96.0.10"));
                None
            }
        }
    }

    fn rate(&mut self, at: Option<&At<u32>>, default: u32) -> Option<u32> {
        match at {
            None => Some(default),
            Some(at) if at.value == 0 => {
                self.note(at, "0 would refuse every question".to_owned(), Some("write 1 or more"));
                None
            }
            Some(at) => Some(at.value),
        }
    }
}
