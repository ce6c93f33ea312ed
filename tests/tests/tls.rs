//! TLS on both sides: what clients may ask for, what they are shown, and how the daemon knows its server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use nodegate_tests::{
    interposer::{Back, Front, Interposer, Offer},
    postgres::{self, Postgres},
    programs::{self, Said},
    stage::Stage,
    wire,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

const PATIENCE: Duration = Duration::from_secs(14);

/// A stage whose clients may use TLS.
fn stage() -> Stage {
    Stage::with(|settings| "terminate".clone_into(&mut settings.targets[0].client_tls))
}

/// The certificate to trust, as an operator gets it.
fn ca(stage: &Stage) -> PathBuf {
    let mut command = Command::new(programs::nodegate());
    command.arg("ca").arg("--config").arg(stage.daemon.config());
    let pem = programs::succeed(&mut command);
    let path = stage.daemon.folder().join("given-to-agents.pem");
    fs::write(&path, pem).unwrap();
    path
}

/// A captured psql with these words in its connection string.
fn psql(stage: &Stage, words: &str, sql: &str) -> Said {
    psql_as(stage, &stage.issuer.token("agent-1"), words, sql)
}

fn psql_as(stage: &Stage, token: &str, words: &str, sql: &str) -> Said {
    let place = format!(
        "port={} dbname={} user={} {words}",
        stage.postgres.port(),
        postgres::DATABASE,
        postgres::ROLE
    );
    let mut command = stage.daemon.run(Some(token));
    command.args(["psql", "-X", "-At", &place]);
    programs::said(&mut command, sql, Duration::from_secs(30))
}

#[test]
fn every_sslmode_of_psql_works_and_those_that_verify_verify() {
    let stage = stage();
    let ca = ca(&stage);
    let trusting = format!("sslrootcert={}", ca.display());
    for (words, encrypted) in [
        ("host=127.0.0.1 sslmode=disable".to_owned(), false),
        ("host=127.0.0.1 sslmode=allow".to_owned(), false),
        ("host=127.0.0.1 sslmode=prefer".to_owned(), true),
        ("host=127.0.0.1 sslmode=require".to_owned(), true),
        (format!("host=127.0.0.1 sslmode=verify-ca {trusting}"), true),
        (format!("host=127.0.0.1 sslmode=verify-full {trusting}"), true),
        (format!("host=localhost hostaddr=127.0.0.1 sslmode=verify-full {trusting}"), true),
    ] {
        let said = psql(&stage, &words, "\\conninfo\nSELECT count(*) FROM customers;\n");
        assert_eq!(said.ok().contains("SSL connection (protocol: TLSv1.3"), encrypted, "{words}: {said:?}");
        assert!(said.out.ends_with("300\n"), "{words}: {said:?}");
    }
    // A name that is not the target's.
    let other = format!("host=elsewhere.example hostaddr=127.0.0.1 sslmode=verify-full {trusting}");
    let said = psql(&stage, &other, "SELECT 1;\n");
    assert!(said.err.contains("does not match host name"), "{said:?}");
    // The server's own authority is not the daemon's.
    let server = format!("host=127.0.0.1 sslmode=verify-full sslrootcert={}", stage.postgres.ca().display());
    let said = psql(&stage, &server, "SELECT 1;\n");
    assert!(said.err.contains("certificate verify failed"), "{said:?}");
}

#[test]
fn a_target_without_tls_says_so_to_who_asks() {
    let stage = Stage::new();
    assert_eq!(psql(&stage, "host=127.0.0.1 sslmode=prefer", "SELECT 1;\n").ok(), "1\n");
    let said = psql(&stage, "host=127.0.0.1 sslmode=require", "SELECT 1;\n");
    assert!(said.err.contains("server does not support SSL"), "{said:?}");
}

#[test]
fn a_refused_client_under_tls_hears_the_reason() {
    let other = Postgres::start();
    let stage = stage();
    let said = psql_as(
        &stage,
        &stage.issuer.token_with("stranger", &serde_json::json!({ "groups": ["others"] })),
        "host=127.0.0.1 sslmode=require",
        "SELECT 1;\n",
    );
    assert!(said.err.contains("nodegate: "), "{said:?}");
    // And one that means no target at all.
    let words = format!("host=127.0.0.1 sslmode=require port={}", other.port());
    let said = psql(&stage, &words, "SELECT 1;\n");
    assert!(said.err.contains("is not a target of this node's configuration"), "{said:?}");
    assert_eq!(other.connections_received(), 0);
}

#[test]
fn the_authority_outlives_the_daemon_and_its_key_is_nobody_elses() {
    let mut stage = stage();
    let before = fs::read(ca(&stage)).unwrap();
    let words = format!("host=127.0.0.1 sslmode=verify-full sslrootcert={}", ca(&stage).display());
    stage.daemon.terminate();
    stage.daemon.restart();
    assert_eq!(fs::read(ca(&stage)).unwrap(), before);
    assert_eq!(psql(&stage, &words, "SELECT 1;\n").ok(), "1\n");
    let key = stage.daemon.folder().join("state/tls/ca.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// TLS over a captured connection, trusting the daemon's authority.
fn handshake(ca: &Path, stream: TcpStream, alpn: Option<&[u8]>) -> std::io::Result<Tls> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("PEM")).expect("a root");
    let mut config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    config.alpn_protocols = alpn.into_iter().map(<[u8]>::to_vec).collect();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut tls = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    Ok(tls)
}

