//! Alertmanager, by its API v2: our alerts become its own, to be grouped, silenced and told on by its rules.
//!
//! `POST /api/v2/alerts` with a list of `{labels, annotations, startsAt, endsAt, generatorURL}`. An alert is known by
//! its labels, all of them: what ends it has to have the same ones. So the labels of an alert with an `alertname` are
//! its sender's, which is Prometheus or speaks as it does. Any other alert has `alertname` (the object's kind, else the
//! source), `key`, and what the object is; what else its sender says, such as Flux's revision, changes while the alert
//! lives, and becomes annotations. Where an alert has none of these names, `severity`, `source`, `cluster` and the
//! labels of the source are added.
//!
//! Good news that ends trouble without saying which (`recovers`: Flux) ends an error, since that is what such senders'
//! trouble is. Ending it at every severity would not do: Alertmanager tells of an end without a beginning, if it is in
//! a group with others.
//!
//! Nobody tells it that an alert goes on, as Prometheus does every minute. Without an `endsAt` it would take an alert
//! for resolved after its `resolve_timeout` (5 minutes): what fires gets one in a week's time, which the end and every
//! repeat replace. What has no duration gets 5 minutes.
//!
//! Success is 200 with an empty body. 400 (a JSON text) and 422 are about some alerts of the list: the others are
//! taken nevertheless, and sending all of them again is harmless. It knows Basic authentication only; a proxy before
//! it may want a token. Of a cluster every member wants to be told: name each as a target of its own.
//!
//! Oddities: a label's name is `[a-zA-Z_][a-zA-Z0-9_]*` before 0.27, so that ours always is; a label without a value is
//! none. With `endsAt` and no `startsAt`, the alert would begin at its end.
//! Sources: prometheus/alertmanager, api/v2/api.go, types/types.go, provider/mem/mem.go (v0.34.0, read 2026-11), and
//! what 0.25.0 answers (tests/alertmanager.rs).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::chat::{self, secret_text};
use super::poke::{current, post_json};
use super::text;
use super::{Class, Outbound, RenderError, Response, Target};
use crate::domain::alert::{Alert, Alerts, Severity, Status};
use crate::domain::delivery::Delivery;
use crate::domain::event::{Detail, Event, Original};
use crate::domain::outcome::Outcome;
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::{BaseUrl, Fields, KeyDescription, Keys};

crate::keys! {
    /// The keys of an `alertmanager` target.
    pub struct AlertmanagerKeys {
        /// Alertmanager's base URL, with its route prefix if it has one.
        url: BaseUrl,
        /// The user name, where Alertmanager asks for one; goes with `password`.
        username: Option<String>,
        /// The user's password.
        password: Option<SecretRef>,
        /// A bearer token for what stands before it, instead of user name and password.
        token: Option<SecretRef>,
    }
}

/// How Alertmanager, or what stands before it, knows us.
#[derive(Debug, Clone)]
enum Auth {
    None,
    Basic { username: String, password: SecretRef },
    Bearer(SecretRef),
}

/// An `alertmanager` target.
#[derive(Debug, Clone)]
pub struct Alertmanager {
    keys: AlertmanagerKeys,
    auth: Auth,
}

impl Keys for Alertmanager {
    fn take(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let keys = AlertmanagerKeys::take(fields)?;
        let auth = match (&keys.username, &keys.password, &keys.token) {
            (None, None, None) => Auth::None,
            (Some(username), Some(password), None) if !username.contains(':') => {
                Auth::Basic { username: username.clone(), password: password.clone() }
            }
            (None, None, Some(token)) => Auth::Bearer(token.clone()),
            _ => {
                let at = fields.at();
                let why = "an alertmanager target has either `username` (without a colon) and `password`, or `token`, or \
                           neither";
                fields.problems().error(&at, why);
                return None;
            }
        };
        Some(Self { keys, auth })
    }

    fn describe(keys: &mut Vec<KeyDescription>) {
        AlertmanagerKeys::describe(keys);
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        Keys::secrets(&self.keys, seen);
    }
}

const PATH: &str = "/api/v2/alerts";

/// How long an alert goes on of which nothing more is heard.
const SILENCE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How long something goes on that only happened: as long as Alertmanager itself would keep it, and longer than groups
/// usually wait.
const MOMENT: SignedDuration = SignedDuration::from_mins(5);

/// `text` as the name of a label or an annotation.
fn name(text: &str) -> String {
    let name: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// Names and their values, of which the first of a name stays, and none is empty.
#[derive(Default)]
struct Texts(BTreeMap<String, String>);

impl Texts {
    fn add(&mut self, of: &str, value: &str) {
        let (of, value) = (name(of), text::clean(value));
        if !of.is_empty() && !value.is_empty() {
            self.0.entry(of).or_insert(value);
        }
    }

    fn add_all<'a>(&mut self, all: impl IntoIterator<Item = (&'a String, &'a String)>) {
        all.into_iter().for_each(|(of, value)| self.add(of, value));
    }
}

