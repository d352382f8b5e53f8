//! Every source type against its folder in `events/`: the same table of cases for each, and what comes out of every
//! sample as a golden file beside it.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::{Value, json};
use sluice::domain::alert::Alerts;
use sluice::domain::event::{Detail, Event, ImagePush};
use sluice::domain::name::Name;
use sluice::domain::secret::{Resolved, Secret, SecretRef};
use sluice::relay::{Relay, SourceEntry};
use sluice::rim::local::samples;
use sluice::rim::yaml;
use sluice::source::auth::AuthError;
use sluice::source::{Found, ParseError, Parsed, Request, SourceType, TYPES, Via};

use crate::golden;

mod acr;
mod distribution;
mod dockerhub;
mod harbor;
mod quay;

/// The time at which samples arrive.
const NOW: &str = "2026-08-20T12:00:00Z";

struct Folder {
    of: &'static SourceType,
    path: PathBuf,
    relay: Relay,
}

fn folders() -> Vec<Folder> {
    TYPES
        .iter()
        .map(|of| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("events").join(of.name);
            let text = fs::read_to_string(path.join("source.yaml")).unwrap_or_else(|error| {
                panic!(
                    "a source type needs samples, and source.yaml with the entry they are for: {}: {error}",
                    path.display()
                )
            });
            let entry = yaml::parse(&text).expect("YAML").value;
            let file = json!({ "sources": { of.name: entry }, "targets": {}, "routes": [] });
            let relay = Relay::from_value(&file).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
            Folder { of, path, relay }
        })
        .collect()
}

fn folder(name: &str) -> Folder {
    folders().into_iter().find(|folder| folder.of.name == name).expect("a type of this name")
}

/// The pushes in a request.
fn pushes(parsed: &Parsed) -> Vec<&ImagePush> {
    let mut pushes = Vec::new();
    for found in &parsed.events {
        if let Detail::ImagePush(push) = &found.detail {
            pushes.push(push);
        }
    }
    pushes
}

/// The groups of alerts in a request.
fn groups(parsed: &Parsed) -> Vec<&Alerts> {
    let group = |found: &'_ Found| matches!(found.detail, Detail::Alert(_));
    assert!(parsed.events.iter().all(group), "only alerts");
    parsed
        .events
        .iter()
        .filter_map(|found| match &found.detail {
            Detail::Alert(group) => Some(&**group),
            Detail::ImagePush(_) | Detail::Git(_) => None,
        })
        .collect()
}

/// What tells each event from all others.
fn identities(parsed: &Parsed) -> Vec<Option<&str>> {
    parsed.events.iter().map(|found| found.identity.as_deref()).collect()
}

impl Folder {
    fn entry(&self) -> &SourceEntry {
        &self.relay.sources[self.of.name]
    }

    fn samples(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(&self.path)
            .expect("folder")
            .map(|entry| entry.expect("file").path())
            .filter(|file| samples::is_body(file))
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{} has no samples", self.path.display());
        files
    }

    fn request(&self, file: &Path) -> Request {
        let sample = samples::read(file).expect("sample");
        Request {
            source: Name::parse(self.of.name).expect("name"),
            token: None,
            via: Via::Http,
            method: http::Method::POST,
            headers: sample.headers,
            body: sample.body,
            address: None,
        }
    }

    /// A first sample that is signed with these values.
    fn signed(&self, file: &Path, secrets: &Resolved) -> Request {
        let mut request = self.request(file);
        self.entry().source.sign(&mut request, secrets, NOW.parse().expect("time")).expect("signed");
        request
    }

    fn authenticate(&self, request: &Request, secrets: &Resolved) -> Result<(), AuthError> {
        self.entry().authenticate(request, secrets, NOW.parse().expect("time")).map(drop)
    }

    fn parse(&self, request: &Request, secrets: &Resolved) -> Result<Parsed, ParseError> {
        let authentic = self.entry().authenticate(request, secrets, NOW.parse().expect("time")).expect("authentic");
        self.entry().source.parse(authentic)
    }

    /// The same folder, with another entry of the relay file.
    fn with(self, entry: &Value) -> Self {
        let file = json!({ "sources": { self.of.name: entry }, "targets": {}, "routes": [] });
        Self { relay: Relay::from_value(&file).expect("sound"), ..self }
    }

