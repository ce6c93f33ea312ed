//! Dates and times. `redact` gives 1970-01-01, 00:00:00, or no time at all; `partial` leaves the year of a date and the
//! hour of a time; `hash` gives a date between 1900 and 2099, or a second of a day. Text is written in the style of
//! `DateStyle` or `IntervalStyle` that came, since clients read what they have set.
//! <https://www.postgresql.org/docs/current/datatype-datetime.html>; binary forms as in `date_send`, `timestamp_send`.

use bytes::BufMut;
use time::{Date, Month};

use super::super::{
    masker::{Masker, Outcome},
    types::Format,
};
use crate::domain::decision::Transform;

/// 2000-01-01, from which PostgreSQL counts, as a Julian day.
const EPOCH_JULIAN: i32 = 2_451_545;
/// 1970-01-01, counted from there.
pub(in super::super) const REDACTED_DAY: i32 = -10_957;
/// 1900-01-01, likewise, and the days of two centuries.
pub(in super::super) const FIRST_HASHED_DAY: i32 = -36_524;
pub(in super::super) const HASHED_DAYS: u64 = 73_049;
const DAY_SECONDS: u64 = 86_400;
pub(in super::super) const SECOND_MICROS: i64 = 1_000_000;
pub(in super::super) const HOUR_MICROS: i64 = 3_600 * SECOND_MICROS;
pub(in super::super) const DAY_MICROS: i64 = 24 * HOUR_MICROS;

/// How `DateStyle` writes dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// 1997-12-17
    Iso,
    /// 17.12.1997
    German,
    /// 12/17/1997 or 17/12/1997
    Sql,
    /// 12-17-1997 or 17-12-1997; with a time: Wed Dec 17 07:37:16 1997
    Postgres,
}

impl Style {
    fn of(text: &str) -> Self {
        match text.as_bytes() {
            [_, _, b'.', ..] => Self::German,
            [_, _, b'/', ..] => Self::Sql,
            [_, _, b'-', ..] | [b'A'..=b'Z', ..] => Self::Postgres,
            _ => Self::Iso,
        }
    }
}

/// What is known of a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Moment {
    /// Microseconds since 2000, or days for dates.
    Counted(i64),
    /// In a style that does not say which number is the month, or out of the years that are counted here: its text and,
    /// where it can be told, its year.
    Written(String, Option<i32>),
}

impl Moment {
    fn canonical(&self) -> String {
        match self {
            Self::Counted(count) => count.to_string(),
            Self::Written(text, _) => text.clone(),
        }
    }
}

pub(in super::super) fn day_number(year: i32, month: u8, day: u8) -> Option<i32> {
    let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()?;
    Some(date.to_julian_day() - EPOCH_JULIAN)
}

fn calendar(day: i32) -> Option<Date> {
    Date::from_julian_day(day.checked_add(EPOCH_JULIAN)?).ok()
}

/// The first of January of the year that `day` is in.
pub(in super::super) fn first_of_year(day: i32) -> Option<i32> {
    day_number(calendar(day)?.year(), 1, 1)
}

fn hashed_day(number: u64) -> i32 {
    FIRST_HASHED_DAY.saturating_add(i32::try_from(number % HASHED_DAYS).unwrap_or_default())
}

pub(in super::super) fn date(
    masker: &Masker,
    transform: Transform,
    format: Format,
    value: &[u8],
    out: &mut impl BufMut,
) -> Outcome {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let moment = match format {
        Format::Binary => {
            value.try_into().ok().map(i32::from_be_bytes).map(|days| Moment::Counted(days.into()))
        }
        Format::Text => read_date(text),
    };
    let Some(moment) = moment else { return Outcome::Null };
    let style = if format == Format::Text { Style::of(text) } else { Style::Iso };
    let day = masked_day(masker, transform, &moment, style);
    match format {
        Format::Binary => out.put_i32(day),
        Format::Text => put_date(style, day, out),
    }
    Outcome::Written
}

