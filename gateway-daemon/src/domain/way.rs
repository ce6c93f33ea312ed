//! How the bytes of a target that nobody looks into reach it.

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
