//! A real Alertmanager (Debian's prometheus-alertmanager) tells `sluice serve` of groups of alerts, and is told of Flux's.
//! What people are told of it is printed (`--nocapture`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

#[path = "support/parts.rs"]
mod parts;

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use data_encoding::BASE64;
use jiff::{SignedDuration, Timestamp};
use parts::{Process, free_port, http, ready, serve, sluice, wait_for};
use serde_json::{Value, json};

const SECRET: &str = "s3cret";
const PASSWORD: &str = "pw-of-a-test";
/// PASSWORD by bcrypt, of the lowest cost.
const HASH: &str = "$2b$04$88SwWcd61CCkm1Ma/NP9kelpEts3yUVCKALsN36qSWNQtyfILtUT2";

/// Our `Authorization` at Alertmanager.
fn basic() -> String {
    format!("Basic {}", BASE64.encode(format!("sluice:{PASSWORD}").as_bytes()))
}

/// A chat that keeps the headlines it is told, as Slack's webhooks take them.
#[derive(Clone, Default)]
struct Chat(Arc<Mutex<Vec<String>>>);

impl Chat {
    async fn start(&self) -> String {
        let told = self.0.clone();
        let take = move |body: String| async move {
            let body: Value = serde_json::from_str(&body).expect("JSON");
            let headline = body["text"].as_str().expect("text").to_owned();
            println!("    people are told: {headline}");
            told.lock().expect("lock").push(headline);
            "ok"
        };
        format!("{}/hook", listen(Router::new().route("/hook", axum::routing::post(take))).await)
    }

    /// Waits until `count` messages have come in all, and returns them.
    async fn told(&self, count: usize) -> Vec<String> {
        let told = || async { Some(self.0.lock().expect("lock").clone()).filter(|told| told.len() >= count) };
        wait_for(&format!("message {count}"), told).await
    }
}

