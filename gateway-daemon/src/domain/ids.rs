//! Identifiers, each its own type, so that swapping two of them does not compile.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id!(
    /// The kernel's id of a cgroup: the inode number of its directory on cgroup2.
    CgroupId
);
number_id!(
    /// The kernel's cookie of a network namespace: unique until reboot, never reused.
    NetnsCookie
);
number_id!(
    /// One captured connection, unique within one run of the daemon.
    FlowId
);

name_id!(
    /// One protocol session on one flow, unique across restarts: `<start, ms, hex>-<flow id, hex>`.
    SessionId
);
name_id!(
    /// A `targets[].name` of the configuration.
    TargetName
);
name_id!(
    /// The `@id` of a policy, or `builtin/<rule>` for a rule that no policy can lift.
    PolicyId
);
