//! Slicing, grouping of columns and caching change nothing: held against Cedar with every policy, every action
//! and one evaluation for each column.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{
    Authorizer, Context, Effect, Entities, EntityUid, PolicySet, Request, RestrictedExpression,
};
use proptest::{prelude::*, sample::select};

use super::{
    entity::{column_id, escape, malformed_id, schema_id, table_id},
    rules::Comparable,
    state::{Depth, State},
    tests::{PERMIT_ALL, inline, policies, principal, relation, target, workload},
};
use crate::domain::{
    action::{Action, TargetFacts},
    decision::{Decision, Transform},
    statement::{
        ColumnAccess, ColumnName, ColumnUse, Effect as SqlEffect, Opaque, RelationName, RowLimit, Statement,
        Verb,
    },
};

const PRINCIPALS: [&str; 6] = [
    "principal",
    "principal in Group::\"agents\"",
    "principal in Group::\"ci/qa\"",
    "principal == Agent::\"https://ci.example|agent-7\"",
    "principal is Agent",
    "principal is Agent in Group::\"qa\"",
];

const ACTIONS: [&str; 11] = [
    "action == Action::\"sql:write\"",
    "action in [Action::\"sql:read\", Action::\"sql:write\"]",
    "action",
    "action == Action::\"connect\"",
    "action == Action::\"sql:read\"",
    "action == Action::\"sql:delete\"",
    "action in Action::\"sql:rows\"",
    "action in Action::\"sql:ddl\"",
    "action in [Action::\"sql:ddl\", Action::\"sql:select\"]",
    "action in [Action::\"sql:select\", Action::\"sql:read\", Action::\"connect\"]",
    "action in [Action::\"http:read\"]",
];

const RESOURCES: [&str; 9] = [
    "resource",
    "resource in Target::\"orders-db\"",
    "resource in Target::\"other-db\"",
    "resource in Schema::\"orders-db/public\"",
    "resource in Table::\"orders-db/public.customers\"",
    "resource == Table::\"orders-db/public.orders\"",
    "resource is Column",
    "resource is Table in Schema::\"orders-db/hr\"",
    "resource == Column::\"orders-db/public.customers.name\"",
];

/// Conditions that hold for some requests, look at things in different ways, and sometimes err.
const CONDITIONS: [&str; 15] = [
    "when { context.functions.contains(\"f\") }",
    "unless { context.has_where }",
    "when { context.usage == \"compared\" }",
    "",
    "",
    "when { principal.subject like \"agent-*\" }",
    "when { principal in Group::\"qa\" }",
    "when { resource in Schema::\"orders-db/hr\" }",
    "when { resource == Column::\"orders-db/public.customers.b\" }",
    "unless { principal has workload }",
    "when { 9223372036854775807 + 1 == 0 }",
    "when { action in Action::\"sql:rows\" }",
    "when { resource is Column && resource.tags.contains(\"pii\") }",
    "when { resource is Column && resource.name like \"*a*\" }",
    "when { resource is Table && resource.schema == \"public\" }",
];

fn policy_text() -> impl Strategy<Value = String> {
    (
        any::<bool>(),
        select(PRINCIPALS.as_slice()),
        prop_oneof![Just("action == Action::\"sql:read\""), select(ACTIONS.as_slice())],
        prop_oneof![3 => select(RESOURCES.as_slice()), 1 => Just(RESOURCES[8])],
        select(CONDITIONS.as_slice()),
        proptest::option::of(select(["partial", "hash", "null"].as_slice())),
    )
        .prop_map(|(forbids, principal, action, resource, condition, mask)| {
            let effect = if forbids { "forbid" } else { "permit" };
            let mask = match mask {
                Some(mask) if forbids && action == "action == Action::\"sql:read\"" => {
                    format!("@mask(\"{mask}\") ")
                }
                _ => String::new(),
            };
            format!("{mask}{effect} ({principal}, {action}, {resource}) {condition};")
        })
}

