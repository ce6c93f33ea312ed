//! How a connection ends whose protocol has no words for why, or none that may be said.

use tokio::net::TcpStream;

/// Closes with a reset, so that the client fails at once instead of reading an end of file as an answer.
pub fn reset(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "a connection is closed without a reset");
    }
}
