//! Flux's alert events.

use sluice::domain::alert::{Alert, Severity, Status};
use sluice::domain::signature;

use super::*;

fn flux() -> Folder {
    folder("flux")
}

fn alert(parsed: &Parsed) -> &Alert {
    let groups = groups(parsed);
    assert_eq!((groups.len(), groups[0].alerts.len()), (1, 1), "one alert alone");
    &groups[0].alerts[0]
}

/// What comes out of a sample that was changed.
fn sent(sample: &str, change: impl Fn(&mut Value)) -> Parsed {
    let mut body = flux().json(sample);
    change(&mut body);
    flux().outcome_of_body(sample, body.to_string()).expect("parsed")
}

fn identity(parsed: &Parsed) -> &str {
    identities(parsed)[0].expect("an identity")
}

/// A request as a vector has it, and whether its sender is believed under the vector's token.
fn believed(folder: &Folder, vector: &Value, token: Option<String>) -> (Request, Resolved, Result<(), AuthError>) {
    let mut request = folder.request(&folder.path.join("kustomization-failed.json"));
    request.token = token;
    request.headers = vector["headers"]
        .as_object()
        .expect("headers")
        .iter()
        .map(|(name, value)| {
            let name = http::HeaderName::try_from(name.as_str()).expect("name");
            (name, value.as_str().expect("text").parse().expect("value"))
        })
        .collect();
    request.body = vector["body"].as_str().expect("body").to_owned().into();
    let mut secrets = Resolved::default();
    secrets.insert(SecretRef::Env("FIRST".into()), vec![Secret::new(vector["token"].as_str().expect("token"))]);
    let refused = folder.authenticate(&request, &secrets);
    (request, secrets, refused)
}

/// Bodies and signatures that Flux's own code made, or that it would not have made.
#[test]
fn every_vector_is_accepted_or_refused_as_it_says_and_tells_of_its_object() {
    let vectors: Value = serde_json::from_str(include_str!("../../data/flux-vectors.json")).expect("JSON");
    let vectors = vectors["alert_events"].as_array().expect("vectors");
    assert_eq!(vectors.len(), 18);
    let signed = flux().with(&json!({ "type": "flux", "secret": "env:FIRST" }));
    let by_url = flux().with(&json!({ "type": "flux", "secret": "env:FIRST", "url_token": true }));
    for vector in vectors {
        let id = vector["id"].as_str().expect("id");
        let mut vector = vector.clone();
        let (folder, token) = match vector["provider_type"].as_str() {
            Some("generic-hmac") => (&signed, None),
            _ => {
                vector["token"] = json!("a secret of ours");
                (&by_url, Some(signature::url_token(&Secret::new("a secret of ours"), "flux")))
            }
        };
        let (request, secrets, believed) = believed(folder, &vector, token);
        assert_eq!(believed.is_ok(), vector["expected"] == "accept", "{id}: {believed:?}");
        if believed.is_err() {
            continue;
        }
        let parsed = folder.parse(&request, &secrets).expect("parsed");
        let body: Value = serde_json::from_str(vector["body"].as_str().expect("body")).expect("JSON");
        if body["metadata"]["commit_status"] == "update" {
            assert!(parsed.events.is_empty() && parsed.ignored.is_some(), "{id}");
            continue;
        }
        let alert = alert(&parsed);
        let object = alert.object.as_ref().expect("an object");
        let fires = body["severity"] == "error";
        assert_eq!(alert.status == Status::Firing, fires, "{id}");
        assert_eq!(alert.severity, if fires { Severity::Error } else { Severity::Info }, "{id}");
        assert_eq!(json!(object.name), body["involvedObject"]["name"], "{id}");
        assert_eq!(json!(object.namespace), body["involvedObject"]["namespace"], "{id}");
        assert_eq!(json!(alert.text), body["message"], "{id}");
        assert_eq!(json!(alert.cluster), body["metadata"]["cluster"], "{id}");
    }
}

