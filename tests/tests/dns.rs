//! Names: who may ask for which, what is recorded of it, and that nobody is left waiting. A real server (dnsmasq), real
//! resolvers (dig, glibc's), captured and not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr, UdpSocket},
    process::Command,
    time::Duration,
};

use nodegate_tests::{
    daemon::{Daemon, Settings, Target},
    dns::{Dnsmasq, dig_words, own_address, query},
    issuer::Issuer,
    netns::Netns,
    postgres::{self, Postgres},
    programs::{Said, agent, nodegate, said},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Agents may ask for everything below `shop.test`, readers for nothing of their own.
const POLICY: &str = r#"
@id("agents-resolve-the-shop")
permit (principal in Group::"agents", action == Action::"dns:resolve", resource in DnsName::"shop.test");

@id("no-secrets") @message("Ask the owner of the vault.")
forbid (principal, action == Action::"dns:resolve", resource in DnsName::"vault.shop.test");

@id("two-groups-work-with-the-database")
permit (
    principal,
    action in [Action::"connect", Action::"sql:rows", Action::"sql:read", Action::"sql:other"],
    resource in Target::"orders"
) when { principal in [Group::"agents", Group::"readers"] };
"#;

const RECORDS: [&str; 4] = [
    "--address=/web.shop.test/10.0.0.7",
    "--address=/vault.shop.test/10.0.0.8",
    "--address=/orders.test/127.0.0.1",
    "--txt-record=text.shop.test,hello",
];

/// A server, an issuer, and a daemon whose one target is known by name.
struct Scene {
    daemon: Daemon,
    issuer: Issuer,
    server: Dnsmasq,
}

impl Scene {
    fn new() -> Self {
        Self::with(&[], |_| {})
    }

    fn with(options: &[&str], change: impl FnOnce(&mut Settings)) -> Self {
        let server = Dnsmasq::start(&[&RECORDS, options].concat());
        let issuer = Issuer::start();
        let mut orders = Target::shop("orders", "127.0.0.1:5432".parse().unwrap());
        orders.names = vec!["orders.test".to_owned()];
        let mut settings = Settings::new(vec![orders]);
        POLICY.clone_into(&mut settings.policy);
        change(&mut settings);
        Self { daemon: Daemon::start(&settings, &issuer), issuer, server }
    }

    fn agent(&self) -> String {
        self.issuer.token("agent-1")
    }

    /// A captured dig that asks the scene's server.
    fn dig(&self, more: &[&str]) -> Said {
        self.run(&self.agent(), &dig_words(self.server.address(), more))
    }

    fn run(&self, token: &str, words: &[String]) -> Said {
        said(self.daemon.run(Some(token)).args(words), "", PATIENCE)
    }
}

/// A dig that nobody captures.
fn direct(server: IpAddr, more: &[&str]) -> Said {
    let words = dig_words(server, more);
    said(Command::new(&words[0]).args(&words[1..]), "", PATIENCE)
}

fn status(said: &Said) -> &str {
    let line = said.out.lines().find_map(|line| line.split("status: ").nth(1));
    line.and_then(|line| line.split(',').next()).unwrap_or_else(|| panic!("no answer: {said:?}"))
}

#[test]
fn a_permitted_name_is_resolved_and_recorded_and_every_other_is_refused_at_once_with_the_reason() {
    let scene = Scene::new();
    let server = scene.server.address();
    for name in ["web.shop.test", "vault.shop.test", "elsewhere.test"] {
        assert_ne!(status(&direct(server, &[name])), "REFUSED", "the control for {name}");
    }
    let before = [scene.server.asked_for("vault.shop.test"), scene.server.asked_for("elsewhere.test")];

    let seen = scene.dig(&["Web.Shop.Test"]);
    assert_eq!(status(&seen), "NOERROR");
    assert!(seen.out.contains("10.0.0.7") && seen.out.contains("Web.Shop.Test."), "{seen:?}");
    assert!(seen.out.contains(&format!("SERVER: {server}#53")), "{seen:?}");

    let seen = scene.dig(&["vault.shop.test"]);
    assert_eq!(status(&seen), "REFUSED");
    assert!(seen.out.contains("EDE: 15 (Blocked)"), "{seen:?}");
    assert!(seen.out.contains("no-secrets") && seen.out.contains("Ask the owner of the vault."), "{seen:?}");
    let seen = scene.dig(&["elsewhere.test"]);
    assert_eq!(status(&seen), "REFUSED");
    assert!(seen.out.contains("EDE: 18 (Prohibited)") && seen.out.contains("default-deny"), "{seen:?}");
    let after = [scene.server.asked_for("vault.shop.test"), scene.server.asked_for("elsewhere.test")];
    assert_eq!(before, after, "a refused name went to the server");

    let records = scene.daemon.audit_search(&["--kind", "resolve"]);
    let shown: Vec<(&str, &str)> = records
        .iter()
        .map(|record| {
            (record["event"]["text"].as_str().unwrap(), record["event"]["outcome"].as_str().unwrap())
        })
        .collect();
    for expected in
        [("A web.shop.test", "allowed"), ("A vault.shop.test", "denied"), ("A elsewhere.test", "denied")]
    {
        assert!(shown.contains(&expected), "{shown:?}");
    }
    for record in &records {
        let event = &record["event"];
        assert!(event["identity"].as_str().unwrap().ends_with("|agent-1"), "{record}");
        assert_eq!(event["destination"], format!("{server}:53"), "{record}");
        assert!(event["process"].as_str().unwrap().contains(" (isc-net-"), "{record}");
    }
}

#[test]
fn a_name_of_a_target_resolves_for_whoever_may_connect_and_two_identities_differ() {
    let scene = Scene::new();
    let reader = scene.issuer.token_with("reader-1", &serde_json::json!({ "groups": ["readers"] }));
    let stranger = scene.issuer.token_with("stranger-1", &serde_json::json!({ "groups": ["strangers"] }));
    let ask = |token: &str, name: &str| {
        let seen = scene.run(token, &dig_words(scene.server.address(), &[name]));
        status(&seen).to_owned()
    };
    for (token, name, expected) in [
        (&scene.agent(), "orders.test", "NOERROR"),
        (&scene.agent(), "web.shop.test", "NOERROR"),
        (&reader, "orders.test", "NOERROR"),
        (&reader, "web.shop.test", "REFUSED"),
        (&stranger, "orders.test", "REFUSED"),
        (&stranger, "web.shop.test", "REFUSED"),
    ] {
        assert_eq!(ask(token, name), expected, "{name}");
    }
}

#[test]
fn messages_over_tcp_are_judged_one_by_one_also_when_they_share_a_segment() {
    let scene = Scene::new();
    let seen = scene.dig(&["+tcp", "web.shop.test"]);
    assert!(seen.out.contains("10.0.0.7"), "{seen:?}");
    assert_eq!(status(&scene.dig(&["+tcp", "elsewhere.test"])), "REFUSED");

    let mut agent = scene.daemon.agent(&scene.agent());
    let mut stream = agent.connect(SocketAddr::new(scene.server.address(), 53)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut segment = Vec::new();
    for message in [query(1, "web.shop.test", 1), query(2, "elsewhere.test", 1), query(3, "web.shop.test", 1)]
    {
        segment.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
        segment.extend(message);
    }
    stream.write_all(&segment).unwrap();
    let mut codes = [None; 3];
    for _ in 0..3 {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut message).unwrap();
        codes[usize::from(message[1]) - 1] = Some(message[3] & 15);
    }
    assert_eq!(codes, [Some(0), Some(5), Some(0)]);
    assert_eq!(scene.server.asked_for("elsewhere.test"), 0);
}

#[test]
fn one_socket_that_asks_several_servers_gets_each_answer_from_the_server_that_it_asked() {
    let scene = Scene::new();
    let other = Dnsmasq::start(&["--address=/web.shop.test/10.0.0.9", "--address=/web.shop.test/10.0.0.10"]);
    let servers = [scene.server.address(), other.address()].map(|address| SocketAddr::new(address, 53));
    let mut words = vec![agent().display().to_string(), "ask".to_owned(), "web.shop.test".to_owned()];
    words.extend(servers.iter().map(ToString::to_string));
    let control = said(Command::new(&words[0]).args(&words[1..]), "", PATIENCE);
    let seen = scene.run(&scene.agent(), &words);
    let sorted = |said: &Said| {
        let mut lines: Vec<String> = said.ok().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&seen), sorted(&control));
    assert_eq!(sorted(&seen).len(), 3);
    assert!(seen.out.contains(&format!("{} id 1 rcode 0 answers 1", servers[0])), "{seen:?}");
    assert!(seen.out.contains(&format!("{} id 2 rcode 0 answers 2", servers[1])), "{seen:?}");
}

