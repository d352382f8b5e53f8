//! Intake: what a sender is told, and that a 2xx for a relayed event means that it is stored.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use serde_json::{Value, json};
use sluice::domain::delivery::Delivery;
use sluice::domain::secret::Secret;
use sluice::domain::signature::{self, Algorithm, Encoding};
use sluice::intake::{Answer, Incoming, Intake, Invoked, MAX_BODY};
use sluice::port::{Clock as _, FetchError};
use sluice::rim::local::samples;
use sluice::source::{Function, Invocation};
use tracing_subscriber::filter::LevelFilter;

use crate::fakes::{FakeClock, FakeMeter, FakeQueue, FakeSecrets, FakeSubscriptions, json as parse, relay, store};

mod attacks;

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
    let queue = Arc::new(FakeQueue { clock: clock.clone(), ..queue });
    let meter = Arc::new(FakeMeter::default());
    let intake = Intake {
        relay: relay(RELAY),
        secrets: store(&secrets, &clock),
        queue: queue.clone(),
        agents: Default::default(),
        state: None,
        clock: clock.clone(),
        meter: meter.clone(),
        subscriptions: Arc::new(FakeSubscriptions::default()),
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

mod registries {
    use super::*;

    const REGISTRIES: &str = r#"
sources:
  acr: { type: acr, secret: "ssm:/registries" }
  harbor: { type: harbor, secret: "ssm:/registries" }
  quay: { type: quay, secret: "ssm:/registries" }
targets: { log: { type: http, url: "https://log.example.com/" } }
routes: [{ to: [log] }]
"#;

    fn registries() -> World {
        let mut world = world();
        world.secrets.set("ssm:/registries", &["current"]);
        world.intake.relay = relay(REGISTRIES);
        world
    }

    fn sample(name: &str) -> Incoming {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("events").join(name);
        let sample = samples::read(&path).expect("sample");
        let (source, _) = name.split_once('/').expect("type");
        let mut incoming = incoming(&format!("/{source}"), sample.headers, sample.body);
        incoming.headers.insert("authorization", "current".parse().expect("header"));
        incoming
    }

    #[tokio::test]
    async fn event_grids_handshake_is_answered_to_whoever_knows_the_secret() {
        let world = registries();
        let mut handshake = sample("acr/eventgrid-validation.json");
        let answer = world.intake.answer(sample("acr/eventgrid-validation.json")).await;
        let expected = json!({ "validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6" });
        assert_eq!((answer.status, answer.body, answer.problem), (200, expected, false));
        handshake.headers.remove("authorization");
        let refused = world.intake.answer(handshake).await;
        assert_eq!(refused.status, 401);
        assert!(!refused.body.to_string().contains("512d38b6"));
        assert!(world.queue.sent().is_empty());
    }

    #[tokio::test]
    async fn whoever_shakes_hands_by_options_is_allowed_to_send() {
        let world = registries();
        let mut ask = sample("acr/eventgrid-cloudevents-push.json");
        ask.method = Method::OPTIONS;
        let answer = world.intake.answer(ask).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header_map()["webhook-allowed-origin"], "eventgrid.azure.net");
    }

    #[tokio::test]
    async fn events_of_one_request_that_have_no_identity_are_not_taken_for_each_other() {
        let world = registries();
        let mut push = sample("harbor/push-of-several-artifacts-with-port-and-nested-path.json");
        let body = std::str::from_utf8(&push.body).expect("text").replace("\"occur_at\":1787220344,", "");
        push.body = body.into();
        let answer = world.intake.answer(push).await;
        assert_eq!((answer.status, answer.body["deliveries"].as_array().map(Vec::len)), (202, Some(2)));
        let sent = world.queue.sent();
        assert_eq!(sent.len(), 2);
        assert_ne!(sent[0].deduplication_id, sent[1].deduplication_id);
    }

    #[tokio::test]
    async fn two_pushes_that_look_the_same_are_two_deliveries_where_the_sender_has_nothing_unique() {
        let world = registries();
        let token = signature::url_token(&Secret::new("current"), "quay");
        for request_id in ["request-1", "request-2"] {
            let push =
                Incoming { request_id: request_id.into(), path: format!("/quay/{token}"), ..sample("quay/push.json") };
            assert_eq!(world.intake.answer(push).await.status, 202);
        }
        assert_eq!(world.queue.sent().len(), 2);
    }
}

