//! One loaded set of rules, ready to answer: what `reload` swaps as a whole.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use cedar_policy::{Authorizer, Context, Entities, Entity, EntityUid, PolicySet, Request};

use super::{
    cache::Cache,
    conditions::Look,
    entity::{Node, Refusal, Vocabulary},
    error::PolicyError,
    http::KnownRequest,
    question::Question,
    rules::{Rule, RuleSet},
    slice::{Asker, Index},
};
use crate::domain::{
    action::TargetFacts,
    decision::{Decision, MaskPlan},
    flow::Workload,
    principal::Principal,
    statement::Statement,
};

/// Unique within this run of the program, also across several sets of policies.
static EPOCH: AtomicU64 = AtomicU64::new(1);

/// See the module's description.
#[derive(Debug)]
pub(super) struct State {
    pub(super) epoch: u64,
    pub(super) set: RuleSet,
    pub(super) vocabulary: Vocabulary,
    pub(super) index: Index,
    authorizer: Authorizer,
    /// The issuer whose groups have plain names as well, if it is the only one.
    sole_issuer: Option<String>,
    pub(super) hashing: RandomState,
    askers: Cache<KnownAsker>,
    pub(super) decisions: Cache<KnownDecision>,
    pub(super) answers: Cache<KnownAnswer>,
    pub(super) plans: Cache<KnownPlan>,
    pub(super) requests: Cache<KnownRequest>,
}

/// What of a principal and its workload policies can see.
#[derive(Debug)]
pub(super) struct Identity {
    principal: Principal,
    label: Option<String>,
}

impl Identity {
    pub(super) fn of(principal: &Principal, workload: &Workload) -> Self {
        Self { principal: principal.clone(), label: workload.label.clone() }
    }

    /// Everything but the expiry, which `identity` watches and no policy sees.
    pub(super) fn is(&self, principal: &Principal, workload: &Workload) -> bool {
        let known = &self.principal;
        known.subject == principal.subject
            && known.issuer_url == principal.issuer_url
            && known.issuer == principal.issuer
            && known.groups == principal.groups
            && known.roles == principal.roles
            && known.claims == principal.claims
            && self.label == workload.label
    }
}

#[derive(Debug)]
struct KnownAsker {
    identity: Identity,
    asker: Arc<Asker>,
}

/// A decision, with everything that it rests on.
#[derive(Debug)]
pub(super) struct KnownDecision {
    pub(super) identity: Identity,
    pub(super) target: String,
    /// The tags of the columns asked for; the columns are those of the statements, in order.
    pub(super) tags: Vec<Option<BTreeSet<String>>>,
    /// `None` is `Connect`.
    pub(super) statements: Option<Vec<Statement>>,
    pub(super) decision: Decision,
}

/// What the rules say to one question of one agent. It holds the agent, so that another one cannot come to
/// stand at the same address.
#[derive(Debug)]
pub(super) struct KnownAnswer {
    pub(super) asker: Arc<Asker>,
    pub(super) question: Question<'static>,
    pub(super) finding: Finding,
}

/// A target's masks, with everything that they rest on.
#[derive(Debug)]
pub(super) struct KnownPlan {
    pub(super) identity: Identity,
    pub(super) target: TargetFacts,
    pub(super) catalogue_epoch: u64,
    pub(super) plan: Arc<MaskPlan>,
}

/// The rules that had a say on one question, by index, each list in order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) permits: Vec<usize>,
    pub(super) forbids: Vec<usize>,
    pub(super) errors: Vec<(usize, String)>,
}

impl Finding {
    /// Whether nothing permits and nothing refuses.
    pub(super) fn is_left_open(&self, rules: &[Rule]) -> bool {
        let mut forbids = self.forbids.iter();
        self.permits.is_empty()
            && self.errors.is_empty()
            && !forbids.any(|rule| rules.get(*rule).is_none_or(Rule::refuses))
    }
}

/// Whether permits are evaluated when a forbid already decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Only what the decision needs.
    Decide,
    /// Everything, to be shown.
    Explain,
}

impl State {
    pub(super) fn new(set: RuleSet, issuers: &[String]) -> Result<Self, PolicyError> {
        let vocabulary = Vocabulary::new(&set.schema)?;
        let index = Index::new(&set, &vocabulary.actions)?;
        Ok(Self {
            epoch: EPOCH.fetch_add(1, Ordering::Relaxed),
            set,
            vocabulary,
            index,
            authorizer: Authorizer::new(),
            sole_issuer: match issuers {
                [only] => Some(only.clone()),
                _ => None,
            },
            hashing: RandomState::new(),
            askers: Cache::default(),
            decisions: Cache::default(),
            answers: Cache::default(),
            plans: Cache::default(),
            requests: Cache::default(),
        })
    }

    /// Whether some rule has a say on columns that are written.
    pub(super) fn speaks_of_writing(&self) -> bool {
        self.index.covers(&self.vocabulary.write)
    }