#[test]
fn in_another_namespace_queries_go_to_the_server_of_that_namespace_over_both_families() {
    let netns = Netns::new();
    let here = Scene::new();
    for place in ["127.0.0.53", "::1"] {
        let place: IpAddr = place.parse().unwrap();
        let there = Dnsmasq::at(place, Some(&netns), &["--address=/web.shop.test/10.9.9.9"]);
        let server = SocketAddr::new(place, 53).to_string();
        let helper = agent().display().to_string();
        let questions = [
            dig_words(place, &["web.shop.test"]),
            dig_words(place, &["+tcp", "web.shop.test"]),
            vec![helper, "ask".to_owned(), "web.shop.test".to_owned(), server.clone()],
        ];
        for words in questions {
            let mut control = netns.command(words[0].as_ref());
            let control = said(control.args(&words[1..]), "", PATIENCE);
            let mut inside = netns.command(&nodegate());
            inside.args(["run", "--socket"]).arg(here.daemon.socket());
            inside.arg("--token-file").arg(here.daemon.token_file(&here.agent())).arg("--").args(&words);
            let seen = said(&mut inside, "", PATIENCE);
            if words[0] == "dig" {
                assert!(control.out.contains("10.9.9.9"), "{control:?}");
                assert!(seen.out.contains("10.9.9.9"), "{words:?}: {seen:?}");
            } else {
                assert_eq!(seen.ok(), control.ok(), "{words:?}");
                assert_eq!(seen.out.lines().count(), 2);
            }
        }
        drop(there);
    }
    assert_eq!(here.server.asked_for("web.shop.test"), 0, "a query left its namespace");
    let resolved = here.daemon.audit_search(&["--kind", "resolve", "--outcome", "allowed"]);
    assert_eq!(resolved.len(), 8, "{resolved:?}");
}

