//! Splunk On-Call (VictorOps): incidents by the REST endpoint integration.
//!
//! A POST of `{message_type, entity_id, entity_display_name, state_message, …}` to the integration's URL, which ends
//! with its key and a routing key and is a secret as a whole. CRITICAL and WARNING open an incident or add to the open
//! one of the same `entity_id`, INFO stands in the timeline only, RECOVERY ends it. `vo_annotate.u.TITLE` is a link of
//! that title; titles that are the same are numbered. No text is parsed. A state_message takes 20,480 characters; other limits are not documented.
//!
//! The answer is 200 with `{"result": "success", "entity_id"}` or, as 200 as well, `{"result": "failure", "message"}`.
//! Which messages there are is not documented, nor how it says «later»; the URL may be repeated in them, so that none
//! is quoted. Sources: help.splunk.com, "REST Endpoint integration for Splunk On-Call"; prometheus/alertmanager
//! v0.34.0, notify/victorops, for the limit; Salt's module victorops for the answers (read 2026-11).

use std::iter;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::chat::{self, Attempt, Draw, Notifier, Size, doubts_url, secret_url};
use super::message::{Message, Step};
use super::pause::MINUTE;
use super::poke::{held, post_json};
use super::text::Unit;
use super::{Outbound, RenderError, Response};
use crate::domain::alert::Severity;
use crate::domain::outcome::Outcome;
use crate::domain::secret::SecretRef;

crate::keys! {
    /// A `splunk-oncall` target.
    pub struct SplunkOncall {
        /// The URL of the REST endpoint integration with the routing key at its end, as a secret.
        webhook: SecretRef,
    }
}

/// What a state message takes.
const MESSAGE: usize = 20_480;
/// The most links: more would be a list that nobody reads.
const LINKS: usize = 10;

/// What stands before a link's title in its name.
const LINK: &str = "vo_annotate.u.";

fn message_type(message: &Message) -> &'static str {
    match (message.step(), message.severity) {
        (Ok(Step::Resolve), _) => "RECOVERY",
        (_, Severity::Critical | Severity::Error) => "CRITICAL",
        (_, Severity::Warning) => "WARNING",
        (_, Severity::Info) => "INFO",
    }
}

fn incident(message: &Message) -> Value {
    let mut incident = json!({
        "message_type": message_type(message),
        "entity_id": message.key,
        "entity_display_name": message.subject(),
        "monitoring_tool": "Sluice",
    });
    if let Some(time) = message.time {
        incident["state_start_time"] = time.as_second().into();
    }
    incident
}

impl Draw for SplunkOncall {
    fn draw(&self, message: &Message) -> Value {
        let mut incident = incident(message);
        incident["state_message"] = message.plain_text().into();
        for page in message.pages().into_iter().take(LINKS) {
            let name = format!("{LINK}{}", page.title);
            let mut names = iter::once(name.clone()).chain((2..).map(|number| format!("{name} {number}")));
            if let Some(free) = names.find(|name| incident.get(name).is_none()) {
                incident[free] = page.url.into();
            }
        }
        incident
    }

    fn draw_plain(&self, message: &Message) -> Value {
        incident(message)
    }

    fn sizes(&self, body: &Value) -> Vec<Size> {
        let message = Unit::Characters.of(body["state_message"].as_str().unwrap_or_default());
        vec![Size::new("state_message", Unit::Characters, message, MESSAGE)]
    }

    fn preview(&self, body: &Value) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut lines = vec![format!("{}: {}", text(&body["message_type"]), text(&body["entity_display_name"]))];
        lines.extend(body["state_message"].as_str().map(str::to_owned));
        let fields = body.as_object().into_iter().flatten();
        let links = fields.filter_map(|(name, url)| Some((name.strip_prefix(LINK)?, text(url))));
        lines.extend(links.map(|(title, url)| format!("[{title}] <{url}>")));
        lines.join("\n")
    }
}

impl Notifier for SplunkOncall {
    const STEPS_ONLY: bool = true;

    fn request(&self, body: Value, attempt: &Attempt<'_>) -> Result<Outbound, RenderError> {
        post_json(secret_url(attempt.secrets, &self.webhook)?, &body)
    }

    fn classify(&self, response: &Response, now: Timestamp) -> Outcome {
        let body = chat::json(response);
        match (response.status, body["result"].as_str()) {
            (200, Some("success")) => Outcome::Delivered,
            (200, Some("failure")) if blames_key(&body) => {
                held("200: Splunk On-Call does not know the integration's key, or the routing key")
            }
            (200, Some("failure")) => Outcome::Rejected { reason: "200: Splunk On-Call refuses this alert".into() },
            (200, _) => chat::foreign(response, "Splunk On-Call", "`webhook`"),
            (429, _) => chat::later(response, Some(MINUTE), now),
            _ => chat::classify(&chat::saying(response, ""), None, now),
        }
    }

    fn doubts_secret(&self, response: &Response) -> bool {
        doubts_url(response) || blames_key(&chat::json(response))
    }
}

/// Whether a failure is about one of the keys in the URL.
fn blames_key(body: &Value) -> bool {
    let said = body["message"].as_str().unwrap_or_default().to_ascii_lowercase();
    body["result"] == "failure" && said.contains("key")
}
