//! What a configuration file may say, and what is said of one that is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{fs, path::Path, time::Duration};

use super::{ConfigError, checked, checked::Host, load};
use crate::domain::{address::OriginalDestination, credential::PasswordSource, mode::Mode, way::Way};

const GOOD: &str = r#"identity:
  issuers:
    - { name: ci, issuer: "https://ci.example", audience: nodegate, jwks_file: jwks.json, groups_claim: groups }
  sources:
    - { kind: enrolled }
    - { kind: file, path: /var/run/token }
    - { kind: environment, variable: NODEGATE_ID_TOKEN }
targets:
  - name: orders-db
    protocol: postgres
    hosts: [Orders-DB.internal., 127.0.0.1, "::ffff:192.0.2.9"]
    cidrs: [10.0.0.0/8]
    ports: [5433, 5432]
    database: shop
    tls: { client: plaintext, upstream: verify-full, ca: ca.pem, server_name: orders }
    credential: { username: app_agent, password: { file: secrets/password } }
    tags: { "public.customers.email": [pii], "public.customers.ssn": [secret, pii] }
policy: { dir: policies }
audit: { dir: audit, retention_days: 30, on_failure: deny }
"#;

/// A directory in which everything that `GOOD` names is there.
fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("policies")).unwrap();
    fs::create_dir(dir.path().join("secrets")).unwrap();
    for file in ["jwks.json", "ca.pem", "secrets/password"] {
        fs::write(dir.path().join(file), "hunter2").unwrap();
    }
    dir
}

fn load_text(dir: &Path, text: &str) -> Result<checked::Config, ConfigError> {
    let file = dir.join("nodegate.yaml");
    fs::write(&file, text).unwrap();
    load(&file)
}

fn destination(text: &str) -> OriginalDestination {
    OriginalDestination::new(text.parse().unwrap())
}

#[test]
fn a_good_file_is_read_with_its_defaults() {
    let dir = directory();
    let config = load_text(dir.path(), GOOD).unwrap();
    let issuer = &config.identity.issuers[0];
    assert_eq!(issuer.audiences, ["nodegate"]);
    assert_eq!(issuer.keys, checked::IssuerKeys::JwksFile(dir.path().join("jwks.json")));
    assert_eq!(config.identity.sources.len(), 3);
    assert_eq!(config.identity.leeway, Duration::from_secs(30));
    let target = &config.targets[0];
    assert_eq!(
        target.hosts,
        [
            Host::Name("orders-db.internal".to_owned()),
            Host::Address("127.0.0.1".parse().unwrap()),
            Host::Address("192.0.2.9".parse().unwrap())
        ]
    );
    assert_eq!(target.ports, [5432, 5433]);
    let checked::Protocol::Postgres(postgres) = &target.protocol else { panic!("{target:?}") };
    assert_eq!(postgres.database.as_deref(), Some("shop"));
    assert_eq!(postgres.credential.password, PasswordSource::File(dir.path().join("secrets/password")));
    assert_eq!(target.facts.tags["public.customers.ssn"].len(), 2);
    assert_eq!(config.audit.dir, dir.path().join("audit"));
    assert_eq!(config.admin.socket, Path::new("/run/nodegate/nodegate.sock"));
    assert_eq!(config.capture.pins, Path::new("/sys/fs/bpf/nodegate"));
    assert_eq!(config.capture.cgroup_parent, "nodegate");
    assert_eq!(config.limits.sessions, 4096);
    assert_eq!(config.limits.startup_timeout, Duration::from_secs(10));
    assert_eq!(config.limits.idle_timeout, None);
}

#[test]
fn whoever_has_connections_from_before_capture_reported_does_not_ask_for_their_end() {
    let dir = directory();
    for (existing, accepted) in [("end", false), ("report", true)] {
        let text = GOOD.replace(
            "policy: {",
            &format!("capture: {{ existing: {existing}, accept: [af-packet] }}\npolicy: {{"),
        );
        let config = load_text(dir.path(), &text).unwrap();
        let names: Vec<&str> = config.capture.accept.iter().map(|promise| promise.name).collect();
        assert_eq!(names.contains(&"existing-connections"), accepted);
        assert!(names.contains(&"af-packet"));
    }
}

