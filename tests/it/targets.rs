//! Every target type: what it is sent, as golden files, and re-checked by a double of the receiving side that shares
//! no code with us; and what its answers mean.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use sluice::domain::delivery::Delivery;
use sluice::domain::event::{Detail, Event, ImagePush};
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
use crate::receiver::{FluxReceivers, Identity, Receiver, TYPES as RECEIVER_TYPES};

pub const NOW: &str = "2026-08-20T12:00:00Z";
pub const TOKEN: &str = "relay-demo-token-0001";

/// The targets that golden files are kept of, by name.
pub const TARGETS: &str = r#"
flux-generic: { type: flux, url: "https://flux.example.com", receiver: { type: generic, name: apps, namespace: flux-system }, token: "env:T" }
flux-generic-hmac: { type: flux, url: "https://flux.example.com/", receiver: { type: generic-hmac, name: apps, namespace: flux-system }, token: "env:T" }
flux-generic-oidc: { type: flux, url: "https://flux.example.com", receiver: { type: generic-oidc, name: apps, namespace: flux-system } }
flux-github: { type: flux, url: "https://example.com/flux", receiver: { type: github, name: apps, namespace: flux-system }, token: "env:T" }
flux-github-event: { type: flux, url: "https://example.com", receiver: { type: github, name: apps, namespace: flux-system }, token: "env:T", body: event }
flux-gitlab: { type: flux, url: "https://flux.example.com", receiver: { type: gitlab, name: apps, namespace: flux-system }, token: "env:T" }
flux-bitbucket: { type: flux, url: "https://flux.example.com", receiver: { type: bitbucket, name: apps, namespace: flux-system }, token: "env:T" }
flux-harbor: { type: flux, url: "https://flux.example.com", receiver: { type: harbor, name: apps, namespace: flux-system }, token: "env:T" }
flux-dockerhub: { type: flux, url: "https://flux.example.com", receiver: { type: dockerhub, name: apps, namespace: flux-system }, token: "env:T" }
flux-quay: { type: flux, url: "https://flux.example.com", receiver: { type: quay, name: apps, namespace: flux-system }, token: "env:T" }
flux-acr: { type: flux, url: "https://flux.example.com", receiver: { type: acr, name: apps, namespace: flux-system }, token: "env:T" }
flux-nexus: { type: flux, url: "https://flux.example.com", receiver: { type: nexus, name: apps, namespace: flux-system }, token: "env:T" }
flux-cdevents: { type: flux, url: "https://flux.example.com", receiver: { type: cdevents, name: apps, namespace: flux-system }, token: "env:T" }
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
eventbridge: { type: eventbridge, bus: relay }
eventbridge-arn: { type: eventbridge, bus: "arn:aws:events:eu-central-1:123456789012:event-bus/relay" }
nats: { type: nats, url: "nats://nats.nats.svc:4222", subject: relay.events }
nats-stream: { type: nats, url: "tls://nats.example.com:4222", subject: relay.events, username: relay, password: "env:T", jetstream: true }
googlepubsub: { type: googlepubsub, project: acme-prod, topic: relay, service_account: sluice@acme-prod.iam.gserviceaccount.com, private_key: "env:T" }
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

/// The delivery of a push to ECR, which is no type that Receivers know.
fn image(tags: &[&str], digest: Option<&str>) -> Delivery {
    let source = Name::parse("ecr").expect("name");
    let push = ImagePush {
        repository: "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/apps/portal".into(),
        tag: tags.first().map(|tag| (*tag).to_owned()),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        digest: digest.map(str::to_owned),
        media_type: Some("application/vnd.oci.image.index.v1+json".into()),
        actor: Some("ci".into()),
    };
    let identity = format!("{tags:?} {digest:?}");
    let event = Event {
        detail: Detail::ImagePush(push),
        id: Event::id_of(&source, &identity),
        source,
        cluster: None,
        labels: std::collections::BTreeMap::new(),
        time: Some("2026-08-20T10:05:44.219Z".parse().expect("time")),
    };
    Delivery::new(event, &identity, &Name::parse("target").expect("name"), None, NOW.parse().expect("time"))
}

