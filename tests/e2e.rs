//! End to end, with nothing faked but the cloud: the function binaries under a Lambda runtime emulator, an emulated
//! AWS behind the real SDK, and a Receiver that checks what it gets as Flux does.
//!
//! The binaries are those that cargo has built for this test, or those in `SLUICE_TEST_BIN_DIR`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

#[path = "support/faults.rs"]
mod faults;
#[path = "support/lambda.rs"]
mod lambda;
#[path = "support/moto.rs"]
mod moto;
#[path = "support/receiver.rs"]
mod receiver;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName};
use aws_sdk_ssm::types::ParameterType;
use faults::{Fault, Faults};
use hmac::{Hmac, KeyInit as _, Mac as _};
use lambda::{Function, HttpAnswer, HttpEvent, batch_item_failures, queue_arn, sqs_event};
use moto::Moto;
use receiver::{FluxReceivers, Receiver};
use serde_json::{Value, json};
use sluice::domain::delivery::DeadLetter;
use sluice::domain::outcome::GivenUp;
use sluice::domain::secret::Secret;
use sluice::rim::aws::from_variables;
use sluice::source::jwt;

const REGION: &str = "eu-central-1";
const TOKEN: &str = "hunter2-receiver-token";
const SECRET: &str = "hunter2-github-secret";

fn moto_url() -> String {
    static MOTO: OnceLock<Moto> = OnceLock::new();
    MOTO.get_or_init(Moto::start).url()
}

fn binary(name: &str) -> PathBuf {
    match std::env::var_os("SLUICE_TEST_BIN_DIR") {
        Some(folder) => PathBuf::from(folder).join(name),
        None => match name {
            "git-webhook" => env!("CARGO_BIN_EXE_git-webhook").into(),
            "registry-push" => env!("CARGO_BIN_EXE_registry-push").into(),
            "deliver" => env!("CARGO_BIN_EXE_deliver").into(),
            "sluice" => env!("CARGO_BIN_EXE_sluice").into(),
            other => panic!("no binary {other}"),
        },
    }
}

/// One deployment of its own in the shared cloud.
struct Cloud {
    /// What makes its names its own.
    prefix: String,
    queue: String,
    dead_letters: String,
    sqs: aws_sdk_sqs::Client,
    ssm: aws_sdk_ssm::Client,
    dynamodb: aws_sdk_dynamodb::Client,
    receivers: FluxReceivers,
    /// Where the issuer of tokens publishes its keys.
    key_set: String,
}

