//! What the answers to a request's questions amount to: masks and permits, or the most telling denial.

use std::{borrow::Cow, collections::BTreeSet};

use cedar_policy::EntityUid;

use super::{
    entity::{Refusal, SQL_WRITE, table_id},
    explain::{Answer, Outcome, RuleError, RuleRef},
    question::Subject,
    rules::{Comparable, Rule},
    state::{Finding, State},
};
use crate::domain::{
    action::{Lookup, TargetFacts},
    decision::{ContentMask, Decision, Denial, Mask, MaskPlan, MaxRows, RecordLimits, Transform},
    http::Method,
    ids::PolicyId,
    statement::{ColumnName, ColumnUse, CopyDirection, Opaque, Run, Statement, Verb},
};

/// Nothing permitted.
pub const DEFAULT_DENY: &str = "builtin/default-deny";
/// A policy could not be evaluated, or a request could not be put to the policies.
pub const POLICY_ERROR: &str = "builtin/policy-error";

const DO_WITHOUT: &str = "Do without it, or ask for a policy that permits it.";
const TELL_THE_AUTHORS: &str = "Nothing was run. Tell the people who keep the policies.";

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

/// Which code cannot be read: `sql:call` alone would not tell an agent what to leave out.
fn unreadable(statement: Option<&Statement>) -> String {
    let names: Vec<&str> = statement
        .into_iter()
        .flat_map(|statement| &statement.opaque)
        .map(|opaque| match opaque {
            Opaque::Function(name) | Opaque::Operator(name) | Opaque::Code(name) => name.as_str(),
        })
        .take(3)
        .collect();
    if names.is_empty() {
        String::new()
    } else {
        format!(" (code that cannot be read: {})", names.join(", "))
    }
}

/// What nobody can follow to the columns that it may show.
fn unfollowed(statement: Option<&Statement>) -> String {
    let all = statement.into_iter().flat_map(|statement| &statement.out_of_sight);
    let names: Vec<&str> = all.map(String::as_str).take(3).collect();
    if names.is_empty() {
        String::new()
    } else {
        format!(" (it could show what is masked, and cannot be read: {})", names.join(", "))
    }
}

/// What is asked for by another way than SQL.
fn past_sql(statement: Option<&Statement>) -> String {
    let Some(statement) = statement else { return String::new() };
    match statement.replication {
        Some(command) => command.as_str().to_owned(),
        None => statement.functions.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    }
}

/// What the forbids that apply look for inside values.
pub(super) fn content_mask(rules: &[Rule], finding: &Finding) -> Option<ContentMask> {
    let mut all = ContentMask::default();
    for rule in finding.forbids.iter().filter_map(|rule| rules.get(*rule)) {
        let (Some(transform), Some(detect)) = (rule.mask, &rule.detect) else { continue };
        all.extend(&ContentMask {
            transforms: detect.iter().map(|detector| (*detector, transform)).collect(),
            policies: vec![rule.id.clone()],
        });
    }
    (!all.transforms.is_empty()).then_some(all)
}

/// The strongest mask of whole values among the forbids that apply.
pub(super) fn strongest_mask(rules: &[Rule], finding: &Finding) -> Option<Mask> {
    finding
        .forbids
        .iter()
        .filter_map(|rule| rules.get(*rule))
        .filter(|rule| rule.detect.is_none())
        .filter_map(|rule| Some(Mask { transform: rule.mask?, policy: rule.id.clone() }))
        .reduce(
            |one, other| if one.transform.stronger(other.transform) == one.transform { one } else { other },
        )
}

/// The least number of rows among the forbids that apply.
fn least_rows(rules: &[Rule], finding: &Finding) -> Option<MaxRows> {
    let forbids = finding.forbids.iter().filter_map(|rule| rules.get(*rule));
    let limits = forbids.filter_map(|rule| {
        let (policy, message) = (rule.id.clone(), rule.message.clone());
        Some(MaxRows { rows: rule.max_rows?, policy, message })
    });
    limits.reduce(MaxRows::and)
}

/// Whether every mask of whole values that applies leaves the column to be compared for equality.
fn may_be_matched(rules: &[Rule], finding: &Finding) -> bool {
    let masks = finding.forbids.iter().filter_map(|rule| rules.get(*rule));
    masks.filter(|rule| rule.detect.is_none()).all(|rule| rule.comparable == Comparable::Equal)
}

