//! A deployment in an emulated AWS, for tests: function binaries under a Lambda runtime emulator, with queues, table and
//! secrets of their own, and Flux's Receivers to deliver to.
#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName};
use aws_sdk_ssm::types::ParameterType;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sluice::domain::secret::Secret;
use sluice::rim::aws::from_variables;
use sluice::source::jwt;
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::lambda::{Function, HttpEvent, Settings, batch_item_failures, binary, queue_arn, sqs_event};
use super::moto::Moto;
use super::receiver::{FluxReceivers, Receiver};

pub const REGION: &str = "eu-central-1";
/// The Receivers' token.
pub const TOKEN: &str = "hunter2-receiver-token";
/// The secret of the sources.
pub const SECRET: &str = "hunter2-github-secret";

/// The emulated AWS, one for all tests of a file.
pub fn moto() -> &'static Moto {
    static MOTO: OnceLock<Moto> = OnceLock::new();
    MOTO.get_or_init(Moto::start)
}

/// One deployment of its own in the shared cloud.
pub struct Cloud {
    /// What makes its names its own.
    pub prefix: String,
    pub queue: String,
    pub dead_letters: String,
    pub sqs: aws_sdk_sqs::Client,
    pub ssm: aws_sdk_ssm::Client,
    pub secrets: aws_sdk_secretsmanager::Client,
    pub dynamodb: aws_sdk_dynamodb::Client,
    pub receivers: FluxReceivers,
    /// Where the issuer of tokens publishes its keys.
    pub key_set: String,
}