impl Cloud {
    async fn deploy() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("e2e{}", NUMBER.fetch_add(1, Ordering::SeqCst));
        let sdk = from_variables(|name| match name {
            "AWS_REGION" => Some(REGION.into()),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("test".into()),
            "AWS_ENDPOINT_URL" => Some(moto_url()),
            _ => None,
        });
        let sqs = aws_sdk_sqs::Client::new(sdk.config());
        let mut urls = Vec::new();
        for name in ["deliveries", "dead-letters"] {
            let created = sqs
                .create_queue()
                .queue_name(format!("{prefix}-{name}.fifo"))
                .attributes(QueueAttributeName::FifoQueue, "true")
                .attributes(QueueAttributeName::VisibilityTimeout, "30")
                .send()
                .await
                .expect("queue");
            urls.push(created.queue_url.expect("url"));
        }
        let dead_letters = urls.pop().expect("two queues");
        let queue = urls.pop().expect("two queues");
        let dynamodb = aws_sdk_dynamodb::Client::new(sdk.config());
        let mut table = dynamodb.create_table().table_name(&prefix).billing_mode(BillingMode::PayPerRequest);
        for (name, kind) in [("pk", KeyType::Hash), ("sk", KeyType::Range)] {
            let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S);
            let key = KeySchemaElement::builder().attribute_name(name).key_type(kind);
            table = table
                .attribute_definitions(attribute.build().expect("attribute"))
                .key_schema(key.build().expect("key"));
        }
        table.send().await.expect("table");
        let receivers = FluxReceivers::with(Receiver::new("github", "apps", "flux-system", TOKEN));
        let ssm = aws_sdk_ssm::Client::new(sdk.config());
        let key_set = publish_keys().await;
        let cloud = Self { prefix, queue, dead_letters, sqs, ssm, dynamodb, receivers, key_set };
        cloud.store_secret("github", SECRET).await;
        let secrets = aws_sdk_secretsmanager::Client::new(sdk.config());
        let value = json!({ "receiver": { "token": TOKEN } }).to_string();
        secrets
            .create_secret()
            .name(format!("{}/cluster", cloud.prefix))
            .secret_string(value)
            .send()
            .await
            .expect("secret");
        let parameter =
            cloud.ssm.put_parameter().name(format!("/{}/relay", cloud.prefix)).r#type(ParameterType::String);
        parameter.value(cloud.relay_file().to_string()).send().await.expect("relay file");
        cloud
    }

    async fn store_secret(&self, name: &str, value: &str) {
        let parameter = self.ssm.put_parameter().name(format!("/{}/{name}", self.prefix)).value(value);
        parameter.r#type(ParameterType::SecureString).overwrite(true).send().await.expect("parameter");
    }

    fn relay_file(&self) -> Value {
        json!({
            "sources": {
                "github": { "type": "github", "secret": format!("ssm:/{}/github", self.prefix) },
                "hub": { "type": "dockerhub", "secret": format!("ssm:/{}/github", self.prefix) },
                "ecr": { "type": "ecr", "regions": [REGION] },
                "gcr": {
                    "type": "gcr", "audience": "https://relay.example.com/gcr", "service_account": "a@b.example",
                    "jwks_url": self.key_set,
                },
            },
            "targets": { "prod": {
                "type": "flux",
                "url": self.receivers.url(),
                "receiver": { "type": "github", "name": "apps", "namespace": "flux-system" },
                "token": format!("secretsmanager:{}/cluster#receiver.token", self.prefix),
            } },
            "routes": [
                { "from": "github", "when": { "event": "push", "ref": "refs/heads/main" }, "to": ["prod"] },
                { "from": ["hub", "ecr", "gcr"], "when": { "tag": "*" }, "to": ["prod"] },
            ],
            "egress": { "allow": ["127.0.0.0/8"] },
        })
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("SLUICE_CONFIG", format!("ssm:/{}/relay:1", self.prefix)),
            ("SLUICE_QUEUE_URL", self.queue.clone()),
            ("SLUICE_DEAD_LETTER_URL", self.dead_letters.clone()),
            ("SLUICE_STATE_TABLE", self.prefix.clone()),
            ("AWS_ENDPOINT_URL", moto_url()),
            ("AWS_REGION", REGION.into()),
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
            ("AWS_LAMBDA_LOG_LEVEL", "DEBUG".into()),
            ("NO_PROXY", "127.0.0.1".into()),
        ]
    }

    async fn function(&self, name: &str) -> Function {
        self.function_at(name, &moto_url()).await
    }

    /// The function with another way to AWS.
    async fn function_at(&self, name: &str, endpoint: &str) -> Function {
        let settings = Function::builder(binary(name)).name(name).timeout(Duration::from_secs(60));
        let settings = settings.envs(self.environment()).env("AWS_ENDPOINT_URL", endpoint);
        settings.start().await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Takes messages off the queue as the trigger does, again and again, until there are none.
    async fn drain(&self, deliver: &Function) {
        while self.left().await > 0 {
            if let Some(event) = self.batch().await {
                deliver.invoke(event).await.expect("worked on");
            }
        }
    }

    /// What the receiver took, by the senders' ids, each at its first arrival.
    fn arrived(&self) -> Vec<String> {
        let mut ids = Vec::new();
        for one in self.receivers.accepted() {
            let id = one.header("x-github-delivery").expect("id").to_owned();
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }

    /// Makes messages that were handed out visible, as when their time is over.
    async fn expire(&self, messages: &[aws_sdk_sqs::types::Message]) {
        for message in messages {
            let handle = message.receipt_handle().expect("handle");
            let change = self.sqs.change_message_visibility().queue_url(&self.queue).receipt_handle(handle);
            change.visibility_timeout(0).send().await.expect("visible");
        }
    }

    /// Takes messages off the queue as the trigger of the function does, and hands them to it.
    async fn trigger(&self, deliver: &Function) -> Vec<String> {
        let event = self.batch().await.expect("a message is waiting");
        batch_item_failures(&deliver.invoke(event).await.expect("the batch was worked on"))
    }

    async fn batch(&self) -> Option<Value> {
        let messages = self.receive(&self.queue).await;
        (!messages.is_empty()).then(|| sqs_event(&queue_arn(&self.queue, REGION), &messages))
    }

    async fn receive(&self, queue: &str) -> Vec<aws_sdk_sqs::types::Message> {
        let received = self
            .sqs
            .receive_message()
            .queue_url(queue)
            .max_number_of_messages(10)
            .wait_time_seconds(5)
            .message_system_attribute_names(MessageSystemAttributeName::All);
        received.send().await.expect("received").messages.unwrap_or_default()
    }

    /// Messages that are in the delivery queue, in flight ones included.
    async fn left(&self) -> u32 {
        self.in_queue(&self.queue).await
    }

    async fn in_queue(&self, queue: &str) -> u32 {
        let attributes = self.sqs.get_queue_attributes().queue_url(queue).attribute_names(QueueAttributeName::All);
        let attributes = attributes.send().await.expect("attributes").attributes.expect("attributes");
        let number = |name: QueueAttributeName| attributes[&name].parse::<u32>().expect("number");
        number(QueueAttributeName::ApproximateNumberOfMessages)
            + number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)
    }

    async fn state(&self) -> Vec<String> {
        let items = self.dynamodb.scan().table_name(&self.prefix).send().await.expect("scan").items.unwrap_or_default();
        items.iter().map(|item| format!("{item:?}")).collect()
    }
}

