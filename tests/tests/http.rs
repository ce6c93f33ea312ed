//! HTTP through nodegate: unmodified curl inside a captured cgroup, a real server behind it, and everything that hostile
//! bytes can try on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::Duration,
};

use nodegate_tests::{
    agent::Agent,
    daemon::{Daemon, Settings},
    issuer::{Authority, Issuer, Validity},
    programs::{self, Said},
    web::{self, BIG_BYTES, Cover, Seen, Web},
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_mins(1);

/// What the agents of these tests may do: read everything but `/admin`, and write below `/items`.
const POLICY: &str = r#"
@id("agents-use-the-api")
permit (
    principal in Group::"agents",
    action in [Action::"connect", Action::"http:read"],
    resource in Target::"api"
);
@id("agents-write-items")
permit (principal in Group::"agents", action in Action::"http:write", resource in HttpPath::"api.internal/items");
@id("no-admin")
@message("Administration is for people.")
forbid (principal, action, resource in HttpPath::"api.internal/admin");
@id("no-debugging")
forbid (principal, action in Action::"http:read", resource) when { context.query.hasTag("debug") };
"#;

/// Server, issuer and daemon.
struct Stage {
    daemon: Daemon,
    issuer: Issuer,
    web: Web,
    authority: Authority,
}

/// How a stage differs from the usual one.
struct Change<'a> {
    names: &'a [&'a str],
    validity: Validity,
    plain: bool,
    /// The target's keys.
    target: &'a str,
    answer: Option<web::Answer>,
}

impl Default for Change<'_> {
    fn default() -> Self {
        Self {
            names: &["api.internal", "127.0.0.1"],
            validity: Validity::Good,
            plain: false,
            target: "hosts: [api.internal, \"127.0.0.1\"], credential: { bearer: { file: password } }",
            answer: None,
        }
    }
}

impl Stage {
    fn new() -> Self {
        Self::with(Change::default())
    }

    fn with(change: Change<'_>) -> Self {
        let authority = Authority::new();
        let cover =
            if change.plain { Cover::Plain } else { Cover::Tls(&authority, change.names, change.validity) };
        let web = match change.answer {
            Some(answer) => Web::with(&cover, answer),
            None => Web::start(&cover),
        };
        let issuer = Issuer::start();
        let mut settings = Settings::new(Vec::new());
        POLICY.clone_into(&mut settings.policy);
        let tls = if change.plain {
            "{ client: plaintext, upstream: none }"
        } else {
            "{ client: terminate, upstream: verify-full, ca: web-ca.pem }"
        };
        settings.more_targets.push(format!(
            "{{ name: api, protocol: http, ports: [{}], tls: {tls}, {} }}",
            web.port(),
            change.target
        ));
        let mut daemon = Daemon::prepare(&settings, &issuer);
        fs::write(daemon.folder().join("web-ca.pem"), &authority.pem).unwrap();
        daemon.set_password("the-daemons-own-token");
        daemon.restart();
        Self { daemon, issuer, web, authority }
    }

    /// The certificate to trust, as an operator gets it.
    fn ca(&self) -> PathBuf {
        let path = self.daemon.folder().join("given-to-agents.pem");
        if !path.exists() {
            let mut command = Command::new(programs::nodegate());
            command.arg("ca").arg("--config").arg(self.daemon.config());
            fs::write(&path, programs::succeed(&mut command)).unwrap();
        }
        path
    }

    fn url(&self, path: &str) -> String {
        format!("https://api.internal:{}{path}", self.web.port())
    }

    /// A captured curl that finds the server's name, and trusts the daemon.
    fn curl(&self, words: &[&str]) -> Said {
        let mut command = self.daemon.run(Some(&self.issuer.token("agent-1")));
        command.args(["curl", "-sS", "--max-time", "50", "--cacert"]).arg(self.ca());
        command.arg("--resolve").arg(format!("api.internal:{}:127.0.0.1", self.web.port()));
        command.args(words);
        programs::said(&mut command, "", PATIENCE)
    }

    fn agent(&self) -> Agent {
        self.daemon.agent(&self.issuer.token("agent-1"))
    }

    fn records(&self, words: &[&str]) -> Vec<Value> {
        self.daemon.audit_search(words).into_iter().map(|record| record["event"].clone()).collect()
    }
}