#[test]
fn what_was_not_signed_with_sha_256_is_refused_whatever_the_secret() {
    let folder = flux();
    let known = own_secrets(folder.entry());
    let signed = folder.signed(&folder.path.join("kustomization-failed.json"), &known);
    let good = signed.header("x-signature").expect("signed").to_owned();
    let bare = good.trim_start_matches("sha256=");
    for bad in [bare, "sha256=", "", &good[..good.len() - 2], &format!("SHA256={bare}"), &format!("sha512={bare}")] {
        let mut request = signed.clone();
        request.headers.insert("x-signature", bad.parse().expect("header"));
        assert!(matches!(folder.authenticate(&request, &known), Err(AuthError::Missing(_))), "{bad}");
    }
}

#[test]
fn with_a_url_token_a_signature_is_neither_needed_nor_enough() {
    let folder = flux().with(&json!({ "type": "flux", "secret": "env:FIRST", "url_token": true }));
    let known = own_secrets(folder.entry());
    let file = folder.path.join("kustomization-failed.json");
    let token = signature::url_token(&Secret::new(VALUES[0]), "flux");
    let by_url = Request { token: Some(token), ..folder.request(&file) };
    assert_eq!(folder.authenticate(&by_url, &known), Ok(()));
    assert!(matches!(folder.authenticate(&folder.signed(&file, &known), &known), Err(AuthError::Missing(_))));
}

#[test]
fn an_object_is_one_alert_from_its_failure_to_its_recovery() {
    let of = |severity: &str, reason: &str| {
        sent("kustomization-failed.json", |body| {
            body["severity"] = json!(severity);
            body["reason"] = json!(reason);
        })
    };
    let (failed, well) = (of("error", "BuildFailed"), of("info", "ReconciliationSucceeded"));
    assert_eq!((alert(&failed).status, alert(&failed).recovers), (Status::Firing, false));
    assert_eq!((alert(&well).status, alert(&well).recovers), (Status::Event, true));
    assert_eq!(alert(&failed).key, alert(&well).key);
    assert_eq!(groups(&failed)[0].group, groups(&well)[0].group);
    assert_ne!(identity(&failed), identity(&well));
}

#[test]
fn only_reasons_that_say_that_the_object_is_well_end_what_was_wrong() {
    for (reason, well) in [
        ("Succeeded", true),
        ("NewArtifact", true),
        ("UpgradeSucceeded", true),
        ("DriftCorrected", true),
        ("TestSucceeded", true),
        // The object's `Ready` stays false.
        ("RollbackSucceeded", false),
        ("UninstallSucceeded", false),
        ("Progressing", false),
        ("DependencyNotReady", false),
        ("HealthCheckCanceled", false),
        ("GarbageCollectionSucceeded", false),
    ] {
        let of = |severity: &str| {
            let parsed = sent("kustomization-failed.json", |body| {
                body["reason"] = json!(reason);
                body["severity"] = json!(severity);
            });
            alert(&parsed).recovers
        };
        assert_eq!((of("info"), of("error")), (well, false), "{reason}");
    }
}

#[test]
fn objects_without_uid_are_told_apart_by_kind_namespace_and_name() {
    let key = |place: &str, value: &str| {
        let parsed = sent("minimal-zero-time.json", |body| body["involvedObject"][place] = json!(value));
        alert(&parsed).key.clone()
    };
    let own = key("name", "b");
    assert_eq!(own, "Bucket/apps/b");
    assert!([key("name", "c"), key("namespace", "other"), key("kind", "GitRepository")].iter().all(|key| *key != own));
}

/// kustomize-controller tries again every few minutes, and what failed, came back and fails again is news.
#[test]
fn the_same_failure_at_another_time_is_another_event() {
    let of = |time: &str, environment: &str| {
        let parsed = sent("kustomization-failed.json", |body| {
            body["timestamp"] = json!(time);
            body["metadata"]["env"] = json!(environment);
        });
        identity(&parsed).to_owned()
    };
    let first = of("2026-01-02T03:11:35Z", "staging");
    assert_eq!(of("2026-01-02T03:11:35Z", "staging"), first, "a retry");
    assert_eq!(of("2026-01-02T03:11:35Z", "production"), first, "of another Alert");
    assert_ne!(of("2026-01-02T03:15:35Z", "staging"), first);
}

