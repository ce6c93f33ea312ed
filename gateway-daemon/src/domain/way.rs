//! How the bytes of a target reach it, and from where.

/// How the bytes of a target that nobody looks into reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// Through the daemon, which passes them on as they come.
    #[default]
    Relayed,
    /// Directly: the kernel lets the connection pass, and the daemon only hears of it.
    Direct,
}

impl Way {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Relayed, Self::Direct];

    /// As `inspect` of the configuration writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Relayed => "relay",
            Self::Direct => "none",
        }
    }

    /// The way of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name)
    }
}

/// In which network namespace connections to a target are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpstreamFrom {
    /// The one that the agent connects from: source address, routes and network policies are the workload's own.
    #[default]
    Workload,
    /// The daemon's own: nothing that a workload does to its namespace matters.
    Node,
}

impl UpstreamFrom {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Workload, Self::Node];

    /// As `upstream_from` of the configuration writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Node => "node",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|from| from.name() == name)
    }
}