/// The throw-away keys as their owner publishes them; the private parts are not used by who checks.
fn keys() -> Value {
    json!({ "keys": [serde_json::from_str::<Value>(include_str!("data/throw-away-rsa-keys.json")).expect("JSON")[0]] })
}

async fn publish_keys() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/certs", listener.local_addr().expect("address"));
    let certs = axum::routing::get(|| async { axum::Json(keys()) });
    let published = axum::Router::new().route("/certs", certs);
    tokio::spawn(async move { axum::serve(listener, published).await });
    url
}

fn sample(name: &str) -> (Vec<(String, String)>, Vec<u8>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("events/github");
    let headers = std::fs::read_to_string(folder.join(format!("{name}.headers"))).expect("headers");
    let headers = headers.lines().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (headers, std::fs::read(folder.join(format!("{name}.json"))).expect("body"))
}

/// A delivery as GitHub makes it.
fn github(name: &str, delivery_id: &str, secret: &str) -> HttpEvent {
    let (headers, body) = sample(name);
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(&body);
    let signature = format!("sha256={}", data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes()));
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    HttpEvent::post("/github")
        .headers(headers.filter(|(name, _)| !name.eq_ignore_ascii_case("x-github-delivery")))
        .header("X-GitHub-Delivery", delivery_id)
        .header("X-Hub-Signature-256", &signature)
        .body(body)
}

fn delivery_of(answer: &HttpAnswer) -> String {
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["deliveries"][0]["id"].as_str().expect("delivery").to_owned()
}

#[tokio::test]
async fn a_github_push_comes_out_at_a_flux_receiver_with_the_path_headers_and_signature_it_checks() {
    let cloud = Cloud::deploy().await;
    let (intake, deliver) = (cloud.function("git-webhook").await, cloud.function("deliver").await);
    let answer = intake.http(github("push", "d-1", SECRET)).await.expect("answer");
    let id = delivery_of(&answer);
    assert_eq!(
        answer.json(),
        json!({ "id": "d-1", "source": "github", "event": "push refs/heads/main", "deliveries": [{ "id": id, "target": "prod" }] })
    );
    assert!(cloud.trigger(&deliver).await.is_empty());
    cloud.receivers.assert_nothing_rejected();
    let accepted = cloud.receivers.accepted();
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0].body, sample("push").1, "the sender's own body, unchanged");
    assert_eq!(
        (accepted[0].header("x-github-event"), accepted[0].header("x-github-delivery")),
        (Some("push"), Some("d-1"))
    );
    assert_eq!(cloud.left().await, 0);
    assert!(cloud.state().await.is_empty(), "what passes at once costs no write");

    // Redelivered by hand within five minutes: one delivery.
    assert_eq!(delivery_of(&intake.http(github("push", "d-1", SECRET)).await.expect("answer")), id);
    assert_eq!(cloud.left().await, 0);

    for function in [&intake, &deliver] {
        let output = function.output().await;
        assert!(output.contains("\"level\":\"INFO\""), "logs are JSON: {output}");
        assert!(output.contains("CloudWatchMetrics"), "metrics are in the log: {output}");
        for secret in ["hunter2", accepted[0].target.as_str()] {
            assert!(!output.contains(secret), "{secret} in the log: {output}");
        }
    }
}