/// Everything that comes of a login and a query, until its answer or the end.
fn conversation(mut tls: Tls) -> Vec<u8> {
    let startup = wire::startup(3, 0, &[("user", "a"), ("database", "shop")]);
    let query = wire::message(b'Q', b"SELECT 'forty' || '-two'\0");
    let (mut all, mut chunk) = (Vec::new(), [0; 4096]);
    // Whoever is refused may be gone by now.
    let _ = tls.write_all(&[startup, query].concat());
    while !has(&all, "forty-two") {
        match tls.read(&mut chunk) {
            Ok(count) if count > 0 => all.extend_from_slice(&chunk[..count]),
            _ => break,
        }
    }
    all
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn tls_at_once_takes_the_protocols_own_name() {
    let stage = stage();
    let ca = ca(&stage);
    let mut agent = stage.agent();
    let stream = agent.connect(stage.postgres.address()).unwrap();
    let tls = handshake(&ca, stream, Some(b"postgresql")).expect("a handshake");
    let answer = conversation(tls);
    assert!(has(&answer, "forty-two"), "{}", String::from_utf8_lossy(&answer));

    // Without ALPN it could be any protocol; with another, it is one.
    let stream = agent.connect(stage.postgres.address()).unwrap();
    if let Ok(tls) = handshake(&ca, stream, None) {
        assert!(conversation(tls).is_empty());
    }
    let stream = agent.connect(stage.postgres.address()).unwrap();
    assert!(handshake(&ca, stream, Some(b"h2")).is_err());
}

#[test]
fn a_target_without_tls_refuses_tls_at_once() {
    let stage = Stage::new();
    let ca = ca(&stage);
    let mut agent = stage.agent();
    let stream = agent.connect(stage.postgres.address()).unwrap();
    assert!(handshake(&ca, stream, Some(b"postgresql")).is_err());
    let denied = stage.daemon.audit_search(&["--outcome", "denied"]);
    assert!(denied.iter().any(|record| record.to_string().contains("takes no TLS")), "{denied:?}");
}

/// A captured connection whose SSLRequest was granted.
fn granted(stage: &Stage, agent: &mut nodegate_tests::agent::Agent) -> TcpStream {
    let mut stream = agent.connect(stage.postgres.address()).unwrap();
    stream.write_all(&wire::ssl_request()).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"S");
    stream
}

#[test]
fn nothing_that_was_said_before_tls_counts_after_it() {
    let stage = stage();
    let ca = ca(&stage);
    let mut agent = stage.agent();
    // With the request in one packet.
    let mut stream = agent.connect(stage.postgres.address()).unwrap();
    let startup = wire::startup(3, 0, &[("user", "a"), ("database", "shop")]);
    stream.write_all(&[wire::ssl_request(), startup.clone()].concat()).unwrap();
    let answer = wire::read_to_close(&mut stream, PATIENCE).expect("a closed connection");
    assert!(!answer.contains(&b'Z') && answer.first() != Some(&b'S'), "{answer:?}");
    // In clear after the grant.
    let mut stream = granted(&stage, &mut agent);
    stream.write_all(&startup).unwrap();
    let answer = wire::read_to_close(&mut stream, PATIENCE).expect("a closed connection");
    assert!(!has(&answer, "server_version"), "{answer:?}");
    // A second request, under TLS.
    let tls = handshake(&ca, granted(&stage, &mut agent), None).expect("a handshake");
    let mut tls = tls;
    tls.write_all(&wire::ssl_request()).unwrap();
    let mut answer = Vec::new();
    let _ = tls.read_to_end(&mut answer);
    assert!(has(&answer, "a request for encryption under TLS"), "{}", String::from_utf8_lossy(&answer));
    // The control: the same way without the tricks.
    let tls = handshake(&ca, granted(&stage, &mut agent), Some(b"postgresql")).expect("a handshake");
    assert!(has(&conversation(tls), "forty-two"));
}

#[test]
fn a_handshake_that_stalls_is_cut_off() {
    let stage = Stage::with(|settings| {
        "terminate".clone_into(&mut settings.targets[0].client_tls);
        "limits: { startup_timeout: 2s }\n".clone_into(&mut settings.more);
    });
    let mut agent = stage.agent();
    for bytes in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01"] {
        let mut stream = granted(&stage, &mut agent);
        stream.write_all(bytes).unwrap();
        assert!(wire::read_to_close(&mut stream, PATIENCE).is_some(), "{bytes:?}: a deadline");
        let mut stream = agent.connect(stage.postgres.address()).unwrap();
        stream.write_all(bytes).unwrap();
        assert!(wire::read_to_close(&mut stream, PATIENCE).is_some(), "{bytes:?} at once: a deadline");
    }
    // What is no handshake at all ends it as well.
    let mut stream = granted(&stage, &mut agent);
    stream.write_all(b"\x16\x03\x01\xff\xff this is no handshake").unwrap();
    assert!(wire::read_to_close(&mut stream, PATIENCE).is_some());
    stage.client(&mut agent);
}

