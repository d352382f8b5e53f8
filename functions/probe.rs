//! Are the receivers there?

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice::rim::lambda::probe()
}