#[tokio::test]
async fn registry_pushes_come_in_by_url_token_and_by_eventbridge_and_out_at_the_same_receiver() {
    let cloud = Cloud::deploy().await;
    let (intake, deliver) = (cloud.function("registry-push").await, cloud.function("deliver").await);
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
    mac.update(b"sluice:hub");
    let token = data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes());
    let push = json!({
        "push_data": { "tag": "1.2.3", "pushed_at": 1_787_220_131, "pusher": "acme" },
        "repository": { "repo_name": "acme/app", "namespace": "acme", "name": "app" },
    });
    let body = push.to_string();
    let hub = |path: String| HttpEvent::post(&path).header("Content-Type", "application/json").body(body.clone());
    delivery_of(&intake.http(hub(format!("/hub/{token}"))).await.expect("answer"));
    assert_eq!(intake.http(hub("/hub/wrong".into())).await.expect("answer").status, 404);
    assert_eq!(intake.http(hub("/github".into())).await.expect("answer").status, 404, "another function's");

    let image = |region: &str, tag: &str| {
        json!({
            "version": "0", "id": format!("e-{tag}"), "detail-type": "ECR Image Action", "source": "aws.ecr",
            "account": "123456789012", "time": "2026-08-20T10:00:00Z", "region": region, "resources": [],
            "detail": {
                "action-type": "PUSH", "result": "SUCCESS", "repository-name": "acme/app", "image-tag": tag,
                "image-digest": format!("sha256:{}", "a".repeat(64)),
            },
        })
    };
    intake.invoke(image(REGION, "2.0.0")).await.expect("taken");
    intake.invoke(image("us-east-1", "3.0.0")).await.expect("nobody's, and no failure");
    assert!(cloud.trigger(&deliver).await.is_empty());
    let told: Vec<_> = cloud.receivers.accepted().iter().map(|one| one.json()).collect();
    let told: Vec<_> = told.iter().map(|event| (event["repository"].as_str(), event["tag"].as_str())).collect();
    let ecr = format!("123456789012.dkr.ecr.{REGION}.amazonaws.com/acme/app");
    assert_eq!(told, [(Some("docker.io/acme/app"), Some("1.2.3")), (Some(ecr.as_str()), Some("2.0.0"))]);

    // Where HTTP would say 503, the invocation fails, so that EventBridge tries again.
    let settings = Function::builder(binary("registry-push")).name("registry-push").timeout(Duration::from_secs(60));
    let nowhere = format!("{}/123456789012/nowhere.fifo", moto_url());
    let cut_off = settings.envs(cloud.environment()).env("SLUICE_QUEUE_URL", nowhere).start().await;
    let cut_off = cut_off.unwrap_or_else(|error| panic!("{error}"));
    assert!(cut_off.invoke(image(REGION, "4.0.0")).await.is_err());
    assert!(!intake.output().await.contains(&token), "a URL token is in the log");
}

#[tokio::test]
async fn senders_are_answered_as_the_contract_says() {
    let cloud = Cloud::deploy().await;
    let intake = cloud.function("git-webhook").await;
    let (_, body) = sample("push");
    for (status, event) in [
        (200, HttpEvent::get("/healthz")),
        (200, github("ping", "d-1", SECRET)),
        (200, github("push-tag", "d-2", SECRET)),
        (202, github("push", "d-3", SECRET).base64()),
        (202, github("push", "d-4", SECRET).function_url()),
        (401, github("push", "d-5", "another secret")),
        (401, HttpEvent::post("/github").header("X-GitHub-Event", "push").body(body)),
        (404, HttpEvent::post("/nobody").body("{}")),
        (404, HttpEvent::post("/github/token").body("{}")),
        (405, HttpEvent::get("/github")),
        (413, HttpEvent::post("/github").body(vec![b' '; 3 * 1024 * 1024 + 1])),
    ] {
        let answer = intake.http(event).await.expect("answer");
        assert_eq!(answer.status, status, "{}", answer.text());
        let kind = if status < 300 { "application/json" } else { "application/problem+json" };
        assert_eq!(answer.headers["content-type"], kind);
        if status >= 300 {
            assert_eq!(answer.json()["status"], status);
        }
    }
    assert_eq!(cloud.left().await, 2);
}

#[tokio::test]
async fn a_secret_is_rotated_without_a_deploy_and_without_losing_an_event() {
    let cloud = Cloud::deploy().await;
    let intake = cloud.function("git-webhook").await;
    delivery_of(&intake.http(github("push", "d-1", SECRET)).await.expect("answer"));
    cloud.store_secret("github", "hunter2-rotated").await;
    // The sender may have the new one at once, or still the old one.
    delivery_of(&intake.http(github("push", "d-2", "hunter2-rotated")).await.expect("answer"));
    delivery_of(&intake.http(github("push", "d-3", SECRET)).await.expect("answer"));
    assert_eq!(intake.http(github("push", "d-4", "hunter2-wrong")).await.expect("answer").status, 401);
}

