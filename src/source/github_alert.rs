//! GitHub's security alerts: Dependabot's, of code scanning and of secret scanning. They are relayed where a source's
//! `events` lists them; a workflow that failed is no such alert, but a Git event with a status.
//!
//! An alert has a number in its repository, which is its name for life. What is done to it is the `action`: opened, and
//! opened again, it fires; fixed or dismissed, it is over; who it is assigned to is no news. The secret that was found is
//! in the payload of `secret_scanning_alert`: it is neither read nor passed on. `repository_vulnerability_alert` is the
//! older form of `dependabot_alert`, with other actions.
//! Severity: what the advisory or the rule says; where nothing says, a warning. A secret that was found is an error, and
//! critical where it leaked to the public.
//! Source: docs.github.com/webhooks/webhook-events-and-payloads; github/rest-api-description (read 2026-08).

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::git;
use super::github_hook::Envelope;
use super::json::{self, text};
use super::{ParseError, Parsed, alert, severity};
use crate::domain::alert::{Alert, Object, Severity, Status};

/// The events that become alerts.
pub const EVENTS: &[&str] =
    &["dependabot_alert", "code_scanning_alert", "secret_scanning_alert", "repository_vulnerability_alert"];

#[derive(Deserialize)]
struct Repository {
    full_name: Option<String>,
    html_url: Option<String>,
}

#[derive(Deserialize)]
struct Package {
    ecosystem: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Dependency {
    package: Option<Package>,
    manifest_path: Option<String>,
}

#[derive(Deserialize)]
struct Advisory {
    ghsa_id: Option<String>,
    cve_id: Option<String>,
    summary: Option<String>,
    description: Option<String>,
    severity: Option<String>,
}

#[derive(Deserialize)]
struct Rule {
    id: Option<String>,
    severity: Option<String>,
    security_severity_level: Option<String>,
    description: Option<String>,
    full_description: Option<String>,
}

#[derive(Deserialize)]
struct Tool {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Words {
    text: Option<String>,
}

#[derive(Deserialize)]
struct Location {
    path: Option<String>,
    start_line: Option<u64>,
}

#[derive(Deserialize)]
struct Instance {
    #[serde(rename = "ref")]
    reference: Option<String>,
    message: Option<Words>,
    location: Option<Location>,
}

/// An alert of any of the events: they have few fields in common, and none that means another thing elsewhere.
#[derive(Deserialize)]
struct Told {
    number: Option<u64>,
    html_url: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    created_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "json::time")]
    updated_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "json::time")]
    fixed_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "json::time")]
    dismissed_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "json::time")]
    auto_dismissed_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "json::time")]
    resolved_at: Option<Timestamp>,
    dismissed_reason: Option<String>,
    dismissed_comment: Option<String>,
    // dependabot_alert
    dependency: Option<Dependency>,
    security_advisory: Option<Advisory>,
    // code_scanning_alert
    rule: Option<Rule>,
    tool: Option<Tool>,
    most_recent_instance: Option<Instance>,
    // secret_scanning_alert
    secret_type: Option<String>,
    secret_type_display_name: Option<String>,
    validity: Option<String>,
    resolution: Option<String>,
    resolution_comment: Option<String>,
    // repository_vulnerability_alert
    affected_package_name: Option<String>,
    external_identifier: Option<String>,
    ghsa_id: Option<String>,
    severity: Option<String>,
    dismiss_reason: Option<String>,
}

#[derive(Deserialize)]
struct Payload {
    action: Option<String>,
    alert: Option<Told>,
    repository: Option<Repository>,
}

/// What is done to an alert; `None` for what is no news of it.
fn status(action: &str) -> Option<Status> {
    match action {
        "created" | "reopened" | "reintroduced" | "auto_reopened" | "reopened_by_user" | "appeared_in_branch"
        | "publicly_leaked" | "create" | "reopen" => Some(Status::Firing),
        "fixed" | "dismissed" | "auto_dismissed" | "closed_by_user" | "resolved" | "revoked" | "dismiss"
        | "resolve" => Some(Status::Resolved),
        _ => None,
    }
}

