//! `targets:`, what agents may be let through to.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{Checker, Kind};
use crate::{
    config::{
        Cidr, checked,
        checked::Host,
        error::missing_hint,
        raw::{self, At},
    },
    domain::{
        action::TargetFacts,
        credential::PasswordSource,
        decision::Notices,
        way::{UpstreamFrom, Way},
    },
};

impl Checker {
    pub(super) fn targets(&mut self, raw: &At<Vec<At<raw::Target>>>) -> Option<Vec<checked::Target>> {
        if raw.value.is_empty() {
            let hint = "what is no target is refused: list what agents may reach";
            self.note(raw, "no target is listed".to_owned(), Some(hint));
            return None;
        }
        let mut targets: Vec<checked::Target> = Vec::new();
        let mut complete = true;
        for entry in &raw.value {
            let Some(target) = self.target(entry) else {
                complete = false;
                continue;
            };
            for other in &targets {
                if other.facts.name == target.facts.name {
                    self.note(
                        &entry.value.name,
                        format!("a second target is named `{}`", target.facts.name),
                        None,
                    );
                } else if takes_datagrams(other) == takes_datagrams(&target)
                    && let Some(shared) = shared_address(other, &target)
                {
                    let what =
                        format!("`{}` and `{}` both claim {shared}", other.facts.name, target.facts.name);
                    let hint = "an address and port belong to one target, so that one credential and one set of rules hold";
                    self.note(&entry.value.name, what, Some(hint));
                }
            }
            targets.push(target);
        }
        complete.then_some(targets)
    }

    fn target(&mut self, entry: &At<raw::Target>) -> Option<checked::Target> {
        let raw = &entry.value;
        let name = self.name(&raw.name, "the target's name");
        let protocol = self.word(
            &raw.protocol,
            "protocol",
            &["postgres", "http", "tcp", "udp"],
            &["mysql", "kubernetes"],
        );
        let wildcards = raw.protocol.value == "http";
        let hosts: Vec<Option<Host>> = raw.hosts.iter().map(|host| self.host(host, wildcards)).collect();
        let cidrs: Vec<Option<Cidr>> = raw.cidrs.iter().map(|cidr| self.cidr(cidr)).collect();
        if raw.hosts.is_empty() && raw.cidrs.is_empty() {
            self.note(entry, "the target has no address".to_owned(), Some("list `hosts`, `cidrs` or both"));
            return None;
        }
        let ports = self.ports(&raw.ports);
        let tags = self.tags(&raw.tags);
        let upstream_from = self.upstream_from(raw.upstream_from.as_ref());
        let protocol = match protocol? {
            "tcp" => self.tcp(raw).map(checked::Protocol::Tcp),
            "udp" => self.udp(raw),
            "http" => self.http(entry).map(checked::Protocol::Http),
            _ => self.postgres(entry).map(checked::Protocol::Postgres),
        };
        Some(checked::Target {
            facts: TargetFacts { name: name?, tags: tags? },
            protocol: protocol?,
            hosts: hosts.into_iter().collect::<Option<_>>()?,
            cidrs: cidrs.into_iter().collect::<Option<_>>()?,
            ports: ports?,
            upstream_from: upstream_from?,
        })
    }

    fn upstream_from(&mut self, raw: Option<&At<String>>) -> Option<UpstreamFrom> {
        let Some(raw) = raw else { return Some(UpstreamFrom::default()) };
        let known: Vec<&'static str> = UpstreamFrom::ALL.iter().map(|from| from.name()).collect();
        self.word(raw, "upstream_from", &known, &[]).and_then(UpstreamFrom::named)
    }

    fn postgres(&mut self, entry: &At<raw::Target>) -> Option<checked::Postgres> {
        let raw = &entry.value;
        if let Some(inspect) = &raw.inspect {
            let what = "PostgreSQL is always looked into, so `inspect` has no meaning".to_owned();
            self.note(inspect, what, Some("leave it out, or write `protocol: tcp`"));
        }
        let database = self.optional_text(raw.database.as_ref(), "the database's name");
        let tls = self.there(entry, raw.tls.as_ref(), "tls").and_then(|tls| self.tls(tls));
        let credential = self
            .there(entry, raw.credential.as_ref(), "credential")
            .and_then(|credential| self.credential(credential));
        let notices = match &raw.concealed {
            None => Some(Notices::default()),
            Some(word) => self.word(word, "concealed", &["notice", "silent"], &[]).map(|word| match word {
                "silent" => Notices::Silent,
                _ => Notices::Sent,
            }),
        };
        Some(checked::Postgres { database: database?, tls: tls?, credential: credential?, notices: notices? })
    }

