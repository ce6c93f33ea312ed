//! The room as a whole: forged tokens, real TLS issuers, real processes.

mod discovery;
mod enrolments;
mod forgery;
mod sources;
mod verification;
