//! What the conditions of a policy look at, read from Cedar's JSON form of it.
//!
//! Caches and grouping rest on it: what no policy looks at cannot change an answer. So this errs on the side of
//! "it looks at that".

use std::collections::BTreeSet;

use serde_json::Value;

/// Something that a condition may look at, outside the policy's scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Look {
    /// The request's context.
    Context,
    /// The functions that the statement calls.
    Functions,
    /// The names of tables or columns, as text.
    Names,
    /// Actions.
    Actions,
}

impl Look {
    const ALL: [Self; 4] = [Self::Context, Self::Functions, Self::Names, Self::Actions];
}

/// Adds to `seen` what `conditions` look at.
pub(super) fn look_through(conditions: &Value, seen: &mut BTreeSet<Look>) {
    match conditions {
        Value::Object(fields) => {
            for (key, value) in fields {
                match key.as_str() {
                    // The whole context; taking an attribute of it is handled below.
                    "Var" if value == "context" => seen.extend([Look::Context, Look::Functions]),
                    "type" if value == "Action" => seen.extend([Look::Actions]),
                    "." | "has" => attribute(value, seen),
                    _ => look_through(value, seen),
                }
            }
        }
        Value::Array(values) => {
            for value in values {
                look_through(value, seen);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The names of tags that conditions look for, of whatever entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TagNames {
    /// No others.
    These(BTreeSet<String>),
    /// Some name is worked out while the condition is evaluated.
    Any,
}

impl Default for TagNames {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl TagNames {
    /// Adds what `conditions` look for.
    pub(super) fn look_through(&mut self, conditions: &Value) {
        match conditions {
            Value::Object(fields) => {
                for (key, value) in fields {
                    if matches!(key.as_str(), "hasTag" | "getTag") {
                        match (value.get("right").and_then(|name| name.get("Value")), &mut *self) {
                            (Some(Value::String(name)), Self::These(names)) => names.extend([name.clone()]),
                            (Some(Value::String(_)), Self::Any) => {}
                            _ => *self = Self::Any,
                        }
                    }
                    self.look_through(value);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| self.look_through(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// `left.attr` or `left has attr`; `attr` may be a path.
fn attribute(access: &Value, seen: &mut BTreeSet<Look>) {
    let (Some(left), Some(attribute)) = (access.get("left"), access.get("attr")) else {
        seen.extend(Look::ALL); // a form that this reader does not know
        return;
    };
    let attribute = attribute.to_string();
    if attribute.contains("\"name\"") || attribute.contains("\"table\"") {
        seen.insert(Look::Names);
    }
    if attribute.contains("\"functions\"") {
        seen.insert(Look::Functions);
    }
    if left.get("Var").is_some_and(|variable| variable == "context") {
        seen.insert(Look::Context);
    } else {
        look_through(left, seen);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use cedar_policy::Policy;

    use super::{Look, TagNames, look_through};

    fn looks(condition: &str) -> Vec<Look> {
        let policy =
            Policy::parse(None, format!("permit (principal, action, resource) {condition};")).unwrap();
        let mut seen = BTreeSet::new();
        look_through(&policy.to_json().unwrap()["conditions"], &mut seen);
        seen.into_iter().collect()
    }

    #[test]
    fn the_tags_that_are_looked_for_are_known_or_may_be_any() {
        let tags = |condition: &str| {
            let policy =
                Policy::parse(None, format!("permit (principal, action, resource) {condition};")).unwrap();
            let mut names = TagNames::default();
            names.look_through(&policy.to_json().unwrap()["conditions"]);
            names
        };
        let these = |names: &[&str]| TagNames::These(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(tags("when { context.secure }"), these(&[]));
        let both =
            "when { context.query.hasTag(\"page\") && context.query.getTag(\"size\").contains(\"1\") }";
        assert_eq!(tags(both), these(&["page", "size"]));
        assert_eq!(tags("unless { [{a: context.query.hasTag(\"x\")}].isEmpty() }"), these(&["x"]));
        assert_eq!(tags("when { context.query.hasTag(resource.path) }"), TagNames::Any);
        assert_eq!(tags("when { context.query.hasTag(if true then \"a\" else \"b\") }"), TagNames::Any);
    }

    #[test]
    fn each_way_to_look_is_noticed() {
        for (condition, expected) in [
            ("", &[] as &[Look]),
            ("when { principal.subject == \"name\" }", &[]),
            ("when { context.has_where }", &[Look::Context]),
            ("unless { context[\"functions\"].isEmpty() }", &[Look::Context, Look::Functions]),
            ("when { context has functions }", &[Look::Context, Look::Functions]),
            ("when { context == {} }", &[Look::Context, Look::Functions]),
            ("when { {a: context}.a.b }", &[Look::Context, Look::Functions]),
            ("when { [context].contains({}) }", &[Look::Context, Look::Functions]),
            ("when { resource is Column && resource.name like \"a*\" }", &[Look::Names]),
            ("when { resource has table }", &[Look::Names]),
            ("when { if action == Action::\"connect\" then true else false }", &[Look::Actions]),
        ] {
            assert_eq!(looks(condition), expected, "{condition}");
        }
    }
}
