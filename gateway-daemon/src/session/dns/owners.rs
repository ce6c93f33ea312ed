//! Whose a name is: the targets that list it, or whose wildcard it falls under.

use std::collections::HashMap;

use crate::domain::action::TargetFacts;

/// The names of targets.
#[derive(Debug, Default)]
pub struct TargetNames {
    exact: HashMap<String, Vec<TargetFacts>>,
    below: Vec<(String, TargetFacts)>,
    rest: Vec<TargetFacts>,
}

/// How a name came to be a target's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Listed {
    /// The operator wrote it down: nothing is hidden in it.
    ByName,
    /// It falls under a wildcard, or is nobody's: whoever asks for it has chosen its letters.
    #[default]
    ByNobody,
}

impl TargetNames {
    /// A target has this name.
    pub fn add(&mut self, name: &str, target: &TargetFacts) {
        self.exact.entry(name.to_owned()).or_default().push(target.clone());
    }

    /// A target has every name below this one.
    pub fn add_below(&mut self, name: &str, target: &TargetFacts) {
        self.below.push((name.to_owned(), target.clone()));
    }

    /// A target has every name that no other has.
    pub fn add_rest(&mut self, target: &TargetFacts) {
        self.rest.push(target.clone());
    }

    /// Whose a name is: those who list it, else the narrowest wildcard's, else those for the rest.
    pub(super) fn of(&self, name: &str) -> (Vec<TargetFacts>, Listed) {
        if let Some(targets) = self.exact.get(name) {
            return (targets.clone(), Listed::ByName);
        }
        let covers = |above: &str| {
            let labels = name.strip_suffix(above).and_then(|labels| labels.strip_suffix('.'));
            labels.is_some_and(|labels| !labels.is_empty())
        };
        let covering: Vec<_> = self.below.iter().filter(|(above, _)| covers(above)).collect();
        let narrowest = covering.iter().map(|(above, _)| above.len()).max();
        let targets = match narrowest {
            Some(length) => {
                let closest = covering.iter().filter(|(above, _)| above.len() == length);
                closest.map(|(_, target)| target.clone()).collect()
            }
            None => self.rest.clone(),
        };
        (targets, Listed::ByNobody)
    }
}

#[cfg(test)]
mod tests {
    use super::{Listed, TargetNames};
    use crate::domain::action::TargetFacts;

    #[test]
    fn a_name_is_whose_is_the_closest() {
        let target = |name: &str| TargetFacts { name: name.to_owned(), ..TargetFacts::default() };
        let mut names = TargetNames::default();
        names.add("api.internal", &target("api"));
        names.add_below("internal", &target("wide"));
        names.add_below("eu.internal", &target("narrow"));
        names.add_rest(&target("internet"));
        for (name, owner, listed) in [
            ("api.internal", "api", Listed::ByName),
            ("b.internal", "wide", Listed::ByNobody),
            ("b.eu.internal", "narrow", Listed::ByNobody),
            ("internal", "internet", Listed::ByNobody),
            ("xinternal", "internet", Listed::ByNobody),
        ] {
            assert_eq!(names.of(name), (vec![target(owner)], listed), "{name}");
        }
        assert_eq!(TargetNames::default().of("a"), (Vec::new(), Listed::ByNobody));
    }
}
