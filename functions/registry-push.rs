//! Registry pushes in, images and Helm charts alike.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice::rim::lambda::registry_push()
}
