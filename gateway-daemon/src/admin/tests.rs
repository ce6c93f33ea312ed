//! The API over a real Unix socket; behind it a control that only notes what it is asked to do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    collections::BTreeMap,
    fs::Permissions,
    io,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::oneshot,
    task::JoinHandle,
};

use super::{AdminSocket, Control, ControlError, SocketError, Status, serve};
use crate::domain::{flow::Workload, ids::CgroupId, principal::Principal, sensitive::Sensitive};

const OWN: CgroupId = CgroupId(41);
const RUN: CgroupId = CgroupId(42);

#[derive(Default)]
struct Fake {
    caller: Mutex<Option<Workload>>,
    captured: Mutex<Vec<Workload>>,
    principal: Mutex<Option<Arc<Principal>>>,
    done: Mutex<Vec<String>>,
}

impl Fake {
    fn note(&self, what: String) {
        self.done.lock().unwrap().push(what);
    }
}

fn workload(cgroup: CgroupId) -> Workload {
    Workload { cgroup, path: format!("/nodegate/{cgroup}"), label: None }
}

impl Control for Fake {
    fn workload_of_pid(&self, pid: u32) -> io::Result<Option<Workload>> {
        assert_ne!(pid, 0);
        Ok(self.caller.lock().unwrap().clone())
    }

    async fn start_run(&self, pid: u32, label: Option<String>) -> Result<Workload, ControlError> {
        self.note(format!("start {pid} {label:?}"));
        self.captured.lock().unwrap().push(workload(RUN));
        Ok(workload(RUN))
    }

    fn authority(&self) -> String {
        "the authority".to_owned()
    }

    async fn end_run(&self, cgroup: CgroupId) -> Result<(), ControlError> {
        self.note(format!("end {cgroup}"));
        Ok(())
    }

    async fn capture(&self, path: PathBuf, _: Option<String>) -> Result<Workload, ControlError> {
        self.note(format!("capture {}", path.display()));
        Ok(workload(OWN))
    }

    async fn release(&self, cgroup: CgroupId) -> Result<(), ControlError> {
        Err(ControlError::NotFound(format!("cgroup {cgroup} is not captured")))
    }

    fn captures(&self) -> Vec<Workload> {
        self.captured.lock().unwrap().clone()
    }

    async fn enrol(
        &self,
        cgroup: CgroupId,
        token: Sensitive<String>,
    ) -> Result<Arc<Principal>, ControlError> {
        if token.expose() != "good" {
            return Err(ControlError::Refused("the token has expired".to_owned()));
        }
        let principal = Arc::new(Principal {
            issuer: "ci".to_owned(),
            issuer_url: "https://ci".to_owned(),
            subject: format!("cgroup-{cgroup}"),
            groups: vec!["agents".to_owned()],
            roles: Vec::new(),
            claims: BTreeMap::new(),
            expires_at: SystemTime::UNIX_EPOCH + Duration::from_secs(7),
        });
        *self.principal.lock().unwrap() = Some(Arc::clone(&principal));
        Ok(principal)
    }

    fn principal(&self, _: CgroupId) -> Option<Arc<Principal>> {
        self.principal.lock().unwrap().clone()
    }

    fn status(&self) -> Status {
        Status {
            version: "1".to_owned(),
            pid: 1,
            started_at: 0,
            mode: "enforce".to_owned(),
            policy_epoch: 1,
            workloads: Vec::new(),
            targets: Vec::new(),
            counters: BTreeMap::new(),
        }
    }
}

/// A server on a socket of its own.
struct Server {
    control: Arc<Fake>,
    socket: PathBuf,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Temporary directories are their owner's only.
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let path = dir.path().join("run/nodegate.sock");
        let control = Arc::new(Fake::default());
        let socket = AdminSocket::open(&path).unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(socket, Arc::clone(&control), async { drop(stopped.await) }));
        Self { control, socket: path, stop, task, _dir: dir }
    }

    fn as_captured(&self) {
        *self.control.caller.lock().unwrap() = Some(workload(OWN));
        self.control.captured.lock().unwrap().push(workload(OWN));
    }

    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    /// Status and body.
    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        let answer = self.raw(format!("{head}{body}").as_bytes()).await;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }

    fn done(&self) -> Vec<String> {
        self.control.done.lock().unwrap().clone()
    }
}

/// A child of this process.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("60").spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn assert_root() {
    assert!(nix::unistd::geteuid().is_root(), "these tests call the API as root and must be run as root");
}

