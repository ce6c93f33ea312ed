//! Any text: no panic, the same answer twice, nothing named that the catalogue does not have; and what is put around a
//! statement hides nothing of it: a comment, EXPLAIN, a subquery, a CTE, a set operation, a copy of its rows.
#![no_main]

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock, Mutex, mpsc},
    thread,
};

use gateway_daemon_fuzz::{
    domain::{
        catalogue::{Catalogue, Column, Relation, RelationKind},
        statement::{ColumnName, ColumnUse, RelationName, Statement, Verb},
    },
    sql::postgres::{offline_catalogue, read},
};
use libfuzzer_sys::fuzz_target;

/// What a session's thread has: a level of nesting takes some KiB.
const STACK_BYTES: usize = 64 * 1024 * 1024;

type Job = (String, mpsc::Sender<()>);

/// A thread with that stack. A failed assertion there ends the process, as one here would.
static READER: LazyLock<Mutex<mpsc::Sender<Job>>> = LazyLock::new(|| {
    let (jobs, waiting) = mpsc::channel::<Job>();
    let reader = move || {
        let catalogue = catalogue();
        for (text, done) in waiting {
            check(&text, &catalogue);
            let _ = done.send(());
        }
    };
    thread::Builder::new().stack_size(STACK_BYTES).spawn(reader).expect("a thread");
    Mutex::new(jobs)
});

fn catalogue() -> Catalogue {
    let mut catalogue = offline_catalogue();
    let public = |name: &str| RelationName { schema: "public".to_owned(), name: name.to_owned() };
    let mut relation = |oid, name: &str, kind, columns: &[(&str, Option<(&str, &str)>)]| {
        let columns = (1..).zip(columns).map(|(number, (column, origin))| Column {
            name: (*column).to_owned(),
            number,
            type_oid: 25,
            modifier: -1,
            collation: 100,
            origins: origin
                .iter()
                .map(|(relation, column)| ColumnName { relation: public(relation), column: (*column).to_owned() })
                .collect(),
            is_computed: false,
        });
        catalogue.insert(Relation { oid, name: public(name), kind, columns: columns.collect() });
    };
    let table = RelationKind::Table;
    relation(90_001, "customers", table, &[("id", None), ("name", None), ("email", None), ("ssn", None)]);
    relation(90_002, "orders", table, &[("id", None), ("customer_id", None), ("total", None), ("note", None)]);
    relation(90_003, "notes", table, &[("id", None), ("body", None)]);
    let mail = [("id", Some(("customers", "id"))), ("mail", Some(("customers", "email")))];
    relation(90_004, "customer_mail", RelationKind::View, &mail);
    let user_functions = Arc::make_mut(&mut catalogue.user_functions);
    user_functions.insert("f".to_owned(), BTreeSet::from(["public".to_owned()]));
    catalogue.user_operators.insert("===".to_owned());
    catalogue
}

/// Columns of which something is read: every use but that of being assigned.
fn seen(statements: &[Statement]) -> BTreeSet<&ColumnName> {
    let accesses = statements.iter().flat_map(|statement| &statement.columns);
    accesses.filter(|access| access.usage != ColumnUse::Written).map(|access| &access.column).collect()
}

/// Columns of which something flows into a result.
fn shown(statements: &[Statement]) -> BTreeSet<&ColumnName> {
    statements.iter().flat_map(|statement| &statement.results.names).collect()
}

fn relations(statements: &[Statement]) -> BTreeSet<&RelationName> {
    let effects = statements.iter().flat_map(|statement| &statement.effects);
    effects.filter_map(|effect| effect.relation.as_ref()).collect()
}

fn check(text: &str, catalogue: &Catalogue) {
    let found = read(text, catalogue);
    let Ok(statements) = found else { return };
    assert_eq!(Ok(&statements), read(text, catalogue).as_ref().map_err(|_| ()), "another answer");
    for statement in &statements {
        assert!(!statement.effects.is_empty(), "a statement that does nothing");
        let calls = statement.effects.iter().any(|effect| effect.verb == Verb::Call);
        assert!(statement.opaque.is_empty() || calls, "opaque, and not called so");
        for access in &statement.columns {
            // System columns and relations that do not exist are named as they were written.
            if let Some(relation) = catalogue.relation(&access.column.relation)
                && !relation.columns.iter().any(|column| column.name == access.column.column)
            {
                assert!(!access.column.column.is_empty(), "a column without a name");
            }
        }
    }
    let commented = read(&format!("/* \u{e9} */ {text}\n-- end"), catalogue);
    assert_eq!(commented.as_ref().ok(), Some(&statements), "a comment changes what is read");
    let [statement] = statements.as_slice() else { return };
    let is_query = statement.effects.iter().all(|effect| effect.verb == Verb::Select)
        && !text.contains([';', '\\', '-', '/', '$', '\'', '"']);
    // A column of that name is what the name stands for, rather than the whole row.
    let is_wrapper_named = text.to_lowercase().contains("wrapped");
    if !is_query || is_wrapper_named {
        return;
    }
    let projected = shown(&statements);
    for (around, keeps) in [
        ("EXPLAIN (ANALYZE) @", Keeps::Seen),
        ("SELECT * FROM (@) AS wrapped", Keeps::Projected),
        ("SELECT wrapped FROM (@) AS wrapped", Keeps::Projected),
        ("WITH wrapped AS (@) SELECT * FROM wrapped", Keeps::Projected),
        ("WITH wrapped AS MATERIALIZED (@) SELECT 1 FROM wrapped", Keeps::Relations),
        ("SELECT ARRAY(@)", Keeps::Projected),
        ("SELECT (@)", Keeps::Projected),
        ("SELECT 1 WHERE EXISTS (@)", Keeps::Relations),
        ("(@) UNION ALL (@)", Keeps::Projected),
        ("CREATE TABLE copy AS @", Keeps::Seen),
        ("COPY (@) TO STDOUT", Keeps::Seen),
        ("DECLARE c CURSOR FOR @", Keeps::Seen),
    ] {
        let wrapped = around.replace('@', text);
        // Not every query may stand everywhere: INTO, for one.
        let Ok(outer) = read(&wrapped, catalogue) else { continue };
        let touched = relations(&outer);
        assert!(relations(&statements).is_subset(&touched), "a relation is lost in {wrapped}");
        match keeps {
            Keeps::Relations => {}
            Keeps::Seen => {
                assert!(seen(&statements).is_subset(&seen(&outer)), "a column is lost in {wrapped}");
            }
            Keeps::Projected => {
                assert!(projected.is_subset(&shown(&outer)), "what is shown is lost in {wrapped}");
            }
        }
    }
}

/// What a text around a query must not lose of it.
#[derive(Clone, Copy)]
enum Keeps {
    /// Which relations it reads.
    Relations,
    /// Which columns it reads.
    Seen,
    /// Which columns its rows may show.
    Projected,
}

fuzz_target!(|text: &str| {
    let (done, finished) = mpsc::channel();
    READER.lock().expect("no panic here").send((text.to_owned(), done)).expect("a reader");
    finished.recv().expect("an answer");
});
