//! Verdicts on what comes by other ways than SQL: functions called by their oid, replication, and what a startup message
//! sets. Policy asks for the first two by name; what can be masked nowhere on these ways is refused where something is
//! masked.

use std::sync::Arc;

use super::{
    judge::{Asker, Judge, Prepared, Verdict},
    parameters::Parameters,
    readings::denied,
};
use crate::{
    domain::{
        action::TargetFacts,
        catalogue::Catalogue,
        statement::{Statement, Verb},
    },
    sql::postgres::{CalledFunction, Connection, Shows, SqlError, beside_masks, function_call, why_unmasked},
};

/// Nothing is prepared: none of these names a prepared statement.
struct Nothing;

impl Prepared for Nothing {
    fn statements(&self, _: &str) -> Option<Arc<[Statement]>> {
        None
    }
}

impl Judge {
    /// Judges a call of `function`.
    pub fn decide_call(
        &self,
        asker: &Asker,
        target: &TargetFacts,
        catalogue: &Arc<Catalogue>,
        function: &CalledFunction,
    ) -> Verdict {
        let called = function_call(function, catalogue);
        let shows = called.as_ref().map_or(Shows::Anything, |(_, shows)| *shows);
        let reading = called.map(|(statement, _)| Arc::from([statement])).map_err(|error| denied(&error));
        let mut verdict = self.decide(asker, target, catalogue, reading, &Nothing);
        // What policy names may show what it likes.
        let is_named = verdict.statements.iter().any(|statement| statement.does(Verb::CallUnmasked));
        if verdict.denial.is_none() && !is_named && shows.may_hold_masked(&verdict.target_masks) {
            verdict.denial = Some(Arc::new(function.unmasked()));
        }
        verdict
    }

    /// Judges what is asked of a replication connection: a command, or to be one.
    pub fn decide_replication(
        &self,
        asker: &Asker,
        target: &TargetFacts,
        catalogue: &Arc<Catalogue>,
        statement: Result<Statement, SqlError>,
    ) -> Verdict {
        let masks = self.target_masks(asker, target, catalogue);
        let reading = statement
            .map(|statement| Arc::from([beside_masks(statement, &masks)]))
            .map_err(|error| denied(&error));
        let mut verdict = self.decide(asker, target, catalogue, reading, &Nothing);
        if let (Some(denial), Some(statement)) = (&mut verdict.denial, verdict.statements.first()) {
            Arc::make_mut(denial).reason.push_str(&why_unmasked(statement, &masks));
        }
        verdict
    }

    /// Judges whether a connection may be one for replication.
    pub fn decide_connection(
        &self,
        asker: &Asker,
        target: &TargetFacts,
        catalogue: &Arc<Catalogue>,
        connection: Connection,
    ) -> Verdict {
        self.decide_replication(asker, target, catalogue, Ok(connection.statement()))
    }

    /// Judges what a startup message sets, as the statement that would set the same; `None` where it sets nothing that
    /// policy decides on.
    pub fn decide_startup(
        &self,
        asker: &Asker,
        target: &TargetFacts,
        catalogue: &Arc<Catalogue>,
        parameters: &Parameters,
    ) -> Option<Verdict> {
        let reading = match parameters.sets.as_ref()? {
            Ok(statement) => Ok(Arc::from([statement.clone()])),
            Err(error) => Err(denied(error)),
        };
        let mut verdict = self.decide(asker, target, catalogue, reading, &Nothing);
        if let Some(denial) = &mut verdict.denial {
            Arc::make_mut(denial).reason.insert_str(0, "in the startup message: ");
        }
        Some(verdict)
    }
}
