use sluice::domain::alert::{Alert, Severity, Status};

use super::*;

fn github() -> Folder {
    folder("github")
}

fn told(sample: &str) -> Parsed {
    github().outcome(sample).expect("parsed")
}

fn first(parsed: &Parsed) -> &Alert {
    &groups(parsed)[0].alerts[0]
}

#[test]
fn security_alerts_are_relayed_only_where_they_are_listed() {
    let entry = json!({ "type": "github", "secret": "env:FIRST" });
    for sample in
        ["dependabot-alert-created.json", "code-scanning-alert-fixed.json", "secret-scanning-alert-created.json"]
    {
        let parsed = github().with(&entry).outcome(sample).expect("parsed");
        assert!(parsed.events.is_empty() && parsed.ignored.is_some(), "{sample}");
        assert_eq!(told(sample).events.len(), 1, "{sample}");
    }
}

#[test]
fn what_opens_an_alert_and_what_ends_it_have_one_key() {
    for (fires, ends) in [
        ("dependabot-alert-created.json", "dependabot-alert-fixed.json"),
        ("dependabot-alert-created.json", "dependabot-alert-dismissed.json"),
        ("code-scanning-alert-appeared.json", "code-scanning-alert-fixed.json"),
        ("secret-scanning-alert-publicly-leaked.json", "secret-scanning-alert-resolved.json"),
    ] {
        let (one, other) = (told(fires), told(ends));
        assert_eq!(first(&one).key, first(&other).key, "{fires} {ends}");
        assert_eq!((first(&one).status, first(&other).status), (Status::Firing, Status::Resolved), "{fires} {ends}");
        assert!(first(&other).ended.is_some(), "{ends}");
        assert_ne!(identities(&one), identities(&other), "{fires} {ends}");
    }
}

#[test]
fn severity_is_the_advisorys_or_the_rules_and_a_leak_is_critical() {
    for (sample, severity) in [
        ("dependabot-alert-created.json", Severity::Warning),
        ("code-scanning-alert-appeared.json", Severity::Error),
        ("code-scanning-alert-closed-without-instance.json", Severity::Info),
        ("secret-scanning-alert-created.json", Severity::Error),
        ("secret-scanning-alert-publicly-leaked.json", Severity::Critical),
        ("repository-vulnerability-alert-dismissed.json", Severity::Warning),
    ] {
        assert_eq!(first(&told(sample)).severity, severity, "{sample}");
    }
}

#[test]
fn the_secret_that_was_found_is_told_to_nobody() {
    let parsed = told("secret-scanning-alert-created.json");
    let text = serde_json::to_string(groups(&parsed)[0]).expect("JSON");
    assert!(text.contains("Adafruit") && !text.contains("goes-nowhere"), "{text}");
    let original: Value = serde_json::from_slice(&parsed.original.expect("passed on").body).expect("JSON");
    assert_eq!(original["alert"]["number"], 191);
    assert!(!original.to_string().contains("goes-nowhere"), "{original}");
}

#[test]
fn who_an_alert_is_assigned_to_is_no_news() {
    let parsed = told("dependabot-alert-assigned.json");
    assert!(parsed.events.is_empty() && parsed.ignored.is_some());
}

#[test]
fn an_alert_without_a_number_is_refused_with_the_place() {
    let error = github().outcome("dependabot-alert-malformed-without-number.json").expect_err("malformed").to_string();
    assert!(error.contains("`alert.number`"), "{error}");
}
