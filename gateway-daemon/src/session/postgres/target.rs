//! What a session needs to know of its target, and how it logs in there with the daemon's own credential.

use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    credential::{CredentialError, Provider},
    domain::{action::TargetFacts, credential::PasswordSource, decision::Notices, sensitive::Sensitive},
    intercept::Intercept,
    protocol::{
        postgres::{
            ALPN, Frame, auth,
            backend::{self, Fields, Message, TransactionStatus},
            frontend, split_frame,
        },
        wire::WireError,
    },
    session::{
        client_tls::ClientTls,
        dial::{Dial, DialError, UpstreamTls},
        route::Route,
        transport::{Side, Transport},
    },
    tls::end_point,
};

/// No message of a login is larger.
const LOGIN_MESSAGE_BYTES: usize = 64 * 1024;

/// How TLS begins with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Negotiation {
    /// By SSLRequest.
    Request,
    /// At once, with ALPN.
    Direct,
}

/// Whether a login must be bound to its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Where the server offers it.
    Prefer,
    /// Always.
    Require,
}

/// One PostgreSQL target.
#[derive(Debug)]
pub struct PostgresTarget {
    /// Name and tags, as policies see them.
    pub facts: TargetFacts,
    /// How connections to it are made.
    pub dial: Dial,
    /// How TLS begins on them.
    pub negotiation: Negotiation,
    /// Whether a login must be bound to it.
    pub binding: ChannelBinding,
    /// The only database that sessions may open, when the configuration names one.
    pub database: Option<String>,
    /// Towards clients.
    pub client_tls: ClientTls,
    /// The daemon's own user there.
    pub username: String,
    /// Its password.
    pub password: PasswordSource,
    /// Whether agents are told which columns are concealed.
    pub notices: Notices,
    /// What the last SCRAM login derived: most of a login's cost.
    pub kept_keys: KeptKeys,
}

/// SCRAM keys and the password that they were derived from, so that a rotated password is not answered with old keys.
#[derive(Debug, Default)]
pub struct KeptKeys(Mutex<Option<(Sensitive<String>, auth::ScramKeys)>>);

impl KeptKeys {
    fn of(&self, password: &Sensitive<String>) -> Option<auth::ScramKeys> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|(derived_from, _)| derived_from == password).map(|(_, keys)| keys.clone())
    }

    fn keep(&self, password: Sensitive<String>, keys: &auth::ScramKeys) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((password, keys.clone()));
    }
}

/// Why no session with the target could be opened. `Display` is for the operator: the agent is told less.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// There is no connection, or none that can be believed.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The server does not speak TLS, and the configuration asks for it.
    #[error("{0} refuses TLS, and the target asks for verify-full")]
    TlsRefused(SocketAddr),
    /// Bytes came unencrypted behind the answer to SSLRequest.
    #[error("{0} sent bytes ahead of the TLS handshake")]
    TlsInjection(SocketAddr),
    /// Whatever speaks TLS there does not say that it is PostgreSQL.
    #[error(
        "{0} speaks TLS but not ALPN `postgresql`; PostgreSQL does from 17 on, earlier ones take `negotiation: request`"
    )]
    NoAlpn(SocketAddr),
    /// The configuration asks for a binding that the certificate does not allow.
    #[error(
        "`channel_binding: require`, but the signature of the server's certificate (Ed25519 or RSASSA-PSS) defines no \
         channel binding"
    )]
    Unbindable,
    /// No password.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The exchange of the login failed on our side.
    #[error("login: {0}")]
    Auth(#[from] auth::AuthError),
    /// The server refused.
    #[error("the server refused the login: {sqlstate} {message}")]
    Refused {
        /// The five characters of SQLSTATE.
        sqlstate: String,
        /// The server's words.
        message: String,
    },
    /// The server does not keep to the protocol.
    #[error("the server broke the protocol during login: {0}")]
    Protocol(String),
    /// It took longer than `limits.startup_timeout`.
    #[error("connecting and logging in took longer than limits.startup_timeout")]
    Timeout,
}

impl From<WireError> for LoginError {
    fn from(error: WireError) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// A session with the target, logged in and idle.
#[derive(Debug)]
pub struct Upstream {
    /// The connection.
    pub side: Side<Transport>,
    /// What the server reported of itself.
    pub parameters: Vec<(String, String)>,
    /// The server's cancel key.
    pub cancel_key: Option<CancelKey>,
}

/// A backend's process id and secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CancelKey {
    /// As the server numbers it.
    pub process_id: u32,
    /// 4 to 256 bytes.
    pub secret: Bytes,
}

