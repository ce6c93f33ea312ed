//! Programs as they are, through nodegate: each reads, sends ten megabytes, and understands a refusal. That they trust the
//! node's authority is what `nodegate run` sees to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use nodegate_tests::{
    daemon::{Daemon, Settings},
    issuer::{Authority, Issuer, Validity},
    programs::{self, Said},
    web::{self, BIG_BYTES, Cover, Seen, Web},
};

const PATIENCE: Duration = Duration::from_mins(2);

const POLICY: &str = r#"
@id("agents-use-the-api")
permit (principal in Group::"agents", action in [Action::"connect", Action::"http:read"], resource in Target::"api");
@id("agents-write-items")
permit (principal in Group::"agents", action in Action::"http:write", resource in HttpPath::"127.0.0.1/items");
@id("no-admin")
forbid (principal, action, resource in HttpPath::"127.0.0.1/admin");
"#;

/// A server with files below `/files`, reached by its address under TLS.
struct Stage {
    daemon: Daemon,
    issuer: Issuer,
    web: Web,
}

impl Stage {
    fn new(files: PathBuf) -> Self {
        let authority = Authority::new();
        let answer: web::Answer = Arc::new(move |seen: &Seen| {
            let path = seen.path().split('?').next().unwrap_or_default();
            match path.strip_prefix("/files/") {
                None => web::ok(
                    format!("{} {} bytes\n", seen.head.lines().next().unwrap(), seen.body.len()).as_bytes(),
                ),
                Some(file) => match fs::read(files.join(file)) {
                    Ok(content) => web::ok(&content),
                    Err(_) => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
                },
            }
        });
        let web = Web::with(&Cover::Tls(&authority, &["127.0.0.1"], Validity::Good), answer);
        let issuer = Issuer::start();
        let mut settings = Settings::new(Vec::new());
        POLICY.clone_into(&mut settings.policy);
        settings.more_targets.push(format!(
            "{{ name: api, protocol: http, hosts: [\"127.0.0.1\"], ports: [{}], \
             tls: {{ client: terminate, upstream: verify-full, ca: web-ca.pem }}, \
             credential: {{ bearer: {{ file: password }} }} }}",
            web.port()
        ));
        let mut daemon = Daemon::prepare(&settings, &issuer);
        fs::write(daemon.folder().join("web-ca.pem"), &authority.pem).unwrap();
        daemon.set_password("the-daemons-own-token");
        daemon.restart();
        Self { daemon, issuer, web }
    }

    fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.web.port())
    }

    fn run(&self, words: &[&str]) -> Said {
        let mut command = self.daemon.run(Some(&self.issuer.token("agent-1")));
        command.args(words).env("HOME", self.daemon.folder()).current_dir(self.daemon.folder());
        programs::said(&mut command, "", PATIENCE)
    }

    /// Runs a client three times and compares what it says: to a GET, to a POST of ten megabytes in `upload`, and to a
    /// refusal, which must name the rule.
    fn try_all(&self, name: &str, words: impl Fn(&str, &str) -> Vec<String>) {
        let upload = self.daemon.folder().join("upload");
        if !upload.exists() {
            fs::write(&upload, vec![b'x'; BIG_BYTES]).unwrap();
        }
        let run = |method: &str, path: &str| {
            let words = words(method, &self.url(path));
            self.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let said = run("GET", "/items/1");
        assert!(said.ok().contains("GET /items/1 HTTP/1.1 0 bytes"), "{name}: {said:?}");
        let said = run("POST", "/items/1");
        assert!(said.ok().contains(&format!("POST /items/1 HTTP/1.1 {BIG_BYTES} bytes")), "{name}: {said:?}");
        let said = run("GET", "/admin/users");
        let all = format!("{}{}", said.out, said.err);
        assert!(all.contains("403") && all.contains("no-admin"), "{name}: {said:?}");
        let seen = self.web.seen();
        assert!(seen.iter().all(|seen| !seen.path().starts_with("/admin")), "{name}");
        let own = |seen: &Seen| seen.field("authorization") == Some("Bearer the-daemons-own-token");
        assert!(seen.iter().all(own), "{name}");
    }
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn programs_of_every_day_read_write_and_understand() {
    let stage = Stage::new(PathBuf::from("/nonexistent"));
    stage.try_all("curl", |method, url| match method {
        "GET" => texts(&["curl", "-sSi", url]),
        _ => texts(&["curl", "-sS", "--data-binary", "@upload", url]),
    });
    stage.try_all("wget", |method, url| match method {
        "GET" => texts(&["wget", "-nv", "-O", "-", url]),
        _ => texts(&["wget", "-nv", "-O", "-", "--post-file=upload", url]),
    });
    let python = "import sys, urllib.request, urllib.error
method, url = sys.argv[1:]
data = open('upload', 'rb').read() if method == 'POST' else None
try:
    print(urllib.request.urlopen(urllib.request.Request(url, data=data)).read().decode())
except urllib.error.HTTPError as error:
    print(error)";
    stage.try_all("urllib", |method, url| texts(&["/usr/bin/python3", "-c", python, method, url]));
    let requests = "import sys, requests
method, url = sys.argv[1:]
with requests.Session() as session:
    data = open('upload', 'rb') if method == 'POST' else None
    answer = session.request(method, url, data=data)
    try:
        answer.raise_for_status()
        print(answer.text)
    except requests.HTTPError as error:
        print(error)";
    stage.try_all("requests", |method, url| texts(&["/usr/bin/python3", "-c", requests, method, url]));
    let node = "const [method, url] = process.argv.slice(1);
const body = method === 'POST' ? require('fs').readFileSync('upload') : undefined;
fetch(url, { method, body }).then(async answer => console.log(answer.status, await answer.text()));";
    stage.try_all("node", |method, url| texts(&["node", "-e", node, method, url]));
}

#[test]
fn a_repository_is_cloned() {
    let folder = tempfile::tempdir().unwrap();
    let bare = folder.path().join("shop.git");
    let git = |directory: &Path, words: &[&str]| {
        let mut command = Command::new("git");
        command
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
            .args(words)
            .current_dir(directory);
        programs::succeed(&mut command)
    };
    let work = folder.path().join("work");
    git(folder.path(), &["init", "-q", "-b", "main", "work"]);
    fs::write(work.join("README"), "shop\n").unwrap();
    git(&work, &["add", "."]);
    git(&work, &["commit", "-q", "-m", "first"]);
    git(folder.path(), &["clone", "-q", "--bare", "work", "shop.git"]);
    git(&bare, &["update-server-info"]);
    let stage = Stage::new(folder.path().to_owned());
    let said = stage.run(&["git", "clone", "-q", &stage.url("/files/shop.git"), "cloned"]);
    assert_eq!(said.status, 0, "{said:?}");
    assert_eq!(fs::read_to_string(stage.daemon.folder().join("cloned/README")).unwrap(), "shop\n");
    // git shows the reason of a refusal as the remote's words.
    let said = stage.run(&["git", "clone", "-q", &stage.url("/admin/shop.git"), "refused"]);
    assert_eq!(said.status, 128, "{said:?}");
    assert!(
        said.err.contains("remote: Refused by nodegate: policy \"no-admin\" forbids http:GET"),
        "{said:?}"
    );
}
