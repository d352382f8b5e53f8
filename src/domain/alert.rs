//! Alerts: something is wrong, is over, or just happened.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

crate::words! {
    /// How bad an alert is, in rising order.
    pub enum Severity {
        /// For the record.
        Info = "info",
        /// Somebody should look some time.
        Warning = "warning",
        /// Something does not work.
        Error = "error",
        /// Something important does not work.
        Critical = "critical",
    }
}

crate::words! {
    /// Where an alert is in its life.
    pub enum Status {
        /// It goes on.
        Firing = "firing",
        /// It is over.
        Resolved = "resolved",
        /// It has no duration: it happened, and that is all.
        Event = "event",
    }
}

/// Alerts that were told together, and are told on together: in one message, whatever their number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alerts {
    /// Tells this group from all others of its source, and is the same for as long as it lives: what fires and what ends
    /// it have the same one. Never made of texts for people.
    pub group: String,
    /// What the sender calls the group, on one line. A single alert speaks for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The sender's page about the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// How many alerts of the group the sender left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// The alerts, in the sender's order; at least one.
    pub alerts: Vec<Alert>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Tells this alert from all others of its source, and is the same for as long as it lives.
    pub key: String,
    /// Where it is in its life.
    pub status: Status,
    /// How bad it is. What is over has the severity that it had.
    pub severity: Severity,
    /// Whether this good news also ends whatever bad news there was under the same key. Flux says that an object is well
    /// without saying whether it was ill before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recovers: bool,
    /// What it is about, on one line.
    pub title: String,
    /// What there is to say, in the sender's words; may have many lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Why, as one word: `ReconciliationFailed`, `BackOff`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The object that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<Object>,
    /// The cluster, where the sender itself names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The sender's labels, metadata or dimensions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Pages about it, the most useful one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

impl Alert {
    /// An alert of which no more is known than this.
    pub fn new(key: impl Into<String>, status: Status, severity: Severity, title: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            status,
            severity,
            recovers: false,
            title: title.into(),
            text: None,
            reason: None,
            object: None,
            cluster: None,
            labels: BTreeMap::new(),
            links: Vec::new(),
            started: None,
            ended: None,
        }
    }
}

/// The object that an alert is about: of Kubernetes or, without a namespace, any other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// `Kustomization`, `Pod`, `HelmRelease` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// A page about an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// What is there, in a word or two: `Source`, `Runbook`.
    pub title: String,
    /// Its URL, as the sender gave it.
    pub url: String,
}

impl Alerts {
    /// A group of one: what tells the alert tells the group.
    pub fn one(alert: Alert) -> Self {
        Self { group: alert.key.clone(), alerts: vec![alert], ..Self::default() }
    }

    /// The status of the whole: it fires while one of them does, and is over when all of them are.
    pub fn status(&self) -> Status {
        let any = |status| self.alerts.iter().any(|alert| alert.status == status);
        if any(Status::Firing) {
            Status::Firing
        } else if any(Status::Event) {
            Status::Event
        } else {
            Status::Resolved
        }
    }

    /// The severity of the whole: the worst of what goes on or happened, else of what is over.
    pub fn severity(&self) -> Severity {
        let worst = |over: bool| {
            let alerts = self.alerts.iter().filter(|alert| (alert.status == Status::Resolved) == over);
            alerts.map(|alert| alert.severity).max()
        };
        worst(false).or(worst(true)).unwrap_or(Severity::Info)
    }
}