impl PostgresTarget {
    /// Connects and logs in with the daemon's credential. `parameters` are sent beside `user`.
    ///
    /// # Errors
    /// [`LoginError`]; nothing is left open. Cancel-safe: dropping the future closes the connection.
    pub async fn login(
        &self,
        intercept: &Intercept,
        credentials: &Provider,
        route: Route,
        parameters: &[(String, String)],
    ) -> Result<Upstream, LoginError> {
        let password = credentials.password(&self.password).await?;
        let stream = self.connect(intercept, route).await?;
        let channel = self.channel(&stream)?;
        let mut nonce = [0_u8; 18];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| LoginError::Protocol("no randomness for the nonce".to_owned()))?;
        let secret = auth::Password::new(password.expose().as_bytes());
        let mut exchange = auth::Login::new(&self.username, secret, channel, nonce)
            .with_scram_keys(self.kept_keys.of(&password));
        let mut side = Side::new(stream, BytesMut::new());
        let mut startup = vec![("user", self.username.as_str())];
        startup.extend(parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        frontend::startup(&mut side.output, 0, &startup)?;
        let upstream = exchange_login(side, &mut exchange).await?;
        if let Some(keys) = exchange.scram_keys() {
            self.kept_keys.keep(password, keys);
        }
        Ok(upstream)
    }

    /// What a login may say of the channel that it runs in.
    fn channel(&self, stream: &Transport) -> Result<auth::Channel, LoginError> {
        let Transport::Tls(stream) = stream else { return Ok(auth::Channel::Plain) };
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        Ok(auth::Channel::Tls(match (shown.and_then(end_point::of), self.binding) {
            (Some(hash), ChannelBinding::Prefer) => auth::Binding::Possible(hash),
            (Some(hash), ChannelBinding::Require) => auth::Binding::Required(hash),
            (None, ChannelBinding::Prefer) => auth::Binding::Impossible,
            (None, ChannelBinding::Require) => return Err(LoginError::Unbindable),
        }))
    }

    /// Opens a connection, with TLS where the target asks for it.
    pub(super) async fn connect(&self, intercept: &Intercept, route: Route) -> Result<Transport, LoginError> {
        let address = route.address;
        let is_secured = matches!(self.dial.tls, UpstreamTls::VerifyFull { .. });
        let mut stream = self.dial.connect(intercept, route).await?;
        if is_secured && self.negotiation == Negotiation::Request {
            request_tls(&mut stream, address).await?;
        }
        let transport = self.dial.secure(stream, address).await?;
        match &transport {
            Transport::Tls(stream)
                if self.negotiation == Negotiation::Direct
                    && stream.get_ref().1.alpn_protocol() != Some(ALPN) =>
            {
                Err(LoginError::NoAlpn(address))
            }
            _ => Ok(transport),
        }
    }
}

async fn request_tls(stream: &mut TcpStream, address: SocketAddr) -> Result<(), LoginError> {
    let failed = |source| LoginError::Dial(DialError::Connect { address, source });
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await.map_err(failed)?;
    match stream.read_u8().await.map_err(failed)? {
        b'S' => {}
        _ => return Err(LoginError::TlsRefused(address)),
    }
    // Nothing may come between the answer and our ClientHello (CVE-2021-23222).
    let mut ahead = [0_u8; 1];
    match stream.try_read(&mut ahead) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
        Ok(0) => Err(failed(std::io::ErrorKind::UnexpectedEof.into())),
        Ok(_) => Err(LoginError::TlsInjection(address)),
        Err(error) => Err(failed(error)),
    }
}

