//! The function `probe` as it is deployed: the binary under a Lambda runtime emulator, with a Receiver that checks as
//! Flux does. It needs no AWS where secrets are in the environment.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

#[path = "support/lambda.rs"]
mod lambda;
#[path = "support/receiver.rs"]
mod receiver;

use std::path::PathBuf;
use std::time::Duration;

use lambda::Function;
use receiver::{FluxReceivers, Receiver};
use serde_json::{Value, json};

const TOKEN: &str = "hunter2-receiver-token";

fn binary() -> PathBuf {
    match std::env::var_os("SLUICE_TEST_BIN_DIR") {
        Some(folder) => PathBuf::from(folder).join("probe"),
        None => env!("CARGO_BIN_EXE_probe").into(),
    }
}

fn target(url: &str, more: Value) -> Value {
    let mut target = json!({
        "type": "flux",
        "url": url,
        "receiver": { "type": "generic", "name": "apps", "namespace": "flux-system" },
        "token": "env:RECEIVER_TOKEN",
    });
    let members = target.as_object_mut().expect("object");
    members.extend(more.as_object().expect("object").clone());
    target
}

async fn start(targets: Value) -> Function {
    let relay = json!({ "targets": targets, "egress": { "allow": ["127.0.0.0/8"] } });
    let settings = Function::builder(binary()).name("probe").timeout(Duration::from_secs(15));
    let settings = settings.env("SLUICE_CONFIG", relay.to_string()).env("RECEIVER_TOKEN", TOKEN);
    let settings = settings.env("AWS_REGION", "eu-central-1").env("NO_PROXY", "127.0.0.1");
    settings.start().await.unwrap_or_else(|error| panic!("{error}"))
}

/// As EventBridge Scheduler sends it if nothing else is said.
fn scheduled() -> Value {
    json!({ "version": "0", "id": "s-1", "detail-type": "Scheduled Event", "source": "aws.scheduler", "detail": "{}" })
}

#[tokio::test]
async fn any_event_starts_a_run_that_finds_the_receivers_and_triggers_none() {
    let flux = FluxReceivers::with(Receiver::new("generic", "apps", "flux-system", TOKEN));
    let probe = start(json!({ "prod": target(&flux.url(), json!({})) })).await;
    for event in [scheduled(), json!({}), json!("go"), Value::Null, json!([1, 2])] {
        assert_eq!(probe.invoke(event).await.expect("a run"), json!({ "probed": 1, "failed": [] }));
    }
    let requests = flux.requests();
    assert_eq!(requests.len(), 10, "under /hook/ and outside, in each run");
    assert!(requests.iter().all(|request| !request.triggered && request.status == 404), "{requests:?}");
    let log = probe.log().await;
    let metric = log.iter().find(|line| line.get("ProbeFailures").is_some()).expect("metrics");
    assert_eq!(
        (&metric["ProbeFailures"], &metric["target"], &metric["function"]),
        (&json!(0.0), &json!("prod"), &json!("probe"))
    );
    assert!(metric["ProbeTime"].as_f64().expect("a number") > 0.0);
    assert!(!probe.output().await.contains("hunter2"));
}

#[tokio::test]
async fn a_run_succeeds_whatever_it_finds_and_says_so_in_answer_log_and_metrics() {
    let flux = FluxReceivers::start();
    let slow = FluxReceivers::start();
    slow.delay(Duration::from_secs(30));
    let probe = start(json!({
        "good": target(&flux.url(), json!({})),
        "lost": target(&format!("{}/flux", flux.url()), json!({})),
        "slow": target(&slow.url(), json!({ "timeout": "1s" })),
        "secretless": target(&flux.url(), json!({ "ca": "env:NOT_SET" })),
        "metadata": target("http://169.254.169.254", json!({})),
        "feed": { "type": "http", "url": "https://feed.example.com/" },
    }))
    .await;
    let summary = probe.invoke(scheduled()).await.expect("a run succeeds");
    assert_eq!(summary["probed"], 5);
    let failed = summary["failed"].as_array().expect("failed");
    let found: Vec<_> = failed.iter().map(|one| (one["target"].as_str(), one["finding"].as_str())).collect();
    assert_eq!(
        found,
        [
            (Some("lost"), Some("path_lost")),
            (Some("metadata"), Some("egress")),
            (Some("secretless"), Some("no_secret")),
            (Some("slow"), Some("timed_out")),
        ]
    );
    assert!(failed.iter().all(|one| one["reason"].as_str().is_some_and(|reason| reason.len() > 20)));
    let log = probe.log().await;
    let warned = log.iter().filter(|line| line["level"] == "WARN" && line.get("finding").is_some()).count();
    assert_eq!(warned, 4);
    let summed = log.iter().filter(|line| line["level"] == "INFO" && line.get("probed").is_some()).count();
    assert_eq!(summed, 1);
    let failures: f64 = log.iter().filter_map(|line| line.get("ProbeFailures")?.as_f64()).sum();
    assert!((failures - 4.0).abs() < f64::EPSILON, "{failures}");
}
