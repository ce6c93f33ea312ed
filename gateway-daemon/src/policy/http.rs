//! HTTP requests as questions: every reading of the path is one, and all must be permitted.
//!
//! What no policy mentions (a parameter, a field) is not shown to Cedar, so that requests that differ in nothing that
//! policies see are one question, whose answer is kept.

use std::{
    hash::{BuildHasher as _, Hash as _, Hasher as _},
    sync::Arc,
};

use cedar_policy::{Context, Entity, RestrictedExpression};

use super::{
    conditions::Look,
    entity::{HTTP_HEADERS, HTTP_QUERY, Refusal},
    explain::Answer,
    slice::Asker,
    state::{Depth, Identity, State},
    verdict::Verdict,
};
use crate::domain::{
    action::TargetFacts,
    decision::Decision,
    flow::Workload,
    http::{HttpRequest, Method, NamedValues},
    principal::Principal,
};

/// A request with more readings than this, or with a longer path, is judged anew each time.
const KEPT_READINGS: usize = 4;
const KEPT_PATH_BYTES: usize = 512;

/// A decision on a request, with everything that it rests on.
#[derive(Debug)]
pub(super) struct KnownRequest {
    identity: Identity,
    target: String,
    seen: Seen,
    decision: Decision,
}

/// What policies can see of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Seen {
    method: Method,
    host: String,
    paths: Vec<String>,
    context: Option<Shown>,
}

/// What they can see of it beside method, host and path; absent where no policy looks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Shown {
    query: NamedValues,
    headers: NamedValues,
    secure: bool,
    content_type: Option<String>,
    content_length: Option<u64>,
}

/// The decision on a request, from the cache or by asking.
pub(super) fn decide(
    state: &State,
    principal: &Principal,
    workload: &Workload,
    target: &TargetFacts,
    request: &HttpRequest<'_>,
) -> Decision {
    let seen = Seen::of(state, request);
    let hash = {
        let mut hasher = state.hashing.build_hasher();
        hasher.write_u64(state.hash(principal, workload, &target.name, None));
        seen.hash(&mut hasher);
        hasher.finish()
    };
    let known = state.requests.find(hash, |known| {
        known.identity.is(principal, workload) && known.target == target.name && known.seen == seen
    });
    if let Some(known) = known {
        return known.decision.clone();
    }
    let asker = state.asker(principal, workload);
    let decision = judge(state, asker.as_ref().map_err(Clone::clone), target, &seen, None);
    if seen.is_worth_keeping() {
        let identity = Identity::of(principal, workload);
        let known = KnownRequest { identity, target: target.name.clone(), seen, decision: decision.clone() };
        state.requests.insert(hash, Arc::new(known));
    }
    decision
}

/// The same decision with every answer.
pub(super) fn explain(
    state: &State,
    principal: &Principal,
    workload: &Workload,
    target: &TargetFacts,
    request: &HttpRequest<'_>,
) -> (Decision, Vec<Answer>) {
    let mut answers = Vec::new();
    let asker = state.asker(principal, workload);
    let seen = Seen::of(state, request);
    let decision = judge(state, asker.as_ref().map_err(Clone::clone), target, &seen, Some(&mut answers));
    (decision, answers)
}

fn judge(
    state: &State,
    asker: Result<&Arc<Asker>, Refusal>,
    target: &TargetFacts,
    seen: &Seen,
    answers: Option<&mut Vec<Answer>>,
) -> Decision {
    let depth = if answers.is_some() { Depth::Explain } else { Depth::Decide };
    let mut verdict = Verdict::new(state, answers);
    let outcome = asker.and_then(|asker| {
        if seen.paths.is_empty() {
            return Err(Refusal("a request without a path was read".to_owned()));
        }
        let vocabulary = &state.vocabulary;
        let action = vocabulary.method(seen.method);
        let action = action.ok_or_else(|| Refusal("the action is not in the schema".to_owned()))?;
        let others = seen.entities(state)?;
        for path in &seen.paths {
            let resource = vocabulary.http_path(&target.name, &seen.host, path)?;
            let finding =
                state.ask_among(asker, action, &resource, seen.context(state)?, depth, others.clone())?;
            verdict.request(seen.method, &resource.uid, &finding);
        }
        Ok(())
    });
    if let Err(refusal) = outcome {
        verdict.refuse(&refusal);
    }
    verdict.decision()
}

impl Seen {
    fn of(state: &State, request: &HttpRequest<'_>) -> Self {
        let set = &state.set;
        let context = set.looks_at(Look::Context).then(|| Shown {
            query: set.mentioned(|| request.details.query()),
            headers: set.mentioned(|| request.details.headers()),
            secure: request.secure,
            content_type: request.content_type.map(ToOwned::to_owned),
            content_length: request.content_length,
        });
        Self { method: request.method, host: request.host.to_owned(), paths: request.paths.to_vec(), context }
    }

    fn is_worth_keeping(&self) -> bool {
        self.paths.len() <= KEPT_READINGS && self.paths.iter().all(|path| path.len() <= KEPT_PATH_BYTES)
    }

    /// The entities that the context refers to.
    fn entities(&self, state: &State) -> Result<Vec<Entity>, Refusal> {
        let none = NamedValues::new();
        let (query, headers) = match &self.context {
            Some(shown) => (&shown.query, &shown.headers),
            None => (&none, &none),
        };
        let vocabulary = &state.vocabulary;
        Ok(vec![vocabulary.http_values(HTTP_QUERY, query)?, vocabulary.http_values(HTTP_HEADERS, headers)?])
    }

    fn context(&self, state: &State) -> Result<Context, Refusal> {
        let vocabulary = &state.vocabulary;
        let values = |name| RestrictedExpression::new_entity_uid(vocabulary.http_values_uid(name));
        let mut pairs = vec![
            ("query".to_owned(), values(HTTP_QUERY)),
            ("headers".to_owned(), values(HTTP_HEADERS)),
            (
                "secure".to_owned(),
                RestrictedExpression::new_bool(self.context.as_ref().is_some_and(|shown| shown.secure)),
            ),
        ];
        if let Some(shown) = &self.context {
            if let Some(media_type) = &shown.content_type {
                let media_type = RestrictedExpression::new_string(media_type.clone());
                pairs.push(("content_type".to_owned(), media_type));
            }
            if let Some(length) = shown.content_length {
                let length = i64::try_from(length).unwrap_or(i64::MAX);
                pairs.push(("content_length".to_owned(), RestrictedExpression::new_long(length)));
            }
        }
        Context::from_pairs(pairs).map_err(|error| Refusal(error.to_string()))
    }
}
