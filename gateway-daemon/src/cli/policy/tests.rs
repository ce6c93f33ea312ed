//! The packs that ship with nodegate do what their cases say; the commands say what they found.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Parser;

use super::{Failure, PolicyArgs, Verdict, check, explain, test};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    policy: PolicyArgs,
}

fn packs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|dir| dir.join("policies"))
        .find(|dir| dir.join("schema.cedarschema").is_file())
        .unwrap()
}

fn command(args: &[&str]) -> (Verdict, String) {
    let mut out = Vec::new();
    let verdict = attempt(args, &mut out).unwrap();
    (verdict, String::from_utf8(out).unwrap())
}

fn attempt(args: &[&str], out: &mut Vec<u8>) -> Result<Verdict, Failure> {
    let cli = Cli::try_parse_from([&["nodegate"], args].concat()).unwrap();
    match cli.policy.command {
        super::Command::Check(args) => check::run(&args, out),
        super::Command::Test(args) => test::run(&args, out),
        super::Command::Explain(args) => explain::run(&args, out),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn every_case_of_every_pack_passes() {
    let mut packs_seen = 0;
    for file in super::cases::find(&packs()).unwrap() {
        packs_seen += 1;
        for result in test::run_file(&file).unwrap() {
            assert!(result.passed, "{result:#?}");
        }
    }
    assert_eq!(packs_seen, 10);
}

#[test]
fn the_packs_are_valid_together_and_without_warnings() {
    let (verdict, out) = command(&["check", text(&packs())]);
    assert_eq!(verdict, Verdict::Good);
    assert!(!out.contains("warning") && out.contains("31 policies"), "{out}");
}

#[test]
fn check_names_the_place_and_fails_and_warns_of_unknown_targets() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.cedar");
    fs::write(&file, "@id(\"a\") permit (principal, action, resource in Target::\"orders-db\");").unwrap();
    let (verdict, out) = command(&["check", text(dir.path()), "--target", "shop-db"]);
    assert_eq!(verdict, Verdict::Good);
    assert!(out.contains("warning") && out.contains("shop-db"), "{out}");
    let (_, out) = command(&["check", text(dir.path()), "--target", "orders-db"]);
    assert!(!out.contains("warning"), "{out}");

    fs::write(&file, "@id(\"a\")\n permit (principal, action, resource) when { resource.colour };").unwrap();
    let (verdict, out) = command(&["check", text(dir.path())]);
    assert_eq!(verdict, Verdict::Bad);
    assert!(out.contains("a.cedar:2:") && out.contains("colour"), "{out}");
    let (_, out) = command(&["check", text(dir.path()), "--json"]);
    for line in out.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((line["level"].as_str(), line["place"]["line"].as_u64()), (Some("error"), Some(2)));
    }
}

#[test]
fn check_warns_of_code_that_cannot_be_read_beside_masks() {
    const ALL: &str = "@id(\"all\") permit (principal, action, resource);";
    const CALLS: &str = "@id(\"calls\") permit (principal, action in [Action::\"sql:call\", Action::\"sql:rows\"], resource);";
    const CLEAR: &str =
        "@id(\"clear\") permit (principal, action == Action::\"sql:call_unmasked\", resource);";
    const MASK: &str = "@id(\"mask\") @mask(\"null\") forbid (principal, action == Action::\"sql:read\", resource is Column);";
    const NONE: &str = "@id(\"none\") forbid (principal, action == Action::\"sql:call\", resource);";
    for (rules, words) in [
        (&[ALL, MASK][..], "\"all\" permits code that cannot be read, but that stays refused where \"mask\""),
        (&[CALLS, MASK], "\"calls\" permits code that cannot be read, but that stays refused"),
        (&[CLEAR, MASK], "\"clear\" permits code that cannot be read to see what \"mask\""),
        (&[ALL, MASK, NONE], ""),
        (&[ALL, CALLS, CLEAR], ""),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.cedar"), rules.join("\n")).unwrap();
        let (verdict, out) = command(&["check", text(dir.path())]);
        assert_eq!(verdict, Verdict::Good);
        assert_eq!(out.contains("warning"), !words.is_empty(), "{out}");
        assert!(out.contains(words), "{words}: {out}");
    }
}

#[test]
fn test_fails_when_a_case_fails_and_says_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    let cases = "given: '@id(\"all\") permit (principal, action, resource);'
target: { name: orders-db }
identities: { agent: {} }
cases:
  - { name: in, as: agent, connect: true, expect: allow, policies: [all] }
  - { name: out, as: agent, connect: true, expect: deny }
  - { name: by, as: agent, connect: true, expect: allow, policies: [other] }
  - { name: limit, as: agent, connect: true, expect: allow, max_rows: 5 }
";
    fs::write(dir.path().join("cases.yaml"), cases).unwrap();
    let (verdict, out) = command(&["test", text(dir.path())]);
    assert_eq!(verdict, Verdict::Bad);
    for words in [
        "4 cases in 1 files, 3 failed",
        "expected deny, got allow",
        "\"other\" had no say in it; all had",
        "expected at most 5 rows, got no limit",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
    let (_, out) = command(&["test", text(dir.path()), "--json"]);
    let passed: Vec<bool> = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["passed"].as_bool().unwrap())
        .collect();
    assert_eq!(passed, [true, false, false, false]);
}

