//! What a search asks for. [`Query::matches`] alone says what it means; the index only narrows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::{Date, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

use super::record::Record;
use crate::domain::{
    event::{EventKind, Outcome},
    mode::Mode,
};

/// Which end of the log comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The newest record first.
    #[default]
    NewestFirst,
    /// The oldest record first.
    OldestFirst,
}

/// A search; every part that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// Part of the identity, `<issuer url>|<subject>`; case matters.
    pub identity: Option<String>,
    /// Not before this Unix time in microseconds.
    pub since: Option<u64>,
    /// Before this Unix time in microseconds.
    pub until: Option<u64>,
    /// The target's name, whole.
    pub target: Option<String>,
    /// How it was decided.
    pub outcome: Option<Outcome>,
    /// In which mode; [`Mode::Enforce`] is that of records that name none.
    pub mode: Option<Mode>,
    /// What happened.
    pub kind: Option<EventKind>,
    /// The session's id, whole.
    pub session: Option<String>,
    /// The id of one of the policies that decided, whole.
    pub policy: Option<String>,
    /// Part of the request's text or of the reason. ASCII letters match in either case.
    pub text: Option<String>,
    /// So many records at most.
    pub limit: Option<usize>,
    /// Which come first, and so which a limit keeps.
    pub order: Order,
}

impl Query {
    /// Whether the record is asked for. Knows nothing of `limit` and `order`.
    pub fn matches(&self, record: &Record) -> bool {
        let event = &record.event;
        self.since.is_none_or(|since| record.time >= since)
            && self.until.is_none_or(|until| record.time < until)
            && self.outcome.is_none_or(|outcome| event.outcome == outcome)
            && self.mode.is_none_or(|mode| event.mode.unwrap_or_default() == mode)
            && self.kind.is_none_or(|kind| event.kind == kind)
            && holds(self.identity.as_ref(), |part| {
                event.identity.as_ref().is_some_and(|identity| identity.contains(part))
            })
            && holds(self.target.as_ref(), |name| event.target.as_ref().is_some_and(|it| it.as_str() == name))
            && holds(self.session.as_ref(), |id| event.session.as_ref().is_some_and(|it| it.as_str() == id))
            && holds(self.policy.as_ref(), |id| event.policies.iter().any(|it| it.as_str() == id))
            && holds(self.text.as_ref(), |part| {
                contains_ignoring_case(&event.text, part) || contains_ignoring_case(&event.reason, part)
            })
    }
}

fn holds(asked: Option<&String>, is_so: impl Fn(&str) -> bool) -> bool {
    asked.is_none_or(|asked| is_so(asked))
}

fn contains_ignoring_case(text: &str, part: &str) -> bool {
    let part = part.as_bytes();
    part.is_empty() || text.as_bytes().windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

/// Reads a point in time as Unix microseconds: RFC 3339 (`2026-01-31T08:00:00Z`), a day (`2026-01-31`, from
/// midnight UTC), or how long before `now` (`45s`, `30m`, `1h`, `7d`, `2w`).
pub fn parse_time(text: &str, now: SystemTime) -> Result<u64, String> {
    if let Some(ago) = parse_ago(text) {
        let micros = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(ago).as_micros();
        return u64::try_from(micros).map_err(|error| error.to_string());
    }
    let day = format_description!("[year]-[month]-[day]");
    let point = OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| Date::parse(text, &day).map(|date| date.midnight().assume_utc()))
        .map_err(|_| {
            format!("`{text}` is no time: give 2026-01-31T08:00:00Z, 2026-01-31, or how long ago: 45s, 30m, 1h, 7d")
        })?;
    u64::try_from(point.unix_timestamp_nanos() / 1000).map_err(|_| format!("`{text}` is before 1970"))
}

fn parse_ago(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
    Some(Duration::from_secs(count.checked_mul(seconds)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_ago() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(parse_time("1h", now), Ok((1_000_000 - 3600) * 1_000_000));
        assert_eq!(parse_time("1970-01-02", now), Ok(86_400_000_000));
        assert_eq!(parse_time("1970-01-01T02:00:00+01:00", now), Ok(3_600_000_000));
        assert_eq!(parse_time("99999w", now), Ok(0));
        for wrong in ["", "h", "-1h", "yesterday", "1969-12-31", "99999999999999999999w", "1é"] {
            parse_time(wrong, now).unwrap_err();
        }
    }

    #[test]
    fn letters_match_in_either_case_and_other_characters_as_they_are() {
        assert!(contains_ignoring_case("DROP TABLE Größe", "drop table GrößE"));
        assert!(!contains_ignoring_case("DROP", "drop table"));
        assert!(contains_ignoring_case("", ""));
    }
}
