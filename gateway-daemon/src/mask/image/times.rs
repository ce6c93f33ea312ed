//! Images of dates and times. In the styles that do not say which number is the month, only a first of January can be one.

use super::super::{
    scalars::times::{
        DAY_MICROS, FIRST_HASHED_DAY, HASHED_DAYS, REDACTED_DAY, SECOND_MICROS, day_number, first_of_year,
        iso_day, iso_timestamp, read_clock,
    },
    types::Format,
};
use crate::domain::decision::Transform;

/// Characters of a date in ISO 8601.
const DATE_CHARS: usize = 10;

pub(super) fn is_date_image(transform: Transform, format: Format, value: &[u8]) -> bool {
    let day = match format {
        Format::Binary => value.try_into().ok().map(i32::from_be_bytes),
        Format::Text => std::str::from_utf8(value).ok().and_then(|text| day_of(text.trim())),
    };
    day.is_some_and(|day| is_day_image(transform, day))
}

pub(super) fn is_timestamp_image(transform: Transform, format: Format, value: &[u8]) -> bool {
    if format == Format::Binary {
        let micros = value.try_into().ok().map(i64::from_be_bytes);
        return micros.is_some_and(|micros| is_moment_image(transform, micros));
    }
    let Ok(text) = std::str::from_utf8(value) else { return false };
    moments_of(text.trim()).into_iter().flatten().any(|micros| is_moment_image(transform, micros))
}

fn is_day_image(transform: Transform, day: i32) -> bool {
    match transform {
        Transform::Redact | Transform::Last4 => day == REDACTED_DAY,
        Transform::Partial => first_of_year(day) == Some(day),
        Transform::Hash => {
            let since = i64::from(day) - i64::from(FIRST_HASHED_DAY);
            u64::try_from(since).is_ok_and(|since| since < HASHED_DAYS)
        }
        Transform::Null => false,
    }
}

fn is_moment_image(transform: Transform, micros: i64) -> bool {
    let unit = if transform == Transform::Hash { SECOND_MICROS } else { DAY_MICROS };
    let day = i32::try_from(micros.div_euclid(DAY_MICROS));
    micros.rem_euclid(unit) == 0 && day.is_ok_and(|day| is_day_image(transform, day))
}

/// The day that a text names, if it is written in ISO 8601 or is a first of January.
fn day_of(text: &str) -> Option<i32> {
    if text == "epoch" {
        return Some(REDACTED_DAY);
    }
    let (text, before_christ) = match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let date = text.split(['T', ' ']).next()?;
    if let Some(day) = iso_day(date, before_christ) {
        return Some(day);
    }
    let year: i32 = match text.as_bytes() {
        [b'0', b'1', b'.' | b'/' | b'-', b'0', b'1', _, ..] => text.get(6..DATE_CHARS)?.parse().ok()?,
        [b'A'..=b'Z', ..] => {
            let mut words = text.split(' ').skip(1);
            (words.next()? == "Jan" && words.next()? == "01").then_some(())?;
            words.nth(1)?.parse().ok()?
        }
        _ => return None,
    };
    day_number(if before_christ { 1 - year } else { year }, 1, 1)
}

/// What a text may mean: with its offset, and without, since a `timestamp` has none.
fn moments_of(text: &str) -> [Option<i64>; 2] {
    let text = text.trim_end_matches("UTC").trim_end_matches(['Z', ' ']);
    let (text, era) = match text.strip_suffix(" BC") {
        Some(text) => (text, " BC"),
        None => (text, ""),
    };
    if let Some((date, clock)) = text.split_once(['T', ' '])
        && iso_day(date, false).is_some()
    {
        let clock: String = clock.chars().filter(|sign| *sign != ' ').collect();
        let local = clock.split(['+', '-']).next().unwrap_or_default();
        return [&clock, local].map(|clock| iso_timestamp(&format!("{date} {clock}{era}")));
    }
    let day = day_of(text).map(i64::from);
    let clock = text.split(' ').find(|word| word.contains(':')).map_or(Some(0), read_clock);
    [day.zip(clock).map(|(day, clock)| day * DAY_MICROS + clock), None]
}
