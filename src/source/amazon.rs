//! What else AWS tells people: events of EventBridge, and messages of SNS, whichever service they are of.
//!
//! They come as [alarms](alarm) do, and alarms among them are told as `cloudwatch` tells them. What is known of single
//! services is in [`services`]; of all others there is the envelope, and what of the `detail` is text. Messages of SNS
//! are text, an event of EventBridge, or other JSON. EventBridge and SNS deliver at least once, with the same id.
//!
//! Severities are the service's own where it has them (see [`severity`](super::severity); GuardDuty's numbers are 1 to 3.9
//! info, to 6.9 warning, to 8.9 error, from 9 critical). Where it has none, what failed is an error, what may become
//! trouble is a warning, and all else is info. What went well ends what failed before under the same key.
//! Source: docs.aws.amazon.com/eventbridge/latest/ref/events.html and the services' own pages (read 2026-08).

mod services;

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::alarm::Alarm;
use super::auth::{AuthError, Authentic};
use super::aws::{self, AwsKeys, Event, Form};
use super::json::text;
use super::sns::Envelope;
use super::{Claim, Found, ParseError, Parsed, Request, Source, fields, json};
use crate::domain::alert::{Alert, Alerts, Severity, Status};
use crate::domain::event::Detail;
use crate::domain::secret::{Resolved, SecretRef};
use crate::relay::format::{At, Problems};

crate::keys! {
    /// An `aws` source.
    pub struct Amazon {
        ..aws: AwsKeys,
    }
}

impl Source for Amazon {
    fn authenticate<'r>(
        &self,
        request: &'r Request,
        secrets: &Resolved,
        now: Timestamp,
    ) -> Result<Authentic<'r>, AuthError> {
        self.aws.authenticate(request, secrets, now)
    }

    fn named_by(&self, request: &Request) -> Option<SecretRef> {
        self.aws.named_by(request)
    }

    fn parse(&self, request: Authentic<'_>) -> Result<Parsed, ParseError> {
        match Form::of(&request.body)? {
            Form::Event => self.event(&json::read(&request.body)?),
            Form::AlarmAction => Ok(Alarm::of_action(&request.body)?.into_parsed(&self.aws)),
            Form::Notice => self.notice(&Envelope::read(&request.body)?),
        }
    }

    fn sign(&self, request: &mut Request, secrets: &Resolved, _now: Timestamp) -> Result<(), String> {
        self.aws.sign(request, secrets)
    }

    fn check(&self, at: &At, problems: &mut Problems) {
        self.aws.check(at, problems);
    }

    fn claim(&self) -> Option<Claim<'_>> {
        Some(self.aws.claim(None))
    }
}

/// What an event says: the alerts in it, or why it is ignored.
type Said = Result<Vec<Alert>, &'static str>;

impl Amazon {
    fn event(&self, event: &Event<'_>) -> Result<Parsed, ParseError> {
        let summary = event.detail_type.clone();
        let ignored = |why: &str| Parsed { delivery_id: text(event.id.clone()), ..Parsed::ignored(&summary, why) };
        if event.source.as_deref() == Some("aws.cloudwatch")
            && let Ok(alarm) = Alarm::of_event(event)?
        {
            return Ok(alarm.into_parsed(&self.aws));
        }
        if !self.aws.takes(event.account.as_deref(), event.region.as_deref()) {
            return Ok(ignored(aws::ELSEWHERE));
        }
        let said = match services::said(event)? {
            Some(said) => said,
            None => Ok(vec![plain(event)?]),
        };
        let mut alerts = match said {
            Ok(alerts) => alerts,
            Err(why) => return Ok(ignored(why)),
        };
        let labels = [
            ("account", &event.account),
            ("region", &event.region),
            ("service", &event.source),
            ("detail_type", &Some(event.detail_type.clone())),
        ];
        for alert in &mut alerts {
            for (name, value) in labels {
                if let Some(value) = text(value.clone()) {
                    alert.labels.entry(name.to_owned()).or_insert(value);
                }
            }
        }
        Ok(told(summary, text(event.id.clone()), event.time, alerts))
    }