/// Policies that validate; what a random combination makes impossible is dropped.
fn rules() -> impl Strategy<Value = String> {
    (any::<bool>(), proptest::collection::vec(policy_text(), 0..8)).prop_map(|(permissive, texts)| {
        // Where nothing is permitted, little is told apart.
        let mut rules = if permissive { PERMIT_ALL.to_owned() } else { String::new() };
        for (index, text) in texts.iter().enumerate() {
            let text = format!("@id(\"p{index}\") {text}\n");
            if super::Policies::load_all(vec![inline(&text)], &["ci"]).is_ok() {
                rules.push_str(&text);
            }
        }
        rules
    })
}

fn table() -> impl Strategy<Value = RelationName> {
    prop_oneof![
        Just("public.customers"),
        select(["public.customers", "public.orders", "hr.salaries", "pg_catalog.pg_class"].as_slice()),
    ]
    .prop_map(relation)
}

fn a_statement() -> impl Strategy<Value = Statement> {
    let column = (
        table(),
        select(["email", "ssn", "name", "a", "b"].as_slice()),
        prop_oneof![
            3 => Just(ColumnUse::Projected),
            1 => select([ColumnUse::Tested, ColumnUse::Matched, ColumnUse::Compared, ColumnUse::Computed, ColumnUse::Moved, ColumnUse::Written, ColumnUse::Defined].as_slice()),
        ],
    )
        .prop_map(|(relation, name, usage)| ColumnAccess {
            column: ColumnName { relation, column: name.to_owned() },
            usage,
        });
    let verb = prop_oneof![Just(Verb::Select), verb()];
    let effect =
        (verb, proptest::option::of(table())).prop_map(|(verb, relation)| SqlEffect { verb, relation });
    (
        proptest::collection::btree_set(effect, 1..3),
        proptest::collection::btree_set(column, 0..9),
        any::<(bool, bool, bool)>(),
    )
        .prop_map(|(effects, columns, (limited, opaque, calls))| Statement {
            effects,
            columns,
            functions: calls.then(|| "f".to_owned()).into_iter().collect(),
            opaque: opaque.then(|| Opaque::Function("f".to_owned())).into_iter().collect(),
            row_limit: if limited { RowLimit::Limited } else { RowLimit::Unlimited },
            ..Statement::plain([])
        })
}

/// Cedar's word on one question: satisfied permits, satisfied forbids, erring policies.
fn cedar(
    state: &State,
    groups: &[&str],
    action: &EntityUid,
    resource: &super::entity::Node,
    context: Context,
) -> (BTreeSet<String>, BTreeSet<String>, BTreeSet<String>) {
    let agent = state.vocabulary.agent(&principal(groups), &workload(), true).unwrap();
    let entities = Entities::from_entities(
        state.vocabulary.actions.values().cloned().chain([agent.entity.clone(), resource.entity.clone()]),
        None,
    )
    .unwrap();
    let request = Request::new(agent.uid, action.clone(), resource.uid.clone(), context, None).unwrap();
    let mut errors = BTreeSet::new();
    let mut satisfied = |effect: Effect| -> BTreeSet<String> {
        let set = PolicySet::from_policies(
            state.set.rules.iter().filter(|rule| rule.effect == effect).map(|rule| rule.policy.clone()),
        )
        .unwrap();
        let response = Authorizer::new().is_authorized(&request, &set, &entities);
        for cedar_policy::AuthorizationError::PolicyEvaluationError(error) in response.diagnostics().errors()
        {
            errors.insert(error.policy_id().to_string());
        }
        response.diagnostics().reason().map(ToString::to_string).collect()
    };
    let permits = satisfied(Effect::Permit);
    let forbids = satisfied(Effect::Forbid);
    (permits, forbids, errors)
}

