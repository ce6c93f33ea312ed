//! What is done with what policy refuses, and which of several settings counts.

use std::{collections::HashMap, fmt};

use serde::{Deserialize, Serialize};

use super::event::Outcome;

/// What is done with what policy refuses. The later ones are the stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Everything goes on as if nodegate were not there; what policy would refuse is recorded.
    Observe,
    /// As [`Mode::Observe`]; missing identities and what cannot be read are recorded as refusals too.
    Shadow,
    /// It is refused.
    #[default]
    Enforce,
}

impl Mode {
    /// All of them, the most lenient first.
    pub const ALL: [Self; 3] = [Self::Observe, Self::Shadow, Self::Enforce];

    /// As the configuration writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Shadow => "shadow",
            Self::Enforce => "enforce",
        }
    }

    /// The mode of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// Whether what is refused is refused in fact.
    pub fn enforces(self) -> bool {
        self == Self::Enforce
    }
}

/// Why enforcing would refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A policy, or a rule that no policy can lift.
    Refusal,
    /// Nobody knows who asks, or what is asked.
    Unclear,
}

impl Mode {
    /// What is recorded of something that enforcing would refuse.
    pub const fn outcome(self, cause: Cause) -> Outcome {
        match (self, cause) {
            (Self::Enforce, _) => Outcome::Denied,
            (Self::Observe, Cause::Unclear) => Outcome::Noted,
            (Self::Observe, Cause::Refusal) | (Self::Shadow, _) => Outcome::WouldDeny,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The mode of the whole node, and of what is named in particular.
///
/// Of a flow's label and its target, whatever has a mode of its own decides; where both have, the stricter of the
/// two; where none has, the node's. So one target can be observed on a node that enforces, and one label can be
/// enforced on a node that observes, without either undoing the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Modes {
    /// Of everything that is not named.
    pub node: Mode,
    /// By the label of the captured cgroup.
    pub labels: HashMap<String, Mode>,
    /// By target.
    pub targets: HashMap<String, Mode>,
}

impl Modes {
    /// The mode of a flow.
    pub fn of(&self, label: Option<&str>, target: Option<&str>) -> Mode {
        let label = label.and_then(|label| self.labels.get(label));
        let target = target.and_then(|target| self.targets.get(target));
        label.max(target).copied().unwrap_or(self.node)
    }

    /// The mode of what has no target: datagrams, and sockets when they are made.
    pub fn of_label(&self, label: Option<&str>) -> Mode {
        self.of(label, None)
    }

    /// Whether any target enforces for this label, so that its connections must not go on without a daemon.
    pub fn enforces_anything(&self, label: Option<&str>) -> bool {
        let targets = self.targets.keys().any(|target| self.of(label, Some(target)).enforces());
        targets || self.of_label(label).enforces()
    }

    /// Whether anything at all may be refused.
    pub fn may_enforce(&self) -> bool {
        let named = self.labels.values().chain(self.targets.values()).any(|mode| mode.enforces());
        named || self.node.enforces()
    }
}

#[cfg(test)]
mod tests {
    use super::{Mode, Modes};

    fn modes(node: Mode, label: Option<Mode>, target: Option<Mode>) -> Modes {
        let named =
            |name: &str, mode: Option<Mode>| mode.map(|mode| (name.to_owned(), mode)).into_iter().collect();
        Modes { node, labels: named("ci", label), targets: named("shop", target) }
    }

    #[test]
    fn what_is_named_counts_before_the_node_and_the_stricter_name_before_the_other() {
        use Mode::{Enforce, Observe, Shadow};
        for (node, label, target, expected) in [
            (Enforce, None, None, Enforce),
            (Observe, None, None, Observe),
            (Enforce, None, Some(Observe), Observe),
            (Enforce, Some(Shadow), None, Shadow),
            (Observe, Some(Enforce), None, Enforce),
            (Observe, Some(Enforce), Some(Observe), Enforce),
            (Enforce, Some(Observe), Some(Shadow), Shadow),
        ] {
            let modes = modes(node, label, target);
            assert_eq!(modes.of(Some("ci"), Some("shop")), expected, "{modes:?}");
            assert_eq!(modes.of(Some("other"), Some("other")), node, "{modes:?}");
        }
    }

    #[test]
    fn a_cgroup_may_go_on_without_a_daemon_only_where_nothing_enforces() {
        use Mode::{Enforce, Observe};
        assert!(!modes(Observe, None, None).enforces_anything(Some("ci")));
        assert!(modes(Observe, None, Some(Enforce)).enforces_anything(Some("ci")));
        assert!(modes(Observe, Some(Enforce), None).enforces_anything(Some("ci")));
        assert!(!modes(Observe, Some(Enforce), None).enforces_anything(None));
        assert!(modes(Observe, Some(Enforce), None).may_enforce());
        assert!(!modes(Observe, None, Some(Observe)).may_enforce());
    }

    #[test]
    fn every_mode_has_its_name() {
        for mode in Mode::ALL {
            assert_eq!(Mode::named(mode.name()), Some(mode));
        }
        assert_eq!(Mode::named("Enforce"), None);
    }
}
