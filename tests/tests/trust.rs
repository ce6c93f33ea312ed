//! What a run is given to trust: the node's authority, in the machine's own stores and by variables, beside what was there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{collections::BTreeMap, fs, path::Path, process::Command, time::Duration};

use nodegate_tests::{
    postgres,
    programs::{self, Said},
    stage::Stage,
};

const PATIENCE: Duration = Duration::from_mins(1);
/// What the one who runs the tests may have set.
const VARIABLES: [&str; 11] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "AWS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "NODE_USE_SYSTEM_CA",
    "XDG_RUNTIME_DIR",
];
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

fn stage() -> Stage {
    Stage::with(|settings| "terminate".clone_into(&mut settings.targets[0].client_tls))
}

/// What a captured shell says to a script.
fn shell(stage: &Stage, environment: &[(&str, &str)], script: &str) -> Said {
    let mut command = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    command.args(["sh", "-c", script]);
    unset(&mut command).envs(environment.iter().copied());
    programs::said(&mut command, "", PATIENCE)
}

fn unset(command: &mut Command) -> &mut Command {
    for name in VARIABLES {
        command.env_remove(name);
    }
    command
}

/// A TLS handshake of a program that trusts what the machine trusts, with the target by the name that it is known by.
fn handshake(stage: &Stage, words: &str) -> String {
    let port = stage.postgres.port();
    format!(
        "openssl s_client -starttls postgres -verify_return_error -verify_hostname localhost {words} \
         -connect 127.0.0.1:{port} </dev/null 2>&1 | grep 'Verification'"
    )
}

fn ca(stage: &Stage) -> String {
    programs::succeed(Command::new(programs::nodegate()).arg("ca").arg("--config").arg(stage.daemon.config()))
}

/// Names, sizes and times of everything in a directory.
fn look(directory: &Path) -> BTreeMap<String, (u64, Option<std::time::SystemTime>)> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let about = entry.path().symlink_metadata().unwrap();
            (entry.file_name().to_string_lossy().into_owned(), (about.len(), about.modified().ok()))
        })
        .collect()
}

#[test]
fn bundle_and_directory_have_the_authority_and_the_hosts_stay_as_they_are() {
    let stage = stage();
    let before = look(Path::new("/etc/ssl/certs"));
    let file = format!("-no-CApath -CAfile {BUNDLE}");
    let directory = "-no-CAfile -CApath /etc/ssl/certs";
    for words in ["", &file, directory] {
        let said = shell(&stage, &[], &handshake(&stage, words));
        assert_eq!(said.ok(), "Verification: OK\n", "{words}");
    }
    // Without it nothing would have been accepted.
    let mut command = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    let without = command.args(["sh", "-c", &handshake(&stage, "")]);
    let mut unchanged = Command::new(without.get_program());
    let words: Vec<_> = without.get_args().map(ToOwned::to_owned).collect();
    let run = words.iter().position(|word| word == "run").unwrap();
    unchanged.args(&words[..=run]).arg("--no-trust").args(&words[run + 1..]);
    let said = programs::said(unset(&mut unchanged), "", PATIENCE);
    assert!(said.out.contains("Verification error"), "{said:?}");
    assert_eq!(look(Path::new("/etc/ssl/certs")), before);
    assert!(!fs::read_to_string(BUNDLE).unwrap().contains(ca(&stage).trim()));
}

#[test]
fn psql_verifies_the_server_with_the_machines_bundle() {
    let stage = stage();
    let place = format!(
        "host=localhost hostaddr=127.0.0.1 port={} dbname={} user={} sslmode=verify-full sslrootcert={BUNDLE}",
        stage.postgres.port(),
        postgres::DATABASE,
        postgres::ROLE
    );
    let said = shell(&stage, &[], &format!("psql -X -At -c 'SELECT 1' '{place}'"));
    assert_eq!(said.ok(), "1\n");
}

#[test]
fn java_and_python_trust_it_as_well() {
    let stage = stage();
    let listed = "keytool -list -keystore /etc/ssl/certs/java/cacerts -storepass changeit -alias nodegate";
    let said = shell(&stage, &[], listed);
    assert!(said.ok().contains("trustedCertEntry"), "{said:?}");
    let script = format!(
        "import socket, ssl\n\
         raw = socket.create_connection(('127.0.0.1', {}))\n\
         raw.sendall(bytes([0, 0, 0, 8, 4, 210, 22, 47])); assert raw.recv(1) == b'S'\n\
         print(ssl.create_default_context().wrap_socket(raw, server_hostname='localhost').version())",
        stage.postgres.port()
    );
    let said = shell(&stage, &[], &format!("python3 -c \"{script}\""));
    assert_eq!(said.ok(), "TLSv1.3\n");
}

#[test]
fn variables_point_to_what_has_it_and_what_was_set_is_kept() {
    let stage = stage();
    let own = stage.daemon.folder().join("own.pem");
    fs::write(&own, "# somebody's own\n").unwrap();
    let environment = [("SSL_CERT_FILE", own.to_str().unwrap()), ("UV_SYSTEM_CERTS", "0")];
    let script = "echo $REQUESTS_CA_BUNDLE $NODE_EXTRA_CA_CERTS $UV_SYSTEM_CERTS $NODE_USE_SYSTEM_CA; \
                  cat $SSL_CERT_FILE $NODE_EXTRA_CA_CERTS";
    let said = shell(&stage, &environment, script);
    let ca = ca(&stage);
    let first = format!("{BUNDLE} /etc/ssl/certs/nodegate.pem 0 1\n");
    assert_eq!(said.ok(), format!("{first}# somebody's own\n{ca}{ca}"));
}

#[test]
fn the_machines_own_update_keeps_it_and_stays_within_the_run() {
    let stage = stage();
    let before = look(Path::new("/etc/ssl/certs"));
    let local = look(Path::new("/usr/local/share/ca-certificates"));
    let script = format!("update-ca-certificates --fresh >/dev/null 2>&1; {}", handshake(&stage, ""));
    assert_eq!(shell(&stage, &[], &script).ok(), "Verification: OK\n");
    assert_eq!(look(Path::new("/etc/ssl/certs")), before);
    assert_eq!(look(Path::new("/usr/local/share/ca-certificates")), local);
}

#[test]
fn who_may_not_mount_gets_files_of_his_own_which_go_with_the_run() {
    let stage = stage();
    let inner = "grep -c 'BEGIN CERT' $SSL_CERT_FILE; cat $NODE_EXTRA_CA_CERTS; echo $SSL_CERT_FILE";
    let copy = stage.daemon.folder().join("nodegate-for-all");
    fs::copy(programs::nodegate(), &copy).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]).arg(&copy);
    command.arg("--socket").arg(stage.daemon.socket()).args(["run", "--", "sh", "-c", inner]);
    let said = programs::said(unset(&mut command), "", PATIENCE);
    let mut lines = said.ok().lines();
    let of_the_machine = fs::read_to_string(BUNDLE).unwrap().matches("BEGIN CERT").count();
    assert_eq!(lines.next(), Some((of_the_machine + 1).to_string().as_str()), "{said:?}");
    let path = lines.next_back().unwrap().to_owned();
    assert_eq!(lines.collect::<Vec<_>>().join("\n"), ca(&stage).trim());
    assert!(path.contains("nodegate-trust-"), "{path}");
    assert!(!Path::new(&path).exists(), "{path} is left");
}
