//! PagerDuty: events to an integration, by the Events API v2.
//!
//! `POST /v2/enqueue` with the integration's key in the body. What is wrong triggers an alert, what is over resolves it
//! by the same `dedup_key`; another trigger under an open key is added to that alert's log. PagerDuty parses none of the
//! texts. A resolve needs nothing but the key.
//!
//! Success is 202: the event is PagerDuty's from then on. 400 is a bad event, its body `{"status": "invalid event",
//! "errors": [...]}`; a key that is none is a 400 as well, and the errors name it without repeating it. 429 comes without
//! a time, and a back-off of a few minutes is asked for. A resolve for a key that is not open, or that was triggered by
//! way of another integration, is a 202 and is dropped.
//! Limits: summary 1024 characters, dedup_key 255, the whole event 512 KB. How many links an alert may have is not
//! documented.
//! Sources: PagerDuty/developer-docs, docs/events-API-v2 (overview, trigger events); the errors out of
//! blockpane/tenderduty issue 10 and robusta-dev/robusta issue 571 (read 2026-11).

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, secret_text};
use super::message::{Item, Message, Step};
use super::pause::MINUTE;
use super::poke::{held, post_json};
use super::text::{self, Unit};
use super::{Outbound, RenderError, Response, excerpt};
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;
use crate::relay::format::BaseUrl;

crate::keys! {
    /// A `pagerduty` target.
    pub struct Pagerduty {
        /// The integration key of an Events API v2 integration.
        routing_key: SecretRef,
        /// Another API than https://events.pagerduty.com, such as https://events.eu.pagerduty.com.
        api_url: BaseUrl = BaseUrl::known("https://events.pagerduty.com"),
    }
}

/// What a summary may take.
const SUMMARY: usize = 1024;
/// What an event may take: 512 KB, of which some stays for the key and for whatever is counted besides.
const EVENT: usize = 500_000;
/// The most links: more would be a list that nobody reads.
const LINKS: usize = 20;

/// Adds a text under `name`, below what is there under the same one.
fn put(details: &mut Map<String, Value>, name: &str, text: &str) {
    if text.is_empty() {
        return;
    }
    match details.get_mut(name) {
        Some(Value::String(there)) => *there = format!("{there}\n{text}"),
        _ => {
            details.insert(name.to_owned(), text.into());
        }
    }
}

fn details(message: &Message) -> Map<String, Value> {
    let mut details = Map::new();
    match message.items.as_slice() {
        [alone] => put(&mut details, "text", &alone.text),
        several => put(&mut details, "alerts", &several.iter().map(Item::plain).collect::<Vec<_>>().join("\n\n")),
    }
    put(&mut details, "left out", &message.rest().unwrap_or_default());
    // By their own names, since PagerDuty's rules go by them.
    for fact in message.all_facts() {
        put(&mut details, &fact.name, &fact.value);
    }
    details
}

fn links(message: &Message) -> Vec<Value> {
    let links = message.pages().into_iter().take(LINKS);
    links.map(|link| json!({ "href": link.url, "text": link.title })).collect()
}

fn event(message: &Message, details: Map<String, Value>, links: Vec<Value>) -> Value {
    if message.step() == Ok(Step::Resolve) {
        return json!({ "event_action": "resolve", "dedup_key": message.key });
    }
    let cluster = message.all_facts().find(|fact| fact.name == "Cluster");
    let mut event = json!({
        "event_action": "trigger",
        "dedup_key": message.key,
        "payload": {
            "summary": text::cut(message.subject(), SUMMARY, Unit::Characters),
            "source": cluster.map_or(&message.source, |cluster| &cluster.value),
            "severity": message.severity.word(),
        },
        "client": "Sluice",
    });
    if let Some(time) = message.time {
        event["payload"]["timestamp"] = time.to_string().into();
    }
    if !details.is_empty() {
        event["payload"]["custom_details"] = details.into();
    }
    if !links.is_empty() {
        event["links"] = links.into();
    }
    event
}

impl Draw for Pagerduty {
    fn draw(&self, message: &Message) -> Value {
        event(message, details(message), links(message))
    }

    fn draw_plain(&self, message: &Message) -> Value {
        event(message, Map::new(), Vec::new())
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let summary = body["payload"]["summary"].as_str().unwrap_or_default();
        vec![
            Size::new("summary", Unit::Characters, Unit::Characters.of(summary), SUMMARY),
            Size::new("event", Unit::Bytes, body.to_string().len(), EVENT),
        ]
    }

    fn preview(&self, body: &Value) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let payload = &body["payload"];
        let mut lines = vec![format!("{} {}", text(&body["event_action"]), text(&body["dedup_key"]))];
        if payload.is_object() {
            let [summary, source, severity] = ["summary", "source", "severity"].map(|name| text(&payload[name]));
            lines.push(format!("{summary} ({severity}, {source})"));
        }
        let details = payload["custom_details"].as_object().into_iter().flatten();
        lines.extend(details.map(|(name, value)| format!("{name}: {}", text(value))));
        let links = body["links"].as_array().into_iter().flatten();
        lines.extend(links.map(|link| format!("{} <{}>", text(&link["text"]), text(&link["href"]))));
        lines.join("\n")
    }
}

/// Whether a 400 is about the integration's key.
fn blames_key(response: &Response) -> bool {
    let said = String::from_utf8_lossy(&response.body).to_ascii_lowercase().replace('_', " ");
    response.status == 400 && said.contains("routing key")
}

impl Notifier for Pagerduty {
    const STEPS_ONLY: bool = true;

    fn request(&self, mut body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        body["routing_key"] = secret_text(attempt.secrets, &self.routing_key)?.into();
        post_json(self.api_url.join("/v2/enqueue"), &body)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let body = chat::json(response);
        match response.status {
            202 => Outcome::Delivered,
            400 if blames_key(response) => {
                held("400: PagerDuty does not know this routing_key; is it one of an Events API v2 integration?")
            }
            400 if body["errors"].is_array() => {
                Outcome::Rejected { reason: format!("400: PagerDuty refuses this event: {}", body["errors"]) }
            }
            429 => chat::later(response, Some(MINUTE), now),
            402 => held(format!("402: PagerDuty takes no events for this account: {}", excerpt(response))),
            _ => chat::classify(response, None, now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        matches!(response.status, 401 | 403) || blames_key(response)
    }
}
