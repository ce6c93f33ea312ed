//! The first bytes of a connection, looked at and left where they are.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::detect::{self, Detected};

/// Looks at the first bytes without taking them; `None` when the client hung up before it said enough.
pub(super) async fn first_bytes(stream: &TcpStream) -> Option<Detected> {
    let mut bytes = [0_u8; detect::ENOUGH_BYTES];
    let mut before = 0;
    loop {
        let count = stream.peek(&mut bytes).await.ok()?;
        match detect::detect(bytes.get(..count).unwrap_or_default()) {
            _ if count == 0 => return None,
            // Peeking does not wait for more than is there: wait a moment for the rest of a split message.
            Detected::Incomplete if count > before => before = count,
            Detected::Incomplete => tokio::time::sleep(Duration::from_millis(5)).await,
            detected => return Some(detected),
        }
    }
}
