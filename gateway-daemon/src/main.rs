//! The one binary, `nodegate`. What it does is in `gateway_daemon::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    gateway_daemon::cli::main()
}
