//! Limits on how many rows a statement may change (`@max_rows`): what PostgreSQL's command tag counts is held against the
//! limit before anything of it is permanent, and undone where it is more.
//!
//! The tag comes before the transaction ends only if the daemon sees to it. From when a limited request leaves until its
//! outcome is known, nothing more of the client's is looked at ([`Relay::awaits_count`]), and the transaction is held open:
//!
//! - a simple query outside of a block runs between a BEGIN and a COMMIT or ROLLBACK of the daemon's own. It leaves once
//!   the server has said that the block is there: a BEGIN that is cancelled must not let it run by itself. The last
//!   CommandComplete is passed on once COMMIT has succeeded; should it not, the client gets its error instead;
//! - one inside the client's block has the block failed, by a statement of the daemon's own that is a syntax error;
//! - an Execute is followed by a Flush, so that the tag comes while the pipeline's transaction is open, and by a Parse that
//!   fails where it is too much.
//!
//! A connection that breaks on the way, on either side or with the daemon, leaves a transaction that the server undoes.

use std::sync::Arc;

use super::{
    answer::{self, REFUSED_NAME},
    ending::Ending,
    expected::Expected,
    judge::Verdict,
    relay::{Copying, Fate, Relay},
    replies::{Gist, nothing_more},
    shown::RowHandling,
};
use crate::{
    domain::{
        decision::{Denial, MaxRows},
        event::{EventKind, Outcome},
        ids::PolicyId,
        statement::{SessionEffect, Statement, TransactionStep, Verb},
    },
    protocol::postgres::{
        Frame,
        backend::{self, Fields, TransactionStatus},
        frontend::Message,
    },
};

/// What the agent is told where no policy says more.
const NARROW: &str = "Narrow the statement down to fewer rows, or ask for a policy that permits more.";

/// A request whose rows are counted, until its outcome is known.
#[derive(Debug)]
pub(super) struct Limited {
    /// For each statement of the message.
    limits: Arc<[Option<MaxRows>]>,
    block: Block,
    stage: Stage,
    /// The client's message, while the daemon's BEGIN is under way.
    message: Option<Frame>,
    /// How many statements have ended.
    ended: usize,
    /// The last CommandComplete, until COMMIT has succeeded.
    last: Option<Frame>,
    /// The statement that fails in the client's block.
    failing: String,
}

/// The transaction that the request runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    /// The daemon's.
    Own,
    /// The client's, of its BEGIN.
    Clients,
    /// The client's, of its BEGIN or up to its Sync.
    Pipeline,
}

/// What is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The daemon's BEGIN.
    Begins,
    /// The request.
    Runs,
    /// The rest of it, of which the client hears no more: it has been told that this was too much.
    Exceeded,
    /// The statement that fails in the client's block.
    Fails,
    /// The daemon's COMMIT.
    Commits,
    /// The daemon's ROLLBACK.
    RollsBack,
}

/// Why a statement is undone.
#[derive(Debug)]
pub(super) enum Excess {
    /// It changed so many rows.
    Rows(u64),
    /// Its tag tells no number.
    Uncounted,
    /// Its portal is suspended: it has changed all of its rows, and tells how many when the last of them is fetched.
    Suspended,
}

/// What becomes of one reply of the server.
enum Step {
    /// What becomes of every reply.
    AsUsual,
    /// The client does not hear of it.
    Swallow,
    /// It waits for COMMIT.
    Keep,
    /// COMMIT has succeeded: the one that waits is passed on.
    Release,
    /// COMMIT has not committed.
    Lost,
    /// The statement is undone.
    Undo(MaxRows, Excess),
    /// The client's message leaves.
    Leave,
    /// This statement of the daemon's own leaves.
    Ask(String, Stage),
}

