//! Argo CD's notifications, by its `webhook` service with the template in `docs/argocd-notifications.yaml`.
//!
//! Method, headers and body are the user's own; nothing is signed. A header of the service is the proof, or the URL's
//! token. Without a template for the service Argo CD sends a `GET`; without a header for it, no `Content-Type`. It tries 4
//! times within some seconds where it gets no answer, 429 or 5xx.
//! Source: argoproj/notifications-engine, pkg/services/webhook.go and pkg/templates/service.go; argoproj/argo-cd,
//! notifications_catalog (read 2026-08).
//!
//! What becomes of a notification:
//! - The alert is the application: whatever is wrong with it, it is the same alert until the application is well.
//! - The template says what the application is like; `event`, the name of a trigger out of Argo CD's catalogue, may say what
//!   is meant of that. A sync that failed, and health that degraded, fire as errors; a sync status that is unknown as
//!   a warning. A sync that succeeded ends what fired before, unless health is degraded; so does a deletion.
//! - A text with a field that is not there has `<no value>` in its place: that is nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::auth::{Authentic, HeaderKeys, Proof};
use super::{ParseError, Parsed, Proven, alert, json};
use crate::domain::alert::{Alert, Object, Severity, Status};

crate::keys! {
    /// An `argocd` source.
    pub struct ArgoCd {
        ..proof: HeaderKeys,
    }
}

impl Proven for ArgoCd {
    fn proof(&self) -> &dyn Proof {
        &self.proof
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        json::declared(&request)?;
        parse(json::read(&request.body)?)
    }
}

#[derive(Deserialize)]
struct App {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    project: Option<String>,
}

#[derive(Deserialize)]
struct Destination {
    server: Option<String>,
    name: Option<String>,
    namespace: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Origin {
    #[serde(rename = "repoURL")]
    repo_url: Option<String>,
    target_revision: Option<String>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notification {
    event: Option<String>,
    app: Option<App>,
    destination: Option<Destination>,
    source: Option<Origin>,
    revision: Option<String>,
    sync_status: Option<String>,
    health_status: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    health_since: Option<Timestamp>,
    phase: Option<String>,
    #[serde(default, deserialize_with = "json::time")]
    started_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "json::time")]
    finished_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "json::time")]
    deleted_at: Option<Timestamp>,
    message: Option<String>,
    #[serde(default, deserialize_with = "json::list")]
    conditions: Vec<Condition>,
    url: Option<String>,
}

/// What is told of an application.
#[derive(Clone, Copy, PartialEq, Eq)]
enum News {
    Created,
    Deleted,
    SyncRunning,
    SyncFailed,
    HealthDegraded,
    SyncStatusUnknown,
    SyncSucceeded,
    /// Nothing of the above: a trigger of the user's own.
    State,
}

impl News {
    fn of(event: Option<&str>, phase: Option<&str>, health: Option<&str>, sync: Option<&str>, deleted: bool) -> Self {
        let failed = matches!(phase, Some("Failed" | "Error"));
        let degraded = health == Some("Degraded");
        match event {
            Some("on-created") => Self::Created,
            Some("on-deleted") => Self::Deleted,
            Some("on-sync-running") => Self::SyncRunning,
            Some("on-sync-failed") => Self::SyncFailed,
            Some("on-health-degraded") => Self::HealthDegraded,
            Some("on-sync-status-unknown") => Self::SyncStatusUnknown,
            Some("on-sync-succeeded" | "on-deployed") if !degraded => Self::SyncSucceeded,
            // Its own trigger or not: where it does not say, what is worst counts.
            _ if deleted => Self::Deleted,
            _ if failed => Self::SyncFailed,
            _ if degraded => Self::HealthDegraded,
            _ if sync == Some("Unknown") => Self::SyncStatusUnknown,
            _ if matches!(phase, Some("Running" | "Terminating")) => Self::SyncRunning,
            _ if phase == Some("Succeeded") => Self::SyncSucceeded,
            _ => Self::State,
        }
    }