#[test]
fn glibc_and_its_search_list_work_as_before() {
    let scene = Scene::new();
    let mut words = scene.server.as_resolver("search shop.test\n");
    words.extend(["getent", "ahostsv4", "web"].map(str::to_owned));
    let control = said(Command::new(&words[0]).args(&words[1..]), "", PATIENCE);
    let seen = scene.run(&scene.agent(), &words);
    assert!(control.ok().starts_with("10.0.0.7"), "{control:?}");
    assert_eq!(seen.ok(), control.ok());

    *words.last_mut().unwrap() = "elsewhere.test".to_owned();
    assert_eq!(scene.run(&scene.agent(), &words).status, 2, "getent found a name that is refused");
}

#[test]
fn the_name_that_was_asked_for_says_which_of_two_targets_at_one_address_is_meant() {
    let postgres = Postgres::start();
    let orders = |name: &str| {
        let mut target = Target::shop(name, postgres.address());
        target.names = vec![format!("{name}.test")];
        target
    };
    let targets = vec![orders("orders"), orders("billing")];
    let trusted = own_address();
    let server = Dnsmasq::at(
        trusted,
        None,
        &["--address=/orders.test/127.0.0.1", "--address=/billing.test/127.0.0.1"],
    );
    let issuer = Issuer::start();
    let mut settings = Settings::new(targets);
    POLICY.clone_into(&mut settings.policy);
    settings.more = format!("dns: {{ trusted: [\"{trusted}\"] }}\n");
    let daemon = Daemon::start(&settings, &issuer);
    // A server of the agent's own choice, which says what it likes.
    let liar = Dnsmasq::start(&["--address=/orders.test/127.0.0.1"]);

    let psql = |server: &Dnsmasq, host: &str| {
        let mut words = server.as_resolver("");
        let place = format!(
            "host={host} port={} dbname={} user={}",
            postgres.port(),
            postgres::DATABASE,
            postgres::ROLE
        );
        words.extend(["psql", "-X", &place, "-Atc", "SELECT 1"].map(str::to_owned));
        said(daemon.run(Some(&issuer.token("agent-1"))).args(&words), "", PATIENCE)
    };
    let seen = psql(&liar, "orders.test");
    assert!(seen.err.contains("is not a target"), "an agent's own server was believed: {seen:?}");
    let seen = psql(&server, "127.0.0.1");
    assert!(seen.err.contains("is not a target"), "no name was asked for: {seen:?}");
    assert_eq!(psql(&server, "orders.test").ok(), "1\n");
    // Asking for the other's name is refused, so no connection comes of it.
    assert_ne!(psql(&server, "billing.test").status, 0);
    let connects = daemon.audit_search(&["--kind", "connect", "--outcome", "allowed"]);
    assert!(connects.iter().all(|record| record["event"]["target"] == "orders"), "{connects:?}");
    assert!(!connects.is_empty());
}

