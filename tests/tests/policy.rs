//! Policy while the daemon runs: a changed file counts at once, a wrong one changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{process::Command, time::Duration};

use nodegate_tests::{
    daemon::POLICY,
    programs::{nodegate, said, wait_for},
    stage::Stage,
};

#[test]
fn a_changed_policy_counts_for_sessions_that_are_already_open() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    assert_eq!(client.query("SELECT count(*) FROM orders").texts(), [["600"]]);
    let stricter = format!(
        "{POLICY}\n@id(\"no-orders\")\nforbid (principal, action == Action::\"sql:select\", \
         resource == Table::\"shop/public.orders\");\n"
    );
    stage.daemon.set_policy(&stricter);
    let refused = wait_for("the new policy", Duration::from_secs(10), || {
        let reply = client.query("SELECT count(*) FROM orders");
        reply.errors.first().cloned()
    });
    assert_eq!(refused.code(), "42501");
    assert!(refused.text().contains("no-orders"), "{refused:?}");
    stage.daemon.set_policy(POLICY);
    wait_for("the old policy", Duration::from_secs(10), || {
        client.query("SELECT count(*) FROM orders").errors.is_empty().then_some(())
    });
}

#[test]
fn a_policy_that_does_not_validate_keeps_the_one_before_and_says_so() {
    let stage = Stage::new();
    stage.daemon.set_policy("@id(\"wrong\") permit (principal, action == Action::\"sql:selekt\", resource);");
    wait_for("a complaint in the log", Duration::from_secs(10), || {
        stage.daemon.log().contains("selekt").then_some(())
    });
    assert_eq!(stage.psql("SELECT count(*) FROM orders").ok(), "600\n");
    assert_ne!(stage.psql("DROP TABLE orders").status, 0);
}

#[test]
fn a_daemon_without_a_valid_policy_does_not_start() {
    let postgres = nodegate_tests::postgres::Postgres::start();
    let issuer = nodegate_tests::issuer::Issuer::start();
    let target = nodegate_tests::daemon::Target::shop("shop", postgres.address());
    let mut settings = nodegate_tests::daemon::Settings::new(vec![target]);
    settings.policy = "permit (principal, action".to_owned();
    let daemon = nodegate_tests::daemon::Daemon::prepare(&settings, &issuer);
    let mut command = Command::new(nodegate());
    let refused =
        said(command.arg("daemon").arg("--config").arg(daemon.config()), "", Duration::from_secs(10));
    assert_ne!(refused.status, 0);
    assert!(refused.err.contains("tests.cedar"), "{}", refused.err);
}

#[test]
fn the_packs_pass_their_own_cases() {
    let packs = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies");
    said(Command::new(nodegate()).args(["policy", "test", packs]), "", Duration::from_mins(1)).ok();
}
