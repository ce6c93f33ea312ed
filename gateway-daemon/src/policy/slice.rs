//! Which rules can possibly have a say on a question.
//!
//! Cedar evaluates every policy it is given. A policy whose *scope* (principal, action, resource in its head)
//! does not hold is never satisfied and never errs, so leaving it out changes nothing: scopes are indexed,
//! and Cedar gets only the rules whose scope holds. `proptests.rs` holds this against Cedar with all rules.
//!
//! One thing is left out on purpose: a permit that names no action does not cover those that must be named.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use cedar_policy::{
    ActionConstraint, Effect, Entity, EntityUid, PolicySet, PrincipalConstraint, ResourceConstraint,
};

use super::{
    entity::{Node, SQL_WRITE},
    error::PolicyError,
    rules::{Rule, RuleSet},
};
use crate::domain::{http::Method, statement::Verb};

/// More slices than agents × targets × verbs that anybody runs; past it the map starts afresh.
const MAX_SLICES: usize = 4096;

/// The asking agent, with its ancestors ready for look-ups.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) node: Node,
    above: HashSet<EntityUid>,
}

impl Asker {
    pub(super) fn new(node: Node) -> Self {
        Self { above: node.above.iter().cloned().collect(), node }
    }
}

/// The rules for one question, by effect, since a mask must know whether anything permits as well.
#[derive(Debug)]
pub(super) struct Slice {
    pub(super) permits: PolicySet,
    pub(super) forbids: PolicySet,
}

/// Rules by action, then by the resource or the principal in their scope.
#[derive(Debug)]
pub(super) struct Index {
    by_action: HashMap<EntityUid, Bucket>,
    scopes: Vec<(PrincipalConstraint, ResourceConstraint)>,
    slices: Mutex<HashMap<Vec<usize>, Arc<Slice>>>,
}

/// The rules that cover one action; each is in exactly one of the three.
#[derive(Debug, Default)]
struct Bucket {
    unscoped: Vec<usize>,
    by_resource: HashMap<EntityUid, Vec<usize>>,
    by_principal: HashMap<EntityUid, Vec<usize>>,
}

impl Index {
    pub(super) fn new(set: &RuleSet, actions: &HashMap<EntityUid, Entity>) -> Result<Self, PolicyError> {
        let mut below: HashMap<EntityUid, Vec<EntityUid>> = HashMap::new();
        let hierarchy =
            set.schema.action_entities().map_err(|error| PolicyError::Schema(error.to_string()))?;
        for action in actions.keys() {
            below.entry(action.clone()).or_default().push(action.clone());
            for group in hierarchy.ancestors(action).into_iter().flatten() {
                below.entry(group.clone()).or_default().push(action.clone());
            }
        }
        let mut by_action: HashMap<EntityUid, Bucket> =
            actions.keys().map(|action| (action.clone(), Bucket::default())).collect();
        let mut scopes = Vec::with_capacity(set.rules.len());
        let by_name_only = Verb::ALL.into_iter().filter(|verb| verb.must_be_named());
        let tunnels = [Method::Connect, Method::Trace].map(|method| format!("http:{method}"));
        let by_name_only: HashSet<String> = by_name_only
            .map(|verb| format!("sql:{}", verb.as_str()))
            .chain(std::iter::once(SQL_WRITE.to_owned()))
            .chain(tunnels)
            .collect();
        for (index, rule) in set.rules.iter().enumerate() {
            let principal = rule.policy.principal_constraint();
            let resource = rule.policy.resource_constraint();
            // A permit for every action was written without these in mind, and they show more than any other.
            let leaves_out = |action: &EntityUid| {
                rule.effect == Effect::Permit
                    && matches!(rule.policy.action_constraint(), ActionConstraint::Any)
                    && by_name_only.contains(action.id().unescaped())
            };
            for action in covered(rule, &below).into_iter().filter(|action| !leaves_out(action)) {
                if let Some(bucket) = by_action.get_mut(&action) {
                    bucket.add(index, &principal, &resource);
                }
            }
            scopes.push((principal, resource));
        }
        Ok(Self { by_action, scopes, slices: Mutex::default() })
    }

    /// Whether some rule covers this action.
    pub(super) fn covers(&self, action: &EntityUid) -> bool {
        self.by_action.get(action).is_some_and(|bucket| {
            !(bucket.unscoped.is_empty() && bucket.by_resource.is_empty() && bucket.by_principal.is_empty())
        })
    }

