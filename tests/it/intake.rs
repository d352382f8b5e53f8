//! Intake: what a sender is told, and that a 2xx for a relayed event means that it is stored.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use serde_json::{Value, json};
use sluice::domain::delivery::Delivery;
use sluice::domain::secret::Secret;
use sluice::domain::signature::{self, Algorithm, Encoding};
use sluice::intake::{Answer, Incoming, Intake, MAX_BODY};
use sluice::port::{Clock as _, FetchError};
use sluice::rim::local::samples;

use crate::fakes::{FakeClock, FakeMeter, FakeQueue, FakeSecrets, json as parse, relay, store};

const RELAY: &str = r#"
sources:
  github: { type: github, secret: "ssm:/github", cluster: prod, labels: { team: apps } }
  quiet: { type: github, secret: "ssm:/github", expose_targets: false }
  fenced: { type: github, secret: "ssm:/github", allow_cidrs: [192.0.2.0/24] }
targets:
  git:
    type: flux
    url: https://flux.example.com
    receiver: { type: github, name: apps, namespace: flux-system, events: [push] }
    token: "ssm:/token"
  log: { type: http, url: "https://log.example.com/events" }
routes:
  - { when: { event: push, branch: main }, to: [git, log] }
  - { when: { kind: git, ref: "refs/*" }, to: [log] }
  - { when: { event: release }, to: [git] }
"#;

struct World {
    intake: Intake,
    secrets: Arc<FakeSecrets>,
    queue: Arc<FakeQueue>,
    clock: Arc<FakeClock>,
    meter: Arc<FakeMeter>,
}

fn world() -> World {
    world_with(FakeQueue::default())
}

fn world_with(queue: FakeQueue) -> World {
    let (secrets, clock) = (Arc::new(FakeSecrets::default()), Arc::new(FakeClock::default()));
    secrets.set("ssm:/github", &["current", "previous"]);
    let (queue, meter) = (Arc::new(queue), Arc::new(FakeMeter::default()));
    let intake = Intake {
        relay: relay(RELAY),
        secrets: store(&secrets, &clock),
        queue: queue.clone(),
        agents: Default::default(),
        clock: clock.clone(),
        meter: meter.clone(),
        function: None,
    };
    World { intake, secrets, queue, clock, meter }
}

fn sample(name: &str) -> Incoming {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("events/github").join(name);
    let sample = samples::read(&path).expect("sample");
    incoming("/github", sample.headers, sample.body)
}

fn incoming(path: &str, headers: HeaderMap, body: Bytes) -> Incoming {
    Incoming {
        request_id: "request-1".into(),
        method: Method::POST,
        path: path.into(),
        headers,
        body,
        address: Some("198.51.100.7".parse().expect("address")),
    }
}

fn signed(mut incoming: Incoming, secret: &str) -> Incoming {
    let mac = signature::hmac(Algorithm::Sha256, &Secret::new(secret), &[&incoming.body]);
    let value = format!("sha256={}", Encoding::Hex.encode(&mac));
    incoming.headers.insert("x-hub-signature-256", value.parse().expect("header"));
    incoming
}

fn push() -> Incoming {
    signed(sample("push.json"), "current")
}

fn detail(answer: &Answer) -> &str {
    assert!(answer.problem);
    assert_eq!(answer.body["status"], answer.status);
    answer.body["detail"].as_str().expect("detail")
}

#[tokio::test]
async fn a_push_is_queued_for_every_target_of_its_routes_once_and_the_answer_names_them() {
    let world = world();
    let answer = world.intake.answer(push()).await;
    let sent = world.queue.sent();
    assert_eq!(sent.iter().map(|message| message.group.as_str()).collect::<Vec<_>>(), ["git", "log"]);
    let deliveries: Vec<_> = sent.iter().map(|message| Delivery::decode(&message.body).expect("delivery")).collect();
    assert_eq!(answer.status, 202);
    assert_eq!(
        answer.body,
        json!({
            "id": "e1320fa9-c836-5398-9f3f-1e0ab00e7ad0",
            "source": "github",
            "event": "push refs/heads/main",
            "deliveries": [{ "id": deliveries[0].id, "target": "git" }, { "id": deliveries[1].id, "target": "log" }],
        })
    );
    let event = serde_json::to_value(&deliveries[0].event).expect("JSON");
    assert_eq!((&event["cluster"], &event["labels"]["team"]), (&json!("prod"), &json!("apps")));
    // The Receiver gets the sender's own body; who gets the normalised event does not carry it about.
    assert!(deliveries[0].original.as_ref().is_some_and(|original| original.body == push().body));
    assert!(deliveries[1].original.is_none());
    assert!(world.meter.total("DeliveriesQueued") > 1.9);
}