#[tokio::test]
async fn what_a_receiver_does_not_take_now_it_gets_later_and_in_order() {
    let cloud = Cloud::deploy().await;
    let (intake, deliver) = (cloud.function("git-webhook").await, cloud.function("deliver").await);
    for id in ["d-1", "d-2", "d-3"] {
        delivery_of(&intake.http(github("push", id, SECRET)).await.expect("answer"));
    }
    cloud.receivers.answer_next(1, 503);
    assert_eq!(cloud.trigger(&deliver).await.len(), 3, "the two behind it wait, too");
    assert_eq!(cloud.state().await.len(), 1);
    cloud.drain(&deliver).await;
    assert_eq!(cloud.receivers.accepted().len(), 3);
    assert_eq!(cloud.arrived(), ["d-1", "d-2", "d-3"]);
    assert!(cloud.state().await.is_empty(), "what is over is forgotten");
}

#[tokio::test]
async fn what_is_refused_for_good_is_a_dead_letter_with_its_reason() {
    let cloud = Cloud::deploy().await;
    let (intake, deliver) = (cloud.function("git-webhook").await, cloud.function("deliver").await);
    let id = delivery_of(&intake.http(github("push", "d-1", SECRET)).await.expect("answer"));
    cloud.receivers.answer_next(1, 413);
    assert!(cloud.trigger(&deliver).await.is_empty());
    let letters = cloud.receive(&cloud.dead_letters).await;
    let letter = DeadLetter::decode(letters[0].body().expect("body")).expect("dead letter");
    assert_eq!(letter.delivery.expect("delivery").id, id);
    assert!(letter.reason.starts_with("413"), "{}", letter.reason);
    assert_eq!(cloud.left().await, 0);
}

#[tokio::test]
async fn a_function_killed_in_mid_batch_loses_nothing() {
    let cloud = Cloud::deploy().await;
    let (intake, deliver) = (cloud.function("git-webhook").await, cloud.function("deliver").await);
    for id in ["d-1", "d-2"] {
        delivery_of(&intake.http(github("push", id, SECRET)).await.expect("answer"));
    }
    cloud.receivers.delay(Duration::from_secs(60));
    let messages = cloud.receive(&cloud.queue).await;
    let begun = deliver.begin(sqs_event(&queue_arn(&cloud.queue, REGION), &messages));
    cloud.receivers.wait_for_requests(1).await;
    deliver.kill().await;
    assert!(begun.answer().await.is_err());
    cloud.receivers.delay(Duration::ZERO);
    cloud.receivers.forget();
    // The platform would wait for the visibility time-out.
    cloud.expire(&messages).await;
    let deliver = deliver.start_again().await.unwrap_or_else(|error| panic!("{error}"));
    assert!(cloud.trigger(&deliver).await.is_empty());
    assert_eq!(cloud.receivers.accepted().len(), 2);
    assert_eq!(cloud.arrived(), ["d-1", "d-2"]);
}

#[tokio::test]
async fn there_is_no_2xx_before_the_queue_has_everything_and_what_is_sent_again_meanwhile_is_queued_once() {
    let cloud = Cloud::deploy().await;
    let faults = Faults::before(moto_url()).await;
    let mut relay = cloud.relay_file();
    relay["targets"]["second"] = relay["targets"]["prod"].clone();
    relay["routes"][0]["to"] = json!(["prod", "second"]);
    let settings = Function::builder(binary("git-webhook")).name("git-webhook").timeout(Duration::from_secs(60));
    let settings = settings.envs(cloud.environment()).env("AWS_ENDPOINT_URL", &faults.url);
    let intake = settings.env("SLUICE_CONFIG", relay.to_string()).start().await;
    let intake = intake.unwrap_or_else(|error| panic!("{error}"));
    let mut queued = 0;
    for (i, fault) in [Fault::Throttled, Fault::Down, Fault::Partial, Fault::Unanswered].into_iter().enumerate() {
        let event = || github("push", &format!("d-{i}"), SECRET);
        faults.at("AmazonSQS.SendMessageBatch", fault);
        let answer = intake.http(event()).await.expect("answer");
        match fault {
            // What was not taken of a call is sent at once in another one.
            Fault::Partial => assert_eq!(answer.status, 202, "{}", answer.text()),
            _ => {
                assert_eq!(answer.status, 503, "{fault:?}: {}", answer.text());
                assert_eq!(answer.headers["retry-after"], "5");
            }
        }
        faults.over();
        assert_eq!(intake.http(event()).await.expect("answer").status, 202, "{fault:?}");
        queued += 2;
        assert_eq!(cloud.left().await, queued, "{fault:?}");
    }
}

