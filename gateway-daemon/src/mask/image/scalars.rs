//! Images of single values that are no text. But for a hashed UUID, each is a value that somebody may mean.

use super::{
    super::{
        scalars::{
            addresses,
            bits::{self, read_bytes},
            numbers::{Decimal, read_binary_decimal, read_decimal},
            times::{
                DAY_MICROS, HOUR_MICROS, SECOND_MICROS, Zone, read_binary_clock, read_binary_interval,
                read_clock,
            },
        },
        types::{Format, Kind, Width},
    },
    Image,
    times::{is_date_image, is_timestamp_image},
};
use crate::domain::decision::Transform;

/// As in `numbers.rs`.
const NUMERIC_HASH_DIGITS: usize = 15;
const FLOAT_HASH_BELOW: f64 = 9_007_199_254_740_992.0;
/// The least number that shows its first digit in part.
const PARTIAL_FROM: u64 = 1_000;
/// `last4` leaves no more.
const LAST4_MOST: u64 = 9_999;
/// Bytes of a hash in a `bytea`, bits of one in a `bit varying`.
const HASH_BYTES: usize = 8;
const HASH_BITS: usize = 64;

/// Whether the value may be an image, of a kind for which it may as well be none.
pub(super) fn is_image(transform: Transform, kind: &Kind, format: Format, value: &[u8]) -> bool {
    let text = || std::str::from_utf8(value).ok().map(str::trim);
    let is = match kind {
        Kind::Char => Some(value == b"*"),
        Kind::Bool => match format {
            Format::Text => text().map(is_false),
            Format::Binary => Some(value == [0]),
        },
        Kind::Integer(width) => match format {
            Format::Text => text().and_then(whole_number),
            Format::Binary => binary_integer(*width, value),
        }
        .map(|number| is_whole_image(transform, number)),
        Kind::Money => match format {
            Format::Text => text().map(|text| is_money_image(transform, text)),
            Format::Binary => {
                binary_integer(Width::Eight, value).map(|number| is_whole_image(transform, number))
            }
        },
        Kind::Real | Kind::Double => match format {
            Format::Text => text().and_then(|text| text.parse().ok()),
            Format::Binary => value
                .try_into()
                .map(f64::from_be_bytes)
                .or_else(|_| value.try_into().map(|value| f32::from_be_bytes(value).into()))
                .ok(),
        }
        .map(|number| is_float_image(transform, number)),
        Kind::Numeric => match format {
            Format::Text => text().and_then(decimal),
            Format::Binary => read_binary_decimal(value),
        }
        .map(|number| is_decimal_image(transform, &number)),
        Kind::Date => Some(is_date_image(transform, format, value)),
        Kind::Timestamp | Kind::TimestampTz => Some(is_timestamp_image(transform, format, value)),
        Kind::Time => match format {
            Format::Text => text().and_then(read_clock),
            Format::Binary => value.try_into().ok().map(i64::from_be_bytes),
        }
        .map(|micros| is_clock_image(transform, micros)),
        Kind::TimeTz => match format {
            Format::Text => text().and_then(read_clock),
            Format::Binary => read_binary_clock(Zone::With, value),
        }
        .map(|micros| is_clock_image(transform, micros)),
        Kind::Interval => is_interval_image(transform, format, value),
        Kind::Inet | Kind::Cidr => match format {
            Format::Text => text().and_then(|text| addresses::read_text(text.as_bytes())),
            Format::Binary => addresses::read_binary(value),
        }
        .map(|(address, bits)| is_address_image(transform, address, bits)),
        Kind::HardwareAddress(length) => hardware_address(format, value)
            .filter(|address| address.len() == *length)
            .map(|address| match transform {
                Transform::Hash => address.first().is_some_and(|first| first & 0x03 == 0x02),
                Transform::Partial => address.iter().skip(3).all(|byte| *byte == 0),
                Transform::Redact | Transform::Last4 | Transform::Null => {
                    address.iter().all(|byte| *byte == 0)
                }
            }),
        Kind::Bytes => match format {
            Format::Text => read_bytes(value).map(|bytes| bytes.len()),
            Format::Binary => Some(value.len()),
        }
        .map(|length| length == if transform == Transform::Hash { HASH_BYTES } else { 0 }),
        Kind::Bits => {
            bit_string(format, value).map(|bits| transform == Transform::Hash || !bits.contains(&true))
        }
        Kind::VaryingBits => bit_string(format, value)
            .map(|bits| bits.len() == if transform == Transform::Hash { HASH_BITS } else { 0 }),
        Kind::Enum(first) => Some(value == first.as_bytes()),
        Kind::Range => Some(match format {
            Format::Text => value.trim_ascii().eq_ignore_ascii_case(b"empty"),
            Format::Binary => value == [1],
        }),
        Kind::Multirange => Some(match format {
            Format::Text => value.iter().filter(|byte| !byte.is_ascii_whitespace()).eq(b"{}"),
            Format::Binary => value == [0; 4],
        }),
        _ => None,
    };
    is.unwrap_or(false)
}

