//! From a request to a decision: which questions it poses, and what their answers amount to.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    every,
    explain::{Answer, Outcome, RuleError, RuleRef},
    entity::{Node, Refusal, Vocabulary, table_id},
    question::{Facts, Message, Question, Subject, alike, Alike},
    rules::Rule,
    slice::Asker,
    state::{Depth, Finding, KnownAnswer, State},
};
use crate::domain::{
    action::{Action, TargetFacts},
    decision::{Decision, Denial, Mask, MaskPlan},
    ids::PolicyId,
    statement::{ColumnName, ColumnUse, Statement},
};

/// Nothing permitted.
pub const DEFAULT_DENY: &str = "builtin/default-deny";
/// A policy could not be evaluated, or a request could not be put to the policies.
pub const POLICY_ERROR: &str = "builtin/policy-error";

/// Judges `action`, adding every answer to `answers` if it is there.
pub(super) fn judge(
    state: &State,
    asker: Result<&Arc<Asker>, Refusal>,
    target: &TargetFacts,
    action: Action<'_>,
    answers: Option<&mut Vec<Answer>>,
) -> Decision {
    let mut verdict = Verdict { state, answers, masks: MaskPlan::default(), permits: BTreeSet::new(), denials: Vec::new() };
    let outcome = asker.and_then(|asker| {
        let mut judge = Judge { state, asker, target, verdict: &mut verdict };
        match action {
            Action::Connect => judge.connect(),
            Action::Sql(statements) => judge.statements(statements),
        }
    });
    if let Err(Refusal(reason)) = outcome {
        verdict.deny(Denied {
            rank: Rank::Error,
            reason: format!("the request could not be put to the policies: {reason}"),
            hint: Some(TELL_THE_AUTHORS.to_owned()),
            policies: vec![PolicyId::from(POLICY_ERROR)],
        });
    }
    verdict.decision()
}

const TELL_THE_AUTHORS: &str = "Nothing was run. Tell the people who keep the policies.";

struct Judge<'a, 'v> {
    state: &'a State,
    asker: &'a Arc<Asker>,
    target: &'a TargetFacts,
    verdict: &'v mut Verdict<'a>,
}

impl<'a> Judge<'a, '_> {
    fn connect(&mut self) -> Result<(), Refusal> {
        self.thing(Subject::Connect, Facts::plain())
    }

    fn statements(&mut self, statements: &'a [Statement]) -> Result<(), Refusal> {
        let message = if statements.len() > 1 { Message::Several } else { Message::One };
        for statement in every(statements) {
            self.statement(statement, message)?;
        }
        Ok(())
    }

    fn statement(&mut self, statement: &'a Statement, message: Message) -> Result<(), Refusal> {
        if statement.effects.is_empty() {
            return Err(Refusal("a statement without any effect was read".to_owned()));
        }
        let facts = Facts::of(self.state, statement, message);
        for effect in &statement.effects {
            let subject = match &effect.relation {
                Some(relation) => Subject::Table(effect.verb, Cow::Borrowed(relation)),
                None => Subject::Target(effect.verb),
            };
            self.thing(subject, facts.clone())?;
        }
        let mut classes: Vec<_> = self.classes(statement).into_iter().collect();
        classes.sort_by(|(one, of_one), (other, of_other)| (one.usage, of_one).cmp(&(other.usage, of_other)));
        for (alike, members) in classes {
            let Some(first) = members.first() else { continue };
            let usage = alike.usage;
            let tags = alike.tags.clone();
            let known = self.answer(Subject::Column(alike), facts.clone(), |vocabulary, target| {
                vocabulary.column(target, first, tags.as_deref())
            })?;
            for column in members {
                self.verdict.column(self.target, column, usage, &known.finding);
            }
        }
        Ok(())
    }

    /// The columns read, grouped by what policies can see of them.
    fn classes(&self, statement: &'a Statement) -> HashMap<Alike<'a>, Vec<&'a ColumnName>> {
        let mut classes: HashMap<Alike<'a>, Vec<&'a ColumnName>> = HashMap::new();
        let mut key = String::new();
        for access in &statement.columns {
            if access.usage == ColumnUse::Written {
                continue; // judged as the statement's verb on the table
            }
            let tags = tags_of(self.target, &access.column, &mut key);
            let class = alike(self.state, &self.target.name, access.usage, &access.column, tags);
            classes.entry(class).or_default().push(&access.column);
        }
        classes
    }

    /// A relation, or the target itself.
    fn thing(&mut self, subject: Subject<'a>, facts: Facts<'a>) -> Result<(), Refusal> {
        let known = self.answer(subject.clone(), facts, |vocabulary, target| match &subject {
            Subject::Table(_, relation) => vocabulary.table(target, relation),
            Subject::Connect | Subject::Target(_) | Subject::Column(_) => vocabulary.target(target),
        })?;
        self.verdict.thing(self.target, &subject, &known.finding);
        Ok(())
    }

    /// What the rules say, from the cache or by asking them. An explanation wants more than the cache has.
    fn answer(
        &self,
        subject: Subject<'a>,
        facts: Facts<'a>,
        resource: impl FnOnce(&Vocabulary, &str) -> Result<Node, Refusal>,
    ) -> Result<Arc<KnownAnswer>, Refusal> {
        let question = Question { target: Cow::Borrowed(&self.target.name), subject, facts };
        let explains = self.verdict.answers.is_some();
        let hash = self.state.hash_question(self.asker, &question);
        let known = if explains {
            None
        } else {
            self.state
                .answers
                .find(hash, |known| Arc::ptr_eq(&known.asker, self.asker) && known.question == question)
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let vocabulary = &self.state.vocabulary;
        let action = match &question.subject {
            Subject::Connect => Some(&vocabulary.connect),
            Subject::Target(verb) | Subject::Table(verb, _) => vocabulary.verb(*verb),
            Subject::Column(_) => Some(&vocabulary.read),
        };
        let action = action.ok_or_else(|| Refusal("the action is not in the schema".to_owned()))?;
        let resource = resource(vocabulary, &self.target.name)?;
        let context = question.context()?;
        let depth = if explains { Depth::Explain } else { Depth::Decide };
        let finding = self.state.ask(self.asker, action, &resource, context, depth)?;
        let known = Arc::new(KnownAnswer {
            asker: Arc::clone(self.asker),
            question: question.into_owned(),
            finding,
        });
        if !explains {
            self.state.answers.insert(hash, Arc::clone(&known));
        }
        Ok(known)
    }
}

