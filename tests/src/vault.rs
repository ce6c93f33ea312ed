//! As much of Vault's HTTP API as the key/value engine (version 2) and the Kubernetes login take, over HTTPS. Vault
//! itself is not in Debian.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::issuer::Authority;

/// The role that may log in by Kubernetes, and the service account's token that it takes.
pub const ROLE: &str = "nodegate-node";
/// See [`ROLE`].
pub const SERVICE_ACCOUNT_TOKEN: &str = "the-service-account-of-the-daemon";

/// Running until drop.
#[derive(Debug)]
pub struct Vault {
    address: SocketAddr,
    /// The certificate of its authority.
    pub ca_pem: String,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// By path below `/v1/`, `data` included.
    secrets: BTreeMap<String, Value>,
    tokens: Vec<String>,
    logins: usize,
}

impl Vault {
    /// Starts one that takes this token.
    pub fn start(token: &str) -> Self {
        let authority = Authority::new();
        let (certificate, key) = authority.server_certificate();
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("TLS versions")
                .with_no_client_auth()
                .with_single_cert(vec![certificate], key)
                .expect("a usable certificate");
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port for Vault");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(Mutex::new(State { tokens: vec![token.to_owned()], ..State::default() }));
        let stop = Arc::new(AtomicBool::new(false));
        let (serving, stopping) = (Arc::clone(&state), Arc::clone(&stop));
        let server = thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                if stopping.load(Ordering::Acquire) {
                    return;
                }
                let (serving, config) = (Arc::clone(&serving), Arc::clone(&config));
                thread::spawn(move || drop(answer(stream, config, &serving)));
            }
        });
        Self { address, ca_pem: authority.pem, state, stop, server: Some(server) }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Writes a version of the secret `secret/<path>`.
    pub fn put(&self, path: &str, data: Value) {
        state(&self.state).secrets.insert(format!("secret/data/{path}"), data);
    }

    /// Takes no token any more that it has given out or was started with.
    pub fn revoke_tokens(&self) {
        state(&self.state).tokens.clear();
    }

    /// How often somebody logged in by Kubernetes.
    pub fn logins(&self) -> usize {
        state(&self.state).logins
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

fn state(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(stream: TcpStream, config: Arc<ServerConfig>, shared: &Mutex<State>) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut reader = BufReader::new(StreamOwned::new(connection, stream));
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let (mut token, mut length) = (String::new(), 0);
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        if let Some((name, value)) = header.split_once(':') {
            match name.to_ascii_lowercase().as_str() {
                "x-vault-token" => value.trim().clone_into(&mut token),
                "content-length" => length = value.trim().parse().map_err(io::Error::other)?,
                _ => {}
            }
        }
        header.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, answer) = respond(method, path.trim_start_matches("/v1/"), &token, &body, shared);
    let text = answer.to_string();
    let stream = reader.get_mut();
    write!(
        stream,
        "HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn respond(method: &str, path: &str, token: &str, body: &[u8], shared: &Mutex<State>) -> (u16, Value) {
    let mut state = state(shared);
    if (method, path) == ("POST", "auth/kubernetes/login") {
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        if asked != json!({ "role": ROLE, "jwt": SERVICE_ACCOUNT_TOKEN }) {
            return (403, json!({ "errors": ["permission denied"] }));
        }
        state.logins += 1;
        let token = format!("hvs.session-{}", state.logins);
        state.tokens.push(token.clone());
        return (
            200,
            json!({ "auth": { "client_token": token, "lease_duration": 3600, "renewable": true } }),
        );
    }
    if !state.tokens.iter().any(|known| known == token) {
        return (403, json!({ "errors": ["permission denied"] }));
    }
    match state.secrets.get(path) {
        Some(data) if method == "GET" => {
            (200, json!({ "data": { "data": data, "metadata": { "version": 1, "destroyed": false } } }))
        }
        _ => (404, json!({ "errors": [] })),
    }
}
