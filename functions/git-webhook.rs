//! Git-host events in.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice::rim::lambda::git_webhook()
}
