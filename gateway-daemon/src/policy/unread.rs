//! A warning for sets that mask values and permit code that cannot be read, which could show them.

use cedar_policy::{ActionConstraint, Effect};

use super::{error::Problem, rules::Rule};

const CALL: &str = "sql:call";
const UNMASKED: &str = "sql:call_unmasked";

/// What is doubtful about permits of such code beside masks.
pub(super) fn beside_masks(rules: &[Rule]) -> Vec<Problem> {
    let Some(mask) = rules.iter().find(|rule| rule.mask.is_some()) else { return Vec::new() };
    // One without conditions on who asks and what for leaves nothing to warn of; what conditions say is not known here.
    let is_forbidden = rules.iter().any(|rule| {
        rule.effect == Effect::Forbid && rule.refuses() && !is_of_every_action(rule) && names(rule, CALL)
    });
    let permits = rules.iter().filter(|rule| rule.effect == Effect::Permit);
    let warnings = permits.filter_map(|rule| {
        let (message, help) = if names(rule, UNMASKED) && !is_of_every_action(rule) {
            (
                format!(
                    "\"{}\" permits code that cannot be read to see what \"{}\" and its like mask",
                    rule.id, mask.id
                ),
                "permit it to whoever may see those values anyway",
            )
        } else if names(rule, CALL) && !is_forbidden {
            (
                format!(
                    "\"{}\" permits code that cannot be read, but that stays refused where \"{}\" or its like mask \
                     something",
                    rule.id, mask.id
                ),
                "name Action::\"sql:call_unmasked\" in a permit of its own, for whoever may see what is masked",
            )
        } else {
            return None;
        };
        Some(Problem { place: Some(rule.place.clone()), message, help: Some(help.to_owned()) })
    });
    warnings.collect()
}

fn is_of_every_action(rule: &Rule) -> bool {
    matches!(rule.policy.action_constraint(), ActionConstraint::Any)
}

/// Whether the rule's scope holds the action.
fn names(rule: &Rule, action: &str) -> bool {
    match rule.policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => uid.id().unescaped() == action,
        ActionConstraint::In(uids) => uids.iter().any(|uid| uid.id().unescaped() == action),
    }
}
