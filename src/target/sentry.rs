//! Sentry: events of a project, which become its issues.
//!
//! `POST /api/{project}/envelope/` of an envelope with one item: a line of JSON for the envelope, one for the item,
//! and the event. Host, project and key come out of the project's DSN, `https://KEY@HOST/PATH/PROJECT`; the key goes
//! in as `X-Sentry-Auth: Sentry sentry_version=7, sentry_client=…, sentry_key=KEY`. The `event_id` is the delivery's
//! id, so that Sentry knows a repeat. Events of one `fingerprint` are one issue. Sentry parses no texts.
//!
//! Nothing that can be sent resolves an issue, and another event opens it again: so Sentry is told of trouble and not
//! of its end. Auto-resolve is a setting of the project.
//!
//! Limits: an event 1 MB, and 200 KB after compression; a message 8,192 characters, a tag's name 32 and its value 200,
//! on one line. Success is 200 with the `id`. 400 and 403 `bad sentry DSN public key`, or a `ProjectId` that is none,
//! are the DSN's fault; 413 is too large; 429 names in `X-Sentry-Rate-Limits` (`60:error:organization, …`: seconds,
//! categories, scope) or `Retry-After` how long errors are not taken. Sources: develop.sentry.dev, "Envelopes", "Event
//! Payloads", "Rate Limiting"; docs.sentry.io, "Size Limits"; getsentry/relay, relay-server/src/extractors (read
//! 2026-11).

use std::time::Duration;

use ::http::HeaderName;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, doubts_url, secret_text};
use super::message::{Message, Step};
use super::poke::held;
use super::text::{self, Unit};
use super::{Outbound, RenderError, Response, excerpt};
use crate::domain::alert::Severity;
use crate::domain::event::Event;
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;

crate::keys! {
    /// A `sentry` target.
    pub struct Sentry {
        /// The DSN of a project, as a secret.
        dsn: SecretRef,
    }
}

/// What a message takes.
const MESSAGE: usize = 8192;
/// What an event takes even before it is compressed.
const EVENT: usize = 200_000;
/// What the name of a tag takes, and its value.
const TAG_NAME: usize = 32;
const TAG_VALUE: usize = 200;

/// Where a DSN leads, and the key in it.
struct Dsn {
    envelope: String,
    key: String,
}

impl Dsn {
    fn parse(text: &str) -> Option<Self> {
        let mut url = url::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        let key = url.username().to_owned();
        let (path, project) =
            url.path().rsplit_once('/').map(|(path, project)| (path.to_owned(), project.to_owned()))?;
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_word(&key) || !is_word(&project) {
            return None;
        }
        // What was once a second, secret key is of no use to anybody.
        url.set_username("").ok()?;
        url.set_password(None).ok()?;
        url.set_path(&format!("{path}/api/{project}/envelope/"));
        Some(Self { envelope: url.into(), key })
    }
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "fatal",
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "info",
    }
}

fn tags(message: &Message) -> Map<String, Value> {
    let usual = |c: char| if c.is_ascii_alphanumeric() || "_.:-".contains(c) { c } else { '_' };
    let tags = message.tags().into_iter().map(|(name, value)| {
        let name: String = name.chars().map(usual).take(TAG_NAME).collect();
        (name, text::cut(value, TAG_VALUE, Unit::Characters).into())
    });
    tags.filter(|(name, _)| !name.is_empty()).collect()
}

fn event(message: &Message, text: &str) -> Value {
    let mut event = json!({
        "platform": "other",
        "logger": "sluice",
        "level": level(message.severity),
        "logentry": { "formatted": text },
        "fingerprint": [message.key],
    });
    if let Some(time) = message.time {
        event["timestamp"] = time.to_string().into();
    }
    event
}

impl Draw for Sentry {
    fn draw(&self, message: &Message) -> Value {
        let text = format!("{}\n\n{}", message.subject(), message.plain_rest());
        let mut event = event(message, text.trim_end());
        event["tags"] = tags(message).into();
        event
    }

    fn draw_plain(&self, message: &Message) -> Value {
        event(message, message.subject())
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let message = Unit::Characters.of(body["logentry"]["formatted"].as_str().unwrap_or_default());
        vec![
            Size::new("message", Unit::Characters, message, MESSAGE),
            Size::new("event", Unit::Bytes, body.to_string().len(), EVENT),
        ]
    }

    fn preview(&self, body: &Value) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut lines = vec![format!("{}: {}", text(&body["level"]), text(&body["logentry"]["formatted"]))];
        let tags = body["tags"].as_object().into_iter().flatten();
        lines.extend(tags.map(|(name, value)| format!("[{name}: {}]", text(value))));
        lines.join("\n")
    }
}

/// The longest of the pauses in `X-Sentry-Rate-Limits` that concern events like ours.
fn pause(response: &Response) -> Option<Duration> {
    let limits = response.headers.get("x-sentry-rate-limits")?.to_str().ok()?;
    let concerns = |categories: &str| categories.is_empty() || categories.split(';').any(|one| one == "error");
    let limits = limits.split(',').filter_map(|limit| {
        let mut parts = limit.trim().split(':');
        let seconds: u64 = parts.next()?.parse().ok()?;
        concerns(parts.next().unwrap_or_default()).then(|| Duration::from_secs(seconds))
    });
    limits.max()
}

/// Whether an answer is about the DSN, not about the event.
fn blames_dsn(response: &Response) -> bool {
    let said = String::from_utf8_lossy(&response.body);
    matches!(response.status, 400 | 401 | 403) && ["DSN", "ProjectId", "project"].iter().any(|word| said.contains(word))
}

impl Notifier for Sentry {
    // By the event_id.
    fn is_idempotent(&self) -> bool {
        true
    }

    fn wants(&self, event: &Event) -> Result<(), String> {
        match Message::of(event).step()? {
            Step::Trigger => Ok(()),
            Step::Resolve => Err("nothing that Sentry is sent ends an issue".into()),
        }
    }

    fn request(&self, mut body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        let wrong = || RenderError::UnusableSecret(format!("the secret {} is not a project's DSN", self.dsn));
        let dsn = Dsn::parse(secret_text(attempt.secrets, &self.dsn)?).ok_or_else(wrong)?;
        body["event_id"] = attempt.delivery.id.as_str().into();
        let event = body.to_string();
        let envelope = json!({ "event_id": attempt.delivery.id });
        let item = json!({ "type": "event", "content_type": "application/json", "length": event.len() });
        let lines = format!("{envelope}\n{item}\n{event}\n");
        let mut request = Outbound::post(dsn.envelope, "application/x-sentry-envelope", lines);
        let client = concat!("sluice/", env!("CARGO_PKG_VERSION"));
        let auth = format!("Sentry sentry_version=7, sentry_client={client}, sentry_key={}", dsn.key);
        request.credential(HeaderName::from_static("x-sentry-auth"), auth.as_bytes())?;
        Ok(request)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        match response.status {
            200 if chat::json(response)["id"].is_string() => Outcome::Delivered,
            200 => chat::foreign(response, "Sentry", "the DSN"),
            _ if blames_dsn(response) => {
                held(format!("{}: Sentry does not take events by this DSN: {}", response.status, excerpt(response)))
            }
            429 => chat::later(response, pause(response), now),
            _ => chat::classify(response, None, now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        doubts_url(response) || blames_dsn(response)
    }
}
