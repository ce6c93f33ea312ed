//! Original destination → target of the configuration. Names are resolved beforehand, so that no look-up stands in a
//! flow's way.

mod http;
mod postgres;
mod tls;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::ahead::Place;
use crate::{
    config::{Cidr, checked},
    domain::{action::TargetFacts, address::OriginalDestination, ids::TargetName, way::Way},
    session::{dns::TargetNames, http::HttpTarget, postgres::PostgresTarget, tcp::TcpTarget},
    tls::originate::TlsError,
};

/// How many configurations' targets there have been.
static GENERATIONS: AtomicU64 = AtomicU64::new(0);

/// One target, with what its protocol takes.
#[derive(Debug, Clone)]
pub enum Target {
    /// PostgreSQL.
    Postgres(Arc<PostgresTarget>),
    /// HTTP.
    Http(Arc<HttpTarget>),
    /// Bytes that nobody looks into.
    Tcp(Arc<TcpTarget>),
}

impl Target {
    /// Its name and tags.
    pub fn facts(&self) -> &TargetFacts {
        match self {
            Self::Postgres(target) => &target.facts,
            Self::Http(target) => &target.facts,
            Self::Tcp(target) => &target.facts,
        }
    }

    /// Whether the kernel lets connections to it pass, once it knows whose may.
    pub fn goes_direct(&self) -> bool {
        match self {
            Self::Postgres(_) | Self::Http(_) => false,
            Self::Tcp(target) => target.way == Way::Direct,
        }
    }

    /// `None` for one that takes datagrams.
    fn new(target: &checked::Target, all: &[checked::Target]) -> Result<Option<Self>, TlsError> {
        Ok(match &target.protocol {
            checked::Protocol::Udp => None,
            checked::Protocol::Tcp(way) => Some(Self::Tcp(Arc::new(TcpTarget {
                facts: target.facts.clone(),
                way: *way,
                from: target.upstream_from,
            }))),
            checked::Protocol::Http(http) => Some(Self::Http(Arc::new(http::target(target, http, all)?))),
            checked::Protocol::Postgres(postgres) => {
                Some(Self::Postgres(Arc::new(postgres::target(target, postgres)?)))
            }
        })
    }
}

/// All targets, with their names as last resolved.
#[derive(Debug, Default)]
pub struct Targets {
    entries: Vec<Entry>,
    datagrams: Vec<DatagramTarget>,
    generation: u64,
}

/// A target for datagrams.
#[derive(Debug, Clone)]
pub struct DatagramTarget {
    /// As the configuration has it.
    pub config: checked::Target,
    /// The addresses that its names were last resolved to by the daemon.
    pub resolved: Vec<IpAddr>,
}

#[derive(Debug, Clone)]
struct Entry {
    config: checked::Target,
    target: Target,
    resolved: Vec<IpAddr>,
}

impl Targets {
    /// The targets of a configuration; names are not resolved yet.
    ///
    /// # Errors
    /// A CA file that cannot be used, or a server name that is none.
    pub fn new(config: &[checked::Target]) -> Result<Self, TlsError> {
        let mut targets =
            Self { generation: GENERATIONS.fetch_add(1, Ordering::Relaxed) + 1, ..Self::default() };
        for one in config {
            let (config, all, resolved) = (one.clone(), config, Vec::new());
            match Target::new(&config, all)? {
                Some(target) => targets.entries.push(Entry { config, target, resolved }),
                None => targets.datagrams.push(DatagramTarget { config, resolved }),
            }
        }
        Ok(targets)
    }

    /// The same targets with names resolved anew. A name that is absent keeps its addresses.
    #[must_use]
    pub fn with_resolved(&self, addresses: &HashMap<String, Vec<IpAddr>>) -> Self {
        let resolve = |config: &checked::Target, resolved: &mut Vec<IpAddr>| {
            if config.host_names().all(|name| addresses.contains_key(name)) {
                *resolved =
                    config.host_names().filter_map(|name| addresses.get(name)).flatten().copied().collect();
            }
        };
        let (mut entries, mut datagrams) = (self.entries.clone(), self.datagrams.clone());
        for entry in &mut entries {
            resolve(&entry.config, &mut entry.resolved);
        }
        for target in &mut datagrams {
            resolve(&target.config, &mut target.resolved);
        }
        Self { entries, datagrams, generation: self.generation }
    }

    /// Tells the targets of one configuration from those of another.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The target of that name that takes connections, as policies see it.
    pub fn facts(&self, name: &TargetName) -> Option<&TargetFacts> {
        let facts = self.entries.iter().map(|entry| entry.target.facts());
        facts.into_iter().find(|facts| facts.name == name.as_str())
    }

    fn configs(&self) -> impl Iterator<Item = &checked::Target> {
        let datagrams = self.datagrams.iter().map(|target| &target.config);
        self.entries.iter().map(|entry| &entry.config).chain(datagrams)
    }

    /// Those that take datagrams.
    pub fn datagrams(&self) -> &[DatagramTarget] {
        &self.datagrams
    }