    /// A target whose bytes nobody looks into: what would look into them has no meaning.
    fn tcp(&mut self, raw: &raw::Target) -> Option<Way> {
        self.unused_all(raw, "tcp");
        let way = match &raw.inspect {
            None => Way::Relayed,
            Some(inspect) => {
                let known: Vec<&'static str> = Way::ALL.iter().map(|way| way.name()).collect();
                self.word(inspect, "inspect", &known, &[]).and_then(Way::named)?
            }
        };
        if let (Way::Direct, Some(from)) = (way, &raw.upstream_from) {
            let what = "with `inspect: none` the kernel connects where the agent is, so `upstream_from` has no \
                        meaning";
            self.note(from, what.to_owned(), Some("leave it out, or leave `inspect` out"));
        }
        Some(way)
    }

    /// A target for datagrams: the kernel lets them pass, so not even a relay has a meaning.
    fn udp(&mut self, raw: &raw::Target) -> Option<checked::Protocol> {
        self.unused_all(raw, "udp");
        self.unused(raw.inspect.as_ref(), "inspect", "udp");
        self.unused(raw.upstream_from.as_ref(), "upstream_from", "udp");
        if let Some(dns) = raw.ports.value.iter().find(|port| port.value == 53) {
            let what = "port 53 is where names are asked for, and policy judges each of them".to_owned();
            self.note(dns, what, Some("write permits for `dns:resolve` instead"));
            return None;
        }
        Some(checked::Protocol::Udp)
    }

    fn unused_all(&mut self, raw: &raw::Target, protocol: &str) {
        self.unused(raw.database.as_ref(), "database", protocol);
        self.unused(raw.tls.as_ref(), "tls", protocol);
        self.unused(raw.credential.as_ref(), "credential", protocol);
        self.unused(raw.concealed.as_ref(), "concealed", protocol);
        self.unused(raw.tags.values().next(), "tags", protocol);
    }

    /// A key that belongs to another protocol.
    pub(super) fn meaningless<T>(&mut self, at: Option<&At<T>>, key: &str, protocol: &str) {
        if let Some(at) = at {
            let what = format!("`{key}` has no meaning with `protocol: {protocol}`");
            self.note(at, what, Some("leave it out"));
        }
    }

    fn unused<T>(&mut self, at: Option<&At<T>>, key: &str, protocol: &str) {
        if let Some(at) = at {
            let what =
                format!("with `protocol: {protocol}` nothing is looked into, so `{key}` has no meaning");
            self.note(at, what, Some("leave it out"));
        }
    }

