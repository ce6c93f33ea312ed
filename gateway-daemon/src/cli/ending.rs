//! How a command ends that could not do everything.

use std::{fmt::Display, io, process::ExitCode};

/// A failure, which may be one of the output alone.
pub(super) trait Failed: Display {
    /// What kept the output from being written, if that is all.
    fn output(&self) -> Option<&io::Error>;
}

/// Says what went wrong. `nodegate … | head` went well: the reader has seen enough.
pub(super) fn fail(failure: &impl Failed) -> ExitCode {
    if failure.output().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    eprintln!("nodegate: {failure}");
    ExitCode::FAILURE
}
