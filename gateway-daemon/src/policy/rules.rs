//! From policy text to checked rules: parsing, annotations, names, strict validation against the schema.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    str::FromStr as _,
};

use super::{
    SCHEMA,
    annotations::read_annotations,
    conditions::{Look, TagNames, look_through},
    entity::escape_target,
    error::{Place, PolicyError, Problem},
    source::Source,
    unread,
};
use crate::domain::{
    decision::{RecordLimits, Transform},
    detector::Detector,
    http::NamedValues,
    ids::PolicyId,
};
use cedar_policy::{
    Effect, Policy, PolicyId as CedarId, PolicySet, Schema, ValidationMode, Validator, ffi::DetailedError,
};

/// One policy, with its annotations read.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) id: PolicyId,
    pub(super) place: Place,
    pub(super) effect: Effect,
    pub(super) message: Option<String>,
    pub(super) mask: Option<Transform>,
    /// With it, the mask is for what these find inside the values, not for the values.
    pub(super) detect: Option<BTreeSet<Detector>>,
    /// What the mask leaves of filters by the column.
    pub(super) comparable: Comparable,
    /// It does not refuse, but limits how many rows a statement may change.
    pub(super) max_rows: Option<u64>,
    pub(super) approval: Option<String>,
    /// How much is recorded of what it permits.
    pub(super) record: RecordLimits,
    /// Whether its conditions look at the request's context.
    pub(super) reads_context: bool,
    pub(super) policy: Policy,
}

impl Rule {
    /// Whether a forbid refuses what it applies to, and does not only say how it may be done.
    pub(super) const fn refuses(&self) -> bool {
        self.mask.is_none() && self.max_rows.is_none()
    }
}

/// In which ways a masked column may be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparable {
    /// In none.
    Never,
    /// For equality with values that the statement brings along.
    Equal,
}

/// Where a policy or template starts in its file, in bytes. A macro, since the type of the location has no public
/// name.
macro_rules! start_of {
    ($policy:expr) => {
        match $policy.as_ref().loc() {
            Some(location) => location.start(),
            None => 0,
        }
    };
}

/// A checked set of rules.
#[derive(Debug)]
pub(super) struct RuleSet {
    pub(super) schema: Schema,
    /// Sorted by place.
    pub(super) rules: Vec<Rule>,
    /// Index into `rules`.
    pub(super) by_id: HashMap<CedarId, usize>,
    /// Ids of tables that some policy names: all others are alike to the policies, up to their attributes.
    pub(super) named_tables: HashSet<String>,
    /// Ids of columns, likewise.
    pub(super) named_columns: HashSet<String>,
    /// What the conditions look at, together.
    looks: BTreeSet<Look>,
    /// The names of tags that the conditions look for.
    tags: TagNames,
    /// Doubtful, but not refused.
    pub(super) warnings: Vec<Problem>,
    /// Of all the text, to see whether a reload changed anything.
    pub(super) fingerprint: u64,
}

/// Reads and checks `sources`; all problems are reported together.
pub(super) fn check(sources: &[Source]) -> Result<RuleSet, PolicyError> {
    let schema = Schema::from_str(SCHEMA).map_err(|error| PolicyError::Schema(error.to_string()))?;
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let mut rules: Vec<Rule> = Vec::new();
    for source in sources {
        match PolicySet::from_str(&source.text) {
            Ok(set) => read_file(source, &set, &mut rules, &mut problems, &mut warnings),
            Err(errors) => {
                for error in errors.iter() {
                    problems.push(detailed(&DetailedError::from(error), source, 0));
                }
            }
        }
    }
    rules.sort_by(|one, other| one.place.cmp(&other.place));
    find_doubles(&rules, &mut problems);
    if !problems.is_empty() {
        problems.sort();
        return Err(PolicyError::Invalid(problems));
    }
    if rules.is_empty() {
        warnings.push(Problem {
            place: None,
            message: "there are no policies: everything is denied".to_owned(),
            help: Some("copy a pack, for example policies/read-only-analyst, into the directory".to_owned()),
        });
    }
    warnings.extend(unread::beside_masks(&rules));
    validate(&schema, &rules, sources, &mut problems, &mut warnings)?;
    if !problems.is_empty() {
        problems.sort();
        return Err(PolicyError::Invalid(problems));
    }
    warnings.sort();
    let mut set = RuleSet {
        schema,
        by_id: rules.iter().enumerate().map(|(index, rule)| (rule.policy.id().clone(), index)).collect(),
        named_tables: HashSet::new(),
        named_columns: HashSet::new(),
        looks: BTreeSet::new(),
        tags: TagNames::default(),
        rules,
        warnings,
        fingerprint: fingerprint(sources),
    };
    set.look_through()?;
    Ok(set)
}

/// A hash of every file's path and text.
pub(super) fn fingerprint(sources: &[Source]) -> u64 {
    let mut hasher = DefaultHasher::new();
    sources.hash(&mut hasher);
    hasher.finish()
}