/// Whether the sender's labels are what it knows the alert by.
fn is_labelled(alert: &Alert) -> bool {
    alert.labels.get("alertname").is_some_and(|name| !name.is_empty())
}

fn labels(event: &Event, alert: &Alert, severity: Severity) -> BTreeMap<String, String> {
    let mut labels = Texts::default();
    if is_labelled(alert) {
        labels.add_all(&alert.labels);
    } else {
        let object = alert.object.as_ref();
        let kind = object.and_then(|object| object.kind.as_deref());
        labels.add("alertname", kind.unwrap_or(event.source.as_str()));
        labels.add("key", &alert.key);
        labels.add("kind", kind.unwrap_or_default());
        labels.add("namespace", object.and_then(|object| object.namespace.as_deref()).unwrap_or_default());
        labels.add("name", object.map(|object| object.name.as_str()).unwrap_or_default());
    }
    labels.add("severity", severity.word());
    labels.add("source", event.source.as_str());
    labels.add("cluster", alert.cluster.as_ref().or(event.cluster.as_ref()).map_or("", String::as_str));
    labels.add_all(&event.labels);
    labels.0
}

/// The page that explains the alert, and the annotations.
fn annotations(group: &Alerts, alert: &Alert) -> (Option<String>, BTreeMap<String, String>) {
    let mut annotations = Texts::default();
    annotations.add("summary", &alert.title);
    annotations.add("description", alert.text.as_deref().unwrap_or_default());
    if group.left_out > 0 {
        annotations.add("left_out", &format!("{} more alerts of this group, which were not told", group.left_out));
    }
    let links = alert.links.iter().filter_map(|link| Some((link.title.as_str(), text::page(&link.url)?)));
    let mut links: Vec<_> = links.collect();
    let source = links.iter().position(|(title, _)| *title == "Source").map(|at| links.remove(at).1);
    links.extend(group.url.as_deref().and_then(text::page).map(|url| ("group", url)));
    for (title, url) in &links {
        annotations.add(&title.to_ascii_lowercase(), url);
    }
    if !is_labelled(alert) {
        annotations.add("reason", alert.reason.as_deref().unwrap_or_default());
        annotations.add_all(&alert.labels);
    }
    (source, annotations.0)
}

fn postable(event: &Event, group: &Alerts, alert: &Alert, now: Timestamp) -> Value {
    let after = |length: SignedDuration| now.checked_add(length).unwrap_or(Timestamp::MAX);
    let (severity, ends) = match alert.status {
        Status::Resolved => (alert.severity, alert.ended.unwrap_or(now).min(now)),
        _ if alert.recovers => (Severity::Error, now),
        Status::Firing => (alert.severity, after(SILENCE)),
        Status::Event => (alert.severity, after(MOMENT)),
    };
    let starts = alert.started.or(event.time).unwrap_or(now).min(ends);
    let (source, annotations) = annotations(group, alert);
    let mut postable = json!({
        "labels": labels(event, alert, severity),
        "annotations": annotations,
        "startsAt": starts.to_string(),
        "endsAt": ends.to_string(),
    });
    if let Some(source) = source {
        postable["generatorURL"] = source.into();
    }
    postable
}

fn group(event: &Event) -> Result<&Alerts, String> {
    match &event.detail {
        Detail::Alert(group) => Ok(group),
        Detail::Git(_) | Detail::ImagePush(_) => Err(ONLY_ALERTS.into()),
    }
}

const ONLY_ALERTS: &str = "this type of target is told of alerts only";

impl Target for Alertmanager {
    fn class(&self) -> Class {
        Class::Feed
    }

    // An alert that it has already is the same one, with the same end.
    fn is_idempotent(&self) -> bool {
        true
    }

    fn refuses(&self, kind: &str) -> Option<String> {
        (kind != "alert").then(|| ONLY_ALERTS.to_owned())
    }

    fn wants(&self, event: &Event, _original: Option<&Original>) -> Result<(), String> {
        group(event).map(drop)
    }

    fn render(&self, delivery: &Delivery, secrets: &Resolved, now: Timestamp) -> Result<Vec<Outbound>, RenderError> {
        let event = &delivery.event;
        let group = group(event).map_err(RenderError::Unfit)?;
        let body: Vec<Value> = group.alerts.iter().map(|alert| postable(event, group, alert, now)).collect();
        let mut request = post_json(self.keys.url.join(PATH), &body)?;
        match &self.auth {
            Auth::None => {}
            Auth::Basic { username, password } => request.basic(username, current(secrets, password)?.expose())?,
            Auth::Bearer(token) => request.bearer(secret_text(secrets, token)?.as_bytes())?,
        }
        Ok(vec![request])
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        chat::classify(response, None, now)
    }
}
