//! A Kubernetes API server, as much of it as lists and watches of pods need: resource versions, bookmarks, pages,
//! field selectors, `410 Gone`; over HTTPS with a bearer token. It can go away and come back.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::issuer::Authority;

/// What a client must show.
const TOKEN: &str = "the-token-of-the-tests";
/// How long a watch waits before it looks whether it shall end.
const TICK: Duration = Duration::from_millis(50);

/// The server.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    ca_pem: String,
    config: Arc<ServerConfig>,
    shared: Arc<Shared>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    stop: Arc<AtomicBool>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    lists: AtomicUsize,
    watches: AtomicUsize,
}

#[derive(Debug)]
struct State {
    version: u64,
    pods: BTreeMap<String, Value>,
    /// By path.
    secrets: BTreeMap<String, Value>,
    events: Vec<(u64, &'static str, Value)>,
    /// Versions before this one are forgotten.
    oldest: u64,
    /// Pods on a page of a list.
    page: usize,
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: 100,
            pods: BTreeMap::new(),
            secrets: BTreeMap::new(),
            events: Vec::new(),
            oldest: 0,
            page: usize::MAX,
        }
    }
}

impl ApiServer {
    /// Starts one without pods.
    pub fn start() -> Self {
        let mut server = Self::absent();
        server.come_back();
        server
    }

    /// One that has an address and does not listen there yet.
    pub fn absent() -> Self {
        let authority = Authority::new();
        let (certificate, key) = authority.server_certificate();
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("TLS versions")
                .with_no_client_auth()
                .with_single_cert(vec![certificate], key)
                .expect("a usable certificate");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port for the API server");
        let address = listener.local_addr().expect("its address");
        Self {
            address,
            ca_pem: authority.pem,
            config: Arc::new(config),
            shared: Arc::new(Shared::default()),
            running: None,
        }
    }