/// The tags of `column`; `key` is scratch space.
pub(super) fn tags_of<'a>(
    target: &'a TargetFacts,
    column: &ColumnName,
    key: &mut String,
) -> Option<&'a BTreeSet<String>> {
    if target.tags.is_empty() {
        return None;
    }
    key.clear();
    for part in [&column.relation.schema, ".", &column.relation.name, ".", &column.column] as [&str; 5] {
        key.push_str(part);
    }
    target.tags.get(key.as_str())
}

/// The most telling denial comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Error,
    Forbidden,
    MaskedUse,
    NotPermitted,
}

struct Denied {
    rank: Rank,
    reason: String,
    hint: Option<String>,
    policies: Vec<PolicyId>,
}

/// The strongest mask among the forbids that apply.
pub(super) fn strongest_mask(rules: &[Rule], finding: &Finding) -> Option<Mask> {
    finding
        .forbids
        .iter()
        .filter_map(|rule| rules.get(*rule))
        .filter_map(|rule| Some(Mask { transform: rule.mask?, policy: rule.id.clone() }))
        .reduce(|one, other| if one.transform.stronger(other.transform) == one.transform { one } else { other })
}

/// The answers so far.
struct Verdict<'a> {
    state: &'a State,
    answers: Option<&'a mut Vec<Answer>>,
    masks: MaskPlan,
    permits: BTreeSet<usize>,
    denials: Vec<Denied>,
}