#[tokio::test]
async fn a_sender_of_cloudevents_that_asks_whether_it_may_send_is_told_so() {
    let mut world = world();
    world.intake.relay = relay("sources: { ce: { type: cloudevents, secret: 'ssm:/ce', emits: git } }");
    let mut asking = Incoming { method: Method::OPTIONS, ..incoming("/ce", HeaderMap::new(), Bytes::new()) };
    asking.headers.insert("webhook-request-origin", "eventemitter.example.com".parse().expect("header"));
    let answer = world.intake.answer(asking).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header_map()["webhook-allowed-origin"], "eventemitter.example.com");
    let asking = Incoming { method: Method::OPTIONS, ..incoming("/ce", HeaderMap::new(), Bytes::new()) };
    assert_eq!(world.intake.answer(asking).await.status, 405);
}

#[tokio::test]
async fn a_source_belongs_to_the_function_that_its_emits_names() {
    let mut world = world();
    world.intake.relay = relay(
        "sources: { pushes: { type: generic, secret: 'ssm:/github', emits: image_push }, \
         commits: { type: generic, secret: 'ssm:/github', emits: git } }",
    );
    world.intake.function = Some(Function::GitWebhook);
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Bearer current".parse().expect("header"));
    let status = async |path: &str| {
        world.intake.answer(incoming(path, headers.clone(), Bytes::from_static(b"{\"ref\":\"x\"}"))).await.status
    };
    assert_eq!((status("/commits").await, status("/pushes").await), (200, 404));
}

mod without_http {
    use super::*;

    const ECR: &str = r#"
sources:
  all: { type: ecr, allow_cidrs: [192.0.2.0/24] }
  abroad: { type: ecr, regions: [us-east-1], secret: "ssm:/ecr", header: X-Key }
  github: { type: github, secret: "ssm:/github" }
targets: { log: { type: http, url: "https://log.example.com/" } }
routes: [{ to: [log] }]
"#;

    fn claiming() -> World {
        let mut world = world();
        world.intake.relay = relay(ECR);
        world.intake.function = Some(Function::RegistryPush);
        world
    }

    fn event(name: &str, region: &str) -> Invoked {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("events/ecr").join(name);
        let invocation = Invocation {
            source: "aws.ecr".into(),
            detail_type: Some("ECR Image Action".into()),
            account: Some("123456789012".into()),
            region: Some(region.into()),
            topic: None,
        };
        let body = String::from_utf8(samples::read(&path).expect("sample").body.to_vec()).expect("text");
        let body = body.replace("\"region\":\"eu-central-1\"", &format!("\"region\":\"{region}\"")).into();
        Invoked { request_id: "request-1".into(), invocation, body }
    }

    #[tokio::test]
    async fn an_event_goes_to_the_first_source_by_name_that_claims_it() {
        for (region, source) in [("us-east-1", "abroad"), ("eu-central-1", "all")] {
            let world = claiming();
            let answer = world.intake.take(event("image-push.json", region)).await.expect("taken");
            assert_eq!((answer.status, &answer.body["source"]), (202, &json!(source)));
            let delivery = Delivery::decode(&world.queue.sent()[0].body).expect("delivery");
            assert_eq!(delivery.event.source.as_str(), source);
        }
    }