#[test]
fn names_that_carry_data_and_types_that_only_tunnels_use_are_limited() {
    let scene = Scene::with(&[], |settings| {
        settings.more = "dns: { odd_bytes_per_minute: 100, queries_per_second: 1000 }\n".to_owned();
    });
    for kind in ["NULL", "TYPE65300", "AXFR"] {
        let seen = scene.dig(&["+tcp", "web.shop.test", kind]);
        let refused = seen.out.contains("REFUSED") || seen.out.contains("Transfer failed");
        assert!(refused, "{kind}: {seen:?}");
    }
    let odd = (0..12).map(|number| format!("nbswy3dpeb3w64tmmqqho2{number:02}.shop.test A"));
    let ordinary = (0..50).map(|number| format!("host-{number}.shop.test A"));
    let texts = (0..3).map(|_| "text.shop.test TXT".to_owned());
    let lines: Vec<String> = odd.chain(ordinary).chain(texts).collect();
    let file = scene.daemon.folder().join("names");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let batch = scene.dig(&["+noall", "+comments", "-f", file.to_str().unwrap()]);
    let count = |word: &str| batch.out.matches(&format!("status: {word}")).count();
    assert_eq!((count("NXDOMAIN"), count("REFUSED")), (4 + 50, 8 + 3), "{}", batch.out);
    let denied = scene.daemon.audit_search(&["--kind", "resolve", "--outcome", "denied"]);
    let by_rule = |rule: &str| {
        denied.iter().filter(|record| record["event"]["policies"].to_string().contains(rule)).count()
    };
    assert_eq!(by_rule("builtin/dns-tunnel"), 8 + 3);
    assert_eq!(by_rule("builtin/dns-type"), 3);
}