    /// The target that datagrams to a destination belong to: that of the name which was asked for last, or the first.
    pub fn find_datagrams<S: AsRef<str>>(
        &self,
        destination: OriginalDestination,
        asked: &[S],
    ) -> Option<&DatagramTarget> {
        let at_port: Vec<&DatagramTarget> =
            self.datagrams.iter().filter(|target| target.config.has_port(destination.port())).collect();
        let has = |target: &DatagramTarget, name: &str| target.config.host_names().any(|host| host == name);
        let named = asked.iter().find_map(|name| at_port.iter().find(|target| has(target, name.as_ref())));
        let placed = || {
            at_port.iter().find(|target| {
                target.config.lists(destination) || target.resolved.contains(&destination.ip())
            })
        };
        named.or_else(placed).copied()
    }

    /// All names that targets are known by.
    pub fn host_names(&self) -> Vec<String> {
        self.configs().flat_map(checked::Target::host_names).map(ToOwned::to_owned).collect()
    }

    /// Names of targets, and whose they are.
    pub fn names(&self) -> TargetNames {
        let mut names = TargetNames::default();
        for config in self.configs() {
            for host in &config.hosts {
                match host {
                    checked::Host::Name(name) => names.add(name, &config.facts),
                    checked::Host::Below(name) => names.add_below(name, &config.facts),
                    checked::Host::Any => names.add_rest(&config.facts),
                    checked::Host::Address(_) => {}
                }
            }
        }
        names
    }

    /// The target that a destination belongs to. `asked` are the names that the agent was told this address for, by
    /// servers that can be believed, the latest first: the target of the first such name it is. Without one, a
    /// destination of two targets, whose names have come to resolve to one address, belongs to neither: nobody knows
    /// which policy is meant.
    pub fn find<S: AsRef<str>>(&self, destination: OriginalDestination, asked: &[S]) -> Option<&Target> {
        let at_port: Vec<&Entry> =
            self.entries.iter().filter(|entry| entry.config.has_port(destination.port())).collect();
        let named = asked.iter().find_map(|name| {
            at_port.iter().find(|entry| entry.config.host_names().any(|host| host == name.as_ref()))
        });
        if let Some(named) = named {
            return Some(&named.target);
        }
        // Then the narrowest wildcard that a name falls under.
        let below = asked.iter().find_map(|name| {
            let covering =
                at_port.iter().filter_map(|entry| Some((entry.config.covers_below(name.as_ref())?, entry)));
            covering.max_by_key(|(length, _)| *length)
        });
        if let Some((_, entry)) = below {
            return Some(&entry.target);
        }
        let mut found = self.entries.iter().filter(|entry| {
            entry.config.lists(destination)
                || (entry.config.has_port(destination.port()) && entry.resolved.contains(&destination.ip()))
        });
        let Some(first) = found.next() else {
            return at_port.iter().find(|entry| entry.config.is_for_the_rest()).map(|entry| &entry.target);
        };
        if let Some(second) = found.next() {
            let (first, second) = (&first.target.facts().name, &second.target.facts().name);
            tracing::warn!(%destination, first, second, "two targets resolve to one address: it is refused");
            return None;
        }
        Some(&first.target)
    }
}

impl Targets {
    /// The targets that go direct: name and tags, where they are, and which of those addresses are not meant: IPv4
    /// addresses inside a network of IPv6 ones, since the kernel side writes those as mapped.
    ///
    /// A port that another target with a name claims as well is not among the places: which of the two is meant depends
    /// on what the agent's DNS answers say.
    pub(super) fn direct(&self) -> impl Iterator<Item = (&TargetFacts, Vec<Place>, Vec<Place>)> {
        self.entries.iter().filter_map(|entry| {
            if !entry.target.goes_direct() {
                return None;
            }
            let disputed = |port: u16| {
                self.entries.iter().any(|other| {
                    other.config.facts.name != entry.config.facts.name
                        && other.config.has_port(port)
                        && other.config.host_names().next().is_some()
                })
            };
            let places: Vec<Place> = entry.places().filter(|place| !disputed(place.port)).collect();
            let mut exceptions = Vec::new();
            for place in &places {
                let v4 = Place { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix: 0, port: place.port };
                if place.address.is_ipv6() && place.prefix < 96 && !places.contains(&v4) {
                    exceptions.push(v4);
                }
            }
            Some((entry.target.facts(), places, exceptions))
        })
    }
}

impl Entry {
    /// Every network with every port.
    fn places(&self) -> impl Iterator<Item = Place> {
        let hosts = self.config.hosts.iter().filter_map(|host| match host {
            checked::Host::Address(address) => Some(Cidr::single(*address)),
            checked::Host::Name(_) | checked::Host::Below(_) | checked::Host::Any => None,
        });
        let resolved = self.resolved.iter().map(|address| Cidr::single(*address));
        hosts.chain(resolved).chain(self.config.cidrs.iter().copied()).flat_map(|network| {
            self.config.ports.iter().map(move |port| Place {
                address: network.network(),
                prefix: network.prefix(),
                port: *port,
            })
        })
    }
}