#[test]
fn a_get_goes_through_with_a_credential_that_the_agent_never_has() {
    let stage = Stage::new();
    let said = stage.curl(&["-i", "-H", "Authorization: Bearer the-agents-own", &stage.url("/items?page=2")]);
    assert!(said.ok().starts_with("HTTP/1.1 200 OK\r\nX-Server: tests\r\n"), "{said:?}");
    assert!(said.out.ends_with("GET /items?page=2 HTTP/1.1\n0 bytes\n"), "{said:?}");
    assert!(!format!("{said:?}").contains("the-daemons-own-token"));
    let seen = stage.web.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].field("authorization"), Some("Bearer the-daemons-own-token"));
    assert!(!seen[0].head.contains("the-agents-own"), "{}", seen[0].head);
    assert!(seen[0].field("user-agent").unwrap().starts_with("curl/"));

    let connects = stage.records(&["--kind", "connect"]);
    assert_eq!((&connects[0]["outcome"], &connects[0]["target"]), (&json!("allowed"), &json!("api")));
    let requests = stage.records(&["--kind", "request"]);
    assert_eq!(requests.len(), 1);
    let url = format!("GET https://api.internal:{}/items?page=2", stage.web.port());
    assert_eq!((&requests[0]["text"], &requests[0]["outcome"]), (&json!(url), &json!("allowed")));
    assert_eq!(requests[0]["policies"], json!(["agents-use-the-api"]));
    let ended = programs::wait_for("the completion", PATIENCE, || {
        stage.records(&["--kind", "completion"]).into_iter().next()
    });
    assert!(ended["reason"].as_str().unwrap().starts_with("status 200; 0 bytes sent, "), "{ended}");
    assert!(ended["duration_us"].as_u64().unwrap() > 0);
    // Outside of the cgroup nothing differs: the server's own certificate, and no credential of the daemon's.
    let direct = programs::said(
        Command::new("curl")
            .args(["-sS", "-k", "--resolve"])
            .arg(format!("api.internal:{}:127.0.0.1", stage.web.port()))
            .arg(stage.url("/direct")),
        "",
        PATIENCE,
    );
    assert_eq!(direct.ok(), "GET /direct HTTP/1.1\n0 bytes\n");
    assert_eq!(stage.web.seen()[1].field("authorization"), None);
}

#[test]
fn a_refusal_is_understood_and_the_connection_goes_on() {
    let stage = Stage::new();
    // Three on one connection: refused, refused with content, permitted.
    let said = stage.curl(&[
        "-i",
        "-w",
        "\n%{num_connects}\n",
        &stage.url("/admin/users"),
        "--next",
        "-sS",
        "-i",
        "--cacert",
        stage.ca().to_str().unwrap(),
        "-w",
        "\n%{num_connects}\n",
        "-d",
        "much",
        &stage.url("/elsewhere"),
        "--next",
        "-sS",
        "--cacert",
        stage.ca().to_str().unwrap(),
        "-w",
        "%{num_connects}\n",
        &stage.url("/fine"),
    ]);
    let out = said.ok();
    let phrase = "HTTP/1.1 403 Refused by nodegate: policy \"no-admin\" forbids http:GET on api.internal/admin/users [no-admin]";
    assert!(out.starts_with(phrase), "{out}");
    assert!(out.contains("\"hint\":\"Administration is for people.\""), "{out}");
    assert!(
        out.contains("no policy permits http:POST on api.internal/elsewhere [builtin/default-deny]"),
        "{out}"
    );
    assert!(out.ends_with("GET /fine HTTP/1.1\n0 bytes\n0\n"), "{out}");
    let seen: Vec<String> = stage.web.seen().iter().map(|seen| seen.path().to_owned()).collect();
    assert_eq!(seen, ["/fine"]);
    let denied = stage.records(&["--kind", "request", "--outcome", "denied"]);
    assert_eq!(denied.len(), 2);
    assert_eq!(denied.iter().filter(|event| event["policies"] == json!(["no-admin"])).count(), 1);
}