#[test]
fn a_flood_of_questions_is_refused_beyond_the_limit_and_does_not_fill_the_log() {
    let scene = Scene::with(&[], |settings| {
        settings.more = "dns: { queries_per_second: 5 }\n".to_owned();
    });
    let file = scene.daemon.folder().join("names");
    std::fs::write(&file, "web.shop.test A\n".repeat(400)).unwrap();
    let batch = scene.dig(&["+noall", "+comments", "-f", file.to_str().unwrap()]);
    let refused = batch.out.matches("status: REFUSED").count();
    let answered = batch.out.matches("status: NOERROR").count();
    assert!(refused > 100 && answered >= 25, "{answered} answered, {refused} refused");
    let denied = scene.daemon.audit_search(&["--kind", "resolve", "--outcome", "denied"]);
    assert!(
        !denied.is_empty() && denied.len() < refused / 2,
        "{} records of {refused} refusals",
        denied.len()
    );
}

#[test]
fn a_server_that_is_dead_or_silent_is_reported_and_nobody_is_left_waiting() {
    let scene = Scene::with(&[], |settings| settings.more = "dns: { timeout: 500ms }\n".to_owned());
    let nobody = own_address();
    let seen = scene.run(&scene.agent(), &dig_words(nobody, &["web.shop.test"]));
    assert_eq!(status(&seen), "SERVFAIL");
    assert!(seen.out.contains("EDE: 22 (No Reachable Authority)"), "{seen:?}");
    let silent = own_address();
    let _socket = UdpSocket::bind((silent, 53)).unwrap();
    for more in [&["web.shop.test"][..], &["+tcp", "web.shop.test"]] {
        let seen = scene.run(&scene.agent(), &dig_words(silent, more));
        assert_eq!(status(&seen), "SERVFAIL", "{more:?}");
    }
}

#[test]
fn an_answer_that_does_not_fit_comes_over_tcp_or_says_so() {
    let long: Vec<String> =
        (0..12).map(|number| format!("--txt-record=long.shop.test,{number:0>200}")).collect();
    let options: Vec<&str> = long.iter().map(String::as_str).collect();
    let scene = Scene::with(&options, |_| {});
    let records = |said: &Said| said.out.matches("\nlong.shop.test.\t").count();
    let whole = scene.dig(&["+bufsize=4096", "+ignore", "long.shop.test", "TXT"]);
    assert_eq!(records(&whole), 12, "{whole:?}");
    let cut = scene.dig(&["+noedns", "+ignore", "long.shop.test", "TXT"]);
    assert!(cut.out.contains("flags: qr tc"), "{cut:?}");
    let again = scene.dig(&["+noedns", "long.shop.test", "TXT"]);
    assert_eq!(records(&again), 12, "{again:?}");
}

#[test]
fn without_a_daemon_no_name_is_resolved_and_with_it_back_they_are_again() {
    let mut scene = Scene::new();
    let words = dig_words(scene.server.address(), &["web.shop.test"]);
    let mut script = vec!["sh".to_owned(), "-c".to_owned()];
    script.push(format!("echo ready; read go; {0}; echo second; read go; {0}; true", words.join(" ")));
    let token = scene.agent();
    let mut command = scene.daemon.run(Some(&token));
    let mut child = command
        .args(&script)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut up_to = |last: &str| {
        let mut text = String::new();
        while !text.ends_with(last) {
            text.push_str(&output.next().expect("more output").unwrap());
        }
        text
    };
    up_to("ready");
    scene.daemon.kill();
    input.write_all(b"go\n").unwrap();
    let first = up_to("second");
    assert!(!first.contains("10.0.0.7"), "{first}");
    assert_eq!(scene.server.asked_for("web.shop.test"), 0);
    scene.daemon.restart();
    input.write_all(b"go\n").unwrap();
    drop(input);
    up_to("10.0.0.7");
    child.wait().unwrap();
}

#[test]
fn refusals_can_be_put_as_names_that_do_not_exist() {
    let scene = Scene::with(&[], |settings| settings.more = "dns: { refuse_with: nxdomain }\n".to_owned());
    let seen = scene.dig(&["elsewhere.shop"]);
    assert_eq!(status(&seen), "NXDOMAIN");
    assert!(seen.out.contains("EDE: 18 (Prohibited)"), "{seen:?}");
}
