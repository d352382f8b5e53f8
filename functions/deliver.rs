//! Deliveries out.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice::rim::lambda::deliver()
}
