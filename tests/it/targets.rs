//! Every target type: what it is sent, as golden files, and re-checked by a double of the receiving side that shares
//! no code with us; and what its answers mean.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use sluice::domain::delivery::Delivery;
use sluice::domain::event::{Detail, Event};
use sluice::domain::name::Name;
use sluice::domain::outcome::{Blame, Outcome};
use sluice::domain::secret::{Resolved, Secret};
use sluice::port::{Connection, SendError, Sender as _};
use sluice::relay::{Relay, TargetEntry};
use sluice::rim::local::samples;
use sluice::rim::sender::HttpSender;
use sluice::rim::yaml;
use sluice::source::{Request, Via};
use sluice::target::{Outbound, TYPES};

use crate::fakes::response;
use crate::golden;
use crate::receiver::{FluxReceivers, Receiver};

pub const NOW: &str = "2026-08-20T12:00:00Z";
pub const TOKEN: &str = "relay-demo-token-0001";

/// The targets that golden files are kept of, by name.
pub const TARGETS: &str = r#"
flux-generic: { type: flux, url: "https://flux.example.com", receiver: { type: generic, name: apps, namespace: flux-system }, token: "env:T" }
flux-generic-hmac: { type: flux, url: "https://flux.example.com/", receiver: { type: generic-hmac, name: apps, namespace: flux-system }, token: "env:T" }
flux-github: { type: flux, url: "https://example.com/flux", receiver: { type: github, name: apps, namespace: flux-system }, token: "env:T" }
flux-github-event: { type: flux, url: "https://example.com", receiver: { type: github, name: apps, namespace: flux-system }, token: "env:T", body: event }
http-event: { type: http, url: "https://example.com/hook?x=1", auth: { bearer: "env:T" } }
http-passthrough: { type: http, url: "https://example.com/hook", body: passthrough }
http-basic-put: { type: http, url: "https://example.com/hook", method: PUT, auth: { basic: { username: sluice, password: "env:T" } } }
http-header: { type: http, url: "https://example.com/hook", auth: { header: { name: X-Token, value: "env:T" } } }
http-hmac: { type: http, url: "https://example.com/hook", auth: { hmac: { header: X-Signature, secret: "env:T", algorithm: sha512, encoding: base64, prefix: "v0=" } } }
http-standard-webhooks: { type: http, url: "https://example.com/hook", auth: { standard_webhooks: "env:W" } }
http-cloudevents: { type: http, url: "https://example.com/hook", body: cloudevents }
http-cloudevents-binary: { type: http, url: "https://example.com/hook", body: cloudevents, cloudevents_mode: binary }
http-template: { type: http, url: "https://example.com/hook", body: template, template: '{"text": "{{ kind }} {{ repository }}", "tags": {{ tags | default([]) | tojson }}}' }
http-template-text: { type: http, url: "https://example.com/hook", body: template, content_type: text/plain, template: "{{ repository }}@{{ digest | default('?') }}" }
argocd: { type: argocd, url: "https://argocd.example.com", secret: "env:T" }
image-updater: { type: image-updater, url: "https://updater.example.com/", secret: "env:T" }
kargo: { type: kargo, url: "https://kargo.example.com/webhooks/github/0123abcd", secret: "env:T" }
keel: { type: keel, url: "https://keel.example.com", username: admin, secret: "env:T" }
keel-bearer: { type: keel, url: "https://keel.example.com", secret: "env:T" }
argo-events: { type: argo-events, url: "https://events.example.com/push", secret: "env:T" }
tekton: { type: tekton, url: "https://tekton.example.com/", secret: "env:T" }
jenkins: { type: jenkins, url: "https://ci.example.com/jenkins", secret: "env:T" }
github-dispatch: { type: github-dispatch, repository: acme/deploy, token: "env:T" }
github-dispatch-enterprise: { type: github-dispatch, repository: acme/deploy, token: "env:T", event_type: deploy, api_url: "https://github.example.com/api/v3" }
gitlab-trigger: { type: gitlab-trigger, repository: acme/platform/deploy, token: "env:T" }
gitlab-trigger-own: { type: gitlab-trigger, repository: 42, token: "env:T", ref: v1, api_url: "https://gitlab.example.com/" }
"#;