    /// The body of a sample, to be changed.
    fn json(&self, sample: &str) -> Value {
        serde_json::from_slice(&self.request(&self.path.join(sample)).body).expect("JSON")
    }

    /// What comes out of a sample.
    fn outcome(&self, sample: &str) -> Result<Parsed, ParseError> {
        let request = self.request(&self.path.join(sample));
        self.outcome_of(request)
    }

    /// What comes out of this body, sent with the headers of a sample.
    fn outcome_of_body(&self, sample: &str, body: impl Into<Bytes>) -> Result<Parsed, ParseError> {
        let mut request = self.request(&self.path.join(sample));
        request.body = body.into();
        self.outcome_of(request)
    }

    fn outcome_of(&self, mut request: Request) -> Result<Parsed, ParseError> {
        let known = own_secrets(self.entry());
        self.entry().source.sign(&mut request, &known, NOW.parse().expect("time")).expect("signed");
        self.parse(&request, &known)
    }
}

/// Every secret has this value, in both of its places where a type takes several.
fn secrets(entry: &SourceEntry, value: impl Fn(usize) -> &'static str) -> Resolved {
    let mut resolved = Resolved::default();
    for (i, reference) in entry.secrets().iter().enumerate() {
        resolved.insert(reference.clone(), vec![stored(reference, value(i))]);
    }
    resolved
}

/// What is stored under `reference` where tests say `value`: that, or a key set with a key of its own for each value.
fn stored(reference: &SecretRef, value: &str) -> Secret {
    match reference {
        SecretRef::KeySet(_) if !value.is_empty() => {
            let keys: Value = serde_json::from_str(include_str!("../data/throw-away-rsa-keys.json")).expect("JSON");
            let index = VALUES.iter().position(|one| *one == value).unwrap_or(VALUES.len() - 1);
            Secret::new(json!({ "keys": [keys[index]] }).to_string())
        }
        _ => Secret::new(value),
    }
}

/// Values of secrets, in the one form that every type takes: `whsec_` and base64. Most take any bytes.
const VALUES: [&str; 3] =
    ["whsec_dGhlIGZpcnN0IHNlY3JldA==", "whsec_dGhlIHNlY29uZCBzZWNyZXQ=", "whsec_dGhlIHRoaXJkIHNlY3JldA=="];

fn own_secrets(entry: &SourceEntry) -> Resolved {
    secrets(entry, |i| VALUES[i])
}

#[test]
fn what_comes_out_of_every_sample_is_reviewed() {
    for folder in folders() {
        let secrets = own_secrets(folder.entry());
        for file in folder.samples() {
            let request = folder.signed(&file, &secrets);
            let parsed = folder.parse(&request, &secrets);
            let text = match &parsed {
                Ok(parsed) => describe(&folder, parsed, &request.body),
                Err(error) => json!({ "refused": error.to_string() }),
            };
            golden::check(&file.with_extension("golden"), &format!("{text:#}"));
        }
    }
}

fn describe(folder: &Folder, parsed: &Parsed, body: &Bytes) -> Value {
    let events: Vec<_> = parsed
        .events
        .iter()
        .map(|found| {
            let source = Name::parse(folder.of.name).expect("name");
            let event = Event {
                detail: found.detail.clone(),
                id: Event::id_of(&source, found.identity.as_deref().unwrap_or("the request's id")),
                source,
                cluster: None,
                labels: std::collections::BTreeMap::new(),
                time: found.time,
            };
            json!({ "identity": found.identity, "event": event })
        })
        .collect();
    let original = parsed.original.as_ref().map(|original| {
        let same = if original.body == *body { "as sent" } else { "unpacked" };
        json!({ "content_type": original.content_type, "headers": original.headers, "body": same })
    });
    let mut said = json!({
        "delivery_id": parsed.delivery_id, "summary": parsed.summary, "ignored": parsed.ignored,
        "events": events, "original": original,
    });
    if let Some(reply) = &parsed.reply {
        said["reply"] = reply.clone();
    }
    said
}

