//! The double of Flux's Receivers against recorded vectors: it checks the product, so something has to check it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod support {
    pub mod receiver;
}

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::Deserialize;
use support::receiver::{BODY_LIMIT, FluxReceivers, Identity, Receiver, TYPES, webhook_path};

const TOKEN: &str = "relay-demo-token-0001";
const KNOWN: &str = "/hook/575b85660e3022c8ca5085d3297cbb9f0ff1dabc1509688e248fe84376d848cf";

#[derive(Deserialize)]
struct Vectors {
    webhook_paths: Vec<WebhookPath>,
    receiver_requests: Vec<ReceiverRequest>,
    generic_oidc: Provider,
}

#[derive(Deserialize)]
struct Provider {
    jwks: serde_json::Value,
}

#[derive(Deserialize)]
struct WebhookPath {
    token: String,
    name: String,
    namespace: String,
    path: String,
    note: String,
}

#[derive(Deserialize)]
struct ReceiverRequest {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    spec_events: Vec<String>,
    method: String,
    headers: BTreeMap<String, String>,
    body: String,
    expected: String,
    expected_status: u16,
    why: String,
    /// Whether the request can be made at all without somebody else's key.
    #[serde(default = "yes")]
    computable: bool,
    oidc_issuer: Option<String>,
    oidc_audience: Option<String>,
    oidc_validation: Option<String>,
    secret_audience: Option<String>,
    secret_email: Option<String>,
}

fn yes() -> bool {
    true
}

impl ReceiverRequest {
    fn identity(&self, provider: &Provider) -> Option<Identity> {
        let jwks = provider.jwks.clone();
        if let (Some(audience), Some(email)) = (&self.secret_audience, &self.secret_email) {
            return Some(Identity::google(audience, email, jwks));
        }
        let subject = self.oidc_validation.as_deref()?;
        let subject = subject.strip_prefix("claims.sub == '").and_then(|rest| rest.strip_suffix('\''));
        let subject = subject.expect("the one validation that this double knows");
        Some(Identity::oidc(self.oidc_issuer.as_deref()?, self.oidc_audience.as_deref()?, jwks, subject))
    }
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("data/flux-vectors.json")).expect("the vectors have the shape above")
}

