//! Start time and memory of the functions against an empty `lambda_http` function, all in one run:
//!
//!     cargo build --release --bins --example floor && cargo bench --bench start
//!
//! Start time is from exec to the first poll, without the fetching ahead of secrets (the relay file names none that is
//! kept in AWS). Memory is what is resident after events of 64 KiB, and the peak after one of 3 MiB.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it ends where something is amiss")]

#[path = "../tests/support/lambda.rs"]
mod lambda;

use std::path::PathBuf;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use lambda::{Function, HttpEvent, Settings};
use serde_json::json;

const STARTS: usize = 31;
const EVENTS: usize = 50;
const SECRET: &str = "a secret";

fn settings(name: &str) -> Settings {
    let folder = std::env::var_os("SLUICE_TEST_BIN_DIR").map_or_else(
        || {
            let own = std::env::current_exe().expect("path");
            own.ancestors().nth(2).expect("target/release").to_owned()
        },
        PathBuf::from,
    );
    let path = if name == "floor" { folder.join("examples/floor") } else { folder.join(name) };
    assert!(path.is_file(), "{} is missing: cargo build --release --bins --example floor", path.display());
    let relay = json!({
        "sources": { "github": { "type": "github", "secret": "env:GITHUB_SECRET" } },
        "targets": {}, "routes": [],
    });
    Function::builder(path)
        .name(name)
        .timeout(Duration::from_secs(60))
        .env("SLUICE_CONFIG", relay.to_string())
        .env("GITHUB_SECRET", SECRET)
        .env("SLUICE_QUEUE_URL", "http://127.0.0.1:9/1/q.fifo")
        .env("SLUICE_DEAD_LETTER_URL", "http://127.0.0.1:9/1/d.fifo")
        .env("SLUICE_STATE_TABLE", "sluice")
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_ACCESS_KEY_ID", "x")
        .env("AWS_SECRET_ACCESS_KEY", "x")
        .env("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
}

/// A signed push of `length` bytes.
fn push(length: usize) -> HttpEvent {
    let mut body = br#"{"ref":"refs/heads/main","repository":{"full_name":"a/b"},"commits":[],"padding":""#.to_vec();
    body.resize(length - 2, b'x');
    body.extend_from_slice(b"\"}");
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
    mac.update(&body);
    let signature = format!("sha256={}", data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes()));
    HttpEvent::post("/github")
        .header("Content-Type", "application/json")
        .header("X-GitHub-Event", "push")
        .header("X-GitHub-Delivery", "d")
        .header("X-Hub-Signature-256", &signature)
        .body(body)
}

async fn median_start(name: &str) -> f64 {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let function = settings(name).start().await.unwrap_or_else(|error| panic!("{error}"));
        times.push(function.init_duration().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    times[STARTS / 2]
}

/// Resident after events of 64 KiB, and the peak after one of 3 MiB, in KiB.
async fn memory(name: &str) -> (u64, u64) {
    let function = settings(name).start().await.unwrap_or_else(|error| panic!("{error}"));
    for _ in 0..EVENTS {
        assert_eq!(function.http(push(64 * 1024)).await.expect("answer").status, 200);
    }
    let resident = function.memory().expect("memory").now;
    let function = settings(name).start().await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(function.http(push(3 * 1024 * 1024)).await.expect("answer").status, 200);
    (resident / 1024, function.memory().expect("memory").peak / 1024)
}

#[tokio::main]
async fn main() {
    println!("{:<14} {:>12} {:>16} {:>16}", "function", "start, ms", "64 KiB: RSS KiB", "3 MiB: peak KiB");
    for name in ["floor", "git-webhook", "registry-push", "deliver", "probe"] {
        let start = median_start(name).await;
        if matches!(name, "registry-push" | "deliver" | "probe") {
            println!("{name:<14} {start:>12.1}");
        } else {
            let (resident, peak) = memory(name).await;
            println!("{name:<14} {start:>12.1} {resident:>16} {peak:>16}");
        }
    }
}