#[test]
fn every_secret_of_a_source_is_accepted() {
    for folder in folders() {
        let file = &folder.samples()[0];
        for reference in folder.entry().secrets() {
            let mut signer = Resolved::default();
            for one in folder.entry().secrets() {
                let value = if one == reference { VALUES[0] } else { VALUES[1] };
                signer.insert(one.clone(), vec![stored(one, value)]);
            }
            // The sender signs with its first secret; we know that value under `reference`, wherever that stands.
            let first = secrets(folder.entry(), |_| VALUES[0]);
            let request = folder.signed(file, &first);
            assert_eq!(folder.authenticate(&request, &signer), Ok(()), "{} {reference}", folder.of.name);
        }
    }
}

#[test]
fn the_value_before_the_current_one_is_accepted_where_the_store_gives_it() {
    for folder in folders() {
        let file = &folder.samples()[0];
        let request = folder.signed(file, &secrets(folder.entry(), |_| VALUES[1]));
        let mut both = Resolved::default();
        for reference in folder.entry().secrets() {
            both.insert(reference.clone(), vec![stored(reference, VALUES[0]), stored(reference, VALUES[1])]);
        }
        assert_eq!(folder.authenticate(&request, &both), Ok(()), "{}", folder.of.name);
    }
}

#[test]
fn a_wrong_an_empty_or_no_secret_refuses() {
    for folder in folders().iter().filter(|folder| !folder.entry().secrets().is_empty()) {
        let request = folder.signed(&folder.samples()[0], &own_secrets(folder.entry()));
        let none = Resolved::default();
        for (what, known) in
            [("wrong", secrets(folder.entry(), |_| "wrong")), ("empty", secrets(folder.entry(), |_| "")), ("no", none)]
        {
            let refused = folder.authenticate(&request, &known);
            assert!(matches!(refused, Err(AuthError::Mismatch(_))), "{} {what}: {refused:?}", folder.of.name);
        }
    }
}

#[test]
fn a_signature_made_with_an_empty_secret_is_refused_by_an_empty_secret() {
    for folder in folders().iter().filter(|folder| !folder.entry().secrets().is_empty()) {
        let empty = secrets(folder.entry(), |_| "");
        let mut request = folder.request(&folder.samples()[0]);
        if folder.entry().source.sign(&mut request, &empty, NOW.parse().expect("time")).is_ok() {
            assert!(folder.authenticate(&request, &empty).is_err(), "{}", folder.of.name);
        }
    }
}

#[test]
fn a_request_without_what_proves_its_sender_is_refused_whatever_the_secret() {
    for folder in folders().iter().filter(|folder| !folder.entry().secrets().is_empty()) {
        let request = folder.request(&folder.samples()[0]);
        let refused = folder.authenticate(&request, &own_secrets(folder.entry()));
        assert!(matches!(refused, Err(AuthError::Missing(_))), "{}: {refused:?}", folder.of.name);
    }
}

#[test]
fn a_signed_body_that_was_changed_by_one_bit_is_refused() {
    for folder in folders() {
        let known = own_secrets(folder.entry());
        let mut request = folder.signed(&folder.samples()[0], &known);
        let other = {
            let mut other = folder.request(&folder.samples()[0]);
            other.body = Bytes::from_static(b"{}");
            folder.entry().source.sign(&mut other, &known, NOW.parse().expect("time")).expect("signed");
            other
        };
        if other.headers == request.headers && other.token == request.token {
            continue; // What proves this sender does not depend on the body.
        }
        let mut body = request.body.to_vec();
        let middle = body.len() / 2;
        body[middle] ^= 1;
        request.body = body.into();
        assert!(matches!(folder.authenticate(&request, &known), Err(AuthError::Mismatch(_))), "{}", folder.of.name);
    }
}

#[test]
fn a_sender_that_cannot_sign_proves_itself_by_the_url_and_nothing_else() {
    for folder in folders() {
        let known = own_secrets(folder.entry());
        let request = folder.signed(&folder.samples()[0], &known);
        let by_url = folder.entry().url_secret().is_some();
        assert_eq!(request.token.is_some(), by_url, "{}", folder.of.name);
        if by_url {
            let bare = folder.request(&folder.samples()[0]);
            assert_eq!(request.headers, bare.headers, "{}", folder.of.name);
            for token in ["", "the first secret", &"0".repeat(64)] {
                let request = Request { token: Some(token.into()), ..request.clone() };
                let refused = folder.authenticate(&request, &known);
                assert!(matches!(refused, Err(AuthError::Mismatch(_))), "{} {token}: {refused:?}", folder.of.name);
            }
            // The token of one source is none for another, though both know the same secret.
            let elsewhere = Request { source: Name::parse("another").expect("name"), ..request };
            let refused = folder.authenticate(&elsewhere, &known);
            assert!(matches!(refused, Err(AuthError::Mismatch(_))), "{}: {refused:?}", folder.of.name);
        }
    }
}