impl Cloud {
    pub async fn deploy() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("e2e{}", NUMBER.fetch_add(1, Ordering::SeqCst));
        let sdk = from_variables(|name| match name {
            "AWS_REGION" => Some(REGION.into()),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("test".into()),
            "AWS_ENDPOINT_URL" => Some(moto().url()),
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
        let secrets = aws_sdk_secretsmanager::Client::new(sdk.config());
        let key_set = publish_keys().await;
        let cloud = Self { prefix, queue, dead_letters, sqs, ssm, secrets, dynamodb, receivers, key_set };
        cloud.store_secret("github", SECRET).await;
        cloud.secrets.create_secret().name(format!("{}/cluster", cloud.prefix)).send().await.expect("secret");
        cloud.store_token(TOKEN).await;
        let parameter =
            cloud.ssm.put_parameter().name(format!("/{}/relay", cloud.prefix)).r#type(ParameterType::String);
        parameter.value(cloud.relay_file().to_string()).send().await.expect("relay file");
        cloud
    }

    pub async fn store_secret(&self, name: &str, value: &str) {
        let parameter = self.ssm.put_parameter().name(format!("/{}/{name}", self.prefix)).value(value);
        parameter.r#type(ParameterType::SecureString).overwrite(true).send().await.expect("parameter");
    }

    /// Stores the Receivers' token.
    pub async fn store_token(&self, token: &str) {
        let value = json!({ "receiver": { "token": token } }).to_string();
        let put = self.secrets.put_secret_value().secret_id(format!("{}/cluster", self.prefix));
        put.secret_string(value).send().await.expect("secret");
    }

    pub fn relay_file(&self) -> Value {
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

    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("SLUICE_CONFIG", format!("ssm:/{}/relay:1", self.prefix)),
            ("SLUICE_QUEUE_URL", self.queue.clone()),
            ("SLUICE_DEAD_LETTER_URL", self.dead_letters.clone()),
            ("SLUICE_STATE_TABLE", self.prefix.clone()),
            ("AWS_ENDPOINT_URL", moto().url()),
            ("AWS_REGION", REGION.into()),
            // By which the cloud tells who made a call.
            ("AWS_ACCESS_KEY_ID", self.prefix.clone()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
            ("AWS_LAMBDA_LOG_LEVEL", "DEBUG".into()),
            ("NO_PROXY", "127.0.0.1".into()),
        ]
    }

    pub fn settings(&self, name: &str) -> Settings {
        Function::builder(binary(name)).name(name).timeout(Duration::from_secs(60)).envs(self.environment())
    }

    pub async fn function(&self, name: &str) -> Function {
        self.function_with(name, &[]).await
    }

    /// The function with other variables besides or in place of its own.
    pub async fn function_with(&self, name: &str, variables: &[(&str, &str)]) -> Function {
        let settings = self.settings(name).envs(variables.iter().copied());
        settings.start().await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Takes messages off the queue as the trigger does, again and again, until there are none.
    pub async fn drain(&self, deliver: &Function) {
        while self.left().await > 0 {
            if let Some(event) = self.batch().await {
                deliver.invoke(event).await.expect("worked on");
            }
        }
    }

    /// What the receiver took, by the senders' ids, each at its first arrival.
    pub fn arrived(&self) -> Vec<String> {
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
    pub async fn expire(&self, messages: &[aws_sdk_sqs::types::Message]) {
        for message in messages {
            let handle = message.receipt_handle().expect("handle");
            let change = self.sqs.change_message_visibility().queue_url(&self.queue).receipt_handle(handle);
            change.visibility_timeout(0).send().await.expect("visible");
        }
    }

    /// Takes messages off the queue as the trigger of the function does, and hands them to it.
    pub async fn trigger(&self, deliver: &Function) -> Vec<String> {
        let event = self.batch().await.expect("a message is waiting");
        batch_item_failures(&deliver.invoke(event).await.expect("the batch was worked on"))
    }

    pub async fn batch(&self) -> Option<Value> {
        let messages = self.receive(&self.queue).await;
        (!messages.is_empty()).then(|| sqs_event(&queue_arn(&self.queue, REGION), &messages))
    }

    /// What is waiting, or comes within less than a call of the SDK may take.
    pub async fn receive(&self, queue: &str) -> Vec<aws_sdk_sqs::types::Message> {
        let received = self
            .sqs
            .receive_message()
            .queue_url(queue)
            .max_number_of_messages(10)
            // Less than an attempt may take, or an empty queue is an error.
            .wait_time_seconds(3)
            .message_system_attribute_names(MessageSystemAttributeName::All);
        received.send().await.expect("received").messages.unwrap_or_default()
    }

    /// Messages that are in the delivery queue, in flight ones included.
    pub async fn left(&self) -> u32 {
        self.in_queue(&self.queue).await
    }

    pub async fn in_queue(&self, queue: &str) -> u32 {
        let attributes = self.sqs.get_queue_attributes().queue_url(queue).attribute_names(QueueAttributeName::All);
        let attributes = attributes.send().await.expect("attributes").attributes.expect("attributes");
        let number = |name: QueueAttributeName| attributes[&name].parse::<u32>().expect("number");
        number(QueueAttributeName::ApproximateNumberOfMessages)
            + number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)
    }

    pub async fn state(&self) -> Vec<String> {
        let items = self.dynamodb.scan().table_name(&self.prefix).send().await.expect("scan").items.unwrap_or_default();
        items.iter().map(|item| format!("{item:?}")).collect()
    }
}

/// The throw-away keys as their owner publishes them; the private parts are not used by who checks.
fn keys() -> Value {
    json!({ "keys": [serde_json::from_str::<Value>(include_str!("../data/throw-away-rsa-keys.json")).expect("JSON")[0]] })
}

async fn publish_keys() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/certs", listener.local_addr().expect("address"));
    let certs = axum::routing::get(|| async { axum::Json(keys()) });
    let published = axum::Router::new().route("/certs", certs);
    tokio::spawn(async move { axum::serve(listener, published).await });
    url
}

/// A notice of Pub/Sub about an image, with the token that Google signs in this account's name, and that token.
pub fn google(email: &str) -> (String, HttpEvent) {
    let now = jiff::Timestamp::now().as_second();
    let claims = json!({
        "iss": "https://accounts.google.com", "aud": "https://relay.example.com/gcr", "email": email,
        "email_verified": true, "iat": now, "exp": now + 3600,
    });
    let token = jwt::sign(&claims, &Secret::new(keys().to_string())).expect("signed");
    let body = include_bytes!("../../events/gcr/wrapped-insert.json");
    let event = HttpEvent::post("/gcr").header("Authorization", &format!("Bearer {token}")).body(body.as_slice());
    (token, event)
}

/// HMAC-SHA256 in hexadecimal.
pub fn mac(secret: &str, text: &[u8]) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(text);
    data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes())
}

/// A running `sluice agent`, named `inside`, killed when it is dropped.
pub struct Agent {
    child: Child,
    url: String,
    log: NamedTempFile,
}

impl Agent {
    /// One with this relay file, on the deployment's queue, and with other variables besides or in place of its own.
    pub fn start(cloud: &Cloud, relay: &Value, variables: &[(&str, String)]) -> Self {
        let mut command = Command::new(binary("sluice"));
        command.args(["agent", "--name", "inside", "--listen", "127.0.0.1:0"]).envs(cloud.environment());
        command.env("SLUICE_CONFIG", relay.to_string()).env("AWS_EC2_METADATA_DISABLED", "true");
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let log = NamedTempFile::new().expect("log");
        command.stdout(Stdio::piped()).stderr(log.reopen().expect("log"));
        let mut child = command.spawn().expect("agent");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("text");
        let url = line.split("/healthz").next().and_then(|said| said.rfind("http://").map(|at| said[at..].to_owned()));
        Self { child, url: url.expect("it says where its health is"), log }
    }

    /// The status, and the whole answer.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.url.trim_start_matches("http://")).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        (answer[9..12].parse().expect("status"), answer)
    }

    /// What it has written.
    pub fn log(&self) -> Vec<u8> {
        std::fs::read(self.log.path()).expect("log")
    }

    /// Asks it to stop, and waits until it has.
    pub async fn stop(mut self) -> bool {
        let asked = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill");
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
