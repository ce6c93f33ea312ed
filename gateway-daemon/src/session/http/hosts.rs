//! Which hosts a target stands for, and what makes a client's word for one believable.

use std::{net::IpAddr, sync::Arc};

use crate::protocol::http::Host;

/// Where a target is, as its configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A name.
    Name(String),
    /// Every name below this one.
    Below(String),
    /// Whatever no other target names.
    Any,
}

/// The names of a target, and those of the others at its ports.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    /// Its own.
    pub own: Vec<Place>,
    /// Those of the others: a wildcard does not cover what another target names more closely.
    pub others: Vec<Place>,
}

/// Who vouches that the server at the other end is the one that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Its certificate will have to bear the name.
    Certificate,
    /// Nobody but the DNS and the configuration.
    None,
}

impl Hosts {
    /// Whether a request for `host` on a connection that was dialled to `address` belongs to this target; `asked` are the
    /// names that trusted servers gave this address for.
    pub fn admit(&self, host: &Host, address: IpAddr, asked: &[Arc<str>], proof: Proof) -> bool {
        let name = match host {
            Host::Address(named) => return named.to_canonical() == address.to_canonical(),
            Host::Name(name) => name.as_ref(),
        };
        let was_asked = asked.iter().any(|asked| asked.as_ref() == name);
        match (closeness(&self.own, name), closeness(&self.others, name)) {
            (Some(own), Some(other)) if other > own => false,
            // A name that the operator wrote down is his word; under a wildcard it would be the agent's.
            (Some(Closeness::Exact), _) => true,
            (Some(_), _) => was_asked || proof == Proof::Certificate,
            (None, Some(_)) => false,
            (None, None) => was_asked || self.completes(name, asked),
        }
    }

    /// Whether the operator named this host, and did not only let it in.
    pub fn names(&self, host: &Host) -> bool {
        match host {
            Host::Address(_) => !self.own.contains(&Place::Any),
            Host::Name(name) => closeness(&self.own, name) == Some(Closeness::Exact),
        }
    }

    /// Whether a search list makes a name of the target's out of it: `api` for `api.internal`.
    fn completes(&self, short: &str, asked: &[Arc<str>]) -> bool {
        let own = self.own.iter().filter_map(|place| match place {
            Place::Name(name) => Some(name.as_str()),
            Place::Below(_) | Place::Any => None,
        });
        let mut all = own.chain(asked.iter().map(AsRef::as_ref));
        all.any(|name| name.strip_prefix(short).is_some_and(|rest| rest.starts_with('.')))
    }
}

/// How closely something names a host; the later the closer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Closeness {
    Rest,
    Below(usize),
    Exact,
}

fn closeness(places: &[Place], name: &str) -> Option<Closeness> {
    let close = |place: &Place| match place {
        Place::Name(own) => (own == name).then_some(Closeness::Exact),
        Place::Below(above) => {
            let labels = name.strip_suffix(above.as_str()).and_then(|labels| labels.strip_suffix('.'));
            labels.filter(|labels| !labels.is_empty()).map(|_| Closeness::Below(above.len()))
        }
        Place::Any => Some(Closeness::Rest),
    };
    places.iter().filter_map(close).max()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::cloned_ref_to_slice_refs, reason = "tests")]
mod tests {
    use std::{net::IpAddr, sync::Arc};

    use super::{Hosts, Place, Proof};
    use crate::protocol::http::Host;

    fn admits(own: &[Place], others: &[Place], host: &str, asked: &[&str], proof: Proof) -> bool {
        let hosts = Hosts { own: own.to_vec(), others: others.to_vec() };
        let asked: Vec<Arc<str>> = asked.iter().map(|name| Arc::from(*name)).collect();
        let address: IpAddr = "10.0.0.7".parse().unwrap();
        hosts.admit(&Host::read(host.as_bytes()).unwrap(), address, &asked, proof)
    }

    #[test]
    fn a_listed_name_is_believed_and_a_wildcard_takes_a_proof() {
        let api = Place::Name("api.internal".to_owned());
        let below = Place::Below("internal".to_owned());
        for (own, others, host, asked, proof, expected) in [
            (&[api.clone()][..], &[][..], "api.internal", &[][..], Proof::None, true),
            (&[api.clone()], &[], "api", &[], Proof::None, true),
            (&[api.clone()], &[], "ap", &[], Proof::None, false),
            (&[api.clone()], &[], "other.internal", &[], Proof::Certificate, false),
            (&[api.clone()], &[], "10.0.0.7", &[], Proof::None, true),
            (&[api.clone()], &[], "10.0.0.8", &[], Proof::Certificate, false),
            (&[below.clone()], &[], "b.internal", &[], Proof::None, false),
            (&[below.clone()], &[], "b.internal", &["b.internal"], Proof::None, true),
            (&[below.clone()], &[], "b.internal", &["c.internal"], Proof::None, false),
            (&[below.clone()], &[], "b.internal", &[], Proof::Certificate, true),
            (&[below.clone()], &[], "internal", &[], Proof::Certificate, false),
            (&[below.clone()], &[], "binternal", &[], Proof::Certificate, false),
            // What another target names more closely is that one's.
            (&[below.clone()], &[api.clone()], "api.internal", &["api.internal"], Proof::Certificate, false),
            (&[Place::Any], &[below.clone()], "b.internal", &[], Proof::Certificate, false),
            (&[Place::Any], &[below], "example.com", &[], Proof::Certificate, true),
            (&[Place::Any], &[], "example.com", &[], Proof::None, false),
            // A target that is known by networks alone takes the DNS's word.
            (&[], &[], "example.com", &["example.com"], Proof::None, true),
            (&[], &[], "example.com", &[], Proof::Certificate, false),
            (&[], &[api], "api.internal", &["api.internal"], Proof::None, false),
        ] {
            assert_eq!(
                admits(own, others, host, asked, proof),
                expected,
                "{own:?} {others:?} {host} {asked:?}"
            );
        }
    }
}
