//! What a decision costs: 10, 100 and 1,000 policies, known statements and new ones.
//!
//! `known` is the usual case: the same agent asks the same kind of statement again. `new` is a statement seen for
//! the first time by an agent that is known. In both, policies are spread over groups, targets and tables as in
//! an installation with many teams; `unscoped` is the worst case for a new statement: every policy concerns
//! every request, so none can be left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    hint::black_box,
    path::PathBuf,
    time::SystemTime,
};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use gateway_daemon::{
    domain::{
        action::{Action, TargetFacts},
        flow::Workload,
        ids::CgroupId,
        principal::Principal,
        statement::{ColumnAccess, ColumnName, ColumnUse, Effect, RelationName, Statement, Verb},
    },
    policy::{Origin, Policies, Source},
};

const SIZES: [usize; 3] = [10, 100, 1000];

const BASE: &str = r#"
@id("rows") permit (principal in Group::"team-0", action in [Action::"connect", Action::"sql:rows", Action::"sql:read"], resource in Target::"db-0");
@id("where") forbid (principal, action in [Action::"sql:update", Action::"sql:delete"], resource) unless { context.has_where };
@id("pii") @mask("partial") forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("pii") };
"#;

/// `count` policies of a large installation: teams with their targets, schemas and tables.
fn spread(count: usize) -> String {
    let mut text = BASE.to_owned();
    for number in 3..count {
        let team = number / 4;
        let _ = match number % 4 {
            0 => writeln!(
                text,
                "@id(\"p{number}\") permit (principal in Group::\"team-{team}\", action in [Action::\"connect\", Action::\"sql:rows\", Action::\"sql:read\"], resource in Target::\"db-{team}\");"
            ),
            1 => writeln!(
                text,
                "@id(\"p{number}\") forbid (principal in Group::\"team-{team}\", action in Action::\"sql:ddl\", resource);"
            ),
            2 => writeln!(
                text,
                "@id(\"p{number}\") forbid (principal, action == Action::\"sql:read\", resource in Table::\"db-{team}/hr.salaries\") unless {{ principal in Role::\"hr\" }};"
            ),
            _ => writeln!(
                text,
                "@id(\"p{number}\") @mask(\"hash\") forbid (principal, action == Action::\"sql:read\", resource in Target::\"db-{team}\") when {{ resource.tags.contains(\"t{number}\") }};"
            ),
        };
    }
    text
}

/// `count` policies that all concern every question.
fn unscoped(count: usize) -> String {
    let mut text = BASE.to_owned();
    for number in 3..count {
        let _ = writeln!(
            text,
            "@id(\"p{number}\") forbid (principal, action in [Action::\"sql:rows\", Action::\"sql:read\"], resource) when {{ context.functions.contains(\"f{number}\") }};"
        );
    }
    text
}

fn load(text: String) -> Result<Policies, String> {
    Policies::load_all(vec![Origin::Inline(Source { path: PathBuf::from("bench.cedar"), text })], &["ci"])
        .map_err(|error| error.to_string())
}

fn principal() -> Principal {
    Principal {
        issuer: "ci".to_owned(),
        issuer_url: "https://token.actions.example".to_owned(),
        subject: "repo:acme/shop:ref:refs/heads/main".to_owned(),
        groups: vec!["agents".to_owned(), "team-0".to_owned()],
        roles: vec!["reader".to_owned()],
        claims: BTreeMap::from([("repository".to_owned(), "acme/shop".to_owned())]),
        expires_at: SystemTime::UNIX_EPOCH,
    }
}

fn target() -> TargetFacts {
    TargetFacts {
        name: "db-0".to_owned(),
        tags: BTreeMap::from([("public.customers.email".to_owned(), BTreeSet::from(["pii".to_owned()]))]),
    }
}

/// `SELECT id, name, email, city, <a column> FROM customers WHERE id = $1`.
fn statement(column: &str) -> Statement {
    let relation = RelationName { schema: "public".to_owned(), name: "customers".to_owned() };
    let access = |name: &str, usage| ColumnAccess {
        column: ColumnName { relation: relation.clone(), column: name.to_owned() },
        usage,
    };
    let mut columns: BTreeSet<ColumnAccess> =
        ["id", "name", "email", "city", column].map(|name| access(name, ColumnUse::Projected)).into();
    columns.insert(access("id", ColumnUse::Compared));
    Statement {
        effects: BTreeSet::from([Effect { verb: Verb::Select, relation: Some(relation.clone()) }]),
        columns,
        ..Statement::plain([])
    }
}

fn decisions(criterion: &mut Criterion) {
    let principal = principal();
    let workload = Workload { cgroup: CgroupId(1), path: "/agents/a".to_owned(), label: None };
    let target = target();
    let mut group = criterion.benchmark_group("policy");
    for count in SIZES {
        let (spread, unscoped) = match (load(spread(count)), load(unscoped(count))) {
            (Ok(spread), Ok(unscoped)) => (spread, unscoped),
            (Err(error), _) | (_, Err(error)) => {
                eprintln!("{error}");
                return;
            }
        };
        let known = [statement("phone")];
        group.bench_function(BenchmarkId::new("known", count), |bencher| {
            bencher.iter(|| black_box(spread.decide(&principal, &workload, &target, Action::Sql(&known))));
        });
        for (name, policies) in [("new", &spread), ("new-unscoped", &unscoped)] {
            let mut number = 0_u64;
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter_batched(
                    || {
                        number += 1;
                        [statement(&format!("column_{number}"))]
                    },
                    |new| black_box(policies.decide(&principal, &workload, &target, Action::Sql(&new))),
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(benches, decisions);
criterion_main!(benches);