#[tokio::test]
async fn messages_that_are_handed_out_again_while_they_are_being_sent_arrive_in_order_and_leave_the_queue() {
    let cloud = Cloud::deploy().await;
    let (intake, first) = (cloud.function("git-webhook").await, cloud.function("deliver").await);
    let second = cloud.function("deliver").await;
    for id in ["d-1", "d-2", "d-3"] {
        delivery_of(&intake.http(github("push", id, SECRET)).await.expect("answer"));
    }
    cloud.receivers.delay(Duration::from_millis(300));
    let messages = cloud.receive(&cloud.queue).await;
    let begun = first.begin(sqs_event(&queue_arn(&cloud.queue, REGION), &messages));
    cloud.receivers.wait_for_requests(1).await;
    // Its time is over while it is on its way, and another environment gets it, too.
    cloud.expire(&messages).await;
    let event = cloud.batch().await.expect("handed out again");
    second.invoke(event).await.expect("worked on");
    begun.answer().await.expect("worked on");
    cloud.drain(&second).await;
    let accepted = cloud.receivers.accepted().len();
    assert!((4..=6).contains(&accepted), "{accepted}");
    assert_eq!(cloud.arrived(), ["d-1", "d-2", "d-3"]);
    cloud.receivers.assert_nothing_rejected();
}

#[tokio::test]
async fn records_of_a_batch_that_are_out_of_order_arrive_in_the_order_in_which_they_were_queued() {
    let cloud = Cloud::deploy().await;
    let (intake, deliver) = (cloud.function("git-webhook").await, cloud.function("deliver").await);
    let ids = ["d-1", "d-2", "d-3", "d-4"];
    for id in ids {
        delivery_of(&intake.http(github("push", id, SECRET)).await.expect("answer"));
    }
    let mut messages = cloud.receive(&cloud.queue).await;
    messages.reverse();
    cloud.receivers.answer_next(1, 503);
    let event = sqs_event(&queue_arn(&cloud.queue, REGION), &messages);
    let kept = batch_item_failures(&deliver.invoke(event).await.expect("worked on"));
    assert_eq!(kept.len(), 4, "all others wait behind the first, wherever it stood");
    cloud.drain(&deliver).await;
    assert_eq!(cloud.arrived(), ids);
}

#[tokio::test]
async fn what_cannot_be_deleted_held_or_counted_now_is_not_lost() {
    let cloud = Cloud::deploy().await;
    let faults = Faults::before(moto_url()).await;
    let intake = cloud.function("git-webhook").await;
    let deliver = cloud.function_at("deliver", &faults.url).await;
    let operations = ["AmazonSQS.DeleteMessage", "AmazonSQS.ChangeMessageVisibility", "DynamoDB"];
    let mut sent = Vec::new();
    for (i, operation) in operations.into_iter().enumerate() {
        let ids = [format!("d-{i}-1"), format!("d-{i}-2")];
        for id in &ids {
            delivery_of(&intake.http(github("push", id, SECRET)).await.expect("answer"));
        }
        sent.extend(ids);
        faults.at(operation, Fault::Throttled);
        cloud.receivers.answer_next(usize::from(i > 0), 503);
        let messages = cloud.receive(&cloud.queue).await;
        let event = sqs_event(&queue_arn(&cloud.queue, REGION), &messages);
        let kept = batch_item_failures(&deliver.invoke(event).await.expect("worked on"));
        // What was delivered is the platform's to delete; what was not stays.
        assert_eq!(kept.len(), if i > 0 { 2 } else { 0 }, "{operation}");
        faults.over();
        cloud.expire(&messages).await;
        cloud.drain(&deliver).await;
        assert_eq!(cloud.arrived(), sent, "{operation}");
    }
    assert_eq!(cloud.in_queue(&cloud.dead_letters).await, 0);
}

#[tokio::test]
async fn while_the_secret_store_is_down_deliveries_wait_and_while_it_is_slow_they_arrive() {
    let cloud = Cloud::deploy().await;
    let faults = Faults::before(moto_url()).await;
    let intake = cloud.function("git-webhook").await;
    for id in ["d-1", "d-2"] {
        delivery_of(&intake.http(github("push", id, SECRET)).await.expect("answer"));
    }
    for fault in [Fault::Down, Fault::Throttled] {
        faults.at("secretsmanager", fault);
        let deliver = cloud.function_at("deliver", &faults.url).await;
        assert_eq!(cloud.trigger(&deliver).await.len(), 2, "{fault:?}");
    }
    assert!(cloud.receivers.requests().is_empty());
    faults.at("secretsmanager", Fault::Slow(Duration::from_secs(1)));
    let deliver = cloud.function_at("deliver", &faults.url).await;
    cloud.drain(&deliver).await;
    assert_eq!(cloud.arrived(), ["d-1", "d-2"]);
    assert_eq!(cloud.in_queue(&cloud.dead_letters).await, 0);
}