    #[tokio::test]
    async fn an_event_goes_to_who_names_its_origin_before_who_takes_any() {
        let mut world = claiming();
        world.intake.relay = relay(
            r#"
sources: { all: { type: aws }, metrics: { type: cloudwatch } }
targets: { log: { type: http, url: "https://log.example.com/" } }
routes: [{ to: [log] }]
"#,
        );
        world.intake.function = Some(Function::AlertIntake);
        for (origin, source) in [("aws.cloudwatch", "metrics"), ("aws.ec2", "all")] {
            let invocation = Invocation { source: origin.into(), ..Invocation::default() };
            let body = format!(r#"{{"detail-type":"Example","source":"{origin}","detail":{{"a":"b"}}}}"#).into();
            let invoked = Invoked { request_id: "request-1".into(), invocation, body };
            assert_eq!(world.intake.take(invoked).await.expect("taken").body["source"], json!(source), "{origin}");
        }
    }

    #[tokio::test]
    async fn no_secret_is_looked_up_and_no_address_asked_for_where_iam_has_authenticated() {
        let world = claiming();
        world.secrets.fail(Some(FetchError::Unavailable("down".into())));
        for region in ["us-east-1", "eu-central-1"] {
            assert_eq!(world.intake.take(event("image-push.json", region)).await.expect("taken").status, 202);
        }
        assert_eq!(world.secrets.fetches.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn the_invocation_fails_where_http_would_say_503_and_the_retry_is_one_delivery() {
        let world = claiming();
        world.queue.set_down(true);
        let error = world.intake.take(event("image-push.json", "eu-central-1")).await.expect_err("not taken");
        assert!(error.to_string().contains("source `all`: 503"), "{error}");
        world.queue.set_down(false);
        for _ in 0..2 {
            assert_eq!(world.intake.take(event("image-push.json", "eu-central-1")).await.expect("taken").status, 202);
        }
        assert_eq!(world.queue.sent().len(), 1);
    }

    #[tokio::test]
    async fn what_is_of_no_use_succeeds_and_what_is_malformed_fails_with_the_reason() {
        let world = claiming();
        let answer = world.intake.take(event("image-delete.json", "eu-central-1")).await.expect("taken");
        assert_eq!((answer.status, &answer.body["ignored"]), (200, &json!("not a push to the registry")));
        let malformed = event("image-push-without-repository.json", "eu-central-1");
        let error = world.intake.take(malformed).await.expect_err("not taken").to_string();
        assert!(error.contains("400") && error.contains("detail.repository-name"), "{error}");
        assert!(world.queue.sent().is_empty());
    }

    #[tokio::test]
    async fn an_event_that_nobody_claims_succeeds_as_trying_again_would_not_help() {
        let world = claiming();
        let mut stranger = event("image-push.json", "eu-central-1");
        stranger.invocation.source = "aws.s3".into();
        let answer = world.intake.take(stranger).await.expect("taken");
        assert_eq!((answer.status, &answer.body["event"]), (200, &json!("aws.s3 ECR Image Action")));
        assert!(answer.body["ignored"].as_str().is_some_and(|why| why.contains("no source")));
        assert!(world.queue.sent().is_empty());
    }

    #[tokio::test]
    async fn a_source_of_another_function_claims_nothing_here() {
        let mut world = claiming();
        world.intake.function = Some(Function::GitWebhook);
        let answer = world.intake.take(event("image-push.json", "eu-central-1")).await.expect("taken");
        assert_eq!(answer.status, 200);
        assert!(world.queue.sent().is_empty());
    }
}

mod key_sets {
    use serde_json::Value;
    use sluice::domain::secret::SecretRef;
    use sluice::source::jwt;

    use super::*;

    const GCR: &str = r#"
sources: { gcr: { type: gcr, audience: "https://relay.example.com/gcr", service_account: a@b.example } }
targets: { log: { type: http, url: "https://log.example.com/" } }
routes: [{ to: [log] }]
"#;

    /// The first throw-away keys, each under its own name.
    fn keys() -> [Value; 2] {
        let mut keys: Vec<Value> =
            serde_json::from_str(include_str!("../data/throw-away-rsa-keys.json")).expect("JSON");
        for (i, key) in keys.iter_mut().enumerate() {
            key["kid"] = format!("key-{i}").into();
        }
        [keys[0].clone(), keys[1].clone()]
    }

    fn publish(world: &World, keys: &[&Value]) {
        let set = SecretRef::KeySet("https://www.googleapis.com/oauth2/v3/certs".into());
        world.secrets.set(&set.to_string(), &[&json!({ "keys": keys }).to_string()]);
    }

    fn google() -> World {
        let mut world = world();
        world.intake.relay = relay(GCR);
        publish(&world, &[&keys()[0]]);
        world
    }

    fn notice(world: &World, key: &Value) -> Incoming {
        let now = world.clock.now().as_second();
        let claims = json!({
            "iss": "https://accounts.google.com", "aud": "https://relay.example.com/gcr", "email": "a@b.example",
            "email_verified": true, "iat": now, "exp": now + 3600,
        });
        let token = jwt::sign(&claims, &Secret::new(json!({ "keys": [key] }).to_string())).expect("signed");
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("events/gcr/wrapped-insert.json");
        let sample = samples::read(&path).expect("sample");
        let mut request = incoming("/gcr", sample.headers, sample.body);
        request.headers.insert("authorization", format!("Bearer {token}").parse().expect("header"));
        request
    }

    #[tokio::test]
    async fn a_key_that_was_published_a_moment_ago_is_accepted_at_once() {
        let world = google();
        let [old, new] = keys();
        assert_eq!(world.intake.answer(notice(&world, &old)).await.status, 202);
        publish(&world, &[&old, &new]);
        assert_eq!(world.intake.answer(notice(&world, &new)).await.status, 202);
        assert_eq!(world.intake.answer(notice(&world, &old)).await.status, 202);
        assert_eq!(world.secrets.fetches.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_flood_of_tokens_with_unknown_keys_costs_five_fetches() {
        let world = google();
        let request = || notice(&world, &keys()[1]);
        for _ in 0..100 {
            assert_eq!(world.intake.answer(request()).await.status, 401);
        }
        assert_eq!(world.secrets.fetches.load(Ordering::SeqCst), 1 + 5);
    }

    #[tokio::test]
    async fn keys_that_cannot_be_had_are_our_fault_and_those_we_have_serve_on() {
        let world = google();
        let [old, new] = keys();
        world.secrets.fail(Some(FetchError::Unavailable("down".into())));
        assert_eq!(world.intake.answer(notice(&world, &old)).await.status, 503);
        world.secrets.fail(None);
        world.clock.pass(std::time::Duration::from_secs(60));
        assert_eq!(world.intake.answer(notice(&world, &old)).await.status, 202);
        world.secrets.fail(Some(FetchError::Unavailable("down".into())));
        world.clock.pass(std::time::Duration::from_secs(10 * 60));
        assert_eq!(world.intake.answer(notice(&world, &old)).await.status, 202);
        assert_eq!(world.intake.answer(notice(&world, &new)).await.status, 401);
    }
}

#[tokio::test]
async fn a_target_that_wants_the_senders_own_body_gets_it_whatever_the_sender_is() {
    let mut world = world();
    world.intake.relay = relay(
        r#"
sources: { hub: { type: dockerhub, secret: "ssm:/github" } }
targets: { own: { type: http, url: "https://x.example.com/", body: passthrough }, log: { type: http, url: "https://y.example.com/" } }
routes: [{ to: [own, log] }]
"#,
    );
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("events/dockerhub/push.json");
    let sample = samples::read(&path).expect("sample");
    let token = signature::url_token(&Secret::new("current"), "hub");
    let answer = world.intake.answer(incoming(&format!("/hub/{token}"), sample.headers, sample.body.clone())).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let sent = world.queue.sent();
    let [own, log] = &sent[..] else { panic!("two deliveries") };
    let original = Delivery::decode(&own.body).expect("delivery").original.expect("the sender's own body");
    assert_eq!((original.content_type.as_str(), original.body), ("application/json", sample.body));
    assert!(Delivery::decode(&log.body).expect("delivery").original.is_none());
}

#[tokio::test]
async fn an_event_of_no_cluster_of_its_own_carries_the_targets() {
    let mut world = world();
    world.intake.relay = relay(
        r#"
sources:
  anywhere: { type: github, secret: "ssm:/github" }
  github: { type: github, secret: "ssm:/github", cluster: staging }
targets: { log: { type: http, url: "https://x.example.com/", cluster: prod } }
routes: [{ to: [log] }]
"#,
    );
    for (path, cluster) in [("/anywhere", "prod"), ("/github", "staging")] {
        assert_eq!(world.intake.answer(Incoming { path: path.into(), ..push() }).await.status, 202);
        let delivery = Delivery::decode(&world.queue.sent().last().expect("one").body).expect("delivery");
        assert_eq!(delivery.event.cluster.as_deref(), Some(cluster));
    }
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Takes down what this thread logs, until what is given back is dropped.
    ///
    /// `tracing` asks once whether anybody wants a line, when it is logged first. Where there is one subscriber alone, it
    /// asks only the thread that logs, and for a thread of another test the answer is no, for every thread and for ever.
    /// So there are two; and the first wants nothing, so that no line is asked about before the second is there.
    fn taken_down(&self) -> (tracing::Dispatch, tracing::subscriber::DefaultGuard) {
        let nothing = tracing_subscriber::fmt().with_max_level(LevelFilter::OFF).finish();
        let nothing = tracing::Dispatch::new(nothing);
        let log = self.clone();
        let logger = tracing_subscriber::fmt().json().with_max_level(LevelFilter::INFO);
        (nothing, tracing::subscriber::set_default(logger.with_writer(move || log.clone()).finish()))
    }
}

#[tokio::test]
async fn a_refused_request_costs_a_short_line_of_log_and_ten_thousand_a_few_look_ups() {
    const REFUSED: usize = 10_000;
    const MINUTES: usize = 10;
    const KINDS: usize = 4;
    const LONGEST_LINE: usize = 512;
    let (world, log) = (world(), Log::default());
    let _logging = log.taken_down();
    let long = "x".repeat(64 * 1024);
    for number in 0..REFUSED {
        if number % (REFUSED / MINUTES) == 0 {
            world.clock.pass(Duration::from_secs(60));
        }
        let (path, status) = match number % KINDS {
            0 => (format!("/{long}"), 404),
            _ => ("/github".to_owned(), 401),
        };
        let headers = HeaderMap::from_iter([(http::header::USER_AGENT, long.parse().expect("header"))]);
        let mut forged = incoming(&path, headers, Bytes::from_static(b"{}"));
        match number % KINDS {
            1 => {}
            2 => drop(forged.headers.insert("x-hub-signature-256", long.parse().expect("header"))),
            _ => forged = signed(forged, &format!("wrong {number}")),
        }
        assert_eq!(world.intake.answer(forged).await.status, status);
    }
    let log = String::from_utf8(log.0.lock().expect("no panic").clone()).expect("text");
    assert!(log.lines().all(|line| line.len() <= LONGEST_LINE), "{:?}", log.lines().max_by_key(|line| line.len()));
    assert_eq!(log.lines().count(), REFUSED);
    assert!(world.queue.sent().is_empty());
    // One to begin with, five refreshes at once, and one a minute. Intake has no state that it could ask.
    let fetches = world.secrets.fetches.load(Ordering::SeqCst);
    assert!((2..=1 + 5 + MINUTES).contains(&fetches), "{fetches}");
    assert_eq!(world.secrets.fetches_before.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn while_the_value_before_cannot_be_had_who_has_the_current_one_passes_and_a_flood_costs_one_call() {
    let world = world();
    *world.secrets.failure_before.lock().expect("no panic") = Some(FetchError::Unavailable("throttled".into()));
    let (headers, body) = (sample("push.json").headers, sample("push.json").body);
    for number in 0..1000 {
        let push = || incoming("/github", headers.clone(), body.clone());
        assert_eq!(world.intake.answer(signed(push(), "current")).await.status, 202);
        assert_eq!(world.intake.answer(signed(push(), &format!("wrong {number}"))).await.status, 503);
    }
    let calls = [&world.secrets.fetches, &world.secrets.fetches_before].map(|calls| calls.load(Ordering::SeqCst));
    assert_eq!(calls, [1, 1]);
}

/// Heartbeats: Flux's word after every reconciliation, which is news only where something is open.
mod heartbeats {
    use super::*;
    use crate::fakes::FakeState;
    use sluice::domain::alert::Status;
    use sluice::domain::event::Detail;

    const RELAY: &str = r#"
sources:
  flux: { type: flux, secret: "ssm:/github" }
targets:
  oncall: { type: pagerduty, routing_key: "ssm:/key" }
  chat: { type: discord, webhook: "ssm:/chat" }
routes:
  - { when: { severity: ">=error" }, to: [oncall, chat] }
  - { when: { severity: info }, to: [chat] }
"#;

    fn flux() -> (World, Arc<FakeState>) {
        let mut world = world();
        let state = Arc::new(FakeState { clock: world.clock.clone(), ..FakeState::default() });
        world.intake.relay = relay(RELAY);
        world.intake.state = Some(state.clone());
        (world, state)
    }

    /// A sample of Flux, with what is changed of it.
    async fn tell(world: &World, sample: &str, change: impl FnOnce(&mut Value)) -> Answer {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("events/flux").join(sample);
        let sample = samples::read(&path).expect("sample");
        let mut body = parse(&sample.body);
        body["involvedObject"]["uid"] = json!("2d0c0f3e");
        change(&mut body);
        let body = Bytes::from(body.to_string());
        let mac = signature::hmac(Algorithm::Sha256, &Secret::new("current"), &[&body]);
        let mut request = incoming("/flux", sample.headers, body);
        let value = format!("sha256={}", Encoding::Hex.encode(&mac));
        request.headers.insert("x-signature", value.parse().expect("header"));
        world.intake.answer(request).await
    }

    async fn fail(world: &World, minute: u8) -> Answer {
        let time = format!("2026-03-05T09:{minute:02}:00Z");
        tell(world, "kustomization-failed.json", |body| body["timestamp"] = json!(time)).await
    }

    async fn beat(world: &World, minute: u8) -> Answer {
        let time = format!("2026-03-05T09:{minute:02}:00Z");
        tell(world, "commit-status-update.json", |body| body["timestamp"] = json!(time)).await
    }

    /// Whom what was queued is for, and the status that it has.
    fn told(world: &World) -> Vec<(String, Status)> {
        let told = world.queue.sent().into_iter().map(|message| {
            let delivery = Delivery::decode(&message.body).expect("delivery");
            let Detail::Alert(group) = delivery.event.detail else { panic!("an alert") };
            (message.group, group.status())
        });
        told.collect()
    }

    #[tokio::test]
    async fn a_kustomization_that_failed_and_came_back_without_changes_is_over_by_its_next_heartbeat_and_once() {
        let (world, state) = flux();
        assert_eq!(beat(&world, 0).await.status, 200, "nothing is open");
        assert_eq!(fail(&world, 1).await.status, 202);
        assert_eq!(beat(&world, 5).await.status, 202);
        assert_eq!(
            told(&world),
            [
                ("oncall".into(), Status::Firing),
                ("chat".into(), Status::Firing),
                ("oncall".into(), Status::Resolved),
                ("chat".into(), Status::Resolved)
            ]
        );
        let after = beat(&world, 15).await;
        assert!(after.status == 200 && after.body["ignored"].as_str().is_some_and(|why| why.contains("no news")));
        assert!(state.records.lock().expect("lock").is_empty());
        assert_eq!(fail(&world, 20).await.status, 202);
        assert_eq!(told(&world).len(), 6, "the same failure is told again");
    }

    #[tokio::test]
    async fn good_news_leaves_an_alert_open_for_whoever_is_not_told_of_it() {
        let (world, _) = flux();
        fail(&world, 1).await;
        let well = |body: &mut Value| body["message"] = json!("Health check passed in 3s");
        tell(&world, "kustomization-changed.json", well).await;
        assert_eq!(told(&world)[2..], [("chat".into(), Status::Event)], "`oncall` is told of errors only");
        beat(&world, 5).await;
        assert_eq!(told(&world)[3..], [("oncall".into(), Status::Resolved), ("chat".into(), Status::Resolved)]);
    }

    #[tokio::test]
    async fn good_news_to_all_who_were_told_of_an_alert_leaves_nothing_to_heartbeats() {
        let (mut world, _) = flux();
        world.intake.relay = relay(&RELAY.replace("to: [oncall, chat]", "to: [chat]"));
        fail(&world, 1).await;
        let well = |body: &mut Value| body["message"] = json!("Health check passed in 3s");
        tell(&world, "kustomization-changed.json", well).await;
        assert_eq!(beat(&world, 5).await.status, 200);
        assert_eq!(told(&world).len(), 2);
    }

    #[tokio::test]
    async fn while_the_state_is_down_senders_come_again_and_nothing_is_told_that_would_never_be_over() {
        let (world, state) = flux();
        state.set_down(true);
        for answer in [fail(&world, 1).await, beat(&world, 2).await] {
            assert_eq!(answer.status, 503);
            assert!(answer.headers.iter().any(|(name, _)| *name == "Retry-After"));
        }
        assert!(world.queue.sent().is_empty());
        state.set_down(false);
        assert_eq!((fail(&world, 1).await.status, beat(&world, 2).await.status), (202, 202));
    }

    #[tokio::test]
    async fn an_alert_stays_open_while_the_queue_does_not_take_its_end() {
        let (world, _) = flux();
        fail(&world, 1).await;
        world.queue.set_down(true);
        assert_eq!(beat(&world, 5).await.status, 503);
        world.queue.set_down(false);
        assert_eq!(beat(&world, 5).await.status, 202);
    }

    #[tokio::test]
    async fn without_a_state_heartbeats_are_ignored_and_a_failure_that_nobody_is_told_of_is_not_noted() {
        let (mut world, state) = flux();
        world.intake.state = None;
        assert_eq!((fail(&world, 1).await.status, beat(&world, 5).await.status), (202, 200));
        world.intake.state = Some(state.clone());
        world.intake.relay = relay(&RELAY.replace(">=error", "critical"));
        assert_eq!((fail(&world, 6).await.status, beat(&world, 7).await.status), (200, 200));
        assert!(state.records.lock().expect("lock").is_empty());
    }

    #[tokio::test]
    async fn what_was_not_told_again_for_a_week_is_not_ended_any_more() {
        let (world, _) = flux();
        fail(&world, 1).await;
        world.clock.pass(std::time::Duration::from_secs(7 * 24 * 3600));
        assert_eq!(beat(&world, 5).await.status, 200);
    }
}
