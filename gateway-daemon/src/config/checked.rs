//! The configuration as the daemon uses it: parsed, with defaults filled in, every path absolute, every reference
//! resolved. Only [`load`](super::load()) makes one; secrets are not part of it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use super::Cidr;
use crate::domain::{
    action::TargetFacts,
    address::OriginalDestination,
    credential::PasswordSource,
    decision::Notices,
    ids::TargetName,
    mode::Modes,
    promise::Promise,
    way::{UpstreamFrom, Way},
};

/// Where the admin API is unless the configuration or the command line says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/nodegate/nodegate.sock";

/// A whole checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file that it came from, absolute.
    pub file: PathBuf,
    /// What is done with what policy refuses: on the node, for labels, for targets.
    pub modes: Modes,
    /// Who may vouch for an agent, and where tokens are found.
    pub identity: Identity,
    /// What agents may be let through to; at least one, no two with the same name or overlapping addresses.
    pub targets: Vec<Target>,
    /// Where policies are.
    pub policy: Policy,
    /// Where the audit log is.
    pub audit: Audit,
    /// What sessions saw, where that is recorded.
    pub recording: Option<Recording>,
    /// The admin API.
    pub admin: Admin,
    /// The kernel side.
    pub capture: Capture,
    /// Bounds on what captured agents can take.
    pub limits: Limits,
    /// Questions to the DNS.
    pub dns: Dns,
    /// This node's pods, where it has any.
    pub kubernetes: Option<Kubernetes>,
    /// Where Vault is, and how the daemon logs in there.
    pub vault: Option<Vault>,
}

/// Where Vault is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vault {
    /// An `https://` address without a path.
    pub address: String,
    /// PEM file of the authorities to trust; the system's if none.
    pub ca: Option<PathBuf>,
    /// Vault's own namespace.
    pub namespace: Option<String>,
    /// How the daemon logs in.
    pub login: VaultLogin,
}

/// How the daemon logs in at Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultLogin {
    /// With a token from a file.
    TokenFile(PathBuf),
    /// With the token of the daemon's service account.
    Kubernetes {
        /// Where the method is mounted.
        mount: String,
        /// The role there.
        role: String,
        /// The token; the pod's own if none.
        token_file: Option<PathBuf>,
    },
}

/// Who may vouch for an agent, and where tokens are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// At least one; names and issuer URLs are unique.
    pub issuers: Vec<Issuer>,
    /// At least one; tried in order.
    pub sources: Vec<Source>,
    /// How far clocks may be apart.
    pub leeway: Duration,
}

/// One OIDC issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// The name that policies use.
    pub name: String,
    /// The `iss` claim, exactly.
    pub issuer: String,
    /// One of these must be among a token's audiences; at least one.
    pub audiences: Vec<String>,
    /// The claim that lists groups.
    pub groups_claim: Option<String>,
    /// The claim that lists roles.
    pub roles_claim: Option<String>,
    /// Other claims that policies may use.
    pub claims: Vec<String>,
    /// Where its keys are found.
    pub keys: IssuerKeys,
}

/// Where an issuer's keys are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuerKeys {
    /// OIDC discovery over HTTPS.
    Discovery {
        /// PEM file of the authorities to trust instead of the system's.
        ca: Option<PathBuf>,
    },
    /// A local JWKS file.
    JwksFile(PathBuf),
}

/// Where a captured workload's token is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// POSTed on the admin socket.
    Enrolled,
    /// A file in the workload's own mount namespace; an absolute path there.
    File {
        /// The path as the workload sees it.
        path: PathBuf,
    },
    /// An environment variable of the workload's process.
    Environment {
        /// Its name.
        variable: String,
    },
}

/// One thing that agents may be let through to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name and column tags, as policies see them.
    pub facts: TargetFacts,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Names, resolved by the daemon, and single addresses.
    pub hosts: Vec<Host>,
    /// Ranges of addresses.
    pub cidrs: Vec<Cidr>,
    /// At least one; sorted, without doubles.
    pub ports: Vec<u16>,
    /// Where the daemon's connections to it are made.
    pub upstream_from: UpstreamFrom,
}

/// What is spoken at a target, and what that takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// PostgreSQL's frontend/backend protocol 3.
    Postgres(Postgres),
    /// HTTP/1.1.
    Http(Http),
    /// Bytes that nobody looks into: policy says who may connect, and no more.
    Tcp(Way),
    /// Datagrams that nobody looks into: policy says who may `connect`, and no more.
    Udp,
}

