//! Who is calling: a token is found for a captured cgroup, verified against its issuer's keys, and becomes a
//! [`Principal`](crate::domain::principal::Principal). Nothing that an agent says about itself counts, only a
//! signature; which token is looked at follows from what the kernel recorded at `connect()`.
//!
//! The way of a token: `service` (cache by cgroup) → `source` (where it comes from) → `verify` →
//! `token` (its form) → `claims` (its meaning) → `issuer` and `jwk` (its signature).

mod claims;
mod clock;
mod enrolments;
mod error;
mod fetch;
mod issuer;
mod json;
mod jwk;
mod process;
mod service;
mod settings;
mod slot;
mod source;
mod token;
mod verify;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod testing;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests;

pub use self::{
    clock::{Clock, SystemClock},
    error::IdentityError,
    service::Identity,
    settings::{IssuerSettings, KeySource, SourceSettings},
};
