//! Targets that are services of AWS, from the relay file to what arrives there: rendered, signed and sent as `deliver`
//! does, to an emulated AWS; and the signature, judged by other code than ours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

#[path = "support/moto.rs"]
mod moto;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName;
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Uri};
use jiff::Timestamp;
use moto::Moto;
use serde_json::{Value, json};
use sluice::domain::alert::{Alert, Alerts, Severity, Status};
use sluice::domain::delivery::Delivery;
use sluice::domain::event::{Detail, Event};
use sluice::domain::name::Name;
use sluice::domain::outcome::{Blame, Outcome};
use sluice::domain::secret::{Resolved, Secret};
use sluice::domain::signature::{Algorithm, Encoding, hmac, sha256_hex};
use sluice::port::{Connection, SendError, Sender as _};
use sluice::relay::Relay;
use sluice::rim::aws::signing::SigningSender;
use sluice::rim::aws::{Sdk, from_variables};
use sluice::target::{Outbound, Response};

const ACCOUNT: &str = "123456789012";
const WAIT: Duration = Duration::from_secs(10);

/// The AWS of all tests in this file; each uses names of its own.
fn endpoint() -> String {
    static MOTO: OnceLock<Moto> = OnceLock::new();
    MOTO.get_or_init(Moto::start).url()
}

fn sdk(endpoint: Option<String>) -> Sdk {
    from_variables(move |name| match name {
        "AWS_REGION" => Some("eu-west-1".into()),
        "AWS_ACCESS_KEY_ID" => Some("AKIAEXAMPLE".into()),
        "AWS_SECRET_ACCESS_KEY" => Some("secret".into()),
        "AWS_SESSION_TOKEN" => Some("session".into()),
        "AWS_ENDPOINT_URL" => endpoint.clone(),
        _ => None,
    })
}

fn sender(endpoint: String) -> SigningSender {
    SigningSender::new(std::future::ready(sdk(Some(endpoint))))
}

/// Calls an operation of a query API, as whoever sets a service up would.
async fn query(service: sluice::target::aws::Service, parameters: &[(&str, &str)]) -> Response {
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    let request = Outbound::post("/".into(), "application/x-www-form-urlencoded", form);
    call(Outbound { aws: Some(service), ..request }).await
}

async fn call(request: Outbound) -> Response {
    let answer = sender(endpoint()).send(request, &Connection::default(), WAIT).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer
}

fn alert(status: Status) -> Delivery {
    let source = Name::parse("alertmanager").expect("name");
    let text = "checkout answers <b>5xx</b> for 7 % of requests – \u{1F525}";
    let alert = Alert {
        text: Some(text.into()),
        ..Alert::new("checkout", status, Severity::Critical, "Error rate above 5 % on checkout")
    };
    let identity = format!("checkout {status}");
    let event = Event {
        detail: Detail::Alert(Box::new(Alerts::one(alert))),
        id: Event::id_of(&source, &identity),
        source,
        cluster: None,
        labels: Default::default(),
        time: Some("2026-03-05T09:13:03Z".parse().expect("time")),
    };
    Delivery::new(event, &identity, &Name::parse("target").expect("name"), None, Timestamp::UNIX_EPOCH)
}

/// Sends `delivery` to the target that is described by `keys`, and judges the answer.
async fn deliver(keys: &Value, delivery: &Delivery) -> Outcome {
    deliver_at(endpoint(), keys, delivery).await
}

/// [`deliver`], at another emulated AWS than that of all tests.
async fn deliver_at(endpoint: String, keys: &Value, delivery: &Delivery) -> Outcome {
    let file = json!({ "targets": { "target": keys }, "sources": {}, "routes": [] });
    let relay = Relay::from_value(&file).unwrap_or_else(|problems| panic!("{problems:?}"));
    let entry = relay.targets.values().next().expect("a target");
    let requests = entry.target.render(delivery, &Resolved::default(), Timestamp::UNIX_EPOCH).expect("rendered");
    let request = requests.into_iter().next().expect("a request");
    let answer = sender(endpoint).send(request, &Connection::default(), WAIT).await.expect("an answer");
    entry.target.classify(&answer, Timestamp::UNIX_EPOCH)
}

