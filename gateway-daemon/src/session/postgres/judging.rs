//! From a statement's text to its verdict, against a schema that is fresh enough: when it has to be read again, and
//! when the session must first wait for the server.

use std::{sync::Arc, time::Instant};

use tokio::task::block_in_place;

use super::{
    answer::QUERY_CANCELED,
    catalogues::Stale,
    ending::Ending,
    expected::Expected,
    judge::{Forwarding, Rows, Verdict, may_undo},
    readings::Reading,
    relay::{KnownStatements, Origin, Prepared, Relay},
    requests::Batched,
    target::LoginError,
};
use crate::{
    domain::{
        catalogue::Catalogue,
        decision::{Denial, MaskPlan, RecordLimits},
        statement::{SearchPathStep, SessionEffect, Statement, Verb},
    },
    protocol::postgres::backend::TransactionStatus,
    session::transport::End,
    sql::postgres::unknown_relations,
};

/// Reading a text up to this length takes less than handing the worker's other tasks on.
const QUICK_TEXT_BYTES: usize = 4 * 1024;

/// SQLSTATEs of what a client does to whatever its session runs: query_canceled, by request or by `statement_timeout`;
/// lock_not_available, by `lock_timeout`; deadlock_detected, by what it has locked.
const INTERRUPTIONS: [&str; 3] = [QUERY_CANCELED, "55P03", "40P01"];

/// A verdict, or the need to wait for one.
pub(super) enum Judged {
    Verdict(Arc<Verdict>),
    Wait,
}

/// The last verdicts on statements that mean the same whatever else the session does.
#[derive(Debug, Default)]
pub(super) struct Lately {
    verdicts: [Option<Arc<Verdict>>; 8],
    next: usize,
}

impl Lately {
    /// Keeps a verdict in the place of the oldest one. One on an EXECUTE is not kept: what it runs may be prepared anew.
    fn keep(&mut self, verdict: &Arc<Verdict>) {
        let stands_alone =
            |statement: &Statement| !matches!(statement.session_effect, SessionEffect::Execute { .. });
        if verdict.statements.is_empty() || !verdict.statements.iter().all(stands_alone) {
            return;
        }
        if let Some(place) = self.verdicts.get_mut(self.next) {
            *place = Some(Arc::clone(verdict));
        }
        self.next = (self.next + 1) % self.verdicts.len();
    }

    /// The verdict on `statements`: on that very reading, not on one that is equal to it.
    fn on(&self, statements: &Arc<[Statement]>) -> Option<&Arc<Verdict>> {
        self.verdicts.iter().flatten().find(|verdict| Arc::ptr_eq(&verdict.statements, statements))
    }
}

/// Whether the schema can be read over the session's own connection now.
enum Refresh {
    Now,
    AfterDraining,
    NotInThisTransaction,
    NeedsSync,
}