#[test]
fn ten_megabytes_go_there_and_back() {
    let stage = Stage::new();
    let file = stage.daemon.folder().join("upload");
    fs::write(&file, vec![b'x'; BIG_BYTES]).unwrap();
    let data = format!("@{}", file.display());
    for more in [&[][..], &["-H", "Transfer-Encoding: chunked"], &["-H", "Expect:"]] {
        let url = stage.url("/items/1");
        let words: Vec<&str> = [&["--data-binary", &data][..], more, &[&url]].concat();
        let said = stage.curl(&words);
        assert_eq!(said.ok(), format!("POST /items/1 HTTP/1.1\n{BIG_BYTES} bytes\n"), "{more:?}");
    }
    assert!(stage.web.seen().iter().all(|seen| seen.body.iter().all(|byte| *byte == b'x')));
    let said = stage.curl(&["-o", "/dev/null", "-w", "%{size_download}", &stage.url("/big")]);
    assert_eq!(said.ok(), BIG_BYTES.to_string());
}

#[test]
fn a_hundred_requests_share_one_connection() {
    let stage = Stage::new();
    let said = stage.curl(&["-w", "%{num_connects}\n", "-o", "/dev/null", &stage.url("/items/[1-100]")]);
    let connects: u32 = said.ok().lines().map(|line| line.parse::<u32>().unwrap()).sum();
    assert_eq!(connects, 1, "{said:?}");
    assert_eq!(stage.web.seen().len(), 100);
    assert_eq!(stage.web.connections(), 1);
    let paths: Vec<String> = stage.web.seen().iter().map(|seen| seen.path().to_owned()).collect();
    assert_eq!(paths[99], "/items/100");
}

#[test]
fn a_path_is_judged_in_every_reading_and_goes_on_as_it_came() {
    let stage = Stage::new();
    let npm = stage.curl(&["--path-as-is", &stage.url("/@scope%2fname")]);
    assert_eq!(npm.ok(), "GET /@scope%2fname HTTP/1.1\n0 bytes\n");
    for path in [
        "/admin",
        "/admin/",
        "//admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x/..%2fadmin",
        "/%61dmin",
        "/%2561dmin",
        "/x/..;/admin",
        "/admin;a=b",
        "/x\\..\\..\\admin",
        "/x/..%5cadmin",
    ] {
        let said =
            stage.curl(&["--path-as-is", "-g", "-o", "/dev/null", "-w", "%{http_code}", &stage.url(path)]);
        assert_eq!(said.ok(), "403", "{path}");
    }
    for path in ["/a%00", "/a%zz", "/%252525252e"] {
        let said =
            stage.curl(&["--path-as-is", "-g", "-o", "/dev/null", "-w", "%{http_code}", &stage.url(path)]);
        assert_eq!(said.ok(), "400", "{path}");
    }
    for query in ["debug", "debug=1", "a=b&%64ebug=0", "a=b;debug"] {
        let url = stage.url(&format!("/fine?{query}"));
        let said = stage.curl(&["-o", "/dev/null", "-w", "%{http_code}", &url]);
        assert_eq!(said.ok(), "403", "{query}");
    }
    assert_eq!(stage.web.seen().len(), 1);
}

#[test]
fn a_name_that_is_not_the_connections_is_misdirected() {
    let stage = Stage::new();
    let url = stage.url("/fine");
    let said = stage.curl(&["-i", "-H", "Host: other.internal", &url]);
    assert!(
        said.ok().starts_with("HTTP/1.1 421 Refused by nodegate: other.internal is not a host"),
        "{said:?}"
    );
    let said = stage.curl(&["-i", "-H", "Host: api.internal:1", &url]);
    assert!(said.ok().starts_with("HTTP/1.1 421 "), "{said:?}");
    // SNI names somebody else, Host the target.
    let port = stage.web.port();
    let said = stage.curl(&[
        "-i",
        "--resolve",
        &format!("evil.example:{port}:127.0.0.1"),
        "-H",
        &format!("Host: api.internal:{port}"),
        &format!("https://evil.example:{port}/fine"),
    ]);
    assert!(said.ok().starts_with("HTTP/1.1 421 Refused by nodegate: evil.example, which TLS"), "{said:?}");
    assert!(stage.web.seen().is_empty());
    let denied = stage.records(&["--kind", "request", "--outcome", "denied"]);
    assert_eq!(denied.len(), 3);
    assert!(denied.iter().all(|event| event["policies"] == json!(["builtin/http-host"])), "{denied:?}");
    // Without a name, the address that was dialled is the name.
    let said =
        stage.curl(&["-o", "/dev/null", "-w", "%{http_code}", &format!("https://127.0.0.1:{port}/fine")]);
    assert_eq!(said.ok(), "200", "{said:?}");
}