impl Protocol {
    /// As the configuration writes it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Http(_) => "http",
            Self::Tcp(_) => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// What HTTP takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Between agent and daemon.
    pub client: HttpClientTls,
    /// Between daemon and server; `None` is plain text, stated in the configuration.
    pub upstream: Option<HttpUpstreamTls>,
    /// What the daemon puts into requests; without one they go on with the agent's own.
    pub credential: Option<HttpCredential>,
}

/// Encryption between agent and daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpClientTls {
    /// None: the agent asks for `http://`.
    Plaintext,
    /// TLS under a certificate of the daemon's own authority: the agent asks for `https://`.
    Terminate,
    /// TLS that is the two ends' own: nothing in it is seen, and only its name is judged.
    Passthrough,
}

/// Encryption between daemon and server, always with chain and name checked. The name is the one that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUpstreamTls {
    /// PEM file of the authorities to trust; the system's without one.
    pub ca: Option<PathBuf>,
}

/// What proves to the server that a request comes from whom it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpCredential {
    /// `Authorization: Bearer`.
    Bearer(PasswordSource),
    /// `Authorization: Basic`.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: PasswordSource,
    },
    /// A field of its own.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: PasswordSource,
    },
    /// A parameter of the query.
    Query {
        /// Its name.
        name: String,
        /// Its value.
        value: PasswordSource,
    },
}

/// What PostgreSQL takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgres {
    /// The only database that sessions may open; `None` leaves it to policy and to the server.
    pub database: Option<String>,
    /// Encryption on both sides.
    pub tls: TargetTls,
    /// The login that the daemon uses.
    pub credential: Credential,
    /// Whether agents are told which columns are concealed.
    pub notices: Notices,
}

/// A target's host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name, lower case, without a trailing dot.
    Name(String),
    /// A literal address, IPv4-mapped ones as IPv4.
    Address(IpAddr),
    /// Every name below this one, but not the name itself: `*.example.com`. HTTP only.
    Below(String),
    /// Every name and address that no other target lists: `*`. HTTP only.
    Any,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// Encryption on both sides of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetTls {
    /// Between agent and daemon: the node's own loopback.
    pub client: ClientTls,
    /// Between daemon and server.
    pub upstream: UpstreamTls,
}

/// Encryption between agent and daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientTls {
    /// SSLRequest is answered with `N`.
    Plaintext,
    /// Whoever asks for TLS gets it, under a certificate of the daemon's own authority; whoever does not, does without.
    Terminate,
}

/// Encryption between daemon and server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamTls {
    /// None. Stated in the configuration, never a default.
    Disable,
    /// Encrypted, certificate chain and name are checked.
    VerifyFull {
        /// PEM file of the authorities to trust.
        ca: PathBuf,
        /// The name that the certificate must bear, where it is not the host that was dialled.
        server_name: Option<String>,
        /// How TLS begins.
        negotiation: Negotiation,
        /// Whether a login must be bound to its channel.
        channel_binding: ChannelBinding,
    },
}

/// How TLS begins with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Negotiation {
    /// The protocol's own request comes first: every server knows it.
    Request,
    /// At once, with ALPN `postgresql`: PostgreSQL 17 and later.
    Direct,
}

/// Whether a login must be bound to its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Where the server offers it.
    Prefer,
    /// Always.
    Require,
}

/// The login that the daemon uses at a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The role to log in as.
    pub username: String,
    /// Where its password is found at each login.
    pub password: PasswordSource,
}

/// Where policies are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// A directory that exists.
    pub dir: PathBuf,
}

/// Where the audit log is. What cannot be recorded is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The directory, made at start if it is missing.
    pub dir: PathBuf,
    /// Days after which closed segments may be removed.
    pub retention_days: u32,
}

/// What of sessions is recorded, and for how long it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// Bytes of a request's results, unless policies say so.
    pub result_bytes: u64,
    /// Bytes of a session, unless policies say so.
    pub session_bytes: u64,
    /// Bytes of all recordings on disk.
    pub total_bytes: u64,
    /// Days after which recordings are removed.
    pub retention_days: u32,
    /// What becomes of a session that cannot be recorded.
    pub on_failure: UnrecordedSession,
}

/// What becomes of a session that cannot be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnrecordedSession {
    /// It ends.
    Ends,
    /// It goes on, and its recording says what is missing.
    GoesOn,
}

/// The admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Path of its Unix socket.
    pub socket: PathBuf,
    /// Where metrics, health and readiness are told over HTTP; nowhere by default.
    pub listen: Option<SocketAddr>,
}