    /// The rules whose scope holds, in order.
    pub(super) fn candidates(&self, asker: &Asker, action: &EntityUid, resource: &Node) -> Vec<usize> {
        let Some(bucket) = self.by_action.get(action) else {
            return Vec::new();
        };
        let resources = std::iter::once(&resource.uid).chain(&resource.above);
        let principals = std::iter::once(&asker.node.uid).chain(&asker.node.above);
        let mut candidates: Vec<usize> = bucket
            .unscoped
            .iter()
            .chain(resources.filter_map(|uid| bucket.by_resource.get(uid)).flatten())
            .chain(principals.filter_map(|uid| bucket.by_principal.get(uid)).flatten())
            .copied()
            .filter(|rule| {
                self.scopes.get(*rule).is_some_and(|(for_principal, for_resource)| {
                    principal_matches(for_principal, asker) && resource_matches(for_resource, resource)
                })
            })
            .collect();
        candidates.sort_unstable();
        candidates
    }

    /// The policy sets of `candidates`.
    pub(super) fn slice(&self, candidates: &[usize], rules: &[Rule]) -> Result<Arc<Slice>, String> {
        if let Some(slice) = self.slices.lock().unwrap_or_else(PoisonError::into_inner).get(candidates) {
            return Ok(Arc::clone(slice));
        }
        let of = |effect: Effect| {
            PolicySet::from_policies(
                candidates
                    .iter()
                    .filter_map(|rule| rules.get(*rule))
                    .filter(|rule| rule.effect == effect)
                    .map(|rule| rule.policy.clone()),
            )
            .map_err(|error| error.to_string())
        };
        let slice = Arc::new(Slice { permits: of(Effect::Permit)?, forbids: of(Effect::Forbid)? });
        let mut slices = self.slices.lock().unwrap_or_else(PoisonError::into_inner);
        if slices.len() >= MAX_SLICES {
            slices.clear();
        }
        slices.insert(candidates.to_vec(), Arc::clone(&slice));
        Ok(slice)
    }
}

/// The actions that a rule's scope covers, groups expanded.
fn covered(rule: &Rule, below: &HashMap<EntityUid, Vec<EntityUid>>) -> HashSet<EntityUid> {
    let expand = |uid: &EntityUid| below.get(uid).into_iter().flatten().cloned();
    match rule.policy.action_constraint() {
        ActionConstraint::Any => below.values().flatten().cloned().collect(),
        ActionConstraint::Eq(uid) => std::iter::once(uid).collect(),
        ActionConstraint::In(uids) => uids.iter().flat_map(expand).collect(),
    }
}

impl Bucket {
    fn add(&mut self, rule: usize, principal: &PrincipalConstraint, resource: &ResourceConstraint) {
        use PrincipalConstraint as P;
        use ResourceConstraint as R;
        match (resource, principal) {
            (R::In(uid) | R::Eq(uid) | R::IsIn(_, uid), _) => {
                self.by_resource.entry(uid.clone()).or_default().push(rule);
            }
            (R::Any | R::Is(_), P::In(uid) | P::Eq(uid) | P::IsIn(_, uid)) => {
                self.by_principal.entry(uid.clone()).or_default().push(rule);
            }
            (R::Any | R::Is(_), P::Any | P::Is(_)) => self.unscoped.push(rule),
        }
    }
}

fn principal_matches(constraint: &PrincipalConstraint, asker: &Asker) -> bool {
    let is_in = |uid: &EntityUid| asker.node.uid == *uid || asker.above.contains(uid);
    match constraint {
        PrincipalConstraint::Any => true,
        PrincipalConstraint::Eq(uid) => asker.node.uid == *uid,
        PrincipalConstraint::In(uid) => is_in(uid),
        PrincipalConstraint::Is(entity_type) => asker.node.uid.type_name() == entity_type,
        PrincipalConstraint::IsIn(entity_type, uid) => {
            asker.node.uid.type_name() == entity_type && is_in(uid)
        }
    }
}

fn resource_matches(constraint: &ResourceConstraint, resource: &Node) -> bool {
    let is_in = |uid: &EntityUid| resource.uid == *uid || resource.above.contains(uid);
    match constraint {
        ResourceConstraint::Any => true,
        ResourceConstraint::Eq(uid) => resource.uid == *uid,
        ResourceConstraint::In(uid) => is_in(uid),
        ResourceConstraint::Is(entity_type) => resource.uid.type_name() == entity_type,
        ResourceConstraint::IsIn(entity_type, uid) => resource.uid.type_name() == entity_type && is_in(uid),
    }
}