#[test]
fn a_cancel_request_may_come_under_tls() {
    let stage = stage();
    let ca = ca(&stage);
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    let (process, secret) = client.key.clone().expect("a key to cancel with");
    let long = "SELECT count(*) FROM generate_series(1, 100000000) AS a, generate_series(1, 1000) AS tls";
    client.send(b'Q', format!("{long}\0").as_bytes());
    programs::wait_for("the query to run", Duration::from_secs(10), || {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%1000) AS tls'";
        (stage.postgres.admin(sql) == "1").then_some(())
    });
    let mut tls = handshake(&ca, granted(&stage, &mut agent), None).expect("a handshake");
    tls.write_all(&wire::cancel(process, &secret)).unwrap();
    assert_eq!(client.until_ready().error().code(), "57014");
    assert_eq!(tls.read(&mut [0]).unwrap(), 0, "closed, and said so");
}

/// A stage whose target is an interposer before a server.
fn interposed(front: Front, back: Back, offer: Offer, more: &str) -> (Stage, Interposer) {
    let postgres = Postgres::start();
    let interposer = Interposer::start(postgres.address(), &postgres.authority(), front, back, offer);
    let (address, tls) =
        (interposer.address(), format!("verify-full, ca: {}{more}", postgres.ca().display()));
    let stage = Stage::around(postgres, |settings| {
        settings.targets[0].address = address;
        settings.targets[0].tls = tls;
    });
    (stage, interposer)
}

fn ask(stage: &Stage, interposer: &Interposer) -> Said {
    psql(stage, &format!("host=127.0.0.1 port={}", interposer.address().port()), "SELECT 42;\n")
}

#[test]
fn a_login_is_bound_to_its_channel_where_the_server_offers_it() {
    let postgres = Postgres::start();
    let ca = postgres.ca();
    let stage = Stage::around(postgres, |settings| {
        settings.targets[0].tls = format!("verify-full, ca: {}, channel_binding: require", ca.display());
    });
    assert_eq!(psql(&stage, "host=127.0.0.1", "SELECT 42;\n").ok(), "42\n");
}

#[test]
fn somebody_in_between_with_a_good_certificate_gets_no_login() {
    for more in ["", ", channel_binding: require"] {
        let (stage, interposer) = interposed(Front::Asked, Back::Tls, Offer::Honest, more);
        let said = ask(&stage, &interposer);
        assert!(said.err.contains("tell your operator"), "{said:?}");
        assert!(stage.daemon.log().contains("channel binding"), "{}", stage.daemon.log());
        assert!(!stage.postgres.log().contains("connection authorized"), "{}", stage.postgres.log());
    }
}

#[test]
fn who_hides_the_binding_from_the_daemon_is_found_out() {
    // By the server, which is told that the daemon would have bound the login; or by the daemon, which insists.
    for more in ["", ", channel_binding: require"] {
        let (stage, interposer) = interposed(Front::Asked, Back::Tls, Offer::Stripped, more);
        let said = ask(&stage, &interposer);
        assert!(said.err.contains("tell your operator"), "{said:?}");
        assert!(!stage.postgres.log().contains("connection authorized"), "{}", stage.postgres.log());
    }
    // The control: a server that has no TLS to bind to offers nothing, and that is no downgrade.
    let (stage, interposer) = interposed(Front::Asked, Back::Plain, Offer::Honest, "");
    assert_eq!(ask(&stage, &interposer).ok(), "42\n");
}

#[test]
fn the_daemon_begins_tls_at_once_where_the_configuration_says_so() {
    let direct = ", negotiation: direct";
    let (stage, interposer) =
        interposed(Front::Direct(Some(b"postgresql")), Back::Plain, Offer::Honest, direct);
    assert_eq!(ask(&stage, &interposer).ok(), "42\n");
    // A server that does not name the protocol could be anything.
    let (stage, interposer) = interposed(Front::Direct(None), Back::Plain, Offer::Honest, direct);
    assert!(ask(&stage, &interposer).err.contains("tell your operator"));
    assert!(stage.daemon.log().contains("ALPN"), "{}", stage.daemon.log());
    // PostgreSQL 15 knows SSLRequest only.
    let postgres = Postgres::start();
    let ca = postgres.ca();
    let stage = Stage::around(postgres, |settings| {
        settings.targets[0].tls = format!("verify-full, ca: {}{direct}", ca.display());
    });
    let said = psql(&stage, "host=127.0.0.1", "SELECT 42;\n");
    assert_ne!(said.status, 0, "{said:?}");
}
