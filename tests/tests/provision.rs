//! The database's own rights as the first line of defence: a role that is provisioned reads no tagged column, and the log
//! says of a login that may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{process::Command, time::Duration};

use nodegate_tests::{
    daemon::{Daemon, Settings, Target},
    issuer::Issuer,
    postgres::Postgres,
    programs,
    stage::Stage,
};

#[test]
fn a_provisioned_role_reads_everything_but_tagged_columns_and_what_shows_them() {
    let server = Postgres::start();
    let issuer = Issuer::start();
    let mut target = Target::shop("shop", server.address());
    target.role = "app_least".to_owned();
    let daemon = Daemon::prepare(&Settings::new(vec![target]), &issuer);
    server.admin(
        "SET ROLE app_agent; CREATE TABLE clients () INHERITS (customers); \
         ALTER TABLE customers ADD COLUMN shout text GENERATED ALWAYS AS (upper(email)) STORED; \
         CREATE VIEW staff AS SELECT id, name FROM products; CREATE VIEW deep AS SELECT address FROM contacts; \
         CREATE VIEW whole AS SELECT c FROM customers AS c",
    );
    let provision = |words: &[&str]| {
        let mut command = Command::new(programs::nodegate());
        command
            .args(["postgres", "provision", "--target", "shop", "--config"])
            .arg(daemon.config())
            .args(words);
        programs::said(&mut command, "", Duration::from_secs(10)).ok().to_owned()
    };
    let may = |column: &str, right: &str| {
        let (table, column) = column.split_once('.').unwrap();
        server.admin(&format!("SELECT has_column_privilege('app_least', '{table}', '{column}', '{right}')"))
            == "t"
    };
    server.script(&provision(&[]));
    for shown in ["customers.name", "customers.id", "orders.status", "staff.name", "clients.name"] {
        assert!(may(shown, "SELECT"), "{shown}");
        assert!(!may(shown, "UPDATE"), "{shown}");
    }
    for hidden in [
        "customers.email",
        "customers.ssn",
        "customers.phone",
        "customers.shout",
        "clients.email",
        "clients.shout",
        "contacts.address",
        "contacts.id",
        "deep.address",
        "whole.c",
    ] {
        assert!(!may(hidden, "SELECT"), "{hidden}");
    }
    // Once more, and with more: it can be run again.
    server.script(&provision(&["--write"]));
    assert!(may("customers.email", "UPDATE") && !may("customers.email", "SELECT"));
    assert!(!may("contacts.address", "UPDATE"));
    let attributes =
        "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls FROM pg_roles";
    assert_eq!(server.admin(&format!("{attributes} WHERE rolname = 'app_least'")), "f");
}

#[test]
fn the_log_names_what_a_login_owns_and_which_tagged_columns_it_may_read() {
    let stage = Stage::new();
    stage.psql("SELECT 1").ok();
    stage.psql("SELECT 1").ok();
    let log = stage.daemon.log();
    assert_eq!(log.matches("owns relations, which no GRANT limits").count(), 1, "{log}");
    assert_eq!(log.matches("may itself read tagged columns").count(), 1, "{log}");
    assert!(log.contains("public.customers.email") && log.contains("nodegate postgres provision"), "{log}");
}