impl Relay<'_> {
    /// Reads and judges a text as things stand now, with what it writes.
    pub(super) async fn judge(&mut self, text: &str, batched: &Batched) -> Result<Judged, Ending> {
        Ok(match self.judge_as_read(text, batched).await? {
            Judged::Verdict(verdict) => Judged::Verdict(self.look_at_writes(text, verdict)),
            Judged::Wait => Judged::Wait,
        })
    }

    async fn judge_as_read(&mut self, text: &str, batched: &Batched) -> Result<Judged, Ending> {
        self.check_identity().await?;
        self.hear_of_changes();
        if let Some(verdict) = self.judge_without_schema(text) {
            return Ok(Judged::Verdict(verdict));
        }
        if let Some(judged) = self.refresh_if_changed(batched).await? {
            return Ok(judged);
        }
        let mut reading = self.read(text);
        if let Some(verdict) = self.judged_lately(&reading) {
            return Ok(Judged::Verdict(verdict));
        }
        // Whether the statements may meet another schema than the one that they are read against.
        let mut unsure = self.stale > Stale::Nothing;
        if let Ok(statements) = &reading {
            unsure |= self.unsettled > Stale::Nothing && may_undo(statements);
            let executes = statements
                .iter()
                .any(|statement| matches!(statement.session_effect, SessionEffect::Execute { .. }));
            if executes && !self.queue.is_empty() {
                return Ok(Judged::Wait);
            }
            if names_unknown_relations(statements, &self.snapshot.catalogue) {
                unsure = true;
                match self.may_refresh(batched) {
                    Refresh::Now => {
                        if let Some(denial) = self.refresh_catalogue().await? {
                            return Ok(Judged::Verdict(Arc::new(self.refused_verdict(denial))));
                        }
                        reading = self.read(text);
                        unsure = reading.as_ref().is_ok_and(|statements| {
                            names_unknown_relations(statements, &self.snapshot.catalogue)
                                || (self.unsettled > Stale::Nothing && may_undo(statements))
                        });
                    }
                    Refresh::AfterDraining => return Ok(Judged::Wait),
                    // Nothing runs in a failed transaction.
                    Refresh::NotInThisTransaction => {}
                    Refresh::NeedsSync => {
                        return Ok(Judged::Verdict(Arc::new(self.refused_verdict(needs_sync()))));
                    }
                }
            }
        }
        let prepared = self.known_statements();
        let own = reading.as_ref().map_or(0, |statements| statements.len());
        let mut verdict =
            self.room.judge.decide(&self.asker, self.facts, &self.snapshot.catalogue, reading, &prepared);
        // One that does not exist is the server's to name. But a message's first statements may make, rename or
        // bring back what the later ones name; where something is masked, nobody knows what that would show.
        let masked = !verdict.target_masks.columns.is_empty();
        if ((unsure && masked) || self.may_move_path(&verdict.statements)) && verdict.statements.len() > 1 {
            verdict = self.refused_verdict(Denial::builtin(
                "the message names relations that are not there before it runs",
                "Send its statements one by one.",
                "schema-in-message",
            ));
        } else if verdict.target_masks.is_of_anything() && verdict.changes_schema_under_itself(own) {
            verdict = self.refused_verdict(Denial::builtin(
                "the message changes the schema, and statements behind that may find other relations by their names",
                "Send its statements one by one.",
                "schema-in-message",
            ));
        }
        let verdict = Arc::new(verdict);
        if !unsure {
            self.lately.keep(&verdict);
        }
        Ok(Judged::Verdict(verdict))
    }

    /// The verdict on the very statements of `reading`, if this session has had it lately and nothing that it rests on has
    /// changed: agents and their drivers say the same few things with other numbers.
    fn judged_lately(&self, reading: &Reading) -> Option<Arc<Verdict>> {
        let is_settled = self.stale == Stale::Nothing && self.unsettled == Stale::Nothing;
        let statements = reading.as_ref().ok().filter(|_| is_settled)?;
        if self.path_moved && statements.len() > 1 {
            return None;
        }
        self.lately.on(statements).filter(|verdict| self.still_holds(verdict)).cloned()
    }

    /// Whether policies, identity and snapshot are those that a verdict rests on.
    pub(super) fn still_holds(&self, verdict: &Verdict) -> bool {
        verdict.basis == self.room.judge.basis(&self.asker)
            && verdict.catalogue.epoch == self.snapshot.catalogue.epoch
    }

    /// What every request needs that is not read as SQL: a valid identity, and a schema that is fresh enough. Returns what
    /// stands in the way, if anything does.
    pub(super) async fn settle_schema(&mut self, batched: &Batched) -> Result<Option<Judged>, Ending> {
        self.check_identity().await?;
        self.hear_of_changes();
        self.refresh_if_changed(batched).await
    }

    /// Reads the schema anew, where it has changed, before the first message of a batch: a BEGIN needs none, but what comes
    /// behind it in the same batch does, when it is too late. Returns what stands in the way, if anything does.
    pub(super) async fn settle_before_batch(&mut self, batched: &Batched) -> Result<Option<Judged>, Ending> {
        self.hear_of_changes();
        if self.unsynced || self.stale == Stale::Nothing {
            return Ok(None);
        }
        if !self.queue.is_empty() || !batched.is_empty() {
            return Ok(Some(Judged::Wait));
        }
        // In a transaction, SET TRANSACTION comes before whatever else it reads.
        if self.transaction != TransactionStatus::Idle {
            return Ok(None);
        }
        self.settle_schema(batched).await
    }

    /// Whether something can be asked of the server now, over the session's own connection.
    pub(super) fn may_read_now(&self, batched: &Batched) -> bool {
        matches!(self.may_refresh(batched), Refresh::Now)
    }

    /// Reads the schema anew where it has aged or changed. Returns what stands in the way, if anything does.
    pub(super) async fn refresh_if_changed(&mut self, batched: &Batched) -> Result<Option<Judged>, Ending> {
        if self.stale == Stale::Nothing && self.snapshot.is_fresh(Instant::now()) {
            return Ok(None);
        }
        let denial = match self.may_refresh(batched) {
            Refresh::Now => self.refresh_catalogue().await?,
            // An old snapshot without a known change is good enough to finish what is under way.
            _ if self.stale == Stale::Nothing => None,
            Refresh::AfterDraining => return Ok(Some(Judged::Wait)),
            Refresh::NotInThisTransaction => None,
            Refresh::NeedsSync => Some(needs_sync()),
        };
        Ok(denial.map(|denial| Judged::Verdict(Arc::new(self.refused_verdict(denial)))))
    }

    /// Reads the schema over the session's own connection, so that what its transaction has done is seen; or says why what
    /// needs it is refused. Nothing may be owed by the server.
    async fn refresh_catalogue(&mut self) -> Result<Option<Denial>, Ending> {
        self.begin_question().await?;
        let (side, status) = (&mut self.upstream, &mut self.transaction);
        let read = if self.stale == Stale::Path && self.snapshot.is_fresh(Instant::now()) {
            self.snapshot.along_path(side, status).await
        } else {
            self.room.catalogues.read(self.facts, &self.place, side, status).await
        };
        match answered(read)? {
            Ok(snapshot) => {
                self.snapshot = snapshot;
                self.functions.clear();
                self.stale = Stale::Nothing;
                Ok(None)
            }
            Err(denial) => Ok(Some(denial)),
        }
    }

    /// Makes room for a question of the daemon's own: what was forwarded is on its way.
    pub(super) async fn begin_question(&mut self) -> Result<(), Ending> {
        self.upstream.drain().await.map_err(|source| Ending::Io { end: End::Upstream, source })
    }

    fn known_statements(&self) -> KnownStatements<'_> {
        KnownStatements {
            names: &self.statements,
            batch: self.batch,
            judge: &self.room.judge,
            catalogue: &self.snapshot.catalogue,
        }
    }

    /// Whether some of the statements may be run with another search path than they are read with.
    fn may_move_path(&self, statements: &[Statement]) -> bool {
        let resets = |statement: &Statement| {
            matches!(statement.search_path, SearchPathStep::Resets | SearchPathStep::Discards)
        };
        self.path_moved
            && (self.stale > Stale::Nothing
                || (self.unsettled > Stale::Nothing && may_undo(statements))
                // Behind the last one comes nothing.
                || statements.iter().rev().skip(1).any(resets))
    }

    /// Another session has changed the schema: as if this one had.
    fn hear_of_changes(&mut self) {
        if self.snapshot.is_outdated() {
            self.stale = Stale::Schema;
        }
    }

    /// The verdict on BEGIN, COMMIT, ROLLBACK, SET and their like, which no schema can make mean something else: they
    /// need not wait for one, and end a transaction in which none can be read. SET TRANSACTION must not: it comes before
    /// whatever a transaction reads.
    fn judge_without_schema(&self, text: &str) -> Option<Arc<Verdict>> {
        let is_good = self.stale == Stale::Nothing && self.snapshot.is_fresh(Instant::now());
        if is_good || text.len() > QUICK_TEXT_BYTES {
            return None;
        }
        let reading = self.read(text);
        if !reading.as_ref().is_ok_and(|statements| needs_no_schema(statements)) {
            return None;
        }
        let prepared = self.known_statements();
        let catalogue = &self.snapshot.catalogue;
        Some(Arc::new(self.room.judge.decide(&self.asker, self.facts, catalogue, reading, &prepared)))
    }

    /// Reads a text against the session's schema. A long one may take a while: others are served by another thread
    /// meanwhile.
    fn read(&self, text: &str) -> Reading {
        let read = || self.room.judge.read(text, &self.snapshot.catalogue);
        if text.len() > QUICK_TEXT_BYTES { block_in_place(read) } else { read() }
    }

    /// Judges a prepared statement as it stands now: policies, schema and identity may have changed since.
    pub(super) async fn judge_again(
        &mut self,
        prepared: &Prepared,
        batched: &Batched,
    ) -> Result<Judged, Ending> {
        self.check_identity().await?;
        self.hear_of_changes();
        let current = self.still_holds(&prepared.verdict)
            && (self.stale == Stale::Nothing || needs_no_schema(&prepared.verdict.statements));
        if current {
            return Ok(Judged::Verdict(Arc::clone(&prepared.verdict)));
        }
        match prepared.origin {
            Origin::Parse => self.judge(&prepared.text, batched).await,
            Origin::Sql => Ok(Judged::Verdict(Arc::new(self.refused_verdict(Denial::builtin(
                "policies, schema or identity have changed since this statement was prepared",
                "PREPARE it again.",
                "prepared-outdated",
            ))))),
        }
    }

    fn may_refresh(&self, batched: &Batched) -> Refresh {
        if !self.queue.is_empty() || !batched.staged.is_empty() {
            // Even a failed transaction is only known to have failed once everything is answered.
            return if self.unsynced && self.only_unsynced_owed() {
                Refresh::NeedsSync
            } else {
                Refresh::AfterDraining
            };
        }
        match self.transaction {
            TransactionStatus::Failed => Refresh::NotInThisTransaction,
            _ if self.unsynced => Refresh::NeedsSync,
            _ => Refresh::Now,
        }
    }

    /// Whether what is owed belongs to the batch that the client has not ended yet, so that waiting may be in vain:
    /// the server answers it when a Sync or Flush comes.
    pub(super) fn only_unsynced_owed(&self) -> bool {
        !self.queue.iter().any(|expected| matches!(expected, Expected::Sync(_) | Expected::Simple(..)))
    }

    /// The verdict on what cannot even be read.
    pub(super) fn refused_verdict(&self, denial: Denial) -> Verdict {
        Verdict {
            statements: Arc::from([]),
            denial: Some(Arc::new(denial)),
            policies: Vec::new(),
            record: RecordLimits::default(),
            max_rows: None,
            masks: MaskPlan::default(),
            // What cannot be read may hold values of masked columns.
            target_masks: self.room.judge.target_masks(&self.asker, self.facts, &self.snapshot.catalogue),
            catalogue: Arc::clone(&self.snapshot.catalogue),
            basis: self.room.judge.basis(&self.asker),
            rows: Rows::Clear,
            forwarding: Forwarding::AtOnce,
            writes_masked: false,
            lifted: Arc::default(),
            watch: None,
        }
    }
}