impl Limited {
    /// What becomes of a reply.
    fn step(&self, frame: &Frame) -> Result<Step, Ending> {
        if matches!(frame.tag, b'A' | b'S') || is_fatal(frame)? {
            return Ok(Step::AsUsual);
        }
        if let Gist::Status(status) = Gist::of(frame.tag, frame.body()) {
            return self.at_the_end(status);
        }
        Ok(match (self.stage, frame.tag) {
            (Stage::Begins, b'C')
            | (Stage::RollsBack, b'C' | b'E')
            | (Stage::Fails, b'E')
            | (Stage::Exceeded, _) => Step::Swallow,
            (Stage::Commits, b'C') if frame.body() == b"COMMIT\0" => Step::Release,
            (Stage::Commits, b'C') => Step::Lost,
            (Stage::Runs, b'C' | b's') => self.counted(frame),
            (Stage::Fails, tag) => return Err(unexpected(tag)),
            (Stage::Begins | Stage::Runs | Stage::Commits | Stage::RollsBack, _) => Step::AsUsual,
        })
    }

    /// A statement of the message has ended.
    fn counted(&self, frame: &Frame) -> Step {
        if let Some(limit) = self.limits.get(self.ended).and_then(Option::as_ref)
            && let Some(excess) = excess(limit, frame.tag, frame.body())
        {
            return Step::Undo(limit.clone(), excess);
        }
        let is_last = self.ended + 1 == self.limits.len();
        if is_last && self.block == Block::Own { Step::Keep } else { Step::AsUsual }
    }

    /// ReadyForQuery.
    fn at_the_end(&self, status: TransactionStatus) -> Result<Step, Ending> {
        use TransactionStatus::{Failed, Idle, InTransaction};
        let roll_back = || Step::Ask(format!("ROLLBACK /* nodegate: {} */", self.failing), Stage::RollsBack);
        Ok(match (self.stage, self.block, status) {
            (Stage::Begins, _, InTransaction) => Step::Leave,
            (Stage::Runs, Block::Own, InTransaction) => {
                Step::Ask("COMMIT /* nodegate: no more rows than policy allows */".to_owned(), Stage::Commits)
            }
            (Stage::Runs | Stage::Exceeded, Block::Own, Failed)
            | (Stage::Exceeded, Block::Own, InTransaction)
            | (Stage::Commits, _, Failed)
            // A cancel request of the client's can hit the ROLLBACK as well.
            | (Stage::RollsBack, _, Failed | InTransaction) => roll_back(),
            (Stage::Exceeded, Block::Clients, InTransaction) => {
                Step::Ask(undoing(&self.failing), Stage::Fails)
            }
            (Stage::Begins | Stage::Commits | Stage::RollsBack, _, Idle)
            | (Stage::Runs, Block::Clients, InTransaction | Failed)
            | (Stage::Exceeded | Stage::Fails, Block::Clients, Failed) => Step::AsUsual,
            // Whatever the server did, it was not what it was asked.
            _ => return Err(Ending::UpstreamProtocol("a transaction ended under a row limit".to_owned())),
        })
    }
}

/// The text that fails in the place of a transaction's next statement, and says why in the server's log.
fn undoing(why: &str) -> String {
    format!("nodegate undoes this transaction: {why}")
}

impl Verdict {
    /// The limits on what the message runs now; PREPARE runs nothing.
    pub(super) fn limits_now(&self) -> Option<&Arc<[Option<MaxRows>]>> {
        let limits = self.max_rows.as_ref()?;
        let prepares = self
            .statements
            .first()
            .is_some_and(|statement| matches!(statement.session_effect, SessionEffect::Prepare { .. }));
        (!prepares).then_some(limits)
    }

    /// The limits, each once.
    pub(super) fn limits(&self) -> Vec<&MaxRows> {
        let mut all: Vec<&MaxRows> =
            self.max_rows.iter().flat_map(|limits| limits.iter()).flatten().collect();
        all.sort_by_key(|limit| (limit.rows, limit.policy.as_str()));
        all.dedup();
        all
    }

    /// The policies that permitted, and those that limit how many rows.
    pub(super) fn policies_with_limits(&self) -> Vec<PolicyId> {
        MaxRows::behind(&self.policies, self.limits())
    }

