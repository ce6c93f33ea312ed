//! COPY FROM STDIN into masked columns: its rows are looked through as they go by, and one that brings a mask ends the COPY.
//! What has gone on to the server of it by then comes to nothing, since COPY is one statement.

use std::sync::Arc;

use bytes::BytesMut;

use super::{
    ending::Ending,
    expected::Expected,
    judge::Verdict,
    relay::{Copying, Relay},
    requests::Batched,
    written::Sink,
};
use crate::{
    domain::{
        decision::Denial,
        event::{AuditEvent, Outcome},
    },
    mask::{Format, Image},
    protocol::postgres::{
        copy_rows::{CopyRows, CopyStyle},
        frontend::Message,
    },
    sql::postgres::CopyFormat,
};

/// What the server puts into its log when rows are refused.
const REFUSED_ROWS: &[u8] = b"nodegate refused these rows";

/// What is to be looked at of a COPY's rows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CopyWatch {
    format: CopyFormat,
    /// For each field, the masked column that it goes into.
    sinks: Vec<Option<Arc<Sink>>>,
}

/// A COPY whose rows are being looked at.
#[derive(Debug)]
pub(super) struct CopyIn {
    rows: CopyRows,
    watch: Arc<CopyWatch>,
    /// What is recorded of it should it be refused.
    event: AuditEvent,
}

impl CopyWatch {
    pub(super) const fn new(format: CopyFormat, sinks: Vec<Option<Arc<Sink>>>) -> Self {
        Self { format, sinks }
    }

    fn refusal(&self, field: usize, value: &[u8]) -> Option<Denial> {
        let sink = self.sinks.get(field)?.as_ref()?;
        let format = if self.format == CopyFormat::Binary { Format::Binary } else { Format::Text };
        let found = sink.image_of_field(format, value);
        // The rows are new: what may be meant is.
        (found == Image::Unmistakable).then(|| sink.refusal(found))
    }
}

impl CopyIn {
    /// A COPY that is about to begin; `event` is what its record says of it.
    pub(super) fn new(watch: Arc<CopyWatch>, event: AuditEvent) -> Self {
        let style = match watch.format.clone() {
            CopyFormat::Text { delimiter, null } => CopyStyle::Text { delimiter, null },
            CopyFormat::Csv { delimiter, null, quote, escape } => {
                CopyStyle::Csv { delimiter, null, quote, escape }
            }
            CopyFormat::Binary => CopyStyle::Binary,
        };
        let wanted = watch.sinks.iter().map(Option::is_some).collect();
        Self { rows: CopyRows::new(style, wanted), watch, event }
    }
}

impl Relay<'_> {
    /// Notes that rows are about to come which must be looked at, if they must; `event` is what is recorded of the COPY.
    pub(super) fn expect_rows(&mut self, verdict: &Verdict, event: &AuditEvent) {
        let copy = verdict.watch.as_ref().and_then(|watch| watch.copy.as_ref());
        self.copy_in = copy.map(|watch| CopyIn::new(Arc::clone(watch), event.clone()));
    }

    /// Looks at a piece of a COPY's rows, and lets it leave or ends the COPY.
    pub(super) fn pass_rows(&mut self, piece: &[u8], batched: &mut Batched) -> Result<(), Ending> {
        let Some(copy) = &mut self.copy_in else { return Ok(()) };
        let watch = Arc::clone(&copy.watch);
        match copy.rows.feed(piece, |field, value| watch.refusal(field, value)) {
            Some(denial) => self.refuse_rows(denial, batched),
            None => {
                let data = Message::CopyData(piece);
                data.encode(&mut self.upstream.output).map_err(|error| Ending::client(&error))
            }
        }
    }

    /// Looks at what has come of the last row; `true` if the COPY is refused for it.
    pub(super) fn refuses_last_row(&mut self, batched: &mut Batched) -> Result<bool, Ending> {
        let Some(copy) = &mut self.copy_in else { return Ok(false) };
        let watch = Arc::clone(&copy.watch);
        match copy.rows.finish(|field, value| watch.refusal(field, value)) {
            Some(denial) => self.refuse_rows(denial, batched).map(|()| true),
            None => Ok(false),
        }
    }

    /// Ends the COPY: the server undoes it, and its error is replaced by the refusal. What the client still sends of it
    /// is dropped, as the server would.
    fn refuse_rows(&mut self, denial: Denial, batched: &mut Batched) -> Result<(), Ending> {
        let Some(copy) = self.copy_in.take() else { return Ok(()) };
        let mut event = copy.event;
        event.outcome = Outcome::Denied;
        event.policies.clone_from(&denial.policies);
        event.reason.clone_from(&denial.reason);
        batched.record_refusal(event);
        let mut fail = BytesMut::new();
        Message::CopyFail(REFUSED_ROWS).encode(&mut fail).map_err(|error| Ending::client(&error))?;
        if self.is_counting() {
            // The Sync that would fetch the answer waits for it.
            Message::Flush.encode(&mut fail).map_err(|error| Ending::client(&error))?;
        }
        self.upstream.output.unsplit(fail);
        self.copying = Copying::No;
        if let Some(Expected::Simple(request, _) | Expected::Execute(request)) = self.queue.front_mut() {
            request.refusal = Some(Arc::new(denial));
        }
        Ok(())
    }
}