/// What becomes of connections that a cgroup had before it was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// They are ended.
    End,
    /// They go on, and are recorded.
    Report,
}

/// The kernel side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// Directory below a bpffs where programs, maps and links are pinned.
    pub pins: PathBuf,
    /// Cgroup below the cgroup2 mount where `nodegate run` makes its cgroups; relative, no `..`.
    pub cgroup_parent: String,
    /// What becomes of connections that a cgroup had before it was captured.
    pub existing: Existing,
    /// Unix sockets that captured processes are kept from, beside the usual ones: a path, or a beginning and `*`; `@`
    /// begins an abstract name.
    pub deny_unix: Vec<String>,
    /// Unix sockets of the usual list that they are not kept from.
    pub allow_unix: Vec<String>,
    /// Cgroup below the mount that is looked at for labels and pods; empty for the whole tree.
    pub root: String,
    /// Promises that need not be kept.
    pub accept: Vec<&'static Promise>,
}

/// Where this node's pods are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    /// This node's name, as pods bear it in `spec.nodeName`.
    pub node: String,
    /// How the API server is found; `None` is what a pod finds in itself.
    pub kubeconfig: Option<PathBuf>,
    /// What becomes of pods before their labels are known.
    pub unknown_pods: UnknownPods,
}

/// What becomes of pods before their labels are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownPods {
    /// They have no way out.
    Hold,
    /// They are not captured.
    Pass,
}

/// Bounds on what captured agents can take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at once.
    pub sessions: u32,
    /// From accept to the end of the login, on both sides.
    pub startup_timeout: Duration,
    /// A session that sends nothing for that long is ended; `None` never ends one.
    pub idle_timeout: Option<Duration>,
    /// How long open sessions go on when the daemon stops or is taken over from.
    pub drain_timeout: Duration,
}

/// Questions to the DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Servers that are believed about targets' addresses, beside the node's own.
    pub trusted: Vec<IpAddr>,
    /// How a refusal is put.
    pub refuse_with: RefuseWith,
    /// After so long without an answer a server counts as dead.
    pub timeout: Duration,
    /// What a workload may ask in a second, on average.
    pub queries_per_second: u32,
    /// Bytes of names that look like data, for each workload and domain.
    pub odd_bytes_per_minute: u32,
}

/// How the refusal of a name is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefuseWith {
    /// REFUSED.
    Refused,
    /// NXDOMAIN.
    NxDomain,
}

/// Whether `name` has labels before `above`.
fn is_below(name: &str, above: &str) -> bool {
    name.strip_suffix(above)
        .and_then(|labels| labels.strip_suffix('.'))
        .is_some_and(|labels| !labels.is_empty())
}

impl Config {
    /// The target of that name.
    pub fn target(&self, name: &TargetName) -> Option<&Target> {
        self.targets.iter().find(|target| target.facts.name == name.as_str())
    }

    /// The target that lists this address literally, as a host or in a range. Host names are the caller's to resolve.
    pub fn target_at(&self, destination: OriginalDestination) -> Option<&Target> {
        self.targets.iter().find(|target| target.lists(destination))
    }
}

impl Target {
    /// Whether the target lists this address and port literally.
    pub fn lists(&self, destination: OriginalDestination) -> bool {
        self.has_port(destination.port())
            && (self.hosts.iter().any(|host| *host == Host::Address(destination.ip()))
                || self.cidrs.iter().any(|cidr| cidr.contains(destination.ip())))
    }

    /// Whether a name falls under one of the target's wildcards `*.…`; the longer of them counts before the shorter.
    pub fn covers_below(&self, name: &str) -> Option<usize> {
        let below = self.hosts.iter().filter_map(|host| match host {
            Host::Below(above) => Some(above),
            Host::Name(_) | Host::Address(_) | Host::Any => None,
        });
        below.filter(|above| is_below(name, above)).map(String::len).max()
    }

    /// Whether the target stands for everything that no other lists.
    pub fn is_for_the_rest(&self) -> bool {
        self.hosts.contains(&Host::Any)
    }

    /// Whether `port` is one of the target's.
    pub fn has_port(&self, port: u16) -> bool {
        self.ports.binary_search(&port).is_ok()
    }

    /// The hosts that must be resolved before addresses can be compared.
    pub fn host_names(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().filter_map(|host| match host {
            Host::Name(name) => Some(name.as_str()),
            Host::Address(_) | Host::Below(_) | Host::Any => None,
        })
    }
}