/// The day that stands for a date. In the styles that do not say which number is the month, a first of January.
fn masked_day(masker: &Masker, transform: Transform, moment: &Moment, style: Style) -> i32 {
    let day = match (transform, moment) {
        (Transform::Hash, _) => Some(hashed_day(masker.number(moment.canonical().as_bytes()))),
        (Transform::Partial, Moment::Counted(day)) => i32::try_from(*day).ok().and_then(first_of_year),
        (Transform::Partial, Moment::Written(_, year)) => year.and_then(|year| day_number(year, 1, 1)),
        _ => None,
    };
    let day = if style == Style::Iso { day } else { day.and_then(first_of_year) };
    day.unwrap_or(REDACTED_DAY)
}

fn read_date(text: &str) -> Option<Moment> {
    match text {
        "infinity" => return Some(Moment::Counted(i32::MAX.into())),
        "-infinity" => return Some(Moment::Counted(i32::MIN.into())),
        _ => {}
    }
    if text.is_empty() {
        return None;
    }
    if Style::of(text) != Style::Iso {
        let year = text.get(6..10).filter(|_| text.len() == 10).and_then(|year| year.parse().ok());
        return Some(Moment::Written(text.to_owned(), year));
    }
    let (date, before_christ) = match text.strip_suffix(" BC") {
        Some(date) => (date, true),
        None => (text, false),
    };
    Some(match iso_day(date, before_christ) {
        Some(day) => Moment::Counted(day.into()),
        None => Moment::Written(text.to_owned(), None),
    })
}

pub(in super::super) fn iso_day(date: &str, before_christ: bool) -> Option<i32> {
    let mut parts = date.split('-');
    let year: i32 = parts.next()?.parse().ok()?;
    let (month, day) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    day_number(if before_christ { 1 - year } else { year }, month, day).filter(|_| parts.next().is_none())
}

/// Outside of ISO only ever a first of January, which is the same in every order.
fn put_date(style: Style, day: i32, out: &mut impl BufMut) {
    let Some(date) = calendar(day) else { return out.put_slice(b"1970-01-01") };
    let (year, era) = if date.year() > 0 { (date.year(), "") } else { (1 - date.year(), " BC") };
    let (month, day) = (u8::from(date.month()), date.day());
    let text = match style {
        Style::Iso => format!("{year:04}-{month:02}-{day:02}{era}"),
        Style::German => format!("{day:02}.{month:02}.{year:04}{era}"),
        Style::Sql => format!("{month:02}/{day:02}/{year:04}{era}"),
        Style::Postgres => format!("{month:02}-{day:02}-{year:04}{era}"),
    };
    out.put_slice(text.as_bytes());
}

/// Whether a time knows its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Zone {
    Without,
    With,
}

pub(in super::super) fn timestamp(
    masker: &Masker,
    transform: Transform,
    zone: Zone,
    format: Format,
    value: &[u8],
    out: &mut impl BufMut,
) -> Outcome {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let moment = match format {
        Format::Binary => value.try_into().ok().map(i64::from_be_bytes).map(Moment::Counted),
        Format::Text => read_timestamp(text),
    };
    let Some(moment) = moment else { return Outcome::Null };
    let style = if format == Format::Text { Style::of(text) } else { Style::Iso };
    let days = match &moment {
        Moment::Counted(micros) => Moment::Counted(micros.div_euclid(DAY_MICROS)),
        written @ Moment::Written(..) => written.clone(),
    };
    let (day, second) = if transform == Transform::Hash {
        let number = masker.number(moment.canonical().as_bytes());
        let day = hashed_day(number / DAY_SECONDS);
        let day = if style == Style::Iso { day } else { first_of_year(day).unwrap_or(REDACTED_DAY) };
        (day, i64::try_from(number % DAY_SECONDS).unwrap_or_default())
    } else {
        (masked_day(masker, transform, &days, style), 0)
    };
    if format == Format::Binary {
        out.put_i64(i64::from(day) * DAY_MICROS + second * SECOND_MICROS);
        return Outcome::Written;
    }
    let clock = clock(second);
    if style == Style::Postgres {
        let Some(date) = calendar(day) else { return Outcome::Null };
        let (weekday, month) = (date.weekday().to_string(), date.month().to_string());
        let (weekday, month) = (weekday.get(..3).unwrap_or_default(), month.get(..3).unwrap_or_default());
        let text = format!("{weekday} {month} {:02} {clock} {:04}", date.day(), date.year());
        out.put_slice(text.as_bytes());
    } else {
        put_date(style, day, out);
        out.put_u8(b' ');
        out.put_slice(clock.as_bytes());
    }
    match (zone, style) {
        (Zone::Without, _) => {}
        (Zone::With, Style::Iso) => out.put_slice(b"+00"),
        (Zone::With, _) => out.put_slice(b" UTC"),
    }
    Outcome::Written
}