/// The value of every secret `env:W`: what Standard Webhooks takes.
const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub fn relay(targets: &str) -> Relay {
    let mut targets = yaml::parse(targets).expect("YAML").value;
    if let Some(all) = targets.as_object_mut() {
        all.retain(|_, entry| entry.is_object());
    }
    let source = serde_json::json!({ "type": "github", "secret": "env:S" });
    let file = serde_json::json!({ "sources": { "github": source }, "targets": targets, "routes": [] });
    Relay::from_value(&file).unwrap_or_else(|why| panic!("{why}"))
}

/// Every secret of a target has this value; `env:W` has one of its own form.
pub fn secrets(entry: &TargetEntry, value: &str) -> Resolved {
    let mut resolved = Resolved::default();
    for reference in entry.secrets() {
        let value = if reference.to_string() == "env:W" { WHSEC } else { value };
        resolved.insert(reference.clone(), vec![Secret::new(value)]);
    }
    resolved
}

/// The delivery of a sample of GitHub's.
pub fn delivery(sample: &str) -> Delivery {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("events/github").join(sample);
    let sample = samples::read(&path).expect("sample");
    let relay = relay("{}");
    let (name, entry) = relay.sources.first_key_value().expect("source");
    let mut request = Request {
        source: name.clone(),
        token: None,
        via: Via::Http,
        method: http::Method::POST,
        headers: sample.headers,
        body: sample.body,
        address: None,
    };
    let mut known = Resolved::default();
    known.insert(entry.secrets()[0].clone(), vec![Secret::new("s")]);
    let now: Timestamp = NOW.parse().expect("time");
    entry.source.sign(&mut request, &known, now).expect("signed");
    let authentic = entry.source.authenticate(&request, &known, now).expect("authentic");
    let parsed = entry.source.parse(authentic).expect("parsed");
    let found = parsed.events.into_iter().next().expect("an event");
    let identity = found.identity.expect("identity");
    let event = Event {
        detail: found.detail,
        id: Event::id_of(name, &identity),
        source: name.clone(),
        cluster: None,
        labels: std::collections::BTreeMap::new(),
        time: found.time,
    };
    Delivery::new(event, &identity, &Name::parse("target").expect("name"), parsed.original, now)
}

/// A push of the image of `package-published.json` with other tags.
pub fn image_push(tags: &[&str]) -> Delivery {
    let mut delivery = delivery("package-published.json");
    if let Detail::ImagePush(push) = &mut delivery.event.detail {
        push.tag = tags.first().map(|tag| (*tag).to_owned());
        push.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    }
    delivery.original = None;
    delivery
}

/// What golden files are kept over.
fn deliveries() -> Vec<(&'static str, Delivery)> {
    vec![
        ("push", delivery("push.json")),
        ("package-published", delivery("package-published.json")),
        ("several-tags", image_push(&["1.2.3", "1.2", "latest"])),
        ("by-digest", image_push(&[])),
    ]
}

pub fn render(entry: &TargetEntry, delivery: &Delivery) -> Outbound {
    let requests = entry.target.render(delivery, &secrets(entry, TOKEN), NOW.parse().expect("time"));
    requests.expect("rendered").into_iter().next().expect("a request")
}

fn as_text(request: &Outbound) -> String {
    let mut text = format!("{} {}\n", request.method, request.url);
    for (name, value) in &request.headers {
        text.push_str(&format!("{name}: {}\n", value.to_str().expect("text")));
    }
    let body = String::from_utf8_lossy(&request.body);
    let body = if body.len() > 2000 { format!("({} bytes, as the sender sent them)", body.len()) } else { body.into() };
    format!("{text}\n{body}")
}

#[test]
fn what_every_target_is_sent_is_reviewed() {
    let relay = relay(TARGETS);
    for of in TYPES {
        assert!(relay.targets.values().any(|entry| entry.of.name == of.name), "no golden file shows `{}`", of.name);
    }
    for (name, entry) in &relay.targets {
        for (sample, delivery) in deliveries() {
            let text = match entry.target.wants(&delivery.event) {
                Ok(()) => as_text(&render(entry, &delivery)),
                Err(why) => format!("not told: {why}\n"),
            };
            let file = format!("tests/golden/{name}-{sample}.http");
            golden::check(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file), &text);
        }
    }
}

/// The vectors are made from Flux's own formula, by other code than ours.
#[test]
fn paths_agree_with_flux_for_every_vector() {
    let text = include_str!("../data/flux-vectors.json");
    let vectors: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let paths = vectors["webhook_paths"].as_array().expect("paths");
    assert!(paths.len() >= 6);
    for vector in paths {
        let part = |name: &str| vector[name].as_str().expect("text").to_owned();
        let path = sluice::target::flux::hook_path(&Secret::new(part("token")), &part("name"), &part("namespace"));
        assert_eq!(path, part("path"), "{}", vector["note"]);
    }
}

