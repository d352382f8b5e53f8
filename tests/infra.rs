//! The module as a user has it: every example is applied to an emulated AWS with the real provider, an event comes in by the
//! API's route or an EventBridge rule and comes out at a receiver through the functions as they were deployed, every
//! call is held against the policy of its function, a second plan is empty, no secret is in plan, state or anything that
//! was written, and destroying leaves nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

#[path = "support/deployed.rs"]
mod deployed;
#[path = "support/lambda.rs"]
mod lambda;
#[path = "support/moto.rs"]
mod moto;
#[path = "support/needles.rs"]
mod needles;
#[path = "support/receiver.rs"]
mod receiver;

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use deployed::{Deployed, program};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use lambda::{HttpAnswer, HttpEvent};
use receiver::{FluxReceivers, Receiver};
use serde_json::{Value, json};
use sluice::domain::delivery::DeadLetter;

/// A sample of events/: its headers and its body.
fn sample(name: &str) -> (Vec<(String, String)>, Vec<u8>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("events").join(name);
    let headers = std::fs::read_to_string(path.with_extension("headers")).expect("headers");
    let headers = headers.lines().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (headers, std::fs::read(path.with_extension("json")).expect("body"))
}

fn json_sample(name: &str) -> Value {
    serde_json::from_slice(&sample(name).1).expect("JSON")
}

fn mac(secret: &str, text: &[u8]) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(text);
    data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes())
}

/// A push to a branch as GitHub tells it.
fn github_push(branch: &str, delivery_id: &str, secret: &str) -> HttpEvent {
    let (headers, body) = sample("github/push");
    let body = String::from_utf8(body).expect("text").replace("refs/heads/main", &format!("refs/heads/{branch}"));
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    HttpEvent::post("/github")
        .headers(headers.filter(|(name, _)| !name.eq_ignore_ascii_case("x-github-delivery")))
        .header("X-GitHub-Delivery", delivery_id)
        .header("X-Hub-Signature-256", &format!("sha256={}", mac(secret, body.as_bytes())))
        .body(body)
}