async fn listen(app: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

/// Stands between Alertmanager and Sluice: answers 503 to the first notification and passes on all others. It keeps the
/// statuses that Alertmanager saw.
async fn faltering(to: String) -> (String, Arc<Mutex<Vec<u16>>>) {
    let answered = Arc::new(Mutex::new(Vec::new()));
    let seen = answered.clone();
    let pass_on = move |request: Request| {
        let (to, seen) = (to.clone(), seen.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
            let body = serde_json::from_slice(&body).expect("JSON");
            let first = seen.lock().expect("lock").is_empty();
            let (status, answer) = match first {
                true => (503, Value::Null),
                false => {
                    let authorization = head.headers["authorization"].to_str().expect("text");
                    http("POST", &format!("{to}{}", head.uri), authorization, &body).await
                }
            };
            seen.lock().expect("lock").push(status);
            (StatusCode::from_u16(status).expect("a status"), axum::Json(answer)).into_response()
        }
    };
    (listen(Router::new().fallback(pass_on)).await, answered)
}

/// Starts Alertmanager, which tells what it groups to `webhook`, at `port`.
async fn alertmanager(folder: &Path, webhook: &str, port: u16) -> (Process, String) {
    let config = json!({
        "route": {
            "receiver": "sluice", "group_by": ["alertname"],
            "group_wait": "1s", "group_interval": "100ms", "repeat_interval": "1s",
        },
        "receivers": [{ "name": "sluice", "webhook_configs": [{
            "url": webhook, "send_resolved": true,
            "http_config": { "authorization": { "type": "Bearer", "credentials": SECRET } },
        }] }],
    });
    let web = json!({ "basic_auth_users": { "sluice": HASH } });
    for (name, content) in [("alertmanager.yml", config), ("web.yml", web)] {
        std::fs::write(folder.join(name), content.to_string()).expect("configuration");
    }
    let address = format!("127.0.0.1:{port}");
    let mut command = Command::new("prometheus-alertmanager");
    command.current_dir(folder).args(["--config.file=alertmanager.yml", "--web.config.file=web.yml"]);
    command.args(["--storage.path=state", "--cluster.listen-address=", &format!("--web.listen-address={address}")]);
    let process = Process::start(&mut command, "scripts/test installs prometheus-alertmanager");
    let url = format!("http://{address}");
    ready(&url).await;
    (process, url)
}

/// Tells Alertmanager that these instances are in trouble, or that they no longer are.
async fn tell(url: &str, instances: &[&str], over: bool) {
    let now = Timestamp::now();
    let alert = |instance: &&str| {
        let mut alert = json!({
            "labels": { "alertname": "HighErrorRate", "severity": "critical", "instance": instance },
            "annotations": { "summary": "Error rate above 5 % on checkout" },
            // Of what began longer ago than `group_wait`, Alertmanager tells before it has read the other alerts.
            "startsAt": now.to_string(),
            "endsAt": (now + SignedDuration::from_mins(10)).to_string(),
        });
        if over {
            alert["endsAt"] = now.to_string().into();
        }
        alert
    };
    let alerts: Vec<_> = instances.iter().map(alert).collect();
    println!("Prometheus: {} {}", instances.join(" and "), if over { "are well again" } else { "are in trouble" });
    assert_eq!(http("POST", &format!("{url}/api/v2/alerts"), &basic(), &json!(alerts)).await.0, 200);
}

fn relay(chat_is: &str, alertmanager: &str) -> Value {
    json!({
        "sources": {
            "alertmanager": { "type": "alertmanager", "secret": "env:SECRET" },
            "flux": { "type": "flux", "cluster": "prod", "secret": "env:SECRET" },
        },
        "targets": {
            "chat": { "type": "slack", "webhook": chat_is },
            "alertmanager": {
                "type": "alertmanager", "url": alertmanager, "username": "sluice", "password": "env:PASSWORD",
            },
        },
        "routes": [{ "from": ["alertmanager"], "to": ["chat"] }, { "from": ["flux"], "to": ["alertmanager"] }],
        "egress": { "allow": ["127.0.0.0/8"] },
    })
}

#[tokio::test]
async fn groups_of_a_real_alertmanager_are_told_as_they_change_and_repeats_are_not_told_again() {
    let folder = tempfile::tempdir().expect("folder");
    let chat = Chat::default();
    let hook = chat.start().await;
    let variables = [("SECRET", SECRET), ("PASSWORD", PASSWORD), ("HOOK", hook.as_str())];
    let port = free_port();
    let relay = relay("env:HOOK", &format!("http://127.0.0.1:{port}"));
    let (_sluice, url) = serve(&relay, &variables, folder.path()).await;
    let (front, answered) = faltering(url).await;
    let (_process, alertmanager) = alertmanager(folder.path(), &format!("{front}/alertmanager"), port).await;

    tell(&alertmanager, &["checkout-0", "checkout-1"], false).await;
    assert_eq!(chat.told(1).await, ["🔥 Critical: HighErrorRate (2 firing)"]);
    let repeats = || async { (answered.lock().expect("lock").len() >= 4).then_some(()) };
    wait_for("the group, told again", repeats).await;
    assert_eq!(answered.lock().expect("lock")[..4], [503, 202, 202, 202], "a 503 is tried again");
    assert_eq!(chat.told(1).await.len(), 1, "a repeat is no news");

    tell(&alertmanager, &["checkout-1"], true).await;
    let told = chat.told(3).await;
    assert_eq!(told[1], "🔥 Critical: HighErrorRate (1 firing, 1 resolved)");
    assert_eq!(told[2], "🔥 Critical: Error rate above 5 % on checkout", "what is left of the group, at its next turn");

    tell(&alertmanager, &["checkout-0"], true).await;
    assert_eq!(chat.told(4).await[3..], ["✅ Resolved: Error rate above 5 % on checkout"]);
}

#[tokio::test]
async fn what_flux_says_becomes_an_alert_of_a_real_alertmanager_and_ends_there() {
    let folder = tempfile::tempdir().expect("folder");
    let chat = Chat::default();
    let hook = chat.start().await;
    let variables = [("SECRET", SECRET), ("PASSWORD", PASSWORD), ("HOOK", hook.as_str())];
    let port = free_port();
    let relay = relay("env:HOOK", &format!("http://127.0.0.1:{port}"));
    let (_sluice, url) = serve(&relay, &variables, folder.path()).await;
    let (_process, alertmanager) = alertmanager(folder.path(), &format!("{url}/alertmanager"), port).await;
    let sample = |ending: &str| {
        let file = format!("{}/events/flux/helmrelease-upgrade-failed.{ending}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(file).expect("sample")
    };
    let mut event: Value = serde_json::from_str(&sample("json")).expect("JSON");
    std::fs::write(folder.path().join("event.headers"), sample("headers")).expect("file");
    let flux = |event: &Value| {
        println!("Flux: {} {}", event["reason"], event["message"]);
        let file = folder.path().join("event.json");
        std::fs::write(&file, event.to_string()).expect("file");
        let sent = sluice(&relay, &variables).args(["send", "flux", "--url", &url]).arg(file).output().expect("run");
        assert!(sent.status.success(), "{sent:?}");
    };
    let alerts = || async { http("GET", &format!("{alertmanager}/api/v2/alerts"), &basic(), &Value::Null).await.1 };

    flux(&event);
    let active =
        wait_for("an alert", || async { alerts().await.as_array().filter(|all| !all.is_empty()).cloned() }).await;
    let [alert] = active.as_slice() else { panic!("{active:#?}") };
    let expected = json!({
        "alertname": "HelmRelease", "kind": "HelmRelease", "namespace": "apps", "name": "web",
        "key": event["involvedObject"]["uid"], "severity": "error", "source": "flux", "cluster": "demo-eu-1",
    });
    assert_eq!(alert["labels"], expected);
    assert_eq!(alert["annotations"]["description"], event["message"]);
    assert_eq!(alert["status"]["state"], "active");
    let ends: Timestamp = alert["endsAt"].as_str().expect("text").parse().expect("a time");
    assert!(
        ends > Timestamp::now() + SignedDuration::from_hours(6 * 24),
        "it does not end by itself in between: {ends}"
    );
    let headline = chat.told(1).await.remove(0);
    assert!(headline.starts_with("🔴 Error: HelmRelease "), "{headline}");

    // The end has another reason and revision, and is an end of that alert and of no other.
    for (field, value) in [("severity", "info"), ("reason", "UpgradeSucceeded"), ("message", "Helm upgrade succeeded")]
    {
        event[field] = value.into();
    }
    event["metadata"]["revision"] = "1.4.4".into();
    flux(&event);
    assert_eq!(chat.told(2).await[1..], ["✅ Resolved: HelmRelease apps/web: UpgradeSucceeded"]);
    assert_eq!(alerts().await, json!([]));
}