    /// What the records say of them; empty where there are none.
    pub(super) fn limit_note(&self) -> String {
        self.limits().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    /// Why the message cannot be held to its limits, if it cannot: it may end a transaction on its way, and could not be
    /// undone as a whole.
    pub(super) fn uncountable(&self) -> Option<Denial> {
        let controls = |statement: &Statement| {
            statement.transaction != TransactionStep::None || statement.does(Verb::Transaction)
        };
        if self.limits_now()?.len() < 2 || !self.statements.iter().any(controls) {
            return None;
        }
        let hint = "Send BEGIN, COMMIT, ROLLBACK and their like in messages of their own.";
        Some(self.unkept_limit("in a message that controls transactions", hint))
    }

    fn unkept_limit(&self, place: &str, hint: &str) -> Denial {
        Denial {
            reason: format!("a limit on rows ({}) cannot be kept {place}", self.limit_note()),
            hint: Some(hint.to_owned()),
            policies: self.limits().iter().map(|limit| limit.policy.clone()).collect(),
        }
    }
}

impl Relay<'_> {
    /// Whether the client waits, with whatever it has sent, for the outcome of a request that is held to a limit.
    pub(super) fn awaits_count(&self) -> bool {
        self.copying != Copying::Yes && self.is_counting()
    }

    /// Whether such a request is under way.
    pub(super) fn is_counting(&self) -> bool {
        // Nothing is taken behind it.
        self.queue.back().and_then(Expected::limited).is_some()
    }

    /// Whether the answer that comes now is to such a request.
    pub(super) fn meets_limit(&self) -> bool {
        self.queue.front().and_then(Expected::limited).is_some()
    }

    /// Whether a simple query can be held to its limits now; `Err` for what never can.
    pub(super) fn may_count(&self, verdict: &Verdict) -> Result<MayCount, Denial> {
        if verdict.limits_now().is_none() {
            return Ok(MayCount::Now);
        }
        if let Some(denial) = verdict.uncountable() {
            return Err(denial);
        }
        // What a pipeline has only prepared changes nothing of the transaction; some drivers send a query behind that.
        if self.executed {
            let hint = "End the pipeline with Sync before the query.";
            return Err(verdict.unkept_limit("in the middle of a pipeline", hint));
        }
        // Whether it is in a block is known once everything before it is answered.
        Ok(if self.queue.is_empty() { MayCount::Now } else { MayCount::AfterDraining })
    }

    /// Holds a simple query to its limits; the bytes that leave for it are `message`, or what must come before it.
    pub(super) fn count_query(
        &self,
        verdict: &Verdict,
        message: &Frame,
        staged: &mut bytes::BytesMut,
    ) -> Result<Option<Box<Limited>>, Ending> {
        let Some(limits) = verdict.limits_now() else {
            staged.extend_from_slice(message.raw());
            return Ok(None);
        };
        let is_own = self.transaction == TransactionStatus::Idle;
        let mut limited = Limited::new(limits, if is_own { Block::Own } else { Block::Clients });
        if is_own {
            let begin = format!("BEGIN /* nodegate: {} */", verdict.limit_note());
            Message::Query(begin.as_bytes()).encode(staged).map_err(|error| Ending::client(&error))?;
            limited.stage = Stage::Begins;
            limited.message = Some(message.clone());
        } else {
            staged.extend_from_slice(message.raw());
        }
        Ok(Some(Box::new(limited)))
    }