/// A sample, signed or not: `proof` is a header and its value for the body.
fn post(path: &str, name: &str, proof: impl FnOnce(&[u8]) -> (&'static str, String)) -> HttpEvent {
    let (headers, body) = sample(name);
    let (header, value) = proof(&body);
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    HttpEvent::post(path).headers(headers).header(header, &value).body(body)
}

/// An event as Flux's Provider `generic-hmac` posts it.
fn flux_event(name: &str, secret: &str) -> HttpEvent {
    post("/flux", &format!("flux/{name}"), |body| ("X-Signature", format!("sha256={}", mac(secret, body))))
}

/// Slack and Discord, as far as webhooks go.
struct Chats {
    url: String,
    state: Arc<Mutex<Channels>>,
}

#[derive(Default)]
struct Channels {
    /// The chats that something was said in, in order.
    said: Vec<String>,
    /// The status of the next answers.
    next: Vec<u16>,
}

impl Chats {
    async fn open() -> Self {
        async fn answer(State(state): State<Arc<Mutex<Channels>>>, uri: Uri) -> (StatusCode, &'static str) {
            let mut state = state.lock().expect("nobody panics");
            if let Some(status) = state.next.pop() {
                return (StatusCode::from_u16(status).expect("a status"), "{}");
            }
            let chat = uri.path().split('/').nth(1).unwrap_or_default();
            state.said.push(chat.to_owned());
            (StatusCode::OK, if chat == "slack" { "ok" } else { "{\"id\":\"1\"}" })
        }
        let state = Arc::<Mutex<Channels>>::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let service = axum::Router::new().fallback(answer).with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self { url, state }
    }

    /// Stores where they are, as the examples tell their user to.
    fn store(&self, cloud: &Deployed) {
        for chat in ["slack", "discord"] {
            let webhook = format!("{}/{chat}/hunter2-webhook", self.url);
            cloud.store_parameter(&format!("/sluice/{chat}"), &webhook);
        }
    }

    fn answer_next(&self, status: u16) {
        self.state.lock().expect("nobody panics").next.push(status);
    }

    /// Where something was said since this was asked last.
    fn said(&self) -> Vec<String> {
        let mut said = std::mem::take(&mut self.state.lock().expect("nobody panics").said);
        said.sort();
        said
    }
}

fn targets(answer: &HttpAnswer) -> Vec<String> {
    assert_eq!(answer.status, 202, "{}", answer.text());
    let answer = answer.json();
    let deliveries = answer["deliveries"].as_array().expect("deliveries").iter();
    let mut targets: Vec<_> = deliveries.map(|one| one["target"].as_str().expect("target").to_owned()).collect();
    targets.sort();
    targets
}

/// What a dead-letter queue holds: for which target, and why.
async fn dead_letters(cloud: &Deployed, queue: &str) -> Vec<(String, String)> {
    let messages = cloud.receive(&cloud.queue(queue).await).await;
    let letters =
        messages.iter().map(|message| DeadLetter::decode(message.body().expect("body")).expect("dead letter"));
    letters.map(|letter| (letter.delivery.expect("delivery").target.to_string(), letter.reason)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_clusters_are_served_from_one_relay_one_of_them_from_inside_its_vpc() {
    let Some(program) = program() else { return };
    let (staging, prod) = (FluxReceivers::start(), FluxReceivers::start());
    let hosts = [("https://flux.staging.example.com", &*staging.url()), ("https://flux.prod.internal", &*prod.url())];
    let cloud = Deployed::apply(program, "multi-cluster", &hosts).await;
    for (receivers, name) in [(&staging, "staging"), (&prod, "prod")] {
        let token = cloud.parameter(&format!("/clusters/{name}/receiver"));
        receivers.add(Receiver::new("github", "apps", "flux-system", &token).events(["push", "ping"]));
        receivers.add(Receiver::new("generic-hmac", "images", "flux-system", &token));
    }
    cloud.start_all().await;
    let secret = cloud.parameter("/sluice/github");
    let push = async |branch: &str, id: &str, secret: &str| cloud.request(github_push(branch, id, secret)).await;

    assert_eq!(targets(&push("main", "d-1", &secret).await), ["staging-apps"]);
    assert_eq!(targets(&push("production", "d-2", &secret).await), ["prod-apps"]);
    assert_eq!(push("main", "d-3", "another secret").await.status, 401);
    let hub = sample("dockerhub/push").1;
    let hub = HttpEvent::post(&format!("/hub/{}", mac(&cloud.parameter("/sluice/hub"), b"sluice:hub")))
        .header("Content-Type", "application/json")
        .body(hub);
    assert_eq!(targets(&cloud.request(hub).await), ["prod-images", "staging-images"]);
    assert_eq!(cloud.request(HttpEvent::get("/healthz")).await.status, 200);
    cloud.deliver().await;
    for receivers in [&staging, &prod] {
        receivers.assert_nothing_rejected();
        assert_eq!(receivers.accepted().len(), 2);
        receivers.forget();
    }

    // A receiver that is not there holds what it is sent; what may be the event's own fault is set aside; and what is
    // refused for good is given up.
    for (receivers, branch, queue) in
        [(&staging, "main", "sluice-dead-letters.fifo"), (&prod, "production", "sluice-agent-prod-dead-letters.fifo")]
    {
        for (count, status) in [(1, 503), (3, 500), (1, 413)] {
            receivers.answer_next(count, status);
            push(branch, &format!("d-{status}"), &secret).await;
            cloud.deliver().await;
        }
        assert_eq!(receivers.accepted().len(), 2);
        let letters = dead_letters(&cloud, queue).await;
        let [(_, reason)] = &letters[..] else { panic!("{letters:?}") };
        assert!(reason.starts_with("413"), "{reason}");
    }

    let working = ["sluice-git-webhook", "sluice-registry-push", "sluice-deliver", "sluice-agent-prod"];
    cloud.assert_rights_are_enough_and_no_more(&working, &[]);
    cloud.assert_a_second_plan_is_empty();
    cloud.assert_no_secret_is_told().await;
    cloud.assert_destroy_leaves_nothing_but(&[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_to_ecr_reaches_a_cluster_that_nobody_can_reach_by_an_agent_inside_it() {
    let Some(program) = program() else { return };
    let receivers = FluxReceivers::start();
    let hosts = [("http://webhook-receiver.flux-system.svc.cluster.local", &*receivers.url())];
    let cloud = Deployed::apply(program, "ecr-private-cluster", &hosts).await;
    let token = cloud.parameter("/sluice/receiver");
    receivers.add(Receiver::new("generic-hmac", "images", "flux-system", token));
    cloud.start_all().await;

    assert!(cloud.event(&json_sample("ecr/image-delete")).await.is_empty(), "no rule wants it");
    let mut push = json_sample("ecr/image-push");
    let queue = cloud.queue("sluice-agent-eks.fifo").await;
    cloud
        .with_agent("eks", async {
            for (count, status) in [(0, 200), (1, 503), (3, 500), (1, 413)] {
                receivers.answer_next(count, status);
                push["id"] = format!("e-{status}").into();
                let answers = cloud.event(&push).await;
                assert_eq!(answers[0][0]["deliveries"][0]["target"], "images");
                while cloud.left(&queue).await > 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            }
        })
        .await;
    assert_eq!(receivers.accepted().len(), 3);
    assert_eq!(receivers.accepted()[0].json()["tag"], "1.9.4");
    assert_eq!(dead_letters(&cloud, "sluice-agent-eks-dead-letters.fifo").await[0].0, "images");

    cloud.assert_rights_are_enough_and_no_more(
        &["sluice-registry-push", "sluice-agent-eks"],
        // There is a queue for what no agent is for, too, and in this relay file nothing is.
        &[("sluice-registry-push", "Enqueue", "sqs:SendMessage")],
    );
    cloud.assert_a_second_plan_is_empty();
    cloud.assert_no_secret_is_told().await;
    cloud.assert_destroy_leaves_nothing_but(&[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn github_and_ghcr_reach_a_flux_cluster_and_what_flux_says_of_it_reaches_chats() {
    let Some(program) = program() else { return };
    let (receivers, chats) = (FluxReceivers::start(), Chats::open().await);
    let cloud = Deployed::apply(program, "flux", &[("https://flux.prod.example.com", &*receivers.url())]).await;
    chats.store(&cloud);
    let token = cloud.parameter("/sluice/receiver");
    receivers.add(Receiver::new("github", "apps", "flux-system", &token).events(["push", "ping"]));
    receivers.add(Receiver::new("generic-hmac", "images", "flux-system", &token));
    cloud.start_all().await;
    let (github, flux) = (cloud.parameter("/sluice/github"), cloud.parameter("/sluice/flux"));

    assert_eq!(targets(&cloud.request(github_push("main", "d-1", &github)).await), ["apps"]);
    let package = post("/ghcr", "ghcr/package-published", |body| {
        ("X-Hub-Signature-256", format!("sha256={}", mac(&github, body)))
    });
    assert_eq!(targets(&cloud.request(package).await), ["images"]);
    assert_eq!(targets(&cloud.request(flux_event("kustomization-failed", &flux)).await), ["feed", "oncall"]);
    assert_eq!(cloud.request(flux_event("kustomization-failed", "another secret")).await.status, 401);
    cloud.deliver().await;
    receivers.assert_nothing_rejected();
    assert_eq!(receivers.accepted().len(), 2);
    assert_eq!(chats.said(), ["discord", "slack"]);
    assert_eq!(targets(&cloud.request(flux_event("helmrelease-upgraded", &flux)).await), ["feed"]);
    cloud.deliver().await;
    assert_eq!(chats.said(), ["discord"]);
    // The heartbeat of the Kustomization that failed.
    assert_eq!(targets(&cloud.request(flux_event("commit-status-update", &flux)).await), ["feed", "oncall"]);
    cloud.deliver().await;
    assert_eq!(chats.said(), ["discord", "slack"]);

    for (count, status) in [(1, 503), (3, 500), (1, 413)] {
        receivers.answer_next(count, status);
        cloud.request(github_push("main", &format!("d-{status}"), &github)).await;
        cloud.deliver().await;
    }
    assert_eq!(receivers.accepted().len(), 4);
    assert_eq!(dead_letters(&cloud, "sluice-dead-letters.fifo").await[0].0, "apps");

    // As `deliver` notes what failed, an hour ago.
    let noted = json!({ "count": 9, "receives": 9, "alone": false, "queued": Timestamp::now() - SignedDuration::from_hours(1) });
    let expires = (Timestamp::now() + SignedDuration::from_hours(24)).as_second().to_string();
    let item = json!({
        "pk": { "S": "target#apps" }, "sk": { "S": "delivery#1#0" },
        "value": { "S": noted.to_string() }, "expires": { "N": expires },
    });
    cloud.ask(&[("dynamodb", "put_item", json!({ "TableName": "sluice", "Item": item }))]);
    let probed = cloud.function("sluice-probe").await.invoke(json!({})).await.expect("a run");
    assert_eq!((&probed["probed"], &probed["failed"]), (&json!(2), &json!([])), "{probed}");
    let [overdue] = probed["overdue"].as_array().expect("overdue").as_slice() else { panic!("{probed}") };
    assert_eq!((&overdue["target"], &overdue["deliveries"]), (&json!("apps"), &json!(1)));

    let working =
        ["sluice-git-webhook", "sluice-registry-push", "sluice-alert-intake", "sluice-deliver", "sluice-probe"];
    cloud.assert_rights_are_enough_and_no_more(&working, &[]);
    cloud.assert_a_second_plan_is_empty();
    cloud.assert_no_secret_is_told().await;
    cloud.assert_destroy_leaves_nothing_but(&["/sluice/slack", "/sluice/discord"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_of_flux_alertmanager_and_cloudwatch_reach_chats() {
    let Some(program) = program() else { return };
    let chats = Chats::open().await;
    let cloud = Deployed::apply(program, "alerts-only", &[]).await;
    chats.store(&cloud);
    cloud.start_all().await;
    let (flux, alertmanager) = (cloud.parameter("/sluice/flux"), cloud.parameter("/sluice/alertmanager"));

    let alert = |secret: &str| {
        let bearer = format!("Bearer {secret}");
        post("/alertmanager", "alertmanager/firing", |_| ("Authorization", bearer))
    };
    assert_eq!(cloud.request(alert("another secret")).await.status, 401);
    assert_eq!(targets(&cloud.request(alert(&alertmanager)).await), ["feed", "oncall"]);
    cloud.deliver().await;
    assert_eq!(chats.said(), ["discord", "slack"]);
    let answers = cloud.event(&json_sample("cloudwatch/eventbridge-alarm")).await;
    assert_eq!((answers.len(), &answers[0][0]["source"]), (1, &Value::from("cloudwatch")));
    cloud.deliver().await;
    assert_eq!(chats.said(), ["discord", "slack"]);

    chats.answer_next(503);
    assert_eq!(targets(&cloud.request(flux_event("helmrelease-upgraded", &flux)).await), ["feed"]);
    cloud.deliver().await;
    assert_eq!(chats.said(), ["discord"]);
    // Refused in every form that the message has.
    for _ in 0..3 {
        chats.answer_next(400);
    }
    cloud.request(flux_event("imagepolicy-new-tag", &flux)).await;
    cloud.deliver().await;
    assert!(chats.said().is_empty());
    assert_eq!(dead_letters(&cloud, "sluice-dead-letters.fifo").await[0].0, "feed");
    for event in ["kustomization-failed", "commit-status-update"] {
        assert_eq!(targets(&cloud.request(flux_event(event, &flux)).await), ["feed", "oncall"]);
    }
    cloud.deliver().await;

    cloud.assert_rights_are_enough_and_no_more(
        &["sluice-alert-intake", "sluice-deliver"],
        // In a chat everything keeps its place: nothing is set aside.
        &[("sluice-deliver", "WorkOnDeliveries", "sqs:SendMessage")],
    );
    cloud.assert_a_second_plan_is_empty();
    cloud.assert_no_secret_is_told().await;
    cloud.assert_destroy_leaves_nothing_but(&["/sluice/slack", "/sluice/discord"]);
}

/// Targets that nothing is sent to: their hosts, which nothing makes shorter, do not fit into an environment.
fn many_targets(count: u8) -> String {
    let host = |number: u8| mac("host", &[number]);
    let target = |number| format!("  t-{number}: {{ type: http, url: \"https://{}.example\" }}\n", host(number));
    (0..count).map(target).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_of_a_large_relay_file_and_a_new_zip_arrive_with_one_apply() {
    let Some(program) = program() else { return };
    // Of its parts Parameter Store would refuse one as it is written.
    let large = "targets:\n  tagged: { type: http, url: \"https://tag.example\", body: template, template: \"{{ kind | tojson }}\" }\n".to_owned() + &many_targets(100);
    let mut cloud = Deployed::apply(program, "alerts-only", &[("targets:\n", &large)]).await;
    let config =
        |function: &Value| function["Environment"]["Variables"]["SLUICE_CONFIG"].as_str().expect("text").to_owned();
    let large = config(&cloud.functions["sluice-probe"]);
    assert!(large.starts_with("ssm:/sluice/relay/000:1,ssm:/sluice/relay/001:1"), "{large}");
    assert_eq!(cloud.relay_files().await["sluice-deliver"]["targets"]["tagged"]["template"], "{{ kind | tojson }}");
    let code = |cloud: &Deployed| cloud.functions["sluice-deliver"]["CodeSha256"].clone();
    let before = code(&cloud);

    cloud.edit_relay_file(|relay| relay.replace("https://tag.example", "https://sign.example"));
    cloud.change_zip("deliver");
    cloud.apply_again().await;
    assert_ne!(code(&cloud), before);
    let edited = config(&cloud.functions["sluice-probe"]);
    assert_eq!(edited.split(',').count(), large.split(',').count());
    assert_ne!(edited, large, "an edit is another version");
    for (name, relay) in cloud.relay_files().await {
        assert_eq!(relay["targets"]["tagged"]["url"], "https://sign.example", "{name}");
    }
    cloud.assert_a_second_plan_is_empty();
    cloud.start_all().await;
    let flux = cloud.parameter("/sluice/flux");
    assert_eq!(targets(&cloud.request(flux_event("helmrelease-upgraded", &flux)).await), ["feed"]);
    cloud.assert_rights_are_enough_and_no_more(&[], &[]);

    // So short that nothing is left in Parameter Store.
    cloud.edit_relay_file(|relay| relay.replace(&many_targets(100), ""));
    cloud.apply_again().await;
    assert!(cloud.functions.values().all(|function| config(function).starts_with("H4sI")));
    let parameters = cloud.ask(&[("ssm", "describe_parameters", json!({}))])[0].to_string();
    assert!(!parameters.contains("/sluice/relay"), "{parameters}");
    assert!(cloud.relay_files().await.values().all(|relay| relay["targets"]["tagged"].is_object()));
    cloud.assert_a_second_plan_is_empty();
    cloud.assert_destroy_leaves_nothing_but(&[]);
}
