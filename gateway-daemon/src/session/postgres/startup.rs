//! The client's side of a session's beginning: what it may ask for, and what of that is passed on.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use rustls::server::Acceptor;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;

use super::{
    cancel::KeyLength,
    ending::Ending,
    target::CancelKey,
    transport::{End, Side, Transport},
};
use crate::{
    domain::decision::Denial,
    protocol::postgres::{ALPN, StartupPacket, backend::Message, split_startup},
    sql::postgres::Connection,
    tls::terminate::Terminator,
};

/// The first byte of a TLS handshake, which no startup packet begins with.
const TLS_HANDSHAKE: u8 = 22;

/// Startup parameters that change how values look, or how long things may take, and nothing else.
const HARMLESS: &[&str] = &[
    "application_name",
    "bytea_output",
    "client_min_messages",
    "datestyle",
    "extra_float_digits",
    "geqo",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "lock_timeout",
    "statement_timeout",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "timezone",
];

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
    names_user: bool,
    /// Whether the session is one for replication.
    pub replication: Option<Connection>,
    /// The other parameters, as the client wrote them.
    parameters: Vec<(String, String)>,
    /// Protocol options that nodegate does not know, and the minor version asked for.
    unknown_options: Vec<String>,
    minor: u16,
}

/// The newest minor version of protocol 3 that is spoken.
const NEWEST_MINOR: u16 = 2;

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
    let Encryption::Offered { terminator, names, address } = encryption else {
        return Err(Ending::ClientProtocol("TLS, which this target takes from no client".to_owned()));
    };
    let Some(stream) = client.take_plain() else {
        return Err(Ending::ClientProtocol("TLS under TLS".to_owned()));
    };
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(|error| failed(&error))?;
    let config = terminator
        .config(names, *address, hello.client_hello().server_name())
        .map_err(|error| failed(&error))?;
    let stream = hello.into_stream(config).await.map_err(|error| failed(&error))?;
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

    /// The parameters to log in with: the client's harmless ones, and those that the daemon pins.
    ///
    /// # Errors
    /// A parameter that would change how statements are read, who runs them, or the kind of connection.
    pub fn upstream_parameters(&self) -> Result<Vec<(String, String)>, Denial> {
        if !self.names_user {
            return Err(refuse("the startup message names no user".to_owned(), "Connect with user=…."));
        }
        let mut passed = vec![
            ("database".to_owned(), self.database.clone()),
            ("client_encoding".to_owned(), "UTF8".to_owned()),
            ("standard_conforming_strings".to_owned(), "on".to_owned()),
        ];
        if let Some(connection) = self.replication {
            let value = match connection {
                Connection::Database => "database",
                Connection::Physical => "true",
            };
            passed.push(("replication".to_owned(), value.to_owned()));
        }
        for (name, value) in &self.parameters {
            if name == "options" {
                for (name, value) in command_line(value)? {
                    admit(&name, &value, &mut passed)?;
                }
            } else {
                admit(name, value, &mut passed)?;
            }
        }
        Ok(passed)
    }
}

fn admit(name: &str, value: &str, passed: &mut Vec<(String, String)>) -> Result<(), Denial> {
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        // An ASCII client is served as UTF-8: ASCII is part of it, and other bytes are refused as such.
        "client_encoding" => {
            let plain: String =
                value.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
            match plain.as_str() {
                "utf8" | "unicode" | "sqlascii" | "auto" => Ok(()),
                _ => Err(refuse(
                    format!("the client's encoding is {value:?}"),
                    "Connect with client_encoding=UTF8.",
                )),
            }
        }
        "standard_conforming_strings" if matches!(value, "on" | "true" | "1" | "yes") => Ok(()),
        "replication" if matches!(value, "false" | "off" | "0" | "no") => Ok(()),
        "replication" => Err(refuse(
            format!("replication={value:?} is not known"),
            "Write replication=database, or replication=true.",
        )),
        _ if HARMLESS.contains(&lower.as_str()) => {
            passed.push((name.to_owned(), value.to_owned()));
            Ok(())
        }
        _ => Err(refuse(
            format!("the startup parameter {name:?} is not allowed"),
            "Leave it out of the connection string, PGOPTIONS and the driver's settings.",
        )),
    }
}

/// Reads `-c name=value` and `--name=value` as the server's command line does: blanks separate, a backslash
/// takes the next character as it is.
fn command_line(options: &str) -> Result<Vec<(String, String)>, Denial> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        if character.is_ascii_whitespace() {
            words.extend(word.take());
            continue;
        }
        let taken = if character == '\\' { characters.next().unwrap_or('\\') } else { character };
        word.get_or_insert_default().push(taken);
    }
    words.extend(word);
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--") {
            Some(setting) => Some(setting.to_owned()),
            None if word == "-c" => words.next(),
            None => word.strip_prefix("-c").map(ToOwned::to_owned),
        };
        match setting.as_deref().and_then(|setting| setting.split_once('=')) {
            Some((name, value)) => settings.push((name.replace('-', "_"), value.to_owned())),
            None => {
                return Err(refuse(
                    format!("the startup option {word:?} is not allowed"),
                    "Use -c name=value, for settings that nodegate allows.",
                ));
            }
        }
    }
    Ok(settings)
}

fn refuse(reason: String, hint: &str) -> Denial {
    Denial::builtin(reason, hint, "startup-parameter")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn wanted(parameters: &[(&str, &str)]) -> Wanted {
        let parameters = parameters.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Wanted::new(0, parameters)
    }

    #[test]
    fn the_user_is_never_passed_on_and_names_the_database_when_none_is_given() {
        let wanted = wanted(&[("user", "alice")]);
        assert_eq!(wanted.database, "alice");
        assert!(wanted.upstream_parameters().unwrap().iter().all(|(name, _)| name != "user"));
    }

    #[test]
    fn a_startup_without_a_user_is_refused() {
        assert!(wanted(&[("database", "shop")]).upstream_parameters().is_err());
        assert!(wanted(&[("user", ""), ("database", "shop")]).upstream_parameters().is_err());
    }

    #[test]
    fn harmless_options_pass_and_others_are_refused_by_name() {
        let passed = wanted(&[("user", "a"), ("options", "-c statement_timeout=5s --TimeZone=UTC")]);
        let passed = passed.upstream_parameters().unwrap();
        assert!(passed.contains(&("statement_timeout".to_owned(), "5s".to_owned())));
        for (name, value) in [
            ("options", "-c search_path=evil"),
            ("options", "-csession_replication_role=replica"),
            ("options", "-c role\\=admin"),
            ("options", "-W 5"),
            ("options", "-c replication=database"),
            ("replication", "perhaps"),
            ("Replication", "database"),
            ("search_path", "evil"),
            ("client_encoding", "SJIS"),
            ("standard_conforming_strings", "off"),
        ] {
            assert!(wanted(&[("user", "a"), (name, value)]).upstream_parameters().is_err(), "{name}={value}");
        }
    }

    #[test]
    fn replication_is_asked_for_in_the_words_of_the_server() {
        for (value, connection) in [
            ("database", Some(Connection::Database)),
            ("true", Some(Connection::Physical)),
            ("ON", Some(Connection::Physical)),
            ("false", None),
        ] {
            let wanted = wanted(&[("user", "a"), ("replication", value)]);
            assert_eq!(wanted.replication, connection, "{value}");
            let passed = wanted.upstream_parameters().unwrap();
            assert_eq!(passed.iter().any(|(name, _)| name == "replication"), connection.is_some(), "{value}");
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