/// The answer to a question of the daemon's own. One that the client itself has ended, by a cancel request or by how long it
/// lets things take, ends what the question was asked for and not the session: as the server would have ended that.
pub(super) fn answered<T>(answer: Result<T, LoginError>) -> Result<Result<T, Denial>, Ending> {
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(LoginError::Refused { sqlstate, message }) if INTERRUPTIONS.contains(&sqlstate.as_str()) => {
            Ok(Err(Denial::builtin(
                format!("the schema was being read for this statement: {message}"),
                "Send it again.",
                "interrupted",
            )))
        }
        Err(error) => Err(Ending::Catalogue(error)),
    }
}

fn names_unknown_relations(statements: &[Statement], catalogue: &Catalogue) -> bool {
    statements.iter().any(|statement| !unknown_relations(statement, catalogue).is_empty())
}

/// Whether the statements mean the same whatever the schema.
pub(super) fn needs_no_schema(statements: &[Statement]) -> bool {
    let is_plain =
        |statement: &Statement| {
            statement.effects.iter().all(|effect| {
                matches!(effect.verb, Verb::Transaction | Verb::Set) && effect.relation.is_none()
            }) && statement.columns.is_empty()
                && statement.functions.is_empty()
                && statement.opaque.is_empty()
                && statement.session_effect == SessionEffect::None
        };
    !statements.is_empty() && statements.iter().all(is_plain)
}

fn needs_sync() -> Denial {
    Denial::builtin(
        "the schema may have changed in this pipeline, and cannot be read in the middle of it",
        "End the pipeline with Sync before the next statement.",
        "schema-in-pipeline",
    )
}