#[test]
fn a_server_that_is_not_whom_it_says_is_a_502_in_words() {
    for (change, words) in [
        (Change { validity: Validity::Expired, ..Change::default() }, "it has expired"),
        (Change { names: &["elsewhere.internal"], ..Change::default() }, "it is for another name"),
    ] {
        let stage = Stage::with(change);
        let said = stage.curl(&["-i", &stage.url("/fine")]);
        assert!(said.ok().starts_with("HTTP/1.1 502 Bad gateway: "), "{said:?}");
        assert!(said.out.contains(words), "{said:?}");
        assert!(stage.web.seen().is_empty());
        let ended = programs::wait_for("the completion", PATIENCE, || {
            stage.records(&["--kind", "completion"]).into_iter().next()
        });
        assert!(ended["reason"].as_str().unwrap().starts_with("answered 502 by nodegate"), "{ended}");
    }
    let stage = Stage::new();
    fs::write(stage.daemon.folder().join("web-ca.pem"), &Authority::new().pem).unwrap();
    let other = Stage { authority: Authority::new(), ..stage };
    let mut daemon = other.daemon;
    daemon.terminate();
    daemon.restart();
    let stage = Stage { daemon, ..other };
    assert_ne!(stage.authority.pem, "");
    let said = stage.curl(&["-i", &stage.url("/fine")]);
    assert!(said.ok().contains("its authority is not one that is trusted for this target"), "{said:?}");
}

/// Sends bytes from inside the cgroup, and reads until the other side closes or says nothing for a while.
fn raw(agent: &mut Agent, to: std::net::SocketAddr, bytes: &[u8]) -> String {
    let mut stream = agent.connect(to).expect("a captured connection");
    stream.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    // It may be closed before all of it is sent.
    let _ = stream.write_all(bytes);
    read_all(&mut stream)
}