const DIGEST: &str = "sha256:9061510f78f707691200d28d713ca8b47eb5bc2f2d01c88858d88e1fb105fb63";

/// What a target is told of: a push of a branch, and pushes of images with one tag, several and none.
fn occasions() -> [(&'static str, Delivery); 4] {
    [
        ("push", delivery("push.json")),
        ("package-published", delivery("package-published.json")),
        ("several-tags", image(&["5.0.1", "5.0", "latest"], Some(DIGEST))),
        ("by-digest", image(&[], Some(DIGEST))),
    ]
}

pub fn render(entry: &TargetEntry, delivery: &Delivery) -> Outbound {
    let requests = entry.target.render(delivery, &secrets(entry, TOKEN), NOW.parse().expect("time"));
    requests.expect("rendered").into_iter().next().expect("a request")
}

fn as_text(request: &Outbound) -> String {
    let mut text = match &request.nats {
        Some(publication) => format!("PUBLISH {}\n({publication:?})\n", request.url),
        None => format!("{} {}\n", request.method, request.url),
    };
    if let Some(service) = &request.aws {
        let region = service.region.as_deref().unwrap_or("the process's region");
        text.push_str(&format!("(signed for {} in {region})\n", service.name));
    }
    if let Some(asked) = &request.token {
        text.push_str(&format!("(with a token that is had by {} {})\n", asked.request.method, asked.request.url));
    }
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
        let chats = self::relay(crate::chats::CHATS);
        let shown = |relay: &Relay| relay.targets.values().any(|entry| entry.of.name == of.name);
        assert!(shown(&relay) || shown(&chats), "no golden file shows `{}`", of.name);
    }
    for (name, entry) in &relay.targets {
        for (occasion, delivery) in occasions() {
            let shown = match entry.target.wants(&delivery.event, delivery.original.as_ref()) {
                Ok(()) => as_text(&render(entry, &delivery)),
                Err(why) => format!("not told: {why}"),
            };
            let file = format!("tests/golden/{name}-{occasion}.http");
            golden::check(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file), &shown);
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

/// A Receiver with whatever its type needs, a target for it, and the value of that one's secret.
fn pair(kind: &str, body: Option<&str>) -> (FluxReceivers, Relay, String) {
    let body = body.map(|body| format!(", body: {body}")).unwrap_or_default();
    let (receiver, secret, token) = if kind == "generic-oidc" {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../data/flux-vectors.json")).expect("the vectors are JSON");
        let requests = vectors["receiver_requests"].as_array().expect("requests");
        let vector = requests.iter().find(|one| one["id"] == "generic-oidc-ok").expect("a token to the year 2100");
        let token = vector["headers"]["Authorization"].as_str().and_then(|value| value.strip_prefix("Bearer "));
        let issuer = vector["oidc_issuer"].as_str().expect("text");
        let role = "arn:aws:iam::111122223333:role/relay";
        let identity = Identity::oidc(issuer, "notification-controller", vectors["generic_oidc"]["jwks"].clone(), role);
        let receiver = Receiver::new(kind, "apps", "flux-system", "").identity(identity);
        (receiver, token.expect("a bearer token").to_owned(), "")
    } else {
        (Receiver::new(kind, "apps", "flux-system", TOKEN), TOKEN.to_owned(), ", token: 'env:T'")
    };
    let receivers = FluxReceivers::with(receiver);
    let relay = relay(&format!(
        "a: {{ type: flux, url: '{}', receiver: {{ type: {kind}, name: apps, namespace: flux-system }}{token}{body} }}",
        receivers.url()
    ));
    (receivers, relay, secret)
}

#[tokio::test]
async fn receivers_of_every_type_accept_what_they_are_sent() {
    let mut told = Vec::new();
    // With gcr's there is nothing to try: the relay file cannot even name it.
    for kind in RECEIVER_TYPES.into_iter().filter(|kind| *kind != "gcr") {
        for body in [None, Some("event"), Some("passthrough")] {
            if body.is_some() && matches!(kind, "dockerhub" | "quay" | "acr" | "nexus" | "cdevents") {
                continue;
            }
            let (receivers, relay, secret) = pair(kind, body);
            let entry = relay.targets.values().next().expect("target");
            let samples = ["push-form.form", "release-published.json", "push-tag.json", "workflow-run-completed.json"];
            let occasions = occasions().into_iter().chain(samples.map(|sample| (sample, delivery(sample))));
            for (occasion, delivery) in occasions.chain([("tag-only", image(&["5.0.1"], None))]) {
                if entry.target.wants(&delivery.event, delivery.original.as_ref()).is_err() {
                    continue;
                }
                let requests =
                    entry.target.render(&delivery, &secrets(entry, &secret), NOW.parse().expect("time")).expect("fits");
                let [request] = <[Outbound; 1]>::try_from(requests).expect("one, while no token is being changed");
                let answer = HttpSender::new().send(request, &loopback(), WAIT).await.expect("answer");
                let outcome = entry.target.classify(&answer, Timestamp::UNIX_EPOCH);
                assert_eq!(outcome, Outcome::Delivered, "{kind} {occasion}: {:?}", receivers.rejected());
                told.push((kind, occasion));
            }
            receivers.assert_nothing_rejected();
        }
    }
    for kind in RECEIVER_TYPES.into_iter().filter(|kind| *kind != "gcr") {
        assert!(told.contains(&(kind, "package-published")) && told.contains(&(kind, "several-tags")), "{kind}");
        let is_git = matches!(kind, "github" | "gitlab" | "bitbucket") || kind.starts_with("generic");
        assert_eq!(told.contains(&(kind, "push")), is_git, "{kind}");
        assert_eq!(told.contains(&(kind, "by-digest")), !matches!(kind, "dockerhub" | "quay"), "{kind}");
    }
}

#[tokio::test]
async fn a_receivers_filter_finds_in_a_registrys_body_what_that_registry_says_there() {
    for (kind, pointer, expected) in [
        ("dockerhub", "/push_data/tag", "5.0.1"),
        ("dockerhub", "/repository/repo_name", "team/apps/portal"),
        ("quay", "/updated_tags/2", "latest"),
        ("quay", "/docker_url", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/apps/portal"),
        ("acr", "/target/tag", "5.0.1"),
        ("acr", "/target/digest", DIGEST),
        ("acr", "/request/host", "123456789012.dkr.ecr.eu-west-1.amazonaws.com"),
        ("nexus", "/component/version", "5.0.1"),
        ("cdevents", "/context/type", "dev.cdevents.artifact.published.0.2.0"),
        ("harbor", "/tag", "5.0.1"),
    ] {
        let (receivers, relay, secret) = pair(kind, None);
        let entry = relay.targets.values().next().expect("target");
        let delivery = image(&["5.0.1", "5.0", "latest"], Some(DIGEST));
        let requests = entry.target.render(&delivery, &secrets(entry, &secret), NOW.parse().expect("time"));
        let request = requests.expect("fits").remove(0);
        HttpSender::new().send(request, &loopback(), WAIT).await.expect("answer");
        let found = receivers.accepted()[0].json();
        assert_eq!(found.pointer(pointer).and_then(serde_json::Value::as_str), Some(expected), "{kind} {pointer}");
    }
}

/// The value of a header of a Git event as a target with these keys of its Receiver sends it, or why it is not told.
fn named(receiver: &str, header: &str, delivery: &Delivery) -> Result<String, String> {
    let relay = relay(&format!(
        "a: {{ type: flux, url: 'https://x', receiver: {{ name: apps, namespace: flux-system, {receiver} }}, token: 'env:T' }}"
    ));
    let entry = relay.targets.values().next().expect("target");
    entry.target.wants(&delivery.event, delivery.original.as_ref())?;
    Ok(render(entry, delivery).headers[header].to_str().expect("text").to_owned())
}

#[test]
fn an_event_comes_under_the_name_that_its_receiver_waits_for_or_not_at_all() {
    let (push, tag) = (delivery("push.json"), delivery("push-tag.json"));
    let release = delivery("release-published.json");
    for (receiver, header, delivery, expected) in [
        ("type: github, events: [push]", "x-github-event", &push, Ok("push")),
        ("type: github, events: [PUSH]", "x-github-event", &tag, Ok("push")),
        ("type: github, events: [ping]", "x-github-event", &push, Err("`push`")),
        ("type: gitlab", "x-gitlab-event", &push, Ok("Push Hook")),
        ("type: gitlab, events: []", "x-gitlab-event", &tag, Ok("Tag Push Hook")),
        ("type: gitlab, events: [Push Hook]", "x-gitlab-event", &tag, Err("`Tag Push Hook`")),
        ("type: gitlab, events: [Push Hook, Release Hook]", "x-gitlab-event", &release, Ok("Release Hook")),
        ("type: bitbucket", "x-event-key", &push, Ok("repo:push")),
        ("type: bitbucket, events: ['repo:refs_changed']", "x-event-key", &push, Ok("repo:refs_changed")),
        ("type: bitbucket, events: ['pr:merged']", "x-event-key", &push, Err("`repo:push` and `repo:refs_changed`")),
        ("type: bitbucket, events: [release]", "x-event-key", &release, Ok("release")),
    ] {
        match (named(receiver, header, delivery), expected) {
            (Ok(name), Ok(expected)) => assert_eq!(name, expected, "{receiver}"),
            (Err(why), Err(expected)) => assert!(why.contains(expected), "{receiver}: {why}"),
            (found, _) => panic!("{receiver}: {found:?}"),
        }
    }
    let image = image(&["1"], None);
    let published = "dev.cdevents.artifact.published.0.2.0";
    assert_eq!(named(&format!("type: cdevents, events: ['{published}']"), "ce-type", &image).as_deref(), Ok(published));
    assert!(named("type: cdevents, events: [dev.cdevents.change.merged.0.2.0]", "ce-type", &image).is_err());
    assert_eq!(named("type: gitlab, events: [package]", "x-gitlab-event", &image).as_deref(), Ok("package"));
}

#[test]
fn the_senders_own_name_for_an_event_goes_before_ours() {
    let with = |header: &str, value: &str| {
        let mut delivery = delivery("push.json");
        let original = delivery.original.as_mut().expect("a Git event keeps it");
        original.headers = vec![(header.into(), value.into())];
        delivery
    };
    let system = with("x-gitlab-event", "System Hook");
    assert_eq!(named("type: gitlab", "x-gitlab-event", &system).as_deref(), Ok("System Hook"));
    // Unless the Receiver would refuse that one and take ours.
    assert_eq!(named("type: gitlab, events: [Push Hook]", "x-gitlab-event", &system).as_deref(), Ok("Push Hook"));
    assert_eq!(named("type: gitlab, events: [System Hook]", "x-gitlab-event", &system).as_deref(), Ok("System Hook"));
    // With a body of ours it is no longer the sender's request.
    let receiver = "{ type: gitlab, name: apps, namespace: flux-system, events: [System Hook] }";
    let relay =
        relay(&format!("a: {{ type: flux, url: 'https://x', receiver: {receiver}, token: 'env:T', body: event }}"));
    let target = &relay.targets.values().next().expect("target").target;
    assert!(target.wants(&system.event, system.original.as_ref()).is_err());
    let data_center = with("x-event-key", "repo:refs_changed");
    assert_eq!(named("type: bitbucket", "x-event-key", &data_center).as_deref(), Ok("repo:refs_changed"));
    assert_eq!(named("type: github", "x-github-event", &data_center).as_deref(), Ok("push"));
}

#[test]
fn what_a_receiver_has_no_use_for_is_not_told_with_the_reason() {
    let (push, by_digest, nothing) = (delivery("push.json"), image(&[], Some(DIGEST)), image(&[], None));
    let relay = relay(TARGETS);
    let why = |name: &str, delivery: &Delivery| {
        relay.targets[name].target.wants(&delivery.event, delivery.original.as_ref()).err()
    };
    for name in ["harbor", "dockerhub", "quay", "acr", "nexus", "cdevents"] {
        let expected = format!("Receivers of type {name} are for pushes to registries only");
        assert_eq!(why(&format!("flux-{name}"), &push), Some(expected));
    }
    for name in ["flux-dockerhub", "flux-quay"] {
        assert!(why(name, &by_digest).is_some_and(|why| why.contains("are told of tags")), "{name}");
    }
    assert_eq!(why("flux-nexus", &by_digest), None);
    assert!(why("flux-nexus", &nothing).is_some_and(|why| why.contains("has neither")));
    for name in ["flux-generic", "flux-github", "flux-gitlab", "flux-bitbucket", "flux-generic-oidc"] {
        assert_eq!([why(name, &push), why(name, &by_digest)], [None, None], "{name}");
    }
}

#[test]
fn while_a_token_is_being_changed_what_the_cluster_may_have_is_tried_in_turn_and_nothing_twice() {
    let relay = relay(TARGETS);
    let rendered = |name: &str, values: &[&str]| {
        let entry = &relay.targets[name];
        let mut resolved = Resolved::default();
        for reference in entry.secrets() {
            resolved.insert(reference.clone(), values.iter().map(|value| Secret::new(*value)).collect());
        }
        let rendered = entry.target.render(&image(&["1"], None), &resolved, NOW.parse().expect("time"));
        let requests = rendered.expect("rendered");
        let header = |request: &Outbound| request.headers.get("x-gitlab-token").map(|one| one.as_bytes().to_vec());
        requests.iter().map(|request| (request.url.clone(), header(request))).collect::<Vec<_>>()
    };
    let url = |token: &str| {
        let path = sluice::target::flux::hook_path(&Secret::new(token), "apps", "flux-system");
        format!("https://flux.example.com{path}")
    };
    let token = |token: &str| Some(token.as_bytes().to_vec());
    assert_eq!(
        rendered("flux-gitlab", &["new", "old"]),
        [(url("new"), token("new")), (url("old"), token("new")), (url("old"), token("old"))]
    );
    assert_eq!(rendered("flux-gitlab", &["new"]).len(), 1);
    assert_eq!(rendered("flux-gitlab", &["same", "same"]).len(), 1);
    // A value that no header can carry was never the other side's.
    assert_eq!(rendered("flux-gitlab", &["new", "old\n"]).len(), 2);
    // Nothing is made of the token but the path.
    assert_eq!(rendered("flux-dockerhub", &["new", "old"]), [(url("new"), None), (url("old"), None)]);
    // Everybody can compute this path, and the token is a new one each time.
    assert_eq!(rendered("flux-generic-oidc", &["new", "old"]), [(url(""), None)]);
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
        (201, "", Blame::Setup, "only success is 200"),
        (202, "", Blame::Setup, "instead of notification-controller"),
        (204, "", Blame::Setup, "only success is 200"),
        (400, "", Blame::Event, "refuses the signature"),
        (400, "<html>", Blame::Event, "not by a Receiver"),
        (401, "", Blame::Setup, "credential"),
        (403, "", Blame::Setup, "credential"),
        (404, "", Blame::Setup, "no Receiver has this path; is the token current, are name and namespace right?"),
        (404, "404 page not found\n", Blame::Setup, "does an ingress rewrite it"),
        (404, "default backend - 404", Blame::Setup, "an ingress or proxy has no route"),
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
    for status in [301, 307, 308, 413] {
        assert!(matches!(outcome(status, ""), Outcome::Rejected { .. }), "{status}");
    }
    let by_an_ingress = outcome(413, "<html>nginx</html>");
    assert!(matches!(&by_an_ingress, Outcome::Rejected { reason } if reason.contains("nginx")), "{by_an_ingress:?}");
}

#[test]
fn whatever_passes_by_itself_waits_for_as_long_as_the_answer_asks() {
    let relay = relay(TARGETS);
    let (now, asked) = (NOW.parse().expect("time"), [("retry-after", "40")]);
    for status in [408, 425, 429, 500, 502, 503, 504, 507] {
        let outcome = relay.targets["http-event"].target.classify(&response(status, &asked, ""), now);
        assert!(matches!(outcome, Outcome::RetryAfter { wait, .. } if wait.as_secs() == 40), "{status}: {outcome:?}");
        let outcome = crate::chats::chat("discord").target.classify(&response(status, &asked, ""), now);
        assert!(matches!(outcome, Outcome::RetryAfter { wait, .. } if wait.as_secs() == 40), "{status}: {outcome:?}");
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
            401 | 403 | 404 | 408 | 410 | 425 | 429 | 100..=199 | 500.. => "retry",
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
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;
    use tokio::sync::Notify;

    use super::*;
    use crate::ports::closed_port;

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
        // Long enough for a busy machine to connect in.
        let patience = Duration::from_secs(1);
        let sent = HttpSender::new().send(post(url), &loopback(), patience).await;
        assert_eq!(sent.map(|answer| answer.status), Err(SendError::TimedOut(patience)));
        // Nothing left where TLS was never agreed upon, or the other side was gone.
        let url = format!("https://127.0.0.1:{port}/hook/secret-path");
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let silent = format!("https://{}/hook/secret-path", silent.local_addr().expect("address"));
        for url in [url, silent] {
            let sent = HttpSender::new().send(post(url), &loopback(), patience / 20).await;
            assert!(matches!(&sent, Err(SendError::Connect(_) | SendError::Tls(_))), "{sent:?}");
        }
        let closed = closed_port();
        let address = closed.local_addr().expect("address");
        let refused = send(format!("http://{address}/hook/secret-path"), &loopback()).await;
        let Err(SendError::Connect(why)) = &refused else { panic!("{refused:?}") };
        assert!(!why.contains("secret-path"), "{why}");
    }

    #[tokio::test]
    async fn metadata_addresses_are_refused_however_a_url_spells_them_even_if_all_is_allowed() {
        let allow = ["0.0.0.0/0", "::/0"].map(|network| network.parse().expect("network")).to_vec();
        let anything =
            Connection { egress: sluice::domain::egress::Rules { allow }, plaintext: true, ..Connection::default() };
        for host in [
            "169.254.169.254",
            "0251.0376.0251.0376",
            "0xa9fea9fe",
            "0xA9.0xFE.0xA9.0xFE",
            "2852039166",
            "169.254.43518",
            "169.254.169.254.",
            "[::ffff:169.254.169.254]",
            "[64:ff9b:1:a9fe:a9:fe00:808:808]",
        ] {
            let refused = send(format!("http://{host}/latest/meta-data"), &anything).await;
            assert!(
                matches!(&refused, Err(SendError::Egress(why)) if why.contains("never allowed")),
                "{host}: {refused:?}"
            );
        }
    }

    /// A server that resets each connection, after it has read a request or at once.
    async fn resetting(reads: bool) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let port = listener.local_addr().expect("address").port();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut read = Vec::new();
                while reads && !read.ends_with(b"{}") && stream.read_buf(&mut read).await.expect("it is sent") > 0 {}
                stream.set_zero_linger().expect("it can be reset");
            }
        });
        port
    }

    #[tokio::test]
    async fn a_reset_before_the_request_left_is_no_connection_and_one_after_it_a_broken_one() {
        let port = resetting(true).await;
        let after = send(format!("http://127.0.0.1:{port}/"), &loopback()).await;
        assert!(matches!(after, Err(SendError::Broken(_))), "{after:?}");
        // TLS is what comes first.
        let port = resetting(false).await;
        let before = send(format!("https://127.0.0.1:{port}/"), &loopback()).await;
        assert!(matches!(before, Err(SendError::Connect(_))), "{before:?}");
    }
}