#[test]
fn malformed_bodies_are_refused_with_a_reason_and_never_panic() {
    for folder in folders() {
        let known = own_secrets(folder.entry());
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let deep_object = format!("{{\"a\":{deep}}}");
        for body in ["", "not json", "{", "[]", "null", "42", "\"text\"", "{}x", "\u{feff}{}", &deep, &deep_object] {
            let mut request = folder.request(&folder.samples()[0]);
            request.body = Bytes::from(body.to_owned());
            folder.entry().source.sign(&mut request, &known, NOW.parse().expect("time")).expect("signed");
            match folder.parse(&request, &known) {
                Ok(parsed) => assert!(parsed.events.is_empty(), "{} made an event of {body:.20}", folder.of.name),
                Err(error) => assert!(error.to_string().len() > 10, "{} says too little", folder.of.name),
            }
        }
    }
}

#[test]
fn another_types_payload_makes_no_event_or_one_of_its_own() {
    let folders = folders();
    for folder in &folders {
        for other in folders.iter().filter(|other| other.of.name != folder.of.name) {
            let known = own_secrets(folder.entry());
            let mut request = folder.request(&other.samples()[0]);
            if folder.entry().source.sign(&mut request, &known, NOW.parse().expect("time")).is_ok()
                && folder.authenticate(&request, &known).is_ok()
            {
                let _ = folder.parse(&request, &known);
            }
        }
    }
}

/// Go, Python and JavaScript read the last of several values, and so would whoever is told.
#[test]
fn a_key_that_is_there_twice_makes_no_event_or_its_last_value_counts() {
    for folder in folders() {
        let known = own_secrets(folder.entry());
        for file in folder.samples() {
            let request = folder.signed(&file, &known);
            let Ok(Value::Object(members)) = serde_json::from_slice(&request.body) else { continue };
            let Ok(usual) = folder.parse(&request, &known) else { continue };
            for key in members.keys() {
                let body = String::from_utf8(request.body.to_vec()).expect("text");
                let doubled = body.replacen('{', &format!("{{{}:null,", json!(key)), 1);
                let mut request = folder.request(&file);
                request.body = doubled.into();
                let events = folder.outcome_of(request).map(|parsed| parsed.events).unwrap_or_default();
                assert!(events.is_empty() || events == usual.events, "{} {key}", file.display());
            }
        }
    }
}

mod alertmanager;
mod aliyun_acr;
mod amazon;
mod any_shape;
mod argocd;
mod artifactory;
mod azure_devops;
mod bitbucket;
mod buildkite;
mod cdevents;
mod cloudsmith;
mod cloudwatch;
mod codecommit;
mod ecr;
mod flux;
mod gcr;
mod ghcr;
mod git_hosts;
mod gitea;
mod github_alert;
mod gitlab;
mod grafana;
mod kubernetes;
mod nexus;
mod zot;

mod github {
    use super::*;

    fn folder() -> Folder {
        super::folder("github")
    }

    fn with_signature(signature: &str) -> Result<(), AuthError> {
        let folder = folder();
        let mut request = folder.request(&folder.path.join("push.json"));
        request.headers.insert("x-hub-signature-256", signature.parse().expect("header"));
        folder.authenticate(&request, &own_secrets(folder.entry()))
    }

    fn signature() -> String {
        let folder = folder();
        let request = folder.signed(&folder.path.join("push.json"), &own_secrets(folder.entry()));
        request.header("x-hub-signature-256").expect("signed").to_owned()
    }

    #[test]
    fn the_signature_in_upper_case_hex_is_the_same_signature() {
        let signature = signature();
        let (prefix, hex) = signature.split_once('=').expect("form");
        assert_eq!(with_signature(&format!("{prefix}={}", hex.to_uppercase())), Ok(()));
    }

    #[test]
    fn signatures_that_are_not_of_the_form_are_refused() {
        let good = signature();
        let bare = good.trim_start_matches("sha256=");
        for bad in [
            bare,
            &good[..good.len() - 2],
            "sha256=",
            "",
            &format!("SHA256={bare}"),
            &format!("sha1={bare}"),
            &format!("{good}00"),
            "sha256=zz",
        ] {
            assert!(matches!(with_signature(bad), Err(AuthError::Missing(_))), "{bad}");
        }
    }