impl RuleSet {
    /// Warnings for rules that name a target, or something in one, that is not among `targets`.
    pub(super) fn unknown_targets(&self, targets: &[String]) -> Vec<Problem> {
        let mut warnings = Vec::new();
        for rule in &self.rules {
            for uid in rule.policy.entity_literals() {
                if !matches!(uid.type_name().to_string().as_str(), "Target" | "Schema" | "Table" | "Column") {
                    continue;
                }
                let id = uid.id().unescaped();
                let target = id.split_once('/').map_or(id, |(target, _)| target);
                if !targets.iter().any(|known| escape_target(known) == target) {
                    warnings.push(Problem {
                        place: Some(rule.place.clone()),
                        message: format!("\"{}\" names {uid}, but there is no target of that name", rule.id),
                        help: Some(format!("known targets: {}", targets.join(", "))),
                    });
                }
            }
        }
        warnings
    }

    /// Whether some condition looks at this.
    pub(super) fn looks_at(&self, look: Look) -> bool {
        self.looks.contains(&look)
    }

    /// Of `values`, those whose names some condition looks for.
    pub(super) fn mentioned(&self, values: impl FnOnce() -> NamedValues) -> NamedValues {
        match &self.tags {
            TagNames::Any => values(),
            TagNames::These(names) if names.is_empty() => NamedValues::new(),
            TagNames::These(names) => {
                let mut values = values();
                values.retain(|name, _| names.contains(name));
                values
            }
        }
    }

    /// Notes what the conditions look at.
    fn look_through(&mut self) -> Result<(), PolicyError> {
        for rule in &mut self.rules {
            for uid in rule.policy.entity_literals() {
                let named = match uid.type_name().to_string().as_str() {
                    "Table" => &mut self.named_tables,
                    "Column" => &mut self.named_columns,
                    _ => continue,
                };
                named.insert(uid.id().unescaped().to_owned());
            }
            let json = rule.policy.to_json().map_err(|error| PolicyError::Schema(error.to_string()))?;
            let mut seen = BTreeSet::new();
            if let Some(conditions) = json.get("conditions") {
                look_through(conditions, &mut seen);
                self.tags.look_through(conditions);
            }
            rule.reads_context = seen.contains(&Look::Context);
            self.looks.extend(seen);
        }
        Ok(())
    }
}

/// Reads the policies of one file.
fn read_file(
    source: &Source,
    set: &PolicySet,
    rules: &mut Vec<Rule>,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) {
    for template in set.templates() {
        let offset = start_of!(template);
        problems.push(Problem {
            place: Some(Place::of(source.path.clone(), &source.text, offset)),
            message: "this is a policy template (it has ?principal or ?resource), and nothing fills it in"
                .to_owned(),
            help: Some("name the principal and the resource instead".to_owned()),
        });
    }
    for policy in set.policies() {
        let offset = start_of!(policy);
        let place = Place::of(source.path.clone(), &source.text, offset);
        let mut found = Vec::new();
        match read_annotations(policy, &place, &mut found, warnings) {
            Some(rule) if found.is_empty() => rules.push(rule),
            _ => problems.append(&mut found),
        }
    }
}

fn find_doubles(rules: &[Rule], problems: &mut Vec<Problem>) {
    let mut first: BTreeMap<&str, &Place> = BTreeMap::new();
    for rule in rules {
        if let Some(earlier) = first.get(rule.id.as_str()) {
            problems.push(Problem {
                place: Some(rule.place.clone()),
                message: format!("@id(\"{}\") is also the id of the policy at {earlier}", rule.id),
                help: Some(
                    "give one of them another id: audit records must say which one decided".to_owned(),
                ),
            });
        } else {
            first.insert(rule.id.as_str(), &rule.place);
        }
    }
}

/// Strict validation of the whole set.
fn validate(
    schema: &Schema,
    rules: &[Rule],
    sources: &[Source],
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Result<(), PolicyError> {
    let set = PolicySet::from_policies(rules.iter().map(|rule| rule.policy.clone()))
        .map_err(|error| PolicyError::Schema(error.to_string()))?;
    let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
    let origin = |id: &CedarId| {
        let rule = rules.iter().find(|rule| rule.policy.id() == id)?;
        let source = sources.iter().find(|source| source.path == rule.place.file)?;
        Some((rule, source))
    };
    let describe = |error: &DetailedError, id: &CedarId| match origin(id) {
        Some((rule, source)) => {
            let fallback = start_of!(rule.policy);
            detailed(error, source, fallback)
        }
        None => Problem { place: None, message: error.message.clone(), help: error.help.clone() },
    };
    problems.extend(
        result.validation_errors().map(|error| describe(&DetailedError::from(error), error.policy_id())),
    );
    warnings.extend(
        result
            .validation_warnings()
            .map(|warning| describe(&DetailedError::from(warning), warning.policy_id())),
    );
    Ok(())
}

/// Cedar's own account of an error, at its place in `source`.
fn detailed(error: &DetailedError, source: &Source, fallback: usize) -> Problem {
    let label = error.source_locations.first();
    let message = match label.and_then(|label| label.label.as_deref()) {
        Some(label) => format!("{} ({label})", error.message),
        None => error.message.clone(),
    };
    Problem {
        place: Some(Place::of(
            source.path.clone(),
            &source.text,
            label.map_or(fallback, |label| label.loc.start),
        )),
        message,
        help: error.help.clone(),
    }
}
