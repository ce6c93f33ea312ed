//! Numbers. `redact` gives 0; `partial` leaves sign, first digit and magnitude of what is 1,000 or more; `last4` leaves
//! the last four digits of what has more than eight; `hash` gives a number that is not negative and fits the type.
//! <https://www.postgresql.org/docs/current/datatype-numeric.html>; binary forms as in `numeric_send`, `cash_send`.

use bytes::BufMut;

use super::super::{
    masker::{Masker, Outcome},
    types::{Format, Width},
};
use crate::domain::decision::Transform;

/// A numeric's hash has at most this many digits, so that it survives languages without wide numbers.
const NUMERIC_HASH_BELOW: u64 = 1_000_000_000_000_000;
/// Integers up to here are exact in a double, and in a real.
const DOUBLE_HASH_BELOW: u64 = 1 << 53;
const REAL_HASH_BELOW: u64 = 1 << 24;
/// Smaller numbers show nothing in part.
const PARTIAL_FROM: u64 = 1_000;
/// Up to this, the last four digits are too much to show.
const LAST4_ABOVE: u64 = 99_999_999;

/// A truth value: two of them cannot be told apart by a hash, so all transforms give false.
pub(in super::super) fn boolean(format: Format, out: &mut impl BufMut) -> Outcome {
    match format {
        Format::Text => out.put_u8(b'f'),
        Format::Binary => out.put_u8(0),
    }
    Outcome::Written
}

pub(in super::super) fn integer(
    masker: &Masker,
    transform: Transform,
    width: Width,
    format: Format,
    value: &[u8],
    out: &mut impl BufMut,
) -> Outcome {
    let Some(number) = read_integer(width, format, value) else { return Outcome::Null };
    let most = match width {
        Width::Two => i16::MAX.unsigned_abs().into(),
        Width::Four => i32::MAX.unsigned_abs().into(),
        Width::Eight => i64::MAX.unsigned_abs(),
        Width::Oid => u32::MAX.into(),
    };
    let shown = whole(masker, transform, number, most);
    match (format, width) {
        (Format::Text, _) => out.put_slice(shown.to_string().as_bytes()),
        (Format::Binary, Width::Two) => out.put_i16(i16::try_from(shown).unwrap_or_default()),
        (Format::Binary, Width::Four) => out.put_i32(i32::try_from(shown).unwrap_or_default()),
        (Format::Binary, Width::Eight) => out.put_i64(shown),
        (Format::Binary, Width::Oid) => out.put_u32(u32::try_from(shown).unwrap_or_default()),
    }
    Outcome::Written
}

/// What stands for a whole number, at most `most`.
fn whole(masker: &Masker, transform: Transform, number: i64, most: u64) -> i64 {
    match transform {
        Transform::Partial => {
            let mut power = 1;
            while number.unsigned_abs() / power >= 10 {
                power *= 10;
            }
            let shown = if power < PARTIAL_FROM { 0 } else { number.unsigned_abs() / power * power };
            let shown = i64::try_from(shown).unwrap_or_default();
            if number < 0 { -shown } else { shown }
        }
        Transform::Last4 if number.unsigned_abs() > LAST4_ABOVE => {
            i64::try_from(number.unsigned_abs() % 10_000).unwrap_or_default()
        }
        Transform::Last4 | Transform::Redact | Transform::Null => 0,
        Transform::Hash => {
            let hash = masker.number(number.to_string().as_bytes());
            i64::try_from(hash % most.saturating_add(1)).unwrap_or_default()
        }
    }
}

fn read_integer(width: Width, format: Format, value: &[u8]) -> Option<i64> {
    if format == Format::Text {
        return std::str::from_utf8(value).ok()?.parse().ok();
    }
    Some(match width {
        Width::Two => i16::from_be_bytes(value.try_into().ok()?).into(),
        Width::Four => i32::from_be_bytes(value.try_into().ok()?).into(),
        Width::Eight => i64::from_be_bytes(value.try_into().ok()?),
        Width::Oid => u32::from_be_bytes(value.try_into().ok()?).into(),
    })
}

