//! Table-driven: a statement and, in short form, everything that must be found in it.

mod clients;
mod columns;
mod definitions;
mod effects;
mod hostile;
mod random;
mod refusals;
mod results;
mod server;
mod written;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::domain::catalogue::{Catalogue, Column, Relation, RelationKind};
use crate::domain::statement::{ColumnName, ColumnUse, RelationName, RowLimit, Statement};

use super::{offline_catalogue, read};

/// A small shop: tables, a view over one of them, and some code of unknown body.
pub(super) fn shop() -> Catalogue {
    let mut catalogue = offline_catalogue();
    table(&mut catalogue, 90_001, "customers", &["id", "name", "email", "ssn"]);
    table(&mut catalogue, 90_002, "orders", &["id", "customer_id", "total", "note"]);
    table(&mut catalogue, 90_003, "notes", &["id", "body"]);
    table(&mut catalogue, 90_005, "pgbench_accounts", &["aid", "bid", "abalance", "filler"]);
    let view = RelationName { schema: "public".to_owned(), name: "customer_mail".to_owned() };
    let column = |number, name: &str, origin: &str| Column {
        name: name.to_owned(),
        number,
        type_oid: 25,
        modifier: -1,
        collation: 100,
        origins: BTreeSet::from([ColumnName {
            relation: RelationName { schema: "public".to_owned(), name: "customers".to_owned() },
            column: origin.to_owned(),
        }]),
        is_computed: false,
    };
    catalogue.insert(Relation {
        oid: 90_004,
        name: view,
        kind: RelationKind::View,
        columns: vec![column(1, "id", "id"), column(2, "mail", "email")],
    });
    for name in ["f", "count_star", "json_value"] {
        Arc::make_mut(&mut catalogue.user_functions)
            .insert(name.to_owned(), BTreeSet::from(["public".to_owned()]));
    }
    catalogue.user_operators.insert("===".to_owned());
    catalogue.opaque_types.insert("dom".to_owned());
    catalogue
}

fn table(catalogue: &mut Catalogue, oid: u32, name: &str, columns: &[&str]) {
    catalogue.insert(Relation {
        oid,
        name: RelationName { schema: "public".to_owned(), name: name.to_owned() },
        kind: RelationKind::Table,
        columns: (1..)
            .zip(columns)
            .map(|(number, column)| Column {
                name: (*column).to_owned(),
                number,
                type_oid: if column.ends_with("id") { 23 } else { 25 },
                modifier: -1,
                collation: 100,
                origins: BTreeSet::new(),
                is_computed: false,
            })
            .collect(),
    });
}

/// The statement in one line: effects; then P, D, T, C, F, M and W columns; then what is opaque and unlimited.
/// Schema `public` is left out.
pub(super) fn short(statement: &Statement) -> String {
    let mut line = String::new();
    let relation = |name: &RelationName| name.to_string().trim_start_matches("public.").to_owned();
    for effect in &statement.effects {
        let separator = if line.is_empty() { "" } else { ", " };
        let name = effect.relation.as_ref().map_or_else(|| "-".to_owned(), relation);
        write!(line, "{separator}{} {name}", effect.verb.as_str()).unwrap();
    }
    for (letter, usage) in [
        ('P', ColumnUse::Projected),
        ('D', ColumnUse::Defined),
        ('T', ColumnUse::Tested),
        ('C', ColumnUse::Compared),
        ('F', ColumnUse::Computed),
        ('M', ColumnUse::Moved),
        ('W', ColumnUse::Written),
    ] {
        // What is matched is compared, in the least way.
        let is_meant = |found| found == usage || usage == ColumnUse::Compared && found == ColumnUse::Matched;
        let names: BTreeSet<String> = statement
            .columns
            .iter()
            .filter(|access| is_meant(access.usage))
            .map(|access| access.column.to_string().trim_start_matches("public.").to_owned())
            .collect();
        if !names.is_empty() {
            let names: Vec<String> = names.into_iter().collect();
            write!(line, " | {letter} {}", names.join(" ")).unwrap();
        }
    }
    for opaque in &statement.opaque {
        write!(line, " | {opaque:?}").unwrap();
    }
    if statement.row_limit == RowLimit::Unlimited {
        line.push_str(" | unlimited");
    }
    line
}

/// Checks each statement of a table against its short form, and shows all that differ.
pub(super) fn check(cases: &[(&str, &str)]) {
    check_against(&shop(), cases);
}

/// The same with another catalogue.
pub(super) fn check_against(catalogue: &Catalogue, cases: &[(&str, &str)]) {
    let mut wrong = String::new();
    for (text, expected) in cases {
        let found = match read(text, catalogue) {
            Ok(statements) => statements.iter().map(short).collect::<Vec<_>>().join(" ; "),
            Err(error) => format!("{}: {error}", error.rule()),
        };
        let is_right = match expected.strip_suffix('…') {
            Some(start) => found.starts_with(start),
            None => found == *expected,
        };
        if !is_right {
            writeln!(wrong, "{text}\n  expected {expected}\n  found    {found}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