#[tokio::test]
async fn a_redelivery_is_the_same_delivery() {
    let world = world();
    let first = world.intake.answer(push()).await;
    let second = world.intake.answer(push()).await;
    assert_eq!(first, second);
    assert_eq!(world.queue.sent().len(), 2);
}

#[tokio::test]
async fn a_form_delivery_is_passed_on_as_the_json_it_carries() {
    let world = world();
    let answer = world.intake.answer(signed(sample("push-form.form"), "current")).await;
    assert_eq!(answer.status, 202);
    let delivery = Delivery::decode(&world.queue.sent()[0].body).expect("delivery");
    let original = delivery.original.expect("passed on");
    assert_eq!(original.content_type, "application/json");
    assert_eq!(parse(&original.body)["ref"], "refs/heads/main");
}

#[tokio::test]
async fn what_is_of_no_use_gets_200_and_the_reason() {
    for (name, why) in [
        ("ping.json", "a ping"),
        ("push-branch-deleted.json", "a ref was deleted"),
        ("workflow-run-completed.json", "no route takes this event"),
        ("release-published.json", "git: the Receiver's events leave out `release`"),
    ] {
        let world = world();
        let answer = world.intake.answer(signed(sample(name), "current")).await;
        assert_eq!(answer.status, 200, "{name}");
        assert!(answer.body["ignored"].as_str().is_some_and(|ignored| ignored.contains(why)), "{name}: {answer:?}");
        assert!(world.queue.sent().is_empty());
    }
}

#[tokio::test]
async fn target_names_stay_inside_where_the_source_says_so() {
    let world = world();
    let answer = world.intake.answer(Incoming { path: "/quiet".into(), ..push() }).await;
    assert_eq!(answer.status, 202);
    assert!(!answer.body.to_string().contains("\"git\"") && !answer.body.to_string().contains("log"), "{answer:?}");
}

#[tokio::test]
async fn the_value_before_the_current_one_is_accepted_within_its_grace() {
    let world = world();
    assert_eq!(world.intake.answer(signed(sample("push.json"), "previous")).await.status, 202);
    world.clock.pass(std::time::Duration::from_secs(24 * 3600));
    assert_eq!(world.intake.answer(signed(sample("push.json"), "previous")).await.status, 401);
}

#[tokio::test]
async fn a_new_secret_is_accepted_at_once_although_the_old_one_is_cached() {
    let world = world();
    assert_eq!(world.intake.answer(push()).await.status, 202);
    world.secrets.set("ssm:/github", &["rotated", "current"]);
    assert_eq!(world.intake.answer(signed(sample("push.json"), "rotated")).await.status, 202);
    assert_eq!(world.intake.answer(push()).await.status, 202);
}

#[tokio::test]
async fn wrong_missing_and_malformed_signatures_get_401_and_queue_nothing() {
    let world = world();
    let mut changed = push();
    let mut body = changed.body.to_vec();
    body[100] ^= 1;
    changed.body = body.into();
    for request in [signed(sample("push.json"), "wrong"), sample("push.json"), changed] {
        let answer = world.intake.answer(request).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.content_type(), "application/problem+json");
        assert!(detail(&answer).contains("X-Hub-Signature-256"));
    }
    assert!(world.queue.sent().is_empty());
}

