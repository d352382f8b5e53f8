//! Messages of SNS over HTTPS: whose are taken, and by which certificate.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{HeaderMap, Method};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, date_time_ymd};
use ring::rand::SystemRandom;
use ring::rsa::KeyPair as RsaKeyPair;
use ring::signature::RSA_PKCS1_SHA256;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use sluice::domain::signature::Encoding;
use sluice::intake::{Answer, Incoming, Intake};
use sluice::port::FetchError;

use crate::fakes::{FakeClock, FakeMeter, FakeQueue, FakeSecrets, FakeSubscriptions, relay, store};

const RELAY: &str = r#"
sources:
  aws: { type: aws, topics: ["arn:aws:sns:eu-west-1:111122223333:alerts"], secret: "ssm:/api-key" }
  alarms: { type: cloudwatch, topics: ["arn:aws:sns:eu-west-1:111122223333:alarms"] }
  none: { type: aws }
  pushes: { type: ecr, topics: ["arn:aws:sns:eu-west-1:111122223333:pushes"] }
  commits: { type: codecommit, topics: ["arn:aws:sns:eu-west-1:111122223333:commits"] }
targets:
  log: { type: http, url: "https://log.example.com/events" }
routes:
  - { to: [log] }
"#;
const TOPIC: &str = "arn:aws:sns:eu-west-1:111122223333:alerts";
const HOST: &str = "https://sns.eu-west-1.amazonaws.com";
const CERTIFICATE: &str =
    "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem";
/// Made for these tests (`openssl genrsa 2048`) and of use to nobody.
const KEY: &str = include_str!("../data/throw-away-rsa-key.pem");

struct World {
    intake: Intake,
    secrets: Arc<FakeSecrets>,
    queue: Arc<FakeQueue>,
    clock: Arc<FakeClock>,
    subscriptions: Arc<FakeSubscriptions>,
}

/// A relay to which SNS publishes a certificate of 2026 at the usual place.
fn world() -> World {
    let (secrets, clock) = (Arc::new(FakeSecrets::default()), Arc::new(FakeClock::default()));
    let queue = Arc::new(FakeQueue { clock: clock.clone(), ..FakeQueue::default() });
    let subscriptions = Arc::new(FakeSubscriptions::default());
    let intake = Intake {
        relay: relay(RELAY),
        secrets: store(&secrets, &clock),
        queue: queue.clone(),
        agents: Default::default(),
        state: None,
        clock: clock.clone(),
        meter: Arc::new(FakeMeter::default()),
        subscriptions: subscriptions.clone(),
        function: None,
    };
    let world = World { intake, secrets, queue, clock, subscriptions };
    world.publish(&certificate(2026, 2027));
    world
}

impl World {
    /// What is at the place of the certificate.
    fn publish(&self, pem: &str) {
        self.secrets.set(&format!("the certificate at {CERTIFICATE}"), &[pem]);
    }

    async fn post(&self, path: &str, message: &Value) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-sns-message-type", "Notification".parse().expect("header"));
        headers.insert("content-type", "text/plain; charset=UTF-8".parse().expect("header"));
        self.post_with(path, headers, message).await
    }

    async fn post_with(&self, path: &str, headers: HeaderMap, message: &Value) -> Answer {
        let body = message.to_string().into();
        let request_id = "request-1".into();
        let incoming = Incoming { request_id, method: Method::POST, path: path.into(), headers, body, address: None };
        self.intake.answer(incoming).await
    }

    /// Posts a message that has to be refused as `status` without anything being queued or confirmed.
    async fn refuses(&self, status: u16, message: &Value, why: &str) {
        let answer = self.post("/aws", message).await;
        assert_eq!(answer.status, status, "{why}: {}", answer.body);
        assert!(self.queue.sent().is_empty() && self.confirmed().is_empty(), "{why}");
    }

    fn confirmed(&self) -> Vec<(String, String)> {
        self.subscriptions.confirmed.lock().expect("lock").clone()
    }

    fn fetches(&self) -> usize {
        self.secrets.fetches.load(Ordering::SeqCst)
    }
}

/// A certificate of the throw-away key, from the beginning of one year to that of another.
fn certificate(from: i32, to: i32) -> String {
    let mut params = CertificateParams::new(vec!["sns.amazonaws.com".into()]).expect("parameters");
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
    let key = KeyPair::from_pem_and_sign_algo(KEY, &PKCS_RSA_SHA256).expect("key");
    params.self_signed(&key).expect("certificate").pem()
}