fn context(statement: &Statement, several: bool, usage: Option<ColumnUse>) -> Context {
    let usage = usage.map(|usage| match usage {
        ColumnUse::Projected => "projected",
        ColumnUse::Tested | ColumnUse::Matched | ColumnUse::Compared => "compared",
        ColumnUse::Computed => "computed",
        ColumnUse::Moved | ColumnUse::Written => "moved",
        ColumnUse::Defined => "defined",
    });
    let mut pairs = vec![
        ("has_where".to_owned(), RestrictedExpression::new_bool(statement.row_limit == RowLimit::Limited)),
        ("multi_statement".to_owned(), RestrictedExpression::new_bool(several)),
        ("opaque".to_owned(), RestrictedExpression::new_bool(!statement.opaque.is_empty())),
        (
            "functions".to_owned(),
            RestrictedExpression::new_set(
                statement.functions.iter().map(|name| RestrictedExpression::new_string(name.clone())),
            ),
        ),
    ];
    if let Some(usage) = usage {
        pairs.push(("usage".to_owned(), RestrictedExpression::new_string(usage.to_owned())));
    }
    Context::from_pairs(pairs).unwrap()
}

/// The decision without slicing, grouping or caching; `None` is a denial.
fn reference(
    state: &State,
    groups: &[&str],
    target: &TargetFacts,
    statements: &[Statement],
) -> Option<BTreeMap<ColumnName, Transform>> {
    let mut masks = BTreeMap::new();
    for statement in statements {
        let several = statements.len() > 1;
        for effect in &statement.effects {
            let resource = match &effect.relation {
                Some(relation) => state.vocabulary.table(&target.name, relation).unwrap(),
                None => state.vocabulary.target(&target.name).unwrap(),
            };
            let action = state.vocabulary.verb(effect.verb).unwrap();
            let (permits, forbids, errors) =
                cedar(state, groups, action, &resource, context(statement, several, None));
            if permits.is_empty() || !forbids.is_empty() || !errors.is_empty() {
                return None;
            }
        }
        for access in &statement.columns {
            let tags = target.tags.get(&access.column.to_string());
            let resource = state.vocabulary.column(&target.name, &access.column, tags).unwrap();
            if access.usage == ColumnUse::Written {
                let context = context(statement, several, None);
                let (_, forbids, errors) = cedar(state, groups, &state.vocabulary.write, &resource, context);
                // A permit for every action does not mean writing; one that errs and names it counts.
                let counts = |id: &String| {
                    let rule = state.set.rules.iter().find(|rule| rule.id.as_str() == id).unwrap();
                    rule.effect == Effect::Forbid
                        || !matches!(rule.policy.action_constraint(), cedar_policy::ActionConstraint::Any)
                };
                if !forbids.is_empty() || errors.iter().any(counts) {
                    return None;
                }
                continue;
            }
            let (permits, forbids, errors) = cedar(
                state,
                groups,
                &state.vocabulary.read,
                &resource,
                context(statement, several, Some(access.usage)),
            );
            let rules: Vec<_> =
                state.set.rules.iter().filter(|rule| forbids.contains(rule.id.as_str())).collect();
            let needs_permit = access.usage != ColumnUse::Defined;
            if needs_permit && permits.is_empty()
                || !errors.is_empty()
                || rules.iter().any(|rule| rule.mask.is_none())
            {
                return None;
            }
            if let Some(mask) = rules.iter().filter_map(|rule| rule.mask).reduce(Transform::stronger) {
                let may_match = rules.iter().all(|rule| rule.comparable == Comparable::Equal);
                if access.usage == ColumnUse::Matched && may_match
                    || access.usage == ColumnUse::Tested && mask != Transform::Null
                {
                    continue;
                }
                if access.usage != ColumnUse::Projected {
                    return None;
                }
                masks.insert(access.column.clone(), mask);
            }
        }
    }
    Some(masks)
}