    /// The agent as Cedar sees it.
    pub(super) fn asker(&self, principal: &Principal, workload: &Workload) -> Result<Arc<Asker>, Refusal> {
        let hash = self.hash(principal, workload, "", None);
        if let Some(known) = self.askers.find(hash, |known| known.identity.is(principal, workload)) {
            return Ok(Arc::clone(&known.asker));
        }
        let plain_names = self.sole_issuer.as_ref().is_some_and(|only| *only == principal.issuer);
        let asker = Arc::new(Asker::new(self.vocabulary.agent(principal, workload, plain_names)?));
        self.askers.insert(
            hash,
            Arc::new(KnownAsker { identity: Identity::of(principal, workload), asker: Arc::clone(&asker) }),
        );
        Ok(asker)
    }

    /// Finds cache entries; equality decides.
    pub(super) fn hash_question(&self, asker: &Arc<Asker>, question: &Question<'_>) -> u64 {
        self.hashing.hash_one((Arc::as_ptr(asker), question))
    }

    /// Finds cache entries; equality decides.
    pub(super) fn hash(
        &self,
        principal: &Principal,
        workload: &Workload,
        target: &str,
        statements: Option<&[Statement]>,
    ) -> u64 {
        let mut hasher = self.hashing.build_hasher();
        principal.issuer_url.hash(&mut hasher);
        principal.subject.hash(&mut hasher);
        principal.groups.hash(&mut hasher);
        principal.roles.hash(&mut hasher);
        principal.claims.hash(&mut hasher);
        workload.label.hash(&mut hasher);
        target.hash(&mut hasher);
        statements.hash(&mut hasher);
        hasher.finish()
    }

    /// The entities of a request. Actions that are not asked for are there only if some policy speaks of actions
    /// outside its scope.
    fn entities(
        &self,
        asker: &Asker,
        action: &EntityUid,
        resource: &Node,
        others: Vec<Entity>,
    ) -> Result<Entities, Refusal> {
        let names_actions = self.set.looks_at(Look::Actions);
        let actions = self
            .vocabulary
            .actions
            .iter()
            .filter(|(uid, _)| names_actions || *uid == action)
            .map(|(_, entity)| entity.clone());
        let both = [asker.node.entity.clone(), resource.entity.clone()];
        Entities::from_entities(actions.chain(both).chain(others), None)
            .map_err(|error| Refusal(error.to_string()))
    }

    /// Puts one question to the rules that can have a say in it.
    pub(super) fn ask(
        &self,
        asker: &Asker,
        action: &EntityUid,
        resource: &Node,
        context: Context,
        depth: Depth,
    ) -> Result<Finding, Refusal> {
        self.ask_among(asker, action, resource, context, depth, Vec::new())
    }

    /// The same with further entities, which the context refers to.
    pub(super) fn ask_among(
        &self,
        asker: &Asker,
        action: &EntityUid,
        resource: &Node,
        context: Context,
        depth: Depth,
        others: Vec<Entity>,
    ) -> Result<Finding, Refusal> {
        let candidates = self.index.candidates(asker, action, resource);
        if candidates.is_empty() {
            return Ok(Finding::default());
        }
        let slice = self.index.slice(&candidates, &self.set.rules).map_err(Refusal)?;
        let request =
            Request::new(asker.node.uid.clone(), action.clone(), resource.uid.clone(), context, None)
                .map_err(|error| Refusal(error.to_string()))?;
        let entities = &self.entities(asker, action, resource, others)?;
        let mut finding = Finding::default();
        finding.forbids = self.satisfied(&request, &slice.forbids, entities, &mut finding.errors)?;
        let decided = !finding.errors.is_empty()
            || finding.forbids.iter().any(|rule| self.set.rules.get(*rule).is_none_or(Rule::refuses));
        if depth == Depth::Explain || !decided {
            finding.permits = self.satisfied(&request, &slice.permits, entities, &mut finding.errors)?;
        }
        finding.errors.sort_unstable();
        Ok(finding)
    }

    /// The policies of `set`, all of one effect, that are satisfied.
    fn satisfied(
        &self,
        request: &Request,
        set: &PolicySet,
        entities: &Entities,
        errors: &mut Vec<(usize, String)>,
    ) -> Result<Vec<usize>, Refusal> {
        if set.is_empty() {
            return Ok(Vec::new());
        }
        let response = self.authorizer.is_authorized(request, set, entities);
        let rule = |id: &cedar_policy::PolicyId| {
            self.set.by_id.get(id).copied().ok_or_else(|| Refusal(format!("unknown policy {id} answered")))
        };
        for error in response.diagnostics().errors() {
            let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
            errors.push((rule(error.policy_id())?, error.inner().to_string()));
        }
        let mut satisfied: Vec<usize> =
            response.diagnostics().reason().map(rule).collect::<Result<_, _>>()?;
        satisfied.sort_unstable();
        Ok(satisfied)
    }
}
