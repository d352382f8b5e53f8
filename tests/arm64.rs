//! What is deployed: the arm64 binary out of the zip, run as Graviton2 would run it.
//!
//! Needs `SLUICE_TEST_ARM64_DIR` (DIR/NAME/bootstrap), qemu-user and an arm64 libc: scripts/test sees to all of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod support {
    pub mod lambda;
}

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use support::lambda::{Function, HttpEvent};

/// The C library of Amazon Linux 2023, which `provided.al2023` is. The one that qemu gets is newer and would not tell.
const AL2023_GLIBC: (u32, u32) = (2, 34);

/// No source, so only `GET /healthz` and refusals are to be expected.
const RELAY_FILE: &str = "{}";

/// The deployed binary, or nothing after saying so: a test that is skipped in silence is believed to pass.
fn bootstrap(function: &str) -> Option<PathBuf> {
    let Some(directory) = std::env::var_os("SLUICE_TEST_ARM64_DIR") else {
        // Not by eprintln!, which the test harness keeps to itself when a test passes.
        let _ = writeln!(std::io::stderr(), "skipped, as SLUICE_TEST_ARM64_DIR is not set: {function} on arm64");
        return None;
    };
    let path = PathBuf::from(directory).join(function).join("bootstrap");
    assert!(path.is_file(), "SLUICE_TEST_ARM64_DIR is set, but there is no {}", path.display());
    Some(path)
}

#[tokio::test]
async fn the_arm64_function_starts_on_graviton2_and_answers() {
    let Some(bootstrap) = bootstrap("git-webhook") else { return };
    // Without -cpu, qemu offers more than Graviton2 has, and a binary for a newer one would pass.
    let function = Function::builder(bootstrap)
        .name("git-webhook")
        .runner(["qemu-aarch64", "-cpu", "neoverse-n1", "-L", "/usr/aarch64-linux-gnu"])
        .env("SLUICE_CONFIG", RELAY_FILE)
        // Nobody is there: a healthy function starts without its queue, and nothing here may reach the real AWS.
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        .env("SLUICE_QUEUE_URL", "http://127.0.0.1:9/123456789012/sluice.fifo")
        .timeout(Duration::from_secs(60))
        .start()
        .await
        .unwrap_or_else(|error| panic!("{error}"));

    let answer = function.http(HttpEvent::get("/healthz")).await.unwrap();

    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn every_arm64_function_runs_with_the_libc_of_amazon_linux_2023() {
    let Some(bootstrap) = bootstrap("git-webhook") else { return };
    let directory = bootstrap.ancestors().nth(2).expect("it is DIR/NAME/bootstrap");
    for function in directory.read_dir().unwrap() {
        let path = function.unwrap().path().join("bootstrap");
        let binary = std::fs::read(&path).unwrap();
        let newest = newest_glibc(&binary);
        assert!(newest.is_some(), "{} names no version of glibc: is it a dynamic binary?", path.display());
        assert!(newest <= Some(AL2023_GLIBC), "{} needs glibc {newest:?}", path.display());
    }
}

/// The newest `GLIBC_x.y` that the binary names. Such names stand in its table of needed versions, which a loader goes
/// by, and nowhere else; should one ever be ordinary text, this errs on the safe side.
fn newest_glibc(binary: &[u8]) -> Option<(u32, u32)> {
    const NAME: &[u8] = b"GLIBC_";
    let names = binary.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    let versions = names.filter_map(|(start, _)| {
        let version: String = binary[start + NAME.len()..]
            .iter()
            .map(|byte| *byte as char)
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .collect();
        let (major, minor) = version.split_once('.')?;
        let minor = minor.split('.').next()?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    versions.max()
}

#[test]
fn the_newest_version_is_found_by_number() {
    assert_eq!(newest_glibc(b"\0GLIBC_2.4\0GLIBC_2.17\0libc.so.6\0GLIBC_2.2.5\0GLIBC_PRIVATE\0"), Some((2, 17)));
    assert_eq!(newest_glibc(b"GLIB"), None);
}