#[tokio::test]
async fn a_poison_message_is_a_dead_letter_and_those_behind_it_pass_in_order() {
    let cloud = Cloud::deploy().await;
    let (intake, deliver) = (cloud.function("git-webhook").await, cloud.function("deliver").await);
    let poison = cloud.sqs.send_message().queue_url(&cloud.queue).message_group_id("prod");
    poison.message_deduplication_id("poison").message_body("\u{7f}{{{").send().await.expect("sent");
    for id in ["d-1", "d-2", "d-3"] {
        delivery_of(&intake.http(github("push", id, SECRET)).await.expect("answer"));
    }
    assert!(cloud.trigger(&deliver).await.is_empty());
    assert_eq!(cloud.arrived(), ["d-1", "d-2", "d-3"]);
    let letters = cloud.receive(&cloud.dead_letters).await;
    let letter = DeadLetter::decode(letters[0].body().expect("body")).expect("dead letter");
    assert_eq!((letters.len(), letter.class), (1, GivenUp::Undeliverable));
    assert_eq!(cloud.left().await, 0);
}

#[tokio::test]
async fn without_its_queue_the_function_answers_503_and_never_2xx() {
    let cloud = Cloud::deploy().await;
    let settings = Function::builder(binary("git-webhook")).name("git-webhook").timeout(Duration::from_secs(60));
    let nowhere = format!("{}/123456789012/nowhere.fifo", moto_url());
    let intake = settings.envs(cloud.environment()).env("SLUICE_QUEUE_URL", nowhere).start().await;
    let intake = intake.unwrap_or_else(|error| panic!("{error}"));
    let answer = intake.http(github("push", "d-1", SECRET)).await.expect("answer");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers["retry-after"], "5");
}

#[tokio::test]
async fn a_relay_file_with_problems_ends_the_start_and_the_log_names_them() {
    let cloud = Cloud::deploy().await;
    let wrong = r#"{"sources":{"github":{"type":"githib"}}}"#;
    let settings = Function::builder(binary("git-webhook")).name("git-webhook").timeout(Duration::from_secs(60));
    let started = settings.envs(cloud.environment()).env("SLUICE_CONFIG", wrong).start().await;
    let Err(error) = started else { panic!("it started") };
    assert!(error.to_string().contains("did you mean `github`?"), "{error}");
}

#[tokio::test]
async fn an_ecr_push_invokes_the_function_and_comes_out_at_the_receiver() {
    let cloud = Cloud::deploy().await;
    let (intake, deliver) = (cloud.function("registry-push").await, cloud.function("deliver").await);
    let event: Value = serde_json::from_str(include_str!("../events/ecr/image-push.json")).expect("JSON");
    let answers = intake.invoke(event.clone()).await.expect("taken");
    assert_eq!((&answers[0]["source"], answers[0]["deliveries"].as_array().map(Vec::len)), (&json!("ecr"), Some(1)));
    // EventBridge delivers at least once.
    intake.invoke(event.clone()).await.expect("taken");
    assert!(cloud.trigger(&deliver).await.is_empty());
    assert_eq!(cloud.receivers.accepted().len(), 1);
    assert_eq!(cloud.left().await, 0);

    // Of no use, and nobody's: both succeed, as trying again would not help.
    let deleted: Value = serde_json::from_str(include_str!("../events/ecr/image-delete.json")).expect("JSON");
    assert_eq!(intake.invoke(deleted).await.expect("taken")[0]["ignored"], "not a push to the registry");
    let stranger = json!({ "detail-type": "Object Created", "source": "aws.s3", "detail": {} });
    assert_eq!(intake.invoke(stranger).await.expect("taken")[0]["event"], "aws.s3 Object Created");
    assert!(intake.output().await.contains("no source claims this event"));
    assert!(intake.invoke(json!({ "no": "event" })).await.is_err());

    // Not stored, so not taken.
    cloud.sqs.delete_queue().queue_url(&cloud.queue).send().await.expect("deleted");
    let error = intake.invoke(event).await.expect_err("the queue is gone").to_string();
    assert!(error.contains("503"), "{error}");
}

