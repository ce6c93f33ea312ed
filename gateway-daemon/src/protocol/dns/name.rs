//! Domain names on the wire (RFC 1035 §3.1 and §4.1.4).

use std::fmt;

/// The longest name, with its length bytes and the root.
const LONGEST_NAME_BYTES: usize = 255;

/// A name in the form that names are compared in: lower case, uncompressed, with the root's zero byte at its end.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name {
    wire: Vec<u8>,
}

/// Why bytes are no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It goes on behind the message's end.
    #[error("a name goes on behind the end of the message")]
    Truncated,
    /// More than 255 bytes.
    #[error("a name is longer than {LONGEST_NAME_BYTES} bytes")]
    TooLong,
    /// A length byte of a kind that was never put into use.
    #[error("a label of an unknown kind")]
    UnknownLabel,
    /// A pointer that does not lead backwards: it could go round in a circle.
    #[error("a compressed name does not point backwards")]
    ForwardPointer,
}

impl Name {
    /// Reads the name at `at`, following pointers. Answers it with the place behind it.
    ///
    /// Each pointer must lead to before the part that it ends, so that reading comes to an end.
    pub fn read(message: &[u8], at: usize) -> Result<(Self, usize), NameError> {
        let mut wire = Vec::with_capacity(32);
        let mut position = at;
        let mut part = at;
        let mut behind = None;
        loop {
            let length = *message.get(position).ok_or(NameError::Truncated)?;
            match length {
                0 => {
                    wire.push(0);
                    let end = behind.unwrap_or(position + 1);
                    return Ok((Self { wire }, end));
                }
                1..=63 => {
                    let end = position + 1 + usize::from(length);
                    let label = message.get(position + 1..end).ok_or(NameError::Truncated)?;
                    if wire.len() + label.len() + 2 > LONGEST_NAME_BYTES {
                        return Err(NameError::TooLong);
                    }
                    wire.push(length);
                    wire.extend(label.iter().map(u8::to_ascii_lowercase));
                    position = end;
                }
                64..=191 => return Err(NameError::UnknownLabel),
                192..=255 => {
                    let low = *message.get(position + 1).ok_or(NameError::Truncated)?;
                    let target = usize::from(length & 0x3f) << 8 | usize::from(low);
                    if target >= part {
                        return Err(NameError::ForwardPointer);
                    }
                    behind = behind.or(Some(position + 2));
                    position = target;
                    part = target;
                }
            }
        }
    }

    /// The name on the wire.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// Its labels, from the host to the root, which is none.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.wire.as_slice();
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first()?;
            let (label, behind) = behind.split_at_checked(usize::from(*length))?;
            rest = behind;
            (!label.is_empty()).then_some(label)
        })
    }

    /// The name as text, without a dot at its end; the root is `.`. `None` when a label has anything but letters,
    /// digits, `-` and `_`: in no host name, and it could stand for another name in logs and policies.
    pub fn text(&self) -> Option<String> {
        let mut text = String::with_capacity(self.wire.len());
        for label in self.labels() {
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if !label.iter().all(plain) {
                return None;
            }
            if !text.is_empty() {
                text.push('.');
            }
            text.extend(label.iter().copied().map(char::from));
        }
        if text.is_empty() {
            text.push('.');
        }
        Some(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut labels = self.labels().peekable();
        if labels.peek().is_none() {
            return f.write_str(".");
        }
        while let Some(label) = labels.next() {
            for byte in label {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                    0x21..=0x7e => write!(f, "{}", char::from(*byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            if labels.peek().is_some() {
                f.write_str(".")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}