    /// Takes a reply to a request that is held to a limit.
    pub(super) async fn take_counted(&mut self, frame: Frame) -> Result<(), Ending> {
        let Some(limited) = self.queue.front_mut().and_then(Expected::limited_mut) else {
            return Err(unexpected(frame.tag));
        };
        let step = limited.step(&frame)?;
        match step {
            Step::AsUsual => {
                if limited.stage == Stage::Runs && frame.tag == b'C' {
                    limited.ended += 1;
                }
                if frame.tag == b'E' {
                    limited.last = None;
                }
                self.take_as_usual(&frame).await
            }
            Step::Swallow => Ok(()),
            Step::Keep => {
                limited.ended += 1;
                limited.last = Some(frame);
                Ok(())
            }
            Step::Release => match limited.last.take() {
                Some(last) => self.take_as_usual(&last).await,
                // Of a message without statements.
                None => Ok(()),
            },
            Step::Lost => {
                limited.last = None;
                let fields = Fields::refusal(
                    "ERROR",
                    "40000",
                    "nodegate: the server has rolled the statement back instead of committing it",
                    None,
                );
                self.failed(fields)
            }
            Step::Leave => {
                limited.stage = Stage::Runs;
                if let Some(message) = limited.message.take() {
                    self.upstream.output.extend_from_slice(message.raw());
                }
                Ok(())
            }
            Step::Ask(sql, stage) => {
                limited.stage = stage;
                Message::Query(sql.as_bytes())
                    .encode(&mut self.upstream.output)
                    .map_err(|error| Ending::client(&error))
            }
            Step::Undo(limit, excess) => self.undo(&limit, &excess),
        }
    }

    /// Tells the client that a statement is undone, and has the server undo it.
    fn undo(&mut self, limit: &MaxRows, excess: &Excess) -> Result<(), Ending> {
        let (denial, failing) = explain(limit, excess);
        answer::refusal(&denial, &mut self.client.output).map_err(|error| Ending::upstream(&error))?;
        let Some(Expected::Simple(request, _) | Expected::Execute(request)) = self.queue.front_mut() else {
            return Err(unexpected(b'C'));
        };
        if let Excess::Rows(rows) = excess {
            request.rows += rows;
        }
        let mut event = self.about.event(EventKind::Completion, Outcome::Denied);
        event.rows = Some(request.rows);
        event.duration_us = u64::try_from(request.started.elapsed().as_micros()).ok();
        event.policies.clone_from(&denial.policies);
        event.reason = format!("undone: {}", denial.reason);
        if let Some(recording) = &mut self.recording {
            answer::refusal_fields(&denial, |fields| recording.finish(request, Some(fields)))?;
        }
        request.verdict = Arc::new(nothing_more(&request.verdict));
        let block = match &mut request.limit {
            Some(limited) => {
                limited.stage = Stage::Exceeded;
                limited.failing.clone_from(&failing);
                limited.block
            }
            None => Block::Pipeline,
        };
        self.room.audit.note(event).map_err(Ending::Audit)?;
        if block != Block::Pipeline {
            // What the rest of the message returns is undone as well.
            self.reply_fate = Fate::Dropped;
            return Ok(());
        }
        let sql = undoing(&failing);
        Message::Parse { name: REFUSED_NAME, sql: sql.as_bytes(), parameter_types: Vec::new() }
            .encode(&mut self.upstream.output)
            .map_err(|error| Ending::upstream(&error))?;
        self.queue.pop_front();
        self.queue.push_front(Expected::Undoing);
        // As after any error.
        self.skipping = true;
        self.copying = Copying::No;
        self.rows = RowHandling::Undescribed;
        Ok(())
    }
}

/// Whether a simple query can be held to its limits now.
pub(super) enum MayCount {
    /// Yes, or it has none.
    Now,
    /// Once the server owes nothing.
    AfterDraining,
}

impl Limited {
    fn new(limits: &Arc<[Option<MaxRows>]>, block: Block) -> Self {
        let limits = Arc::clone(limits);
        let failing = "the message failed".to_owned();
        Self { limits, block, stage: Stage::Runs, message: None, ended: 0, last: None, failing }
    }

    /// Holds an Execute to its limit, if it has one.
    pub(super) fn execute(verdict: &Verdict) -> Option<Box<Self>> {
        verdict.limits_now().map(|limits| Box::new(Self::new(limits, Block::Pipeline)))
    }
}