#[test]
fn a_target_is_found_by_its_addresses() {
    let dir = directory();
    let config = load_text(dir.path(), GOOD).unwrap();
    for there in ["127.0.0.1:5432", "[::ffff:127.0.0.1]:5433", "10.255.0.1:5432", "192.0.2.9:5433"] {
        assert!(config.target_at(destination(there)).is_some(), "{there}");
    }
    for elsewhere in ["127.0.0.1:5434", "127.0.0.2:5432", "11.0.0.1:5432", "[::1]:5432"] {
        assert!(config.target_at(destination(elsewhere)).is_none(), "{elsewhere}");
    }
}

#[test]
fn modes_are_the_nodes_the_labels_and_the_targets() {
    let dir = directory();
    let text = GOOD
        .replacen(
            "identity:\n",
            "mode: observe\ncapture: { labels: { ci: { mode: enforce } } }\nidentity:\n",
            1,
        )
        .replacen("protocol: postgres", "protocol: postgres\n    mode: shadow", 1);
    let modes = load_text(dir.path(), &text).unwrap().modes;
    let name = load_text(dir.path(), &text).unwrap().targets[0].facts.name.clone();
    assert_eq!(modes.of(None, None), Mode::Observe);
    assert_eq!(modes.of(None, Some(&name)), Mode::Shadow);
    assert_eq!(modes.of(Some("ci"), Some(&name)), Mode::Enforce);
    assert!(load_text(dir.path(), GOOD).unwrap().modes.may_enforce());
}

#[test]
fn a_target_without_inspection_needs_no_credential() {
    let dir = directory();
    let start = GOOD.find("targets:").unwrap();
    let end = GOOD.find("policy:").unwrap();
    let tcp = |more: &str| {
        let target = format!(
            "targets: [{{ name: cache, protocol: tcp, hosts: [\"127.0.0.1\"], ports: [6379]{more} }}]\n"
        );
        let text = GOOD[..start].to_owned() + &target + &GOOD[end..];
        load_text(dir.path(), &text).map(|config| config.targets[0].protocol.clone())
    };
    assert_eq!(tcp(""), Ok(checked::Protocol::Tcp(Way::Relayed)));
    assert_eq!(tcp(", inspect: none"), Ok(checked::Protocol::Tcp(Way::Direct)));
    assert!(tcp(", inspect: some").is_err());
    assert!(tcp(", inspect: relay, upstream_from: node").is_ok());
    let error = tcp(", inspect: none, upstream_from: node").unwrap_err().to_string();
    assert!(error.contains("`upstream_from` has no meaning"), "{error}");
}

