//! From a request to a decision: which questions it poses, and what their answers amount to.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use cedar_policy::{Context, RestrictedExpression};

use super::{
    entity::{Node, Refusal, Vocabulary},
    every,
    explain::Answer,
    question::{Alike, Facts, Message, Question, Subject, alike},
    slice::Asker,
    state::{Depth, KnownAnswer, State},
    verdict::Verdict,
};
use crate::domain::{
    action::{Action, Lookup, ServerTrust, TargetFacts},
    decision::Decision,
    statement::{ColumnName, ColumnUse, Statement},
};

/// Judges `action`, adding every answer to `answers` if it is there.
pub(super) fn judge(
    state: &State,
    asker: Result<&Arc<Asker>, Refusal>,
    target: &TargetFacts,
    action: Action<'_>,
    answers: Option<&mut Vec<Answer>>,
) -> Decision {
    let mut verdict = Verdict::new(state, answers);
    let outcome = asker.and_then(|asker| {
        let mut judge = Judge { state, asker, target, verdict: &mut verdict };
        match action {
            Action::Connect => judge.connect(),
            Action::Sql(statements) => judge.statements(statements),
        }
    });
    if let Err(refusal) = outcome {
        verdict.refuse(&refusal);
    }
    verdict.decision()
}

/// Judges a question to the DNS. What no rule forbids is permitted as well to whoever may connect to a target of that
/// name: a target that cannot be found is no target.
pub(super) fn judge_lookup(
    state: &State,
    asker: Result<&Arc<Asker>, Refusal>,
    lookup: &Lookup<'_>,
    answers: Option<&mut Vec<Answer>>,
) -> Decision {
    let mut verdict = Verdict::new(state, answers);
    let outcome = asker.and_then(|asker| {
        let depth = if verdict.answers.is_some() { Depth::Explain } else { Depth::Decide };
        let resource = state.vocabulary.dns_name(lookup)?;
        let finding =
            state.ask(asker, &state.vocabulary.resolve, &resource, lookup_context(lookup)?, depth)?;
        let left_open = finding.forbids.is_empty() && finding.permits.is_empty() && finding.errors.is_empty();
        if left_open {
            for target in lookup.targets {
                let mut attempt = Judge { state, asker, target, verdict: &mut verdict };
                if attempt.may_connect()? {
                    attempt.connect()?;
                    return Ok(());
                }
            }
        }
        verdict.lookup(lookup, &finding);
        Ok(())
    });
    if let Err(refusal) = outcome {
        verdict.refuse(&refusal);
    }
    verdict.decision()
}

fn lookup_context(lookup: &Lookup<'_>) -> Result<Context, Refusal> {
    let pairs = [
        ("type".to_owned(), RestrictedExpression::new_string(lookup.kind.to_owned())),
        ("server".to_owned(), RestrictedExpression::new_ip(lookup.server.to_string())),
        ("trusted".to_owned(), RestrictedExpression::new_bool(lookup.trust == ServerTrust::Trusted)),
    ];
    Context::from_pairs(pairs).map_err(|error| Refusal(error.to_string()))
}

struct Judge<'a, 'v> {
    state: &'a State,
    asker: &'a Arc<Asker>,
    target: &'a TargetFacts,
    verdict: &'v mut Verdict<'a>,
}

impl<'a> Judge<'a, '_> {
    fn connect(&mut self) -> Result<(), Refusal> {
        self.thing(&Subject::Connect, Facts::plain(), None)
    }

    /// Whether [`Self::connect`] would find nothing against it.
    fn may_connect(&self) -> Result<bool, Refusal> {
        let known = self.answer(Subject::Connect, Facts::plain(), Vocabulary::target)?;
        let finding = &known.finding;
        Ok(finding.errors.is_empty() && finding.forbids.is_empty() && !finding.permits.is_empty())
    }

    fn statements(&mut self, statements: &'a [Statement]) -> Result<(), Refusal> {
        let message = if statements.len() > 1 { Message::Several } else { Message::One };
        for statement in statements {
            // One behind PREPARE has the limits of its rows for it.
            for statement in every(std::slice::from_ref(statement)) {
                self.statement(statement, message)?;
            }
            self.verdict.statement_ends();
        }
        Ok(())
    }

    fn statement(&mut self, statement: &'a Statement, message: Message) -> Result<(), Refusal> {
        if statement.effects.is_empty() {
            return Err(Refusal("a statement without any effect was read".to_owned()));
        }
        let facts = Facts::of(self.state, statement, message);
        // What must be named is told first: that is what a policy has to be asked for.
        let named = statement.effects.iter().filter(|effect| effect.verb.must_be_named());
        let others = statement.effects.iter().filter(|effect| !effect.verb.must_be_named());
        for effect in named.chain(others) {
            let subject = match &effect.relation {
                Some(relation) => Subject::Table(effect.verb, Cow::Borrowed(relation)),
                None => Subject::Target(effect.verb),
            };
            self.thing(&subject, facts.clone(), Some(statement))?;
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
                if usage == ColumnUse::Written {
                    self.verdict.written(self.target, column, &known.finding);
                } else {
                    self.verdict.column(self.target, column, usage, statement, &known.finding);
                }
            }
        }
        Ok(())
    }

    /// The columns that policies have a say on, grouped by what they can see of them. Of those written only a rule that
    /// speaks of writing has one: their table's verb is asked for as well.
    fn classes(&self, statement: &'a Statement) -> HashMap<Alike<'a>, Vec<&'a ColumnName>> {
        let mut classes: HashMap<Alike<'a>, Vec<&'a ColumnName>> = HashMap::new();
        let mut key = String::new();
        for access in &statement.columns {
            if access.usage == ColumnUse::Written && !self.state.speaks_of_writing() {
                continue;
            }
            let tags = tags_of(self.target, &access.column, &mut key);
            let class = alike(self.state, &self.target.name, access.usage, &access.column, tags);
            classes.entry(class).or_default().push(&access.column);
        }
        classes
    }

    /// A relation, or the target itself.
    fn thing(
        &mut self,
        subject: &Subject<'a>,
        facts: Facts<'a>,
        statement: Option<&Statement>,
    ) -> Result<(), Refusal> {
        let known = self.answer(subject.clone(), facts, |vocabulary, target| match subject {
            Subject::Table(_, relation) => vocabulary.table(target, relation),
            Subject::Connect | Subject::Target(_) | Subject::Column(_) => vocabulary.target(target),
        })?;
        self.verdict.thing(self.target, subject, statement, &known.finding);
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
            Subject::Column(alike) if alike.usage == ColumnUse::Written => Some(&vocabulary.write),
            Subject::Column(_) => Some(&vocabulary.read),
        };
        let action = action.ok_or_else(|| Refusal("the action is not in the schema".to_owned()))?;
        let resource = resource(vocabulary, &self.target.name)?;
        let context = question.context()?;
        let depth = if explains { Depth::Explain } else { Depth::Decide };
        let finding = self.state.ask(self.asker, action, &resource, context, depth)?;
        let known =
            Arc::new(KnownAnswer { asker: Arc::clone(self.asker), question: question.into_owned(), finding });
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
