//! No secret, and nothing that stands for one, is in anything that `sluice serve` writes or says: everything is driven
//! with secrets that can be recognised, at the level of logs at which the most is said, and then searched for them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

#[path = "support/needles.rs"]
mod needles;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::any;
use data_encoding::BASE64;
use needles::Needles;
use serde_json::Value;

/// Sources, each with a sample that its type has.
const SOURCES: &str = "
  github: { type: github, secret: 'file:DIR/github' }
  ghcr: { type: ghcr, secret: 'file:DIR/ghcr' }
  gitlab: { type: gitlab, token: 'file:DIR/gitlab' }
  hub: { type: dockerhub, secret: 'file:DIR/hub' }
  harbor: { type: harbor, secret: 'file:DIR/harbor' }
  alertmanager: { type: alertmanager, secret: 'file:DIR/alertmanager' }
  flux: { type: flux, secret: 'file:DIR/flux' }
";
const SAMPLES: [(&str, &str); 7] = [
    ("github", "github/push"),
    ("ghcr", "ghcr/package-published"),
    ("gitlab", "gitlab/push"),
    ("hub", "dockerhub/push"),
    ("harbor", "harbor/push"),
    ("alertmanager", "alertmanager/firing"),
    ("flux", "flux/helmrelease-upgrade-failed"),
];
/// Targets of every way in which a request carries a secret: in a header, in the path, in the body, as a key.
const TARGETS: &str = "
  receiver: { type: flux, url: URL, receiver: { type: generic-hmac, name: apps, namespace: a }, token: 'file:DIR/receiver' }
  pushes: { type: flux, url: URL, receiver: { type: github, name: apps, namespace: a }, token: 'file:DIR/pushes' }
  bearer: { type: http, url: URL/bearer, auth: { bearer: 'file:DIR/bearer' } }
  basic: { type: http, url: URL/basic, auth: { basic: { username: sluice, password: 'file:DIR/basic' } } }
  header: { type: http, url: URL/header, auth: { header: { name: X-Token, value: 'file:DIR/header' } } }
  signed: { type: http, url: URL/signed, auth: { standard_webhooks: 'file:DIR/signed' } }
  jenkins: { type: jenkins, url: URL/jenkins, secret: 'file:DIR/jenkins' }
  argocd: { type: argocd, url: URL/argocd, secret: 'file:DIR/argocd' }
  kargo: { type: kargo, url: URL/kargo/abc, secret: 'file:DIR/kargo' }
  dispatch: { type: github-dispatch, repository: acme/deploy, token: 'file:DIR/dispatch', api_url: URL/dispatch }
  trigger: { type: gitlab-trigger, repository: acme/deploy, token: 'file:DIR/trigger', api_url: URL/trigger }
  slack: { type: slack, webhook: 'file:DIR/slack' }
  bot: { type: slack, token: 'file:DIR/bot', channel: C012AB3CD, api_url: URL/bot }
  telegram: { type: telegram, token: 'file:DIR/telegram', chat: -1001, api_url: URL/telegram }
  pagerduty: { type: pagerduty, routing_key: 'file:DIR/pagerduty', api_url: URL/pagerduty }
  opsgenie: { type: opsgenie, api_key: 'file:DIR/opsgenie', api_url: URL/opsgenie }
  locked: { type: http, url: URL/locked, auth: { bearer: 'file:DIR/locked' }, fallback: bearer }
";
/// Headers that carry what stands for a secret.
const CREDENTIALS: [&str; 9] = [
    "authorization",
    "x-signature",
    "x-hub-signature",
    "x-hub-signature-256",
    "webhook-signature",
    "x-token",
    "token",
    "x-gitlab-token",
    "private-token",
];

fn sluice() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("SLUICE_CONFIG").stdin(Stdio::null());
    command.env("AWS_LAMBDA_LOG_LEVEL", "TRACE");
    command
}

/// What came to the targets: path with query, and headers.
type Received = Arc<Mutex<Vec<(String, HeaderMap)>>>;

