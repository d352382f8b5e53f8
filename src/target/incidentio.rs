//! incident.io: alerts of an HTTP alert source, fired and resolved.
//!
//! `POST /v2/alert_events/http/{source}` with the source's token as `Authorization: Bearer …` (incident.io would take
//! it in the query as well, where proxies log it) and `{title, status, deduplication_key, description, source_url,
//! metadata}`. Events of one `deduplication_key` are one alert; `resolved` ends it. A description is Markdown, in
//! which what others wrote is escaped; `metadata` is what the source's attributes are read from.
//!
//! Success is 202: whether an alert becomes an incident is decided later, by its routes. An event takes 512 KB; limits
//! of single fields are not documented. 401 is a token that is none, 404 a source that is none, 422 a wrong value, 429
//! a limit (1,200 requests a minute for most of the API), of whose length no header is documented. Sources:
//! docs.incident.io, "Alert Events V2" and "Rate limits"; prometheus/alertmanager v0.34.0, notify/incidentio, for the
//! size and what errors look like (read 2026-11).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, secret_text};
use super::markup::{self, Dialect, escape_markdown};
use super::message::{Message, Step};
use super::pause::MINUTE;
use super::poke::{held, post_json};
use super::text::Unit;
use super::{Outbound, RenderError, Response};
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;
use crate::relay::format::{At, BaseUrl, Problems, Read, parsed};

/// The id of an alert source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceId(String);

impl Read for SourceId {
    fn read(value: &Value, at: &At, problems: &mut Problems) -> Option<Self> {
        parsed(value, at, problems, |text| {
            match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                true => Ok(Self(text.into())),
                false => Err("expected an alert source's id, such as 01GW2G3V0S59R238FAHPDS1R66".into()),
            }
        })
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[0-9A-Za-z]+$" })
    }
}

crate::keys! {
    /// An `incidentio` target.
    pub struct Incidentio {
        /// The id of an HTTP alert source, which its URL ends with.
        source: SourceId,
        /// The source's token.
        token: SecretRef,
        /// Another API than https://api.incident.io.
        api_url: BaseUrl = BaseUrl::known("https://api.incident.io"),
    }
}

/// What an event may take: 512 KB, less what may be counted besides.
const EVENT: usize = 500_000;

const MARKDOWN: Dialect = Dialect { escape: escape_markdown, line_break: "  \n" };

fn event(message: &Message) -> Value {
    let resolves = message.step() == Ok(Step::Resolve);
    json!({
        "title": message.subject(),
        "status": if resolves { "resolved" } else { "firing" },
        "deduplication_key": message.key,
    })
}

impl Draw for Incidentio {
    fn draw(&self, message: &Message) -> Value {
        let mut event = event(message);
        let mut metadata = message.facts_by_name();
        let ours = [("severity", message.severity.word()), ("source", &message.source)];
        for (name, value) in ours {
            metadata.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        event["metadata"] = json!(metadata);
        let description = markup::markdown_body(message, MARKDOWN);
        if !description.is_empty() {
            event["description"] = description.into();
        }
        if let Some(page) = message.pages().first() {
            event["source_url"] = page.url.as_str().into();
        }
        event
    }

    fn draw_plain(&self, message: &Message) -> Value {
        event(message)
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        vec![Size::new("event", Unit::Bytes, body.to_string().len(), EVENT)]
    }

    fn preview(&self, body: &Value) -> String {
        let text = |name: &str| body[name].as_str().unwrap_or_default();
        let mut lines = vec![format!("{}: {}", text("status"), text("title"))];
        lines.extend(body["description"].as_str().map(markup::preview_markdown));
        let metadata = body["metadata"].as_object().into_iter().flatten();
        lines.extend(metadata.map(|(name, value)| format!("[{name}: {}]", value.as_str().unwrap_or_default())));
        lines.join("\n")
    }
}

impl Notifier for Incidentio {
    const STEPS_ONLY: bool = true;

    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        let mut request = post_json(self.api_url.join(&format!("/v2/alert_events/http/{}", self.source.0)), &body)?;
        request.bearer(secret_text(attempt.secrets, &self.token)?.as_bytes())?;
        Ok(request)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        match response.status {
            404 => held("404: incident.io has no such alert source, or it takes no HTTP events"),
            429 => chat::later(response, Some(MINUTE), now),
            _ => chat::classify(response, None, now),
        }
    }
}
