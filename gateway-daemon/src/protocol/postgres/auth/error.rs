//! Why a login did not succeed. No variant carries a secret or a server's text.

use super::super::super::wire::WireError;

/// The login is over; the connection to the target must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The password would have crossed the network readable.
    #[error("the target asks for the password in clear on a connection without TLS")]
    CleartextWithoutTls,
    /// A method that is not spoken.
    #[error("the target asks for authentication method {code}, which is not supported")]
    UnsupportedMethod {
        /// The code of the authentication request.
        code: u32,
    },
    /// SASL without SCRAM-SHA-256.
    #[error("the target offers no SASL mechanism that is supported (SCRAM-SHA-256)")]
    NoMechanism,
    /// A login that is not bound to its channel, where the configuration asks for one that is.
    #[error(
        "the target offers no login with channel binding (SCRAM-SHA-256-PLUS), and `channel_binding: require` asks for one"
    )]
    Unbound,
    /// A request that cannot stand here, such as success before the server has proved itself.
    #[error("the target sent {received} while {expected}")]
    OutOfOrder {
        /// What came.
        received: &'static str,
        /// The state it came in.
        expected: &'static str,
    },
    /// A SCRAM message that does not follow its grammar.
    #[error("the target's SCRAM message is malformed: {what}")]
    MalformedScram {
        /// Which part.
        what: &'static str,
    },
    /// The server's nonce does not continue the client's.
    #[error("the target's nonce does not continue ours")]
    ForeignNonce,
    /// Too few iterations protect the password too little, too many exhaust the client.
    #[error("the target asks for {iterations} SCRAM iterations, outside {min} to {max}")]
    Iterations {
        /// What the server asks for.
        iterations: u64,
        /// The least.
        min: u32,
        /// The most.
        max: u32,
    },
    /// The server says that the exchange failed.
    #[error("the target refused the SCRAM exchange")]
    Refused,
    /// The server does not know the password's verifier: it is not the target.
    #[error("the target could not prove that it knows the credential")]
    ServerSignature,
    /// The credential cannot be used, such as a password with a NUL in clear.
    #[error("the credential cannot be sent: {0}")]
    Unsendable(#[from] WireError),
    /// The crypto library failed.
    #[error("the crypto library failed")]
    Crypto,
}
