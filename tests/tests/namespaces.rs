//! One daemon for every network namespace: the same address and port in two of them are two places.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use nodegate_tests::{
    netns::Netns,
    postgres::{Options, Postgres},
    programs::{nodegate, said},
    stage::{Stage, psql_words},
};

#[test]
fn an_agent_in_another_namespace_reaches_the_server_of_that_namespace_masked() {
    let netns = Netns::new();
    let stage = Stage::new();
    let there = Postgres::with(&Options {
        port: Some(stage.postgres.port()),
        netns: Some(&netns),
        ..Options::default()
    });
    there.admin("UPDATE customers SET name = 'Somebody There' WHERE id = 1");

    let words = psql_words(&there, &["-At", "-c", "SELECT name, email FROM customers WHERE id = 1"]);
    let mut inside = netns.command(&nodegate());
    inside.args(["run", "--socket"]).arg(stage.daemon.socket());
    inside
        .arg("--token-file")
        .arg(stage.daemon.token_file(&stage.issuer.token("agent-1")))
        .arg("--")
        .args(&words);
    let seen = said(inside.env("PGPASSWORD", "wrong"), "", Duration::from_secs(30));
    assert!(seen.ok().starts_with("Somebody There|"), "{seen:?}");
    assert!(!seen.out.contains("hopper"), "{seen:?}");

    let here = stage.psql("SELECT name FROM customers WHERE id = 1");
    assert_eq!(here.ok(), "Grace Hopper\n");
}

#[test]
fn flows_of_two_namespaces_with_the_same_address_and_port_in_each_never_mix() {
    let stage = Stage::new();
    let places: Vec<_> = ["Somebody East", "Somebody West"]
        .into_iter()
        .map(|name| {
            let netns = Netns::new();
            let port = Some(stage.postgres.port());
            let server = Postgres::with(&Options { port, netns: Some(&netns), ..Options::default() });
            server.admin(&format!("UPDATE customers SET name = '{name}' WHERE id = 1"));
            (netns, server, name)
        })
        .collect();
    let query = "SELECT name FROM customers WHERE id = 1;".repeat(5);
    std::thread::scope(|scope| {
        for round in 0..3 {
            for (netns, server, name) in &places {
                let (stage, query) = (&stage, &query);
                scope.spawn(move || {
                    let mut inside = netns.command(&nodegate());
                    inside.args(["run", "--socket"]).arg(stage.daemon.socket()).arg("--token-file");
                    inside.arg(stage.daemon.token_file(&stage.issuer.token("agent-1"))).arg("--");
                    inside.args(psql_words(server, &["-At", "-c", query])).env("PGPASSWORD", "wrong");
                    let seen = said(&mut inside, "", Duration::from_secs(30));
                    let names: Vec<&str> = seen.ok().lines().collect();
                    assert!(names.iter().all(|line| line.starts_with(name)), "round {round}: {seen:?}");
                    assert!(!names.is_empty());
                });
            }
        }
    });
}

#[test]
fn an_agent_that_enters_a_namespace_later_is_not_free_there() {
    let netns = Netns::new();
    let stage = Stage::new();
    let there = Postgres::with(&Options {
        port: Some(stage.postgres.port()),
        netns: Some(&netns),
        ..Options::default()
    });
    let mut run = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    run.arg("nsenter").arg(format!("--net=/run/netns/{}", netns.name()));
    run.args(psql_words(&there, &["-At", "-c", "SELECT email FROM customers WHERE id = 1"]));
    // With the real password: if anything went direct, the address would be seen.
    run.env("PGPASSWORD", nodegate_tests::postgres::PASSWORD);
    let seen = said(&mut run, "", Duration::from_secs(30));
    assert!(!seen.out.contains("hopper"), "it went past the daemon: {seen:?}");
}

#[test]
fn an_agent_that_makes_a_namespace_of_its_own_is_not_free_there() {
    let stage = Stage::new();
    let mut run = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    let attempt = "ip link set lo up; \"$@\"";
    run.args(["unshare", "--net", "--cgroup", "--mount", "sh", "-c", attempt, "sh"]);
    run.args(psql_words(&stage.postgres, &["-At", "-c", "SELECT email FROM customers WHERE id = 1"]));
    run.env("PGPASSWORD", nodegate_tests::postgres::PASSWORD);
    let seen = said(&mut run, "", Duration::from_secs(30));
    assert_ne!(seen.status, 0, "{seen:?}");
    assert!(!seen.out.contains("hopper"), "{seen:?}");
}