/// A hash is of a version that hardly anybody makes; zeros are what many mean by no UUID.
pub(super) fn uuid(transform: Transform, format: Format, value: &[u8]) -> Image {
    let read = match format {
        Format::Binary => addresses::read_uuid(format, value),
        Format::Text => std::str::from_utf8(value).ok().and_then(any_uuid),
    };
    let Some(uuid) = read else { return Image::None };
    let [.., version, _, variant, _, _, _, _, _, _, _] = uuid;
    let shown = if transform == Transform::Last4 { 14 } else { 16 };
    match transform {
        Transform::Hash if version >> 4 == 8 && variant >> 6 == 2 => Image::Unmistakable,
        Transform::Hash | Transform::Null => Image::None,
        _ if uuid.iter().take(shown).all(|byte| *byte == 0) => Image::Honest,
        _ => Image::None,
    }
}

/// A UUID in any of the forms that PostgreSQL reads.
fn any_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|sign| !matches!(sign, '-' | '{' | '}' | ' ')).collect();
    u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32).map(u128::to_be_bytes)
}

/// `false`, `off`, `no`, `0`, or the beginning of one.
fn is_false(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let begins = ["false", "no"].iter().any(|word| !text.is_empty() && word.starts_with(&text));
    begins || matches!(text.as_str(), "of" | "off" | "0")
}

fn whole_number(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    match decimal(text)? {
        Decimal::Finite { is_negative, whole, fraction } if fraction.is_empty() => {
            let number: i64 = whole.parse().ok()?;
            Some(if is_negative { -number } else { number })
        }
        _ => None,
    }
}

/// A whole number of whatever size: a client sends an `int4` for a `bigint`.
fn binary_integer(width: Width, value: &[u8]) -> Option<i64> {
    Some(match (value.len(), width) {
        (2, _) => i16::from_be_bytes(value.try_into().ok()?).into(),
        (4, Width::Oid) => u32::from_be_bytes(value.try_into().ok()?).into(),
        (4, _) => i32::from_be_bytes(value.try_into().ok()?).into(),
        (8, _) => i64::from_be_bytes(value.try_into().ok()?),
        _ => return None,
    })
}

fn is_whole_image(transform: Transform, number: i64) -> bool {
    number == 0 && transform != Transform::Null
        || match transform {
            Transform::Partial => {
                let mut left = number.unsigned_abs();
                let is_large = left >= PARTIAL_FROM;
                while left.is_multiple_of(10) && left > 9 {
                    left /= 10;
                }
                is_large && left < 10
            }
            Transform::Last4 => u64::try_from(number).is_ok_and(|number| number <= LAST4_MOST),
            Transform::Hash => number >= 0,
            Transform::Redact | Transform::Null => false,
        }
}

/// Where the decimal sign is, only the locale knows: each figure counts.
fn is_money_image(transform: Transform, text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_start_matches('0');
    let is_negative = text.contains(['-', '(']);
    match transform {
        Transform::Partial => digits.trim_end_matches('0').len() < 2,
        Transform::Last4 => digits.len() <= 4 && !is_negative,
        Transform::Hash => !is_negative,
        Transform::Redact => digits.is_empty(),
        Transform::Null => false,
    }
}