/// notification-controller posts an event once for each Alert that takes it; `eventMetadata` differs.
#[test]
fn an_event_that_several_alerts_take_is_one() {
    let of = |environment: &str| {
        let parsed = sent("helmrelease-upgraded.json", |body| body["metadata"]["env"] = json!(environment));
        identity(&parsed).to_owned()
    };
    assert_eq!(of("staging"), of("production"));
}

/// helm-controller#678: a real second upgrade was taken for the first.
#[test]
fn another_revision_or_another_tag_is_news() {
    let revision = |revision: &str| {
        let parsed = sent("helmrelease-upgraded.json", |body| body["metadata"]["revision"] = json!(revision));
        identity(&parsed).to_owned()
    };
    assert_ne!(revision("6.9.1"), revision("6.9.2"));
    let message = |message: &str| {
        let parsed = sent("imagepolicy-new-tag.json", |body| body["message"] = json!(message));
        identity(&parsed).to_owned()
    };
    assert_ne!(message("resolved to 1.4.3"), message("resolved to 1.4.4"));
}

#[test]
fn a_heartbeat_is_no_event_whether_its_mark_has_a_prefix_or_not_and_says_what_it_would_end() {
    for mark in ["commit_status", "event.toolkit.fluxcd.io/commit_status", "kustomize.toolkit.fluxcd.io/commit_status"]
    {
        let of = |severity: &str| {
            sent("commit-status-update.json", |body| {
                body["metadata"] = json!({ mark: "update" });
                body["severity"] = json!(severity);
            })
        };
        let well = of("info");
        assert!(well.events.is_empty() && well.ignored.is_some(), "{mark}");
        let [Found { detail: Detail::Alert(group), .. }] = &well.heartbeats[..] else { panic!("{well:?}") };
        let failed = flux().outcome("kustomization-failed.json").expect("parsed");
        assert_eq!(group.group, groups(&failed)[0].group);
        assert_eq!((group.status(), group.severity()), (Status::Resolved, Severity::Error));
        assert!(of("error").heartbeats.is_empty(), "{mark}");
    }
}

/// A Kustomization's own words when its health checks pass again, before the reconciliation has ended.
#[test]
fn health_checks_that_pass_again_end_what_was_wrong_and_other_progress_does_not() {
    for (message, well) in [
        ("Health check passed in 4.012345678s", true),
        ("Deployment/apps/web configured", false),
        ("Running health checks", false),
    ] {
        let parsed = sent("kustomization-changed.json", |body| body["message"] = json!(message));
        assert_eq!((alert(&parsed).status, alert(&parsed).recovers), (Status::Event, well), "{message}");
    }
}

#[test]
fn metadata_with_and_without_prefixes_are_the_same_labels() {
    let parsed = flux().outcome("metadata-with-prefixes.json").expect("parsed");
    let labels = &alert(&parsed).labels;
    assert_eq!(labels["revision"], "main@sha1:0f1e2d3c4b5a69788796a5b4c3d2e1f001234567", "the controller's own");
    assert_eq!(labels["env"], "production", "the one without a prefix");
    assert_eq!((labels["replicas"].as_str(), labels["canary"].as_str()), ("3", "true"));
    assert!(["empty", "none", "odd", "odder"].iter().all(|name| !labels.contains_key(*name)));
}

#[test]
fn a_wrong_field_is_named_with_its_place_and_without_its_content() {
    let folder = flux();
    let mut body = folder.json("kustomization-failed.json");
    body["involvedObject"]["name"] = json!({ "hunter2": 1 });
    let error =
        folder.outcome_of_body("kustomization-failed.json", body.to_string()).expect_err("malformed").to_string();
    assert!(error.contains("involvedObject.name") && !error.contains("hunter2"), "{error}");
}