#[test]
fn nothing_of_a_secret_is_in_the_configuration() {
    let dir = directory();
    let config = load_text(dir.path(), GOOD).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

/// Each line: what is replaced in `GOOD`, by what, and the error.
const WRONG: &[(&str, &str, &str)] = &[
    // Keys.
    ("    ports: [", "    prots: [", "13:5: unknown key `prots`\n  hint: did you mean `ports`?"),
    ("policy: {", "polices: {", "18:1: unknown key `polices`\n  hint: did you mean `policy`?"),
    (
        "username: app_agent",
        "usrname: app_agent",
        "16:19: unknown key `usrname`\n  hint: did you mean `username`?",
    ),
    ("retention_days: 30", "xyzzy: 30", "the keys that may stand here are dir, retention_days, on_failure"),
    (
        "    database: shop\n",
        "    database: shop\n    database: shop\n",
        "15:5: the key `database` is written twice",
    ),
    ("policy: { dir: policies }", "policy: policies", "18:9: a mapping is expected here"),
    ("ports: [5433, 5432]", "ports: 5432", "13:12: a list is expected here"),
    ("ports: [5433, 5432]", "ports: [all]", "13:13: a whole number is expected here"),
    ("database: shop", "database: [shop]", "14:15: a text is expected here"),
    ("audience: nodegate, ", "", "the key `audience` is missing"),
    ("upstream: verify-full, ", "", "the key `upstream` is missing\n  hint: say how the connection"),
    ("policy: { dir: policies }\n", "", "the key `policy` is missing"),
    // Words.
    (
        "protocol: postgres",
        "protocol: tcp",
        "with `protocol: tcp` nothing is looked into, so `credential` has no",
    ),
    ("protocol: postgres", "protocol: postgres\n    inspect: none", "`inspect` has no meaning"),
    ("protocol: postgres", "protocol: postgres\n    upstream_from: pod", "unknown upstream_from `pod`"),
    ("protocol: postgres", "protocol: postgres\n    mode: watch", "unknown mode `watch`"),
    (
        "policy: {",
        "capture: { labels: { ci: { mode: enforced } } }\npolicy: {",
        "unknown mode `enforced`\n  hint: did you mean `enforce`?",
    ),
    ("policy: {", "capture: { accept: [packet] }\npolicy: {", "unknown promise `packet`"),
    (
        "identity:\n",
        "mode: enfroce\nidentity:\n",
        "1:7: unknown mode `enfroce`\n  hint: did you mean `enforce`?",
    ),
    ("protocol: postgres", "protocol: mysql", "10:15: protocol `mysql` comes with a later version"),
    (
        "protocol: postgres",
        "protocol: oracle",
        "10:15: unknown protocol `oracle`\n  hint: this version knows `postgres`",
    ),
    ("kind: enrolled", "kind: kubernetes", "5:15: kind `kubernetes` comes with a later version"),
    ("client: plaintext", "client: terminated", "did you mean `terminate`?"),
    (
        "on_failure: deny",
        "on_failure: allow",
        "unknown on_failure `allow`\n  hint: this version knows `deny`",
    ),
    ("policy: {", "approvals: { timeout: 5m }\npolicy: {", "18:12: `approvals` comes with a later version"),
    ("policy: {", "admin: { listen: 7070 }\npolicy: {", "`7070` is nowhere to listen"),
    // Files.
    ("file: secrets/password", "file: secrets/none", "there is no file "),
    ("file: secrets/password", "file: secrets", "secrets is not a file"),
    ("ca: ca.pem", "ca: none.pem", "there is no file "),
    ("jwks_file: jwks.json", "jwks_file: none.json", "there is no file "),
    ("dir: policies", "dir: ca.pem", "ca.pem is not a directory"),
    ("dir: policies", "dir: none", "there is no directory "),
    ("dir: audit", "dir: ca.pem", "ca.pem is not a directory"),
    // Identity.
    ("jwks_file: jwks.json", "ca: ca.pem, jwks_file: jwks.json", "`ca` beside `jwks_file` has no meaning"),
    (
        "\"https://ci.example\", audience: nodegate, jwks_file: jwks.json",
        "\"http://ci\", audience: nodegate",
        "3:27: keys are fetched over HTTPS only",
    ),
    ("audience: nodegate", "audience: []", "an audience is needed"),
    ("audience: nodegate", "audience: 5", "expected a text or a list of texts here"),
    ("path: /var/run/token", "path: token", "the path must be absolute"),
    ("kind: file, path: /var/run/token", "kind: file", "a source of kind `file` needs `path`"),
    ("kind: enrolled", "kind: enrolled, path: /x", "does not take these keys"),
    (
        "{ kind: enrolled }",
        "{ kind: environment, variable: NODEGATE_ID_TOKEN }",
        "7:7: this source is listed twice",
    ),
    ("  sources:", "  leeway: 30\n  sources:", "`30` is not a duration"),
    ("  sources:", "  leeway: 1h\n  sources:", "the leeway may be up to 5m"),
    // Targets.
    ("name: orders-db", "name: \"orders db\"", "9:11: the target's name `orders db` cannot be used"),
    (
        "127.0.0.1, ",
        "\"127.0.0.1:5432\", ",
        "neither a host name nor an address\n  hint: ports go under `ports`",
    ),
    ("127.0.0.1, ", "127.0.0.0/8, ", "neither a host name nor an address\n  hint: networks go under `cidrs`"),
    ("127.0.0.1, ", "127.0.0.256, ", "neither a host name nor an address"),
    ("127.0.0.1, ", "0.0.0.0, ", "0.0.0.0 is no server's address"),
    (
        "cidrs: [10.0.0.0/8]",
        "cidrs: [10.0.0.1/8]",
        "has bits set behind its prefix; the network is 10.0.0.0/8",
    ),
    ("cidrs: [10.0.0.0/8]", "cidrs: [10.0.0.1]", "hint: a single address goes under `hosts`"),
    ("ports: [5433, 5432]", "ports: []", "13:12: no port is listed"),
    ("ports: [5433, 5432]", "ports: [70000]", "13:13: 70000 is no port"),
    ("ports: [5433, 5432]", "ports: [5432, 5432]", "port 5432 is listed twice"),
    ("ca: ca.pem, server_name: orders", "server_name: orders", "`verify-full` needs `ca`"),
    ("upstream: verify-full", "upstream: require", "`require` would give the credential to whoever answers"),
    ("upstream: verify-full", "upstream: disable", "with `upstream: disable` no certificate is checked"),
    (
        "{ file: secrets/password }",
        "hunter2",
        "16:40: expected `{ file: … }`, `{ environment: … }`, `{ kubernetes: … }` or `{ vault: … }`, not the password itself, here",
    ),
    (
        "{ file: secrets/password }",
        "{ file: secrets/password, environment: HOME }",
        "a password has one source",
    ),
    (
        "{ file: secrets/password }",
        "{ environment: NODEGATE_NOT_SET }",
        "environment has no variable `NODEGATE_NOT_SET`",
    ),
    ("public.customers.email", "customers.email", "`customers.email` is not `schema.table.column`"),
    // The rest.
    ("retention_days: 30", "retention_days: 0", "records must be kept for at least a day"),
    ("policy: {", "limits: { sessions: 0 }\npolicy: {", "0 sessions would refuse everything"),
    ("policy: {", "limits: { startup_timeout: 0s }\npolicy: {", "longer than nothing"),
    ("policy: {", "capture: { cgroup_parent: ../x }\npolicy: {", "not a relative path without `..`"),
    ("policy: { dir: policies }", "policy: { dir: [", "18:16: a text is expected here"),
];

#[test]
fn what_is_wrong_is_named_with_its_place_and_a_way_out() {
    let dir = directory();
    for (old, new, expected) in WRONG {
        assert!(GOOD.contains(old), "{old}");
        let text = GOOD.replacen(old, new, 1);
        let error = load_text(dir.path(), &text).expect_err(new).to_string();
        assert!(error.contains(expected), "{new}:\n  expected {expected}\n  got {error}");
        assert!(error.starts_with(&format!("{}:", dir.path().join("nodegate.yaml").display())), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

const HTTP: &str = "  - name: api
    protocol: http
    hosts: [api.example, \"*.apps.example\", \"*\"]
    ports: [443]
    tls: { client: terminate, upstream: verify-full, ca: ca.pem }
    credential: { bearer: { file: secrets/password } }
";

fn with_http(dir: &Path, old: &str, new: &str) -> Result<checked::Config, ConfigError> {
    assert!(HTTP.contains(old), "{old}");
    load_text(dir, &GOOD.replacen("policy: {", &format!("{}policy: {{", HTTP.replacen(old, new, 1)), 1))
}

#[test]
fn an_http_target_has_keys_of_its_own() {
    let dir = directory();
    let config = with_http(dir.path(), "api.example", "API.example.").unwrap();
    let target = config.targets.last().unwrap();
    assert_eq!(
        target.hosts,
        [Host::Name("api.example".to_owned()), Host::Below("apps.example".to_owned()), Host::Any]
    );
    assert_eq!(target.covers_below("x.apps.example"), Some("apps.example".len()));
    assert_eq!(target.covers_below("apps.example"), None);
    assert_eq!(target.covers_below("xapps.example"), None);
    assert!(target.is_for_the_rest());
    let checked::Protocol::Http(http) = &target.protocol else { panic!("{target:?}") };
    assert_eq!(http.client, checked::HttpClientTls::Terminate);
    assert_eq!(http.upstream, Some(checked::HttpUpstreamTls { ca: Some(dir.path().join("ca.pem")) }));
    let password = PasswordSource::File(dir.path().join("secrets/password"));
    assert_eq!(http.credential, Some(checked::HttpCredential::Bearer(password.clone())));
    for (new, expected) in [
        (
            "basic: { username: a, password: { file: secrets/password } }",
            checked::HttpCredential::Basic { username: "a".to_owned(), password: password.clone() },
        ),
        (
            "header: { name: X-Api-Key, value: { file: secrets/password } }",
            checked::HttpCredential::Header { name: "X-Api-Key".to_owned(), value: password.clone() },
        ),
        (
            "query: { name: key, value: { file: secrets/password } }",
            checked::HttpCredential::Query { name: "key".to_owned(), value: password.clone() },
        ),
    ] {
        let config = with_http(dir.path(), "bearer: { file: secrets/password }", new).unwrap();
        let checked::Protocol::Http(http) = &config.targets.last().unwrap().protocol else { panic!("{new}") };
        assert_eq!(http.credential, Some(expected));
    }
}

#[test]
fn what_is_wrong_with_an_http_target_is_named() {
    let dir = directory();
    for (old, new, expected) in [
        (
            "    tls: { client: terminate, upstream: verify-full, ca: ca.pem }\n",
            "",
            "the key `tls` is missing",
        ),
        (", upstream: verify-full, ca: ca.pem", "", "the key `upstream` is missing"),
        ("upstream: verify-full, ca: ca.pem", "upstream: disable", "unknown upstream `disable`"),
        ("upstream: verify-full, ca: ca.pem", "upstream: none, ca: ca.pem", "no certificate is checked"),
        ("client: terminate, upstream: verify-full", "client: passthrough", "TLS is the two ends' own"),
        (
            "client: terminate, upstream: verify-full, ca: ca.pem",
            "client: passthrough",
            "nothing is looked into, so `credential` has no meaning",
        ),
        ("ca: ca.pem", "server_name: x", "`server_name` has no meaning with `protocol: http`"),
        ("    ports", "    database: x\n    ports", "`database` has no meaning with `protocol: http`"),
        ("bearer: { file: secrets/password }", "username: a", "an HTTP target has one credential"),
        (
            "bearer: { file: secrets/password }",
            "bearer: { file: secrets/password }, query: { name: a, value: { file: secrets/password } }",
            "an HTTP target has one credential",
        ),
        ("bearer: { file: secrets/password }", "bearer: hunter2", "not the password itself"),
        (
            "bearer: { file: secrets/password }",
            "header: { name: Content-Length, value: { file: secrets/password } }",
            "is no field that can carry a credential",
        ),
        (
            "bearer: { file: secrets/password }",
            "basic: { username: \"a:b\", password: { file: secrets/password } }",
            "the user's name has a colon",
        ),
        (
            "bearer: { file: secrets/password }",
            "bearer: { vault: { path: a, field: b } }",
            "no Vault is configured",
        ),
        ("\"*.apps.example\"", "\"*apps.example\"", "neither a host name nor an address"),
        ("protocol: http", "protocol: tcp", "stands for several hosts"),
    ] {
        let error = with_http(dir.path(), old, new).expect_err(new).to_string();
        assert!(error.contains(expected), "{new}:\n  expected {expected}\n  got {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let twice = HTTP.replace("name: api", "name: other").replace("api.example, \"*.apps.example\", ", "");
    let error = with_http(dir.path(), "  - name: api", &format!("{twice}  - name: api")).unwrap_err();
    assert!(error.to_string().contains("`other` and `api` both claim * port 443"), "{error}");
}

fn second_target(name: &str, addresses: &str, port: u16) -> String {
    format!(
        "{}  - name: {name}\n    protocol: postgres\n    {addresses}\n    ports: [{port}]\n    \
         tls: {{ client: plaintext, upstream: disable }}\n    \
         credential: {{ username: x, password: {{ file: secrets/password }} }}\npolicy:",
        GOOD.split("policy:").next().unwrap()
    ) + GOOD.split("policy:").nth(1).unwrap()
}

#[test]
fn an_address_and_port_belong_to_one_target() {
    let dir = directory();
    for (addresses, port, shared) in [
        ("hosts: [10.1.2.3]", 5432, Some("10.1.2.3/32 port 5432")),
        ("hosts: [orders-db.internal]", 5433, Some("orders-db.internal port 5433")),
        ("hosts: [\"::ffff:127.0.0.1\"]", 5432, Some("127.0.0.1/32 port 5432")),
        ("cidrs: [0.0.0.0/0]", 5432, Some("127.0.0.1/32 port 5432")),
        ("cidrs: [10.9.0.0/16]", 5432, Some("10.9.0.0/16 port 5432")),
        ("cidrs: [0.0.0.0/0]", 5434, None),
        ("cidrs: [\"::/0\"]", 5432, None),
        ("hosts: [other.internal]", 5432, None),
    ] {
        let loaded = load_text(dir.path(), &second_target("other-db", addresses, port));
        match shared {
            Some(shared) => {
                let error = loaded.unwrap_err().to_string();
                assert!(
                    error.contains(&format!("`orders-db` and `other-db` both claim {shared}")),
                    "{error}"
                );
            }
            None => assert_eq!(loaded.unwrap().targets.len(), 2, "{addresses}"),
        }
    }
    let error =
        load_text(dir.path(), &second_target("orders-db", "hosts: [other]", 1)).unwrap_err().to_string();
    assert!(error.contains("18:11: a second target is named `orders-db`"), "{error}");
}

#[test]
fn empty_lists_are_refused() {
    let dir = directory();
    let no_targets = "targets: []\npolicy:".to_owned() + GOOD.split("policy:").nth(1).unwrap();
    let text = GOOD.split("targets:").next().unwrap().to_owned() + &no_targets;
    let error = load_text(dir.path(), &text).unwrap_err().to_string();
    assert!(error.contains("8:10: no target is listed"), "{error}");

    let identity = "identity: { issuers: [], sources: [] }\ntargets:";
    let text = identity.to_owned() + GOOD.split("targets:").nth(1).unwrap();
    let error = load_text(dir.path(), &text).unwrap_err().to_string();
    assert!(
        error.contains("1:22: no issuer is listed") && error.contains("1:35: no token source is listed"),
        "{error}"
    );
}

#[test]
fn all_problems_are_named_at_once_in_the_order_of_their_lines() {
    let dir = directory();
    let text = GOOD.replace("retention_days: 30", "retention_days: 0").replace("5433, 5432", "0");
    let error = load_text(dir.path(), &text).unwrap_err();
    let lines: Vec<u64> = error.problems().iter().map(|problem| problem.position.unwrap().0).collect();
    assert_eq!(lines, [13, 19]);
}

#[test]
fn a_file_that_is_not_there_is_not_an_unreadable_one() {
    let dir = directory();
    let error = load(&dir.path().join("none.yaml")).unwrap_err().to_string();
    assert!(error.contains("none.yaml: there is no such file"), "{error}");
    let error = load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("the file cannot be read"), "{error}");
    fs::write(dir.path().join("nodegate.yaml"), b"mode: \xff").unwrap();
    let error = load(&dir.path().join("nodegate.yaml")).unwrap_err().to_string();
    assert!(error.contains("the file cannot be read"), "{error}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]
    #[test]
    fn a_damaged_file_is_read_or_refused_and_nothing_else(
        at in 0..GOOD.len(), length in 0..12_usize, text in "[\\PC\n\t]{0,6}",
    ) {
        let dir = directory();
        let damaged = format!("{}{text}{}", &GOOD[..at], &GOOD[(at + length).min(GOOD.len())..]);
        if let Err(error) = load_text(dir.path(), &damaged) {
            proptest::prop_assert!(!error.problems().is_empty());
            proptest::prop_assert!(!error.to_string().contains("hunter2"));
        }
    }
}

#[test]
fn an_empty_file_says_what_belongs_in_it() {
    let dir = directory();
    let error = load_text(dir.path(), "").unwrap_err().to_string();
    assert!(error.contains("the file ends too early") && error.contains("`identity`, `targets`"), "{error}");
}
