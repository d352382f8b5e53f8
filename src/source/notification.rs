//! The message about a group of alerts that Alertmanager posts, and Grafana with more in it.
//!
//! A message lists all alerts of its group that fire, and those that were over since the last one; the group's own
//! status is made of theirs. It is sent again while it lasts. One that was cut short says how many are missing.
//! Sources: prometheus/alertmanager v0.34.0, notify/webhook and template; grafana/alerting, receivers/webhook
//! and templates (read 2026-08).
//!
//! What becomes of it:
//! - The group is the receiver's and the labels that alerts are grouped by; `groupKey` holds the route, and changes
//!   when that is edited. An alert is its labels: the fingerprint. Both are told apart by the sender's `externalURL`.
//! - What the same alerts in the same states have begun at is the same news, whoever of several peers tells it.
//! - Severity: the label `severity`, else `priority` or `level`; a warning where none of these says one.
//! - Title: the annotation `summary`, else the alert's name (which is also the reason), else its labels. Text: `description` or
//!   `message`, then what else is annotated. What is annotated and a URL is a link.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::json::{self, text};
use super::{Found, ParseError, Parsed, alert, severity};
use crate::domain::alert::{Alert, Alerts, Link, Severity, Status};
use crate::domain::event::Detail;
use crate::domain::signature;

type Labels = BTreeMap<String, String>;

/// A message, as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    receiver: Option<String>,
    alerts: Option<Vec<Member>>,
    #[serde(default, deserialize_with = "alert::texts")]
    group_labels: Labels,
    #[serde(default, deserialize_with = "alert::texts")]
    common_labels: Labels,
    #[serde(rename = "externalURL")]
    external_url: Option<String>,
    truncated_alerts: Option<u64>,
    org_id: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    status: Option<String>,
    #[serde(default, deserialize_with = "alert::texts")]
    labels: Labels,
    #[serde(default, deserialize_with = "alert::texts")]
    annotations: Labels,
    #[serde(default, deserialize_with = "json::time")]
    starts_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "json::time")]
    ends_at: Option<Timestamp>,
    #[serde(rename = "generatorURL")]
    generator_url: Option<String>,
    fingerprint: Option<String>,
    #[serde(rename = "silenceURL")]
    silence_url: Option<String>,
    #[serde(rename = "dashboardURL")]
    dashboard_url: Option<String>,
    #[serde(rename = "panelURL")]
    panel_url: Option<String>,
    #[serde(rename = "imageURL")]
    image_url: Option<String>,
    /// What the expressions of a rule evaluated to.
    #[serde(default, deserialize_with = "alert::texts")]
    values: Labels,
}

impl Message {
    /// The page of the sender that begins with `externalURL`.
    pub fn page(&self, path: &str) -> Option<String> {
        let url = self.external_url.as_deref().filter(|url| is_url(url))?;
        Some(format!("{}/{path}", url.trim_end_matches('/')))
    }

    /// The receiver's name.
    pub fn receiver(&self) -> &str {
        self.receiver.as_deref().unwrap_or_default()
    }

    /// The event that the message is. `page` is the sender's page about the group; `silence` makes the one on which
    /// an alert with such labels can be silenced, where the message itself does not say that.
    ///
    /// # Errors
    /// Where it is no such message; the sentence names the place.
    pub fn into_event(
        self,
        page: Option<String>,
        silence: impl Fn(&Self, &Labels) -> Option<String>,
    ) -> Result<Parsed, ParseError> {
        let mut message = self;
        let missing = || ParseError::Malformed("the body's `alerts` is missing".into());
        let members = message.alerts.take().ok_or_else(missing)?;
        let title = message.title();
        if members.is_empty() {
            return Ok(Parsed::ignored(title.unwrap_or_else(|| "alerts".into()), "the message holds no alert"));
        }
        let mut alerts = Vec::with_capacity(members.len());
        for (i, mut member) in members.into_iter().enumerate() {
            let status = match member.status.as_deref() {
                Some("firing") => Status::Firing,
                Some("resolved") => Status::Resolved,
                _ => {
                    let why = format!("the body's `alerts[{i}].status` is neither firing nor resolved");
                    return Err(ParseError::Malformed(why.into()));
                }
            };
            if status == Status::Firing && member.silence_url.is_none() {
                member.silence_url = silence(&message, &member.labels);
            }
            alerts.push(message.alert(member, status));
        }
        let group = format!("{} {} {}", message.sender(), message.receiver(), selector(&message.group_labels));
        let mut states: Vec<_> = alerts.iter().map(state).collect();
        states.sort_unstable();
        let states: Vec<_> = states.iter().map(String::as_str).collect();
        let identity = format!("{group} {}", signature::digest(&states));
        let time = alerts.iter().filter_map(|alert| alert.ended.or(alert.started)).max();
        let (firing, over): (Vec<_>, Vec<_>) = alerts.iter().partition(|alert| alert.status == Status::Firing);
        let named = title.as_deref().unwrap_or("alerts");
        let summary = format!("{named}: {} firing, {} resolved", firing.len(), over.len());
        let left_out = message.truncated_alerts.unwrap_or_default();
        let detail = Detail::Alert(Box::new(Alerts { group, title, url: page, left_out, alerts }));
        Ok(Parsed::events(summary, vec![Found { identity: Some(identity), detail, time }]))
    }

