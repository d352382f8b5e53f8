//! ntfy: a topic of ntfy.sh or of a server of one's own, published to as JSON.
//!
//! `POST /` with `{topic, title, message, priority, click, actions}`; with an access token, `Authorization: Bearer …`.
//! Where topics are open, a topic's name is all that protects it, so that it may be a secret. Nothing is parsed
//! without `markdown`; up to three actions are buttons, and those of type `view` open a page.
//!
//! A message longer than 4,096 bytes becomes an attachment without a word, and a body of more than twice that is a 413
//! (41303). Success is 200 with the message and its `id`; failures are `{"code", "http", "error"}`: 40009 and 40010 a
//! topic that is none, 401 and 403 a right that lacks, 429 a limit. Of these 42908 is the day's messages, counted anew
//! at midnight UTC; the others pass within seconds, and none comes with a time. A server may have other limits.
//! Sources: binwiederhier/ntfy, server/errors.go, server/types.go and server/config.go, and docs.ntfy.sh, "Publish as
//! JSON" and "Limitations" (read 2026-11).

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, secret_text};
use super::message::{Message, Tone};
use super::poke::{held, post_json};
use super::text::Unit;
use super::{Outbound, RenderError, Response};
use crate::domain::alert::Link;
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;
use crate::relay::format::{At, BaseUrl, Problems, Read};

/// A topic: its name, or where that is a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topic {
    /// Its name.
    Named(String),
    /// A secret that is its name.
    Secret(SecretRef),
}

fn is_topic(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

impl Read for Topic {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        match value.as_str() {
            // A reference has a colon, a topic never has.
            Some(text) if is_topic(text) => Some(Self::Named(text.to_owned())),
            _ => SecretRef::read(value, at, problems).map(Self::Secret),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "type": "string", "pattern": "^[-_A-Za-z0-9]{1,64}$" }, SecretRef::schema()] })
    }

    fn secrets<'a>(&'a self, seen: &mut dyn FnMut(&'a SecretRef)) {
        match self {
            Self::Named(_) => {}
            Self::Secret(reference) => seen(reference),
        }
    }
}

crate::keys! {
    /// An `ntfy` target.
    pub struct Ntfy {
        /// The server's base URL, such as https://ntfy.sh.
        url: BaseUrl,
        /// The topic: its name or, where that is all that protects it, a secret.
        topic: Topic,
        /// An access token, where the topic is protected.
        token: Option<SecretRef>,
    }
}

/// What a message may take before it becomes an attachment.
const MESSAGE: usize = 4096;
/// What a body may take, with some room left for the topic.
const BODY: usize = 2 * MESSAGE - 128;
/// The most buttons.
const ACTIONS: usize = 3;
/// How long to wait after a 429: a server lets one more request through every five seconds.
const PAUSE: Duration = Duration::from_secs(5);

/// From 1 (nothing is heard or seen) to 5 (nothing drowns it).
fn priority(tone: Tone) -> u8 {
    match tone {
        Tone::Critical => 5,
        Tone::Error => 4,
        Tone::Warning | Tone::Good => 3,
        Tone::Neutral => 2,
    }
}

fn published(message: &Message) -> Value {
    let mut body = json!({
        "title": message.headline(),
        "message": message.plain_text(),
        "priority": priority(message.tone()),
    });
    if let Some(page) = message.pages().first() {
        body["click"] = page.url.as_str().into();
    }
    body
}

impl Draw for Ntfy {
    fn draw(&self, message: &Message) -> Value {
        let mut body = published(message);
        let view = |page: Link| json!({ "action": "view", "label": page.title, "url": page.url });
        let actions: Vec<Value> = message.pages().into_iter().take(ACTIONS).map(view).collect();
        if !actions.is_empty() {
            body["actions"] = actions.into();
        }
        body
    }

    fn draw_plain(&self, message: &Message) -> Value {
        published(message)
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let message = body["message"].as_str().unwrap_or_default();
        vec![
            Size::new("message", Unit::Bytes, message.len(), MESSAGE),
            Size::new("body", Unit::Bytes, body.to_string().len(), BODY),
        ]
    }

    fn preview(&self, body: &Value) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut lines =
            vec![format!("{} (priority {})", text(&body["title"]), body["priority"]), text(&body["message"])];
        let actions = body["actions"].as_array().into_iter().flatten();
        lines.extend(actions.map(|action| format!("[{}] <{}>", text(&action["label"]), text(&action["url"]))));
        lines.join("\n")
    }
}

/// How long it is until the day's messages are counted anew.
fn until_midnight(now: Timestamp) -> Duration {
    const DAY: i64 = 24 * 60 * 60;
    Duration::from_secs((DAY - now.as_second().rem_euclid(DAY)).unsigned_abs())
}

impl Notifier for Ntfy {
    fn request(&self, mut body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        body["topic"] = match &self.topic {
            Topic::Named(topic) => topic.as_str(),
            Topic::Secret(reference) => secret_text(attempt.secrets, reference)?,
        }
        .into();
        let mut request = post_json(self.url.join("/"), &body)?;
        if let Some(token) = &self.token {
            request.bearer(secret_text(attempt.secrets, token)?.as_bytes())?;
        }
        Ok(request)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let body = chat::json(response);
        let error = body["error"].as_str().unwrap_or("nothing more is said");
        match (response.status, body["code"].as_u64()) {
            (200, _) if body["id"].is_string() => Outcome::Delivered,
            (200, _) => chat::foreign(response, "ntfy", "`url`"),
            (400, Some(40009 | 40010)) => held(format!("400: ntfy does not take the topic: {error}")),
            (401 | 403, _) => held(format!("{}: ntfy does not let us publish to the topic: {error}", response.status)),
            (429, Some(42908)) => chat::later(response, Some(until_midnight(now)), now),
            (429, _) => chat::later(response, Some(PAUSE), now),
            _ => chat::classify(response, None, now),
        }
    }
}