/// What a statement would do with a masked column, and what it may do instead.
fn in_words(usage: ColumnUse, statement: &Statement) -> (&'static str, &'static str) {
    let defines = statement.does(Verb::Create) || statement.does(Verb::Alter);
    match usage {
        ColumnUse::Tested => {
            ("counted or tested for NULL, which the mask hides", "Count rows with count(*).")
        }
        ColumnUse::Defined => (
            "moved, copied, checked, sorted or derived anew by a definition, where its tag does not follow or the outcome \
             would tell",
            "Leave the column out of the definition, or have it made by somebody for whom it is not masked.",
        ),
        // A definition has no query in which something else could be selected.
        ColumnUse::Matched | ColumnUse::Compared | ColumnUse::Computed
            if defines && !statement.does(Verb::Select) =>
        {
            (
                "used by a definition (a generated column, an index, a constraint, statistics, a row policy), which \
                 keeps or tells something of every value",
                "Define it without the column, or have somebody define it who may see the column.",
            )
        }
        ColumnUse::Matched | ColumnUse::Compared
            if statement.does(Verb::Insert) && !statement.does(Verb::Select) =>
        {
            (
                "compared with what is there (ON CONFLICT, or its WHERE)",
                "Name a conflict of columns that are not masked, or insert without ON CONFLICT.",
            )
        }
        ColumnUse::Matched | ColumnUse::Compared => (
            "compared (WHERE, JOIN, ORDER BY, GROUP BY)",
            "Select the column itself, without filtering, joining, sorting or grouping by it.",
        ),
        ColumnUse::Computed => (
            "computed with in a way that is not known to succeed for every value, or decide what else is \
             computed: an error would tell",
            "Select the column itself, and compute outside of the database.",
        ),
        ColumnUse::Moved | ColumnUse::Projected | ColumnUse::Written => (
            "moved to where it cannot be masked",
            "Select the column itself, without storing, copying or exporting it.",
        ),
    }
}

/// The answers so far.
pub(super) struct Verdict<'a> {
    state: &'a State,
    pub(super) answers: Option<&'a mut Vec<Answer>>,
    masks: MaskPlan,
    permits: BTreeSet<usize>,
    denials: Vec<Denied>,
    /// Of the statement that is being judged.
    max_rows: Option<MaxRows>,
    /// Of those before it.
    limits: Vec<Option<MaxRows>>,
    /// The columns that a permit names for writing.
    writable: BTreeSet<ColumnName>,
}

impl<'a> Verdict<'a> {
    /// Nothing is decided yet; `answers` collects every answer, if it is there.
    pub(super) fn new(state: &'a State, answers: Option<&'a mut Vec<Answer>>) -> Self {
        Self {
            state,
            answers,
            masks: MaskPlan::default(),
            permits: BTreeSet::new(),
            denials: Vec::new(),
            max_rows: None,
            limits: Vec::new(),
            writable: BTreeSet::new(),
        }
    }