fn is_float_image(transform: Transform, number: f64) -> bool {
    let shows_one_digit = |number: &str| {
        number.split_once('e').is_some_and(|(mantissa, exponent)| {
            mantissa.trim_start_matches('-').len() == 1
                && exponent.parse::<i32>().is_ok_and(|exponent| exponent >= 3)
        })
    };
    number == 0.0
        || match transform {
            // A `real` is not the same number any more once a client has made a double of it.
            #[expect(clippy::cast_possible_truncation, reason = "it is asked for what is left of it")]
            Transform::Partial => {
                number.is_finite()
                    && (shows_one_digit(&format!("{number:e}"))
                        || shows_one_digit(&format!("{:e}", number as f32)))
            }
            Transform::Hash => (0.0..FLOAT_HASH_BELOW).contains(&number) && number.fract() == 0.0,
            Transform::Redact | Transform::Last4 | Transform::Null => false,
        }
}

/// A number in any of the forms that PostgreSQL reads, but for those of other bases than ten.
fn decimal(text: &str) -> Option<Decimal> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if let Some(number) = read_decimal(text) {
        return Some(number);
    }
    let number: f64 = text.parse().ok()?;
    read_decimal(&number.to_string())
}

fn is_decimal_image(transform: Transform, number: &Decimal) -> bool {
    let Decimal::Finite { is_negative, whole, fraction } = number else { return false };
    if !fraction.is_empty() {
        return false;
    }
    whole == "0"
        || match transform {
            Transform::Partial => whole.len() > 3 && whole.trim_end_matches('0').len() == 1,
            Transform::Last4 => !is_negative && whole.len() <= 4,
            Transform::Hash => !is_negative && whole.len() <= NUMERIC_HASH_DIGITS,
            Transform::Redact | Transform::Null => false,
        }
}

fn is_clock_image(transform: Transform, micros: i64) -> bool {
    let unit = match transform {
        Transform::Partial => HOUR_MICROS,
        Transform::Hash => SECOND_MICROS,
        Transform::Redact | Transform::Last4 | Transform::Null => DAY_MICROS,
    };
    micros.rem_euclid(unit) == 0
}

/// No time at all; or with `hash` a number of seconds, in whatever words.
fn is_interval_image(transform: Transform, format: Format, value: &[u8]) -> Option<bool> {
    if format == Format::Binary {
        let (months, days, micros) = read_binary_interval(value)?;
        let is_short = months == 0 && days == 0 && (0..DAY_MICROS).contains(&micros);
        let unit = if transform == Transform::Hash { SECOND_MICROS } else { DAY_MICROS };
        return Some(is_short && micros % unit == 0);
    }
    let text = std::str::from_utf8(value).ok()?;
    let is_nothing = text.contains('0') && !text.contains(|sign: char| matches!(sign, '1'..='9'));
    Some(is_nothing || transform == Transform::Hash && !text.contains(['-', '.']))
}

fn is_address_image(transform: Transform, address: std::net::IpAddr, bits: u8) -> bool {
    use std::net::IpAddr;
    if bits != if address.is_ipv4() { 32 } else { 128 } {
        return false;
    }
    address.is_unspecified()
        || match (transform, address) {
            (Transform::Partial, IpAddr::V4(address)) => {
                address.octets().iter().skip(1).all(|byte| *byte == 0)
            }
            (Transform::Partial, IpAddr::V6(address)) => {
                address.segments().iter().skip(1).all(|part| *part == 0)
            }
            (Transform::Hash, IpAddr::V4(address)) => address.octets().first() == Some(&10),
            (Transform::Hash, IpAddr::V6(address)) => address.octets().first() == Some(&0xfd),
            _ => false,
        }
}

/// In any of the forms that PostgreSQL reads.
fn hardware_address(format: Format, value: &[u8]) -> Option<Vec<u8>> {
    if format == Format::Binary {
        return Some(value.to_vec());
    }
    let digits: String = std::str::from_utf8(value).ok()?.chars().filter(char::is_ascii_hexdigit).collect();
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.iter().map(byte).collect::<Option<_>>().filter(|_| rest.is_empty())
}

fn bit_string(format: Format, value: &[u8]) -> Option<Vec<bool>> {
    match format {
        Format::Text => bits::read_text(value.trim_ascii()),
        Format::Binary => bits::read_binary(value),
    }
}