impl Verdict<'_> {
    fn deny(&mut self, denied: Denied) {
        self.denials.push(denied);
    }

    fn ids(&self, rules: &[usize]) -> Vec<PolicyId> {
        rules.iter().filter_map(|rule| self.state.set.rules.get(*rule)).map(|rule| rule.id.clone()).collect()
    }

    /// A relation or the target itself.
    fn thing(&mut self, target: &TargetFacts, subject: &Subject<'_>, finding: &Finding) {
        let what = || match subject {
            Subject::Table(_, relation) => format!("{} on {}", subject.action(), table_id(&target.name, relation)),
            Subject::Connect | Subject::Target(_) | Subject::Column(_) => {
                format!("{} on {}", subject.action(), target.name)
            }
        };
        let outcome = self.settle(what, finding);
        if self.answers.is_some() {
            let vocabulary = &self.state.vocabulary;
            let uid = match subject {
                Subject::Table(_, relation) => vocabulary.table_uid(&target.name, relation),
                Subject::Connect | Subject::Target(_) | Subject::Column(_) => vocabulary.target_uid(&target.name),
            };
            self.note(&subject.action(), uid.to_string(), None, outcome, finding);
        }
    }

    /// A column that is read.
    fn column(&mut self, target: &TargetFacts, column: &ColumnName, usage: ColumnUse, finding: &Finding) {
        let mut outcome = self.settle(|| format!("reading {column} of {}", target.name), finding);
        if outcome == Outcome::Permitted
            && let Some(mask) = strongest_mask(&self.state.set.rules, finding)
        {
            if usage == ColumnUse::Projected {
                outcome = Outcome::Masked;
                self.masks.columns.insert(column.clone(), mask);
            } else {
                outcome = Outcome::MaskedUse;
                let (used, instead) = match usage {
                    ColumnUse::Compared => (
                        "compared (WHERE, JOIN, ORDER BY, GROUP BY)",
                        "Select the column itself, without filtering, joining, sorting or grouping by it.",
                    ),
                    ColumnUse::Moved | ColumnUse::Projected | ColumnUse::Written => (
                        "moved to where it cannot be masked",
                        "Select the column itself, without storing, copying or exporting it.",
                    ),
                };
                self.deny(Denied {
                    rank: Rank::MaskedUse,
                    reason: format!(
                        "{column} is masked for this agent by policy \"{}\", and here it would be {used}",
                        mask.policy
                    ),
                    hint: Some(instead.to_owned()),
                    policies: vec![mask.policy],
                });
            }
        }
        if self.answers.is_some() {
            let uid = self.state.vocabulary.column_uid(&target.name, column).to_string();
            self.note("sql:read", uid, Some(usage), outcome, finding);
        }
    }

    /// Everything but masks: errors, forbids, and whether anything permits.
    fn settle(&mut self, what: impl FnOnce() -> String, finding: &Finding) -> Outcome {
        let set = &self.state.set;
        if !finding.errors.is_empty() {
            let erring: Vec<usize> = finding.errors.iter().map(|(rule, _)| *rule).collect();
            let mut policies = self.ids(&erring);
            let named = policies.first().map(ToString::to_string).unwrap_or_default();
            policies.push(PolicyId::from(POLICY_ERROR));
            self.deny(Denied {
                rank: Rank::Error,
                reason: format!("policy \"{named}\" could not be evaluated for {}", what()),
                hint: Some(TELL_THE_AUTHORS.to_owned()),
                policies,
            });
            return Outcome::Failed;
        }
        let hard: Vec<usize> = finding
            .forbids
            .iter()
            .copied()
            .filter(|rule| set.rules.get(*rule).is_none_or(|rule| rule.mask.is_none()))
            .collect();
        if !hard.is_empty() {
            let policies = self.ids(&hard);
            let named = policies.first().map(ToString::to_string).unwrap_or_default();
            let rules = || hard.iter().filter_map(|rule| set.rules.get(*rule));
            let hint = rules().find_map(|rule| rule.message.clone());
            let approval = rules().find_map(|rule| rule.approval.as_ref()).map(|approvers| {
                format!("Approval by \"{approvers}\" would be needed, which this version cannot ask for.")
            });
            let hint = match (hint, approval) {
                (Some(hint), Some(approval)) => Some(format!("{hint} {approval}")),
                (hint, approval) => hint.or(approval),
            };
            self.deny(Denied {
                rank: Rank::Forbidden,
                reason: format!("policy \"{named}\" forbids {}", what()),
                hint,
                policies,
            });
            return Outcome::Forbidden;
        }
        if finding.permits.is_empty() {
            self.deny(Denied {
                rank: Rank::NotPermitted,
                reason: format!("no policy permits {}", what()),
                hint: Some("Do without it, or ask for a policy that permits it.".to_owned()),
                policies: vec![PolicyId::from(DEFAULT_DENY)],
            });
            return Outcome::NotPermitted;
        }
        self.permits.extend(&finding.permits);
        Outcome::Permitted
    }

    fn note(
        &mut self,
        action: &str,
        resource: String,
        usage: Option<ColumnUse>,
        outcome: Outcome,
        finding: &Finding,
    ) {
        let Some(answers) = self.answers.as_deref_mut() else {
            return;
        };
        let rules = &self.state.set.rules;
        let refer = |indexes: &[usize]| {
            indexes.iter().filter_map(|rule| rules.get(*rule)).map(RuleRef::of).collect()
        };
        let errors = finding.errors.iter().filter_map(|(rule, error)| {
            rules.get(*rule).map(|rule| RuleError { id: rule.id.clone(), error: error.clone() })
        });
        answers.push(Answer {
            action: action.to_owned(),
            resource,
            usage,
            outcome,
            permits: refer(&finding.permits),
            forbids: refer(&finding.forbids),
            errors: errors.collect(),
        });
    }

    fn decision(mut self) -> Decision {
        if self.denials.is_empty() {
            let permits: Vec<usize> = self.permits.iter().copied().collect();
            return Decision::Allow { policies: self.ids(&permits), masks: self.masks };
        }
        self.denials.sort_by_key(|denied| denied.rank);
        let mut policies: Vec<PolicyId> = Vec::new();
        for id in self.denials.iter().flat_map(|denied| &denied.policies) {
            if !policies.contains(id) {
                policies.push(id.clone());
            }
        }
        let (reason, hint) = self
            .denials
            .into_iter()
            .next()
            .map(|denied| (denied.reason, denied.hint))
            .unwrap_or_default();
        Decision::Deny(Denial { reason, hint, policies })
    }
}
