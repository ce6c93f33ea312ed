//! What other sessions, and code, say by NOTIFY: passed on as it comes, but for payloads that may hold a masked value.
//!
//! Who has notified is a process id, and no more: its payload may come of a statement, or of a trigger that this statement
//! set off. So it passes where no code of the database that notifies can see a column that is masked for this agent. Where
//! some can, what passes is what this session has sent itself, in a transaction in which no such code has run; the server
//! would else keep one of two equal notifications, and so tell that they are equal.

use std::{collections::HashSet, mem, sync::Arc};

use super::{answer::has_finds, ending::Ending, expected::Expected, judge::Verdict, relay::Relay};
use crate::{
    domain::{
        catalogue::Catalogue,
        decision::MaskPlan,
        statement::{ColumnName, Continues, TransactionStep},
    },
    protocol::postgres::backend::Message,
    sql::postgres::{reach, reach_of_all},
};

/// Stands for a payload.
const WITHHELD: &[u8] = b"nodegate: the payload is withheld, since code that notifies can see columns that are masked for this agent";

/// As many of a transaction's own notifications are remembered.
const MAX_SENT: usize = 1_000;

/// What a session knows of notifications.
#[derive(Debug)]
pub(super) struct Notifying {
    /// The process that serves this session.
    process: Option<u32>,
    /// What the transaction has sent by itself, channel and payload.
    sent: HashSet<(String, String)>,
    /// Code that notifies and sees masked columns may have run in it.
    has_run_code: bool,
    /// Whether there is such code, in the schema of that epoch with those masks.
    known: Option<(u64, Arc<MaskPlan>, bool)>,
    /// Whether what was judged last sets off such code.
    judged: Option<(Arc<Verdict>, bool)>,
    /// The last one whose payload was withheld, where nothing has come since.
    last: Option<(u32, Vec<u8>)>,
}

impl Notifying {
    /// Of a session that this process serves.
    pub(super) fn new(process: Option<u32>) -> Self {
        Self { process, sent: HashSet::new(), has_run_code: false, known: None, judged: None, last: None }
    }

    /// The transaction has ended, and what it sent has come.
    pub(super) fn transaction_ended(&mut self) {
        self.sent.clear();
        self.has_run_code = false;
        self.last = None;
    }
}

impl Relay<'_> {
    /// Whether notifications pass as they come.
    pub(super) fn notification_passes(&self) -> bool {
        !self.masks_now().is_of_anything()
    }

    /// Takes a notification.
    pub(super) fn notified(&mut self, process_id: u32, channel: &[u8], payload: &[u8]) -> Result<(), Ending> {
        let masks = self.masks_now();
        let has_finds = |text| {
            let wanted = masks.content_mask();
            wanted.is_some_and(|wanted| has_finds(text, wanted, &self.room.masker))
        };
        let is_withheld =
            !payload.is_empty() && (has_finds(payload) || self.hides(process_id, channel, payload));
        if is_withheld {
            // The server itself passes equal ones on once.
            let this = Some((process_id, channel.to_vec()));
            if mem::replace(&mut self.notifying.last, this.clone()) == this {
                return Ok(());
            }
        } else {
            self.notifying.last = None;
        }
        let payload = if is_withheld { WITHHELD } else { payload };
        Message::NotificationResponse { process_id, channel, payload }
            .encode(&mut self.client.output)
            .map_err(|error| Ending::upstream(&error))
    }

    /// Whether the payload may be of code that can see a masked column.
    fn hides(&mut self, process_id: u32, channel: &[u8], payload: &[u8]) -> bool {
        let (masks, catalogue) = (self.masks_now(), Arc::clone(&self.snapshot.catalogue));
        if !self.notifying.somebody_sees(&masks, &catalogue) {
            return false;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let is_own = Some(process_id) == self.notifying.process
            && !self.notifying.has_run_code
            && self.notifying.sent.contains(&(text(channel), text(payload)));
        !is_own
    }

    /// A statement has run: notes what it has sent, and whether code that it set off may have.
    pub(super) fn note_notifications(&mut self) {
        let Some(Expected::Simple(request, _) | Expected::Execute(request)) = self.queue.front() else {
            return;
        };
        let verdict = Arc::clone(&request.verdict);
        if self.notifying.somebody_sees(&verdict.target_masks, &verdict.catalogue) {
            self.notifying.note(verdict);
        }
    }
}

impl Notifying {
    /// Whether some code of the database that notifies can see a masked column.
    fn somebody_sees(&mut self, masks: &Arc<MaskPlan>, catalogue: &Catalogue) -> bool {
        if masks.columns.is_empty() {
            return false;
        }
        if let Some((epoch, of, sees)) = &self.known
            && *epoch == catalogue.epoch
            && Arc::ptr_eq(of, masks)
        {
            return *sees;
        }
        let is_masked = |column: &ColumnName| masks.columns.contains_key(column);
        let sees = reach_of_all(catalogue, &is_masked).notifies;
        self.known = Some((catalogue.epoch, Arc::clone(masks), sees));
        sees
    }

    fn note(&mut self, verdict: Arc<Verdict>) {
        for notification in verdict.statements.iter().flat_map(|statement| &statement.notifies) {
            if self.sent.len() < MAX_SENT {
                self.sent.insert(notification.clone());
            }
        }
        if let Some((known, runs_code)) = &self.judged
            && Arc::ptr_eq(known, &verdict)
        {
            self.has_run_code |= runs_code;
            return;
        }
        let is_masked = |column: &ColumnName| {
            verdict.target_masks.columns.contains_key(column) || verdict.masks.columns.contains_key(column)
        };
        // What waits for COMMIT is in reach of what it was that has it wait.
        let mut own = verdict.statements.iter().filter(|statement| {
            statement.transaction == TransactionStep::None && statement.continues != Continues::Deferred
        });
        let runs_code = own
            .any(|statement| reach(std::slice::from_ref(statement), &verdict.catalogue, &is_masked).notifies);
        self.has_run_code |= runs_code;
        self.judged = Some((verdict, runs_code));
    }
}
