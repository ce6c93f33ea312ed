//! Takes fields off the front of a message. Big-endian, as PostgreSQL and most network protocols are.

use super::WireError;

/// A cursor over one message's bytes; every read is checked, and `finish` refuses what is left over.
///
/// `what` names the field in errors; it never holds data from the wire.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the first byte of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes have not been read.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Whether everything has been read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        self.array::<1>(what).map(u8::from_be_bytes)
    }

    /// A signed 16-bit number.
    pub fn i16(&mut self, what: &'static str) -> Result<i16, WireError> {
        self.array(what).map(i16::from_be_bytes)
    }

    /// An unsigned 16-bit number.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        self.array(what).map(u16::from_be_bytes)
    }

    /// A signed 32-bit number.
    pub fn i32(&mut self, what: &'static str) -> Result<i32, WireError> {
        self.array(what).map(i32::from_be_bytes)
    }

    /// An unsigned 32-bit number.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        self.array(what).map(u32::from_be_bytes)
    }

    /// `N` bytes as an array.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Truncated {
            what,
            needed: N,
            left: self.rest.len(),
        })?;
        self.rest = rest;
        Ok(*head)
    }

    /// `count` bytes.
    pub fn bytes(&mut self, what: &'static str, count: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(WireError::Truncated {
            what,
            needed: count,
            left: self.rest.len(),
        })?;
        self.rest = rest;
        Ok(head)
    }

    /// Bytes up to a NUL, which is consumed and not part of the result.
    pub fn cstr(&mut self, what: &'static str) -> Result<&'a [u8], WireError> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or(WireError::Unterminated { what })?;
        let text = self.bytes(what, end)?;
        self.array::<1>(what)?;
        Ok(text)
    }

    /// A 32-bit length and that many bytes; −1 is `None`, any other negative length an error.
    pub fn nullable(&mut self, what: &'static str) -> Result<Option<&'a [u8]>, WireError> {
        match self.i32(what)? {
            -1 => Ok(None),
            length => {
                let count = usize::try_from(length)
                    .map_err(|_| WireError::InvalidLength { what, length: i64::from(length) })?;
                self.bytes(what, count).map(Some)
            }
        }
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Ends the message: bytes that nobody read are an error.
    pub const fn finish(self, what: &'static str) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(WireError::TrailingBytes { what, count }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::{Reader, WireError};

    #[test]
    fn fields_come_off_in_order_and_the_end_is_checked() {
        let mut reader = Reader::new(b"\x07\x80\x00\x80\x00\xff\xff\xff\xfe\xff\xff\xff\xfename\0xy");
        assert_eq!(reader.u8("a"), Ok(7));
        assert_eq!(reader.i16("b"), Ok(i16::MIN));
        assert_eq!(reader.u16("c"), Ok(0x8000));
        assert_eq!(reader.i32("d"), Ok(-2));
        assert_eq!(reader.u32("e"), Ok(0xffff_fffe));
        assert_eq!(reader.cstr("f"), Ok(&b"name"[..]));
        assert_eq!(reader.bytes("g", 1), Ok(&b"x"[..]));
        assert_eq!(reader.finish("h"), Err(WireError::TrailingBytes { what: "h", count: 1 }));
        assert_eq!(reader.rest(), b"y");
        assert_eq!(reader.finish("h"), Ok(()));
    }

    #[test]
    fn a_short_message_says_what_was_missing_and_consumes_nothing() {
        let mut reader = Reader::new(b"abc");
        assert_eq!(reader.i32("size"), Err(WireError::Truncated { what: "size", needed: 4, left: 3 }));
        assert_eq!(reader.cstr("name"), Err(WireError::Unterminated { what: "name" }));
        assert_eq!(reader.remaining(), 3);
    }

    #[test]
    fn only_minus_one_means_null() {
        assert_eq!(Reader::new(b"\xff\xff\xff\xff").nullable("v"), Ok(None));
        assert_eq!(Reader::new(b"\0\0\0\0").nullable("v"), Ok(Some(&b""[..])));
        assert_eq!(
            Reader::new(b"\xff\xff\xff\xfe").nullable("v"),
            Err(WireError::InvalidLength { what: "v", length: -2 })
        );
        assert_eq!(
            Reader::new(b"\x7f\xff\xff\xffab").nullable("v"),
            Err(WireError::Truncated { what: "v", needed: 0x7fff_ffff, left: 2 })
        );
    }

    proptest! {
        #[test]
        fn any_order_of_reads_on_any_bytes_ends_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            reads in prop::collection::vec((0_u8..8, any::<usize>()), 0..32),
        ) {
            let mut reader = Reader::new(&bytes);
            for (read, count) in reads {
                let before = reader.remaining();
                let failed = match read {
                    0 => reader.u8("x").is_err(),
                    1 => reader.i16("x").is_err(),
                    2 => reader.u16("x").is_err(),
                    3 => reader.i32("x").is_err(),
                    4 => reader.u32("x").is_err(),
                    5 => reader.cstr("x").is_err(),
                    6 => reader.bytes("x", count).is_err(),
                    _ => { let _ = reader.nullable("x"); false }
                };
                prop_assert!(reader.remaining() <= before);
                if failed {
                    prop_assert_eq!(reader.remaining(), before);
                }
            }
        }
    }
}
