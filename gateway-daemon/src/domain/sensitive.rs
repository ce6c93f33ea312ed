//! Values that must never be printed: credentials, tokens, payloads.

use std::fmt;

/// Wraps a secret or a payload. `Debug` shows its length and nothing more; there is no `Display`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Sensitive<T>(T);

impl<T> Sensitive<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Every use of this is a place to review.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: AsRef<[u8]>> fmt::Debug for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes withheld>", self.0.as_ref().len())
    }
}

#[cfg(test)]
mod tests {
    use super::Sensitive;

    #[test]
    fn debug_shows_a_length_and_nothing_more() {
        assert_eq!(format!("{:?}", Sensitive::new("hunter2".to_owned())), "<7 bytes withheld>");
    }
}
