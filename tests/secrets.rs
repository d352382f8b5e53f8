//! No secret, and nothing that stands for one, is in anything that `sluice serve`, the functions or an agent write or say: everything
//! is driven with secrets that can be recognised, at the level of logs at which the most is said, and then searched for
//! them. What the module for OpenTofu keeps is searched in tests/infra.rs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

#[path = "support/cloud.rs"]
mod cloud;
#[path = "support/lambda.rs"]
mod lambda;
#[path = "support/moto.rs"]
mod moto;
#[path = "support/needles.rs"]
mod needles;
#[path = "support/receiver.rs"]
mod receiver;
#[path = "support/repeater.rs"]
mod repeater;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cloud::{Agent, Cloud, REGION, TOKEN, google, mac, moto};
use lambda::{Function, HttpAnswer, HttpEvent};
use needles::Needles;
use repeater::{FORGED, Repeater, SAMPLES, TOLD_EVERYWHERE};
use serde_json::{Value, json};
use sluice::domain::secret::{Resolved, Secret};
use sluice::relay::Relay;
use sluice::rim::local::samples;
use sluice::rim::yaml;
use sluice::source::{self, Request, Via};

/// How long everything may take that has to come to an end.
const PATIENCE: Duration = Duration::from_secs(90);

fn sluice() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("SLUICE_CONFIG").stdin(Stdio::null());
    command.env("AWS_LAMBDA_LOG_LEVEL", "TRACE");
    command
}

/// A running `sluice serve`, killed when it is dropped.
struct Serve {
    child: Child,
    url: String,
}