fn loopback() -> Connection {
    let allow = vec!["127.0.0.0/8".parse().expect("network")];
    Connection { egress: sluice::domain::egress::Rules { allow }, plaintext: false, ..Connection::default() }
}

const WAIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn receivers_of_every_type_accept_what_they_are_sent() {
    for kind in ["generic", "generic-hmac", "github"] {
        for body in ["event", "passthrough"] {
            let receivers = FluxReceivers::with(Receiver::new(kind, "apps", "flux-system", TOKEN));
            let relay = relay(&format!(
                "a: {{ type: flux, url: '{}', receiver: {{ type: {kind}, name: apps, namespace: flux-system }}, token: 'env:T', body: {body} }}",
                receivers.url()
            ));
            let entry = relay.targets.values().next().expect("target");
            for sample in ["push.json", "push-form.form", "package-published.json", "release-published.json"] {
                let request = render(entry, &delivery(sample));
                let answer = HttpSender::new().send(request, &loopback(), WAIT).await.expect("answer");
                let outcome = entry.target.classify(&answer, Timestamp::UNIX_EPOCH);
                assert_eq!(outcome, Outcome::Delivered, "{kind} {sample}: {:?}", receivers.rejected());
            }
            receivers.assert_nothing_rejected();
        }
    }
}

