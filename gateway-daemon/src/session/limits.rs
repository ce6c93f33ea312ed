//! How long sessions may take, whatever they speak.

use std::time::Duration;

/// How long a session may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For the client's startup message, and for the login upstream.
    pub startup: Duration,
    /// Between requests; `None` is forever.
    pub idle: Option<Duration>,
}