/// A target that repeats everything it is sent in its answer: 503 at the first request to a place, 413 later; at
/// `/locked` always 401. Its URL.
async fn echo(received: Received) -> String {
    let handler = move |uri: Uri, headers: HeaderMap, body: String| {
        let mut received = received.lock().expect("lock");
        let is_first = received.iter().all(|(place, _)| *place != uri.to_string());
        let status = match uri.path() {
            "/locked" => StatusCode::UNAUTHORIZED,
            _ if is_first => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::PAYLOAD_TOO_LARGE,
        };
        // Short, as only the beginning of an answer is told.
        let shown: Vec<_> = CREDENTIALS.iter().filter_map(|name| headers.get(*name)).collect();
        let answer = format!("cannot POST {uri} {shown:?} {body}");
        received.push((uri.to_string(), headers));
        async move { (status, answer) }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(any(handler))).await });
    url
}

/// A running `sluice serve`, killed when it is dropped.
struct Serve {
    child: Child,
    url: String,
}

impl Serve {
    fn start(folder: &Path) -> Self {
        let mut command = sluice();
        command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(folder.join("relay.yaml"));
        command.arg("--data").arg(folder.join("data"));
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

/// Makes a file for every secret that the relay file names, and says what may be found nowhere.
fn secrets(folder: &Path, relay: &str, url: &str) -> Needles {
    let mut needles = Needles::default();
    for name in relay.split("file:DIR/").skip(1).map(|rest| rest.split('\'').next().expect("a name")) {
        let value = match name {
            "slack" => format!("{url}/services/T012AB3CD/B012AB3CD/hunter2slackwebhook"),
            "signed" => format!("whsec_{}", BASE64.encode(b"hunter2-the-key-of-a-standard-webhook")),
            "telegram" => "123456789:hunter2-telegram-token".to_owned(),
            _ => format!("hunter2-the-secret-of-{name}"),
        };
        fs::write(folder.join(name), &value).expect("secret");
        needles.secret(name, value.strip_prefix(url).unwrap_or(&value));
    }
    // Whatever else begins so; what is forged does, too.
    needles.secret("some secret", "hunter2-");
    needles
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
    let received = Received::default();
    let url = echo(received.clone()).await;
    let relay = format!(
        "sources: {SOURCES}\ntargets: {TARGETS}\nroutes: [{{ to: [{}] }}]\negress: {{ allow: [127.0.0.0/8] }}\n",
        TARGETS.lines().filter_map(|line| Some(line.split_once(':')?.0.trim())).collect::<Vec<_>>().join(", ")
    );
    let mut needles = secrets(folder, &relay, &url);
    let relay = relay.replace("DIR", &folder.display().to_string()).replace("URL", &url);
    fs::write(folder.join("relay.yaml"), relay).expect("relay file");
    let serve = Serve::start(folder);

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
        deliveries.extend(told.filter(|one| one["target"] != "locked").map(|one| one["id"].to_string()));
        said.push(printed);
    }
    for (path, header) in [
        ("/github", "x-hub-signature-256: sha256=hunter2-forged"),
        ("/github", "x-hub-signature-256: sha256=68756e746572322d68756e746572322d68756e746572322d68756e746572322d"),
        ("/github/hunter2-forged", "x: y"),
        ("/gitlab?token=hunter2-forged", "x-gitlab-token: hunter2-forged"),
        ("/harbor", "authorization: Bearer hunter2-forged"),
        ("/hub/hunter2-forged", "x: y"),
        ("/hunter2-forged", "cookie: hunter2-forged"),
    ] {
        for body in ["hunter2-forged", "{\"token\": \"hunter2-forged\"}"] {
            let length = body.len();
            let request = format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{header}\r\n\r\n{body}"
            );
            let answer = serve.raw(&request);
            assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
            said.push(answer);
        }
    }

    // Until all is given up but what waits for somebody to mend its target, and an operator is told of that.
    let patience = Instant::now() + Duration::from_secs(90);
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
    said.push(serve.raw("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
    serve.stop();

    // What stood for secrets on the way out, too.
    let received = received.lock().expect("lock");
    let places: BTreeSet<_> = received.iter().map(|(place, _)| place.as_str()).collect();
    assert!(places.len() >= 16, "every target was sent something: {places:?}");
    for (place, headers) in received.iter() {
        for name in CREDENTIALS {
            for value in headers.get_all(name) {
                needles.exactly(&format!("{name} at {place}"), value.to_str().expect("text"));
            }
        }
        if let Some(digest) = place.strip_prefix("/hook/") {
            needles.exactly("a Receiver's path", digest);
        }
    }
    assert!(needles.found_in(format!("{received:?}").as_bytes()).len() > 30, "the search finds what is there");

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