/// Cents, or whatever the locale divides its currency into. In text the frame of the locale stays: symbol, and decimal
/// sign with as many digits behind it; the signs between thousands go.
pub(in super::super) fn money(
    masker: &Masker,
    transform: Transform,
    format: Format,
    value: &[u8],
    out: &mut impl BufMut,
) -> Outcome {
    if format == Format::Binary {
        return integer(masker, transform, Width::Eight, format, value, out);
    }
    let Some(text) = std::str::from_utf8(value).ok() else { return Outcome::Null };
    let (Some(first), Some(last)) =
        (text.find(|c: char| c.is_ascii_digit()), text.rfind(|c: char| c.is_ascii_digit()))
    else {
        return Outcome::Null;
    };
    let (prefix, rest) = text.split_at(first);
    let (figures, suffix) = rest.split_at(last - first + 1);
    let digits: String = figures.chars().filter(char::is_ascii_digit).collect();
    let Ok(amount) = digits.parse::<i64>() else { return Outcome::Null };
    let is_negative = prefix.contains(['-', '(']) || suffix.contains('-');
    let shown = whole(masker, transform, if is_negative { -amount } else { amount }, i64::MAX.unsigned_abs());
    // Three digits behind the last sign are thousands; no currency has three that PostgreSQL's locales write so.
    let decimals = figures
        .rfind(|c: char| !c.is_ascii_digit())
        .and_then(|at| Some((figures.get(at..)?.chars().next()?, figures.len() - at - 1)))
        .filter(|(sign, count)| matches!(sign, '.' | ',') && (1..3).contains(count));
    if shown < 0 {
        out.put_u8(b'-');
    }
    let is_frame = |c: &char| !matches!(c, '-' | '(' | ')');
    for symbol in prefix.chars().filter(is_frame) {
        out.put_slice(symbol.encode_utf8(&mut [0; 4]).as_bytes());
    }
    let (sign, places) = decimals.unwrap_or(('.', 0));
    let digits = format!("{:0width$}", shown.unsigned_abs(), width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(places));
    out.put_slice(whole.as_bytes());
    if places > 0 {
        out.put_slice(sign.encode_utf8(&mut [0; 4]).as_bytes());
        out.put_slice(fraction.as_bytes());
    }
    for symbol in suffix.chars().filter(is_frame) {
        out.put_slice(symbol.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Outcome::Written
}

pub(in super::super) fn double(
    masker: &Masker,
    transform: Transform,
    format: Format,
    value: &[u8],
    out: &mut impl BufMut,
) -> Outcome {
    let number: Option<f64> = match format {
        Format::Text => std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
        Format::Binary => value.try_into().ok().map(f64::from_be_bytes),
    };
    let Some(number) = number else { return Outcome::Null };
    // -0 equals 0.
    let number = if number == 0.0 { 0.0 } else { number };
    let shown = floating(masker, transform, &format!("{number:e}"), DOUBLE_HASH_BELOW);
    match format {
        Format::Text => out.put_slice(shown.as_bytes()),
        Format::Binary => out.put_f64(shown.parse().unwrap_or_default()),
    }
    Outcome::Written
}

pub(in super::super) fn real(
    masker: &Masker,
    transform: Transform,
    format: Format,
    value: &[u8],
    out: &mut impl BufMut,
) -> Outcome {
    let number: Option<f32> = match format {
        Format::Text => std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
        Format::Binary => value.try_into().ok().map(f32::from_be_bytes),
    };
    let Some(number) = number else { return Outcome::Null };
    let number = if number == 0.0 { 0.0 } else { number };
    let shown = floating(masker, transform, &format!("{number:e}"), REAL_HASH_BELOW);
    match format {
        Format::Text => out.put_slice(shown.as_bytes()),
        Format::Binary => out.put_f32(shown.parse().unwrap_or_default()),
    }
    Outcome::Written
}

/// What stands for a number in scientific notation.
fn floating(masker: &Masker, transform: Transform, number: &str, hash_below: u64) -> String {
    match transform {
        Transform::Hash => (masker.number(number.as_bytes()) % hash_below).to_string(),
        Transform::Partial => leading_digit(number).unwrap_or_else(|| "0".to_owned()),
        Transform::Redact | Transform::Last4 | Transform::Null => "0".to_owned(),
    }
}

/// `-1.25e4` → `-1e4`, from 1,000 on.
fn leading_digit(number: &str) -> Option<String> {
    let (mantissa, exponent) = number.split_once('e')?;
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let digit = mantissa.chars().next().filter(char::is_ascii_digit)?;
    (exponent.parse::<i32>().ok()? >= 3).then(|| format!("{sign}{digit}e{exponent}"))
}

/// A numeric, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Decimal {
    /// Sign, digits before the point without leading zeros, digits behind it without trailing ones.
    Finite { is_negative: bool, whole: String, fraction: String },
    /// NaN, Infinity, -Infinity.
    Special(&'static str),
}

impl Decimal {
    /// The same for equal values, whatever scale they were written with.
    fn canonical(&self) -> String {
        match self {
            Self::Special(name) => (*name).to_owned(),
            Self::Finite { is_negative, whole, fraction } => {
                let sign = if *is_negative { "-" } else { "" };
                if fraction.is_empty() {
                    format!("{sign}{whole}")
                } else {
                    format!("{sign}{whole}.{fraction}")
                }
            }
        }
    }
}

pub(in super::super) fn numeric(
    masker: &Masker,
    transform: Transform,
    format: Format,
    value: &[u8],
    out: &mut impl BufMut,
) -> Outcome {
    let read = match format {
        Format::Text => std::str::from_utf8(value).ok().and_then(read_decimal),
        Format::Binary => read_binary_decimal(value),
    };
    let Some(number) = read else { return Outcome::Null };
    let (is_negative, digits) = match (transform, &number) {
        (Transform::Hash, number) => {
            (false, (masker.number(number.canonical().as_bytes()) % NUMERIC_HASH_BELOW).to_string())
        }
        (Transform::Partial, Decimal::Finite { is_negative, whole, .. }) if whole.len() > 3 => {
            let first = whole.get(..1).unwrap_or_default();
            (*is_negative, format!("{first}{}", "0".repeat(whole.len() - 1)))
        }
        (Transform::Last4, Decimal::Finite { whole, .. }) if whole.len() > 8 => {
            let tail = whole.get(whole.len() - 4..).unwrap_or_default().trim_start_matches('0');
            (false, if tail.is_empty() { "0".to_owned() } else { tail.to_owned() })
        }
        _ => (false, "0".to_owned()),
    };
    match format {
        Format::Text => {
            if is_negative {
                out.put_u8(b'-');
            }
            out.put_slice(digits.as_bytes());
        }
        Format::Binary => put_binary_whole(is_negative, &digits, out),
    }
    Outcome::Written
}

pub(in super::super) fn read_decimal(text: &str) -> Option<Decimal> {
    match text {
        "NaN" => return Some(Decimal::Special("NaN")),
        "Infinity" => return Some(Decimal::Special("Infinity")),
        "-Infinity" => return Some(Decimal::Special("-Infinity")),
        _ => {}
    }
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number =
        !whole.is_empty() && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    is_number.then(|| finite(is_negative, whole, fraction))
}

fn finite(is_negative: bool, whole: &str, fraction: &str) -> Decimal {
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    let is_zero = whole.is_empty() && fraction.is_empty();
    Decimal::Finite {
        is_negative: is_negative && !is_zero,
        whole: if whole.is_empty() { "0" } else { whole }.to_owned(),
        fraction: fraction.to_owned(),
    }
}

/// Number of digits in base 10,000, weight of the first, sign, scale, then the digits.
pub(in super::super) fn read_binary_decimal(value: &[u8]) -> Option<Decimal> {
    use std::fmt::Write as _;
    let (head, digits) = value.split_first_chunk::<8>()?;
    let [c0, c1, w0, w1, s0, s1, ..] = *head;
    let count = usize::from(u16::from_be_bytes([c0, c1]));
    let weight = i16::from_be_bytes([w0, w1]);
    let is_negative = match u16::from_be_bytes([s0, s1]) {
        0 => false,
        0x4000 => true,
        0xc000 => return Some(Decimal::Special("NaN")),
        0xd000 => return Some(Decimal::Special("Infinity")),
        0xf000 => return Some(Decimal::Special("-Infinity")),
        _ => return None,
    };
    if digits.len() != count * 2 {
        return None;
    }
    let mut written = String::new();
    for digit in digits.chunks_exact(2) {
        let digit = u16::from_be_bytes(digit.try_into().ok()?);
        if digit > 9_999 {
            return None;
        }
        write!(written, "{digit:04}").ok()?;
    }
    // Digits of the base before the point.
    let before = usize::try_from(i32::from(weight) + 1).unwrap_or(0) * 4;
    if weight < -1 {
        let zeros = usize::try_from(-i32::from(weight) - 1).ok()? * 4;
        written.insert_str(0, &"0".repeat(zeros));
    } else if written.len() < before {
        written.push_str(&"0".repeat(before - written.len()));
    }
    let (whole, fraction) = written.split_at_checked(before)?;
    Some(finite(is_negative, whole, fraction))
}

/// Digits without leading zeros, but for a single 0.
fn put_binary_whole(is_negative: bool, digits: &str, out: &mut impl BufMut) {
    let groups: Vec<u16> = if digits == "0" {
        Vec::new()
    } else {
        let padding = "0".repeat((4 - digits.len() % 4) % 4);
        let padded = format!("{padding}{digits}");
        padded
            .as_bytes()
            .chunks_exact(4)
            .map(|group| group.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')))
            .collect()
    };
    let count = u16::try_from(groups.len()).unwrap_or_default();
    // Zeros at the end are not sent: the weight says where the first stands.
    let sent = groups.iter().rposition(|group| *group != 0).map_or(0, |last| last + 1);
    out.put_u16(u16::try_from(sent).unwrap_or_default());
    out.put_u16(count.saturating_sub(1));
    out.put_u16(if is_negative && sent > 0 { 0x4000 } else { 0 });
    out.put_u16(0);
    for group in groups.into_iter().take(sent) {
        out.put_u16(group);
    }
}