    /// A key that this protocol cannot do without.
    pub(super) fn there<'a, P, T>(
        &mut self,
        entry: &At<P>,
        value: Option<&'a T>,
        key: &str,
    ) -> Option<&'a T> {
        if value.is_none() {
            self.note(entry, format!("the key `{key}` is missing"), missing_hint(key));
        }
        value
    }

    fn host(&mut self, at: &At<String>, wildcards: bool) -> Option<Host> {
        let text = self.text(at, "the host")?;
        if text == "*" || text.starts_with("*.") {
            if !wildcards {
                let what = format!("`{}` stands for several hosts", text.escape_debug());
                self.note(at, what, Some("only targets with `protocol: http` may have wildcards"));
                return None;
            }
            let Some(above) = text.strip_prefix("*.") else { return Some(Host::Any) };
            let above = above.strip_suffix('.').unwrap_or(above).to_ascii_lowercase();
            if is_host_name(&above) {
                return Some(Host::Below(above));
            }
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            if address.is_unspecified() || address.is_multicast() {
                self.note(at, format!("{address} is no server's address"), None);
                return None;
            }
            return Some(Host::Address(address.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(&text).to_ascii_lowercase();
        if is_host_name(&name) {
            return Some(Host::Name(name));
        }
        let hint = if text.contains('/') {
            "networks go under `cidrs`"
        } else if text.contains(':') {
            "ports go under `ports`"
        } else {
            "write a DNS name or an IP address"
        };
        self.note(at, format!("`{}` is neither a host name nor an address", text.escape_debug()), Some(hint));
        None
    }

    fn cidr(&mut self, at: &At<String>) -> Option<Cidr> {
        match at.value.parse() {
            Ok(cidr) => Some(cidr),
            Err(error) => {
                let hint =
                    at.value.parse::<IpAddr>().is_ok().then_some("a single address goes under `hosts`");
                self.note(at, error.to_string().escape_debug().to_string(), hint);
                None
            }
        }
    }

    fn ports(&mut self, raw: &At<Vec<At<u32>>>) -> Option<Vec<u16>> {
        if raw.value.is_empty() {
            self.note(raw, "no port is listed".to_owned(), Some("PostgreSQL's own is 5432"));
            return None;
        }
        let mut ports = BTreeSet::new();
        for at in &raw.value {
            match u16::try_from(at.value) {
                Ok(port) if port > 0 => {
                    if !ports.insert(port) {
                        self.note(at, format!("port {port} is listed twice"), None);
                    }
                }
                _ => self.note(at, format!("{} is no port", at.value), Some("ports are 1 to 65535")),
            }
        }
        Some(ports.into_iter().collect())
    }

    fn tls(&mut self, at: &At<raw::Tls>) -> Option<checked::TargetTls> {
        let raw = &at.value;
        let client = self.word(&raw.client, "client", &["plaintext", "terminate"], &["passthrough"]);
        let upstream =
            self.there(at, raw.upstream.as_ref(), "upstream").and_then(|word| self.upstream(raw, word));
        let client = match client? {
            "terminate" => checked::ClientTls::Terminate,
            _ => checked::ClientTls::Plaintext,
        };
        Some(checked::TargetTls { client, upstream: upstream? })
    }

    fn upstream(&mut self, raw: &raw::Tls, word: &At<String>) -> Option<checked::UpstreamTls> {
        if matches!(word.value.as_str(), "allow" | "prefer" | "require" | "verify-ca") {
            let what = format!("`{}` would give the credential to whoever answers", word.value);
            let hint = "write `verify-full` with `ca`, or `disable` where plain text is meant";
            self.note(word, what, Some(hint));
            return None;
        }
        match (self.word(word, "upstream", &["verify-full", "disable"], &[])?, &raw.ca) {
            ("verify-full", Some(ca)) => {
                let ca = self.existing(ca, Kind::File);
                let server_name = self.optional_text(raw.server_name.as_ref(), "the server's name");
                let negotiation = match &raw.negotiation {
                    None => Some("request"),
                    Some(word) => self.word(word, "negotiation", &["request", "direct"], &[]),
                };
                let channel_binding = match &raw.channel_binding {
                    None => Some("prefer"),
                    Some(word) => self.word(word, "channel_binding", &["prefer", "require"], &[]),
                };
                Some(checked::UpstreamTls::VerifyFull {
                    ca: ca?,
                    server_name: server_name?,
                    negotiation: match negotiation? {
                        "direct" => checked::Negotiation::Direct,
                        _ => checked::Negotiation::Request,
                    },
                    channel_binding: match channel_binding? {
                        "require" => checked::ChannelBinding::Require,
                        _ => checked::ChannelBinding::Prefer,
                    },
                })
            }
            ("verify-full", None) => {
                let hint = "name the PEM file of the authority that signed the server's certificate";
                self.note(word, "`verify-full` needs `ca`".to_owned(), Some(hint));
                None
            }
            _ => {
                let unused = [&raw.ca, &raw.server_name, &raw.negotiation, &raw.channel_binding];
                let Some(unused) = unused.into_iter().flatten().next() else {
                    return Some(checked::UpstreamTls::Disable);
                };
                let what =
                    "with `upstream: disable` no certificate is checked, so this has no meaning".to_owned();
                self.note(unused, what, Some("write `upstream: verify-full`, or leave it out"));
                None
            }
        }
    }

    fn credential(&mut self, at: &At<raw::Credential>) -> Option<checked::Credential> {
        let raw = &at.value;
        self.meaningless(raw.bearer.as_ref(), "bearer", "postgres");
        self.meaningless(raw.basic.as_ref(), "basic", "postgres");
        self.meaningless(raw.header.as_ref(), "header", "postgres");
        self.meaningless(raw.query.as_ref(), "query", "postgres");
        let username = self
            .there(at, raw.username.as_ref(), "username")
            .and_then(|username| self.text(username, "the user's name"));
        let password =
            self.there(at, raw.password.as_ref(), "password").and_then(|password| self.secret(password));
        Some(checked::Credential { username: username?, password: password? })
    }

    /// Where a secret is found.
    pub(super) fn secret(&mut self, at: &At<raw::Password>) -> Option<PasswordSource> {
        let source = &at.value;
        match (&source.file, &source.environment, &source.kubernetes, &source.vault) {
            (Some(file), None, None, None) => self.existing(file, Kind::File).map(PasswordSource::File),
            (None, None, Some(secret), None) => self.kubernetes_secret(secret),
            (None, None, None, Some(secret)) => self.vault_secret(secret),
            (None, Some(at), None, None) => {
                let variable = self.variable(at)?;
                if std::env::var_os(&variable).is_none() {
                    let what =
                        format!("the daemon's environment has no variable `{}`", variable.escape_debug());
                    self.note(at, what, None);
                    return None;
                }
                Some(PasswordSource::Environment(variable))
            }
            _ => {
                let hint = "write `{ file: … }`, `{ environment: … }`, `{ kubernetes: … }` or `{ vault: … }`";
                self.note(at, "a password has one source".to_owned(), Some(hint));
                None
            }
        }
    }

    fn tags(
        &mut self,
        raw: &BTreeMap<String, At<Vec<At<String>>>>,
    ) -> Option<BTreeMap<String, BTreeSet<String>>> {
        let mut tags = BTreeMap::new();
        let mut complete = true;
        for (column, list) in raw {
            // A tag that matches no column protects nothing: at least its form must be right.
            if column.split('.').count() != 3 || column.split('.').any(|part| part.trim().is_empty()) {
                let what = format!("`{}` is not `schema.table.column`", column.escape_debug());
                self.note(list, what, Some("write all three parts, as in `public.customers.email`"));
                complete = false;
                continue;
            }
            if list.value.is_empty() {
                self.note(
                    list,
                    format!("`{column}` has no tag"),
                    Some("leave the column out, or list its tags"),
                );
                complete = false;
            }
            let names: Option<BTreeSet<String>> =
                list.value.iter().map(|tag| self.name(tag, "the tag")).collect();
            match names {
                Some(names) => drop(tags.insert(column.clone(), names)),
                None => complete = false,
            }
        }
        complete.then_some(tags)
    }
}

/// TCP and UDP ports have nothing to do with each other.
fn takes_datagrams(target: &checked::Target) -> bool {
    target.protocol == checked::Protocol::Udp
}

/// What two targets both claim, in words. Names are compared as names; that two names resolve to one address is
/// seen only when they are resolved.
fn shared_address(left: &checked::Target, right: &checked::Target) -> Option<String> {
    let port = left.ports.iter().find(|port| right.has_port(**port))?;
    if let Some(name) = left.host_names().find(|name| right.host_names().any(|other| other == *name)) {
        return Some(format!("{name} port {port}"));
    }
    let is_wildcard = |host: &&Host| matches!(host, Host::Below(_) | Host::Any);
    if let Some(host) = left.hosts.iter().filter(is_wildcard).find(|host| right.hosts.contains(host)) {
        return Some(format!("{host} port {port}"));
    }
    let right = networks(right);
    networks(left)
        .into_iter()
        .flat_map(|network| right.iter().map(move |other| (network, *other)))
        .find(|(network, other)| network.overlaps(other))
        .map(|(network, other)| {
            let narrower = if network.contains_network(&other) { other } else { network };
            format!("{narrower} port {port}")
        })
}

fn networks(target: &checked::Target) -> Vec<Cidr> {
    let single = target.hosts.iter().filter_map(|host| match host {
        Host::Address(address) => Some(Cidr::single(*address)),
        Host::Name(_) | Host::Below(_) | Host::Any => None,
    });
    single.chain(target.cidrs.iter().copied()).collect()
}

/// RFC 1123 §2.1, with the underscore that DNS allows and much internal naming uses.
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // A last label of digits alone makes it a malformed IPv4 address.
    let last_is_number =
        name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(label) && !last_is_number
}
