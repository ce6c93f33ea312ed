//! The stage itself: what stands open without nodegate. Every refusal elsewhere is only worth something
//! because these pass.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{process::Command, time::Duration};

use nodegate_tests::{
    issuer::Issuer,
    leftovers,
    netns::Netns,
    postgres::{self, Options, Postgres},
    programs::{self, said},
    stage::psql_words,
    tokens::{Algorithm, Key},
};

fn direct(server: &Postgres, password: &str, sql: &str) -> programs::Said {
    let words = psql_words(server, &["-At", "-c", sql]);
    said(Command::new(&words[0]).args(&words[1..]).env("PGPASSWORD", password), "", Duration::from_secs(20))
}

#[test]
fn the_shop_is_open_to_its_role_and_to_nobody_without_the_password() {
    let server = Postgres::start();
    let refused = direct(&server, "wrong", "SELECT 1");
    assert_eq!(refused.status, 2);
    assert!(refused.err.contains("password authentication failed"), "{}", refused.err);

    let rows = direct(&server, postgres::PASSWORD, "SELECT count(*), count(email) FROM customers");
    assert_eq!(rows.ok(), "300|285\n");
    let email = direct(&server, postgres::PASSWORD, "SELECT email FROM customers WHERE id = 1");
    assert_eq!(email.ok(), "grace.hopper1@example.com\n");
    assert_eq!(server.connections_received(), 3 + 1, "a wrong password is tried with TLS and without");
}

#[test]
fn the_role_may_drop_its_tables_as_far_as_the_server_is_concerned() {
    let server = Postgres::start();
    let dropped = direct(&server, postgres::PASSWORD, "SELECT 1; DROP TABLE customers CASCADE");
    dropped.ok();
    assert_eq!(server.admin("SELECT to_regclass('customers') IS NULL"), "t");
}

#[test]
fn every_way_of_logging_in_is_to_be_had() {
    let server = Postgres::start();
    for (role, tls) in [("app_agent", "disable"), ("app_md5", "disable"), ("app_clear", "require")] {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-At", "-c", "SELECT current_user"]);
        psql.arg(format!("host=127.0.0.1 port={} dbname=shop user={role} sslmode={tls}", server.port()));
        let user = said(psql.env("PGPASSWORD", postgres::PASSWORD), "", Duration::from_secs(20));
        assert_eq!(user.ok().trim(), role);
    }
}

#[test]
fn a_server_in_another_network_namespace_has_the_same_address_and_is_another() {
    let netns = Netns::new();
    let here = Postgres::start();
    let there =
        Postgres::with(&Options { port: Some(here.port()), netns: Some(&netns), ..Options::default() });
    there.admin("DELETE FROM order_items");
    let words = psql_words(&there, &["-At", "-c", "SELECT count(*) FROM order_items"]);
    let mut inside = netns.command(words[0].as_ref());
    let count =
        said(inside.args(&words[1..]).env("PGPASSWORD", postgres::PASSWORD), "", Duration::from_secs(20));
    assert_eq!(count.ok(), "0\n");
    assert_eq!(direct(&here, postgres::PASSWORD, "SELECT count(*) FROM order_items").ok(), "1200\n");
}

#[test]
fn the_issuer_publishes_its_keys_under_its_own_authority() {
    let keys = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];
    let keys = keys.map(|algorithm| Key::generate(&format!("{algorithm:?}"), algorithm)).into();
    let issuer = Issuer::with(keys);
    let folder = leftovers::folder(&leftovers::unique_name());
    let authority = issuer.write_ca(&folder);
    let fetch = |path: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail", "--cacert"]).arg(&authority).arg(format!("{}{path}", issuer.url()));
        programs::succeed(&mut curl)
    };
    let document: serde_json::Value =
        serde_json::from_str(&fetch("/.well-known/openid-configuration")).unwrap();
    assert_eq!(document["issuer"], issuer.url());
    let keys: serde_json::Value = serde_json::from_str(&fetch("/keys")).unwrap();
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(3));
    assert_eq!(issuer.fetches(), 1);
    std::fs::remove_dir_all(folder).unwrap();
}
