//! An HTTP server of the tests' own, with or without TLS: it keeps every byte that a request consisted of, and answers with
//! whatever bytes it is told to. It reads heads leniently, so that what a strict reader in front of it lets through by
//! mistake shows.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::issuer::{Authority, Validity};

/// What `/big` answers with.
pub const BIG_BYTES: usize = 10 << 20;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Everything up to the empty line.
    pub head: String,
    /// Its content, without the framing of chunks.
    pub body: Vec<u8>,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    /// The trailers, if it was chunked.
    pub trailers: String,
}

impl Seen {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The path.
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

/// What is answered to a request.
pub type Answer = Arc<dyn Fn(&Seen) -> Vec<u8> + Send + Sync>;

/// Running until drop.
pub struct Web {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

struct Shared {
    seen: Mutex<Vec<Seen>>,
    /// Bytes that came and made no request.
    rest: Mutex<Vec<u8>>,
    connections: AtomicUsize,
    stop: AtomicBool,
    answer: Answer,
}

/// Under which certificate it is met.
pub enum Cover<'a> {
    /// None.
    Plain,
    /// One of this authority for these names.
    Tls(&'a Authority, &'a [&'a str], Validity),
}

trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

impl Web {
    /// Starts one that says what it was asked.
    pub fn start(cover: &Cover<'_>) -> Self {
        Self::with(cover, Arc::new(usual))
    }

    /// Starts one with answers of the test's own.
    pub fn with(cover: &Cover<'_>, answer: Answer) -> Self {
        let tls = match cover {
            Cover::Plain => None,
            Cover::Tls(authority, names, validity) => {
                let (certificate, key) = authority.certificate_for(names, *validity);
                let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
                let mut config = ServerConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .expect("TLS versions")
                    .with_no_client_auth()
                    .with_single_cert(vec![certificate], key)
                    .expect("a usable certificate");
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
                Some(Arc::new(config))
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port for the web server");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            rest: Mutex::default(),
            connections: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            answer,
        });
        let serving = Arc::clone(&shared);
        let server = thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                if serving.stop.load(Ordering::Acquire) {
                    return;
                }
                let (serving, tls) = (Arc::clone(&serving), tls.clone());
                let number = serving.connections.fetch_add(1, Ordering::Relaxed);
                // Whoever hangs up has had enough.
                thread::spawn(move || drop(serve(stream, tls, &serving, number)));
            }
        });
        Self { address, shared, server: Some(server) }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("the requests").clone()
    }

    /// What came and was no whole request.
    pub fn rest(&self) -> Vec<u8> {
        self.shared.rest.lock().expect("the rest").clone()
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// `HTTP/1.1 200 OK` with this content.
pub fn ok(content: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nX-Server: tests\r\nContent-Length: {}\r\n\r\n", content.len());
    [head.as_bytes(), content].concat()
}

/// Says what was asked; `/big` is large, and nothing is said to HEAD but a head.
fn usual(seen: &Seen) -> Vec<u8> {
    let line = seen.head.lines().next().unwrap_or_default();
    let mut answer = match seen.path() {
        "/big" => ok(&vec![7; BIG_BYTES]),
        _ => ok(format!("{line}\n{} bytes\n", seen.body.len()).as_bytes()),
    };
    if line.starts_with("HEAD ") {
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        answer.truncate(end);
    }
    answer
}

fn serve(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    shared: &Shared,
    number: usize,
) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_nodelay(true)?;
    let mut stream: Box<dyn Duplex> = match tls {
        None => Box::new(stream),
        Some(config) => {
            let connection = ServerConnection::new(config).map_err(io::Error::other)?;
            Box::new(StreamOwned::new(connection, stream))
        }
    };
    let mut input = Vec::new();
    loop {
        let read = request(&mut *stream, &mut input, number);
        let seen = match read {
            Ok(Some(seen)) => seen,
            Ok(None) => return Ok(()),
            Err(error) => {
                shared.rest.lock().expect("the rest").extend_from_slice(&input);
                return Err(error);
            }
        };
        let closes = seen.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        shared.seen.lock().expect("the requests").push(seen.clone());
        let answer = (shared.answer)(&seen);
        stream.write_all(&answer)?;
        stream.flush()?;
        if closes || answer.is_empty() {
            return Ok(());
        }
    }
}

/// One request; `None` at the end of the stream.
fn request(stream: &mut dyn Duplex, input: &mut Vec<u8>, number: usize) -> io::Result<Option<Seen>> {
    let head = loop {
        if let Some(end) = find(input, b"\r\n\r\n") {
            break take(input, end + 4);
        }
        if fill(stream, input)? == 0 {
            return if input.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    };
    let head = String::from_utf8_lossy(&head).trim_end().to_owned();
    let mut seen = Seen { head, body: Vec::new(), connection: number, trailers: String::new() };
    if seen.field("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        stream.flush()?;
    }
    if seen.field("transfer-encoding").is_some() {
        chunks(stream, input, &mut seen)?;
    } else if let Some(length) = seen.field("content-length").and_then(|length| length.parse::<usize>().ok())
    {
        at_least(stream, input, length)?;
        seen.body = take(input, length);
    }
    Ok(Some(seen))
}

fn chunks(stream: &mut dyn Duplex, input: &mut Vec<u8>, seen: &mut Seen) -> io::Result<()> {
    loop {
        let line = line(stream, input)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
        if size == 0 {
            loop {
                let trailer = self::line(stream, input)?;
                if trailer.is_empty() {
                    return Ok(());
                }
                seen.trailers.push_str(&trailer);
                seen.trailers.push('\n');
            }
        }
        at_least(stream, input, size + 2)?;
        seen.body.extend(take(input, size));
        take(input, 2);
    }
}

fn line(stream: &mut dyn Duplex, input: &mut Vec<u8>) -> io::Result<String> {
    loop {
        if let Some(end) = find(input, b"\r\n") {
            let line = take(input, end + 2);
            return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        if fill(stream, input)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn at_least(stream: &mut dyn Duplex, input: &mut Vec<u8>, count: usize) -> io::Result<()> {
    while input.len() < count {
        if fill(stream, input)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

fn fill(stream: &mut dyn Duplex, input: &mut Vec<u8>) -> io::Result<usize> {
    let mut chunk = vec![0; 64 << 10];
    let count = stream.read(&mut chunk)?;
    input.extend_from_slice(&chunk[..count]);
    Ok(count)
}

fn take(input: &mut Vec<u8>, count: usize) -> Vec<u8> {
    input.drain(..count).collect()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