fn read_timestamp(text: &str) -> Option<Moment> {
    match text {
        "infinity" => return Some(Moment::Counted(i64::MAX)),
        "-infinity" => return Some(Moment::Counted(i64::MIN)),
        "" => return None,
        _ => {}
    }
    let year = match Style::of(text) {
        Style::Iso => {
            return Some(match iso_timestamp(text) {
                Some(micros) => Moment::Counted(micros),
                None => Moment::Written(text.to_owned(), None),
            });
        }
        Style::Postgres => text.split(' ').nth(4),
        Style::German | Style::Sql => text.get(6..10),
    };
    let year = year.and_then(|year| year.parse().ok()).filter(|year| (1..=9_999).contains(year));
    Some(Moment::Written(text.to_owned(), year))
}

pub(in super::super) fn iso_timestamp(text: &str) -> Option<i64> {
    let (text, before_christ) = match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (date, clock) = text.split_once(' ')?;
    let day = iso_day(date, before_christ)?;
    Some(i64::from(day) * DAY_MICROS + read_clock(clock)?)
}

fn clock(second: i64) -> String {
    format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}

/// `HH:MM:SS[.ffffff][±HH[:MM[:SS]]]` in microseconds of UTC.
pub(in super::super) fn read_clock(text: &str) -> Option<i64> {
    let (clock, offset) = match text.find(['+', '-']) {
        Some(at) => (text.get(..at)?, offset_micros(text.get(at..)?)?),
        None => (text, 0),
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let micros = if fraction.is_empty() { 0 } else { format!("{fraction:0<6}").get(..6)?.parse().ok()? };
    Some(seconds(clock)? * SECOND_MICROS + micros - offset)
}

fn offset_micros(text: &str) -> Option<i64> {
    let (sign, text) = text.split_at_checked(1)?;
    let micros = seconds(text)? * SECOND_MICROS;
    Some(if sign == "-" { -micros } else { micros })
}

/// `HH[:MM[:SS]]` in seconds.
fn seconds(text: &str) -> Option<i64> {
    let mut total = 0;
    let mut unit = 3_600;
    for part in text.split(':') {
        if unit == 0 || part.is_empty() || part.len() > 2 {
            return None;
        }
        total += part.parse::<i64>().ok().filter(|part| *part >= 0)? * unit;
        unit /= 60;
    }
    Some(total)
}

pub(in super::super) fn time_of_day(
    masker: &Masker,
    transform: Transform,
    zone: Zone,
    format: Format,
    value: &[u8],
    out: &mut impl BufMut,
) -> Outcome {
    let read = match (format, zone) {
        (Format::Text, _) => std::str::from_utf8(value).ok().and_then(read_clock),
        (Format::Binary, zone) => read_binary_clock(zone, value),
    };
    let Some(micros) = read else { return Outcome::Null };
    let second = match transform {
        Transform::Hash => masker.number(micros.to_string().as_bytes()) % DAY_SECONDS,
        Transform::Partial => {
            u64::try_from(micros.rem_euclid(DAY_MICROS) / HOUR_MICROS * 3_600).unwrap_or_default()
        }
        Transform::Redact | Transform::Last4 | Transform::Null => 0,
    };
    let second = i64::try_from(second).unwrap_or_default();
    match (format, zone) {
        (Format::Text, Zone::Without) => out.put_slice(clock(second).as_bytes()),
        (Format::Text, Zone::With) => out.put_slice(format!("{}+00", clock(second)).as_bytes()),
        (Format::Binary, _) => {
            out.put_i64(second * SECOND_MICROS);
            if zone == Zone::With {
                out.put_i32(0);
            }
        }
    }
    Outcome::Written
}

/// Microseconds of a day; those of UTC where the zone is known.
pub(in super::super) fn read_binary_clock(zone: Zone, value: &[u8]) -> Option<i64> {
    if zone == Zone::Without {
        return value.try_into().ok().map(i64::from_be_bytes);
    }
    let (micros, west) = value.split_first_chunk::<8>()?;
    let west = i64::from(i32::from_be_bytes(west.try_into().ok()?));
    i64::from_be_bytes(*micros).checked_add(west.checked_mul(SECOND_MICROS)?)
}

/// No time at all, or with `hash` less than a day.
pub(in super::super) fn interval(
    masker: &Masker,
    transform: Transform,
    format: Format,
    value: &[u8],
    out: &mut impl BufMut,
) -> Outcome {
    if format == Format::Binary && value.len() != 16 || value.is_empty() {
        return Outcome::Null;
    }
    let second = match transform {
        Transform::Hash => {
            let read = match format {
                Format::Binary => read_binary_interval(value),
                Format::Text => std::str::from_utf8(value).ok().and_then(read_interval),
            };
            // Of the other styles each text is a value of its own.
            let number = match read {
                Some((months, days, micros)) => masker.number(format!("{months} {days} {micros}").as_bytes()),
                None => masker.number(value),
            };
            i64::try_from(number % DAY_SECONDS).unwrap_or_default()
        }
        _ => 0,
    };
    match (format, value.first()) {
        (Format::Binary, _) => {
            out.put_i64(second * SECOND_MICROS);
            out.put_i32(0);
            out.put_i32(0);
        }
        (Format::Text, Some(b'@')) if second == 0 => out.put_slice(b"@ 0"),
        (Format::Text, Some(b'@')) => out.put_slice(format!("@ {second} secs").as_bytes()),
        (Format::Text, Some(b'P')) => out.put_slice(format!("PT{second}S").as_bytes()),
        (Format::Text, _) => out.put_slice(clock(second).as_bytes()),
    }
    Outcome::Written
}

/// Months, days, microseconds.
pub(in super::super) fn read_binary_interval(value: &[u8]) -> Option<(i32, i32, i64)> {
    let (micros, rest) = value.split_first_chunk::<8>()?;
    let (days, months) = rest.split_first_chunk::<4>()?;
    let months = i32::from_be_bytes(months.try_into().ok()?);
    Some((months, i32::from_be_bytes(*days), i64::from_be_bytes(*micros)))
}

/// The same of `1 year 2 mons -3 days 04:05:06.5`, which is `IntervalStyle` postgres.
fn read_interval(text: &str) -> Option<(i32, i32, i64)> {
    let (mut months, mut days, mut micros) = (0, 0, 0);
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        if word.contains(':') {
            micros = read_hours(word)?;
            continue;
        }
        let count: i32 = word.parse().ok()?;
        match words.next()?.trim_end_matches('s') {
            "year" => months += count.checked_mul(12)?,
            "mon" => months += count,
            "day" => days += count,
            _ => return None,
        }
    }
    Some((months, days, micros))
}

/// `[-]HH…:MM:SS[.ffffff]`, with as many hours as it likes.
fn read_hours(text: &str) -> Option<i64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (hours, rest) = text.split_once(':')?;
    let hours = hours.parse::<i64>().ok()?.checked_mul(HOUR_MICROS)?;
    Some(sign * hours.checked_add(read_clock(&format!("00:{rest}"))?)?)
}
