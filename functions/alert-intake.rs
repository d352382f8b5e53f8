//! Alerts in.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice::rim::lambda::alert_intake()
}
