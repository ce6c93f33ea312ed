//! Replication connections, where policy names them: their commands are judged one by one, and what START_REPLICATION and
//! BASE_BACKUP send is passed on and counted, for as long as identity and policy allow it.

use std::sync::Arc;

use super::{
    ending::Ending,
    expected::Expected,
    judge::{Basis, Verdict},
    relay::Relay,
};
use crate::{
    domain::{
        decision::Denial,
        statement::{ReplicationCommand, Statement, Verb},
    },
    protocol::postgres::frontend::Message,
    sql::postgres::{Connection, replication_command},
};

/// What has gone by of a stream that is under way.
#[derive(Debug)]
pub(super) struct Stream {
    /// Bytes for the client.
    pub(super) received: u64,
    /// Bytes of the client's.
    pub(super) sent: u64,
    /// What allows it.
    basis: Basis,
}

impl std::fmt::Display for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "replication: {} bytes to the client, {} from it", self.received, self.sent)
    }
}

impl Verdict {
    /// Whether the message switches the connection to COPY BOTH.
    pub(super) fn copies_both(&self) -> bool {
        self.statements.iter().any(|statement| statement.does(Verb::CopyBoth))
    }

    /// Whether the message begins a stream.
    fn streams(&self) -> bool {
        self.copies_both()
            || self
                .statements
                .iter()
                .any(|statement| statement.replication == Some(ReplicationCommand::BaseBackup))
    }
}

impl Relay<'_> {
    /// The verdict on a text that the server does not take for SQL, since the connection is one for replication.
    pub(super) async fn judge_replication(&mut self, text: &str) -> Result<Option<Arc<Verdict>>, Ending> {
        let Some(connection) = self.replication else { return Ok(None) };
        let Some(statement) = replication_command(text) else {
            return Ok(match connection {
                Connection::Database => None,
                Connection::Physical => Some(Arc::new(self.refused_verdict(only_commands()))),
            });
        };
        self.check_identity().await?;
        let catalogue = &self.snapshot.catalogue;
        let verdict = self.room.judge.decide_replication(&self.asker, self.facts, catalogue, statement);
        Ok(Some(Arc::new(verdict)))
    }

    /// Notes that a stream is about to begin, if one is.
    pub(super) fn expect_stream(&mut self, verdict: &Verdict) {
        if verdict.streams() {
            self.stream = Some(Stream { received: 0, sent: 0, basis: verdict.basis });
        }
    }

    /// A stream may last for weeks: it ends with the identity and the policy that it began under.
    pub(super) async fn check_stream(&mut self) -> Result<(), Ending> {
        let Some(stream) = &self.stream else { return Ok(()) };
        let allowed_by = stream.basis;
        self.check_identity().await?;
        if allowed_by == self.room.judge.basis(&self.asker) {
            return Ok(());
        }
        let Some(Expected::Simple(request, _)) = self.queue.front() else { return Ok(()) };
        let Some(statement) = request.verdict.statements.first() else { return Ok(()) };
        let statement: Statement = statement.clone();
        let catalogue = &self.snapshot.catalogue;
        let verdict = self.room.judge.decide_replication(&self.asker, self.facts, catalogue, Ok(statement));
        if let Some(denial) = verdict.denial {
            return Err(Ending::Refused(denial.as_ref().clone()));
        }
        if let Some(stream) = &mut self.stream {
            stream.basis = verdict.basis;
        }
        Ok(())
    }

    /// Records how much of a stream went by that the end of the session has cut off.
    pub(super) fn note_cut_stream(&self, ending: &Ending) -> Result<(), Ending> {
        match self.queue.front() {
            Some(Expected::Simple(request, _)) if self.stream.is_some() => {
                self.note_completion(request, Some(ending.to_string()))
            }
            _ => Ok(()),
        }
    }
}

/// The server refuses all of the extended protocol and function calls on a replication connection.
pub(super) const fn is_for_sql_only(message: &Message<'_>) -> bool {
    matches!(
        message,
        Message::Parse { .. }
            | Message::Bind { .. }
            | Message::Execute { .. }
            | Message::Describe { .. }
            | Message::Close { .. }
            | Message::FunctionCall { .. }
    )
}

/// The refusal of SQL where there is none.
pub(super) fn only_commands() -> Denial {
    Denial::builtin(
        "a connection for physical replication takes replication commands alone",
        "Connect with replication=database, or without replication, for SQL.",
        "replication-command",
    )
}