/// A notification of a minute ago, signed.
fn notification() -> Value {
    signed(json!({
        "Type": "Notification",
        "MessageId": "da41e39f-ea4d-435a-b922-c6aae3915ebe",
        "TopicArn": TOPIC,
        "Subject": "Nightly job",
        "Message": "it failed",
        "Timestamp": "2026-08-20T11:59:00.000Z",
        "SignatureVersion": "2",
        "SigningCertURL": CERTIFICATE,
    }))
}

/// What SNS sends to whoever is to be told of a topic's messages.
fn confirmation(topic: &str) -> Value {
    signed(json!({
        "Type": "SubscriptionConfirmation",
        "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
        "Token": "2336412f37",
        "TopicArn": topic,
        "Message": "You have chosen to subscribe to the topic.",
        "SubscribeURL": "https://evil.example/?Action=ConfirmSubscription&Token=2336412f37",
        "Timestamp": "2026-08-20T11:59:00.000Z",
        "SignatureVersion": "2",
        "SigningCertURL": CERTIFICATE,
    }))
}

/// A message with a signature of version 2 in place of any that it has.
fn signed(mut message: Value) -> Value {
    let names = match message["Type"].as_str() {
        Some("Notification") => &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"][..],
        _ => &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"],
    };
    let lines = names.iter().filter_map(|name| Some(format!("{name}\n{}\n", message[*name].as_str()?)));
    let text: String = lines.collect();
    let key = PrivatePkcs8KeyDer::from_pem_slice(KEY.as_bytes()).expect("PEM");
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).expect("key");
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).expect("signed");
    message["Signature"] = Encoding::Base64.encode(&signature).into();
    message
}

/// The message with another value, under the signature that it had; without the value, if that is null.
fn with(mut message: Value, name: &str, value: Value) -> Value {
    message.as_object_mut().expect("an object").retain(|key, _| key != name || !value.is_null());
    if !value.is_null() {
        message[name] = value;
    }
    message
}

#[tokio::test]
async fn a_message_with_the_signature_of_sns_is_taken_and_needs_none_of_the_sources_secrets() {
    let world = world();
    let answer = world.post("/aws", &notification()).await;
    assert_eq!((answer.status, &answer.body["event"]), (202, &"Nightly job".into()), "{}", answer.body);
    assert_eq!(world.queue.sent().len(), 1);
    assert_eq!(world.fetches(), 1, "the certificate, and not the API key");
    let without_subject = signed(with(notification(), "Subject", Value::Null));
    assert_eq!(world.post("/aws", &without_subject).await.status, 202);
    assert_eq!(world.fetches(), 1, "the certificate is kept");
}