impl Excess {
    /// What is said of it.
    pub(super) fn reason(&self, limit: &MaxRows) -> String {
        let MaxRows { rows: most, policy, .. } = limit;
        let s = |rows: u64| if rows == 1 { "" } else { "s" };
        let allowed =
            || format!("policy \"{policy}\" allows {most} row{} to be changed, and how many", s(*most));
        match self {
            Self::Rows(rows) => {
                format!("the statement changes {rows} row{}, and policy \"{policy}\" allows {most}", s(*rows))
            }
            Self::Uncounted => format!("{} this changes cannot be counted", allowed()),
            Self::Suspended => {
                format!("{} this changes is not known before all of what it returns is fetched", allowed())
            }
        }
    }

    const fn hint(&self) -> &'static str {
        match self {
            Self::Rows(_) => NARROW,
            Self::Uncounted => "Send the statement that changes them by itself.",
            Self::Suspended => {
                "Execute it without a limit on the rows to fetch (setFetchSize), or without RETURNING."
            }
        }
    }
}

/// What the client is told, and what the server's log shows.
fn explain(limit: &MaxRows, excess: &Excess) -> (Denial, String) {
    let MaxRows { rows: most, policy, message } = limit;
    let reason = format!("{}: nothing was changed", excess.reason(limit));
    let hint = excess.hint();
    let failing = match excess {
        Excess::Rows(rows) => format!("{rows} rows changed, {most} allowed by policy {policy}"),
        Excess::Uncounted | Excess::Suspended => {
            format!("rows changed that cannot be counted, {most} allowed by policy {policy}")
        }
    };
    let hint = match (message, excess) {
        (Some(message), Excess::Rows(_)) => message.clone(),
        (Some(message), _) => format!("{message} {hint}"),
        (None, _) => hint.to_owned(),
    };
    (Denial { reason, hint: Some(hint), policies: vec![policy.clone()] }, failing)
}

/// How far a statement exceeds its limit, by the message that ends it.
pub(super) fn excess(limit: &MaxRows, tag: u8, body: &[u8]) -> Option<Excess> {
    match changed_rows(body) {
        _ if tag == b's' => Some(Excess::Suspended),
        Some(rows) => (rows > limit.rows).then_some(Excess::Rows(rows)),
        None => Some(Excess::Uncounted),
    }
}

/// The number of rows that a statement changed, by the body of its CommandComplete.
fn changed_rows(body: &[u8]) -> Option<u64> {
    let tag = body.strip_suffix(&[0])?;
    let is_change = [b"INSERT ".as_slice(), b"UPDATE ", b"DELETE ", b"MERGE ", b"COPY "]
        .iter()
        .any(|command| tag.starts_with(command));
    backend::rows(tag).filter(|_| is_change)
}

/// Whether the server takes its leave.
fn is_fatal(frame: &Frame) -> Result<bool, Ending> {
    if frame.tag != b'E' {
        return Ok(false);
    }
    match backend::parse(frame).map_err(|error| Ending::upstream(&error))? {
        backend::Message::ErrorResponse(fields) => Ok(fields.is_fatal()),
        _ => Ok(false),
    }
}

