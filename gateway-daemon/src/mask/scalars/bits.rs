//! Strings of bytes and of bits. Nothing of them is ever shown in part: `hash` gives eight bytes of a keyed hash, a bit
//! string of fixed length keeps that length, and everything else is empty or zero.
//! <https://www.postgresql.org/docs/current/datatype-binary.html>, <https://www.postgresql.org/docs/current/datatype-bit.html>

use bytes::BufMut;

use super::{
    super::{
        masker::{Masker, Outcome},
        types::Format,
    },
    hex_value, put_hex,
};
use crate::domain::decision::Transform;

/// Bits of a hash that a bit string can bear; what is longer ends in zeros.
const HASH_BITS: usize = 256;
const VARYING_HASH_BITS: usize = 64;

pub(in super::super) fn byte_string(
    masker: &Masker,
    transform: Transform,
    format: Format,
    value: &[u8],
    out: &mut impl BufMut,
) -> Outcome {
    let shown = if transform == Transform::Hash {
        let bytes = match format {
            Format::Binary => Some(value.to_vec()),
            Format::Text => read_bytes(value),
        };
        let Some(bytes) = bytes else { return Outcome::Null };
        masker.number(&bytes).to_be_bytes().to_vec()
    } else {
        Vec::new()
    };
    match format {
        Format::Binary => out.put_slice(&shown),
        // Clients read either form of output, whichever `bytea_output` chose for the original.
        Format::Text => {
            out.put_slice(b"\\x");
            put_hex(&shown, out);
        }
    }
    Outcome::Written
}

/// Both forms of output: `\x` with hexadecimal digits, and escapes.
pub(in super::super) fn read_bytes(text: &[u8]) -> Option<Vec<u8>> {
    if let Some(digits) = text.strip_prefix(b"\\x") {
        let (pairs, rest) = digits.as_chunks::<2>();
        return pairs
            .iter()
            .map(|[high, low]| Some((hex_value(*high)? << 4) | hex_value(*low)?))
            .collect::<Option<_>>()
            .filter(|_| rest.is_empty());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        match *rest {
            [] => return Some(bytes),
            [b'\\', b'\\', ref after @ ..] => {
                bytes.push(b'\\');
                rest = after;
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ref after @ ..] => {
                bytes.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = after;
            }
            [b'\\', ..] => return None,
            [byte, ref after @ ..] => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
}

/// Whether a bit string's length belongs to its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Length {
    Fixed,
    Varying,
}

pub(in super::super) fn bit_string(
    masker: &Masker,
    transform: Transform,
    length: Length,
    format: Format,
    value: &[u8],
    out: &mut impl BufMut,
) -> Outcome {
    let read = match format {
        Format::Text => read_text(value),
        Format::Binary => read_binary(value),
    };
    let Some(bits) = read else { return Outcome::Null };
    let is_hash = transform == Transform::Hash;
    let count = match length {
        Length::Fixed => bits.len(),
        Length::Varying => {
            if is_hash {
                VARYING_HASH_BITS
            } else {
                0
            }
        }
    };
    let mut shown = vec![false; count];
    if is_hash {
        let canonical: Vec<u8> = bits.iter().map(|bit| b'0' + u8::from(*bit)).collect();
        let tag = masker.tag(&canonical);
        let hashed = tag.iter().flat_map(|byte| (0..8).map(move |at| byte & (0x80 >> at) != 0));
        for (bit, hashed) in shown.iter_mut().zip(hashed.take(HASH_BITS)) {
            *bit = hashed;
        }
    }
    match format {
        Format::Text => shown.iter().for_each(|bit| out.put_u8(b'0' + u8::from(*bit))),
        Format::Binary => {
            let Ok(count) = i32::try_from(count) else { return Outcome::Null };
            out.put_i32(count);
            for byte in shown.chunks(8) {
                out.put_u8(
                    byte.iter().enumerate().fold(0, |sum, (at, bit)| sum | (u8::from(*bit) << (7 - at))),
                );
            }
        }
    }
    Outcome::Written
}

pub(in super::super) fn read_text(value: &[u8]) -> Option<Vec<bool>> {
    value
        .iter()
        .map(|digit| match digit {
            b'0' => Some(false),
            b'1' => Some(true),
            _ => None,
        })
        .collect()
}

pub(in super::super) fn read_binary(value: &[u8]) -> Option<Vec<bool>> {
    let (count, bytes) = value.split_first_chunk::<4>()?;
    let count = usize::try_from(i32::from_be_bytes(*count)).ok()?;
    if bytes.len() != count.div_ceil(8) {
        return None;
    }
    Some(bytes.iter().flat_map(|byte| (0..8).map(move |at| byte & (0x80 >> at) != 0)).take(count).collect())
}
