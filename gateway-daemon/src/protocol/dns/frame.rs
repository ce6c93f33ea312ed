//! DNS over TCP: each message behind its length (RFC 1035 §4.2.2, RFC 7766). Segments are no messages: one may hold
//! several, or half of one.

/// The longest message.
pub const LONGEST_MESSAGE_BYTES: usize = 65_535;

/// Bytes as they come, messages as they are whole.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// Adds what has come.
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message. Memory grows by what has come, never by what a length promises.
    pub fn next_message(&mut self) -> Option<Vec<u8>> {
        let (length, rest) = self.bytes.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let message = rest.get(..length)?.to_vec();
        self.bytes.drain(..length + 2);
        Some(message)
    }

    /// Whether there is part of a message.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// A message behind its length; `None` for one that is too long for it.
pub fn frame(message: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(message.len()).ok()?;
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    Some(framed)
}
