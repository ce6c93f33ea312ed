//! Somebody between nodegate and a PostgreSQL server who can read everything: a certificate of the right authority is
//! all that it takes. Also what stands in for a server that speaks TLS at once, which Debian's PostgreSQL does not.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use super::{issuer::Authority, wire};

/// How long one direction is listened to before the other is.
const TICK: Duration = Duration::from_millis(5);

/// How it meets those who connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// In plain text.
    Plain,
    /// Waits for SSLRequest.
    Asked,
    /// TLS at once, with this application protocol, if any.
    Direct(Option<&'static [u8]>),
}

/// What it does with what the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Passes it on.
    Honest,
    /// Takes the mechanism with channel binding off the list of mechanisms.
    Stripped,
    /// Where this text is in an answer, sends these bytes in place of it.
    Replaced(&'static str, &'static [u8]),
    /// Where this text is in an answer, sends half of it and nothing more.
    Stalled(&'static str),
}

/// How it connects to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// By TLS.
    Tls,
    /// In plain text.
    Plain,
}

/// Running until drop.
#[derive(Debug)]
pub struct Interposer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

impl Interposer {
    /// Starts one before `server`, with a certificate of its authority.
    pub fn start(server: SocketAddr, authority: &Authority, front: Front, back: Back, offer: Offer) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (certificate, key) = authority.server_certificate();
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a usable certificate");
        if let Front::Direct(Some(protocol)) = front {
            config.alpn_protocols = vec![protocol.to_vec()];
        }
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("PEM")).expect("a root");
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (config, client) = (Arc::new(config), Arc::new(client));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port for the interposer");
        let address = listener.local_addr().expect("its address");
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let accepting = thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                if stopping.load(Ordering::Acquire) {
                    return;
                }
                let (config, client) = (Arc::clone(&config), Arc::clone(&client));
                let stopping = Arc::clone(&stopping);
                thread::spawn(move || {
                    // Whoever hangs up has had enough.
                    let _ = accept(stream, front, config)
                        .and_then(|near| Ok((near, connect(server, back, client)?)))
                        .and_then(|(near, far)| relay(near, far, offer, &stopping));
                });
            }
        });
        Self { address, stop, server: Some(accepting) }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Interposer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

fn accept(mut stream: TcpStream, front: Front, config: Arc<ServerConfig>) -> io::Result<Box<dyn Duplex>> {
    if front == Front::Plain {
        stream.set_read_timeout(Some(TICK))?;
        return Ok(Box::new(stream));
    }
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    if front == Front::Asked {
        stream.read_exact(&mut [0; 8])?;
        stream.write_all(b"S")?;
    }
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    stream.flush()?;
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    stream.sock.set_read_timeout(Some(TICK))?;
    Ok(Box::new(stream))
}

fn connect(server: SocketAddr, back: Back, config: Arc<ClientConfig>) -> io::Result<Box<dyn Duplex>> {
    let mut stream = TcpStream::connect(server)?;
    if back == Back::Plain {
        stream.set_read_timeout(Some(TICK))?;
        return Ok(Box::new(stream));
    }
    stream.write_all(&wire::ssl_request())?;
    stream.read_exact(&mut [0])?;
    let name = ServerName::from(server.ip());
    let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    stream.sock.set_read_timeout(Some(TICK))?;
    Ok(Box::new(stream))
}

fn relay(
    mut near: Box<dyn Duplex>,
    mut far: Box<dyn Duplex>,
    offer: Offer,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut chunk = vec![0; 64 * 1024];
    while !stop.load(Ordering::Acquire) {
        if let Some(count) = some(near.read(&mut chunk))? {
            far.write_all(&chunk[..count])?;
            far.flush()?;
        }
        if let Some(count) = some(far.read(&mut chunk))? {
            let said = &chunk[..count];
            let has = |text: &str| said.windows(text.len()).any(|window| window == text.as_bytes());
            match offer {
                Offer::Stripped => near.write_all(&stripped(said))?,
                Offer::Replaced(text, bytes) if has(text) => near.write_all(bytes)?,
                Offer::Stalled(text) if has(text) => {
                    near.write_all(&said[..count / 2])?;
                    near.flush()?;
                    while !stop.load(Ordering::Acquire) && some(near.read(&mut [0; 1024])).is_ok() {}
                    return Ok(());
                }
                Offer::Honest | Offer::Replaced(..) | Offer::Stalled(_) => near.write_all(said)?,
            }
            near.flush()?;
        }
    }
    Ok(())
}

/// What was read; `None` if nothing came in time, an error at the end.
fn some(read: io::Result<usize>) -> io::Result<Option<usize>> {
    match read {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error),
    }
}

/// AuthenticationSASL without the mechanism that binds.
fn stripped(bytes: &[u8]) -> Vec<u8> {
    const WITH: &[u8] = b"SCRAM-SHA-256-PLUS\0";
    match (bytes, bytes.windows(WITH.len()).position(|window| window == WITH)) {
        ([b'R', ..], Some(at)) => {
            let body = [&bytes[5..at], &bytes[at + WITH.len()..]].concat();
            wire::message(b'R', &body)
        }
        _ => bytes.to_vec(),
    }
}
