//! Many at once: every flow attributed to the right cgroup and destination, and nothing left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use nodegate_tests::{
    daemon::{Daemon, Settings, Target},
    issuer::Issuer,
    postgres::{Options, Postgres},
    programs::{self, Said, wait_for},
    wire::Client,
};
use serde_json::Value;

/// Two shops, so that a mix-up between destinations is seen.
fn two_shops(connections: u32) -> (Postgres, Postgres) {
    let options = Options { connections: Some(connections), ..Options::default() };
    (Postgres::with(&options), Postgres::with(&options))
}

fn daemon_for(shops: &(Postgres, Postgres), issuer: &Issuer) -> Daemon {
    let targets = vec![Target::shop("north", shops.0.address()), Target::shop("south", shops.1.address())];
    Daemon::start(&Settings::new(targets), issuer)
}

/// How many records of that kind the audit log has for each identity and target.
fn recorded(daemon: &Daemon, kind: &str) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for record in daemon.audit_search(&["--kind", kind, "--limit", "0"]) {
        let event = record.get("event").unwrap_or(&record);
        let text = |name: &str| event[name].as_str().unwrap_or("nobody").to_owned();
        let identity = text("identity").rsplit('|').next().unwrap_or_default().to_owned();
        *counts.entry((identity, text("target"))).or_insert(0) += 1;
    }
    counts
}

/// What must be the same before and after: flow records in the kernel, descriptors, cgroups.
fn assert_nothing_is_left(daemon: &Daemon, descriptors_before: usize) {
    wait_for("sessions and flow records to go", Duration::from_secs(20), || {
        let (sessions, records) = (daemon.counter("sessions"), daemon.counter("flow_records"));
        (sessions == 0 && records == 0).then_some(())
    });
    wait_for("the cgroups of the runs to go", Duration::from_secs(10), || {
        let left = fs::read_dir(daemon.cgroup()).into_iter().flatten().filter_map(Result::ok);
        (left.filter(|entry| entry.path().is_dir()).count() == 0).then_some(())
    });
    wait_for("descriptors to be closed", Duration::from_secs(10), || {
        (programs::descriptors(daemon.pid()) <= descriptors_before + 8).then_some(())
    });
}

#[test]
fn a_thousand_sessions_at_once_each_see_their_own_server() {
    programs::raise_descriptor_limit();
    let shops = two_shops(560);
    shops.1.admin("UPDATE products SET name = 'south' WHERE id = 1");
    shops.0.admin("UPDATE products SET name = 'north' WHERE id = 1");
    let issuer = Issuer::start();
    let daemon = daemon_for(&shops, &issuer);
    let descriptors = programs::descriptors(daemon.pid());

    let lanes: Vec<_> = ["agent-a", "agent-b"]
        .map(|who| {
            let mut agent = daemon.agent(&issuer.token(who));
            let places = [(shops.0.address(), "north"), (shops.1.address(), "south")];
            thread::spawn(move || {
                let open = |number: usize| {
                    let (address, name) = places[number % 2];
                    let stream = agent.connect(address).expect("a captured connection");
                    let client =
                        Client::start(stream).unwrap_or_else(|error| panic!("session {number}: {error:?}"));
                    (client, name)
                };
                let mut clients: Vec<(Client, &str)> = (0..500).map(open).collect();
                for (client, name) in &mut clients {
                    assert_eq!(client.query("SELECT name FROM products WHERE id = 1").texts(), [[*name]]);
                }
                (agent, clients)
            })
        })
        .into_iter()
        .map(|lane| lane.join().expect("a lane"))
        .collect();
    assert_eq!(daemon.counter("sessions"), 1000);
    let expected = |who: &str, target: &str| ((who.to_owned(), target.to_owned()), 250);
    let wanted: BTreeMap<_, _> = [
        expected("agent-a", "north"),
        expected("agent-a", "south"),
        expected("agent-b", "north"),
        expected("agent-b", "south"),
    ]
    .into();
    assert_eq!(recorded(&daemon, "connect"), wanted);
    drop(lanes);
    assert_nothing_is_left(&daemon, descriptors);
}

#[test]
fn a_storm_of_twenty_thousand_short_connections_is_attributed_to_the_last_one() {
    let shops = two_shops(200);
    let issuer = Issuer::start();
    let daemon = daemon_for(&shops, &issuer);
    // Connections that only ask for TLS are flows as well; one in twenty logs in and asks something.
    let storm = |who: &str| {
        let mut run: Command = daemon.run(Some(&issuer.token(who)));
        run.arg(programs::agent()).args(["storm", "10000", "8", "20"]);
        run.args([shops.0.address().to_string(), shops.1.address().to_string()]);
        run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a storm")
    };
    let descriptors = programs::descriptors(daemon.pid());
    let storms = [storm("agent-a"), storm("agent-b")];
    for child in storms {
        let said = Said::from_output(&child.wait_with_output().expect("its output"));
        let report: Value =
            serde_json::from_str(said.ok()).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        assert_eq!((&report["answered"], &report["failed"]), (&10_000.into(), &0.into()), "{said:?}");
        assert_eq!(report["queried"], 500);
    }
    let flows = wait_for("every flow to be counted", Duration::from_secs(10), || {
        let flows = daemon.counter("flows_total");
        (flows >= 20_000).then_some(flows)
    });
    assert_eq!(flows, 20_000);
    let expected = |who: &str, target: &str| ((who.to_owned(), target.to_owned()), 5_000);
    let wanted: BTreeMap<_, _> = [
        expected("agent-a", "north"),
        expected("agent-a", "south"),
        expected("agent-b", "north"),
        expected("agent-b", "south"),
    ]
    .into();
    assert_nothing_is_left(&daemon, descriptors);
    // Each flow ends with a record; those that logged in began with one as well.
    assert_eq!(recorded(&daemon, "close"), wanted);
    assert_eq!(recorded(&daemon, "connect"), wanted.into_keys().map(|key| (key, 250)).collect());
    let verified = daemon.audit_command(&["verify"]);
    verified.ok();
}
