//! How a captured client gets in: without the password, as if it spoke with the server itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    io::{Read as _, Write as _},
    time::{Duration, Instant},
};

use nodegate_tests::{
    postgres::{self, Postgres},
    programs::wait_for,
    stage::Stage,
    wire::{self, Client},
};

#[test]
fn a_captured_psql_with_a_wrong_password_gets_its_rows() {
    let stage = Stage::new();
    assert_eq!(stage.psql("SELECT count(*) FROM customers").ok(), "300\n");
}

#[test]
fn the_same_psql_outside_the_cgroup_is_untouched() {
    let stage = Stage::new();
    let refused = stage.direct("wrong", &["-c", "SELECT 1"], "");
    assert!(refused.err.contains("password authentication failed"), "{}", refused.err);
    let email =
        stage.direct(postgres::PASSWORD, &["-At", "-c", "SELECT email FROM customers WHERE id = 1"], "");
    assert_eq!(email.ok(), "grace.hopper1@example.com\n", "nothing is masked outside");
    assert_eq!(stage.daemon.counter("flows_total"), 0, "nothing was captured outside");
}

#[test]
fn conninfo_and_the_servers_own_addresses_show_nothing_odd() {
    let stage = Stage::new();
    let script = "\\conninfo\nSELECT inet_server_addr(), inet_server_port(), inet_client_addr(), \
                  current_user, current_database();\n";
    let captured = stage.psql_script(&["-At"], script);
    let mut direct = stage.direct(postgres::PASSWORD, &["-At"], script);
    // The one difference that there is: loopback to the daemon needs no TLS.
    direct.out = direct
        .out
        .lines()
        .filter(|line| !line.starts_with("SSL connection"))
        .fold(String::new(), |all, line| all + line + "\n");
    assert_eq!(captured.ok(), direct.ok());
    assert!(captured.out.contains("127.0.0.1"), "{}", captured.out);
}

#[test]
fn the_daemon_logs_in_with_scram_md5_and_cleartext_under_tls() {
    for (role, tls) in [
        ("app_agent", "disable"),
        ("app_md5", "disable"),
        ("app_clear", "verify-full"),
        ("app_agent", "verify-full"),
    ] {
        let postgres = Postgres::start();
        let ca = postgres.ca();
        let stage = Stage::around(postgres, |settings| {
            let target = &mut settings.targets[0];
            role.clone_into(&mut target.role);
            target.tls = match tls {
                "verify-full" => format!("verify-full, ca: {}", ca.display()),
                other => other.to_owned(),
            };
        });
        let user =
            stage.psql("SELECT current_user, (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid())");
        let encrypted = if tls == "disable" { "f" } else { "t" };
        assert_eq!(user.ok(), format!("{role}|{encrypted}\n"), "{role} {tls}");
    }
}

#[test]
fn a_cleartext_password_is_never_sent_without_tls() {
    let stage = Stage::with(|settings| "app_clear".clone_into(&mut settings.targets[0].role));
    // The server refuses this role without TLS; what matters is that the client hears an error, at once.
    let refused = stage.psql("SELECT 1");
    assert_ne!(refused.status, 0, "{}", refused.out);
}

#[test]
fn a_server_whose_certificate_is_not_the_right_one_gets_no_password() {
    let other = Postgres::start();
    let ca = other.ca();
    let stage = Stage::around(Postgres::start(), |settings| {
        settings.targets[0].tls = format!("verify-full, ca: {}", ca.display());
    });
    let refused = stage.psql("SELECT 1");
    assert_ne!(refused.status, 0, "{}", refused.out);
    assert!(!stage.postgres.log().contains("connection authorized"), "{}", stage.postgres.log());
}