fn groups() -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(vec!["agents", "qa", "other/x"], 0..=3)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn a_decision_is_the_one_that_cedar_makes_with_every_policy(
        text in rules(),
        groups in groups(),
        statements in proptest::collection::vec(a_statement(), 1..3),
    ) {
        let policies = policies(&text);
        let state = policies.state.load();
        let expected = reference(&state, &groups, &target(), &statements);
        for round in ["worked out", "cached"] {
            let decision =
                policies.decide(&principal(&groups), &workload(), &target(), Action::Sql(&statements));
            let seen = match decision {
                Decision::Allow { masks, .. } => {
                    Some(masks.columns.into_iter().map(|(column, mask)| (column, mask.transform)).collect())
                }
                Decision::Deny(_) => None,
            };
            prop_assert_eq!(&seen, &expected, "{} with\n{}", round, text);
        }
    }

    #[test]
    fn a_slice_finds_the_rules_that_cedar_finds_among_all(
        text in rules(),
        groups in groups(),
        verb in verb(),
        relation in proptest::option::of(table()),
    ) {
        let policies = policies(&text);
        let state = policies.state.load();
        let asker = state.asker(&principal(&groups), &workload()).unwrap();
        let resource = match &relation {
            Some(relation) => state.vocabulary.table("orders-db", relation).unwrap(),
            None => state.vocabulary.target("orders-db").unwrap(),
        };
        let action = state.vocabulary.verb(verb).unwrap();
        let facts = super::tests::statement(verb, None, &[]);
        let finding = state
            .ask(&asker, action, &resource, context(&facts, false, None), Depth::Explain)
            .unwrap();
        let id = |rule: &usize| state.set.rules[*rule].id.to_string();
        let found = (
            finding.permits.iter().map(id).collect(),
            finding.forbids.iter().map(id).collect(),
            finding.errors.iter().map(|(rule, _)| id(rule)).collect(),
        );
        let expected = cedar(&state, &groups, action, &resource, context(&facts, false, None));
        prop_assert_eq!(found, expected, "{}", text);
    }
}

/// Any verb that a permit for every action covers, as Cedar has it.
fn verb() -> impl Strategy<Value = Verb> {
    select(Verb::ALL.into_iter().filter(|verb| !verb.must_be_named()).collect::<Vec<_>>())
}

/// Names with every separator in them.
fn odd_name() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        select(['a', 'B', '.', '/', '%', '"', '\\', '2', 'E', 'F', '\n', 'é'].as_slice()),
        1..6,
    )
    .prop_map(|characters| characters.into_iter().collect())
}

proptest! {
    #[test]
    fn different_names_never_share_an_id(
        one in (odd_name(), odd_name(), odd_name(), odd_name()),
        other in (odd_name(), odd_name(), odd_name(), odd_name()),
    ) {
        let ids = |(target, schema, table, column): &(String, String, String, String)| {
            let relation = RelationName { schema: schema.clone(), name: table.clone() };
            let column = ColumnName { relation: relation.clone(), column: column.clone() };
            (schema_id(target, schema), table_id(target, &relation), column_id(target, &column))
        };
        let (schema, table, column) = ids(&one);
        let (other_schema, other_table, other_column) = ids(&other);
        prop_assert_eq!((&one.0, &one.1) == (&other.0, &other.1), schema == other_schema);
        prop_assert_eq!((&one.0, &one.1, &one.2) == (&other.0, &other.1, &other.2), table == other_table);
        prop_assert_eq!(one == other, column == other_column);
        // And policies can name all of them.
        prop_assert_eq!(malformed_id("Schema", &schema), None);
        prop_assert_eq!(malformed_id("Table", &table), None);
        prop_assert_eq!(malformed_id("Column", &column), None);
    }

    #[test]
    fn an_escaped_name_is_one_id_part(name in ".{1,12}") {
        prop_assert!(!escape(&name).contains(['.', '/', '"', '\\']));
    }
}
