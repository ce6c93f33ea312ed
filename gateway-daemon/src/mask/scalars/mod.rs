//! Transforms on single values that are no text: each gives another value of the same type, in the format that came.

pub(super) mod addresses;
pub(super) mod bits;
pub(super) mod numbers;
pub(super) mod times;

pub(super) use addresses::{Network, hardware_address, network_address, uuid};
pub(super) use bits::{Length, bit_string, byte_string};
pub(super) use numbers::{boolean, double, integer, money, numeric, real};
pub(super) use times::{Zone, date, interval, time_of_day, timestamp};

const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Two hexadecimal digits for each byte.
pub(super) fn put_hex(bytes: &[u8], out: &mut impl bytes::BufMut) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    for byte in bytes {
        for digit in [byte >> 4, byte & 0x0f] {
            out.put_u8(DIGITS.get(usize::from(digit)).copied().unwrap_or(b'0'));
        }
    }
}