    fn notice(&self, envelope: &Envelope) -> Result<Parsed, ParseError> {
        if let Some(parsed) = self.aws.confirmation(envelope) {
            return Ok(parsed);
        }
        if let Some(alarm) = Alarm::of_notice(envelope)? {
            return Ok(alarm.into_parsed(&self.aws));
        }
        let message = envelope.message.trim();
        if message.starts_with('{') {
            #[derive(Deserialize)]
            struct Sign {
                #[serde(rename = "detail-type")]
                _detail_type: IgnoredAny,
            }
            if serde_json::from_str::<Sign>(message).is_ok() {
                return self.event(&json::read_part(message, "Message")?);
            }
        }
        let (account, region) = envelope.place();
        let id = Some(envelope.message_id.clone());
        let summary = envelope.subject.clone().unwrap_or_else(|| envelope.kind.to_string());
        if !self.aws.takes(account, region) {
            return Ok(Parsed { delivery_id: id, ..Parsed::ignored(summary, aws::ELSEWHERE) });
        }
        let mut alert = match services::noticed(envelope) {
            Some(alert) => alert,
            None => published(envelope),
        };
        let topic = aws::Arn::parse(&envelope.topic_arn).map(|arn| arn.name());
        for (name, value) in [("account", account), ("region", region), ("topic", topic)] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                alert.labels.entry(name.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
        Ok(told(summary, id, envelope.time(), vec![alert]))
    }
}

fn told(summary: String, id: Option<String>, time: Option<Timestamp>, alerts: Vec<Alert>) -> Parsed {
    let group = match alerts.as_slice() {
        [alert] => Alerts::one(alert.clone()),
        [] => return Parsed { delivery_id: id, ..Parsed::ignored(summary, "there is nothing in it") },
        several => Alerts {
            // Findings come in whatever company: no two groups are the same.
            group: id.clone().unwrap_or_else(|| several[0].key.clone()),
            title: Some(summary.clone()),
            alerts,
            ..Alerts::default()
        },
    };
    let state = |alert: &Alert| format!("{} {}", alert.key, alert.status);
    // A test event may lack its id.
    let identity = id.clone().or_else(|| Some(format!("{} {}", state(group.alerts.first()?), time?)));
    let found = Found { identity, detail: Detail::Alert(Box::new(group)), time };
    Parsed { delivery_id: id, ..Parsed::events(summary, vec![found]) }
}

/// An event of which nothing is known but its envelope.
fn plain(event: &Event<'_>) -> Result<Alert, ParseError> {
    let mut alert = Alert::new(key_of(event), Status::Event, Severity::Info, event.detail_type.clone());
    let mut lines = event.detail.map(|detail| facts(detail.get())).transpose()?.unwrap_or_default();
    if !event.resources.is_empty() {
        lines.push(format!("resources: {}", event.resources.join(", ")));
    }
    alert.text = text(Some(lines.join("\n")));
    Ok(alert)
}

/// What stands for an event of which nothing better is known.
fn key_of(event: &Event<'_>) -> String {
    let resource = event.resources.first();
    let parts = [event.source.as_ref(), Some(&event.detail_type), resource.or(event.id.as_ref())];
    parts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// A message of which nothing is known: its subject, and its text, or the facts where that is JSON.
fn published(envelope: &Envelope) -> Alert {
    let message = envelope.message.trim();
    let lines = message.starts_with('{').then(|| facts(message).ok()).flatten();
    let body = lines.map_or_else(|| message.to_owned(), |lines| lines.join("\n"));
    let first = || body.lines().next().map(str::to_owned);
    let title = text(envelope.subject.clone()).or_else(first).filter(|line| !line.trim().is_empty());
    let title = title.unwrap_or_else(|| "a message without text".into());
    let mut alert = Alert::new(envelope.message_id.clone(), Status::Event, Severity::Info, title);
    alert.text = text(Some(body)).filter(|body| *body != alert.title);
    alert
}

/// What of a JSON object is text, number or truth value, or a list of such, a line each; of objects in it likewise, one
/// level deep.
fn facts(object: &str) -> Result<Vec<String>, ParseError> {
    type Members<'b> = BTreeMap<Cow<'b, str>, &'b RawValue>;
    let members: Members<'_> = json::read_part(object, "detail")?;
    let mut lines = Vec::new();
    for (name, value) in &members {
        let texts = fields::texts(value);
        if !texts.is_empty() {
            lines.push(format!("{name}: {}", texts.join(", ")));
        } else if let Ok(inner) = serde_json::from_str::<Members<'_>>(value.get()) {
            let inner = inner.iter().map(|(inner, value)| (inner, fields::texts(value)));
            let inner = inner.filter(|(_, texts)| !texts.is_empty());
            lines.extend(inner.map(|(inner, texts)| format!("{name}.{inner}: {}", texts.join(", "))));
        }
    }
    Ok(lines)
}

/// The lines that there are.
fn lines<const N: usize>(lines: [Option<String>; N]) -> Option<String> {
    let lines: Vec<_> = lines.into_iter().filter_map(text).collect();
    text(Some(lines.join("\n")))
}
