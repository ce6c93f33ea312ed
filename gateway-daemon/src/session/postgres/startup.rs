//! The client's side of a session's beginning: what it asks for, in plain text or under TLS. `parameters` says what of it is
//! passed on.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;

use super::{cancel::KeyLength, ending::Ending, target::CancelKey};
use crate::{
    protocol::postgres::{ALPN, StartupPacket, backend::Message, split_startup},
    session::{
        client_tls::Encryption,
        transport::{End, Side, Transport},
    },
    sql::postgres::Connection,
};

/// The first byte of a TLS handshake, which no startup packet begins with.
const TLS_HANDSHAKE: u8 = 22;

/// What a client asked for.
#[derive(Debug)]
pub enum Asked {
    /// A session.
    Session(Wanted),
    /// To cancel what another connection runs.
    Cancel(CancelKey),
}

/// A session that a client wants.
#[derive(Debug)]
pub struct Wanted {
    /// The database; the user's name when the client named none, as PostgreSQL has it.
    pub database: String,
    /// Whether the client named a user. Which one is no matter: the daemon's own logs in.
    pub names_user: bool,
    /// Whether the session is one for replication.
    pub replication: Option<Connection>,
    /// The other parameters, as the client wrote them.
    pub parameters: Vec<(String, String)>,
    /// Protocol options that nodegate does not know, and the minor version asked for.
    unknown_options: Vec<String>,
    minor: u16,
}

/// The newest minor version of protocol 3 that is spoken.
const NEWEST_MINOR: u16 = 2;

/// Reads up to the startup message, answering requests for encryption.
///
/// # Errors
/// A breach of the protocol, or a client that takes longer than `limit`.
pub async fn receive(
    client: &mut Side<Transport>,
    encryption: &Encryption,
    limit: Duration,
) -> Result<Asked, Ending> {
    timeout(limit, exchange(client, encryption)).await.unwrap_or(Err(Ending::ClientStalled))
}

async fn exchange(client: &mut Side<Transport>, encryption: &Encryption) -> Result<Asked, Ending> {
    let failed = |source| Ending::Io { end: End::Client, source };
    if client.peek().await.map_err(failed)? == Some(TLS_HANDSHAKE) {
        begin_tls(client, encryption, Beginning::Direct).await?;
    }
    let mut encryption_requests = 0;
    loop {
        let packet = split_startup(&mut client.input).map_err(|error| Ending::client(&error))?;
        match packet {
            None => {
                if client.ended {
                    return Err(Ending::ClientClosed);
                }
                client.fill().await.map_err(failed)?;
            }
            Some(packet @ (StartupPacket::SslRequest | StartupPacket::GssEncRequest)) => {
                encryption_requests += 1;
                // What came with the request is not encrypted, and must not be taken for what is (CVE-2021-23214).
                if encryption_requests > 2 || !client.input.is_empty() {
                    return Err(Ending::ClientProtocol("bytes ahead of the answer to SSLRequest".to_owned()));
                }
                if client.is_encrypted() {
                    return Err(Ending::ClientProtocol("a request for encryption under TLS".to_owned()));
                }
                let granted =
                    packet == StartupPacket::SslRequest && matches!(encryption, Encryption::Offered { .. });
                client.output.extend_from_slice(if granted { b"S" } else { b"N" });
                client.drain().await.map_err(failed)?;
                if granted {
                    begin_tls(client, encryption, Beginning::Asked).await?;
                }
            }
            Some(StartupPacket::Cancel { process_id, secret }) => {
                return Ok(Asked::Cancel(CancelKey { process_id, secret }));
            }
            Some(StartupPacket::Startup { minor, parameters, .. }) => {
                return Ok(Asked::Session(Wanted::new(minor, parameters)));
            }
        }
    }
}

/// How a client came to TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beginning {
    /// By SSLRequest.
    Asked,
    /// By itself, which takes ALPN: other protocols begin in the same way.
    Direct,
}

/// The handshake. Without its success nothing more can be said to the client.
async fn begin_tls(
    client: &mut Side<Transport>,
    encryption: &Encryption,
    beginning: Beginning,
) -> Result<(), Ending> {
    let failed = |error: &dyn std::fmt::Display| Ending::ClientTls(error.to_string());
    if matches!(encryption, Encryption::Refused) {
        return Err(Ending::ClientProtocol("TLS, which this target takes from no client".to_owned()));
    }
    let Some(stream) = client.take_plain() else {
        return Err(Ending::ClientProtocol("TLS under TLS".to_owned()));
    };
    let stream = encryption.shake_hands(stream).await.map_err(|error| failed(&error))?;
    if beginning == Beginning::Direct && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(failed(&"TLS without SSLRequest takes ALPN `postgresql`"));
    }
    client.go_on(stream.into());
    Ok(())
}

impl Wanted {
    /// What a startup message asks for.
    pub fn new(minor: u16, parameters: Vec<(String, String)>) -> Self {
        let value =
            |name: &str| parameters.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        let database = value("database").filter(|name| !name.is_empty()).or_else(|| value("user"));
        let replication = value("replication").as_deref().and_then(Connection::named);
        let names_user = value("user").is_some_and(|user| !user.is_empty());
        let (unknown_options, parameters) = parameters
            .into_iter()
            .filter(|(name, _)| name != "database" && name != "user")
            .filter(|(name, _)| name != "replication" || replication.is_none())
            .partition::<Vec<_>, _>(|(name, _)| name.starts_with("_pq_."));
        Self {
            names_user,
            database: database.unwrap_or_default(),
            replication,
            parameters,
            unknown_options: unknown_options.into_iter().map(|(name, _)| name).collect(),
            minor,
        }
    }

    /// Which kind of cancel key the client can take.
    pub const fn key_length(&self) -> KeyLength {
        if self.minor >= NEWEST_MINOR { KeyLength::Long } else { KeyLength::Short }
    }

    /// Tells the client what of the protocol it asked for is not spoken, if anything.
    pub fn negotiate(&self, out: &mut BytesMut) -> Result<(), Ending> {
        if self.minor <= NEWEST_MINOR && self.unknown_options.is_empty() {
            return Ok(());
        }
        let spoken = u32::from(self.minor.min(NEWEST_MINOR));
        Message::NegotiateProtocolVersion {
            version: 3 << 16 | spoken,
            unrecognised: self.unknown_options.iter().map(String::as_bytes).collect(),
        }
        .encode(out)
        .map_err(|error| Ending::client(&error))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn replication_is_asked_for_in_the_words_of_the_server() {
        for (value, connection) in [
            ("database", Some(Connection::Database)),
            ("true", Some(Connection::Physical)),
            ("ON", Some(Connection::Physical)),
            ("false", None),
        ] {
            let parameters = [("user", "a"), ("replication", value)];
            let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(Wanted::new(0, parameters.to_vec()).replication, connection, "{value}");
        }
    }

    #[test]
    fn unknown_protocol_options_and_newer_versions_are_negotiated() {
        let mut out = BytesMut::new();
        Wanted::new(2, vec![]).negotiate(&mut out).unwrap();
        assert!(out.is_empty());
        Wanted::new(9, vec![("_pq_.command_tag".to_owned(), "x".to_owned())]).negotiate(&mut out).unwrap();
        assert_eq!(out.first(), Some(&b'v'));
    }
}