#[tokio::test]
async fn registries_and_git_hosts_are_heard_by_topics_of_theirs_as_alerts_are() {
    for (source, sample, event) in [
        ("pushes", "ecr/image-push.json", "ECR Image Action PUSH"),
        ("commits", "codecommit/reference-updated.json", "referenceUpdated refs/heads/main"),
    ] {
        let world = world();
        let topic = format!("arn:aws:sns:eu-west-1:111122223333:{source}");
        let path = format!("/{source}");
        let file = format!("{}/events/{sample}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(file).expect("sample");
        let message = signed(with(with(notification(), "Message", text.into()), "TopicArn", topic.clone().into()));
        let answer = world.post(&path, &message).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        assert!(answer.body["event"].as_str().is_some_and(|told| told.starts_with(event)), "{}", answer.body);
        assert_eq!(world.post(&path, &notification()).await.status, 401, "another topic's");
        assert_eq!(world.post(&path, &with(message, "Message", "{}".into())).await.status, 401, "changed");
        let nothing = signed(with(with(notification(), "TopicArn", topic.clone().into()), "Message", "[1]".into()));
        let answer = world.post(&path, &nothing).await;
        assert_eq!(answer.status, 200, "of no use is no fault of the sender's: {}", answer.body);
        assert_eq!(world.post(&path, &confirmation(&topic)).await.status, 200);
        assert_eq!(world.confirmed(), [(topic, "2336412f37".to_owned())]);
        assert_eq!(world.queue.sent().len(), 1);
    }
}

/// Signed by OpenSSL, over text that no code of ours put together:
/// `printf 'Message\nfirst line\n…Type\nNotification\n' | openssl dgst -sha1 -sign throw-away-rsa-key.pem | base64 -w0`.
#[tokio::test]
async fn a_message_signed_by_version_1_is_taken() {
    let message: Value = serde_json::from_str(include_str!("../data/sns-message.json")).expect("JSON");
    assert_eq!(world().post("/aws", &message).await.status, 202);
    for version in ["2", "3", ""] {
        world().refuses(401, &with(message.clone(), "SignatureVersion", version.into()), version).await;
    }
}

#[tokio::test]
async fn what_was_changed_after_it_was_signed_is_refused() {
    for (name, value) in [
        ("Message", "all is well".into()),
        ("MessageId", "another".into()),
        ("Subject", "Another".into()),
        ("Subject", Value::Null),
        ("Timestamp", "2026-08-20T11:58:59.999Z".into()),
        ("SignatureVersion", "1".into()),
        ("SignatureVersion", Value::Null),
        ("Signature", Value::Null),
        ("Signature", "".into()),
        ("Signature", "bm9uZQ==".into()),
        ("Signature", "no base64".into()),
    ] {
        let message = with(notification(), name, value.clone());
        world().refuses(401, &message, &format!("{name}: {value}")).await;
    }
    for name in ["Token", "SubscribeURL"] {
        let message = with(confirmation(TOPIC), name, "https://other.example/".into());
        world().refuses(401, &message, name).await;
    }
}

#[tokio::test]
async fn a_certificate_is_fetched_only_from_where_sns_keeps_those_of_the_topics_region() {
    let name = "SimpleNotificationService-0123456789abcdef0123456789abcdef.pem";
    for place in [
        format!("http://sns.eu-west-1.amazonaws.com/{name}"),
        format!("https://sns.eu-west-1.amazonaws.com:8443/{name}"),
        format!("https://sns.eu-west-1.amazonaws.com@evil.example/{name}"),
        format!("https://user@sns.eu-west-1.amazonaws.com/{name}"),
        format!("https://evil.example/{name}"),
        format!("https://sns.eu-west-1.amazonaws.com.evil.example/{name}"),
        format!("https://evil.s3.eu-west-1.amazonaws.com/{name}"),
        format!("https://sns.evil.eu-west-1.amazonaws.com/{name}"),
        format!("https://sns.us-east-1.amazonaws.com/{name}"),
        format!("https://sns.eu-west-1.amazonaws.com.cn/{name}"),
        format!("https://SNS.eu-west-1.amazonaws.com/{name}"),
        format!("https://sns.eu-west-1.amazonaws.com\\@evil.example/{name}"),
        format!("{HOST}/{name}?x=.pem"),
        format!("{HOST}/{name}#x"),
        format!("{HOST}/x/{name}"),
        format!("{HOST}//{name}"),
        format!("{HOST}/x/../{name}"),
        format!("{HOST}/SimpleNotificationService-../x.pem"),
        format!("{HOST}/SimpleNotificationService-.pem"),
        format!("{HOST}/SimpleNotificationService-%61.pem"),
        format!("{HOST}/?Action=Publish&Message=x.pem"),
        format!("{HOST}/x.pem"),
        "https://169.254.169.254/latest/meta-data/SimpleNotificationService-a.pem".into(),
        "file:///SimpleNotificationService-a.pem".into(),
        String::new(),
    ] {
        let world = world();
        // Whatever is there, it would fit.
        world.secrets.set(&format!("the certificate at {place}"), &[&certificate(2026, 2027)]);
        world.refuses(401, &with(notification(), "SigningCertURL", place.clone().into()), &place).await;
        assert_eq!(world.fetches(), 0, "{place}");
    }
}

#[tokio::test]
async fn a_certificate_is_good_for_nothing_before_and_after_its_time() {
    for (from, to) in [(2024, 2026), (2027, 2028)] {
        let world = world();
        world.publish(&certificate(from, to));
        world.refuses(401, &notification(), &format!("{from} to {to}")).await;
    }
}

#[tokio::test]
async fn a_message_is_one_delivery_for_five_minutes_and_not_taken_again_when_its_hour_is_over() {
    let world = world();
    for (seconds, deliveries) in [(0, 1), (299, 1), (1, 2), (54 * 60, 3)] {
        world.clock.pass(Duration::from_secs(seconds));
        assert_eq!(world.post("/aws", &notification()).await.status, 202, "SNS may still be trying");
        assert_eq!(world.queue.sent().len(), deliveries, "after {seconds} s");
    }
    world.clock.pass(Duration::from_secs(1));
    assert_eq!(world.post("/aws", &notification()).await.status, 401);
    let ahead = signed(with(notification(), "Timestamp", "2026-08-20T14:00:02.000Z".into()));
    assert_eq!(world.post("/aws", &ahead).await.status, 401);
    let never = signed(with(notification(), "Timestamp", "yesterday".into()));
    assert_eq!(world.post("/aws", &never).await.status, 401);
}

#[tokio::test]
async fn sns_signs_for_everybody_so_that_only_the_sources_own_topics_are_taken() {
    let world = world();
    let others = "arn:aws:sns:eu-west-1:999999999999:alerts";
    world.refuses(401, &signed(with(notification(), "TopicArn", others.into())), others).await;
    for source in ["/alarms", "/none"] {
        assert_eq!(world.post(source, &notification()).await.status, 401, "{source}");
    }
    assert_eq!(world.fetches(), 0, "it costs nothing");
}

#[tokio::test]
async fn raw_messages_and_what_is_no_message_are_refused_with_the_reason() {
    let world = world();
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-sns-rawdelivery", "true".parse().expect("header"));
    let answer = world.post_with("/aws", headers, &json!({ "anything": 1 })).await;
    assert_eq!(answer.status, 401);
    assert!(answer.body["detail"].as_str().is_some_and(|why| why.contains("raw message delivery")), "{}", answer.body);
    for body in [json!({}), json!([]), json!("text"), json!({ "Type": "Other" })] {
        world.refuses(401, &body, "no message").await;
    }
    // Without the header of SNS it is by the API key that a request is checked.
    let answer = world.post_with("/aws", HeaderMap::new(), &notification()).await;
    assert_eq!(answer.status, 401);
    assert_eq!(world.fetches(), 0);
}

#[tokio::test]
async fn while_the_certificate_cannot_be_had_sns_is_asked_to_try_again() {
    let world = world();
    world.secrets.fail(Some(FetchError::Unavailable("no answer".into())));
    world.refuses(503, &notification(), "the certificate cannot be had").await;
    world.secrets.fail(None);
    world.clock.pass(Duration::from_secs(2));
    assert_eq!(world.post("/aws", &notification()).await.status, 202);
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_the_senders_fault() {
    let world = world();
    let place = format!("{HOST}/SimpleNotificationService-ffff.pem");
    world.refuses(401, &with(notification(), "SigningCertURL", place.clone().into()), &place).await;
}

#[tokio::test]
async fn a_flood_of_forged_messages_costs_five_fetches_and_then_one_a_minute() {
    let world = world();
    let forged = |i: usize| {
        let place = format!("{HOST}/SimpleNotificationService-{i}.pem");
        with(notification(), "SigningCertURL", place.into())
    };
    for i in 0..200 {
        let status = world.post("/aws", &forged(i)).await.status;
        assert_eq!(status, if i < 5 { 401 } else { 503 }, "{i}");
    }
    assert_eq!(world.fetches(), 5);
    world.clock.pass(Duration::from_secs(60));
    for i in 200..300 {
        world.post("/aws", &forged(i)).await;
    }
    assert_eq!(world.fetches(), 6);
    assert!(world.queue.sent().is_empty());
}

#[tokio::test]
async fn a_flood_of_changed_messages_costs_nothing_once_the_certificate_is_known() {
    let world = world();
    assert_eq!(world.post("/aws", &notification()).await.status, 202);
    for _ in 0..200 {
        let changed = with(notification(), "Message", "changed".into());
        assert_eq!(world.post("/aws", &changed).await.status, 401);
    }
    assert_eq!(world.fetches(), 1);
}

#[tokio::test]
async fn the_subscription_of_a_topic_of_ours_is_confirmed_at_sns_and_not_where_the_message_says() {
    let world = world();
    let answer = world.post("/aws", &confirmation(TOPIC)).await;
    assert_eq!((answer.status, &answer.body["ignored"]), (200, &"the subscription is confirmed".into()));
    assert_eq!(world.confirmed(), [(TOPIC.to_owned(), "2336412f37".to_owned())]);
    let alarms = "arn:aws:sns:eu-west-1:111122223333:alarms";
    assert_eq!(world.post("/alarms", &confirmation(alarms)).await.status, 200);
    assert_eq!(world.confirmed().len(), 2);
    assert!(world.queue.sent().is_empty(), "nobody is told of it");
}

#[tokio::test]
async fn the_subscription_of_another_topic_is_not_confirmed() {
    let world = world();
    let others = "arn:aws:sns:eu-west-1:999999999999:alerts";
    world.refuses(401, &confirmation(others), others).await;
}

#[tokio::test]
async fn a_subscription_that_has_ended_is_not_begun_again() {
    let world = world();
    let ended = signed(with(confirmation(TOPIC), "Type", "UnsubscribeConfirmation".into()));
    let answer = world.post("/aws", &ended).await;
    assert_eq!((answer.status, &answer.body["ignored"]), (200, &"the subscription has ended".into()));
    assert!(world.confirmed().is_empty());
}

#[tokio::test]
async fn a_subscription_that_could_not_be_confirmed_is_tried_again() {
    let world = world();
    *world.subscriptions.down.lock().expect("lock") = true;
    world.refuses(503, &confirmation(TOPIC), "SNS is down").await;
    *world.subscriptions.down.lock().expect("lock") = false;
    assert_eq!(world.post("/aws", &confirmation(TOPIC)).await.status, 200);
}
