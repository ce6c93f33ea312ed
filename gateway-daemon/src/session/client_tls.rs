//! TLS towards clients: whether a target takes it, and the handshake. When it begins is the protocol's own.

use std::{net::IpAddr, sync::Arc};

use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::tls::terminate::{TerminateError, Terminator};

/// How clients of a target are protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientTls {
    /// Not at all.
    Plaintext,
    /// By TLS where they ask for it, with a certificate that bears these names.
    Terminate(Vec<Arc<str>>),
}

/// What a client that asks for TLS is answered.
#[derive(Debug, Clone)]
pub enum Encryption {
    /// That there is none.
    Refused,
    /// A certificate for the names of the target and the address that was dialled.
    Offered {
        /// Who makes certificates.
        terminator: Arc<Terminator>,
        /// The names.
        names: Vec<Arc<str>>,
        /// The address.
        address: IpAddr,
    },
}

/// Why a client has no TLS. Without its success nothing more can be said to it.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// It takes none from clients.
    #[error("the target takes no TLS from clients")]
    NotOffered,
    /// There is no certificate to show.
    #[error(transparent)]
    Certificate(#[from] TerminateError),
    /// The client broke it off, or does not trust the certificate.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Encryption {
    /// What a client of a target that dialled `address` is answered; `asked` are the names that trusted servers called
    /// this address when the agent asked. One that means no target (`None`) gets TLS as well, so that one that insists on it
    /// hears why it is refused.
    pub fn towards(
        target: Option<&ClientTls>,
        terminator: &Arc<Terminator>,
        asked: &[Arc<str>],
        address: IpAddr,
    ) -> Self {
        let names = match target {
            Some(ClientTls::Plaintext) => return Self::Refused,
            Some(ClientTls::Terminate(names)) => names.iter().chain(asked).cloned().collect(),
            None => Vec::new(),
        };
        Self::Offered { terminator: Arc::clone(terminator), names, address }
    }

    /// The handshake with a client that begins it now.
    ///
    /// # Errors
    /// [`HandshakeError`]; the connection is closed.
    pub async fn shake_hands(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, HandshakeError> {
        let Self::Offered { terminator, names, address } = self else {
            return Err(HandshakeError::NotOffered);
        };
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let config = terminator.config(names, *address, hello.client_hello().server_name())?;
        Ok(hello.into_stream(config).await?)
    }
}