/// A request written by hand: a client would tidy up the target.
fn send(flux: &FluxReceivers, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: flux\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    let mut stream = TcpStream::connect(flux.address()).expect("the double listens");
    stream.write_all(&[head.as_bytes(), body].concat()).expect("the double reads the whole request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the double answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
    (status, body.to_owned())
}

fn generic() -> FluxReceivers {
    FluxReceivers::with(Receiver::new("generic", "github-receiver", "flux-system", TOKEN))
}

#[test]
fn paths_are_those_of_the_vectors() {
    let paths = vectors().webhook_paths;
    assert!(!paths.is_empty());
    for WebhookPath { token, name, namespace, path, note } in paths {
        assert_eq!(webhook_path(token.as_bytes(), &name, &namespace), path, "{note}");
    }
}

#[test]
fn every_vector_gets_the_status_flux_gives() {
    let (mut run, mut left) = (BTreeMap::new(), Vec::new());
    let mut wrong = Vec::new();
    let Vectors { receiver_requests, generic_oidc: provider, .. } = vectors();
    for vector in receiver_requests {
        if !vector.computable {
            left.push(vector.id);
            continue;
        }
        *run.entry(vector.kind.clone()).or_insert(0) += 1;
        let identity = vector.identity(&provider);
        let mut receiver = Receiver::new(&vector.kind, "demo", "flux-system", &vector.token).events(vector.spec_events);
        if let Some(identity) = identity {
            receiver = receiver.identity(identity);
        }
        let path = receiver.path().to_owned();
        let flux = FluxReceivers::with(receiver);
        let headers: Vec<_> = vector.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let (status, body) = send(&flux, &vector.method, &path, &headers, vector.body.as_bytes());
        let accepted = flux.accepted().len() == 1;
        if (status, accepted, &*body) != (vector.expected_status, vector.expected == "accept", "") {
            wrong.push(format!("{}: {status}, not as expected: {}\n{:#?}", vector.id, vector.why, flux.requests()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(run.keys().map(String::as_str).eq({
        let mut types = TYPES;
        types.sort_unstable();
        types
    }));
    println!("run: {run:?}");
    // It takes a token that Google has signed.
    assert_eq!(left, ["gcr-needs-google-token"]);
}

#[test]
fn the_whole_request_target_is_compared() {
    let flux = generic();
    assert_eq!(send(&flux, "POST", KNOWN, &[], b""), (200, String::new()));
    let upper = format!("/hook/{}", KNOWN["/hook/".len()..].to_uppercase());
    let escaped = KNOWN.replacen("575b", "%3575b", 1);
    for target in [
        format!("{KNOWN}?x=1"),
        format!("{KNOWN}?"),
        format!("{KNOWN}/"),
        format!("http://flux{KNOWN}"),
        "/hook/".to_owned(),
        upper,
        escaped,
    ] {
        assert_eq!(send(&flux, "POST", &target, &[], b""), (404, String::new()), "{target}");
    }
}

#[test]
fn a_path_outside_hook_has_a_404_with_a_text() {
    let flux = generic();
    for target in ["/", "/other", "/Hook/x", "/prefix/hook/x", &KNOWN["/hook".len()..]] {
        assert_eq!(send(&flux, "POST", target, &[], b""), (404, "404 page not found\n".to_owned()), "{target}");
    }
    // Outside, nobody reads the body.
    assert_eq!(send(&flux, "POST", "/other", &[], &vec![b'x'; BODY_LIMIT / 64]).0, 404);
    assert!(flux.accepted().is_empty());
}

#[test]
fn an_unclean_path_is_redirected() {
    let flux = generic();
    for target in ["/hook", &format!("/{KNOWN}"), &KNOWN.replace("/hook/", "/hook//")] {
        assert_eq!(send(&flux, "POST", target, &[], b"").0, 307, "{target}");
    }
}

#[test]
fn a_body_over_the_limit_is_refused_before_anything_is_looked_up() {
    let flux = generic();
    assert_eq!(send(&flux, "POST", KNOWN, &[], &vec![b'x'; BODY_LIMIT]), (200, String::new()));
    assert_eq!(send(&flux, "POST", KNOWN, &[], &vec![b'x'; BODY_LIMIT + 1]), (413, String::new()));
    assert_eq!(send(&flux, "POST", "/hook/unknown", &[], &vec![b'x'; BODY_LIMIT + 1]), (413, String::new()));
}

#[test]
fn a_suspended_receiver_answers_503_before_it_authenticates() {
    let flux = FluxReceivers::with(Receiver::new("generic-hmac", "demo", "apps", "key"));
    let path = webhook_path(b"key", "demo", "apps");
    flux.suspend("demo");
    assert_eq!(send(&flux, "POST", &path, &[], b"{}"), (503, String::new()));
    flux.resume("demo");
    assert_eq!(send(&flux, "POST", &path, &[], b"{}"), (400, String::new()));
    let reasons: Vec<_> = flux.rejected().into_iter().map(|request| request.reason.unwrap()).collect();
    assert_eq!(reasons, ["the Receiver is suspended", "the signature is missing"]);
}

#[test]
fn a_changed_secret_counts_at_once_and_the_path_follows_on_reconciliation() {
    let flux = FluxReceivers::with(Receiver::new("gitlab", "demo", "apps", "old"));
    let (old, new) = (webhook_path(b"old", "demo", "apps"), webhook_path(b"new", "demo", "apps"));
    flux.change_secret("demo", "new");
    assert_eq!(send(&flux, "POST", &old, &[("X-Gitlab-Token", "old")], b"").0, 400);
    assert_eq!(send(&flux, "POST", &old, &[("X-Gitlab-Token", "new")], b"").0, 200);
    assert_eq!(send(&flux, "POST", &new, &[("X-Gitlab-Token", "new")], b"").0, 404);
    flux.reconcile("demo");
    assert_eq!(send(&flux, "POST", &old, &[("X-Gitlab-Token", "new")], b"").0, 404);
    assert_eq!(send(&flux, "POST", &new, &[("X-Gitlab-Token", "new")], b"").0, 200);
}

#[test]
fn an_empty_token_lets_the_unsigned_in_where_flux_does() {
    let json = ("Content-Type", "application/json");
    for (kind, headers, expected) in [
        ("github", vec![json], 200),
        ("github", vec![json, ("X-Hub-Signature-256", "sha256=00")], 400),
        ("bitbucket", vec![json], 200),
        ("gitlab", vec![], 200),
        ("harbor", vec![], 200),
        ("generic-hmac", vec![], 400),
        ("nexus", vec![], 400),
    ] {
        let flux = FluxReceivers::with(Receiver::new(kind, "demo", "apps", ""));
        assert_eq!(send(&flux, "POST", &webhook_path(b"", "demo", "apps"), &headers, b"{}").0, expected, "{kind}");
    }
}

#[test]
fn json_is_read_as_go_reads_it() {
    let flux = FluxReceivers::with(Receiver::new("dockerhub", "demo", "apps", "t"));
    let path = webhook_path(b"t", "demo", "apps");
    for (body, expected) in [
        (r#"{"PUSH_DATA":{"Tag":1}}"#, 400),
        (r#"{"push_data":{"tag":1},"push_data":{"tag":"1"}}"#, 400),
        (r#"{"push_data":null,"repository":{"repo_url":null}}"#, 200),
        (r#"{"other":[1e999,-0.5E+3,"\ud800",{"a":{}}]} "#, 200),
        (r#"{"push_data":{"tag":"\u00e9\n"}}"#, 200),
        ("{\"a\":\"\n\"}", 400),
        (r#"{"a":01}"#, 400),
        (r#"{"a":[1,]}"#, 400),
        (r#"{"a":1,}"#, 400),
        (r#"{"a":nul}"#, 400),
        (r#"{"a":"\x"}"#, 400),
        (r#"{"a":1"#, 400),
        ("\u{feff}{}", 400),
        ("null", 200),
        ("\"text\"", 400),
        ("7", 400),
    ] {
        assert_eq!(send(&flux, "POST", &path, &[], body.as_bytes()).0, expected, "{body}");
    }
}

#[test]
fn content_types_are_read_as_go_reads_them() {
    let flux = FluxReceivers::with(Receiver::new("github", "demo", "apps", ""));
    let path = webhook_path(b"", "demo", "apps");
    for (content_type, expected) in [
        ("application/json", 200),
        ("Application/JSON; charset=\"utf-8\"", 200),
        ("application/json;", 200),
        ("application/json; charset", 400),
        ("application/json charset=utf-8", 400),
        ("application/x-www-form-urlencoded", 200),
        ("application/cloudevents+json", 400),
        ("json", 400),
    ] {
        assert_eq!(send(&flux, "POST", &path, &[("Content-Type", content_type)], b"{}").0, expected, "{content_type}");
    }
}

#[test]
fn a_filter_sees_the_body_only_as_a_json_object() {
    fn tag(request: &serde_json::Value) -> Result<bool, String> {
        Ok(request.get("tag").ok_or("no such key: tag")? == "1")
    }
    let flux = FluxReceivers::with(Receiver::new("generic", "demo", "apps", "t").filter(tag));
    let path = webhook_path(b"t", "demo", "apps");
    let json = [("Content-Type", "application/json")];
    for (headers, body, expected) in [
        (&json[..], r#"{"tag":"1"}"#, (200, true)),
        (&json[..], r#"{"tag":"2"}"#, (200, false)),
        (&json[..], r#"{}"#, (500, false)),
        (&json[..], r#"["tag"]"#, (500, false)),
        (&json[..], "", (500, false)),
        (&[][..], r#"{"tag":"1"}"#, (500, false)),
    ] {
        flux.forget();
        let (status, _) = send(&flux, "POST", &path, headers, body.as_bytes());
        assert_eq!((status, flux.requests()[0].triggered), expected, "{body}");
    }
}

#[tokio::test]
async fn the_test_decides_about_the_next_answers_and_their_time() {
    let flux = generic();
    flux.answer_next_with(1, 429, &[("Retry-After", "7")]);
    flux.answer_next(1, 503);
    let statuses: Vec<u16> = (0..3).map(|_| send(&flux, "POST", KNOWN, &[], b"").0).collect();
    assert_eq!(statuses, [429, 503, 200]);
    assert_eq!(flux.wait_for_accepted(1).await.len(), 1);
    assert_eq!(flux.wait_for_requests(3).await.len(), 3);

    flux.delay(Duration::from_millis(60));
    let start = Instant::now();
    send(&flux, "POST", KNOWN, &[], b"");
    assert!(start.elapsed() >= Duration::from_millis(60));
}