fn read_all(stream: &mut TcpStream) -> String {
    let (mut all, mut chunk) = (Vec::new(), [0; 8192]);
    while let Ok(count) = stream.read(&mut chunk) {
        if count == 0 {
            break;
        }
        all.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

fn plain<'a>() -> Change<'a> {
    Change { plain: true, target: "hosts: [api.internal, \"127.0.0.1\"]", ..Change::default() }
}

#[test]
fn what_two_readers_could_read_differently_reaches_nobody() {
    let stage = Stage::with(plain());
    let mut agent = stage.agent();
    let to = stage.web.address();
    let hidden = "GET /hidden HTTP/1.1\r\nHost: api.internal\r\n\r\n";
    let post = |fields: &str, rest: &str| {
        format!("POST /items HTTP/1.1\r\nHost: api.internal\r\n{fields}\r\n{rest}")
    };
    let chunked = format!("0\r\n\r\n{hidden}");
    for attempt in [
        post("Content-Length: 0\r\nContent-Length: 47\r\n", hidden),
        post("Content-Length: 0, 47\r\n", hidden),
        post("Content-Length: 47\r\nTransfer-Encoding: chunked\r\n", &chunked),
        post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", &chunked),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", &chunked),
        post("Transfer-Encoding: xchunked\r\n", &chunked),
        post("Transfer-Encoding: gzip, chunked\r\n", &chunked),
        post("Transfer-Encoding : chunked\r\n", &chunked),
        post(" Transfer-Encoding: chunked\r\n", &chunked),
        post("X: y\r\n Transfer-Encoding: chunked\r\n", &chunked),
        post("Transfer-Encoding:\x0bchunked\r\n", &chunked),
        post("Transfer_Encoding: chunked\r\n", &chunked),
        post("X: y\rTransfer-Encoding: chunked\r\n", &chunked),
        post("X: y\nTransfer-Encoding: chunked\r\n", &chunked),
        post("X\0: y\r\n", hidden),
        post("Host: other.internal\r\n", hidden),
        post("Content-Length: +0\r\n", hidden),
        post("Content-Length: 0x2f\r\n", hidden),
        post("Connection: Content-Length\r\nContent-Length: 0\r\n", hidden),
        format!("GET http://other.internal/ HTTP/1.1\r\nHost: api.internal\r\n\r\n{hidden}"),
        format!("GET /a HTTP/1.1\nHost: api.internal\n\n{hidden}"),
        format!("GET /a HTTP/1.1\r\n\r\n{hidden}"),
        format!("GET /a b HTTP/1.1\r\nHost: api.internal\r\n\r\n{hidden}"),
        format!("GET /a HTTP/1.2\r\nHost: api.internal\r\n\r\n{hidden}"),
    ] {
        let answer = raw(&mut agent, to, attempt.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 Not understood by nodegate: "), "{attempt:?}: {answer}");
        assert_eq!(answer.matches("Content-Length: ").count(), 1, "{attempt:?}: {answer}");
        assert!(answer.contains("Connection: close"), "{attempt:?}: {answer}");
    }
    assert!(stage.web.seen().is_empty(), "{:?}", stage.web.seen());
    assert!(stage.web.rest().is_empty());
    // Broken while its content is under way: the server never gets a whole request.
    for rest in
        ["5\r\nhello0\r\n\r\n", "5\nhello\r\n0\r\n\r\n", "0\r\nContent-Length: 5\r\n\r\n", "5;\n\r\nhello"]
    {
        let attempt = post("Transfer-Encoding: chunked\r\n", &format!("{rest}{hidden}"));
        let answer = raw(&mut agent, to, attempt.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{attempt:?}: {answer}");
    }
    assert!(stage.web.seen().is_empty(), "{:?}", stage.web.seen());
    // The control: in plain words it goes through, and one behind another is another.
    let two = format!("{}{hidden}", post("Content-Length: 2\r\n", "hi"));
    let answer = raw(&mut agent, to, two.as_bytes());
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
    let seen: Vec<(String, usize)> =
        stage.web.seen().iter().map(|seen| (seen.path().to_owned(), seen.body.len())).collect();
    assert_eq!(seen, [("/items".to_owned(), 2), ("/hidden".to_owned(), 0)]);
}

#[test]
fn what_is_allowed_goes_on_as_it_came() {
    let stage = Stage::with(plain());
    let mut agent = stage.agent();
    let request = "POST /items?a=%7e&b HTTP/1.1\r\nhost: API.internal\r\nX-b: 1\r\nx-A:  2 \r\nX-B: 3\r\n\
                   Cookie: a=1\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\nKeep-Alive: 5\r\n\
                   Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 9\r\n\r\n";
    let answer = raw(&mut agent, stage.web.address(), request.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\nX-Server: tests\r\n"), "{answer}");
    let seen = &stage.web.seen()[0];
    let head = "POST /items?a=%7e&b HTTP/1.1\r\nhost: API.internal\r\nX-b: 1\r\nx-A:  2 \r\nX-B: 3\r\nCookie: a=1\r\n\
                Trailer: X-Sum\r\nTransfer-Encoding: chunked";
    assert_eq!(seen.head, head);
    assert_eq!((&seen.body[..], seen.trailers.as_str()), (&b"abcde"[..], "X-Sum: 9\n"));
}

#[test]
fn answers_come_back_as_they_are_or_not_at_all() {
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
    let fine = "HTTP/1.1 299 Quite Fine\r\nx-B: 1\r\nX-a: 2\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n";
    let answers: Vec<(&str, Vec<u8>)> = vec![
        ("/hint", format!("{hint}{fine}{chunked}").into_bytes()),
        ("/away", format!("{fine}Alt-Svc: h3=\":443\"\r\nContent-Length: 0\r\n\r\n").into_bytes()),
        ("/none", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        ("/until-close", b"HTTP/1.0 200 OK\r\n\r\nto the end".to_vec()),
        ("/twice", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc".to_vec()),
        (
            "/both",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
        ),
        ("/folded", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ("/upgraded", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n".to_vec()),
        ("/silent", Vec::new()),
    ];
    let answer: web::Answer = Arc::new(move |seen: &Seen| {
        let found = answers.iter().find(|(path, _)| seen.path() == *path);
        found.map_or_else(|| web::ok(b"else"), |(_, answer)| answer.clone())
    });
    let stage = Stage::with(Change { answer: Some(answer), ..plain() });
    let mut agent = stage.agent();
    let mut ask = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: api.internal\r\nConnection: close\r\n\r\n");
        raw(&mut agent, stage.web.address(), request.as_bytes())
    };
    let close = "Connection: close\r\n";
    let framed = chunked.replacen("\r\n\r\n", &format!("\r\n{close}\r\n"), 1);
    assert_eq!(ask("/hint"), format!("{hint}{fine}{framed}"));
    assert_eq!(ask("/away"), format!("{fine}Content-Length: 0\r\n{close}\r\n"));
    assert_eq!(ask("/none"), format!("HTTP/1.1 204 No Content\r\n{close}\r\n"));
    assert_eq!(ask("/until-close"), format!("HTTP/1.1 200 OK\r\n{close}\r\nto the end"));
    for path in ["/twice", "/both", "/folded", "/upgraded", "/silent"] {
        let answer = ask(path);
        assert!(answer.starts_with("HTTP/1.1 502 Bad gateway: "), "{path}: {answer}");
        assert_eq!(answer.matches("Content-Length: ").count(), 1, "{path}: {answer}");
    }
}

#[test]
fn a_flow_without_permission_is_told_so_in_http() {
    let stage = Stage::new();
    let ca = stage.ca();
    let other = Web::start(&Cover::Plain);
    let curl = |token: &str, url: &str| {
        let mut command = stage.daemon.run(Some(token));
        command.args(["curl", "-sS", "-i", "--max-time", "20", "--cacert"]).arg(&ca);
        command.arg("--resolve").arg(format!("api.internal:{}:127.0.0.1", stage.web.port())).arg(url);
        programs::said(&mut command, "", PATIENCE)
    };
    let stranger = stage.issuer.token_with("stranger", &json!({ "groups": ["others"] }));
    let said = curl(&stranger, &stage.url("/fine"));
    assert!(
        said.ok().starts_with("HTTP/1.1 403 Refused by nodegate: no policy permits connect on api"),
        "{said:?}"
    );
    let expired = stage.issuer.token_with("agent-1", &json!({ "exp": 1_000_000_000 }));
    let mut command = stage.daemon.run(Some(&expired));
    assert_ne!(programs::said(command.arg("true"), "", PATIENCE).status, 0);
    let said = curl(&stage.issuer.token("agent-1"), &format!("http://127.0.0.1:{}/", other.port()));
    assert!(said.ok().contains("is not a target of this node's configuration"), "{said:?}");
    assert!(said.out.starts_with("HTTP/1.1 403 "), "{said:?}");
    let said = curl(&stage.issuer.token("agent-1"), &format!("http://127.0.0.1:{}/", stage.web.port()));
    assert!(said.ok().contains("is reached by https:// alone"), "{said:?}");
    assert!(stage.web.seen().is_empty() && other.seen().is_empty());
}

#[test]
fn credentials_stand_in_no_record() {
    let stage = Stage::new();
    let url = stage.url("/items?token=hunter2&X-Amz-Signature=hunter2&page=3");
    let words = ["-H", "Cookie: session=hunter2", "-H", "X-Secret: hunter2", "-u", "agent:hunter2", &url];
    assert_eq!(stage.curl(&words).status, 0);
    let said = stage.curl(&["-i", &stage.url("/admin/AbCdEfGh1jKlMnOpQrSt23?key=hunter2")]);
    assert!(said.ok().starts_with("HTTP/1.1 403 "), "{said:?}");
    programs::wait_for("the records", PATIENCE, || {
        (stage.records(&["--kind", "close"]).len() == 2).then_some(())
    });
    let all: Vec<Value> = stage.records(&[]);
    let text = Value::Array(all).to_string();
    assert!(text.contains("/items?token=***&X-Amz-Signature=***&page=3"), "{text}");
    for secret in ["hunter2", "the-daemons-own-token", "AbCdEfGh1jKlMnOpQrSt23"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[test]
fn a_slow_head_is_not_waited_for() {
    let mut settings = Settings::new(Vec::new());
    POLICY.clone_into(&mut settings.policy);
    let web = Web::start(&Cover::Plain);
    settings.more.push_str("limits: { startup_timeout: 1s }\n");
    settings.more_targets.push(format!(
        "{{ name: api, protocol: http, hosts: [api.internal, \"127.0.0.1\"], ports: [{}], tls: {{ client: plaintext, upstream: none }} }}",
        web.port()
    ));
    let issuer = Issuer::start();
    let daemon = Daemon::start(&settings, &issuer);
    let mut agent = daemon.agent(&issuer.token("agent-1"));
    let mut stream = agent.connect(web.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"GET /fine HTTP/1.1\r\nHost: api.inter").unwrap();
    let answer = read_all(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    // One that idles between requests is left alone.
    let mut stream = agent.connect(web.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for _ in 0..2 {
        stream.write_all(b"GET /fine HTTP/1.1\r\nHost: api.internal\r\n\r\n").unwrap();
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).unwrap();
        assert!(chunk[..count].starts_with(b"HTTP/1.1 200 OK"));
        std::thread::sleep(Duration::from_millis(1500));
    }
    // A head without end.
    let mut stream = agent.connect(web.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let _ = stream.write_all(&[b"GET / HTTP/1.1\r\nX: ".as_slice(), &vec![b'a'; 1 << 20]].concat());
    assert!(read_all(&mut stream).starts_with("HTTP/1.1 431 "));
    assert_eq!(web.seen().len(), 2);
}

#[test]
fn tls_that_is_passed_through_is_judged_by_its_name() {
    let authority = Authority::new();
    let web = Web::start(&Cover::Tls(&authority, &["api.internal"], Validity::Good));
    let issuer = Issuer::start();
    let mut settings = Settings::new(Vec::new());
    POLICY.clone_into(&mut settings.policy);
    settings.more_targets.push(format!(
        "{{ name: api, protocol: http, hosts: [api.internal, \"127.0.0.1\"], ports: [{}], tls: {{ client: passthrough }} }}",
        web.port()
    ));
    let daemon = Daemon::start(&settings, &issuer);
    let own = daemon.folder().join("web-ca.pem");
    fs::write(&own, &authority.pem).unwrap();
    let curl = |token: &str, name: &str| {
        let mut command = daemon.run(Some(token));
        command.args(["curl", "-sS", "--max-time", "20", "--cacert"]).arg(&own);
        command.arg("--resolve").arg(format!("{name}:{}:127.0.0.1", web.port()));
        command.args(["-H", "Authorization: Bearer own", &format!("https://{name}:{}/admin", web.port())]);
        programs::said(&mut command, "", PATIENCE)
    };
    let good = issuer.token("agent-1");
    assert_eq!(curl(&good, "api.internal").ok(), "GET /admin HTTP/1.1\n0 bytes\n");
    assert_eq!(web.seen()[0].field("authorization"), Some("Bearer own"));
    assert_ne!(curl(&good, "evil.example").status, 0);
    let stranger = issuer.token_with("stranger", &json!({ "groups": ["others"] }));
    assert_ne!(curl(&stranger, "api.internal").status, 0);
    assert_eq!(web.seen().len(), 1);
    let connects = |outcome: &str| {
        let found = daemon.audit_search(&["--kind", "connect", "--outcome", outcome]);
        found.into_iter().map(|record| record["event"].clone()).collect::<Vec<_>>()
    };
    let allowed = connects("allowed");
    assert_eq!(allowed[0]["reason"], "TLS with api.internal passed on without being looked into");
    let denied = connects("denied");
    assert_eq!(denied.len(), 2);
    assert!(denied.iter().any(|event| event["policies"] == json!(["builtin/http-host"])), "{denied:?}");
}

#[test]
fn where_nothing_is_enforced_https_is_the_two_ends_own() {
    let stage = Stage::with(Change {
        target: "hosts: [api.internal, \"127.0.0.1\"], mode: shadow, credential: { bearer: { file: password } }",
        ..Change::default()
    });
    let server = stage.daemon.folder().join("web-ca.pem");
    let mut command = stage.daemon.run(Some(&stage.issuer.token("agent-1")));
    command.args(["curl", "-sS", "--max-time", "20", "--cacert"]).arg(&server);
    command.arg("--resolve").arg(format!("api.internal:{}:127.0.0.1", stage.web.port()));
    command.args(["-H", "Authorization: Bearer own"]).arg(stage.url("/admin"));
    let said = programs::said(&mut command, "", PATIENCE);
    assert_eq!(said.ok(), "GET /admin HTTP/1.1\n0 bytes\n");
    assert_eq!(stage.web.seen()[0].field("authorization"), Some("Bearer own"));
}
