//! The section `recording`: that it is there turns recording on.

use super::Checker;
use crate::{
    config::{
        checked::{Recording, UnrecordedSession},
        raw::{self, At},
    },
    domain::size::parse_size,
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Results are held in memory until their request is answered.
const RESULT_BYTES_AT_MOST: u64 = 16 * MIB;
/// No smaller room for all recordings: it would be used up by a few.
const TOTAL_BYTES_AT_LEAST: u64 = MIB;

impl Checker {
    pub(super) fn recording(&mut self, recording: &raw::Recording) -> Option<Recording> {
        let result_bytes = self.size(recording.result_size.as_ref(), 64 * KIB);
        let session_bytes = self.size(recording.session_size.as_ref(), 64 * MIB);
        let total_bytes = self.size(recording.total_size.as_ref(), 10 * GIB);
        if let (Some(at), Some(bytes)) = (&recording.result_size, result_bytes)
            && bytes > RESULT_BYTES_AT_MOST
        {
            let what = "more than 16MiB of a result cannot be recorded".to_owned();
            self.note(at, what, Some("results are held in memory until they are complete"));
            return None;
        }
        if let (Some(at), Some(bytes)) = (&recording.total_size, total_bytes)
            && bytes < TOTAL_BYTES_AT_LEAST
        {
            self.note(
                at,
                "less than 1MiB holds no recordings".to_owned(),
                Some("write `10GiB`, or leave it out"),
            );
            return None;
        }
        let retention_days = match &recording.retention_days {
            None => 30,
            Some(days) if days.value == 0 => {
                let what = "recordings must be kept for at least a day".to_owned();
                self.note(days, what, Some("write 1 or more"));
                return None;
            }
            Some(days) => days.value,
        };
        let on_failure = match &recording.on_failure {
            None => UnrecordedSession::Ends,
            Some(word) => match self.word(word, "on_failure", &["end_session", "mark"], &[])? {
                "mark" => UnrecordedSession::GoesOn,
                _ => UnrecordedSession::Ends,
            },
        };
        Some(Recording {
            result_bytes: result_bytes?,
            session_bytes: session_bytes?,
            total_bytes: total_bytes?,
            retention_days,
            on_failure,
        })
    }

    fn size(&mut self, at: Option<&At<raw::Size>>, default: u64) -> Option<u64> {
        let Some(at) = at else { return Some(default) };
        let bytes = parse_size(&at.value.0);
        if bytes.is_none() {
            let what = format!("`{}` is not a size", at.value.0.escape_debug());
            self.note(
                at,
                what,
                Some("write a number of bytes, or one with a unit: `64KiB`, `16MiB`, `2GiB`"),
            );
        }
        bytes
    }
}