/// A new queue: its URL and its ARN.
async fn queue(name: &str) -> (String, String) {
    let sqs = aws_sdk_sqs::Client::new(sdk(Some(endpoint())).config());
    let fifo = name.ends_with(".fifo").then(|| [(QueueAttributeName::FifoQueue, "true".to_owned())].into());
    let made = sqs.create_queue().queue_name(name).set_attributes(fifo).send().await.expect("a queue");
    (made.queue_url.expect("a URL"), format!("arn:aws:sqs:eu-west-1:{ACCOUNT}:{name}"))
}

/// The next `count` messages of a queue.
async fn received(url: &str, count: usize) -> Vec<Value> {
    let sqs = aws_sdk_sqs::Client::new(sdk(Some(endpoint())).config());
    let mut bodies = Vec::new();
    while bodies.len() < count {
        let call = sqs.receive_message().queue_url(url).max_number_of_messages(10).wait_time_seconds(5);
        let messages = call.send().await.expect("an answer").messages.unwrap_or_default();
        assert!(!messages.is_empty(), "{} of {count} messages came", bodies.len());
        for message in messages {
            bodies.push(serde_json::from_str(&message.body.expect("a body")).expect("JSON"));
            let receipt = message.receipt_handle.expect("a receipt");
            sqs.delete_message().queue_url(url).receipt_handle(receipt).send().await.expect("deleted");
        }
    }
    bodies
}

/// A new topic with a queue that is subscribed to it: the topic's ARN and the queue's URL.
async fn topic(name: &str, policy: Option<&str>) -> (String, String) {
    let sns = || sluice::target::aws::Service::sns("eu-west-1");
    let version = ("Version", "2010-03-31");
    let mut parameters = vec![("Action", "CreateTopic"), version, ("Name", name)];
    if name.ends_with(".fifo") {
        parameters.extend([("Attributes.entry.1.key", "FifoTopic"), ("Attributes.entry.1.value", "true")]);
    }
    query(sns(), &parameters).await;
    let arn = format!("arn:aws:sns:eu-west-1:{ACCOUNT}:{name}");
    let (url, queue) = queue(name).await;
    let mut parameters = vec![
        ("Action", "Subscribe"),
        version,
        ("TopicArn", arn.as_str()),
        ("Protocol", "sqs"),
        ("Endpoint", queue.as_str()),
    ];
    if let Some(policy) = policy {
        parameters.extend([("Attributes.entry.1.key", "FilterPolicy"), ("Attributes.entry.1.value", policy)]);
    }
    query(sns(), &parameters).await;
    (arn, url)
}

// SNS