    #[test]
    fn a_sha_1_signature_alone_is_not_enough() {
        let folder = folder();
        let mut request = folder.request(&folder.path.join("push.json"));
        request
            .headers
            .insert("x-hub-signature", "sha1=1d7333b80401de27f0343571a8eb2ba7fe8dd05c".parse().expect("header"));
        let refused = folder.authenticate(&request, &own_secrets(folder.entry()));
        assert!(matches!(refused, Err(AuthError::Missing(why)) if why.contains("X-Hub-Signature-256")));
    }

    #[test]
    fn two_signature_headers_are_refused() {
        let folder = folder();
        let known = own_secrets(folder.entry());
        let mut request = folder.signed(&folder.path.join("push.json"), &known);
        request.headers.append("x-hub-signature-256", "sha256=00".parse().expect("header"));
        assert!(matches!(folder.authenticate(&request, &known), Err(AuthError::Missing(_))));
    }

    /// GitHub's own example: docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries.
    #[test]
    fn the_published_test_vector_is_accepted() {
        let folder = folder();
        let mut known = Resolved::default();
        for reference in folder.entry().secrets() {
            known.insert(reference.clone(), vec![Secret::new("It's a Secret to Everybody")]);
        }
        let mut request = folder.request(&folder.path.join("push.json"));
        request.body = Bytes::from_static(b"Hello, World!");
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        request.headers.insert("x-hub-signature-256", signature.parse().expect("header"));
        assert_eq!(folder.authenticate(&request, &known), Ok(()));
    }

    #[test]
    fn other_content_types_are_refused_as_such() {
        let folder = folder();
        let known = own_secrets(folder.entry());
        let mut request = folder.signed(&folder.path.join("push.json"), &known);
        request.headers.insert("content-type", "text/plain".parse().expect("header"));
        assert!(matches!(folder.parse(&request, &known), Err(ParseError::UnsupportedMediaType(_))));
    }

    #[test]
    fn a_wrong_field_is_named_with_its_place_and_without_its_content() {
        let body = "{\"ref\":\"refs/heads/main\",\"repository\":{\"full_name\":[\"hunter2\"]}}";
        let error = folder().outcome_of_body("push.json", body).expect_err("malformed").to_string();
        assert!(error.contains("repository.full_name") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn the_events_key_decides_what_is_relayed_and_pings_never_are() {
        let folder = folder().with(&json!({
            "type": "github", "secret": "env:FIRST", "events": ["release", "ping"], "deletes": true,
        }));
        let events = |sample| folder.outcome(sample).expect("parsed").events.len();
        assert_eq!((events("push.json"), events("ping.json"), events("release-published.json")), (0, 0, 1));
    }

    #[test]
    fn a_deleted_ref_is_relayed_where_the_source_says_so() {
        let folder = folder().with(&json!({ "type": "github", "secret": "env:FIRST", "deletes": true }));
        assert_eq!(folder.outcome("push-branch-deleted.json").expect("parsed").events.len(), 1);
    }

    #[test]
    fn what_a_forced_push_took_away_is_in_no_list_of_paths() {
        let truncated = |sample| match &folder().outcome(sample).expect("parsed").events[0].detail {
            Detail::Git(git) => git.paths_truncated,
            Detail::ImagePush(_) | Detail::Alert(_) => panic!("no Git event"),
        };
        assert_eq!((truncated("push.json"), truncated("push-forced.json")), (false, true));
    }

    #[test]
    fn an_event_about_no_repository_is_of_no_use_even_where_it_was_asked_for() {
        let entry = json!({ "type": "github", "secret": "env:FIRST", "events": "organization" });
        let parsed = folder().with(&entry).outcome("organization-member-added.json").expect("parsed");
        assert!(parsed.events.is_empty() && parsed.ignored.is_some());
    }

    #[test]
    fn the_secret_references_of_the_samples_are_two() {
        let entry_secrets = folder().entry().secrets().to_vec();
        assert_eq!(entry_secrets, [SecretRef::Env("FIRST".into()), SecretRef::Env("SECOND".into())]);
    }
}
