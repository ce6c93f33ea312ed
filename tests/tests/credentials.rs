//! Where the daemon's passwords come from: a Kubernetes secret and Vault, read at each login. (A file is what all other
//! tests use; `login.rs` has its rotation.)
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{fs, path::PathBuf};

use nodegate_tests::{
    kubernetes::ApiServer,
    leftovers,
    postgres::{PASSWORD, Postgres},
    stage::Stage,
    vault::{self, Vault},
};
use serde_json::json;

/// A directory of the test's own for files that the daemon reads.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(leftovers::folder(&leftovers::unique_name()))
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A stage whose daemon finds its password there.
fn stage(password: &str, more: &str) -> Stage {
    Stage::around(Postgres::start(), |settings| {
        password.clone_into(&mut settings.targets[0].password);
        more.clone_into(&mut settings.more);
    })
}

/// The session is refused, the agent is told whose problem it is, the operator which one, and nobody a secret.
fn assert_operators_problem(stage: &Stage, logged: &str) {
    let said = stage.psql("SELECT 1");
    assert!(said.err.contains("with its own credential; tell your operator"), "{said:?}");
    let log = stage.daemon.log();
    assert!(log.contains(logged) && log.contains("target=shop"), "{logged}: {log}");
    let records = stage.daemon.audit_search(&[]).iter().map(ToString::to_string).collect::<String>();
    for secret in
        [PASSWORD, "rotated", "not-the-password", "the-token", "hvs.session", vault::SERVICE_ACCOUNT_TOKEN]
    {
        for (place, text) in [("log", &log), ("answer", &said.err), ("audit", &records)] {
            assert!(!text.contains(secret), "{secret} in the {place}: {text}");
        }
    }
}

#[test]
fn a_password_comes_from_a_kubernetes_secret_and_a_changed_one_counts_at_the_next_login() {
    let api = ApiServer::start();
    let folder = Folder::new();
    let kubeconfig = api.write_kubeconfig(&folder.0);
    api.put_secret("databases", "orders", &[("password", PASSWORD)]);
    let stage = stage(
        &format!(
            "kubernetes: {{ namespace: databases, name: orders, key: password, kubeconfig: {} }}",
            kubeconfig.display()
        ),
        "",
    );
    assert_eq!(stage.psql("SELECT 42").ok(), "42\n");
    stage.postgres.admin("ALTER ROLE app_agent PASSWORD 'rotated'");
    assert_operators_problem(&stage, "password authentication failed");
    api.put_secret("databases", "orders", &[("password", "rotated\n")]);
    assert_eq!(stage.psql("SELECT 42").ok(), "42\n");
    api.put_secret("databases", "orders", &[("other", "rotated")]);
    assert_operators_problem(&stage, "the secret has no key `password`");
    api.remove_secret("databases", "orders");
    assert_operators_problem(
        &stage,
        "Kubernetes secret databases/orders, key password: the API server answered 404",
    );
}

#[test]
fn a_password_comes_from_vault_by_a_token_and_a_changed_one_counts_at_the_next_login() {
    let vault = Vault::start("the-token");
    let folder = Folder::new();
    vault.put("orders/database", json!({ "password": PASSWORD, "port": 5432 }));
    let (ca, token) = (folder.write("vault-ca.pem", &vault.ca_pem), folder.write("token", "the-token\n"));
    let more = format!("vault: {{ address: \"{}\", ca: {ca}, token: {{ file: {token} }} }}\n", vault.url());
    let stage = stage("vault: { path: orders/database, field: password }", &more);
    assert_eq!(stage.psql("SELECT 42").ok(), "42\n");
    stage.postgres.admin("ALTER ROLE app_agent PASSWORD 'rotated'");
    assert_operators_problem(&stage, "password authentication failed");
    vault.put("orders/database", json!({ "password": "rotated" }));
    assert_eq!(stage.psql("SELECT 42").ok(), "42\n");
    vault.put("orders/database", json!({ "password": 7 }));
    assert_operators_problem(&stage, "the secret's field `password` is not a text");
    vault.put("orders/database", json!({}));
    assert_operators_problem(&stage, "the secret has no field `password`");
    folder.write("token", "the-token-of-somebody-else");
    assert_operators_problem(&stage, "Vault refuses the daemon's token (403)");
    // Another authority's certificate is no Vault.
    fs::copy(stage.postgres.ca(), &ca).unwrap();
    assert_operators_problem(&stage, "no TLS session");
}

#[test]
fn the_daemon_logs_in_at_vault_with_its_service_account_and_again_when_its_session_is_revoked() {
    let vault = Vault::start("nobody-s");
    let folder = Folder::new();
    vault.put("orders/database", json!({ "password": PASSWORD }));
    let ca = folder.write("vault-ca.pem", &vault.ca_pem);
    let account = folder.write("account", vault::SERVICE_ACCOUNT_TOKEN);
    let more = format!(
        "vault: {{ address: \"{}\", ca: {ca}, kubernetes: {{ role: {}, token_file: {account} }} }}\n",
        vault.url(),
        vault::ROLE
    );
    let stage = stage("vault: { path: orders/database, field: password }", &more);
    for _ in 0..3 {
        assert_eq!(stage.psql("SELECT 42").ok(), "42\n");
    }
    assert_eq!(vault.logins(), 1, "one session serves many logins");
    vault.revoke_tokens();
    assert_eq!(stage.psql("SELECT 42").ok(), "42\n");
    assert_eq!(vault.logins(), 2);
    vault.revoke_tokens();
    folder.write("account", "of-another-pod");
    assert_operators_problem(&stage, "Vault refuses the login as role `nodegate-node` (403)");
}