#[test]
fn mistakes_in_a_case_file_are_errors_and_not_passed_cases() {
    let dir = tempfile::tempdir().unwrap();
    let attempt = |text: &str| {
        fs::write(dir.path().join("cases.yaml"), text).unwrap();
        attempt(&["test", self::text(dir.path())], &mut Vec::new()).unwrap_err().to_string()
    };
    let head = "target: { name: t }\nidentities: { agent: {} }\n";
    for (case, words) in [
        ("cases: [{ name: a, as: agent, connect: true, expect: allow, mask: {} }]", "mask"),
        ("cases: [{ name: a, as: nobody, connect: true, expect: allow }]", "nobody"),
        (
            "cases: [{ name: a, as: agent, expect: allow }]",
            "one of `sql: …`, `resolve: …`, `function_call: …`, `replication: …`, `http: …` and `connect: true`",
        ),
        ("cases: [{ name: a, as: agent, http: GET /a, expect: allow }]", "write METHOD and URL"),
        (
            "cases: [{ name: a, as: agent, connect: true, fields: { a: b }, expect: allow }]",
            "is no HTTP request",
        ),
        ("cases: [{ name: a, as: agent, sql: SELECT 1, connect: true, expect: allow }]", "one of"),
        (
            "cases: [{ name: a, as: agent, sql: SELECT 1, expect: deny, masked: { a.b.c: hash } }]",
            "masks nothing",
        ),
        ("cases: [{ name: a, as: agent, sql: SELECT 1, expect: deny, max_rows: 5 }]", "lets no rows through"),
        ("tables: { customers: [id] }", "public.customers"),
        ("views: { public.v: { a: [public.t.a] } }", "public.t.a"),
        ("cases: []", "no cases"),
    ] {
        let error = attempt(&format!("{head}{case}\n"));
        assert!(error.contains(words), "{case} -> {error}");
    }
    let error = attempt("target: { name: t, tags: { public.t.a: [pii] } }\n");
    assert!(error.contains("public.t.a"), "{error}");
    fs::remove_file(dir.path().join("cases.yaml")).unwrap();
    let mut out = Vec::new();
    assert!(super::tests::attempt(&["test", text(dir.path())], &mut out).is_err());
}

#[test]
fn explain_shows_the_questions_the_rules_and_the_masks() {
    let packs = packs();
    let schema = packs.join("pii-masking/cases.yaml");
    let base = ["explain", "--dir", text(&packs), "--schema", text(&schema), "--identity"];
    let explain = |more: &[&str]| command(&[base.as_slice(), more].concat()).1;

    let out = explain(&["agent", "--sql", "SELECT email, city FROM customers"]);
    for words in [
        "decision  allow",
        "masked    public.customers.email: partial",
        "mask partial: pii-masking/pii",
        "Column::\"orders-db/public.customers.city\"",
        "pii-masking.cedar:",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
    let out = explain(&["agent", "--sql", "DROP TABLE customers"]);
    assert!(out.contains("decision  deny") && out.contains("forbid: no-destructive-sql/no-ddl"), "{out}");
    let limits = packs.join("row-limits");
    let words = ["explain", "--dir", text(&limits), "--identity", "a", "--target", "t", "--sql"];
    let out = command(&[words.as_slice(), &["DELETE FROM public.a WHERE id = id", "--json"]].concat()).1;
    assert!(out.contains("builtin/default-deny"), "a limit permits nothing: {out}");
    let file = limits.join("cases.yaml");
    let dir = tempfile::tempdir().unwrap();
    fs::copy(limits.join("row-limits.cedar"), dir.path().join("limits.cedar")).unwrap();
    fs::write(dir.path().join("all.cedar"), "@id(\"all\") permit (principal, action, resource);").unwrap();
    let base =
        ["explain", "--dir", text(dir.path()), "--schema", text(&file), "--identity", "agent", "--sql"];
    let explain_limits = |more: &[&str]| command(&[base.as_slice(), more].concat()).1;
    let out = explain_limits(&["SELECT 1; DELETE FROM orders WHERE id = id"]);
    for words in [
        "decision  allow",
        "rows      statement 2: at most 100 rows, by policy \"row-limits/changes\"",
        "permitted, limited",
        "at most 100 rows: row-limits/changes (",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
    let out: serde_json::Value =
        serde_json::from_str(&explain_limits(&["DELETE FROM orders WHERE id = id", "--json"])).unwrap();
    assert_eq!(
        (&out["max_rows"][0]["rows"], &out["policies"][1]),
        (&100.into(), &"row-limits/changes".into())
    );
    let out = explain_limits(&["TRUNCATE orders"]);
    assert!(
        out.contains("refused: rows cannot be counted") && out.contains("DELETE the rows instead"),
        "{out}"
    );
    let out = explain(&["https://ci.example|x", "--group", "contractors", "--connect", "--json"]);
    let out: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(out["decision"], "deny");
    assert_eq!(out["policies"][0], "builtin/default-deny");
    assert_eq!(out["answers"][0]["action"], "connect");
    assert_eq!(out["identity"], "https://ci.example|x");
}

#[test]
fn explain_needs_a_statement_and_a_target() {
    assert!(Cli::try_parse_from(["nodegate", "explain", "--identity", "a"]).is_err());
    let packs = packs();
    let error = attempt(&["explain", "--dir", text(&packs), "--identity", "a", "--connect"], &mut Vec::new());
    assert!(error.unwrap_err().to_string().contains("--target"));
}