/// Tells the alert that a delivery of one of [`EVENTS`] is about.
pub fn parse(delivery: &Envelope) -> Result<Parsed, ParseError> {
    let missing = |place: &str| ParseError::Malformed(format!("the body's `{place}` is missing").into());
    let Payload { action, alert: told, repository } = json::read(&delivery.body)?;
    let action = text(action).ok_or_else(|| missing("action"))?;
    let summary = format!("{} {action}", delivery.event);
    let Some(status) = status(&action) else {
        return Ok(Parsed::ignored(summary, "the alert goes on as it was"));
    };
    let told = told.ok_or_else(|| missing("alert"))?;
    let number = told.number.ok_or_else(|| missing("alert.number"))?;
    let Repository { full_name, html_url } = repository.ok_or_else(|| missing("repository"))?;
    let full_name = text(full_name).ok_or_else(|| missing("repository.full_name"))?;
    let host = html_url.as_deref().and_then(git::host).unwrap_or_else(|| "github.com".into());

    let (package, manifest) = told.dependency.map_or((None, None), |one| (one.package, one.manifest_path));
    let (ecosystem, package) = package.map_or((None, None), |package| (package.ecosystem, package.name));
    let package = text(package).or(text(told.affected_package_name));
    let (mut what, mut words, mut said, mut reason) = (None, Vec::new(), text(told.severity), text(told.ghsa_id));
    let mut cve = text(told.external_identifier);
    if let Some(advisory) = told.security_advisory {
        what = text(advisory.summary);
        words.extend(text(advisory.description));
        said = text(advisory.severity);
        reason = text(advisory.ghsa_id);
        cve = text(advisory.cve_id);
    }
    if let Some(rule) = told.rule {
        what = text(rule.description).or_else(|| text(rule.id.clone()));
        words.extend(text(rule.full_description));
        said = text(rule.security_severity_level).or(text(rule.severity));
        reason = text(rule.id);
    }
    let (mut reference, mut path) = (None, None);
    if let Some(instance) = told.most_recent_instance {
        words.extend(instance.message.and_then(|message| text(message.text)));
        reference = text(instance.reference);
        path = instance.location.and_then(|Location { path, start_line }| {
            let line = start_line.map(|line| format!(":{line}")).unwrap_or_default();
            Some(format!("{}{line}", text(path)?))
        });
        words.extend(path.clone());
    }
    let is_secret = delivery.event == "secret_scanning_alert";
    if is_secret {
        reason = text(told.secret_type);
        what =
            text(told.secret_type_display_name).or_else(|| reason.clone()).map(|kind| format!("secret found: {kind}"));
    }
    if status == Status::Resolved {
        let reason = [told.dismissed_reason, told.resolution, told.dismiss_reason].into_iter().find_map(text);
        let why = [reason, text(told.dismissed_comment).or(text(told.resolution_comment))];
        let why = why.into_iter().flatten().collect::<Vec<_>>().join(": ");
        words.extend(text(Some(why)));
    }
    let severity = match (is_secret, action.as_str()) {
        (true, "publicly_leaked") => Severity::Critical,
        (true, _) => Severity::Error,
        (false, _) => said.as_deref().and_then(severity::of).unwrap_or(Severity::Warning),
    };

    // Other Git hosts of one's own may have a repository of the same name.
    let key = format!("{host}/{full_name} {} {number}", delivery.event);
    let about = match (package.as_deref(), git::subject(what)) {
        (Some(package), Some(what)) => format!("{package}: {what}"),
        (Some(one), None) => one.to_owned(),
        (None, Some(what)) => what,
        (None, None) => delivery.event.replace('_', " "),
    };
    let mut alert = Alert::new(key, status, severity, format!("{full_name}: {about}"));
    alert.text = text(Some(words.join("\n\n")));
    alert.reason = reason;
    alert.object = Some(Object { kind: Some("Repository".into()), namespace: None, name: full_name });
    let labels = [
        ("event", Some(delivery.event.clone())),
        ("action", Some(action.clone())),
        ("number", Some(number.to_string())),
        ("severity", said),
        ("package", package),
        ("ecosystem", ecosystem),
        ("manifest", manifest),
        ("cve", cve),
        ("tool", told.tool.and_then(|tool| tool.name)),
        ("ref", reference),
        ("path", path),
        ("validity", told.validity),
    ];
    alert.labels = labels.into_iter().filter_map(|(name, value)| Some((name.to_owned(), text(value)?))).collect();
    alert.links = alert::link("Alert", told.html_url).into_iter().collect();
    alert.started = told.created_at;
    let over = told.fixed_at.or(told.resolved_at).or(told.dismissed_at).or(told.auto_dismissed_at);
    alert.ended = over.filter(|_| status == Status::Resolved);
    let time = alert.ended.or(told.updated_at).or(told.created_at);
    // Code scanning gives no time of a change; a delivery's id is one for all hooks that the event goes to.
    let id = delivery.id.clone().or_else(|| time.map(|time| time.to_string())).unwrap_or_default();
    let found = alert::single(alert, &format!("{action} {id}"), time);
    Ok(Parsed { summary, ..alert::parsed(vec![found]) })
}

/// A delivery's body as it may be passed on: without the secret that was found.
pub fn without_secret(delivery: &Envelope) -> Result<Bytes, ParseError> {
    if delivery.event != "secret_scanning_alert" {
        return Ok(delivery.body.clone());
    }
    let mut body: Value = json::read(&delivery.body)?;
    if let Some(alert) = body.pointer_mut("/alert").and_then(Value::as_object_mut) {
        alert.remove("secret");
    }
    Ok(body.to_string().into())
}
