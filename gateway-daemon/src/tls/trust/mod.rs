//! The daemon's authority in what a workload trusts: added to what was there, never in its place.
//!
//! Where the process may change its mount namespace, the machine's own stores are laid over by copies that have the
//! authority in them ([`stores`]); what ships a list of its own, or reads none, is told by the variables that it honours
//! ([`variables`]). Whole directories are laid over, writable: renaming over a single mounted file fails with EBUSY, and
//! that is how package managers replace bundles.

mod bundle;
mod certificate;
mod keystore;
mod stores;
mod variables;

use std::{ffi::OsString, io, path::Path};

pub use variables::Variable;

/// Why the stores of the machine could not be laid over.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The authority's certificate is no certificate.
    #[error("the authority's certificate cannot be read: {0}")]
    Certificate(&'static str),
    /// The system said no.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What it said.
        source: io::Error,
    },
}

/// What a process that is about to become the workload's first has been given.
#[derive(Debug)]
pub struct Projected {
    /// What its environment gets, in place of what bears these names there.
    pub variables: Vec<(&'static str, OsString)>,
    /// Why the machine's own stores were not laid over; the variables stand all the same.
    pub not_mounted: Option<TrustError>,
}

/// Gives this process, and what it becomes, `authority` (PEM) to trust. Files that no store of the machine holds are
/// made in `scratch`, an empty directory of the workload's own. `environment` looks a variable up.
///
/// Blocking. This process must have a single thread, since it moves to a mount namespace of its own.
pub fn project(
    authority: &str,
    scratch: &Path,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Projected, TrustError> {
    let certificate = certificate::Certificate::from_pem(authority)?;
    let (places, not_mounted) = match stores::lay_over(&certificate) {
        Ok(Some(places)) => (places, None),
        Ok(None) => (stores::in_scratch(&certificate, scratch)?, None),
        Err(error) => (stores::in_scratch(&certificate, scratch)?, Some(error)),
    };
    let variables = variables::of(&certificate, &places, environment)?;
    Ok(Projected { variables, not_mounted })
}
