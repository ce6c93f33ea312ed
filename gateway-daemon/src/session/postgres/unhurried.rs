//! The daemon's own questions about the schema, over the client's session: they have a limit of their own, however short the
//! time-outs are that the client has set for its statements. Afterwards these are as they were, and a cancel request ends
//! them as before.

use super::target::{LoginError, query_rows};
use crate::{
    protocol::postgres::backend::TransactionStatus,
    session::transport::{Side, Transport},
};

/// What holds for them instead. SET needs no function, which a role may have lost the right to call.
macro_rules! patience {
    () => {
        "SET LOCAL statement_timeout = '30s'; SET LOCAL lock_timeout = 0"
    };
}

/// A transaction of the daemon's own, which is idle for a moment after every question.
const BEGIN: &str = concat!(
    "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY NOT DEFERRABLE; ",
    "SET LOCAL idle_in_transaction_session_timeout = 0; ",
    patience!()
);
const COMMIT: &str = "COMMIT";

/// The same within a transaction of the client's: what is set behind the savepoint goes with it.
const SAVEPOINT: &str = concat!("SAVEPOINT nodegate; ", patience!());
const RELEASE: &str = "ROLLBACK TO nodegate; RELEASE nodegate";

/// Runs the statements of `queries` one by one and returns their rows as text, as [`query_rows`] does. Where the server
/// refuses one, a transaction of the client's has failed by it.
///
/// # Errors
/// The server's refusal, or a breach of the protocol.
pub(super) async fn query_unhurried(
    side: &mut Side<Transport>,
    queries: &[&str],
    status: &mut TransactionStatus,
) -> Result<Vec<Vec<Vec<Option<String>>>>, LoginError> {
    let was_idle = *status == TransactionStatus::Idle;
    let (before, after) = if was_idle { (BEGIN, COMMIT) } else { (SAVEPOINT, RELEASE) };
    let all: Vec<&str> = [before].into_iter().chain(queries.iter().copied()).chain([after]).collect();
    match query_rows(side, &all, status).await {
        Ok(mut rows) => {
            rows.pop();
            Ok(rows.split_off(1))
        }
        Err(error) => {
            if was_idle && *status != TransactionStatus::Idle {
                query_rows(side, &["ROLLBACK"], status).await?;
            }
            Err(error)
        }
    }
}
