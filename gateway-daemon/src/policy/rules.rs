//! From policy text to checked rules: parsing, annotations, names, strict validation against the schema.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    str::FromStr as _,
};

use cedar_policy::{
    Effect, EntityUid, Policy, PolicyId as CedarId, PolicySet, Schema, ValidationMode, Validator,
    ffi::DetailedError,
};
use serde_json::Value;

use super::{
    SCHEMA,
    entity::{escape_target, malformed_id},
    error::{Place, PolicyError, Problem},
    source::Source,
};
use crate::domain::{decision::Transform, ids::PolicyId};

/// The annotations that mean something here; another one is a mistake that would go unnoticed.
const ANNOTATIONS: [&str; 5] = ["id", "message", "mask", "approval", "window"];
const MAX_ID_CHARS: usize = 128;

/// One policy, with its annotations read.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) id: PolicyId,
    pub(super) place: Place,
    pub(super) effect: Effect,
    pub(super) message: Option<String>,
    pub(super) mask: Option<Transform>,
    pub(super) approval: Option<String>,
    /// Whether its conditions look at the request's context.
    pub(super) reads_context: bool,
    pub(super) policy: Policy,
}

/// A checked set of rules.
#[derive(Debug)]
pub(super) struct RuleSet {
    pub(super) schema: Schema,
    /// Sorted by place.
    pub(super) rules: Vec<Rule>,
    /// Index into `rules`.
    pub(super) by_id: HashMap<CedarId, usize>,
    /// Tables and columns that some policy names: all others are alike to the policies, up to their attributes.
    pub(super) named: HashSet<EntityUid>,
    /// Whether some condition reads the attribute `name` or `table`.
    pub(super) reads_names: bool,
    /// Whether some condition looks at the functions that a statement calls.
    pub(super) reads_functions: bool,
    /// Whether some condition names an action.
    pub(super) names_actions: bool,
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
    validate(&schema, &rules, sources, &mut problems, &mut warnings)?;
    if !problems.is_empty() {
        problems.sort();
        return Err(PolicyError::Invalid(problems));
    }
    warnings.sort();
    let mut set = RuleSet {
        schema,
        by_id: rules.iter().enumerate().map(|(index, rule)| (rule.policy.id().clone(), index)).collect(),
        named: HashSet::new(),
        reads_names: false,
        reads_functions: false,
        names_actions: false,
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

    /// Notes what the conditions look at.
    fn look_through(&mut self) -> Result<(), PolicyError> {
        for rule in &mut self.rules {
            self.named.extend(
                rule.policy
                    .entity_literals()
                    .into_iter()
                    .filter(|uid| matches!(uid.type_name().to_string().as_str(), "Table" | "Column")),
            );
            let json = rule.policy.to_json().map_err(|error| PolicyError::Schema(error.to_string()))?;
            let mut seen = Seen::default();
            if let Some(conditions) = json.get("conditions") {
                seen.visit(conditions);
            }
            rule.reads_context = seen.context;
            self.reads_names |= seen.names;
            self.reads_functions |= seen.functions;
            self.names_actions |= seen.actions;
        }
        Ok(())
    }
}

/// What a condition looks at, read from its JSON form; errs on the side of "yes".
#[derive(Default)]
struct Seen {
    context: bool,
    functions: bool,
    names: bool,
    actions: bool,
}

impl Seen {
    fn visit(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match key.as_str() {
                        "Var" if value == "context" => {
                            self.context = true;
                            self.functions = true; // the whole context, unless an attribute is taken of it (below)
                        }
                        "type" => self.actions |= value == "Action",
                        "." | "has" => self.attribute(value),
                        _ => self.visit(value),
                    }
                }
            }
            Value::Array(values) => {
                for value in values {
                    self.visit(value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// `left.attr` or `left has attr`; `attr` may be a path.
    fn attribute(&mut self, access: &Value) {
        let attribute = access.get("attr").map(ToString::to_string).unwrap_or_default();
        self.names |= attribute.contains("\"name\"") || attribute.contains("\"table\"");
        self.functions |= attribute.contains("\"functions\"");
        match access.get("left") {
            Some(left) if left.get("Var").is_some_and(|variable| variable == "context") => self.context = true,
            Some(left) => self.visit(left),
            // A form that this version of the reader does not know: everything is looked at.
            None => *self = Self { context: true, functions: true, names: true, actions: true },
        }
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
        let offset = template.as_ref().loc().map_or(0, |loc| loc.start());
        problems.push(Problem {
            place: Some(Place::of(source.path.clone(), &source.text, offset)),
            message: "this is a policy template (it has ?principal or ?resource), and nothing fills it in".to_owned(),
            help: Some("name the principal and the resource instead".to_owned()),
        });
    }
    for policy in set.policies() {
        let offset = policy.as_ref().loc().map_or(0, |loc| loc.start());
        let place = Place::of(source.path.clone(), &source.text, offset);
        let mut found = Vec::new();
        match read_annotations(policy, &place, &mut found, warnings) {
            Some(rule) if found.is_empty() => rules.push(rule),
            _ => problems.append(&mut found),
        }
    }
}

/// Checks one policy's annotations and the ids that it names.
fn read_annotations(
    policy: &Policy,
    place: &Place,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Option<Rule> {
    let problem = |message: String, help: &str| Problem {
        place: Some(place.clone()),
        message,
        help: (!help.is_empty()).then(|| help.to_owned()),
    };
    for (name, _) in policy.annotations() {
        if !ANNOTATIONS.contains(&name) {
            problems.push(problem(
                format!("unknown annotation @{name}"),
                "known are @id, @message, @mask, @approval and @window",
            ));
        }
    }
    for uid in policy.entity_literals() {
        if let Some(help) = malformed_id(&uid.type_name().to_string(), uid.id().unescaped()) {
            problems.push(problem(format!("no request ever asks about {uid}"), help));
        }
    }
    let Some(id) = policy.annotation("id") else {
        problems.push(problem(
            "this policy has no @id".to_owned(),
            "put @id(\"what-it-does\") in front of it: denials and audit records name it",
        ));
        return None;
    };
    if let Some(complaint) = id_complaint(id) {
        problems.push(problem(format!("@id({id:?}) {complaint}"), ""));
    }
    let mut rule = Rule {
        id: PolicyId::from(id),
        place: place.clone(),
        effect: policy.effect(),
        message: policy.annotation("message").filter(|message| !message.is_empty()).map(str::to_owned),
        mask: None,
        approval: None,
        reads_context: false,
        policy: policy.new_id(CedarId::new(id)),
    };
    if let Some(name) = policy.annotation("mask") {
        rule.mask = transform(name);
        if rule.mask.is_none() {
            problems.push(problem(
                format!("@mask({name:?}) of \"{id}\" is not a known transform"),
                "known are redact, partial, hash, null and last4",
            ));
        }
        if rule.effect != Effect::Forbid || !only_reads(policy) {
            problems.push(problem(
                format!("@mask on \"{id}\" has no meaning: only a forbid of sql:read alone can mask"),
                "write: forbid (principal, action == Action::\"sql:read\", resource is Column) when { … };",
            ));
        }
    }
    if let Some(approvers) = policy.annotation("approval") {
        if rule.effect != Effect::Forbid || approvers.is_empty() || rule.mask.is_some() {
            problems.push(problem(
                format!("@approval on \"{id}\" must name a group and stand on a forbid without @mask"),
                "write: @approval(\"dba\") forbid (…);",
            ));
        }
        warnings.push(problem(
            format!("\"{id}\" asks for approval by \"{approvers}\", which this version cannot ask for: it refuses"),
            "",
        ));
        rule.approval = Some(approvers.to_owned());
    } else if policy.annotation("window").is_some() {
        problems.push(problem(
            format!("@window on \"{id}\" has no meaning without @approval"),
            "add @approval(\"…\") or remove @window",
        ));
    }
    if rule.message.is_some() && rule.effect == Effect::Permit {
        warnings.push(problem(format!("@message on \"{id}\" is never shown: it permits"), ""));
    }
    Some(rule)
}

fn id_complaint(id: &str) -> Option<&'static str> {
    if id.is_empty() || id.chars().count() > MAX_ID_CHARS {
        Some("must have 1 to 128 characters")
    } else if id.starts_with("builtin/") {
        Some("starts with builtin/, which is kept for rules that no policy can lift")
    } else if id.chars().any(|character| !(character.is_ascii_alphanumeric() || "-_./".contains(character))) {
        Some("may hold letters, digits and - _ . / only: it is written into logs and error messages")
    } else {
        None
    }
}

fn transform(name: &str) -> Option<Transform> {
    Some(match name {
        "redact" => Transform::Redact,
        "partial" => Transform::Partial,
        "hash" => Transform::Hash,
        "null" => Transform::Null,
        "last4" => Transform::Last4,
        _ => return None,
    })
}

/// Whether the policy's scope names sql:read and no other action.
fn only_reads(policy: &Policy) -> bool {
    use cedar_policy::ActionConstraint::{Any, Eq, In};
    let is_read = |uid: &EntityUid| uid.id().unescaped() == "sql:read";
    match policy.action_constraint() {
        Any => false,
        Eq(uid) => is_read(&uid),
        In(uids) => !uids.is_empty() && uids.iter().all(is_read),
    }
}

fn find_doubles(rules: &[Rule], problems: &mut Vec<Problem>) {
    let mut first: BTreeMap<&str, &Place> = BTreeMap::new();
    for rule in rules {
        if let Some(earlier) = first.get(rule.id.as_str()) {
            problems.push(Problem {
                place: Some(rule.place.clone()),
                message: format!("@id(\"{}\") is also the id of the policy at {earlier}", rule.id),
                help: Some("give one of them another id: audit records must say which one decided".to_owned()),
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
            let fallback = rule.policy.as_ref().loc().map_or(0, |loc| loc.start());
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