#[tokio::test]
async fn a_captured_caller_may_identify_itself_and_nothing_else() {
    let server = Server::start();
    server.as_captured();
    for (method, path) in [
        ("GET", "/v1/status"),
        ("POST", "/v1/runs"),
        ("DELETE", "/v1/runs/42"),
        ("GET", "/v1/captures"),
        ("POST", "/v1/captures"),
        ("DELETE", "/v1/captures/41"),
        ("GET", "/v1/nothing"),
        ("GET", "/v1/identity/"),
        ("GET", "//v1/identity"),
        ("GET", "/v1/%69dentity"),
    ] {
        let (status, body) = server.ask(method, path, r#"{"pid":1,"path":"/x"}"#).await;
        assert_eq!(status, 403, "{method} {path}");
        assert!(body.contains("nothing else"), "{body}");
    }
    assert_eq!(server.ask("GET", "/v1/identity", "").await.0, 404);
    let (status, body) = server.ask("POST", "/v1/identity", r#"{"token":" good\n"}"#).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(r#""id":"https://ci|cgroup-41""#) && body.contains(r#""expires_at":7"#), "{body}");
    assert_eq!(server.ask("GET", "/v1/identity", "").await.0, 200);
    assert_eq!(server.ask("POST", "/v1/identity", r#"{"token":"good","cgroup":42}"#).await.0, 403);
    let (status, body) = server.ask("POST", "/v1/identity", r#"{"token":"stolen-bytes"}"#).await;
    assert_eq!(status, 403);
    assert!(body.contains("the token has expired") && !body.contains("stolen"), "{body}");
    assert_eq!(server.done(), Vec::<String>::new());
}

#[tokio::test]
async fn root_outside_may_enrol_a_captured_cgroup_but_not_itself() {
    assert_root();
    let server = Server::start();
    assert_eq!(server.ask("POST", "/v1/identity", r#"{"token":"good"}"#).await.0, 403);
    assert_eq!(server.ask("POST", "/v1/identity", r#"{"token":"good","cgroup":41}"#).await.0, 404);
    server.control.captured.lock().unwrap().push(workload(OWN));
    assert_eq!(server.ask("POST", "/v1/identity", r#"{"token":"good","cgroup":41}"#).await.0, 200);
}

#[tokio::test]
async fn only_a_child_of_the_caller_can_be_made_a_run() {
    assert_root();
    let server = Server::start();
    for pid in [1, std::process::id(), 0, u32::MAX] {
        let (status, body) = server.ask("POST", "/v1/runs", &format!(r#"{{"pid":{pid}}}"#)).await;
        assert_eq!(status, 403, "{pid} {body}");
    }
    assert_eq!(server.done(), Vec::<String>::new());
    let child = Sleeper::start();
    let pid = child.0.id();
    let (status, body) = server.ask("POST", "/v1/runs", &format!(r#"{{"pid":{pid},"label":"a"}}"#)).await;
    assert_eq!((status, body.contains(r#""cgroup":42"#)), (201, true), "{body}");
    assert_eq!(server.ask("DELETE", "/v1/runs/42", "").await.0, 204);
    assert_eq!(server.done(), [format!("start {pid} Some(\"a\")"), "end 42".to_owned()]);
}

/// Asks as another user: first argument the socket, then method, path and body; `CHILD` in the body is a child's pid.
const AS_USER: &str = r#"
use IO::Socket::UNIX; use strict;
my ($path, $method, $resource, $body) = @ARGV;
my $child = fork; if (!$child) { sleep 60; exit }
$body =~ s/CHILD/$child/;
my $socket = IO::Socket::UNIX->new(Peer => $path) or die $!;
print $socket "$method $resource HTTP/1.1\r\nhost: x\r\ncontent-length: ", length $body, "\r\n\r\n", $body;
$socket->flush; print <$socket>; kill 9, $child;
"#;

async fn ask_as_user(server: &Server, uid: u32, method: &str, path: &str, body: &str) -> u16 {
    let mut command = Command::new("perl");
    command.args(["-e", AS_USER]).arg(&server.socket).args([method, path, body]).uid(uid).gid(uid);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer")
}

#[tokio::test]
async fn a_user_may_run_and_end_what_is_its_own() {
    assert_root();
    let server = Server::start();
    let roots = Sleeper::start();
    assert_eq!(ask_as_user(&server, 65534, "GET", "/v1/captures", "").await, 403);
    assert_eq!(ask_as_user(&server, 65534, "POST", "/v1/captures", r#"{"path":"x"}"#).await, 403);
    assert_eq!(ask_as_user(&server, 65534, "GET", "/v1/status", "").await, 200);
    let body = format!(r#"{{"pid":{}}}"#, roots.0.id());
    assert_eq!(ask_as_user(&server, 65534, "POST", "/v1/runs", &body).await, 403);
    assert_eq!(
        ask_as_user(&server, 65534, "POST", "/v1/identity", r#"{"token":"good","cgroup":42}"#).await,
        403
    );
    assert_eq!(ask_as_user(&server, 65534, "DELETE", "/v1/runs/42", "").await, 404);
    assert_eq!(server.done(), Vec::<String>::new());
    assert_eq!(ask_as_user(&server, 65534, "POST", "/v1/runs", r#"{"pid":CHILD}"#).await, 201);
    assert_eq!(ask_as_user(&server, 65533, "DELETE", "/v1/runs/42", "").await, 404, "another user's");
    assert_eq!(ask_as_user(&server, 65534, "DELETE", "/v1/runs/42", "").await, 204);
    assert_eq!(server.done().len(), 2);
}

#[tokio::test]
async fn a_run_whose_token_is_refused_is_ended() {
    assert_root();
    let server = Server::start();
    let child = Sleeper::start();
    let body = format!(r#"{{"pid":{},"token":"bad"}}"#, child.0.id());
    let (status, body) = server.ask("POST", "/v1/runs", &body).await;
    assert_eq!(status, 403);
    assert!(body.contains("the token has expired"), "{body}");
    assert_eq!(server.done().last().map(String::as_str), Some("end 42"));
}

#[tokio::test]
async fn a_cgroup_is_captured_by_path_or_by_process() {
    assert_root();
    let server = Server::start();
    assert_eq!(server.ask("POST", "/v1/captures", r#"{"path":"/sys/fs/cgroup/agents"}"#).await.0, 201);
    for body in
        [r#"{"path":"/"}"#, r#"{"path":"a/../.."}"#, r#"{"path":""}"#, "{}", r#"{"path":"x","pid":1}"#]
    {
        assert_eq!(server.ask("POST", "/v1/captures", body).await.0, 400, "{body}");
    }
    assert_eq!(server.done(), ["capture /sys/fs/cgroup/agents"]);
    assert_eq!(server.ask("DELETE", "/v1/captures/7", "").await.0, 404);
}

#[tokio::test]
async fn what_is_malformed_is_refused_and_never_repeated() {
    let server = Server::start();
    server.as_captured();
    for body in ["", "{", r#"{"token":5}"#, r#"{"token":"good","extra":"hunter2"}"#, r#"{"hunter2":1}"#] {
        let (status, answer) = server.ask("POST", "/v1/identity", body).await;
        assert_eq!(status, 400, "{body}");
        assert!(!answer.contains("hunter2"), "{answer}");
    }
    let (status, _) =
        server.ask("POST", "/v1/identity", &format!(r#"{{"token":"{}"}}"#, "x".repeat(70_000))).await;
    assert_eq!(status, 413);
    let answer = server.raw(b"PUT /v1/identity HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("allow: GET, POST"), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    for garbage in [&b"\0\0\0\x08\x04\xd2\x16\x2f"[..], b"GET\r\n\r\n", &vec![b'x'; 100_000]] {
        assert!(!server.raw(garbage).await.starts_with("HTTP/1.1 2"));
    }
}

#[tokio::test]
async fn one_holder_cannot_take_every_connection() {
    let server = Server::start();
    server.as_captured();
    let mut idle = Vec::new();
    for _ in 0..64 {
        idle.push(UnixStream::connect(&server.socket).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (status, detail) = server.ask("GET", "/v1/identity", "").await;
    assert_eq!(status, 503, "over its share");
    assert!(detail.contains("64 requests under way") && detail.contains("try again"), "{detail}");
    // Those who are told so have a share too, and not for long.
    for _ in 0..33 {
        idle.push(UnixStream::connect(&server.socket).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.ask("GET", "/v1/identity", "").await.0, 0, "far over its share");
    *server.control.caller.lock().unwrap() = None;
    assert_eq!(server.ask("GET", "/v1/status", "").await.0, 200, "others are not concerned");
    drop(idle);
}

#[tokio::test]
async fn a_stop_removes_the_socket_and_a_second_daemon_does_not_start() {
    let server = Server::start();
    assert!(matches!(AdminSocket::open(&server.socket), Err(SocketError::InUse(_))));
    assert_eq!(server.ask("GET", "/v1/status", "").await.0, 200, "the first goes on");
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
    assert!(!server.socket.exists());
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_another_file_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let stale = dir.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    // A child that another test forks just now holds the listener until it has called exec.
    while std::os::unix::net::UnixStream::connect(&stale).is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let socket = AdminSocket::open(&stale).unwrap();
    assert_eq!(mode(socket.path()), 0o666);
    let foreign = dir.path().join("foreign.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&foreign).unwrap();
    assert!(matches!(AdminSocket::open(&foreign), Err(SocketError::InUse(_))));
    let file = dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(AdminSocket::open(&file), Err(SocketError::NotASocket(_))));
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