    /// One word for it, in the words of Argo CD's triggers.
    fn reason(self) -> Option<&'static str> {
        match self {
            Self::Created => Some("Created"),
            Self::Deleted => Some("Deleted"),
            Self::SyncRunning => Some("SyncRunning"),
            Self::SyncFailed => Some("SyncFailed"),
            Self::HealthDegraded => Some("HealthDegraded"),
            Self::SyncStatusUnknown => Some("SyncStatusUnknown"),
            Self::SyncSucceeded => Some("SyncSucceeded"),
            Self::State => None,
        }
    }

    fn severity(self) -> Severity {
        match self {
            Self::SyncFailed | Self::HealthDegraded => Severity::Error,
            Self::SyncStatusUnknown => Severity::Warning,
            _ => Severity::Info,
        }
    }
}

/// A text that is worth something, of a template that may have had nothing to put into it.
fn known(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty() && text != "<no value>")
}

fn parse(told: Notification) -> Result<Parsed, ParseError> {
    let missing = |place: &str| ParseError::Malformed(format!("the body's `{place}` is missing").into());
    let app = told.app.ok_or_else(|| missing("app"))?;
    let object = Object {
        kind: Some("Application".into()),
        namespace: known(app.namespace),
        name: known(app.name).ok_or_else(|| missing("app.name"))?,
    };
    let event = known(told.event);
    let [phase, health, sync] = [told.phase, told.health_status, told.sync_status].map(known);
    let deleted = told.deleted_at.is_some();
    let news = News::of(event.as_deref(), phase.as_deref(), health.as_deref(), sync.as_deref(), deleted);
    // A trigger of the user's own speaks for itself.
    let reason = news.reason().map(str::to_owned).or_else(|| event.clone());
    let status = match news.severity() {
        Severity::Info => Status::Event,
        _ => Status::Firing,
    };
    let title = alert::title(&object, reason.as_deref());
    let mut alert = Alert::new(alert::object_key(known(app.uid), &object), status, news.severity(), title);
    alert.recovers = matches!(news, News::SyncSucceeded | News::Deleted);
    let condition = |Condition { kind, message }: Condition| Some(format!("{}: {}", known(kind)?, known(message)?));
    let conditions = told.conditions.into_iter().filter_map(condition);
    let words: Vec<_> = known(told.message).into_iter().chain(conditions).collect();
    alert.text = json::text(Some(words.join("\n")));
    alert.reason = reason;
    alert.object = Some(object);

    let revision = known(told.revision);
    let (server, cluster, namespace) =
        told.destination.map(|to| (to.server, to.name, to.namespace)).unwrap_or_default();
    let (repository, target) = told.source.map(|from| (from.repo_url, from.target_revision)).unwrap_or_default();
    alert.cluster = known(cluster);
    let labels = [
        ("project", app.project),
        ("destination_server", server),
        ("destination_namespace", namespace),
        ("repository", repository),
        ("target_revision", target),
        ("revision", revision.clone()),
        ("sync_status", sync),
        ("health_status", health),
        ("phase", phase),
        ("event", event),
    ];
    let labels = labels.into_iter().filter_map(|(name, value)| Some((name.to_owned(), known(value)?)));
    alert.labels = labels.collect::<BTreeMap<_, _>>();
    alert.links = alert::link("Application", known(told.url)).into_iter().collect();

    // Health has a time of its own; all else that is told here is of the last operation.
    let (started, time) = match news {
        News::HealthDegraded => (told.health_since, told.health_since.or(told.finished_at)),
        News::Deleted => (None, told.deleted_at),
        _ => (told.started_at, told.finished_at.or(told.started_at)),
    };
    alert.started = started.filter(|_| status == Status::Firing);
    let words = [alert.reason.clone(), revision, time.map(|time| time.to_string())];
    let news = words.into_iter().flatten().collect::<Vec<_>>().join(" ");
    Ok(alert::parsed(vec![alert::single(alert, &news, time)]))
}
