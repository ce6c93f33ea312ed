//! The client's side of a session's beginning: TLS under a certificate for the name that it asks for.
//!
//! The certificate bears whatever name the client asks for, also one that is no target: otherwise it could not be told
//! so. A certificate proves nothing to anybody else, since the client is the only one to whom it is shown.

use std::{net::IpAddr, sync::Arc};

use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;

use crate::{
    protocol::http::Host,
    session::transport::Transport,
    tls::terminate::{TerminateError, Terminator},
};

/// Why there is no TLS with a client. Nothing can be said to it.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error(transparent)]
    Certificate(#[from] TerminateError),
    /// It broke off, or does not trust the certificate.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A client under TLS, and the name that it asked for.
pub(super) struct Secured {
    pub(super) transport: Transport,
    pub(super) asked_for: Option<Host>,
}

/// The handshake with a client that dialled `address`; `asked` are the names that trusted servers gave it for.
pub(super) async fn shake_hands(
    terminator: &Terminator,
    stream: TcpStream,
    address: IpAddr,
    asked: &[Arc<str>],
) -> Result<Secured, HandshakeError> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let asked_for = hello.client_hello().server_name().and_then(|name| Host::read(name.as_bytes()));
    let names = match &asked_for {
        Some(Host::Name(name)) => vec![Arc::from(name.as_ref())],
        // Without a name: the address, and what the client may have looked up.
        Some(Host::Address(_)) | None => asked.to_vec(),
    };
    let config = terminator.config(&names, address, None)?;
    let stream = hello.into_stream(config).await?;
    Ok(Secured { transport: Transport::Tls(Box::new(stream.into())), asked_for })
}