#[test]
fn a_withdrawn_authority_is_trusted_by_no_new_connection() {
    let (server, other) = (Postgres::start(), Postgres::start());
    let (good, wrong) = (fs::read(server.ca()).unwrap(), fs::read(other.ca()).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, &good).unwrap();
    let stage = Stage::around(server, |settings| {
        settings.targets[0].tls = format!("verify-full, ca: {}", ca.display());
    });
    let mut agent = stage.agent();
    let mut open = stage.client(&mut agent);
    // Nobody reloads anything: the file itself is what counts, by the next connection.
    for (content, is_trusted) in [(&wrong, false), (&good, true), (&b"no certificate".to_vec(), false)] {
        // A new file in its place, as whoever renews one does it.
        let new = folder.path().join("ca.new");
        fs::write(&new, content).unwrap();
        fs::rename(&new, &ca).unwrap();
        let session = Client::start(agent.connect(stage.postgres.address()).unwrap());
        assert_eq!(session.is_ok(), is_trusted, "{:?}", session.err());
    }
    assert_eq!(open.query("SELECT 1").texts(), [["1"]], "what is open was verified when it began");
}

#[test]
fn a_rotated_credential_is_used_by_the_next_login() {
    let stage = Stage::new();
    stage.psql("SELECT 1").ok();
    stage.postgres.admin("ALTER ROLE app_agent PASSWORD 'rotated'");
    assert_ne!(stage.psql("SELECT 1").status, 0, "the old password must no longer do");
    stage.daemon.set_password("rotated");
    wait_for("the new password", Duration::from_secs(10), || {
        (stage.psql("SELECT 1").status == 0).then_some(())
    });
}

#[test]
fn encryption_requests_are_answered_and_the_session_follows() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut stream = agent.connect(stage.postgres.address()).unwrap();
    let mut answer = [0];
    for request in [wire::ssl_request(), wire::gss_request()] {
        stream.write_all(&request).unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, *b"N");
    }
    let mut client = Client::start(stream).expect("a session after both requests");
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
}

#[test]
fn bytes_before_the_answer_to_an_encryption_request_end_the_connection() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut stream = agent.connect(stage.postgres.address()).unwrap();
    let mut bytes = wire::ssl_request();
    bytes.extend(wire::startup(3, 0, &[("user", "a"), ("database", "shop")]));
    stream.write_all(&bytes).unwrap();
    let answer = wire::read_to_close(&mut stream, Duration::from_secs(10)).expect("a closed connection");
    assert!(!answer.contains(&b'Z'), "no session may follow: {answer:?}");
}

#[test]
fn protocol_3_2_is_negotiated() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    let mut stream = agent.connect(stage.postgres.address()).unwrap();
    stream.write_all(&wire::startup(3, 2, &[("user", "a"), ("database", "shop")])).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut first = [0];
    stream.read_exact(&mut first).unwrap();
    // Either the minor version is granted, or NegotiateProtocolVersion names the one that is.
    assert!(matches!(first, [b'R' | b'v']), "{first:?}");
}

#[test]
fn replication_and_unknown_startup_parameters_are_refused() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    for parameters in [
        &[("user", "a"), ("database", "shop"), ("replication", "database")][..],
        &[("user", "a"), ("database", "shop"), ("session_authorization", "postgres")][..],
        &[("user", "a"), ("database", "shop"), ("options", "-c session_replication_role=replica")][..],
    ] {
        let stream = agent.connect(stage.postgres.address()).unwrap();
        let refused = Client::start_as(stream, parameters).expect_err("a refusal");
        assert!(!refused.code().is_empty(), "{refused:?}");
    }
}

#[test]
fn a_destination_that_is_no_target_is_refused_before_it_is_reached() {
    let other = Postgres::start();
    let stage = Stage::new();
    let mut agent = stage.agent();
    let started = Instant::now();
    let refused = match agent.connect(other.address()) {
        Err(_) => true,
        Ok(stream) => Client::start(stream).is_err(),
    };
    assert!(refused, "an unknown destination was let through");
    assert!(started.elapsed() < Duration::from_secs(5), "a refusal is fast");
    assert_eq!(other.connections_received(), 0);
    let denied = stage.daemon.audit_search(&["--outcome", "denied"]);
    let destination = other.address().to_string();
    assert!(denied.iter().any(|record| record.to_string().contains(&destination)), "{denied:?}");
}

#[test]
fn a_target_that_is_down_is_an_error_at_once() {
    let mut stage = Stage::new();
    stage.postgres.stop();
    let started = Instant::now();
    let failed = stage.psql("SELECT 1");
    assert_eq!(failed.status, 2, "{failed:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}