    /// What tells the sender's alerts from those of another one. Grafana's organisations are senders of their own.
    fn sender(&self) -> String {
        let url = self.external_url.as_deref().unwrap_or_default().trim_end_matches('/');
        self.org_id.map_or_else(|| url.to_owned(), |org| format!("{url} {org}"))
    }

    /// The group's name: that of its alerts, and what else they are grouped by.
    fn title(&self) -> Option<String> {
        let name = self.group_labels.get("alertname").or_else(|| self.common_labels.get("alertname"));
        let others = self.group_labels.iter().filter(|(name, _)| *name != "alertname");
        let others: Vec<_> = others.map(|(name, value)| format!("{name}={value}")).collect();
        let others = match (name.is_some(), others.is_empty()) {
            (_, true) => String::new(),
            (true, false) => format!(" ({})", others.join(", ")),
            (false, false) => others.join(", "),
        };
        text(Some(line(&format!("{}{others}", name.map_or("", String::as_str)))))
    }

    fn alert(&self, member: Member, status: Status) -> Alert {
        let Member { labels, annotations, .. } = member;
        let told = text(member.fingerprint).unwrap_or_else(|| selector(&labels));
        let key = format!("{} {told}", self.sender());
        let said = ["severity", "priority", "level"].iter().find_map(|label| severity::of(labels.get(*label)?));
        let name = labels.get("alertname").cloned();
        let summary = annotations.get("summary");
        let title = no_data(&labels).or_else(|| summary.map(|summary| line(summary))).or_else(|| name.clone());
        let title = title.filter(|title| !title.is_empty()).unwrap_or_else(|| selector(&labels));

        let mut alert = Alert::new(key, status, said.unwrap_or(Severity::Warning), title);
        let mut words: Vec<String> = summary.filter(|summary| **summary != alert.title).cloned().into_iter().collect();
        words.extend(["description", "message"].iter().filter_map(|name| annotations.get(*name)).cloned());
        let (mut runbooks, mut dashboards, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for (name, value) in annotations {
            // Grafana's own are between underscores.
            if matches!(name.as_str(), "summary" | "description" | "message") || name.starts_with("__") {
            } else if !is_url(&value) {
                words.push(format!("{name}: {value}"));
            } else if name.contains("runbook") {
                runbooks.push(Link { title: "Runbook".into(), url: value });
            } else if name.contains("dashboard") {
                dashboards.push(Link { title: "Dashboard".into(), url: value });
            } else {
                others.push(Link { title: name, url: value });
            }
        }
        words.extend(member.values.iter().map(|(name, value)| format!("{name}: {value}")));
        alert.text = text(Some(words.join("\n")));
        dashboards.extend(alert::link("Dashboard", member.dashboard_url));
        dashboards.extend(alert::link("Panel", member.panel_url));
        others.extend(alert::link("Source", member.generator_url));
        others.extend(alert::link("Silence", member.silence_url.filter(|_| status == Status::Firing)));
        others.extend(alert::link("Image", member.image_url));
        alert.links = runbooks.into_iter().chain(dashboards).chain(others).collect();
        alert.reason = name;
        alert.cluster = labels.get("cluster").cloned();
        alert.labels = labels;
        alert.started = member.starts_at;
        alert.ended = member.ends_at.filter(|_| status == Status::Resolved);
        alert
    }
}

/// What a rule of Grafana's says that cannot be evaluated: then another name stands in the place of its own, while its
/// annotations say what is not known.
fn no_data(labels: &Labels) -> Option<String> {
    let what = match labels.get("alertname")?.as_str() {
        "DatasourceNoData" => "no data",
        "DatasourceError" => "the query fails",
        _ => return None,
    };
    Some(line(&format!("{}: {what}", labels.get("rulename")?)))
}

/// An alert in its state. When it was over is not part of it: peers do not agree on that to the millisecond.
fn state(alert: &Alert) -> String {
    let started = alert.started.map(|time| time.to_string()).unwrap_or_default();
    format!("{} {} {started}", alert.key, alert.status.word())
}

/// The first line of a text.
fn line(text: &str) -> String {
    text.trim().lines().next().unwrap_or_default().trim_end().to_owned()
}

fn is_url(text: &str) -> bool {
    (text.starts_with("https://") || text.starts_with("http://")) && !text.contains(char::is_whitespace)
}

/// Labels as Alertmanager writes what selects them: `{alertname="HighErrorRate", team="payments"}`.
pub fn selector(labels: &Labels) -> String {
    let one = |(name, value): (&String, &String)| {
        format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
    };
    format!("{{{}}}", labels.iter().map(one).collect::<Vec<_>>().join(", "))
}
