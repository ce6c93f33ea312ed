//! Removes whole segments whose newest record is past its time, and leaves an anchor that the rest is chained
//! to. Each removal is itself a record, written before anything is removed: an anchor without its record was
//! forged.

use std::{fs, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{
    entry::Awaited,
    error::AuditError,
    layout::{Layout, Marker, SegmentFile, read_marker, sync_dir, write_marker},
    queue::Shared,
    record::Line,
    segment::{first_time, last_line},
    writer::unix_micros,
};
use crate::domain::event::{AuditEvent, EventKind, Outcome};

/// The text of the record that covers an anchor.
pub(super) fn cover(anchor: Marker) -> String {
    format!("retention: removed up to {} {}", anchor.seq, anchor.hash)
}

/// Whether an event, as the log's bytes, is the record of that removal.
pub(super) fn covers(event: &[u8], anchor: Marker) -> bool {
    // Read only where it can be: this is asked of every record of a log.
    let needle = cover(anchor);
    event.windows(needle.len()).any(|window| window == needle.as_bytes())
        && serde_json::from_slice::<AuditEvent>(event)
            .is_ok_and(|event| event.kind == EventKind::Daemon && event.text == needle)
}

/// Removes what is due; answers the last record removed, if any was.
pub(super) fn apply(
    layout: &Layout,
    retention: Duration,
    shared: &Arc<Shared>,
) -> Result<Option<Marker>, AuditError> {
    let segments = layout.segments()?;
    let anchor = read_marker(&layout.anchor())?.unwrap_or(Marker::GENESIS);
    // A crash between anchor and removal leaves these.
    let leftover = segments
        .windows(2)
        .take_while(|pair| matches!(pair, [_, next] if next.first_seq <= anchor.seq.saturating_add(1)));
    let leftover = leftover.count();
    let due = if retention.is_zero() { 0 } else { due(&segments, retention)? };
    if due <= leftover {
        remove(layout, segments.get(..leftover).unwrap_or_default())?;
        return Ok(None);
    }
    let removed = segments.get(..due).unwrap_or_default();
    let Some(last) = removed.last() else { return Ok(None) };
    let line = last_line(&last.path)?.unwrap_or_default();
    let Some(line) = Line::parse(&line).filter(Line::is_intact) else {
        return Err(AuditError::Damaged {
            what: format!("the last record of {} is not what was written", last.path.display()),
        });
    };
    let anchor = Marker { seq: line.seq, hash: line.hash };
    record(shared, anchor)?;
    write_marker(&layout.anchor(), anchor)?;
    sync_dir(layout.root())?;
    remove(layout, removed)?;
    Ok(Some(anchor))
}

/// How many of the oldest segments are past their time. A segment's newest record is not newer than the first
/// of the next one; the newest segment stays.
fn due(segments: &[SegmentFile], retention: Duration) -> Result<usize, AuditError> {
    let micros = u64::try_from(retention.as_micros()).unwrap_or(u64::MAX);
    let horizon = unix_micros().saturating_sub(micros);
    let mut due = 0;
    for next in segments.iter().skip(1) {
        match first_time(&next.path)? {
            Some(time) if time < horizon => due += 1,
            _ => break,
        }
    }
    Ok(due)
}

/// Writes the covering record and waits for it.
fn record(shared: &Shared, anchor: Marker) -> Result<(), AuditError> {
    let mut event = AuditEvent::new(EventKind::Daemon, Outcome::Noted);
    event.reason = "records past their retention are removed".into();
    event.text = cover(anchor);
    let (reply, answer) = oneshot::channel();
    shared.try_push(shared.entry(&[event], Awaited::Reply(reply))?)?;
    match answer.blocking_recv() {
        Ok(result) => result.map(drop).map_err(AuditError::Poisoned),
        Err(_) => Err(shared.refusal()),
    }
}

fn remove(layout: &Layout, segments: &[SegmentFile]) -> Result<(), AuditError> {
    if segments.is_empty() {
        return Ok(());
    }
    for segment in segments {
        fs::remove_file(&segment.path).map_err(AuditError::io("remove", &segment.path))?;
    }
    sync_dir(&layout.log_dir())
}
