//! The ports on AWS, against an emulated AWS; where that cannot be made to fail, against a fake that does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

#[path = "support/moto.rs"]
mod moto;
#[path = "support/ports.rs"]
mod ports;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TimeToLiveSpecification,
};
use aws_sdk_secretsmanager::primitives::Blob;
use aws_sdk_sqs::types::QueueAttributeName;
use aws_sdk_ssm::types::ParameterType;
use axum::http::{HeaderMap, StatusCode};
use axum::{Json, Router};
use jiff::{SignedDuration, Timestamp};
use moto::Moto;
use ports::closed_port;
use serde_json::{Value, json};
use sluice::domain::delivery::{DeadLetter, Delivery};
use sluice::domain::event::{Detail, Event, ImagePush};
use sluice::domain::name::Name;
use sluice::domain::outcome::GivenUp;
use sluice::domain::secret::SecretRef;
use sluice::port::{
    Clock, FetchError, Fetched, Key, Message, Outbox, Queue, Received, Record, SecretBackend, State, Unavailable,
};
use sluice::rim::aws::dynamodb::DynamoState;
use sluice::rim::aws::sqs::{DEFAULT_LIMIT, SqsQueue};
use sluice::rim::aws::{Sdk, from_variables};

/// The AWS of all tests in this file; each uses names of its own.
fn aws() -> Sdk {
    sdk(endpoint().to_owned())
}

fn endpoint() -> &'static str {
    static AWS: OnceLock<(Moto, String)> = OnceLock::new();
    &AWS.get_or_init(|| {
        let moto = Moto::start();
        let url = moto.url();
        (moto, url)
    })
    .1
}

fn sdk(endpoint: String) -> Sdk {
    from_variables(move |name| match name {
        "AWS_REGION" => Some("eu-west-1".into()),
        "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("test".into()),
        "AWS_ENDPOINT_URL" => Some(endpoint.clone()),
        _ => None,
    })
}

/// An AWS that answers as a test wants, and remembers what it was asked.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Vec<(String, Value)>>>);