impl Serve {
    fn start(folder: &Path, variables: Vec<(&str, String)>) -> Self {
        let mut command = sluice();
        command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(folder.join("relay.yaml"));
        command.arg("--data").arg(folder.join("data")).envs(variables).env("AWS_REGION", REGION);
        command.env("AWS_ACCESS_KEY_ID", "serve").env("AWS_EC2_METADATA_DISABLED", "true");
        command.stderr(fs::File::create(folder.join("log")).expect("log"));
        let mut child = command.stdout(Stdio::piped()).spawn().expect("started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("text");
        let url = line.split(' ').find(|word| word.starts_with("http://")).expect("it says where it listens");
        Self { url: url.to_owned(), child }
    }

    fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.url.trim_start_matches("http://")).expect("connected");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }

    fn stop(mut self) {
        let done = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill");
        assert!(done.success() && self.child.wait().expect("ended").success());
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dead_letters(folder: &Path, arguments: &[&str]) -> Value {
    let mut command = sluice();
    command.arg("dead-letters").args(arguments).args(["--json", "--data"]).arg(folder.join("data"));
    serde_json::from_slice(&command.output().expect("run").stdout).expect("JSON")
}

fn every_file(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path());
    entries
        .flat_map(|path| if path.is_dir() { every_file(&path) } else { vec![path] })
        .filter(|path| path.is_file())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_nothing_that_stands_for_one_is_in_logs_answers_queues_dead_letters_or_state() {
    let folder = tempfile::tempdir().expect("folder");
    let folder = folder.path();
    let repeater = Repeater::start().await;
    let mut needles = repeater.needles();
    for (name, value) in repeater.secrets() {
        fs::write(folder.join(name), value).expect("secret");
    }
    fs::write(folder.join("relay.yaml"), repeater.relay_file(&format!("file:{}", folder.display())))
        .expect("relay file");
    let serve = Serve::start(folder, repeater.variables());

    // What is taken, what is refused, and what is nonsense.
    let mut said = Vec::new();
    let mut deliveries = BTreeSet::new();
    for (source, sample) in SAMPLES {
        let mut command = sluice();
        command.args(["send", source, sample, "--url", &serve.url, "--config"]).arg(folder.join("relay.yaml"));
        let output = command.output().expect("run");
        let printed = String::from_utf8(output.stdout).expect("text");
        assert!(printed.starts_with("202\n"), "{source}: {printed} {}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_str(printed.split_once('\n').expect("lines").1).expect("JSON");
        let told = answer["deliveries"].as_array().expect("deliveries").iter();
        deliveries.extend(
            told.filter(|one| Repeater::gives_up(one["target"].as_str().expect("a name")))
                .map(|one| one["id"].to_string()),
        );
        said.push(printed);
    }
    for (path, header, value) in FORGED {
        for body in ["hunter2-forged", "{\"token\": \"hunter2-forged\"}"] {
            let length = body.len();
            let request = format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{header}: {value}\r\n\r\n{body}"
            );
            let answer = serve.raw(&request);
            assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
            said.push(answer);
        }
    }

    // Until all is given up but what waits for somebody to mend its target, and an operator is told of that.
    let patience = Instant::now() + PATIENCE;
    let letters = loop {
        let letters = dead_letters(folder, &["list"]);
        let ids: BTreeSet<_> =
            letters["letters"].as_array().expect("letters").iter().map(|one| one["id"].to_string()).collect();
        let log = fs::read_to_string(folder.join("log")).expect("log");
        if deliveries.is_subset(&ids) && log.contains("the breaker opens") {
            break letters;
        }
        assert!(Instant::now() < patience, "{} of {}: {log}", ids.len(), deliveries.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    for letter in letters["letters"].as_array().expect("letters") {
        said.push(dead_letters(folder, &["show", letter["id"].as_str().expect("id")]).to_string());
    }
    said.push(letters.to_string());
    said.push(serve.raw("GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"));
    serve.stop();

    // What stood for secrets on the way out, too.
    repeater.add_what_came_to(&mut needles);
    for text in &said {
        needles.assert_none_in("an answer", text.as_bytes());
    }
    needles.assert_none_in("the log", &fs::read(folder.join("log")).expect("log"));
    let files = every_file(&folder.join("data"));
    assert!(!files.is_empty());
    for file in files {
        needles.assert_none_in(&file.display().to_string(), &fs::read(&file).expect("file"));
    }
}

/// A sample as its sender sends it under this delivery id, if it has one. What in it stands for the secret is added to
/// `needles`.
fn sent(relay: &Relay, source: &str, sample: &str, secret: &str, id: &str, needles: &mut Needles) -> HttpEvent {
    let (name, entry) = relay.sources.get_key_value(source).expect("source");
    let sample = samples::read(&samples::find(sample).expect("a sample")).expect("readable");
    let mut request = Request {
        via: Via::Http,
        source: name.clone(),
        token: None,
        method: http::Method::POST,
        headers: sample.headers,
        body: sample.body,
        address: None,
    };
    if let Some(delivery) = request.headers.get_mut("x-github-delivery") {
        *delivery = id.parse().expect("a header");
    }
    let mut secrets = Resolved::default();
    for reference in entry.secrets() {
        secrets.insert(reference.clone(), vec![Secret::new(secret)]);
    }
    entry.source.sign(&mut request, &secrets, jiff::Timestamp::now()).expect("signed");
    repeater::credentials(needles, source, &request.headers);
    let mut path = format!("/{source}");
    if entry.url_secret().is_some() {
        let token = mac(secret, format!("sluice:{source}").as_bytes());
        needles.exactly("a URL token", &token);
        path = format!("{path}/{token}");
    }
    let headers = request.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text")));
    HttpEvent::post(&path).headers(headers).body(request.body)
}

/// The topic of CloudWatch's alarms.
const TOPIC: &str = "arn:aws:sns:eu-west-1:111122223333:alerts";

async fn function(cloud: &Cloud, name: &str, variables: &[(&str, String)]) -> Function {
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    cloud.function_with(name, &variables).await
}

/// How many dead letters there will be of what was relayed.
fn letters(answer: &HttpAnswer) -> u32 {
    let answer = answer.json();
    let told = answer["deliveries"].as_array().into_iter().flatten().filter_map(|one| one["target"].as_str());
    u32::try_from(told.filter(|target| *target != "prod" && Repeater::gives_up(target)).count()).expect("few")
}

/// A cloud that has the secrets of targets that repeat what they are sent, those targets, and their relay file.
async fn repeated() -> (Cloud, Repeater, Value) {
    let cloud = Cloud::deploy().await;
    let repeater = Repeater::start().await;
    for (name, value) in repeater.secrets() {
        cloud.store_secret(name, &value).await;
    }
    let file = yaml::parse(&repeater.relay_file(&format!("ssm:/{}", cloud.prefix)));
    (cloud, repeater, file.expect("YAML").value)
}

/// All functions, with targets that repeat what they are sent, and what came of it.
struct Searched {
    cloud: Cloud,
    repeater: Repeater,
    relay: Relay,
    /// The relay file as the functions have it.
    file: String,
    functions: BTreeMap<&'static str, Function>,
    needles: Needles,
    /// Answers, results and errors of invocations, and messages as they stood in the queues.
    said: Vec<String>,
    /// How many dead letters there will be.
    letters: u32,
}

impl Searched {
    async fn start() -> Self {
        let (cloud, repeater, mut file) = repeated().await;
        let (mut needles, own) = (repeater.needles(), cloud.relay_file());
        file["sources"]["gcr"] = own["sources"]["gcr"].clone();
        file["sources"]["alarms"] = json!({ "type": "cloudwatch", "topics": TOPIC });
        file["targets"]["prod"] = own["targets"]["prod"].clone();
        needles.secret("prod", TOKEN);
        let own = json!({ "from": "github", "to": ["prod", "pushes"] });
        file["routes"] = json!([file["routes"][0], own, { "to": "bearer" }]);
        let relay = Relay::from_value(&file).expect("a relay file");
        let file = file.to_string();
        let variables = [vec![("SLUICE_CONFIG", file.clone())], repeater.variables()].concat();
        let mut functions = BTreeMap::new();
        for name in ["git-webhook", "registry-push", "alert-intake", "deliver", "probe"] {
            functions.insert(name, function(&cloud, name, &variables).await);
        }
        Self { cloud, repeater, relay, file, functions, needles, said: Vec::new(), letters: 0 }
    }

    /// Sends a request as the front door does, and counts what will become a dead letter.
    async fn send(&mut self, event: HttpEvent) -> u16 {
        let event = event.to_value();
        let source = event["rawPath"].as_str().and_then(|path| path.split('/').nth(1)).unwrap_or_default();
        let function = match self.relay.sources.get(source).map(|entry| entry.function()) {
            Some(source::Function::RegistryPush) => "registry-push",
            Some(source::Function::AlertIntake) => "alert-intake",
            Some(source::Function::GitWebhook) | None => "git-webhook",
        };
        let answer = self.functions[function].http(event).await.expect("answer");
        self.letters += letters(&answer);
        self.said.push(format!("{:?} {}", answer.headers, answer.text()));
        answer.status
    }

    /// Sends a sample to its source, signed with this secret.
    async fn send_sample(&mut self, source: &str, sample: &str, secret: &str, id: &str) {
        let event = sent(&self.relay, source, sample, secret, id, &mut self.needles);
        assert_eq!(self.send(event).await, 202, "{source}: {:?}", self.said.last());
    }

    /// Delivers until there is nothing left but what waits for somebody to mend its target.
    async fn deliver(&mut self) {
        let work = async {
            while self.cloud.in_queue(&self.cloud.dead_letters).await < self.letters {
                if let Some(event) = self.cloud.batch().await {
                    self.said.push(event.to_string());
                    self.said.push(self.functions["deliver"].invoke(event).await.expect("worked on").to_string());
                }
            }
        };
        tokio::time::timeout(PATIENCE, work).await.expect("everything comes to an end");
    }

    /// SNS shows a signature and, where it asks for a confirmation, a token.
    async fn take_messages_of_sns(&mut self) {
        let alarm = include_str!("../events/cloudwatch/sns-alarm.json");
        let mut alarm: Value = serde_json::from_str(alarm).expect("JSON");
        alarm["Signature"] = "hunter2-signature".into();
        let notice = json!({ "Records": [{ "EventSource": "aws:sns", "EventVersion": "1.0", "Sns": alarm }] });
        let taken = self.functions["alert-intake"].invoke(notice.clone()).await.expect("taken");
        assert_eq!(taken[0]["deliveries"].as_array().map(Vec::len), Some(1), "{taken}");
        self.letters += 1;
        self.said.push(taken.to_string());
        alarm["Type"] = "SubscriptionConfirmation".into();
        alarm["Token"] = "hunter2-token".into();
        alarm["SubscribeURL"] = "https://sns.eu-west-1.amazonaws.com/?Token=hunter2-token".into();
        // Not SNS's place for certificates, so that none is fetched.
        alarm["SigningCertURL"] = "https://sns.example.com/certificate.pem".into();
        let posted = HttpEvent::post("/alarms").header("x-amz-sns-message-type", "SubscriptionConfirmation");
        let status = self.send(posted.body(alarm.to_string())).await;
        assert!((400..500).contains(&status), "{status}: {:?}", self.said.last());

        // What cannot be queued, and what is no event, fails the invocation.
        let nowhere = format!("{}/123456789012/nowhere.fifo", moto().url());
        let variables = [("SLUICE_CONFIG", &*self.file), ("SLUICE_QUEUE_URL", &*nowhere)];
        let cut_off = self.cloud.function_with("alert-intake", &variables).await;
        for event in [notice, json!({ "token": "hunter2-forged" })] {
            self.said.push(cut_off.invoke(event).await.expect_err("not taken").to_string());
        }
        self.functions.insert("alert-intake, cut off", cut_off);
    }

    /// Looks through all that there is.
    ///
    /// # Panics
    /// If a secret is found, or what has to be there is not: then the search would prove nothing.
    async fn find_nothing(mut self) {
        self.repeater.add_what_came_to(&mut self.needles);
        let accepted = self.cloud.receivers.accepted();
        assert!(accepted.len() >= 3, "before and after the change: {accepted:?}");
        for request in &accepted {
            repeater::credentials(&mut self.needles, "prod", &request.headers);
            self.needles.exactly("a Receiver's path", request.target.trim_start_matches("/hook/"));
        }
        let mut letters = Vec::new();
        while letters.len() < self.letters as usize {
            let received = self.cloud.receive(&self.cloud.dead_letters).await;
            letters.extend(received.into_iter().filter_map(|message| message.body));
        }
        let calls = moto().get(&format!("/sluice/calls/{}", self.cloud.prefix));
        let mut places = vec![
            ("the answers and the messages".to_owned(), self.said.join("\n").into_bytes(), &["\"deliveries\""][..]),
            ("the dead letters".to_owned(), letters.join("\n").into_bytes(), &["\"rejected\""]),
            ("the calls".to_owned(), calls, &["SendMessageBatch"]),
            ("the state".to_owned(), self.cloud.state().await.join("\n").into_bytes(), &["target#locked"]),
        ];
        for (name, function) in &self.functions {
            let log = function.output().await.into_bytes();
            places.push((format!("the log and the metrics of {name}"), log, &["\"level\":", "CloudWatchMetrics"]));
        }
        self.needles.assert_none_in_any(places);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_nothing_that_stands_for_one_is_in_what_the_functions_answer_log_queue_or_keep() {
    let mut all = Searched::start().await;
    let secrets: BTreeMap<_, _> = all.repeater.secrets().into_iter().collect();
    for (source, sample) in SAMPLES {
        all.send_sample(source, sample, &secrets[source], "d-1").await;
    }
    let (token, event) = google("a@b.example");
    all.needles.exactly("a token of Google's", &token);
    assert_eq!(all.send(event).await, 202);
    for (path, header, value) in FORGED {
        for body in ["hunter2-forged", "{\"token\": \"hunter2-forged\"}"] {
            let status = all.send(HttpEvent::post(path).header(header, value).body(body)).await;
            assert!((400..500).contains(&status), "{path}: {status}");
        }
    }
    all.take_messages_of_sns().await;
    let probed = all.functions["probe"].invoke(json!({})).await.expect("probed");
    all.said.push(probed.to_string());
    // The operator is told once of the target that is locked.
    all.letters += 1;
    all.deliver().await;

    // The sources' secrets and the targets' change; the next environment sees both values.
    for name in ["github", "pushes", "prod"] {
        let value = format!("hunter2-rotated-{name}");
        all.needles.secret(name, &value);
        match name {
            "prod" => {
                all.cloud.store_token(&value).await;
                all.cloud.receivers.change_token("apps", &value);
            }
            _ => all.cloud.store_secret(name, &value).await,
        }
    }
    for (secret, id) in [("hunter2-rotated-github", "d-2"), ("hunter2-the-secret-of-github", "d-3")] {
        all.send_sample("github", "github/push", secret, id).await;
    }
    let next = all.functions["deliver"].start_again().await.unwrap_or_else(|error| panic!("{error}"));
    let first = all.functions.insert("deliver", next).expect("the first one");
    all.functions.insert("deliver, the first one", first);
    all.deliver().await;
    all.find_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_nothing_that_stands_for_one_is_in_what_an_agent_logs_counts_keeps_or_gives_up() {
    let (cloud, repeater, mut file) = repeated().await;
    let mut needles = repeater.needles();
    for target in file["targets"].as_object_mut().expect("targets").values_mut() {
        target["agent"] = "inside".into();
    }
    let relay = Relay::from_value(&file).expect("a relay file");
    let queues = json!({ "inside": cloud.queue }).to_string();
    let variables = [("SLUICE_CONFIG", file.to_string()), ("SLUICE_AGENT_QUEUES", queues)];
    let samples: BTreeMap<_, _> = SAMPLES.into_iter().collect();
    // The operator is told once of the target that is locked.
    let mut expected = 1;
    for (source, name) in TOLD_EVERYWHERE.into_iter().zip(["registry-push", "alert-intake"]) {
        let intake = function(&cloud, name, &variables).await;
        let event =
            sent(&relay, source, samples[source], &format!("hunter2-the-secret-of-{source}"), "d-1", &mut needles);
        let answer = intake.http(event).await.expect("answer");
        assert_eq!(answer.status, 202, "{source}: {}", answer.text());
        expected += letters(&answer);
    }

    file["sources"] = json!({});
    file["routes"] = json!([]);
    let agent = Agent::start(&cloud, &file, &repeater.variables());
    let work = async {
        while cloud.in_queue(&cloud.dead_letters).await < expected {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, work).await.expect("everything comes to an end");
    repeater.add_what_came_to(&mut needles);
    let (_, metrics) = agent.get("/metrics").await;
    let mut letters = Vec::new();
    while letters.len() < expected as usize {
        let received = cloud.receive(&cloud.dead_letters).await;
        letters.extend(received.into_iter().filter_map(|message| message.body));
    }
    let counted =
        ["sluice_deliveries_total{target=\"well\"}", "sluice_dead_letters_total", "sluice_breakers_opened_total"];
    needles.assert_none_in_any([
        ("its metrics".to_owned(), metrics.into_bytes(), &counted[..]),
        ("its dead letters".to_owned(), letters.join("\n").into_bytes(), &["\"rejected\""]),
        ("the state".to_owned(), cloud.state().await.join("\n").into_bytes(), &["target#locked"]),
        ("its log".to_owned(), agent.log(), &["the breaker opens", "given up"]),
    ]);
    assert!(agent.stop().await, "a clean end");
}