#[tokio::test]
async fn an_unsigned_flood_never_reaches_the_secret_store() {
    let world = world();
    for _ in 0..1000 {
        assert_eq!(world.intake.answer(sample("push.json")).await.status, 401);
    }
    assert_eq!(world.secrets.fetches.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_flood_of_wrong_signatures_costs_five_refreshes() {
    let world = world();
    for _ in 0..1000 {
        world.intake.answer(signed(sample("push.json"), "wrong")).await;
    }
    assert_eq!(world.secrets.fetches.load(Ordering::SeqCst), 1 + 5);
}

#[tokio::test]
async fn unknown_sources_and_tokens_nobody_asked_for_get_one_and_the_same_404() {
    let world = world();
    let mut answers = Vec::new();
    for path in
        ["/nobody", "/github/0123", "/", "", "/github/", "//github", "/GitHub", "/github/../github", "/nobody/x/y"]
    {
        let answer = world.intake.answer(Incoming { path: path.into(), ..push() }).await;
        assert_eq!(answer.status, 404, "{path}");
        answers.push(answer.body);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn a_source_of_another_function_is_unknown() {
    let mut world = world();
    world.intake.function = Some(sluice::source::Function::RegistryPush);
    assert_eq!(world.intake.answer(push()).await.status, 404);
}

#[tokio::test]
async fn other_methods_get_405_and_are_told_which_to_use() {
    let world = world();
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::HEAD, Method::OPTIONS] {
        let answer = world.intake.answer(Incoming { method, ..push() }).await;
        assert_eq!(answer.status, 405);
        assert_eq!(answer.header_map()["allow"], "POST");
    }
}

#[tokio::test]
async fn what_is_no_json_or_of_another_type_is_refused_as_such() {
    let world = world();
    let mut request = sample("push.json");
    request.body = Bytes::from_static(b"not json");
    let answer = world.intake.answer(signed(request, "current")).await;
    assert_eq!(answer.status, 400);
    assert!(detail(&answer).contains("not JSON"));
    let mut request = push();
    request.headers.insert("content-type", "text/xml".parse().expect("header"));
    assert_eq!(world.intake.answer(request).await.status, 415);
}

#[tokio::test]
async fn a_body_over_3_mib_gets_413_and_one_of_3_mib_is_taken() {
    let world = world();
    let padded = |length: usize| {
        let mut request = sample("push.json");
        let mut body = request.body.to_vec();
        body.resize(length, b' ');
        request.body = body.into();
        signed(request, "current")
    };
    assert_eq!(world.intake.answer(padded(MAX_BODY)).await.status, 202);
    assert_eq!(world.intake.answer(padded(MAX_BODY + 1)).await.status, 413);
}

#[tokio::test]
async fn a_body_that_does_not_compress_under_the_queues_limit_gets_413_and_queues_nothing() {
    let world = world_with(FakeQueue { limit: 8192, ..FakeQueue::default() });
    let mut request = sample("push.json");
    let mut payload: Value = parse(&request.body);
    let noise: Vec<String> = (0..2000u64).map(|i| signature::digest(&[&i.to_string()])).collect();
    payload["noise"] = noise.into();
    request.body = payload.to_string().into();
    let answer = world.intake.answer(signed(request, "current")).await;
    assert_eq!(answer.status, 413);
    assert!(detail(&answer).contains("compressed"));
    assert!(world.queue.sent().is_empty());
}

#[tokio::test]
async fn a_queue_that_is_down_gets_503_and_a_time_to_come_back() {
    let world = world();
    world.queue.set_down(true);
    let answer = world.intake.answer(push()).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header_map()["retry-after"], "5");
    world.queue.set_down(false);
    assert_eq!(world.intake.answer(push()).await.status, 202);
}

#[tokio::test]
async fn a_secret_store_that_is_down_missing_or_denied_gets_503_and_never_401() {
    for error in [FetchError::Unavailable("timed out".into()), FetchError::NotFound, FetchError::Denied("no".into())] {
        let world = world();
        world.secrets.fail(Some(error));
        let answer = world.intake.answer(push()).await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header_map()["retry-after"], "5");
        assert!(!answer.body.to_string().contains("ssm:"), "an answer names no secret: {answer:?}");
        assert!(world.queue.sent().is_empty());
    }
}

#[tokio::test]
async fn an_address_outside_the_allowed_networks_is_refused_whatever_a_header_says() {
    let world = world();
    let mut request = Incoming { path: "/fenced".into(), ..push() };
    request.headers.insert("x-forwarded-for", "192.0.2.1".parse().expect("header"));
    assert_eq!(world.intake.answer(request).await.status, 401);
    let near = Some("192.0.2.1".parse().expect("address"));
    let request = Incoming { path: "/fenced".into(), address: near, ..push() };
    assert_eq!(world.intake.answer(request).await.status, 202);
}

#[tokio::test]
async fn health_is_answered_without_authentication() {
    let world = world();
    let request = Incoming { method: Method::GET, ..incoming("/healthz", HeaderMap::new(), Bytes::new()) };
    assert_eq!(world.intake.answer(request).await.status, 200);
    assert_eq!(world.intake.answer(incoming("/healthz", HeaderMap::new(), Bytes::new())).await.status, 405);
}

#[tokio::test]
async fn the_time_of_queueing_is_the_clocks() {
    let world = world();
    world.intake.answer(push()).await;
    let delivery = Delivery::decode(&world.queue.sent()[0].body).expect("delivery");
    let now: Timestamp = world.clock.now();
    assert_eq!(delivery.queued, now);
}

mod url_tokens {
    use super::*;

    const TOKENED: &str = r#"
sources: { hook: { type: github, secret: "ssm:/github", url_token: true } }
targets: { log: { type: http, url: "https://log.example.com/" } }
routes: [{ to: [log] }]
"#;

    fn tokened() -> World {
        let mut world = world();
        world.intake.relay = relay(TOKENED);
        world
    }

    fn at(path: String) -> Incoming {
        Incoming { path, ..sample("push.json") }
    }

    #[tokio::test]
    async fn the_token_in_the_url_is_enough_where_the_source_says_so_and_nothing_else_is() {
        let world = tokened();
        let token = |secret| signature::url_token(&Secret::new(secret), "hook");
        assert_eq!(world.intake.answer(at(format!("/hook/{}", token("current")))).await.status, 202);
        assert_eq!(world.intake.answer(at(format!("/hook/{}", token("previous")))).await.status, 202);
        let nobody = world.intake.answer(at("/nobody".into())).await;
        for path in [
            "/hook".to_owned(),
            "/hook/".to_owned(),
            format!("/hook/{}", token("wrong")),
            format!("/hook/{}/", token("current")),
            format!("/hook/{}", token("current").to_uppercase()),
        ] {
            assert_eq!(world.intake.answer(at(path)).await, nobody);
        }
        let signed = Incoming { path: "/hook".into(), ..push() };
        assert_eq!(world.intake.answer(signed).await, nobody);
    }

    #[test]
    fn a_token_is_the_hex_of_the_hmac_over_the_sources_name() {
        // printf 'sluice:hub' | openssl dgst -sha256 -hmac secret
        assert_eq!(
            signature::url_token(&Secret::new("secret"), "hub"),
            "b3072c7361fd4a7c022698782baaeb54992df5865b126c94e89d1ef2be6d4281"
        );
    }
}

#[tokio::test]
async fn a_target_with_an_agent_is_told_from_the_agents_own_queue() {
    let mut world = world();
    world.intake.relay = relay(
        r#"
sources: { github: { type: github, secret: "ssm:/github" } }
targets:
  near: { type: http, url: "https://near.example.com/" }
  inside: { type: http, url: "https://inside.example.com/", agent: prod }
routes: [{ to: [near, inside] }]
"#,
    );
    let agent = Arc::new(FakeQueue::default());
    world.intake.agents.insert(sluice::domain::name::Name::parse("prod").expect("name"), agent.clone());
    assert_eq!(world.intake.answer(push()).await.status, 202);
    let groups = |queue: &FakeQueue| queue.sent().iter().map(|message| message.group.clone()).collect::<Vec<_>>();
    assert_eq!((groups(&world.queue), groups(&agent)), (vec!["near".to_owned()], vec!["inside".to_owned()]));
    agent.set_down(true);
    let again = Incoming { request_id: "request-2".into(), ..push() };
    assert_eq!(world.intake.answer(again).await.status, 503, "all or nothing is acknowledged");
}