impl Fake {
    /// Starts one; `answer` gets the operation, the request, and how many came before it.
    async fn start(
        answer: impl Fn(&str, &Value, usize) -> (u16, Value) + Clone + Send + Sync + 'static,
    ) -> (Self, Sdk) {
        let fake = Self::default();
        let seen = fake.clone();
        let app = Router::new().fallback(move |headers: HeaderMap, body: String| async move {
            let operation = headers["x-amz-target"].to_str().expect("ASCII").to_owned();
            let request: Value = serde_json::from_str(&body).expect("JSON");
            let mut seen = seen.0.lock().expect("no test panicked in it");
            let (status, body) = answer(&operation, &request, seen.len());
            seen.push((operation, request));
            (StatusCode::from_u16(status).expect("a status"), Json(body))
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        (fake, sdk(url))
    }

    fn requests(&self) -> Vec<Value> {
        self.0.lock().expect("no test panicked in it").iter().map(|(_, request)| request.clone()).collect()
    }
}

fn reference(text: &str) -> SecretRef {
    SecretRef::parse(text).expect(text)
}

fn value(answer: &Result<Fetched, FetchError>) -> &[u8] {
    answer.as_ref().expect("found").value.expose()
}

async fn put_parameter(sdk: &Sdk, name: &str, value: &str) {
    let ssm = aws_sdk_ssm::Client::new(sdk.config());
    let call = ssm.put_parameter().name(name).value(value).r#type(ParameterType::SecureString).overwrite(true);
    call.send().await.expect("a parameter is stored");
}

// Parameter Store

#[tokio::test]
async fn more_parameters_than_fit_into_one_call_all_come_in_the_order_in_which_they_were_asked_for() {
    let sdk = aws();
    let mut references = Vec::new();
    for i in 0..23 {
        put_parameter(&sdk, &format!("/many/{i}"), &format!("value {i}")).await;
        references.push(reference(&format!("ssm:/many/{i}")));
    }
    references.insert(11, reference("ssm:/many/none"));
    references.push(references[3].clone());
    let answers = sdk.secrets().current(&references).await;
    assert_eq!(answers.len(), 25);
    assert_eq!(value(&answers[3]), b"value 3");
    assert_eq!(value(&answers[10]), b"value 10");
    assert_eq!(answers[11].as_ref().expect_err("it is not there"), &FetchError::NotFound);
    assert_eq!(value(&answers[12]), b"value 11");
    assert_eq!(value(&answers[23]), b"value 22");
    assert_eq!(value(&answers[24]), b"value 3");
}

#[tokio::test]
async fn a_parameter_can_be_asked_for_as_it_is_and_as_it_was_in_one_go() {
    let sdk = aws();
    for value in ["first", "second", "third"] {
        put_parameter(&sdk, "/versions", value).await;
    }
    let texts = ["ssm:/versions:2", "ssm:/versions", "ssm:/versions:3", "ssm:/versions:9"];
    let answers = sdk.secrets().current(&texts.map(reference)).await;
    assert_eq!([0, 1, 2].map(|i| value(&answers[i])), [b"second" as &[u8], b"third", b"third"]);
    assert_eq!(answers[3].as_ref().expect_err("there is no version 9"), &FetchError::NotFound);
    let current = answers[1].as_ref().expect("found");
    assert_eq!(current.version, "3");
    let age = Timestamp::now().duration_since(current.made.expect("AWS knows when"));
    assert!(age.abs() < SignedDuration::from_secs(60), "{age}");
}

#[tokio::test]
async fn values_come_byte_for_byte() {
    let sdk = aws();
    let stored = " ä \"quoted\"\\ \u{1F600}\t\r\ntrailing newline\n";
    put_parameter(&sdk, "/bytes", stored).await;
    let secrets_manager = aws_sdk_secretsmanager::Client::new(sdk.config());
    let call = secrets_manager.create_secret().name("bytes/text").secret_string(stored);
    call.send().await.expect("a secret is stored");
    let call = secrets_manager.create_secret().name("bytes/binary").secret_binary(Blob::new([0, 159, 146, 150, 10]));
    call.send().await.expect("a secret is stored");
    let texts = ["ssm:/bytes", "secretsmanager:bytes/text", "secretsmanager:bytes/binary"];
    let answers = sdk.secrets().current(&texts.map(reference)).await;
    assert_eq!(value(&answers[0]), stored.as_bytes());
    assert_eq!(value(&answers[1]), stored.as_bytes());
    assert_eq!(value(&answers[2]), [0, 159, 146, 150, 10]);
}

#[tokio::test]
async fn the_value_before_the_current_one_is_found_unless_the_version_is_fixed_or_the_first() {
    let sdk = aws();
    put_parameter(&sdk, "/rotated", "old").await;
    let secrets = sdk.secrets();
    let asked = reference("ssm:/rotated");
    let current = secrets.current(std::slice::from_ref(&asked)).await.remove(0).expect("found");
    assert!(secrets.previous(&asked, &current).await.expect("an answer").is_none());

    put_parameter(&sdk, "/rotated", "new").await;
    let current = secrets.current(std::slice::from_ref(&asked)).await.remove(0).expect("found");
    let previous = secrets.previous(&asked, &current).await.expect("an answer").expect("there is one");
    assert_eq!((previous.value.expose(), &*previous.version), (b"old" as &[u8], "1"));

    let fixed = reference("ssm:/rotated:2");
    assert!(secrets.previous(&fixed, &current).await.expect("an answer").is_none());
}

#[tokio::test]
async fn a_name_that_may_not_be_read_does_not_keep_the_others_back() {
    let (_, sdk) = Fake::start(|_, request, _| {
        let names: Vec<&str> = request["Names"].as_array().expect("names").iter().filter_map(Value::as_str).collect();
        if names.contains(&"/denied") {
            let message =
                "User: arn:aws:sts::123456789012:assumed-role/x/y is not authorized to perform: ssm:GetParameters";
            return (400, json!({ "__type": "AccessDeniedException", "message": message }));
        }
        let parameter = |name| json!({ "Name": name, "Value": format!("value of {name}"), "Version": 1 });
        (200, json!({ "Parameters": names.iter().rev().map(parameter).collect::<Vec<_>>(), "InvalidParameters": [] }))
    })
    .await;
    let texts = ["ssm:/a", "ssm:/denied", "ssm:/b"];
    let answers = sdk.secrets().current(&texts.map(reference)).await;
    assert_eq!([0, 2].map(|i| value(&answers[i])), [b"value of /a", b"value of /b"]);
    let error = answers[1].as_ref().expect_err("it is denied");
    assert!(matches!(error, FetchError::Denied(why) if why.contains("ssm:GetParameters")), "{error}");
}

#[tokio::test]
async fn a_throttled_store_is_unavailable_after_three_attempts() {
    let (fake, sdk) =
        Fake::start(|_, _, _| (400, json!({ "__type": "ThrottlingException", "message": "Rate exceeded" }))).await;
    let answers = sdk.secrets().current(&[reference("ssm:/a"), reference("ssm:/b")]).await;
    let rate_exceeded = FetchError::Unavailable("ThrottlingException: Rate exceeded".into());
    for answer in answers {
        assert_eq!(answer.expect_err("it is throttled"), rate_exceeded);
    }
    assert_eq!(fake.requests().len(), 3);
}

// Secrets Manager

#[tokio::test]
async fn several_keys_of_one_secret_are_one_call() {
    let (fake, sdk) = Fake::start(|_, request, _| {
        let text = json!({ "a": "1", "b": "2" }).to_string();
        (200, json!({ "Name": request["SecretId"], "VersionId": "v1", "SecretString": text, "CreatedDate": 1.7e9 }))
    })
    .await;
    let texts = ["secretsmanager:x#a", "secretsmanager:x#b", "secretsmanager:x"];
    let answers = sdk.secrets().current(&texts.map(reference)).await;
    for answer in &answers {
        assert_eq!(value(answer), br#"{"a":"1","b":"2"}"#);
    }
    let fetched = answers[0].as_ref().expect("found");
    assert_eq!((&*fetched.version, fetched.made), ("v1", Timestamp::from_second(1_700_000_000).ok()));
    assert_eq!(fake.requests(), [json!({ "SecretId": "x", "VersionStage": "AWSCURRENT" })]);
}

#[tokio::test]
async fn a_rotated_secret_has_a_previous_value_and_a_new_one_has_none() {
    let sdk = aws();
    let client = aws_sdk_secretsmanager::Client::new(sdk.config());
    client.create_secret().name("rotated").secret_string("old").send().await.expect("a secret is stored");
    let secrets = sdk.secrets();
    let asked = reference("secretsmanager:rotated#key");
    let first = secrets.current(std::slice::from_ref(&asked)).await.remove(0).expect("found");
    assert!(secrets.previous(&asked, &first).await.expect("an answer").is_none());

    client.put_secret_value().secret_id("rotated").secret_string("new").send().await.expect("a new value is stored");
    let current = secrets.current(std::slice::from_ref(&asked)).await.remove(0).expect("found");
    assert_eq!(current.value.expose(), b"new");
    let previous = secrets.previous(&asked, &current).await.expect("an answer").expect("there is one");
    assert_eq!((previous.value.expose(), &previous.version), (b"old" as &[u8], &first.version));
    assert!(secrets.previous(&asked, &first).await.expect("an answer").is_none(), "a value is not before itself");
}

#[tokio::test]
async fn a_secret_that_is_not_there_or_is_being_deleted_is_told_apart() {
    let sdk = aws();
    let client = aws_sdk_secretsmanager::Client::new(sdk.config());
    client.create_secret().name("deleted").secret_string("x").send().await.expect("a secret is stored");
    client.delete_secret().secret_id("deleted").send().await.expect("its deletion is scheduled");
    let texts = ["secretsmanager:none", "secretsmanager:deleted", "env:HOME", "file:/etc/hostname"];
    let answers = sdk.secrets().current(&texts.map(reference)).await;
    assert_eq!(answers[0].as_ref().expect_err("it is not there"), &FetchError::NotFound);
    for answer in &answers[1..] {
        let error = answer.as_ref().expect_err("it is of no use");
        assert!(matches!(error, FetchError::Unusable(_)), "{error:?}");
    }
    assert!(answers[1].as_ref().expect_err("it is of no use").to_string().contains("pending deletion"));
}

// The queue

/// Makes a queue whose messages stay hidden for `visibility` seconds.
async fn queue(sdk: &Sdk, name: &str, visibility: u32) -> SqsQueue {
    let client = aws_sdk_sqs::Client::new(sdk.config());
    let attributes = HashMap::from([
        (QueueAttributeName::FifoQueue, "true".to_owned()),
        (QueueAttributeName::VisibilityTimeout, visibility.to_string()),
    ]);
    let made = client.create_queue().queue_name(name).set_attributes(Some(attributes)).send().await;
    sdk.queue(made.expect("a queue is made").queue_url.expect("it has a URL"), DEFAULT_LIMIT)
}

/// Waits until so many messages of a queue can be received.
async fn until_visible(sdk: &Sdk, name: &str, count: usize) {
    let client = aws_sdk_sqs::Client::new(sdk.config());
    let url = client.get_queue_url().queue_name(name).send().await.expect("found").queue_url.expect("a URL");
    let visible = async || {
        let name = QueueAttributeName::ApproximateNumberOfMessages;
        let call = client.get_queue_attributes().queue_url(&url).attribute_names(name.clone());
        call.send().await.expect("found").attributes.expect("attributes")[&name].clone()
    };
    let seen = async {
        while visible().await != count.to_string() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(6 * SOON, seen).await.expect("they come back");
}

fn message(group: &str, body: &str) -> Message {
    Message {
        group: group.into(),
        deduplication_id: format!("{group}-{}-{}", body.len(), &body[..1]),
        body: body.into(),
    }
}

fn bodies(messages: &[Received]) -> Vec<&str> {
    messages.iter().map(|message| message.body.as_str()).collect()
}

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn messages_of_a_group_come_in_order_and_block_it_while_they_are_out() {
    let queue = queue(&aws(), "order.fifo", 30).await;
    let messages: Vec<_> = (0..12).map(|i| message("a", &"abcdefghijkl"[i..=i])).chain([message("b", "x")]).collect();
    queue.send(&messages).await.expect("they are stored");
    let first = queue.receive(2, SOON).await.expect("an answer");
    assert_eq!(bodies(&first), ["a", "b"]);
    assert!(first.iter().all(|message| message.group == "a" && message.receives == 1));
    let other = queue.receive(10, SOON).await.expect("an answer");
    assert_eq!(bodies(&other), ["x"]);
    for message in &first {
        queue.delete(message).await.expect("it is deleted");
    }
    let next = queue.receive(10, SOON).await.expect("an answer");
    assert_eq!(bodies(&next), ["c", "d", "e", "f", "g", "h", "i", "j", "k", "l"]);
}

#[tokio::test]
async fn a_group_that_is_held_comes_back_in_order_and_counts_its_receives() {
    let sdk = aws();
    let queue = queue(&sdk, "hold.fifo", 30).await;
    queue.send(&[message("a", "1"), message("a", "2"), message("a", "3")]).await.expect("they are stored");
    let held = queue.receive(10, SOON).await.expect("an answer");
    queue.hold(&held, Duration::from_millis(2300)).await.expect("they are held");
    assert!(queue.receive(10, Duration::ZERO).await.expect("an answer").is_empty(), "they are hidden");
    until_visible(&sdk, "hold.fifo", 3).await;
    let again = queue.receive(10, SOON).await.expect("an answer");
    assert_eq!(bodies(&again), ["1", "2", "3"]);
    assert!(again.iter().all(|message| message.receives == 2));

    queue.hold(&again, Duration::ZERO).await.expect("they are let go");
    let again = queue.receive(10, SOON).await.expect("an answer");
    assert_eq!(bodies(&again), ["1", "2", "3"]);

    queue.hold(&again, Duration::from_hours(12)).await.expect("they are held for as long as can be");
    assert!(queue.receive(10, Duration::from_secs(1)).await.expect("an answer").is_empty());
}

#[tokio::test]
async fn what_is_sent_twice_is_stored_once() {
    let queue = queue(&aws(), "twice.fifo", 30).await;
    for _ in 0..2 {
        queue.send(&[message("a", "1"), message("a", "2")]).await.expect("they are stored");
    }
    assert_eq!(bodies(&queue.receive(10, SOON).await.expect("an answer")), ["1", "2"]);
}

#[tokio::test]
async fn messages_too_large_for_one_call_go_in_several() {
    let queue = queue(&aws(), "large.fifo", 30).await;
    let large: Vec<_> = ["1", "22", "333"].map(|start| format!("{start}{}", "x".repeat(200_000))).into();
    let messages: Vec<_> = large.iter().map(|body| message("a", body)).collect();
    queue.send(&messages).await.expect("they are stored");
    assert_eq!(bodies(&queue.receive(10, SOON).await.expect("an answer")), large);
}

#[tokio::test]
async fn a_message_that_is_gone_can_be_deleted_and_held_without_an_error() {
    let queue = queue(&aws(), "gone.fifo", 30).await;
    queue.send(&[message("a", "1"), message("b", "2")]).await.expect("they are stored");
    let mut messages = queue.receive(10, SOON).await.expect("an answer");
    queue.delete(&messages[0]).await.expect("it is deleted");
    queue.delete(&messages[0]).await.expect("it is gone already");
    messages[0].receipt = "no receipt".into();
    queue.delete(&messages[0]).await.expect("the receipt is of no use");
    queue.hold(&messages, Duration::ZERO).await.expect("the other one is let go");
    assert_eq!(bodies(&queue.receive(10, SOON).await.expect("an answer")), ["2"]);
}

/// Answers a batch: every entry is taken, except those whose body `refused` names.
fn batch_answer(request: &Value, refused: impl Fn(&str) -> bool) -> (u16, Value) {
    let entries = request["Entries"].as_array().expect("entries");
    let (failed, successful): (Vec<_>, Vec<_>) =
        entries.iter().partition(|entry| refused(entry["MessageBody"].as_str().expect("a body")));
    let failed: Vec<_> =
        failed.iter().map(|e| json!({ "Id": e["Id"], "Code": "InternalError", "SenderFault": false })).collect();
    let successful: Vec<_> =
        successful.iter().map(|e| json!({ "Id": e["Id"], "MessageId": "m", "MD5OfMessageBody": "0" })).collect();
    (200, json!({ "Successful": successful, "Failed": failed }))
}

fn sent(request: &Value) -> Vec<&str> {
    let entries = request["Entries"].as_array().expect("entries");
    entries.iter().map(|entry| entry["MessageBody"].as_str().expect("a body")).collect()
}

#[tokio::test]
async fn what_a_call_refuses_is_sent_again_before_anything_that_follows() {
    let (fake, sdk) =
        Fake::start(|_, request, before| batch_answer(request, |body| before == 0 && "bd".contains(body))).await;
    let queue = sdk.queue("http://queue.test/q.fifo", DEFAULT_LIMIT);
    let messages: Vec<_> = (0..12).map(|i| message("a", &"abcdefghijkl"[i..=i])).collect();
    queue.send(&messages).await.expect("they are stored");
    let requests = fake.requests();
    let sent: Vec<String> = requests.iter().map(|request| sent(request).concat()).collect();
    assert_eq!(sent, ["abcdefghij", "bd", "kl"]);
    assert_eq!(requests[1]["Entries"][0]["MessageGroupId"], "a");
    assert_eq!(requests[1]["Entries"][0]["MessageDeduplicationId"], messages[1].deduplication_id);
}

#[tokio::test]
async fn what_a_call_refuses_again_and_again_is_an_error_that_holds_no_body() {
    let (fake, sdk) = Fake::start(|_, request, _| batch_answer(request, |body| body == "b")).await;
    let queue = sdk.queue("http://queue.test/q.fifo", DEFAULT_LIMIT);
    let error = queue.send(&["a", "b", "c"].map(|body| message("a", body))).await.expect_err("one is refused");
    assert_eq!(error.to_string(), "queue: 1 of 3 messages were not stored: InternalError");
    assert_eq!(fake.requests().iter().map(|request| sent(request).concat()).collect::<Vec<_>>(), ["abc", "b", "b"]);
}

// The state

#[derive(Clone)]
struct SetClock(Arc<Mutex<Timestamp>>);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().expect("no test panicked in it")
    }
}

impl SetClock {
    fn wait(&self, seconds: i64) {
        *self.0.lock().expect("no test panicked in it") += SignedDuration::from_secs(seconds);
    }
}

async fn table(sdk: &Sdk, name: &str) -> (DynamoState, SetClock) {
    let client = aws_sdk_dynamodb::Client::new(sdk.config());
    let mut call = client.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    for (name, kind) in [("pk", KeyType::Hash), ("sk", KeyType::Range)] {
        let definition = AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S);
        let element = KeySchemaElement::builder().attribute_name(name).key_type(kind);
        call = call.attribute_definitions(definition.build().expect("all is given"));
        call = call.key_schema(element.build().expect("all is given"));
    }
    call.send().await.expect("a table is made");
    let clock = SetClock(Arc::new(Mutex::new(Timestamp::from_second(1_800_000_000).expect("a time"))));
    (sdk.state(name, Arc::new(clock.clone())), clock)
}

fn key(pk: &str, sk: &str) -> Key {
    Key { pk: pk.into(), sk: sk.into() }
}

fn record(clock: &SetClock, value: Value, seconds: i64) -> Record {
    Record { value, expires: clock.now() + SignedDuration::from_secs(seconds) }
}

#[tokio::test]
async fn a_record_is_read_as_it_was_put_until_it_is_deleted() {
    let (state, clock) = table(&aws(), "put").await;
    let key = key("target#oncall", "attempts");
    assert_eq!(state.get(&key).await.expect("an answer"), None);
    for value in [json!({ "n": 1, "text": "ä\n", "float": 0.5, "empty": "", "list": [null] }), json!("another")] {
        let record = record(&clock, value, 60);
        state.put(&key, record.clone()).await.expect("it is kept");
        assert_eq!(state.get(&key).await.expect("an answer"), Some(record));
    }
    state.delete(&key).await.expect("it is forgotten");
    state.delete(&key).await.expect("nothing is there");
    assert_eq!(state.get(&key).await.expect("an answer"), None);
}

#[tokio::test]
async fn only_the_first_creates_until_what_it_created_expires() {
    let (state, clock) = table(&aws(), "create").await;
    let key = key("due#1", "a");
    assert!(state.create(&key, record(&clock, json!(1), 60)).await.expect("an answer"));
    assert!(!state.create(&key, record(&clock, json!(2), 60)).await.expect("an answer"));
    clock.wait(59);
    assert!(!state.create(&key, record(&clock, json!(3), 60)).await.expect("an answer"));
    assert_eq!(state.get(&key).await.expect("an answer").expect("it is there").value, json!(1));
    clock.wait(1);
    assert!(state.create(&key, record(&clock, json!(4), 60)).await.expect("an answer"));
    assert_eq!(state.get(&key).await.expect("an answer").expect("it is there").value, json!(4));
}

#[tokio::test]
async fn what_has_expired_is_not_seen_though_the_table_still_has_it() {
    let (state, clock) = table(&aws(), "expire").await;
    state.put(&key("push#1", "a"), record(&clock, json!("short"), 10)).await.expect("it is kept");
    state.put(&key("push#1", "b"), record(&clock, json!("long"), 20)).await.expect("it is kept");
    clock.wait(10);
    assert_eq!(state.get(&key("push#1", "a")).await.expect("an answer"), None);
    let listed = state.list("push#1").await.expect("an answer");
    assert_eq!(listed, [(key("push#1", "b"), record(&clock, json!("long"), 10))]);
}

#[tokio::test]
async fn a_list_has_everything_of_one_pk_sorted_however_large_it_is() {
    let (state, clock) = table(&aws(), "list").await;
    // Over a megabyte, which is a page.
    let large = "x".repeat(300_000);
    for sk in ["d", "a", "c", "e", "b"] {
        state.put(&key("push#1", sk), record(&clock, json!(large), 60)).await.expect("it is kept");
    }
    state.put(&key("push#2", "other"), record(&clock, json!(1), 60)).await.expect("it is kept");
    let listed = state.list("push#1").await.expect("an answer");
    assert_eq!(listed.iter().map(|(key, _)| &*key.sk).collect::<Vec<_>>(), ["a", "b", "c", "d", "e"]);
    assert!(state.list("push#3").await.expect("an answer").is_empty());
}

// Web identities, of which the emulated AWS knows nothing

/// The forms that were sent.
type Forms = Arc<Mutex<Vec<HashMap<String, String>>>>;

/// An STS that answers as a test wants, and remembers the forms it was sent; `answer` gets how many came before.
async fn sts(answer: impl Fn(usize) -> (u16, String) + Clone + Send + Sync + 'static) -> (Forms, Sdk) {
    let forms = Forms::default();
    let seen = forms.clone();
    let app = Router::new().fallback(move |form: String| async move {
        let mut seen = seen.lock().expect("no test panicked in it");
        let (status, body) = answer(seen.len());
        seen.push(form_urlencoded::parse(form.as_bytes()).into_owned().collect());
        (StatusCode::from_u16(status).expect("a status"), body)
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (forms, sdk(url))
}

fn issued(token: &str) -> (u16, String) {
    let result = format!("<WebIdentityToken>{token}</WebIdentityToken><Expiration>2030-01-01T00:00:00Z</Expiration>");
    let result = format!("<GetWebIdentityTokenResult>{result}</GetWebIdentityTokenResult>");
    let metadata = "<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>";
    let space = "https://sts.amazonaws.com/doc/2011-06-15/";
    (200, format!("<GetWebIdentityTokenResponse xmlns=\"{space}\">{result}{metadata}</GetWebIdentityTokenResponse>"))
}

fn refused(code: &str) -> (u16, String) {
    let error = format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>so it is</Message></Error>");
    let space = "https://sts.amazonaws.com/doc/2011-06-15/";
    (400, format!("<ErrorResponse xmlns=\"{space}\">{error}<RequestId>1</RequestId></ErrorResponse>"))
}

fn web_identity(audience: &str) -> SecretRef {
    SecretRef::WebIdentity { audience: audience.into() }
}

#[tokio::test]
async fn a_web_identity_is_asked_for_once_per_audience_with_the_algorithm_and_a_life_that_outlasts_the_cache() {
    let (forms, sdk) = sts(|_| issued("a.b.c")).await;
    let references = [web_identity("one"), reference("env:HOME"), web_identity("one")];
    let answers = sdk.secrets_and_identity().current(&references).await;
    assert_eq!([value(&answers[0]), value(&answers[2])], [b"a.b.c", b"a.b.c"]);
    assert!(answers[1].is_err());
    assert!(!format!("{answers:?}").contains("a.b.c"));
    let forms = forms.lock().expect("no test panicked in it");
    assert_eq!(forms.len(), 1);
    for (name, value) in [
        ("Action", "GetWebIdentityToken"),
        ("Audience.member.1", "one"),
        ("SigningAlgorithm", "RS256"),
        ("DurationSeconds", "900"),
    ] {
        assert_eq!(forms[0].get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(Duration::from_secs(900) > 2 * sluice::secrets::CACHE);
}

#[tokio::test]
async fn where_the_session_ends_soon_a_shorter_web_identity_is_asked_for() {
    let answer = |before| if before == 0 { refused("SessionDurationEscalationException") } else { issued("a.b.c") };
    let (forms, sdk) = sts(answer).await;
    let answers = sdk.secrets_and_identity().current(&[web_identity("one")]).await;
    assert_eq!(value(&answers[0]), b"a.b.c");
    assert_eq!(forms.lock().expect("no test panicked in it")[1]["DurationSeconds"], "300");
}

#[tokio::test]
async fn why_there_is_no_web_identity_is_said_in_the_words_of_aws() {
    for code in ["OutboundWebIdentityFederationDisabledException", "AccessDenied"] {
        let (_, sdk) = sts(move |_| refused(code)).await;
        let answers = sdk.secrets_and_identity().current(&[web_identity("one")]).await;
        let error = answers[0].as_ref().expect_err("refused");
        assert!(error.to_string().contains(code) && error.to_string().contains("so it is"), "{error}");
        assert_eq!(matches!(error, FetchError::Denied(_)), code == "AccessDenied", "{error:?}");
    }
    let (_, sdk) = sts(|_| issued("a.b.c")).await;
    let none = sdk.secrets().current(&[web_identity("one")]).await;
    assert!(matches!(none[0], Err(FetchError::Unusable(_))), "functions that need none cannot have one");
}

// When AWS is not there

/// Asks every port for something and wants each to say that it cannot: after nine seconds of trying, a little later.
async fn nothing_is_available(sdk: &Sdk) {
    let began = Instant::now();
    let secrets = sdk.secrets();
    let queue = sdk.queue("http://queue.test/q.fifo", DEFAULT_LIMIT);
    let clock = SetClock(Arc::new(Mutex::new(Timestamp::now())));
    let state = sdk.state("table", Arc::new(clock));
    let references = ["ssm:/a", "secretsmanager:a"].map(reference);
    let sent = [message("a", "hunter2")];
    let wanted = key("a", "b");
    let (answers, sent, got) = tokio::join!(secrets.current(&references), queue.send(&sent), state.get(&wanted));
    for answer in answers {
        let error = answer.expect_err("nothing is there");
        assert!(matches!(&error, FetchError::Unavailable(why) if !why.is_empty()), "{error:?}");
    }
    let is_clear = |error: Unavailable| !error.message.is_empty() && !error.message.contains("hunter2");
    assert!(sent.is_err_and(is_clear));
    assert!(got.is_err_and(is_clear));
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_is_unavailable_within_ten_seconds() {
    let closed = closed_port();
    nothing_is_available(&sdk(format!("http://{}", closed.local_addr().expect("it is bound")))).await;
}

#[tokio::test]
async fn an_endpoint_that_never_answers_is_unavailable_within_ten_seconds() {
    // The kernel accepts connections for it; nobody reads them.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    nothing_is_available(&sdk(format!("http://{}", listener.local_addr().expect("it is bound")))).await;
}

/// The command `sluice` against `endpoint`: exit status and what it printed.
async fn sluice(endpoint: &str, environment: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, Value) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(arguments).arg("--json");
    command.env("AWS_ENDPOINT_URL", endpoint).env("AWS_REGION", "eu-west-1").envs(environment.iter().copied());
    command
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    let done = command.output().await.expect("run");
    assert!(!done.stdout.is_empty(), "{done:?}");
    (done.status.code(), serde_json::from_slice(&done.stdout).expect("JSON"))
}

// Dead letters, by the command

async fn dead_letters(endpoint: &str, environment: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, Value) {
    sluice(endpoint, environment, &[&["dead-letters"], arguments].concat()).await
}

fn letters(said: &Value) -> &Vec<Value> {
    said["letters"].as_array().expect("letters")
}

fn delivery(number: u32) -> Delivery {
    let source = Name::parse("hub").expect("name");
    let identity = number.to_string();
    let push = ImagePush { repository: format!("ghcr.io/acme/app{number}"), ..ImagePush::default() };
    let event = Event {
        detail: Detail::ImagePush(push),
        id: Event::id_of(&source, &identity),
        source,
        cluster: None,
        labels: BTreeMap::new(),
        time: None,
    };
    Delivery::new(event, &identity, &Name::parse("prod").expect("name"), None, Timestamp::now())
}

/// A dead letter as `deliver` puts it into its queue.
fn dead_letter(delivery: Delivery) -> Message {
    let id = format!("{}-{}", delivery.id, delivery.generation);
    let given_up = Timestamp::now();
    let reason = "413: too large".to_owned();
    let letter =
        DeadLetter { class: GivenUp::Rejected, reason, given_up, attempts: 1, delivery: Some(delivery), body: None };
    Message { group: format!("prod!{id}"), deduplication_id: id, body: letter.encode(DEFAULT_LIMIT).expect("fits") }
}

/// A delivery queue with its dead-letter queue, and the URLs of both.
async fn queues(sdk: &Sdk, name: &str) -> (SqsQueue, SqsQueue, String) {
    let client = aws_sdk_sqs::Client::new(sdk.config());
    let dead = queue(sdk, &format!("{name}-dead.fifo"), 30).await;
    let found = client.get_queue_url().queue_name(format!("{name}-dead.fifo")).send().await.expect("found");
    let dead_url = found.queue_url.expect("a URL");
    let call = client.get_queue_attributes().queue_url(&dead_url).attribute_names(QueueAttributeName::QueueArn);
    let attributes = call.send().await.expect("found").attributes.expect("attributes");
    let arn = &attributes[&QueueAttributeName::QueueArn];
    let live = queue(sdk, &format!("{name}.fifo"), 30).await;
    let found = client.get_queue_url().queue_name(format!("{name}.fifo")).send().await.expect("found");
    let policy = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": 1000 }).to_string();
    let call = client.set_queue_attributes().queue_url(found.queue_url.expect("a URL"));
    call.attributes(QueueAttributeName::RedrivePolicy, policy).send().await.expect("set");
    (live, dead, dead_url)
}

#[tokio::test]
async fn looking_at_dead_letters_shows_all_of_one_target_and_hides_none_from_others() {
    let sdk = aws();
    let (_, dead, url) = queues(&sdk, "looked-at").await;
    dead.send(&(0..23).map(|number| dead_letter(delivery(number))).collect::<Vec<_>>()).await.expect("stored");
    for _ in 0..2 {
        let (status, said) = dead_letters(endpoint(), &[("SLUICE_DEAD_LETTER_URL", &url)], &["list"]).await;
        assert_eq!((status, letters(&said).len()), (Some(0), 23));
        let time = |one: &Value| one["given_up"].as_str().expect("text").parse::<Timestamp>().expect("a time");
        let given_up: Vec<_> = letters(&said).iter().map(time).collect();
        assert!(given_up.is_sorted(), "the oldest first");
    }
    assert_eq!(dead.receive(10, Duration::ZERO).await.expect("an answer").len(), 10, "all are there at once");
}

#[tokio::test]
async fn what_is_sent_again_goes_to_the_queue_it_came_from_however_often_and_nothing_else_does() {
    let sdk = aws();
    let (live, dead, url) = queues(&sdk, "again").await;
    let [first, other] = [delivery(1), delivery(2)];
    dead.send(&[dead_letter(first.clone()), dead_letter(other)]).await.expect("stored");
    for generation in [1, 2] {
        let (status, said) = dead_letters(endpoint(), &[], &["redrive", &first.id, "--queue", &url]).await;
        assert_eq!((status, letters(&said).len(), &said["letters"][0]["redriven"]), (Some(0), 1, &true.into()));
        let received = live.receive(10, SOON).await.expect("an answer");
        let again = Delivery::decode(&received[0].body).expect("a delivery");
        assert_eq!((received.len(), received[0].group.as_str()), (1, "prod"));
        assert_eq!((&again.id, again.generation), (&first.id, generation));
        live.delete(&received[0]).await.expect("deleted");
        // It fails again at once, well within the five minutes of deduplication.
        dead.send(&[dead_letter(again)]).await.expect("stored");
    }
    let (status, said) = dead_letters(endpoint(), &[], &["discard", "--all", "--dry-run", "--queue", &url]).await;
    assert_eq!((status, letters(&said).len()), (Some(0), 2));
    let (status, _) = dead_letters(endpoint(), &[], &["discard", "--reason", "too large", "--queue", &url]).await;
    assert_eq!(status, Some(0));
    assert!(dead.receive(10, Duration::ZERO).await.expect("an answer").is_empty());
}

#[tokio::test]
async fn letters_are_sent_again_no_faster_than_is_asked_for_and_a_list_of_some_says_so() {
    let sdk = aws();
    let (live, dead, url) = queues(&sdk, "slowly").await;
    dead.send(&(0..5).map(|number| dead_letter(delivery(number))).collect::<Vec<_>>()).await.expect("stored");
    let (_, said) = dead_letters(endpoint(), &[], &["list", "--most", "4", "--queue", &url]).await;
    assert_eq!((letters(&said).len(), &said["complete"]), (4, &false.into()));
    let began = Instant::now();
    let (status, said) = dead_letters(endpoint(), &[], &["redrive", "--all", "--rate", "2", "--queue", &url]).await;
    assert_eq!((status, letters(&said).len(), &said["complete"]), (Some(0), 5, &true.into()), "{said}");
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(live.receive(10, SOON).await.expect("an answer").len(), 5);
    assert!(dead.receive(10, Duration::ZERO).await.expect("an answer").is_empty());
}

#[tokio::test]
async fn a_failed_invocation_is_deleted_only_when_the_function_has_taken_it() {
    let sdk = aws();
    let client = aws_sdk_sqs::Client::new(sdk.config());
    let made = client.create_queue().queue_name("intake-failed").send().await.expect("a queue is made");
    let url = made.queue_url.expect("a URL");
    let arn = "arn:aws:lambda:eu-west-1:123456789012:function:registry-push";
    let record = |number: u32| {
        json!({
            "version": "1.0", "timestamp": "2026-11-21T10:00:00.000Z",
            "requestContext": { "functionArn": arn, "condition": "RetriesExhausted", "approximateInvokeCount": 3 },
            "requestPayload": { "number": number },
            "responsePayload": { "errorMessage": "503" },
        })
    };
    for number in [1, 2] {
        client.send_message().queue_url(&url).message_body(record(number).to_string()).send().await.expect("stored");
    }
    // A Lambda whose function fails on one of the two.
    let invoked = Arc::new(Mutex::new(Vec::new()));
    let seen = invoked.clone();
    let app = Router::new().fallback(move |uri: axum::http::Uri, body: String| async move {
        let payload: Value = serde_json::from_str(&body).expect("JSON");
        seen.lock().expect("no test panicked in it").push((uri.path().to_owned(), payload.clone()));
        let mut headers = HeaderMap::new();
        if payload["number"] == 2 {
            headers.insert("x-amz-function-error", "Unhandled".parse().expect("a header"));
        }
        (headers, Json(json!({ "errorMessage": "the queue cannot be reached" })))
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let lambda = format!("http://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move { axum::serve(listener, app).await });

    let environment = [("AWS_ENDPOINT_URL_LAMBDA", lambda.as_str())];
    let (status, said) = dead_letters(endpoint(), &environment, &["redrive", "--all", "--queue", &url]).await;
    assert_eq!((status, letters(&said).len()), (Some(1), 2), "{said}");
    let failed: Vec<_> = letters(&said).iter().filter(|one| one["redriven"] == false).collect();
    assert_eq!(failed[0]["error"], "function: the queue cannot be reached");
    let invoked = invoked.lock().expect("no test panicked in it").clone();
    assert_eq!(invoked[0].0, format!("/2015-03-31/functions/{}/invocations", arn.replace(':', "%3A")));
    let (_, said) =
        dead_letters(endpoint(), &environment, &["show", "--target", "registry-push", "--queue", &url]).await;
    assert_eq!(letters(&said).len(), 1, "the other one is still there: {said}");
    assert_eq!(said["letters"][0]["payload"], json!({ "number": 2 }));
}

// The doctor, by the command

/// What `sluice doctor` says of a relay file with one source and one target: exit status, and by what was asked, the
/// level and the message.
async fn doctor(environment: &[(&str, &str)]) -> (Option<i32>, BTreeMap<String, (String, String)>) {
    let relay = json!({
        "sources": { "hub": { "type": "dockerhub", "secret": "ssm:/doctor/hub" } },
        "targets": { "oncall": { "type": "slack", "webhook": "ssm:/doctor/slack" } },
        "routes": [{ "to": "oncall" }],
        "egress": { "allow": ["127.0.0.0/8"] },
    });
    let (status, said) = sluice(endpoint(), environment, &["doctor", "--config", &relay.to_string()]).await;
    assert!(!said.to_string().contains("hunter2"), "{said}");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let answer = |answer: &Value| {
        let what = format!("{} {}", text(&answer["about"]), text(&answer["name"]));
        (what.trim().to_owned(), (text(&answer["level"]), text(&answer["message"])))
    };
    (status, said["answers"].as_array().expect("answers").iter().map(answer).collect())
}

#[tokio::test]
async fn the_doctor_finds_what_is_missing_set_up_wrongly_or_refuses_and_is_content_when_it_is_mended() {
    let sdk = aws();
    let sqs = aws_sdk_sqs::Client::new(sdk.config());
    let dynamodb = aws_sdk_dynamodb::Client::new(sdk.config());
    let chat = closed_port();
    let address = chat.local_addr().expect("it is bound");
    put_parameter(&sdk, "/doctor/slack", &format!("http://{address}/services/hunter2")).await;
    let standard = sqs.create_queue().queue_name("doctor").send().await.expect("a queue is made");
    let (_, dead, dead_url) = queues(&sdk, "doctor").await;
    dead.send(&[dead_letter(delivery(1))]).await.expect("stored");
    let (state, clock) = table(&sdk, "doctor").await;
    let now = Timestamp::now();
    clock.wait(now.as_second() - clock.now().as_second());
    let breaker = json!({ "since": now, "reason": "404: no_service", "failures": 1, "next": now, "told": true });
    let open = key("target#oncall", "breaker");
    state.put(&open, record(&clock, breaker, 3600)).await.expect("it is kept");

    let standard_url = standard.queue_url.expect("a URL");
    let mut environment = [
        ("SLUICE_QUEUE_URL", standard_url.as_str()),
        ("SLUICE_DEAD_LETTER_URL", dead_url.as_str()),
        ("SLUICE_STATE_TABLE", "doctor"),
    ];
    let (status, said) = doctor(&environment).await;
    assert_eq!(status, Some(1));
    for (about, level, words) in [
        ("relay file", "fine", "sources: 1, targets: 1, routes: 1"),
        ("aws", "fine", "arn:aws:"),
        ("queue doctor", "problem", "is not a FIFO queue"),
        ("dead-letter queue doctor-dead.fifo", "warning", "waiting: 1"),
        ("state doctor", "problem", "switch on TTL by the attribute `expires`"),
        ("breaker oncall", "problem", "404: no_service"),
        ("secret ssm:/doctor/hub", "problem", "not found"),
        ("secret ssm:/doctor/slack", "fine", "can be read"),
        ("target oncall", "problem", "no connection"),
    ] {
        let (found, message) = &said[about];
        assert!(found == level && message.contains(words), "{about}: {said:?}");
    }

    put_parameter(&sdk, "/doctor/hub", "hunter2-hub").await;
    let _listener = chat.listen(16).expect("it listens");
    let live = sqs.get_queue_url().queue_name("doctor.fifo").send().await.expect("found").queue_url.expect("a URL");
    environment[0].1 = &live;
    let taken = dead.receive(10, SOON).await.expect("an answer");
    dead.delete(&taken[0]).await.expect("deleted");
    let expiry = TimeToLiveSpecification::builder().attribute_name("expires").enabled(true).build();
    let call = dynamodb.update_time_to_live().table_name("doctor");
    call.time_to_live_specification(expiry.expect("all is given")).send().await.expect("switched on");
    state.delete(&open).await.expect("forgotten");
    let (status, said) = doctor(&environment).await;
    assert!(said.values().all(|(level, _)| level == "fine"), "{said:?}");
    assert_eq!(status, Some(0));
    assert!(said["secret ssm:/doctor/hub"].1.contains("made 20"), "{said:?}");
}

#[tokio::test]
async fn the_doctor_stops_at_a_relay_file_with_problems_and_asks_no_aws_that_nothing_names() {
    let (status, said) = sluice("http://127.0.0.1:1", &[], &["doctor", "--config", "{\"targets\":{\"x\":{}}}"]).await;
    assert_eq!(status, Some(1));
    assert_eq!(said["problems"][0]["place"], "targets.x", "{said}");
    let (status, said) = sluice("http://127.0.0.1:1", &[], &["doctor", "--config", "{}"]).await;
    assert_eq!((status, &said["answers"][1]["level"]), (Some(0), &json!("not_asked")), "{said}");
    let environment = [("SLUICE_AGENT_QUEUES", "no JSON")];
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sluice"));
    let done = command.args(["doctor", "--config", "{}"]).envs(environment).output().await.expect("run");
    assert_eq!(done.status.code(), Some(2), "{done:?}");
}