fn unexpected(tag: u8) -> Ending {
    Ending::UpstreamProtocol(format!("unexpected message {:?}", char::from(tag)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::protocol::postgres::split_frame;

    fn frame(tag: u8, body: &[u8]) -> Frame {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        let mut bytes = BytesMut::from([&[tag], length.as_slice(), body].concat().as_slice());
        split_frame(&mut bytes, 1_000).unwrap().unwrap()
    }

    fn limited(block: Block, stage: Stage) -> Limited {
        let limit = MaxRows { rows: 10, policy: PolicyId::from("few"), message: None };
        let limits: Arc<[Option<MaxRows>]> = Arc::from([None, Some(limit)]);
        Limited { stage, ..Limited::new(&limits, block) }
    }

    /// What becomes of a reply, in a word.
    fn step(block: Block, stage: Stage, ended: usize, tag: u8, body: &[u8]) -> String {
        let limited = Limited { ended, ..limited(block, stage) };
        match limited.step(&frame(tag, body)) {
            Ok(Step::AsUsual) => "as usual".to_owned(),
            Ok(Step::Swallow) => "swallow".to_owned(),
            Ok(Step::Keep) => "keep".to_owned(),
            Ok(Step::Release) => "release".to_owned(),
            Ok(Step::Lost) => "lost".to_owned(),
            Ok(Step::Undo(limit, excess)) => format!("undo {}", explain(&limit, &excess).1),
            Ok(Step::Leave) => "leave".to_owned(),
            Ok(Step::Ask(sql, _)) => sql.split(' ').next().unwrap().to_owned(),
            Err(_) => "end".to_owned(),
        }
    }

    #[test]
    fn a_tag_is_held_against_the_limit_of_its_own_statement() {
        let tag =
            |ended, tag: &str| step(Block::Own, Stage::Runs, ended, b'C', format!("{tag}\0").as_bytes());
        assert_eq!(tag(0, "UPDATE 99"), "as usual");
        assert_eq!(tag(1, "UPDATE 10"), "keep");
        assert_eq!(step(Block::Clients, Stage::Runs, 1, b'C', b"UPDATE 10\0"), "as usual");
        for changes in ["UPDATE 11", "DELETE 11", "MERGE 11", "COPY 11", "INSERT 0 11"] {
            assert_eq!(tag(1, changes), "undo 11 rows changed, 10 allowed by policy few", "{changes}");
        }
        for nothing in
            ["SELECT 1", "UPDATE", "UPDATE -1", "UPDATE 99999999999999999999", "INSERT 0", "DO", ""]
        {
            assert!(tag(1, nothing).starts_with("undo rows changed that cannot be counted"), "{nothing}");
        }
        assert!(step(Block::Pipeline, Stage::Runs, 1, b's', b"").starts_with("undo"));
    }

    #[test]
    fn a_server_that_ends_a_transaction_by_itself_ends_the_session() {
        use Block::{Clients, Own};
        for (block, stage, idle, failed, open) in [
            (Own, Stage::Begins, "as usual", "end", "leave"),
            (Own, Stage::Runs, "end", "ROLLBACK", "COMMIT"),
            (Own, Stage::Exceeded, "end", "ROLLBACK", "ROLLBACK"),
            (Own, Stage::Commits, "as usual", "ROLLBACK", "end"),
            (Own, Stage::RollsBack, "as usual", "ROLLBACK", "ROLLBACK"),
            (Clients, Stage::Runs, "end", "as usual", "as usual"),
            (Clients, Stage::Exceeded, "end", "as usual", "nodegate"),
            (Clients, Stage::Fails, "end", "as usual", "end"),
        ] {
            let found = [b"I", b"E", b"T"].map(|status| step(block, stage, 2, b'Z', status));
            assert_eq!(found, [idle, failed, open], "{block:?} {stage:?}");
        }
    }

    #[test]
    fn of_what_is_undone_the_client_hears_no_more_but_a_farewell() {
        for (tag, body, expected) in [
            (b'C', b"SELECT 5\0".as_slice(), "swallow"),
            (b'E', b"VERROR\0C22012\0\0", "swallow"),
            (b'E', b"VFATAL\0C57P01\0\0", "as usual"),
            (b'N', b"VNOTICE\0\0", "swallow"),
            (b'S', b"a\0b\0", "as usual"),
            (b'A', b"\0\0\0\x01a\0b\0", "as usual"),
        ] {
            assert_eq!(step(Block::Own, Stage::Exceeded, 1, tag, body), expected, "{:?}", char::from(tag));
        }
        assert_eq!(step(Block::Clients, Stage::Fails, 1, b'C', b"SELECT 1\0"), "end", "it did not fail");
        assert_eq!(step(Block::Own, Stage::Commits, 2, b'C', b"COMMIT\0"), "release");
        assert_eq!(step(Block::Own, Stage::Commits, 2, b'C', b"ROLLBACK\0"), "lost");
    }
}