    /// Listens (again).
    pub fn come_back(&mut self) {
        assert!(self.running.is_none(), "it is there");
        let listener = super::programs::wait_for("the API server's port", Duration::from_secs(10), || {
            TcpListener::bind(self.address).ok()
        });
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, config, stopped) =
            (Arc::clone(&self.shared), Arc::clone(&self.config), Arc::clone(&stop));
        let server = thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let (shared, config, stopped) =
                    (Arc::clone(&shared), Arc::clone(&config), Arc::clone(&stopped));
                thread::spawn(move || drop(converse(stream, config, &shared, &stopped)));
            }
        });
        self.running = Some(Running { stop, server });
    }

    /// Is not there any more: watches break off, connections are refused.
    pub fn go_away(&mut self) {
        let Some(Running { stop, server }) = self.running.take() else { return };
        stop.store(true, Ordering::Release);
        self.shared.changed.notify_all();
        let _ = TcpStream::connect(self.address);
        let _ = server.join();
    }

    /// Writes a kubeconfig that leads here.
    pub fn write_kubeconfig(&self, folder: &Path) -> PathBuf {
        let path = folder.join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "tests",
            "clusters": [{ "name": "tests", "cluster": {
                "server": format!("https://{}", self.address),
                "certificate-authority-data": STANDARD.encode(&self.ca_pem),
            }}],
            "users": [{ "name": "tests", "user": { "token": TOKEN } }],
            "contexts": [{ "name": "tests", "context": { "cluster": "tests", "user": "tests" } }],
        });
        fs::write(&path, config.to_string()).expect("the kubeconfig");
        path
    }

    /// Adds a pod, or replaces it.
    pub fn put(&self, pod: &Pod) {
        let mut state = self.shared.state();
        state.version += 1;
        let version = state.version;
        let object = pod.object(version);
        let known = state.pods.insert(pod.uid.clone(), object.clone()).is_some();
        state.events.push((version, if known { "MODIFIED" } else { "ADDED" }, object));
        self.shared.changed.notify_all();
    }

    /// Removes a pod.
    pub fn remove(&self, pod: &Pod) {
        let mut state = self.shared.state();
        state.version += 1;
        let version = state.version;
        state.pods.remove(&pod.uid);
        state.events.push((version, "DELETED", pod.object(version)));
        self.shared.changed.notify_all();
    }

    /// Writes a secret.
    pub fn put_secret(&self, namespace: &str, name: &str, data: &[(&str, &str)]) {
        let data: BTreeMap<_, _> = data.iter().map(|(key, value)| (*key, STANDARD.encode(value))).collect();
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data,
            "metadata": { "namespace": namespace, "name": name } });
        self.shared.state().secrets.insert(secret_path(namespace, name), secret);
    }

    /// Removes a secret.
    pub fn remove_secret(&self, namespace: &str, name: &str) {
        self.shared.state().secrets.remove(&secret_path(namespace, name));
    }

    /// Tells all watches the current version without an object.
    pub fn bookmark(&self) {
        let mut state = self.shared.state();
        state.version += 1;
        let version = state.version;
        let bookmark = json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "resourceVersion": version.to_string(), "creationTimestamp": null } });
        state.events.push((version, "BOOKMARK", bookmark));
        self.shared.changed.notify_all();
    }

    /// Forgets all versions before the current one, as etcd does when it compacts.
    pub fn forget_history(&self) {
        let mut state = self.shared.state();
        state.version += 1;
        state.oldest = state.version;
        state.events.clear();
        self.shared.changed.notify_all();
    }

    /// Lists come in pages of so many pods from now on.
    pub fn page_by(&self, pods: usize) {
        self.shared.state().page = pods;
    }

    /// How many lists were asked for, pages not counted.
    pub fn lists(&self) -> usize {
        self.shared.lists.load(Ordering::Acquire)
    }

    /// How many watches were asked for.
    pub fn watches(&self) -> usize {
        self.shared.watches.load(Ordering::Acquire)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.go_away();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pod of the tests.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its id.
    pub uid: String,
    /// Its name; the namespace is `ci`, the service account `agent`.
    pub name: String,
    /// Its node.
    pub node: String,
    /// Its labels.
    pub labels: Value,
    /// Its annotations.
    pub annotations: Value,
}

impl Pod {
    /// A pod on `node` that asks for capture.
    pub fn captured(name: &str, node: &str) -> Self {
        Self { labels: json!({ "nodegate.dev/capture": "true" }), ..Self::free(name, node) }
    }

    /// A pod on `node` that asks for nothing.
    pub fn free(name: &str, node: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let uid = format!("0f3a8f2e-6d0b-4f0e-{:04x}-{number:012x}", std::process::id() & 0xffff);
        Self { uid, name: name.to_owned(), node: node.to_owned(), labels: json!({}), annotations: json!({}) }
    }

    fn object(&self, version: u64) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "namespace": "ci", "name": self.name, "uid": self.uid, "labels": self.labels,
                          "annotations": self.annotations, "resourceVersion": version.to_string(),
                          "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "nodeName": self.node, "serviceAccountName": "agent",
                      "containers": [{ "name": "agent", "image": "agent" }] },
            "status": { "phase": "Pending" },
        })
    }
}

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// One connection: requests one after the other, until a watch takes it over.
fn converse(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    shared: &Shared,
    stop: &AtomicBool,
) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_nodelay(true)?;
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut reader = BufReader::new(StreamOwned::new(connection, stream));
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || stop.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut authorised = false;
        let mut length = 0;
        let mut header = String::new();
        while reader.read_line(&mut header)? > 2 {
            let lower = header.to_ascii_lowercase();
            authorised |= header.trim_end().ends_with(&format!("Bearer {TOKEN}"));
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            header.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query = Query::parse(query);
        let stream = reader.get_mut();
        match path {
            _ if !authorised => answer(stream, 401, &status(401, "Unauthorized"))?,
            "/api/v1/pods" if query.flag("watch") => return watch(stream, &query, shared, stop),
            "/api/v1/pods" => {
                let list = list(&query, shared);
                answer(stream, 200, &list)?;
            }
            _ => {
                let secret = shared.state().secrets.get(path).cloned();
                match secret {
                    Some(secret) => answer(stream, 200, &secret)?,
                    None => answer(stream, 404, &status(404, "NotFound"))?,
                }
            }
        }
    }
}