#[tokio::test]
async fn a_token_that_google_signed_is_checked_by_the_keys_that_it_publishes() {
    let cloud = Cloud::deploy().await;
    let intake = cloud.function("registry-push").await;
    let now = jiff::Timestamp::now().as_second();
    let notice = |email: &str| {
        let claims = json!({
            "iss": "https://accounts.google.com", "aud": "https://relay.example.com/gcr", "email": email,
            "email_verified": true, "iat": now, "exp": now + 3600,
        });
        let token = jwt::sign(&claims, &Secret::new(keys().to_string())).expect("signed");
        let body = include_bytes!("../events/gcr/wrapped-insert.json");
        HttpEvent::post("/gcr").header("Authorization", &format!("Bearer {token}")).body(body.as_slice())
    };
    delivery_of(&intake.http(notice("a@b.example")).await.expect("answer"));
    assert_eq!(intake.http(notice("other@b.example")).await.expect("answer").status, 401);
    let output = intake.output().await;
    assert!(!output.contains("eyJ"), "a token in the log: {output}");
}

/// A running `sluice agent`, killed when it is dropped.
struct Agent {
    child: std::process::Child,
    url: String,
}

impl Agent {
    fn start(cloud: &Cloud, relay: &Value) -> Self {
        use std::io::BufRead as _;
        let mut command = std::process::Command::new(binary("sluice"));
        command.args(["agent", "--name", "inside", "--listen", "127.0.0.1:0"]).envs(cloud.environment());
        command.env("SLUICE_CONFIG", relay.to_string()).env("AWS_EC2_METADATA_DISABLED", "true");
        let mut child =
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().expect("agent");
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("text");
        let url = line.split("/healthz").next().and_then(|said| said.rfind("http://").map(|at| said[at..].to_owned()));
        Self { child, url: url.expect("it says where its health is") }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream =
            tokio::net::TcpStream::connect(self.url.trim_start_matches("http://")).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        (answer[9..12].parse().expect("status"), answer)
    }

    /// Asks it to stop, and waits until it has.
    async fn stop(mut self) -> bool {
        let asked = std::process::Command::new("kill").arg(self.child.id().to_string()).status().expect("kill");
        assert!(asked.success());
        tokio::task::spawn_blocking(move || self.child.wait().expect("ended").success()).await.expect("waited")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn an_agent_delivers_inside_its_network_and_stops_without_losing_or_repeating_anything() {
    let cloud = Cloud::deploy().await;
    let mut relay = cloud.relay_file();
    relay["targets"]["prod"]["agent"] = "inside".into();
    let queues = json!({ "inside": cloud.queue }).to_string();
    // The delivery queue itself is not there: what is the agent's does not touch it.
    let nowhere = format!("{}/123456789012/nowhere.fifo", moto_url());
    let settings = Function::builder(binary("git-webhook")).name("git-webhook").timeout(Duration::from_secs(60));
    let settings = settings.envs(cloud.environment()).env("SLUICE_CONFIG", relay.to_string());
    let without = settings.clone().start().await;
    assert!(without.is_err_and(|error| error.to_string().contains("SLUICE_AGENT_QUEUES has no queue")));
    let settings = settings.env("SLUICE_QUEUE_URL", nowhere).env("SLUICE_AGENT_QUEUES", queues);
    let intake = settings.start().await.unwrap_or_else(|error| panic!("{error}"));

    relay["sources"] = json!({});
    relay["routes"] = json!([]);
    let agent = Agent::start(&cloud, &relay);
    delivery_of(&intake.http(github("push", "d-1", SECRET)).await.expect("answer"));
    cloud.receivers.wait_for_accepted(1).await;
    assert_eq!(agent.get("/healthz").await.0, 200);
    // The Receiver has it a moment before its answer is counted.
    let counted =
        async { while !agent.get("/metrics").await.1.contains("sluice_deliveries_total{target=\"prod\"} 1") {} };
    tokio::time::timeout(Duration::from_secs(20), counted).await.expect("it is counted");
    assert_eq!(agent.get("/github").await.0, 404, "there is no way in");

    // Asked to stop in the middle of a delivery, with more behind it.
    cloud.receivers.delay(Duration::from_millis(500));
    for id in ["d-2", "d-3", "d-4"] {
        delivery_of(&intake.http(github("push", id, SECRET)).await.expect("answer"));
    }
    cloud.receivers.wait_for_requests(2).await;
    assert!(agent.stop().await, "a clean end");
    cloud.receivers.delay(Duration::ZERO);
    let _agent = Agent::start(&cloud, &relay);
    let accepted = cloud.receivers.wait_for_accepted(4).await;
    let order: Vec<_> = accepted.iter().map(|one| one.header("x-github-delivery").expect("id")).collect();
    assert_eq!(order, ["d-1", "d-2", "d-3", "d-4"], "each once, and in order");
}