#[tokio::test]
async fn what_is_published_to_a_topic_comes_to_those_whose_filter_policy_it_matches() {
    let (arn, url) = topic("filtered", Some(r#"{"status": ["firing"], "severity": ["critical"]}"#)).await;
    let target = json!({ "type": "sns", "topic_arn": arn });
    assert_eq!(deliver(&target, &alert(Status::Resolved)).await, Outcome::Accepted);
    assert_eq!(deliver(&target, &alert(Status::Firing)).await, Outcome::Accepted);
    let [notification] = <[Value; 1]>::try_from(received(&url, 1).await).expect("the other one is not for this queue");
    assert_eq!(notification["Subject"], "Critical: Error rate above 5 % on checkout");
    let text = notification["Message"].as_str().expect("text");
    assert!(text.contains("checkout answers <b>5xx</b> for 7 % of requests – \u{1F525}"), "{text}");
    assert_eq!(notification["MessageAttributes"]["kind"], json!({ "Type": "String", "Value": "alert" }));
}

#[tokio::test]
async fn a_fifo_topic_passes_on_what_fires_and_what_ends_it_once_each_and_in_order() {
    let (arn, url) = topic("ordered.fifo", None).await;
    let target = json!({ "type": "sns", "topic_arn": arn });
    for status in [Status::Firing, Status::Firing, Status::Resolved] {
        assert_eq!(deliver(&target, &alert(status)).await, Outcome::Accepted);
    }
    let subjects: Vec<_> = received(&url, 2).await.iter().map(|one| one["Subject"].clone()).collect();
    let title = "Error rate above 5 % on checkout";
    assert_eq!(subjects, [format!("Critical: {title}"), format!("Resolved: {title}")]);
}

#[tokio::test]
async fn a_topic_that_is_not_there_holds_its_target() {
    let arn = format!("arn:aws:sns:eu-west-1:{ACCOUNT}:none");
    let outcome = deliver(&json!({ "type": "sns", "topic_arn": arn }), &alert(Status::Firing)).await;
    assert!(matches!(&outcome, Outcome::Retry { reason, .. } if reason.starts_with("404: NotFound")), "{outcome:?}");
}

// Amazon Q Developer in chat applications

#[tokio::test]
async fn a_custom_notification_comes_through_a_topic_as_it_was_drawn() {
    let (arn, url) = topic("chat", Some(r#"{"severity": ["critical"]}"#)).await;
    assert_eq!(
        deliver(&json!({ "type": "amazonq", "topic_arn": arn }), &alert(Status::Firing)).await,
        Outcome::Accepted
    );
    let [envelope] = <[Value; 1]>::try_from(received(&url, 1).await).expect("one");
    let notification: Value = serde_json::from_str(envelope["Message"].as_str().expect("text")).expect("JSON");
    assert_eq!(notification["content"]["title"], "\u{1F525} Critical: Error rate above 5 % on checkout");
    assert_eq!(notification["metadata"]["additionalContext"]["severity"], "critical");
}

// E-mail

#[tokio::test]
async fn a_letter_is_taken_once_its_sender_is_verified() {
    // Everything sent is looked up afterwards, so that nobody else's may be there.
    let moto = Moto::start();
    let call = async |request: Outbound| {
        let service = sluice::target::aws::Service { name: "ses", host: "email", id: "SESv2", region: None };
        let request = Outbound { aws: Some(service), ..request };
        sender(moto.url()).send(request, &Connection::default(), WAIT).await.expect("an answer")
    };
    let target = json!({ "type": "email", "from": "Sluice <sluice@example.com>", "to": "oncall@example.com" });
    let outcome = deliver_at(moto.url(), &target, &alert(Status::Firing)).await;
    assert!(matches!(&outcome, Outcome::Retry { blame: Blame::Setup, reason } if reason.contains("not verified")));
    let identity = json!({ "EmailIdentity": "sluice@example.com" }).to_string();
    assert_eq!(call(Outbound::post("/v2/email/identities".into(), "application/json", identity)).await.status, 200);
    assert_eq!(deliver_at(moto.url(), &target, &alert(Status::Firing)).await, Outcome::Accepted);
    let get = Outbound { method: Method::GET, ..Outbound::post("/moto-api/data.json".into(), "text/plain", "") };
    let sent: Value = serde_json::from_slice(&call(get).await.body).expect("JSON");
    let letter = &sent["ses"]["Message"][0];
    assert_eq!(letter["subject"], "Critical: Error rate above 5 % on checkout");
    assert_eq!(letter["destinations"], json!({ "ToAddresses": ["oncall@example.com"] }));
    assert!(letter["body"].as_str().is_some_and(|html| html.contains("checkout answers &lt;b&gt;5xx")), "{letter}");
}

// EventBridge

#[tokio::test]
async fn an_event_on_a_bus_comes_to_those_whose_rule_matches_its_kind_and_detail() {
    let events = async |operation: &str, body: Value| {
        let mut request = Outbound::post("/".into(), "application/x-amz-json-1.1", body.to_string());
        request.header("x-amz-target", &format!("AWSEvents.{operation}")).expect("text");
        let service = sluice::target::aws::Service { name: "events", host: "events", id: "EventBridge", region: None };
        call(Outbound { aws: Some(service), ..request }).await
    };
    events("CreateEventBus", json!({ "Name": "relay" })).await;
    let pattern = json!({ "source": ["sluice"], "detail-type": ["alert"], "detail": { "source": ["alertmanager"] } });
    let rule = json!({ "Name": "alerts", "EventBusName": "relay", "EventPattern": pattern.to_string() });
    events("PutRule", rule).await;
    let (url, queue) = queue("bus").await;
    let targets = json!({ "Rule": "alerts", "EventBusName": "relay", "Targets": [{ "Id": "1", "Arn": queue }] });
    events("PutTargets", targets).await;
    let arn = format!("arn:aws:events:eu-west-1:{ACCOUNT}:event-bus/relay");
    for bus in ["relay", &arn] {
        let target = json!({ "type": "eventbridge", "bus": bus });
        assert_eq!(deliver(&target, &alert(Status::Firing)).await, Outcome::Accepted);
    }
    for event in received(&url, 2).await {
        assert_eq!((&event["source"], &event["detail-type"]), (&"sluice".into(), &"alert".into()));
        assert_eq!(event["time"], "2026-03-05T09:13:03Z");
        assert_eq!(event["detail"], serde_json::to_value(&alert(Status::Firing).event).expect("JSON"));
    }
}

// Signing

/// A request as it came over the wire.
type Seen = (Method, Uri, HeaderMap, Bytes);

/// A server that keeps what it was sent.
async fn listener() -> (String, Arc<Mutex<Vec<Seen>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    let app = Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| async move {
        kept.lock().expect("no test panicked in it").push((method, uri, headers, body));
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, seen)
}

/// The signature that a request should have, worked out from what arrived as AWS says in "Create a signed AWS API
/// request", for paths without a query.
fn expected_signature((method, uri, headers, body): &Seen, scope: &str, signed: &str) -> String {
    let lines: String = signed.split(';').map(|name| format!("{name}:{}\n", headers[name].to_str().unwrap())).collect();
    let canonical = format!("{method}\n{}\n\n{lines}\n{signed}\n{}", uri.path(), sha256_hex(&[body]));
    let time = headers["x-amz-date"].to_str().expect("text");
    let string = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256_hex(&[canonical.as_bytes()]));
    let sign = |key: Vec<u8>, text: &str| hmac(Algorithm::Sha256, &Secret::new(key), &[text.as_bytes()]);
    let key = scope.split('/').fold(b"AWS4secret".to_vec(), sign);
    Encoding::Hex.encode(&sign(key, &string))
}

#[tokio::test]
async fn the_signature_is_the_one_that_aws_works_out_from_what_arrives() {
    let (url, seen) = listener().await;
    let service = sluice::target::aws::Service { region: None, ..sluice::target::aws::Service::sns("") };
    let mut request = Outbound::post("/v2/some/path".into(), "application/json", "{\"a\": \"ä\"}");
    request.header("x-amz-target", "Some.Operation").expect("text");
    request.aws = Some(service);
    sender(url).send(request, &Connection::default(), WAIT).await.expect("an answer");
    let request = seen.lock().expect("no test panicked in it").remove(0);
    assert_eq!(request.2["x-amz-security-token"], "session");
    let authorization = request.2["authorization"].to_str().expect("text").to_owned();
    let part = |name: &str| {
        let (_, rest) = authorization.split_once(&format!("{name}=")).expect(name);
        rest.split(',').next().expect("a part").to_owned()
    };
    let date = request.2["x-amz-date"].to_str().expect("text")[..8].to_owned();
    let scope = format!("{date}/eu-west-1/sns/aws4_request");
    assert_eq!(part("Credential"), format!("AKIAEXAMPLE/{scope}"));
    let signed = part("SignedHeaders");
    for name in ["content-type", "host", "x-amz-date", "x-amz-security-token", "x-amz-target"] {
        assert!(signed.split(';').any(|one| one == name), "{name} is signed: {signed}");
    }
    assert_eq!(part("Signature"), expected_signature(&request, &scope, &signed));
}

#[tokio::test]
async fn only_the_endpoint_that_the_operator_set_may_be_on_this_machine() {
    let (url, seen) = listener().await;
    let plain = Outbound::post(format!("{url}/"), "text/plain", "x");
    let error = sender(url.clone()).send(plain, &Connection::default(), WAIT).await.expect_err("egress");
    assert!(matches!(error, SendError::Egress(_)), "{error}");
    // Metadata services stay out of reach whoever names them.
    let service = || Some(sluice::target::aws::Service::sns("eu-west-1"));
    let request = || Outbound { aws: service(), ..Outbound::post("/".into(), "text/plain", "x") };
    let metadata = sender("http://169.254.169.254".into());
    let error = metadata.send(request(), &Connection::default(), WAIT).await.expect_err("egress");
    assert!(matches!(error, SendError::Egress(_)), "{error}");
    assert!(seen.lock().expect("no test panicked in it").is_empty());
    sender(url).send(request(), &Connection::default(), WAIT).await.expect("an answer");
    assert_eq!(seen.lock().expect("no test panicked in it").len(), 1);
}