fn secret_path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets/{name}")
}

struct Query(BTreeMap<String, String>);

impl Query {
    fn parse(text: &str) -> Self {
        let decoded = |text: &str| text.replace("%3D", "=").replace("%3d", "=").replace("%2C", ",");
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(name, value)| (name.to_owned(), decoded(value))).collect())
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.text(name), "1" | "true")
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name).parse().ok()
    }

    /// Whether an object is meant by the field selector.
    fn selects(&self, object: &Value) -> bool {
        let Some(node) = self.text("fieldSelector").strip_prefix("spec.nodeName=") else { return true };
        object["spec"]["nodeName"] == node || object["spec"].is_null()
    }
}

fn status(code: u16, reason: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": reason, "reason": reason, "code": code })
}

fn list(query: &Query, shared: &Shared) -> Value {
    let state = shared.state();
    let from = query.number("continue").and_then(|from| usize::try_from(from).ok()).unwrap_or(0);
    if from == 0 {
        shared.lists.fetch_add(1, Ordering::AcqRel);
    }
    let pods: Vec<&Value> = state.pods.values().filter(|pod| query.selects(pod)).collect();
    let page: Vec<&Value> = pods.iter().skip(from).take(state.page).copied().collect();
    let next = from + page.len();
    let mut metadata = json!({ "resourceVersion": state.version.to_string() });
    if next < pods.len() {
        metadata["continue"] = json!(next.to_string());
    }
    json!({ "apiVersion": "v1", "kind": "PodList", "metadata": metadata, "items": page })
}

fn answer(stream: &mut Tls, code: u16, body: &Value) -> io::Result<()> {
    let body = body.to_string();
    write!(
        stream,
        "HTTP/1.1 {code} Status\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()
}

fn watch(stream: &mut Tls, query: &Query, shared: &Shared, stop: &AtomicBool) -> io::Result<()> {
    shared.watches.fetch_add(1, Ordering::AcqRel);
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )?;
    stream.flush()?;
    let end = Instant::now() + Duration::from_secs(query.number("timeoutSeconds").unwrap_or(290));
    let mut seen = query.number("resourceVersion").unwrap_or(0);
    while Instant::now() < end && !stop.load(Ordering::Acquire) {
        let (text, gone) = {
            let state = shared.state();
            let state = if state.version <= seen && state.oldest <= seen {
                shared.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0
            } else {
                state
            };
            let mut text = String::new();
            let gone = state.oldest > seen;
            if gone {
                let _ = writeln!(text, "{}", json!({ "type": "ERROR", "object": status(410, "Expired") }));
            }
            for (_, kind, object) in state.events.iter().filter(|(version, ..)| *version > seen) {
                let wanted = if *kind == "BOOKMARK" {
                    query.flag("allowWatchBookmarks")
                } else {
                    query.selects(object)
                };
                if !gone && wanted {
                    let _ = writeln!(text, "{}", json!({ "type": kind, "object": object }));
                }
            }
            seen = state.version;
            (text, gone)
        };
        if !text.is_empty() {
            write!(stream, "{:x}\r\n{text}\r\n", text.len())?;
            stream.flush()?;
        }
        if gone {
            break;
        }
    }
    if !stop.load(Ordering::Acquire) {
        write!(stream, "0\r\n\r\n")?;
        stream.conn.send_close_notify();
    }
    stream.flush()
}