#[tokio::test]
async fn a_receiver_with_another_token_name_or_type_refuses_and_the_reason_says_what_to_look_at() {
    for (receiver, expected) in [
        (Receiver::new("github", "apps", "flux-system", "another token"), "is the token current"),
        (Receiver::new("github", "other", "flux-system", TOKEN), "are name and namespace right"),
        (Receiver::new("generic-hmac", "apps", "flux-system", TOKEN), "is its type the same"),
        (
            Receiver::new("github", "apps", "flux-system", TOKEN).events(["ping"]),
            "does its .spec.events list this event",
        ),
    ] {
        let receivers = FluxReceivers::with(receiver);
        let relay = relay(&format!(
            "a: {{ type: flux, url: '{}', receiver: {{ type: github, name: apps, namespace: flux-system }}, token: 'env:T' }}",
            receivers.url()
        ));
        let entry = relay.targets.values().next().expect("target");
        let request = render(entry, &delivery("push.json"));
        let answer = HttpSender::new().send(request, &loopback(), WAIT).await.expect("answer");
        let Outcome::Retry { reason, .. } = entry.target.classify(&answer, Timestamp::UNIX_EPOCH) else {
            panic!("held or set aside, never given up at once");
        };
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn what_a_receivers_answers_mean() {
    let relay = relay(TARGETS);
    let target = &relay.targets["flux-github"].target;
    let outcome = |status, body| target.classify(&response(status, &[], body), Timestamp::UNIX_EPOCH);
    assert_eq!(outcome(200, ""), Outcome::Delivered);
    for (status, body, blame, words) in [
        (201, "", Blame::Target, "only success is 200"),
        (202, "", Blame::Target, "instead of notification-controller"),
        (204, "", Blame::Target, "only success is 200"),
        (400, "", Blame::Event, "refuses the signature"),
        (400, "<html>", Blame::Event, "not by a Receiver"),
        (401, "", Blame::Target, "credential"),
        (403, "", Blame::Target, "credential"),
        (404, "", Blame::Target, "no Receiver has this path; is the token current, are name and namespace right?"),
        (404, "404 page not found\n", Blame::Target, "does an ingress rewrite it"),
        (404, "default backend - 404", Blame::Target, "an ingress or proxy has no route"),
        (429, "", Blame::Target, "the wrong Service"),
        (500, "", Blame::Event, "could not annotate"),
        (502, "", Blame::Target, "cannot reach it"),
        (503, "", Blame::Target, "suspended or not ready"),
        (504, "", Blame::Target, "cannot reach it"),
    ] {
        match outcome(status, body) {
            Outcome::Retry { blame: found, reason } => {
                assert_eq!(found, blame, "{status}");
                assert!(reason.contains(words) && reason.starts_with(&status.to_string()), "{reason}");
            }
            other => panic!("{status} {body}: {other:?}"),
        }
    }
    for status in [301, 307, 308, 410, 413] {
        assert!(matches!(outcome(status, ""), Outcome::Rejected { .. }), "{status}");
    }
}

#[test]
fn every_status_of_an_endpoint_has_one_outcome() {
    let relay = relay(TARGETS);
    let target = &relay.targets["http-event"].target;
    for status in 100..=599 {
        let outcome = target.classify(&response(status, &[], "so it says"), Timestamp::UNIX_EPOCH);
        let expected = match status {
            202 => "accepted",
            200..=299 => "delivered",
            401 | 403 | 404 | 408 | 425 | 429 | 100..=199 | 500.. => "retry",
            _ => "rejected",
        };
        assert_eq!(outcome.word(), expected, "{status}");
    }
}

#[test]
fn a_pause_is_understood_in_seconds_and_as_a_date_and_never_runs_backwards() {
    let relay = relay(TARGETS);
    let target = &relay.targets["http-event"].target;
    for (said, seconds) in [
        ("120", Some(120)),
        ("Thu, 20 Aug 2026 12:01:00 GMT", Some(60)),
        ("Thu, 20 Aug 2026 11:00:00 GMT", Some(0)),
        ("soon", None),
        ("-5", None),
        ("NaN", None),
        ("1e300", None),
    ] {
        let outcome = target.classify(&response(429, &[("retry-after", said)], ""), NOW.parse().expect("time"));
        let wait = match outcome {
            Outcome::RetryAfter { wait, .. } => Some(wait.as_secs()),
            _ => None,
        };
        assert_eq!(wait, seconds, "{said}");
    }
}

mod sending {
    use std::sync::Arc;

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::any;
    use bytes::Bytes;
    use tokio::net::TcpListener;
    use tokio::sync::Notify;

    use super::*;

    async fn server(router: Router) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let port = listener.local_addr().expect("address").port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        port
    }

    fn post(url: String) -> Outbound {
        Outbound::post(url, "application/json", Bytes::from_static(b"{}"))
    }

    async fn send(url: String, connection: &Connection) -> Result<sluice::target::Response, SendError> {
        HttpSender::new().send(post(url), connection, WAIT).await
    }

    #[tokio::test]
    async fn loopback_is_refused_by_address_and_by_name_unless_it_is_allowed() {
        let port = server(Router::new().fallback(any(|| async { "ok" }))).await;
        let nothing = Connection { plaintext: true, ..Connection::default() };
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f.1", "2130706433", "127.1"] {
            let refused = send(format!("http://{host}:{port}/"), &nothing).await;
            assert!(
                matches!(&refused, Err(SendError::Egress(why)) if why.starts_with("egress")),
                "{host}: {refused:?}"
            );
        }
        for host in ["127.0.0.1", "localhost"] {
            assert_eq!(send(format!("http://{host}:{port}/"), &loopback()).await.expect("answer").status, 200);
        }
    }

    #[tokio::test]
    async fn redirects_are_not_followed() {
        let router = Router::new()
            .route("/from", any(|| async { (StatusCode::FOUND, [("location", "/to")]) }))
            .route("/to", any(|| async { "ok" }));
        let port = server(router).await;
        assert_eq!(send(format!("http://127.0.0.1:{port}/from"), &loopback()).await.expect("answer").status, 302);
    }

    #[tokio::test]
    async fn of_a_long_answer_only_the_beginning_is_read() {
        let port = server(Router::new().fallback(any(|| async { vec![b'x'; 10 * 1024 * 1024] }))).await;
        let answer = send(format!("http://127.0.0.1:{port}/"), &loopback()).await.expect("answer");
        assert_eq!((answer.status, answer.body.len()), (200, 64 * 1024));
    }

    #[tokio::test]
    async fn no_answer_in_time_is_a_time_out_and_no_connection_is_none() {
        let never = Arc::new(Notify::new());
        let held = never.clone();
        let port = server(Router::new().fallback(any(move || {
            let held = held.clone();
            async move { held.notified().await }
        })))
        .await;
        let url = format!("http://127.0.0.1:{port}/hook/secret-path");
        let patience = Duration::from_millis(50);
        let sent = HttpSender::new().send(post(url), &loopback(), patience).await;
        assert_eq!(sent.map(|answer| answer.status), Err(SendError::TimedOut(patience)));
        let unused = TcpListener::bind("127.0.0.1:0").await.expect("port").local_addr().expect("address").port();
        let refused = send(format!("http://127.0.0.1:{unused}/hook/secret-path"), &loopback()).await;
        let Err(SendError::Connect(why)) = &refused else { panic!("{refused:?}") };
        assert!(!why.contains("secret-path"), "{why}");
    }
}
