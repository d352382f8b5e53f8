use std::fs;

use sluice::domain::alert::{Alert, Severity, Status};
use sluice::rim::yaml;

use super::*;

fn argocd() -> Folder {
    folder("argocd")
}

fn told(sample: &str) -> Parsed {
    argocd().outcome(sample).expect("parsed")
}

fn sent(sample: &str, change: impl Fn(&mut Value)) -> Parsed {
    let mut body = argocd().json(sample);
    change(&mut body);
    argocd().outcome_of_body(sample, body.to_string()).expect("parsed")
}

fn first(parsed: &Parsed) -> &Alert {
    &groups(parsed)[0].alerts[0]
}

#[test]
fn an_application_is_one_alert_whatever_is_wrong_with_it_until_it_is_well() {
    let state = |sample: &str| {
        let parsed = told(sample);
        let alert = first(&parsed);
        (alert.reason.clone().unwrap_or_default(), alert.status, alert.severity, alert.recovers)
    };
    for (sample, reason, status, severity, recovers) in [
        ("sync-failed.json", "SyncFailed", Status::Firing, Severity::Error, false),
        ("health-degraded.json", "HealthDegraded", Status::Firing, Severity::Error, false),
        ("sync-status-unknown.json", "SyncStatusUnknown", Status::Firing, Severity::Warning, false),
        ("sync-running.json", "SyncRunning", Status::Event, Severity::Info, false),
        ("sync-succeeded.json", "SyncSucceeded", Status::Event, Severity::Info, true),
        ("sync-succeeded-while-progressing.json", "SyncSucceeded", Status::Event, Severity::Info, true),
        ("deleted.json", "Deleted", Status::Event, Severity::Info, true),
        ("new-of-several-sources.json", "", Status::Event, Severity::Info, false),
    ] {
        assert_eq!(state(sample), (reason.to_owned(), status, severity, recovers), "{sample}");
        assert_eq!(first(&told(sample)).key, first(&told("sync-failed.json")).key, "{sample}");
    }
}

#[test]
fn the_triggers_of_the_catalogue_say_what_is_meant_of_the_state() {
    for (event, degraded, reason) in [
        ("on-created", false, "Created"),
        ("on-deleted", false, "Deleted"),
        ("on-sync-running", true, "SyncRunning"),
        ("on-sync-failed", false, "SyncFailed"),
        ("on-health-degraded", true, "HealthDegraded"),
        ("on-sync-status-unknown", false, "SyncStatusUnknown"),
        ("on-sync-succeeded", false, "SyncSucceeded"),
        ("on-deployed", false, "SyncSucceeded"),
        // What succeeded made it worse.
        ("on-sync-succeeded", true, "HealthDegraded"),
        // Of the user's own: the state speaks.
        ("on-friday", true, "HealthDegraded"),
    ] {
        let parsed = sent("sync-succeeded.json", |body| {
            body["event"] = json!(event);
            body["healthStatus"] = json!(if degraded { "Degraded" } else { "Healthy" });
        });
        assert_eq!(first(&parsed).reason.as_deref(), Some(reason), "{event}");
        assert_eq!(first(&parsed).labels["event"], event);
    }
}

#[test]
fn the_same_news_twice_is_one_and_another_operation_or_state_is_another() {
    let identity = |change: fn(&mut Value)| {
        let parsed = sent("sync-failed.json", change);
        identities(&parsed)[0].map(str::to_owned).expect("an identity")
    };
    let own = identity(|_| {});
    assert_eq!(identity(|body| body["message"] = json!("other words")), own);
    assert_ne!(identity(|body| body["finishedAt"] = json!("2026-03-05T10:12:40Z")), own);
    assert_ne!(identity(|body| body["revision"] = json!("c0ffee")), own);
    assert_ne!(identity(|body| body["phase"] = json!("Succeeded")), own);
    assert_ne!(identity(|body| body["app"]["uid"] = json!("another")), own);
}

#[test]
fn health_that_degrades_again_is_news() {
    let identity = |since: &str| {
        let parsed = sent("health-degraded.json", |body| body["healthSince"] = json!(since));
        identities(&parsed)[0].map(str::to_owned)
    };
    assert_eq!(identity("2026-03-05T09:20:05Z"), identity("2026-03-05T09:20:05Z"));
    assert_ne!(identity("2026-03-05T09:20:05Z"), identity("2026-03-05T09:23:05Z"));
}

#[test]
fn what_a_template_has_no_value_for_is_nothing() {
    let parsed = told("deployed-of-a-template-with-events.json");
    assert_eq!((first(&parsed).text.as_deref(), first(&parsed).recovers), (None, true));
    let parsed = told("trigger-of-ones-own.json");
    assert!(!first(&parsed).labels.contains_key("phase"));
    assert_eq!(first(&parsed).reason.as_deref(), Some("on-window-closed"));
}

#[test]
fn a_body_that_is_not_the_templates_is_refused_with_the_place() {
    for (sample, place) in [
        ("malformed-without-app.json", "`app`"),
        ("malformed-without-name.json", "`app.name`"),
        ("message-instead-of-template.json", "not JSON"),
    ] {
        let error = argocd().outcome(sample).expect_err("malformed").to_string();
        assert!(error.contains(place), "{sample}: {error}");
    }
    let error = argocd().outcome_of_body("sync-failed.json", r#"{"app":{"name":["hunter2"]}}"#);
    let error = error.expect_err("malformed").to_string();
    assert!(error.contains("app.name") && !error.contains("hunter2"), "{error}");
}

/// The page for users and what is read here name the same fields.
#[test]
fn the_template_that_users_are_given_says_all_that_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/argocd-notifications.yaml");
    let page = yaml::parse(&fs::read_to_string(path).expect("page")).expect("YAML").value;
    let template = page["data"]["template.sluice"].as_str().expect("template");
    let template = yaml::parse(template).expect("YAML").value;
    let body = template["webhook"]["sluice"]["body"].as_str().expect("body");
    let mut named: Vec<_> = body
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once("\": "))
        .map(|(name, _)| name)
        .collect();
    let sample = argocd().json("sync-failed.json");
    let mut in_sample: Vec<&str> = Vec::new();
    for (name, value) in sample.as_object().expect("object") {
        in_sample.push(name);
        if matches!(name.as_str(), "app" | "source") {
            in_sample.extend(value.as_object().expect("object").keys().map(String::as_str));
        }
    }
    named.sort_unstable();
    in_sample.sort_unstable();
    assert_eq!(named, in_sample);
}
