//! Grafana: annotations of an organisation, which any dashboard can show by their tags.
//!
//! `POST /api/annotations` of `{time, tags, text}` with a service account's token as `Authorization: Bearer …`; `time`
//! is in milliseconds. Dashboards show the text as HTML of a few tags; in texts of others `&`, `<`, `>` and `"` are
//! escaped. The tags are `sluice`, the source, the severity and the status, by which a dashboard's annotation query
//! chooses.
//!
//! Success is 200 `{"message": "Annotation added", "id"}`. 400 is a bad annotation, such as one whose tags take more
//! than 500 bytes in all; 401 a token that is none, 403 one without the permission annotations:create. How long a text
//! may be is not documented; MySQL's column, the smallest, takes 65,535 bytes. Grafana 13 keeps this API beside its
//! new ones. Sources: grafana.com/docs, "Annotations HTTP API" (12.4 and 13); grafana/grafana,
//! pkg/services/annotations/annotationsimpl/xorm_store.go (read 2026-11).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, secret_text};
use super::markup::{self, Dialect, escape_html};
use super::message::Message;
use super::poke::post_json;
use super::text::Unit;
use super::{Outbound, RenderError, Response};
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;
use crate::relay::format::BaseUrl;

crate::keys! {
    /// A `grafana` target.
    pub struct Grafana {
        /// Grafana's base URL.
        url: BaseUrl,
        /// A service account's token with the permission annotations:create.
        token: SecretRef,
    }
}

/// What a text takes everywhere.
const TEXT: usize = 65_535;

const HTML: Dialect = Dialect { escape: escape_html, line_break: "<br>" };

fn annotation(message: &Message, text: String) -> Value {
    let mut annotation = json!({
        "text": text,
        "tags": ["sluice", message.source, message.severity.word(), message.status.word()],
    });
    if let Some(time) = message.time {
        annotation["time"] = time.as_millisecond().into();
    }
    annotation
}

impl Draw for Grafana {
    fn draw(&self, message: &Message) -> Value {
        annotation(message, markup::html(message, None, HTML))
    }

    fn draw_plain(&self, message: &Message) -> Value {
        annotation(message, escape_html(&message.plain()).replace('\n', HTML.line_break))
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        vec![Size::new("text", Unit::Bytes, body["text"].as_str().unwrap_or_default().len(), TEXT)]
    }

    fn preview(&self, body: &Value) -> String {
        let tags: Vec<_> = body["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        format!("{}\n[{}]", markup::preview(body["text"].as_str().unwrap_or_default()), tags.join("] ["))
    }
}

impl Notifier for Grafana {
    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        let mut request = post_json(self.url.join("/api/annotations"), &body)?;
        request.bearer(secret_text(attempt.secrets, &self.token)?.as_bytes())?;
        Ok(request)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        match response.status {
            200 if !chat::json(response)["id"].is_number() => chat::foreign(response, "Grafana", "`url`"),
            _ => chat::classify(response, None, now),
        }
    }
}
