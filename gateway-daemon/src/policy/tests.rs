//! What policies accept, refuse and decide, one behaviour each.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::SystemTime,
};

use super::{DEFAULT_DENY, Origin, Outcome, POLICY_ERROR, Policies, PolicyError, Source};
use crate::domain::{
    action::{Action, Lookup, ServerTrust, TargetFacts},
    catalogue::{Catalogue, Column, Relation, RelationKind},
    decision::{Decision, Denial, RecordLimits, Transform},
    detector::Detector,
    flow::Workload,
    ids::{CgroupId, PolicyId},
    principal::Principal,
    statement::{
        ColumnAccess, ColumnName, ColumnUse, Effect, OnConflict, Opaque, RelationName, ReplicationCommand,
        RowLimit, Run, SessionEffect, Statement, Verb,
    },
};

pub(super) const PERMIT_ALL: &str = "@id(\"all\") permit (principal, action, resource);\n";
const MASK_PII: &str = "@id(\"mask-pii\") @mask(\"partial\")
    forbid (principal, action == Action::\"sql:read\", resource is Column) when { resource.tags.contains(\"pii\") };\n";

pub(super) fn principal(groups: &[&str]) -> Principal {
    Principal {
        issuer: "ci".to_owned(),
        issuer_url: "https://ci.example".to_owned(),
        subject: "agent-7".to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        roles: Vec::new(),
        claims: BTreeMap::new(),
        expires_at: SystemTime::UNIX_EPOCH,
    }
}

pub(super) fn workload() -> Workload {
    Workload { cgroup: CgroupId(1), path: "/agents/a".to_owned(), label: None }
}

pub(super) fn target() -> TargetFacts {
    TargetFacts {
        name: "orders-db".to_owned(),
        tags: BTreeMap::from([
            ("public.customers.email".to_owned(), BTreeSet::from(["pii".to_owned()])),
            ("public.customers.ssn".to_owned(), BTreeSet::from(["pii".to_owned(), "secret".to_owned()])),
        ]),
    }
}

pub(super) fn relation(name: &str) -> RelationName {
    let (schema, name) = name.split_once('.').unwrap_or(("public", name));
    RelationName { schema: schema.to_owned(), name: name.to_owned() }
}

pub(super) fn column(table: &str, column: &str) -> ColumnName {
    ColumnName { relation: relation(table), column: column.to_owned() }
}

pub(super) fn statement(verb: Verb, table: Option<&str>, columns: &[(&str, ColumnUse)]) -> Statement {
    Statement {
        effects: BTreeSet::from([Effect { verb, relation: table.map(relation) }]),
        columns: columns
            .iter()
            .map(|(name, usage)| ColumnAccess {
                column: column(table.unwrap_or("customers"), name),
                usage: *usage,
            })
            .collect(),
        ..Statement::plain([])
    }
}

pub(super) fn inline(text: &str) -> Origin {
    Origin::Inline(Source { path: PathBuf::from("test.cedar"), text: text.to_owned() })
}

pub(super) fn policies(text: &str) -> Policies {
    Policies::load_all(vec![inline(text)], &["ci"]).unwrap()
}

fn complaint(text: &str) -> String {
    Policies::load_all(vec![inline(text)], &["ci"]).unwrap_err().to_string()
}

fn decide(policies: &Policies, statements: &[Statement]) -> Decision {
    policies.decide(&principal(&["agents"]), &workload(), &target(), Action::Sql(statements))
}

fn denial(decision: Decision) -> Denial {
    match decision {
        Decision::Deny(denial) => denial,
        Decision::Allow { .. } => panic!("allowed: {decision:?}"),
    }
}

fn ids(policies: &[crate::domain::ids::PolicyId]) -> Vec<&str> {
    policies.iter().map(crate::domain::ids::PolicyId::as_str).collect()
}

fn masks(decision: &Decision) -> Vec<(String, Transform)> {
    match decision {
        Decision::Allow { masks, .. } => {
            masks.columns.iter().map(|(column, mask)| (column.to_string(), mask.transform)).collect()
        }
        Decision::Deny(denial) => panic!("denied: {denial:?}"),
    }
}

#[test]
fn without_policies_everything_is_denied_and_loading_warns() {
    let policies = policies("");
    assert_eq!(policies.warnings().len(), 1);
    let denial = denial(policies.decide(&principal(&[]), &workload(), &target(), Action::Connect));
    assert_eq!(ids(&denial.policies), [DEFAULT_DENY]);
    assert!(denial.reason.contains("connect on orders-db"), "{}", denial.reason);
}

#[test]
fn a_forbid_wins_over_a_permit_and_says_its_message() {
    let policies = policies(&format!(
        "{PERMIT_ALL}@id(\"no-drop\") @message(\"Ask a human.\") forbid (principal, action in Action::\"sql:ddl\", resource);"
    ));
    let denial = denial(decide(&policies, &[statement(Verb::Drop, Some("customers"), &[])]));
    assert_eq!(ids(&denial.policies), ["no-drop"]);
    assert_eq!(denial.reason, "policy \"no-drop\" forbids sql:drop on orders-db/public.customers");
    assert_eq!(denial.hint.as_deref(), Some("Ask a human."));
    assert!(matches!(
        decide(&policies, &[statement(Verb::Select, Some("customers"), &[])]),
        Decision::Allow { .. }
    ));
}

#[test]
fn one_denied_statement_denies_the_whole_message() {
    let policies = policies(&format!(
        "{PERMIT_ALL}@id(\"no-drop\") forbid (principal, action == Action::\"sql:drop\", resource);"
    ));
    let decision = decide(
        &policies,
        &[statement(Verb::Select, None, &[]), statement(Verb::Drop, Some("customers"), &[])],
    );
    assert_eq!(ids(&denial(decision).policies), ["no-drop"]);
}

#[test]
fn a_policy_that_cannot_be_evaluated_denies_although_cedar_would_skip_it() {
    // Overflow: validation cannot see it.
    let policies = policies(&format!(
        "{PERMIT_ALL}@id(\"broken\") forbid (principal, action == Action::\"sql:select\", resource)
         when {{ 9223372036854775807 + 1 == 0 && context.opaque }};"
    ));
    let denial = denial(decide(&policies, &[statement(Verb::Select, Some("customers"), &[])]));
    assert_eq!(ids(&denial.policies), ["broken", POLICY_ERROR]);
    assert!(denial.reason.contains("\"broken\" could not be evaluated"), "{}", denial.reason);
}

#[test]
fn an_erring_permit_denies_as_well() {
    let policies = policies(&format!(
        "{PERMIT_ALL}@id(\"broken\") permit (principal, action == Action::\"connect\", resource)
         when {{ 9223372036854775807 + 1 == 0 }};"
    ));
    let denial = denial(policies.decide(&principal(&[]), &workload(), &target(), Action::Connect));
    assert_eq!(ids(&denial.policies), ["broken", POLICY_ERROR]);
}

#[test]
fn a_masked_column_is_masked_where_it_is_projected_and_refused_where_it_is_used_otherwise() {
    let policies = policies(&format!("{PERMIT_ALL}{MASK_PII}"));
    let read = |usage| {
        decide(
            &policies,
            &[statement(
                Verb::Select,
                Some("customers"),
                &[("email", usage), ("name", ColumnUse::Projected)],
            )],
        )
    };
    assert_eq!(
        masks(&read(ColumnUse::Projected)),
        [("public.customers.email".to_owned(), Transform::Partial)]
    );
    for usage in [ColumnUse::Compared, ColumnUse::Computed, ColumnUse::Moved] {
        let denial = denial(read(usage));
        assert_eq!(ids(&denial.policies), ["mask-pii"]);
        assert!(denial.reason.contains("public.customers.email is masked"), "{}", denial.reason);
        assert!(denial.hint.is_some());
    }
    assert_eq!(masks(&read(ColumnUse::Written)), []);
}

fn write(column: &str) -> Statement {
    statement(Verb::Update, Some("customers"), &[(column, ColumnUse::Written)])
}

#[test]
fn writing_a_column_needs_no_permit_and_a_forbid_of_it_counts() {
    let rows = "@id(\"rows\") permit (principal, action in Action::\"sql:rows\", resource);\n";
    let forbid = "@id(\"no-pii\") @message(\"Leave it.\") forbid (principal, action == Action::\"sql:write\", resource is Column)
         when { resource.tags.contains(\"pii\") };";
    let policies = policies(&format!("{rows}{forbid}"));
    assert!(matches!(decide(&policies, &[write("name")]), Decision::Allow { .. }));
    let denial = denial(decide(&policies, &[write("email")]));
    assert_eq!(ids(&denial.policies), ["no-pii"]);
    assert_eq!(denial.reason, "policy \"no-pii\" forbids writing public.customers.email of orders-db");
    assert_eq!(denial.hint.as_deref(), Some("Leave it."));
    // Answers that are kept depend on the tags of what is written.
    let mut other = target();
    other.tags.remove("public.customers.email");
    for (facts, is_allowed) in [(&target(), false), (&other, true), (&target(), false)] {
        let decision =
            policies.decide(&principal(&["agents"]), &workload(), facts, Action::Sql(&[write("email")]));
        assert_eq!(matches!(decision, Decision::Allow { .. }), is_allowed);
    }
    // A forbid that names no action means writing as well.
    let all = format!(
        "{PERMIT_ALL}@id(\"none\") forbid (principal, action, resource is Column) when {{ resource.name == \"name\" }};"
    );
    assert_eq!(ids(&self::denial(decide(&self::policies(&all), &[write("name")])).policies), ["none"]);
}

#[test]
fn only_a_permit_that_names_writing_makes_a_column_writable_whatever_masks_show() {
    let writable = |text: &str| match decide(&policies(text), &[write("email"), write("name")]) {
        Decision::Allow { writable, policies, .. } => {
            let columns: Vec<String> = writable.iter().map(|column| column.column.clone()).collect();
            (columns, policies.iter().any(|policy| policy.as_str() == "w"))
        }
        Decision::Deny(denial) => panic!("{denial:?}"),
    };
    assert_eq!(writable(PERMIT_ALL), (Vec::new(), false));
    assert_eq!(
        writable(&format!(
            "{PERMIT_ALL}@id(\"w\") permit (principal, action in [Action::\"sql:rows\", Action::\"sql:read\"], resource);"
        )),
        (Vec::new(), true)
    );
    assert_eq!(
        writable(&format!(
            "{PERMIT_ALL}@id(\"w\") permit (principal, action == Action::\"sql:write\", resource is Column) when {{ resource.tags.contains(\"pii\") }};"
        )),
        (vec!["email".to_owned()], true)
    );
    assert_eq!(
        writable(&format!(
            "{PERMIT_ALL}@id(\"w\") permit (principal, action in [Action::\"sql:read\", Action::\"sql:write\"], resource);"
        )),
        (vec!["email".to_owned(), "name".to_owned()], true)
    );
    // An error denies, whatever the rule would have said.
    let err = format!(
        "{PERMIT_ALL}@id(\"w\") permit (principal, action == Action::\"sql:write\", resource) when {{ 9223372036854775807 + 1 == 0 }};"
    );
    assert_eq!(ids(&denial(decide(&policies(&err), &[write("email")])).policies), ["w", POLICY_ERROR]);
}

#[test]
fn an_explanation_shows_what_was_said_of_writing() {
    let text = format!(
        "{PERMIT_ALL}@id(\"w\") permit (principal, action == Action::\"sql:write\", resource is Column) when {{ resource.tags.contains(\"pii\") }};"
    );
    let explained = policies(&text).explain(
        &principal(&[]),
        &workload(),
        &target(),
        Action::Sql(&[write("email"), write("name")]),
    );
    let answers: Vec<_> = explained.answers.iter().filter(|answer| answer.action == "sql:write").collect();
    let [answer] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!(answer.resource, "Column::\"orders-db/public.customers.email\"");
    assert_eq!((answer.outcome, answer.permits.len()), (Outcome::Permitted, 1));
}

#[test]
fn on_conflict_reaches_the_context() {
    let policies = policies(&format!(
        "{PERMIT_ALL}@id(\"no-oracle\") forbid (principal, action == Action::\"sql:write\", resource is Column)
         when {{ resource.tags.contains(\"pii\") && context has on_conflict && context.on_conflict == \"nothing\" }};"
    ));
    for (on_conflict, column, is_allowed) in [
        (None, "email", true),
        (Some(OnConflict::Nothing), "email", false),
        (Some(OnConflict::Nothing), "name", true),
        (Some(OnConflict::Update), "email", true),
    ] {
        let insert = Statement {
            on_conflict,
            ..statement(Verb::Insert, Some("customers"), &[(column, ColumnUse::Written)])
        };
        assert_eq!(
            matches!(decide(&policies, &[insert]), Decision::Allow { .. }),
            is_allowed,
            "{on_conflict:?} {column}"
        );
    }
}

#[test]
fn a_column_that_may_not_be_read_is_no_mask_that_somebody_saw() {
    let policies = policies(&format!(
        "{PERMIT_ALL}{MASK_PII}@id(\"no-ssn\") forbid (principal, action == Action::\"sql:read\",
         resource == Column::\"orders-db/public.customers.ssn\");"
    ));
    let plan = policies.masks_for(&principal(&[]), &workload(), &target(), &Catalogue::default());
    assert_eq!(plan.columns.len(), 2);
    assert_eq!(plan.unreadable, BTreeSet::from([column("customers", "ssn")]));
}

#[test]
fn the_strongest_of_several_masks_wins_and_its_policy_is_named() {
    let policies = policies(&format!(
        "{PERMIT_ALL}{MASK_PII}@id(\"hide-secrets\") @mask(\"null\")
         forbid (principal, action == Action::\"sql:read\", resource) when {{ resource.tags.contains(\"secret\") }};"
    ));
    let decision =
        decide(&policies, &[statement(Verb::Select, Some("customers"), &[("ssn", ColumnUse::Projected)])]);
    let Decision::Allow { masks, .. } = decision else { panic!("{decision:?}") };
    let mask = &masks.columns[&column("customers", "ssn")];
    assert_eq!((mask.transform, mask.policy.as_str()), (Transform::Null, "hide-secrets"));
}

#[test]
fn a_forbid_of_a_column_without_a_mask_refuses_even_where_another_masks() {
    let policies = policies(&format!(
        "{PERMIT_ALL}{MASK_PII}@id(\"no-ssn\") forbid (principal, action == Action::\"sql:read\",
         resource == Column::\"orders-db/public.customers.ssn\");"
    ));
    let read = |name| {
        decide(&policies, &[statement(Verb::Select, Some("customers"), &[(name, ColumnUse::Projected)])])
    };
    assert_eq!(ids(&denial(read("ssn")).policies), ["no-ssn"]);
    assert_eq!(masks(&read("email")).len(), 1);
    assert_eq!(masks(&read("name")).len(), 0);
}

#[test]
fn a_mask_alone_permits_nothing() {
    let policies = policies(
        "@id(\"rows\") permit (principal, action == Action::\"sql:select\", resource);
         @id(\"m\") @mask(\"redact\") forbid (principal, action == Action::\"sql:read\", resource);",
    );
    let decision =
        decide(&policies, &[statement(Verb::Select, Some("customers"), &[("name", ColumnUse::Projected)])]);
    assert_eq!(ids(&denial(decision).policies), [DEFAULT_DENY]);
}

#[test]
fn a_policy_may_excuse_a_usage_by_the_context() {
    let policies = policies(&format!(
        "{PERMIT_ALL}@id(\"mask\") @mask(\"hash\") forbid (principal, action == Action::\"sql:read\", resource)
         when {{ resource.tags.contains(\"pii\") }} unless {{ context.usage == \"compared\" }};"
    ));
    let decision = decide(
        &policies,
        &[statement(
            Verb::Select,
            Some("customers"),
            &[("email", ColumnUse::Projected), ("ssn", ColumnUse::Compared)],
        )],
    );
    assert_eq!(masks(&decision), [("public.customers.email".to_owned(), Transform::Hash)]);
    // The column may still be masked: the plan for untraceable values says so.
    let plan = policies.masks_for(&principal(&[]), &workload(), &target(), &Catalogue::default());
    assert_eq!(plan.columns.len(), 2);
}

#[test]
fn a_rule_by_name_tells_columns_apart() {
    let policies = policies(&format!(
        "{PERMIT_ALL}@id(\"mask\") @mask(\"hash\") forbid (principal, action == Action::\"sql:read\", resource)
         when {{ resource.name like \"*_token\" }};"
    ));
    let columns: Vec<_> =
        ["a", "api_token", "b"].into_iter().map(|name| (name, ColumnUse::Projected)).collect();
    let decision = decide(&policies, &[statement(Verb::Select, Some("keys"), &columns)]);
    assert_eq!(masks(&decision), [("public.keys.api_token".to_owned(), Transform::Hash)]);
}

#[test]
fn what_stands_behind_prepare_is_judged_with_it() {
    let policies = policies(&format!(
        "{PERMIT_ALL}@id(\"no-drop\") forbid (principal, action == Action::\"sql:drop\", resource);"
    ));
    let mut prepare = statement(Verb::Other, None, &[]);
    prepare.session_effect = SessionEffect::Prepare {
        name: "p".to_owned(),
        statement: Box::new(statement(Verb::Drop, Some("customers"), &[])),
    };
    assert_eq!(ids(&denial(decide(&policies, &[prepare])).policies), ["no-drop"]);
}

#[test]
fn statement_facts_reach_the_context() {
    let policies = policies(&format!(
        "{PERMIT_ALL}
         @id(\"where\") forbid (principal, action in [Action::\"sql:update\", Action::\"sql:delete\"], resource) unless {{ context.has_where }};
         @id(\"one\") forbid (principal, action == Action::\"sql:insert\", resource) when {{ context.multi_statement }};
         @id(\"clear\") forbid (principal, action == Action::\"sql:select\", resource) when {{ context.opaque }};
         @id(\"fn\") forbid (principal, action == Action::\"sql:select\", resource) when {{ context.functions.contains(\"pg_catalog.pg_sleep\") }};"
    ));
    let mut all = statement(Verb::Delete, Some("customers"), &[]);
    assert!(matches!(decide(&policies, &[all.clone()]), Decision::Allow { .. }));
    all.row_limit = RowLimit::Unlimited;
    assert_eq!(ids(&denial(decide(&policies, &[all])).policies), ["where"]);

    let insert = statement(Verb::Insert, Some("customers"), &[]);
    assert!(matches!(decide(&policies, std::slice::from_ref(&insert)), Decision::Allow { .. }));
    assert_eq!(ids(&denial(decide(&policies, &[insert.clone(), insert])).policies), ["one"]);

    let mut opaque = statement(Verb::Select, None, &[]);
    opaque.opaque.insert(Opaque::Function("f".to_owned()));
    assert_eq!(ids(&denial(decide(&policies, &[opaque])).policies), ["clear"]);

    let mut sleep = statement(Verb::Select, None, &[]);
    sleep.functions.insert("pg_catalog.pg_sleep".to_owned());
    assert_eq!(ids(&denial(decide(&policies, &[sleep])).policies), ["fn"]);
}

#[test]
fn a_statement_without_effects_is_denied() {
    let mut empty = statement(Verb::Select, None, &[]);
    empty.effects.clear();
    assert_eq!(ids(&denial(decide(&policies(PERMIT_ALL), &[empty])).policies), [POLICY_ERROR]);
}

#[test]
fn groups_have_plain_names_only_where_one_issuer_is_configured_and_never_with_a_slash() {
    let text = "@id(\"plain\") permit (principal in Group::\"agents\", action, resource);
         @id(\"slash\") permit (principal in Group::\"other/admins\", action, resource);
         @id(\"full\") permit (principal in Group::\"ci/qa\", action, resource);
         @id(\"role\") permit (principal in Role::\"reader\", action, resource);";
    let connect = |policies: &Policies, principal: &Principal| {
        policies.decide(principal, &workload(), &target(), Action::Connect)
    };
    let one = policies(text);
    let two = Policies::load_all(vec![inline(text)], &["ci", "other"]).unwrap();
    assert!(matches!(connect(&one, &principal(&["agents"])), Decision::Allow { .. }));
    denial(connect(&two, &principal(&["agents"])));
    // A group that is really called "other/admins" is not the group "admins" of the issuer "other".
    denial(connect(&one, &principal(&["other/admins"])));
    denial(connect(&two, &principal(&["other/admins"])));
    assert!(matches!(connect(&two, &principal(&["qa"])), Decision::Allow { .. }));
    let mut reader = principal(&[]);
    reader.roles = vec!["reader".to_owned()];
    assert!(matches!(connect(&one, &reader), Decision::Allow { .. }));
    // An issuer that is not the configured one has no plain names either.
    let mut stranger = principal(&["agents"]);
    stranger.issuer = "elsewhere".to_owned();
    denial(connect(&one, &stranger));
}

#[test]
fn claims_and_the_workload_label_are_there_for_policies() {
    let policies = policies(
        "@id(\"repo\") permit (principal, action == Action::\"connect\", resource)
         when { principal.hasTag(\"repository\") && principal.getTag(\"repository\") == \"acme/shop\" };
         @id(\"label\") permit (principal, action == Action::\"connect\", resource)
         when { principal has workload && principal.workload == \"ci\" };",
    );
    let mut principal = principal(&[]);
    denial(policies.decide(&principal, &workload(), &target(), Action::Connect));
    let labelled = Workload { label: Some("ci".to_owned()), ..workload() };
    let decision = policies.decide(&principal, &labelled, &target(), Action::Connect);
    assert!(matches!(&decision, Decision::Allow { policies, .. } if ids(policies) == ["label"]));
    principal.claims.insert("repository".to_owned(), "acme/shop".to_owned());
    let decision = policies.decide(&principal, &workload(), &target(), Action::Connect);
    assert!(matches!(&decision, Decision::Allow { policies, .. } if ids(policies) == ["repo"]));
}

#[test]
fn an_issuer_url_that_could_blur_two_agents_is_denied() {
    let mut principal = principal(&[]);
    principal.issuer_url = "https://ci.example|agent".to_owned();
    let decision = policies(PERMIT_ALL).decide(&principal, &workload(), &target(), Action::Connect);
    assert_eq!(ids(&denial(decision).policies), [POLICY_ERROR]);
}

#[test]
fn a_target_without_a_name_is_denied() {
    let decision =
        policies(PERMIT_ALL).decide(&principal(&[]), &workload(), &TargetFacts::default(), Action::Connect);
    assert_eq!(ids(&denial(decision).policies), [POLICY_ERROR]);
}

#[test]
fn a_cached_decision_is_not_handed_to_another_agent_target_tag_or_statement() {
    let policies = policies(&format!(
        "@id(\"agents\") permit (principal in Group::\"agents\", action, resource in Target::\"orders-db\");{MASK_PII}"
    ));
    let read = [statement(Verb::Select, Some("customers"), &[("email", ColumnUse::Projected)])];
    let ask = |principal: &Principal, target: &TargetFacts| {
        policies.decide(principal, &workload(), target, Action::Sql(&read))
    };
    for _ in 0..2 {
        assert_eq!(masks(&ask(&principal(&["agents"]), &target())).len(), 1);
        denial(ask(&principal(&["others"]), &target()));
        let untagged = TargetFacts { tags: BTreeMap::new(), ..target() };
        assert_eq!(masks(&ask(&principal(&["agents"]), &untagged)).len(), 0);
        denial(ask(&principal(&["agents"]), &TargetFacts { name: "other".to_owned(), ..target() }));
    }
}

#[test]
fn explain_names_every_question_and_rule() {
    let policies = policies(&format!("{PERMIT_ALL}{MASK_PII}"));
    let statements = [statement(
        Verb::Select,
        Some("customers"),
        &[("email", ColumnUse::Projected), ("name", ColumnUse::Compared)],
    )];
    let explanation = policies.explain(&principal(&[]), &workload(), &target(), Action::Sql(&statements));
    assert_eq!(explanation.decision, decide(&policies, &statements));
    let seen: Vec<_> = explanation
        .answers
        .iter()
        .map(|answer| (answer.action.as_str(), answer.resource.as_str(), answer.outcome))
        .collect();
    assert_eq!(
        seen,
        [
            ("sql:select", "Table::\"orders-db/public.customers\"", Outcome::Permitted),
            ("sql:read", "Column::\"orders-db/public.customers.email\"", Outcome::Masked),
            ("sql:read", "Column::\"orders-db/public.customers.name\"", Outcome::Permitted),
        ]
    );
    assert_eq!(explanation.answers[1].forbids[0].place.line, 2);
}

#[test]
fn masks_for_covers_the_catalogue_tags_and_forbidden_columns() {
    let policies = policies(&format!(
        "{MASK_PII}@id(\"no-salaries\") forbid (principal, action == Action::\"sql:read\",
           resource in Table::\"orders-db/hr.salaries\");"
    ));
    let mut catalogue = Catalogue { epoch: 1, ..Catalogue::default() };
    catalogue.insert(Relation {
        oid: 7,
        name: relation("hr.salaries"),
        kind: RelationKind::Table,
        columns: vec![Column {
            name: "amount".to_owned(),
            number: 1,
            type_oid: 23,
            modifier: -1,
            collation: 100,
            origins: BTreeSet::new(),
            is_computed: false,
        }],
    });
    let plan = policies.masks_for(&principal(&[]), &workload(), &target(), &catalogue);
    let seen: Vec<_> =
        plan.columns.iter().map(|(column, mask)| (column.to_string(), mask.transform)).collect();
    assert_eq!(
        seen,
        [
            ("hr.salaries.amount".to_owned(), Transform::Null),
            ("public.customers.email".to_owned(), Transform::Partial),
            ("public.customers.ssn".to_owned(), Transform::Partial),
        ]
    );
    let again = policies.masks_for(&principal(&[]), &workload(), &target(), &catalogue);
    assert!(std::sync::Arc::ptr_eq(&plan, &again));
    let none = policies.masks_for(
        &principal(&[]),
        &workload(),
        &TargetFacts { tags: BTreeMap::new(), ..target() },
        &Catalogue::default(),
    );
    assert!(none.columns.is_empty());
}

#[test]
fn approval_is_refused_with_a_hint_and_a_warning() {
    let policies = policies(&format!(
        "{PERMIT_ALL}@id(\"dba\") @approval(\"dba\") @window(\"30m\") forbid (principal, action in Action::\"sql:ddl\", resource);"
    ));
    assert!(policies.warnings()[0].message.contains("approval by \"dba\""));
    let denial = denial(decide(&policies, &[statement(Verb::Create, None, &[])]));
    assert!(denial.hint.unwrap().contains("Approval by \"dba\""));
}

#[test]
fn mistakes_are_reported_with_their_place_and_a_way_out() {
    for (text, place, words) in [
        ("permit (principal, action, resource);", "test.cedar:1:1", "no @id"),
        ("@id(\"a\")\npermit (principal, action resource);", "test.cedar:2:27", "unexpected token"),
        ("@id(\"a b\") permit (principal, action, resource);", "test.cedar:1:1", "letters, digits"),
        ("@id(\"builtin/x\") permit (principal, action, resource);", "test.cedar:1:1", "builtin/"),
        ("@id(\"a\") @foo(\"b\") permit (principal, action, resource);", "test.cedar:1:1", "@foo"),
        (
            "@id(\"a\") @mask(\"rot13\") forbid (principal, action == Action::\"sql:read\", resource);",
            "test.cedar:1:1",
            "redact",
        ),
        (
            "@id(\"a\") @mask(\"null\") forbid (principal, action in Action::\"sql:rows\", resource);",
            "test.cedar:1:1",
            "sql:read alone",
        ),
        (
            "@id(\"a\") @mask(\"null\") permit (principal, action == Action::\"sql:read\", resource);",
            "test.cedar:1:1",
            "sql:read alone",
        ),
        (
            "@id(\"a\") @max_rows(\"0\") forbid (principal, action == Action::\"sql:delete\", resource);",
            "test.cedar:1:1",
            "whole number",
        ),
        (
            "@id(\"a\") @max_rows(\"+5\") forbid (principal, action == Action::\"sql:delete\", resource);",
            "test.cedar:1:1",
            "whole number",
        ),
        (
            "@id(\"a\") @max_rows(\"many\") forbid (principal, action == Action::\"sql:delete\", resource);",
            "test.cedar:1:1",
            "@max_rows(\"many\") of \"a\"",
        ),
        (
            "@id(\"a\") @max_rows(\"99999999999999999999\") forbid (principal, action == Action::\"sql:delete\", resource);",
            "test.cedar:1:1",
            "whole number",
        ),
        (
            "@id(\"a\") @max_rows(\"5\") permit (principal, action == Action::\"sql:delete\", resource);",
            "test.cedar:1:1",
            "on a forbid",
        ),
        (
            "@id(\"a\") @max_rows(\"5\") forbid (principal, action, resource);",
            "test.cedar:1:1",
            "every action",
        ),
        (
            "@id(\"a\") @max_rows(\"5\") forbid (principal, action in Action::\"sql:rows\", resource);",
            "test.cedar:1:1",
            "sql:rows",
        ),
        (
            "@id(\"a\") @max_rows(\"5\") forbid (principal, action in [Action::\"sql:delete\", Action::\"sql:select\"], resource);",
            "test.cedar:1:1",
            "sql:select",
        ),
        (
            "@id(\"a\") @max_rows(\"5\") @mask(\"null\") forbid (principal, action == Action::\"sql:delete\", resource);",
            "test.cedar:1:1",
            "contradict",
        ),
        (
            "@id(\"a\") @max_rows(\"5\") @approval(\"dba\") forbid (principal, action == Action::\"sql:delete\", resource);",
            "test.cedar:1:1",
            "contradict",
        ),
        ("@id(\"a\") @window(\"5m\") forbid (principal, action, resource);", "test.cedar:1:1", "@approval"),
        ("@id(\"a\") permit (principal == ?principal, action, resource);", "test.cedar:1:1", "template"),
        (
            "@id(\"a\") permit (principal, action == Action::\"sql:slect\", resource);",
            "test.cedar:1:",
            "sql:slect",
        ),
        (
            "@id(\"a\") permit (principal, action == Action::\"connect\", resource)\nwhen { context.has_where };",
            "test.cedar:2:8",
            "has_where",
        ),
        (
            "@id(\"a\") forbid (principal, action, resource == Table::\"public.customers\");",
            "test.cedar:1:1",
            "orders-db/public.orders",
        ),
    ] {
        let complaint = complaint(text);
        assert!(complaint.starts_with(place) && complaint.contains(words), "{text}\n -> {complaint}");
    }
}

#[test]
fn a_double_id_is_reported_with_both_places() {
    let complaint = complaint(&format!("{PERMIT_ALL}{PERMIT_ALL}"));
    assert!(complaint.starts_with("test.cedar:2:1: "), "{complaint}");
    assert!(complaint.contains("test.cedar:1:1"), "{complaint}");
}

#[test]
fn files_are_found_at_any_depth_once_each_as_in_a_mounted_configmap() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("..2026/sub")).unwrap();
    fs::create_dir_all(dir.path().join("guards")).unwrap();
    fs::write(dir.path().join("..2026/a.cedar"), PERMIT_ALL).unwrap();
    fs::write(dir.path().join("guards/b.cedar"), MASK_PII).unwrap();
    fs::write(dir.path().join("guards/cases.yaml"), "not: policy").unwrap();
    std::os::unix::fs::symlink("..2026", dir.path().join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/a.cedar", dir.path().join("a.cedar")).unwrap();
    assert_eq!(Policies::load(dir.path(), &["ci"]).unwrap().count(), 2);
    std::os::unix::fs::symlink(".", dir.path().join("loop")).unwrap();
    assert!(matches!(Policies::load(dir.path(), &["ci"]), Err(PolicyError::TooDeep { .. })));
}

#[test]
fn a_missing_directory_is_an_error_and_not_an_empty_set() {
    let dir = tempfile::tempdir().unwrap();
    let error = Policies::load(&dir.path().join("nowhere"), &["ci"]).unwrap_err();
    assert!(error.to_string().contains("nowhere"));
}

#[test]
fn a_reload_takes_effect_at_once_and_a_wrong_one_keeps_the_old_rules() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.cedar");
    fs::write(&file, PERMIT_ALL).unwrap();
    let policies = Policies::load(dir.path(), &["ci"]).unwrap();
    let connect = || policies.decide(&principal(&[]), &workload(), &target(), Action::Connect);
    let first = policies.epoch();
    assert!(matches!(connect(), Decision::Allow { .. }));

    fs::write(&file, "permit (principal").unwrap();
    assert!(policies.reload().is_err());
    assert_eq!(policies.epoch(), first);
    assert!(matches!(connect(), Decision::Allow { .. }));

    fs::write(&file, PERMIT_ALL).unwrap();
    assert!(!policies.reload().unwrap().changed);
    assert_eq!(policies.epoch(), first);

    fs::write(&file, MASK_PII).unwrap();
    let reloaded = policies.reload().unwrap();
    assert!(reloaded.changed && reloaded.epoch > first && policies.epoch() == reloaded.epoch);
    denial(connect());

    fs::remove_dir_all(dir.path()).unwrap();
    assert!(policies.reload().is_err());
    denial(connect());
}

#[test]
fn a_refusal_of_code_that_cannot_be_read_names_it() {
    let mut call = statement(Verb::Call, None, &[]);
    call.opaque.insert(Opaque::Function("public.purge".to_owned()));
    let denial = denial(decide(&policies(""), &[call]));
    assert!(denial.reason.ends_with("(code that cannot be read: public.purge)"), "{}", denial.reason);
}

#[test]
fn the_documented_examples_are_valid_and_do_what_they_say() {
    let policies = policies(
        r#"
@id("agents-work-with-rows")
permit (principal in Group::"agents", action in [Action::"connect", Action::"sql:rows", Action::"sql:read", Action::"sql:ddl"], resource in Target::"orders-db");

@id("no-delete-of-everything") @message("Add a WHERE clause that selects rows.")
forbid (principal, action in [Action::"sql:delete", Action::"sql:update"], resource) unless { context.has_where };

@id("schema-needs-a-dba") @approval("dba")
forbid (principal, action in Action::"sql:ddl", resource);

@id("mask-pii") @mask("partial")
forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("pii") };
"#,
    );
    let drop = denial(decide(&policies, &[statement(Verb::Drop, Some("customers"), &[])]));
    assert_eq!(ids(&drop.policies), ["schema-needs-a-dba"]);
    let read =
        decide(&policies, &[statement(Verb::Select, Some("customers"), &[("email", ColumnUse::Projected)])]);
    assert_eq!(masks(&read).len(), 1);
}

#[test]
fn the_schema_has_every_action_and_group_that_packs_may_name() {
    for action in [
        "dns:resolve",
        "sql:rows",
        "sql:ddl",
        "sql:maintenance",
        "http:read",
        "http:write",
        "http:GET",
        "k8s:read",
        "k8s:write",
        "k8s:shell",
        "k8s:exec",
        "k8s:impersonate",
    ] {
        policies(&format!("@id(\"a\") permit (principal, action in Action::\"{action}\", resource);"));
    }
}

fn lookup<'a>(name: &'a str, kind: &'a str, targets: &'a [TargetFacts]) -> Lookup<'a> {
    Lookup { name, kind, server: "192.0.2.53".parse().unwrap(), trust: ServerTrust::Untrusted, targets }
}

#[test]
fn a_name_lies_in_the_names_above_it_and_in_no_others() {
    let policies = policies(
        "@id(\"hub\") permit (principal, action == Action::\"dns:resolve\", resource in DnsName::\"github.com\");\n",
    );
    let ask = |name| policies.decide_lookup(&principal(&[]), &workload(), &lookup(name, "A", &[]));
    for name in ["github.com", "api.github.com", "a.b.c.github.com"] {
        assert!(matches!(ask(name), Decision::Allow { .. }), "{name}");
    }
    for name in ["com", "notgithub.com", "github.com.evil.example", "."] {
        assert_eq!(denial(ask(name)).policies, [PolicyId::from(DEFAULT_DENY)], "{name}");
    }
}

#[test]
fn a_targets_name_is_for_whoever_may_connect_unless_a_rule_forbids_it() {
    let connect = "@id(\"in\") permit (principal, action == Action::\"connect\", resource);\n";
    let forbid = "@id(\"no-text\") forbid (principal, action == Action::\"dns:resolve\", resource) when { context.type == \"TXT\" };\n";
    let known = [target()];
    let ask = |rules: &str, kind, targets| {
        policies(rules).decide_lookup(&principal(&[]), &workload(), &lookup("orders.internal", kind, targets))
    };
    let Decision::Allow { policies: by, .. } = ask(connect, "A", &known) else {
        panic!("it is a target's name")
    };
    assert_eq!(by, [PolicyId::from("in")]);
    assert_eq!(denial(ask(connect, "A", &[])).policies, [PolicyId::from(DEFAULT_DENY)]);
    assert_eq!(denial(ask(forbid, "A", &known)).policies, [PolicyId::from(DEFAULT_DENY)]);
    assert_eq!(
        denial(ask(&format!("{connect}{forbid}"), "TXT", &known)).policies,
        [PolicyId::from("no-text")]
    );
}

#[test]
fn what_is_looked_for_is_said_by_name_and_the_stronger_transform_wins() {
    let policies = policies(
        r#"@id("all") permit (principal, action, resource);
        @id("contact") @mask("partial") @detect("email, phone") forbid (principal, action == Action::"sql:read", resource is Column)
        when { resource.name == "notes" };
        @id("secrets") @mask("redact") @detect("secrets,email") forbid (principal, action == Action::"sql:read", resource is Column)
        when { context.usage == "projected" };"#,
    );
    let statement = statement(
        Verb::Select,
        Some("customers"),
        &[("notes", ColumnUse::Projected), ("name", ColumnUse::Compared)],
    );
    let Decision::Allow { masks, .. } = decide(&policies, std::slice::from_ref(&statement)) else {
        panic!("denied")
    };
    assert!(masks.columns.is_empty(), "nothing is masked as a whole");
    let scan = &masks.scans[&column("customers", "notes")];
    assert_eq!(scan.transforms[&Detector::Email], Transform::Redact, "redact is stronger than partial");
    assert_eq!(scan.transforms[&Detector::Phone], Transform::Partial);
    assert_eq!(scan.transforms.len(), 1 + 1 + 5);
    assert_eq!(ids(&scan.policies), ["contact", "secrets"]);
    assert_eq!(masks.scans.len(), 1, "a column that is compared is not shown");

    let moved = self::statement(Verb::Select, Some("customers"), &[("notes", ColumnUse::Moved)]);
    let refusal = denial(decide(&policies, &[moved]));
    assert_eq!(ids(&refusal.policies), ["contact"], "{}", refusal.reason);

    let mut catalogue = Catalogue::default();
    let columns = ["notes", "name"].into_iter().zip(1..).map(|(name, number)| Column {
        name: name.to_owned(),
        number,
        type_oid: 25,
        modifier: -1,
        collation: 100,
        origins: BTreeSet::new(),
        is_computed: false,
    });
    catalogue.insert(Relation {
        oid: 7,
        name: relation("customers"),
        kind: RelationKind::Table,
        columns: columns.collect(),
    });
    let plan = policies.masks_for(&principal(&[]), &workload(), &target(), &catalogue);
    assert!(plan.scans[&column("customers", "notes")].transforms.contains_key(&Detector::Phone));
    assert_eq!(plan.scans[&column("customers", "name")].transforms.len(), 1 + 5);
}

#[test]
fn a_hash_may_be_compared_for_equality_where_its_policy_says_so_and_nothing_else_may() {
    let mask = |annotations: &str| {
        format!(
            r#"@id("all") permit (principal, action, resource);
            @id("pseudonyms") {annotations} forbid (principal, action == Action::"sql:read", resource is Column)
            when {{ resource.name == "email" }};"#
        )
    };
    let read = |usage| statement(Verb::Select, Some("customers"), &[("email", usage)]);
    let comparable = policies(&mask(r#"@mask("hash") @compare("equal")"#));
    assert_eq!(masks(&decide(&comparable, &[read(ColumnUse::Matched)])), []);
    let shown = decide(&comparable, &[read(ColumnUse::Projected)]);
    assert_eq!(masks(&shown), [("public.customers.email".to_owned(), Transform::Hash)]);
    for usage in [ColumnUse::Compared, ColumnUse::Computed, ColumnUse::Moved] {
        assert_eq!(ids(&denial(decide(&comparable, &[read(usage)])).policies), ["pseudonyms"]);
    }
    assert_eq!(masks(&decide(&comparable, &[read(ColumnUse::Tested)])), [], "NULL stays NULL");
    let hidden = denial(decide(&policies(&mask(r#"@mask("null")"#)), &[read(ColumnUse::Tested)]));
    assert!(hidden.reason.contains("tested for NULL"), "{}", hidden.reason);
    let plain = policies(&mask(r#"@mask("hash")"#));
    assert_eq!(ids(&denial(decide(&plain, &[read(ColumnUse::Matched)])).policies), ["pseudonyms"]);
    // Another mask of the same column does not say so.
    let both = policies(&format!(
        "{}{}",
        mask(r#"@mask("hash") @compare("equal")"#),
        r#"@id("contact") @mask("hash") forbid (principal, action == Action::"sql:read", resource is Column);"#
    ));
    denial(decide(&both, &[read(ColumnUse::Matched)]));
    for (annotations, expected) in [
        (r#"@mask("hash") @compare("less")"#, "is not a known comparison"),
        (r#"@mask("redact") @compare("equal")"#, "has no meaning without @mask(\"hash\")"),
        (r#"@mask("hash") @detect("email") @compare("equal")"#, "has no meaning without @mask(\"hash\")"),
        (r#"@compare("equal")"#, "has no meaning without @mask(\"hash\")"),
    ] {
        let refused = Policies::load_all(vec![inline(&mask(annotations))], &["ci"]).unwrap_err().to_string();
        assert!(refused.contains(expected), "{annotations}: {refused}");
    }
}

#[test]
fn detect_names_what_there_is_and_stands_beside_a_mask() {
    for (annotations, expected) in [
        (r#"@mask("redact") @detect("emails")"#, "\"emails\", which is no detector"),
        (r#"@mask("redact") @detect("")"#, "which is no detector"),
        (r#"@detect("email")"#, "has no meaning without @mask"),
    ] {
        let text = format!(
            "@id(\"x\") {annotations} forbid (principal, action == Action::\"sql:read\", resource is Column);"
        );
        let problems = self::complaint(&text);
        assert!(problems.contains(expected), "{problems}");
    }
}

#[test]
fn the_smallest_size_that_a_permit_names_limits_what_is_recorded() {
    let policies = policies(
        r#"@id("a") @record_results("1MiB") @record_session("8MiB") permit (principal, action, resource);
           @id("b") @record_results("16KiB") permit (principal, action in Action::"sql:rows", resource);
           @id("c") @record_results("0") permit (principal, action == Action::"sql:copy", resource);"#,
    );
    let record = |decision| match decision {
        Decision::Allow { record, .. } => record,
        Decision::Deny(denial) => panic!("{denial:?}"),
    };
    let select = statement(Verb::Select, Some("customers"), &[]);
    let selected = record(decide(&policies, std::slice::from_ref(&select)));
    assert_eq!((selected.result_bytes, selected.session_bytes), (Some(16 << 10), Some(8 << 20)));
    let copy = statement(Verb::Copy, Some("customers"), &[]);
    assert_eq!(record(decide(&policies, std::slice::from_ref(&copy))).result_bytes, Some(0));
    let connect = policies.decide(&principal(&[]), &workload(), &target(), Action::Connect);
    assert_eq!(record(connect).session_bytes, Some(8 << 20));
    let silent = self::policies(PERMIT_ALL);
    assert_eq!(record(decide(&silent, &[select])), RecordLimits::default());
}

#[test]
fn a_size_of_recordings_is_one_and_stands_on_a_permit() {
    for (text, expected) in [
        (r#"@id("x") @record_results("many") permit (principal, action, resource);"#, "is not a size"),
        (r#"@id("x") @record_session("1kb") permit (principal, action, resource);"#, "is not a size"),
        (r#"@id("x") @record_results("1KiB") forbid (principal, action, resource);"#, "has no meaning"),
    ] {
        let problems = complaint(text);
        assert!(problems.contains(expected), "{problems}");
    }
}

#[test]
fn what_comes_by_other_ways_than_sql_is_permitted_by_its_name_alone() {
    let everything = "@id(\"all\") permit (principal, action, resource);";
    let by_condition = "@id(\"named-too-late\") permit (principal, action, resource) when \
        { action == Action::\"sql:replication\" || action == Action::\"sql:function_call\" };";
    for verb in Verb::ALL {
        let asked = [statement(verb, None, &[])];
        let decide = |text: &str| {
            policies(text).decide(&principal(&["agents"]), &workload(), &target(), Action::Sql(&asked))
        };
        let is_open = |text: &str| matches!(decide(text), Decision::Allow { .. });
        let by_name = format!(
            "@id(\"named\") permit (principal, action in [Action::\"connect\", Action::\"sql:{}\"], resource);",
            verb.as_str()
        );
        assert_eq!(is_open(everything), !verb.must_be_named(), "{verb:?}");
        assert_eq!(is_open(&format!("{everything} {by_condition}")), !verb.must_be_named(), "{verb:?}");
        assert!(is_open(&by_name), "{verb:?}");
        assert!(is_open(&format!("{everything} {by_name}")), "{verb:?}");
        // A forbid for every action closes these like all others.
        let forbidden = format!("{by_name} @id(\"nothing\") forbid (principal, action, resource);");
        assert!(!is_open(&forbidden), "{verb:?}");
        if let Decision::Deny(denial) = decide(everything) {
            let hint = denial.hint.unwrap();
            assert!(hint.contains(&format!("Action::\"sql:{}\"", verb.as_str())), "{hint}");
        }
    }
}

#[test]
fn policies_see_which_replication_command_is_asked_for() {
    let policies = policies(
        "@id(\"identify\") permit (principal, action == Action::\"sql:replication\", resource) \
         when { context has replication && [\"connect_database\", \"identify_system\"].contains(context.replication) };",
    );
    for (command, is_open) in
        [(ReplicationCommand::IdentifySystem, true), (ReplicationCommand::BaseBackup, false)]
    {
        let asked = Statement { replication: Some(command), ..Statement::plain([Verb::Replication]) };
        let decision = policies.decide(
            &principal(&["agents"]),
            &workload(),
            &target(),
            Action::Sql(std::slice::from_ref(&asked)),
        );
        assert_eq!(matches!(decision, Decision::Allow { .. }), is_open, "{command:?}");
    }
}

#[test]
fn the_least_number_of_rows_limits_each_statement_and_a_plain_forbid_refuses_it() {
    let limits = |text: &str, statements: &[Statement]| match decide(&policies(text), statements) {
        Decision::Allow { max_rows, .. } => max_rows
            .into_iter()
            .map(|limit| limit.map(|limit| (limit.rows, limit.policy.to_string())))
            .collect(),
        Decision::Deny(denial) => vec![Some((0, denial.reason))],
    };
    let rules = |more: &str| {
        format!(
            "{PERMIT_ALL}
             @id(\"ten\") @max_rows(\"10\") forbid (principal, action in [Action::\"sql:update\", Action::\"sql:delete\"], resource);
             @id(\"five\") @max_rows(\"5\") forbid (principal, action == Action::\"sql:delete\", resource) unless {{ context.has_where }};
             @id(\"seven\") @max_rows(\"7\") forbid (principal, action == Action::\"sql:update\", resource == Table::\"orders-db/public.orders\"); {more}"
        )
    };
    let update = statement(Verb::Update, Some("customers"), &[]);
    let of_orders = statement(Verb::Update, Some("orders"), &[]);
    let delete = statement(Verb::Delete, Some("customers"), &[]);
    let mut everything = delete.clone();
    everything.row_limit = RowLimit::Unlimited;
    let read = statement(Verb::Select, Some("customers"), &[]);
    let some = |rows, policy: &str| Some((rows, policy.to_owned()));
    assert_eq!(limits(&rules(""), std::slice::from_ref(&read)), []);
    for round in ["worked out", "cached"] {
        let all = [read.clone(), update.clone(), of_orders.clone(), delete.clone(), everything.clone()];
        let expected = [None, some(10, "ten"), some(7, "seven"), some(10, "ten"), some(5, "five")];
        assert_eq!(limits(&rules(""), &all), expected, "{round}");
    }
    let forbidden = limits(
        &rules("@id(\"no\") forbid (principal, action == Action::\"sql:delete\", resource);"),
        std::slice::from_ref(&delete),
    );
    assert!(forbidden[0].as_ref().unwrap().1.contains("\"no\" forbids"), "{forbidden:?}");
    // A limit permits nothing.
    let alone =
        "@id(\"ten\") @max_rows(\"10\") forbid (principal, action == Action::\"sql:update\", resource);";
    let denied = limits(alone, std::slice::from_ref(&update));
    assert!(denied[0].as_ref().unwrap().1.contains("no policy permits"), "{denied:?}");
    // One that cannot be counted is refused, one that is only planned is not.
    let mut inside = update.clone();
    inside.uncounted.clone_from(&inside.effects);
    let denied = limits(&rules(""), std::slice::from_ref(&inside));
    assert!(denied[0].as_ref().unwrap().1.contains("cannot be counted"), "{denied:?}");
    inside.run = Run::NotYet;
    assert_eq!(limits(&rules(""), &[inside]), []);
}