async fn exchange_login(
    mut side: Side<Transport>,
    exchange: &mut auth::Login,
) -> Result<Upstream, LoginError> {
    let broken = |source: std::io::Error| LoginError::Protocol(source.to_string());
    let mut parameters = Vec::new();
    let mut cancel_key = None;
    let mut authenticated = false;
    side.drain().await.map_err(broken)?;
    loop {
        let Some(frame) = split_frame(&mut side.input, LOGIN_MESSAGE_BYTES)? else {
            if side.ended {
                return Err(LoginError::Protocol("it closed the connection".to_owned()));
            }
            side.fill().await.map_err(broken)?;
            continue;
        };
        match backend::parse(&frame)? {
            Message::Authentication(message) if !authenticated => match exchange.on_message(&message)? {
                auth::Step::Send(bytes) => {
                    side.output.extend_from_slice(&bytes);
                    side.drain().await.map_err(broken)?;
                }
                auth::Step::Wait => {}
                auth::Step::Done => authenticated = true,
            },
            Message::ErrorResponse(fields) => return Err(refused(&fields)),
            Message::NoticeResponse(_) => {}
            Message::ParameterStatus { name, value } if authenticated => {
                parameters.push((lossy(name), lossy(value)));
            }
            Message::BackendKeyData { process_id, secret } if authenticated => {
                cancel_key = Some(CancelKey { process_id, secret: Bytes::copy_from_slice(secret) });
            }
            Message::ReadyForQuery(TransactionStatus::Idle) if authenticated => {
                return Ok(Upstream { side, parameters, cancel_key });
            }
            _ => return Err(LoginError::Protocol(format!("unexpected message {:?}", char::from(frame.tag)))),
        }
    }
}

fn refused(fields: &Fields<'_>) -> LoginError {
    LoginError::Refused {
        sqlstate: fields.field(Fields::SQLSTATE).map(lossy).unwrap_or_default(),
        message: fields.field(Fields::MESSAGE).map(lossy).unwrap_or_default(),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs the statements of `queries` one by one on an idle session and returns their rows as text.
///
/// Used for the catalogue only: nothing may be owed by the server. What is for the client stays in the input, and every
/// other message is an error. `status` is that of the session's transaction afterwards, also where the server refuses.
///
/// # Errors
/// The server's refusal, or a breach of the protocol.
pub(super) async fn query_rows(
    side: &mut Side<Transport>,
    queries: &[&str],
    status: &mut TransactionStatus,
) -> Result<Vec<Vec<Vec<Option<String>>>>, LoginError> {
    let broken = |source: std::io::Error| LoginError::Protocol(source.to_string());
    let mut results = Vec::with_capacity(queries.len());
    let mut unasked = BytesMut::new();
    for query in queries {
        frontend::Message::Query(query.as_bytes()).encode(&mut side.output)?;
        side.drain().await.map_err(broken)?;
        let mut rows = Vec::new();
        let mut refusal = None;
        loop {
            let Some(frame) = split_frame(&mut side.input, CATALOGUE_MESSAGE_BYTES)? else {
                if side.ended {
                    return Err(LoginError::Protocol("it closed the connection".to_owned()));
                }
                side.fill().await.map_err(broken)?;
                continue;
            };
            if is_unasked(&frame) {
                unasked.extend_from_slice(frame.raw());
            } else if take_row(&frame, &mut rows, &mut refusal, status)? {
                break;
            }
        }
        if let Some(refusal) = refusal {
            side.put_back(unasked);
            return Err(refusal);
        }
        results.push(rows);
    }
    side.put_back(unasked);
    Ok(results)
}

/// Whether a message is the session's and not about the question: NotificationResponse and ParameterStatus come whenever
/// they like.
fn is_unasked(frame: &Frame) -> bool {
    matches!(frame.tag, b'A' | b'S')
}

/// A row of the catalogue: names and oids, or a view's list of columns.
const CATALOGUE_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Takes one message of a catalogue query; `true` when the query has ended.
fn take_row(
    frame: &Frame,
    rows: &mut Vec<Vec<Option<String>>>,
    refusal: &mut Option<LoginError>,
    status: &mut TransactionStatus,
) -> Result<bool, LoginError> {
    match backend::parse(frame)? {
        Message::DataRow(row) => {
            rows.push(row.values().map(|value| value.map(lossy)).collect());
        }
        Message::ErrorResponse(fields) => *refusal = Some(refused(&fields)),
        Message::ReadyForQuery(now) => {
            *status = now;
            return Ok(true);
        }
        Message::RowDescription(_) | Message::CommandComplete(_) | Message::NoticeResponse(_) => {}
        _ => return Err(LoginError::Protocol(format!("unexpected message {:?}", char::from(frame.tag)))),
    }
    Ok(false)
}
