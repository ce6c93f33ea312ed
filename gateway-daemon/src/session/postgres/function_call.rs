//! The client's FunctionCall: the function behind the oid is looked up, and the call judged, recorded and forwarded like
//! a statement. libpq's large objects are read and written by it.

use std::sync::Arc;

use super::{
    bound::Values,
    ending::Ending,
    judge::Verdict,
    judging::{Judged, answered},
    relay::Relay,
    requests::{Batched, Taken},
    target::{LoginError, query_rows},
};
use crate::{
    domain::decision::Denial,
    protocol::postgres::{Frame, backend::TransactionStatus},
    session::transport::{Side, Transport},
    sql::postgres::CalledFunction,
};

/// What a FunctionCall holds beside its function.
pub(super) struct Arguments<'a> {
    pub(super) formats: Vec<i16>,
    pub(super) values: Vec<Option<&'a [u8]>>,
    pub(super) result_format: i16,
}

impl Relay<'_> {
    /// Takes a call of the function of that oid.
    pub(super) async fn take_function_call(
        &mut self,
        oid: u32,
        arguments: Arguments<'_>,
        frame: &Frame,
        batched: &mut Batched,
    ) -> Result<Taken, Ending> {
        let (count, bytes) =
            (arguments.values.len(), arguments.values.iter().flatten().map(|value| value.len()).sum());
        if let Some(judged) = self.settle_schema(batched).await? {
            return match judged {
                Judged::Wait => Ok(Taken::Wait),
                Judged::Verdict(verdict) => {
                    self.refuse_call(&text(&format!("oid {oid}"), count, bytes), verdict, batched)
                }
            };
        }
        let function = match self.functions.get(&oid) {
            Some(function) => function.clone(),
            None if !self.may_read_now(batched) => {
                if !self.queue.is_empty() || !batched.is_empty() {
                    return Ok(Taken::Wait);
                }
                let denial = unknown(oid, "it cannot be looked up in a pipeline, or in a failed transaction");
                let verdict = Arc::new(self.refused_verdict(denial));
                return self.refuse_call(&text(&format!("oid {oid}"), count, bytes), verdict, batched);
            }
            None => match self.look_function_up(oid).await? {
                Ok(Some(function)) => function,
                absent => {
                    let denial = absent.err().unwrap_or_else(|| unknown(oid, "there is none"));
                    let verdict = Arc::new(self.refused_verdict(denial));
                    return self.refuse_call(&text(&format!("oid {oid}"), count, bytes), verdict, batched);
                }
            },
        };
        let catalogue = &self.snapshot.catalogue;
        let verdict = Arc::new(self.room.judge.decide_call(&self.asker, self.facts, catalogue, &function));
        let text = text(&format!("{}.{}", function.schema, function.name), count, bytes);
        if verdict.denial.is_some() {
            return self.refuse_call(&text, verdict, batched);
        }
        let Arguments { formats, values, result_format } = arguments;
        let bound = self.recording.as_ref().map(|recording| {
            let values = Values::Whole { formats, parameters: values, result_formats: vec![result_format] };
            recording.call(values, &self.room.masker)
        });
        self.forward_simple(&text, verdict, bound, frame, batched)?;
        Ok(Taken::Done)
    }

    fn refuse_call(
        &mut self,
        text: &str,
        verdict: Arc<Verdict>,
        batched: &mut Batched,
    ) -> Result<Taken, Ending> {
        self.refuse_simple(text, verdict, batched)?;
        Ok(Taken::Done)
    }

    /// Asks the server for the function of that oid, or says why its call is refused.
    async fn look_function_up(&mut self, oid: u32) -> Result<Result<Option<CalledFunction>, Denial>, Ending> {
        self.begin_question().await?;
        let answer = look_up(&mut self.upstream, oid, &mut self.transaction).await;
        let found = answered(answer)?;
        if let Ok(Some(function)) = &found {
            self.functions.insert(oid, function.clone());
        }
        Ok(found)
    }
}

/// The function of that oid, over an idle session.
pub(super) async fn look_up(
    side: &mut Side<Transport>,
    oid: u32,
    status: &mut TransactionStatus,
) -> Result<Option<CalledFunction>, LoginError> {
    let query = format!(
        "SELECT n.nspname, p.proname FROM pg_catalog.pg_proc p \
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
         WHERE p.oid OPERATOR(pg_catalog.=) '{oid}'::pg_catalog.oid"
    );
    let results = query_rows(side, &[&query], status).await?;
    match results.first().and_then(|rows| rows.first()).map(Vec::as_slice) {
        Some([Some(schema), Some(name)]) => {
            Ok(Some(CalledFunction { oid, schema: schema.clone(), name: name.clone() }))
        }
        Some(_) => Err(LoginError::Protocol("a function without a name".to_owned())),
        None => Ok(None),
    }
}

/// The refusal of a function that has no name.
pub(super) fn unknown(oid: u32, why: &str) -> Denial {
    Denial::builtin(
        format!("a function call names the function of oid {oid}: {why}"),
        "Call the function in a SELECT.",
        "function-call",
    )
}

/// What records have for the text of a call. The arguments' values are not part of it.
pub(super) fn text(function: &str, arguments: usize, bytes: usize) -> String {
    format!("FUNCTION CALL {function} ({arguments} arguments, {bytes} bytes)")
}