    /// The request cannot be judged.
    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        self.deny(Denied {
            rank: Rank::Error,
            reason: format!("the request could not be put to the policies: {}", refusal.0),
            hint: Some(TELL_THE_AUTHORS.to_owned()),
            policies: vec![PolicyId::from(POLICY_ERROR)],
        });
    }

    fn deny(&mut self, denied: Denied) {
        self.denials.push(denied);
    }

    fn ids(&self, rules: &[usize]) -> Vec<PolicyId> {
        rules.iter().filter_map(|rule| self.state.set.rules.get(*rule)).map(|rule| rule.id.clone()).collect()
    }

    /// A relation or the target itself.
    pub(super) fn thing(
        &mut self,
        target: &TargetFacts,
        subject: &Subject<'_>,
        statement: Option<&Statement>,
        finding: &Finding,
    ) {
        let what = || {
            let action = subject.action();
            match subject {
                Subject::Table(_, relation) => format!("{action} on {}", table_id(&target.name, relation)),
                Subject::Target(Verb::Call) => {
                    format!("{action} on {}{}", target.name, unreadable(statement))
                }
                Subject::Target(Verb::CallUnmasked) => {
                    format!("{action} on {}{}", target.name, unfollowed(statement))
                }
                Subject::Target(verb) if verb.must_be_named() => {
                    format!("{action} on {} ({})", target.name, past_sql(statement))
                }
                Subject::Connect | Subject::Target(_) | Subject::Column(_) => {
                    format!("{action} on {}", target.name)
                }
            }
        };
        let hint = match subject {
            Subject::Target(verb) | Subject::Table(verb, _) if verb.must_be_named() => Cow::Owned(format!(
                "Ask for a policy that permits it by name, Action::\"{}\": one for every action does not.",
                subject.action()
            )),
            _ => Cow::Borrowed(DO_WITHOUT),
        };
        let mut outcome = self.settle_or(what, &hint, finding);
        if outcome == Outcome::Permitted
            && let Some(limit) = least_rows(&self.state.set.rules, finding)
        {
            outcome = self.limit(limit, what, subject, statement);
        }
        if self.answers.is_some() {
            let vocabulary = &self.state.vocabulary;
            let uid = match subject {
                Subject::Table(_, relation) => vocabulary.table_uid(&target.name, relation),
                Subject::Connect | Subject::Target(_) | Subject::Column(_) => {
                    vocabulary.target_uid(&target.name)
                }
            };
            self.note(&subject.action(), uid.to_string(), None, outcome, finding);
        }
    }

    /// What may change so many rows only. Nothing is limited where nothing is run; what is run and cannot be counted is
    /// refused.
    fn limit(
        &mut self,
        limit: MaxRows,
        what: impl FnOnce() -> String,
        subject: &Subject<'_>,
        statement: Option<&Statement>,
    ) -> Outcome {
        let verb = match subject {
            Subject::Table(verb, _) | Subject::Target(verb) => *verb,
            Subject::Connect | Subject::Column(_) => return Outcome::Permitted,
        };
        let relation = match subject {
            Subject::Table(_, relation) => Some(relation.as_ref()),
            _ => None,
        };
        let is_uncounted = |statement: &Statement| {
            let mut uncounted = statement.uncounted.iter();
            uncounted.any(|effect| effect.verb == verb && effect.relation.as_ref() == relation)
        };
        if statement.is_some_and(|statement| statement.run == Run::NotYet) {
            return Outcome::Permitted;
        }
        if statement.is_none_or(is_uncounted) {
            let instead = if verb == Verb::Truncate {
                "DELETE the rows instead."
            } else {
                "Make it a statement of its own, outside of WITH, EXPLAIN ANALYZE, functions and rules."
            };
            let hint = match &limit.message {
                Some(message) => format!("{message} {instead}"),
                None => instead.to_owned(),
            };
            self.deny(Denied {
                rank: Rank::Forbidden,
                reason: format!(
                    "policy \"{}\" limits the rows of {} to {}, and here they cannot be counted",
                    limit.policy,
                    what(),
                    limit.rows
                ),
                hint: Some(hint),
                policies: vec![limit.policy],
            });
            return Outcome::Uncounted;
        }
        let known = self.max_rows.take();
        self.max_rows = Some(match known {
            Some(known) => known.and(limit),
            None => limit,
        });
        Outcome::Limited
    }

    /// The statement has been judged as a whole.
    pub(super) fn statement_ends(&mut self) {
        self.limits.push(self.max_rows.take());
    }

    /// A name that is asked for.
    pub(super) fn lookup(&mut self, lookup: &Lookup<'_>, finding: &Finding) {
        let outcome = self.settle(|| format!("resolving {} ({})", lookup.name, lookup.kind), finding);
        if self.answers.is_some() {
            let uid = self.state.vocabulary.dns_name_uid(lookup.name).to_string();
            self.note("dns:resolve", uid, None, outcome, finding);
        }
    }

    /// One reading of a request.
    pub(super) fn request(&mut self, method: Method, resource: &EntityUid, finding: &Finding) {
        let outcome = self.settle(|| format!("http:{method} on {}", resource.id().unescaped()), finding);
        if self.answers.is_some() {
            self.note(&format!("http:{method}"), resource.to_string(), None, outcome, finding);
        }
    }

    /// A column that is read.
    pub(super) fn column(
        &mut self,
        target: &TargetFacts,
        column: &ColumnName,
        usage: ColumnUse,
        statement: &Statement,
        finding: &Finding,
    ) {
        // A definition reads nothing for whoever makes it: what it does to the column is a forbid's to stop.
        let is_left_open = usage == ColumnUse::Defined && finding.is_left_open(&self.state.set.rules);
        let mut outcome = if is_left_open {
            Outcome::Permitted
        } else {
            self.settle(|| format!("reading {column} of {}", target.name), finding)
        };
        if outcome == Outcome::Permitted
            && let Some(scan) = content_mask(&self.state.set.rules, finding)
        {
            outcome = self.scanned(column, usage, statement.copy, scan);
        }
        if outcome == Outcome::Permitted
            && let Some(mask) = strongest_mask(&self.state.set.rules, finding)
        {
            if usage == ColumnUse::Projected {
                outcome = Outcome::Masked;
                self.masks.columns.insert(column.clone(), mask);
            } else if !self.leaves(&mask, usage, finding) {
                outcome = Outcome::MaskedUse;
                let (used, instead) = in_words(usage, statement);
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

    /// A column that is written. It needs no permit: the verb on its table has one.
    pub(super) fn written(&mut self, target: &TargetFacts, column: &ColumnName, finding: &Finding) {
        if *finding == Finding::default() {
            return;
        }
        let mut outcome = Outcome::Permitted;
        if finding.forbids.is_empty() && finding.errors.is_empty() {
            self.permits.extend(&finding.permits);
            self.writable.insert(column.clone());
        } else {
            outcome = self.settle(|| format!("writing {column} of {}", target.name), finding);
        }
        if self.answers.is_some() {
            let uid = self.state.vocabulary.column_uid(&target.name, column).to_string();
            self.note(SQL_WRITE, uid, None, outcome, finding);
        }
    }

    /// Whether a use tells no more of the values than they do as the mask shows them. NULL is shown as NULL.
    fn leaves(&self, mask: &Mask, usage: ColumnUse, finding: &Finding) -> bool {
        match usage {
            ColumnUse::Tested => mask.transform != Transform::Null,
            ColumnUse::Matched => may_be_matched(&self.state.set.rules, finding),
            _ => false,
        }
    }

    /// A column whose values are looked through where they are shown. Comparing shows none of them, and is permitted:
    /// otherwise a rule for all text would forbid all filters.
    fn scanned(
        &mut self,
        column: &ColumnName,
        usage: ColumnUse,
        copy: Option<CopyDirection>,
        scan: ContentMask,
    ) -> Outcome {
        match (usage, copy) {
            (ColumnUse::Projected, _) | (ColumnUse::Moved, Some(CopyDirection::ToClient)) => {
                self.masks.scans.entry(column.clone()).or_default().extend(&scan);
                Outcome::Permitted
            }
            (
                ColumnUse::Tested
                | ColumnUse::Matched
                | ColumnUse::Compared
                | ColumnUse::Computed
                | ColumnUse::Defined
                | ColumnUse::Written,
                _,
            ) => Outcome::Permitted,
            (ColumnUse::Moved, _) => {
                let named = scan.policies.first().map(ToString::to_string).unwrap_or_default();
                self.deny(Denied {
                    rank: Rank::MaskedUse,
                    reason: format!(
                        "what policy \"{named}\" finds in {column} is masked for this agent, and here the column would \
                         be moved to where it is not looked for"
                    ),
                    hint: Some("Select the column itself, without storing or exporting it.".to_owned()),
                    policies: scan.policies,
                });
                Outcome::MaskedUse
            }
        }
    }

    fn settle(&mut self, what: impl FnOnce() -> String, finding: &Finding) -> Outcome {
        self.settle_or(what, DO_WITHOUT, finding)
    }

    /// Everything but masks: errors, forbids, and whether anything permits; `hint` is told where nothing does.
    fn settle_or(&mut self, what: impl FnOnce() -> String, hint: &str, finding: &Finding) -> Outcome {
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
            .filter(|rule| set.rules.get(*rule).is_none_or(Rule::refuses))
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
                hint: Some(hint.to_owned()),
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
        let refer =
            |indexes: &[usize]| indexes.iter().filter_map(|rule| rules.get(*rule)).map(RuleRef::of).collect();
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

    pub(super) fn decision(mut self) -> Decision {
        if self.denials.is_empty() {
            let permits: Vec<usize> = self.permits.iter().copied().collect();
            let record = permits
                .iter()
                .filter_map(|rule| self.state.set.rules.get(*rule))
                .fold(RecordLimits::default(), |all, rule| all.and(rule.record));
            if self.limits.iter().all(Option::is_none) {
                self.limits.clear();
            }
            return Decision::Allow {
                policies: self.ids(&permits),
                masks: self.masks,
                record,
                max_rows: self.limits,
                writable: self.writable,
            };
        }
        self.denials.sort_by_key(|denied| denied.rank);
        let mut policies: Vec<PolicyId> = Vec::new();
        for id in self.denials.iter().flat_map(|denied| &denied.policies) {
            if !policies.contains(id) {
                policies.push(id.clone());
            }
        }
        let (reason, hint) =
            self.denials.into_iter().next().map(|denied| (denied.reason, denied.hint)).unwrap_or_default();
        Decision::Deny(Denial { reason, hint, policies })
    }
}
